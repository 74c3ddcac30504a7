//! Typed options of streaming relations: parsed once, here, and never looked up by text again.
//!
//! An option is carried out, or refused: by the nearest known name when nobody knows it, by its own name when this
//! release does not carry it out. Options of file formats are not known here; they are passed on.

mod discovery;
mod event_time;
#[cfg(test)]
mod page_tests;

use alluvium_parser::{Diagnostic, OptionEntry};

use crate::ddl;
use crate::near::nearest;
use crate::store_options::{STORE_OPTIONS, StoreOptions};

pub use discovery::{CleanSource, DiscoveryOptions};
pub use event_time::EventTimeOptions;

/// Discovery and schema options of a file relation (`cloudFiles.*` and the generic ones).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesOptions {
    /// Most files in one epoch; default 1000.
    pub max_files_per_trigger: Option<u64>,
    /// An epoch ends with the file that crosses this many bytes.
    pub max_bytes_per_trigger: Option<u64>,
    /// Whether files that are there at the first start count.
    pub include_existing_files: bool,
    /// Glob on the file name.
    pub path_glob_filter: Option<String>,
    /// Whether column types are inferred, or all are STRING. `cloud_files` false, `read_files` true.
    pub infer_column_types: bool,
    /// Given schema, as DDL.
    pub schema: Option<String>,
    /// Types for single columns, as DDL.
    pub schema_hints: Option<String>,
    /// As typed; [`FilesOptions::evolution`] has what holds without it.
    pub schema_evolution_mode: Option<EvolutionMode>,
    /// `addNewColumns` ends the stream once the new schema is stored, instead of going on with it.
    pub schema_evolution_restart: bool,
    /// Directory or URL of the schema's versions; None: with the checkpoint.
    pub schema_location: Option<String>,
    /// Columns of the path; None: every `key=value` directory, empty: none.
    pub partition_columns: Option<Vec<String>>,
    /// Where `key=value` directories begin to count; None: below the path.
    pub base_path: Option<String>,
    /// Which files count, and what becomes of them.
    pub discovery: DiscoveryOptions,
    /// What its event times do to the watermark.
    pub event_time: EventTimeOptions,
    /// Where and as whom an object store is reached, and how it tells of new objects.
    pub store: StoreOptions,
}

/// What a field without a column does to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvolutionMode {
    /// It becomes a column.
    AddNewColumns,
    /// It becomes a column, and a column whose values outgrow its type gets a wider one.
    AddNewColumnsWithTypeWidening,
    /// It goes into the rescue column.
    Rescue,
    /// It ends the stream.
    FailOnNewColumns,
    /// It is left out.
    None,
}

impl EvolutionMode {
    /// As Databricks spells it.
    pub fn name(self) -> &'static str {
        match self {
            EvolutionMode::AddNewColumns => "addNewColumns",
            EvolutionMode::AddNewColumnsWithTypeWidening => WIDENING,
            EvolutionMode::Rescue => "rescue",
            EvolutionMode::FailOnNewColumns => "failOnNewColumns",
            EvolutionMode::None => "none",
        }
    }

    /// Whether a field without a column becomes one.
    pub fn adds_columns(self) -> bool {
        matches!(self, EvolutionMode::AddNewColumns | EvolutionMode::AddNewColumnsWithTypeWidening)
    }

    /// Whether a column whose values outgrow its type gets a wider one.
    pub fn widens(self) -> bool {
        self == EvolutionMode::AddNewColumnsWithTypeWidening
    }
}

/// Options of `STREAM t WITH (…)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableStreamOptions {
    /// Most files in one epoch; default 1000.
    pub max_files_per_trigger: Option<u64>,
    /// An epoch ends with the file that crosses this many bytes.
    pub max_bytes_per_trigger: Option<u64>,
    /// First version to read, inclusive; None: the whole table as of the first start, then its changes.
    pub starting_version: Option<StartingVersion>,
    /// Commits that change or remove rows are skipped whole instead of failing the stream.
    pub skip_change_commits: bool,
    /// Commits that only remove files are tolerated.
    pub ignore_deletes: bool,
    /// What its event times do to the watermark.
    pub event_time: EventTimeOptions,
}

