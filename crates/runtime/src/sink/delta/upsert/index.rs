//! Where the row of each key is: file number and row number, in keyed state of the sink.
//!
//! State: key = the target's columns that stand for the grouping columns, value = the number of a file and of a row among
//! its rows. Written for the keys whose row an epoch writes, or moves while it merges small files; forgotten when a
//! group has no row any more, and where a watermark ends groups by a column of the target, when it does: those rows stay where
//! they are. Staged with the epoch and committed in its batch, so that the index is never ahead of the
//! operators' state; what a number of a file means is in `files.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array, new_empty_array};
use arrow::compute::{concat, filter, take};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, UInt32Type};
use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::state::{Eviction, StagedState, StateTable, Stored, Touched, canonical_keys, times_of};

/// Numbers of rows by the number of their file.
pub type Places = BTreeMap<u32, RoaringBitmap>;

/// Columns of the index: those of the keys, then file and row.
pub fn schema(keys: &[FieldRef]) -> SchemaRef {
    let places = ["file", "row"].map(|name| Arc::new(Field::new(name, DataType::UInt32, true)));
    Arc::new(Schema::new(keys.iter().cloned().chain(places).collect::<Vec<_>>()))
}

/// The index as one epoch changes it. Each key comes once.
pub struct IndexRun {
    table: Arc<StateTable>,
    schema: SchemaRef,
    keys: usize,
    /// The key column that tells when a key is done with.
    time: Option<usize>,
    run: u32,
    /// Slots of all keys met.
    touched: Vec<u32>,
    scratch: Touched,
    /// Keys with a new place: their columns in pieces, slots, places.
    placed: Vec<Vec<ArrayRef>>,
    slots: Vec<u32>,
    files: Vec<u32>,
    rows: Vec<u32>,
    /// Which of them had a place before.
    known: Vec<bool>,
    /// Keys without a place from now on.
    removed: Vec<Vec<ArrayRef>>,
    removed_slots: Vec<u32>,
}

impl IndexRun {
    /// Of an index with columns like `schema(keys)`, bound with the same `time`.
    pub fn begin(table: Arc<StateTable>, schema: SchemaRef, time: Option<usize>) -> Result<IndexRun> {
        Ok(IndexRun {
            run: table.begin_run()?,
            table,
            keys: schema.fields().len() - 2,
            schema,
            time,
            touched: Vec::new(),
            scratch: Touched::default(),
            placed: Vec::new(),
            slots: Vec::new(),
            files: Vec::new(),
            rows: Vec::new(),
            known: Vec::new(),
            removed: Vec::new(),
            removed_slots: Vec::new(),
        })
    }

    /// Keys that got a place so far.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Adds the places that `rows` keys have had to `left`, which they leave now.
    pub fn leave(&mut self, keys: &[ArrayRef], rows: usize, left: &mut Places) -> Result<()> {
        let keys = canonical_keys(keys);
        let before = self.meet(&keys, rows)?;
        if self.scratch.fresh.len() != rows {
            return Err(Error::internal("an epoch gave two rows of one key to a table that has one of each"));
        }
        let stored = self.table.stored(&self.touched[before..], &keys)?;
        let from = self.known.len();
        self.known.resize(from + rows, false);
        stored.positions.iter().for_each(|at| self.known[from + *at as usize] = true);
        note(&stored, left);
        Ok(())
    }

    /// Gives the keys met last their new places.
    pub fn place(&mut self, keys: &[ArrayRef], files: &[u32], rows: &[u32]) {
        self.slots.extend_from_slice(&self.touched[self.touched.len() - rows.len()..]);
        self.placed.push(canonical_keys(keys));
        self.files.extend_from_slice(files);
        self.rows.extend_from_slice(rows);
    }

    /// Gives keys that no row of the epoch has other places; those that are done with have none.
    pub fn move_to(&mut self, keys: &[ArrayRef], files: &[u32], rows: &[u32]) -> Result<()> {
        let keys = canonical_keys(keys);
        let before = self.meet(&keys, rows.len())?;
        if self.scratch.fresh.len() != rows.len() {
            return Err(Error::internal("a row that was written again is in the table twice"));
        }
        if self.time.is_none() {
            self.known.resize(self.known.len() + rows.len(), true);
            self.place(&keys, files, rows);
            return Ok(());
        }
        let mut kept = self.table.stored(&self.touched[before..], &keys)?.positions;
        kept.sort_unstable();
        self.known.resize(self.known.len() + kept.len(), true);
        self.slots.extend(kept.iter().map(|at| self.touched[before + *at as usize]));
        self.files.extend(kept.iter().map(|at| files[*at as usize]));
        self.rows.extend(kept.iter().map(|at| rows[*at as usize]));
        self.placed.push(taken(&keys, &UInt32Array::from(kept))?);
        Ok(())
    }

