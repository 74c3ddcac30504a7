//! SHOW STREAMS, SHOW EPOCHS, SHOW TABLES, SET: small tables about the session and its streams.

use std::sync::Arc;

use alluvium_parser::{
    CreateStreamingTable, Diagnostic, Name, OutputMode, Place, StatementKind, Text, Trigger, parse_statement,
};
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema};

use crate::catalog::{Entry, Object, StreamEntry};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::metrics::EpochRecord;
use crate::query::{StreamState, StreamStatus};
use crate::session::Session;
use crate::session::outcome::{Outcome, Rows};

/// Columns of one table, built side by side.
pub(super) struct Table {
    fields: Vec<Field>,
    columns: Vec<ArrayRef>,
}

impl Table {
    pub(super) fn new() -> Self {
        Table { fields: Vec::new(), columns: Vec::new() }
    }

    fn add(mut self, name: &str, column: ArrayRef) -> Self {
        self.fields.push(Field::new(name, column.data_type().clone(), true));
        self.columns.push(column);
        self
    }

    pub(super) fn text<T: AsRef<str>>(self, name: &str, values: impl IntoIterator<Item = Option<T>>) -> Self {
        self.add(name, Arc::new(StringArray::from_iter(values)))
    }

    pub(super) fn number(self, name: &str, values: impl IntoIterator<Item = Option<u64>>) -> Self {
        let values = values.into_iter().map(|value| value.map(|v| v as i64));
        self.add(name, Arc::new(Int64Array::from_iter(values)))
    }

    pub(super) fn real(self, name: &str, values: impl IntoIterator<Item = Option<f64>>) -> Self {
        let values = values.into_iter().map(|value| value.map(|v| (v * 1000.0).round() / 1000.0));
        self.add(name, Arc::new(Float64Array::from_iter(values)))
    }

    /// Milliseconds since 1970 UTC.
    pub(super) fn time(self, name: &str, values: impl IntoIterator<Item = Option<i64>>) -> Self {
        let values = values.into_iter().map(|value| value.map(|ms| ms * 1000));
        let array = TimestampMicrosecondArray::from_iter(values).with_timezone("UTC");
        self.add(name, Arc::new(array))
    }

    pub(super) fn batch(self) -> Result<RecordBatch> {
        Ok(RecordBatch::try_new(Arc::new(Schema::new(self.fields)), self.columns)?)
    }

    pub(super) fn rows(self) -> Result<Outcome> {
        Ok(Outcome::Rows(Rows::batch(self.batch()?)))
    }
}

/// What is known of one stream, running or not.
pub(super) struct StreamView {
    pub name: String,
    pub query_id: Option<String>,
    pub state: String,
    pub trigger: String,
    pub mode: &'static str,
    pub last: Option<EpochRecord>,
    pub status: Option<StreamStatus>,
    pub error: Option<String>,
}

impl Session {
    pub(super) fn show_streams(&self) -> Result<Outcome> {
        let mut views = Vec::new();
        for entry in self.inner.catalog.list()? {
            if let Object::StreamingTable(stream) = &entry.object {
                views.push(self.stream_view(&entry, stream)?);
            }
        }
        let numbers = |get: fn(&StreamStatus) -> u64| views.iter().map(move |v| v.status.as_ref().map(get));
        Table::new()
            .text("name", views.iter().map(|v| Some(&v.name)))
            .text("id", views.iter().map(|v| v.query_id.as_ref()))
            .text("state", views.iter().map(|v| Some(&v.state)))
            .text("trigger", views.iter().map(|v| Some(&v.trigger)))
            .text("output_mode", views.iter().map(|v| Some(v.mode)))
            .number("last_epoch", views.iter().map(|v| v.last.as_ref().map(|record| record.epoch)))
            .number("rows_in", numbers(|s| s.rows_in))
            .number("rows_out", numbers(|s| s.rows_out))
            .real("rows_in_per_s", views.iter().map(|v| v.status.as_ref().map(|s| s.rows_per_s)))
            .number("backlog_files", numbers(|s| s.backlog.files))
            .number("backlog_bytes", numbers(|s| s.backlog.bytes))
            .text("last_error", views.iter().map(|v| v.error.as_ref()))
            .rows()
    }

