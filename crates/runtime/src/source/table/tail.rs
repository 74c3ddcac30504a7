//! What waits in a table's log: commits read one by one, judged whole, their files kept until an epoch takes them.
//! Each commit is read once. Decides which commits a stream may pass; knows nothing of limits and epochs.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use alluvium_formats::wider_type;
use alluvium_parser::Diagnostic;
use alluvium_planner::options::TableStreamOptions;
use arrow::datatypes::{DataType, FieldRef, SchemaRef};

use super::position::{Position, TableFile};
use crate::error::{Error, Result};
use crate::source::Backlog;
use crate::table::actions::{Action, AddFile, Metadata, Protocol};
use crate::table::{self, Log, schema};

/// As long as this a missing next commit is taken for the log's end without asking further.
const TRUST_IN_ABSENCE: Duration = Duration::from_secs(3600);

/// A file that waits, and where it stands.
#[derive(Debug)]
pub struct Waiting {
    /// What to read.
    pub file: TableFile,
    /// Position once it is read, if others of its version follow.
    pub at: Position,
}

/// What a commit is judged against.
#[derive(Debug)]
pub struct Terms {
    /// Where the table lies.
    pub path: PathBuf,
    /// Its id when the stream was opened.
    pub table_id: String,
    /// The columns the stream gives.
    pub schema: SchemaRef,
    /// PARTITIONED BY.
    pub partition_columns: Vec<String>,
    /// Which removing commits are passed.
    pub options: TableStreamOptions,
}

/// The log from the stream's position on.
#[derive(Debug)]
pub struct Tail {
    terms: Terms,
    log: Log,
    /// The next version to be read; all before are in `waiting` or done with.
    scanned: u64,
    waiting: VecDeque<Waiting>,
    bytes: u64,
    /// Why `scanned` cannot be passed; told once all before it is read.
    failure: Option<Error>,
    /// `failure` is only that the table has more columns than the stream gives.
    grown: bool,
    looked: Instant,
    identity: Option<table::Identity>,
}

/// What becomes of a commit.
enum Admitted {
    /// Its files are read.
    Files(Vec<AddFile>),
    /// It would be if the stream had the columns that came with it.
    Grown(Error),
}

impl Tail {
    /// Nothing waits yet; the next commit to be read is `version`.
    pub fn at(terms: Terms, version: u64) -> Self {
        let log = Log::of(&terms.path);
        let identity = log.identity();
        Tail {
            identity,
            terms,
            log,
            scanned: version,
            waiting: VecDeque::new(),
            bytes: 0,
            failure: None,
            grown: false,
            looked: Instant::now(),
        }
    }

    /// Starts over at `version`, with these files of the table before it.
    pub fn restart(&mut self, version: u64, files: impl Iterator<Item = Waiting>) {
        self.scanned = version;
        self.waiting = files.collect();
        self.bytes = self.waiting.iter().map(|waiting| waiting.file.size).sum();
        (self.failure, self.grown) = (None, false);
    }

    /// Goes on with other columns.
    pub fn take_schema(&mut self, schema: SchemaRef) {
        self.terms.schema = schema;
        if std::mem::take(&mut self.grown) {
            self.failure = None;
        }
    }

    /// Whether the next commit has columns that the stream lacks, and nothing else is the matter with it.
    pub fn grown(&self) -> bool {
        self.grown && self.waiting.is_empty()
    }

    /// What the stream was opened with.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The table's log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The next version to be read.
    pub fn scanned(&self) -> u64 {
        self.scanned
    }

    /// What waits, in order.
    pub fn waiting(&self) -> &VecDeque<Waiting> {
        &self.waiting
    }

    /// What stands behind it all.
    pub fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// What waits, counted.
    pub fn backlog(&self) -> Backlog {
        Backlog { files: self.waiting.len() as u64, bytes: self.bytes }
    }

    /// Reads on until `enough` files wait, the log or `end` (exclusive) is reached, or a commit cannot be passed.
    /// Files that `read` covers are left out.
    pub fn look(&mut self, enough: usize, end: Option<u64>, read: &Position) -> Result<()> {
        while self.waiting.len() < enough && self.failure.is_none() && end.is_none_or(|end| self.scanned < end) {
            let version = self.scanned;
            let Some(actions) = self.log.read(version)? else {
                if self.gap(end) {
                    self.failure = Some(self.forgotten(version));
                }
                break;
            };
            self.looked = Instant::now();
            if self.log.identity() != self.identity {
                self.failure = Some(replaced(&self.terms));
                break;
            }
            match admit(&self.terms, version, actions) {
                Ok(Admitted::Files(adds)) => {
                    for (index, add) in adds.into_iter().enumerate() {
                        let at = Position { version, index: index as i64, starting: false };
                        if !read.covers(&at) {
                            self.bytes += add.size;
                            self.waiting.push_back(Waiting { file: file(add), at });
                        }
                    }
                    self.scanned = version + 1;
                }
                Ok(Admitted::Grown(error)) => (self.failure, self.grown) = (Some(error), true),
                Err(error) => self.failure = Some(error),
            }
        }
        Ok(())
    }

