//! From a plan and a checkpoint to a pipeline that stands where the last run stopped.

use std::collections::HashMap;
use std::sync::Arc;

use alluvium_parser::Diagnostic;
use alluvium_planner::options::StartingVersion;
use alluvium_planner::plan::StreamingPlan;
use alluvium_planner::relation::{SourceKind, SourceSpec};
use alluvium_planner::settings::WatermarkPolicy;
use datafusion::execution::SessionState;

use crate::checkpoint::{Checkpoint, Facts, Intent, Recovery, decide};
use crate::clock::now_ms;
use crate::epoch::{LateTable, Pipeline, Replan, Watermarks};
use crate::error::{Error, Result};
use crate::metrics::EpochRecord;
use crate::query::changes::adopt_state;
use crate::sink::Sink;
use crate::source::Source;
use crate::source::files::schema_log::SchemaLog;
use crate::source::files::{self, FilesSource, ObjectsSource, is_remote};
use crate::source::table::TableSource;

/// Checkpoint entry: which source has which id.
const SOURCE_IDS: &str = "source_ids";

/// Checkpoint entry: which of several watermarks counts.
pub const WATERMARK_POLICY: &str = "watermark_policy";

/// What a pipeline is made of.
pub struct PipelineParts {
    /// The plan.
    pub plan: StreamingPlan,
    /// Its opened checkpoint.
    pub checkpoint: Checkpoint,
    /// Its sink.
    pub sink: Box<dyn Sink>,
    /// Functions, configuration, memory pool.
    pub session: Arc<SessionState>,
    /// Bytes each stateful operator may keep in memory.
    pub state_budget: usize,
    /// The name in messages.
    pub name: String,
    /// Makes a new plan when columns come; None: they end the stream.
    pub replan: Option<Replan>,
    /// Which of several watermarks counts, if this is the first start.
    pub watermark_policy: WatermarkPolicy,
    /// Where late rows go; None: they are only counted.
    pub late_rows: Option<LateTable>,
}

/// Opens sources and state and finishes what a crash left: an intent without its commit is run again.
/// Returns the pipeline and the record of the epoch that was run again, if one was.
pub async fn open(parts: PipelineParts) -> Result<(Pipeline, Option<EpochRecord>)> {
    let PipelineParts { plan, checkpoint, mut sink, session, state_budget, name, replan, .. } = parts;
    adopt_state(&plan, &checkpoint, &name)?;
    let record = checkpoint.last_committed()?;
    let new_columns = new_columns(&plan, record.as_ref())?;
    let intent = checkpoint.pending_intent()?;
    let policy = watermark_policy(&checkpoint, parts.watermark_policy, record.is_none() && intent.is_none())?;
    let watermarks = Watermarks::after(record.as_ref(), policy, now_ms());
    let last = record.map(|record| record.epoch);
    let facts = Facts {
        last_committed: last,
        last_published: checkpoint.last_published()?,
        intent: intent.as_ref().map(|i| i.epoch),
        sink_last: sink.last_epoch().await?,
    };
    let recovery = decide(&facts);
    if let Recovery::Refuse(refusal) = &recovery {
        return Err(refusal.error(&name));
    }
    let sources = open_sources(&plan, &checkpoint, last.is_none() && intent.is_none()).await?;
    check_intent(intent.as_ref(), &sources, &name)?;
    let mut states = Vec::new();
    for table in plan.state_tables() {
        states.push(checkpoint.state(table, state_budget)?);
    }
    let next_epoch = last.map_or(0, |epoch| epoch + 1);
    let mut pipeline = Pipeline {
        plan,
        sources,
        sink,
        checkpoint,
        states,
        session,
        next_epoch,
        statics: HashMap::new(),
        replan,
        new_columns,
        watermarks,
        late_rows: parts.late_rows,
    };
    let rerun = match (recovery, intent) {
        (Recovery::Rerun { sink_has_it, .. }, Some(intent)) => Some(pipeline.rerun(intent, sink_has_it).await?),
        _ => None,
    };
    Ok((pipeline, rerun))
}

