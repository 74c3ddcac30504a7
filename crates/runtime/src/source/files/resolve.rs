//! What a file relation of a statement means: its place, format, options and columns. Nothing is created or written.
//!
//! Columns come from the `schema` option, from the newest stored version, or from a sample of the files, in this order.
//! `schemaHints` replace or add columns of a learnt schema. When columns are learnt, a rescue column comes last, unless
//! `schemaEvolutionMode` is `none`. `key=value` directories become columns behind those of the files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium_formats::{Format, FormatOptions, OptionError};
use alluvium_parser::{Diagnostic, OptionEntry, RelationKind, Span, Text};
use alluvium_planner::ddl::parse_ddl;
use alluvium_planner::options::{EvolutionMode, FilesOptions};
use alluvium_planner::relation::{FilesSpec, METADATA_COLUMN, SourceKind, SourceSpec, with_metadata_column};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::catalog::TableProvider;

use super::glob::Glob;
use super::infer::{self, Sampling};
use super::listing::{self, Lister};
use super::provider;
use super::root::{Root, Target};
use super::rules::{Hidden, Times};
use super::schema_log::{SchemaLog, SchemaVersion};
use super::selection::Selection;
use super::store::{self, Place};
use super::watch::Watch;
use super::{FileEntry, blocking, clean, hints, partition_columns, root_of};
use crate::error::{Error, Result};
use crate::table;

/// A file relation, resolved.
pub enum ResolvedFiles {
    /// It can be planned.
    Ready(SourceSpec),
    /// A stream without a given schema over a place without records: its columns are not known before the first
    /// file comes.
    Waiting(WaitingForFiles),
}

/// Waits for a first file.
pub struct WaitingForFiles {
    /// How messages name the relation.
    pub title: String,
    spec: Arc<FilesSpec>,
    place: Place,
    seen: Vec<FileEntry>,
}

impl WaitingForFiles {
    /// Returns when there are other files than when the relation was resolved, which is to be done again then.
    /// Cancel-safe.
    pub async fn changed(&self) -> Result<()> {
        let watch = self.watch().await;
        loop {
            let (spec, place) = (self.spec.clone(), self.place.clone());
            if blocking(move || files_of(&spec, &place)).await? != self.seen {
                return Ok(());
            }
            match &watch {
                Some(watch) => tokio::select! {
                    () = watch.rung() => {}
                    () = tokio::time::sleep(super::NET) => {}
                },
                None if self.place.remote().is_some() => tokio::time::sleep(super::store::POLL).await,
                None => tokio::time::sleep(super::POLL).await,
            }
        }
    }

    /// None where there is no watch to be had: looking now and then does it.
    async fn watch(&self) -> Option<Watch> {
        if self.place.remote().is_some() {
            return None;
        }
        let spec = self.spec.clone();
        let start = move || {
            let lister = lister(&spec)?;
            Ok(Watch::start(&lister.root().base, lister.hidden().clone()).ok())
        };
        blocking(start).await.ok().flatten()
    }
}

