//! From a data section to the images that are trained on and those that are held out.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;

use phiz_data::{Dataset, InMemory, Mirrored, Spec};

use crate::config::{Config, Split};
use crate::{Error, Result};

/// A data set with the part a recipe trains on and the part it holds out.
#[derive(Clone)]
pub struct Source {
    /// Every image, decoded once and kept in memory.
    pub dataset: Arc<dyn Dataset>,
    /// Indices trained on.
    pub train: Vec<usize>,
    /// Indices held out: no identity of these is among those trained on.
    pub held_out: Vec<usize>,
    /// Names of the classes that are learned, in the order of the logits.
    pub classes: Vec<String>,
    /// What the split means, for people.
    pub description: String,
}

/// Opens what `config.data` names and divides it.
///
/// # Errors
/// When the data cannot be read, lacks the target label, cannot be divided by identity, or
/// leaves fewer than two classes to learn.
pub fn open_source(config: &Config) -> Result<Source> {
    let mut dataset = open(&config.data.source)?;
    let target = &config.data.target;
    let (mut train, held_out, description) = divide(config, dataset.as_ref())?;
    let classes = classes_of(dataset.as_ref(), target, &train)?;
    if classes.len() < 2 {
        return Err(Error::config(format!(
            "{}: the training part has {} class of `{target}`; expected at least two",
            config.data.source,
            classes.len()
        )));
    }
    if config.data.mirrored_identities {
        // Mirror images of the training part alone: held-out people stay unseen both ways round.
        let count = dataset.len();
        train.extend(train.clone().into_iter().map(|index| index + count));
        dataset = Arc::new(Mirrored::new(dataset, target)?);
    }
    let classes = classes_of(dataset.as_ref(), target, &train)?;
    Ok(Source {
        dataset,
        train,
        held_out,
        classes,
        description,
    })
}

/// Names of the classes that occur among `indices`, by code.
fn classes_of(dataset: &dyn Dataset, target: &str, indices: &[usize]) -> Result<Vec<String>> {
    let codes = dataset.labels().codes(target)?;
    let names = dataset.labels().names(target)?;
    let present: BTreeSet<u32> = indices.iter().map(|&index| codes[index]).collect();
    Ok(present
        .into_iter()
        .map(|code| names[code as usize].clone())
        .collect())
}

/// Opens a data spec with every image decoded into memory.
///
/// # Errors
/// When the spec is unknown, or an image cannot be read.
pub fn open(spec: &str) -> Result<Arc<dyn Dataset>> {
    let dataset = Spec::from_str(spec)?.open()?;
    Ok(Arc::new(InMemory::new(dataset.as_ref())?))
}

/// Position of each image's label among `classes`; `None` where the label is not one of them.
///
/// # Errors
/// When the data set has no such label.
pub fn class_targets(
    dataset: &dyn Dataset,
    label: &str,
    classes: &[String],
) -> Result<Vec<Option<u32>>> {
    let codes = dataset.labels().codes(label)?;
    let names = dataset.labels().names(label)?;
    let position: BTreeMap<&str, u32> = classes
        .iter()
        .enumerate()
        .map(|(at, name)| (name.as_str(), at as u32))
        .collect();
    Ok(codes
        .iter()
        .map(|&code| {
            names
                .get(code as usize)
                .and_then(|name| position.get(name.as_str()).copied())
        })
        .collect())
}

fn divide(config: &Config, dataset: &dyn Dataset) -> Result<(Vec<usize>, Vec<usize>, String)> {
    let data = &config.data;
    let everything: Vec<usize> = (0..dataset.len()).collect();
    if data.split == Split::None {
        return Ok((
            everything.clone(),
            everything,
            "no split: judged on what was trained on".into(),
        ));
    }
    let identity = dataset.labels().codes("identity").map_err(|error| {
        Error::config(format!(
            "{error}; a split by identity needs it (`--set data.split=none` does without)"
        ))
    })?;
    let groups: BTreeSet<u32> = identity.iter().copied().collect();
    let groups: Vec<u32> = groups.into_iter().collect();
    let (last, description) = match data.split {
        Split::First => {
            let count = (groups.len() as f64 * data.train_fraction).round() as usize;
            if count == 0 || count >= groups.len() {
                return Err(Error::config(format!(
                    "`data.train_fraction` {} of {} identities leaves none on one side",
                    data.train_fraction,
                    groups.len()
                )));
            }
            (
                groups[count - 1],
                format!(
                    "trained on the first {count} of {} identities",
                    groups.len()
                ),
            )
        }
        Split::Folds | Split::None => {
            // The folds are the same for every seed of a run, so that seeds differ in training alone.
            let folds = phiz_data::identity_folds(identity, data.folds, FOLD_SEED)?;
            let description = format!("fold {} of {} by identity held out", data.fold, data.folds);
            let (train, held_out) = folds
                .into_iter()
                .nth(data.fold)
                .ok_or_else(|| Error::config("`data.fold` must be below `data.folds`"))?;
            return Ok((train, held_out, description));
        }
    };
    let (train, held_out): (Vec<usize>, Vec<usize>) = everything
        .iter()
        .partition(|&&index| identity[index] <= last);
    Ok((train, held_out, description))
}

const FOLD_SEED: u64 = 2017;
