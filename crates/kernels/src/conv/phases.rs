//! Which source positions along an axis a target sees: of a convolution, and of its adjoint split by the stride.
//!
//! The input gradient of a convolution with stride s falls apart into s x s correlations of stride 1: the
//! pixels of one phase (row mod s, column mod s) are reached by the same taps.

use super::geometry::Geometry;

/// Targets along one axis that are reached by the same taps.
#[derive(Debug, Clone)]
pub(crate) struct Phase {
    /// Distance of a tap from the start of the window, ascending, and the tap.
    pub(crate) taps: Vec<(usize, usize)>,
    /// Target, and the start of its window in the source.
    pub(crate) places: Vec<(usize, isize)>,
}

/// The one phase of a convolution along an axis.
pub(crate) fn forward(out: usize, kernel: usize, padding: usize, g: &Geometry) -> Vec<Phase> {
    let start = |t: usize| (t * g.stride) as isize - padding as isize;
    vec![Phase {
        taps: (0..kernel).map(|j| (j * g.dilation, j)).collect(),
        places: (0..out).map(|t| (t, start(t))).collect(),
    }]
}

/// The phases of the adjoint along an axis of `size` pixels.
pub(crate) fn adjoint(size: usize, kernel: usize, padding: usize, g: &Geometry) -> Vec<Phase> {
    let stride = g.stride as isize;
    (0..g.stride.min(size))
        .map(|phase| {
            // Target y is reached from source (y + padding - tap * dilation) / stride where that is whole.
            let above = |tap: usize| (phase + padding) as isize - (tap * g.dilation) as isize;
            let mut taps: Vec<(isize, usize)> = (0..kernel)
                .filter(|&tap| above(tap).rem_euclid(stride) == 0)
                .map(|tap| (above(tap).div_euclid(stride), tap))
                .collect();
            taps.sort_unstable();
            let base = taps.first().map_or(0, |(at, _)| *at);
            Phase {
                taps: taps
                    .iter()
                    .map(|(at, tap)| ((at - base) as usize, *tap))
                    .collect(),
                places: (phase..size)
                    .step_by(g.stride)
                    .enumerate()
                    .map(|(i, target)| (target, i as isize + base))
                    .collect(),
            }
        })
        .collect()
}

/// First and one past the last source position that targets `from..to` see.
pub(crate) fn extent(phases: &[Phase], from: usize, to: usize) -> (isize, isize) {
    let mut seen: Option<(isize, isize)> = None;
    for phase in phases {
        let Some((reach, _)) = phase.taps.last() else {
            continue;
        };
        for (target, start) in &phase.places {
            if (from..to).contains(target) {
                let (lo, hi) = (*start, start + *reach as isize + 1);
                seen = Some(seen.map_or((lo, hi), |(a, b)| (a.min(lo), b.max(hi))));
            }
        }
    }
    seen.unwrap_or((0, 1))
}
