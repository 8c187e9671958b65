//! Judging a frozen trunk: weighted nearest neighbours and a linear probe, for identity and for expression.
//!
//! *Identity*: of the people that were held out, every second image is labelled and the others are to be told.
//! *Expression*: labelled images are those of the people learned from (drawn once for all runs, at most
//! `probe.images`; the penalty of the linear probe is chosen across people), and the expressions of the people held out are to
//! be told. Nothing that is told was seen while the trunk was trained.

use std::collections::BTreeMap;

use candle::{DType, Device, Tensor};
use phiz_data::{Transform, epoch_order, load_images};
use phiz_eval::{NeighbourConfig, ProbeConfig, Rows, linear_probe, nearest_neighbours};
use phiz_pretrain::Trunk;
use phiz_train::{Parameters, Streams};

use super::config::{PretrainConfig, ProbeSettings};
use super::learner::Backbone;
use super::part::Part;
use crate::{Error, Result};

/// Images embedded at once.
const BATCH: usize = 128;

/// Side of the grey images that stand for the pixels themselves.
const PIXELS: usize = 24;

/// Batches that settle the running statistics of a trunk.
const SETTLING: usize = 40;

/// What frozen features are good for: the share of right answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Probed {
    /// Identity, by weighted nearest neighbours.
    pub knn_identity: f64,
    /// Identity, by a linear probe.
    pub linear_identity: f64,
    /// Expression, by weighted nearest neighbours; none where the data has no expressions.
    pub knn_expression: Option<f64>,
    /// Expression, by a linear probe; none where the data has no expressions.
    pub linear_expression: Option<f64>,
}

impl Probed {
    /// The figures by name.
    pub fn named(&self) -> Vec<(&'static str, f64)> {
        let all = [
            ("knn_identity", Some(self.knn_identity)),
            ("linear_identity", Some(self.linear_identity)),
            ("knn_expression", self.knn_expression),
            ("linear_expression", self.linear_expression),
        ];
        all.into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }
}

/// Which images are labelled for a probe and which are to be told, by index.
pub(super) struct Plan {
    /// All images that are looked at.
    pub indices: Vec<usize>,
    identity: Task,
    expression: Option<Task>,
}

/// Places within [`Plan::indices`], and labels.
struct Task {
    known: Vec<(usize, u32)>,
    asked: Vec<(usize, u32)>,
    /// Whose the known images are, where the asked ones are of other people: then a penalty is chosen across people too.
    people: Option<Vec<u32>>,
}

impl Plan {
    pub fn new(part: &Part, settings: &ProbeSettings) -> Result<Self> {
        let labels = part.dataset.labels();
        let identity = labels.codes("identity")?;
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        let mut people = Task {
            known: Vec::new(),
            asked: Vec::new(),
            people: None,
        };
        for (place, &index) in part.held_out.iter().enumerate() {
            let count = counts.entry(identity[index]).or_insert(0);
            let side = if count.is_multiple_of(2) {
                &mut people.known
            } else {
                &mut people.asked
            };
            side.push((place, identity[index]));
            *count += 1;
        }
        let mut indices = part.held_out.clone();
        let expression = labels.codes("expression").ok().map(|expression| {
            // Drawn, because a stride can fall in with the order of the expressions; once for all runs.
            let mut chosen = epoch_order(part.train.len(), 0, 0);
            chosen.truncate(settings.images);
            chosen.sort_unstable();
            let chosen: Vec<usize> = chosen.into_iter().map(|at| part.train[at]).collect();
            let known = chosen.iter().map(|&index| {
                indices.push(index);
                (indices.len() - 1, expression[index])
            });
            let known = known.collect();
            let asked = part.held_out.iter().enumerate();
            let asked = asked.map(|(place, &index)| (place, expression[index]));
            Task {
                known,
                asked: asked.collect(),
                people: Some(chosen.iter().map(|&index| identity[index]).collect()),
            }
        });
        Ok(Self {
            indices,
            identity: people,
            expression,
        })
    }

