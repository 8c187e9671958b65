//! What every miner looks at: anchors against references, a score and a link for each pair, in blocks of rows.

use candle::{DType, Device, Result, Tensor, bail};
use phiz_kernels::pairwise::sq_distances;
use rayon::prelude::*;

use crate::matrix::rows;
use crate::measure::{Measure, MeasureKind};
use crate::relation::{Link, Relation};

/// Whether the values of a precomputed matrix grow or shrink with likeness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Small means alike.
    Distance,
    /// Large means alike.
    Similarity,
}

/// Embeddings (or a precomputed matrix), how to compare them, and which pairs belong together: what a miner mines.
///
/// Scores are computed on the host in f64 from detached embeddings, in blocks of anchors, so that memory is linear in the
/// batch unless a miner says otherwise; equal embeddings have a distance of exactly 0. Work is spread over threads, the
/// result does not depend on their number.
///
/// ```
/// use candle::{Device, Tensor};
/// use phiz_mining::{Comparison, LabelsBetween, Measure, MultiSimilarityMiner, Order};
/// # fn main() -> candle::Result<()> {
/// let batch = Tensor::randn(0f32, 1., (6, 8), &Device::Cpu)?;
/// let labels = [0u32, 0, 1, 1, 2, 2];
/// let miner = MultiSimilarityMiner::default();
/// // A batch against itself,
/// let own = Comparison::new(&batch, &labels)?.measure(Measure::COSINE);
/// miner.mine(&own)?;
/// // against a memory of earlier embeddings,
/// let memory = Tensor::randn(0f32, 1., (10, 8), &Device::Cpu)?;
/// let remembered = [0u32, 1, 2, 3, 4, 0, 1, 2, 3, 4];
/// let relation = LabelsBetween { anchors: &labels, references: &remembered };
/// let pairs = miner.mine(&Comparison::with_references(&batch, &memory, relation)?.measure(Measure::COSINE))?;
/// assert!(pairs.positive.iter().all(|&(a, p)| labels[a as usize] == remembered[p as usize]));
/// // or a matrix you have already.
/// let matrix = batch.matmul(&batch.t()?)?;
/// miner.mine(&Comparison::from_matrix(&matrix, Order::Similarity, &labels)?)?;
/// # Ok(()) }
/// ```
pub struct Comparison<'a> {
    scores: Scores,
    measure: Measure,
    dim: Option<usize>,
    relation: Box<dyn Relation + 'a>,
    anchors: usize,
    references: usize,
    own: bool,
}

enum Scores {
    Rows {
        anchors: Vec<Vec<f64>>,
        references: Option<Vec<Vec<f64>>>,
    },
    Matrix {
        values: Vec<f64>,
        order: Order,
    },
}

/// One anchor with all its references.
pub(crate) struct Row<'r> {
    pub anchor: usize,
    /// Small means alike: similarities come negated.
    pub distances: &'r [f64],
    pub links: &'r [Link],
}

impl Row<'_> {
    fn linked(&self, wanted: Link) -> impl Iterator<Item = (usize, f64)> + '_ {
        let pairs = self.links.iter().zip(self.distances).enumerate();
        pairs.filter_map(move |(j, (&link, &d))| (link == wanted).then_some((j, d)))
    }

    pub fn positives(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.linked(Link::Positive)
    }

    pub fn negatives(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.linked(Link::Negative)
    }
}

/// Values of a block of rows, at most.
const BLOCK: usize = 1 << 19;

impl<'a> Comparison<'a> {
    /// A batch compared with itself, by the distance of unit vectors until [`measure`](Self::measure) says otherwise.
    ///
    /// # Shapes
    /// `embeddings` (B, D), any float type; a label (or what the relation holds) for each row.
    ///
    /// # Errors
    /// When the counts disagree, or an embedding is not finite (its row is named).
    pub fn new(embeddings: &Tensor, relation: impl Relation + 'a) -> Result<Self> {
        let anchors = rows(embeddings)?;
        if let Some(count) = relation.references() {
            bail!(
                "the relation is to {count} separate references, which are missing: use with_references"
            );
        }
        Self::build(
            Scores::Rows {
                anchors,
                references: None,
            },
            embeddings.dim(0)?,
            embeddings.dim(0)?,
            Some(embeddings.dim(1)?),
            Box::new(relation),
        )
    }

