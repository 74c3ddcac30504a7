//! `GROUP BY session_window(ts, gap)` over a stream.
//!
//! State: key = the grouping columns with the session's bounds, value = DataFusion's partial state of each aggregate, one
//! row for each session that can still grow; and beside it, key = the grouping columns without the session, value = the
//! bounds of the key's sessions in order ([`super::session_merge`]). Both are written for the keys an epoch's rows have
//! and for those whose sessions end; in APPEND a session is forgotten when the watermark reaches its end, which comes out
//! then, once. In COMPLETE nothing is forgotten and every session comes out. The input is the epoch's partial states, each
//! with the session that its rows would make alone, in one partition.

use std::fmt;
use std::sync::{Arc, PoisonError};

use alluvium_parser::OutputMode;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result as DfResult, internal_err};
use datafusion::error::DataFusionError;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use futures::{StreamExt, TryStreamExt};

use super::exec::{Operator, OperatorExec, Rows, Run, Shape};
use super::merge::Aggregates;
use super::plan::StagedCell;
use super::results::evaluated;
use super::session_merge::{SessionMerge, SessionTables, Sessions};
use crate::clock::EpochWatermark;
use crate::state::StateScan;

/// Merges an epoch's sessions into stored ones and gives results; see the module.
pub(super) struct StreamSessions {
    aggregates: Aggregates,
    tables: SessionTables,
    sessions: Sessions,
    mode: OutputMode,
    epoch: u64,
    watermark: EpochWatermark,
    /// Of the sessions, and of the keys' bounds.
    staged: (StagedCell, StagedCell),
}

impl StreamSessions {
    /// Above `partial`, whose key column `session` has the sessions of rows. `schema`: of the output.
    pub(super) fn plan(
        partial: Arc<AggregateExec>,
        tables: SessionTables,
        schema: SchemaRef,
        (mode, session): (OutputMode, usize),
        (epoch, watermark): (u64, EpochWatermark),
        staged: (StagedCell, StagedCell),
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let keys = partial.group_expr().expr().len();
        let aggregates = Aggregates::try_new(partial.aggr_expr().to_vec(), keys)?;
        let state_schema = partial.schema();
        // COMPLETE never lets a session go, so its state need not be in the order of time.
        tables.sessions.bind_timed(&state_schema, keys, Some(session).filter(|_| mode == OutputMode::Append))?;
        let mut fields = Vec::with_capacity(keys);
        for (at, field) in state_schema.fields().iter().take(keys).enumerate() {
            if at != session {
                fields.push(field.as_ref().clone());
            }
        }
        fields.push(Field::new("sessions", DataType::new_list(DataType::Int64, true), true));
        tables.keys.bind(&Schema::new(fields), keys - 1)?;
        let sessions = Sessions { schema: state_schema, keys, at: session };
        let operator = StreamSessions { aggregates, tables, sessions, mode, epoch, watermark, staged };
        Ok(OperatorExec::new(operator, partial, schema, Shape::Concludes(1)))
    }

    /// Reads the input to its end and stages the new state.
    async fn merge(&self, run: &Run) -> DfResult<StateScan> {
        let mut merge = SessionMerge::new(self.aggregates.clone(), self.sessions.clone());
        let reservation = run
            .read_all("StreamSession", |batch| {
                merge.push(&batch)?;
                Ok(merge.bytes())
            })
            .await?;
        let metrics = run.metrics();
        let timer = metrics.elapsed_compute().timer();
        let until_us = match self.mode {
            OutputMode::Append => self.watermark.until_us,
            OutputMode::Complete => None,
            OutputMode::Update => return internal_err!("sessions are not replaced row by row"),
        };
        let merged = merge.finish(&self.tables, self.epoch, until_us)?;
        reservation.try_resize(merged.done.iter().map(RecordBatch::get_array_memory_size).sum())?;
        let results = match self.mode {
            OutputMode::Complete => self.tables.sessions.scan(Some(&merged.sessions))?,
            _ => StateScan::of(merged.done),
        };
        *self.staged.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(merged.sessions);
        *self.staged.1.lock().unwrap_or_else(PoisonError::into_inner) = Some(merged.keys);
        timer.done();
        Ok(results)
    }
}

impl Operator for StreamSessions {
    fn name(&self) -> &'static str {
        "StreamSessionExec"
    }

    fn describe(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "operator={}, mode={:?}", self.tables.sessions.operator(), self.mode)
    }

    fn needs_every_row(&self) -> bool {
        true
    }

    fn run(self: Arc<Self>, run: Run) -> DfResult<Rows> {
        let results = futures::stream::once(async move {
            let scan = self.merge(&run).await?;
            Ok::<_, DataFusionError>(evaluated(self.aggregates.clone(), scan, &run))
        });
        Ok(results.try_flatten().boxed())
    }
}
