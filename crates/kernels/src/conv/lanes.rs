//! Depthwise convolution of small maps, with channels as lanes.
//!
//! A row of seven pixels fills no vector, and a stride breaks what there is. Sixteen planes turned so that their
//! channels lie side by side fill every one, whatever width, stride and kernel are; and a weight's
//! gradient is then a sum over pixels, with no lanes to add up. f32, one output channel for each input.

use super::geometry::Geometry;
use super::turn::{LANES, interleave, separate};
use crate::gemm::Shared;
use crate::scratch;
use crate::simd::{WithSimd, load, store};
use pulp::Simd;
use rayon::prelude::*;

/// Widest map handled here; longer rows are vectors as they are.
const WIDEST: usize = 32;

/// Whether this is faster than loops over rows.
pub(crate) fn fits(g: &Geometry) -> bool {
    g.is_depthwise()
        && g.out_per_group() == 1
        && g.width <= WIDEST
        && g.in_channels >= LANES / 2
        // Frames are small for maps this narrow unless they are very tall, or mostly padding.
        && (g.height + 2 * g.padding.0) * (g.width + 2 * g.padding.1) <= 1 << 13
}

/// Sizes of the padded map of sixteen channels.
struct Frame {
    pitch: usize,
    len: usize,
    /// Where each tap stands from the start of its window.
    taps: Vec<usize>,
}

impl Frame {
    fn new(g: &Geometry) -> Self {
        let pitch = (g.width + 2 * g.padding.1) * LANES;
        let taps = (0..g.taps()).map(|t| {
            let (i, j) = (t / g.kernel.1, t % g.kernel.1);
            (i * pitch + j * LANES) * g.dilation
        });
        Self {
            pitch,
            len: (g.height + 2 * g.padding.0) * pitch,
            taps: taps.collect(),
        }
    }

    /// Start of the window of an output pixel.
    #[inline(always)]
    fn window(&self, g: &Geometry, y: usize, x: usize) -> usize {
        (y * self.pitch + x * LANES) * g.stride
    }

    /// Turns `lanes` planes into the frame.
    #[inline(always)]
    fn fill<S: Simd>(&self, simd: S, g: &Geometry, planes: &[f32], lanes: usize, to: &mut [f32]) {
        if g.padding != (0, 0) {
            to.fill(0.0);
        }
        for y in 0..g.height {
            let at = (y + g.padding.0) * self.pitch + g.padding.1 * LANES;
            let planes = &planes[y * g.width..];
            let out = (&mut to[at..], LANES);
            interleave(simd, planes, g.in_pixels(), lanes, g.width, out);
        }
    }
}

/// Writes the kernels of some channels as (taps, lanes).
fn turn_kernels(kernels: &[f32], taps: usize, flipped: bool, out: &mut [f32]) {
    for (t, line) in out.chunks_exact_mut(LANES).enumerate() {
        let tap = if flipped { taps - 1 - t } else { t };
        line.fill(0.0);
        for (value, kernel) in line.iter_mut().zip(kernels.chunks_exact(taps)) {
            *value = kernel[tap];
        }
    }
}

/// Lines of `pixels` elements, `lanes` of them, one after another.
fn planes_of(data: &mut [f32], pixels: usize, lanes: usize) -> [&mut [f32]; LANES] {
    let mut planes = data.chunks_exact_mut(pixels.max(1)).take(lanes);
    std::array::from_fn(|_| planes.next().unwrap_or_default())
}

/// How the pixels of one map become those of the other.
#[derive(Clone, Copy)]
enum Way {
    /// Windows of the source, summed.
    Gather,
    /// Every source pixel, weighted, added to the window of the target.
    Scatter,
}

/// Sixteen channels of one image.
struct Correlate<'a> {
    way: Way,
    /// From the frame's map to the pixels.
    g: &'a Geometry,
    frame: &'a Frame,
    source: &'a [f32],
    kernels: &'a [f32],
    flipped: bool,
    bias: Option<&'a [f32]>,
    lanes: usize,
    /// Of the lengths that [`lengths`] says.
    buffer: &'a mut [f32],
    out: &'a mut [f32],
}

/// Lengths of weights, frame and pixels of sixteen channels.
fn lengths(g: &Geometry, frame: &Frame) -> [usize; 3] {
    [g.taps() * LANES, frame.len, g.out_pixels() * LANES]
}

