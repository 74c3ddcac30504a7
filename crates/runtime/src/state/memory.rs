//! The store of tests: sorted maps that vanish with the process.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Batch, Column, Fill, Page, StateStore};
use crate::error::{Error, Result};

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// A [`StateStore`] in memory. Durability is a promise it cannot break: nothing outlives it.
#[derive(Debug, Default)]
pub struct MemoryStore {
    columns: [Mutex<Entries>; 5],
}

impl MemoryStore {
    fn column(&self, column: Column) -> MutexGuard<'_, Entries> {
        // A map is whole between two calls, so a panic elsewhere while it was locked cannot have torn it.
        self.columns[column as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore for MemoryStore {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.column(column).get(key).cloned())
    }

    fn multi_get(
        &self,
        column: Column,
        keys: &[&[u8]],
        found: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let entries = self.column(column);
        for (i, key) in keys.iter().enumerate() {
            if let Some(value) = entries.get(*key) {
                found(i, value)?;
            }
        }
        Ok(())
    }

    fn contains_sorted(&self, column: Column, prefix: &[u8], suffixes: &[&str]) -> Result<Vec<bool>> {
        let entries = self.column(column);
        Ok(suffixes.iter().map(|suffix| entries.contains_key(&[prefix, suffix.as_bytes()].concat())).collect())
    }

    fn page(&self, column: Column, from: &[u8], until: &[u8], rows: usize) -> Result<Page> {
        let mut page = Page::default();
        if from < until {
            let entries = self.column(column);
            for (key, value) in entries.range::<[u8], _>((Bound::Included(from), Bound::Excluded(until))) {
                page.push(key, value);
                if page.is_full(rows) {
                    break;
                }
            }
        }
        Ok(page)
    }

    fn page_back(&self, column: Column, from: &[u8], until: &[u8], rows: usize) -> Result<Page> {
        let mut page = Page::default();
        if from < until {
            let entries = self.column(column);
            for (key, value) in entries.range::<[u8], _>((Bound::Included(from), Bound::Excluded(until))).rev() {
                page.push(key, value);
                if page.is_full(rows) {
                    break;
                }
            }
        }
        Ok(page)
    }

    fn scan_ranges(
        &self,
        column: Column,
        ranges: &[(Vec<u8>, Vec<u8>)],
        found: &mut dyn FnMut(usize, &[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let entries = self.column(column);
        for (at, (from, until)) in ranges.iter().enumerate().filter(|(_, (from, until))| from < until) {
            let range = (Bound::Included(from.as_slice()), Bound::Excluded(until.as_slice()));
            for (key, value) in entries.range::<[u8], _>(range) {
                if !found(at, key, value)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn write(&self, batch: Batch, _durable: bool) -> Result<()> {
        for (column, from, until) in batch.ranges {
            self.column(column).retain(|key, _| *key < from || *key >= until);
        }
        for (column, key, value) in batch.writes {
            let mut entries = self.column(column);
            match value {
                Some(value) => entries.insert(key, value),
                None => entries.remove(&key),
            };
        }
        Ok(())
    }

    fn write_sorted(&self, column: Column, fill: Fill<'_>) -> Result<()> {
        let mut batch = Batch::default();
        let mut last: Option<Vec<u8>> = None;
        fill(&mut |key, value| {
            if last.as_deref().is_some_and(|last| last >= key) {
                return Err(Error::internal("entries were to be sorted"));
            }
            last = Some(key.to_vec());
            match value {
                Some(value) => batch.put(column, key, value),
                None => batch.delete(column, key),
            }
            Ok(())
        })?;
        self.write(batch, true)
    }

    fn free(&self, _column: Column, _from: &[u8], _until: &[u8]) -> Result<()> {
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        Ok(())
    }

    fn bytes_between(&self, column: Column, from: &[u8], until: &[u8]) -> Result<u64> {
        let mut bytes = 0;
        if from < until {
            let entries = self.column(column);
            for (key, value) in entries.range::<[u8], _>((Bound::Included(from), Bound::Excluded(until))) {
                bytes += (key.len() + value.len()) as u64;
            }
        }
        Ok(bytes)
    }
}
