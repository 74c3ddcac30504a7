//! One epoch, start to end: choose, intent, run, publish, commit.
//!
//! The order of the steps is the exactly-once protocol. Nothing is read before the intent is durable; the sink
//! publishes in one commit that carries the epoch's number; state, ledger and positions follow in one synced batch.
//! A crash between any two steps is mended by running the same intent again. So is a run that meets columns the plan does
//! not have ([`evolution`]).

mod evolution;

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
use crate::sink::{Sink, Written};
use crate::source::{EpochInput, ReadCounters, Source};
use crate::state::{StagedState, StateTable};
use crate::table;

pub use evolution::{Replan, Replanned};

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
    /// Makes a new plan when columns come; None: they end the stream.
    pub replan: Option<Replan>,
    /// New columns of the sources since the last committed epoch, as `a.b BIGINT`.
    pub new_columns: Vec<String>,
}

/// What one run of an intent left to be committed.
struct Ran {
    counters: Arc<ReadCounters>,
    staged: Vec<StagedState>,
    written: Written,
}

impl Pipeline {
    /// Chooses input within the limits and runs one epoch over it. None: there was nothing new.
    pub async fn step(&mut self, limited: bool) -> Result<Option<EpochRecord>> {
        let begun = Instant::now();
        let inputs = self.choose(limited).await?;
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
        self.checkpoint.write_intent(&intent)?;
        failpoint::reached("after_intent", intent.epoch);
        self.run(intent, true, begun).await.map(Some)
    }

    /// Runs an intent that is durable already: the rest of [`Self::step`], and what recovery does. With `write`
    /// false the sink has the epoch and only state, ledger and positions are missing.
    pub async fn run(&mut self, intent: Intent, write: bool, begun: Instant) -> Result<EpochRecord> {
        let epoch = intent.epoch;
        let planned = begun.elapsed();
        if !write {
            // The rows are in the table; state made without a file that has gone since would contradict them.
            for (_, input) in &intent.inputs {
                if let EpochInput::Files(files) = input {
                    files.require_all();
                }
            }
        }
        let Ran { counters, staged, written } = self.run_until_it_fits(&intent, write).await?;
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
            schema_version: self.schema_version(),
            new_columns: self.new_columns.clone(),
            ..EpochRecord::default()
        };
        let mut ledger = Vec::new();
        let mut positions = Vec::new();
        for (id, input) in &intent.inputs {
            let size = input.size();
            record.files += size.files;
            record.bytes += size.bytes;
            match input {
                EpochInput::Files(files) => ledger.extend(files.ledger_entries(id, epoch, now)),
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
        self.new_columns.clear();
        Ok(record)
    }

    /// What the next epoch would read. A source whose table has more columns now gets a new plan first.
    async fn choose(&mut self, limited: bool) -> Result<Vec<(String, EpochInput)>> {
        'again: loop {
            let mut inputs = Vec::new();
            for at in 0..self.sources.len() {
                let (id, source) = &mut self.sources[at];
                match source.next(limited).await {
                    Ok(Some(input)) => inputs.push((id.clone(), input)),
                    Ok(None) => {}
                    Err(error) if source.outgrown() => {
                        self.take_grown_table(at, error).await?;
                        continue 'again;
                    }
                    Err(error) => return Err(error),
                }
            }
            return Ok(inputs);
        }
    }

    /// Runs an intent once. Nothing of it is kept anywhere but in the sink.
    async fn run_once(&mut self, intent: &Intent, write: bool) -> Result<Ran> {
        let epoch = intent.epoch;
        let counters = Arc::new(ReadCounters::default());
        let mut staged = Vec::new();
        let mut written = Written::default();
        if write || !self.states.is_empty() {
            let extension = Arc::new(StreamExtensionPlanner::new(self.states.clone(), epoch));
            let physical = self.physical(intent, extension.clone(), &counters).await?;
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
        Ok(Ran { counters, staged, written })
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
        let projection = by_name(scan, &provider)?;
        let scan = TableScan { source: provider_as_source(provider), projection, ..scan.clone() };
        Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
    })?;
    Ok(replaced.data)
}

/// The columns a scan wants, in a provider that may have more of them than the plan was made with.
fn by_name(scan: &TableScan, provider: &Arc<dyn TableProvider>) -> datafusion::common::Result<Option<Vec<usize>>> {
    let schema = provider.schema();
    let wanted = scan.projected_schema.fields().iter();
    Ok(Some(wanted.map(|field| schema.index_of(field.name())).collect::<std::result::Result<_, _>>()?))
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
