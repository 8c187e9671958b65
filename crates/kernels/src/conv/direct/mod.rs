//! Convolution without unfolding: windows of channels-last images, read where they lie.
//!
//! With channels last, the taps of one kernel row see values that lie side by side. So an image needs to be
//! turned and padded once, and the product reads each window as a few runs, where unfolding would
//! copy every value once for each tap: the most of the time where maps are small or strides leave
//! runs of a few pixels. A tile of pixels times a block of 64 output channels stays in registers over the whole
//! window.
//!
//! The input gradient is the same, one phase of the stride at a time ([`window`]): nothing is added
//! back onto planes, every pixel is written once. The weight gradient sums products of window values and
//! gradients over pixels.
//!
//! f32, no groups. Sums run over the window (over pixels, for weights, in eight fixed parts at most) in an
//! order that no number of threads changes.

pub(crate) mod kernel;
mod weights;
mod window;

use super::geometry::Geometry;
use super::turn::{LANES, interleave, separate};
use crate::cpu::part;
use crate::gemm::Shared;
use crate::scratch;
use crate::simd::WithSimd;
use kernel::{Finish, Place, Segment, Windows};
use pulp::Simd;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::OnceLock;
pub(crate) use weights::weight_gradient;
use window::{Correlation, Units};

/// Columns of a block at most.
const BLOCK: usize = 64;
/// Pixels worked on at a time, about.
const PIXELS: usize = 192;
/// Longest frame of several images: with the weights of a block it stays in the second-level cache.
const FRAME: usize = 128 << 10;

/// Fewest output pixels of a batch that are worth packing the weights for.
const LEAST: usize = 256;
/// Fewest input channels for the forward pass: below, turning and writing costs more than unfolding.
const LEAST_CHANNELS: usize = 8;

/// Fewest output channels for the forward pass: with fewer, too many lanes of its one vector are empty.
const LEAST_COLUMNS: usize = 12;

/// Whether this is faster than unfolding, for any of the passes.
fn may(g: &Geometry) -> bool {
    g.groups == 1 && g.kernel != (1, 1) && g.batch * g.out_pixels() >= LEAST
}

/// Whether the forward pass goes this way.
pub(crate) fn fits_forward(g: &Geometry) -> bool {
    // One vector of outputs is not worth turning the input for, unless that is turned by whole vectors.
    let thin = g.in_channels < LANES && g.out_channels <= LANES;
    may(g) && g.out_channels >= LEAST_COLUMNS && g.in_channels >= LEAST_CHANNELS && !thin
}

/// Whether the input gradient does.
pub(crate) fn fits_input(g: &Geometry) -> bool {
    may(g) && g.in_channels >= LANES
}

/// Whether the weight gradient does.
pub(crate) fn fits_weight(g: &Geometry) -> bool {
    may(g) && g.out_channels >= LANES
}

/// How many columns a block has.
fn block_width(columns: usize) -> usize {
    let vectors = columns.div_ceil(LANES);
    vectors.div_ceil(vectors.div_ceil(BLOCK / LANES)) * LANES
}

/// The columns of block `index`, and their number in whole lanes.
fn columns_of(columns: usize, width: usize, index: usize) -> (Range<usize>, usize) {
    let range = index * width..((index + 1) * width).min(columns);
    let lanes = range.len().next_multiple_of(LANES);
    (range, lanes)
}

/// Writes the weights as (blocks, windows of all phases, columns of a block).
struct Pack<'a> {
    work: &'a Correlation,
    weight: &'a [f32],
    order: &'a [usize],
    columns: Range<usize>,
    lanes: usize,
    out: &'a mut [f32],
}