/// `startingVersion`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartingVersion {
    /// The first commit after the start.
    Latest,
    /// This commit and what follows.
    At(u64),
}

/// An option as the manual shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionDoc {
    /// Its name, without `cloudFiles.`.
    pub name: &'static str,
    /// What holds without it.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

pub(crate) const fn doc(name: &'static str, default: &'static str, meaning: &'static str) -> OptionDoc {
    OptionDoc { name, default, meaning }
}

/// Options of `cloud_files(…)` and `read_files(…)` that are carried out, besides those of the format.
pub const FILES_OPTIONS: &[OptionDoc] = &[
    doc(
        "allowOverwrites",
        "false",
        "a file whose modification time is newer than when it was read is read again, whole",
    ),
    doc("backfillInterval", "", "list everything again this often, whatever events and directories tell: 1 day"),
    doc("cleanSource", "OFF", "what becomes of files that were read: OFF, DELETE, MOVE"),
    doc("cleanSource.moveDestination", "", "the directory to which MOVE moves them, outside of the source"),
    doc("cleanSource.retentionDuration", "30 days", "how long after their commit; more than 7 days for DELETE"),
    doc("basePath", "", "directory below which key=value directories are columns; without it, below the path"),
    doc("fileNamePattern", "", "the same as pathGlobFilter"),
    doc("format", "", "the files' format; must agree with the second argument of cloud_files"),
    doc("idleTimeout", "", "without input for this long, the source no longer holds a least watermark back: 5 minutes"),
    doc("ignoreCorruptFiles", "false", "pass over damaged files; rows read before the damage stay"),
    doc(
        "ignoredPathSegmentRegex",
        "",
        "a part of a path below the source that this matches hides; instead of names with . or _ in front",
    ),
    doc("ignoreMissingFiles", "false", "pass over files that are gone before they are read"),
    doc("includeExistingFiles", "true", "whether files that are there at the first start are read; fixed then"),
    doc("inferColumnTypes", "false (read_files: true)", "infer column types; otherwise text formats give STRING"),
    doc("maxBytesPerTrigger", "", "an epoch ends with the file that crosses this size: 1048576, 10mb, 1g"),
    doc(
        "maxFileAge",
        "",
        "neither read nor remember files older than the newest one read by more than this; at least 14 days",
    ),
    doc("maxFilesPerTrigger", "1000", "most files of one epoch"),
    doc(
        "maxFutureSkew",
        "",
        "event times further ahead of the clock than this do not move the watermark, and are counted: 1 hour",
    ),
    doc("modifiedAfter", "", "only files modified after this time: 2026-01-31 12:00:00 UTC"),
    doc("modifiedBefore", "", "only files modified before this time"),
    doc("partitionColumns", "", "columns from key=value directories, by name; '' for none; without it, all of them"),
    doc("pathGlobFilter", "", "glob on the file name: only files that match are read"),
    doc(
        "recursiveFileLookup",
        "false",
        "directories are read at every depth in any case; true takes no columns from key=value names",
    ),
    doc("schema", "", "the columns as DDL: id BIGINT, name STRING; nothing is inferred then"),
    doc(
        "schemaEvolutionMode",
        "addNewColumns (with schema: none)",
        "what a field without a column does: addNewColumns, addNewColumnsWithTypeWidening, rescue, failOnNewColumns, none",
    ),
    doc(
        "schemaEvolutionRestart",
        "false",
        "addNewColumns stores the new schema and ends the stream; the next start goes on with it",
    ),
    doc(
        "schemaHints",
        "",
        "types of single columns as DDL, over what is inferred: a INT, b.c DATE, list.element.d STRING",
    ),
    doc("schemaLocation", "", "directory of the schema's versions (_schemas/0, 1, …); without it, in the checkpoint"),
    doc("useStrictGlobber", "false (read_files: true)", "whether * in the path stays inside one directory"),
    doc("validateOptions", "true", "unknown options are errors; false is refused"),
];

