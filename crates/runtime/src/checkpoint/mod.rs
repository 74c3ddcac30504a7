//! The checkpoint of a stream: what it must not forget, in one directory that one process holds.
//!
//! It keeps the query's id, the intent of the running epoch, one record per committed epoch, the ledger of files read,
//! positions in other sources, and the keyed state. [`Checkpoint::commit`] is the moment an epoch becomes the past:
//! one synced batch. The directory's layout is in `docs/checkpoint-format.md`.
//!
//! It knows nothing of how sources choose or sinks publish; [`recovery`] decides what a start does, from facts alone.

mod directory;
mod ledger;
mod lock;
mod operators;
pub mod recovery;
mod sink;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alluvium_parser::Diagnostic;
use alluvium_planner::node::StreamSessionNode;
use arrow::datatypes::SchemaRef;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use ledger::{Ages, Alteration, Archived, FileState, Forgetting, Ledger, LedgerEntry, Told};
pub use operators::{Origin, StoredOperators};
pub use recovery::{Facts, Recovery, Refusal, decide};
pub use sink::{SINK_OPERATOR, SinkValue};

use crate::clock::EpochWatermark;
use crate::error::{Error, Result};
use crate::metrics::EpochRecord;
use crate::source::EpochInput;
use crate::state::{
    Batch, Column, DATABASE_BYTES, Damage, JoinRows, JoinTable, MemoryStore, RocksStore, StagedJoin, StagedState,
    StateSize, StateStore, StateTable,
};

/// A checkpoint that is looked at while it is held is opened again so often at most,
const READ_TRIES: u32 = 20;

/// and so long after.
const READ_PAUSE: Duration = Duration::from_millis(20);

/// What an epoch is going to do, durable before it does anything. Running it again gives the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// The epoch.
    pub epoch: u64,
    /// Its `current_timestamp()`, milliseconds since 1970 UTC.
    pub timestamp_ms: i64,
    /// What it reads, by source id; sources with nothing new are absent.
    pub inputs: Vec<(String, EpochInput)>,
    /// The plan's fingerprint.
    pub fingerprint: String,
    /// Versions of the tables it joins, by location.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub statics: BTreeMap<String, u64>,
    /// What is late, and what is final.
    #[serde(default)]
    pub watermark: EpochWatermark,
}

/// Everything that becomes true with an epoch.
pub struct EpochCommit {
    /// Its row in SHOW EPOCHS.
    pub record: EpochRecord,
    /// What it read: must be what its intent says.
    pub inputs: Vec<(String, EpochInput)>,
    /// Files it read.
    pub ledger: Vec<LedgerEntry>,
    /// New positions by source id.
    pub positions: Vec<(String, serde_json::Value)>,
    /// What its operators, and its sink, staged.
    pub state: Vec<StagedState>,
    /// What its joins of streams staged.
    pub joins: Vec<StagedJoin>,
    /// What its sink keeps by name.
    pub sink: Vec<SinkValue>,
}

/// An open checkpoint. Clones share it; it closes, and its lock is released, with the last clone and the last
/// [`StateTable`] of it.
#[derive(Clone)]
pub struct Checkpoint {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn StateStore>,
    query_id: String,
    name: String,
    inner: Mutex<Inner>,
    ledger: Ledger,
}

#[derive(Default)]
struct Inner {
    intent: Option<Intent>,
    last: Option<EpochRecord>,
    tables: BTreeMap<u32, Arc<StateTable>>,
    /// Numbers under which the state of operators is stored, where they are others than theirs.
    numbers: BTreeMap<u32, u32>,
}

impl Checkpoint {
    /// Opens the checkpoint in `dir`, creating it where there is none, for the stream called `stream`. Fails at once
    /// when another process or another stream of this one holds it.
    pub fn open(dir: &Path, stream: &str) -> Result<Checkpoint> {
        Checkpoint::open_within(dir, stream, DATABASE_BYTES)
    }

    /// [`Self::open`] with so many bytes of memory for the database: what is read often, and what is not on disk yet.
    pub fn open_within(dir: &Path, stream: &str, bytes: usize) -> Result<Checkpoint> {
        let prepared = directory::prepare(dir, stream)?;
        let store = RocksStore::open_within(&prepared.database, bytes, Box::new(prepared.lock))?;
        directory::finish(dir)?;
        Checkpoint::on(Arc::new(store), prepared.query_id, &dir.display().to_string())
    }

