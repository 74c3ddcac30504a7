//! What a file relation of a statement means: its place, format, options and columns. Nothing is created or written.
//!
//! Columns come from the `schema` option, from what the stream's checkpoint has stored, or from a sample of the files, in
//! this order. `schemaHints` replace or add columns of a learnt schema. When columns are learnt, a rescue column
//! comes last, unless `schemaEvolutionMode` is `none`.

use std::path::Path;
use std::sync::Arc;

use alluvium_formats::{Format, FormatOptions, OptionError};
use alluvium_parser::{Diagnostic, OptionEntry, RelationKind, Span, Text};
use alluvium_planner::ddl::parse_ddl;
use alluvium_planner::options::FilesOptions;
use alluvium_planner::relation::{FilesSpec, METADATA_COLUMN, SourceKind, SourceSpec, with_metadata_column};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;

use super::glob::Glob;
use super::infer;
use super::listing::{self, Lister};
use super::provider::{self, without_metadata};
use super::root::{Root, Target};
use super::rules::{Hidden, Times};
use super::selection::Selection;
use super::store::{self, Place};
use super::watch::Watch;
use super::{FileEntry, blocking, clean, hints, root_of};
use crate::error::{Error, Result};

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

/// Resolves `cloud_files(…)`, `[STREAM] read_files(…)` or `` format.`path` ``. `stored_schema`: the columns that the stream's
/// checkpoint remembers (with or without `_metadata`), taken instead of learning them anew.
pub async fn resolve(relation: &RelationKind, span: Span, stored_schema: Option<&Schema>) -> Result<ResolvedFiles> {
    let typed = Typed::parse(relation, span)?;
    let stored = stored_schema.map(without_metadata);
    blocking(move || typed.resolve(stored)).await.map_err(|e| e.at_least(span))
}

/// All files of a relation, as of each scan.
pub async fn static_provider(relation: &RelationKind, span: Span) -> Result<Arc<dyn TableProvider>> {
    let typed = Typed::parse(relation, span)?;
    match blocking(move || typed.resolve(None)).await.map_err(|e| e.at_least(span))? {
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
        typed.check_evolution()?;
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
        let root = Root::find(&self.path.value, self.strict).map_err(|e| e.at_least(self.path.span))?;
        let discovery = &self.options.discovery;
        let times = Times::of(discovery);
        Ok(Selection::new(&self.path.value, self.lister(root)?, times, discovery.allow_overwrites))
    }

    fn lister(&self, root: Root) -> Result<Lister> {
        lister_of(root, &self.options).map_err(|e| e.at_least(self.span))
    }

    fn check_evolution(&self) -> Result<()> {
        let Some(mode) = &self.options.schema_evolution_mode else { return Ok(()) };
        if ["rescue", "none"].iter().any(|known| known.eq_ignore_ascii_case(mode)) {
            return Ok(());
        }
        let known = ["addNewColumns", "addNewColumnsWithTypeWidening", "failOnNewColumns"];
        let (code, message) = match known.iter().any(|known| known.eq_ignore_ascii_case(mode)) {
            true => ("NOT_SUPPORTED_YET", format!("schemaEvolutionMode `{mode}` is not supported yet")),
            false => ("INVALID_OPTION", format!("schemaEvolutionMode `{mode}` is not known")),
        };
        Err(Diagnostic::new(code, message)
            .at(self.span)
            .help("`rescue` puts new fields into the rescue column, `none` leaves them out")
            .into())
    }

    fn evolves(&self) -> bool {
        !self.options.schema_evolution_mode.as_deref().is_some_and(|mode| mode.eq_ignore_ascii_case("none"))
    }

    pub(super) fn place(&self) -> Result<Place> {
        let named = name_filter(&self.options)?;
        Place::find(&self.path.value, self.strict, &self.options.store, named).map_err(|e| e.at_least(self.path.span))
    }

    /// Refuses paths that are something else than what is to be read.
    fn check_place(&self, place: &Place, known: bool) -> Result<()> {
        if let Some(remote) = place.remote() {
            if let Some(option) = self.options.discovery.only_of_local_streams().filter(|_| self.streaming) {
                return Err(Diagnostic::new(
                    "NOT_SUPPORTED_YET",
                    format!("option `{option}` is not carried out for streams of object stores yet"),
                )
                .at(self.span)
                .help("leave it out; a WHERE over `_metadata` can leave rows out by their file's name and time")
                .into());
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

    pub(super) fn resolve(self, stored: Option<Schema>) -> Result<ResolvedFiles> {
        let place = self.place()?;
        self.check_place(&place, stored.is_some())?;
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
        let spec = FilesSpec {
            path: self.path.value.clone(),
            format: format.name().to_owned(),
            options: relation,
            format_options: self.format_options.clone(),
            data_schema: Arc::new(Schema::empty()),
            inferred,
            strict_globs: self.strict,
        };
        let options = parse_format_options(&spec, inferred && self.evolves())?;
        let columns = match given.or(stored) {
            Some(columns) => columns,
            None => {
                let files = files_of(&spec, &place)?;
                match infer::infer(&files, &options, &place, &provider::passes(&spec, None))? {
                    Some(learnt) => match &self.options.schema_hints {
                        Some(hints) => hints::apply(learnt, hints).map_err(|e| e.at_least(self.span))?,
                        None => learnt,
                    },
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
        let data_schema = with_rescue_column(columns, &options);
        check_names(&data_schema, &self.title)?;
        // A data column of that name hides the metadata.
        let schema = match data_schema.index_of(METADATA_COLUMN) {
            Ok(_) => data_schema.clone(),
            Err(_) => with_metadata_column(&data_schema),
        };
        let spec = FilesSpec { data_schema, ..spec };
        Ok(ResolvedFiles::Ready(SourceSpec {
            kind: SourceKind::Files(Arc::new(spec)),
            title: self.title,
            span: self.span,
            schema,
        }))
    }
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
    let evolves = !spec.options.schema_evolution_mode.as_deref().is_some_and(|mode| mode.eq_ignore_ascii_case("none"));
    parse_format_options(spec, spec.inferred && evolves)
}

fn parse_format_options(spec: &FilesSpec, rescues: bool) -> Result<FormatOptions> {
    let format = Format::from_name(&spec.format).ok_or_else(|| Error::internal(format!("format `{}`", spec.format)))?;
    let entries: Vec<(String, String)> =
        spec.format_options.iter().map(|entry| (entry.key.value.clone(), entry.value.value.clone())).collect();
    FormatOptions::parse(format, &entries, spec.options.infer_column_types, rescues)
        .map_err(|error| option_error(&error, &spec.format_options))
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
