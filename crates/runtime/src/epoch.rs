//! One epoch, start to end: choose, intent, run, publish, commit.
//!
//! The order of the steps is the exactly-once protocol. Nothing is read before the intent is durable; the sink
//! publishes in one commit that carries the epoch's number; state, ledger and positions follow in one synced batch.
//! A crash between any two steps is mended by running the same intent again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use alluvium_planner::plan::StreamingPlan;
use alluvium_planner::relation::{SourceSpec, StaticReference, StaticRelation, StreamRelation};
use alluvium_planner::streaming::with_epoch_timestamp;
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::Transformed;
use datafusion::datasource::{DefaultTableSource, empty::EmptyTable, provider_as_source};
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::{LogicalPlan, TableScan};
use datafusion::physical_plan::{ExecutionPlan, execute_stream_partitioned};
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use futures::StreamExt;

use crate::checkpoint::{Checkpoint, EpochCommit, Intent};
use crate::clock::now_ms;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::metrics::EpochRecord;
use crate::operator::StreamExtensionPlanner;
use crate::sink::Sink;
use crate::source::{EpochInput, ReadCounters, Source};
use crate::state::StateTable;
use crate::table;

/// Everything a stream needs to run epochs; owned by one task.
pub struct Pipeline {
    /// What each epoch computes.
    pub plan: StreamingPlan,
    /// Sources in the plan's order, with the id their positions and files are stored under.
    pub sources: Vec<(String, Box<dyn Source>)>,
    /// Where results go.
    pub sink: Box<dyn Sink>,
    /// Durable memory.
    pub checkpoint: Checkpoint,
    /// State of the plan's stateful operators, by operator number.
    pub states: Vec<Arc<StateTable>>,
    /// Functions, configuration, memory pool.
    pub session: Arc<SessionState>,
    /// Number of the next epoch.
    pub next_epoch: u64,
    /// Static Delta tables by location, at the version last used.
    pub statics: HashMap<String, (u64, Arc<dyn TableProvider>)>,
}

impl Pipeline {
    /// Chooses input within the limits and runs one epoch over it. None: there was nothing new.
    pub async fn step(&mut self, limited: bool) -> Result<Option<EpochRecord>> {
        let begun = Instant::now();
        let intent = loop {
            let alterations = self.checkpoint.ledger().alterations();
            let mut inputs = Vec::new();
            for (id, source) in &mut self.sources {
                if let Some(input) = source.next(limited).await? {
                    inputs.push((id.clone(), input));
                }
            }
            if inputs.is_empty() {
                return Ok(None);
            }
            failpoint::reached("after_choose", self.next_epoch);
            let intent = Intent {
                epoch: self.next_epoch,
                timestamp_ms: now_ms(),
                inputs,
                fingerprint: self.plan.fingerprint.clone(),
            };
            // A statement that keeps a file out in this moment is heeded.
            if self.checkpoint.begin(&intent, alterations)? {
                break intent;
            }
        };
        failpoint::reached("after_intent", intent.epoch);
        self.run(intent, true, begun).await.map(Some)
    }

    /// Runs an intent that is durable already: the rest of [`Self::step`], and what recovery does. With `write`
    /// false the sink has the epoch and only state, ledger and positions are missing.
    pub async fn run(&mut self, intent: Intent, write: bool, begun: Instant) -> Result<EpochRecord> {
        let epoch = intent.epoch;
        let planned = begun.elapsed();
        let counters = Arc::new(ReadCounters::default());
        let mut staged = Vec::new();
        let mut written = crate::sink::Written::default();
        if !write {
            // The rows are in the table; state made without a file that has gone since would contradict them.
            for (_, input) in &intent.inputs {
                if let EpochInput::Files(files) = input {
                    files.require_all();
                }
            }
        }
        if write || !self.states.is_empty() {
            let extension = Arc::new(StreamExtensionPlanner::new(self.states.clone(), epoch));
            let physical = self.physical(&intent, extension.clone(), &counters).await?;
            let partitions = execute_stream_partitioned(physical, self.session.task_ctx())?;
            if write {
                let partitions = partitions.into_iter().map(|stream| watched(stream, epoch)).collect();
                written = self.sink.write(epoch, partitions).await?;
            } else {
                drain(partitions).await?;
            }
            staged = extension.staged()?;
        }
        if !write {
            // Writes nothing: it tells what the epoch wrote before the crash.
            written = self.sink.write(epoch, Vec::new()).await?;
        }
        let ran = begun.elapsed();
        failpoint::reached("before_commit", epoch);
        let now = now_ms();
        let mut record = EpochRecord {
            epoch,
            started_ms: intent.timestamp_ms,
            plan_ms: millis(planned),
            run_ms: (millis(ran - planned) - written.publish_us as f64 / 1e3).max(0.0),
            publish_ms: written.publish_us as f64 / 1e3,
            rows_in: counters.rows.load(Ordering::Relaxed),
            rows_out: written.rows,
            rows_rescued: counters.rescued.load(Ordering::Relaxed),
            records_corrupt: counters.corrupt.load(Ordering::Relaxed),
            table_version: written.version,
            ..EpochRecord::default()
        };
        let mut ledger = Vec::new();
        let mut positions = Vec::new();
        for (id, input) in &intent.inputs {
            let size = input.size();
            record.files += size.files;
            record.bytes += size.bytes;
            match input {
                EpochInput::Files(files) => ledger.extend(files.ledger_entries(id, epoch, intent.timestamp_ms, now)),
                EpochInput::Table(table) => positions.push((id.clone(), table.position())),
            }
        }
        self.checkpoint.commit(EpochCommit {
            record: record.clone(),
            inputs: intent.inputs.clone(),
            ledger,
            positions,
            state: staged,
        })?;
        failpoint::reached("after_commit", epoch);
        for (id, input) in &intent.inputs {
            if let Some((_, source)) = self.sources.iter_mut().find(|(at, _)| at == id) {
                source.committed(input).await?;
            }
        }
        self.next_epoch = epoch + 1;
        Ok(record)
    }

