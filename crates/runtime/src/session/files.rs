//! The files of a stream: SHOW FILES, cloud_files_state, ALTER STREAM … FILE, PREVIEW.
//!
//! What is asked of a stopped stream is read from its checkpoint, of a running one from the running stream's own. Nothing
//! is held longer than a query runs, and rows come some thousands at a time.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Weak};

use alluvium_parser::{
    CreateStreamingTable, Diagnostic, FileChange, Name, Query, RelationKind, Span, StatementKind, Text, TriggerClause,
    with_trigger,
};
use alluvium_planner::bind::{Resolved, Wanted, wanted};
use alluvium_planner::options::FilesOptions;
use alluvium_planner::relation::{StaticReference, StaticRelation};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::PartitionStream;

use crate::catalog::{Entry, Object, StreamEntry, qualified};
use crate::checkpoint::{Altering, Archived, Checkpoint, FileState, Forgetting, LedgerEntry};
use crate::clock::now_ms;
use crate::error::{Error, Result};
use crate::query::file_sources;
use crate::session::outcome::{Notice, Outcome};
use crate::session::show::{Table, create_of, trigger_sql};
use crate::session::{Inner, Session};
use crate::source::EpochInput;
use crate::source::files::{self, FileStatus, Selection, statuses};

/// Rows of one batch.
const BATCH_ROWS: usize = 4096;

/// A file relation of a stream's query.
struct FileRelation {
    kind: RelationKind,
    span: Span,
}

impl FileRelation {
    fn path(&self) -> &str {
        match &self.kind {
            RelationKind::Files { path, .. } => &path.value,
            _ => "",
        }
    }
}

impl Session {
    pub(super) async fn show_files(&self, query: &Query) -> Result<Outcome> {
        self.select(query, false).await
    }

    /// The files of a stream as a relation; `all` with those that only a listing shows.
    pub(super) fn cloud_files_state(&self, table: &str, all: bool, span: Span) -> Result<Resolved> {
        let name = Name { parts: table.split('.').map(str::to_string).collect(), span };
        let (entry, stream) = self.streaming_entry(&name)?;
        let schema = match all {
            true => shown("", &[])?.schema(),
            false => state(&entry.name, "", &[])?.schema(),
        };
        let rows = FileRows { session: Arc::downgrade(&self.inner), entry, stream, all, schema: schema.clone() };
        let provider = Arc::new(StreamingTable::try_new(schema, vec![Arc::new(rows)])?);
        Ok(Resolved {
            provider: Arc::new(StaticRelation { reference: StaticReference::Fixed, provider }),
            has_metadata: false,
        })
    }

    /// The file relations that a query streams, views looked through, in order of appearance.
    fn file_relations(&self, query: &Query) -> Result<Vec<FileRelation>> {
        let mut found = Vec::new();
        for want in wanted(query) {
            let view = match want {
                Wanted::Special { relation, .. } => match &relation.kind {
                    RelationKind::Files { streaming: true, .. } => {
                        found.push(FileRelation { kind: relation.kind.clone(), span: relation.span });
                        continue;
                    }
                    RelationKind::Stream { name, .. } | RelationKind::Named { name } => name.parts.clone(),
                    _ => continue,
                },
                Wanted::Named { parts, .. } => parts,
            };
            if let Some(statement) = self.view_statement(&qualified(&view)?)?
                && let StatementKind::CreateView(view) = &statement.kind
            {
                found.extend(self.file_relations(&view.query)?);
            }
        }
        Ok(found)
    }