    /// A batch compared with separate references, such as a memory of earlier embeddings.
    ///
    /// # Shapes
    /// `embeddings` (B, D), `references` (M, D), any float type.
    ///
    /// # Errors
    /// As [`new`](Self::new), and when the relation is not one to references.
    pub fn with_references(
        embeddings: &Tensor,
        references: &Tensor,
        relation: impl Relation + 'a,
    ) -> Result<Self> {
        let (anchors, others) = (rows(embeddings)?, rows(references)?);
        if relation.references().is_none() {
            bail!("the relation knows no separate references: give LabelsBetween, or use new");
        }
        let (d, e) = (embeddings.dim(1)?, references.dim(1)?);
        if d != e {
            bail!("embeddings of {d} values cannot be compared with references of {e}");
        }
        let (a, r) = (anchors.len(), others.len());
        let scores = Scores::Rows {
            anchors,
            references: Some(others),
        };
        Self::build(scores, a, r, Some(d), Box::new(relation))
    }

    /// Scores computed elsewhere, row = anchor, column = reference. The relation decides whether the references are the anchors
    /// themselves (the diagonal is then never mined) or a separate set.
    ///
    /// # Shapes
    /// `matrix` (B, B) or (B, M), any float type.
    ///
    /// # Errors
    /// When the counts disagree, or an entry is not finite (row and column are named).
    pub fn from_matrix(
        matrix: &Tensor,
        order: Order,
        relation: impl Relation + 'a,
    ) -> Result<Self> {
        let Ok((n, m)) = matrix.dims2() else {
            bail!("a matrix of scores must be (B, M), got {:?}", matrix.dims());
        };
        let values = matrix
            .detach()
            .to_device(&Device::Cpu)?
            .to_dtype(DType::F64)?
            .flatten_all()?
            .to_vec1::<f64>()?;
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            bail!(
                "score ({}, {}) is not finite, so nothing can be mined from it",
                at / m,
                at % m
            );
        }
        Self::build(
            Scores::Matrix { values, order },
            n,
            m,
            None,
            Box::new(relation),
        )
    }

    fn build(
        scores: Scores,
        anchors: usize,
        references: usize,
        dim: Option<usize>,
        relation: Box<dyn Relation + 'a>,
    ) -> Result<Self> {
        if dim == Some(0) {
            bail!("embeddings of 0 values cannot be compared");
        }
        if relation.anchors() != anchors {
            bail!("{anchors} embeddings but {} labels", relation.anchors());
        }
        let known = relation.references().unwrap_or(anchors);
        if known != references {
            bail!("{references} references but {known} labels for them");
        }
        if u32::try_from(anchors.max(references)).is_err() {
            bail!("at most {} items can be indexed", u32::MAX);
        }
        let own = relation.references().is_none();
        Ok(Self {
            scores,
            measure: Measure::default(),
            dim,
            relation,
            anchors,
            references,
            own,
        })
    }

    /// Compares by another measure; without meaning for a precomputed matrix.
    pub fn measure(mut self, measure: impl Into<Measure>) -> Self {
        self.measure = measure.into();
        self
    }

    /// Tells the dimension D of the embeddings behind a precomputed matrix, for miners that depend on it.
    pub fn dimension(mut self, dim: usize) -> Self {
        self.dim = Some(dim);
        self
    }

    /// Number of anchors.
    pub fn anchors(&self) -> usize {
        self.anchors
    }

    /// Number of references; that of the anchors where they are compared among themselves.
    pub fn references(&self) -> usize {
        self.references
    }

    /// Whether the anchors are compared among themselves.
    pub fn is_own(&self) -> bool {
        self.own
    }

    /// Dimension of the embeddings, where known.
    pub(crate) fn dim(&self) -> Option<usize> {
        self.dim
    }

    /// Whether scores are similarities, that is, come negated in a [`Row`].
    pub(crate) fn is_similarity(&self) -> bool {
        match &self.scores {
            Scores::Rows { .. } => self.measure.is_similarity(),
            Scores::Matrix { order, .. } => *order == Order::Similarity,
        }
    }

    /// Fails unless the scores are Euclidean distances, which a precomputed matrix of distances is taken to hold. Says whether
    /// they are squared.
    pub(crate) fn euclidean(&self, who: &str) -> Result<bool> {
        let power = match self.measure.kind {
            MeasureKind::Lp(2.0) => self.measure.power,
            _ => f64::NAN,
        };
        match &self.scores {
            Scores::Matrix { order, .. } if *order == Order::Distance => Ok(false),
            Scores::Rows { .. } if power == 1.0 => Ok(false),
            Scores::Rows { .. } if power == 2.0 => Ok(true),
            _ => bail!(
                "{who} is defined on Euclidean distances: Measure::L2, or a matrix of such distances"
            ),
        }
    }

    /// As [`euclidean`](Self::euclidean), between unit vectors.
    pub(crate) fn unit_distances(&self, who: &str) -> Result<bool> {
        let given = matches!(self.scores, Scores::Matrix { .. });
        if !given && !self.measure.normalize {
            bail!(
                "{who} is defined on distances between unit vectors: Measure::L2, or a matrix of such distances"
            );
        }
        self.euclidean(who)
    }

    /// `f` of every anchor in order, computed in parallel.
    pub(crate) fn map_rows<T: Send>(&self, f: impl Fn(Row<'_>) -> T + Sync) -> Result<Vec<T>> {
        let width = self.references;
        let mut out = Vec::with_capacity(self.anchors);
        if width == 0 {
            let empty = |anchor| {
                f(Row {
                    anchor,
                    distances: &[],
                    links: &[],
                })
            };
            return Ok((0..self.anchors).map(empty).collect());
        }
        let block = (BLOCK / width).max(1);
        let prepared = self.prepare()?;
        for start in (0..self.anchors).step_by(block) {
            let count = block.min(self.anchors - start);
            let values = self.block(&prepared, start, count)?;
            out.par_extend(
                values
                    .par_chunks_exact(width)
                    .enumerate()
                    .map(|(i, distances)| {
                        let anchor = start + i;
                        let mut links = vec![Link::Neither; width];
                        self.relation.fill(anchor, &mut links);
                        if self.own {
                            links[anchor] = Link::Neither;
                        }
                        f(Row {
                            anchor,
                            distances,
                            links: &links,
                        })
                    }),
            );
        }
        Ok(out)
    }

    /// Squared distances between all references, for miners that compare references with each other. M x M.
    pub(crate) fn reference_distances(&self, who: &str) -> Result<Vec<f64>> {
        let squared = self.euclidean(who)?;
        match &self.scores {
            Scores::Matrix { values, .. } if self.own => {
                let square = |&d: &f64| if squared { d } else { d * d };
                Ok(values.iter().map(square).collect())
            }
            Scores::Matrix { .. } => {
                bail!("{who} compares references with each other, which a (B, M) matrix cannot")
            }
            Scores::Rows {
                anchors,
                references,
            } => {
                if self.references == 0 {
                    return Ok(Vec::new());
                }
                let of = unit(references.as_ref().unwrap_or(anchors), self.measure)?;
                sq_distances(&of, &of)?.flatten_all()?.to_vec1()
            }
        }
    }

    fn prepare(&self) -> Result<Option<(Tensor, Tensor)>> {
        let Scores::Rows {
            anchors,
            references,
        } = &self.scores
        else {
            return Ok(None);
        };
        if anchors.is_empty() {
            return Ok(None);
        }
        self.measure.check()?;
        let a = unit(anchors, self.measure)?;
        let r = match references {
            Some(rows) => unit(rows, self.measure)?,
            None => a.clone(),
        };
        if self.measure.kind == MeasureKind::Snr {
            check_variance(anchors)?;
        }
        Ok(Some((a, r)))
    }

    /// Distances of `count` anchors from `start` on, similarities negated.
    fn block(
        &self,
        prepared: &Option<(Tensor, Tensor)>,
        start: usize,
        count: usize,
    ) -> Result<Vec<f64>> {
        let (a, r) = match (&self.scores, prepared) {
            (Scores::Matrix { values, order }, _) => {
                let part = &values[start * self.references..(start + count) * self.references];
                let sign = if *order == Order::Similarity {
                    -1.0
                } else {
                    1.0
                };
                return Ok(part.iter().map(|v| sign * v).collect());
            }
            (_, Some((a, r))) => (a.narrow(0, start, count)?, r),
            (_, None) => return Ok(Vec::new()),
        };
        let flat = |t: Tensor| t.flatten_all()?.to_vec1::<f64>();
        let power = self.measure.power;
        let raise = |d: &mut Vec<f64>, power: f64| {
            if power == 0.5 {
                d.iter_mut().for_each(|d| *d = d.sqrt());
            } else if power != 1.0 {
                d.iter_mut().for_each(|d| *d = d.powf(power));
            }
        };
        let mut d = match self.measure.kind {
            MeasureKind::Lp(2.0) => {
                let mut d = flat(sq_distances(&a, r)?)?;
                raise(&mut d, power / 2.0);
                return Ok(d);
            }
            MeasureKind::Dot => {
                let mut d = flat(a.matmul(&r.t()?)?)?;
                d.iter_mut().for_each(|d| *d = -*d);
                return Ok(d);
            }
            MeasureKind::Lp(p) => {
                let (a, r) = (a.to_vec2::<f64>()?, r.to_vec2::<f64>()?);
                let one = |a: &[f64], r: &[f64]| norm(a.iter().zip(r).map(|(a, r)| a - r), p);
                a.par_iter()
                    .flat_map_iter(|a| r.iter().map(move |r| one(a, r)))
                    .collect::<Vec<f64>>()
            }
            MeasureKind::Snr => {
                let (a, r) = (a.to_vec2::<f64>()?, r.to_vec2::<f64>()?);
                a.par_iter()
                    .flat_map_iter(|a| {
                        let noise = variance(a.iter().copied());
                        r.iter()
                            .map(move |r| variance(a.iter().zip(r).map(|(a, r)| a - r)) / noise)
                    })
                    .collect()
            }
        };
        raise(&mut d, power);
        Ok(d)
    }
}

