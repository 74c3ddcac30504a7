//! CREATE STREAMING TABLE, REFRESH, START, STOP, AWAIT: a stream from its statement to its task.
//!
//! The catalog entry is what makes a streaming table exist. It is written only after the statement has been planned
//! whole, and everything behind it (Delta table, checkpoint) is made from it at the first start.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alluvium_parser::{
    CreateForm, CreateStreamingTable, Diagnostic, Name, OutputMode, Place, Query, RelationKind, Span, Statement,
    StatementKind, Trigger, TriggerClause, parse_statement, with_kept_clauses,
};
use alluvium_planner::plan::StreamingPlan;
use alluvium_planner::relation::{FilesSpec, SourceKind};
use alluvium_planner::streaming::{plan_stream, plan_stream_keeping_late_rows};
use arrow::datatypes::{Schema, SchemaRef};

use crate::catalog::{Entry, Object, StreamEntry, table_name};
use crate::checkpoint::Checkpoint;
use crate::epoch::{Pipeline, Replan, Replanned, widens};
use crate::error::{Error, Result};
use crate::metrics::EpochRecord;
use crate::query::{Changes, PipelineParts, StreamHandle, StreamState, StreamStatus, failure, open};
use crate::session::late_rows;
use crate::session::outcome::{Notice, Outcome};
use crate::session::resolve::{EMPTY_DIRECTORY, FormerSchemas, StoredSchemas};
use crate::session::show::create_of;
use crate::session::{Session, is_live};
use crate::sink::Sink;
use crate::sink::delta::DeltaSink;
use crate::source::files::{self, ResolvedFiles};
use crate::table::{self, NewTable, Operation};

/// Checkpoint entry of the first release: columns of file sources as first inferred.
const SCHEMAS: &str = "schemas";

/// The trigger of streams started in the background when nobody named one.
const DEFAULT_INTERVAL: Duration = Duration::from_millis(500);

/// A planned statement with the columns of its table.
pub(super) struct Planned {
    pub(super) plan: StreamingPlan,
    pub(super) target: SchemaRef,
}

impl Session {
    pub(super) async fn create_streaming_table(
        &self,
        statement: &Statement,
        create: &CreateStreamingTable,
    ) -> Result<Outcome> {
        let name = table_name(&create.name)?;
        let existing = self.inner.catalog.get(&name)?;
        if self.temporary_views().contains_key(&name.to_lowercase()) {
            return Err(super::ddl::exists_error("STREAMING TABLE", "TEMP VIEW", &name, create.name.span));
        }
        match (&existing, create.form) {
            (Some(_), CreateForm::IfNotExists) => return Ok(Outcome::Done(format!("`{name}` exists already"))),
            (Some(entry), CreateForm::New) => {
                return Err(super::ddl::exists_error("STREAMING TABLE", entry.kind(), &name, create.name.span));
            }
            (Some(entry), CreateForm::OrRefresh | CreateForm::OrReplace)
                if !matches!(entry.object, Object::StreamingTable(_)) =>
            {
                return Err(Diagnostic::new("NOT_A_STREAMING_TABLE", format!("`{name}` is a {}", entry.kind()))
                    .at(create.name.span)
                    .help(format!("DROP {} {name} first", entry.kind()))
                    .into());
            }
            _ => {}
        }
        let known = format!("of that name there is `{}`", late_rows::PROPERTY);
        super::ddl::refuse_unknown_properties(&create.properties, &[late_rows::PROPERTY], &known)?;
        let refresh = existing.is_some() && create.form == CreateForm::OrRefresh;
        let entry = match (&existing, refresh) {
            (Some(old), true) => self.entry_for(statement, create, &name, Some(old))?,
            _ => self.entry_for(statement, create, &name, None)?,
        };
        let planned = match refresh {
            // The stored columns are in the checkpoint; planning happens behind its lock.
            true => None,
            false => self.plan_new(create, stream_of(&entry)?, existing.is_some()).await?,
        };
        if let (Some(old), false) = (&existing, refresh) {
            self.remove_table(old).await?;
            // What lies at a LOCATION stays when its entry goes; the new table takes its place there.
            let location = &stream_of(&entry)?.location;
            if let (Some(planned), true) = (&planned, table::exists(location)) {
                let new = new_table(create, &planned.plan)?;
                table::replace(location, &new, Vec::new(), Operation::CreateOrReplaceTable).await?;
            }
        }
        self.stop_running(&name).await;
        if refresh {
            let before = existing.as_ref().map(stream_of).transpose()?.map(create_of).transpose()?;
            let changed = before.is_some_and(|before| before.query.text != create.query.text);
            self.check_refresh(&entry, create, changed).await?;
            if let Some(old) = &existing {
                self.warn_of_fixed_options(stream_of(old)?, create)?;
            }
        }
        self.inner.catalog.put(&entry)?;
        let trigger = create.trigger.as_ref().map(|clause| clause.trigger).unwrap_or(self.default_trigger());
        self.run(&entry, trigger, planned).await.map_err(|error| match existing {
            None => error.helped(format!("`{name}` was created; once the cause is gone: REFRESH TABLE {name}")),
            Some(_) => error,
        })
    }

