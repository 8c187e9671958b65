//! Pooling of channels-last maps: all channels of a pixel at a time.

use super::build::{Channels, Pool};
use super::compile::Place2d;

/// `to = pool(from)`, each the elements of its map.
#[inline(always)]
pub(super) fn pool(
    pool: Pool,
    (from, source): (&[f32], (Place2d, Channels)),
    (to, target): (&mut [f32], (Place2d, Channels)),
) {
    let ((map, channels), (out, out_channels)) = (source, target);
    let count = channels.count;
    // The part of a window that lies within the map.
    let clip = |position: usize, size: usize| {
        let start = (position * pool.stride).saturating_sub(pool.padding);
        let end = (position * pool.stride + pool.kernel).saturating_sub(pool.padding);
        start..end.min(size)
    };
    let scale = 1.0 / (pool.kernel * pool.kernel) as f32;
    for y in 0..out.size.height {
        for x in 0..out.size.width {
            let at = out.at(y + out.border, x + out.border) + out_channels.first;
            let result = &mut to[at..at + count];
            let mut first = true;
            for sy in clip(y, map.size.height) {
                for sx in clip(x, map.size.width) {
                    let at = map.at(sy + map.border, sx + map.border) + channels.first;
                    let values = &from[at..at + count];
                    if first {
                        result.copy_from_slice(values);
                        first = false;
                    } else if pool.mean {
                        for (r, v) in result.iter_mut().zip(values) {
                            *r += *v;
                        }
                    } else {
                        for (r, v) in result.iter_mut().zip(values) {
                            // A NaN takes the place of everything; once there, it stays.
                            let keeps = (*r >= *v) | r.is_nan();
                            *r = if keeps { *r } else { *v };
                        }
                    }
                }
            }
            if pool.mean {
                result.iter_mut().for_each(|r| *r *= scale);
            }
        }
    }
}
