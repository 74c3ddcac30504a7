//! What a statement gives back.

use std::collections::VecDeque;
use std::sync::Arc;

use alluvium_parser::{Diagnostic, Span};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use tokio::sync::mpsc;

use crate::error::{Error, Result};

/// The result of one statement.
pub enum Outcome {
    /// Rows.
    Rows(Rows),
    /// Done; what to say about it, possibly nothing.
    Done(String),
    /// Rows that keep coming until it is dropped.
    Live(Live),
}

/// Rows of a finished or running static query.
pub struct Rows {
    schema: SchemaRef,
    source: RowSource,
    /// The statement they are of.
    span: Span,
}

enum RowSource {
    Stream(SendableRecordBatchStream),
    Batches(VecDeque<RecordBatch>),
}

impl Rows {
    /// Rows as they are computed.
    pub fn stream(stream: SendableRecordBatchStream) -> Self {
        Rows { schema: shown(&stream.schema()), source: RowSource::Stream(stream), span: Span::UNKNOWN }
    }

    /// Rows that are there.
    pub fn batch(batch: RecordBatch) -> Self {
        Rows { schema: batch.schema(), source: RowSource::Batches(VecDeque::from([batch])), span: Span::UNKNOWN }
    }

    /// Several batches that are there.
    pub fn batches(schema: SchemaRef, batches: VecDeque<RecordBatch>) -> Self {
        Rows { schema, source: RowSource::Batches(batches), span: Span::UNKNOWN }
    }

    /// The same rows, with the place to which errors of computing them belong.
    pub(super) fn of(self, span: Span) -> Self {
        Rows { span, ..self }
    }

    /// Columns.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// The next rows; None at the end.
    pub async fn next(&mut self) -> Option<Result<RecordBatch>> {
        match &mut self.source {
            RowSource::Stream(stream) => {
                let batch = match stream.next().await? {
                    Ok(batch) => batch,
                    Err(error) => return Some(Err(Error::from(error).at_least(self.span))),
                };
                Some(if self.schema == batch.schema() { Ok(batch) } else { renamed(&batch, self.schema.clone()) })
            }
            RowSource::Batches(batches) => batches.pop_front().map(Ok),
        }
    }

    /// All rows.
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await {
            batches.push(batch?);
        }
        Ok(batches)
    }
}

/// Columns under the names they are shown with: a repeated one without what tells it apart while it is computed.
fn shown(schema: &SchemaRef) -> SchemaRef {
    use alluvium_planner::shown_name;
    if schema.fields().iter().all(|field| shown_name(field.name()) == field.name()) {
        return schema.clone();
    }
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_name(shown_name(field.name())));
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}

/// The batch under those names.
fn renamed(batch: &RecordBatch, schema: SchemaRef) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema, batch.columns().to_vec(), &options)?)
}

/// A `SELECT` over a stream. Dropping it stops the stream; it has no table and leaves nothing behind.
pub struct Live {
    pub(super) schema: SchemaRef,
    pub(super) complete: bool,
    pub(super) updates: mpsc::Receiver<Result<LiveUpdate>>,
    /// Rows that may still be shown, where the query has a LIMIT.
    pub(super) left: Option<usize>,
    pub(super) stop: LiveStop,
}

/// Stops a live query when dropped.
pub(super) struct LiveStop(
    pub(super) std::sync::Arc<crate::query::StreamHandle>,
    pub(super) Option<std::path::PathBuf>,
);

impl Drop for LiveStop {
    fn drop(&mut self) {
        self.0.request_stop();
        let (handle, dir) = (self.0.clone(), self.1.take());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                handle.stop().await;
                if let Some(dir) = dir {
                    // Scratch space: what cannot be removed is only litter.
                    let _ = std::fs::remove_dir_all(dir);
                }
            });
        }
    }
}

/// One epoch of a live query.
#[derive(Debug, Clone)]
pub struct LiveUpdate {
    /// Its number.
    pub epoch: u64,
    /// Complete: the whole result. Otherwise the new rows.
    pub batches: Vec<RecordBatch>,
    /// Rows read.
    pub rows_in: u64,
    /// Rows in `batches`.
    pub rows_out: u64,
    /// Rows read per second in this epoch.
    pub rows_in_per_s: f64,
    /// Rows of `batches` per second in this epoch.
    pub rows_out_per_s: f64,
    /// Files that wait.
    pub backlog_files: u64,
}

impl Live {
    /// Columns.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Whether each update is the whole result (an aggregate) or new rows only.
    pub fn complete(&self) -> bool {
        self.complete
    }

    /// The next update; None when the stream has ended.
    pub async fn next(&mut self) -> Option<Result<LiveUpdate>> {
        if self.left == Some(0) {
            return None;
        }
        let update = self.updates.recv().await;
        if update.is_none()
            && let crate::query::StreamState::Failed(error) = self.stop.0.ended_state().await
        {
            return Some(Err(error));
        }
        let Some(Ok(mut update)) = update else { return update };
        self.count(&mut update).await;
        if let Some(left) = &mut self.left {
            *left -= cut(&mut update.batches, *left);
        }
        Some(Ok(update))
    }
}

/// Leaves the first `limit` rows; how many rows there are then.
fn cut(batches: &mut Vec<RecordBatch>, limit: usize) -> usize {
    let mut rows = 0;
    for batch in batches.iter_mut() {
        *batch = batch.slice(0, batch.num_rows().min(limit - rows));
        rows += batch.num_rows();
    }
    batches.retain(|batch| batch.num_rows() > 0);
    rows
}

/// Something to tell the user outside of any result.
#[derive(Debug, Clone)]
pub enum Notice {
    /// Worth knowing.
    Info(String),
    /// Worth acting on.
    Warning(String),
    /// A background stream failed.
    StreamFailed {
        /// Its name.
        stream: String,
        /// Why.
        diagnostic: Diagnostic,
    },
    /// A stream finished an epoch.
    Progress {
        /// Its name.
        stream: String,
        /// The epoch.
        epoch: u64,
        /// Rows read in it.
        rows_in: u64,
        /// Rows written in it.
        rows_out: u64,
        /// Files that wait.
        backlog_files: u64,
    },
}

/// Names the REPL completes.
#[derive(Debug, Clone, Default)]
pub struct Completions {
    /// Tables and views.
    pub tables: Vec<String>,
    /// Their columns.
    pub columns: Vec<String>,
    /// Functions.
    pub functions: Vec<String>,
    /// Options of relations of files.
    pub options: Vec<String>,
}