    pub(super) fn stream_view(&self, entry: &Entry, stream: &StreamEntry) -> Result<StreamView> {
        let create = create_of(stream)?;
        let handle = self.inner.streams.get(&entry.name);
        let running = handle.as_ref().filter(|handle| !handle.status().state.ended());
        let (mut last, mut query_id, mut locked) = (None, None, false);
        if let Some(handle) = running {
            last = handle.status().last;
        } else if stream.checkpoint.exists() {
            locked = Checkpoint::is_held(&stream.checkpoint);
            if let Some(checkpoint) = Checkpoint::open_to_read(&stream.checkpoint)? {
                last = checkpoint.last_committed()?;
                query_id = Some(checkpoint.query_id().to_string());
            }
        }
        let query_id = query_id.or_else(|| Checkpoint::stored_query_id(&stream.checkpoint));
        let status = handle.as_ref().map(|handle| handle.status());
        let error = match status.as_ref().map(|status| &status.state) {
            Some(StreamState::Failed(error)) => Some(error.diagnostic().to_string()),
            _ => None,
        };
        let state = match (&status, locked) {
            (_, true) => "RUNNING ELSEWHERE".to_string(),
            (Some(status), _) => status.state.word().to_string(),
            (None, _) => "STOPPED".to_string(),
        };
        let trigger = match (&handle, &create.trigger) {
            (Some(handle), _) => trigger_sql(handle.trigger()),
            (None, Some(clause)) => trigger_sql(clause.trigger),
            (None, None) => "default".into(),
        };
        let mode = mode_sql(create.output_mode.map_or(OutputMode::Append, |(mode, _)| mode));
        Ok(StreamView { name: entry.name.clone(), query_id, state, trigger, mode, last, status, error })
    }

    pub(super) fn show_epochs(&self, name: &Name, limit: Option<u64>) -> Result<Outcome> {
        let (entry, stream) = self.streaming_entry(name)?;
        let limit = limit.map(|limit| limit as usize);
        let records = self.read_checkpoint(&entry, &stream, |checkpoint| checkpoint.epochs(limit))?.unwrap_or_default();
        let real = |get: fn(&EpochRecord) -> f64| records.iter().map(move |r| Some(get(r)));
        let number = |get: fn(&EpochRecord) -> u64| records.iter().map(move |r| Some(get(r)));
        Table::new()
            .number("epoch", number(|r| r.epoch))
            .time("started", records.iter().map(|r| Some(r.started_ms)))
            .real("duration_ms", real(|r| r.plan_ms + r.run_ms + r.publish_ms))
            .real("plan_ms", real(|r| r.plan_ms))
            .real("run_ms", real(|r| r.run_ms))
            .real("publish_ms", real(|r| r.publish_ms))
            .number("rows_in", number(|r| r.rows_in))
            .number("rows_out", number(|r| r.rows_out))
            .number("rows_late", number(|r| r.rows_late))
            .number("rows_future", number(|r| r.rows_future))
            .time("watermark", records.iter().map(|r| r.watermark_us.map(|us| us.div_euclid(1000))))
            .number("rows_rescued", number(|r| r.rows_rescued))
            .number("records_corrupt", number(|r| r.records_corrupt))
            .number("files_corrupt", number(|r| r.files_corrupt))
            .number("files", number(|r| r.files))
            .number("bytes", number(|r| r.bytes))
            .number("table_version", records.iter().map(|r| r.table_version))
            .number("schema_version", records.iter().map(|r| r.schema_version))
            .text("new_columns", records.iter().map(|r| (!r.new_columns.is_empty()).then(|| r.new_columns.join(", "))))
            .rows()
    }

    /// Looks into a stream's checkpoint, wherever the stream runs: its own if it runs here, else as it is on disk now.
    /// None: there is none yet.
    pub(super) fn read_checkpoint<T>(
        &self,
        entry: &Entry,
        stream: &StreamEntry,
        look: impl FnOnce(&Checkpoint) -> Result<T>,
    ) -> Result<Option<T>> {
        let running = self.running(&entry.name).and_then(|handle| handle.checkpoint());
        match running.map_or_else(|| Checkpoint::open_to_read(&stream.checkpoint), |own| Ok(Some(own)))? {
            Some(checkpoint) => look(&checkpoint).map(Some),
            None => Ok(None),
        }
    }

    /// Changes a stream's checkpoint: the running stream's own if it runs here. None: there is none yet. Errors:
    /// CHECKPOINT_LOCKED when it runs elsewhere.
    pub(super) fn with_checkpoint<T>(
        &self,
        entry: &Entry,
        stream: &StreamEntry,
        look: impl FnOnce(&Checkpoint) -> Result<T>,
    ) -> Result<Option<T>> {
        if let Some(checkpoint) = self.running(&entry.name).and_then(|handle| handle.checkpoint()) {
            return look(&checkpoint).map(Some);
        }
        if !stream.checkpoint.exists() {
            return Ok(None);
        }
        look(&Checkpoint::open(&stream.checkpoint, &entry.name)?).map(Some)
    }