    fn default_trigger(&self) -> Trigger {
        if self.inner.interactive { Trigger::ProcessingTime(DEFAULT_INTERVAL) } else { Trigger::AvailableNow }
    }

    /// Plans a statement whose stream does not exist yet. None: it reads a directory in which no file has arrived.
    /// `replaces`: what is stored is of a stream that goes.
    async fn plan_new(
        &self,
        create: &CreateStreamingTable,
        stream: &StreamEntry,
        replaces: bool,
    ) -> Result<Option<Planned>> {
        let stored = StoredSchemas::of_stream(&stream.checkpoint).fresh(replaces);
        match self.plan(create, &stored).await {
            Ok(planned) => {
                for spec in file_sources(&planned.plan) {
                    files::check_schema_location(spec, &stream.location)?;
                }
                Ok(Some(planned))
            }
            Err(Error::Statement(diagnostic)) if diagnostic.code == EMPTY_DIRECTORY => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn plan(&self, create: &CreateStreamingTable, stored: &StoredSchemas) -> Result<Planned> {
        let mut bound = self.bind(&create.query, stored).await?;
        let query = stored.take_queries();
        if !create.columns.is_empty() {
            let declared = super::ddl::declared_schema(&create.columns)?;
            bound = super::ddl::assigned(bound, &declared, create.query.span)?;
        }
        let mode = create.output_mode.unwrap_or((OutputMode::Append, create.query.span));
        self.check_late_rows(create).await?;
        let mut plan = match late_rows::wanted(create) {
            Some(at) => {
                plan_stream_keeping_late_rows(bound, &create.query, mode, &self.state(), at.key.span.to(at.value.span))?
            }
            None => plan_stream(bound, &create.query, mode, &self.state())?,
        };
        plan.query = query;
        let target = target_schema(create, &plan)?;
        let mut logs: Vec<&String> = Vec::new();
        for spec in file_sources(&plan) {
            if let Some(log) = &spec.schema_log {
                if logs.contains(&log) {
                    return Err(Diagnostic::new(
                        "SCHEMA_LOCATION_SHARED",
                        format!("two sources of the query have the schema location `{log}`"),
                    )
                    .at(create.query.span)
                    .help("every source needs a schemaLocation of its own, or none")
                    .into());
                }
                logs.push(log);
            }
        }
        Ok(Planned { plan, target })
    }

    /// Says what another query means for what was read before.
    fn tell_changes(&self, entry: &Entry, changes: &Changes, changed: bool) {
        let Some(notices) = self.inner.notices.as_ref().filter(|_| changed) else { return };
        let mut text =
            format!("`{}` has another query from now on; rows that were read before are not read again", entry.name);
        if let Some(zone) = stream_of(entry).ok().and_then(|stream| stream.timezone.clone())
            && zone != self.settings().timezone
        {
            text = format!("{text}; it keeps the time zone {zone}, in which it was created");
        }
        if changes.is_change() {
            text = format!("{text}; {}", changes.lines().join("; "));
        }
        // The receiver goes first when the program ends.
        let _ = notices.send(Notice::Info(text));
    }

    /// Whether the changed statement fits what is stored: refused before anything is touched. `changed`: its query is
    /// another one than before.
    async fn check_refresh(&self, entry: &Entry, create: &CreateStreamingTable, changed: bool) -> Result<()> {
        let stream = stream_of(entry)?;
        let checkpoint = Checkpoint::open(&stream.checkpoint, &entry.name)?;
        let stored = StoredSchemas::of_stream(&stream.checkpoint).or_former(former_schemas(&checkpoint)?);
        let session = self.in_zone(stream.timezone.as_deref());
        let whole = super::refresh::with_kept_table(create, create_of(stream)?);
        let planned = match session.plan(&whole, &stored).await {
            Err(Error::Statement(diagnostic)) if diagnostic.code == EMPTY_DIRECTORY => return Ok(()),
            other => other?,
        };
        if table::exists(&stream.location) {
            let head = table::Head::open(&stream.location).await?;
            super::refresh::refuse_changed_table(create, &head)?;
            // The table takes columns it lacks; what it has must take the rows.
            let grown = table::grown(head.protocol(), head.metadata(), &planned.target)?;
            let columns = match &grown {
                Some(grown) => table::schema::from_json(&grown.metadata.schema_string)?,
                None => head.schema(),
            };
            table::Conform::plan(&planned.plan.schema, &columns).map_err(|e| e.at_least(create.query.span))?;
        }
        if let Some(changes) = crate::query::changes(&planned.plan, &checkpoint, &entry.name)? {
            self.tell_changes(entry, &changes, changed);
        }
        Ok(())
    }

    fn entry_for(
        &self,
        statement: &Statement,
        create: &CreateStreamingTable,
        name: &str,
        old: Option<&Entry>,
    ) -> Result<Entry> {
        if let Some(old) = old {
            let stream = stream_of(old)?;
            super::refresh::refuse_moved(create, stream, &old.name)?;
            // What the statement leaves out of the table's description holds on, also for FULL and for late rows.
            let statement = with_kept_clauses(&statement.text, &stream.statement)?;
            let kept = StreamEntry { statement, ..stream.clone() };
            return Ok(old.with(Object::StreamingTable(kept)));
        }
        let (location, managed) = match &create.location {
            Some(at) => (table::table_path(&at.value).map_err(|e| e.at_least(at.span))?, false),
            None => (self.inner.catalog.managed_location(name), true),
        };
        let location = std::path::absolute(&location).map_err(|e| Error::io("find", &location, &e))?;
        if table::exists(&location) && create.form != CreateForm::OrReplace {
            let code = if managed { "LOCATION_IN_USE" } else { "LOCATION_NOT_EMPTY" };
            return Err(Diagnostic::new(code, format!("there is a Delta table in `{}` already", location.display()))
                .at(create.location.as_ref().map_or(create.name.span, |at| at.span))
                .help("choose another LOCATION, or remove the directory if nobody needs it")
                .into());
        }
        let checkpoint = match &create.checkpoint_location {
            Some(at) => table::table_path(&at.value).map_err(|e| e.at_least(at.span))?,
            None => location.join("_checkpoint"),
        };
        let checkpoint = std::path::absolute(&checkpoint).map_err(|e| Error::io("find", &checkpoint, &e))?;
        if let Some(at) = &create.checkpoint_location {
            self.refuse_shared_checkpoint(&checkpoint, name, at.span)?;
        }
        let (statement, timezone) = (statement.text.clone(), Some(self.settings().timezone));
        let stream = StreamEntry { location, managed, checkpoint, statement, timezone, resetting: false };
        Ok(Entry::new(name, Object::StreamingTable(stream)))
    }

    fn refuse_shared_checkpoint(&self, checkpoint: &Path, name: &str, span: Span) -> Result<()> {
        for entry in self.inner.catalog.list()? {
            if let Object::StreamingTable(stream) = &entry.object
                && stream.checkpoint == checkpoint
                && !entry.name.eq_ignore_ascii_case(name)
            {
                return Err(Diagnostic::new(
                    "CHECKPOINT_SHARED",
                    format!("stream `{}` has the checkpoint `{}`", entry.name, checkpoint.display()),
                )
                .at(span)
                .help("every stream needs a checkpoint of its own")
                .into());
            }
        }
        Ok(())
    }

    /// Starts a stream. AVAILABLE NOW and ONCE run inside the statement, PROCESSING TIME in the background.
    async fn run(&self, entry: &Entry, trigger: Trigger, planned: Option<Planned>) -> Result<Outcome> {
        let background = matches!(trigger, Trigger::ProcessingTime(_));
        let handle = self.spawn(entry, trigger, planned)?;
        if background {
            self.report_failure(handle);
            return Ok(Outcome::Done(format!("stream `{}` runs in the background", entry.name)));
        }
        let _stop = StopOnDrop(handle.clone());
        let status = match handle.ended().await {
            Err(Error::Statement(diagnostic)) if diagnostic.code == EMPTY_DIRECTORY => {
                self.inner.streams.remove(&entry.name);
                return Ok(Outcome::Done(format!("`{}` waits for a first file: {}", entry.name, diagnostic.message)));
            }
            other => other?,
        };
        let rows = rows_written(&handle, &status, 0);
        Ok(Outcome::Done(format!("{} written to `{}`", super::show::counted(rows), entry.name)))
    }

    fn spawn(&self, entry: &Entry, trigger: Trigger, planned: Option<Planned>) -> Result<Arc<StreamHandle>> {
        let stream = stream_of(entry)?.clone();
        let statement = parse_statement(&stream.statement, Place { line: 1, column: 1 })?;
        let StatementKind::CreateStreamingTable(create) = statement.kind else {
            return Err(Error::internal("a stream's stored text is not CREATE STREAMING TABLE"));
        };
        let mode = create.output_mode.map_or(OutputMode::Append, |(mode, _)| mode);
        let session = self.weak(&stream);
        let name = entry.name.clone();
        let waits = matches!(trigger, Trigger::ProcessingTime(_));
        let opening = async move { open_stream(session, name, stream, *create, planned, waits).await };
        let notices = self.inner.notices.clone();
        let name = entry.name.clone();
        let on_epoch = move |record: &EpochRecord, backlog: crate::source::Backlog| {
            if let Some(notices) = &notices {
                if !record.new_columns.is_empty() {
                    let columns = record.new_columns.join(", ");
                    let version =
                        record.schema_version.map_or(String::new(), |version| format!(", schema version {version}"));
                    let text =
                        format!("stream `{name}`: epoch {} brought new columns{version}: {columns}", record.epoch);
                    let _ = notices.send(Notice::Info(text));
                }
                // The receiver goes first when the program ends.
                let _ = notices.send(Notice::Progress {
                    stream: name.clone(),
                    epoch: record.epoch,
                    rows_in: record.rows_in,
                    rows_out: record.rows_out,
                    backlog_files: backlog.files,
                });
            }
        };
        let handle = StreamHandle::spawn(&entry.name, trigger, mode, Some(Box::new(on_epoch)), opening);
        self.inner.streams.insert(handle.clone());
        Ok(handle)
    }

    /// Tells the user when a background stream fails.
    fn report_failure(&self, handle: Arc<StreamHandle>) {
        let notices = self.inner.notices.clone();
        tokio::spawn(async move {
            if let StreamState::Failed(error) = handle.ended_state().await
                && let Some(notices) = notices
            {
                let diagnostic = failure(handle.name(), &error);
                // The receiver goes first when the program ends.
                let _ = notices.send(Notice::StreamFailed { stream: handle.name().to_string(), diagnostic });
            }
        });
    }

    pub(super) async fn refresh(&self, table: &Name, full: bool) -> Result<Outcome> {
        let (entry, _) = self.streaming_entry(table)?;
        if full {
            let trigger = self.running(&entry.name).map(|handle| handle.trigger());
            self.stop_running(&entry.name).await;
            let entry = self.start_over(&entry).await?;
            let done = self.run(&entry, Trigger::AvailableNow, None).await?;
            // A stream that ran before goes on as it ran.
            if let Some(trigger @ Trigger::ProcessingTime(_)) = trigger {
                self.run_in_background(&entry, trigger)?;
            }
            return Ok(done);
        }
        if let Some(handle) = self.running(&entry.name) {
            let before = handle.status().rows_out;
            let status = handle.idle(true).await?;
            let rows = rows_written(&handle, &status, before);
            return Ok(Outcome::Done(format!("{} written to `{}`", super::show::counted(rows), entry.name)));
        }
        self.run(&entry, Trigger::AvailableNow, None).await
    }

    pub(super) async fn start_stream(&self, name: &Name, trigger: Option<&TriggerClause>) -> Result<Outcome> {
        let (entry, stream) = self.streaming_entry(name)?;
        if self.running(&entry.name).is_some() {
            return Err(Diagnostic::new("STREAM_RUNS_ALREADY", format!("stream `{}` is running", entry.name))
                .at(name.span)
                .help(format!("STOP STREAM {} first, to start it with another trigger", entry.name))
                .into());
        }
        refuse_if_elsewhere(&entry, &stream)?;
        let statement = parse_statement(&stream.statement, Place { line: 1, column: 1 })?;
        let own = match &statement.kind {
            StatementKind::CreateStreamingTable(create) => create.trigger.as_ref().map(|clause| clause.trigger),
            _ => None,
        };
        let trigger = trigger.map(|clause| clause.trigger).or(own).unwrap_or(Trigger::ProcessingTime(DEFAULT_INTERVAL));
        self.run_in_background(&entry, trigger)?;
        Ok(Outcome::Done(format!("stream `{}` started", entry.name)))
    }

    /// Starts a stream whatever its trigger, and tells the user when it fails.
    pub(super) fn run_in_background(&self, entry: &Entry, trigger: Trigger) -> Result<()> {
        let handle = self.spawn(entry, trigger, None)?;
        self.report_failure(handle);
        Ok(())
    }

    pub(super) async fn stop_stream(&self, name: &Name) -> Result<Outcome> {
        let (entry, stream) = self.streaming_entry(name)?;
        match self.running(&entry.name) {
            Some(handle) => {
                handle.stop().await;
                Ok(Outcome::Done(format!("stream `{}` stopped", entry.name)))
            }
            None => {
                refuse_if_elsewhere(&entry, &stream)?;
                Ok(Outcome::Done(format!("stream `{}` was not running", entry.name)))
            }
        }
    }

    pub(super) async fn await_stream(&self, name: &Name, timeout: Option<Duration>) -> Result<Outcome> {
        let (entry, _) = self.streaming_entry(name)?;
        let Some(handle) = self.inner.streams.get(&entry.name) else {
            return Ok(Outcome::Done(format!("stream `{}` is not running", entry.name)));
        };
        let status = match timeout {
            None => handle.idle(false).await?,
            Some(limit) => tokio::time::timeout(limit, handle.idle(false)).await.map_err(|_| {
                Error::from(
                    Diagnostic::new("AWAIT_TIMEOUT", format!("stream `{}` was still busy after {limit:?}", entry.name))
                        .at(name.span)
                        .help("SHOW STREAMS tells what it does; the stream goes on"),
                )
            })??,
        };
        Ok(Outcome::Done(format!("stream `{}` is {}", entry.name, status.state.word().to_lowercase())))
    }

    /// The entry of a streaming table.
    pub(super) fn streaming_entry(&self, name: &Name) -> Result<(Entry, StreamEntry)> {
        let table = table_name(name)?;
        let other = |name: &str, kind: &str, span| {
            Diagnostic::new("NOT_A_STREAMING_TABLE", format!("`{name}` is a {kind}"))
                .at(span)
                .help("only a table made by CREATE STREAMING TABLE has a stream")
        };
        if self.is_temporary(&table) && self.inner.catalog.get(&table)?.is_none() {
            return Err(other(&table, "TEMP VIEW", name.span).into());
        }
        let entry = self.entry(&table, name.span)?;
        match &entry.object {
            Object::StreamingTable(stream) => Ok((entry.clone(), stream.clone())),
            _ => Err(other(&entry.name, entry.kind(), name.span).into()),
        }
    }

    /// The handle of a stream that runs now.
    pub(super) fn running(&self, name: &str) -> Option<Arc<StreamHandle>> {
        self.inner.streams.get(name).filter(|handle| is_live(&handle.status().state))
    }

    /// Stops a stream's run, if there is one, and forgets it.
    pub(super) async fn stop_running(&self, name: &str) {
        if let Some(handle) = self.inner.streams.get(name) {
            handle.stop().await;
            self.inner.streams.remove(name);
        }
    }

    /// Removes a streaming table's checkpoint and data, keeping its entry.
    /// Back to before the first start. The catalog says that this was begun until it is done, so that rows and
    /// checkpoint go together, crash or not.
    async fn start_over(&self, entry: &Entry) -> Result<Entry> {
        let stream = stream_of(entry)?;
        let marked = |resetting| entry.with(Object::StreamingTable(StreamEntry { resetting, ..stream.clone() }));
        self.inner.catalog.put(&marked(true))?;
        self.remove_data(entry).await?;
        let reset = marked(false);
        self.inner.catalog.put(&reset)?;
        Ok(reset)
    }

    /// Takes rows and checkpoint away.
    async fn remove_data(&self, entry: &Entry) -> Result<()> {
        let stream = stream_of(entry)?;
        // The lock makes sure that nobody else works on it.
        if stream.checkpoint.exists() {
            Checkpoint::require_free(&stream.checkpoint, &entry.name)?;
            remove_directory(&stream.checkpoint)?;
        }
        if stream.managed {
            remove_directory(&stream.location)?;
        } else if table::exists(&stream.location) {
            table::append(&stream.location, Vec::new(), Operation::Truncate).await?;
        }
        Ok(())
    }

    /// A session handle for a stream's task that does not keep the session alive, and plans in the stream's time zone.
    fn weak(&self, stream: &StreamEntry) -> WeakSession {
        WeakSession(Arc::downgrade(&self.inner), stream.timezone.as_deref().map(Arc::from))
    }
}

/// Ends a statement's run when the statement is dropped (Ctrl-C): after the running epoch.
struct StopOnDrop(Arc<StreamHandle>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.request_stop();
    }
}

/// Rows a run has written since it had written `before`; in COMPLETE mode each epoch replaces what the last one wrote.
fn rows_written(handle: &StreamHandle, status: &StreamStatus, before: u64) -> u64 {
    match (handle.mode(), &status.last) {
        (OutputMode::Complete, Some(last)) if status.rows_out > before => last.rows_out,
        _ => status.rows_out - before,
    }
}

#[derive(Clone)]
struct WeakSession(std::sync::Weak<super::Inner>, Option<Arc<str>>);

impl WeakSession {
    fn session(&self) -> Result<Session> {
        let session = self.0.upgrade().map(Session::on).ok_or(Error::Interrupted)?;
        Ok(session.in_zone(self.1.as_deref()))
    }
}

/// The stream of an entry.
pub(super) fn stream_of(entry: &Entry) -> Result<&StreamEntry> {
    match &entry.object {
        Object::StreamingTable(stream) => Ok(stream),
        _ => Err(Error::internal(format!("`{}` has no stream", entry.name))),
    }
}

/// The file sources of a plan.
fn file_sources(plan: &StreamingPlan) -> impl Iterator<Item = &FilesSpec> {
    plan.sources.iter().filter_map(|source| match &source.kind {
        SourceKind::Files(spec) => Some(spec.as_ref()),
        SourceKind::Table(_) => None,
    })
}

pub(super) fn former_schemas(checkpoint: &Checkpoint) -> Result<FormerSchemas> {
    match checkpoint.meta(SCHEMAS)? {
        Some(text) => serde_json::from_str(&text)
            .map_err(|e| Error::environment("CHECKPOINT_CORRUPT", format!("stored schemas cannot be read: {e}"))),
        None => Ok(FormerSchemas::new()),
    }
}

/// Opens everything a stream needs. With `waits`, an empty directory is waited upon; else there is nothing to do.
/// Bytes that the operators of a stream keep in memory, and those for where its rows are, if it writes them by key. Half of
/// `limit` is for queries, and an eighth at most for the database. What an epoch copies of either is about as much in a small
/// process as in a large one, and needs the rest of a small limit.
fn budgets(limit: usize, by_key: bool) -> (usize, usize) {
    const COPIED: usize = 64 << 20;
    match by_key {
        true => ((limit / 4).saturating_sub(COPIED).max(limit / 8), (limit / 6).saturating_sub(COPIED).max(limit / 16)),
        false => (limit / 4, 0),
    }
}

async fn open_stream(
    session: WeakSession,
    name: String,
    stream: StreamEntry,
    create: CreateStreamingTable,
    planned: Option<Planned>,
    waits: bool,
) -> Result<(Pipeline, Option<EpochRecord>)> {
    if stream.resetting {
        let session = session.session()?;
        if let Some(entry) = session.inner.catalog.get(&name)? {
            session.start_over(&entry).await?;
        }
    }
    let limit = session.session()?.settings().memory_limit as usize;
    let checkpoint = Checkpoint::open_within(&stream.checkpoint, &name, limit / 8)?;
    let planned = match planned {
        Some(planned) => planned,
        None => loop {
            let stored = StoredSchemas::of_stream(&stream.checkpoint).or_former(former_schemas(&checkpoint)?);
            match session.session()?.plan(&create, &stored).await {
                Err(Error::Statement(diagnostic)) if diagnostic.code == EMPTY_DIRECTORY && waits => {
                    first_arrival(&create.query).await?;
                }
                other => {
                    let owner = format!("the stored query of stream `{name}`");
                    break other.map_err(|error| super::resolve::unplaced(error, &owner))?;
                }
            }
        },
    };
    let Planned { plan, target } = planned;
    for spec in file_sources(&plan) {
        files::store_schema(spec, &stream.location)?;
    }
    if !table::exists(&stream.location) {
        let new = new_table(&create, &plan)?;
        table::create(&stream.location, &new).await?;
    }
    let sink = DeltaSink::open(&stream.location, checkpoint.query_id(), plan.mode).await?;
    let open_session = session.session()?;
    let late_rows = match late_rows::wanted(&create) {
        Some(wanted) => Some(open_session.late_table(&name, wanted, checkpoint.query_id()).await?),
        None => None,
    };
    let settings = open_session.settings();
    let watermark_policy = settings.watermark_policy;
    let (state_budget, index_budget) = budgets(limit, plan.upsert.is_some());
    let state_budget = state_budget / plan.state_tables().len().max(1);
    let mut sink = Box::new(sink.upserting(&plan, &checkpoint, index_budget)?);
    sink.take_schema(&target, widens(&plan)?)?;
    let state = open_session.state();
    drop(open_session);
    let replan = Some(replan(session, create, stream.checkpoint));
    let parts = PipelineParts {
        plan,
        checkpoint,
        sink,
        session: state,
        state_budget,
        name,
        replan,
        watermark_policy,
        late_rows,
    };
    open(parts).await
}

/// A stream that another process runs can be neither started nor stopped here; the lock knows whose it is.
fn refuse_if_elsewhere(entry: &Entry, stream: &StreamEntry) -> Result<()> {
    if stream.checkpoint.exists() {
        Checkpoint::require_free(&stream.checkpoint, &entry.name)?;
    }
    Ok(())
}

/// Plans a stream's statement again, with the columns its sources have by then.
fn replan(session: WeakSession, create: CreateStreamingTable, checkpoint: PathBuf) -> Replan {
    let create = Arc::new(create);
    Box::new(move |proposed| {
        let (session, create, checkpoint) = (session.clone(), create.clone(), checkpoint.clone());
        Box::pin(async move {
            let stored = StoredSchemas::of_stream(&checkpoint).proposing(proposed);
            let Planned { plan, target } = session.session()?.plan(&create, &stored).await?;
            Ok(Replanned { plan, target })
        })
    })
}

/// Returns when the directories a query reads have changed.
async fn first_arrival(query: &Query) -> Result<()> {
    for relation in &query.relations {
        if matches!(relation.kind, RelationKind::Files { streaming: true, .. })
            && let ResolvedFiles::Waiting(waiting) =
                files::resolve(&relation.kind, relation.span, files::Context::default()).await?
        {
            return waiting.changed().await;
        }
    }
    // The directory is behind a view; its next look is a timer's.
    tokio::time::sleep(DEFAULT_INTERVAL).await;
    Ok(())
}

pub(super) fn new_table(create: &CreateStreamingTable, plan: &StreamingPlan) -> Result<NewTable> {
    let schema = target_schema(create, plan)?;
    Ok(NewTable {
        partition_columns: super::ddl::partition_columns(&create.partitioned_by, &schema)?,
        schema,
        comment: create.comment.as_ref().map(|text| text.value.clone()),
        properties: properties(create, plan),
        name: Some(create.name.parts.join(".")),
    })
}

/// TBLPROPERTIES. Where rows are to take the place of others, the former ones may die by deletion vectors, unless the
/// statement says otherwise.
fn properties(create: &CreateStreamingTable, plan: &StreamingPlan) -> Vec<(String, String)> {
    const VECTORS: &str = "delta.enableDeletionVectors";
    let mut properties = super::ddl::properties(&create.properties);
    let said = properties.iter().any(|(name, _)| name == VECTORS);
    if plan.mode == OutputMode::Update && plan.upsert.is_some() && !said {
        properties.push((VECTORS.into(), "true".into()));
    }
    properties
}

/// Columns of the table: those declared, else those of the query.
fn target_schema(create: &CreateStreamingTable, plan: &StreamingPlan) -> Result<SchemaRef> {
    super::ddl::refuse_duplicates(&plan.schema, create.query.span)?;
    if create.columns.is_empty() {
        let fields = plan.schema.fields().iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true)));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        super::ddl::partition_columns(&create.partitioned_by, &schema)?;
        return Ok(schema);
    }
    let declared: SchemaRef = super::ddl::declared_schema(&create.columns)?;
    for field in plan.schema.fields() {
        if !declared.fields().iter().any(|known| known.name().eq_ignore_ascii_case(field.name())) {
            return Err(Diagnostic::new(
                "COLUMN_NOT_DECLARED",
                format!("the query gives a column `{}` that the table does not declare", field.name()),
            )
            .at(create.query.span)
            .help("declare it, or leave it out of the SELECT")
            .into());
        }
    }
    super::ddl::partition_columns(&create.partitioned_by, &declared)?;
    Ok(declared)
}

/// Removes a directory and what is in it; fine when there is none.
pub(super) fn remove_directory(path: &PathBuf) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io("remove", path, &e)),
    }
}