impl WithSimd for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (taps, channels) = (self.work.taps, self.work.source.channels);
        let (column, channel) = self.work.strides;
        scratch::with(taps * LANES, |turned: &mut [f32]| {
            for k in (0..self.lanes).step_by(LANES) {
                let first = self.columns.start + k;
                let count = LANES.min(self.columns.end - first);
                for c in 0..channels {
                    let kernels = &self.weight[first * column + c * channel..];
                    interleave(simd, kernels, column, count, taps, (turned, LANES));
                    for (values, place) in turned.as_chunks::<LANES>().0.iter().zip(self.order) {
                        let to = (place * channels + c) * self.lanes + k;
                        self.out[to..to + LANES].copy_from_slice(values);
                    }
                }
            }
        });
    }
}

/// Length of the packed weights.
fn packed_len(work: &Correlation) -> usize {
    work.target.channels.next_multiple_of(LANES) * work.depth()
}

fn pack(work: &Correlation, weight: &[f32], out: &mut [f32]) {
    let width = block_width(work.target.channels);
    let order = work.order();
    out.par_chunks_mut(width * work.depth())
        .enumerate()
        .for_each(|(index, out)| {
            let (columns, lanes) = columns_of(work.target.channels, width, index);
            crate::simd::with(Pack {
                work,
                weight,
                order: &order,
                columns,
                lanes,
                out,
            });
        });
}

/// A unit: some images, or a band of one.
#[derive(Debug, Clone)]
struct Unit {
    images: Range<usize>,
    rows: (usize, usize),
    /// Source rows that it sees.
    seen: (isize, isize),
}

impl Unit {
    fn new(work: &Correlation, units: &Units, index: usize) -> Self {
        let (group, band) = (index / units.bands, index % units.bands);
        let images = group * units.images..((group + 1) * units.images).min(work.batch);
        let from = band * units.rows;
        let rows = (from, (from + units.rows).min(work.target.height));
        Self {
            images,
            rows,
            seen: work.rows_of(rows.0, rows.1),
        }
    }

    /// Target pixels in one image.
    fn pixels(&self, work: &Correlation) -> usize {
        (self.rows.1 - self.rows.0) * work.target.width
    }

    /// Length of the frame of one image.
    fn frame(&self, work: &Correlation) -> usize {
        (self.seen.1 - self.seen.0) as usize * work.pitch()
    }

    /// Turns what the unit sees of the source to channels last, with zeros outside of it.
    #[inline(always)]
    fn fill<S: Simd>(&self, simd: S, work: &Correlation, source: &[f32], frame: &mut [f32]) {
        let (side, pitch) = (work.source, work.pitch());
        let channels = side.channels;
        let (left, right) = work.columns;
        let (from, to) = (left.max(0), right.min(side.width as isize));
        let (lo, hi) = ((from - left) as usize, (to.max(from) - left) as usize);
        let rows = (self.seen.1 - self.seen.0) as usize;
        for (image, frame) in self
            .images
            .clone()
            .zip(frame.chunks_exact_mut(self.frame(work)))
        {
            let image = &source[image * channels * side.pixels()..];
            for (y, line) in (self.seen.0..).zip(frame[..rows * pitch].chunks_exact_mut(pitch)) {
                if y < 0 || y >= side.height as isize {
                    line.fill(0.0);
                    continue;
                }
                line[..lo * channels].fill(0.0);
                line[hi * channels..].fill(0.0);
                let start = y as usize * side.width + from as usize;
                for c in (0..channels).step_by(LANES) {
                    let planes = &image[c * side.pixels() + start..];
                    let count = LANES.min(channels - c);
                    let out = (&mut line[lo * channels + c..], channels);
                    interleave(simd, planes, side.pixels(), count, hi - lo, out);
                }
            }
        }
    }
}

/// Some blocks of one unit.
struct Correlate<'a> {
    work: &'a Correlation,
    segments: &'a [Vec<Segment>],
    source: &'a [f32],
    packed: &'a [f32],
    bias: Option<&'a [f32]>,
    unit: Unit,
    blocks: Range<usize>,
    frame: &'a mut [f32],
    sums: &'a mut [f32],
    places: &'a mut [Place],
    out: &'a Shared<'a, f32>,
}

