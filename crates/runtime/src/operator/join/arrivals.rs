//! The rows that an epoch brings to one side of a join, by join key and time.
//!
//! Keys are numbered for both sides together, so that what matches is found without comparing bytes again.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow::buffer::NullBuffer;
use arrow::compute::interleave_record_batch;
use arrow_row::{RowConverter, Rows};
use datafusion::common::Result as DfResult;

/// The number of a row that matches nothing: its key or its time is NULL.
pub(super) const NO_KEY: u32 = u32::MAX;

/// Different join keys of both sides, numbered.
#[derive(Default)]
pub(super) struct Keys {
    numbers: HashMap<Arc<[u8]>, u32>,
    list: Vec<Arc<[u8]>>,
    bytes: usize,
}

impl Keys {
    /// The key with this number.
    pub fn get(&self, number: u32) -> &[u8] {
        &self.list[number as usize]
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Memory they take, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes + self.list.len() * 2 * (size_of::<Arc<[u8]>>() + 16)
    }

    fn number(&mut self, key: &[u8]) -> u32 {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        let (number, key) = (self.list.len() as u32, Arc::<[u8]>::from(key));
        self.bytes += key.len();
        self.numbers.insert(key.clone(), number);
        self.list.push(key);
        number
    }
}

/// The rows of one side.
#[derive(Default)]
pub(super) struct Arrivals {
    batches: Vec<RecordBatch>,
    encoded: Vec<Rows>,
    /// Batch and row of each row.
    places: Vec<(usize, usize)>,
    /// Number of each row's key.
    keys: Vec<u32>,
    /// Time of each row in microseconds.
    times: Vec<Option<i64>>,
    /// Whether each row has matched.
    pub matched: Vec<bool>,
    /// Rows in the order of key and time, and where each key's begin.
    order: Vec<u32>,
    starts: Vec<u32>,
    bytes: usize,
}

impl Arrivals {
    /// Takes a batch in. `on`: its key columns; `times`: of a side that has times.
    pub fn push(
        &mut self,
        batch: RecordBatch,
        on: &[ArrayRef],
        times: Option<&TimestampMicrosecondArray>,
        converter: &RowConverter,
        keys: &mut Keys,
    ) -> DfResult<()> {
        let encoded = converter.convert_columns(on)?;
        let nulls = on.iter().fold(None, |nulls: Option<NullBuffer>, column| {
            NullBuffer::union(nulls.as_ref(), column.logical_nulls().as_ref())
        });
        for row in 0..batch.num_rows() {
            let time = times.and_then(|times| times.is_valid(row).then(|| times.value(row)));
            let without = nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) || times.is_some() && time.is_none();
            self.keys.push(if without { NO_KEY } else { keys.number(encoded.row(row).data()) });
            self.times.push(time);
            self.places.push((self.batches.len(), row));
        }
        self.bytes += batch.get_array_memory_size() + encoded.size() + batch.num_rows() * 48;
        self.batches.push(batch);
        self.encoded.push(encoded);
        Ok(())
    }

    /// Puts the rows in the order of `keys` numbers and their times; everything below needs it.
    pub fn sort(&mut self, keys: usize) {
        self.matched = vec![false; self.places.len()];
        self.order = (0..self.places.len() as u32).filter(|row| self.keys[*row as usize] != NO_KEY).collect();
        let (keys_of, times) = (&self.keys, &self.times);
        self.order.sort_unstable_by_key(|row| (keys_of[*row as usize], times[*row as usize], *row));
        self.starts = vec![0; keys + 1];
        for row in &self.order {
            self.starts[self.keys[*row as usize] as usize + 1] += 1;
        }
        for key in 0..keys {
            self.starts[key + 1] += self.starts[key];
        }
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Memory they take, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The rows of a key, oldest first.
    pub fn of_key(&self, key: u32) -> &[u32] {
        let key = key as usize;
        &self.order[self.starts[key] as usize..self.starts[key + 1] as usize]
    }

    /// The numbers of keys that have rows.
    pub fn present(&self) -> impl Iterator<Item = u32> {
        (0..self.starts.len().saturating_sub(1) as u32).filter(|key| !self.of_key(*key).is_empty())
    }

    pub fn key(&self, row: u32) -> u32 {
        self.keys[row as usize]
    }

    pub fn time(&self, row: u32) -> Option<i64> {
        self.times[row as usize]
    }

    /// These rows.
    pub fn take(&self, rows: &[u32]) -> DfResult<RecordBatch> {
        let places: Vec<(usize, usize)> = rows.iter().map(|row| self.places[*row as usize]).collect();
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        Ok(interleave_record_batch(&batches, &places)?)
    }

    pub fn batches(&self) -> usize {
        self.batches.len()
    }

    /// A batch, its encoded keys, and the number of its first row.
    pub fn batch(&self, at: usize) -> (&RecordBatch, &Rows, u32) {
        let before: usize = self.batches[..at].iter().map(RecordBatch::num_rows).sum();
        (&self.batches[at], &self.encoded[at], before as u32)
    }
}