    /// Whether the missing commit was there once: later ones are known to exist.
    fn gap(&mut self, end: Option<u64>) -> bool {
        if end.is_some_and(|end| self.scanned < end) {
            return true;
        }
        if self.looked.elapsed() < TRUST_IN_ABSENCE {
            return false;
        }
        self.looked = Instant::now();
        self.log.announced_checkpoint().is_some_and(|version| version >= self.scanned)
    }

    /// Lets go of what `read` covers, and does not go back behind it.
    pub fn forget(&mut self, read: &Position) {
        while let Some(first) = self.waiting.front()
            && read.covers(&first.at)
        {
            self.bytes -= first.file.size;
            self.waiting.pop_front();
        }
    }

    /// The log no longer has a version that the stream has not read.
    pub fn forgotten(&self, version: u64) -> Error {
        Error::Environment(Box::new(
            Diagnostic::new(
                "DELTA_LOG_FILE_NOT_FOUND_FOR_STREAMING_SOURCE",
                format!(
                    "version {version} of the table at `{}` has not been read yet, and its commit is gone from the log",
                    self.terms.path.display()
                ),
            )
            .help("the log is cleaned after `delta.logRetentionDuration`; start over with REFRESH TABLE … FULL, or CREATE OR REPLACE"),
        ))
    }
}

/// The file of an add.
pub fn file(add: AddFile) -> TableFile {
    TableFile {
        path: add.path,
        size: add.size,
        modified_ms: add.modification_time,
        partition_values: add.partition_values,
        deletion_vector: add.deletion_vector,
    }
}

/// The files of a commit that a stream reads: adds that change data. The whole commit is looked at first.
fn admit(terms: &Terms, version: u64, actions: Vec<Action>) -> Result<Admitted> {
    let metadata = actions.iter().find_map(|action| action.meta_data.as_ref());
    let grown = match metadata {
        Some(metadata) => check_metadata(terms, version, metadata)?,
        None => None,
    };
    if let Some(protocol) = actions.iter().find_map(|action| action.protocol.as_ref()) {
        let unchanged = Metadata::default();
        table::streamable(protocol, metadata.unwrap_or(&unchanged))?;
    } else if let Some(metadata) = metadata {
        table::streamable(&Protocol::default(), metadata)?;
    }
    let operation = actions.iter().find_map(|action| action.commit_info.as_ref()).map(describe);
    let mut removed = None;
    let mut adds = Vec::new();
    for action in actions {
        removed = removed.or(action.remove.filter(|remove| remove.data_change).map(|remove| remove.path));
        adds.extend(action.add.filter(|add| add.data_change));
    }
    if let Some(removed) = removed {
        let options = &terms.options;
        if options.skip_change_commits || (adds.is_empty() && options.ignore_deletes) {
            return Ok(Admitted::Files(Vec::new()));
        }
        return Err(rows_removed(terms, version, operation.as_deref(), &removed, adds.is_empty()));
    }
    Ok(grown.map_or(Admitted::Files(adds), Admitted::Grown))
}

/// `DELETE (predicate: …)`.
fn describe(info: &serde_json::Value) -> String {
    let operation = info["operation"].as_str().unwrap_or("an unnamed operation");
    let parameters = info["operationParameters"].as_object();
    let parameters: Vec<_> = parameters
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}: {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .collect();
    format!("{operation} ({})", parameters.join(", "))
}

fn rows_removed(terms: &Terms, version: u64, operation: Option<&str>, removed: &str, only: bool) -> Error {
    let place = terms.path.display();
    let by = operation.map_or_else(|| format!("removes file `{removed}`"), |operation| format!("is {operation}"));
    let (code, what, option) = match only {
        true => ("DELTA_SOURCE_IGNORE_DELETE", "removes rows", "ignoreDeletes"),
        false => ("DELTA_SOURCE_TABLE_IGNORE_CHANGES", "changes or replaces rows", "skipChangeCommits"),
    };
    Error::statement(
        Diagnostic::new(
            code,
            format!(
                "version {version} of the table at `{place}` {what}, and a stream reads only new ones: the commit {by}"
            ),
        )
        .help(format!("to pass such commits without their effect: STREAM … WITH ('{option}' = true)"))
        .help("to read the table as it is now: REFRESH TABLE … FULL, or read it without STREAM"),
    )
}

