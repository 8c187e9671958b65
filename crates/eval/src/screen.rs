//! Fast f32 products that are sure of themselves: every value comes with a bound on its distance from the exact one.
//!
//! A matrix product in f32 is several times faster than one in f64, but its last bits depend on the order of summation.
//! So it only screens: what lies clearly above or below a level is counted as it is, and what lies within the bound is
//! computed again in f64. Results are those of f64, ties included.
//!
//! For a query a the level of a candidate b rises with its similarity: for the cosine it is a.b of unit vectors, for the
//! Euclidean distance a.b - |b|^2 / 2 = (|a|^2 - |a - b|^2) / 2, of vectors divided by the longest one.
//!
//! Bound: for |a|, |b| <= 1 the sum of D rounded products of rounded factors, in any order, fused or not, lies within
//! (D + 5) u of a.b (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1; u = 2^-24); half norms,
//! the subtraction and the rounding of a level add less than 5 u.

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;

use crate::panels::{PANEL, STRIP, lay_out};
use crate::score::{Score, Side};
use crate::simd;

/// Largest table that is held a second time, laid out for products; beyond it blocks are made when they are needed.
const MAX_COPY: usize = 256 << 20;
/// Panels laid out at once.
const BLOCK: usize = 16;

/// The rows of a [`Side`] scaled for screening.
pub(crate) struct Screen<'a, 's> {
    side: &'s Side<'a>,
    score: Score,
    longest: f64,
    copy: Option<Vec<f32>>,
    /// |b|^2 / 2 by place; empty for the cosine.
    halves: Vec<f32>,
}

impl<'a, 's> Screen<'a, 's> {
    /// For queries: their strips are made block by block. `longest` is the longest norm on both sides of the products to
    /// come.
    pub(crate) fn new(side: &'s Side<'a>, score: Score, longest: f64) -> Self {
        let mut out = Self {
            side,
            score,
            longest: if longest > 0.0 { longest } else { 1.0 },
            copy: None,
            halves: Vec::new(),
        };
        if score == Score::Euclid {
            let half = |i| (0.5 * (side.norm(i) / out.longest).powi(2)) as f32;
            out.halves = (0..side.len()).map(half).collect();
        }
        out
    }

    /// For candidates: panels are made once where the table is not too large for that.
    pub(crate) fn of_candidates(side: &'s Side<'a>, score: Score, longest: f64) -> Self {
        let mut out = Self::new(side, score, longest);
        let panel = PANEL * side.dim();
        let panels = side.len().div_ceil(PANEL);
        if panels * panel * 4 <= MAX_COPY {
            let mut copy = vec![0f32; panels * panel];
            copy.par_chunks_mut((BLOCK * panel).max(1))
                .enumerate()
                .for_each_init(Vec::new, |laid, (i, part)| {
                    let first = i * BLOCK * PANEL;
                    let rows = (BLOCK * PANEL).min(side.len() - first);
                    lay_out(rows, side.dim(), PANEL, laid, |r, to| {
                        out.fill(first + r, to);
                    });
                    part.copy_from_slice(laid);
                });
            out.copy = Some(copy);
        }
        out
    }

    /// Whether panels lie ready, so that asking for them again costs nothing.
    pub(crate) fn is_held(&self) -> bool {
        self.copy.is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.side.len()
    }

    pub(crate) fn dim(&self) -> usize {
        self.side.dim()
    }

    /// The scaled row at `place`.
    pub(crate) fn fill(&self, place: usize, out: &mut [f32]) {
        let row = self.side.row(place);
        let by = match self.score {
            Score::Cosine => self.side.norm(place),
            Score::Euclid => self.longest,
        };
        let inverse = (1.0 / by) as f32;
        if inverse.is_normal() && (1e-30..1e30).contains(&by) {
            for (to, &v) in out.iter_mut().zip(row) {
                *to = v * inverse;
            }
        } else {
            for (to, &v) in out.iter_mut().zip(row) {
                *to = (f64::from(v) / by) as f32;
            }
        }
    }

    /// The scaled rows of some places as panels; the first place is a multiple of [`PANEL`].
    pub(crate) fn panels(&self, places: Range<usize>) -> Cow<'_, [f32]> {
        let dim = self.side.dim();
        if let Some(copy) = &self.copy {
            let end = places.end.div_ceil(PANEL) * PANEL;
            return Cow::Borrowed(&copy[places.start * dim..end * dim]);
        }
        let mut out = Vec::new();
        lay_out(places.len(), dim, PANEL, &mut out, |i, to| {
            self.fill(places.start + i, to);
        });
        Cow::Owned(out)
    }

    /// The scaled rows of some places as strips.
    pub(crate) fn strips(&self, places: Range<usize>) -> Vec<f32> {
        let mut out = Vec::new();
        lay_out(places.len(), self.side.dim(), STRIP, &mut out, |i, to| {
            self.fill(places.start + i, to);
        });
        out
    }

    /// Turns products with the candidates `places` into levels.
    #[inline(always)]
    pub(crate) fn to_levels(&self, products: &mut [f32], places: Range<usize>) {
        if self.score == Score::Euclid
            && let Some(halves) = self.halves.get(places)
        {
            simd::run(
                #[inline(always)]
                || {
                    for (product, half) in products.iter_mut().zip(halves) {
                        *product -= half;
                    }
                },
            );
        }
    }

    /// The level of an exact score, for the query at `place`.
    pub(crate) fn level(&self, place: usize, score: f64) -> f32 {
        match self.score {
            Score::Cosine => score as f32,
            Score::Euclid => {
                let (norm, distance) = (self.side.norm(place) / self.longest, score / self.longest);
                (0.5 * (norm * norm - distance * distance)) as f32
            }
        }
    }

    /// How far a level may lie from the exact one.
    pub(crate) fn bound(&self) -> f32 {
        (self.side.dim() + 12) as f32 * 2f32.powi(-24) + 1e-30
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embeddings::Embeddings;
    use crate::panels::products;
    use crate::score::Measure;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// The bound holds for vectors of very different lengths.
        #[test]
        fn levels_lie_within_the_bound(
            values in proptest::collection::vec(-1f32..1.0, 8 * 19),
            powers in proptest::collection::vec(-12i32..12, 8),
        ) {
            let values: Vec<f32> = values
                .iter()
                .enumerate()
                .map(|(i, v)| (v + 1e-3) * 10f32.powi(powers[i / 19]))
                .collect();
            let table = Embeddings::new(values, 19).unwrap();
            for score in [Score::Cosine, Score::Euclid] {
                let side = Side::whole(&table, score).unwrap();
                let measure = Measure::new(score, side.largest_norm());
                let screen = Screen::new(&side, score, side.largest_norm());
                let mut levels = vec![0f32; 64];
                products(&screen.panels(0..8), &screen.strips(0..8), 19, |_, strip, tile| {
                    for (r, row) in tile.iter().enumerate() {
                        let q = strip * STRIP + r;
                        if q < 8 {
                            levels[q * 8..(q + 1) * 8].copy_from_slice(&row[..8]);
                        }
                    }
                });
                for (q, row) in levels.chunks_exact_mut(8).enumerate() {
                    screen.to_levels(row, 0..8);
                    for (c, &level) in row.iter().enumerate() {
                        let exact = screen.level(q, measure.pair(&side, q, &side, c));
                        prop_assert!((level - exact).abs() <= screen.bound(), "{level} {exact}");
                    }
                }
            }
        }
    }
}
