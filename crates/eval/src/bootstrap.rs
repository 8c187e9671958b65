//! Intervals by resampling whole identities.
//!
//! Images of one person are not independent, so persons are drawn with replacement, never images or pairs; intervals
//! over pairs come out several times too narrow. Of an identity drawn m times, each genuine pair counts m times, an
//! impostor pair of identities drawn m and n times counts m n times, and pairs between two copies of one identity are
//! left out (they would be impostor pairs of one person). The bounds are percentiles of the resampled figures.
//!
//! Resample b uses the ChaCha8 stream (seed, b): the result depends on neither the thread count nor the order.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

/// How to resample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BootstrapConfig {
    /// Number of resamples. Default 200: bounds stable to about a tenth of the interval.
    pub resamples: usize,
    /// Seed of the draws. Default 0.
    pub seed: u64,
    /// Coverage of the interval. Default 0.95.
    pub level: f64,
}

impl Default for BootstrapConfig {
    fn default() -> Self {
        Self {
            resamples: 200,
            seed: 0,
            level: 0.95,
        }
    }
}

/// How often each of `clusters` identities is drawn in resample `index`.
pub fn cluster_weights(clusters: usize, seed: u64, index: u64) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(index);
    let mut weights = vec![0u32; clusters];
    for _ in 0..clusters {
        let drawn = rng.random_range(0..clusters as u64) as usize;
        if let Some(weight) = weights.get_mut(drawn) {
            *weight += 1;
        }
    }
    weights
}

/// The central interval of `values` by linear interpolation between order statistics (NumPy's default quantile).
/// NaN marks a resample on which the figure is undefined; `None` when more than half are.
pub fn percentile_interval(values: &[f64], level: f64) -> Option<[f64; 2]> {
    let mut defined: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    if defined.is_empty() || 2 * defined.len() < values.len() {
        return None;
    }
    defined.sort_unstable_by(f64::total_cmp);
    let quantile = |p: f64| {
        let at = p.clamp(0.0, 1.0) * (defined.len() - 1) as f64;
        let low = at.floor();
        let a = defined.get(low as usize)?;
        let b = defined.get(at.ceil() as usize)?;
        Some(a + (at - low) * (b - a))
    };
    Some([
        quantile((1.0 - level) / 2.0)?,
        quantile((1.0 + level) / 2.0)?,
    ])
}

/// Maps labels to 0..C in ascending order of the label; also gives C.
pub(crate) fn dense_codes(labels: &[u32]) -> (Vec<u32>, usize) {
    let mut distinct = labels.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let codes = labels
        .iter()
        .map(|l| distinct.partition_point(|d| d < l) as u32)
        .collect();
    (codes, distinct.len())
}

/// Resamples a statistic of weights: `figures(weights)` gives one value per figure; the result, one interval per figure.
pub(crate) fn intervals<F>(
    clusters: usize,
    config: &BootstrapConfig,
    figures: F,
) -> Vec<Option<[f64; 2]>>
where
    F: Fn(&[u32]) -> Vec<f64> + Sync,
{
    let rows: Vec<Vec<f64>> = (0..config.resamples as u64)
        .into_par_iter()
        .map(|b| figures(&cluster_weights(clusters, config.seed, b)))
        .collect();
    let count = rows.iter().map(Vec::len).min().unwrap_or(0);
    (0..count)
        .map(|k| {
            let column: Vec<f64> = rows.iter().filter_map(|row| row.get(k).copied()).collect();
            percentile_interval(&column, config.level)
        })
        .collect()
}

/// Interval of the mean of one value per item, items of one cluster drawn together.
///
/// `values` and `clusters` have one entry per item; the shorter of the two counts.
pub fn cluster_mean_interval(
    values: &[f64],
    clusters: &[u32],
    config: &BootstrapConfig,
) -> Option<[f64; 2]> {
    let (codes, count) = dense_codes(clusters);
    let mut sums = vec![(0.0, 0u64); count];
    for (&value, &code) in values.iter().zip(&codes) {
        if let Some((sum, n)) = sums.get_mut(code as usize) {
            *sum += value;
            *n += 1;
        }
    }
    let figures = |weights: &[u32]| {
        let (mut sum, mut n) = (0.0, 0u64);
        for (&w, &(s, m)) in weights.iter().zip(&sums) {
            sum += f64::from(w) * s;
            n += u64::from(w) * m;
        }
        vec![if n == 0 { f64::NAN } else { sum / n as f64 }]
    };
    intervals(count, config, figures)
        .into_iter()
        .next()
        .flatten()
}

