//! `maxFileAge` in the ledger: files too old to count are forgotten now and then, beside the epochs.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::rules::Times;
use crate::checkpoint::Ledger;
use crate::error::{Error, Result};

/// Old files are forgotten this often, where they are.
const FORGET: Duration = Duration::from_secs(3600);

/// When files too old to count were last forgotten, and the work of it.
#[derive(Default)]
pub struct Aging {
    begun: Option<(Instant, JoinHandle<Result<()>>)>,
}

impl Aging {
    /// Begins to forget files of `source` that `times` rule out by their age, where that is due.
    pub async fn tend(&mut self, times: Times, ledger: &Ledger, source: &str) -> Result<()> {
        let Some(oldest_ms) = times.oldest_ms(ledger.newest_ms(source)) else { return Ok(()) };
        if let Some((at, work)) = &mut self.begun {
            if at.elapsed() < FORGET || !work.is_finished() {
                return Ok(());
            }
            work.await.map_err(|e| Error::internal(format!("forgetting old files ended early: {e}")))??;
        }
        let (ledger, source) = (ledger.clone(), source.to_owned());
        let work = tokio::task::spawn_blocking(move || ledger.forget_older(&source, oldest_ms).map(|_| ()));
        self.begun = Some((Instant::now(), work));
        Ok(())
    }
}
