//! Where results differ from other programs, and why.
//!
#![doc = include_str!("../DEVIATIONS.md")]
