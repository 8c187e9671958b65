//! The loop on a small network: it learns, repeats bit for bit, survives interruption, and stops when it should.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are not recognised as tests"
)]

mod learning;
mod resume;
mod support;
