//! Files that messages told of and that no epoch has read yet.
//!
//! A message comes once and is deleted, so that what it told is kept here from then until the file is read. One key for
//! each file: what is kept costs what comes, however much waits.

use super::{FileState, Ledger, LedgerEntry, TOLD, prefix};
use crate::error::Result;
use crate::source::files::FileEntry;
use crate::state::{Batch, Column, prefix_end};

/// Version of a value: size, modification time, time of discovery, 64 bits little endian each.
const VERSION: u8 = 1;

/// A file that a message told of.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// As it was told.
    pub file: FileEntry,
    /// When it was first told, milliseconds since 1970 UTC.
    pub at_ms: i64,
}

impl Ledger {
    /// From now on messages tell `source` of files.
    pub fn listen(&self, source: &str) {
        self.known().told.insert(source.to_owned());
    }

    /// Keeps what messages told, durably.
    pub fn keep_told(&self, source: &str, told: &[Told]) -> Result<()> {
        let mut batch = Batch::default();
        for told in told {
            batch.put(Column::Ledger, key(source, &told.file.path), encode(told));
        }
        self.store.write(batch, true)
    }

    /// Some of what messages told, by path: up to `max` behind `after`.
    pub fn told(&self, source: &str, after: Option<&str>, max: usize) -> Result<Vec<Told>> {
        let from = after.map_or_else(|| prefix(source, TOLD), |after| [&key(source, after)[..], &[0]].concat());
        let page = self.store.page(Column::Ledger, &from, &prefix_end(&prefix(source, TOLD)), max)?;
        let skip = source.len() + 1;
        let told = |(key, value): (&[u8], &[u8])| {
            let path = String::from_utf8_lossy(key.get(skip..).unwrap_or_default()).into_owned();
            decode(path, value)
                .ok_or_else(|| crate::checkpoint::unreadable(&self.name, "a file that a message told of"))
        };
        page.iter().map(told).collect()
    }

    /// These need not be kept: they were read, or are not to be.
    pub fn drop_told(&self, source: &str, paths: &[String]) -> Result<()> {
        let mut batch = Batch::default();
        paths.iter().for_each(|path| batch.delete(Column::Ledger, key(source, path)));
        self.store.write(batch, false)
    }

    /// Drops all that messages told.
    pub fn drop_all_told(&self, source: &str) -> Result<()> {
        let mut batch = Batch::default();
        let all = prefix(source, TOLD);
        batch.delete_range(Column::Ledger, all.clone(), prefix_end(&all));
        self.store.write(batch, true)
    }

    /// With `batch`, files that were read need not be kept, unless a newer one was told of meanwhile.
    pub(super) fn take_told(&self, source: &str, entries: &[&LedgerEntry], batch: &mut Batch) -> Result<()> {
        if !self.known().told.contains(source) {
            return Ok(());
        }
        let keys: Vec<Vec<u8>> = entries.iter().map(|entry| key(source, &entry.path)).collect();
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        self.store.multi_get(Column::Ledger, &keys, &mut |at, value| {
            let (Some(key), Some(entry)) = (keys.get(at), entries.get(at)) else { return Ok(()) };
            let newer = decode(String::new(), value).is_some_and(|told| {
                let (told, read) = (told.file, *entry);
                told.modified_ms > read.modified_ms || told.modified_ms == read.modified_ms && told.size != read.size
            });
            if !newer || entry.state == FileState::Skipped {
                batch.delete(Column::Ledger, *key);
            }
            Ok(())
        })
    }
}

fn key(source: &str, path: &str) -> Vec<u8> {
    [&prefix(source, TOLD), path.as_bytes()].concat()
}

fn encode(told: &Told) -> Vec<u8> {
    let numbers = [told.file.size, told.file.modified_ms as u64, told.at_ms as u64];
    [&[VERSION], &numbers.map(u64::to_le_bytes).concat()[..]].concat()
}

fn decode(path: String, value: &[u8]) -> Option<Told> {
    let numbers = value.strip_prefix(&[VERSION])?;
    let ([size, modified, at], []) = numbers.as_chunks::<8>() else { return None };
    let file = FileEntry { path, size: u64::from_le_bytes(*size), modified_ms: i64::from_le_bytes(*modified) };
    Some(Told { file, at_ms: i64::from_le_bytes(*at) })
}
