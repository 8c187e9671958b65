//! The names of pytorch-metric-learning and what stands for them here.
//!
#![doc = include_str!("../MIGRATION.md")]
