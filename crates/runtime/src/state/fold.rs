//! Keeping the log short and the hot table within its budget.
//!
//! While every row is hot and they are few, a snapshot of the table replaces the log. Rows that are many, or do not fit,
//! are folded: those that changed are written to `Rows`, one entry per key, as sorted files unless they are few, after
//! which the log is dropped and so may hot rows be. Both write committed state only, and end with one synced batch that
//! drops the old log. A crash before that batch leaves the old log, which says the same as the new writes or something
//! newer; so they need no mark of completeness. A stream that stops folds what its log has, unless it is little to read:
//! the next start has nothing to replay.

use super::codec::{self, BlockKind, RowBytes, block_key, encode_block, parse_block_key};
use super::table::{Bound, Inner, StateTable};
use super::{Batch, Column, Entry};
use crate::error::Result;

/// The log may grow to this, or to twice the hot rows, before it is replaced. It bounds what a start has to read of a stream
/// that did not stop by itself.
pub(super) const LOG_BYTES_MIN: usize = 24 << 20;
/// Hot rows up to this are written whole in the place of the log.
const SNAPSHOT_BYTES_MAX: usize = 32 << 20;
/// A log up to this is left to the next start, which reads it in some milliseconds.
const LOG_BYTES_LEFT: usize = 2 << 20;
/// Fewer are not worth a file of their own.
const FEW_ROWS: usize = 4096;
/// Rows that are encoded together while folding.
const ROWS_AT_ONCE: usize = 8192;

impl StateTable {
    /// Makes room for `incoming` bytes of rows, and shortens the log when it is due.
    pub(super) fn make_room(&self, inner: &mut Inner, incoming: usize) -> Result<()> {
        self.keep_to_budget(inner, incoming)?;
        let Some(bound) = &inner.bound else { return Ok(()) };
        let hot = bound.hot.bytes();
        if inner.log_bytes > self.log_bytes_min.max(2 * hot) {
            if inner.cold || hot > SNAPSHOT_BYTES_MAX { self.fold(inner) } else { self.snapshot(inner) }
        } else if bound.hot.is_sparse() && !bound.hot.has_removed() {
            let live = bound.hot.live();
            self.rebuild(inner, live)
        } else {
            Ok(())
        }
    }

    /// Folds and drops the rows changed longest ago, when `incoming` bytes more would not fit.
    pub(super) fn keep_to_budget(&self, inner: &mut Inner, incoming: usize) -> Result<()> {
        let Some(bound) = &inner.bound else { return Ok(()) };
        let (bytes, live) = (bound.hot.bytes(), bound.hot.live());
        if live == 0 || bytes + incoming <= self.budget {
            return Ok(());
        }
        self.fold(inner)?;
        // Half the budget stays for what comes next, so that not every epoch folds.
        let room = (self.budget / 2).min(self.budget.saturating_sub(incoming));
        let keep = (room as f64 / bytes as f64 * live as f64) as usize;
        self.rebuild(inner, keep.min(live))
    }

    fn rebuild(&self, inner: &mut Inner, keep: usize) -> Result<()> {
        let bound = inner.bound_mut()?;
        let drops = keep < bound.hot.live();
        bound.hot = bound.hot.newest(keep)?;
        inner.partial |= drops;
        inner.generation += 1;
        Ok(())
    }

    /// Leaves little to be replayed by the next start.
    pub fn settle(&self) -> Result<()> {
        self.settle_above(SNAPSHOT_BYTES_MAX)
    }

    /// [`Self::settle`], where hot rows of so many bytes are little to read.
    pub(super) fn settle_above(&self, hot_bytes: usize) -> Result<()> {
        let mut inner = self.lock()?;
        let Some(bound) = &inner.bound else { return Ok(()) };
        let many = inner.cold || bound.hot.bytes() > hot_bytes;
        if many && inner.log_bytes > LOG_BYTES_LEFT.min(self.log_bytes_min) {
            self.fold(&mut inner)?;
        }
        Ok(())
    }

    /// Moves everything in the log to `Rows`; afterwards any hot row may be dropped.
    fn fold(&self, inner: &mut Inner) -> Result<()> {
        if !inner.cold {
            // Before the first row: from here on removed keys must be remembered, even if this fold fails half-way.
            let mut first = Batch::default();
            first.put(Column::Meta, self.meta_key("cold"), "1");
            self.store.write(first, true)?;
            inner.cold = true;
        }
        let bound = inner.bound()?;
        let moved = Moved::of(bound)?;
        if moved.len() < FEW_ROWS.min(self.log_bytes_min) {
            let mut batch = Batch::default();
            moved.give(bound, &mut |key, value| {
                match value {
                    Some(value) => batch.put(Column::Rows, key, value),
                    None => batch.delete(Column::Rows, key),
                }
                Ok(())
            })?;
            self.store.write(batch, false)?;
        } else {
            self.store.write_sorted(Column::Rows, &mut |entry| moved.give(bound, entry))?;
        }
        let mut last = Batch::default();
        let evicted = self.fold_evicted(inner, &mut last)?;
        for key in &inner.log {
            last.delete(Column::Log, key.as_slice());
        }
        self.store.write(last, true)?;
        if let Some((from, until)) = evicted {
            self.store.free(Column::Rows, &from, &until)?;
        }
        inner.log.clear();
        inner.log_bytes = 0;
        // Rows that were moved may be older than those that were there.
        inner.cold_oldest = None;
        inner.bound_mut()?.hot.clean();
        Ok(())
    }