    /// The epoch's physical plan: streams bound to the intent's inputs, tables to their latest version.
    async fn physical(
        &mut self,
        intent: &Intent,
        extension: Arc<StreamExtensionPlanner>,
        counters: &Arc<ReadCounters>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut bound: Vec<(Arc<SourceSpec>, Arc<dyn TableProvider>)> = Vec::new();
        for (spec, (id, source)) in self.plan.sources.iter().zip(&self.sources) {
            let provider: Arc<dyn TableProvider> = match intent.inputs.iter().find(|(at, _)| at == id) {
                Some((_, input)) => source.provider(input, counters.clone()).await?,
                None => Arc::new(EmptyTable::new(spec.schema.clone())),
            };
            bound.push((spec.clone(), provider));
        }
        let statics = self.latest_statics().await?;
        let plan = rebind(self.plan.plan.clone(), &bound, &statics)?;
        let plan = with_epoch_timestamp(plan, intent.timestamp_ms)?;
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![extension]);
        Ok(planner.create_physical_plan(&plan, self.session.as_ref()).await?)
    }

    /// Static Delta tables of the plan at their latest version; reopened only when the log has grown.
    async fn latest_statics(&mut self) -> Result<HashMap<String, Arc<dyn TableProvider>>> {
        let mut latest = HashMap::new();
        for location in static_locations(&self.plan.plan)? {
            let path = table::table_path(&location)?;
            let provider = match self.statics.get(&location) {
                Some((version, provider)) if !table::has_version(&path, version + 1) => provider.clone(),
                _ => {
                    let version = table::latest_version(&path).await?;
                    let provider = table::provider(&path, Some(version)).await?;
                    self.statics.insert(location.clone(), (version, provider.clone()));
                    provider
                }
            };
            latest.insert(location, provider);
        }
        Ok(latest)
    }
}

fn millis(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The relation a scan stands for.
fn relation<T: TableProvider + 'static>(scan: &TableScan) -> Option<&T> {
    let source: &dyn datafusion::logical_expr::TableSource = scan.source.as_ref();
    let default = source.downcast_ref::<DefaultTableSource>()?;
    default.table_provider.downcast_ref::<T>()
}

fn static_locations(plan: &LogicalPlan) -> Result<Vec<String>> {
    let mut locations = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(StaticRelation { reference: StaticReference::Delta { location }, .. }) = relation(scan)
            && !locations.contains(location)
        {
            locations.push(location.clone());
        }
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
    })?;
    Ok(locations)
}

/// Puts the epoch's providers in place of the relations a plan was made with.
fn rebind(
    plan: LogicalPlan,
    streams: &[(Arc<SourceSpec>, Arc<dyn TableProvider>)],
    statics: &HashMap<String, Arc<dyn TableProvider>>,
) -> Result<LogicalPlan> {
    let replaced = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::TableScan(scan) = &node else { return Ok(Transformed::no(node)) };
        let provider = if let Some(StreamRelation { spec }) = relation(scan) {
            let found = streams.iter().find(|(at, _)| Arc::ptr_eq(at, spec));
            let Some((_, provider)) = found else {
                return Err(Error::internal(format!("{} has no source", spec.title)).into());
            };
            provider.clone()
        } else if let Some(StaticRelation { reference: StaticReference::Delta { location }, .. }) = relation(scan)
            && let Some(provider) = statics.get(location)
        {
            provider.clone()
        } else {
            return Ok(Transformed::no(node));
        };
        let scan = TableScan { source: provider_as_source(provider), ..scan.clone() };
        Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
    })?;
    Ok(replaced.data)
}

/// Passes batches through and tells the crash tests that the run is under way.
fn watched(stream: SendableRecordBatchStream, epoch: u64) -> SendableRecordBatchStream {
    let schema = stream.schema();
    let inner = stream.inspect(move |_| failpoint::reached("mid_run", epoch));
    Box::pin(datafusion::physical_plan::stream::RecordBatchStreamAdapter::new(schema, inner))
}

async fn drain(partitions: Vec<SendableRecordBatchStream>) -> Result<()> {
    let run = partitions.into_iter().map(|mut stream| async move {
        while let Some(batch) = stream.next().await {
            batch?;
        }
        Ok::<(), Error>(())
    });
    futures::future::try_join_all(run).await?;
    Ok(())
}
