//! SELECT over a stream: an ordinary stream whose sink is the reader.
//!
//! It has a checkpoint in a scratch directory, since state lives there, and leaves nothing behind.

use std::collections::VecDeque;
use std::time::Duration;

use alluvium_parser::{OutputMode, Query, Trigger};
use alluvium_planner::streaming::plan_stream;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use futures::StreamExt;
use tokio::sync::mpsc;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::query::{PipelineParts, StreamHandle, open};
use crate::session::Session;
use crate::session::outcome::{Live, LiveStop, LiveUpdate, Outcome, Rows};
use crate::session::select::natural_mode;
use crate::sink::{Sink, Touched, Written};

/// How often a live query looks for something new.
const LIVE_INTERVAL: Duration = Duration::from_millis(200);

impl Session {
    /// Shows a stream's results as they come, or, with `now`, what is available at this moment as rows.
    pub(super) async fn select_stream(&self, query: &Query, bound: LogicalPlan, now: bool) -> Result<Outcome> {
        let mode = natural_mode(&bound);
        // A LIMIT bounds what is shown, not what the stream computes.
        let (bound, limit) = without_limit(bound);
        let plan = plan_stream(bound, query, (mode, query.span), &self.state())?;
        let schema = plan.schema.clone();
        let dir = std::env::temp_dir().join(format!("alluvium-live-{}", uuid::Uuid::new_v4()));
        let (sender, updates) = mpsc::channel(4);
        let sink = Box::new(Shown { sender });
        let session = self.state();
        let state_budget = (self.settings().memory_limit / 4) as usize;
        let watermark_policy = self.settings().watermark_policy;
        let at = dir.clone();
        let opening = async move {
            let checkpoint = Checkpoint::open(&at, "a live query")?;
            let name = "a live query".to_string();
            let (replan, late_rows) = (None, None);
            let parts = PipelineParts {
                plan,
                checkpoint,
                sink,
                session,
                state_budget,
                name,
                replan,
                watermark_policy,
                late_rows,
            };
            open(parts).await
        };
        let trigger = if now { Trigger::AvailableNow } else { Trigger::ProcessingTime(LIVE_INTERVAL) };
        let handle = StreamHandle::spawn("a live query", trigger, mode, None, opening);
        let complete = mode == OutputMode::Complete;
        let stop = LiveStop(handle, Some(dir));
        let mut live = Live { schema: schema.clone(), complete, updates, left: limit, stop };
        if !now {
            return Ok(Outcome::Live(live));
        }
        let mut rows: VecDeque<RecordBatch> = VecDeque::new();
        while let Some(update) = live.next().await {
            if complete {
                rows.clear();
            }
            rows.extend(update?.batches);
        }
        Ok(Outcome::Rows(Rows::batches(schema, rows)))
    }
}

/// Takes a LIMIT off the top of a plan that is not an aggregate's.
fn without_limit(plan: LogicalPlan) -> (LogicalPlan, Option<usize>) {
    use datafusion::logical_expr::{FetchType, SkipType};
    if let LogicalPlan::Limit(limit) = &plan
        && natural_mode(&plan) == OutputMode::Append
        && let (Ok(SkipType::Literal(0)), Ok(FetchType::Literal(Some(fetch)))) =
            (limit.get_skip_type(), limit.get_fetch_type())
    {
        return (limit.input.as_ref().clone(), Some(fetch));
    }
    (plan, None)
}

/// A sink that shows: each epoch's rows go to the reader.
struct Shown {
    sender: mpsc::Sender<Result<LiveUpdate>>,
}

#[async_trait]
impl Sink for Shown {
    async fn last_epoch(&mut self) -> Result<Option<u64>> {
        Ok(None)
    }

    /// What is shown keeps the columns it began with.
    fn take_schema(&mut self, _: &SchemaRef, _: bool) -> Result<()> {
        Ok(())
    }

    async fn write(
        &mut self,
        epoch: u64,
        partitions: Vec<SendableRecordBatchStream>,
        _: Touched<'_>,
    ) -> Result<Written> {
        let read = partitions.into_iter().map(|mut stream| async move {
            let mut batches = Vec::new();
            while let Some(batch) = stream.next().await {
                let batch = batch?;
                if batch.num_rows() > 0 {
                    batches.push(batch);
                }
            }
            Ok::<_, Error>(batches)
        });
        let batches: Vec<RecordBatch> = futures::future::try_join_all(read).await?.into_iter().flatten().collect();
        let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        let update = LiveUpdate {
            epoch,
            batches,
            rows_in: 0,
            rows_out: rows,
            rows_in_per_s: 0.0,
            rows_out_per_s: 0.0,
            backlog_files: 0,
        };
        // A reader that has gone stops the stream by dropping it.
        let _ = self.sender.send(Ok(update)).await;
        Ok(Written { rows, ..Written::default() })
    }
}

impl Live {
    /// Fills in what is known of an update's epoch once it is over.
    pub(super) async fn count(&self, update: &mut LiveUpdate) {
        // A run that failed has shown this update all the same, and tells its error next.
        let status = self.stop.0.counted(update.epoch).await.unwrap_or_else(|_| self.stop.0.status());
        let Some(record) = status.last.filter(|record| record.epoch == update.epoch) else { return };
        let seconds = (record.run_ms / 1e3).max(1e-6);
        update.rows_in = record.rows_in;
        update.rows_in_per_s = record.rows_in as f64 / seconds;
        update.rows_out_per_s = update.rows_out as f64 / seconds;
        update.backlog_files = status.backlog.files;
    }
}
