//! What this crate uses of the engine, in one place.
//!
//! No other file names `alluvium_runtime`, so that a change of its surface is met here and nowhere else.

pub use alluvium_runtime::arrow;
pub use alluvium_runtime::session::{Completions, Live, LiveUpdate, Notice, Outcome, Rows, Session, SessionOptions};
pub use alluvium_runtime::{Error, Result};
