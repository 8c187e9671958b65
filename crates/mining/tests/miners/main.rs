//! Miners against their definitions, under any relation, on hostile input.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod definitions;
mod edges;
mod settings;
