//! The ledger: which files were read, in which epoch.
//!
//! Key: source id, a 0 byte, path. Value: a version byte and six little-endian numbers. Written once per epoch with
//! the epoch's commit; never forgotten yet.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;
use crate::state::{Batch, Column, StateStore, prefix_end};

const VERSION: u8 = 1;
const VALUE_BYTES: usize = 1 + 6 * 8;
/// How "not known" is stored for a count of rows.
const UNKNOWN: u64 = u64::MAX;
const COUNT: &str = "ledger_files/";

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// The source that read it.
    pub source: String,
    /// Its path, as the source writes paths.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Modification time when it was chosen, milliseconds since 1970 UTC.
    pub modified_ms: i64,
    /// The epoch that read it.
    pub epoch: u64,
    /// When it was first seen.
    pub discovered_ms: i64,
    /// When its epoch was committed.
    pub committed_ms: i64,
    /// Rows it had, where they were counted.
    pub rows: Option<u64>,
}

/// The epoch of files that a source passes over without reading them.
const SKIPPED_EPOCH: u64 = u64::MAX;

impl LedgerEntry {
    /// True for a file that was there before the stream and is not to be read.
    pub fn skipped(&self) -> bool {
        self.epoch == SKIPPED_EPOCH
    }
}

/// The files of one checkpoint. Clones share it.
#[derive(Clone)]
pub struct Ledger {
    store: Arc<dyn StateStore>,
    name: Arc<str>,
    /// Files per source, so that asking how many does not read them.
    counts: Arc<Mutex<BTreeMap<String, u64>>>,
}

/// New counts, to be applied after the commit.
pub(super) struct Counted(Vec<(String, u64)>);

impl Ledger {
    pub(super) fn open(store: Arc<dyn StateStore>, name: &str) -> Result<Ledger> {
        let mut counts = BTreeMap::new();
        let mut from = COUNT.as_bytes().to_vec();
        let until = prefix_end(&from);
        loop {
            let page = store.page(Column::Meta, &from, &until, 1024)?;
            let Some(next) = page.next_key() else { break };
            for (key, value) in page.iter() {
                let source = String::from_utf8_lossy(&key[COUNT.len()..]).into_owned();
                counts.insert(source, super::parse(name, "the number of files read", value)?);
            }
            from = next;
        }
        Ok(Ledger { store, name: name.into(), counts: Arc::new(Mutex::new(counts)) })
    }

    /// For each of `paths`, which are sorted, whether `source` has read it.
    pub fn contains_sorted(&self, source: &str, paths: &[&str]) -> Result<Vec<bool>> {
        if self.len(source) == 0 {
            return Ok(vec![false; paths.len()]);
        }
        self.store.contains_sorted(Column::Ledger, &prefix(source), paths)
    }

    /// How many files `source` has read.
    pub fn len(&self, source: &str) -> u64 {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).get(source).copied().unwrap_or(0)
    }

    /// [`Self::len`] as a result, for callers that read other things of the checkpoint beside it.
    pub fn count(&self, source: &str) -> Result<u64> {
        Ok(self.len(source))
    }

    /// Every file of every source, by source and path.
    pub fn iter_all(&self) -> impl Iterator<Item = Result<LedgerEntry>> + Send + use<> {
        let sources: Vec<String> = self.counts.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        let ledger = self.clone();
        sources.into_iter().flat_map(move |source| ledger.iter(&source))
    }

    /// True when `source` has read no file.
    pub fn is_empty(&self, source: &str) -> bool {
        self.len(source) == 0
    }

    /// Every file `source` has read, by path.
    pub fn iter(&self, source: &str) -> impl Iterator<Item = Result<LedgerEntry>> + Send + use<> {
        let from = prefix(source);
        let until = prefix_end(&from);
        Entries { ledger: self.clone(), source: source.to_string(), from, until, page: VecDeque::new(), done: false }
    }

    pub(super) fn write_into(&self, entries: &[LedgerEntry], batch: &mut Batch) -> Result<Counted> {
        let mut by_source: BTreeMap<&str, Vec<&LedgerEntry>> = BTreeMap::new();
        for entry in entries {
            by_source.entry(&entry.source).or_default().push(entry);
        }
        let mut counted = Vec::new();
        for (source, mut entries) in by_source {
            entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
            entries.dedup_by(|a, b| a.path == b.path);
            let paths: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
            // A file read again, because it was allowed to change, is counted once.
            let known = self.contains_sorted(source, &paths)?;
            let new = known.iter().filter(|known| !**known).count() as u64;
            let prefix = prefix(source);
            for entry in entries {
                batch.put(Column::Ledger, [&prefix, entry.path.as_bytes()].concat(), encode(entry));
            }
            let count = self.len(source) + new;
            batch.put(Column::Meta, format!("{COUNT}{source}"), count.to_string());
            counted.push((source.to_string(), count));
        }
        Ok(Counted(counted))
    }

    pub(super) fn apply(&self, counted: Counted) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).extend(counted.0);
    }
}

struct Entries {
    ledger: Ledger,
    source: String,
    from: Vec<u8>,
    until: Vec<u8>,
    page: VecDeque<LedgerEntry>,
    done: bool,
}

impl Entries {
    fn fill(&mut self) -> Result<()> {
        let page = self.ledger.store.page(Column::Ledger, &self.from, &self.until, 4096)?;
        let skip = self.source.len() + 1;
        for (key, value) in page.iter() {
            let path = String::from_utf8_lossy(key.get(skip..).unwrap_or_default()).into_owned();
            let entry = decode(&self.source, path, value);
            let unreadable = || super::unreadable(&self.ledger.name, "an entry of the file ledger");
            self.page.push_back(entry.ok_or_else(unreadable)?);
        }
        match page.next_key() {
            Some(next) => self.from = next,
            None => self.done = true,
        }
        Ok(())
    }
}

impl Iterator for Entries {
    type Item = Result<LedgerEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty()
            && !self.done
            && let Err(e) = self.fill()
        {
            self.done = true;
            return Some(Err(e));
        }
        self.page.pop_front().map(Ok)
    }
}

fn prefix(source: &str) -> Vec<u8> {
    [source.as_bytes(), &[0]].concat()
}

fn encode(entry: &LedgerEntry) -> Vec<u8> {
    let mut value = Vec::with_capacity(VALUE_BYTES);
    value.push(VERSION);
    let numbers = [
        entry.size,
        entry.modified_ms as u64,
        entry.epoch,
        entry.discovered_ms as u64,
        entry.committed_ms as u64,
        entry.rows.unwrap_or(UNKNOWN),
    ];
    for number in numbers {
        value.extend_from_slice(&number.to_le_bytes());
    }
    value
}

fn decode(source: &str, path: String, value: &[u8]) -> Option<LedgerEntry> {
    let (version, numbers) = value.split_first()?;
    let (numbers, rest) = numbers.as_chunks::<8>();
    if *version != VERSION || !rest.is_empty() {
        return None;
    }
    let &[size, modified, epoch, discovered, committed, rows] = numbers else { return None };
    let rows = u64::from_le_bytes(rows);
    Some(LedgerEntry {
        source: source.to_string(),
        path,
        size: u64::from_le_bytes(size),
        modified_ms: i64::from_le_bytes(modified),
        epoch: u64::from_le_bytes(epoch),
        discovered_ms: i64::from_le_bytes(discovered),
        committed_ms: i64::from_le_bytes(committed),
        rows: (rows != UNKNOWN).then_some(rows),
    })
}
