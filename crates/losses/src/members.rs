//! The members of all tuplets of a batch as one list of rows, so that a loss is a handful of tensor operations.

use candle::{Result, Tensor};
use phiz_mining::Tuplets;

use crate::ops::{constant, host, indices};
use crate::reduction::{TupletReduction, hinge_sum};
use crate::report::{TupletReport, mean, share};

/// One row for each member: of every tuplet in turn the query, its positives, its negatives.
pub(crate) struct Members {
    /// Index into the batch.
    pub item: Vec<u32>,
    /// Which tuplet the row belongs to.
    pub tuplet: Vec<u32>,
    /// Whether the row belongs to the cluster (query or positive).
    pub positive: Vec<bool>,
    /// For each tuplet the first row, the first negative's row, and one past the last.
    pub bounds: Vec<(usize, usize, usize)>,
}

impl Members {
    pub fn new(tuplets: &Tuplets, batch: usize) -> Result<Self> {
        tuplets.check(batch)?;
        let mut m = Self {
            item: vec![],
            tuplet: vec![],
            positive: vec![],
            bounds: vec![],
        };
        for (i, t) in (0u32..).zip(tuplets) {
            let start = m.item.len();
            m.item.push(t.query);
            m.item.extend(&t.positives);
            let middle = m.item.len();
            m.item.extend(&t.negatives);
            m.positive.resize(middle, true);
            m.positive.resize(m.item.len(), false);
            m.tuplet.resize(m.item.len(), i);
            m.bounds.push((start, middle, m.item.len()));
        }
        Ok(m)
    }

    /// The members' embeddings (R, D).
    pub fn rows(&self, embeddings: &Tensor) -> Result<Tensor> {
        embeddings.index_select(&indices(self.item.clone(), embeddings)?, 0)
    }

    /// The mean of each tuplet's positives (T, D), as a product with a constant averaging matrix.
    pub fn centres(&self, rows: &Tensor, stop_gradient: bool) -> Result<Tensor> {
        let (t, r) = (self.bounds.len(), self.item.len());
        let mut average = vec![0.0; t * r];
        for (i, &(start, middle, _)) in self.bounds.iter().enumerate() {
            average[i * r + start..i * r + middle].fill(1.0 / (middle - start) as f64);
        }
        let centres = constant(average, (t, r), rows)?.matmul(rows)?;
        Ok(if stop_gradient {
            centres.detach()
        } else {
            centres
        })
    }

    /// Each row's own line of `per_tuplet` (T, ..).
    pub fn spread(&self, per_tuplet: &Tensor) -> Result<Tensor> {
        per_tuplet.index_select(&indices(self.tuplet.clone(), per_tuplet)?, 0)
    }

    /// The mean over tuplets of `w_p sum_i [h + v_i]_+ + w_n sum_j [h - v_j]_+` for row values `v` (R).
    pub fn two_sided_hinge(
        &self,
        v: &Tensor,
        h: f64,
        reduction: TupletReduction,
    ) -> Result<(Tensor, TupletReport)> {
        let sign: Vec<f64> = self
            .positive
            .iter()
            .map(|&p| if p { 1.0 } else { -1.0 })
            .collect();
        let z = ((v * constant(sign.clone(), v.shape(), v)?)? + h)?;
        let values = host(&z)?;
        let scale = 1.0 / self.bounds.len().max(1) as f64;
        let mut weights = vec![0.0; values.len()];
        let (mut active_p, mut active_n) = (0, 0);
        for &(start, middle, end) in &self.bounds {
            for (range, total) in [(start..middle, &mut active_p), (middle..end, &mut active_n)] {
                let active = values[range.clone()].iter().filter(|&&z| z > 0.0).count();
                let w = scale * reduction.weight(range.len(), active);
                for i in range {
                    weights[i] = if values[i] > 0.0 { w } else { 0.0 };
                }
                *total += active;
            }
        }
        let positives = self.positive.iter().filter(|&&p| p).count();
        let negatives = values.len() - positives;
        let raw = |wanted: bool| {
            let kept = self
                .positive
                .iter()
                .enumerate()
                .filter(move |&(_, &p)| p == wanted);
            mean(kept.map(|(i, _)| sign[i] * (values[i] - h)))
        };
        let report = TupletReport {
            tuplets: self.bounds.len(),
            positives,
            negatives,
            active_positives: share(active_p, positives),
            active_negatives: share(active_n, negatives),
            positive_mean: raw(true),
            negative_mean: raw(false),
        };
        Ok((hinge_sum(&z, weights)?, report))
    }
}