/// Options of `STREAM t WITH (…)` that are carried out.
pub const TABLE_STREAM_OPTIONS: &[OptionDoc] = &[
    doc("idleTimeout", "", "without input for this long, the source no longer holds a least watermark back: 5 minutes"),
    doc("ignoreDeletes", "false", "tolerate commits that only remove files"),
    doc("maxBytesPerTrigger", "", "an epoch ends with the file that crosses this size: 1048576, 10mb, 1g"),
    doc("maxFilesPerTrigger", "1000", "most files of one epoch"),
    doc(
        "maxFutureSkew",
        "",
        "event times further ahead of the clock than this do not move the watermark, and are counted: 1 hour",
    ),
    doc("skipChangeCommits", "false", "skip commits that change or remove rows, their new rows included"),
    doc("startingVersion", "", "first version to read, inclusive, or latest; without it the whole table first"),
];

/// Known to Auto Loader under `cloudFiles.`, not carried out here.
const FILES_NOT_YET: &[&str] = &[
    "useManagedFileEvents",
    "listOnStart",
    "roleArn",
    "resourceGroup",
    "subscriptionId",
    "queueName",
    "projectId",
    "client",
    "subscription",
];

/// Generic options of file reads (no prefix), not carried out here.
const GENERIC_NOT_YET: &[&str] = &["latestFirst", "fileNameOnly"];

const TABLE_NOT_YET: &[&str] = &[
    "startingTimestamp",
    "ignoreChanges",
    "ignoreFileDeletion",
    "failOnDataLoss",
    "excludeRegex",
    "readChangeFeed",
    "readChangeData",
    "schemaTrackingLocation",
    "withEventTimeOrder",
];

const EVOLUTION_MODES: [&str; 5] = ["addNewColumns", WIDENING, "failOnNewColumns", "none", "rescue"];

const WIDENING: &str = "addNewColumnsWithTypeWidening";

impl FilesOptions {
    /// Takes the options of a file relation apart: these, and what is left for the format, in typed order.
    ///
    /// `read_files` is true for `read_files(…)` and its different defaults. Names count without case, with and
    /// without `cloudFiles.`.
    ///
    /// # Errors
    /// UNKNOWN_OPTION (of `cloudFiles.*`), NOT_SUPPORTED_YET, INVALID_OPTION, DUPLICATE_OPTION, CONTRADICTORY_OPTIONS, each
    /// at the option.
    pub fn parse(entries: &[OptionEntry], read_files: bool) -> Result<(FilesOptions, Vec<OptionEntry>), Diagnostic> {
        let mut options = FilesOptions {
            max_files_per_trigger: None,
            max_bytes_per_trigger: None,
            include_existing_files: true,
            path_glob_filter: None,
            infer_column_types: read_files,
            schema: None,
            schema_hints: None,
            schema_evolution_mode: None,
            discovery: DiscoveryOptions::default(),
            event_time: EventTimeOptions::default(),
            store: StoreOptions::default(),
            schema_evolution_restart: false,
            schema_location: None,
            partition_columns: None,
            base_path: None,
        };
        let mut rest = Vec::new();
        let mut seen = Vec::new();
        for entry in entries {
            let (name, prefixed) = bare_name(&entry.key.value);
            let known = FILES_OPTIONS.iter().any(|option| option.name.eq_ignore_ascii_case(name));
            if known {
                once(entry, name, &mut seen)?;
                options.set(name, entry)?;
                options.discovery.set(name, entry)?;
                options.event_time.set(&name.to_lowercase(), entry)?;
            } else if let Some(option) = STORE_OPTIONS.iter().find(|option| option.name.eq_ignore_ascii_case(name)) {
                once(entry, name, &mut seen)?;
                options.store.set(option.name, entry)?;
            } else if let Some(option) = listed(FILES_NOT_YET, name) {
                return Err(not_carried_out(option, entry));
            } else if prefixed {
                let carried_out = FILES_OPTIONS.iter().chain(STORE_OPTIONS).map(|option| option.name);
                let names = carried_out.chain(FILES_NOT_YET.iter().copied());
                return Err(unknown(entry, name, names));
            } else if let Some(option) = listed(GENERIC_NOT_YET, name) {
                if accepts_default(option, &entry.value.value) {
                    continue;
                }
                return Err(not_carried_out(option, entry));
            } else {
                rest.push(entry.clone());
            }
        }
        options.discovery.finish(entries)?;
        options.store.backfill_interval = options.discovery.backfill_interval;
        options.check_schema(entries)?;
        options.check_evolution(entries)?;
        Ok((options, rest))
    }

