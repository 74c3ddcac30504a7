//! State: what a stream remembers between epochs, on one small ordered key-value store.
//!
//! [`StateStore`] is the store (RocksDB on disk, a sorted map in tests); [`StateTable`] keeps the keyed state of one
//! operator above it. This room knows nothing of epochs' order, intents or sinks: who calls [`StateStore::write`],
//! and with what besides the state, is the checkpoint's business.

mod codec;
mod damage;
mod event_time;
mod evict;
mod fold;
mod hash;
mod hot;
mod joined;
mod joined_rows;
mod mapped;
mod memory;
mod refill;
mod rocks;
mod scan;
mod table;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use codec::corrupt;
pub use codec::{batch_of, canonical_keys};
pub use damage::Damage;
pub use event_time::times_of;
pub use evict::{Eviction, Expired};
pub use hash::hash64;
pub use hot::Touched;
pub(crate) use hot::bytes_of;
pub use joined::{Ended, Found, JoinChanges, JoinTable, Ranges, RowId, StagedJoin};
pub use joined_rows::JoinRows;
pub use mapped::{copy_mapped, forget_operator, rename_columns};
pub use memory::MemoryStore;
pub use refill::Refilled;
pub use rocks::{DATABASE_BYTES, RocksStore};
pub use scan::StateScan;
pub use table::{Receipt, StagedState, StateSize, StateTable, Stored};

use crate::error::Result;

/// The named key spaces of a store. Keys are ordered as bytes within each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Column {
    /// Single values by name: query id, intent, positions, schemas, counters.
    Meta,
    /// Files that were read: source, 0 byte, path.
    Ledger,
    /// One record per committed epoch, by number.
    Epochs,
    /// Keyed state, a row per key: operator, hash bucket, key.
    Rows,
    /// Changes of keyed state not yet folded into `Rows`, in dense blocks: operator, epoch, sequence.
    Log,
}

impl Column {
    /// Every key space.
    pub const ALL: [Column; 5] = [Column::Meta, Column::Ledger, Column::Epochs, Column::Rows, Column::Log];

    /// Its name on disk.
    pub fn name(self) -> &'static str {
        match self {
            Column::Meta => "meta",
            Column::Ledger => "ledger",
            Column::Epochs => "epochs",
            Column::Rows => "rows",
            Column::Log => "log",
        }
    }
}

/// Writes that take effect together.
#[derive(Debug, Default)]
pub struct Batch {
    writes: Vec<(Column, Vec<u8>, Option<Vec<u8>>)>,
    /// Ranges whose keys go, before anything is written.
    ranges: Vec<(Column, Vec<u8>, Vec<u8>)>,
    bytes: usize,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, column: Column, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.writes.push((column, key, Some(value)));
    }

    /// Removes a key; nothing happens when it is absent.
    pub fn delete(&mut self, column: Column, key: impl Into<Vec<u8>>) {
        let key = key.into();
        self.bytes += key.len();
        self.writes.push((column, key, None));
    }

    /// Removes the keys `from <= key < until`, as if before everything else in this batch.
    pub fn delete_range(&mut self, column: Column, from: Vec<u8>, until: Vec<u8>) {
        if from < until {
            self.bytes += from.len() + until.len();
            self.ranges.push((column, from, until));
        }
    }

    /// Takes the writes of another batch in, behind its own.
    pub fn append(&mut self, other: Batch) {
        self.writes.extend(other.writes);
        self.ranges.extend(other.ranges);
        self.bytes += other.bytes;
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// True when it would change nothing.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.ranges.is_empty()
    }
}

/// Consecutive entries of a key space in one allocation.
#[derive(Debug, Default)]
pub struct Page {
    bytes: Vec<u8>,
    ends: Vec<(usize, usize)>,
}

/// A page is cut once it holds this many bytes, whatever was asked for; it has at least one entry.
const PAGE_BYTES: usize = 1 << 20;