/// What resolving goes by besides the statement.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// From how much of the files columns are learnt.
    pub sampling: Sampling,
    /// Where the stream keeps versions of this source's schema if no option says; None: nowhere.
    pub schema_log: Option<SchemaLog>,
    /// What is stored there is of a stream that is being replaced.
    pub fresh: bool,
    /// Versions that are to be stored if the query can be planned with them: taken for the newest.
    pub proposed: Vec<(SchemaLog, SchemaVersion)>,
    /// Columns that a checkpoint keeps which has no versions yet.
    pub former: Option<Schema>,
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
pub async fn static_provider(
    relation: &RelationKind,
    span: Span,
    sampling: Sampling,
) -> Result<Arc<dyn TableProvider>> {
    let typed = Typed::parse(relation, span)?;
    let context = Context { sampling, ..Context::default() };
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

    /// The format given, or the one that the files' names tell.
    fn format(&self) -> Result<Format> {
        let given = match &self.format {
            Some(given) => given.clone(),
            None => Text { value: self.guess_format()?, span: self.path.span },
        };
        let Some(format) = Format::from_name(&given.value) else {
            let nearest = nearest_format(&given.value);
            return Err(Diagnostic::new("UNKNOWN_FORMAT", format!("`{}` is not a file format", given.value))
                .at(given.span)
                .help(nearest)
                .into());
        };
        Ok(format)
    }

    /// From the first file whose name tells.
    fn guess_format(&self) -> Result<String> {
        let paths: Vec<String> = match self.place()?.remote() {
            Some(remote) => store::wait(remote.files())?.into_iter().map(|file| file.path).collect(),
            None => {
                let root = Root::find(&self.path.value, self.strict).map_err(|e| e.at_least(self.path.span))?;
                self.lister(root)?.all()?
            }
        };
        let of_name = |path: &String| {
            let name = path.rsplit('/').next()?.to_ascii_lowercase();
            let name = [".gz", ".zst", ".bz2", ".xz"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .unwrap_or(&name)
                .to_owned();
            Some(match name.rsplit_once('.')?.1 {
                "json" | "jsonl" | "ndjson" => "json",
                "csv" | "tsv" => "csv",
                "txt" | "text" | "log" => "text",
                "parquet" => "parquet",
                "avro" => "avro",
                "orc" => "orc",
                "xml" => "xml",
                _ => return None,
            })
        };
        paths.iter().find_map(of_name).map(str::to_owned).ok_or_else(|| {
            Diagnostic::new(
                "UNKNOWN_FORMAT",
                format!("the format of {} is not given and no file's name tells it", self.title),
            )
            .at(self.path.span)
            .help("give it: format => 'json'")
            .into()
        })
    }

    fn check_discovery(&self) -> Result<()> {
        if let Some(option) = self.options.discovery.only_of_streams().filter(|_| !self.streaming) {
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
        };
        let options = format_options(&spec)?;
        let known = given.clone().or(stored.as_ref().map(|stored| stored.data.clone())).or(context.former.clone());
        let mut files = Vec::new();
        let mut columns = match known {
            Some(columns) => columns,
            None => {
                files = files_of(&spec, &place)?;
                match infer::infer(&files, &options, &place, &provider::passes(&spec, None), context.sampling)? {
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
            columns = hints::apply(columns, hints).map_err(|e| e.at_least(self.span))?;
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

/// The directory below which `key=value` directories are columns.
pub fn partition_base(spec: &FilesSpec, place: &Place) -> Result<PathBuf> {
    if let Some(remote) = place.remote() {
        let address = remote.address();
        return Ok(PathBuf::from(match &spec.options.base_path {
            Some(base) => base.clone(),
            None => address.url(&address.base),
        }));
    }
    let root = root_of(spec)?;
    let Some(typed) = &spec.options.base_path else { return Ok(root.base) };
    let base = Root::find(typed, spec.strict_globs)?;
    if base.target != Target::Directory || !root.base.starts_with(&base.base) {
        return Err(Diagnostic::new(
            "INVALID_OPTION",
            format!("basePath `{typed}` is not a directory that `{}` is in", spec.path),
        )
        .help("name a directory above the files")
        .into());
    }
    Ok(base.base)
}

/// Stores the schema that a stream's source was planned with, if it is not the newest version already. `table`: where
/// the stream's table is.
pub fn store_schema(spec: &FilesSpec, table: &Path) -> Result<()> {
    let (Some(directory), Some(version)) = (&spec.schema_log, spec.schema_version) else { return Ok(()) };
    let log = SchemaLog::at(directory);
    if spec.options.schema_location.is_some() {
        log.claim(table)?;
    }
    let mine =
        SchemaVersion { version, data: columns_of(spec)?, partitions: Schema::new(spec.partition_columns.clone()) };
    match log.latest()? {
        // Put there since the query was planned: it counts from the next start on.
        Some(newest) if newest.version > version => Ok(()),
        Some(newest) if newest == mine => Ok(()),
        _ => log.write(&mine),
    }
}

/// Refuses a spec whose `schemaLocation` another table's stream uses.
pub fn check_schema_location(spec: &FilesSpec, table: &Path) -> Result<()> {
    match (&spec.schema_log, &spec.options.schema_location) {
        (Some(directory), Some(_)) => SchemaLog::at(directory).check_owner(table),
        _ => Ok(()),
    }
}

/// The columns that files are expected to have: without the rescue column.
pub fn columns_of(spec: &FilesSpec) -> Result<Schema> {
    let options = format_options(spec)?;
    let data = |field: &&FieldRef| options.rescued_data_column.as_ref() != Some(field.name());
    Ok(Schema::new(spec.data_schema.fields().iter().filter(data).cloned().collect::<Vec<_>>()))
}

/// Whether readers are to fail at a field without a column.
pub fn watches_fields(spec: &FilesSpec) -> bool {
    match spec.options.evolution() {
        EvolutionMode::FailOnNewColumns => true,
        EvolutionMode::AddNewColumns => spec.schema_log.is_some(),
        EvolutionMode::Rescue | EvolutionMode::None => false,
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

/// Lists a spec's files.
pub fn lister(spec: &FilesSpec) -> Result<Lister> {
    lister_of(root_of(spec)?, &spec.options)
}

fn lister_of(root: Root, options: &FilesOptions) -> Result<Lister> {
    Ok(Lister::new(root, name_filter(options)?).hiding(hidden(options)?))
}

fn hidden(options: &FilesOptions) -> Result<Hidden> {
    Hidden::new(options.discovery.ignored_path_segment_regex.as_deref())
}

/// A spec's files as they are now, oldest first.
pub fn files_of(spec: &FilesSpec, place: &Place) -> Result<Vec<FileEntry>> {
    let mut files = match place.remote() {
        Some(remote) => store::wait(remote.files())?,
        None => entries(&mut lister(spec)?)?,
    };
    let times = Times::of(&spec.options.discovery);
    files.retain(|file| times.ignore(file.modified_ms, None).is_none());
    Ok(files)
}

/// What a lister finds now, oldest first.
pub fn entries(lister: &mut Lister) -> Result<Vec<FileEntry>> {
    let mut files = Vec::new();
    for path in lister.all()? {
        files.extend(listing::stat(&path)?);
    }
    files.sort_by(|a: &FileEntry, b| (a.modified_ms, &a.path).cmp(&(b.modified_ms, &b.path)));
    Ok(files)
}

/// Whether `*` in a spec's path stays within one name.
pub fn strict_globs(spec: &FilesSpec) -> bool {
    spec.strict_globs
}

/// A spec's format options, checked; the rescue column is the one its schema was made with.
pub fn format_options(spec: &FilesSpec) -> Result<FormatOptions> {
    let rescues = match spec.options.evolution() {
        EvolutionMode::None => false,
        EvolutionMode::Rescue => true,
        EvolutionMode::AddNewColumns | EvolutionMode::FailOnNewColumns => spec.inferred,
    };
    let format = Format::from_name(&spec.format).ok_or_else(|| Error::internal(format!("format `{}`", spec.format)))?;
    let entries: Vec<(String, String)> =
        spec.format_options.iter().map(|entry| (entry.key.value.clone(), entry.value.value.clone())).collect();
    let mut options = FormatOptions::parse(format, &entries, spec.options.infer_column_types, rescues)
        .map_err(|error| option_error(&error, &spec.format_options))?;
    options.track_unmatched = watches_fields(spec);
    Ok(options)
}

fn option_error(error: &OptionError, entries: &[OptionEntry]) -> Error {
    let code = match &error.message {
        message if message.contains("not known") => "UNKNOWN_OPTION",
        message if message.contains("not carried out") => "NOT_SUPPORTED_YET",
        _ => "INVALID_OPTION",
    };
    let place = entries.iter().find(|entry| entry.key.value.eq_ignore_ascii_case(&error.key));
    let place = place.map_or(Span::UNKNOWN, |entry| entry.key.span.to(entry.value.span));
    let diagnostic = Diagnostic::new(code, error.message.clone()).at(place);
    Error::from(if error.help.is_empty() { diagnostic } else { diagnostic.help(error.help.clone()) })
}

/// A stream reads directories; a single file would never bring anything new.
pub fn one_file(path: &str) -> Error {
    let directory =
        Path::new(path).parent().map(|parent| parent.display().to_string()).filter(|parent| !parent.is_empty());
    let name = path.rsplit('/').next().unwrap_or(path);
    Diagnostic::new(
        "STREAM_OF_ONE_FILE",
        format!("`{path}` is one file, and a stream reads a directory to which files are added"),
    )
    .help(format!(
        "name the directory, `{}`, and where needed pathGlobFilter => '{name}'",
        directory.as_deref().unwrap_or(".")
    ))
    .help(format!("or read the file once: read_files('{path}')"))
    .into()
}

fn delta_table(path: &str) -> Diagnostic {
    Diagnostic::new("PATH_IS_DELTA_TABLE", format!("`{path}` is a Delta table, not a directory of files"))
        .help(format!("read it as a stream: STREAM delta.`{path}`; or once: delta.`{path}`"))
}

pub(super) fn name_filter(options: &FilesOptions) -> Result<Option<Glob>> {
    let Some(text) = &options.path_glob_filter else { return Ok(None) };
    Glob::new(text, true)
        .map(Some)
        .map_err(|why| Diagnostic::new("INVALID_OPTION", format!("pathGlobFilter: the pattern {why}")).into())
}

/// `format` may stand among the options.
fn take_format(mut entries: Vec<OptionEntry>) -> (Vec<OptionEntry>, Option<Text>) {
    let at = entries.iter().position(|entry| is_key(entry, "format"));
    let format = at.map(|at| entries.remove(at).value);
    (entries, format)
}

/// A format may be given twice, but not in two ways.
fn agreed_format(argument: Option<Text>, option: Option<Text>) -> Result<Option<Text>> {
    match (argument, option) {
        (Some(argument), Some(option)) if !argument.value.eq_ignore_ascii_case(&option.value) => {
            let message = format!("option `format` is `{}`, and the argument says `{}`", option.value, argument.value);
            Err(Diagnostic::new("INVALID_OPTION", message).at(option.span).help("leave the option out").into())
        }
        (argument, option) => Ok(argument.or(option)),
    }
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

fn nearest_format(typed: &str) -> String {
    let typed = typed.to_ascii_lowercase();
    let near = Format::ALL.into_iter().find(|format| {
        let name = format.name().to_ascii_lowercase();
        typed.contains(&name) || name.contains(&typed) && typed.len() > 1 || one_edit_apart(&typed, &name)
    });
    match near {
        Some(format) => format!("did you mean `{}`?", format.name()),
        None => format!("formats are {}", Format::ALL.map(Format::name).join(", ")),
    }
}

/// Whether one character is added, left out, replaced, or swapped with its neighbour.
fn one_edit_apart(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let (short, long) = if a.len() <= b.len() { (&a, &b) } else { (&b, &a) };
    let same = short.iter().zip(long).take_while(|(x, y)| x == y).count();
    let (rest, other) = (&short[same..], &long[same..]);
    match other.len() - rest.len() {
        0 => {
            rest.get(1..) == other.get(1..)
                || rest.len() > 1 && rest[0] == other[1] && rest[1] == other[0] && rest[2..] == other[2..]
        }
        1 => rest == &other[1..],
        _ => false,
    }
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
