//! Filling a table anew with rows that do not come from an epoch, however many: they go straight to the store.
//!
//! A crash half-way leaves a part; who calls this keeps in mind, durably, that it was not done.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::Schema;
use arrow::util::display::array_value_to_string;

use super::codec::{self, RowCodec, STATE_FORMAT, STATE_FORMAT_TIMED, canonical_keys};
use super::table::{StateTable, pinned};
use super::{Batch, Column};
use crate::error::Result;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refilled {
    /// So many rows are kept.
    Rows(u64),
    /// A key came twice; this one.
    Twice(String),
}

impl StateTable {
    /// Forgets everything and keeps the rows of `batches`: keys first, then state columns, as `schema` says, and the column
    /// of a row's time as for [`Self::bind_timed`]. Nothing may be staged meanwhile.
    pub fn refill(
        &self,
        schema: &Schema,
        keys: usize,
        time: Option<usize>,
        batches: impl Iterator<Item = Result<RecordBatch>>,
    ) -> Result<Refilled> {
        let schema = pinned(schema, keys, time);
        let codec = RowCodec::new(self.operator, schema.clone(), keys, time)?;
        let (from, until) = codec::operator_range(self.operator);
        let mut first = Batch::default();
        first.delete_range(Column::Rows, from.clone(), until.clone());
        first.delete_range(Column::Log, from, until);
        first.put(Column::Meta, self.meta_key("schema"), codec::encode_schema(&schema)?);
        first.put(
            Column::Meta,
            self.meta_key("format"),
            if time.is_some() { STATE_FORMAT_TIMED } else { STATE_FORMAT },
        );
        first.put(Column::Meta, self.meta_key("cold"), "1");
        first.put(Column::Meta, self.meta_key("rows"), "0");
        self.store.write(first, true)?;
        let mut kept = 0;
        let mut twice = None;
        for rows in batches {
            let rows = rows?;
            let row_keys = codec.keys(&canonical_keys(&rows.columns()[..keys]), rows.num_rows())?;
            let values = codec.values(&rows.columns()[keys..], rows.num_rows())?;
            let order = row_keys.sorted();
            let sorted: Vec<&[u8]> = order.iter().map(|at| row_keys.get(*at as usize)).collect();
            twice =
                (1..sorted.len()).find(|at| sorted[at - 1] == sorted[*at]).map(|at| described(&rows, keys, order[at]));
            if twice.is_none() {
                self.store.multi_get(Column::Rows, &sorted, &mut |i, _| {
                    twice.get_or_insert_with(|| described(&rows, keys, order[i]));
                    Ok(())
                })?;
            }
            if twice.is_some() {
                break;
            }
            let mut batch = Batch::default();
            for at in &order {
                batch.put(Column::Rows, row_keys.get(*at as usize), values.get(*at as usize));
            }
            kept += rows.num_rows() as u64;
            self.store.write(batch, false)?;
        }
        let mut last = Batch::default();
        last.put(Column::Meta, self.meta_key("rows"), kept.to_string());
        self.store.write(last, true)?;
        self.load(schema)?;
        Ok(twice.map_or(Refilled::Rows(kept), Refilled::Twice))
    }
}

/// A key as its columns' values.
fn described(rows: &RecordBatch, keys: usize, row: u32) -> String {
    let columns = rows.schema_ref().fields().iter().zip(rows.columns()).take(keys);
    let value = |column: &ArrayRef| match column.is_null(row as usize) {
        true => "NULL".to_string(),
        false => array_value_to_string(column, row as usize).unwrap_or_default(),
    };
    let parts: Vec<String> = columns.map(|(field, column)| format!("{} = {}", field.name(), value(column))).collect();
    format!("({})", parts.join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array, UInt32Array};
    use arrow::datatypes::UInt32Type;

    use super::super::{MemoryStore, Touched};
    use super::*;

    fn rows(keys: &[i64]) -> RecordBatch {
        let places: UInt32Array = keys.iter().map(|key| *key as u32 * 10).collect();
        RecordBatch::try_from_iter_with_nullable([
            ("k", Arc::new(Int64Array::from(keys.to_vec())) as ArrayRef, true),
            ("place", Arc::new(places) as ArrayRef, true),
        ])
        .unwrap()
    }

    #[test]
    fn what_was_kept_goes_and_keys_are_kept_once() {
        let table = StateTable::open(Arc::new(MemoryStore::default()), 7, 1 << 20).unwrap();
        let first = rows(&[1, 2]);
        assert_eq!(table.refill(&first.schema(), 1, None, [Ok(first.clone())].into_iter()).unwrap(), Refilled::Rows(2));
        let other = [Ok(rows(&[5, 3])), Ok(rows(&[4]))];
        assert_eq!(table.refill(&first.schema(), 1, None, other.into_iter()).unwrap(), Refilled::Rows(3));
        assert_eq!(table.size().unwrap().rows, 3);
        let keys = rows(&[1, 3, 4]).columns()[..1].to_vec();
        let (run, mut touched) = (table.begin_run().unwrap(), Vec::new());
        table.touch(run, &keys, 3, &mut touched, &mut Touched::default()).unwrap();
        let stored = table.stored(&touched, &keys).unwrap();
        let mut found: Vec<_> =
            stored.positions.iter().zip(stored.columns[0].as_primitive::<UInt32Type>().values()).collect();
        found.sort();
        assert_eq!(found, [(&1, &30), (&2, &40)]);
        let twice = [Ok(rows(&[1])), Ok(rows(&[2, 1]))];
        let refilled = table.refill(&first.schema(), 1, None, twice.into_iter()).unwrap();
        assert_eq!(refilled, Refilled::Twice("(k = 1)".into()));
    }
}
