//! From a task's data section to images and targets.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;

use candle::{Device, Tensor};
use phiz_data::{Dataset, InMemory, PointMap, Spec, Vectors};
use phiz_tasks::{
    ACTION_UNITS, Contract, LANDMARKS, POINTS_3D, VALENCE_AROUSAL, VERTICES, unit_points,
};

use super::config::{TaskConfig, TaskHead, TaskKind};
use super::subset::nested_subset;
use crate::source::class_targets;
use crate::{Error, Result};

/// Data sets that are open, by their spec, so that a table decodes each once.
#[derive(Default)]
pub(crate) struct Shelf(BTreeMap<String, Opened>);

/// A data set in memory, with the width and height of every image.
#[derive(Clone)]
struct Opened {
    dataset: Arc<dyn Dataset>,
    sizes: Arc<[(usize, usize)]>,
}

impl Shelf {
    fn open(&mut self, spec: &str) -> Result<Opened> {
        if let Some(opened) = self.0.get(spec) {
            return Ok(opened.clone());
        }
        let images = InMemory::new(Spec::from_str(spec)?.open()?.as_ref())?;
        let size = |i: usize| {
            images
                .get(i)
                .map_or((1, 1), |image| (image.width, image.height))
        };
        let sizes = (0..images.len()).map(size).collect();
        let opened = Opened {
            dataset: Arc::new(images),
            sizes,
        };
        self.0.insert(spec.to_string(), opened.clone());
        Ok(opened)
    }
}

/// Some images of a data set.
pub(crate) struct Part {
    pub dataset: Arc<dyn Dataset>,
    pub indices: Vec<usize>,
    sizes: Arc<[(usize, usize)]>,
}

impl Part {
    /// Width and height of an image.
    pub fn size(&self, index: usize) -> (usize, usize) {
        self.sizes.get(index).copied().unwrap_or((1, 1))
    }
}

/// What a task is trained and judged on.
pub(crate) struct TaskSource {
    pub train: Part,
    pub judged: Part,
    /// Training images before the share was drawn.
    pub whole: usize,
    /// What the split means, for people.
    pub description: String,
    /// Names of the classes that are learned: expressions or people.
    pub classes: Vec<String>,
    /// Names of what is predicted: action units.
    pub columns: Vec<String>,
    /// Points or numbers of a sample's target.
    pub count: usize,
}

/// What a batch is to become.
pub(crate) enum Targets {
    /// (B, N, D) in parts of the image.
    Points(Tensor),
    /// Classes (B), and numbers (B, 2).
    Affect(Option<Tensor>, Option<Tensor>),
    /// (B, units).
    Units(Tensor),
    /// (B).
    People(Tensor),
}

/// Numbers of landmarks that have a normaliser: 300-W's, WFLW's and COFW's.
const COUNTS: [usize; 3] = [68, 98, 29];

/// The column of numbers a task learns, with its contract.
pub(crate) fn contract(config: &TaskConfig) -> Option<Contract> {
    match (config.task.kind, config.task.head) {
        // The number is the data's, checked against those that there are figures for.
        (TaskKind::Landmarks, _) => Some(Contract {
            count: None,
            ..LANDMARKS
        }),
        (TaskKind::Face3d, TaskHead::Dense) => Some(VERTICES),
        (TaskKind::Face3d, _) => Some(POINTS_3D),
        (TaskKind::ActionUnits, _) => Some(ACTION_UNITS),
        (TaskKind::Affect, _) => Some(VALENCE_AROUSAL),
        (TaskKind::Recognition, _) => None,
    }
}

/// The label whose classes a task learns.
fn class_label(config: &TaskConfig) -> Option<&'static str> {
    match config.task.kind {
        TaskKind::Affect => Some("expression"),
        TaskKind::Recognition => Some("identity"),
        _ => None,
    }
}

/// Opens what the configuration names, and checks every target against the task's contract.
pub(crate) fn open_task(config: &TaskConfig, shelf: &mut Shelf) -> Result<TaskSource> {
    let data = &config.data;
    let opened = shelf.open(&data.source)?;
    let everything: Vec<usize> = (0..opened.dataset.len()).collect();
    let (train, judged, description) = if data.judged.is_empty() {
        let identity = opened.dataset.labels().codes("identity").map_err(|error| {
            Error::config(format!(
                "{error}; holding people out needs it (or name other data by `data.judged`)"
            ))
        })?;
        let people: Vec<u32> = identity
            .iter()
            .copied()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let count = (people.len() as f64 * data.train_fraction).round() as usize;
        let last = match count.checked_sub(1).and_then(|at| people.get(at)) {
            Some(last) if count < people.len() => *last,
            _ => {
                return Err(Error::config(format!(
                    "`data.train_fraction` {} of {} identities leaves none on one side",
                    data.train_fraction,
                    people.len()
                )));
            }
        };
        let (train, held_out): (Vec<usize>, Vec<usize>) = everything
            .iter()
            .partition(|&&index| identity[index] <= last);
        let description = format!("the first {count} of {} identities", people.len());
        (train, (opened.clone(), held_out), description)
    } else {
        let other = shelf.open(&data.judged)?;
        let all = (0..other.dataset.len()).collect();
        let description = format!("{}; judged on {}", data.source, data.judged);
        (everything, (other, all), description)
    };
    let labels = opened.dataset.labels();
    let classes = match class_label(config) {
        Some(label) => match labels.codes(label) {
            Ok(codes) => {
                let names = labels.names(label)?;
                let present: BTreeSet<u32> = train.iter().map(|&index| codes[index]).collect();
                present
                    .iter()
                    .map(|&code| names[code as usize].clone())
                    .collect()
            }
            // Valence and arousal alone are a task too.
            Err(_) if config.task.kind == TaskKind::Affect => Vec::new(),
            Err(error) => return Err(error.into()),
        },
        None => Vec::new(),
    };
    let whole = train.len();
    let chosen = nested_subset(labels, &train, data.rule, data.fraction, data.subset_seed)?;
    let (held_out, judged_indices) = judged;
    let source = TaskSource {
        train: Part {
            dataset: opened.dataset.clone(),
            sizes: opened.sizes.clone(),
            indices: chosen,
        },
        judged: Part {
            dataset: held_out.dataset,
            sizes: held_out.sizes,
            indices: judged_indices,
        },
        whole,
        description,
        columns: Vec::new(),
        count: 0,
        classes,
    };
    checked(config, source)
}

