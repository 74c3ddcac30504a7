//! From names and paths to relations: what a query reads, found and opened before anything is planned.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_parser::{
    Diagnostic, Place, Query, Relation, RelationKind, Span, Statement, StatementKind, parse_statement, without_layout,
};
use alluvium_planner::bind::{Resolved, Wanted, bind, wanted};
use alluvium_planner::options::TableStreamOptions;
use alluvium_planner::relation::{
    FilesSpec, METADATA_COLUMN, SourceKind, SourceSpec, StaticReference, StaticRelation, StreamRelation, TableSpec,
};
use alluvium_planner::{ddl, streaming};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::datasource::ViewTable;
use datafusion::logical_expr::LogicalPlan;
use futures::future::BoxFuture;

use crate::catalog::{Entry, Object, qualified, table_name};
use crate::error::{Error, Result};
use crate::session::Session;
use crate::source::files::schema_log::{SchemaLog, SchemaVersion};
use crate::source::files::{self, ResolvedFiles, Sampling};
use crate::state::hash64;
use crate::table;

/// Code of the error that says: wait for the first file.
pub(super) const EMPTY_DIRECTORY: &str = "EMPTY_DIRECTORY";

/// Columns of file sources as the first release kept them in the checkpoint: DDL text by path.
pub(super) type FormerSchemas = BTreeMap<String, String>;

/// What is known of the columns of a query's file sources before it is planned.
#[derive(Debug, Default)]
pub(super) struct StoredSchemas {
    checkpoint: Option<PathBuf>,
    fresh: bool,
    former: FormerSchemas,
    proposed: Vec<(SchemaLog, SchemaVersion)>,
    /// How many sources of each path were met.
    met: Mutex<BTreeMap<String, usize>>,
    /// The queries that were bound: those of views before those that read them.
    queries: Mutex<Vec<String>>,
}

impl StoredSchemas {
    /// Nothing: columns are learnt anew, and kept nowhere.
    pub(super) fn new() -> Self {
        StoredSchemas::default()
    }

    /// Those of the stream with this checkpoint.
    pub(super) fn of_stream(checkpoint: &Path) -> Self {
        StoredSchemas { checkpoint: Some(checkpoint.to_owned()), ..StoredSchemas::default() }
    }

    /// What the checkpoint has belongs to a stream that goes.
    pub(super) fn fresh(self, fresh: bool) -> Self {
        StoredSchemas { fresh, ..self }
    }

    /// With columns that the first release kept, where there are no versions yet.
    pub(super) fn or_former(self, former: FormerSchemas) -> Self {
        StoredSchemas { former, ..self }
    }

    /// With versions that are not stored yet.
    pub(super) fn proposing(self, proposed: Vec<(SchemaLog, SchemaVersion)>) -> Self {
        StoredSchemas { proposed, ..self }
    }

    /// What tells the queries that were bound since the last call from others, whatever their layout.
    pub(super) fn take_queries(&self) -> String {
        let queries = std::mem::take(&mut *self.queries.lock().unwrap_or_else(PoisonError::into_inner));
        let texts: Vec<String> = queries.iter().map(|query| without_layout(query)).collect();
        format!("{:016x}", hash64(texts.join("\n").as_bytes()))
    }

    /// For the next source of this path, with what is not stored from `session`.
    fn context(&self, path: &str, session: files::Context) -> Result<files::Context> {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        let count = met.entry(path.to_owned()).or_default();
        let ordinal = std::mem::replace(count, *count + 1);
        let former = self.former.get(path).map(|text| ddl::parse_ddl(text)).transpose()?;
        Ok(files::Context {
            schema_log: self.checkpoint.as_ref().map(|at| SchemaLog::of_source(at, path, ordinal)),
            fresh: self.fresh,
            proposed: self.proposed.clone(),
            former,
            ..session
        })
    }
}

impl Session {
    /// Finds everything a query reads and binds it.
    pub(super) async fn bind(&self, query: &Query, stored: &StoredSchemas) -> Result<LogicalPlan> {
        if let Some((clause, span)) = query.not_yet.first() {
            return Err(not_yet(clause, *span));
        }
        let mut resolved = Vec::new();
        for want in wanted(query) {
            resolved.push(match want {
                Wanted::Named { parts, span } => {
                    self.named(&parts, span, stored).await.map_err(|e| e.at_least(span))?
                }
                Wanted::Special { relation, .. } => {
                    self.special(relation, stored).await.map_err(|e| e.at_least(relation.span))?
                }
            });
        }
        stored.queries.lock().unwrap_or_else(PoisonError::into_inner).push(query.text.clone());
        Ok(bind(query, &resolved, &self.state())?)
    }

