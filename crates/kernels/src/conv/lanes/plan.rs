//! Which pixels of sixteen turned planes each pixel of a target sums, and the sums.

use crate::conv::geometry::Geometry;
use crate::conv::phases::{self, Phase};
use crate::conv::turn::{LANES, interleave};
use crate::simd::{load, store};
use pulp::Simd;

/// Most output pixels computed together; with eight, sums, weight and source fit the sixteen registers of AVX2.
const LONGEST: usize = 8;

/// How every pixel of a target reads the map of sixteen channels of its source: of the output, windows of the input `stride`
/// apart; of the gradient of the input, windows of the gradient of the output, whose taps are others in each phase.
pub(super) struct Plan {
    rows: Vec<Phase>,
    cols: Vec<Phase>,
    /// By phase of row and column: distance of each tap from the start of the window, and where its weights stand.
    pub(super) taps: Vec<Vec<(usize, usize)>>,
    pub(super) source: (usize, usize),
    pub(super) target: (usize, usize),
    /// Rows and columns of the source in the map; what is outside of it is zero.
    seen: [(isize, isize); 2],
    pub(super) pitch: usize,
    /// Pixels from one target of a phase to the next, and from its window to the next one's.
    steps: (usize, usize),
}

impl Plan {
    pub(super) fn forward(g: &Geometry) -> Self {
        let rows = phases::forward(g.out_height, g.kernel.0, g.padding.0, g);
        let cols = phases::forward(g.out_width, g.kernel.1, g.padding.1, g);
        let sides = [(g.height, g.width), (g.out_height, g.out_width)];
        Self::new(g, rows, cols, sides, (1, g.stride))
    }

    pub(super) fn adjoint(g: &Geometry) -> Self {
        let rows = phases::adjoint(g.height, g.kernel.0, g.padding.0, g);
        let cols = phases::adjoint(g.width, g.kernel.1, g.padding.1, g);
        let sides = [(g.out_height, g.out_width), (g.height, g.width)];
        Self::new(g, rows, cols, sides, (g.stride, 1))
    }

    fn new(
        g: &Geometry,
        rows: Vec<Phase>,
        cols: Vec<Phase>,
        [source, target]: [(usize, usize); 2],
        steps: (usize, usize),
    ) -> Self {
        let seen = [
            phases::extent(&rows, 0, target.0),
            phases::extent(&cols, 0, target.1),
        ];
        let pitch = (seen[1].1 - seen[1].0) as usize * LANES;
        let taps_of = |row: &Phase, col: &Phase| {
            let all = row.taps.iter().flat_map(|&(down, i)| {
                let tap = move |&(right, j): &(usize, usize)| {
                    (down * pitch + right * LANES, (i * g.kernel.1 + j) * LANES)
                };
                col.taps.iter().map(tap)
            });
            all.collect()
        };
        let taps = rows
            .iter()
            .flat_map(|row| cols.iter().map(move |col| taps_of(row, col)))
            .collect();
        Self {
            rows,
            cols,
            taps,
            source,
            target,
            seen,
            pitch,
            steps,
        }
    }

    /// Lengths of the map and of the pixels of sixteen channels, which both those of the target and those of the source fit in.
    pub(super) fn lengths(&self) -> [usize; 2] {
        let rows = (self.seen[0].1 - self.seen[0].0) as usize;
        let pixels = (self.target.0 * self.target.1).max(self.source.0 * self.source.1);
        [rows * self.pitch, pixels * LANES]
    }

    /// Turns `lanes` planes into the map; `turned` is used on the way.
    #[inline(always)]
    pub(super) fn fill<S: Simd>(
        &self,
        simd: S,
        planes: &[f32],
        lanes: usize,
        map: &mut [f32],
        turned: &mut [f32],
    ) {
        let (height, width) = self.source;
        let [(top, bottom), (left, right)] = self.seen;
        let whole = |(from, to): (isize, isize), size: usize| from >= 0 && to <= size as isize;
        if !(whole(self.seen[0], height) && whole(self.seen[1], width)) {
            map.fill(0.0);
        }
        let clamp = |(from, to): (isize, isize), size: usize| {
            (from.max(0) as usize, to.clamp(0, size as isize) as usize)
        };
        let (rows, cols) = (clamp((top, bottom), height), clamp((left, right), width));
        if rows.0 >= rows.1 || cols.0 >= cols.1 {
            return;
        }
        let (plane, count) = (height * width, cols.1 - cols.0);
        let to = |y: usize| {
            (y as isize - top) as usize * self.pitch + (cols.0 as isize - left) as usize * LANES
        };
        if width > LANES / 2 {
            for y in rows.0..rows.1 {
                let planes = &planes[y * width + cols.0..];
                let out = (&mut map[to(y)..], LANES);
                interleave(simd, planes, plane, lanes, count, out);
            }
            return;
        }
        // Narrow rows leave most of a turn of sixteen pixels empty: all rows together, then each to its place.
        let pixels = (rows.1 - rows.0) * width;
        let out = (&mut *turned, LANES);
        interleave(simd, &planes[rows.0 * width..], plane, lanes, pixels, out);
        for y in rows.0..rows.1 {
            let row = &turned[((y - rows.0) * width + cols.0) * LANES..][..count * LANES];
            map[to(y)..][..count * LANES].copy_from_slice(row);
        }
    }

