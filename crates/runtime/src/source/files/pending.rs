//! Files that wait to be read: what a listing or an event names, minus what the ledger remembers and what the times of
//! files rule out.
//!
//! Only waiting files are held in memory; files read before are the ledger's to know. A file's identity is its
//! path: the same name does not wait again, whatever its content becomes, unless overwriting is allowed and its
//! modification time is newer than when it was read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::FileEntry;
use super::listing;
use super::rules::Times;
use crate::checkpoint::{FileState, Ledger, LedgerEntry};
use crate::clock::now_ms;
use crate::error::Result;
use crate::source::Backlog;

/// So many paths are asked of the ledger at once.
const ASK: usize = 4096;

/// Waiting files, oldest first, files of one millisecond by path.
pub struct Pending {
    source: String,
    ledger: Ledger,
    times: Times,
    overwrites: bool,
    order: BTreeMap<(i64, Arc<str>), u64>,
    waiting: HashMap<Arc<str>, Waiting>,
    bytes: u64,
}

/// What is kept of a waiting file beside its place in the order.
#[derive(Clone, Copy)]
struct Waiting {
    modified_ms: i64,
    discovered_ms: i64,
}

impl Pending {
    /// Nothing waits yet. `source` is the id under which the ledger knows this source's files.
    pub fn new(source: &str, ledger: Ledger, times: Times, overwrites: bool) -> Pending {
        Pending {
            source: source.to_owned(),
            ledger,
            times,
            overwrites,
            order: BTreeMap::new(),
            waiting: HashMap::new(),
            bytes: 0,
        }
    }

    /// Adds those of `paths` (sorted) that are new. Files that are gone by now are left out.
    pub fn add(&mut self, paths: &[String]) -> Result<()> {
        let newest_ms = self.ledger.newest_ms(&self.source);
        for some in paths.chunks(ASK) {
            let unknown: Vec<&str> =
                some.iter().map(String::as_str).filter(|path| !self.waiting.contains_key(*path)).collect();
            if unknown.is_empty() {
                continue;
            }
            if self.overwrites {
                self.add_newer(&unknown, newest_ms)?;
                continue;
            }
            let known = self.ledger.contains_sorted(&self.source, &unknown)?;
            for (path, _) in unknown.iter().zip(known).filter(|(_, known)| !known) {
                if let Some(file) = listing::stat(path)? {
                    self.put(file, now_ms(), newest_ms);
                }
            }
        }
        Ok(())
    }

    /// Where overwriting is allowed: new files, and those that have changed since they were read.
    fn add_newer(&mut self, paths: &[&str], newest_ms: Option<i64>) -> Result<()> {
        let known = self.ledger.entries_sorted(&self.source, paths)?;
        for (path, known) in paths.iter().zip(known) {
            let Some(file) = listing::stat(path)? else { continue };
            if known.is_none_or(|known| overwritten(&known, &file)) {
                self.put(file, now_ms(), newest_ms);
            }
        }
        Ok(())
    }

    /// Looks again at waiting files, because an event says that they changed.
    pub fn refresh(&mut self, paths: &[String]) -> Result<()> {
        for path in paths {
            if let Some(before) = self.remove(path)
                && let Some(file) = listing::stat(path)?
            {
                self.put(file, before.discovered_ms, self.ledger.newest_ms(&self.source));
            }
        }
        Ok(())
    }

    /// The oldest waiting files, as they are now, with the times when they were first seen: at most `files_max`, ending
    /// with the one that crosses `bytes_max`. Those that have gone meanwhile wait no longer.
    pub fn oldest(&mut self, files_max: u64, bytes_max: Option<u64>) -> Result<(Vec<FileEntry>, Vec<i64>)> {
        let mut chosen: Vec<(FileEntry, i64)> = Vec::new();
        let mut bytes = 0u64;
        let mut moved = Vec::new();
        for ((modified_ms, path), size) in &self.order {
            if chosen.len() as u64 >= files_max || bytes_max.is_some_and(|max| bytes >= max) {
                break;
            }
            let now = listing::stat(path)?;
            if now.as_ref().is_none_or(|now| now.size != *size || now.modified_ms != *modified_ms) {
                moved.push(path.to_string());
            }
            if let Some(file) = now {
                bytes += file.size;
                let discovered_ms = self.waiting.get(path).map_or(*modified_ms, |waiting| waiting.discovered_ms);
                chosen.push((file, discovered_ms));
            }
        }
        self.refresh(&moved)?;
        chosen.sort_by(|(a, _), (b, _)| (a.modified_ms, &a.path).cmp(&(b.modified_ms, &b.path)));
        Ok(chosen.into_iter().unzip())
    }

    /// These files wait no longer. Where overwriting is allowed, one that has changed since it was chosen still does.
    pub fn forget(&mut self, files: &[FileEntry]) {
        for file in files {
            let changed = |waiting: &Waiting| waiting.modified_ms != file.modified_ms;
            if !self.overwrites || !self.waiting.get(file.path.as_str()).is_some_and(changed) {
                self.remove(&file.path);
            }
        }
    }

    /// This file waits no longer.
    pub fn drop_file(&mut self, path: &str) {
        self.remove(path);
    }

    /// Takes every waiting file out.
    pub fn take_all(&mut self) -> Vec<FileEntry> {
        self.waiting.clear();
        self.bytes = 0;
        let files = std::mem::take(&mut self.order).into_iter();
        files.map(|((modified_ms, path), size)| FileEntry { path: path.to_string(), size, modified_ms }).collect()
    }

    /// How much waits.
    pub fn backlog(&self) -> Backlog {
        Backlog { files: self.order.len() as u64, bytes: self.bytes }
    }

    fn put(&mut self, file: FileEntry, discovered_ms: i64, newest_ms: Option<i64>) {
        if self.times.ignore(file.modified_ms, newest_ms).is_some() {
            return;
        }
        let path: Arc<str> = file.path.into();
        self.bytes += file.size;
        self.waiting.insert(path.clone(), Waiting { modified_ms: file.modified_ms, discovered_ms });
        self.order.insert((file.modified_ms, path), file.size);
    }

    fn remove(&mut self, path: &str) -> Option<Waiting> {
        let (path, waiting) = self.waiting.remove_entry(path)?;
        if let Some(size) = self.order.remove(&(waiting.modified_ms, path)) {
            self.bytes -= size;
        }
        Some(waiting)
    }
}

/// Whether a file that is known has other content now, as far as its time and size tell.
pub fn overwritten(known: &LedgerEntry, file: &FileEntry) -> bool {
    known.state != FileState::Skipped
        && (file.modified_ms > known.modified_ms || file.modified_ms == known.modified_ms && file.size != known.size)
}
