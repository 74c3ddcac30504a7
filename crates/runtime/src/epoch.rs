//! One epoch, start to end: choose, intent, run, publish, commit.
//!
//! The order of the steps is the exactly-once protocol. No row counts before the intent is durable; the sink
//! publishes in one commit that carries the epoch's number; state, ledger and positions follow in one synced batch.
//! A crash between any two steps is mended by running the same intent again. So is a run that meets columns the plan does
//! not have (`evolution.rs`), and one whose files were written again: those it names as they are then first.

mod evolution;
mod late_rows;
mod statics;
#[cfg(test)]
mod tests;
mod watermark;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use alluvium_planner::plan::StreamingPlan;
use alluvium_planner::relation::{SourceSpec, StaticReference, StaticRelation, StreamRelation};
use alluvium_planner::streaming::with_epoch_timestamp;
use datafusion::catalog::TableProvider;
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::Transformed;
use datafusion::datasource::{DefaultTableSource, empty::EmptyTable, provider_as_source};
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};
use datafusion::physical_plan::{ExecutionPlan, execute_stream_partitioned};
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use futures::StreamExt;

use crate::checkpoint::{Checkpoint, EpochCommit, Intent, SinkValue};
use crate::clock::now_ms;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::metrics::{EpochRecord, TableRange};
use crate::operator::{KeptRows, Results, StreamExtensionPlanner, results_of, rows_let_through};
use crate::sink::{Sink, SinkCommit, Written};
use crate::source::{EpochInput, ReadCounters, Source};
use crate::state::{StagedJoin, StagedState, StateTable};
use crate::table;

pub use evolution::{Replan, Replanned, widens};
pub use late_rows::LateTable;
use statics::OlderTable;
use watermark::Heard;
pub use watermark::Watermarks;

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
    /// Static Delta tables by location, as last used.
    pub statics: HashMap<String, StaticTable>,
    /// Makes a new plan when columns come; None: they end the stream.
    pub replan: Option<Replan>,
    /// New columns of the sources since the last committed epoch, as `a.b BIGINT`.
    pub new_columns: Vec<String>,
    /// How far event time has come.
    pub watermarks: Watermarks,
    /// Where late rows go; None: they are only counted.
    pub late_rows: Option<LateTable>,
}

/// What one run of an intent left to be committed.
struct Ran {
    counters: Arc<ReadCounters>,
    staged: Vec<StagedState>,
    joins: Vec<StagedJoin>,
    /// What the sink keeps by name.
    sink: Vec<SinkValue>,
    written: Written,
    /// Greatest event times of the input, by the watermark's number.
    event_times: BTreeMap<u32, i64>,
    /// Rows that came too late.
    late: u64,
    /// Those of them that are kept.
    kept: Vec<KeptRows>,
    /// Rows too far ahead of the clock.
    future: u64,
}

/// A table that is joined, at a version.
pub struct StaticTable {
    identity: Option<table::Identity>,
    version: u64,
    provider: Arc<dyn TableProvider>,
}

/// How an epoch is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    /// For the first time.
    First,
    /// Again, after a crash; nothing of it was published.
    Again,
    /// The table has it; state, ledger and positions are missing.
    StateOnly,
}

impl Pipeline {
    /// Chooses input within the limits and runs one epoch over it; without input, one that the watermark makes due.
    /// None: there was nothing new, or a LIMIT has let all its rows through.
    pub async fn step(&mut self, limited: bool) -> Result<Option<EpochRecord>> {
        if let Some((rows, limit)) = self.let_through()?
            && rows >= limit
        {
            return Ok(None);
        }
        let begun = Instant::now();
        let intent = loop {
            let alterations = self.checkpoint.ledger().alterations();
            let inputs = self.choose(limited).await?;
            let timestamp_ms = now_ms();
            let watermark = self.watermarks.next(&self.plan, &self.heard(&inputs, timestamp_ms));
            if inputs.is_empty() && !self.watermarks.is_due(&self.plan, watermark) {
                return Ok(None);
            }
            let statics = self.follow_statics().await?;
            failpoint::reached("after_choose", self.next_epoch);
            let intent = Intent {
                epoch: self.next_epoch,
                timestamp_ms,
                inputs,
                fingerprint: self.plan.fingerprint.clone(),
                statics,
                watermark,
            };
            // A statement that keeps a file out in this moment is heeded.
            if self.checkpoint.begin(&intent, alterations)? {
                break intent;
            }
        };
        failpoint::reached("after_intent", intent.epoch);
        self.run(intent, Run::First, begun).await.map(Some)
    }

