//! Files that were there before the first start of a stream that leaves those out.
//!
//! They are noted when the stream starts, not with an epoch, so that a million of them need not be in memory at once.
//! A mark in `meta` says that all below a path are noted; before it stands a start notes them again.

use super::{Ledger, LedgerEntry};
use crate::error::Result;
use crate::state::{Batch, Column};

/// In `meta`, with source and path, there once the files that were there are noted.
const EXISTING: &str = "ledger_existing/";

impl Ledger {
    /// Notes those of some files of `source`, sorted by path, that it does not know.
    pub fn note_existing(&self, source: &str, mut entries: Vec<LedgerEntry>) -> Result<()> {
        let _changing = self.changing();
        let paths: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
        let mut known = self.contains_sorted(source, &paths)?.into_iter();
        entries.retain(|_| !known.next().unwrap_or(false));
        let mut batch = Batch::default();
        let counted = self.write_into(&entries, &mut batch)?;
        self.store.write(batch, false)?;
        self.apply(counted);
        Ok(())
    }

    /// Notes, durably, that all were noted that were there below `path`.
    pub fn existing_noted(&self, source: &str, path: &str) -> Result<()> {
        let mut batch = Batch::default();
        batch.put(Column::Meta, mark(source, path), "1");
        self.store.write(batch, true)
    }

    /// Whether [`Self::existing_noted`] was called with this path.
    pub fn existing_are_noted(&self, source: &str, path: &str) -> Result<bool> {
        Ok(self.store.get(Column::Meta, mark(source, path).as_bytes())?.is_some())
    }
}

fn mark(source: &str, path: &str) -> String {
    format!("{EXISTING}{source}/{path}")
}