    /// Makes sure that nobody holds the checkpoint in `dir`, whatever state it is in. Errors: CHECKPOINT_LOCKED.
    pub fn require_free(dir: &Path, stream: &str) -> Result<()> {
        lock::Lock::take(dir, stream).map(drop)
    }

    /// The checkpoint in `dir` as it is now, to be looked at only; None where none was made yet. Neither disturbs nor
    /// is disturbed by the process that holds it, and what that commits later is not seen.
    pub fn open_to_read(dir: &Path) -> Result<Option<Checkpoint>> {
        let Some((database, query_id)) = directory::existing(dir)? else { return Ok(None) };
        let mut tries = 1;
        let store = loop {
            let held = lock::Lock::is_held(dir);
            let opened = match held {
                true => RocksStore::open_to_read(&database),
                false => RocksStore::open_unheld_to_read(&database),
            };
            match opened {
                Ok(store) => break store,
                // Its owner, or one who came meanwhile, replaced a file between two that were opened here.
                Err(_) if tries < READ_TRIES && (held || lock::Lock::is_held(dir)) => std::thread::sleep(READ_PAUSE),
                Err(error) => return Err(error),
            }
            tries += 1;
        };
        Checkpoint::on(Arc::new(store), query_id, &dir.display().to_string()).map(Some)
    }

    /// Whether a process holds the checkpoint in `dir`: its stream runs, or a statement writes to it.
    pub fn is_held(dir: &Path) -> bool {
        lock::Lock::is_held(dir)
    }

    /// The id of the query whose checkpoint is in `dir`, without opening it; None where there is no checkpoint.
    pub fn stored_query_id(dir: &Path) -> Option<String> {
        directory::query_id(dir)
    }

    /// A checkpoint that vanishes with the process, for queries that are only looked at.
    pub fn in_memory() -> Result<Checkpoint> {
        Checkpoint::on(Arc::new(MemoryStore::default()), uuid::Uuid::new_v4().to_string(), "(in memory)")
    }

    /// On a store that may have been used before.
    pub(crate) fn on(store: Arc<dyn StateStore>, query_id: String, name: &str) -> Result<Checkpoint> {
        let intent = match store.get(Column::Meta, b"intent")? {
            Some(bytes) => Some(parse(name, "its intent", &bytes)?),
            None => None,
        };
        let newest = store.page_back(Column::Epochs, &[], &[u8::MAX; 9], 1)?;
        let last = match newest.iter().next() {
            Some((_, record)) => Some(parse(name, "its newest epoch", record)?),
            None => None,
        };
        let ledger = Ledger::open(store.clone(), name)?;
        let numbers = operators::load(store.as_ref(), name)?.map(|stored| stored.numbers).unwrap_or_default();
        let inner = Mutex::new(Inner { intent, last, tables: BTreeMap::new(), numbers });
        Ok(Checkpoint { shared: Arc::new(Shared { store, query_id, name: name.to_string(), inner, ledger }) })
    }

    /// The query's id, made once; the sink's `txn` application id.
    pub fn query_id(&self) -> &str {
        &self.shared.query_id
    }

    /// The newest committed epoch.
    pub fn last_committed(&self) -> Result<Option<EpochRecord>> {
        Ok(self.inner().last.clone())
    }

    /// The number of the newest committed epoch that made a commit in the sink's table.
    pub fn last_published(&self) -> Result<Option<u64>> {
        match self.shared.store.get(Column::Meta, b"published")? {
            Some(bytes) => Ok(Some(parse(&self.shared.name, "its newest published epoch", &bytes)?)),
            None => Ok(None),
        }
    }

    /// The intent of an epoch that was begun and not committed.
    pub fn pending_intent(&self) -> Result<Option<Intent>> {
        Ok(self.inner().intent.clone())
    }

    /// [`Self::write_intent`], unless a statement has altered what is known of files since there were `alterations`
    /// of them. False then: the input is to be chosen again.
    pub fn begin(&self, intent: &Intent, alterations: u64) -> Result<bool> {
        let inner = self.inner();
        if self.shared.ledger.alterations() != alterations {
            return Ok(false);
        }
        self.write_intent_locked(inner, intent).map(|()| true)
    }

    /// Makes an intent durable. It must be the next epoch's, or the pending one again; other versions of the files it reads
    /// and of the tables it joins, and fewer files, may be chosen for a pending one as long as the sink has nothing of it.
    pub fn write_intent(&self, intent: &Intent) -> Result<()> {
        self.write_intent_locked(self.inner(), intent)
    }

