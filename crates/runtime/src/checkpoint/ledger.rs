//! The ledger: which files were read, in which epoch, and which were passed over and why.
//!
//! Key: source id, a kind byte, path. Kind 0 are the files that are not to be read (again), kind 1 what is worth
//! knowing of files that may come again, kind 2 files that wait to be cleaned, by the time of their commit, kind 3 files
//! that a message told of and that wait to be read, kind 4 files that a statement wants to be read again. Written once
//! per epoch with the epoch's commit, and by statements about single files; kind 3 when messages come.

mod ages;
mod alteration;
mod cleaning;
mod entry;
mod existing;
#[cfg(test)]
mod tests;
mod told;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use ages::Ages;
pub use alteration::{Alteration, Forgetting};
pub use entry::{Archived, FileState, LedgerEntry};
pub use told::Told;

use crate::error::Result;
use crate::state::{Batch, Column, StateStore, prefix_end};
use alteration::Alterations;

const COUNT: &str = "ledger_files/";
const NEWEST: &str = "ledger_newest/";

/// Files that are not to be read again.
const KNOWN: u8 = 0;
/// Files that may come again.
const REMARK: u8 = 1;
/// Files that wait to be cleaned.
const QUEUE: u8 = 2;
/// Files that a message told of.
const TOLD: u8 = 3;
/// Files that are to be read again.
const WANTED: u8 = 4;

/// The files of one checkpoint. Clones share it.
#[derive(Clone)]
pub struct Ledger {
    store: Arc<dyn StateStore>,
    name: Arc<str>,
    known: Arc<Mutex<Known>>,
    /// Held while what is counted changes on disk, so that no two changes count from the same number.
    changing: Arc<Mutex<()>>,
    alterations: Arc<Alterations>,
    claims: Arc<cleaning::Claims>,
}

/// What is known without reading files.
#[derive(Default)]
struct Known {
    /// Files per source, so that asking how many does not read them.
    counts: BTreeMap<String, u64>,
    /// The newest modification time of a file that was read, per source.
    newest: BTreeMap<String, i64>,
    /// Sources whose files are cleaned.
    cleaned: BTreeSet<String>,
    /// Sources that messages tell of files.
    told: BTreeSet<String>,
    /// Files that are to be read again, per source.
    wanted: BTreeMap<String, Arc<BTreeSet<String>>>,
    /// Up to which times files were forgotten, per source.
    forgotten: BTreeMap<String, Arc<Vec<ages::Line>>>,
    /// Up to which times files were looked for to be forgotten, per source.
    aged: BTreeMap<String, i64>,
}

/// New counts, to be applied after the commit.
pub(super) struct Counted {
    counts: Vec<(String, u64)>,
    newest: Vec<(String, i64)>,
    wanted: Vec<(String, Arc<BTreeSet<String>>)>,
}

impl Ledger {
    pub(super) fn open(store: Arc<dyn StateStore>, name: &str) -> Result<Ledger> {
        let mut known = Known::default();
        for (source, value) in named(store.as_ref(), COUNT)? {
            known.counts.insert(source, super::parse(name, "the number of files read", &value)?);
        }
        for (source, value) in named(store.as_ref(), NEWEST)? {
            known.newest.insert(source, super::parse(name, "the time of the newest file read", &value)?);
        }
        known.forgotten = ages::lines(store.as_ref(), name)?;
        for (source, value) in named(store.as_ref(), ages::AGED)? {
            known.aged.insert(source, super::parse(name, "the age of the files that are known", &value)?);
        }
        let sources: Vec<String> = known.counts.keys().cloned().collect();
        let ledger = Ledger {
            store,
            name: name.into(),
            known: Arc::new(Mutex::new(known)),
            changing: Arc::default(),
            alterations: Arc::default(),
            claims: Arc::default(),
        };
        for source in sources {
            ledger.remember_wanted(&source)?;
        }
        Ok(ledger)
    }