    /// Replaces the log by its result. Only while nothing is cold: a snapshot does not say what was removed.
    fn snapshot(&self, inner: &mut Inner) -> Result<()> {
        let bound = inner.bound()?;
        let newest = inner.log.last().and_then(|key| parse_block_key(key)).unwrap_or((0, 0));
        let (epoch, mut sequence) = newest;
        let mut blocks = Vec::new();
        for (rows, mask) in bound.hot.pieces(&[]) {
            let rows = match mask {
                Some(mask) => arrow::compute::filter_record_batch(&rows, &mask)?,
                None => rows,
            };
            for piece in codec::pieces_of(&rows) {
                // Behind every block of the newest epoch: replaying an unfinished snapshot changes nothing.
                sequence += 1;
                let key = block_key(self.operator, epoch, sequence);
                let mut batch = Batch::default();
                batch.put(Column::Log, key.as_slice(), encode_block(BlockKind::Set, &piece)?);
                self.store.write(batch, false)?;
                blocks.push(key);
            }
        }
        let mut last = Batch::default();
        for key in &inner.log {
            last.delete(Column::Log, key.as_slice());
        }
        self.store.write(last, true)?;
        inner.log = blocks;
        inner.log_bytes = 0;
        Ok(())
    }
}

/// What goes to the store: rows it has not or no longer, in the order of their keys as far as it is known yet.
struct Moved {
    /// Beginnings of keys, and the places of their rows.
    rows: Vec<(u64, (u32, u32))>,
    removed: RowBytes,
    removed_order: Vec<u32>,
}

impl Moved {
    /// Of the hot rows.
    fn of(bound: &Bound) -> Result<Moved> {
        let mut rows = Vec::new();
        let places = bound.hot.dirty();
        for part in places.chunks(ROWS_AT_ONCE) {
            let places: Vec<(usize, usize)> =
                part.iter().map(|(chunk, row)| (*chunk as usize, *row as usize)).collect();
            let keys = bound.codec.keys(&bound.hot.columns_at(0..bound.keys, &places)?, places.len())?;
            rows.extend(part.iter().enumerate().map(|(at, place)| (keys.beginning(at), *place)));
        }
        rows.sort_unstable();
        let mut removed = RowBytes::default();
        for keys in bound.hot.removed_keys() {
            let keys = keys?;
            removed.append(&bound.codec.keys(keys.columns(), keys.num_rows())?);
        }
        // A key that came back in between was removed twice.
        let mut removed_order = removed.sorted();
        removed_order.dedup_by(|a, b| removed.get(*a as usize) == removed.get(*b as usize));
        Ok(Moved { rows, removed, removed_order })
    }

    fn len(&self) -> usize {
        self.rows.len() + self.removed_order.len()
    }

    /// All of it, in the order of the keys.
    fn give(&self, bound: &Bound, entry: Entry<'_>) -> Result<()> {
        let mut gone = self.removed_order.iter().map(|at| self.removed.get(*at as usize)).peekable();
        let mut from = 0;
        while from < self.rows.len() {
            let mut until = (from + ROWS_AT_ONCE).min(self.rows.len());
            // Keys that begin alike are ordered together.
            while until < self.rows.len() && self.rows[until].0 == self.rows[until - 1].0 {
                until += 1;
            }
            let places: Vec<(usize, usize)> =
                (self.rows[from..until].iter()).map(|(_, (chunk, row))| (*chunk as usize, *row as usize)).collect();
            let columns = bound.hot.columns_at(0..bound.schema.fields().len(), &places)?;
            let keys = bound.codec.keys(&columns[..bound.keys], places.len())?;
            let values = bound.codec.values(&columns[bound.keys..], places.len())?;
            for row in keys.sorted() {
                let key = keys.get(row as usize);
                while let Some(gone) = gone.next_if(|gone| *gone < key) {
                    entry(gone, None)?;
                }
                entry(key, Some(values.get(row as usize)))?;
            }
            from = until;
        }
        gone.try_for_each(|gone| entry(gone, None))
    }
}
