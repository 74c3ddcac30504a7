//! The directory `_delta_log`: single commits by version, read one at a time and created once, durably.
//! Lists the directory only where asked for it; knows nothing about what commits mean.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::actions::{self, Action};
use crate::error::{Error, Result};

/// A temporary file this old belongs to nobody who lives.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 3600);

/// A table's log.
#[derive(Debug)]
pub struct Log {
    directory: PathBuf,
    lookups: AtomicU64,
}

/// Whether a commit got its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is there, durably.
    Published,
    /// Another commit has this version.
    Taken,
}

/// Bytes of a commit that are on disk but have no version yet.
#[derive(Debug)]
pub struct Prepared {
    temporary: PathBuf,
}

impl Log {
    /// The log of the table at `table`.
    pub fn of(table: &Path) -> Self {
        Log { directory: table.join("_delta_log"), lookups: AtomicU64::new(0) }
    }

    /// `…/_delta_log`.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Which directory this is; None where there is none.
    pub fn identity(&self) -> Option<super::Identity> {
        let about = std::fs::metadata(&self.directory).ok()?;
        Some(super::Identity { number: about.ino(), created: about.created().ok() })
    }

    /// How many commit files were asked for since this value was made; the measure of what following a log costs.
    pub fn lookups(&self) -> u64 {
        self.lookups.load(Ordering::Relaxed)
    }

    /// The file of a version.
    pub fn commit_path(&self, version: u64) -> PathBuf {
        self.directory.join(format!("{version:020}.json"))
    }

    /// The commit's bytes; None when there is no such version (yet, or any more).
    pub fn bytes(&self, version: u64) -> Result<Option<Vec<u8>>> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        let path = self.commit_path(version);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &path, &error)),
        }
    }

    /// The commit's actions; None when there is no such version (yet, or any more).
    pub fn read(&self, version: u64) -> Result<Option<Vec<Action>>> {
        self.bytes(version)?.map(|bytes| actions::parse(version, &bytes)).transpose()
    }

    /// Whether the version has a commit file.
    pub fn has(&self, version: u64) -> bool {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        self.commit_path(version).exists()
    }

    /// The last version without a gap from `from` on; None when `from` itself is not there. Looks at as many files
    /// as the distance has binary digits.
    pub fn last_from(&self, from: u64) -> Option<u64> {
        if !self.has(from) {
            return None;
        }
        let (mut there, mut step) = (from, 1);
        while self.has(there + step) {
            there += step;
            step *= 2;
        }
        // `there` is, `there + step` is not.
        while step > 1 {
            step /= 2;
            if self.has(there + step) {
                there += step;
            }
        }
        Some(there)
    }

    /// All versions that have commit files, ascending. One listing.
    pub fn versions(&self) -> Result<Vec<u64>> {
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("list", &self.directory, &error)),
        };
        let mut versions = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| Error::io("list", &self.directory, &error))?;
            let name = entry.file_name();
            let digits = name.to_str().and_then(|name| name.strip_suffix(".json")).filter(|digits| digits.len() == 20);
            versions.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
        }
        versions.sort_unstable();
        Ok(versions)
    }

    /// Takes away what killed writers left without a version, once nobody can be about to give it one.
    pub fn sweep(&self) {
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let left = name.to_str().is_some_and(|name| name.ends_with(".tmp"));
            let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
            if left && age().is_some_and(|age| age > LEFT_BEHIND) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// The version of the newest checkpoint of the log that is announced; None for none.
    pub fn announced_checkpoint(&self) -> Option<u64> {
        let bytes = std::fs::read(self.directory.join("_last_checkpoint")).ok()?;
        serde_json::from_slice::<serde_json::Value>(&bytes).ok()?.get("version")?.as_u64()
    }

    /// Puts a commit's bytes on disk, fsynced, without a version.
    pub fn prepare(&self, bytes: &[u8]) -> Result<Prepared> {
        // The leading underscore and the ending are what readers and cleaners of Delta logs expect of such a file.
        let temporary = self.directory.join(format!("_commit_{}.json.tmp", uuid::Uuid::new_v4()));
        let prepared = Prepared { temporary };
        let write = || -> std::io::Result<()> {
            let mut file = File::create_new(&prepared.temporary)?;
            file.write_all(bytes)?;
            file.sync_data()
        };
        write().map_err(|error| Error::io("write", &prepared.temporary, &error))?;
        Ok(prepared)
    }

    /// Gives prepared bytes the version, if nobody else has it; durable when it returns.
    pub fn publish(&self, prepared: Prepared, version: u64) -> Result<Outcome> {
        let path = self.commit_path(version);
        match std::fs::hard_link(&prepared.temporary, &path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(Outcome::Taken),
            Err(error) => return Err(Error::io("create", &path, &error)),
        }
        drop(prepared);
        sync_directory(&self.directory)?;
        Ok(Outcome::Published)
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // What stays behind after a failure here has no version and is nobody's commit.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// Makes the names in a directory durable.
pub fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory).and_then(|opened| opened.sync_all()).map_err(|error| Error::io("sync", directory, &error))
}

/// Creates a directory and what is missing above it, all durable.
pub fn create_directories(directory: &Path) -> Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_directories(parent)?;
    }
    match std::fs::create_dir(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists && directory.is_dir() => return Ok(()),
        Err(error) => return Err(Error::io("create", directory, &error)),
    }
    match parent {
        Some(parent) => sync_directory(parent),
        None => Ok(()),
    }
}

/// Runs something that waits for the disk off the threads that run queries.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::internal(format!("a file task ended early: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_end_is_found_in_few_looks() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::of(dir.path());
        create_directories(log.directory()).unwrap();
        assert_eq!(log.last_from(0), None);
        for version in 0..300 {
            std::fs::write(log.commit_path(version), b"{}").unwrap();
            if version % 37 == 0 {
                assert_eq!(log.last_from(0), Some(version));
                assert_eq!(log.last_from(version / 2), Some(version));
            }
        }
        let before = log.lookups();
        assert_eq!(log.last_from(0), Some(299));
        assert!(log.lookups() - before < 24);
    }

    #[test]
    fn a_version_is_given_once() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::of(dir.path());
        create_directories(log.directory()).unwrap();
        assert_eq!(log.publish(log.prepare(b"{}\n").unwrap(), 0).unwrap(), Outcome::Published);
        assert_eq!(log.publish(log.prepare(b"{}\n").unwrap(), 0).unwrap(), Outcome::Taken);
        assert_eq!(std::fs::read_dir(log.directory()).unwrap().count(), 1);
    }
}
