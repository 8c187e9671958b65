//! Measuring ourselves: operations, training steps and inference, beside Python peers in the same run.
//!
//! [`measure`] runs the cases of a [`Group`] on our side and on any number of peers, each a process
//! that speaks a line [protocol], in turn (A B A B), and gives a [`Report`]: medians with quartiles,
//! peak memory, ratios, their geometric mean. Our side is a process too: any program that hands its
//! standard input and output to [`serve`]. That is all there is to `cargo xtask bench`:
//!
//! ```no_run
//! use phiz_recipes::bench::{self, Group, Options, Party};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! if std::env::args().nth(1).as_deref() == Some("serve") {
//!     bench::serve(std::io::stdin().lock(), std::io::stdout())?;
//!     return Ok(());
//! }
//! let this = std::env::current_exe()?.into_os_string();
//! let ours = Party { name: "ours".into(), command: vec![this, "serve".into()] };
//! let peers = bench::peers(Group::Train, "python3".as_ref(), "fixtures/peers".as_ref());
//! let report = bench::measure(Group::Train, &ours, &peers, &Options::default(), &mut |line| {
//!     println!("{line}");
//! })?;
//! print!("{}", report.table());
//! # Ok(()) }
//! ```
//!
//! What makes the figures comparable:
//!
//! * the same work: the case, in numbers, is sent to all sides; parameter counts and output shapes
//!   are compared before anything is timed, and a difference makes the row an error;
//! * the same machine at the same time: sides alternate in blocks of about 50 ms with a short pause
//!   in between, in which the other side's threads fall asleep, and the first repetition of a block is not counted unless it takes
//!   more than a quarter of a second (a spinning thread of the other side, or a core that slept, costs the first pass after it up to
//!   15 ms); every side gets the same number of
//!   threads; times are taken inside each process, so that no pipe is in them;
//! * memory is `VmHWM`, the most the process ever held. Except for `kernels` every case gets fresh
//!   processes. What a process holds with its libraries loaded, before the case, is stated as well.

pub(crate) mod cases;
mod child;
mod engine;
mod losses;
mod noise;
mod ours;
pub mod protocol;
mod report;
mod shapes;
mod statistics;

use std::ffi::OsStr;
use std::path::Path;

pub use cases::{BenchNetwork, Case, Convolution, Group, Layer, Pass, Work};
pub use child::Party;
pub use engine::{Options, measure};
pub use ours::serve;
pub use report::{Measured, Report, Row, Side};
pub use statistics::{Spread, exponent, geometric_mean, spread};

/// The peers of a group: `python` running `scripts/peer.py`.
pub fn peers(group: Group, python: &OsStr, scripts: &Path) -> Vec<Party> {
    let party = |name: &&str| Party {
        name: (*name).to_string(),
        command: vec![
            python.to_os_string(),
            scripts.join("peer.py").into_os_string(),
            (*name).into(),
        ],
    };
    group.peers().iter().map(party).collect()
}
