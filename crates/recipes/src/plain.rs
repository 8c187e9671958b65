//! Losses by name that look at a whole batch in a way of their own: against means or learned centres, with running statistics, or
//! with tuples that are drawn. They take no miner.

use std::cell::RefCell;

use candle::{DType, Tensor, Var};
use candle_nn::{Init, VarBuilder};
use phiz_losses::{
    ArcFace, ArcFaceConfig, Batch, CenterLoss, CenterLossConfig, CentroidTriplet,
    DynamicSoftMargin, Ge2e, InstanceTarget, ManifoldLoss, ManifoldLossConfig, Margin, NPairConfig,
    PartialFc, instance_loss, n_pair, random_meta_classes,
};
use phiz_mining::{Draw, n_pair_tuplets};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::losses::{Settings, read};
use crate::{Error, Result};

/// A loss of embeddings and labels that may draw.
pub(crate) trait Plain {
    /// The loss of a batch; `targets` are the labels as a tensor.
    fn loss(
        &self,
        embeddings: &Tensor,
        labels: &[u32],
        targets: &Tensor,
        draw: Draw,
    ) -> candle::Result<Tensor>;
}

impl<F: Fn(&Tensor, &[u32], &Tensor, Draw) -> candle::Result<Tensor>> Plain for F {
    fn loss(
        &self,
        embeddings: &Tensor,
        labels: &[u32],
        targets: &Tensor,
        draw: Draw,
    ) -> candle::Result<Tensor> {
        self(embeddings, labels, targets, draw)
    }
}

/// Sizes and parameters a loss is built with.
pub(crate) struct Place<'a> {
    pub dim: usize,
    pub classes: usize,
    pub vb: VarBuilder<'a>,
}

/// A loss with its settings and their defaults.
pub(crate) struct PlainEntry {
    pub name: &'static str,
    pub defaults: &'static [(&'static str, f64)],
    pub build: fn(&Settings, Place<'_>) -> Result<Box<dyn Plain>>,
}

/// The losses of this kind.
pub(crate) const PLAIN: &[PlainEntry] = &[
    PlainEntry {
        name: "center",
        defaults: &[("rate", 0.5)],
        build: center,
    },
    PlainEntry {
        name: "centroid-triplet",
        defaults: &[("margin", 0.2)],
        build: |settings, _| {
            let loss = CentroidTriplet {
                margin: read(settings, "margin")?,
                ..CentroidTriplet::default()
            };
            Ok(Box::new(
                move |x: &Tensor, labels: &[u32], _: &Tensor, _: Draw| loss.forward(x, labels),
            ))
        },
    },
    PlainEntry {
        name: "dynamic-soft-margin",
        defaults: &[("bins", 10.0), ("momentum", 0.01)],
        build: dynamic_soft_margin,
    },
    PlainEntry {
        name: "ge2e",
        defaults: &[("scale", 10.0), ("shift", -5.0)],
        build: |settings, place| {
            let w = parameter(&place.vb, "scale", read(settings, "scale")?)?;
            let b = parameter(&place.vb, "shift", read(settings, "shift")?)?;
            Ok(Box::new(
                move |x: &Tensor, labels: &[u32], _: &Tensor, _: Draw| {
                    Ge2e::default().forward(x, labels, &w, &b)
                },
            ))
        },
    },
    PlainEntry {
        name: "instance",
        defaults: &[("scale", 64.0)],
        build: |settings, _| {
            let scale = read(settings, "scale")?;
            Ok(Box::new(
                move |x: &Tensor, labels: &[u32], _: &Tensor, _: Draw| {
                    instance_loss(x, labels, InstanceTarget::default(), scale)
                },
            ))
        },
    },
    PlainEntry {
        name: "manifold",
        defaults: &[
            ("context", 1.0),
            ("margin", 5e-4),
            ("proxies", 50.0),
            ("walk", 0.8),
        ],
        build: manifold,
    },
    PlainEntry {
        name: "margin-learned",
        defaults: &[("beta", 1.2), ("margin", 0.2), ("nu", 0.0)],
        build: |settings, place| {
            let loss = Margin {
                margin: read(settings, "margin")?,
                nu: read(settings, "nu")?,
                ..Margin::default()
            };
            let beta = parameter(&place.vb, "beta", read(settings, "beta")?)?;
            Ok(Box::new(
                move |x: &Tensor, labels: &[u32], _: &Tensor, _: Draw| {
                    loss.forward_learned(&Batch::new(x, labels)?, &beta)
                },
            ))
        },
    },
    PlainEntry {
        name: "n-pair",
        defaults: &[("scale", 1.0)],
        build: |settings, _| {
            let config = NPairConfig {
                scale: read(settings, "scale")?,
                ..NPairConfig::default()
            };
            Ok(Box::new(
                move |x: &Tensor, labels: &[u32], _: &Tensor, draw: Draw| {
                    let mut rng = ChaCha8Rng::seed_from_u64(draw.seed);
                    rng.set_stream(draw.step);
                    n_pair(x, &n_pair_tuplets(labels, &mut rng), config)
                },
            ))
        },
    },
    PlainEntry {
        name: "partial-arcface",
        defaults: &[("margin", 0.5), ("rate", 0.5), ("scale", 64.0)],
        build: partial_arcface,
    },
];