impl std::fmt::Debug for Comparison<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Comparison")
            .field("anchors", &self.anchors)
            .field("references", &self.references)
            .field("own", &self.own)
            .field("measure", &self.measure)
            .finish_non_exhaustive()
    }
}

/// The rows as a tensor, scaled to unit length if the measure asks for it; zero rows stay zero.
fn unit(rows: &[Vec<f64>], measure: Measure) -> Result<Tensor> {
    let dim = rows.first().map_or(0, Vec::len);
    let p = match measure.kind {
        MeasureKind::Lp(p) => p,
        _ => 2.0,
    };
    let mut values = Vec::with_capacity(rows.len() * dim);
    for row in rows {
        let length = match measure.normalize {
            true => norm(row.iter().copied(), p),
            false => 1.0,
        };
        let length = if length > 0.0 { length } else { 1.0 };
        values.extend(row.iter().map(|v| v / length));
    }
    Tensor::from_vec(values, (rows.len(), dim), &Device::Cpu)
}

/// The p-norm.
fn norm(values: impl Iterator<Item = f64> + Clone, p: f64) -> f64 {
    // The largest value out of the root, so that no length overflows or vanishes.
    let top = values.clone().fold(0f64, |top, v| top.max(v.abs()));
    if top == 0.0 || p.is_infinite() {
        return top;
    }
    let scaled = values.map(|v| (v / top).abs());
    top * if p == 2.0 {
        scaled.map(|v| v * v).sum::<f64>().sqrt()
    } else {
        scaled.map(|v| v.powf(p)).sum::<f64>().powf(1.0 / p)
    }
}

/// Unbiased variance of at least two values.
fn variance(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let (count, sum) = values
        .clone()
        .fold((0.0, 0.0), |(n, s), v| (n + 1.0, s + v));
    let mean = sum / count;
    values.map(|v| (v - mean) * (v - mean)).sum::<f64>() / (count - 1.0)
}

fn check_variance(rows: &[Vec<f64>]) -> Result<()> {
    let flat = |row: &Vec<f64>| {
        let noise = variance(row.iter().copied());
        noise.is_nan() || noise <= 0.0
    };
    if let Some(at) = rows.iter().position(flat) {
        bail!(
            "embedding {at} has no variance over its dimensions, so it has no signal-to-noise ratio"
        );
    }
    Ok(())
}