/// The columns of a commit's schema must be among the stream's, with their types. Some: there are more of them, and that
/// is all.
fn check_metadata(terms: &Terms, version: u64, metadata: &Metadata) -> Result<Option<Error>> {
    if metadata.id != terms.table_id {
        return Err(other_table(terms, &metadata.id));
    }
    let known = schema::storable(&terms.schema)?;
    let mut more = None;
    for field in schema::from_json(&metadata.schema_string)?.fields() {
        let same = known.fields().iter().find(|column| column.name().eq_ignore_ascii_case(field.name()));
        let (now, name) = (schema::sql_name(field.data_type()), field.name());
        let what = match same.map(|column| (column, growth(column.data_type(), field.data_type()))) {
            None => {
                more.get_or_insert(format!("column `{name}` was added"));
                continue;
            }
            Some((_, Growth::Within)) => continue,
            Some((column, growth)) => {
                let before = schema::sql_name(column.data_type());
                let what = format!("column `{name}` changed from {before} to {now}");
                if growth == Growth::More {
                    more.get_or_insert(what);
                    continue;
                }
                what
            }
        };
        return Err(schema_changed(terms, version, &what));
    }
    if metadata.partition_columns != terms.partition_columns {
        return Err(schema_changed(terms, version, "the partition columns changed"));
    }
    Ok(more.map(|what| schema_changed(terms, version, &what)))
}

/// How a type of a commit lies to the one the stream has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Growth {
    /// Everything it has is known.
    Within,
    /// It has more fields inside, or is wider.
    More,
    /// It is another type.
    Other,
}

fn growth(known: &DataType, now: &DataType) -> Growth {
    match (known, now) {
        (DataType::Struct(known), DataType::Struct(now)) => {
            let of = |field: &FieldRef| {
                let same = known.iter().find(|column| column.name().eq_ignore_ascii_case(field.name()));
                same.map_or(Growth::More, |same| growth(same.data_type(), field.data_type()))
            };
            now.iter().map(of).max().unwrap_or(Growth::Within)
        }
        (DataType::List(known), DataType::List(now)) | (DataType::Map(known, _), DataType::Map(now, _)) => {
            growth(known.data_type(), now.data_type())
        }
        _ if schema::sql_name(known) == schema::sql_name(now) => Growth::Within,
        (known, now) if wider_type(known, now).as_ref() == Some(now) => Growth::More,
        // The stream was planned with what the column became later.
        (known, now) if wider_type(now, known).as_ref() == Some(known) => Growth::Within,
        _ => Growth::Other,
    }
}

fn schema_changed(terms: &Terms, version: u64, what: &str) -> Error {
    let place = terms.path.display();
    Error::statement(
        Diagnostic::new(
            "DELTA_SCHEMA_CHANGED",
            format!("the schema of the table at `{place}` changed with version {version}: {what}"),
        )
        .help("run CREATE OR REFRESH again, or start the stream again: it then reads on with the new schema"),
    )
}

/// The log was taken away and made again while the stream was running.
fn replaced(terms: &Terms) -> Error {
    Error::statement(
        Diagnostic::new(
            "DIFFERENT_DELTA_TABLE_READ_BY_STREAMING_SOURCE",
            format!("the table at `{}` was dropped and created while the stream was reading it", terms.path.display()),
        )
        .help("a new table has a history of its own; start over with REFRESH TABLE … FULL"),
    )
}

/// The table at the path is not the one the stream has read so far.
pub fn other_table(terms: &Terms, id: &str) -> Error {
    Error::statement(
        Diagnostic::new(
            "DIFFERENT_DELTA_TABLE_READ_BY_STREAMING_SOURCE",
            format!(
                "the table at `{}` is another one than the stream has read so far: its id is {id}, and was {}",
                terms.path.display(),
                terms.table_id
            ),
        )
        .help("dropping and creating a table makes a new one; start over with REFRESH TABLE … FULL"),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use alluvium_planner::ddl::parse_ddl;

    use super::*;

    #[test]
    fn more_fields_and_wider_types_are_growth_and_other_types_are_not() {
        let table = [
            ("a INT", "a INT", Growth::Within),
            ("a INT", "a BIGINT", Growth::More),
            ("a BIGINT", "a INT", Growth::Within),
            ("a BIGINT", "a DOUBLE", Growth::Other),
            ("s STRUCT<x: INT, y: INT>", "s STRUCT<y: INT>", Growth::Within),
            ("s STRUCT<x: INT>", "s STRUCT<x: INT, y: INT>", Growth::More),
            ("s STRUCT<x: INT>", "s STRUCT<x: STRING, y: INT>", Growth::Other),
            ("l ARRAY<STRUCT<x: INT>>", "l ARRAY<STRUCT<x: INT, y: INT>>", Growth::More),
            ("m MAP<STRING, STRUCT<x: INT>>", "m MAP<STRING, STRUCT<x: INT, y: INT>>", Growth::More),
            ("m MAP<STRING, INT>", "m MAP<INT, INT>", Growth::Other),
        ];
        for (known, now, expected) in table {
            let type_of = |ddl: &str| parse_ddl(ddl).unwrap().field(0).data_type().clone();
            assert_eq!(growth(&type_of(known), &type_of(now)), expected, "{known} -> {now}");
        }
    }
}
