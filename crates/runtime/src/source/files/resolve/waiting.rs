//! A stream's wait for the first file to learn its columns from.

use std::sync::Arc;

use alluvium_planner::relation::FilesSpec;

use super::super::store::{self, Place};
use super::super::watch::Watch;
use super::super::{FileEntry, blocking};
use super::{files_of, lister};
use crate::error::Result;

/// Waits for a first file.
pub struct WaitingForFiles {
    /// How messages name the relation.
    pub title: String,
    pub(super) spec: Arc<FilesSpec>,
    pub(super) place: Place,
    pub(super) seen: Vec<FileEntry>,
}

impl WaitingForFiles {
    /// Returns when there are other files than when the relation was resolved, which is to be done again then.
    /// Cancel-safe.
    pub async fn changed(&self) -> Result<()> {
        let watch = self.watch().await;
        loop {
            let (spec, place) = (self.spec.clone(), self.place.clone());
            if blocking(move || files_of(&spec, &place)).await? != self.seen {
                return Ok(());
            }
            match &watch {
                Some(watch) => tokio::select! {
                    () = watch.rung() => {}
                    () = tokio::time::sleep(super::super::NET) => {}
                },
                None if self.place.remote().is_some() => tokio::time::sleep(store::POLL).await,
                None => tokio::time::sleep(super::super::POLL).await,
            }
        }
    }

    /// None where there is no watch to be had: looking now and then does it.
    async fn watch(&self) -> Option<Watch> {
        if self.place.remote().is_some() {
            return None;
        }
        let spec = self.spec.clone();
        let start = move || {
            let lister = lister(&spec)?;
            Ok(Watch::start(&lister.root().base, lister.hidden().clone()).ok())
        };
        blocking(start).await.ok().flatten()
    }
}
