//! New rows of a Delta table, as a stream: first the table as it is, then each commit's new files.
//!
//! State: a position (kept by the caller with each epoch's commit) and the part of the log behind it that has been
//! looked at. A look reads the commits that came since the last one, by name; the log is never listed.

mod position;
mod scan;
mod tail;
mod watch;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use alluvium_parser::Diagnostic;
use alluvium_planner::options::StartingVersion;
use alluvium_planner::relation::{SourceKind, SourceSpec};
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use serde_json::Value;

pub use position::{Position, TableFile, TableInput};

use self::position::BEFORE_FIRST;
use self::scan::EpochFiles;
use self::tail::{Tail, Terms, Waiting};
use self::watch::Watch;
use super::{Backlog, EpochInput, ReadCounters, Source};
use crate::error::{Error, Result};
use crate::table::actions::AddFile;
use crate::table::{self, Head};

/// Files of one epoch, unless an option says otherwise.
const FILES_PER_EPOCH: u64 = 1000;
/// So many files are looked ahead, for the backlog's sake; more waits in the log until these are read.
const LOOK_AHEAD: usize = 10_000;

/// A Delta table being followed.
pub struct TableSource {
    tail: Tail,
    position: Position,
    /// Exclusive; from `freeze`.
    end: Option<u64>,
    watch: Watch,
}

impl TableSource {
    /// Where it stands, to be given to `open` again.
    pub fn position(&self) -> Value {
        self.position.to_json(&self.tail.terms().table_id)
    }

    /// Opens the table of `spec` behind `position`, which an earlier input's `position()` gave; None: at the start
    /// that the options ask for.
    pub async fn open(spec: &SourceSpec, position: Option<Value>) -> Result<TableSource> {
        let SourceKind::Table(table) = &spec.kind else {
            return Err(Error::internal(format!("{} is not a table", spec.title)));
        };
        let path = table::table_path(&table.location)?;
        let head = Head::open(&path).await?;
        table::streamable(head.protocol(), head.metadata())?;
        let mut terms = Terms {
            path,
            table_id: head.table_id().to_owned(),
            schema: spec.schema.clone(),
            partition_columns: head.partition_columns().to_vec(),
            options: table.options.clone(),
        };
        let position = match position {
            Some(stored) => {
                let (position, id) = Position::from_json(&stored)?;
                if id != terms.table_id {
                    terms.table_id = id;
                    return Err(tail::other_table(&terms, head.table_id()));
                }
                position
            }
            None => first_position(&head, terms.options.starting_version)?,
        };
        let watch = Watch::on(head.log().directory());
        let mut source = TableSource { tail: Tail::at(terms, position.version), position, end: None, watch };
        source.stand_at(position, &head).await?;
        Ok(source)
    }

    /// Makes the tail begin behind `position`; `head` is the table at its latest version.
    async fn stand_at(&mut self, position: Position, head: &Head) -> Result<()> {
        self.position = position;
        let latest = head.version();
        if position.version > latest + 1 {
            return Err(behind(head, position.version));
        }
        if !position.starting {
            if position.version <= latest && !head.log().has(position.version) {
                return Err(self.tail.forgotten(position.version));
            }
            self.tail.restart(position.version, std::iter::empty());
            return Ok(());
        }
        let files = if position.version == latest {
            head.files().cloned().collect()
        } else {
            table::load(head.path(), Some(position.version)).await?.files
        };
        let starting = starting_files(files, position.version);
        self.tail.restart(position.version + 1, starting.into_iter().filter(|waiting| !position.covers(&waiting.at)));
        Ok(())
    }

    /// How many of the waiting files the next epoch takes.
    fn admitted(&self, limited: bool) -> usize {
        let options = &self.tail.terms().options;
        let waiting = self.tail.waiting();
        if !limited {
            return waiting.len();
        }
        let most = options.max_files_per_trigger.or(options.max_bytes_per_trigger.is_none().then_some(FILES_PER_EPOCH));
        let most = most.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX)).max(1);
        let (mut files, mut bytes) = (0, 0);
        for file in waiting.iter().take(most) {
            files += 1;
            bytes += file.file.size;
            if options.max_bytes_per_trigger.is_some_and(|limit| bytes >= limit) {
                break;
            }
        }
        files
    }

    /// The position once the first `files` waiting files are read: the next version's start where one ends.
    fn behind(&self, files: usize) -> Position {
        let waiting = self.tail.waiting();
        let last = files.checked_sub(1).and_then(|last| waiting.get(last)).map(|waiting| waiting.at);
        match (last, waiting.get(files).map(|waiting| waiting.at)) {
            (Some(last), Some(next)) if (last.version, last.starting) == (next.version, next.starting) => last,
            (_, Some(next)) => Position::before(next.version),
            (_, None) => Position::before(self.tail.scanned()),
        }
    }
}

/// A table from a position that was read on, range by range as epochs of the past read it.
pub struct Past(TableSource);

impl Past {
    /// The table of `spec`, from `from` on.
    pub async fn open(spec: &SourceSpec, from: &Value) -> Result<Past> {
        TableSource::open(spec, Some(from.clone())).await.map(Past)
    }

