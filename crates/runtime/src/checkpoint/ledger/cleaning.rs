//! Files that were read and wait to be cleaned, by the time of their commit.
//!
//! The queue is kept only for sources that clean. Turning cleaning on queues what was read before; turning it off
//! drops the queue. Files that are being deleted or moved are claimed: a statement that wants one to be read again waits
//! until it is known what became of it.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};

use super::{Archived, FileState, KNOWN, Ledger, LedgerEntry, QUEUE, entry, prefix};
use crate::error::Result;
use crate::state::{Batch, Column, prefix_end};

/// In `meta`, there while a source cleans.
const CLEANED: &str = "ledger_cleaned/";
/// In `meta`: why cleaning did not get on.
const PROBLEM: &str = "ledger_cleaning_problem/";

/// Files that are being cleaned at this moment, with their sources.
#[derive(Default)]
pub(super) struct Claims {
    claimed: Mutex<BTreeSet<(String, String)>>,
    released: Condvar,
}

/// Files that are being cleaned; dropped, they are not any more.
pub struct Claim {
    /// What is known of those that are still to be cleaned.
    pub files: Vec<LedgerEntry>,
    /// Those that were forgotten or read again since they were queued, with the times of their commits.
    pub passed: Vec<(i64, String)>,
    ledger: Ledger,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let claims = &self.ledger.claims;
        let mut claimed = claims.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        for file in std::mem::take(&mut self.files) {
            claimed.remove(&(file.source, file.path));
        }
        claims.released.notify_all();
    }
}

/// Source, kind, time, path. Times before 1970 come first, as times do.
pub(super) fn key(source: &str, entry: &LedgerEntry) -> Vec<u8> {
    queue_key(source, entry.committed_ms, &entry.path)
}

fn queue_key(source: &str, committed_ms: i64, path: &str) -> Vec<u8> {
    [&prefix(source, QUEUE), &ordered(committed_ms)[..], path.as_bytes()].concat()
}

fn ordered(ms: i64) -> [u8; 8] {
    ((ms as u64) ^ (1 << 63)).to_be_bytes()
}

impl Ledger {
    /// Whether files of `source` are cleaned.
    pub(super) fn cleans(&self, source: &str) -> bool {
        self.known().cleaned.contains(source)
    }

    /// Begins or ends cleaning of a source's files. Cheap unless it was the other way before.
    pub fn set_cleaning(&self, source: &str, on: bool) -> Result<()> {
        let _changing = self.changing();
        let name = format!("{CLEANED}{source}");
        let before = self.store.get(Column::Meta, name.as_bytes())?.is_some();
        match (before, on) {
            (false, true) => {
                self.queue_all(source)?;
                let mut batch = Batch::default();
                batch.put(Column::Meta, name, "1");
                self.store.write(batch, true)?;
            }
            (true, false) => {
                // The mark goes first: a half-dropped queue is not taken for a whole one.
                let mut batch = Batch::default();
                batch.delete(Column::Meta, name);
                batch.delete(Column::Meta, format!("{PROBLEM}{source}"));
                self.store.write(batch, true)?;
                self.drop_queue(source)?;
            }
            _ => {}
        }
        let mut known = self.known();
        match on {
            true => known.cleaned.insert(source.to_owned()),
            false => known.cleaned.remove(source),
        };
        Ok(())
    }

    fn queue_all(&self, source: &str) -> Result<()> {
        let mut batch = Batch::default();
        for entry in self.iter(source) {
            let entry = entry?;
            if entry.state == FileState::Ingested && entry.archived.is_none() {
                batch.put(Column::Ledger, key(source, &entry), Vec::new());
            }
            if batch.bytes() > 1 << 20 {
                self.store.write(std::mem::take(&mut batch), false)?;
            }
        }
        self.store.write(batch, false)
    }

    fn drop_queue(&self, source: &str) -> Result<()> {
        let mut from = prefix(source, QUEUE);
        let until = prefix_end(&from);
        loop {
            let page = self.store.page(Column::Ledger, &from, &until, 4096)?;
            let Some(next) = page.next_key() else { return Ok(()) };
            let mut batch = Batch::default();
            page.iter().for_each(|(key, _)| batch.delete(Column::Ledger, key));
            self.store.write(batch, false)?;
            from = next;
        }
    }

