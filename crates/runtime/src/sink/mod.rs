//! Sinks: where an epoch's result goes, exactly once.

pub mod delta;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;

use crate::checkpoint::SinkValue;
use crate::error::Result;
use crate::state::StagedState;

/// The key columns of the groups that an epoch touched, a row each, once its streams were read to their end, and the event
/// time (microseconds since 1970 UTC) up to which no group will be touched again; None where that is not known. Groups that
/// have no row in the streams have none any more.
pub type Touched<'a> = &'a (dyn Fn() -> Option<(RecordBatch, Option<i64>)> + Sync);

/// What a sink remembers of an epoch: becomes true with the epoch's commit in the checkpoint.
#[derive(Default)]
pub struct SinkCommit {
    /// Keyed state.
    pub state: Option<StagedState>,
    /// Values by name.
    pub values: Vec<SinkValue>,
}

/// What an epoch wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Rows.
    pub rows: u64,
    /// Version of the table's commit; None where there is none.
    pub version: Option<u64>,
    /// Microseconds spent on the commit itself, behind the data files.
    pub publish_us: u64,
    /// The epoch was there already; nothing was written and the streams were not read, or not for use.
    pub existed: bool,
}

/// Takes an epoch's result. Writing one epoch twice equals writing it once.
#[async_trait]
pub trait Sink: Send {
    /// The last epoch of this query that the sink holds; None for none.
    async fn last_epoch(&mut self) -> Result<Option<u64>>;

    /// From the next epoch on rows have these columns; those that the target lacks come into it with that epoch. With
    /// `widens` its columns get the wider types that rows have, before that epoch; else values are cast to what it has.
    fn take_schema(&mut self, schema: &SchemaRef, widens: bool) -> Result<()>;

    /// Whether the rows of an epoch are those of groups that changed, in COMPLETE mode too.
    fn takes_changes(&self) -> bool {
        false
    }

    /// Writes the partitions' rows as epoch `epoch` and publishes them at one instant. When the epoch is there
    /// already, nothing is written (the streams are then not read).
    async fn write(
        &mut self,
        epoch: u64,
        partitions: Vec<SendableRecordBatchStream>,
        touched: Touched<'_>,
    ) -> Result<Written>;

    /// What is to be committed with the epoch that was written last, or found to be there.
    fn take_commit(&mut self) -> SinkCommit {
        SinkCommit::default()
    }
}