    /// Probes features, row by row in the order of [`Plan::indices`].
    pub fn judge(&self, features: &[f32], dim: usize, settings: &ProbeSettings) -> Result<Probed> {
        let near = |task: &Task, k: usize| -> Result<f64> {
            let (known, labels) = rows(features, dim, &task.known)?;
            let (asked, answers) = rows(features, dim, &task.asked)?;
            let config = NeighbourConfig {
                k,
                temperature: settings.temperature,
            };
            let told = nearest_neighbours(&known, &labels, &asked, &config)?;
            Ok(share(&told, &answers))
        };
        let linear = |task: &Task| -> Result<f64> {
            let (known, labels) = rows(features, dim, &task.known)?;
            let (asked, answers) = rows(features, dim, &task.asked)?;
            let config = ProbeConfig {
                penalties: vec![1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0],
                ..ProbeConfig::default()
            };
            let probe = linear_probe(&known, &labels, task.people.as_deref(), &config)?;
            Ok(share(&probe.predict(&asked)?, &answers))
        };
        let expression = self.expression.as_ref();
        Ok(Probed {
            knn_identity: near(&self.identity, settings.identity_neighbours)?,
            linear_identity: linear(&self.identity)?,
            knn_expression: expression
                .map(|task| near(task, settings.expression_neighbours))
                .transpose()?,
            linear_expression: expression.map(linear).transpose()?,
        })
    }
}

fn rows(features: &[f32], dim: usize, task: &[(usize, u32)]) -> Result<(Rows, Vec<u32>)> {
    let mut values = Vec::with_capacity(task.len() * dim);
    for &(place, _) in task {
        values.extend_from_slice(features.get(place * dim..(place + 1) * dim).unwrap_or(&[]));
    }
    let labels = task.iter().map(|&(_, label)| label).collect();
    Ok((Rows::from_f32(&values, dim)?, labels))
}

fn share(told: &[u32], answers: &[u32]) -> f64 {
    let right = told.iter().zip(answers).filter(|(a, b)| a == b).count();
    right as f64 / answers.len().max(1) as f64
}

/// How images are shown to a trunk that is judged.
pub(super) fn transform(config: &PretrainConfig) -> Transform {
    Transform::new(config.views.large_size, config.views.large_size, 3)
}

/// Features of images by index, row by row.
pub(super) fn features(
    trunk: &Backbone,
    part: &Part,
    indices: &[usize],
    transform: &Transform,
    device: &Device,
) -> Result<Vec<f32>> {
    let trunk = trunk.folded()?;
    let mut values = Vec::with_capacity(indices.len() * trunk.features());
    for chunk in indices.chunks(BATCH) {
        let images = load_images(part.dataset.as_ref(), chunk, transform, device)?;
        let features = Trunk::features(&trunk, &images, false)?;
        values.extend(features.flatten_all()?.to_vec1::<f32>()?);
    }
    Ok(values)
}

/// The trunk as it is initialised, its norms fitted to some batches of the training images, without an update.
fn initialised(config: &PretrainConfig, part: &Part, device: &Device) -> Result<Backbone> {
    let parameters = Parameters::new(Streams::new(config.seed), DType::F32, device);
    let trunk = Backbone::new(config, &parameters.var_builder())?;
    settle(&trunk, config, part, device)?;
    Ok(trunk)
}

/// Fits the norms of a trunk to training images as they are shown to it later: whole, of one size, unchanged. In training
/// they see crops of several sizes, whose statistics are others.
pub(super) fn settle(
    trunk: &Backbone,
    config: &PretrainConfig,
    part: &Part,
    device: &Device,
) -> Result<()> {
    let transform = transform(config);
    let order = epoch_order(part.train.len(), config.seed, 0);
    let batches = order.chunks(config.train.batch.max(2));
    for chunk in batches.filter(|chunk| chunk.len() > 1).take(SETTLING) {
        let chunk: Vec<usize> = chunk.iter().map(|&at| part.train[at]).collect();
        let images = load_images(part.dataset.as_ref(), &chunk, &transform, device)?;
        Trunk::features(trunk, &images, true)?;
    }
    Ok(())
}

