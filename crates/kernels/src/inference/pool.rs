//! Pooling of channels-last maps: vectors of channels, kept in registers over a window.

use super::build::{Channels, Pool};
use super::compile::Place2d;
use crate::simd::WithSimd;
use pulp::{MemMask, Simd};

/// Rows of `to = pool(from)`: `rows` are the first one, counted within the border, and as many whole rows of
/// the target's map as are to be written.
pub(super) fn pool(
    pool: Pool,
    (from, source): (&[f32], (Place2d, Channels)),
    (first, to): (usize, &mut [f32]),
    target: (Place2d, Channels),
) {
    crate::simd::with(Rows {
        pool,
        from,
        source,
        first,
        to,
        target,
    });
}

/// Some rows of the result.
struct Rows<'a> {
    pool: Pool,
    from: &'a [f32],
    source: (Place2d, Channels),
    /// The first row, counted within the border.
    first: usize,
    to: &'a mut [f32],
    target: (Place2d, Channels),
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let ((map, channels), (out, out_channels)) = (self.source, self.target);
        let (pool, count, lanes) = (self.pool, channels.count, S::F32_LANES);
        // The part of a window that lies within the map.
        let clip = |position: usize, size: usize| {
            let start = (position * pool.stride).saturating_sub(pool.padding);
            let end = (position * pool.stride + pool.kernel).saturating_sub(pool.padding);
            (start, end.min(size))
        };
        for (row, line) in self.to.chunks_exact_mut(out.pitch()).enumerate() {
            let rows = clip(self.first + row, map.size.height);
            for x in 0..out.size.width {
                let cols = clip(x, map.size.width);
                let at = (x + out.border) * out.size.channels + out_channels.first;
                let result = &mut line[at..at + count];
                let window = |c: usize| {
                    let first = map.at(rows.0 + map.border, cols.0 + map.border);
                    &self.from[first + channels.first + c..]
                };
                let shape = (rows.1 - rows.0, cols.1 - cols.0);
                let steps = (map.pitch(), map.size.channels);
                let mut c = 0;
                while c + 4 * lanes <= count {
                    let full = [simd.mask_between_m32s(0, lanes as u32); 4];
                    reduce::<S, 4>(simd, pool, window(c), shape, steps, full, &mut result[c..]);
                    c += 4 * lanes;
                }
                while c < count {
                    let left = (count - c).min(lanes);
                    let mask = [simd.mask_between_m32s(0, left as u32)];
                    reduce::<S, 1>(simd, pool, window(c), shape, steps, mask, &mut result[c..]);
                    c += lanes;
                }
            }
        }
    }
}

/// N vectors of channels of one window of `rows` x `cols` pixels, whose first pixel is the start of `from`.
#[inline(always)]
fn reduce<S: Simd, const N: usize>(
    simd: S,
    pool: Pool,
    from: &[f32],
    (rows, cols): (usize, usize),
    (pitch, step): (usize, usize),
    masks: [MemMask<S::m32s>; N],
    out: &mut [f32],
) {
    let lanes = S::F32_LANES;
    let used = match N {
        1 => lanes.min(out.len()),
        _ => N * lanes,
    };
    assert!(
        rows > 0
            && cols > 0
            && (rows - 1) * pitch + (cols - 1) * step + used <= from.len()
            && used <= out.len(),
        "window out of range"
    );
    // SAFETY: all vectors begin within the slice by the assertion, and lanes beyond what is used are masked
    // by the caller, who has as many channels left as the masks have lanes.
    unsafe {
        let load = |at: usize| -> [S::f32s; N] {
            std::array::from_fn(|n| {
                simd.mask_load_ptr_f32s(masks[n], from.as_ptr().wrapping_add(at + n * lanes))
            })
        };
        let mut acc = load(0);
        for y in 0..rows {
            for x in 0..cols {
                if y == 0 && x == 0 {
                    continue;
                }
                let values = load(y * pitch + x * step);
                for (acc, value) in acc.iter_mut().zip(values) {
                    *acc = if pool.mean {
                        simd.add_f32s(*acc, value)
                    } else {
                        // A NaN takes the place of everything; once there, it stays: a vector that is
                        // not less than or equal to the old one is larger or no number.
                        let keeps = simd.less_than_or_equal_f32s(value, *acc);
                        let stays = simd.equal_f32s(*acc, *acc);
                        let new = simd.select_f32s(keeps, *acc, value);
                        simd.select_f32s(stays, new, *acc)
                    };
                }
            }
        }
        let scale = simd.splat_f32s(1.0 / (pool.kernel * pool.kernel) as f32);
        for (n, value) in acc.iter().enumerate() {
            let value = if pool.mean {
                simd.mul_f32s(*value, scale)
            } else {
                *value
            };
            let to = out.as_mut_ptr().wrapping_add(n * lanes);
            simd.mask_store_ptr_f32s(masks[n], to, value);
        }
    }
}
