//! What a file relation of a statement means: its place, format, options and columns. Nothing is created or written.
//!
//! Columns come from the `schema` option, from the newest stored version, or from a sample of the files, in this order.
//! `schemaHints` replace or add columns of a learnt schema. When columns are learnt, a rescue column comes last, unless
//! `schemaEvolutionMode` is `none`. `key=value` directories become columns behind those of the files.

mod format;
mod spec;
mod waiting;

use std::sync::Arc;

use alluvium_formats::{Format, FormatOptions};
use alluvium_parser::{Diagnostic, OptionEntry, RelationKind, Span, Text};
use alluvium_planner::ddl::parse_ddl;
use alluvium_planner::options::FilesOptions;
use alluvium_planner::relation::{FilesSpec, METADATA_COLUMN, SourceKind, SourceSpec, with_metadata_column};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::catalog::TableProvider;

pub use spec::{
    check_schema_location, columns_of, entries, files_of, format_options, lister, one_file, option_names,
    partition_base, store_schema, strict_globs, watches_fields,
};
pub use waiting::WaitingForFiles;

use super::evolve;
use super::infer;
use super::listing::Lister;
use super::provider;
use super::root::{Root, Target};
use super::rules::Times;
use super::schema_log::{SchemaLog, SchemaVersion};
use super::selection::Selection;
use super::store::{self, Place};
use super::{FileEntry, blocking, clean, hints, partition_columns};
use crate::error::{Error, Result};
use crate::table;
use format::{agreed_format, take_format};
pub(super) use spec::name_filter;
use spec::{hidden, lister_of};

/// A file relation, resolved.
pub enum ResolvedFiles {
    /// It can be planned.
    Ready(SourceSpec),
    /// A stream without a given schema over a place without records: its columns are not known before the first
    /// file comes.
    Waiting(WaitingForFiles),
}

/// What resolving goes by besides the statement.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// From how much of the files columns are learnt.
    pub sampling: infer::Sampling,
    /// Where the stream keeps versions of this source's schema if no option says; None: nowhere.
    pub schema_log: Option<SchemaLog>,
    /// What is stored there is of a stream that is being replaced.
    pub fresh: bool,
    /// Versions that are to be stored if the query can be planned with them: taken for the newest.
    pub proposed: Vec<(SchemaLog, SchemaVersion)>,
    /// Columns that a checkpoint keeps which has no versions yet.
    pub former: Option<Schema>,
    /// The session's time zone; empty: UTC.
    pub time_zone: String,
}

impl Context {
    fn stored(&self, log: &SchemaLog) -> Result<Option<SchemaVersion>> {
        if let Some((_, version)) = self.proposed.iter().find(|(at, _)| at == log) {
            return Ok(Some(version.clone()));
        }
        if self.fresh && self.schema_log.as_ref() == Some(log) { Ok(None) } else { log.latest() }
    }
}

/// Resolves `cloud_files(…)`, `[STREAM] read_files(…)` or `` format.`path` ``.
pub async fn resolve(relation: &RelationKind, span: Span, context: Context) -> Result<ResolvedFiles> {
    let typed = Typed::parse(relation, span)?;
    blocking(move || typed.resolve(context)).await.map_err(|e| e.at_least(span))
}

/// All files of a relation, as of each scan.
pub async fn static_provider(relation: &RelationKind, span: Span, context: Context) -> Result<Arc<dyn TableProvider>> {
    let typed = Typed::parse(relation, span)?;
    match blocking(move || typed.resolve(context)).await.map_err(|e| e.at_least(span))? {
        ResolvedFiles::Ready(source) => match &source.kind {
            SourceKind::Files(spec) => provider::listed(&source, spec),
            SourceKind::Table(_) => Err(Error::internal("a file relation became a table")),
        },
        ResolvedFiles::Waiting(waiting) => Err(infer::nothing_to_learn(&waiting.title).at_least(span)),
    }
}

/// A relation with its options parsed and nothing looked up.
pub(super) struct Typed {
    title: String,
    path: Text,
    format: Option<Text>,
    streaming: bool,
    strict: bool,
    /// Whether it is written as format.`path`.
    by_path: bool,
    options: FilesOptions,
    format_options: Vec<OptionEntry>,
    span: Span,
}

