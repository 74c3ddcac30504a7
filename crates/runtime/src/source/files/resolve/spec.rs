//! What a resolved file relation says: where its files are, which of them count, how they are decoded, and which versions
//! of its schema are kept. Knows nothing of how a statement's text became the relation.

use std::path::{Path, PathBuf};

use alluvium_formats::{Format, FormatOptions, Mistake, OptionError, Zone};
use alluvium_parser::{Diagnostic, OptionEntry, Span};
use alluvium_planner::options::{EvolutionMode, FILES_OPTIONS, FilesOptions};
use alluvium_planner::relation::FilesSpec;
use alluvium_planner::store_options::STORE_OPTIONS;
use arrow::datatypes::{FieldRef, Schema};

use super::super::glob::Glob;
use super::super::listing::{self, Lister};
use super::super::root::{Root, Target};
use super::super::rules::{Hidden, Times};
use super::super::schema_log::{SchemaLog, SchemaVersion};
use super::super::store::{self, Place};
use super::super::{FileEntry, root_of};
use crate::checkpoint::Ages;
use crate::error::{Error, Result};

/// The names of all options of relations of files that are carried out, in order.
pub fn option_names() -> Vec<String> {
    let relation = FILES_OPTIONS.iter().chain(STORE_OPTIONS).map(|option| option.name);
    let format = Format::ALL.into_iter().flat_map(Format::options).filter(|option| option.carried_out);
    let mut names: Vec<String> = relation.chain(format.map(|option| option.name)).map(str::to_owned).collect();
    names.sort_by_key(|name| name.to_lowercase());
    names.dedup();
    names
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
        EvolutionMode::AddNewColumns | EvolutionMode::AddNewColumnsWithTypeWidening => spec.schema_log.is_some(),
        EvolutionMode::Rescue | EvolutionMode::None => false,
    }
}

/// Lists a spec's files.
pub fn lister(spec: &FilesSpec) -> Result<Lister> {
    lister_of(root_of(spec)?, &spec.options)
}

pub(super) fn lister_of(root: Root, options: &FilesOptions) -> Result<Lister> {
    Ok(Lister::new(root, name_filter(options)?).hiding(hidden(options)?))
}

pub(super) fn hidden(options: &FilesOptions) -> Result<Hidden> {
    Hidden::new(options.discovery.ignored_path_segment_regex.as_deref())
}

/// A spec's files as they are now, oldest first.
pub fn files_of(spec: &FilesSpec, place: &Place) -> Result<Vec<FileEntry>> {
    let mut files = match place.remote() {
        Some(remote) => store::wait(remote.files())?,
        None => entries(&mut lister(spec)?)?,
    };
    let times = Times::of(&spec.options.discovery);
    files.retain(|file| times.ignore(&file.path, file.modified_ms, &Ages::default()).is_none());
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
        EvolutionMode::AddNewColumns
        | EvolutionMode::AddNewColumnsWithTypeWidening
        | EvolutionMode::FailOnNewColumns => spec.inferred,
    };
    let format = Format::from_name(&spec.format).ok_or_else(|| Error::internal(format!("format `{}`", spec.format)))?;
    let entries: Vec<(String, String)> =
        spec.format_options.iter().map(|entry| (entry.key.value.clone(), entry.value.value.clone())).collect();
    let mut options = FormatOptions::parse(format, &entries, spec.options.infer_column_types, rescues)
        .map_err(|error| option_error(&error, &spec.format_options))?;
    options.track_unmatched = watches_fields(spec);
    if spec.options.evolution().widens() {
        options.track_outgrown = watches_fields(spec);
        prefer_decimals(&mut options, &spec.format_options)?;
    }
    // A zone that a setting let through is one.
    options.time_zone = options.time_zone.or_else(|| Zone::from_name(&spec.time_zone));
    Ok(options)
}

/// No type is wider than BIGINT and holds fractions but DECIMAL, so fractions are to be that from the start.
fn prefer_decimals(options: &mut FormatOptions, entries: &[OptionEntry]) -> Result<()> {
    let said = entries.iter().find(|entry| entry.key.value.eq_ignore_ascii_case("prefersDecimal"));
    if let Some(entry) = said.filter(|_| !options.json.prefers_decimal) {
        return Err(Diagnostic::new(
            "INVALID_OPTION",
            format!(
                "option `prefersDecimal` cannot be `false` with schemaEvolutionMode `{}`",
                EvolutionMode::AddNewColumnsWithTypeWidening.name()
            ),
        )
        .at(entry.key.span.to(entry.value.span))
        .help("leave it out: integers are widened to DECIMAL, and DOUBLE does not hold them")
        .into());
    }
    options.json.prefers_decimal = true;
    Ok(())
}

fn option_error(error: &OptionError, entries: &[OptionEntry]) -> Error {
    let code = match error.kind {
        Mistake::Unknown => "UNKNOWN_OPTION",
        Mistake::NotCarriedOut => "NOT_SUPPORTED_YET",
        Mistake::Twice => "DUPLICATE_OPTION",
        Mistake::Contradiction => "CONTRADICTORY_OPTIONS",
        Mistake::Value => "INVALID_OPTION",
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

pub(in super::super) fn name_filter(options: &FilesOptions) -> Result<Option<Glob>> {
    let Some(text) = &options.path_glob_filter else { return Ok(None) };
    Glob::new(text, true)
        .map(Some)
        .map_err(|why| Diagnostic::new("INVALID_OPTION", format!("pathGlobFilter: the pattern {why}")).into())
}