    /// How many rows came out, of how many that a LIMIT on top lets through.
    pub fn let_through(&self) -> Result<Option<(u64, u64)>> {
        let Some(limit) = self.plan.limit else { return Ok(None) };
        match self.states.iter().find(|state| state.operator() == limit.operator) {
            Some(state) => Ok(Some((rows_let_through(state)?, limit.rows))),
            None => Ok(None),
        }
    }

    /// Finishes the epoch of a pending intent. `sink_has_it`: only state, ledger and positions are missing, made from
    /// the same versions of the tables it joins; otherwise nothing of it was seen by anybody, and the latest are used.
    pub async fn rerun(&mut self, mut intent: Intent, sink_has_it: bool) -> Result<EpochRecord> {
        let begun = Instant::now();
        if !sink_has_it {
            intent.statics = self.latest_statics().await?;
            self.checkpoint.write_intent(&intent)?;
        }
        self.run(intent, if sink_has_it { Run::StateOnly } else { Run::Again }, begun).await
    }

    /// Runs an epoch of which everything was said before: one of a stream's past, in a pipeline of its own.
    pub async fn replay(&mut self, intent: Intent) -> Result<EpochRecord> {
        let begun = Instant::now();
        self.checkpoint.write_intent(&intent)?;
        self.run(intent, Run::First, begun).await
    }

    /// How the state of each operator becomes what the query gives, by operator number; others are what they keep.
    /// The operators' states know their columns afterwards.
    pub async fn results(&mut self) -> Result<BTreeMap<u32, Results>> {
        let (epoch, watermark) = (self.next_epoch, Default::default());
        let extension = Arc::new(StreamExtensionPlanner::new(self.states.clone(), epoch, watermark));
        let statics = self.latest_statics().await?;
        let intent = Intent {
            epoch,
            timestamp_ms: now_ms(),
            inputs: Vec::new(),
            fingerprint: self.plan.fingerprint.clone(),
            statics,
            watermark,
        };
        let physical = self.physical(&intent, extension, &Arc::default()).await?;
        Ok(results_of(&physical))
    }

