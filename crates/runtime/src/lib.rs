//! The engine: sources, stateful operators, state, sinks, checkpoints, epochs, and the session that users talk to.
//!
//! Rooms, lower may not use higher: `session` › `query` › `epoch` › `source` `sink` `operator` `checkpoint`
//! `catalog` › `table` `state` › `error` `clock` `metrics` `failpoint`. This crate knows nothing of terminals and flags.

pub mod catalog;
pub mod checkpoint;
pub mod clock;
pub mod epoch;
pub mod error;
pub mod failpoint;
pub mod metrics;
pub mod operator;
pub mod query;
pub mod session;
pub mod sink;
pub mod source;
pub mod state;
pub mod table;

pub use arrow;
pub use error::{Error, Result};
pub use session::{Live, LiveUpdate, Outcome, Rows, Session, SessionOptions};