impl Page {
    fn push(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.ends.push((key_end, self.bytes.len()));
    }

    fn is_full(&self, rows: usize) -> bool {
        self.ends.len() >= rows || self.bytes.len() >= PAGE_BYTES
    }

    /// Entries, in the order they were read.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> {
        (0..self.ends.len()).map(|i| self.entry(i))
    }

    fn entry(&self, i: usize) -> (&[u8], &[u8]) {
        let start = if i == 0 { 0 } else { self.ends[i - 1].1 };
        let (key_end, end) = self.ends[i];
        (&self.bytes[start..key_end], &self.bytes[key_end..end])
    }

    /// The last key read; None when nothing was left to read.
    pub fn last_key(&self) -> Option<&[u8]> {
        self.ends.len().checked_sub(1).map(|i| self.entry(i).0)
    }

    /// The smallest key behind everything on this page; None when nothing was left to read.
    pub fn next_key(&self) -> Option<Vec<u8>> {
        self.last_key().map(|key| [key, &[0]].concat())
    }
}

/// Takes a key and its value; None removes it.
pub type Entry<'a> = &'a mut dyn FnMut(&[u8], Option<&[u8]>) -> Result<()>;
/// Gives entries, one by one.
pub type Fill<'a> = &'a mut dyn FnMut(Entry<'_>) -> Result<()>;

/// An ordered key-value store with atomic batches. One writer.
///
/// Implementors promise: a batch is visible and, when `durable`, on disk before `write` returns, entirely or not at
/// all, also across a crash; writes reach the disk in the order they were made.
pub trait StateStore: Send + Sync {
    /// The value of a key.
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Calls `found` with the position and value of each key that exists. `keys` are sorted and distinct.
    fn multi_get(
        &self,
        column: Column,
        keys: &[&[u8]],
        found: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()>;

    /// Whether `prefix` followed by each of `suffixes` exists. `suffixes` are sorted; cheap where they lie close to
    /// existing keys.
    fn contains_sorted(&self, column: Column, prefix: &[u8], suffixes: &[&str]) -> Result<Vec<bool>>;

    /// Up to `rows` entries with `from <= key < until`, ascending.
    fn page(&self, column: Column, from: &[u8], until: &[u8], rows: usize) -> Result<Page>;

    /// Up to `rows` entries with `from <= key < until`, descending from `until`.
    fn page_back(&self, column: Column, from: &[u8], until: &[u8], rows: usize) -> Result<Page>;

    /// Calls `found` with the entries in `ranges`, which ascend and do not overlap: the position of the range, key and
    /// value, ascending, until it says no.
    fn scan_ranges(
        &self,
        column: Column,
        ranges: &[(Vec<u8>, Vec<u8>)],
        found: &mut dyn FnMut(usize, &[u8], &[u8]) -> Result<bool>,
    ) -> Result<()>;

    /// Applies a batch; with `durable`, it and everything before it survives a power cut.
    fn write(&self, batch: Batch, durable: bool) -> Result<()>;

    /// Sets and removes (None) the keys that `fill` gives, ascending and each once: together, with everything written before,
    /// and on disk when this returns. For many keys: they go past the log of writes.
    fn write_sorted(&self, column: Column, fill: Fill<'_>) -> Result<()>;

    /// The keys `from <= key < until` were removed, durably, and none of them comes back: the room they take may be given back
    /// at once.
    fn free(&self, column: Column, from: &[u8], until: &[u8]) -> Result<()>;

    /// What is written goes to where it stays, so that opening the store again has little to do.
    fn settle(&self) -> Result<()>;

    /// Roughly how many bytes the entries in a range take on disk.
    fn bytes_between(&self, column: Column, from: &[u8], until: &[u8]) -> Result<u64>;
}

/// The first key that does not start with `prefix` and is greater.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![u8::MAX; prefix.len() + 1]
}
