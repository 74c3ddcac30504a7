//! Workloads that measure the `alluvium` program as people run it: a child process, fed with files, watched from
//! outside. Beside each stands plain DataFusion reading the same files once, in the same minutes on the same machine.
//!
//! Nothing here links the engine. What is known about it is the command line, the SQL, and the Delta log on disk; its
//! decoders alone are measured by a program of their crate, which is started like the engine.

pub mod baseline;
pub mod child;
pub mod dataset;
pub mod delta_log;
pub mod engine;
pub mod feeder;
pub mod report;
pub mod rows;
pub mod workloads;

/// A message for whoever runs the benchmark; there is nobody else to handle it.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
