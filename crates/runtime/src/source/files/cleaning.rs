//! When files that were read are cleaned: beside the epochs, one pass at a time.

use tokio::task::JoinHandle;

use super::clean::Cleaner;
use crate::clock::now_ms;
use crate::error::{Error, Result};

/// Cleaning of files that were read, and when it is due next.
pub struct Cleaning {
    cleaner: Cleaner,
    due_ms: Option<i64>,
    running: Option<JoinHandle<Result<Option<i64>>>>,
}

impl Cleaning {
    /// What an earlier run left is due at once.
    pub fn new(cleaner: Cleaner) -> Cleaning {
        Cleaning { cleaner, due_ms: Some(0), running: None }
    }

    /// An epoch was committed: its files will be due.
    pub fn committed(&mut self) {
        let due_ms = self.cleaner.due_ms();
        self.due_ms = Some(self.due_ms.map_or(due_ms, |before| before.min(due_ms)));
    }

    /// Takes over what the pass in the background has come to, and begins one where it is due. With `wait`, until
    /// nothing is due any more.
    pub async fn tend(&mut self, wait: bool) -> Result<()> {
        loop {
            if let Some(running) = self.running.take_if(|running| wait || running.is_finished()) {
                let ended = running.await.map_err(|e| Error::internal(format!("cleaning ended early: {e}")))?;
                let next_ms = ended?;
                self.due_ms = [self.due_ms, next_ms].into_iter().flatten().min();
            }
            if self.running.is_some() || self.due_ms.is_none_or(|due| due > now_ms()) {
                return Ok(());
            }
            self.due_ms = None;
            let cleaner = self.cleaner.clone();
            self.running = Some(tokio::task::spawn_blocking(move || cleaner.run()));
            if !wait {
                return Ok(());
            }
        }
    }
}