    /// What each file source of a stream selects: source id, and the selection where its path is still read and there.
    fn selections(
        &self,
        stream: &StreamEntry,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Vec<(String, String, Option<Selection>)>> {
        let mut relations = self.file_relations(&create_of(stream)?.query)?;
        let known = checkpoint.map(file_sources).transpose()?.unwrap_or_default();
        let mut selections = Vec::new();
        for (id, path) in known {
            let relation = relations.iter().position(|relation| relation.path() == path).map(|at| relations.remove(at));
            let selection = relation.and_then(|relation| files::selection(&relation.kind, relation.span).ok());
            selections.push((id, path, selection));
        }
        for relation in relations {
            let selection = files::selection(&relation.kind, relation.span).ok();
            selections.push((String::new(), relation.path().to_owned(), selection));
        }
        Ok(selections)
    }

    pub(super) async fn alter_file(&self, name: &Name, change: FileChange, typed: &Text) -> Result<Outcome> {
        let (session, name, typed) = (self.clone(), name.clone(), typed.clone());
        blocking(move || session.alter_file_now(&name, change, &typed)).await
    }

    /// Blocks.
    fn alter_file_now(&self, name: &Name, change: FileChange, typed: &Text) -> Result<Outcome> {
        let (entry, stream) = self.streaming_entry(name)?;
        let altered = self.with_checkpoint(&entry, &stream, |checkpoint| {
            let selections = self.selections(&stream, Some(checkpoint))?;
            match change {
                FileChange::Forget => forget(checkpoint, &selections, &entry.name, typed),
                FileChange::Skip => skip(checkpoint, &selections, &entry.name, typed),
            }
        })?;
        let message = altered.ok_or_else(|| {
            Diagnostic::new("STREAM_NOT_STARTED", format!("stream `{}` has never been started", entry.name))
                .at(name.span)
                .help(format!("REFRESH TABLE {} starts it", entry.name))
        })?;
        Ok(Outcome::Done(message))
    }

    pub(super) async fn set_trigger(&self, name: &Name, clause: &TriggerClause) -> Result<Outcome> {
        let (entry, stream) = self.streaming_entry(name)?;
        let trigger = trigger_sql(clause.trigger);
        let statement = with_trigger(&stream.statement, &format!("TRIGGER {trigger}"))?;
        let entry = entry.with(Object::StreamingTable(StreamEntry { statement, ..stream }));
        self.inner.catalog.put(&entry)?;
        if self.running(&entry.name).is_none() {
            return Ok(Outcome::Done(format!("stream `{}` has TRIGGER {trigger}", entry.name)));
        }
        self.stop_running(&entry.name).await;
        self.run_in_background(&entry, clause.trigger)?;
        Ok(Outcome::Done(format!("stream `{}` goes on with TRIGGER {trigger}", entry.name)))
    }

    pub(super) async fn preview(&self, relation: &RelationKind, span: Span) -> Result<Outcome> {
        let items = files::preview(relation, span, &self.state()).await?;
        Table::new()
            .text("item", items.iter().map(|item| Some(item.item)))
            .text("value", items.iter().map(|item| Some(&item.value)))
            .text("detail", items.iter().map(|item| Some(&item.detail).filter(|detail| !detail.is_empty())))
            .rows()
    }

    /// Lines of DESCRIBE STREAM about files: those that are ignored, and what keeps cleaning from getting on.
    pub(super) fn describe_files(
        &self,
        stream: &StreamEntry,
        checkpoint: &Checkpoint,
    ) -> Result<Vec<(String, String)>> {
        let mut rows = Vec::new();
        let ledger = checkpoint.ledger();
        for (id, _, selection) in self.selections(stream, Some(checkpoint))? {
            let Some(selection) = selection.filter(|_| !id.is_empty()) else { continue };
            if let Some(problem) = ledger.cleaning_problem(&id)? {
                rows.push((format!("source {id} cleaning"), problem));
            }
            if selection.is_remote() {
                // A listing has its price; SHOW FILES makes one.
                continue;
            }
            let ignored = selection.ignored(&ledger.ages(&id))?;
            let total: u64 = ignored.values().map(|ignored| ignored.files).sum();
            if total > 0 {
                let reasons: Vec<String> =
                    ignored.iter().map(|(reason, ignored)| format!("{}: {reason}", ignored.files)).collect();
                rows.push((format!("source {id} ignores"), format!("{total} files ({})", reasons.join("; "))));
            }
        }
        Ok(rows)
    }

    /// Warns when a changed statement says otherwise what was fixed at the first start.
    pub(super) fn warn_of_fixed_options(&self, old: &StreamEntry, new: &CreateStreamingTable) -> Result<()> {
        let before = self.file_relations(&create_of(old)?.query)?;
        for relation in self.file_relations(&new.query)? {
            let old = before.iter().find(|before| before.path() == relation.path());
            if old.is_some_and(|old| includes_existing(old) != includes_existing(&relation)) {
                let message = format!(
                    "includeExistingFiles of `{}` counts at a stream's first start only: the change does nothing",
                    relation.path()
                );
                if let Some(notices) = &self.inner.notices {
                    // The receiver goes first when the program ends.
                    let _ = notices.send(Notice::Warning(message));
                }
            }
        }
        Ok(())
    }
}

/// Runs `job` on a thread that may block.
async fn blocking<R: Send + 'static>(job: impl FnOnce() -> Result<R> + Send + 'static) -> Result<R> {
    tokio::task::spawn_blocking(job).await.map_err(|e| Error::internal(format!("a statement ended early: {e}")))?
}

