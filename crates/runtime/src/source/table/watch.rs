//! Waiting for a table to grow: the file system's events on its log, with a slow poll as the safety net.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// How late an arrival is noticed where there are no events.
const POLL: Duration = Duration::from_secs(1);

/// Wakes when commits arrive.
pub struct Watch {
    directory: PathBuf,
    arrived: Arc<Notify>,
    /// Begun with the first wait: a source that never waits needs no watch.
    watcher: Option<Option<RecommendedWatcher>>,
}

impl Watch {
    /// On a log's directory.
    pub fn on(directory: &Path) -> Self {
        Watch { directory: directory.to_owned(), arrived: Arc::new(Notify::new()), watcher: None }
    }

    /// Returns at once if a commit arrived since the last call, else when one does, at the latest after the polling
    /// period. May return for nothing.
    pub async fn changed(&mut self) {
        if self.watcher.is_none() {
            // What arrived before the watch stood is seen by the look that follows this return.
            self.watcher = Some(self.begin());
            return;
        }
        let _ = tokio::time::timeout(POLL, self.arrived.notified()).await;
    }

    /// None where the system has no events or no watches left; polling remains.
    fn begin(&self) -> Option<RecommendedWatcher> {
        let arrived = self.arrived.clone();
        let handler = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| {
                matches!(event.kind, EventKind::Create(_) | EventKind::Modify(_))
                    && event.paths.iter().any(|path| is_commit(path))
            }) {
                arrived.notify_one();
            }
        };
        let mut watcher = notify::recommended_watcher(handler).ok()?;
        watcher.watch(&self.directory, RecursiveMode::NonRecursive).ok()?;
        Some(watcher)
    }
}

fn is_commit(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.ends_with(".json") && name.bytes().next().is_some_and(|byte| byte.is_ascii_digit()))
}