    /// All pixels of the target.
    #[inline(always)]
    pub(super) fn gather<S: Simd>(
        &self,
        simd: S,
        map: &[f32],
        weights: &[f32],
        pixels: &mut [f32],
    ) {
        let mut taps = self.taps.iter();
        for row in &self.rows {
            for (col, taps) in self.cols.iter().zip(&mut taps) {
                let Some(&(x, from)) = col.places.first() else {
                    continue;
                };
                for &(y, start) in &row.places {
                    let at = match taps.is_empty() {
                        true => 0,
                        false => {
                            (start - self.seen[0].0) as usize * self.pitch
                                + (from - self.seen[1].0) as usize * LANES
                        }
                    };
                    let run = Run {
                        at,
                        step: self.steps.1 * LANES,
                        to: (y * self.target.1 + x) * LANES,
                        apart: self.steps.0 * LANES,
                    };
                    gather_row(simd, taps, (map, weights), run, col.places.len(), pixels);
                }
            }
        }
    }
}

/// Neighbouring targets of one row and phase.
#[derive(Clone, Copy)]
struct Run {
    /// Start of the first window in the map, and the distance of the next.
    at: usize,
    step: usize,
    /// Start of the first target among the pixels, and the distance of the next.
    to: usize,
    apart: usize,
}

/// `count` targets, in parts of nearly equal length: the sums of a part are as many independent chains of additions, and a row
/// of seven as four and three single ones would wait for three times as long as a part of seven.
#[inline(always)]
fn gather_row<S: Simd>(
    simd: S,
    taps: &[(usize, usize)],
    source: (&[f32], &[f32]),
    mut run: Run,
    mut count: usize,
    pixels: &mut [f32],
) {
    for parts in (1..=count.div_ceil(LONGEST)).rev() {
        let part = count.div_ceil(parts);
        match part {
            8 => gather::<S, 8>(simd, taps, source, run, pixels),
            7 => gather::<S, 7>(simd, taps, source, run, pixels),
            6 => gather::<S, 6>(simd, taps, source, run, pixels),
            5 => gather::<S, 5>(simd, taps, source, run, pixels),
            4 => gather::<S, 4>(simd, taps, source, run, pixels),
            3 => gather::<S, 3>(simd, taps, source, run, pixels),
            2 => gather::<S, 2>(simd, taps, source, run, pixels),
            _ => gather::<S, 1>(simd, taps, source, run, pixels),
        }
        count -= part;
        run.at += part * run.step;
        run.to += part * run.apart;
    }
}

/// N targets.
#[inline(always)]
fn gather<S: Simd, const N: usize>(
    simd: S,
    taps: &[(usize, usize)],
    (map, weights): (&[f32], &[f32]),
    run: Run,
    pixels: &mut [f32],
) {
    for v in (0..LANES).step_by(S::F32_LANES) {
        let mut acc = [simd.splat_f32s(0.0); N];
        for &(tap, weight) in taps {
            let weight = load::<S>(weights, weight + v);
            let at = run.at + tap;
            if run.step == LANES {
                // Windows side by side: one check of bounds for all of them.
                let (windows, _) = S::as_simd_f32s(&map[at..at + N * LANES]);
                let windows = windows.iter().skip(v / S::F32_LANES);
                for (value, source) in acc.iter_mut().zip(windows.step_by(LANES / S::F32_LANES)) {
                    *value = simd.mul_add_e_f32s(weight, *source, *value);
                }
            } else {
                for (n, value) in acc.iter_mut().enumerate() {
                    let source = load::<S>(map, at + n * run.step + v);
                    *value = simd.mul_add_e_f32s(weight, source, *value);
                }
            }
        }
        for (n, value) in acc.iter().enumerate() {
            store::<S>(pixels, run.to + n * run.apart + v, *value);
        }
    }
}
