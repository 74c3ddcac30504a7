//! What statements change about single files, while a stream runs or not.
//!
//! The change itself is one synced batch. A running source hears of it here, so that it drops the file from what
//! waits, or looks for it again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::{COUNT, FileState, KNOWN, Ledger, LedgerEntry, REMARK, prefix};
use crate::error::Result;
use crate::state::{Batch, Column, prefix_end};

/// What happened to one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alteration {
    /// It is to be read again.
    Forgotten(String),
    /// It is not to be read.
    Skipped(String),
}

/// Alterations that sources have not heard of.
#[derive(Default)]
pub(super) struct Alterations {
    made: AtomicU64,
    unheard: Mutex<BTreeMap<String, Vec<Alteration>>>,
    bell: Notify,
}

impl Ledger {
    /// How many alterations were made since the checkpoint was opened.
    pub fn alterations(&self) -> u64 {
        self.alterations.made.load(Ordering::SeqCst)
    }

    /// Takes the alterations of `source` that were not taken before.
    pub fn take_alterations(&self, source: &str) -> Vec<Alteration> {
        self.alterations.unheard.lock().unwrap_or_else(PoisonError::into_inner).remove(source).unwrap_or_default()
    }

    /// Returns when an alteration is made. Cancel-safe; may return once without.
    pub async fn altered(&self) {
        self.alterations.bell.notified().await;
    }

    /// Forgets a file: it is read when it is found again. False when `source` did not know it.
    pub(in crate::checkpoint) fn forget(&self, source: &str, path: &str) -> Result<bool> {
        let changing = self.changing();
        let key = |kind| [&prefix(source, kind), path.as_bytes()].concat();
        let known = self.store.get(Column::Ledger, &key(KNOWN))?.is_some();
        let remarked = self.store.get(Column::Ledger, &key(REMARK))?.is_some();
        if !known && !remarked {
            return Ok(false);
        }
        let mut batch = Batch::default();
        batch.delete(Column::Ledger, key(REMARK));
        batch.delete(Column::Ledger, key(KNOWN));
        let count = self.len(source) - u64::from(known).min(self.len(source));
        batch.put(Column::Meta, format!("{COUNT}{source}"), count.to_string());
        self.store.write(batch, true)?;
        self.known().counts.insert(source.to_owned(), count);
        drop(changing);
        self.announce(source, Alteration::Forgotten(path.to_owned()));
        Ok(true)
    }

    /// Keeps a file out. The caller has made sure that it was not read.
    pub(in crate::checkpoint) fn skip(&self, entry: &LedgerEntry) -> Result<()> {
        let changing = self.changing();
        let mut batch = Batch::default();
        let counted = self.write_into(std::slice::from_ref(entry), &mut batch)?;
        self.store.write(batch, true)?;
        self.apply(counted);
        drop(changing);
        self.announce(&entry.source, Alteration::Skipped(entry.path.clone()));
        Ok(())
    }

    fn announce(&self, source: &str, alteration: Alteration) {
        let mut unheard = self.alterations.unheard.lock().unwrap_or_else(PoisonError::into_inner);
        unheard.entry(source.to_owned()).or_default().push(alteration);
        drop(unheard);
        self.alterations.made.fetch_add(1, Ordering::SeqCst);
        self.alterations.bell.notify_one();
    }

    /// Forgets files that were modified before `modified_ms`, but for those that a statement keeps out or that wait to
    /// be cleaned. Walks the whole ledger, a page at a time; how many were forgotten.
    pub fn forget_older(&self, source: &str, modified_ms: i64) -> Result<u64> {
        let mut from = prefix(source, KNOWN);
        let until = prefix_end(&from);
        let cleaned = self.cleans(source);
        let mut forgotten = 0;
        loop {
            let changing = self.changing();
            let page = self.store.page(Column::Ledger, &from, &until, 4096)?;
            let Some(next) = page.next_key() else { return Ok(forgotten) };
            let mut batch = Batch::default();
            let mut removed = 0;
            for (key, value) in page.iter() {
                let known = self.decode(source, String::new(), value)?;
                let waits = cleaned && known.state == FileState::Ingested && known.archived.is_none();
                if known.modified_ms < modified_ms && known.state != FileState::Skipped && !waits {
                    batch.delete(Column::Ledger, key);
                    removed += 1;
                }
            }
            if removed > 0 {
                let count = self.len(source).saturating_sub(removed);
                batch.put(Column::Meta, format!("{COUNT}{source}"), count.to_string());
                self.store.write(batch, false)?;
                self.known().counts.insert(source.to_owned(), count);
                forgotten += removed;
            }
            drop(changing);
            from = next;
        }
    }
}
