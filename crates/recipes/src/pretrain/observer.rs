//! Passes what happens on, and speaks up when a run collapses.

use std::path::Path;

use phiz_pretrain::CollapseWatch;
use phiz_train::{Observer, Progress};

/// An observer around another that gives alarms as messages.
pub(super) struct Alarming<'a> {
    inner: &'a mut dyn Observer,
    watch: CollapseWatch,
}

impl<'a> Alarming<'a> {
    pub fn new(inner: &'a mut dyn Observer, watch: CollapseWatch) -> Self {
        Self { inner, watch }
    }
}

impl Observer for Alarming<'_> {
    fn step(&mut self, progress: &Progress<'_>) {
        let alarms = self
            .watch
            .see(progress.step, progress.loss, progress.metrics);
        for alarm in alarms {
            self.inner.message(&format!("alarm: {alarm}"));
        }
        self.inner.step(progress);
    }

    fn message(&mut self, text: &str) {
        self.inner.message(text);
    }

    fn checkpoint(&mut self, step: u64, path: &Path) {
        self.inner.checkpoint(step, path);
    }
}