    /// Files committed at `until_ms` or before that wait to be cleaned, the first `max` behind `after`, with the
    /// times of their commits.
    pub fn due(
        &self,
        source: &str,
        until_ms: i64,
        after: Option<&(i64, String)>,
        max: usize,
    ) -> Result<Vec<(i64, String)>> {
        let from = match after {
            None => prefix(source, QUEUE),
            Some((ms, path)) => [queue_key(source, *ms, path), vec![0]].concat(),
        };
        let until = queue_key(source, until_ms.saturating_add(1), "");
        let skip = source.len() + 1;
        let page = self.store.page(Column::Ledger, &from, &until, max)?;
        let file = |key: &[u8]| {
            let (time, path) = key.get(skip..)?.split_first_chunk::<8>()?;
            let ms = (u64::from_be_bytes(*time) ^ (1 << 63)) as i64;
            Some((ms, String::from_utf8_lossy(path).into_owned()))
        };
        Ok(page.iter().filter_map(|(key, _)| file(key)).collect())
    }

    /// Claims files that are due, as [`Self::due`] gave them.
    pub fn claim(&self, source: &str, due: Vec<(i64, String)>) -> Result<Claim> {
        let _changing = self.changing();
        let mut claim = Claim { files: Vec::new(), passed: Vec::new(), ledger: self.clone() };
        for (committed_ms, path) in due {
            let known = self.entry(source, &path)?;
            match known.filter(|known| known.committed_ms == committed_ms && known.state == FileState::Ingested) {
                Some(known) => claim.files.push(known),
                None => claim.passed.push((committed_ms, path)),
            }
        }
        let mut claimed = self.claims.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.extend(claim.files.iter().map(|file| (file.source.clone(), file.path.clone())));
        drop(claimed);
        Ok(claim)
    }

    /// Whether a file is being cleaned.
    pub(super) fn is_claimed(&self, source: &str, path: &str) -> bool {
        let claimed = self.claims.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.contains(&(source.to_owned(), path.to_owned()))
    }

    /// Returns when a file is not being cleaned. Blocks.
    pub(in crate::checkpoint) fn await_cleaned(&self, source: &str, path: &str) {
        let file = (source.to_owned(), path.to_owned());
        let claimed = self.claims.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.claims.released.wait_while(claimed, |claimed| claimed.contains(&file));
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// When the oldest file that waits to be cleaned was committed.
    pub fn first_to_clean(&self, source: &str) -> Result<Option<i64>> {
        Ok(self.due(source, i64::MAX - 1, None, 1)?.pop().map(|(ms, _)| ms))
    }

    /// Notes what became of files that waited: how they were cleaned, or why they are left alone for good.
    pub fn cleaned(&self, source: &str, files: Vec<((i64, String), Result<Archived, String>)>) -> Result<()> {
        let _changing = self.changing();
        let mut batch = Batch::default();
        for ((committed_ms, path), outcome) in files {
            batch.delete(Column::Ledger, queue_key(source, committed_ms, &path));
            // It may have been forgotten, or read again, since it was queued.
            let known = self.entry(source, &path)?.filter(|entry| entry.committed_ms == committed_ms);
            if let Some(mut known) = known {
                match outcome {
                    Ok(archived) => known.archived = Some(archived),
                    Err(why) => known.reason = Some(why),
                }
                batch.put(Column::Ledger, [&prefix(source, KNOWN), path.as_bytes()].concat(), entry::encode(&known));
            }
        }
        self.store.write(batch, false)
    }

    /// Why cleaning does not get on, as last noted.
    pub fn cleaning_problem(&self, source: &str) -> Result<Option<String>> {
        let stored = self.store.get(Column::Meta, format!("{PROBLEM}{source}").as_bytes())?;
        Ok(stored.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Notes why cleaning does not get on, or that it does.
    pub fn note_cleaning_problem(&self, source: &str, problem: Option<&str>) -> Result<()> {
        if self.cleaning_problem(source)?.as_deref() == problem {
            return Ok(());
        }
        let mut batch = Batch::default();
        let name = format!("{PROBLEM}{source}");
        match problem {
            Some(problem) => batch.put(Column::Meta, name, problem),
            None => batch.delete(Column::Meta, name),
        }
        self.store.write(batch, false)
    }
}
