//! Files that wait to be read: what a listing or an event names, minus what the ledger remembers.
//!
//! Only waiting files are held in memory; files read before are the ledger's to know. A file's identity is its
//! path: the same name never waits again, whatever its content becomes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::FileEntry;
use super::listing;
use crate::checkpoint::Ledger;
use crate::error::Result;
use crate::source::Backlog;

/// So many paths are asked of the ledger at once.
const ASK: usize = 4096;

/// Waiting files, oldest first, files of one millisecond by path.
pub struct Pending {
    source: String,
    ledger: Ledger,
    order: BTreeMap<(i64, Arc<str>), u64>,
    modified: HashMap<Arc<str>, i64>,
    bytes: u64,
}

impl Pending {
    /// Nothing waits yet. `source` is the id under which the ledger knows this source's files.
    pub fn new(source: &str, ledger: Ledger) -> Pending {
        Pending { source: source.to_owned(), ledger, order: BTreeMap::new(), modified: HashMap::new(), bytes: 0 }
    }

    /// Adds those of `paths` (sorted) that are new. Files that are gone by now are left out.
    pub fn add(&mut self, paths: &[String]) -> Result<()> {
        for some in paths.chunks(ASK) {
            let unknown: Vec<&str> =
                some.iter().map(String::as_str).filter(|path| !self.modified.contains_key(*path)).collect();
            if unknown.is_empty() {
                continue;
            }
            let known = self.ledger.contains_sorted(&self.source, &unknown)?;
            for (path, _) in unknown.iter().zip(known).filter(|(_, known)| !known) {
                if let Some(file) = listing::stat(path)? {
                    self.put(file);
                }
            }
        }
        Ok(())
    }

    /// Looks again at waiting files, because an event says that they changed.
    pub fn refresh(&mut self, paths: &[String]) -> Result<()> {
        for path in paths {
            if self.modified.contains_key(path.as_str()) {
                self.remove(path);
                if let Some(file) = listing::stat(path)? {
                    self.put(file);
                }
            }
        }
        Ok(())
    }

    /// The oldest waiting files, as they are now: at most `files_max`, ending with the one that crosses `bytes_max`.
    /// Those that have gone meanwhile wait no longer.
    pub fn oldest(&mut self, files_max: u64, bytes_max: Option<u64>) -> Result<Vec<FileEntry>> {
        let mut chosen = Vec::new();
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
                chosen.push(file);
            }
        }
        self.refresh(&moved)?;
        chosen.sort_by(|a: &FileEntry, b| (a.modified_ms, &a.path).cmp(&(b.modified_ms, &b.path)));
        Ok(chosen)
    }

    /// These files wait no longer.
    pub fn forget(&mut self, files: &[FileEntry]) {
        for file in files {
            self.remove(&file.path);
        }
    }

    /// Takes every waiting file out.
    pub fn take_all(&mut self) -> Vec<FileEntry> {
        self.modified.clear();
        self.bytes = 0;
        let files = std::mem::take(&mut self.order).into_iter();
        files.map(|((modified_ms, path), size)| FileEntry { path: path.to_string(), size, modified_ms }).collect()
    }

    /// How much waits.
    pub fn backlog(&self) -> Backlog {
        Backlog { files: self.order.len() as u64, bytes: self.bytes }
    }

    fn put(&mut self, file: FileEntry) {
        let path: Arc<str> = file.path.into();
        self.bytes += file.size;
        self.modified.insert(path.clone(), file.modified_ms);
        self.order.insert((file.modified_ms, path), file.size);
    }

    fn remove(&mut self, path: &str) {
        if let Some((path, modified_ms)) = self.modified.remove_entry(path)
            && let Some(size) = self.order.remove(&(modified_ms, path))
        {
            self.bytes -= size;
        }
    }
}
