//! Streaming sources: what there is to read, and reading exactly that.

mod again;
pub mod files;
pub mod table;

pub use again::Again;

use std::sync::Arc;

use alluvium_planner::relation::SourceSpec;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Exactly what one epoch reads of one source. Stored in the intent: reading it again gives the same rows in the
/// same order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EpochInput {
    /// Whole files, in this order.
    Files(files::FilesInput),
    /// File actions of a Delta table, from one position up to another.
    Table(table::TableInput),
}

/// What waits to be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Rows and bytes a bound epoch input has read so far; filled while it runs.
#[derive(Debug, Default)]
pub struct ReadCounters {
    /// Rows given to the plan.
    pub rows: std::sync::atomic::AtomicU64,
    /// Rows with rescued data.
    pub rescued: std::sync::atomic::AtomicU64,
    /// Records that could not be parsed.
    pub corrupt: std::sync::atomic::AtomicU64,
    /// Files that could not be read, or not to their end, and were left out.
    pub corrupt_files: std::sync::atomic::AtomicU64,
}

/// A streaming source of one query.
///
/// The caller asks `next` for an input, makes it durable as part of an intent, runs `provider`, and calls
/// `committed` once the epoch is durable. Between `next` and `committed` the source does not move: asking again
/// gives an input that starts at the same place. After a restart, `open` continues behind what was committed.
#[async_trait]
pub trait Source: Send + Sync {
    /// What the next epoch would read within the source's limits; `limited` false ignores them (TRIGGER ONCE).
    /// None: nothing new. Looks at the world (listing, log) each time unless `freeze` was called.
    async fn next(&mut self, limited: bool) -> Result<Option<EpochInput>>;

    /// From now on `next` gives only what was there at this moment (AVAILABLE NOW, ONCE).
    async fn freeze(&mut self) -> Result<()>;

    /// Undoes `freeze`.
    fn unfreeze(&mut self);

    /// A table whose one scan gives the rows of `input`, in the schema of the source's spec.
    async fn provider(&self, input: &EpochInput, counters: Arc<ReadCounters>) -> Result<Arc<dyn TableProvider>>;

    /// The epoch that read `input` is durable.
    async fn committed(&mut self, input: &EpochInput) -> Result<()>;

    /// Finishes what was put off, as far as it is due: called when a run ends, and after long work at any time.
    async fn tidy(&mut self) -> Result<()> {
        Ok(())
    }

    /// Returns when there may be something new: at once on an event, else after the source's polling period.
    /// Cancel-safe.
    async fn changed(&mut self);

    /// What waits, as of the last look.
    fn backlog(&self) -> Backlog;

    /// What DESCRIBE STREAM tells of this run beside that: (name, text).
    fn facts(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// A run of `input` failed: whether because it met fields that the source has no columns for.
    async fn drift(&mut self, _input: &EpochInput) -> Result<Drift> {
        Ok(Drift::None)
    }

    /// Whether `next` failed only because what comes next has columns that the source's spec lacks: after the query was
    /// planned again and `rebase` it goes on.
    fn outgrown(&self) -> bool {
        false
    }

    /// The query was planned again: from now on rows are given as `spec` says, which reads the same.
    async fn rebase(&mut self, spec: &Arc<SourceSpec>) -> Result<()>;
}

/// Why a run failed, as its source sees it.
#[derive(Debug)]
pub enum Drift {
    /// For a reason that is not the source's columns.
    None,
    /// Nothing can be learnt from the fields that were met; the same input is let through when it runs again.
    Passed,
    /// With these columns the same input fits.
    Columns(Box<files::NewColumns>),
    /// Files of the input were written again; this is the input as it is now, without files that keep being written.
    Changed(EpochInput),
}

impl EpochInput {
    /// Whether `other` reads the same files, in whatever versions, or some of them, or the same of a table.
    pub fn covers(&self, other: &EpochInput) -> bool {
        match (self, other) {
            (EpochInput::Files(one), EpochInput::Files(other)) => one.covers(other),
            (one, other) => one == other,
        }
    }

    /// Files and bytes.
    pub fn size(&self) -> Backlog {
        match self {
            EpochInput::Files(files) => files.size(),
            EpochInput::Table(table) => table.size(),
        }
    }
}
