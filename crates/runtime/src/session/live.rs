//! SELECT over a stream: an ordinary stream whose sink is the reader.
//!
//! It has a checkpoint in a scratch directory, since state lives there, and leaves nothing behind.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

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
use crate::sink::{Sink, Written};

/// How often a live query looks for something new.
const LIVE_INTERVAL: Duration = Duration::from_millis(200);

impl Session {
    /// Shows a stream's results as they come, or, with `now`, what is available at this moment as rows.
    pub(super) async fn select_stream(&self, query: &Query, bound: LogicalPlan, now: bool) -> Result<Outcome> {
        let mode = natural_mode(&bound);
        // A LIMIT bounds what is shown, not what the stream computes.
        let (bound, limit) = without_limit(bound, now);
        let plan = plan_stream(bound, query, (mode, query.span), &self.state())?;
        let schema = plan.schema.clone();
        let dir = std::env::temp_dir().join(format!("alluvium-live-{}", uuid::Uuid::new_v4()));
        let (sender, updates) = mpsc::channel(4);
        let sink = Box::new(Shown { sender, begun: Instant::now() });
        let session = self.state();
        let state_budget = (self.settings().memory_limit / 4) as usize;
        let at = dir.clone();
        let opening = async move {
            let checkpoint = Checkpoint::open(&at, "a live query")?;
            let name = "a live query".to_string();
            open(PipelineParts { plan, checkpoint, sink, session, state_budget, name, replan: None }).await
        };
        let trigger = if now { Trigger::AvailableNow } else { Trigger::ProcessingTime(LIVE_INTERVAL) };
        let handle = StreamHandle::spawn("a live query", trigger, mode, None, opening);
        let complete = mode == OutputMode::Complete;
        let mut live = Live { schema: schema.clone(), complete, updates, stop: LiveStop(handle, Some(dir)) };
        if !now {
            return Ok(Outcome::Live(live));
        }
        let mut rows: VecDeque<RecordBatch> = VecDeque::new();
        let mut left = limit.unwrap_or(usize::MAX);
        while left > 0 {
            let Some(update) = live.next().await else { break };
            let batches = update?.batches;
            if complete {
                rows.clear();
            }
            for batch in batches {
                let batch = if complete { batch } else { batch.slice(0, batch.num_rows().min(left)) };
                left = if complete { left } else { left - batch.num_rows() };
                rows.push_back(batch);
            }
        }
        Ok(Outcome::Rows(Rows::batches(schema, rows)))
    }
}

/// Takes a LIMIT off the top of a plan that is not an aggregate's.
fn without_limit(plan: LogicalPlan, now: bool) -> (LogicalPlan, Option<usize>) {
    use datafusion::logical_expr::{FetchType, SkipType};
    if let LogicalPlan::Limit(limit) = &plan
        && now
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
    begun: Instant,
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

    async fn write(&mut self, epoch: u64, partitions: Vec<SendableRecordBatchStream>) -> Result<Written> {
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
            rows_in_per_s: rows as f64 / self.begun.elapsed().as_secs_f64().max(1e-6),
            backlog_files: 0,
        };
        self.begun = Instant::now();
        // A reader that has gone stops the stream by dropping it.
        let _ = self.sender.send(Ok(update)).await;
        Ok(Written { rows, ..Written::default() })
    }
}

impl Live {
    /// Rows read and files waiting, as of the last finished epoch.
    pub(super) fn numbers(&self) -> (u64, f64, u64) {
        let status = self.stop.0.status();
        let rows_in = status.last.map_or(0, |record| record.rows_in);
        (rows_in, status.rows_per_s, status.backlog.files)
    }
}
