//! Two runs over the same samples: is one better, and by how much?

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bootstrap::BootstrapConfig;
use crate::columns::is_prediction;
use crate::conditions::{Condition, admitted};
use crate::delong::{DeLongTest, delong_test};
use crate::embeddings::Embeddings;
use crate::error::{Error, Result};
use crate::lookup::{clusters, predictions, resolve};
use crate::paired::{PairClusters, PairedDifference, paired_mean_difference, paired_verification};
use crate::pairs::{Pair, PairList};
use crate::plan::{Plan, What};
use crate::protocol::{EvaluateOptions, Protocol};
use crate::retrieval::{QueryFigures, retrieve};
use crate::task_protocols::{PredictedColumn, predicted_columns};
use crate::verification::{MAX_BOOTSTRAP_PAIRS, score_pairs};

/// Differences a - b of two runs by one protocol.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The protocol's name.
    pub protocol: String,
    /// What the intervals draw: the column of identities, else `label` or `sample`.
    pub unit: String,
    /// Differences with an interval over identities, both runs resampled together.
    pub differences: BTreeMap<String, PairedDifference>,
    /// Differences of figures that the protocol gives without an interval.
    pub plain: BTreeMap<String, f64>,
    /// DeLong's test of the areas under the curves, where pairs were compared. It takes pairs as independent, which they
    /// are not when people recur: read the interval over identities first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delong: Option<DeLongTest>,
}

/// Compares two tables of the same samples in the same order by `protocol`.
///
/// Verification over at most [`MAX_BOOTSTRAP_PAIRS`] pairs, retrieval, the accuracy of classification and the errors of
/// regression give intervals; other figures are subtracted only. Resamples draw the values of the column
/// [`EvaluateOptions::cluster`], by default `identity`; without such a column the labels (for verification and retrieval)
/// or single samples. [`Comparison::unit`] says which.
///
/// # Errors
/// When the tables differ in length, labels or ids, or the protocol is undefined on one of them.
pub fn compare(
    protocol: &Protocol,
    a: &Embeddings,
    b: &Embeddings,
    options: &EvaluateOptions,
) -> Result<Comparison> {
    same_samples(a, b)?;
    let plan_a = Plan::new(protocol, a, options)?;
    let plan_b = Plan::new(protocol, b, options)?;
    let bootstrap = plan_a.options.bootstrap.unwrap_or_default();
    let drawn = clusters(a, &plan_a.options)?;
    let units = drawn.map(|d| d.1);
    let mut out = Comparison {
        protocol: plan_a.name.clone(),
        unit: drawn.map_or("label", |d| d.0).to_string(),
        differences: BTreeMap::new(),
        plain: BTreeMap::new(),
        delong: None,
    };
    match &plan_a.what {
        What::Verification {
            pairs, conditions, ..
        } => {
            let list = match pairs {
                Some(path) => Some(PairList::read_csv(path, a)?),
                None => None,
            };
            let labels = resolve(a, &plan_a.options.label).map(|l| l.1);
            if let Some(pairs) = listed(list.as_ref(), labels.ok(), units, a.len(), conditions) {
                verification(&mut out, &plan_a, a, b, &pairs, &bootstrap)?;
                return Ok(out);
            }
        }
        What::Retrieval { queries } => {
            let labels = resolve(a, &plan_a.options.label)?.1;
            let mut config = plan_a.retrieval_config(a, queries.clone())?;
            config.bootstrap = None;
            let (x, y) = (retrieve(a, labels, &config)?, retrieve(b, labels, &config)?);
            out.differences = retrieval(
                &x.per_query,
                &y.per_query,
                units,
                &plan_a.options.ks,
                &bootstrap,
            )?;
            return Ok(out);
        }
        What::Classification => {
            let truth = resolve(a, &plan_a.options.label)?.1;
            let right = |table: &Embeddings| -> Result<Vec<f64>> {
                let predicted = predictions(table)?;
                let both = predicted.iter().zip(truth);
                Ok(both.map(|(p, t)| f64::from(p == t)).collect())
            };
            let found = paired_mean_difference(&right(a)?, &right(b)?, units, &bootstrap)?;
            out.differences.insert("accuracy".into(), found);
            drawn.map_or("sample", |d| d.0).clone_into(&mut out.unit);
        }
        What::Regression => {
            let (ours, theirs) = (predicted_columns(a)?, predicted_columns(b)?);
            for PredictedColumn {
                name,
                predicted,
                truth,
            } in &ours
            {
                let Some(other) = theirs.iter().find(|c| c.name == *name) else {
                    continue;
                };
                let errors = |predicted: &[f64]| -> Vec<f64> {
                    let both = predicted.iter().zip(truth);
                    both.map(|(p, t)| (p - t).abs()).collect()
                };
                let (x, y) = (errors(predicted), errors(&other.predicted));
                let found = paired_mean_difference(&x, &y, units, &bootstrap)?;
                let called = if ours.len() == 1 {
                    "mae".to_string()
                } else {
                    format!("mae[{name}]")
                };
                out.differences.insert(called, found);
            }
            drawn.map_or("sample", |d| d.0).clone_into(&mut out.unit);
        }
        _ => {}
    }
    let (x, y) = (plan_a.run(a)?, plan_b.run(b)?);
    for (name, value) in x.metrics {
        if out.differences.contains_key(&name) {
            continue;
        }
        if let Some(other) = y.metrics.get(&name) {
            out.plain.insert(name, value - other);
        }
    }
    Ok(out)
}

