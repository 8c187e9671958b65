//! Convolution with full or grouped kernels as matrix products over tiles of unfolded columns.
//!
//! All three passes split their work into tasks that do not depend on the number of threads
//! (except for the width of the tiles of very small problems) and add partial sums in a fixed order.

use super::direct::Prepared;
use super::geometry::Geometry;
use super::im2col::{fold, with_columns};
use super::{direct, dots, winograd};
use crate::cpu::{Real, part};
use crate::gemm::{Mat, MatMut, Shared, Threads, product, product_of, transpose};
use crate::scratch;
use rayon::prelude::*;

/// Columns of a tile: a multiple of the 48 rows of the widest product kernel.
const TILE: usize = 480;
/// Fewest pixels of an image that are a tile of their own, where weights are not more than `SMALL`.
const LEAST: usize = 48;
const SMALL: usize = 1 << 14;
/// Rows of unfolded columns handled at a time; with `TILE` they stay within a megabyte of f32.
const DEPTH: usize = 576;

/// How the forward pass splits columns, output channels and depth.
struct Plan {
    tiles: usize,
    /// Tiles of each image, or 0 where tiles go across images.
    per_image: usize,
    blocks: usize,
    block: usize,
    chunk: usize,
}

impl Plan {
    fn new(g: &Geometry) -> Self {
        let columns = g.batch * g.out_pixels();
        let threads = rayon::current_num_threads();
        // Whole images where they are small, equal shares of one image where they are large, so
        // that a large image's tile lies within one plane.
        let per_image = if g.out_pixels() >= TILE {
            g.out_pixels().div_ceil(TILE)
        } else {
            // Small weights stay in the second-level cache from one image to the next.
            usize::from(g.out_pixels() >= LEAST && g.out_per_group() * g.depth() <= SMALL)
        };
        let tiles = if per_image > 0 {
            g.batch * per_image
        } else {
            columns
                .div_ceil(TILE)
                .max(threads.min(columns.div_ceil(96)))
        };
        let tasks = tiles * g.groups;
        let wanted = if tasks >= threads {
            1
        } else {
            threads.div_ceil(tasks)
        };
        let block = g
            .out_per_group()
            .div_ceil(wanted)
            .next_multiple_of(8)
            .min(g.out_per_group());
        Self {
            tiles,
            per_image,
            blocks: g.out_per_group().div_ceil(block),
            block,
            chunk: (DEPTH / g.taps()).clamp(1, g.in_per_group()),
        }
    }

    /// The columns of tile `index`.
    fn tile(&self, g: &Geometry, index: usize) -> std::ops::Range<usize> {
        let pixels = g.out_pixels();
        if self.per_image > 0 {
            let per_image = self.per_image;
            let r = part(pixels, per_image, index % per_image);
            let base = index / per_image * pixels;
            base + r.start..base + r.end
        } else {
            part(g.batch * pixels, self.tiles, index)
        }
    }
}

