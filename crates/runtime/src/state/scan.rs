//! Reading all rows of an operator's state, also when they do not fit in memory.
//!
//! Staged rows come first, then hot rows, then rows of the store that neither hides. The store is read in pages and in
//! key order, and so is the list of keys that hide its rows: one step along both.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;

use super::codec::{self, RowBytes, RowCodec};
use super::event_time::times_of;
use super::table::{Inner, StagedState, StateTable};
use super::{Column, Damage, StateStore};
use crate::error::Result;

/// Rows per batch.
const BATCH_ROWS: usize = 8192;

/// Batches of key and state columns; see [`StateTable::scan`].
pub struct StateScan {
    /// Rows in memory, with which of them are shown.
    hot: VecDeque<(RecordBatch, Option<BooleanArray>)>,
    at: usize,
    cold: Option<Cold>,
}

struct Cold {
    store: Arc<dyn StateStore>,
    codec: RowCodec,
    schema: SchemaRef,
    from: Vec<u8>,
    until: Vec<u8>,
    hidden: RowBytes,
    order: Vec<u32>,
    next_hidden: usize,
    /// The column that tells a row's time.
    time: Option<usize>,
    /// Rows whose time is at or before this are gone, though the store still has them.
    floor: Option<i64>,
    damage: Option<Arc<Damage>>,
}

impl StateScan {
    pub(super) fn new(table: &StateTable, inner: &Inner, staged: Option<&StagedState>) -> Result<StateScan> {
        let Some(bound) = &inner.bound else {
            return Ok(StateScan { hot: VecDeque::new(), at: 0, cold: None });
        };
        let changed = match staged {
            Some(staged) => staged.changed_slots(inner.generation)?,
            None => Vec::new(),
        };
        let mut hot: VecDeque<_> = bound.hot.pieces(&changed).into();
        if let Some(staged) = staged {
            hot.push_front((staged.rows().clone(), None));
        }
        let cold = if inner.partial {
            let codec = RowCodec::new(table.operator, bound.schema.clone(), bound.keys, bound.time)?;
            let mut hidden = RowBytes::default();
            let mut hide = |rows: &RecordBatch| -> Result<()> {
                hidden.append(&codec.keys(&rows.columns()[..bound.keys], rows.num_rows())?);
                Ok(())
            };
            for (rows, mask) in &hot {
                match mask {
                    Some(mask) => hide(&filter_record_batch(rows, mask)?)?,
                    None => hide(rows)?,
                }
            }
            for keys in bound.hot.removed_keys() {
                hide(&keys?)?;
            }
            if let Some(keys) = staged.and_then(StagedState::removed) {
                hide(keys)?;
            }
            let (from, until) = codec::operator_range(table.operator);
            let order = hidden.sorted();
            Some(Cold {
                store: table.store.clone(),
                codec,
                schema: bound.schema.clone(),
                from,
                until,
                hidden,
                order,
                next_hidden: 0,
                time: bound.time,
                floor: inner.floor,
                damage: table.damage.clone(),
            })
        } else {
            None
        };
        Ok(StateScan { hot, at: 0, cold })
    }

    /// Just these rows.
    pub fn of(rows: Vec<RecordBatch>) -> StateScan {
        StateScan { hot: rows.into_iter().map(|rows| (rows, None)).collect(), at: 0, cold: None }
    }

    /// The next rows; None at the end.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        while let Some((rows, mask)) = self.hot.front() {
            let length = BATCH_ROWS.min(rows.num_rows() - self.at);
            if length == 0 {
                self.hot.pop_front();
                self.at = 0;
                continue;
            }
            let part = rows.slice(self.at, length);
            let part = match mask {
                Some(mask) => filter_record_batch(&part, &mask.slice(self.at, length))?,
                None => part,
            };
            self.at += length;
            if part.num_rows() > 0 {
                return Ok(Some(part));
            }
        }
        match &mut self.cold {
            Some(cold) => cold.next_batch(),
            None => Ok(None),
        }
    }
}

impl Iterator for StateScan {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_batch().transpose()
    }
}

impl Cold {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let page = self.store.page(Column::Rows, &self.from, &self.until, BATCH_ROWS)?;
            let Some(next) = page.next_key() else { return Ok(None) };
            let mut rows: Vec<(&[u8], &[u8])> = Vec::new();
            for (key, value) in page.iter() {
                while self.hidden_key().is_some_and(|hidden| hidden < key) {
                    self.next_hidden += 1;
                }
                if self.hidden_key() != Some(key) {
                    rows.push((key, value));
                }
            }
            if let Some(damage) = &self.damage {
                self.codec.retain_whole(&mut rows, damage);
            }
            self.from = next;
            if !rows.is_empty() {
                let mut columns = self.codec.decode_keys(rows.iter().map(|(key, _)| *key))?;
                columns.extend(self.codec.decode_values(&rows)?);
                let rows = self.alive(codec::batch_of(self.schema.clone(), columns, rows.len())?)?;
                if rows.num_rows() > 0 {
                    return Ok(Some(rows));
                }
            }
        }
    }

    /// Without rows that were evicted.
    fn alive(&self, rows: RecordBatch) -> Result<RecordBatch> {
        let (Some(time), Some(floor)) = (self.time, self.floor) else { return Ok(rows) };
        let times = times_of(rows.column(time))?;
        let alive: BooleanArray = times.iter().map(|time| Some(time.is_none_or(|time| time > floor))).collect();
        Ok(filter_record_batch(&rows, &alive)?)
    }

    fn hidden_key(&self) -> Option<&[u8]> {
        self.order.get(self.next_hidden).map(|at| self.hidden.get(*at as usize))
    }
}