/// The policy a stream has kept since its first start; those of former versions began with the least.
fn watermark_policy(checkpoint: &Checkpoint, wanted: WatermarkPolicy, first_start: bool) -> Result<WatermarkPolicy> {
    match checkpoint.meta(WATERMARK_POLICY)? {
        Some(name) => WatermarkPolicy::of(&name)
            .ok_or_else(|| Error::environment("CHECKPOINT_CORRUPT", format!("there is no watermark policy `{name}`"))),
        None if first_start => {
            checkpoint.put_meta(WATERMARK_POLICY, wanted.name())?;
            Ok(wanted)
        }
        None => Ok(WatermarkPolicy::Min),
    }
}

/// An epoch that was begun is finished by a query that reads the same sources; another one would take them for read.
fn check_intent(intent: Option<&Intent>, sources: &[(String, Box<dyn Source>)], name: &str) -> Result<()> {
    let Some(intent) = intent else { return Ok(()) };
    let unknown = intent.inputs.iter().find(|(id, _)| !sources.iter().any(|(at, _)| at == id));
    match unknown {
        None => Ok(()),
        Some(_) => Err(Diagnostic::new(
            "STATE_INCOMPATIBLE",
            format!("epoch {} of `{name}` was begun with a source that the query no longer reads", intent.epoch),
        )
        .help(format!("start it once with the former query, or REFRESH TABLE {name} FULL to start over"))
        .into()),
    }
}

/// Columns that came with versions of the schema which no epoch has been committed with yet: put there by hand, or stored
/// before a crash.
fn new_columns(plan: &StreamingPlan, last: Option<&EpochRecord>) -> Result<Vec<String>> {
    let mut columns = Vec::new();
    for source in &plan.sources {
        let SourceKind::Files(spec) = &source.kind else { continue };
        let (Some(directory), Some(version)) = (&spec.schema_log, spec.schema_version) else { continue };
        let before = last.map_or(Some(0), |record| record.schema_version);
        if let Some(before) = before.filter(|before| *before < version)
            && let Some(before) = SchemaLog::at(directory).version(before)?
        {
            columns.extend(files::added(&before.data, &files::columns_of(spec)?));
        }
    }
    Ok(columns)
}

/// What tells one source of a query from another across restarts and edits of the query.
fn identity(spec: &SourceSpec) -> String {
    match &spec.kind {
        SourceKind::Files(files) => format!("files:{}", files.path),
        SourceKind::Table(table) => format!("table:{}", table.location),
    }
}

/// The file sources that a stream has or had: id and path.
pub fn file_sources(checkpoint: &Checkpoint) -> Result<Vec<(String, String)>> {
    let ids = source_ids(checkpoint)?.into_iter().enumerate();
    Ok(ids.filter_map(|(id, identity)| Some((id.to_string(), identity.strip_prefix("files:")?.to_owned()))).collect())
}

/// What each source id stands for.
fn source_ids(checkpoint: &Checkpoint) -> Result<Vec<String>> {
    let stored = checkpoint.meta(SOURCE_IDS)?.unwrap_or_else(|| "[]".into());
    serde_json::from_str(&stored).map_err(|e| Error::environment("CHECKPOINT_CORRUPT", format!("source ids: {e}")))
}

/// The sources of a query, and what a checkpoint knows of them.
pub struct Sources {
    /// The id of each source of the plan, in its order; None: it has not been opened yet.
    pub ids: Vec<Option<String>>,
    /// Sources that were read, and that the query no longer has.
    pub lost: Vec<String>,
}

/// Which source of the query is which in the checkpoint, without opening any.
pub fn sources_of(plan: &StreamingPlan, checkpoint: &Checkpoint) -> Result<Sources> {
    let known = source_ids(checkpoint)?;
    let mut taken: Vec<usize> = Vec::new();
    let mut ids = Vec::new();
    for spec in &plan.sources {
        let identity = identity(spec);
        let at = (0..known.len()).find(|at| known[*at] == identity && !taken.contains(at));
        taken.extend(at);
        ids.push(at.map(|at| at.to_string()));
    }
    let mut lost = Vec::new();
    for (at, identity) in known.iter().enumerate().filter(|(at, _)| !taken.contains(at)) {
        let id = at.to_string();
        if checkpoint.ledger().len(&id) > 0 || checkpoint.position(&id)?.is_some() {
            let place = identity.split_once(':').map_or(identity.as_str(), |(_, place)| place);
            lost.push(format!("`{place}`"));
        }
    }
    Ok(Sources { ids, lost })
}

