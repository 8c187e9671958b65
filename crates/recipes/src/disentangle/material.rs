//! From a configuration to the images that are trained on and those that are judged.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use phiz_data::{Dataset, InMemory, Spec, epoch_order};

use super::config::DisentangleConfig;
use super::factors::{FactorColumn, factors, in_states};
use crate::{Error, Result};

/// What a run is made of.
pub(crate) struct Material {
    pub dataset: Arc<dyn Dataset>,
    /// Indices trained on.
    pub train: Vec<usize>,
    /// Names of the classes that are learned, in the order of the logits.
    pub classes: Vec<String>,
    pub factors: Vec<FactorColumn>,
}

/// Images that are judged together.
#[derive(Clone)]
pub(crate) struct Part {
    pub name: String,
    pub dataset: Arc<dyn Dataset>,
    pub indices: Vec<usize>,
    /// Whether its classes are those that were learned; otherwise pairs are compared.
    pub known_classes: bool,
}

/// What is judged.
pub(crate) struct Judged {
    /// Images whose class, or sameness, is asked for.
    pub parts: Vec<Part>,
    /// Images that probes are fitted on, and judged on.
    pub probes: Option<(Part, Part)>,
    /// On what else the removed factors are asked of d.
    pub again: Vec<Again>,
}

/// Rows of parts that are encoded anyway, on which the removed factors are asked of d once more.
pub(crate) struct Again {
    /// What the figures are called by.
    pub called: String,
    /// Rows that probes are fitted on.
    pub fit: (Part, Vec<usize>),
    /// Rows that they are judged on.
    pub probed: (Part, Vec<usize>),
}

/// Opens a data set: rendered faces are drawn once and kept, digits are turned as they are asked for.
pub(crate) fn open(spec: &str) -> Result<Arc<dyn Dataset>> {
    let dataset = Spec::from_str(spec)?.open()?;
    if dataset.rendered() {
        return Ok(Arc::new(InMemory::new(dataset.as_ref())?));
    }
    Ok(dataset)
}

impl Material {
    pub fn open(config: &DisentangleConfig) -> Result<Material> {
        let dataset = open(&config.data.source)?;
        let (train, _) = divided(config, dataset.as_ref())?;
        let train = in_states(
            "data.train_states",
            &config.data.train_states,
            dataset.as_ref(),
            &train,
        )?;
        let target = &config.data.target;
        let (codes, names) = (
            dataset.labels().codes(target)?,
            dataset.labels().names(target)?,
        );
        let present: BTreeSet<u32> = train.iter().map(|&i| codes[i]).collect();
        if present.len() < 2 {
            return Err(Error::config(format!(
                "{}: the training part has {} class of `{target}`; expected at least two",
                config.data.source,
                present.len()
            )));
        }
        let classes: Vec<String> = present
            .iter()
            .map(|&code| names[code as usize].clone())
            .collect();
        let mut factors = factors(&config.data, dataset.as_ref(), &train)?;
        if config.game.given_class {
            let targets = crate::source::class_targets(dataset.as_ref(), target, &classes)?;
            let each = factors.into_iter();
            let known = each.map(|factor| {
                factor.given_class(dataset.as_ref(), &train, &targets, classes.len())
            });
            factors = known.collect::<Result<_>>()?;
        }
        Ok(Material {
            dataset,
            train,
            classes,
            factors,
        })
    }
}

/// Indices to train on and indices held out, by identity.
fn divided(config: &DisentangleConfig, dataset: &dyn Dataset) -> Result<(Vec<usize>, Vec<usize>)> {
    let fraction = config.data.train_fraction;
    if fraction == 0.0 {
        return Ok(((0..dataset.len()).collect(), Vec::new()));
    }
    let identity = dataset.labels().codes("identity").map_err(|error| {
        Error::config(format!(
            "{error}; `data.train_fraction` divides by identity, 0 does without"
        ))
    })?;
    let groups: BTreeSet<u32> = identity.iter().copied().collect();
    let count = (groups.len() as f64 * fraction).round() as usize;
    let Some(&last) = groups.iter().nth(count.wrapping_sub(1)) else {
        return Err(Error::config(format!(
            "`data.train_fraction` {fraction} of {} identities leaves none on one side",
            groups.len()
        )));
    };
    if count == groups.len() {
        return Err(Error::config(format!(
            "`data.train_fraction` {fraction} of {} identities leaves none on one side",
            groups.len()
        )));
    }
    Ok((0..dataset.len()).partition(|&i| identity[i] <= last))
}

