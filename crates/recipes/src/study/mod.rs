//! Studies of pre-training: how much data it takes, how clean, how redundant; the reference models; transfer to ORL.
//!
//! Each is a table of `reproduce` with its runs kept in folders, so that the same command goes on where it stopped. The
//! curves of a study stand in `report.html` beside the table. What a study varies it varies alone: every trunk is learned in
//! the same number of steps of the same batch, and judged on the same people.

mod cells;
mod curves;
mod orl;
mod release;
mod settings;

use std::sync::atomic::AtomicBool;

use phiz_train::Observer;

use crate::Result;
use crate::reproduce::{Progressed, Reproduction};

/// Tables that are made here.
pub(crate) const TABLE_NAMES: &[&str] = &[
    "data-size",
    "data-quality",
    "video-redundancy",
    "release-models",
    "orl-transfer",
];

/// Makes one of [`TABLE_NAMES`].
pub(crate) fn reproduce(
    wanted: &Reproduction,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(&str) -> Box<dyn Observer>,
) -> Result<Progressed> {
    match wanted.name.as_str() {
        "release-models" => release::release(wanted, stop, watch),
        "orl-transfer" => orl::transfer(wanted, stop, watch),
        _ => curves::study(wanted, stop, watch),
    }
}
