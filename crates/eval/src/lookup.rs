//! Columns of a table by the names that options give them.

use crate::embeddings::Embeddings;
use crate::error::{Error, Result};
use crate::protocol::EvaluateOptions;

/// The wanted label column, or the only one when the default is absent.
pub(crate) fn resolve<'a>(
    embeddings: &'a Embeddings,
    wanted: &'a str,
) -> Result<(&'a str, &'a [u32])> {
    match embeddings.labels(wanted) {
        Ok(labels) => Ok((wanted, labels)),
        Err(error) => {
            let mut others = embeddings
                .all_labels()
                .iter()
                .filter(|l| l.0 != "predictions");
            match (others.next(), others.next()) {
                (Some((name, labels)), None) if wanted == "labels" => Ok((name, labels)),
                _ => Err(error),
            }
        }
    }
}

/// The column that the bootstrap draws: the one that was asked for, else `identity` where there is one.
pub(crate) fn clusters<'a>(
    embeddings: &'a Embeddings,
    options: &'a EvaluateOptions,
) -> Result<Option<(&'a str, &'a [u32])>> {
    let name = options.cluster.as_deref().unwrap_or("identity");
    match embeddings.labels(name) {
        Ok(clusters) => Ok(Some((name, clusters))),
        Err(error) if options.cluster.is_some() => Err(error),
        Err(_) => Ok(None),
    }
}

/// Predicted classes: of the logits where there are any.
pub(crate) fn predictions(table: &Embeddings) -> Result<Vec<u32>> {
    if let Some(logits) = table.logits() {
        let largest = |row: &[f32]| {
            let best = row
                .iter()
                .enumerate()
                .fold((0, f32::NEG_INFINITY), |best, (c, &v)| {
                    if v > best.1 { (c, v) } else { best }
                });
            best.0 as u32
        };
        return Ok(logits
            .values
            .chunks_exact(logits.classes)
            .map(largest)
            .collect());
    }
    let predicted = table.labels("predictions").map_err(|_| {
        Error::missing(
            "classification needs `logits` (N, classes) or `predictions` (N) beside the embeddings",
        )
    })?;
    Ok(predicted.to_vec())
}

/// How many different labels there are.
pub(crate) fn distinct(labels: &[u32]) -> usize {
    labels
        .iter()
        .collect::<std::collections::BTreeSet<_>>()
        .len()
}
