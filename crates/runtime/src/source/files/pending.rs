//! Files that wait to be read: what a listing or an event names, minus what the ledger remembers and what the times of
//! files rule out.
//!
//! Only waiting files are held in memory, and of very many only the oldest: the others are counted, and found again by
//! a listing when those have been read. Files read before are the ledger's to know. A file's identity is its path: the
//! same name does not wait again, whatever its content becomes, unless overwriting is allowed and its modification time
//! is newer than when it was read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::FileEntry;
use super::listing;
use super::rules::Times;
use crate::checkpoint::{Ages, FileState, Ledger, LedgerEntry};
use crate::clock::now_ms;
use crate::error::Result;
use crate::source::Backlog;

/// So many paths are asked of the ledger at once.
const ASK: usize = 4096;

/// Most waiting files that are kept, unless an epoch takes more: with one more, which goes again, as many as fill a hash
/// table of a quarter of a million places. Beyond, it would grow to twice its size, and need both while it does.
pub const KEPT: usize = (1 << 18) / 8 * 7 - 1;

/// Waiting files, oldest first, files of one millisecond by path.
pub struct Pending {
    source: String,
    ledger: Ledger,
    times: Times,
    overwrites: bool,
    order: BTreeMap<(i64, Arc<str>), u64>,
    waiting: HashMap<Arc<str>, Waiting>,
    bytes: u64,
    /// Most that are kept.
    kept_max: usize,
    /// Those that are not kept, as counted since everything was last listed: all of them are behind `horizon`.
    beyond: Backlog,
    horizon: Option<(i64, Arc<str>)>,
    /// New files that were modified later do not count for now.
    until_ms: Option<i64>,
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
            kept_max: KEPT,
            beyond: Backlog::default(),
            horizon: None,
            until_ms: None,
        }
    }

    /// Keeps so many at least, and twice as many where that is not everything.
    pub fn keep_at_least(&mut self, files: u64) {
        self.kept_max = self.kept_max.max(usize::try_from(files.saturating_mul(2)).unwrap_or(usize::MAX));
    }

    /// From now on files that were modified later than that do not count when they are found.
    pub fn until(&mut self, until_ms: Option<i64>) {
        self.until_ms = until_ms;
    }

    /// Everything is going to be added again: those that were not kept are counted anew.
    pub fn begin_again(&mut self) {
        self.beyond = Backlog::default();
        self.horizon = None;
    }

    /// Whether there are waiting files that are not kept.
    pub fn is_cut(&self) -> bool {
        self.horizon.is_some()
    }

    /// Whether fewer than `files` are kept although more wait.
    pub fn lacks(&self, files: u64) -> bool {
        self.is_cut() && (self.order.len() as u64) < files
    }

    /// Adds those of `paths` (sorted) that are new. Files that are gone by now are left out.
    pub fn add(&mut self, paths: &[String]) -> Result<()> {
        let ages = self.ledger.ages(&self.source);
        for some in paths.chunks(ASK) {
            let unknown: Vec<&str> =
                some.iter().map(String::as_str).filter(|path| !self.waiting.contains_key(*path)).collect();
            if unknown.is_empty() {
                continue;
            }
            if self.overwrites {
                self.add_newer(&unknown, &ages)?;
                continue;
            }
            let known = self.ledger.contains_sorted(&self.source, &unknown)?;
            for (path, _) in unknown.iter().zip(known).filter(|(_, known)| !known) {
                if let Some(file) = listing::stat(path)? {
                    self.put_found(file, &ages);
                }
            }
        }
        Ok(())
    }

    /// Where overwriting is allowed: new files, and those that have changed since they were read.
    fn add_newer(&mut self, paths: &[&str], ages: &Ages) -> Result<()> {
        let known = self.ledger.entries_sorted(&self.source, paths)?;
        for (path, known) in paths.iter().zip(known) {
            let Some(file) = listing::stat(path)? else { continue };
            if known.is_none_or(|known| overwritten(&known, &file)) {
                self.put_found(file, ages);
            }
        }
        Ok(())
    }

    /// Looks again at waiting files, because an event says that they changed.
    pub fn refresh(&mut self, paths: &[String]) -> Result<()> {
        let ages = self.ledger.ages(&self.source);
        for path in paths {
            if let Some(before) = self.remove(path)
                && let Some(file) = listing::stat(path)?
            {
                self.put(file, before.discovered_ms, &ages);
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

    /// What [`Self::oldest`] would give behind `chosen`, as far as it is known without looking.
    pub fn following(&self, chosen: &[FileEntry], files_max: u64, bytes_max: Option<u64>) -> Vec<FileEntry> {
        let chosen: HashSet<&str> = chosen.iter().map(|file| file.path.as_str()).collect();
        let mut following = Vec::new();
        let mut bytes = 0u64;
        for ((modified_ms, path), size) in &self.order {
            if following.len() as u64 >= files_max || bytes_max.is_some_and(|max| bytes >= max) {
                break;
            }
            if !chosen.contains(path.as_ref()) {
                bytes += size;
                following.push(FileEntry { path: path.to_string(), size: *size, modified_ms: *modified_ms });
            }
        }
        following
    }

    /// These files wait no longer. Where overwriting is allowed, one that is newer than what was read still does.
    pub fn forget(&mut self, files: &[FileEntry]) {
        for file in files {
            let newer = |waiting: &Waiting| waiting.modified_ms > file.modified_ms;
            if !self.overwrites || !self.waiting.get(file.path.as_str()).is_some_and(newer) {
                self.remove(&file.path);
            }
        }
    }

    /// This file waits no longer.
    pub fn drop_file(&mut self, path: &str) {
        self.remove(path);
    }

    /// How much waits.
    pub fn backlog(&self) -> Backlog {
        Backlog { files: self.order.len() as u64 + self.beyond.files, bytes: self.bytes + self.beyond.bytes }
    }

    fn put_found(&mut self, file: FileEntry, ages: &Ages) {
        if self.until_ms.is_none_or(|until_ms| file.modified_ms <= until_ms) {
            self.put(file, now_ms(), ages);
        }
    }

    fn put(&mut self, file: FileEntry, discovered_ms: i64, ages: &Ages) {
        if self.times.ignore(&file.path, file.modified_ms, ages).is_some() {
            return;
        }
        let key = (file.modified_ms, Arc::<str>::from(file.path));
        // Read before those that are not kept, it could make them too old to count.
        if self.horizon.as_ref().is_some_and(|horizon| *horizon <= key) {
            self.count_beyond(file.size);
            return;
        }
        self.bytes += file.size;
        self.waiting.insert(key.1.clone(), Waiting { modified_ms: file.modified_ms, discovered_ms });
        self.order.insert(key, file.size);
        if self.order.len() > self.kept_max
            && let Some((newest, size)) = self.order.pop_last()
        {
            self.bytes -= size;
            self.waiting.remove(&newest.1);
            self.count_beyond(size);
            self.horizon = Some(newest);
        }
    }

    fn count_beyond(&mut self, size: u64) {
        self.beyond.files += 1;
        self.beyond.bytes += size;
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::checkpoint::Checkpoint;

    #[test]
    fn of_many_files_the_oldest_are_kept_and_the_others_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = |at: u64| dir.path().join(format!("{:02}", at * 7 % 20)).to_str().unwrap().to_owned();
        for at in 0..20 {
            std::fs::write(path(at), "{}").unwrap();
            let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 + at);
            std::fs::File::options().write(true).open(path(at)).unwrap().set_modified(modified).unwrap();
        }
        let mut all: Vec<String> = (0..20).map(path).collect();
        all.sort();
        let ledger = Checkpoint::in_memory().unwrap().ledger();
        let mut pending = Pending::new("0", ledger, Times::default(), false);
        pending.kept_max = 6;
        let mut read = Vec::new();
        while read.len() < 20 {
            assert!(pending.lacks(4) || read.is_empty(), "{read:?}");
            pending.begin_again();
            pending.add(&all).unwrap();
            let left = 20 - read.len() as u64;
            assert_eq!(pending.backlog(), Backlog { files: left, bytes: 2 * left });
            while !pending.lacks(4) && pending.backlog().files > 0 {
                let (files, _) = pending.oldest(4, None).unwrap();
                pending.forget(&files);
                // Known to the ledger from now on.
                all.retain(|path| files.iter().all(|file| file.path != *path));
                read.extend(files.into_iter().map(|file| file.path));
            }
        }
        assert_eq!(read, (0..20).map(path).collect::<Vec<_>>(), "oldest first");
        assert!(!pending.is_cut() && pending.backlog() == Backlog::default());
    }

    #[test]
    fn what_was_modified_later_does_not_count_for_now() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let paths = [file.path().to_str().unwrap().to_owned()];
        let mut pending = Pending::new("0", Checkpoint::in_memory().unwrap().ledger(), Times::default(), false);
        pending.until(Some(now_ms() - 3_600_000));
        pending.add(&paths).unwrap();
        assert_eq!(pending.backlog().files, 0);
        pending.until(None);
        pending.add(&paths).unwrap();
        assert_eq!(pending.backlog().files, 1);
    }
}