impl WithSimd for Correlate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (work, unit) = (self.work, &self.unit);
        unit.fill(simd, work, self.source, self.frame);
        let (pixels, frame) = (unit.pixels(work), unit.frame(work));
        // Pixels by phase; for every image of the unit in turn.
        let mut ends = vec![0; self.segments.len()];
        let mut count = 0;
        work.visit(unit.rows, |phase, source, target| {
            self.places[count] = Place { source, target };
            count += 1;
            ends[phase] = count;
        });
        let width = block_width(work.target.channels);
        for block in self.blocks.clone() {
            let (columns, lanes) = columns_of(work.target.channels, width, block);
            let mut weights = &self.packed[columns.start * work.depth()..];
            let mut first = 0;
            for (segments, end) in self.segments.iter().zip(&ends) {
                let depth: usize = segments.iter().map(|s| s.len).sum();
                let places = first..(*end).max(first);
                first = places.end;
                for index in 0..unit.images.len() {
                    // Targets are counted in pixels so far.
                    let moved = &mut self.places[places.clone()];
                    for place in moved.iter_mut() {
                        place.source += index * frame;
                        place.target = (place.target + index * pixels) * lanes;
                    }
                    let mut most = Place::default();
                    for place in moved.iter() {
                        most.source = most.source.max(place.source);
                        most.target = most.target.max(place.target);
                    }
                    let windows = Windows {
                        segments,
                        source: self.frame,
                        places: moved,
                        most,
                        weights,
                        lanes,
                        columns: lanes,
                        finish: Finish::None,
                        out: self.sums.as_mut_ptr(),
                        len: self.sums.len(),
                    };
                    // SAFETY: `most` is the most of these places, and the sums belong to this task.
                    unsafe { windows.run(simd) };
                    for place in moved.iter_mut() {
                        place.source -= index * frame;
                        place.target = place.target / lanes - index * pixels;
                    }
                }
                weights = &weights[depth * lanes..];
            }
            self.write(simd, columns, lanes);
        }
    }
}

impl Correlate<'_> {
    /// Turns the sums of some channels to planes.
    #[inline(always)]
    fn write<S: Simd>(&self, simd: S, columns: Range<usize>, lanes: usize) {
        let (work, unit) = (self.work, &self.unit);
        let pixels = unit.pixels(work);
        for (index, image) in unit.images.clone().enumerate() {
            for first in columns.clone().step_by(LANES) {
                let channels = LANES.min(columns.end - first);
                let mut start = [0.0; LANES];
                if let Some(bias) = self.bias {
                    start[..channels].copy_from_slice(&bias[first..first + channels]);
                }
                let mut lines: [&mut [f32]; LANES] = std::array::from_fn(|lane| {
                    if lane >= channels {
                        return &mut [][..];
                    }
                    let plane = image * work.target.channels + first + lane;
                    let at = plane * work.target.pixels() + unit.rows.0 * work.target.width;
                    // SAFETY: tasks differ in units or channels, so no two write the same rows, and
                    // within a task the rows are written one after another.
                    unsafe { self.out.part(at, pixels) }
                });
                let sums = &self.sums[index * pixels * lanes + first - columns.start..];
                separate(simd, (sums, lanes), &start, &mut lines);
            }
        }
    }
}

/// Weights of the forward pass in the order that products read them in, kept from call to call: packing
/// takes as long as the products of a single image of few pixels. It depends on nothing but the weights.
#[derive(Debug, Default)]
pub(crate) struct Prepared(OnceLock<Vec<f32>>);

