//! A source whose past is read again: it gives the rows of inputs it is told of, finds nothing new, and leaves what it
//! reads as it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium_planner::relation::{SourceKind, SourceSpec};
use async_trait::async_trait;
use datafusion::catalog::TableProvider;

use super::files::provider;
use super::{Backlog, EpochInput, ReadCounters, Source, table};
use crate::error::{Error, Result};

/// See the module.
pub struct Again {
    spec: Arc<SourceSpec>,
    /// Where what reading writes beside rows goes.
    scratch: PathBuf,
}

impl Again {
    /// The source `spec` names.
    pub fn new(spec: Arc<SourceSpec>, scratch: &Path) -> Again {
        Again { spec, scratch: scratch.to_owned() }
    }
}

#[async_trait]
impl Source for Again {
    async fn next(&mut self, _limited: bool) -> Result<Option<EpochInput>> {
        Ok(None)
    }

    async fn freeze(&mut self) -> Result<()> {
        Ok(())
    }

    fn unfreeze(&mut self) {}

    async fn provider(&self, input: &EpochInput, counters: Arc<ReadCounters>) -> Result<Arc<dyn TableProvider>> {
        match (&self.spec.kind, input) {
            (SourceKind::Files(spec), EpochInput::Files(input)) => {
                provider::again(&self.spec, spec, input, counters, &self.scratch)
            }
            (SourceKind::Table(_), EpochInput::Table(input)) => table::again(&self.spec, input, counters).await,
            _ => Err(Error::internal(format!("{} was given another source's input", self.spec.title))),
        }
    }

    async fn committed(&mut self, _input: &EpochInput) -> Result<()> {
        Ok(())
    }

    /// There is never anything new.
    async fn changed(&mut self) {
        std::future::pending().await
    }

    fn backlog(&self) -> Backlog {
        Backlog::default()
    }

    async fn rebase(&mut self, spec: &Arc<SourceSpec>) -> Result<()> {
        self.spec = spec.clone();
        Ok(())
    }
}