impl Typed {
    pub(super) fn parse(relation: &RelationKind, span: Span) -> Result<Typed> {
        let (path, format, entries, streaming, read_files, title) = match relation {
            RelationKind::Files { path, format, options, streaming, read_files } => {
                let function = if *read_files { "read_files" } else { "cloud_files" };
                let title = format!("{function}('{}')", path.value);
                (path, format.clone(), options.clone(), *streaming, *read_files, title)
            }
            RelationKind::Path { format, path } => {
                (path, Some(format.clone()), Vec::new(), false, true, format!("{}.`{}`", format.value, path.value))
            }
            other => return Err(Error::internal(format!("not a file relation: {other:?}"))),
        };
        let (entries, in_options) = take_format(entries);
        let (entries, strict) = take_strict(entries, read_files)?;
        let (options, format_options) =
            FilesOptions::parse(&entries, read_files).map_err(|e| Error::from(e.at_least(span)))?;
        let format = agreed_format(format, in_options)?;
        let by_path = matches!(relation, RelationKind::Path { .. });
        let path = path.clone();
        let typed = Typed { title, path, format, streaming, strict, by_path, options, format_options, span };
        typed.check_stream_only()?;
        typed.check_discovery()?;
        Ok(typed)
    }

    fn check_discovery(&self) -> Result<()> {
        let only_of_streams = self.options.discovery.only_of_streams().or(self.options.event_time.given());
        if let Some(option) = only_of_streams.filter(|_| !self.streaming) {
            return Err(Diagnostic::new(
                "INVALID_OPTION",
                format!("option `{option}` belongs to a stream, and {} reads once", self.title),
            )
            .at(self.span)
            .help("leave it out, or write STREAM before read_files")
            .into());
        }
        hidden(&self.options).map(|_| ()).map_err(|e| e.at_least(self.span))
    }

    pub(super) fn selection(&self) -> Result<Selection> {
        let discovery = &self.options.discovery;
        let (times, overwrites) = (Times::of(discovery), discovery.allow_overwrites);
        if let Some(remote) = self.place()?.remote() {
            return Ok(Selection::of_objects(&self.path.value, remote.clone(), times, overwrites));
        }
        let root = Root::find(&self.path.value, self.strict).map_err(|e| e.at_least(self.path.span))?;
        Ok(Selection::new(&self.path.value, self.lister(root)?, times, overwrites))
    }

    fn lister(&self, root: Root) -> Result<Lister> {
        lister_of(root, &self.options).map_err(|e| e.at_least(self.span))
    }

    /// Options that mean something to a stream only.
    fn check_stream_only(&self) -> Result<()> {
        let option = match &self.options {
            _ if self.streaming => return Ok(()),
            options if options.schema_location.is_some() => "schemaLocation",
            options if options.schema_evolution_restart => "schemaEvolutionRestart",
            _ => return Ok(()),
        };
        Err(Diagnostic::new(
            "INVALID_OPTION",
            format!("option `{option}` is for streams, and {} reads once", self.title),
        )
        .at(self.span)
        .help("leave it out, or write STREAM read_files(…)")
        .into())
    }

    /// Where versions of the schema are; only streams have any.
    fn schema_log(&self, context: &Context) -> Result<Option<SchemaLog>> {
        if !self.streaming {
            return Ok(None);
        }
        match &self.options.schema_location {
            Some(location) => {
                let local = table::table_path(location)?;
                let local = std::path::absolute(&local).map_err(|e| Error::io("find", &local, &e))?;
                Ok(Some(SchemaLog::below(&local)))
            }
            None => Ok(context.schema_log.clone()),
        }
    }

    pub(super) fn place(&self) -> Result<Place> {
        let names = store::Names::of(&self.options)?;
        Place::find(&self.path.value, self.strict, &self.options.store, names).map_err(|e| e.at_least(self.path.span))
    }

    /// Refuses paths that are something else than what is to be read.
    fn check_place(&self, place: &Place, known: bool) -> Result<()> {
        if let Some(remote) = place.remote() {
            if let Some(clean_source) = &self.options.discovery.clean_source {
                let archive = store::Archive::new(remote.clone(), clean_source, &self.options.store);
                archive.map_err(|e| e.at_least(self.span))?;
            }
            // Asking costs listings: not of a stream that ran before, nor of one that is told of its files.
            if known || self.options.store.use_notifications {
                return Ok(());
            }
            return store::check_relation(remote, &self.path.value, self.streaming)
                .map_err(|e| e.at_least(self.path.span));
        }
        let root = Root::find(&self.path.value, self.strict).map_err(|e| e.at_least(self.path.span))?;
        if self.streaming && root.target == Target::File {
            return Err(one_file(&self.path.value).at_least(self.path.span));
        }
        if root.target == Target::Directory && root.base.join("_delta_log").is_dir() {
            return Err(delta_table(&self.path.value).at(self.path.span).into());
        }
        if let Some(clean_source) = &self.options.discovery.clean_source {
            clean::destination(&root, clean_source).map_err(|e| e.at_least(self.span))?;
        }
        Ok(())
    }

    /// Whether the path names a directory, in whose files others may lie.
    fn is_directory(&self, place: &Place) -> bool {
        match place.remote() {
            Some(remote) => remote.address().pattern.is_none() && !self.path.value.ends_with(".parquet"),
            None => Root::find(&self.path.value, self.strict).is_ok_and(|root| root.target == Target::Directory),
        }
    }