/// `out = conv(x, weight) + bias`.
pub(crate) fn forward<T: Real>(
    g: &Geometry,
    x: &[T],
    weight: &[T],
    bias: Option<&[T]>,
    out: &mut [T],
    prepared: Option<&Prepared>,
) {
    if winograd::fits(g)
        && let (Some(x), Some(weight)) = (T::f32s(x), T::f32s(weight))
        && let Some(out) = T::f32s_mut(out)
    {
        winograd::forward(g, x, (weight, false), bias.and_then(T::f32s), out);
        return;
    }
    if direct::fits_forward(g)
        && let (Some(x), Some(weight)) = (T::f32s(x), T::f32s(weight))
        && let Some(out) = T::f32s_mut(out)
    {
        direct::forward(g, x, weight, bias.and_then(T::f32s), out, prepared);
        return;
    }
    let plan = Plan::new(g);
    let pixels = g.out_pixels();
    let shared = Shared::new(out);
    let tasks = plan.tiles * g.groups * plan.blocks;
    (0..tasks).into_par_iter().for_each(|task| {
        let (rest, block) = (task / plan.blocks, task % plan.blocks);
        let (tile, group) = (rest / g.groups, rest % g.groups);
        let columns = plan.tile(g, tile);
        let width = columns.len();
        let first = group * g.out_per_group() + block * plan.block;
        let rows = plan.block.min(g.out_per_group() - block * plan.block);
        let weight = &weight[first * g.depth()..(first + rows) * g.depth()];
        let inside = columns.start / pixels == (columns.end - 1) / pixels;
        if inside {
            let (image, p) = (columns.start / pixels, columns.start % pixels);
            let start = (image * g.out_channels + first) * pixels + p;
            let target = |_: usize| {
                // SAFETY: tasks differ in columns, group or block, so no two write the same element,
                // and within a task the matrices are used one after another.
                unsafe { shared.matrix(start, rows, width, pixels) }
            };
            multiply(g, &plan, x, weight, group, &columns, rows, target);
            if let Some(bias) = bias {
                for (r, b) in bias[first..first + rows].iter().enumerate() {
                    // SAFETY: as above.
                    let line = unsafe { shared.part(start + r * pixels, width) };
                    line.iter_mut().for_each(|v| *v += *b);
                }
            }
        } else {
            scratch::with(rows * width, |buffer: &mut [T]| {
                let view = Shared::new(buffer);
                // SAFETY: the buffer belongs to this task; one matrix is alive at a time.
                let target = |_: usize| unsafe { view.matrix(0, rows, width, width) };
                multiply(g, &plan, x, weight, group, &columns, rows, target);
                for (r, line) in buffer.chunks_exact(width).enumerate() {
                    let b = bias.map_or(T::ZERO, |bias| bias[first + r]);
                    let mut q = columns.start;
                    while q < columns.end {
                        let (image, p) = (q / pixels, q % pixels);
                        let len = (pixels - p).min(columns.end - q);
                        let at = (image * g.out_channels + first + r) * pixels + p;
                        // SAFETY: as above, these columns of these channels belong to this task.
                        let dst = unsafe { shared.part(at, len) };
                        for (d, s) in dst.iter_mut().zip(&line[q - columns.start..]) {
                            *d = *s + b;
                        }
                        q += len;
                    }
                }
            });
        }
    });
}

/// The product of one task of the forward pass, chunk by chunk of the depth.
#[allow(clippy::too_many_arguments)]
fn multiply<'o, T: Real>(
    g: &Geometry,
    plan: &Plan,
    x: &[T],
    weight: &[T],
    group: usize,
    columns: &std::ops::Range<usize>,
    rows: usize,
    target: impl Fn(usize) -> MatMut<'o, T>,
) {
    let (width, pixels, taps) = (columns.len(), g.out_pixels(), g.taps());
    let channel0 = group * g.in_per_group();
    let inside = columns.start / pixels == (columns.end - 1) / pixels;
    if g.is_pointwise() && inside {
        let (image, p) = (columns.start / pixels, columns.start % pixels);
        let data = &x[(image * g.in_channels + channel0) * pixels + p..];
        let cols = Mat::rows(data, g.in_per_group(), width, pixels);
        let w = Mat::rows(weight, rows, g.depth(), g.depth());
        product_of(g.out_per_group(), target(0), w, cols, false, Threads::One);
        return;
    }
    for c0 in (0..g.in_per_group()).step_by(plan.chunk) {
        let c1 = (c0 + plan.chunk).min(g.in_per_group());
        let w = Mat::new(&weight[c0 * taps..], rows, (c1 - c0) * taps, g.depth(), 1);
        let channels = channel0 + c0..channel0 + c1;
        with_columns(g, x, channels, columns.clone(), |cols, stride| {
            let cols = Mat::rows(cols, (c1 - c0) * taps, width, stride);
            let out = target(c0);
            product_of(g.out_per_group(), out, w, cols, c0 > 0, Threads::One);
        });
    }
}