    fn write_intent_locked(&self, mut inner: MutexGuard<'_, Inner>, intent: &Intent) -> Result<()> {
        let next = inner.last.as_ref().map_or(0, |last| last.epoch + 1);
        if intent.epoch != next {
            return Err(Error::internal(format!("epoch {} was begun where epoch {next} is next", intent.epoch)));
        }
        if let Some(pending) = &inner.intent
            && !covers(pending, intent)
        {
            return Err(Error::internal(format!("epoch {} was begun twice, with different inputs", intent.epoch)));
        }
        let mut batch = Batch::default();
        batch.put(Column::Meta, "intent", json(intent)?);
        self.shared.store.write(batch, true)?;
        inner.intent = Some(intent.clone());
        Ok(())
    }

    /// Commits an epoch: all of it is durable when this returns, or none of it.
    pub fn commit(&self, commit: EpochCommit) -> Result<()> {
        let epoch = commit.record.epoch;
        let mut inner = self.inner();
        if inner.intent.as_ref().is_none_or(|intent| intent.epoch != epoch || intent.inputs != commit.inputs) {
            return Err(Error::internal(format!("epoch {epoch} does not commit what its intent says")));
        }
        for staged in &commit.state {
            if staged.epoch() != epoch {
                return Err(Error::internal(format!("epoch {epoch} commits state staged by epoch {}", staged.epoch())));
            }
            staged.prepare()?;
        }
        let mut batch = Batch::default();
        let mut receipts = Vec::new();
        for staged in &commit.state {
            receipts.push(staged.write_into(&mut batch)?);
        }
        for staged in commit.joins {
            if staged.epoch() != epoch {
                return Err(Error::internal(format!("epoch {epoch} commits a join of epoch {}", staged.epoch())));
            }
            batch.append(staged.into_writes());
        }
        let changing = self.shared.ledger.changing();
        let counted = self.shared.ledger.write_into(&commit.ledger, &mut batch)?;
        for (source, position) in &commit.positions {
            batch.put(Column::Meta, position_key(source), json(position)?);
        }
        sink::write_into(&commit.sink, &mut batch);
        batch.put(Column::Epochs, epoch.to_be_bytes(), json(&commit.record)?);
        if commit.record.table_version.is_some() {
            batch.put(Column::Meta, "published", epoch.to_string());
        }
        batch.delete(Column::Meta, "intent");
        self.shared.store.write(batch, true)?;
        inner.intent = None;
        inner.last = Some(commit.record);
        self.shared.ledger.apply(counted);
        drop(changing);
        for (staged, receipt) in commit.state.iter().zip(receipts) {
            staged.apply(receipt)?;
        }
        Ok(())
    }

    /// Where a source that is not files stands.
    pub fn position(&self, source: &str) -> Result<Option<serde_json::Value>> {
        match self.shared.store.get(Column::Meta, position_key(source).as_bytes())? {
            Some(bytes) => Ok(Some(parse(&self.shared.name, &format!("the position of source {source}"), &bytes)?)),
            None => Ok(None),
        }
    }

    /// A value kept by name, such as the schema of a source.
    pub fn meta(&self, key: &str) -> Result<Option<String>> {
        match self.shared.store.get(Column::Meta, named_key(key).as_bytes())? {
            Some(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| unreadable(&self.shared.name, key)),
            None => Ok(None),
        }
    }

    /// Sets a value kept by name, durably.
    pub fn put_meta(&self, key: &str, value: &str) -> Result<()> {
        let mut batch = Batch::default();
        batch.put(Column::Meta, named_key(key), value);
        self.shared.store.write(batch, true)
    }

