//! The table that keeps a stream's late rows.
//!
//! Its commit carries the stream's id and the epoch's number, as that of the stream's own table does, and comes between
//! that one and the checkpoint's. So an epoch that is run again, by whatever crash, appends its late rows once.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

use crate::error::Result;
use crate::failpoint;
use crate::operator::KeptRows;
use crate::sink::Sink;

/// See the module.
pub struct LateTable {
    /// The stream's name, which is in each row.
    pub stream: String,
    /// The table.
    pub sink: Box<dyn Sink>,
}

impl LateTable {
    /// Columns of the table: the stream, the epoch and its time, the row's event time (of a window its end) and its
    /// columns as JSON.
    pub fn schema() -> SchemaRef {
        let time = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        Arc::new(Schema::new(vec![
            Field::new("stream", DataType::Utf8, true),
            Field::new("epoch", DataType::Int64, true),
            Field::new("processing_time", time(), true),
            Field::new("event_time", time(), true),
            Field::new("row", DataType::Utf8, true),
        ]))
    }

    /// Appends an epoch's late rows, unless the table has them.
    pub(super) async fn write(&mut self, epoch: u64, timestamp_ms: i64, kept: Vec<KeptRows>) -> Result<()> {
        if kept.is_empty() {
            return Ok(());
        }
        failpoint::reached("before_late_rows", epoch);
        let schema = LateTable::schema();
        let mut batches = Vec::with_capacity(kept.len());
        for rows in &kept {
            batches.push(self.batch(&schema, epoch, timestamp_ms, rows));
        }
        let rows = futures::stream::iter(batches);
        self.sink.write(epoch, vec![Box::pin(RecordBatchStreamAdapter::new(schema, rows))], &|| None).await?;
        failpoint::reached("after_late_rows", epoch);
        Ok(())
    }

    fn batch(
        &self,
        schema: &SchemaRef,
        epoch: u64,
        timestamp_ms: i64,
        kept: &KeptRows,
    ) -> datafusion::common::Result<RecordBatch> {
        let rows = kept.rows.len();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&self.stream, rows))),
            Arc::new(Int64Array::from_value(epoch as i64, rows)),
            Arc::new(TimestampMicrosecondArray::from_value(timestamp_ms * 1000, rows).with_timezone("UTC")),
            Arc::new(kept.times.clone().with_timezone("UTC")),
            kept.rows.clone(),
        ];
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    }
}
