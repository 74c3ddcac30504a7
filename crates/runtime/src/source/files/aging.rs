//! `maxFileAge` in the ledger: files too old to count are forgotten beside the epochs, each time that the line between old
//! and new has moved by a day.

use tokio::task::JoinHandle;

use super::rules::Times;
use crate::checkpoint::Ledger;
use crate::error::{Error, Result};

/// Forgetting walks over everything that is known: not for less than this, milliseconds.
const STEP_MS: i64 = 86_400_000;

/// The forgetting of files too old to count.
#[derive(Default)]
pub struct Aging {
    work: Option<JoinHandle<Result<()>>>,
}

impl Aging {
    /// Begins to forget files of `source` below a place that `times` rule out by their age, where that is due.
    pub async fn tend(&mut self, times: Times, ledger: &Ledger, source: &str, below: &str) -> Result<()> {
        if let Some(work) = self.work.take_if(|work| work.is_finished()) {
            ended(work).await?;
        }
        let Some(oldest_ms) = times.oldest_ms(ledger.newest_ms(source)) else { return Ok(()) };
        let aged = ledger.aged_ms(source).is_some_and(|aged| oldest_ms < aged.saturating_add(STEP_MS));
        if !aged && self.work.is_none() {
            let (ledger, source, below) = (ledger.clone(), source.to_owned(), below.to_owned());
            let work = move || ledger.forget_older(&source, &below, oldest_ms).map(|_| ());
            self.work = Some(tokio::task::spawn_blocking(work));
        }
        Ok(())
    }

    /// The same, to its end.
    pub async fn finish(&mut self, times: Times, ledger: &Ledger, source: &str, below: &str) -> Result<()> {
        self.tend(times, ledger, source, below).await?;
        match self.work.take() {
            Some(work) => ended(work).await,
            None => Ok(()),
        }
    }
}

async fn ended(work: JoinHandle<Result<()>>) -> Result<()> {
    work.await.map_err(|e| Error::internal(format!("forgetting old files ended early: {e}")))?
}