    /// Takes a value kept by name away, durably; nothing happens where it is not.
    pub fn remove_meta(&self, key: &str) -> Result<()> {
        if self.meta(key)?.is_none() {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.delete(Column::Meta, named_key(key));
        self.shared.store.write(batch, true)
    }

    /// Committed epochs: with a limit that many, newest first; without, all, oldest first.
    pub fn epochs(&self, newest_first_limit: Option<usize>) -> Result<Vec<EpochRecord>> {
        let mut records = Vec::new();
        let mut until = vec![u8::MAX; 9];
        let limit = newest_first_limit.unwrap_or(usize::MAX);
        while records.len() < limit {
            let page = self.shared.store.page_back(Column::Epochs, &[], &until, (limit - records.len()).min(1024))?;
            let Some(last) = page.last_key() else { break };
            for (_, record) in page.iter() {
                records.push(parse(&self.shared.name, "an epoch", record)?);
            }
            until = last.to_vec();
        }
        if newest_first_limit.is_none() {
            records.reverse();
        }
        Ok(records)
    }

    /// Gives every committed epoch to `each`, oldest first, a page at a time.
    pub fn each_epoch(&self, each: &mut dyn FnMut(EpochRecord) -> Result<()>) -> Result<()> {
        let mut from = Vec::new();
        loop {
            let page = self.shared.store.page(Column::Epochs, &from, &[u8::MAX; 9], 1024)?;
            let Some(next) = page.next_key() else { return Ok(()) };
            for (_, record) in page.iter() {
                each(parse(&self.shared.name, "an epoch", record)?)?;
            }
            from = next;
        }
    }

    /// The files that were read.
    pub fn ledger(&self) -> Ledger {
        self.shared.ledger.clone()
    }

    /// Makes a source read a file again when it finds it; `unknown`: also one that it does not know. The epoch that reads it
    /// now, if one does, is the error. Waits while the file is being cleaned; blocks.
    pub fn forget_file(&self, source: &str, path: &str, unknown: bool) -> Result<Forgetting, Altering> {
        loop {
            // Not with the lock held: cleaning may take its time, and the epochs go on meanwhile.
            self.shared.ledger.await_cleaned(source, path);
            let inner = self.inner();
            refuse_running(&inner, path)?;
            match self.shared.ledger.forget(source, path, unknown)? {
                Forgetting::BeingCleaned => {}
                forgotten => return Ok(forgotten),
            }
        }
    }

    /// Keeps files out that were not read. The epoch that reads one of them now, or has read it, is the error.
    pub fn skip_file(&self, entries: &[LedgerEntry]) -> Result<(), Altering> {
        let inner = self.inner();
        for entry in entries {
            refuse_running(&inner, &entry.path)?;
            let known = self.shared.ledger.entry(&entry.source, &entry.path)?;
            if let Some(epoch) = known.filter(LedgerEntry::was_read).and_then(|known| known.epoch) {
                return Err(Altering::Read(epoch));
            }
        }
        for entry in entries {
            self.shared.ledger.skip(entry)?;
        }
        Ok(())
    }

    /// The state of an operator; `budget`: bytes its hot rows may take. The same table each time.
    pub fn state(&self, operator: u32, budget: usize) -> Result<Arc<StateTable>> {
        let mut inner = self.inner();
        if let Some(table) = inner.tables.get(&operator) {
            return Ok(table.clone());
        }
        let stored = inner.numbers.get(&operator).copied().unwrap_or(operator);
        let table = Arc::new(StateTable::open(self.shared.store.clone(), stored, budget)?.known_as(operator));
        inner.tables.insert(operator, table.clone());
        Ok(table)
    }

    /// The state of an operator as it is stored, to be looked at only: it is never written, so what does not fit the
    /// budget of its owner stays in memory. `damage`: where what cannot be read is noted instead of being an error.
    pub fn look_at_state(&self, operator: u32, damage: Option<Arc<Damage>>) -> Result<StateTable> {
        Ok(StateTable::open_to_look(self.shared.store.clone(), self.stored_number(operator), damage)?
            .known_as(operator))
    }

    fn stored_number(&self, operator: u32) -> u32 {
        self.inner().numbers.get(&operator).copied().unwrap_or(operator)
    }

    /// Operators that have state.
    fn stored(&self) -> Result<Vec<Stored>> {
        let numbers = self.inner().numbers.clone();
        let known = |(number, is_join): (u32, bool)| match numbers.iter().find(|(_, stored)| **stored == number) {
            Some((operator, _)) => Some(Stored { operator: *operator, number, is_join }),
            // What an operator had before its state was written anew.
            None if numbers.contains_key(&number) || operators::is_anew(number) => None,
            None => Some(Stored { operator: number, number, is_join }),
        };
        let stored = StateTable::stored_operators(self.shared.store.as_ref())?;
        let mut known: Vec<Stored> = stored.into_iter().filter_map(known).collect();
        known.sort_unstable_by_key(|stored| stored.operator);
        Ok(known)
    }

    /// Rows that a join of streams keeps, a side each; none of other operators. `damage`: as in [`Self::look_at_state`].
    pub fn join_rows(&self, operator: u32, damage: Option<Arc<Damage>>) -> Result<Vec<JoinRows>> {
        JoinRows::stored(&self.shared.store, self.stored_number(operator), damage)
    }

    /// Operators that have state.
    pub fn operators(&self) -> Result<Vec<u32>> {
        let operators = self.stored()?.into_iter().map(|stored| stored.operator);
        // What is kept beside an operator's state is not an operator.
        Ok(operators.filter(|operator| StreamSessionNode::of_keys_number(*operator).is_none()).collect())
    }

    /// Columns of an operator's state: the schema, how many of them are keys, and which one tells a row's time.
    pub fn state_columns(&self, operator: u32) -> Result<Option<(SchemaRef, usize, Option<usize>)>> {
        StateTable::stored_columns(self.shared.store.as_ref(), self.stored_number(operator))
    }

    /// [`Self::state`] with another limit for the log, for tests that cannot fill it.
    #[cfg(test)]
    pub(crate) fn state_with(&self, operator: u32, budget: usize, log_bytes_min: usize) -> Result<Arc<StateTable>> {
        let table = StateTable::open_with(self.shared.store.clone(), operator, budget, log_bytes_min)?;
        let table = Arc::new(table);
        self.inner().tables.insert(operator, table.clone());
        Ok(table)
    }

    /// A stream that stops leaves its state so that the next start has little to replay. Blocks.
    pub fn settle(&self) -> Result<()> {
        let tables: Vec<Arc<StateTable>> = self.inner().tables.values().cloned().collect();
        // Side by side: each is one thread's work for its size.
        std::thread::scope(|scope| {
            let settling: Vec<_> = tables.iter().map(|table| scope.spawn(|| table.settle())).collect();
            let torn = |_| Err(Error::internal("the state was left half written by a panic"));
            settling.into_iter().map(|settled| settled.join().unwrap_or_else(torn)).collect::<Result<()>>()
        })?;
        self.shared.store.settle()
    }

    /// How much each operator keeps, by operator, whether its state was opened or not.
    pub fn state_sizes(&self) -> Result<Vec<StateSize>> {
        let opened = self.inner().tables.clone();
        let store = self.shared.store.as_ref();
        let mut sizes = Vec::new();
        for Stored { operator, number, is_join } in self.stored()? {
            match opened.get(&operator) {
                _ if is_join => sizes.extend(JoinTable::stored_sizes(store, number)?),
                Some(table) => sizes.push(table.size()?),
                None => sizes.push(StateSize { operator, ..StateTable::stored_size(store, number)? }),
            }
        }
        Ok(sizes)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Fields are replaced whole, after the store has them: a panic cannot leave them half changed.
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An operator's state in the store.
struct Stored {
    operator: u32,
    /// What it is stored under.
    number: u32,
    is_join: bool,
}

/// Why what is known of a file cannot be altered.
pub enum Altering {
    /// This epoch is reading it.
    Running(u64),
    /// This epoch has read it.
    Read(u64),
    /// Anything else.
    Failed(Error),
}

impl From<Error> for Altering {
    fn from(error: Error) -> Self {
        Altering::Failed(error)
    }
}

/// Whether `other` reads what `one` of the same epoch does, or less.
fn covers(one: &Intent, other: &Intent) -> bool {
    let covers = |((a, one), (b, other)): (&(String, EpochInput), &(String, EpochInput))| a == b && one.covers(other);
    one.timestamp_ms == other.timestamp_ms
        && one.inputs.len() == other.inputs.len()
        && one.inputs.iter().zip(&other.inputs).all(covers)
}

fn refuse_running(inner: &Inner, path: &str) -> Result<(), Altering> {
    let Some(intent) = &inner.intent else { return Ok(()) };
    let reads = |input: &EpochInput| match input {
        EpochInput::Files(files) => files.files.iter().any(|file| file.path == path),
        EpochInput::Table(_) => false,
    };
    match intent.inputs.iter().any(|(_, input)| reads(input)) {
        true => Err(Altering::Running(intent.epoch)),
        false => Ok(()),
    }
}

fn position_key(source: &str) -> String {
    format!("position/{source}")
}

fn named_key(key: &str) -> String {
    format!("named/{key}")
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::internal(format!("cannot be stored: {e}")))
}

fn parse<T: DeserializeOwned>(name: &str, what: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| unreadable(name, &format!("{what} ({e})")))
}

fn unreadable(name: &str, what: &str) -> Error {
    Error::Environment(Box::new(
        Diagnostic::new("CHECKPOINT_CORRUPT", format!("the checkpoint at `{name}` is damaged: {what} cannot be read"))
            .help("restore it and the table from a backup, or start over: REFRESH TABLE … FULL"),
    ))
}