    /// A table or view by name, read whole; a view over a stream is a stream.
    fn named<'a>(
        &'a self,
        parts: &'a [String],
        span: Span,
        stored: &'a StoredSchemas,
    ) -> BoxFuture<'a, Result<Resolved>> {
        Box::pin(async move {
            let name = qualified(parts).map_err(|e| e.at_least(span))?;
            if let Some(view) = self.view_statement(&name)? {
                return self.view(&view, stored).await;
            }
            let entry = self.entry(&name, span)?;
            let location = entry.location().map(|l| l.to_string_lossy().into_owned()).unwrap_or_default();
            self.delta(&location, None, Some(&entry.name)).await
        })
    }

    /// The parsed CREATE statement of a view, if the name is one.
    pub(super) fn view_statement(&self, name: &str) -> Result<Option<Statement>> {
        let temporary = self.temporary_views().get(&name.to_lowercase()).map(|(text, _)| text.clone());
        let text = match temporary {
            Some(text) => text,
            None => match self.inner.catalog.get(name)? {
                Some(Entry { object: Object::View(view), .. }) => view.statement,
                _ => return Ok(None),
            },
        };
        Ok(Some(parse_statement(&text, Place { line: 1, column: 1 })?))
    }

    fn view<'a>(&'a self, statement: &'a Statement, stored: &'a StoredSchemas) -> BoxFuture<'a, Result<Resolved>> {
        Box::pin(self.open_view(statement, stored))
    }

    async fn open_view(&self, statement: &Statement, stored: &StoredSchemas) -> Result<Resolved> {
        let StatementKind::CreateView(view) = &statement.kind else {
            return Err(Error::internal("a view's stored text is not CREATE VIEW"));
        };
        // Places inside the view's own text mean nothing to the reader of the statement that uses it.
        let plan = self
            .bind(&view.query, stored)
            .await
            .map_err(|error| unplaced(error, &format!("view `{}`", view.name.parts.join("."))))?;
        let plan = super::ddl::rename_columns(plan, &view.columns)?;
        Ok(Resolved { provider: Arc::new(ViewTable::new(plan, None)), has_metadata: false })
    }

    /// The catalog entry of a table, or an error that names near ones.
    pub(super) fn entry(&self, name: &str, span: Span) -> Result<Entry> {
        if let Some(entry) = self.inner.catalog.get(name)? {
            return Ok(entry);
        }
        if let Some((_, view)) = self.temporary_views().get(&name.to_lowercase()) {
            return Err(Diagnostic::new("NOT_A_TABLE", format!("`{view}` is a temp view"))
                .at(span)
                .help("a view is only a query; this statement needs a table, so name the table the view reads")
                .into());
        }
        let mut known: Vec<String> = self.inner.catalog.list()?.into_iter().map(|entry| entry.name).collect();
        known.extend(self.temporary_views().values().map(|(_, name)| name.clone()));
        let mut error = Diagnostic::new("TABLE_NOT_FOUND", format!("there is no table or view `{name}`")).at(span);
        if let Some(near) = alluvium_planner::near::nearest(name, known.iter().map(String::as_str)) {
            error = error.help(format!("did you mean `{near}`?"));
        } else {
            error = error.help("SHOW TABLES lists what there is");
        }
        Err(error.into())
    }

    /// A Delta table, read whole.
    async fn delta(&self, location: &str, version: Option<u64>, name: Option<&str>) -> Result<Resolved> {
        let path = table::table_path(location)?;
        if !table::exists(&path) {
            let Some(name) = name else { return Err(no_delta_table(location)) };
            return Err(Diagnostic::new(
                "TABLE_PENDING",
                format!("`{name}` has no columns yet: no file has arrived for it"),
            )
            .help(format!("REFRESH TABLE {name} when there are files, or give the source a `schema`"))
            .into());
        }
        if let Some(version) = version {
            let latest = table::latest_version(&path).await?;
            if version > latest {
                let name = name.unwrap_or(location);
                return Err(Diagnostic::new(
                    "VERSION_NOT_FOUND",
                    format!("`{name}` has no version {version}; its latest is {latest}"),
                )
                .help(format!("DESCRIBE HISTORY {name} lists them"))
                .into());
            }
        }
        let provider = table::provider(&path, version).await?;
        let location = location.to_string();
        let reference = match version {
            Some(version) => StaticReference::DeltaVersion { location, version },
            None => StaticReference::Delta { location },
        };
        Ok(Resolved { provider: Arc::new(StaticRelation { reference, provider }), has_metadata: false })
    }

    async fn special(&self, relation: &Relation, stored: &StoredSchemas) -> Result<Resolved> {
        match &relation.kind {
            RelationKind::Stream { name, options } => {
                let options = TableStreamOptions::parse(options)?;
                let table = table_name(name)?;
                if let Some(view) = self.view_statement(&table)? {
                    let resolved = self.view(&view, stored).await?;
                    let plan = resolved.provider.get_logical_plan().map(|plan| plan.into_owned());
                    if plan.as_ref().and_then(streaming_source).is_none() {
                        return Err(Diagnostic::new(
                            "STREAM_OF_STATIC_VIEW",
                            format!("`{table}` is a view over static relations, not a stream"),
                        )
                        .at(name.span)
                        .help("write STREAM in front of the tables inside the view")
                        .into());
                    }
                    return Ok(resolved);
                }
                let entry = self.entry(&table, name.span)?;
                let location = entry.location().map(|l| l.to_string_lossy().into_owned()).unwrap_or_default();
                self.table_stream(&entry.name, &location, options, relation.span).await
            }
            RelationKind::StreamPath { format, path, options } if format.value.eq_ignore_ascii_case("delta") => {
                let options = TableStreamOptions::parse(options)?;
                self.table_stream(&path.value, &path.value, options, relation.span).await
            }
            RelationKind::StreamPath { format, path, .. } => Err(Diagnostic::new(
                "STREAM_OF_PATH",
                format!("STREAM reads Delta tables, and `{}` is a directory of {} files", path.value, format.value),
            )
            .at(relation.span)
            .help(format!("write cloud_files('{}', '{}')", path.value, format.value))
            .into()),
            RelationKind::Files { streaming: true, .. } => self.file_stream(relation, stored).await,
            RelationKind::Path { format, path } if format.value.eq_ignore_ascii_case("delta") => {
                self.delta(&path.value, None, None).await
            }
            RelationKind::Files { .. } | RelationKind::Path { .. } => {
                let provider = files::static_provider(&relation.kind, relation.span, self.files_context()).await?;
                let has_metadata = ends_in_metadata(&provider.schema());
                let reference = StaticReference::Files { path: String::new() };
                Ok(Resolved { provider: Arc::new(StaticRelation { reference, provider }), has_metadata })
            }
            RelationKind::Named { name } => self.named(&name.parts, name.span, stored).await,
            RelationKind::Version { name, version } => {
                let entry = self.entry(&table_name(name)?, name.span)?;
                let location = entry.location().map(|l| l.to_string_lossy().into_owned()).unwrap_or_default();
                self.delta(&location, Some(*version), Some(&entry.name)).await
            }
            RelationKind::Timestamp { name, timestamp } => {
                let entry = self.entry(&table_name(name)?, name.span)?;
                let location = entry.location().map(|l| l.to_string_lossy().into_owned()).unwrap_or_default();
                let ms = parse_timestamp_ms(&timestamp.value).ok_or_else(|| {
                    Diagnostic::new("INVALID_TIMESTAMP", format!("`{}` is not a timestamp", timestamp.value))
                        .at(timestamp.span)
                        .help("write '2026-01-31 12:00:00'")
                })?;
                let version = table::version_at(&table::table_path(&location)?, ms).await?;
                self.delta(&location, Some(version), Some(&entry.name)).await
            }
            RelationKind::CloudFilesState { table, all } => self.cloud_files_state(&table.value, *all, table.span),
            RelationKind::State { table, operator } => self.state_of_stream(&table.value, *operator, table.span),
            RelationKind::NotYet { what } => Err(not_yet(what, relation.span)),
        }
    }

    /// New rows of a Delta table.
    async fn table_stream(
        &self,
        name: &str,
        location: &str,
        mut options: TableStreamOptions,
        span: Span,
    ) -> Result<Resolved> {
        let path = table::table_path(location)?;
        if !table::exists(&path) {
            if name == location {
                return Err(no_delta_table(location).at_least(span));
            }
            return Err(Diagnostic::new(
                "TABLE_PENDING",
                format!("`{name}` has no columns yet: no file has arrived for it"),
            )
            .at(span)
            .help(format!("REFRESH TABLE {name} when there are files, or give the source a `schema`"))
            .into());
        }
        if let Some(files) = self.inner.files_per_epoch {
            options.max_files_per_trigger = Some(files);
        }
        let schema = table::Head::open(&path).await?.schema();
        let location = path.to_string_lossy().into_owned();
        let spec = SourceSpec {
            kind: SourceKind::Table(Arc::new(TableSpec { name: name.to_string(), location, options })),
            title: format!("STREAM {name}"),
            span,
            schema,
        };
        Ok(Resolved { provider: Arc::new(StreamRelation { spec: Arc::new(spec) }), has_metadata: false })
    }

    /// New files of a directory.
    async fn file_stream(&self, relation: &Relation, stored: &StoredSchemas) -> Result<Resolved> {
        let RelationKind::Files { path, .. } = &relation.kind else {
            return Err(Error::internal("not a file relation"));
        };
        let context = stored.context(&path.value, self.files_context())?;
        let mut spec = match files::resolve(&relation.kind, relation.span, context).await? {
            ResolvedFiles::Ready(spec) => spec,
            ResolvedFiles::Waiting { .. } => {
                return Err(Diagnostic::new(
                    EMPTY_DIRECTORY,
                    format!("no file has arrived in `{}` yet, so its columns are unknown", path.value),
                )
                .at(relation.span)
                .help("let the stream wait for the first file, or give the columns: 'schema', 'id BIGINT, name STRING'")
                .into());
            }
        };
        if let (Some(files), SourceKind::Files(kind)) = (self.inner.files_per_epoch, &spec.kind) {
            let mut kind = FilesSpec::clone(kind);
            kind.options.max_files_per_trigger = Some(files);
            spec.kind = SourceKind::Files(Arc::new(kind));
        }
        let has_metadata = ends_in_metadata(&spec.schema);
        Ok(Resolved { provider: Arc::new(StreamRelation { spec: Arc::new(spec) }), has_metadata })
    }

    /// What the session's settings say of reading files.
    pub(super) fn files_context(&self) -> files::Context {
        let settings = self.settings();
        let files_max = usize::try_from(settings.sample_files).unwrap_or(usize::MAX);
        let sampling = Sampling { files_max, bytes_max: settings.sample_bytes };
        files::Context { sampling, time_zone: settings.timezone.clone(), ..files::Context::default() }
    }

    /// The columns of a table or view.
    pub(super) async fn columns_of(&self, name: &str) -> Result<SchemaRef> {
        let parts = [name.to_string()];
        let resolved = self.named(&parts, Span::UNKNOWN, &StoredSchemas::new()).await?;
        Ok(resolved.provider.schema())
    }
}

