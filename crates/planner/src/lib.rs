//! Names, types, options and streaming rules: from statements to plans.
//!
//! This crate decides what a query means over streams and what is refused. It starts nothing, reads no file,
//! asks no clock and keeps no state: whatever needs input or output is resolved by the caller first.

mod as_typed;
pub mod bind;
#[cfg(test)]
mod bind_tests;
mod casts_apart;
pub mod ddl;
mod errors;
mod event_clauses;
mod explain;
#[cfg(test)]
mod fixtures;
pub mod functions;
mod joins;
mod lateral;
mod names;
pub mod near;
pub mod node;
pub mod options;
mod places;
pub mod plan;
pub mod relation;
mod scope;
mod sessions;
pub mod settings;
pub mod store_options;
pub mod streaming;
mod strict;
mod windows;

pub use names::shown_name;