fn includes_existing(relation: &FileRelation) -> bool {
    let RelationKind::Files { options, read_files, .. } = &relation.kind else { return true };
    FilesOptions::parse(options, *read_files).map_or(true, |(options, _)| options.include_existing_files)
}

type Selections = [(String, String, Option<Selection>)];

/// The paths that a typed one may mean: as a listing writes it, or as it stands (a URL, a path that is gone).
fn candidates(selections: &Selections, typed: &Text) -> Vec<String> {
    let mut paths: Vec<String> = vec![typed.value.clone()];
    for (_, _, selection) in selections {
        paths.extend(selection.iter().flat_map(|selection| selection.candidates(&typed.value)));
    }
    let mut seen = HashSet::new();
    paths.retain(|path| seen.insert(path.clone()));
    paths
}

fn forget(checkpoint: &Checkpoint, selections: &Selections, stream: &str, typed: &Text) -> Result<String> {
    let ledger = checkpoint.ledger();
    for path in candidates(selections, typed) {
        let mut told = None;
        for (source, _, selection) in selections.iter().filter(|(id, _, _)| !id.is_empty()) {
            // One that is too old to count is not known, and a statement can have it read all the same.
            let too_old = match selection {
                Some(selection) if ledger.entry(source, &path)?.is_none() => {
                    selection.candidates(&path).contains(&path) && selection.is_too_old(&path, &ledger.ages(source))?
                }
                _ => false,
            };
            let forgotten = checkpoint.forget_file(source, &path, too_old);
            match forgotten.map_err(|refusal| refused(refusal, stream, typed))? {
                Forgetting::Unknown | Forgetting::BeingCleaned => {}
                Forgetting::Done(None) => told = told.or(Some(String::new())),
                Forgetting::Done(Some(archived)) => told = Some(cleaned(&archived)),
            }
        }
        if let Some(cleaned) = told {
            return Ok(format!("stream `{stream}` reads `{path}` again when it finds it{cleaned}"));
        }
    }
    Err(Diagnostic::new("FILE_NOT_KNOWN", format!("stream `{stream}` does not know a file `{}`", typed.value))
        .at(typed.span)
        .help(format!("SHOW FILES FROM {stream} lists those it knows; a file that waits is read in any case"))
        .into())
}

/// Where a file is that is to be read again.
fn cleaned(archived: &Archived) -> String {
    match &archived.moved_to {
        Some(to) => format!("; cleanSource has moved it to `{to}`"),
        None => "; cleanSource has deleted it".to_owned(),
    }
}

