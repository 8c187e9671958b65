//! Identity-aware tuplets of a batch that was drawn for another reason.

use candle::{Result, bail};
use rand::Rng;
use rand::seq::SliceRandom;

use crate::samplers::{NegativeSource, TupletBatch, TupletConfig, spread};
use crate::tuples::Tuplet;

/// Builds tuplets out of the items of a labelled batch.
///
/// The rules are those of [`TupletSampler`](crate::TupletSampler): positives share the query's expression and not its
/// identity, negatives (by default) its identity and not its expression. Items take their turn as the query in random order
/// until `tuplets_per_batch` tuplets are built; an item that has no negative or no positive is passed over and counted. The
/// result's `indices` are `0..expression.len()`.
///
/// # Errors
/// When the labels are of different length. A batch without any valid tuplet is not an error: it gives none.
pub fn in_batch_tuplets<R: Rng + ?Sized>(
    expression: &[u32],
    identity: &[u32],
    config: &TupletConfig,
    rng: &mut R,
) -> Result<TupletBatch> {
    config.check()?;
    if expression.len() != identity.len() {
        bail!(
            "{} expression labels but {} identity labels",
            expression.len(),
            identity.len()
        );
    }
    let mut batch = TupletBatch {
        indices: (0..expression.len()).collect(),
        ..TupletBatch::default()
    };
    let mut order = batch.indices.clone();
    order.shuffle(rng);
    for query in order {
        if batch.tuplets.len() >= config.tuplets_per_batch {
            break;
        }
        let (e, a) = (expression[query], identity[query]);
        let negatives = match config.negative_source {
            NegativeSource::SameIdentity => grouped(expression, |i| {
                (identity[i] == a && expression[i] != e).then_some(expression[i])
            }),
            NegativeSource::Random => {
                grouped(expression, |i| (expression[i] != e).then_some(i as u32))
            }
        };
        let positives = grouped(expression, |i| {
            (identity[i] != a && expression[i] == e).then_some(identity[i])
        });
        if negatives.is_empty() {
            batch.without_negatives += 1;
        } else if positives.is_empty() {
            batch.without_positives += 1;
        } else {
            let mut draw = |groups: &[Vec<usize>], count| -> Vec<u32> {
                let groups = groups.iter().map(Vec::as_slice).collect();
                spread(groups, count, rng)
                    .into_iter()
                    .map(|i| i as u32)
                    .collect()
            };
            let negatives = draw(&negatives, config.negatives);
            let positives = draw(&positives, config.candidates);
            batch.tuplets.0.push(Tuplet {
                query: query as u32,
                positives,
                negatives,
            });
        }
    }
    Ok(batch)
}

/// The items for which `key` is something, grouped by it, in ascending order of the key.
fn grouped(items: &[u32], key: impl Fn(usize) -> Option<u32>) -> Vec<Vec<usize>> {
    let mut groups = std::collections::BTreeMap::<u32, Vec<usize>>::new();
    for i in 0..items.len() {
        if let Some(k) = key(i) {
            groups.entry(k).or_default().push(i);
        }
    }
    groups.into_values().collect()
}
