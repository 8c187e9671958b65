//! Pre-training runs that are kept: found complete they are not made again, begun they go on.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use phiz_train::Observer;

use super::{self as pretrain, PretrainConfig, PretrainRun};
use crate::Result;
use crate::reproduce::{Reproduction, Start, settled};

/// The run of `config` in `folder`, trained, resumed or found complete; `None` when interrupted.
///
/// # Errors
/// When the folder holds another run, or training fails.
pub(crate) fn pretrained(
    config: &PretrainConfig,
    folder: &Path,
    label: &str,
    wanted: &Reproduction,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(&str) -> Box<dyn Observer>,
) -> Result<Option<PretrainRun>> {
    let same = |known: &Path| {
        let before = PretrainConfig::from_file(known, config)?;
        Ok(before.fingerprint() == config.fingerprint())
    };
    settled(folder, same, PretrainRun::open, |start| {
        let (mut observer, device) = (watch(label), &wanted.device);
        match start {
            Start::Begin => pretrain::train(config, folder, device, stop, observer.as_mut()),
            Start::GoOn => pretrain::resume(folder, device, stop, observer.as_mut()),
        }
    })
}