impl Judged {
    pub fn open(config: &DisentangleConfig, classes: &[String]) -> Result<Judged> {
        if config.data.train_fraction > 0.0 {
            return Self::held_out(config, classes);
        }
        let mut parts = Vec::new();
        for entry in &config.eval.parts {
            let (name, spec) = entry.split_once('=').ok_or_else(|| {
                Error::config(format!("`eval.parts`: `{entry}`; expected name=SPEC"))
            })?;
            let dataset = open(spec)?;
            let indices = sampled(dataset.len(), config.eval.images);
            let states = &config.data.test_states;
            let indices = in_states("data.test_states", states, dataset.as_ref(), &indices)?;
            let target = &config.data.target;
            let targets = crate::source::class_targets(dataset.as_ref(), target, classes)?;
            parts.push(Part {
                name: name.to_string(),
                known_classes: indices.iter().all(|&i| targets[i].is_some()),
                dataset,
                indices,
            });
        }
        let probes = match &parts[..] {
            [fit, judge, ..] => Some((fit.clone(), judge.clone())),
            _ => None,
        };
        // The first half of the first part about its second half: what a setting may be chosen by. Neighbours may show one
        // digit, or one person, and stay together.
        let again = parts.first().map(|part| {
            let rows = part.indices.len();
            Again {
                called: part.name.clone(),
                fit: (part.clone(), (0..rows / 2).collect()),
                probed: (part.clone(), (rows / 2..rows).collect()),
            }
        });
        Ok(Judged {
            again: again.into_iter().collect(),
            parts,
            probes,
        })
    }

    fn held_out(config: &DisentangleConfig, classes: &[String]) -> Result<Judged> {
        let dataset = open(&config.data.source)?;
        let (_, held_out) = divided(config, dataset.as_ref())?;
        let (target, data) = (&config.data.target, &config.data);
        let test = in_states(
            "data.test_states",
            &data.test_states,
            dataset.as_ref(),
            &held_out,
        )?;
        let targets = crate::source::class_targets(dataset.as_ref(), target, classes)?;
        let known_classes = test.iter().all(|&i| targets[i].is_some());
        let identity = dataset.labels().codes("identity")?;
        let people: Vec<u32> = held_out
            .iter()
            .map(|&i| identity[i])
            .collect::<BTreeSet<u32>>()
            .into_iter()
            .collect();
        let part = |name: &str, indices: Vec<usize>| Part {
            name: name.to_string(),
            dataset: Arc::clone(&dataset),
            indices,
            known_classes,
        };
        // Probes stand on other people than they are judged on, and see every state there is.
        let probes = people.get(people.len() / 2).map(|&middle| {
            let (fit, judge): (Vec<usize>, Vec<usize>) =
                held_out.iter().partition(|&&i| identity[i] < middle);
            (part("probe", fit), part("probed", judge))
        });
        let probes = probes.filter(|(fit, _)| !fit.indices.is_empty());
        // In the states that training showed: of the others nobody told the encoder.
        let again = match &probes {
            Some((fit, probed)) if !data.train_states.is_empty() => {
                let rows = |part: &Part| {
                    let (states, all) = (&data.train_states, &part.indices);
                    let found = in_states("data.train_states", states, dataset.as_ref(), all)?;
                    let shown: BTreeSet<usize> = found.into_iter().collect();
                    let rows = (0..all.len()).filter(|&row| shown.contains(&all[row]));
                    Ok::<_, Error>((part.clone(), rows.collect()))
                };
                vec![Again {
                    called: "shown".to_string(),
                    fit: rows(fit)?,
                    probed: rows(probed)?,
                }]
            }
            _ => Vec::new(),
        };
        Ok(Judged {
            parts: vec![part("test", test)],
            probes,
            again,
        })
    }
}

/// At most `limit` (0: all) of `n` places, drawn once for all and ascending: evenly spaced ones would meet one angle only.
pub(crate) fn sampled(n: usize, limit: usize) -> Vec<usize> {
    if limit == 0 || limit >= n {
        return (0..n).collect();
    }
    let mut chosen = epoch_order(n, SAMPLE_SEED, 0);
    chosen.truncate(limit);
    chosen.sort_unstable();
    chosen
}

const SAMPLE_SEED: u64 = 2019;