    /// Forgets those of the keys that were not met, and adds the places they had to `left`. How many had one.
    pub fn forget_others(&mut self, keys: &[ArrayRef], rows: usize, left: &mut Places) -> Result<u64> {
        let keys = canonical_keys(keys);
        let before = self.meet(&keys, rows)?;
        let others = taken(&keys, &UInt32Array::from(self.scratch.fresh.clone()))?;
        let stored = self.table.stored(&self.touched[before..], &others)?;
        note(&stored, left);
        self.removed_slots.extend(stored.positions.iter().map(|at| self.touched[before + *at as usize]));
        let known = stored.positions.len() as u64;
        self.removed.push(taken(&others, &UInt32Array::from(stored.positions))?);
        Ok(known)
    }

    fn meet(&mut self, keys: &[ArrayRef], rows: usize) -> Result<usize> {
        let before = self.touched.len();
        self.table.touch(self.run, keys, rows, &mut self.touched, &mut self.scratch)?;
        Ok(before)
    }

    /// What is to be committed; None where nothing changed. Keys up to the instant `until_us` are done with.
    pub fn stage(self, epoch: u64, until_us: Option<i64>) -> Result<Option<StagedState>> {
        let mut columns = self.joined(&self.placed)?;
        columns.push(Arc::new(UInt32Array::from(self.files.clone())));
        columns.push(Arc::new(UInt32Array::from(self.rows.clone())));
        let mut stays = vec![true; self.slots.len()];
        let mut eviction = None;
        if let (Some(time), Some(until_us)) = (self.time, until_us) {
            for (stays, time) in stays.iter_mut().zip(times_of(&columns[time])?.iter()) {
                *stays = time.is_none_or(|time| time > until_us);
            }
            let met = stays.iter().zip(&self.known).filter(|(stays, known)| !**stays && **known).count() as u64;
            let rows = self.table.expired(until_us, Some(self.run), false)?.rows + met;
            eviction = (rows > 0).then_some(Eviction { until_us, rows });
            let mask = BooleanArray::from(stays.clone());
            columns = columns.iter().map(|column| filter(column, &mask)).collect::<Result<_, _>>()?;
        }
        let mut row = stays.iter();
        let mut slots = self.slots.clone();
        slots.retain(|_| row.next().copied().unwrap_or(true));
        if slots.is_empty() && self.removed_slots.is_empty() && eviction.is_none() {
            return Ok(None);
        }
        let new = stays.iter().zip(&self.known).filter(|(stays, known)| **stays && !**known).count() as u64;
        let removed = match self.removed_slots.is_empty() {
            true => None,
            false => Some((self.joined(&self.removed)?, self.removed_slots.clone())),
        };
        let staged = self.table.stage(epoch, columns, slots, new, removed)?;
        Ok(Some(match eviction {
            Some(eviction) => staged.evicting(eviction),
            None => staged,
        }))
    }

    fn joined(&self, pieces: &[Vec<ArrayRef>]) -> Result<Vec<ArrayRef>> {
        let column = |at: usize| -> Result<ArrayRef> {
            let parts: Vec<&dyn Array> = pieces.iter().map(|piece| piece[at].as_ref()).collect();
            match parts.is_empty() {
                true => Ok(new_empty_array(self.schema.field(at).data_type())),
                false => Ok(concat(&parts)?),
            }
        };
        (0..self.keys).map(column).collect()
    }

    /// What a former run staged, staged again: `rows` with their places, `removed` keys, those up to `until_us` done with.
    pub fn again(
        mut self,
        epoch: u64,
        rows: Option<&RecordBatch>,
        removed: Option<&RecordBatch>,
        until_us: Option<i64>,
    ) -> Result<Option<StagedState>> {
        if let Some(rows) = rows {
            let keys = &rows.columns()[..self.keys];
            let numbers = |at: usize| rows.column(at).as_primitive::<UInt32Type>().values().to_vec();
            self.leave(keys, rows.num_rows(), &mut Places::new())?;
            self.place(keys, &numbers(self.keys), &numbers(self.keys + 1));
        }
        if let Some(removed) = removed {
            self.forget_others(removed.columns(), removed.num_rows(), &mut Places::new())?;
        }
        self.stage(epoch, until_us)
    }
}

fn taken(columns: &[ArrayRef], rows: &UInt32Array) -> Result<Vec<ArrayRef>> {
    Ok(columns.iter().map(|column| take(column, rows, None)).collect::<Result<_, _>>()?)
}

fn note(stored: &Stored, left: &mut Places) {
    let [files, rows] = stored.columns.as_slice() else { return };
    let (files, rows) = (files.as_primitive::<UInt32Type>(), rows.as_primitive::<UInt32Type>());
    for (file, row) in files.values().iter().zip(rows.values()) {
        left.entry(*file).or_default().insert(*row);
    }
}