/// Interval of the true accept rate at one false accept rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BandPoint {
    /// The false accept rate.
    pub far: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// False accept rates for a band round a curve: five a decade, from 1 down to where one impostor pair is accepted.
pub(crate) fn band_rates(impostors: u64) -> Vec<f64> {
    let least = 1.0 / impostors.max(1) as f64;
    (0..=40)
        .map(|k| match k % 5 {
            // Whole decades exactly, so that they meet the rates that figures are read at.
            0 => 10f64.powi(-(k / 5)),
            _ => 10f64.powf(-f64::from(k) / 5.0),
        })
        .take_while(|far| *far >= least)
        .collect()
}

/// Scored pairs in descending order, ready to be weighted: 8 bytes a pair.
pub(crate) struct WeightedPairs {
    /// Clusters of the two samples; the top bit of the first marks the last pair of a tie, of the second a genuine pair.
    pairs: Vec<(u32, u32)>,
    /// How many pairs there are of each (cluster, cluster, genuine): the totals of a resample without a pass over all.
    kinds: Vec<((u32, u32, bool), u64)>,
    clusters: usize,
}

/// Set on a flag carried in a cluster code.
const FLAG: u32 = 1 << 31;

/// Figures of one weighting, in the order of [`WeightedPairs::figures`].
pub(crate) const FIXED_FIGURES: usize = 3;

impl WeightedPairs {
    /// `scored`: score, clusters of the two samples, genuine or not. Codes must be below 2^31.
    pub(crate) fn new(mut scored: Vec<(f64, u32, u32, bool)>, clusters: usize) -> Self {
        // All keys take part, so that equal pairs are the only ones whose order is open.
        scored.par_sort_unstable_by(|x, y| {
            y.0.total_cmp(&x.0)
                .then((x.1, x.2, x.3).cmp(&(y.1, y.2, y.3)))
        });
        let pairs = scored
            .iter()
            .enumerate()
            .map(|(i, &(score, a, b, same))| {
                let last = scored.get(i + 1).is_none_or(|next| next.0 != score);
                (
                    a | if last { FLAG } else { 0 },
                    b | if same { FLAG } else { 0 },
                )
            })
            .collect();
        let mut kinds: Vec<(u32, u32, bool)> = scored.iter().map(|s| (s.1, s.2, s.3)).collect();
        kinds.par_sort_unstable();
        let kinds = kinds
            .chunk_by(|x, y| x == y)
            .filter_map(|run| Some((*run.first()?, run.len() as u64)))
            .collect();
        Self {
            pairs,
            kinds,
            clusters,
        }
    }

    /// Intervals of AUC, EER, best accuracy and the TARs at `fars`.
    pub(crate) fn intervals(
        &self,
        fars: &[f64],
        config: &BootstrapConfig,
    ) -> Vec<Option<[f64; 2]>> {
        intervals(self.clusters, config, |weights| self.figures(weights, fars))
    }

