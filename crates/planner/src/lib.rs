//! Names, types, options and streaming rules: from statements to plans.
//!
//! This crate decides what a query means over streams and what is refused. It starts nothing, reads no file,
//! asks no clock and keeps no state: whatever needs input or output is resolved by the caller first.

pub mod node;
pub mod options;
pub mod relation;
pub mod plan;
