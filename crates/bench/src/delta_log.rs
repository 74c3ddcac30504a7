//! A Delta log as any other program sees it: commit files appearing in `_delta_log`.
//!
//! Knows the JSON commits alone; not Parquet checkpoints, not the data files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::Result;

/// One commit, with the moment it was first seen.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Table version.
    pub version: u64,
    /// When it was visible.
    pub seen: Instant,
    /// Rows of the files it adds, by their statistics.
    pub rows_added: u64,
}

/// Path of a version's commit file.
pub fn commit_path(table: &Path, version: u64) -> PathBuf {
    table.join("_delta_log").join(format!("{version:020}.json"))
}

/// A thread that looks for the next commit file every 200 µs.
pub struct Watcher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Commit>>,
}

impl Watcher {
    /// Watches from version 0; the table need not exist yet.
    pub fn start(table: &Path) -> Watcher {
        let stop = Arc::new(AtomicBool::new(false));
        let (table, stopped) = (table.to_path_buf(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut commits: Vec<Commit> = Vec::new();
            loop {
                // Read before the look, so that one last look follows the call to stop.
                let last_look = stopped.load(Ordering::Acquire);
                while let Some(rows_added) = rows_added(&commit_path(&table, commits.len() as u64)) {
                    commits.push(Commit { version: commits.len() as u64, seen: Instant::now(), rows_added });
                }
                if last_look {
                    return commits;
                }
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        Watcher { stop, thread }
    }

    /// All commits seen.
    pub fn stop(self) -> Result<Vec<Commit>> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().map_err(|_| "the watcher of the Delta log has panicked".into())
    }
}

/// Rows that a commit's files hold; None when the commit is not there, or not whole yet.
fn rows_added(commit: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(commit).ok()?;
    let mut rows = 0;
    for line in text.lines().filter(|line| !line.is_empty()) {
        let action: serde_json::Value = serde_json::from_str(line).ok()?;
        if let Some(statistics) = action["add"]["stats"].as_str() {
            let statistics: serde_json::Value = serde_json::from_str(statistics).ok()?;
            rows += statistics["numRecords"].as_u64().unwrap_or(0);
        }
    }
    Some(rows)
}

/// Bytes of the files that a commit adds. Errors: there is no such commit, or it is no JSON.
pub fn bytes_added(commit: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(commit)?;
    let actions = text.lines().filter(|line| !line.is_empty()).map(serde_json::from_str::<serde_json::Value>);
    let sizes = actions.map(|action| Ok(action?["add"]["size"].as_u64().unwrap_or(0)));
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_seen_once_and_in_order() -> Result<()> {
        let table = tempfile::tempdir()?;
        let watcher = Watcher::start(table.path());
        std::fs::create_dir(table.path().join("_delta_log"))?;
        let add = |rows: u64| format!("{{\"add\":{{\"stats\":\"{{\\\"numRecords\\\":{rows}}}\"}}}}\n");
        std::fs::write(commit_path(table.path(), 0), "{\"metaData\":{}}\n")?;
        std::fs::write(commit_path(table.path(), 1), add(7) + &add(5))?;
        let commits = watcher.stop()?;
        assert_eq!(commits.iter().map(|c| (c.version, c.rows_added)).collect::<Vec<_>>(), [(0, 0), (1, 12)]);
        Ok(())
    }
}