    /// Runs an intent that is durable already.
    async fn run(&mut self, mut intent: Intent, run: Run, begun: Instant) -> Result<EpochRecord> {
        let epoch = intent.epoch;
        let planned = begun.elapsed();
        for (_, input) in &intent.inputs {
            if let EpochInput::Files(files) = input {
                files.note_run(epoch, intent.timestamp_ms);
            }
        }
        if run == Run::StateOnly {
            // The rows are in the table; state made without a file that has gone since would contradict them.
            for (_, input) in &intent.inputs {
                if let EpochInput::Files(files) = input {
                    files.require_all();
                }
            }
        }
        let Ran { counters, staged, joins, sink, written, event_times, late, kept, future } =
            self.run_until_it_fits(&mut intent, run).await?;
        if let Some(table) = &mut self.late_rows {
            table.write(epoch, intent.timestamp_ms, kept).await?;
        }
        let heard = self.heard(&intent.inputs, intent.timestamp_ms);
        let watermarks = self.watermarks.behind(&self.plan, intent.watermark, &event_times, &heard);
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
            files_corrupt: counters.corrupt_files.load(Ordering::Relaxed),
            rows_late: late,
            rows_future: future,
            heard_ms: watermarks.heard_ms().clone(),
            watermark_us: watermarks.current(),
            event_times_us: watermarks.event_times().to_vec(),
            table_version: written.version,
            schema_version: self.schema_version(),
            query: Some(self.plan.query.clone()).filter(|query| !query.is_empty()),
            new_columns: self.new_columns.clone(),
            statics: intent.statics.clone(),
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
                EpochInput::Table(table) => {
                    record.ranges.push(TableRange {
                        source: id.clone(),
                        from: table.from.to_json(&table.table_id),
                        to: table.position(),
                    });
                    positions.push((id.clone(), table.position()));
                }
            }
        }
        self.checkpoint.commit(EpochCommit {
            record: record.clone(),
            inputs: intent.inputs.clone(),
            ledger,
            positions,
            state: staged,
            joins,
            sink,
        })?;
        failpoint::reached("after_commit", epoch);
        for (id, input) in &intent.inputs {
            if let Some((_, source)) = self.sources.iter_mut().find(|(at, _)| at == id) {
                source.committed(input).await?;
            }
        }
        self.watermarks = watermarks;
        self.next_epoch = epoch + 1;
        self.new_columns.clear();
        Ok(record)
    }

    /// What the sources say to an epoch with this input.
    fn heard(&self, inputs: &[(String, EpochInput)], now_ms: i64) -> Heard {
        let ids = self.sources.iter().map(|(id, _)| id.clone()).collect();
        Heard { ids, with_input: inputs.iter().map(|(id, _)| id.clone()).collect(), now_ms }
    }

    /// How long until a source becomes idle and may let the watermark go on; None: that will not happen.
    pub fn idle_in(&self) -> Option<Duration> {
        let heard = self.heard(&[], now_ms());
        self.watermarks.idle_in_ms(&self.plan, &heard).map(|wait_ms| Duration::from_millis(wait_ms as u64))
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
    async fn run_once(&mut self, intent: &Intent, run: Run) -> Result<Ran> {
        let epoch = intent.epoch;
        let counters = Arc::new(ReadCounters::default());
        let (mut staged, mut joins) = (Vec::new(), Vec::new());
        let mut written = Written::default();
        let mut ran_through = None;
        if run != Run::StateOnly {
            let (partitions, extension) = self.execute(intent, &counters).await?;
            let partitions = partitions.into_iter().map(|stream| watched(stream, epoch)).collect();
            written = self.sink.write(epoch, partitions, &|| extension.touched()).await?;
            match (written.existed, run) {
                (false, _) => {
                    (staged, joins) = (extension.staged()?, extension.staged_joins()?);
                    ran_through = Some(extension);
                }
                // Only now was the epoch begun, so another process has written it, perhaps from other input.
                (true, Run::First) => return Err(crate::sink::delta::fenced(self.checkpoint.query_id(), epoch, epoch)),
                // A publication that this process gave up waiting for came through.
                (true, _) => {}
            }
        }
        if run == Run::StateOnly || written.existed {
            if !self.states.is_empty() {
                let (partitions, extension) = self.execute(intent, &counters).await?;
                drain(partitions).await?;
                (staged, joins) = (extension.staged()?, extension.staged_joins()?);
                ran_through = Some(extension);
            }
            // Writes nothing: it tells what the epoch wrote before.
            written = self.sink.write(epoch, Vec::new(), &|| None).await?;
        }
        let SinkCommit { state, values: sink } = self.sink.take_commit();
        staged.extend(state);
        let event_times = ran_through.as_ref().map(|run| run.event_times()).unwrap_or_default();
        let (late, future) = ran_through.as_ref().map_or((0, 0), |run| (run.late(), run.future()));
        let kept = ran_through.map_or_else(Vec::new, |run| run.kept_rows());
        Ok(Ran { counters, staged, joins, sink, written, event_times, late, kept, future })
    }

    /// Starts the epoch's query: its streams of rows, and where its operators stage their state.
    async fn execute(
        &mut self,
        intent: &Intent,
        counters: &Arc<ReadCounters>,
    ) -> Result<(Vec<SendableRecordBatchStream>, Arc<StreamExtensionPlanner>)> {
        let extension = StreamExtensionPlanner::new(self.states.clone(), intent.epoch, intent.watermark);
        let extension = Arc::new(extension.at(intent.timestamp_ms).changes_only(self.sink.takes_changes()));
        let physical = self.physical(intent, extension.clone(), counters).await?;
        Ok((execute_stream_partitioned(physical, self.session.task_ctx())?, extension))
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
        let statics = self.statics(&intent.statics).await?;
        let plan = rebind(self.plan.plan.clone(), &bound, &statics)?;
        let plan = with_epoch_timestamp(plan, intent.timestamp_ms)?;
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![extension]);
        Ok(planner.create_physical_plan(&plan, self.session.as_ref()).await?)
    }

    /// The latest versions of the Delta tables that the plan reads whole.
    async fn latest_statics(&mut self) -> Result<BTreeMap<String, u64>> {
        let mut latest = BTreeMap::new();
        for location in static_locations(&self.plan.plan)? {
            let path = table::table_path(&location)?;
            let identity = table::identity(&path);
            let version = match self.statics.get(&location) {
                Some(known) if known.identity == identity && !table::has_version(&path, known.version + 1) => {
                    known.version
                }
                _ => table::latest_version(&path).await?,
            };
            latest.insert(location, version);
        }
        Ok(latest)
    }

    /// Those tables at these versions; opened again only when the version is another one.
    async fn statics(&mut self, versions: &BTreeMap<String, u64>) -> Result<HashMap<String, Arc<dyn TableProvider>>> {
        let mut providers = HashMap::new();
        for location in static_locations(&self.plan.plan)? {
            let path = table::table_path(&location)?;
            let identity = table::identity(&path);
            // An intent of before versions were kept has none.
            let version = match versions.get(&location) {
                Some(version) => *version,
                None => table::latest_version(&path).await?,
            };
            let provider = match self.statics.get(&location) {
                Some(known) if known.version == version && known.identity == identity => known.provider.clone(),
                _ => {
                    let provider = table::provider(&path, Some(version)).await?;
                    self.statics
                        .insert(location.clone(), StaticTable { identity, version, provider: provider.clone() });
                    provider
                }
            };
            providers.insert(location, provider);
        }
        Ok(providers)
    }
}