/// Opens a table source behind its position. Where it stands at the first start is kept at once: `latest` means
/// what was the latest then, whenever the first epoch comes.
async fn open_table(spec: &SourceSpec, checkpoint: &Checkpoint, id: &str) -> Result<TableSource> {
    let start = format!("start.{id}");
    let position = match checkpoint.position(id)? {
        Some(position) => Some(position),
        None => match checkpoint.meta(&start)? {
            Some(text) => Some(
                serde_json::from_str(&text)
                    .map_err(|e| Error::environment("CHECKPOINT_CORRUPT", format!("source start: {e}")))?,
            ),
            None => None,
        },
    };
    let known = position.is_some();
    let source = TableSource::open(spec, position).await?;
    let latest = matches!(&spec.kind, SourceKind::Table(table) if table.options.starting_version == Some(StartingVersion::Latest));
    if latest && !known {
        checkpoint.put_meta(&start, &source.position().to_string())?;
    }
    Ok(source)
}

/// A file source whose path was changed keeps its id, and with it the files it knows: those below both paths are not
/// read again. That is where one file source has gone and one has come, and no epoch of the former is to be finished.
fn moved(known: &[String], plan: &StreamingPlan, checkpoint: &Checkpoint) -> Result<Option<(usize, String)>> {
    let now: Vec<String> = plan.sources.iter().map(|source| identity(source)).collect();
    let of_files = |identity: &&String| identity.starts_with("files:");
    let mut gone = (0..known.len()).filter(|at| of_files(&&known[*at]) && !now.contains(&known[*at]));
    let mut come = now.iter().filter(|identity| of_files(identity) && !known.contains(identity));
    let (Some(from), None, Some(to), None) = (gone.next(), gone.next(), come.next(), come.next()) else {
        return Ok(None);
    };
    Ok(checkpoint.pending_intent()?.is_none().then(|| (from, to.clone())))
}

async fn open_sources(
    plan: &StreamingPlan,
    checkpoint: &Checkpoint,
    first_start: bool,
) -> Result<Vec<(String, Box<dyn Source>)>> {
    let mut known = source_ids(checkpoint)?;
    let moved = moved(&known, plan, checkpoint)?;
    if let Some((at, _)) = &moved {
        // What was learnt of the former place says nothing of the new one; only the files themselves stay known.
        files::forget_place(checkpoint, &at.to_string())?;
    }
    let before = known.len();
    let mut taken: Vec<usize> = Vec::new();
    let mut sources: Vec<(String, Box<dyn Source>)> = Vec::new();
    for spec in &plan.sources {
        let identity = identity(spec);
        let at = (0..known.len()).find(|at| known[*at] == identity && !taken.contains(at));
        let from = moved.as_ref().filter(|(_, to)| *to == identity).map(|(at, _)| *at);
        let at = at.or(from);
        let at = at.unwrap_or_else(|| {
            known.push(identity);
            known.len() - 1
        });
        taken.push(at);
        let id = at.to_string();
        let fresh = first_start || at >= before || from == Some(at);
        let source: Box<dyn Source> = match &spec.kind {
            SourceKind::Files(files) if is_remote(&files.path) => {
                Box::new(ObjectsSource::open(&id, spec, checkpoint.clone(), fresh).await?)
            }
            SourceKind::Files(_) => Box::new(FilesSource::open(&id, spec, checkpoint.ledger(), fresh).await?),
            SourceKind::Table(_) => Box::new(open_table(spec, checkpoint, &id).await?),
        };
        sources.push((id, source));
    }
    if let Some((at, to)) = &moved {
        known[*at].clone_from(to);
    }
    if known.len() > before || moved.is_some() {
        let text = serde_json::to_string(&known).map_err(|e| Error::internal(e.to_string()))?;
        checkpoint.put_meta(SOURCE_IDS, &text)?;
    }
    Ok(sources)
}
