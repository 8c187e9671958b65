//! The line protocol between the bench and the programs it measures.
//!
//! A program under measurement reads one JSON object a line on standard input and answers each with
//! one line on standard output:
//!
//! | request | answer |
//! |---|---|
//! | `{"do": "open", "threads": 2, "group": "train"}` | `{"ok": {"version": "PyTorch 2.15.0"}}`, or `{"missing": ["torch"]}`: packages by the names that pip knows |
//! | `{"do": "peak"}` | `{"ok": {"gflops": 330.0}}`; asked of our own side alone |
//! | `{"do": "prepare", "work": {...}}` | `{"ok": {"base_mb": 210.0, "facts": {...}, "values": {...}}}` |
//! | `{"do": "run", "times": 3}` | `{"ok": {"seconds": [0.11, 0.10, 0.10]}}`, timed inside the program |
//! | `{"do": "memory"}` | `{"ok": {"peak_mb": 812.0}}`, the most the process ever held (`VmHWM`) |
//! | `{"do": "drop"}` | `{"ok": {}}` |
//!
//! Any request may be answered `{"error": "one line"}`; the program then goes on. It ends when its
//! standard input does. `facts` (parameter counts, output shapes) have to be equal on all sides, and
//! `values` (a loss, an AUC) equal within a tolerance: a row compares the same work or it is an error.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cases::Work;

/// What the bench asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// Load what the group needs and use this many threads.
    Open {
        /// Threads to compute with.
        threads: usize,
        /// Name of the group.
        group: String,
    },
    /// The most GFLOP/s the machine gives on these threads.
    Peak,
    /// Make everything ready for repetitions of this work, in the place of what was prepared before.
    Prepare {
        /// What to do.
        work: Work,
    },
    /// Do the work this many times and time each.
    Run {
        /// Repetitions.
        times: usize,
    },
    /// Say how much memory the process held at most.
    Memory,
    /// Forget what was prepared.
    Drop,
}

/// What a program answers: exactly one of the three.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// Done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ok: Option<Value>,
    /// Not done, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Not done because these packages are not installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Vec<String>>,
}

/// Answer to [`Request::Open`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    /// What the program measures with, and its version.
    pub version: String,
}

/// Answer to [`Request::Peak`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Peak {
    /// 1e9 floating point operations a second, f32, a fused multiply-add counted as two.
    pub gflops: f64,
}

/// Answer to [`Request::Prepare`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Prepared {
    /// Memory of the process before the work was prepared, libraries loaded, in 1e6 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_mb: Option<f64>,
    /// What has to be equal on all sides.
    #[serde(default)]
    pub facts: BTreeMap<String, Value>,
    /// What has to be equal on all sides within the work's tolerance.
    #[serde(default)]
    pub values: BTreeMap<String, f64>,
}

/// Answer to [`Request::Run`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Timed {
    /// One time for each repetition.
    pub seconds: Vec<f64>,
}

/// Answer to [`Request::Memory`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// The most the process ever held, in 1e6 bytes; none where the system does not say.
    pub peak_mb: Option<f64>,
}
