//! What a run tells the one who watches it.

use std::path::Path;
use std::time::Duration;

/// The state of a run after a step.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Steps done, this one included.
    pub step: u64,
    /// Steps of the whole run.
    pub total: u64,
    /// Epoch of this step, from 0, when [`FitConfig::steps_per_epoch`](crate::FitConfig::steps_per_epoch) is set.
    pub epoch: Option<u64>,
    /// Loss of this step.
    pub loss: f64,
    /// Learning rate of this step.
    pub lr: f64,
    /// Global norm of the gradients, before clipping.
    pub grad_norm: f64,
    /// Samples a second over the last steps.
    pub images_per_s: f64,
    /// Time left at the present pace.
    pub eta: Duration,
    /// The step's own metrics.
    pub metrics: &'a [(String, f64)],
}

/// Watches a run: a progress bar, plain lines, nothing. Every method does nothing unless overridden.
pub trait Observer {
    /// After every step.
    fn step(&mut self, progress: &Progress<'_>) {
        let _ = progress;
    }

    /// Something a person should know, one line.
    fn message(&mut self, text: &str) {
        let _ = text;
    }

    /// After a checkpoint is safely on the disk.
    fn checkpoint(&mut self, step: u64, path: &Path) {
        let _ = (step, path);
    }
}

/// Watches nothing.
impl Observer for () {}