fn skip(checkpoint: &Checkpoint, selections: &Selections, stream: &str, typed: &Text) -> Result<String> {
    let mut entries: Vec<LedgerEntry> = Vec::new();
    for (id, _, selection) in selections {
        let Some(selection) = selection.as_ref().filter(|_| !id.is_empty()) else { continue };
        let paths = selection.candidates(&typed.value);
        let mut file = None;
        for path in &paths {
            file = file.or(selection.stat(path)?);
        }
        let Some(path) = file.as_ref().map(|file| file.path.clone()).or_else(|| paths.first().cloned()) else {
            continue;
        };
        entries.push(LedgerEntry {
            source: id.clone(),
            path,
            state: FileState::Skipped,
            size: file.as_ref().map_or(0, |file| file.size),
            modified_ms: file.as_ref().map_or(i64::MIN, |file| file.modified_ms),
            epoch: None,
            discovered_ms: now_ms(),
            processed_ms: None,
            committed_ms: now_ms(),
            rows: None,
            archived: None,
            reason: None,
        });
    }
    let Some(first) = entries.first() else {
        let places: Vec<&str> = selections.iter().map(|(_, path, _)| path.as_str()).collect();
        return Err(Diagnostic::new(
            "FILE_NOT_IN_SOURCE",
            format!("`{}` is not below a directory that stream `{stream}` reads", typed.value),
        )
        .at(typed.span)
        .help(format!("it reads `{}`", places.join("`, `")))
        .into());
    };
    let message = format!("stream `{stream}` does not read `{}`", first.path);
    checkpoint.skip_file(&entries).map_err(|refusal| refused(refusal, stream, typed))?;
    Ok(message)
}

fn refused(refusal: Altering, stream: &str, typed: &Text) -> Error {
    let diagnostic = match refusal {
        Altering::Failed(error) => return error,
        Altering::Running(epoch) => Diagnostic::new(
            "FILE_IN_RUNNING_EPOCH",
            format!("epoch {epoch} of stream `{stream}` is reading `{}`", typed.value),
        )
        .help(format!("AWAIT STREAM {stream}, or REFRESH TABLE {stream} if it does not run, and try again")),
        Altering::Read(epoch) => Diagnostic::new(
            "FILE_ALREADY_READ",
            format!("epoch {epoch} of stream `{stream}` has read `{}`: its rows are in the table", typed.value),
        )
        .help("rows that are there stay; a file is kept out before it is read"),
    };
    diagnostic.at(typed.span).into()
}

/// Rows about a stream's files, made when they are asked for.
struct FileRows {
    session: Weak<Inner>,
    entry: Entry,
    stream: StreamEntry,
    all: bool,
    schema: SchemaRef,
}

impl fmt::Debug for FileRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileRows({})", self.entry.name)
    }
}

impl PartitionStream for FileRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStreamBuilder::new(self.schema.clone(), 2);
        let out = builder.tx();
        let session = self.session.upgrade().map(Session::on);
        let (entry, stream, all) = (self.entry.clone(), self.stream.clone(), self.all);
        builder.spawn_blocking(move || {
            let session = session.ok_or(Error::Interrupted)?;
            let give = |batch: RecordBatch| out.blocking_send(Ok(batch)).is_ok();
            let read = session.read_checkpoint(&entry, &stream, |checkpoint| {
                session.file_rows(&entry.name, &stream, Some(checkpoint), all, &give)
            });
            if read?.is_none() {
                session.file_rows(&entry.name, &stream, None, all, &give)?;
            }
            Ok::<(), DataFusionError>(())
        });
        builder.build()
    }
}