    /// What a field without a column does: what was asked for, or the default.
    pub fn evolution(&self) -> EvolutionMode {
        match (self.schema_evolution_mode, &self.schema) {
            (Some(mode), _) => mode,
            (None, None) => EvolutionMode::AddNewColumns,
            (None, Some(_)) => EvolutionMode::None,
        }
    }

    /// Refuses options about columns that cannot both be followed.
    fn check_schema(&self, entries: &[OptionEntry]) -> Result<(), Diagnostic> {
        let find = |name: &str| entries.iter().find(|entry| bare_name(&entry.key.value).0.eq_ignore_ascii_case(name));
        if let (Some(_), Some(hints)) = (&self.schema, find("schemaHints")) {
            return Err(Diagnostic::new(
                "CONTRADICTORY_OPTIONS",
                "option `schemaHints` has no meaning with `schema`, which gives all columns",
            )
            .at(hints.key.span.to(hints.value.span))
            .help("leave `schema` out to have the other columns inferred, or put the hints into it"));
        }
        if let (Some(types), Some(schema)) = (find("inferColumnTypes"), find("inferSchema"))
            && !types.value.value.trim().eq_ignore_ascii_case(schema.value.value.trim())
        {
            return Err(Diagnostic::new(
                "CONTRADICTORY_OPTIONS",
                "options `inferColumnTypes` and `inferSchema` are one, and have two values",
            )
            .at(schema.key.span.to(schema.value.span))
            .help("leave `inferSchema` out"));
        }
        Ok(())
    }

    fn check_evolution(&self, entries: &[OptionEntry]) -> Result<(), Diagnostic> {
        let place = |name: &str| {
            let entry = entries.iter().find(|entry| bare_name(&entry.key.value).0.eq_ignore_ascii_case(name));
            entry.map_or(alluvium_parser::Span::UNKNOWN, |entry| entry.key.span.to(entry.value.span))
        };
        if self.schema.is_some()
            && let Some(mode) = self.schema_evolution_mode.filter(|mode| mode.adds_columns())
        {
            return Err(Diagnostic::new(
                "CF_ADD_NEW_NOT_SUPPORTED",
                format!(
                    "schemaEvolutionMode `{}` needs a schema that is inferred, and `schema` gives one",
                    mode.name()
                ),
            )
            .at(place("schemaEvolutionMode"))
            .help("give types of single columns by schemaHints instead of `schema`")
            .help("or use `rescue`, `failOnNewColumns` or `none`"));
        }
        if self.schema_evolution_restart && !self.evolution().adds_columns() {
            let message =
                format!("schemaEvolutionRestart has no meaning with schemaEvolutionMode `{}`", self.evolution().name());
            return Err(Diagnostic::new("INVALID_OPTION", message)
                .at(place("schemaEvolutionRestart"))
                .help("leave it out, or use `addNewColumns`"));
        }
        Ok(())
    }

    fn set(&mut self, name: &str, entry: &OptionEntry) -> Result<(), Diagnostic> {
        let text = || entry.value.value.trim().to_string();
        match name.to_lowercase().as_str() {
            "maxfilespertrigger" => self.max_files_per_trigger = Some(count(entry)?),
            "maxbytespertrigger" => self.max_bytes_per_trigger = Some(bytes(entry)?),
            "includeexistingfiles" => self.include_existing_files = flag(entry)?,
            "pathglobfilter" | "filenamepattern" => self.path_glob_filter = Some(text()),
            "infercolumntypes" => self.infer_column_types = flag(entry)?,
            "schema" => {
                ddl::parse_ddl(&text()).map_err(|refusal| refusal.at_least(entry.value.span))?;
                self.schema = Some(text());
            }
            "schemahints" => {
                ddl::parse_ddl(&text()).map_err(|refusal| refusal.at_least(entry.value.span))?;
                self.schema_hints = Some(text());
            }
            "schemaevolutionmode" => self.schema_evolution_mode = Some(evolution_mode(entry)?),
            "schemaevolutionrestart" => self.schema_evolution_restart = flag(entry)?,
            "schemalocation" => self.schema_location = Some(text()),
            "partitioncolumns" => {
                let names = text();
                let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
                self.partition_columns = Some(names.map(str::to_string).collect());
            }
            "basepath" => self.base_path = Some(text()),
            "validateoptions" if !flag(entry)? => {
                return Err(not_carried_out("validateOptions = false", entry)
                    .help("leave it out: an unknown option is always an error"));
            }
            // Of the relation, not of discovery: the caller reads `format` and `useStrictGlobber` itself.
            _ => {}
        }
        Ok(())
    }
}