/// Writes the weights of the adjoint convolution: (C, O / groups, kh, kw), kernels flipped.
fn flip<T: Real>(g: &Geometry, weight: &[T], out: &mut [T]) {
    let (cin, cout, taps) = (g.in_per_group(), g.out_per_group(), g.taps());
    out.par_chunks_mut(cout * taps)
        .enumerate()
        .for_each(|(channel, rows)| {
            let (group, c) = (channel / cin, channel % cin);
            for (o, kernel) in rows.chunks_exact_mut(taps).enumerate() {
                let at = ((group * cout + o) * cin + c) * taps;
                for (d, s) in kernel.iter_mut().zip(weight[at..at + taps].iter().rev()) {
                    *d = *s;
                }
            }
        });
}

/// Gradient of the input from the gradient of the output.
pub(crate) fn input_gradient<T: Real>(g: &Geometry, weight: &[T], grad: &[T], out: &mut [T]) {
    if let Some(adjoint) = g.adjoint() {
        if winograd::fits(&adjoint)
            && let (Some(weight), Some(grad)) = (T::f32s(weight), T::f32s(grad))
            && let Some(out) = T::f32s_mut(out)
        {
            winograd::forward(&adjoint, grad, (weight, true), None, out);
            return;
        }
        scratch::with(weight.len(), |flipped: &mut [T]| {
            flip(g, weight, flipped);
            forward(&adjoint, grad, flipped, None, out, None);
        });
        return;
    }
    if direct::fits_input(g)
        && let (Some(weight), Some(grad)) = (T::f32s(weight), T::f32s(grad))
        && let Some(out) = T::f32s_mut(out)
    {
        direct::input_gradient(g, weight, grad, out);
        return;
    }
    scratch::with(weight.len(), |turned: &mut [T]| {
        // (depth, O) per group: products then read the weights without packing.
        let (cout, per_group) = (g.out_per_group(), g.out_per_group() * g.depth());
        for (src, dst) in weight
            .chunks_exact(per_group)
            .zip(turned.chunks_exact_mut(per_group))
        {
            transpose(src, cout, g.depth(), g.depth(), dst, cout);
        }
        scatter(g, turned, grad, out);
    });
}

/// The input gradient of any stride and padding: columns by products, folded back onto the planes.
/// `turned` holds the weights as (groups, depth, O / groups).
fn scatter<T: Real>(g: &Geometry, turned: &[T], grad: &[T], out: &mut [T]) {
    let (cin, cout, taps, pixels) = (
        g.in_per_group(),
        g.out_per_group(),
        g.taps(),
        g.out_pixels(),
    );
    let per_group = cout * g.depth();
    let chunk = (256 / taps).clamp(1, cin);
    let chunks = cin.div_ceil(chunk);
    let tiles = pixels.div_ceil(TILE);
    let shared = Shared::new(out);
    (0..g.batch * g.groups * chunks)
        .into_par_iter()
        .for_each(|task| {
            let (rest, index) = (task / chunks, task % chunks);
            let (image, group) = (rest / g.groups, rest % g.groups);
            let (c0, c1) = (index * chunk, ((index + 1) * chunk).min(cin));
            let depth = (c1 - c0) * taps;
            let plane0 = image * g.in_channels + group * cin + c0;
            // SAFETY: these planes belong to this task alone.
            let planes = unsafe { shared.part(plane0 * g.in_pixels(), (c1 - c0) * g.in_pixels()) };
            planes.fill(T::ZERO);
            let w = &turned[group * per_group + c0 * taps * cout..][..depth * cout];
            let w = Mat::rows(w, depth, cout, cout);
            for tile in 0..tiles {
                let columns = part(pixels, tiles, tile);
                let width = columns.len();
                let stride = width.next_multiple_of(16) + 16;
                let at = (image * g.out_channels + group * cout) * pixels + columns.start;
                let grad = Mat::rows(&grad[at..], cout, width, pixels);
                scratch::with(depth * stride, |cols: &mut [T]| {
                    product(
                        MatMut::rows(cols, depth, width, stride),
                        w,
                        grad,
                        false,
                        Threads::One,
                    );
                    crate::simd::run(
                        #[inline(always)]
                        || fold(g, cols, stride, c1 - c0, columns.clone(), planes),
                    );
                });
            }
        });
}