fn correlate(
    work: &Correlation,
    source: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
    prepared: Option<&Prepared>,
) {
    let Some(prepared) = prepared else {
        scratch::with(packed_len(work), |packed: &mut [f32]| {
            pack(work, weight, packed);
            multiply(work, source, packed, bias, out);
        });
        return;
    };
    // Packed before it is handed over: packing shares its work with other threads, and whoever waits for that may be given
    // another image of this very layer. Two who pack at once pack the same.
    let packed = match prepared.0.get() {
        Some(packed) => packed,
        None => {
            let mut fresh = vec![0.0; packed_len(work)];
            pack(work, weight, &mut fresh);
            prepared.0.get_or_init(|| fresh)
        }
    };
    multiply(work, source, packed, bias, out);
}

/// The products, with packed weights.
fn multiply(
    work: &Correlation,
    source: &[f32],
    packed: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    assert_eq!(packed.len(), packed_len(work), "weights of another size");
    let units = work.units(PIXELS, FRAME);
    let segments = work.segments();
    let width = block_width(work.target.channels);
    let blocks = work.target.channels.div_ceil(width);
    let count = units.count(work.batch);
    // Few units leave threads idle: then their blocks are shared out too.
    let tasks = 2 * rayon::current_num_threads();
    let splits = tasks.div_ceil(count).min(blocks);
    let pixels = units.images * units.rows * work.target.width;
    let shared = Shared::new(out);
    (0..count * splits).into_par_iter().for_each(|task| {
        let sums = pixels * width;
        scratch::with(units.frame + sums, |buffer: &mut [f32]| {
            scratch::with(pixels, |places: &mut [Place]| {
                let (frame, sums) = buffer.split_at_mut(units.frame);
                crate::simd::with(Correlate {
                    work,
                    segments: &segments,
                    source,
                    packed,
                    bias,
                    unit: Unit::new(work, &units, task / splits),
                    blocks: part(blocks, splits, task % splits),
                    frame,
                    sums,
                    places,
                    out: &shared,
                });
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
    prepared: Option<&Prepared>,
) {
    correlate(&Correlation::forward(g), x, weight, bias, out, prepared);
}

/// Gradient of the input from the gradient of the output.
pub(crate) fn input_gradient(g: &Geometry, weight: &[f32], grad: &[f32], out: &mut [f32]) {
    correlate(&Correlation::adjoint(g), grad, weight, None, out, None);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Conv2dConfig, ConvTranspose2dConfig, conv_transpose2d, conv2d};
    use candle::{DType, Device, Result, Tensor, Var};

    fn agree(ours: &[Tensor], exact: &[Tensor], what: &str) -> Result<()> {
        assert_eq!(ours.len(), exact.len());
        for (ours, exact) in ours.iter().zip(exact) {
            let size = exact.sqr()?.mean_all()?.to_scalar::<f64>()?.sqrt();
            let off = (ours.to_dtype(DType::F64)? - exact)?.abs()?.max_all()?;
            let off = off.to_scalar::<f64>()? / size;
            assert!(off < 2e-5, "{what}: {off}");
        }
        Ok(())
    }

    /// Values and gradients in both types, of f(x, w, b).
    fn compare(
        [x, w, b]: [&Tensor; 3],
        f: impl Fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>,
        what: &str,
    ) -> Result<()> {
        let run = |dtype: DType| -> Result<Vec<Tensor>> {
            let var = |t: &Tensor| Var::from_tensor(&t.to_dtype(dtype)?);
            let (x, w, b) = (var(x)?, var(w)?, var(b)?);
            let y = f(&x, &w, &b)?;
            let weights = (0..y.elem_count()).map(|i| (i * 7919 % 1009) as f64 / 504.0 - 1.0);
            let weights = Tensor::from_iter(weights, &Device::Cpu)?.reshape(y.shape())?;
            let grads = y.mul(&weights.to_dtype(dtype)?)?.sum_all()?.backward()?;
            let mut out = vec![y];
            for v in [&x, &w, &b] {
                out.extend(grads.get(v).cloned());
            }
            assert_eq!(out.len(), 4, "{what}");
            Ok(out)
        };
        agree(&run(DType::F32)?, &run(DType::F64)?, what)
    }

    /// f32, read where windows lie, against f64, unfolded: bands of large images, several small ones
    /// together, odd channels, strides above the kernel, dilation, padding that sees nothing.
    #[test]
    fn windows_agree_with_columns() -> Result<()> {
        // Batch, channels in and out, height, width, kernel, padding, stride, dilation.
        let cases = [
            ([6, 16, 16], (14, 14), (5, 5), 2, 2, 1),
            ([3, 24, 70], (31, 40), (3, 3), 1, 2, 1),
            ([40, 17, 33], (5, 6), (3, 3), 1, 2, 1),
            ([9, 20, 130], (12, 9), (2, 3), 0, 1, 2),
            ([3, 33, 20], (30, 29), (2, 2), 1, 3, 1),
            ([2, 16, 48], (40, 23), (3, 5), 4, 2, 3),
            ([2, 18, 16], (25, 26), (7, 1), 5, 1, 1),
            ([4, 1, 64], (28, 28), (5, 5), 2, 2, 1),
            ([2, 40, 19], (33, 16), (4, 4), 1, 2, 1),
        ];
        for ([batch, from, to], (height, width), (kh, kw), padding, stride, dilation) in cases {
            let cfg = Conv2dConfig {
                padding,
                stride,
                dilation,
                groups: 1,
            };
            let rand = |shape: &[usize]| Tensor::randn(0f64, 1.0, shape, &Device::Cpu);
            let x = rand(&[batch, from, height, width])?;
            let w = rand(&[to, from, kh, kw])?;
            let g = Geometry::new(x.dims(), w.dims(), &cfg)?;
            assert!(fits_weight(&g), "{g:?}");
            let what = format!("{g:?}");
            compare(
                [&x, &w, &rand(&[to])?],
                |x, w, b| conv2d(x, w, Some(b), cfg),
                &what,
            )?;
        }
        Ok(())
    }

    #[test]
    fn transposed_windows_agree_with_columns() -> Result<()> {
        for (side, kernel, padding, stride, output_padding) in
            [(7, 4, 1, 2, 0), (9, 3, 1, 2, 1), (8, 2, 0, 3, 2)]
        {
            let cfg = ConvTranspose2dConfig {
                padding,
                output_padding,
                stride,
                ..Default::default()
            };
            let rand = |shape: &[usize]| Tensor::randn(0f64, 1.0, shape, &Device::Cpu);
            let (x, w) = (
                rand(&[8, 20, side, side])?,
                rand(&[20, 32, kernel, kernel])?,
            );
            compare(
                [&x, &w, &rand(&[32])?],
                |x, w, b| conv_transpose2d(x, w, Some(b), cfg),
                &format!("{cfg:?}"),
            )?;
        }
        Ok(())
    }

    /// Not even the last bit depends on how many threads share the work.
    #[test]
    fn threads_do_not_change_results() -> Result<()> {
        let cfg = Conv2dConfig {
            padding: 1,
            stride: 2,
            ..Default::default()
        };
        let x = Tensor::randn(0f32, 1.0, (3, 20, 30, 30), &Device::Cpu)?;
        let w = Tensor::randn(0f32, 1.0, (130, 20, 3, 3), &Device::Cpu)?;
        let run = |threads: usize| -> Result<Vec<Vec<f32>>> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.map_err(candle::Error::wrap)?.install(|| {
                let (x, w) = (Var::from_tensor(&x)?, Var::from_tensor(&w)?);
                let y = conv2d(&x, &w, None, cfg)?;
                let grads = y.sqr()?.sum_all()?.backward()?;
                let mut out = vec![y.flatten_all()?.to_vec1()?];
                for v in [&x, &w] {
                    let grad = grads.get(v).cloned();
                    out.extend(grad.map(|g| g.flatten_all()?.to_vec1()).transpose()?);
                }
                Ok(out)
            })
        };
        let one = run(1)?;
        assert!(one.len() == 3 && one == run(2)? && one == run(5)?);
        Ok(())
    }
}
