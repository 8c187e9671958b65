//! The coupled clusters loss.

use candle::{Result, Tensor};
use phiz_kernels::safe::normalize_last_dim;
use phiz_mining::Tuplets;

use crate::members::Members;
use crate::ops::{check_embeddings, check_finite, host, indices, squared_distance, zero};
use crate::reduction::{TupletReduction, hinge_sum};
use crate::report::{TupletReport, mean, share};

/// Configuration of [`coupled_clusters`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CoupledClustersConfig {
    /// alpha, in squared units. Default 1.
    pub margin: f64,
    /// Default [`TupletReduction::Mean`]; the paper's sum with its factor 1/2 is [`TupletReduction::HalfSum`].
    pub reduction: TupletReduction,
    /// Scale the embeddings to unit length first. Default false.
    pub normalize: bool,
}

impl Default for CoupledClustersConfig {
    fn default() -> Self {
        Self {
            margin: 1.0,
            reduction: TupletReduction::Mean,
            normalize: false,
        }
    }
}

impl From<f64> for CoupledClustersConfig {
    fn from(margin: f64) -> Self {
        Self {
            margin,
            ..Self::default()
        }
    }
}

/// `w_p sum_i [||f_i - c||^2 + margin - ||f* - c||^2]_+`, `f*` the negative nearest to `c` (H. Liu, Tian, Wang, Pang, Huang, CVPR
/// 2016); the mean over tuplets.
///
/// `c` is the mean of the query and its positives, differentiated through; of equally near negatives the first listed counts.
/// A tuplet without negatives contributes 0. In the report `active_negatives` is the share of tuplets with an active hinge.
///
/// # Shapes
/// `embeddings` (B, D) in f32 or f64; result: scalar.
///
/// # Errors
/// When an index is outside of the batch, the margin is not finite, or shape or type is another.
pub fn coupled_clusters(
    embeddings: &Tensor,
    tuplets: &Tuplets,
    config: impl Into<CoupledClustersConfig>,
) -> Result<Tensor> {
    Ok(coupled_clusters_report(embeddings, tuplets, config)?.0)
}

/// [`coupled_clusters`] with what to log.
///
/// # Errors
/// As [`coupled_clusters`].
pub fn coupled_clusters_report(
    embeddings: &Tensor,
    tuplets: &Tuplets,
    config: impl Into<CoupledClustersConfig>,
) -> Result<(Tensor, TupletReport)> {
    let config = config.into();
    let (batch, _) = check_embeddings(embeddings)?;
    check_finite("the margin of the coupled clusters loss", config.margin)?;
    let members = Members::new(tuplets, batch)?;
    if tuplets.iter().all(|t| t.negatives.is_empty()) {
        let report = TupletReport {
            tuplets: tuplets.len(),
            ..TupletReport::default()
        };
        return Ok((zero(&[embeddings])?, report));
    }
    let e = if config.normalize {
        normalize_last_dim(embeddings)?
    } else {
        embeddings.clone()
    };
    let rows = members.rows(&e)?;
    let centres = members.centres(&rows, false)?;
    let distances = squared_distance(&rows, &members.spread(&centres)?)?;
    let d = host(&distances)?;

    // Row of each hinge's positive and of the negative it is held against, and the hinges of each tuplet.
    let (mut positive, mut nearest, mut spans) = (Vec::<u32>::new(), Vec::<u32>::new(), Vec::new());
    for &(start, middle, end) in &members.bounds {
        let Some(star) = (middle..end).reduce(|best, i| if d[i] < d[best] { i } else { best })
        else {
            continue;
        };
        spans.push(positive.len()..positive.len() + middle - start);
        positive.extend(start as u32..middle as u32);
        nearest.resize(positive.len(), star as u32);
    }
    let pick = |list: Vec<u32>| distances.index_select(&indices(list, &e)?, 0);
    let z = ((pick(positive)? - pick(nearest)?)? + config.margin)?;
    let values = host(&z)?;
    let mut weights = vec![0.0; values.len()];
    let (mut active_rows, mut active_tuplets) = (0, 0);
    for span in spans {
        let active = values[span.clone()].iter().filter(|&&z| z > 0.0).count();
        let w = config.reduction.weight(span.len(), active) / tuplets.len() as f64;
        for i in span {
            weights[i] = if values[i] > 0.0 { w } else { 0.0 };
        }
        active_rows += active;
        active_tuplets += usize::from(active > 0);
    }
    let side = |wanted: bool| {
        members
            .positive
            .iter()
            .zip(&d)
            .filter(move |&(&p, _)| p == wanted)
            .map(|(_, &d)| d)
    };
    let positives = members.positive.iter().filter(|&&p| p).count();
    let report = TupletReport {
        tuplets: tuplets.len(),
        positives,
        negatives: d.len() - positives,
        active_positives: share(active_rows, positives),
        active_negatives: share(active_tuplets, tuplets.len()),
        positive_mean: mean(side(true)),
        negative_mean: mean(side(false)),
    };
    Ok((hinge_sum(&z, weights)?, report))
}
