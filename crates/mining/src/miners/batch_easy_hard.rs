//! One positive and one negative for each anchor.

use std::ops::RangeInclusive;

use candle::{Result, bail};

use super::{deterministic, joined};
use crate::comparison::{Comparison, Row};
use crate::tuples::{Pairs, Triplets};

/// Which partner an anchor gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// The farthest positive, the nearest negative.
    Hard,
    /// The hardest partner on the right side of the one chosen on the other side: the nearest negative strictly farther than
    /// the chosen positive, or the farthest positive strictly nearer than the chosen negative.
    SemiHard,
    /// The nearest positive, the farthest negative.
    Easy,
    /// Every partner.
    All,
}

/// One positive and one negative for each anchor, each by its own rule (`BatchEasyHardMiner`).
///
/// Anchors without a candidate on either side, after ranges and the semi-hard condition, are left out; with [`Pick::All`] on
/// one side the sides are chosen on their own. Of equally distant candidates the one with the lowest index is taken. Time O(B M
/// D), memory linear.
///
/// Easy positives with semi-hard negatives (the defaults) are from Xuan, Stylianou, Pless, WACV 2020; hard with hard from
/// Hermans, Beyer, Leibe, arXiv 1703.07737; semi-hard negatives from Schroff, Kalenichenko, Philbin, CVPR 2015.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchEasyHardMiner {
    /// Default [`Pick::Easy`].
    pub positive: Pick,
    /// Default [`Pick::SemiHard`].
    pub negative: Pick,
    /// Only positives with a score in this range, in units of the measure. Default: all.
    pub positive_range: Option<RangeInclusive<f64>>,
    /// Only negatives with a score in this range. Default: all.
    pub negative_range: Option<RangeInclusive<f64>>,
}

impl Default for BatchEasyHardMiner {
    fn default() -> Self {
        Self {
            positive: Pick::Easy,
            negative: Pick::SemiHard,
            positive_range: None,
            negative_range: None,
        }
    }
}

impl BatchEasyHardMiner {
    /// The chosen pairs. Without [`Pick::All`] each anchor kept has one positive and one negative pair.
    ///
    /// # Errors
    /// When both sides are semi-hard, or one is semi-hard and the other all: neither says where to begin.
    pub fn mine(&self, comparison: &Comparison<'_>) -> Result<Pairs> {
        use Pick::{All, SemiHard};
        match (self.positive, self.negative) {
            (SemiHard, SemiHard) => bail!("positive and negative cannot both be semi-hard"),
            (All, SemiHard) | (SemiHard, All) => {
                bail!("semi-hard needs one partner on the other side, not all of them")
            }
            _ => {}
        }
        let flip = comparison.is_similarity();
        let (positive, negative) = (
            interval(self.positive_range.as_ref(), flip),
            interval(self.negative_range.as_ref(), flip),
        );
        let rows = comparison.map_rows(|row| self.row(&row, positive, negative))?;
        Ok(joined(rows))
    }

    fn row(&self, row: &Row<'_>, positive: Interval, negative: Interval) -> Pairs {
        use Pick::{All, SemiHard};
        let far = |below: Option<f64>| {
            let found = within(row.positives(), positive);
            farthest(found.filter(|&(_, d)| below.is_none_or(|b| d < b)))
        };
        let near = |above: Option<f64>| {
            let found = within(row.negatives(), negative);
            nearest(found.filter(|&(_, d)| above.is_none_or(|a| d > a)))
        };
        let by_positive = |pick| match pick {
            Pick::Easy => nearest(within(row.positives(), positive)),
            _ => far(None),
        };
        let by_negative = |pick| match pick {
            Pick::Easy => farthest(within(row.negatives(), negative)),
            _ => near(None),
        };
        let list = |found: Option<(usize, f64)>| -> Vec<(u32, u32)> {
            found.map_or_else(Vec::new, |(j, _)| vec![(row.anchor as u32, j as u32)])
        };
        let every = |found: &mut dyn Iterator<Item = (usize, f64)>| -> Vec<(u32, u32)> {
            found.map(|(j, _)| (row.anchor as u32, j as u32)).collect()
        };
        let (p, n) = match (self.positive, self.negative) {
            (All, All) => {
                return Pairs {
                    positive: every(&mut within(row.positives(), positive)),
                    negative: every(&mut within(row.negatives(), negative)),
                };
            }
            (All, pick) => {
                return Pairs {
                    positive: every(&mut within(row.positives(), positive)),
                    negative: list(by_negative(pick)),
                };
            }
            (pick, All) => {
                return Pairs {
                    positive: list(by_positive(pick)),
                    negative: every(&mut within(row.negatives(), negative)),
                };
            }
            (SemiHard, pick) => {
                let n = by_negative(pick);
                (n.and_then(|(_, d)| far(Some(d))), n)
            }
            (pick, SemiHard) => {
                let p = by_positive(pick);
                (p, p.and_then(|(_, d)| near(Some(d))))
            }
            (a, b) => (by_positive(a), by_negative(b)),
        };
        match (p, n) {
            (Some(_), Some(_)) => Pairs {
                positive: list(p),
                negative: list(n),
            },
            _ => Pairs::default(),
        }
    }
}

deterministic!(BatchEasyHardMiner);

/// For every anchor its farthest positive and its nearest negative (`BatchHardMiner`; Hermans, Beyer, Leibe, arXiv
/// 1703.07737).
///
/// Anchors without a positive or without a negative are left out; of equally distant candidates the lowest index is taken.
/// Time O(B M D), memory linear.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchHardMiner;

impl BatchHardMiner {
    /// At most one triplet for each anchor, in ascending order of the anchor.
    ///
    /// # Errors
    /// When the scores cannot be computed.
    pub fn mine(&self, comparison: &Comparison<'_>) -> Result<Triplets> {
        let rows = comparison.map_rows(|row| {
            let chosen = (farthest(row.positives()), nearest(row.negatives()));
            match chosen {
                (Some((p, _)), Some((n, _))) => vec![(p as u32, n as u32)],
                _ => Vec::new(),
            }
        })?;
        Ok(super::gathered(rows))
    }
}

deterministic!(BatchHardMiner);

type Interval = (f64, f64);

/// Bounds on the (possibly negated) scores.
fn interval(range: Option<&RangeInclusive<f64>>, flip: bool) -> Interval {
    match range {
        None => (f64::NEG_INFINITY, f64::INFINITY),
        Some(range) if flip => (-range.end(), -range.start()),
        Some(range) => (*range.start(), *range.end()),
    }
}

fn within(
    found: impl Iterator<Item = (usize, f64)>,
    (low, high): Interval,
) -> impl Iterator<Item = (usize, f64)> {
    found.filter(move |&(_, d)| low <= d && d <= high)
}

fn farthest(found: impl Iterator<Item = (usize, f64)>) -> Option<(usize, f64)> {
    found.reduce(|best, next| if next.1 > best.1 { next } else { best })
}

fn nearest(found: impl Iterator<Item = (usize, f64)>) -> Option<(usize, f64)> {
    found.reduce(|best, next| if next.1 < best.1 { next } else { best })
}