/// Grey images of 24 pixels a side, each image's own mean removed.
fn pixels(part: &Part, indices: &[usize], device: &Device) -> Result<Vec<f32>> {
    let transform = Transform::new(PIXELS, PIXELS, 1);
    let mut values = Vec::with_capacity(indices.len() * PIXELS * PIXELS);
    for chunk in indices.chunks(BATCH) {
        let images =
            load_images(part.dataset.as_ref(), chunk, &transform, device)?.flatten_from(1)?;
        let centred: Tensor = images.broadcast_sub(&images.mean_keepdim(1)?)?;
        values.extend(centred.flatten_all()?.to_vec1::<f32>()?);
    }
    Ok(values)
}

/// A data set opened once to probe any number of trunks on.
pub(crate) struct Yardstick {
    config: PretrainConfig,
    part: Part,
    plan: Plan,
    device: Device,
}

impl Yardstick {
    /// Opens what `config.data` names; `config.probe` says how trunks are probed.
    ///
    /// # Errors
    /// When the data cannot be read, or nobody of it is held out.
    pub fn new(config: &PretrainConfig, device: &Device) -> Result<Self> {
        Self::of(config, super::part::part(config)?, device)
    }

    /// The same over a part that is open.
    pub(super) fn of(config: &PretrainConfig, part: Part, device: &Device) -> Result<Self> {
        if part.held_out.is_empty() {
            return Err(Error::config(
                "nobody is held out to judge on (`data.train_fraction` is 1); name other data to judge on",
            ));
        }
        Ok(Self {
            plan: Plan::new(&part, &config.probe)?,
            config: config.clone(),
            part,
            device: device.clone(),
        })
    }

    /// What is judged on.
    pub(super) fn part(&self) -> &Part {
        &self.part
    }

    /// Probes a run's trunk, which sees images at the size its own views had.
    ///
    /// # Errors
    /// When the weights do not fit, an image cannot be read, or a probe is undefined on the data.
    pub fn run(&self, run: &super::run::PretrainRun) -> Result<Probed> {
        self.trunk(&run.trunk(&self.device)?, &run.config)
    }

    /// Probes a trunk made for `config`.
    pub(super) fn trunk(&self, trunk: &Backbone, config: &PretrainConfig) -> Result<Probed> {
        let shown = transform(config);
        let values = features(trunk, &self.part, &self.plan.indices, &shown, &self.device)?;
        self.plan
            .judge(&values, trunk.features(), &self.config.probe)
    }

    /// Probes the trunk of a configuration as it is initialised, its norms fitted to images that are not judged.
    ///
    /// # Errors
    /// As [`Yardstick::run`].
    pub fn initialised(&self, config: &PretrainConfig) -> Result<Probed> {
        let trunk = initialised(config, &self.part, &self.device)?;
        self.trunk(&trunk, config)
    }

    /// Probes the pixels.
    ///
    /// # Errors
    /// As [`Yardstick::run`].
    pub fn pixels(&self) -> Result<Probed> {
        let values = pixels(&self.part, &self.plan.indices, &self.device)?;
        self.plan
            .judge(&values, PIXELS * PIXELS, &self.config.probe)
    }

    /// All three by name: `trunk`, `initialised`, `pixels`.
    pub(super) fn all(&self, trunk: &Backbone) -> Result<BTreeMap<&'static str, Probed>> {
        Ok(BTreeMap::from([
            ("trunk", self.trunk(trunk, &self.config)?),
            ("initialised", self.initialised(&self.config)?),
            ("pixels", self.pixels()?),
        ]))
    }
}

/// Probes what any trunk makes of a configuration's data: by name the trunk of the weight file or run `weights`, the same
/// trunk as initialised (`initialised`), and the pixels (`pixels`).
///
/// # Errors
/// When the data or the weights cannot be read, or do not fit.
pub fn probe(
    config: &PretrainConfig,
    weights: &std::path::Path,
    device: &str,
) -> Result<BTreeMap<&'static str, Probed>> {
    let device = crate::open_device(device)?;
    let trunk = super::run::trained(config, weights, &device)?;
    Yardstick::new(config, &device)?.all(&trunk)
}