/// The `format` (or `cloudFiles.format`) among options, if it is there.
pub fn format_option(entries: &[OptionEntry]) -> Option<&OptionEntry> {
    entries.iter().find(|entry| bare_name(&entry.key.value).0.eq_ignore_ascii_case("format"))
}

impl TableStreamOptions {
    /// Options of `STREAM t WITH (…)`. A key without a value means true.
    ///
    /// # Errors
    /// UNKNOWN_OPTION, NOT_SUPPORTED_YET, INVALID_OPTION, DUPLICATE_OPTION, each at the option.
    pub fn parse(entries: &[OptionEntry]) -> Result<TableStreamOptions, Diagnostic> {
        let mut options = TableStreamOptions {
            max_files_per_trigger: None,
            max_bytes_per_trigger: None,
            starting_version: None,
            skip_change_commits: false,
            ignore_deletes: false,
            event_time: EventTimeOptions::default(),
        };
        let mut seen = Vec::new();
        for entry in entries {
            let name = entry.key.value.as_str();
            once(entry, name, &mut seen)?;
            match name.to_lowercase().as_str() {
                "maxfilespertrigger" => options.max_files_per_trigger = Some(count(entry)?),
                "maxbytespertrigger" => options.max_bytes_per_trigger = Some(bytes(entry)?),
                "startingversion" => options.starting_version = Some(starting_version(entry)?),
                "skipchangecommits" => options.skip_change_commits = flag(entry)?,
                "ignoredeletes" => options.ignore_deletes = flag(entry)?,
                other if options.event_time.set(other, entry)? => {}
                _ => {
                    if let Some(option) = listed(TABLE_NOT_YET, name) {
                        return Err(not_carried_out(option, entry));
                    }
                    let names = TABLE_STREAM_OPTIONS.iter().map(|option| option.name);
                    return Err(unknown(entry, name, names.chain(TABLE_NOT_YET.iter().copied())));
                }
            }
        }
        Ok(options)
    }
}

/// The name without `cloudFiles.`, and whether it had it.
fn bare_name(key: &str) -> (&str, bool) {
    let prefix = "cloudFiles.";
    match key.get(..prefix.len()) {
        Some(start) if start.eq_ignore_ascii_case(prefix) => (&key[prefix.len()..], true),
        _ => (key, false),
    }
}

fn listed(names: &'static [&'static str], name: &str) -> Option<&'static str> {
    names.iter().copied().find(|known| known.eq_ignore_ascii_case(name))
}

/// Values that ask for what happens anyway.
fn accepts_default(option: &str, value: &str) -> bool {
    match option {
        "latestFirst" | "fileNameOnly" => value.eq_ignore_ascii_case("false"),
        _ => false,
    }
}

fn once(entry: &OptionEntry, name: &str, seen: &mut Vec<String>) -> Result<(), Diagnostic> {
    let lower = name.to_lowercase();
    if seen.contains(&lower) {
        return Err(Diagnostic::new("DUPLICATE_OPTION", format!("option `{name}` is there twice")).at(entry.key.span));
    }
    seen.push(lower);
    Ok(())
}

fn unknown<'n>(entry: &OptionEntry, name: &str, names: impl Iterator<Item = &'n str>) -> Diagnostic {
    let diagnostic =
        Diagnostic::new("UNKNOWN_OPTION", format!("there is no option `{}`", entry.key.value)).at(entry.key.span);
    match nearest(name, names) {
        Some(other) => diagnostic.help(format!("did you mean `{other}`?")),
        None => diagnostic,
    }
}