fn no_delta_table(location: &str) -> Error {
    Diagnostic::new("TABLE_NOT_FOUND", format!("there is no Delta table in `{location}`"))
        .help("a Delta table has a directory _delta_log; files of other formats are read with parquet.`…`, json.`…`, …")
        .into()
}

fn streaming_source(plan: &LogicalPlan) -> Option<Arc<SourceSpec>> {
    streaming::first_stream(plan)
}

fn ends_in_metadata(schema: &Schema) -> bool {
    schema.fields().last().is_some_and(|field| field.name() == METADATA_COLUMN)
}

/// An error of a part of the language this release does not carry out.
pub(super) fn not_yet(what: &str, span: Span) -> Error {
    Diagnostic::new("NOT_SUPPORTED_YET", format!("{what} is not supported in this release"))
        .at(span)
        .help("leave it out or write it another way; docs/sql.md lists what works")
        .into()
}

/// The error of a stored text, without the place, which means nothing in the statement that was typed, and with the
/// name of what it belongs to.
pub(super) fn unplaced(error: Error, owner: &str) -> Error {
    let strip = |mut diagnostic: Box<Diagnostic>| {
        diagnostic.span = Span::UNKNOWN;
        diagnostic.message = format!("{} (in {owner})", diagnostic.message);
        diagnostic
    };
    match error {
        Error::Statement(diagnostic) if diagnostic.code != EMPTY_DIRECTORY => Error::Statement(strip(diagnostic)),
        Error::Environment(diagnostic) => Error::Environment(strip(diagnostic)),
        other => other,
    }
}

/// Milliseconds since 1970 of `2026-01-31 12:00:00[.fff]`, a date, or either with `T` and `Z`; UTC.
fn parse_timestamp_ms(text: &str) -> Option<i64> {
    let text = text.trim().trim_end_matches('Z').replace('T', " ");
    let midnight = |date: chrono::NaiveDate| date.and_hms_opt(0, 0, 0);
    chrono::NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S%.f")
        .ok()
        .or_else(|| chrono::NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok().and_then(midnight))
        .map(|at| at.and_utc().timestamp_millis())
}
