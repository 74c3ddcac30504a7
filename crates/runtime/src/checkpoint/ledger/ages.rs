//! What of a source's past decides whether a file is too old to count.
//!
//! Files that are older than `maxFileAge` allows are forgotten. Up to which time that was done is remembered, in `meta`, per
//! place that the source looks at: a file below the place that was modified before and is not known counts as read, whatever
//! the age becomes. Files that a statement wants to be read again count in any case.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{FileState, KNOWN, Ledger, LedgerEntry, WANTED, named, prefix};
use crate::error::Result;
use crate::state::{Batch, Column, StateStore, prefix_end};

/// In `meta`, with source and place: files below the place that were modified before this were forgotten.
const FORGOTTEN: &str = "ledger_forgotten/";

/// In `meta`, with source: up to which time it was last looked for files to be forgotten.
pub(super) const AGED: &str = "ledger_aged/";

/// Files below a place that were modified before a time may have been read and forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What the paths begin with.
    pub(super) below: String,
    /// Milliseconds since 1970 UTC.
    pub(super) before_ms: i64,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Ages {
    /// The modification time of the newest file that was read, milliseconds since 1970 UTC.
    pub newest_ms: Option<i64>,
    pub(super) lines: Arc<Vec<Line>>,
    pub(super) wanted: Arc<BTreeSet<String>>,
}

impl Ages {
    /// Of a source that has read a file modified then, and forgotten none.
    pub fn since(newest_ms: i64) -> Ages {
        Ages { newest_ms: Some(newest_ms), ..Ages::default() }
    }

    /// Whether any file was forgotten for its age.
    pub fn forgets(&self) -> bool {
        !self.lines.is_empty()
    }

    /// Whether a file that is not known may be one that was forgotten.
    pub fn is_forgotten(&self, path: &str, modified_ms: i64) -> bool {
        self.lines.iter().any(|line| modified_ms < line.before_ms && path.starts_with(&line.below))
    }

    /// Whether a statement wants this file to be read (again).
    pub fn is_wanted(&self, path: &str) -> bool {
        self.wanted.contains(path)
    }
}

/// All lines, by source.
pub(super) fn lines(store: &dyn StateStore, name: &str) -> Result<BTreeMap<String, Arc<Vec<Line>>>> {
    let mut lines: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for (key, value) in named(store, FORGOTTEN)? {
        let what = "up to when files were forgotten";
        let Some((source, below)) = key.split_once('/') else { return Err(crate::checkpoint::unreadable(name, what)) };
        let before_ms = crate::checkpoint::parse(name, what, &value)?;
        lines.entry(source.to_owned()).or_default().push(Line { below: below.to_owned(), before_ms });
    }
    Ok(lines.into_iter().map(|(source, lines)| (source, Arc::new(lines))).collect())
}

impl Ledger {
    /// Forgets files whose paths begin with `below` and that were modified before `modified_ms`, but for those that a
    /// statement keeps out or that wait to be cleaned. They count as read from then on, known or not. Walks the whole
    /// ledger, a page at a time; how many were forgotten.
    pub fn forget_older(&self, source: &str, below: &str, modified_ms: i64) -> Result<u64> {
        let mut from = prefix(source, KNOWN);
        let (until, skip) = (prefix_end(&from), from.len());
        let cleaned = self.cleans(source);
        let mut forgotten = 0;
        loop {
            let changing = self.changing();
            let page = self.store.page(Column::Ledger, &from, &until, 4096)?;
            let Some(next) = page.next_key() else { break };
            let mut batch = Batch::default();
            let mut removed = 0;
            for (key, value) in page.iter() {
                let known = self.decode(source, String::new(), value)?;
                let waits = cleaned && known.state == FileState::Ingested && known.archived.is_none();
                let is_below = key.get(skip..).is_some_and(|path| path.starts_with(below.as_bytes()));
                if is_below && known.modified_ms < modified_ms && known.state != FileState::Skipped && !waits {
                    batch.delete(Column::Ledger, key);
                    removed += 1;
                }
            }
            if removed > 0 {
                let count = self.len(source).saturating_sub(removed);
                batch.put(Column::Meta, format!("{}{source}", super::COUNT), count.to_string());
                let lines = self.lines_with(source, below, modified_ms, &mut batch);
                self.store.write(batch, false)?;
                let mut known = self.known();
                known.counts.insert(source.to_owned(), count);
                known.forgotten.insert(source.to_owned(), Arc::new(lines));
                forgotten += removed;
            }
            drop(changing);
            from = next;
        }
        let mut batch = Batch::default();
        batch.put(Column::Meta, format!("{AGED}{source}"), modified_ms.to_string());
        self.store.write(batch, false)?;
        self.known().aged.insert(source.to_owned(), modified_ms);
        Ok(forgotten)
    }