    pub(super) fn resolve(self, context: Context) -> Result<ResolvedFiles> {
        let place = self.place()?;
        let known = match self.schema_log(&context)? {
            Some(log) => context.stored(&log)?.is_some(),
            None => false,
        };
        self.check_place(&place, known)?;
        let format = self.format()?;
        let given = match &self.options.schema {
            Some(ddl) => Some(nullable(&parse_ddl(ddl).map_err(|e| Error::from(e.at_least(self.span)))?)),
            None => None,
        };
        // What is named by its path alone is what the files say, and nothing else.
        let inferred = given.is_none() && !(self.by_path && format.is_typed());
        let mut relation = self.options.clone();
        if self.by_path && format == Format::Parquet && self.is_directory(&place) {
            relation.path_glob_filter.get_or_insert_with(|| "*.parquet".to_owned());
        }
        let log = self.schema_log(&context)?;
        let stored = match &log {
            Some(log) => context.stored(log)?,
            None => None,
        };
        let spec = FilesSpec {
            path: self.path.value.clone(),
            format: format.name().to_owned(),
            options: relation,
            format_options: self.format_options.clone(),
            data_schema: Arc::new(Schema::empty()),
            partition_columns: Fields::empty(),
            schema_log: log.as_ref().map(SchemaLog::directory),
            schema_version: None,
            inferred,
            strict_globs: self.strict,
            time_zone: context.time_zone.clone(),
        };
        let options = format_options(&spec)?;
        if let (Some(_), Some(entry)) = (&given, self.format_options.iter().find(|entry| is_key(entry, "avroSchema"))) {
            let message = "options `schema` and `avroSchema` both say which columns there are";
            return Err(Diagnostic::new("CONTRADICTORY_OPTIONS", message)
                .at(entry.key.span.to(entry.value.span))
                .help("leave `schema` out: the columns are those of `avroSchema`; CAST gives them other types")
                .into());
        }
        let known = given.clone().or(stored.as_ref().map(|stored| stored.data.clone())).or(context.former.clone());
        let mut files = Vec::new();
        let mut columns = match known {
            Some(columns) => columns,
            None => {
                files = files_of(&spec, &place)?;
                match infer::first(&files, &options, &place, &provider::passes(&spec, None), context.sampling)? {
                    Some(learnt) => learnt,
                    None => {
                        return Ok(ResolvedFiles::Waiting(WaitingForFiles {
                            title: self.title,
                            spec: Arc::new(spec),
                            place,
                            seen: files,
                        }));
                    }
                }
            }
        };
        if given.is_none()
            && let Some(hints) = &self.options.schema_hints
        {
            let hinted = hints::apply(columns.clone(), hints).map_err(|e| e.at_least(self.span))?;
            // A hint says what a column begins as; where types are widened it does not take back what came since.
            columns = match self.options.evolution().widens() && stored.is_some() {
                true => evolve::widened(&hinted, &columns),
                false => hinted,
            };
        }
        if log.is_some() {
            columns = table::schema::storable(&columns)?.as_ref().clone();
        }
        let partitions = self.partitions(&spec, &place, stored.as_ref(), &given, &files)?;
        let schema_version = match (&stored, &log) {
            (_, None) => None,
            (None, Some(_)) => Some(0),
            (Some(stored), Some(_)) => {
                let same = stored.data == columns && *stored.partitions.fields() == partitions;
                Some(if same { stored.version } else { stored.version + 1 })
            }
        };
        let data_schema = with_rescue_column(columns, &options);
        let schema = output_schema(&data_schema, &partitions, &options);
        check_names(&schema, &self.title)?;
        // A data column of that name hides the metadata.
        let schema = match schema.index_of(METADATA_COLUMN) {
            Ok(_) => Arc::new(schema),
            Err(_) => with_metadata_column(&schema),
        };
        let spec = FilesSpec { data_schema, partition_columns: partitions, schema_version, ..spec };
        Ok(ResolvedFiles::Ready(SourceSpec {
            kind: SourceKind::Files(Arc::new(spec)),
            title: self.title,
            span: self.span,
            schema,
        }))
    }