    /// For each of `paths`, which are sorted, whether `source` is not to read it (again).
    pub fn contains_sorted(&self, source: &str, paths: &[&str]) -> Result<Vec<bool>> {
        if self.len(source) == 0 {
            return Ok(vec![false; paths.len()]);
        }
        self.store.contains_sorted(Column::Ledger, &prefix(source, KNOWN), paths)
    }

    /// What is known of each of `paths`, which are sorted and distinct.
    pub fn entries_sorted(&self, source: &str, paths: &[&str]) -> Result<Vec<Option<LedgerEntry>>> {
        let prefix = prefix(source, KNOWN);
        let keys: Vec<Vec<u8>> = paths.iter().map(|path| [&prefix, path.as_bytes()].concat()).collect();
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let mut entries = vec![None; paths.len()];
        self.store.multi_get(Column::Ledger, &keys, &mut |at, value| {
            let path = paths.get(at).copied().unwrap_or_default();
            if let Some(slot) = entries.get_mut(at) {
                *slot = Some(self.decode(source, path.to_owned(), value)?);
            }
            Ok(())
        })?;
        Ok(entries)
    }

    /// What is known of one file.
    pub fn entry(&self, source: &str, path: &str) -> Result<Option<LedgerEntry>> {
        Ok(self.entries_sorted(source, &[path])?.pop().flatten())
    }

    /// How many files `source` knows.
    pub fn len(&self, source: &str) -> u64 {
        self.known().counts.get(source).copied().unwrap_or(0)
    }

    /// [`Self::len`] as a result, for callers that read other things of the checkpoint beside it.
    pub fn count(&self, source: &str) -> Result<u64> {
        Ok(self.len(source))
    }

    /// The modification time of the newest file that `source` has read, milliseconds since 1970 UTC.
    pub fn newest_ms(&self, source: &str) -> Option<i64> {
        self.known().newest.get(source).copied()
    }

    /// What decides whether a file of `source` is too old to count.
    pub fn ages(&self, source: &str) -> Ages {
        let known = self.known();
        Ages {
            newest_ms: known.newest.get(source).copied(),
            lines: known.forgotten.get(source).cloned().unwrap_or_default(),
            wanted: known.wanted.get(source).cloned().unwrap_or_default(),
        }
    }

    /// Forgets how new a source's newest file is: ages are counted anew from what comes.
    pub fn forget_newest(&self, source: &str) -> Result<()> {
        let mut known = self.known();
        known.aged.remove(source);
        if known.newest.remove(source).is_some() {
            let mut batch = Batch::default();
            batch.delete(Column::Meta, format!("{NEWEST}{source}"));
            batch.delete(Column::Meta, format!("{}{source}", ages::AGED));
            self.store.write(batch, true)?;
        }
        Ok(())
    }

    /// Every file of every source, by source and path.
    pub fn iter_all(&self) -> impl Iterator<Item = Result<LedgerEntry>> + Send + use<> {
        let sources: Vec<String> = self.known().counts.keys().cloned().collect();
        let ledger = self.clone();
        sources.into_iter().flat_map(move |source| ledger.iter(&source))
    }

    /// True when `source` knows no file.
    pub fn is_empty(&self, source: &str) -> bool {
        self.len(source) == 0
    }

    /// Every file `source` knows, by path.
    pub fn iter(&self, source: &str) -> impl Iterator<Item = Result<LedgerEntry>> + Send + use<> {
        self.entries(source, KNOWN)
    }

    /// Files that were noticed and may come again, by path.
    pub fn remarks(&self, source: &str) -> impl Iterator<Item = Result<LedgerEntry>> + Send + use<> {
        self.entries(source, REMARK)
    }

    fn entries(&self, source: &str, kind: u8) -> Entries {
        let from = prefix(source, kind);
        let until = prefix_end(&from);
        Entries { ledger: self.clone(), source: source.to_string(), from, until, page: VecDeque::new(), done: false }
    }