fn parameter(vb: &VarBuilder<'_>, name: &str, start: f64) -> Result<Tensor> {
    Ok(vb.get_with_hints(1, name, Init::Const(start))?)
}

fn center(settings: &Settings, place: Place<'_>) -> Result<Box<dyn Plain>> {
    let config = CenterLossConfig {
        rate: read(settings, "rate")?,
        ..CenterLossConfig::default()
    };
    let loss = CenterLoss::new(place.dim, place.classes, config, place.vb)?;
    Ok(Box::new(
        move |x: &Tensor, _: &[u32], targets: &Tensor, _: Draw| {
            let value = loss.loss(x, targets)?;
            loss.update(x, targets)?;
            Ok(value)
        },
    ))
}

/// The running histogram is a buffer, so that a checkpoint holds it.
fn dynamic_soft_margin(settings: &Settings, place: Place<'_>) -> Result<Box<dyn Plain>> {
    let bins: usize = read(settings, "bins")?;
    let loss = RefCell::new(DynamicSoftMargin::new(
        -2.0,
        bins,
        read(settings, "momentum")?,
    )?);
    let buffer = place
        .vb
        .get_with_hints(bins, "running_histogram", Init::Const(0.0))?;
    let buffer = Var::from_tensor(&buffer)?;
    Ok(Box::new(
        move |x: &Tensor, labels: &[u32], _: &Tensor, _: Draw| {
            let mut loss = loss.borrow_mut();
            let before = buffer.to_dtype(DType::F64)?.to_vec1::<f64>()?;
            loss.set_histogram(&before)?;
            let value = loss.forward(&Batch::new(x, labels)?)?;
            let after = Tensor::new(loss.histogram(), buffer.device())?;
            buffer.set(&after.to_dtype(buffer.dtype())?)?;
            Ok(value)
        },
    ))
}

fn manifold(settings: &Settings, place: Place<'_>) -> Result<Box<dyn Plain>> {
    let config = ManifoldLossConfig {
        proxies: read(settings, "proxies")?,
        context: read(settings, "context")?,
        walk: read(settings, "walk")?,
        margin: read(settings, "margin")?,
    };
    let loss = ManifoldLoss::new(place.dim, config, place.vb)?;
    Ok(Box::new(
        move |x: &Tensor, labels: &[u32], _: &Tensor, draw: Draw| {
            let classes = random_meta_classes(labels.len(), config.proxies, draw.seed, draw.step);
            loss.loss(x, &classes)
        },
    ))
}

fn partial_arcface(settings: &Settings, place: Place<'_>) -> Result<Box<dyn Plain>> {
    let config = ArcFaceConfig {
        scale: read(settings, "scale")?,
        margin: read(settings, "margin")?,
        ..ArcFaceConfig::default()
    };
    let rate: f64 = read(settings, "rate")?;
    if !(rate > 0.0 && rate <= 1.0) {
        return Err(Error::config(format!(
            "setting `rate` of partial-arcface is {rate}; expected above 0, up to 1"
        )));
    }
    let head = ArcFace::new(place.dim, place.classes, config, place.vb)?;
    Ok(Box::new(
        move |x: &Tensor, _: &[u32], targets: &Tensor, draw: Draw| {
            let partial = PartialFc {
                head: head.clone(),
                rate,
                seed: draw.seed,
            };
            partial.loss(x, targets, draw.step)
        },
    ))
}