/// Rows of the weight gradient, unfolded channels times taps, computed by one product.
const GRADIENT_ROWS: usize = 144;
/// Weights from which all columns are summed by one task for each chunk of rows.
const MANY: usize = 1 << 16;
/// Least number of tasks of the weight gradient where columns can be split; a constant, so that sums do not depend on threads.
/// Many weights give as few as four tasks (pointwise layers), which was chosen on two cores.
const TASKS: usize = 16;

/// Gradient of the weight: the sum over all columns of output gradient times unfolded input.
///
/// Deep kernels give enough tasks by their rows alone. Shallow ones also split the columns, into
/// partial sums that are added in order. Products are written transposed, (depth, O), and read the
/// output gradient with channels last: the layout they need no packing for.
pub(crate) fn weight_gradient<T: Real>(g: &Geometry, x: &[T], grad: &[T], out: &mut [T]) {
    if winograd::fits(g)
        && let (Some(x), Some(grad)) = (T::f32s(x), T::f32s(grad))
        && let Some(out) = T::f32s_mut(out)
    {
        winograd::weight_gradient(g, x, grad, out);
        return;
    }
    if dots::fits(g)
        && let (Some(x), Some(grad)) = (T::f32s(x), T::f32s(grad))
        && let Some(out) = T::f32s_mut(out)
    {
        dots::weight_gradient(g, x, grad, out);
        return;
    }
    if direct::fits_weight(g)
        && let (Some(x), Some(grad)) = (T::f32s(x), T::f32s(grad))
        && let Some(out) = T::f32s_mut(out)
    {
        direct::weight_gradient(g, x, grad, out);
        return;
    }
    let (cin, cout, taps) = (g.in_per_group(), g.out_per_group(), g.taps());
    let columns = g.batch * g.out_pixels();
    let rows_len = g.depth() * cout;
    // Sums of many weights are too long to be read and written for every image, or kept several times.
    let many = rows_len >= MANY;
    let most = if many { cin.div_ceil(4) } else { cin };
    let chunk = (GRADIENT_ROWS / taps).clamp(1, most);
    let chunks = cin.div_ceil(chunk);
    let splits = if many || chunks * g.groups >= TASKS {
        1
    } else {
        TASKS.div_ceil(g.groups).min(columns.div_ceil(TILE)).max(1)
    };
    let total = g.groups * rows_len;
    scratch::with(splits * total, |partial: &mut [T]| {
        if splits == 1 {
            gradient_by_rows(g, x, grad, chunk, partial);
        } else {
            partial
                .par_chunks_mut(rows_len)
                .enumerate()
                .for_each(|(task, target)| {
                    let range = part(columns, splits, task / g.groups);
                    gradient_of_columns(g, x, grad, task % g.groups, range, chunk, target);
                });
        }
        let (first, others) = partial.split_at_mut(total);
        for other in others.chunks_exact(total) {
            first
                .par_iter_mut()
                .zip(other)
                .with_min_len(1 << 14)
                .for_each(|(a, b)| *a += *b);
        }
        out.par_chunks_mut(rows_len)
            .zip(first.par_chunks(rows_len))
            .for_each(|(dst, src)| transpose(src, g.depth(), cout, cout, dst, g.depth()));
    });
}

