//! Weight gradients as products of rows of pixels: nothing is turned, and unfolded only where it must be.
//!
//! A weight's gradient is the sum over pixels of an output gradient times what the weight saw. Both lie in
//! memory as rows of pixels, so that vectors of them are multiplied as they are, into sums of sixteen
//! lanes that are added up once at the end. For small layers (1 x 1 between some tens of channels, stems,
//! groups of two) that takes a fraction of the time of products that pack their operands.
//!
//! f32. Sums run in eight fixed parts at most, in an order that no number of threads changes.

use super::geometry::Geometry;
use super::im2col::with_columns;
use crate::cpu::part;
use crate::panel::{Dots, Run, SUM};
use crate::scratch;
use rayon::prelude::*;

/// Most weights: sixteen floats for each stay in the second-level cache.
const WEIGHTS: usize = 1 << 13;
/// Floats worked on at a time, about.
const ROOM: usize = 1 << 16;
/// Parts that sums run in: few, since each needs its own.
const PARTS: usize = 8;

/// Whether this is faster than the other ways.
pub(crate) fn fits(g: &Geometry) -> bool {
    g.weight_len() <= WEIGHTS && (g.in_per_group() <= 4 || g.kernel == (1, 1))
}

/// Pixels worked on together: some images, or a part of one.
struct Units {
    images: usize,
    tiles: usize,
    tile: usize,
    count: usize,
}

impl Units {
    fn new(g: &Geometry) -> Self {
        let pixels = g.out_pixels();
        let floats = if g.is_pointwise() {
            g.in_channels + g.out_channels
        } else {
            g.depth() + g.out_per_group()
        };
        let room = (ROOM / floats).max(64);
        let tiles = pixels.div_ceil(room);
        let tile = pixels.div_ceil(tiles).next_multiple_of(16);
        let tiles = pixels.div_ceil(tile);
        let images = if tiles > 1 {
            1
        } else {
            (room / pixels).clamp(1, g.batch)
        };
        Self {
            images,
            tiles,
            tile,
            count: g.batch.div_ceil(images) * tiles,
        }
    }
}

/// Gradient of the weight from the gradient of the output.
pub(crate) fn weight_gradient(g: &Geometry, x: &[f32], grad: &[f32], out: &mut [f32]) {
    let units = Units::new(g);
    // Each part takes time of its own to clear and to add up.
    let parts = PARTS.min(units.count.div_ceil(4));
    let len = g.weight_len();
    scratch::with(parts * len * SUM, |sums: &mut [f32]| {
        sums.par_chunks_mut(len * SUM)
            .enumerate()
            .for_each(|(index, sums)| {
                sums.fill(0.0);
                for unit in part(units.count, parts, index) {
                    add(g, &units, unit, x, grad, sums);
                }
            });
        let sums = &*sums;
        out.par_chunks_mut(1 << 10)
            .enumerate()
            .for_each(|(block, out)| {
                for (i, value) in out.iter_mut().enumerate() {
                    let at = ((block << 10) + i) * SUM;
                    let mut total = [0.0; SUM];
                    for part in sums.chunks_exact(len * SUM) {
                        for (t, v) in total.iter_mut().zip(&part[at..at + SUM]) {
                            *t += *v;
                        }
                    }
                    *value = total.iter().sum();
                }
            });
    });
}

/// Adds one unit.
fn add(g: &Geometry, units: &Units, unit: usize, x: &[f32], grad: &[f32], sums: &mut [f32]) {
    let (rows, cols, pixels) = (g.out_per_group(), g.depth(), g.out_pixels());
    let (group, tile) = (unit / units.tiles, unit % units.tiles);
    let images = group * units.images..((group + 1) * units.images).min(g.batch);
    let from = tile * units.tile;
    let len = units.tile.min(pixels - from);
    let (a, b) = (g.out_channels * pixels, g.in_channels * g.in_pixels());
    if g.is_pointwise() {
        let run = |image| Run {
            a: image * a + from,
            b: image * b + from,
            len,
        };
        let runs: Vec<Run> = images.map(run).collect();
        for (group, sums) in sums.chunks_exact_mut(rows * cols * SUM).enumerate() {
            crate::simd::with(Dots {
                a: &grad[group * rows * pixels..],
                a_row: pixels,
                rows,
                b: &x[group * cols * pixels..],
                b_row: pixels,
                cols,
                runs: &runs,
                sums,
            });
        }
        return;
    }
    let run = |image| Run {
        a: image * a + from,
        b: (image - images.start) * len,
        len,
    };
    let runs: Vec<Run> = images.clone().map(run).collect();
    let first = images.start * pixels + from;
    let columns = first..first + len * images.len();
    for (group, sums) in sums.chunks_exact_mut(rows * cols * SUM).enumerate() {
        let channels = group * g.in_per_group()..(group + 1) * g.in_per_group();
        with_columns(g, x, channels, columns.clone(), |unfolded, stride| {
            crate::simd::with(Dots {
                a: &grad[group * rows * pixels..],
                a_row: pixels,
                rows,
                b: unfolded,
                b_row: stride,
                cols,
                runs: &runs,
                sums,
            });
        });
    }
}