fn millis(duration: Duration) -> f64 {
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
            in_columns_of(scan, provider, location)?
        } else {
            return Ok(Transformed::no(node));
        };
        let scan = TableScan { source: provider_as_source(provider), ..scan.clone() };
        Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
    })?;
    Ok(replaced.data)
}

/// The table in the columns that the plan has. A plan names columns by position, and has left out filters that its table
/// answers: both hold only while the table keeps its columns and partitions. Columns added at the end do no harm.
fn in_columns_of(
    scan: &TableScan,
    provider: &Arc<dyn TableProvider>,
    location: &str,
) -> DfResult<Arc<dyn TableProvider>> {
    let (was, now) = (scan.source.schema(), provider.schema());
    let mut columns = was.fields().iter().zip(now.fields());
    let same = was.fields().len() <= now.fields().len()
        && columns.all(|(was, now)| was.name() == now.name() && was.data_type() == now.data_type());
    let provider = match same {
        true => Some(provider.clone()),
        false => OlderTable::new(provider.clone(), was).map(|older| Arc::new(older) as Arc<dyn TableProvider>),
    };
    let Some(provider) = provider else {
        return Err(statics::table_changed(location, "its columns have other types than those planned with").into());
    };
    let filters: Vec<&Expr> = scan.filters.iter().collect();
    match provider.supports_filters_pushdown(&filters)? == scan.source.supports_filters_pushdown(&filters)? {
        true => Ok(provider),
        false => Err(statics::table_changed(location, "it is partitioned by other columns").into()),
    }
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