fn not_carried_out(option: &str, entry: &OptionEntry) -> Diagnostic {
    Diagnostic::new("NOT_SUPPORTED_YET", format!("option `{option}` is not carried out yet"))
        .at(entry.key.span)
        .help("leave it out")
}

pub(crate) fn invalid(entry: &OptionEntry, accepted: &str) -> Diagnostic {
    Diagnostic::new(
        "INVALID_OPTION",
        format!("option `{}`: `{}` is not {accepted}", entry.key.value, entry.value.value),
    )
    .at(entry.value.span)
}

pub(crate) fn flag(entry: &OptionEntry) -> Result<bool, Diagnostic> {
    match entry.value.value.trim().to_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(invalid(entry, "`true` or `false`")),
    }
}

pub(crate) fn count(entry: &OptionEntry) -> Result<u64, Diagnostic> {
    match entry.value.value.trim().parse::<u64>() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(invalid(entry, "a whole number from 1")),
    }
}

/// A size: bytes, or a number with b, k, m, g, t, each with or without b behind it, in powers of 1024.
fn bytes(entry: &OptionEntry) -> Result<u64, Diagnostic> {
    parse_bytes(&entry.value.value)
        .filter(|size| *size > 0)
        .ok_or_else(|| invalid(entry, "a size such as `1048576`, `10mb` or `1g`"))
}

/// Bytes of `10mb` and its like; None when it is not a size.
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_lowercase();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

fn one_of<'n>(entry: &OptionEntry, accepted: &[&'n str]) -> Result<&'n str, Diagnostic> {
    let typed = entry.value.value.trim();
    accepted.iter().copied().find(|name| name.eq_ignore_ascii_case(typed)).ok_or_else(|| {
        let diagnostic = invalid(entry, &format!("one of {}", accepted.join(", ")));
        match nearest(typed, accepted.iter().copied()) {
            Some(other) => diagnostic.help(format!("did you mean `{other}`?")),
            None => diagnostic,
        }
    })
}

fn evolution_mode(entry: &OptionEntry) -> Result<EvolutionMode, Diagnostic> {
    match one_of(entry, &EVOLUTION_MODES)? {
        "addNewColumns" => Ok(EvolutionMode::AddNewColumns),
        "rescue" => Ok(EvolutionMode::Rescue),
        "failOnNewColumns" => Ok(EvolutionMode::FailOnNewColumns),
        WIDENING => Ok(EvolutionMode::AddNewColumnsWithTypeWidening),
        _ => Ok(EvolutionMode::None),
    }
}