impl WithSimd for Correlate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (g, frame, taps) = (self.g, self.frame, self.g.taps());
        let [weights_len, map_len, _] = lengths(g, frame);
        let (weights, rest) = self.buffer.split_at_mut(weights_len);
        let (map, pixels) = rest.split_at_mut(map_len);
        turn_kernels(self.kernels, taps, self.flipped, weights);
        match self.way {
            Way::Gather => {
                frame.fill(simd, g, self.source, self.lanes, map);
                for y in 0..g.out_height {
                    let line = &mut pixels[y * g.out_width * LANES..][..g.out_width * LANES];
                    let mut x = 0;
                    while x + 4 <= g.out_width {
                        gather::<S, 4>(simd, g, frame, (map, weights), (y, x), line);
                        x += 4;
                    }
                    while x < g.out_width {
                        gather::<S, 1>(simd, g, frame, (map, weights), (y, x), line);
                        x += 1;
                    }
                }
                let mut start = [0.0; LANES];
                if let Some(bias) = self.bias {
                    start[..self.lanes].copy_from_slice(bias);
                }
                let mut lines = planes_of(self.out, g.out_pixels(), self.lanes);
                separate(simd, (pixels, LANES), &start, &mut lines);
            }
            Way::Scatter => {
                let plane = g.out_pixels();
                let out = (&mut *pixels, LANES);
                interleave(simd, self.source, plane, self.lanes, plane, out);
                map.fill(0.0);
                for y in 0..g.out_height {
                    for x in 0..g.out_width {
                        let at = frame.window(g, y, x);
                        for v in (0..LANES).step_by(S::F32_LANES) {
                            let value = load::<S>(pixels, (y * g.out_width + x) * LANES + v);
                            for (t, tap) in frame.taps.iter().enumerate() {
                                let weight = load::<S>(weights, t * LANES + v);
                                let old = load::<S>(map, at + tap + v);
                                let new = simd.mul_add_e_f32s(weight, value, old);
                                store::<S>(map, at + tap + v, new);
                            }
                        }
                    }
                }
                for y in 0..g.height {
                    let at = (y + g.padding.0) * frame.pitch + g.padding.1 * LANES;
                    let mut lines = planes_of(self.out, g.in_pixels(), self.lanes);
                    for line in &mut lines {
                        let plane = std::mem::take(line);
                        *line = plane.get_mut(y * g.width..).unwrap_or_default();
                        let rest = std::mem::take(line);
                        *line = rest.get_mut(..g.width).unwrap_or_default();
                    }
                    separate(simd, (&map[at..], LANES), &[0.0; LANES], &mut lines);
                }
            }
        }
    }
}

/// N neighbouring output pixels.
#[inline(always)]
fn gather<S: Simd, const N: usize>(
    simd: S,
    g: &Geometry,
    frame: &Frame,
    (map, weights): (&[f32], &[f32]),
    (y, x): (usize, usize),
    line: &mut [f32],
) {
    let at = frame.window(g, y, x);
    for v in (0..LANES).step_by(S::F32_LANES) {
        let mut acc = [simd.splat_f32s(0.0); N];
        for (t, tap) in frame.taps.iter().enumerate() {
            let weight = load::<S>(weights, t * LANES + v);
            for (n, value) in acc.iter_mut().enumerate() {
                let source = load::<S>(map, at + tap + n * g.stride * LANES + v);
                *value = simd.mul_add_e_f32s(weight, source, *value);
            }
        }
        for (n, value) in acc.iter().enumerate() {
            store::<S>(line, (x + n) * LANES + v, *value);
        }
    }
}

/// All channels of all images.
fn correlate(
    way: Way,
    g: &Geometry,
    (source, source_pixels): (&[f32], usize),
    kernels: (&[f32], bool),
    bias: Option<&[f32]>,
    (out, out_pixels): (&mut [f32], usize),
) {
    let (channels, taps) = (g.in_channels, g.taps());
    let groups = channels.div_ceil(LANES);
    let frame = Frame::new(g);
    let shared = Shared::new(out);
    (0..g.batch * groups).into_par_iter().for_each(|task| {
        let (image, first) = (task / groups, task % groups * LANES);
        let lanes = LANES.min(channels - first);
        let plane = image * channels + first;
        // SAFETY: tasks differ in image or channels, so no two write the same planes.
        let out = unsafe { shared.part(plane * out_pixels, lanes * out_pixels) };
        // The buffer is taken out here: a closure would be compiled for the baseline instructions.
        scratch::with(lengths(g, &frame).iter().sum(), |buffer: &mut [f32]| {
            crate::simd::with(Correlate {
                way,
                g,
                frame: &frame,
                source: &source[plane * source_pixels..][..lanes * source_pixels],
                kernels: &kernels.0[first * taps..(first + lanes) * taps],
                flipped: kernels.1,
                bias: bias.map(|bias| &bias[first..first + lanes]),
                lanes,
                buffer,
                out,
            });
        });
    });
}