fn checked(config: &TaskConfig, mut source: TaskSource) -> Result<TaskSource> {
    if source.train.indices.len() < 2 || source.judged.indices.is_empty() {
        return Err(Error::config(format!(
            "{} images to train on and {} to judge; expected at least 2 and 1",
            source.train.indices.len(),
            source.judged.indices.len()
        )));
    }
    if config.task.kind == TaskKind::Recognition && source.classes.len() < 2 {
        return Err(Error::config(
            "recognition needs at least two people to train on",
        ));
    }
    let Some(contract) = contract(config) else {
        return Ok(source);
    };
    for part in [&source.train, &source.judged] {
        let column = match part.dataset.labels().vectors(contract.column) {
            Ok(column) => column,
            // Expressions alone are a task too.
            Err(_) if !source.classes.is_empty() => continue,
            Err(error) => return Err(error.into()),
        };
        let width: usize = column.shape().iter().skip(1).product();
        if width != contract.width && column.shape().len() > 1 {
            return Err(Error::config(format!(
                "label `{}` has samples of shape {:?}, expected rows of {}",
                contract.column,
                column.shape(),
                contract.width
            )));
        }
        let points = column.shape().first().copied().unwrap_or(0);
        if config.task.kind == TaskKind::Landmarks && !COUNTS.contains(&points) {
            return Err(Error::config(format!(
                "{}: {points} landmarks a face, expected one of {COUNTS:?}",
                part.dataset.name()
            )));
        }
        if source.count > 0 && source.count != points {
            return Err(Error::config(format!(
                "{} has {points} rows of `{}` a sample, the training data {}",
                part.dataset.name(),
                contract.column,
                source.count
            )));
        }
        source.count = column.shape().first().copied().unwrap_or(0);
        source.columns = column.names().to_vec();
        // In pieces: the vertices of a large set need not stand in memory together.
        for chunk in part.indices.chunks(512) {
            let rows = column.rows(chunk)?;
            for (row, &index) in rows.chunks_exact(column.width()).zip(chunk) {
                contract.check(row).map_err(|error| {
                    let text = error.to_string();
                    let line = text.lines().next().unwrap_or_default();
                    Error::config(format!("{}: {line}", part.dataset.sample_id(index)))
                })?;
            }
        }
    }
    Ok(source)
}

impl TaskSource {
    /// Where images go on their way to the network, without random changes.
    pub fn maps(
        &self,
        part: &Part,
        config: &TaskConfig,
        indices: &[usize],
    ) -> Result<Vec<PointMap>> {
        let plain = config.image.transform().without_augment();
        let map = |&index: &usize| {
            let none = None::<&mut rand_chacha::ChaCha8Rng>;
            Ok(PointMap::new(&plain, part.size(index), none)?)
        };
        indices.iter().map(map).collect()
    }

    /// The targets of images that went where `maps` say.
    pub fn targets(
        &self,
        part: &Part,
        config: &TaskConfig,
        indices: &[usize],
        maps: &[PointMap],
        device: &Device,
    ) -> Result<Targets> {
        let labels = part.dataset.labels();
        let numbers = || -> Result<Option<(Vec<f32>, &Vectors)>> {
            let Some(contract) = contract(config) else {
                return Ok(None);
            };
            Ok(match labels.vectors(contract.column) {
                Ok(column) => Some((column.rows(indices)?, column)),
                Err(_) => None,
            })
        };
        let classes = |label: &str| -> Result<Option<Tensor>> {
            if self.classes.is_empty() {
                return Ok(None);
            }
            let known = class_targets(part.dataset.as_ref(), label, &self.classes)?;
            let codes: Option<Vec<u32>> = indices.iter().map(|&i| known.get(i).copied()?).collect();
            Ok(match codes {
                Some(codes) => Some(Tensor::new(codes, device)?),
                None => None,
            })
        };
        let lacking = || Error::config("a batch has no target of the task");
        let batch = indices.len();
        match config.task.kind {
            TaskKind::Landmarks | TaskKind::Face3d => {
                let (mut rows, column) = numbers()?.ok_or_else(lacking)?;
                let dim = column.shape().get(1).copied().unwrap_or(2);
                for (row, map) in rows.chunks_exact_mut(column.width()).zip(maps) {
                    map.rows(row, dim)?;
                }
                let points = Tensor::from_vec(rows, (batch, column.width() / dim, dim), device)?;
                Ok(Targets::Points(unit_points(&points, config.image.size)?))
            }
            TaskKind::ActionUnits => {
                let (rows, column) = numbers()?.ok_or_else(lacking)?;
                Ok(Targets::Units(Tensor::from_vec(
                    rows,
                    (batch, column.width()),
                    device,
                )?))
            }
            TaskKind::Affect => {
                let numbers = match numbers()? {
                    Some((rows, _)) => Some(Tensor::from_vec(rows, (batch, 2), device)?),
                    None => None,
                };
                Ok(Targets::Affect(classes("expression")?, numbers))
            }
            TaskKind::Recognition => Ok(Targets::People(classes("identity")?.ok_or_else(lacking)?)),
        }
    }
}