/// `target (+)= unfold(x) dy`: `channels` of the input, `columns` wide, into (depth, O).
fn add_product<T: Real>(
    g: &Geometry,
    x: &[T],
    channels: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
    dy: Mat<'_, T>,
    target: MatMut<'_, T>,
    accumulate: bool,
) {
    let (pixels, width, depth) = (g.out_pixels(), columns.len(), channels.len() * g.taps());
    let (image, p) = (columns.start / pixels, columns.start % pixels);
    if g.is_pointwise() && p + width <= pixels {
        let data = &x[(image * g.in_channels + channels.start) * pixels + p..];
        let cols = Mat::rows(data, depth, width, pixels);
        product(target, cols, dy, accumulate, Threads::One);
        return;
    }
    with_columns(g, x, channels, columns, |cols, stride| {
        let cols = Mat::rows(cols, depth, width, stride);
        product(target, cols, dy, accumulate, Threads::One);
    });
}

/// The part of one group and a range of columns, into `target` (depth, O).
fn gradient_of_columns<T: Real>(
    g: &Geometry,
    x: &[T],
    grad: &[T],
    group: usize,
    range: std::ops::Range<usize>,
    chunk: usize,
    target: &mut [T],
) {
    let (cin, cout, pixels) = (g.in_per_group(), g.out_per_group(), g.out_pixels());
    scratch::with(TILE * cout, |turned: &mut [T]| {
        let mut q = range.start;
        while q < range.end {
            // Tiles end with their image.
            let (image, p) = (q / pixels, q % pixels);
            let width = TILE.min(pixels - p).min(range.end - q);
            let at = (image * g.out_channels + group * cout) * pixels + p;
            transpose(&grad[at..], cout, width, pixels, turned, cout);
            let dy = Mat::rows(turned, width, cout, cout);
            for c0 in (0..cin).step_by(chunk) {
                let c1 = (c0 + chunk).min(cin);
                let rows = (c1 - c0) * g.taps();
                let part = &mut target[c0 * g.taps() * cout..][..rows * cout];
                let part = MatMut::rows(part, rows, cout, cout);
                let channels = group * cin + c0..group * cin + c1;
                add_product(g, x, channels, q..q + width, dy, part, q > range.start);
            }
            q += width;
        }
    });
}

/// All columns, one task for every group and chunk of channels, into `target` (groups, depth, O).
fn gradient_by_rows<T: Real>(g: &Geometry, x: &[T], grad: &[T], chunk: usize, target: &mut [T]) {
    let (cin, cout, taps, pixels) = (
        g.in_per_group(),
        g.out_per_group(),
        g.taps(),
        g.out_pixels(),
    );
    let (chunks, columns, per_image) = (
        cin.div_ceil(chunk),
        g.batch * pixels,
        g.out_channels * pixels,
    );
    // A row stride that is not a power of two keeps the rows in different cache sets.
    let pitch = g.out_channels.next_multiple_of(16) + 16;
    scratch::with(columns * pitch, |turned: &mut [T]| {
        turned
            .par_chunks_mut(pixels * pitch)
            .zip(grad.par_chunks(per_image))
            .for_each(|(dst, src)| {
                transpose(src, g.out_channels, pixels, pixels, dst, pitch);
            });
        let turned = &*turned;
        let shared = Shared::new(target);
        (0..g.groups * chunks).into_par_iter().for_each(|task| {
            let (group, index) = (task / chunks, task % chunks);
            let (c0, c1) = (index * chunk, ((index + 1) * chunk).min(cin));
            let start = (group * g.depth() + c0 * taps) * cout;
            let tiles = columns.div_ceil(TILE);
            for tile in 0..tiles {
                let range = part(columns, tiles, tile);
                let dy = &turned[range.start * pitch + group * cout..];
                let dy = Mat::rows(dy, range.len(), cout, pitch);
                // SAFETY: these rows of this group belong to this task alone.
                let target = unsafe { shared.matrix(start, (c1 - c0) * taps, cout, cout) };
                let channels = group * cin + c0..group * cin + c1;
                add_product(g, x, channels, range, dy, target, tile > 0);
            }
        });
    });
}