    pub(crate) fn figures(&self, weights: &[u32], fars: &[f64]) -> Vec<f64> {
        let weight = |a: u32, b: u32| -> u64 {
            let wa = u64::from(weights.get(a as usize).copied().unwrap_or(0));
            if a == b {
                wa
            } else {
                wa * u64::from(weights.get(b as usize).copied().unwrap_or(0))
            }
        };
        let (mut genuine, mut impostor) = (0u64, 0u64);
        for &((a, b, same), count) in &self.kinds {
            let total = count * weight(a, b);
            if same {
                genuine += total;
            } else {
                impostor += total;
            }
        }
        if genuine == 0 || impostor == 0 {
            return vec![f64::NAN; FIXED_FIGURES + fars.len()];
        }
        let (p, n) = (genuine as f64, impostor as f64);
        // Rates from hard to easy; each is settled when its bound is first passed.
        let mut bounds: Vec<usize> = (0..fars.len()).collect();
        bounds.sort_by(|&x, &y| fars[x].total_cmp(&fars[y]));
        let mut bounds = bounds.into_iter().peekable();
        let mut tars = vec![1.0; fars.len()];
        let (mut tp, mut fp) = (0u64, 0u64);
        let (mut last_tp, mut last_fp) = (0u64, 0u64);
        let (mut doubled, mut best, mut eer) = (0u128, impostor, None);
        for &(a, b) in &self.pairs {
            let w = weight(a & !FLAG, b & !FLAG);
            if b & FLAG != 0 {
                tp += w;
            } else {
                fp += w;
            }
            // Pairs of weight 0 go through as well: they change nothing, and a branch on them could not be predicted.
            if a & FLAG == 0 {
                continue;
            }
            doubled += u128::from(fp - last_fp) * u128::from(tp + last_tp);
            best = best.max(tp + impostor - fp);
            if eer.is_none() && fp as f64 * p >= (genuine - tp) as f64 * n {
                let (far, frr) = (fp as f64 / n, 1.0 - tp as f64 / p);
                let (far0, frr0) = (last_fp as f64 / n, 1.0 - last_tp as f64 / p);
                let share = (frr0 - far0) / (far - frr - far0 + frr0);
                eer = Some(far0 + share * (far - far0));
            }
            // The product spares the division at almost every step; the quotient decides, as in `Roc::tar_at_far`.
            while let Some(k) =
                bounds.next_if(|&k| fp as f64 > 0.999_999 * fars[k] * n && fp as f64 / n > fars[k])
            {
                tars[k] = last_tp as f64 / p;
            }
            (last_tp, last_fp) = (tp, fp);
        }
        let mut out = vec![
            doubled as f64 / (2.0 * p * n),
            eer.unwrap_or(f64::NAN),
            best as f64 / (p + n),
        ];
        out.append(&mut tars);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roc::Roc;

    #[test]
    fn weights_are_a_function_of_seed_and_index() {
        let a = cluster_weights(50, 7, 3);
        assert_eq!(a, cluster_weights(50, 7, 3));
        assert_ne!(a, cluster_weights(50, 7, 4));
        assert_ne!(a, cluster_weights(50, 8, 3));
        assert_eq!(a.iter().sum::<u32>(), 50);
    }

    #[test]
    fn quantiles_interpolate_as_numpy() {
        // numpy.quantile([1, 2, 3, 4], [0.025, 0.975]) = [1.075, 3.925]
        let [low, high] = percentile_interval(&[4.0, 1.0, 3.0, 2.0], 0.95).unwrap();
        assert!((low - 1.075).abs() < 1e-12 && (high - 3.925).abs() < 1e-12);
        assert!(percentile_interval(&[f64::NAN, f64::NAN, 1.0], 0.95).is_none());
    }

    #[test]
    fn unit_weights_give_the_plain_figures() {
        // Two identities with two images each and one single, with ties.
        let scored = vec![
            (0.9, 0, 0, true),
            (0.5, 1, 1, true),
            (0.5, 0, 1, false),
            (0.2, 0, 2, false),
            (0.7, 1, 2, false),
        ];
        let roc = Roc::from_scores(&[0.9, 0.5], &[0.5, 0.2, 0.7]).unwrap();
        let figures = WeightedPairs::new(scored, 3).figures(&[1, 1, 1], &[0.4]);
        let want = [
            roc.auc(),
            roc.equal_error().rate,
            roc.best_accuracy().0,
            roc.tar_at_far(0.4).unwrap().tar,
        ];
        for (got, want) in figures.iter().zip(want) {
            assert!((got - want).abs() < 1e-15, "{figures:?} {want}");
        }
    }

    #[test]
    fn doubling_an_identity_doubles_its_pairs() {
        let scored = vec![(0.9, 0, 0, true), (0.4, 1, 1, true), (0.5, 0, 1, false)];
        let figures = WeightedPairs::new(scored, 2).figures(&[2, 1], &[]);
        // Genuine 0.9 twice, 0.4 once; impostor 0.5 twice: 2 of 3 genuine are above.
        assert!((figures[0] - 2.0 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn cluster_interval_covers_the_mean() {
        let values: Vec<f64> = (0..400u32).map(|i| f64::from(i % 7 == 0)).collect();
        let clusters: Vec<u32> = (0..400).map(|i| i / 10).collect();
        let [low, high] =
            cluster_mean_interval(&values, &clusters, &BootstrapConfig::default()).unwrap();
        let mean = values.iter().sum::<f64>() / 400.0;
        assert!(
            low < mean && mean < high && high - low < 0.1,
            "{low} {high}"
        );
    }
}