/// `out = conv(x, weight) + bias`.
pub(crate) fn forward(
    g: &Geometry,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let (from, to) = (g.in_pixels(), g.out_pixels());
    correlate(Way::Gather, g, (x, from), (weight, false), bias, (out, to));
}

/// Gradient of the input from the gradient of the output.
pub(crate) fn input_gradient(g: &Geometry, weight: &[f32], grad: &[f32], out: &mut [f32]) {
    let (from, to) = (g.out_pixels(), g.in_pixels());
    match g.adjoint() {
        // Where few pixels give many, most of what windows see is padding.
        Some(adjoint) if fits(&adjoint) && 2 * from > to => {
            let kernels = (weight, true);
            correlate(
                Way::Gather,
                &adjoint,
                (grad, from),
                kernels,
                None,
                (out, to),
            );
        }
        _ => correlate(
            Way::Scatter,
            g,
            (grad, from),
            (weight, false),
            None,
            (out, to),
        ),
    }
}

/// The weight gradient of sixteen channels.
struct Gradient<'a> {
    g: &'a Geometry,
    frame: &'a Frame,
    x: &'a [f32],
    grad: &'a [f32],
    first: usize,
    lanes: usize,
    /// Of the lengths that [`lengths`] says.
    buffer: &'a mut [f32],
    out: &'a mut [f32],
}

impl WithSimd for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (g, frame, taps) = (self.g, self.frame, self.g.taps());
        let (inside, outside) = (g.in_pixels(), g.out_pixels());
        let [sums_len, map_len, _] = lengths(g, frame);
        let (sums, rest) = self.buffer.split_at_mut(sums_len);
        let (map, pixels) = rest.split_at_mut(map_len);
        sums.fill(0.0);
        for image in 0..g.batch {
            let plane = image * g.in_channels + self.first;
            let planes = &self.x[plane * inside..][..self.lanes * inside];
            frame.fill(simd, g, planes, self.lanes, map);
            let planes = &self.grad[plane * outside..][..self.lanes * outside];
            let out = (&mut *pixels, LANES);
            interleave(simd, planes, outside, self.lanes, outside, out);
            let mut t = 0;
            while t + 9 <= taps {
                sum::<S, 9>(simd, g, frame, (map, pixels), t, sums);
                t += 9;
            }
            while t + 4 <= taps {
                sum::<S, 4>(simd, g, frame, (map, pixels), t, sums);
                t += 4;
            }
            while t < taps {
                sum::<S, 1>(simd, g, frame, (map, pixels), t, sums);
                t += 1;
            }
        }
        for (lane, kernel) in self.out.chunks_exact_mut(taps).enumerate() {
            for (value, line) in kernel.iter_mut().zip(sums.chunks_exact(LANES)) {
                *value = line[lane];
            }
        }
    }
}

/// N taps from `t`, over the pixels of one image.
#[inline(always)]
fn sum<S: Simd, const N: usize>(
    simd: S,
    g: &Geometry,
    frame: &Frame,
    (map, pixels): (&[f32], &[f32]),
    t: usize,
    sums: &mut [f32],
) {
    let taps: [usize; N] = std::array::from_fn(|n| frame.taps[t + n]);
    for v in (0..LANES).step_by(S::F32_LANES) {
        // Each image for itself: one chain over the whole batch would lose digits.
        let mut acc = [simd.splat_f32s(0.0); N];
        for y in 0..g.out_height {
            for x in 0..g.out_width {
                let at = frame.window(g, y, x) + v;
                let value = load::<S>(pixels, (y * g.out_width + x) * LANES + v);
                for (sum, tap) in acc.iter_mut().zip(taps) {
                    *sum = simd.mul_add_e_f32s(load::<S>(map, at + tap), value, *sum);
                }
            }
        }
        for (n, sum) in acc.iter().enumerate() {
            let at = (t + n) * LANES + v;
            store::<S>(sums, at, simd.add_f32s(load::<S>(sums, at), *sum));
        }
    }
}

/// Gradient of the weight.
pub(crate) fn weight_gradient(g: &Geometry, x: &[f32], grad: &[f32], out: &mut [f32]) {
    let (frame, taps) = (Frame::new(g), g.taps());
    out.par_chunks_mut(LANES * taps)
        .enumerate()
        .for_each(|(index, out)| {
            scratch::with(lengths(g, &frame).iter().sum(), |buffer: &mut [f32]| {
                crate::simd::with(Gradient {
                    g,
                    frame: &frame,
                    x,
                    grad,
                    first: index * LANES,
                    lanes: out.len() / taps,
                    buffer,
                    out,
                });
            });
        });
}