    /// What lies between two positions. Ranges are asked for in their order.
    pub fn read(&mut self, from: &Value, to: &Value) -> Result<TableInput> {
        let Past(source) = self;
        let (from, _) = Position::from_json(from)?;
        let (to, table_id) = Position::from_json(to)?;
        if table_id != source.tail.terms().table_id {
            return Err(tail::other_table(source.tail.terms(), &table_id));
        }
        // What lies before `from` was read by nobody.
        source.tail.forget(&from);
        let end = if to.starting { to.version } else { to.version + u64::from(to.index != BEFORE_FIRST) };
        source.tail.look(usize::MAX, Some(end), &from)?;
        if let Some(failure) = source.tail.failure() {
            return Err(failure.clone());
        }
        let read = source.tail.waiting().iter().filter(|waiting| to.covers(&waiting.at));
        let files = read.map(|waiting| waiting.file.clone()).collect();
        source.position = to;
        source.tail.forget(&to);
        Ok(TableInput { table_id, from, to, files })
    }
}

/// The rows of `input`, as its epoch read them.
pub async fn again(
    spec: &SourceSpec,
    input: &TableInput,
    counters: Arc<ReadCounters>,
) -> Result<Arc<dyn TableProvider>> {
    let SourceKind::Table(table) = &spec.kind else {
        return Err(Error::internal(format!("{} is not a table", spec.title)));
    };
    let path = table::table_path(&table.location)?;
    let partition_columns = Head::open(&path).await?.without_files().partition_columns().to_vec();
    let (schema, files) = (spec.schema.clone(), input.files.clone());
    Ok(Arc::new(EpochFiles { path, schema, partition_columns, files, counters }))
}

/// Where a stream without a position begins.
fn first_position(head: &Head, starting: Option<StartingVersion>) -> Result<Position> {
    let latest = head.version();
    match starting {
        None => Ok(Position { version: latest, index: BEFORE_FIRST, starting: true }),
        Some(StartingVersion::Latest) => Ok(Position::before(latest + 1)),
        Some(StartingVersion::At(version)) if version <= latest && head.log().has(version) => {
            Ok(Position::before(version))
        }
        Some(StartingVersion::At(version)) => Err(table::no_such_version(head.path(), version)),
    }
}

/// The files of a whole table in the order in which a stream reads them.
fn starting_files(files: Vec<AddFile>, version: u64) -> Vec<Waiting> {
    let mut files: Vec<_> = files.into_iter().map(tail::file).collect();
    files.sort_by_cached_key(|file| (file.modified_ms, table::decoded(&file.path)));
    let numbered = files.into_iter().enumerate();
    numbered
        .map(|(index, file)| Waiting { file, at: Position { version, index: index as i64, starting: true } })
        .collect()
}

fn behind(head: &Head, version: u64) -> Error {
    Error::Environment(Box::new(
        Diagnostic::new(
            "DELTA_TABLE_WENT_BACK",
            format!(
                "the stream has read the table at `{}` up to version {version}, and its latest version is {}",
                head.path().display(),
                head.version()
            ),
        )
        .help("the table's directory was replaced by an older copy; start over with REFRESH TABLE … FULL"),
    ))
}

#[async_trait]
impl Source for TableSource {
    async fn next(&mut self, limited: bool) -> Result<Option<EpochInput>> {
        let enough = if limited { LOOK_AHEAD } else { usize::MAX };
        self.tail.look(enough, self.end, &self.position)?;
        if self.tail.waiting().is_empty() {
            return match self.tail.failure() {
                Some(failure) => Err(failure.clone()),
                None => Ok(None),
            };
        }
        let files = self.admitted(limited);
        Ok(Some(EpochInput::Table(TableInput {
            table_id: self.tail.terms().table_id.clone(),
            from: self.position,
            to: self.behind(files),
            files: self.tail.waiting().iter().take(files).map(|waiting| waiting.file.clone()).collect(),
        })))
    }

    async fn freeze(&mut self) -> Result<()> {
        let next = self.tail.scanned();
        self.end = Some(self.tail.log().last_from(next).map_or(next, |last| last + 1));
        Ok(())
    }

    fn unfreeze(&mut self) {
        self.end = None;
    }

    async fn provider(&self, input: &EpochInput, counters: Arc<ReadCounters>) -> Result<Arc<dyn TableProvider>> {
        let EpochInput::Table(input) = input else {
            return Err(Error::internal("a table source was given files to read"));
        };
        let terms = self.tail.terms();
        if input.table_id != terms.table_id {
            return Err(tail::other_table(terms, &input.table_id));
        }
        Ok(Arc::new(EpochFiles {
            path: terms.path.clone(),
            schema: terms.schema.clone(),
            partition_columns: terms.partition_columns.clone(),
            files: input.files.clone(),
            counters,
        }))
    }

    async fn committed(&mut self, input: &EpochInput) -> Result<()> {
        let EpochInput::Table(input) = input else {
            return Err(Error::internal("a table source was given files to read"));
        };
        if input.from == self.position {
            self.position = input.to;
            self.tail.forget(&input.to);
            return Ok(());
        }
        // An input of an earlier life that was run again: what was looked at here may start elsewhere.
        let head = Head::open(&self.tail.terms().path).await?;
        self.stand_at(input.to, &head).await
    }

    async fn changed(&mut self) {
        self.watch.changed().await;
    }

    fn backlog(&self) -> Backlog {
        self.tail.backlog()
    }

    fn outgrown(&self) -> bool {
        self.tail.grown()
    }

    async fn rebase(&mut self, spec: &Arc<SourceSpec>) -> Result<()> {
        self.tail.take_schema(spec.schema.clone());
        Ok(())
    }
}
