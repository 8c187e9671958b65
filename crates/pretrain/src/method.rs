//! What all methods of pre-training have in common.

use candle::{DType, Result, Tensor};

use crate::views::{Trunk, Views};

/// Where in a run a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Number of the step, from 0.
    pub step: u64,
    /// Steps of the whole run.
    pub total: u64,
}

/// What a step gives.
#[derive(Debug, Clone)]
pub struct StepReport {
    /// The scalar to minimise.
    pub loss: Tensor,
    /// Numbers for the log, among them those that [`CollapseWatch`](crate::CollapseWatch) reads.
    pub metrics: Vec<(String, f64)>,
}

/// A way to learn without labels.
pub trait Method {
    /// The loss of one batch. Steps have to come in order, each once: queues and slow copies move on with them. What
    /// moves is part of the parameters, so a run may stop and go on between any two.
    ///
    /// # Errors
    /// When the views are not what the method needs, or a tensor operation fails.
    fn step(&self, trunk: &dyn Trunk, views: &Views, moment: Moment) -> Result<StepReport>;
}

pub(crate) fn scalar(value: &Tensor) -> Result<f64> {
    value.detach().to_dtype(DType::F64)?.to_scalar::<f64>()
}
