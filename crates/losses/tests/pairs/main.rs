//! The pair and triplet losses against their judges, and what all of them promise.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod golden;
mod input;
mod properties;