    /// Up to which time [`Self::forget_older`] was last asked to forget.
    pub fn aged_ms(&self, source: &str) -> Option<i64> {
        self.known().aged.get(source).copied()
    }

    /// The lines of a source once files below a place were forgotten up to a time.
    fn lines_with(&self, source: &str, below: &str, before_ms: i64, batch: &mut Batch) -> Vec<Line> {
        let mut lines = self.known().forgotten.get(source).map(|lines| lines.to_vec()).unwrap_or_default();
        let before_ms = match lines.iter_mut().find(|line| line.below == below) {
            Some(line) => {
                line.before_ms = line.before_ms.max(before_ms);
                line.before_ms
            }
            None => {
                lines.push(Line { below: below.to_owned(), before_ms });
                before_ms
            }
        };
        batch.put(Column::Meta, format!("{FORGOTTEN}{source}/{below}"), before_ms.to_string());
        lines
    }

    /// Files of `source` that are to be read again and have not been yet.
    pub fn wanted(&self, source: &str) -> Arc<BTreeSet<String>> {
        self.known().wanted.get(source).cloned().unwrap_or_default()
    }

    /// These files are not there to be read again: they are files as any other when they come.
    pub fn give_up(&self, source: &str, paths: &[String]) -> Result<()> {
        if paths.is_empty() {
            return Ok(());
        }
        let _changing = self.changing();
        let mut left = self.wanted(source).as_ref().clone();
        let mut batch = Batch::default();
        for path in paths.iter().filter(|path| left.remove(*path)) {
            batch.delete(Column::Ledger, key(source, path));
        }
        self.store.write(batch, false)?;
        self.known().wanted.insert(source.to_owned(), Arc::new(left));
        Ok(())
    }

    /// Wants a file to be read again, with `batch`; what is wanted then. The caller holds [`Ledger::changing`].
    pub(super) fn want(&self, source: &str, path: &str, batch: &mut Batch) -> Arc<BTreeSet<String>> {
        let mut wanted = self.wanted(source).as_ref().clone();
        wanted.insert(path.to_owned());
        batch.put(Column::Ledger, key(source, path), Vec::new());
        Arc::new(wanted)
    }

    /// With `batch`, files that a source has decided on are wanted no more; what is still, where that changes.
    pub(super) fn take_wanted(
        &self,
        source: &str,
        entries: &[&LedgerEntry],
        batch: &mut Batch,
    ) -> Option<Arc<BTreeSet<String>>> {
        let wanted = self.wanted(source);
        if !entries.iter().any(|entry| wanted.contains(&entry.path)) {
            return None;
        }
        let mut left = wanted.as_ref().clone();
        for entry in entries.iter().filter(|entry| left.remove(&entry.path)) {
            batch.delete(Column::Ledger, key(source, &entry.path));
        }
        Some(Arc::new(left))
    }

    /// Takes up what is wanted from an earlier run.
    pub(super) fn remember_wanted(&self, source: &str) -> Result<()> {
        let mut from = prefix(source, WANTED);
        let (until, skip) = (prefix_end(&from), from.len());
        let mut wanted = BTreeSet::new();
        loop {
            let page = self.store.page(Column::Ledger, &from, &until, 4096)?;
            let path = |key: &[u8]| String::from_utf8_lossy(key.get(skip..).unwrap_or_default()).into_owned();
            wanted.extend(page.iter().map(|(key, _)| path(key)));
            match page.next_key() {
                Some(next) => from = next,
                None => break,
            }
        }
        if !wanted.is_empty() {
            self.known().wanted.insert(source.to_owned(), Arc::new(wanted));
        }
        Ok(())
    }
}

fn key(source: &str, path: &str) -> Vec<u8> {
    [&prefix(source, WANTED), path.as_bytes()].concat()
}
