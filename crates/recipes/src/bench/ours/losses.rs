//! Losses with their gradient: of the embeddings, and of the class weights where there are any.

use std::cell::RefCell;
use std::time::Instant;

use candle::{Device, Tensor, Var};
use phiz_losses::{
    Angular, ArcFace, ArcFaceConfig, Batch, CentroidTriplet, Circle, Contrastive, CosFace,
    CosFaceConfig, Dcl, DynamicSoftMargin, FastAp, GeneralizedLiftedStructure, Head, Histogram,
    InstanceTarget, IntraPairVariance, LargeMarginSoftmax, LargeMarginSoftmaxConfig,
    LiftedStructure, Margin, MetricLoss, MultiSimilarity, Nca, NormalizedSoftmax,
    NormalizedSoftmaxConfig, NtXent, Pnp, ProxyAnchor, ProxyAnchorConfig, RankedList, Select,
    SelectivelyContrastive, SmoothAp, SupCon, ThresholdConsistentMargin, TripletMargin,
    TupletMargin, instance_loss,
};

use super::{Ready, clusters, normal};
use crate::bench::losses::{Loss, LossSizes};
use crate::{Error, Result};

/// The loss of a batch of embeddings.
type Objective = Box<dyn Fn(&Tensor) -> candle::Result<Tensor>>;

/// A loss over the labels of the batch alone.
fn metric(loss: impl MetricLoss + 'static, labels: Vec<u32>) -> Objective {
    Box::new(move |embeddings| loss.loss(embeddings, &labels))
}

/// The triplet margin loss with the margin that was the default before version 3.
fn triplet(select: Select) -> TripletMargin {
    TripletMargin {
        margin: 0.05,
        select,
        ..TripletMargin::default()
    }
}

/// A loss against learned vectors of classes.
fn head(head: impl Head + 'static, labels: &[u32]) -> candle::Result<Objective> {
    let labels = Tensor::new(labels, &Device::Cpu)?;
    Ok(Box::new(move |embeddings| head.loss(embeddings, &labels)))
}

/// Forward and backward. Configurations are those of pytorch-metric-learning 2.9's defaults, so that both sides give
/// the same value.
pub(super) fn loss(which: Loss, sizes: LossSizes) -> Result<Ready> {
    let LossSizes {
        batch,
        dim,
        per_class,
        classes,
    } = sizes;
    if batch == 0 || dim == 0 || per_class == 0 {
        return Err(Error::config(format!("loss: sizes {sizes:?} hold a 0")));
    }
    let (values, labels) = clusters(batch, dim, per_class);
    let embeddings = Var::from_vec(values, (batch, dim), &Device::Cpu)?;
    let weight = Var::from_tensor(&(normal(3, (classes.max(1), dim))? * 0.1)?)?;
    let mut variables = vec![embeddings.clone()];
    if classes > 0 {
        variables.push(weight.clone());
    }
    let weight = weight.as_tensor().clone();
    let objective = match which {
        Loss::Contrastive => metric(Contrastive::default(), labels),
        Loss::MultiSimilarity => metric(MultiSimilarity::mined(), labels),
        Loss::NtXent => metric(NtXent::default(), labels),
        Loss::SupCon => metric(SupCon::default(), labels),
        Loss::TripletAll => metric(triplet(Select::All), labels),
        Loss::BatchHardTriplet => metric(triplet(Select::BatchHard), labels),
        Loss::Circle => metric(Circle::default(), labels),
        Loss::LiftedStructure => metric(LiftedStructure::default(), labels),
        Loss::GeneralizedLiftedStructure => metric(GeneralizedLiftedStructure::default(), labels),
        Loss::FastAp => metric(FastAp::default(), labels),
        Loss::Nca => metric(Nca::default(), labels),
        Loss::Margin => metric(Margin::default(), labels),
        Loss::SnrContrastive => metric(Contrastive::snr(), labels),
        Loss::TripletSmooth => {
            let loss = TripletMargin {
                smooth: true,
                ..triplet(Select::All)
            };
            metric(loss, labels)
        }
        Loss::TripletSwap => {
            let loss = TripletMargin {
                swap: true,
                ..triplet(Select::All)
            };
            metric(loss, labels)
        }
        Loss::Angular => metric(Angular::default(), labels),
        Loss::TupletMargin => metric(TupletMargin::default(), labels),
        Loss::IntraPairVariance => metric(IntraPairVariance::default(), labels),
        Loss::ThresholdConsistentMargin => metric(ThresholdConsistentMargin::default(), labels),
        Loss::RankedList => metric(RankedList::default(), labels),
        Loss::Histogram => metric(Histogram::default(), labels),
        Loss::SmoothAp => metric(SmoothAp::default(), labels),
        Loss::Pnp => metric(Pnp::default(), labels),
        Loss::Dclw => metric(Dcl::weighted(), labels),
        Loss::SelectivelyContrastive => metric(SelectivelyContrastive::default(), labels),
        Loss::DynamicSoftMargin => {
            let loss = RefCell::new(DynamicSoftMargin::default());
            Box::new(move |x: &Tensor| loss.borrow_mut().forward(&Batch::new(x, &labels)?))
        }
        Loss::CentroidTriplet => {
            Box::new(move |x: &Tensor| CentroidTriplet::default().forward(x, &labels))
        }
        Loss::Instance => {
            Box::new(move |x: &Tensor| instance_loss(x, &labels, InstanceTarget::LabelRank, 64.0))
        }
        Loss::LargeMarginSoftmax => head(
            LargeMarginSoftmax::from_weight(weight, LargeMarginSoftmaxConfig::default())?,
            &labels,
        )?,
        Loss::ArcFace => {
            let config = ArcFaceConfig {
                margin: 28.6f64.to_radians(),
                ..ArcFaceConfig::default()
            };
            head(ArcFace::from_weight(weight, config)?, &labels)?
        }
        Loss::CosFace => head(
            CosFace::from_weight(weight, CosFaceConfig::default())?,
            &labels,
        )?,
        Loss::ProxyAnchor => head(
            ProxyAnchor::from_weight(weight, ProxyAnchorConfig::default())?,
            &labels,
        )?,
        Loss::NormalizedSoftmax => head(
            NormalizedSoftmax::from_weight(weight, NormalizedSoftmaxConfig::default())?,
            &labels,
        )?,
    };
    let run = move || -> Result<_> {
        let start = Instant::now();
        let value = objective(embeddings.as_tensor())?;
        let gradients = value.backward()?;
        let time = start.elapsed();
        if let Some(bare) = variables.iter().find(|var| gradients.get(var).is_none()) {
            let dims = bare.dims();
            return Err(Error::config(format!("loss: no gradient for {dims:?}")));
        }
        Ok((time, f64::from(value.to_scalar::<f32>()?)))
    };
    let (_, value) = run()?;
    Ok(Ready::new(move || Ok(run()?.0)).value("loss", value))
}