impl Session {
    /// Gives all rows until nobody wants more.
    fn file_rows(
        &self,
        name: &str,
        stream: &StreamEntry,
        checkpoint: Option<&Checkpoint>,
        all: bool,
        give: &dyn Fn(RecordBatch) -> bool,
    ) -> Result<()> {
        let ledger = checkpoint.map(Checkpoint::ledger);
        let reading = checkpoint.map(reading).transpose()?.unwrap_or_default();
        for (id, path, selection) in self.selections(stream, checkpoint)? {
            let mut rows = Vec::new();
            let mut heard = true;
            let hand_out = |rows: &mut Vec<FileStatus>| -> Result<bool> {
                let batch = if all { shown(&path, rows)? } else { state(name, &id, rows)? };
                rows.clear();
                Ok(give(batch))
            };
            let selection = selection.as_ref().filter(|_| all);
            statuses(&id, ledger.as_ref(), selection, &reading, &mut |status| {
                rows.push(status);
                if rows.len() >= BATCH_ROWS {
                    heard = hand_out(&mut rows)?;
                }
                Ok(heard)
            })?;
            if !heard || !rows.is_empty() && !hand_out(&mut rows)? {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// The files of the epoch that was begun and is not committed.
fn reading(checkpoint: &Checkpoint) -> Result<HashSet<String>> {
    let inputs = checkpoint.pending_intent()?.map(|intent| intent.inputs).unwrap_or_default();
    let files = inputs.into_iter().flat_map(|(_, input)| match input {
        EpochInput::Files(files) => files.files.to_vec(),
        EpochInput::Table(_) => Vec::new(),
    });
    Ok(files.map(|file| file.path).collect())
}

/// Rows of SHOW FILES.
fn shown(source: &str, rows: &[FileStatus]) -> Result<RecordBatch> {
    let known = |get: fn(&LedgerEntry) -> Option<i64>| rows.iter().map(move |row| row.known.as_ref().and_then(get));
    Table::new()
        .text("path", rows.iter().map(|row| Some(&row.path)))
        .number("size", rows.iter().map(|row| row.size))
        .time("modification_time", rows.iter().map(|row| row.modified_ms))
        .time("discovery_time", known(|known| Some(known.discovered_ms)))
        .time("processed_time", known(|known| known.processed_ms))
        .time("commit_time", known(committed_ms))
        .number("epoch", rows.iter().map(|row| row.known.as_ref().and_then(|known| known.epoch)))
        .text("state", rows.iter().map(|row| Some(row.state)))
        .text("reason", rows.iter().map(|row| Some(&row.reason)))
        .text("source", rows.iter().map(|_| Some(source)))
        .batch()
}

/// Rows of `cloud_files_state`.
fn state(stream: &str, source: &str, rows: &[FileStatus]) -> Result<RecordBatch> {
    let known = |get: fn(&LedgerEntry) -> Option<i64>| rows.iter().map(move |row| row.known.as_ref().and_then(get));
    let archived = || rows.iter().map(|row| row.known.as_ref().and_then(|known| known.archived.as_ref()));
    let mode = |archived: &Archived| if archived.moved_to.is_some() { "MOVE" } else { "DELETE" };
    Table::new()
        .text("path", rows.iter().map(|row| Some(&row.path)))
        .number("size", rows.iter().map(|row| row.size))
        .time("create_time", rows.iter().map(|row| row.modified_ms))
        .time("discovery_time", known(|known| Some(known.discovered_ms)))
        .time("processed_time", known(|known| known.processed_ms))
        .time("commit_time", known(committed_ms))
        .time("archive_time", archived().map(|archived| archived.map(|archived| archived.at_ms)))
        .text("archive_mode", archived().map(|archived| archived.map(mode)))
        .text("move_location", archived().map(|archived| archived.and_then(|archived| archived.moved_to.as_ref())))
        .text("source_id", rows.iter().map(|_| Some(source)))
        .text("flow_name", rows.iter().map(|_| Some(stream)))
        .text("ingestion_state", rows.iter().map(|row| row.known.as_ref().map(|known| known.state.ingestion_state())))
        .number("epoch", rows.iter().map(|row| row.known.as_ref().and_then(|known| known.epoch)))
        .text("state", rows.iter().map(|row| Some(row.state)))
        .text("reason", rows.iter().map(|row| Some(&row.reason)))
        .batch()
}

/// Only files that an epoch dealt with have been committed.
fn committed_ms(known: &LedgerEntry) -> Option<i64> {
    (known.state != FileState::Skipped).then_some(known.committed_ms)
}