fn starting_version(entry: &OptionEntry) -> Result<StartingVersion, Diagnostic> {
    let typed = entry.value.value.trim();
    if typed.eq_ignore_ascii_case("latest") {
        return Ok(StartingVersion::Latest);
    }
    typed.parse().map(StartingVersion::At).map_err(|_| invalid(entry, "a version number or `latest`"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use alluvium_parser::{OptionEntry, Span, Text};

    use super::*;

    fn entries(pairs: &[(&str, &str)]) -> Vec<OptionEntry> {
        let text = |value: &str| Text { value: value.into(), span: Span::UNKNOWN };
        pairs.iter().map(|(key, value)| OptionEntry { key: text(key), value: text(value) }).collect()
    }

    #[test]
    fn prefix_and_case_do_not_matter_and_format_options_are_passed_on() {
        let (options, rest) = FilesOptions::parse(
            &entries(&[
                ("cloudFiles.maxFilesPerTrigger", "7"),
                ("MAXBYTESPERTRIGGER", "10mb"),
                ("CLOUDFILES.inferColumnTypes", "TRUE"),
                ("multiLine", "true"),
                ("cloudFiles.format", "json"),
            ]),
            false,
        )
        .unwrap();
        assert_eq!(options.max_files_per_trigger, Some(7));
        assert_eq!(options.max_bytes_per_trigger, Some(10 << 20));
        assert!(options.infer_column_types);
        assert_eq!(rest.len(), 1);
        assert_eq!(rest[0].key.value, "multiLine");
    }

    #[test]
    fn every_refusal_has_its_code() {
        let code = |pair: (&str, &str)| FilesOptions::parse(&entries(&[pair]), false).unwrap_err().code;
        assert_eq!(code(("cloudFiles.maxFilePerTrigger", "7")), "UNKNOWN_OPTION");
        assert_eq!(code(("cloudFiles.maxFilesPerTrigger", "0")), "INVALID_OPTION");
        assert_eq!(code(("maxBytesPerTrigger", "ten")), "INVALID_OPTION");
        assert_eq!(code(("includeExistingFiles", "maybe")), "INVALID_OPTION");
        assert_eq!(code(("cloudFiles.schemaEvolutionMode", "rescu")), "INVALID_OPTION");
        assert_eq!(code(("latestFirst", "true")), "NOT_SUPPORTED_YET");
        assert_eq!(code(("schema", "a IMT")), "UNSUPPORTED_DATATYPE");
        let twice = entries(&[("maxFilesPerTrigger", "1"), ("cloudFiles.maxFilesPerTrigger", "2")]);
        assert_eq!(FilesOptions::parse(&twice, false).unwrap_err().code, "DUPLICATE_OPTION");
        let near = FilesOptions::parse(&entries(&[("cloudFiles.maxFilePerTrigger", "7")]), false).unwrap_err();
        assert_eq!(near.help, ["did you mean `maxFilesPerTrigger`?"]);
    }

    #[test]
    fn table_options() {
        let options =
            TableStreamOptions::parse(&entries(&[("startingVersion", "latest"), ("skipchangecommits", "true")]))
                .unwrap();
        assert_eq!(options.starting_version, Some(StartingVersion::Latest));
        assert!(options.skip_change_commits && !options.ignore_deletes);
        let code = |pair: (&str, &str)| TableStreamOptions::parse(&entries(&[pair])).unwrap_err().code;
        assert_eq!(code(("startingVersion", "-1")), "INVALID_OPTION");
        assert_eq!(code(("readChangeFeed", "true")), "NOT_SUPPORTED_YET");
        assert_eq!(code(("skipChanges", "true")), "UNKNOWN_OPTION");
    }

    #[test]
    fn the_evolution_mode_follows_the_schema() {
        let parse = |pairs: &[(&str, &str)]| FilesOptions::parse(&entries(pairs), false).map(|(options, _)| options);
        assert_eq!(parse(&[]).unwrap().evolution(), EvolutionMode::AddNewColumns);
        assert_eq!(parse(&[("schema", "a INT")]).unwrap().evolution(), EvolutionMode::None);
        assert_eq!(
            parse(&[("schema", "a INT"), ("schemaEvolutionMode", "RESCUE")]).unwrap().evolution(),
            EvolutionMode::Rescue
        );
        let code = |pairs: &[(&str, &str)]| parse(pairs).unwrap_err().code;
        for mode in ["addNewColumns", WIDENING] {
            assert_eq!(code(&[("schema", "a INT"), ("schemaEvolutionMode", mode)]), "CF_ADD_NEW_NOT_SUPPORTED");
        }
        assert!(parse(&[("schemaEvolutionMode", WIDENING)]).unwrap().evolution().widens());
        assert_eq!(code(&[("schemaEvolutionMode", "rescue"), ("schemaEvolutionRestart", "true")]), "INVALID_OPTION");
        assert_eq!(code(&[("schema", "a INT"), ("schemaHints", "a BIGINT")]), "CONTRADICTORY_OPTIONS");
        assert_eq!(code(&[("inferColumnTypes", "true"), ("inferSchema", "false")]), "CONTRADICTORY_OPTIONS");
        assert!(parse(&[("inferColumnTypes", "true"), ("inferSchema", "TRUE")]).is_ok());
        assert_eq!(parse(&[("partitionColumns", "a, b")]).unwrap().partition_columns.unwrap(), ["a", "b"]);
        assert_eq!(parse(&[("partitionColumns", "")]).unwrap().partition_columns.unwrap(), [""; 0]);
    }
}