/// One line that says where the tables part.
fn same_samples(a: &Embeddings, b: &Embeddings) -> Result<()> {
    if a.len() != b.len() {
        return Err(Error::shape(format!(
            "{} embeddings against {}: runs are compared on the same samples in the same order",
            a.len(),
            b.len()
        )));
    }
    if !a.ids().is_empty()
        && !b.ids().is_empty()
        && let Some(row) = (0..a.len()).find(|&i| a.ids().get(i) != b.ids().get(i))
    {
        return Err(Error::value(format!(
            "sample `{}` against sample `{}`: runs are compared on the same samples in the same order",
            a.id(row),
            b.id(row)
        ))
        .record(format!("row {row}")));
    }
    for (name, column) in a.all_labels() {
        if is_prediction(name) {
            continue;
        }
        let Some(other) = b.all_labels().get(name) else {
            continue;
        };
        if let Some(row) = column.iter().zip(other).position(|(x, y)| x != y) {
            return Err(Error::value(format!(
                "`{name}` is {} in one table and {} in the other: runs are compared on the same samples in the same order",
                column.get(row).copied().unwrap_or(0),
                other.get(row).copied().unwrap_or(0)
            ))
            .record(format!("row {row}")));
        }
    }
    Ok(())
}

/// The pairs with the clusters of their samples; `None` when there are too many to resample.
pub(crate) fn listed(
    list: Option<&PairList>,
    labels: Option<&[u32]>,
    units: Option<&[u32]>,
    len: usize,
    conditions: &[Condition],
) -> Option<Vec<(Pair, PairClusters)>> {
    let of = |column: Option<&[u32]>, i: usize| match column {
        Some(column) => column.get(i).copied().unwrap_or(0),
        None => i as u32,
    };
    let cluster = |i: usize| of(units.or(labels), i);
    let entry = |pair: Pair| {
        let clusters = PairClusters {
            a: cluster(pair.a),
            b: cluster(pair.b),
            same: pair.same,
        };
        (pair, clusters)
    };
    let most = MAX_BOOTSTRAP_PAIRS as usize;
    let taken = |p: &Pair| admitted(conditions, p.a, p.b, p.same);
    if let Some(list) = list {
        let pairs = list.pairs();
        return (pairs.len() <= most)
            .then(|| pairs.iter().copied().filter(taken).map(entry).collect());
    }
    if len.saturating_mul(len.saturating_sub(1)) / 2 > most {
        return None;
    }
    let all = (0..len).flat_map(|a| (a + 1..len).map(move |b| (a, b)));
    let pairs = all.map(|(a, b)| Pair {
        a,
        b,
        same: of(labels, a) == of(labels, b),
        fold: None,
    });
    Some(pairs.filter(taken).map(entry).collect())
}

fn verification(
    out: &mut Comparison,
    plan: &Plan,
    a: &Embeddings,
    b: &Embeddings,
    pairs: &[(Pair, PairClusters)],
    bootstrap: &BootstrapConfig,
) -> Result<()> {
    let (list, clusters): (Vec<Pair>, Vec<PairClusters>) = pairs.iter().copied().unzip();
    let x = score_pairs(a, &list, plan.options.score)?;
    let y = score_pairs(b, &list, plan.options.score)?;
    let same: Vec<bool> = list.iter().map(|p| p.same).collect();
    out.differences = paired_verification(&x, &y, &clusters, &plan.options.fars, bootstrap)?;
    out.delong = Some(delong_test(&x, &y, &same, bootstrap.level)?);
    Ok(())
}

/// One figure of a query.
type Figure = Box<dyn Fn(&QueryFigures) -> f64>;

fn retrieval(
    a: &[QueryFigures],
    b: &[QueryFigures],
    units: Option<&[u32]>,
    ks: &[usize],
    bootstrap: &BootstrapConfig,
) -> Result<BTreeMap<String, PairedDifference>> {
    let unit = |q: &QueryFigures| {
        let drawn = units.and_then(|u| u.get(q.row as usize).copied());
        drawn.unwrap_or(q.label)
    };
    let clusters: Vec<u32> = a.iter().map(unit).collect();
    let mut columns: Vec<(String, Figure)> = vec![
        (
            "precision@1".into(),
            Box::new(|q| f64::from(q.first_hit == 1)),
        ),
        ("r_precision".into(), Box::new(|q| q.r_precision)),
        ("map".into(), Box::new(|q| q.ap)),
        ("map@r".into(), Box::new(|q| q.ap_at_r)),
        ("mrr".into(), Box::new(|q| 1.0 / f64::from(q.first_hit))),
    ];
    for &k in ks {
        let hit = move |q: &QueryFigures| f64::from(q.first_hit as usize <= k);
        columns.push((format!("recall@{k}"), Box::new(hit)));
    }
    columns
        .into_iter()
        .map(|(name, column)| {
            let of = |queries: &[QueryFigures]| queries.iter().map(&column).collect::<Vec<f64>>();
            let found = paired_mean_difference(&of(a), &of(b), Some(&clusters), bootstrap)?;
            Ok((name, found))
        })
        .collect()
}