    /// The columns of the path: as stored, or those of the files that are there now.
    fn partitions(
        &self,
        spec: &FilesSpec,
        place: &Place,
        stored: Option<&SchemaVersion>,
        given: &Option<Schema>,
        files: &[FileEntry],
    ) -> Result<Fields> {
        let wanted = self.options.partition_columns.as_deref();
        let typed: Vec<FieldRef> = match (given, &self.options.schema_hints) {
            (Some(given), _) => given.fields().iter().cloned().collect(),
            (None, Some(hints)) => parse_ddl(hints)?.fields().iter().cloned().collect(),
            (None, None) => Vec::new(),
        };
        if let Some(stored) = stored.map(|stored| stored.partitions.fields())
            && wanted.is_none_or(|wanted| stored.iter().map(|field| field.name()).eq(wanted))
        {
            let retyped = |field: &FieldRef| match typed.iter().find(|typed| typed.name() == field.name()) {
                Some(typed) => field.as_ref().clone().with_data_type(typed.data_type().clone()),
                None => field.as_ref().clone(),
            };
            return Ok(stored.iter().map(retyped).collect());
        }
        let flat = wanted.is_none() && self.options.discovery.recursive_file_lookup;
        if flat || wanted.is_some_and(<[String]>::is_empty) {
            return Ok(Fields::empty());
        }
        let base = partition_base(spec, place)?;
        if !files.is_empty() {
            return Ok(partition_columns::infer(&base, files.iter().map(|file| file.path.as_str()), wanted, &typed));
        }
        let paths: Vec<String> = match place.remote() {
            Some(remote) if !self.options.store.use_notifications => {
                store::wait(remote.files())?.into_iter().map(|file| file.path).collect()
            }
            Some(_) => Vec::new(),
            None => lister(spec)?.all()?,
        };
        Ok(partition_columns::infer(&base, paths.iter().map(String::as_str), wanted, &typed))
    }
}

/// Columns of the files with those of the path: in the place of a file's column of that name, or behind them all,
/// before the rescue column.
fn output_schema(data: &Schema, partitions: &Fields, options: &FormatOptions) -> Schema {
    let same = |a: &Field, b: &Field| a.name().to_lowercase() == b.name().to_lowercase();
    let mut fields: Vec<FieldRef> = Vec::new();
    for field in data.fields() {
        fields.push(match partitions.iter().find(|partition| same(partition, field)) {
            Some(partition) => Arc::new(field.as_ref().clone().with_data_type(partition.data_type().clone())),
            None => field.clone(),
        });
    }
    let rescue = options.rescued_data_column.as_ref();
    let end = fields.len() - usize::from(fields.last().is_some_and(|last| Some(last.name()) == rescue));
    let more = partitions.iter().filter(|partition| !data.fields().iter().any(|field| same(partition, field)));
    let rest = fields.split_off(end);
    fields.extend(more.cloned());
    fields.extend(rest);
    Schema::new(fields)
}

/// What a file relation selects; nothing is read.
pub fn selection(relation: &RelationKind, span: Span) -> Result<Selection> {
    Typed::parse(relation, span)?.selection()
}

fn delta_table(path: &str) -> Diagnostic {
    Diagnostic::new("PATH_IS_DELTA_TABLE", format!("`{path}` is a Delta table, not a directory of files"))
        .help(format!("read it as a stream: STREAM delta.`{path}`; or once: delta.`{path}`"))
}

/// `useStrictGlobber`; `read_files` has it by default, `cloud_files` has not.
fn take_strict(mut entries: Vec<OptionEntry>, read_files: bool) -> Result<(Vec<OptionEntry>, bool)> {
    let Some(at) = entries.iter().position(|entry| is_key(entry, "useStrictGlobber")) else {
        return Ok((entries, read_files));
    };
    let entry = entries.remove(at);
    match entry.value.value.to_ascii_lowercase().as_str() {
        "true" => Ok((entries, true)),
        "false" => Ok((entries, false)),
        other => Err(Diagnostic::new(
            "INVALID_OPTION",
            format!("useStrictGlobber is `{other}`; true and false are accepted"),
        )
        .at(entry.value.span)
        .into()),
    }
}

fn is_key(entry: &OptionEntry, key: &str) -> bool {
    let typed = entry.key.value.to_ascii_lowercase();
    typed.strip_prefix("cloudfiles.").unwrap_or(&typed) == key.to_ascii_lowercase()
}

/// Files may lack anything.
fn nullable(schema: &Schema) -> Schema {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Schema::new(fields.collect::<Vec<_>>())
}

/// The schema with the rescue column behind it, unless it is there.
fn with_rescue_column(schema: Schema, options: &FormatOptions) -> SchemaRef {
    let Some(name) = options.rescued_data_column.as_ref().filter(|name| schema.index_of(name).is_err()) else {
        return Arc::new(schema);
    };
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(name, DataType::Utf8, true)));
    Arc::new(Schema::new(fields))
}

fn check_names(schema: &Schema, title: &str) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    match schema.fields().iter().find(|field| !seen.insert(field.name().to_lowercase())) {
        None => Ok(()),
        Some(twice) => {
            Err(Diagnostic::new("COLUMN_ALREADY_EXISTS", format!("{title} has two columns named `{}`", twice.name()))
                .help("names differ by case only; give the columns: schema => '…'")
                .into())
        }
    }
}