    pub(super) fn show_relations(&self, views: bool, schema: Option<&Name>, pattern: Option<&Text>) -> Result<Outcome> {
        if let Some(schema) = schema
            && !schema.parts.iter().all(|part| part.eq_ignore_ascii_case("default"))
        {
            return Err(Diagnostic::new(
                "SCHEMA_NOT_FOUND",
                format!("there is no schema `{}`", schema.parts.join(".")),
            )
            .at(schema.span)
            .help("all tables and views are in the schema `default`")
            .into());
        }
        let mut rows: Vec<(String, String, bool)> = Vec::new();
        for entry in self.inner.catalog.list()? {
            let view = matches!(entry.object, Object::View(_));
            if view || !views {
                rows.push((entry.name.clone(), entry.kind().to_string(), false));
            }
        }
        for (_, name) in self.temporary_views().values() {
            rows.push((name.clone(), "VIEW".into(), true));
        }
        if let Some(pattern) = pattern {
            rows.retain(|(name, _, _)| pattern.value.split('|').any(|one| is_like(name, one.trim())));
        }
        rows.sort_by_key(|(name, _, _)| name.to_lowercase());
        Table::new()
            .text("database", rows.iter().map(|(_, _, temporary)| Some(if *temporary { "" } else { "default" })))
            .text(if views { "viewName" } else { "tableName" }, rows.iter().map(|(name, _, _)| Some(name)))
            .text("type", rows.iter().map(|(_, kind, _)| Some(kind)))
            .text("isTemporary", rows.iter().map(|(_, _, temporary)| Some(temporary.to_string())))
            .rows()
    }

    pub(super) fn set(&self, key: &str, value: &str) -> Result<Outcome> {
        let mut settings = self.settings();
        settings.set(key, value)?;
        self.change_settings(settings)?;
        Ok(Outcome::Done(format!("{key} = {value}")))
    }

    pub(super) fn reset(&self, key: &str) -> Result<Outcome> {
        let mut settings = self.settings();
        settings.reset(key)?;
        self.change_settings(settings)?;
        Ok(Outcome::Done(format!("{key} is at its default")))
    }

    pub(super) fn show_settings(&self, only: Option<&Text>) -> Result<Outcome> {
        let mut rows = self.settings().rows();
        if let Some(key) = only {
            rows.retain(|(name, _, _)| name.eq_ignore_ascii_case(&key.value));
            if rows.is_empty() {
                // The same refusal as SET with this key.
                self.settings().set(&key.value, "").map_err(|e| Error::from(e).at_least(key.span))?;
            }
        }
        Table::new()
            .text("key", rows.iter().map(|(name, _, _)| Some(name)))
            .text("value", rows.iter().map(|(_, value, _)| Some(value)))
            .text("meaning", rows.iter().map(|(_, _, meaning)| Some(meaning)))
            .rows()
    }
}

/// The parsed statement of a stream.
pub(super) fn create_of(stream: &StreamEntry) -> Result<CreateStreamingTable> {
    match parse_statement(&stream.statement, Place { line: 1, column: 1 })?.kind {
        StatementKind::CreateStreamingTable(create) => Ok(*create),
        _ => Err(Error::internal("a stream's stored text is not CREATE STREAMING TABLE")),
    }
}

/// `1 row`, `2 rows`.
pub(super) fn counted(number: u64) -> String {
    format!("{number} row{}", if number == 1 { "" } else { "s" })
}

/// A trigger as SQL.
pub(super) fn trigger_sql(trigger: Trigger) -> String {
    match trigger {
        Trigger::ProcessingTime(interval) => format!("PROCESSING TIME '{} milliseconds'", interval.as_millis()),
        Trigger::AvailableNow => "AVAILABLE NOW".into(),
        Trigger::Once => "ONCE".into(),
    }
}

/// An output mode as SQL.
pub(super) fn mode_sql(mode: OutputMode) -> &'static str {
    match mode {
        OutputMode::Append => "APPEND",
        OutputMode::Complete => "COMPLETE",
        OutputMode::Update => "UPDATE",
    }
}

/// Whether a name is like a pattern, without case; `*` is any text.
fn is_like(name: &str, pattern: &str) -> bool {
    let (name, pattern) = (name.to_lowercase(), pattern.to_lowercase());
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}
