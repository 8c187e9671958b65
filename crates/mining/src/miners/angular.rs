//! Triplets by the angle at the negative.

use candle::{Result, bail};

use super::{deterministic, gathered};
use crate::comparison::Comparison;
use crate::mined::finite;
use crate::tuples::Triplets;

/// Triplets whose angle at the negative is larger than a threshold (`AngularMiner`; the angle is that of the angular loss,
/// Wang et al., ICCV 2017).
///
/// `atan(d(a, p) / (2 d(n, c))) > angle` with the centre `c = (a + p) / 2` of the pair: how wide the pair looks from the
/// negative. The distance to the centre is taken from the three sides, `d(n, c)^2 = (d(n, a)^2 + d(n, p)^2) / 2 - d(a, p)^2 /
/// 4`, so that no embedding is formed for each pair. A negative exactly at the centre counts as 90 degrees.
///
/// Needs Euclidean distances ([`Measure::L2`](crate::Measure::L2), squared or not, of unit vectors or raw; or a
/// square matrix of them). pytorch-metric-learning asks for unit vectors and then measures the embeddings as they are: that is
/// `Measure::L2.unnormalized()`. Time O(B M D + B K M) for K positives an anchor; the distances between references are kept, M x M.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AngularMiner {
    /// Degrees, 0 to 90. Default 20.
    pub angle: f64,
}

impl Default for AngularMiner {
    fn default() -> Self {
        Self { angle: 20.0 }
    }
}

impl AngularMiner {
    /// The triplets with a larger angle, in ascending order.
    ///
    /// # Errors
    /// When the angle is not finite or outside of 0 to 90, or the comparison is not Euclidean.
    pub fn mine(&self, comparison: &Comparison<'_>) -> Result<Triplets> {
        finite("the angle of an angular miner", self.angle)?;
        if !(0.0..=90.0).contains(&self.angle) {
            bail!(
                "the angle of an angular miner must lie between 0 and 90 degrees, got {}",
                self.angle
            );
        }
        let squared = comparison.euclidean("the angular miner")?;
        let between = comparison.reference_distances("the angular miner")?;
        let width = comparison.references();
        let least = self.angle.to_radians();
        let rows = comparison.map_rows(|row| {
            let square = |d: f64| if squared { d } else { d * d };
            let mut found = Vec::new();
            for (p, ap) in row.positives() {
                let (ap, np) = (square(ap), &between[p * width..(p + 1) * width]);
                for (n, an) in row.negatives() {
                    let nc = (0.5 * (square(an) + np[n]) - 0.25 * ap).max(0.0);
                    let angle = if nc > 0.0 {
                        (ap.sqrt() / (2.0 * nc.sqrt())).atan()
                    } else {
                        std::f64::consts::FRAC_PI_2
                    };
                    if angle > least {
                        found.push((p as u32, n as u32));
                    }
                }
            }
            found
        })?;
        Ok(gathered(rows))
    }
}

deterministic!(AngularMiner);
