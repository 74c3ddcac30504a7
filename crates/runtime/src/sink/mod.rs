//! Sinks: where an epoch's result goes, exactly once.

pub mod delta;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;

use crate::error::Result;

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

    /// Writes the partitions' rows as epoch `epoch` and publishes them at one instant. When the epoch is there
    /// already, nothing is written (the streams are then not read).
    async fn write(&mut self, epoch: u64, partitions: Vec<SendableRecordBatchStream>) -> Result<Written>;
}
