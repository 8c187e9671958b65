//! A protocol's figures by group, with the gaps between groups.

use serde_json::json;

use crate::against::listed;
use crate::embeddings::Embeddings;
use crate::error::{Error, Result};
use crate::fairness::{GroupFigures, by_group, verification_by_group};
use crate::lookup::{clusters, predictions, resolve};
use crate::pairs::PairList;
use crate::plan::{Plan, What};
use crate::protocol::Evaluation;
use crate::retrieval::retrieve;
use crate::task_protocols::{PredictedColumn, predicted_columns};
use crate::verification::{MAX_BOOTSTRAP_PAIRS, score_pairs};

/// Adds `FIGURE[GROUP]` for each value of the column `group`, and `FIGURE_gap`, the largest minus the smallest, with
/// intervals over identities.
pub(crate) fn add(
    out: &mut Evaluation,
    plan: &Plan,
    table: &Embeddings,
    group: &str,
) -> Result<()> {
    let codes = table.labels(group)?;
    let bootstrap = plan.options.bootstrap.as_ref();
    let drawn = clusters(table, &plan.options)?;
    let mut found: Vec<(String, GroupFigures)> = Vec::new();
    match &plan.what {
        What::Verification {
            pairs, conditions, ..
        } => {
            let list = match pairs {
                Some(path) => Some(PairList::read_csv(path, table)?),
                None => None,
            };
            let labels = resolve(table, &plan.options.label).map(|l| l.1).ok();
            let all = listed(
                list.as_ref(),
                labels,
                drawn.map(|d| d.1),
                table.len(),
                conditions,
            );
            let all = all.ok_or_else(|| {
                Error::usage(format!(
                    "--group needs at most {MAX_BOOTSTRAP_PAIRS} pairs; list the pairs to compare"
                ))
            })?;
            let code = |row: usize| codes.get(row).copied();
            let inside = all.iter().filter(|(p, _)| code(p.a) == code(p.b));
            let (pairs, parts): (Vec<_>, Vec<_>) = inside.copied().unzip();
            let groups: Vec<u32> = pairs.iter().filter_map(|p| code(p.a)).collect();
            if groups.is_empty() {
                return Err(Error::degenerate(format!(
                    "no pair has both samples in one group of `{group}`"
                )));
            }
            let scores = score_pairs(table, &pairs, plan.options.score)?;
            let impostor = pairs.iter().filter(|p| !p.same).count();
            // The strictest rate that these pairs can show.
            let fars = plan.options.fars.iter().copied();
            let far = fars
                .filter(|far| far * impostor as f64 >= 1.0)
                .fold(f64::INFINITY, f64::min);
            let far = if far.is_finite() { far } else { 1.0 };
            let by = verification_by_group(&scores, &parts, &groups, far, bootstrap)?;
            out.protocol.insert(
                "group_threshold".into(),
                json!({ "far": far, "threshold": by.threshold }),
            );
            found.push(("auc".into(), by.auc));
            found.push(("eer".into(), by.eer));
            found.push((format!("false_accept@far={far:e}"), by.false_accept));
            found.push((format!("false_reject@far={far:e}"), by.false_reject));
        }
        What::Retrieval { queries } => {
            let labels = resolve(table, &plan.options.label)?.1;
            let mut config = plan.retrieval_config(table, queries.clone())?;
            config.bootstrap = None;
            let judged = retrieve(table, labels, &config)?.per_query;
            let of = |column: &[u32]| -> Vec<u32> {
                let rows = judged.iter();
                rows.filter_map(|q| column.get(q.row as usize).copied())
                    .collect()
            };
            let (groups, units) = (of(codes), of(drawn.map_or(labels, |d| d.1)));
            let figures: [(&str, Vec<f64>); 2] = [
                (
                    "precision@1",
                    judged.iter().map(|q| f64::from(q.first_hit == 1)).collect(),
                ),
                ("map@r", judged.iter().map(|q| q.ap_at_r).collect()),
            ];
            for (name, values) in figures {
                let by = by_group(&groups, Some(&units), bootstrap, mean_of(&values))?;
                found.push((name.into(), by));
            }
        }
        What::Classification => {
            let truth = resolve(table, &plan.options.label)?.1;
            let right: Vec<f64> = predictions(table)?
                .iter()
                .zip(truth)
                .map(|(p, t)| f64::from(p == t))
                .collect();
            let by = by_group(codes, drawn.map(|d| d.1), bootstrap, mean_of(&right))?;
            found.push(("accuracy".into(), by));
        }
        What::Regression => {
            for column in predicted_columns(table)? {
                let PredictedColumn {
                    name,
                    predicted,
                    truth,
                } = column;
                let errors: Vec<f64> = predicted
                    .iter()
                    .zip(&truth)
                    .map(|(p, t)| (p - t).abs())
                    .collect();
                let by = by_group(codes, drawn.map(|d| d.1), bootstrap, mean_of(&errors))?;
                found.push((format!("mae[{name}]"), by));
            }
        }
        _ => {
            return Err(Error::usage(format!(
                "--group judges verification, retrieval, classification and regression, not `{}`",
                plan.name
            )));
        }
    }
    let names = table.names(group);
    let mut counts = serde_json::Map::new();
    for (figure, by) in &found {
        for one in &by.groups {
            let group = names
                .get(one.group as usize)
                .cloned()
                .unwrap_or_else(|| one.group.to_string());
            let name = format!("{figure}[{group}]");
            counts.insert(group, json!(one.count));
            match one.value {
                Some(value) => {
                    out.metrics.insert(name.clone(), value);
                }
                None => {
                    let why = "undefined on this group: one kind of sample or pair is missing";
                    out.undefined.insert(name.clone(), why.into());
                }
            }
            if let Some(interval) = one.interval {
                out.intervals.insert(name, interval);
            }
        }
        if let Some(gap) = by.gap {
            let name = format!("{figure}_gap");
            out.metrics.insert(name.clone(), gap);
            out.intervals
                .extend(by.gap_interval.map(|interval| (name, interval)));
        }
    }
    out.protocol.insert("group".into(), json!(group));
    out.protocol.insert("group_counts".into(), counts.into());
    Ok(())
}

fn mean_of(values: &[f64]) -> impl Fn(&[usize]) -> f64 + Sync + '_ {
    move |rows| {
        let picked = rows.iter().filter_map(|&r| values.get(r));
        picked.sum::<f64>() / rows.len() as f64
    }
}
