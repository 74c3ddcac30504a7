//! What statements change about single files, while a stream runs or not.
//!
//! The change itself is one synced batch. A running source hears of it here, so that it drops the file from what
//! waits, or looks for it again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::{Archived, COUNT, KNOWN, Ledger, LedgerEntry, REMARK, prefix};
use crate::error::Result;
use crate::state::{Batch, Column};

/// What happened to one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alteration {
    /// It is to be read again.
    Forgotten(String),
    /// It is not to be read.
    Skipped(String),
}

/// What became of a statement that a file is to be read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forgetting {
    /// Nothing: the source does not know it.
    Unknown,
    /// It is read when it is found; how it was cleaned before.
    Done(Option<Archived>),
    /// Nothing yet: it is being cleaned at this moment.
    BeingCleaned,
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

    /// Forgets a file and wants it: it is read when it is found again, whoever found it before and however old it is. One
    /// that `source` does not know only where `unknown` allows it.
    pub(in crate::checkpoint) fn forget(&self, source: &str, path: &str, unknown: bool) -> Result<Forgetting> {
        let changing = self.changing();
        if self.is_claimed(source, path) {
            return Ok(Forgetting::BeingCleaned);
        }
        let key = |kind| [&prefix(source, kind), path.as_bytes()].concat();
        let known = self.entry(source, path)?;
        let remarked = self.store.get(Column::Ledger, &key(REMARK))?.is_some();
        if known.is_none() && !remarked && !unknown {
            return Ok(Forgetting::Unknown);
        }
        let mut batch = Batch::default();
        batch.delete(Column::Ledger, key(REMARK));
        batch.delete(Column::Ledger, key(KNOWN));
        let count = self.len(source) - u64::from(known.is_some()).min(self.len(source));
        batch.put(Column::Meta, format!("{COUNT}{source}"), count.to_string());
        let wanted = self.want(source, path, &mut batch);
        self.store.write(batch, true)?;
        let mut now = self.known();
        now.counts.insert(source.to_owned(), count);
        now.wanted.insert(source.to_owned(), wanted);
        drop(now);
        drop(changing);
        self.announce(source, Alteration::Forgotten(path.to_owned()));
        Ok(Forgetting::Done(known.and_then(|known| known.archived)))
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
}
