//! Rows of a padded plane split by the stride, so that what a tap sees of a row lies side by side.
//!
//! Pixel `ox * s + t` of a row is element `ox + t / s` of phase `t % s`.

use super::geometry::Geometry;
use super::im2col::gather;
use crate::cpu::Real;
use std::ops::Range;

/// Pixels handled together; fixed-size arrays of them become vector registers.
pub(super) const LANES: usize = 16;

/// Where the padded, split rows of a plane lie in a buffer.
pub(super) struct Split {
    stride: usize,
    /// Elements of one phase of one row, with room for whole lanes past the end.
    length: usize,
    /// Rows of the padded plane.
    pub(super) rows: usize,
    /// Offset of every tap from the start of an output row's first input row.
    pub(super) taps: Vec<usize>,
}

impl Split {
    pub(super) fn new(g: &Geometry) -> Self {
        let (s, d) = (g.stride, g.dilation);
        let length = (g.width + 2 * g.padding.1).div_ceil(s) + 2 * LANES;
        let taps = (0..g.taps())
            .map(|t| {
                let (i, j) = (t / g.kernel.1 * d, t % g.kernel.1 * d);
                (i * s + j % s) * length + j / s
            })
            .collect();
        Self {
            stride: s,
            length,
            rows: g.height + 2 * g.padding.0,
            taps,
        }
    }

    /// Elements of `rows` rows.
    pub(super) fn len(&self, rows: usize) -> usize {
        rows * self.stride * self.length
    }

    /// Start of the first input row of output row `oy`, counted from the first row that is split.
    pub(super) fn row(&self, oy: usize) -> usize {
        self.len(oy * self.stride)
    }

    /// Copies `rows` of the padded plane.
    #[inline(always)]
    pub(super) fn split<T: Real>(
        &self,
        g: &Geometry,
        plane: &[T],
        rows: Range<usize>,
        out: &mut [T],
    ) {
        let out = &mut out[..self.len(rows.len())];
        out.fill(T::ZERO);
        let inside = rows.start.max(g.padding.0)..rows.end.min(g.padding.0 + g.height);
        for y in inside {
            let row = &plane[(y - g.padding.0) * g.width..][..g.width];
            let start = self.len(y - rows.start);
            if self.stride == 1 {
                out[start + g.padding.1..start + g.padding.1 + g.width].copy_from_slice(row);
                continue;
            }
            for phase in 0..self.stride {
                // First unpadded column of this phase.
                let skip = (phase + self.stride - g.padding.1 % self.stride) % self.stride;
                let at = (g.padding.1 + skip) / self.stride;
                let count = row.len().saturating_sub(skip).div_ceil(self.stride);
                let line = &mut out[start + phase * self.length + at..][..count];
                if count > 0 {
                    gather(line, &row[skip..], self.stride);
                }
            }
        }
    }

    /// The adjoint of [`Split::split`]: reads the unpadded pixels back.
    #[inline(always)]
    pub(super) fn join<T: Real>(&self, g: &Geometry, phases: &[T], plane: &mut [T]) {
        for (y, row) in plane.chunks_exact_mut(g.width).enumerate() {
            let start = self.len(y + g.padding.0);
            for phase in 0..self.stride {
                let skip = (phase + self.stride - g.padding.1 % self.stride) % self.stride;
                let at = (g.padding.1 + skip) / self.stride;
                let line = &phases[start + phase * self.length + at..];
                let target = row.iter_mut().skip(skip).step_by(self.stride);
                for (d, s) in target.zip(line) {
                    *d = *s;
                }
            }
        }
    }
}