    fn decode(&self, source: &str, path: String, value: &[u8]) -> Result<LedgerEntry> {
        entry::decode(source, path, value).ok_or_else(|| super::unreadable(&self.name, "an entry of the file ledger"))
    }

    /// To be held from [`Self::write_into`] to [`Self::apply`].
    pub(super) fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write_into(&self, entries: &[LedgerEntry], batch: &mut Batch) -> Result<Counted> {
        let mut by_source: BTreeMap<&str, Vec<&LedgerEntry>> = BTreeMap::new();
        for entry in entries {
            by_source.entry(&entry.source).or_default().push(entry);
        }
        let mut counted = Counted { counts: Vec::new(), newest: Vec::new(), wanted: Vec::new() };
        for (source, mut entries) in by_source {
            entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
            entries.dedup_by(|a, b| a.path == b.path);
            let (remarks, entries): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.state.comes_again());
            self.write_remarks(source, &remarks, &entries, batch)?;
            self.take_told(source, &entries, batch)?;
            counted.wanted.extend(self.take_wanted(source, &entries, batch).map(|left| (source.to_owned(), left)));
            let paths: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
            // A file read again, because it was allowed to change, is counted once.
            let known = self.contains_sorted(source, &paths)?;
            let new = known.iter().filter(|known| !**known).count() as u64;
            let newest = entries.iter().filter(|entry| entry.was_read()).map(|entry| entry.modified_ms).max();
            let (prefix, cleaned) = (prefix(source, KNOWN), self.cleans(source));
            for entry in entries {
                batch.put(Column::Ledger, [&prefix, entry.path.as_bytes()].concat(), entry::encode(entry));
                if cleaned && entry.state == FileState::Ingested {
                    batch.put(Column::Ledger, cleaning::key(source, entry), Vec::new());
                }
            }
            let count = self.len(source) + new;
            batch.put(Column::Meta, format!("{COUNT}{source}"), count.to_string());
            counted.counts.push((source.to_string(), count));
            if let Some(newest) = newest.filter(|newest| self.newest_ms(source).is_none_or(|before| before < *newest)) {
                batch.put(Column::Meta, format!("{NEWEST}{source}"), newest.to_string());
                counted.newest.push((source.to_string(), newest));
            }
        }
        Ok(counted)
    }

    fn write_remarks(
        &self,
        source: &str,
        remarks: &[&LedgerEntry],
        entries: &[&LedgerEntry],
        batch: &mut Batch,
    ) -> Result<()> {
        let prefix = prefix(source, REMARK);
        let paths: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
        let remarked = self.store.contains_sorted(Column::Ledger, &prefix, &paths)?;
        for (path, _) in paths.iter().zip(remarked).filter(|(_, remarked)| *remarked) {
            batch.delete(Column::Ledger, [&prefix, path.as_bytes()].concat());
        }
        for remark in remarks {
            batch.put(Column::Ledger, [&prefix, remark.path.as_bytes()].concat(), entry::encode(remark));
        }
        Ok(())
    }

    pub(super) fn apply(&self, counted: Counted) {
        let mut known = self.known();
        known.counts.extend(counted.counts);
        known.newest.extend(counted.newest);
        known.wanted.extend(counted.wanted);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Values of `meta` whose name begins with `prefix`, with the rest of the name.
fn named(store: &dyn StateStore, prefix: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let mut values = Vec::new();
    let mut from = prefix.as_bytes().to_vec();
    let until = prefix_end(&from);
    loop {
        let page = store.page(Column::Meta, &from, &until, 1024)?;
        let Some(next) = page.next_key() else { return Ok(values) };
        for (key, value) in page.iter() {
            values.push((String::from_utf8_lossy(&key[prefix.len()..]).into_owned(), value.to_vec()));
        }
        from = next;
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
            self.page.push_back(self.ledger.decode(&self.source, path, value)?);
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

fn prefix(source: &str, kind: u8) -> Vec<u8> {
    [source.as_bytes(), &[kind]].concat()
}
