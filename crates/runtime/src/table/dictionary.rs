//! Which columns of a data file are worth a dictionary.
//!
//! Where hardly any value comes twice, a dictionary is a copy of the column with a number for each row beside it, and
//! looking every value up in it is most of what writing the file costs. Parquet's writer gives a dictionary up only once
//! it is larger than its page may be, which such columns of small files never reach. So some rows are looked at before
//! the first is written. Knows nothing of Parquet's encodings: a column that is judged wrongly makes a larger file.

use arrow::array::{Array, RecordBatch};
use arrow::compute::interleave;
use datafusion::common::hash_utils::{RandomState, create_hashes};

use crate::error::Result;

/// So many rows are looked at. Files of fewer than twice as many keep their dictionaries: little is to be won there.
const SAMPLE: usize = 2048;

/// Values of a sample that may be there before: one in this many. With two thousand values drawn by chance that means that
/// there are two hundred thousand of them, for which a dictionary would have no room anyway.
const REPEATED: usize = 200;

/// The columns, by position, of a file that begins with these rows, whose values hardly repeat.
pub fn columns_without(rows: &[RecordBatch]) -> Result<Vec<usize>> {
    let total: usize = rows.iter().map(RecordBatch::num_rows).sum();
    let Some(first) = rows.first().filter(|_| total >= 2 * SAMPLE) else { return Ok(Vec::new()) };
    let places = sample(rows, total);
    let mut found = Vec::new();
    for (at, field) in first.schema_ref().fields().iter().enumerate() {
        if field.data_type().is_nested() {
            continue;
        }
        let parts: Vec<&dyn Array> = rows.iter().map(|batch| batch.column(at).as_ref()).collect();
        let values = interleave(&parts, &places)?;
        let known = values.len() - values.logical_null_count();
        if known >= SAMPLE / 2 && distinct(values.as_ref())? + known / REPEATED >= known {
            found.push(at);
        }
    }
    Ok(found)
}

/// Batch and row of the rows that are looked at: one out of each of as many stretches of the same length, anywhere in it,
/// since values that come in turns would not be seen to repeat in regular steps.
fn sample(rows: &[RecordBatch], total: usize) -> Vec<(usize, usize)> {
    let stretch = total / SAMPLE;
    let (mut batch, mut before) = (0, 0);
    (0..SAMPLE)
        .map(|at| {
            // The golden ratio spreads numbers evenly and in no order; the high bits do.
            let anywhere = ((at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % stretch;
            let row = at * stretch + anywhere;
            while rows.get(batch).is_some_and(|rows| row >= before + rows.num_rows()) {
                before += rows[batch].num_rows();
                batch += 1;
            }
            (batch, row - before)
        })
        .collect()
}

/// How many different values there are, without NULL.
fn distinct(values: &dyn Array) -> Result<usize> {
    let mut hashes = vec![0; values.len()];
    create_hashes([values], &RandomState::default(), &mut hashes)?;
    if let Some(nulls) = values.logical_nulls() {
        let mut known = nulls.iter();
        hashes.retain(|_| known.next().unwrap_or(true));
    }
    hashes.sort_unstable();
    hashes.dedup();
    Ok(hashes.len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};

    use super::*;

    fn batches(columns: [&dyn Fn(u64) -> Option<u64>; 3]) -> Vec<RecordBatch> {
        (0..4)
            .map(|part| {
                let of = |column: usize| (part * 8192..(part + 1) * 8192).map(move |row| columns[column](row));
                let texts: StringArray = of(0).map(|value| value.map(|value| format!("device-{value}"))).collect();
                let numbers: Int64Array = of(1).map(|value| value.map(|value| value as i64)).collect();
                let floats: Float64Array = of(2).map(|value| value.map(|value| value as f64 / 100.0)).collect();
                let columns: [(&str, ArrayRef); 3] =
                    [("a", Arc::new(texts)), ("b", Arc::new(numbers)), ("c", Arc::new(floats))];
                RecordBatch::try_from_iter(columns).unwrap()
            })
            .collect()
    }

    fn scattered(row: u64) -> u64 {
        row.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20
    }

    #[test]
    fn values_that_hardly_repeat_have_none() {
        let found = |columns| columns_without(&batches(columns)).unwrap();
        assert_eq!(found([&Some, &|row| Some(scattered(row)), &|row| Some(scattered(row))]), [0, 1, 2]);
        // NULL is no value.
        assert_eq!(found([&|row| (row % 3 > 0).then_some(row), &|_| None, &|row| Some(row % 7)]), [0]);
        // Few values, in any order: by turns, one after the other, by chance.
        assert!(found([&|row| Some(row % 3000), &|row| Some(row / 10), &|row| Some(scattered(row) % 5000)]).is_empty());
    }

    #[test]
    fn of_few_rows_nothing_is_said() {
        let few: Vec<RecordBatch> = batches([&Some, &Some, &Some]).iter().map(|batch| batch.slice(0, 900)).collect();
        assert!(columns_without(&few).unwrap().is_empty() && columns_without(&[]).unwrap().is_empty());
    }

    #[test]
    fn every_stretch_gives_one_row() {
        let rows: Vec<RecordBatch> = batches([&Some, &Some, &Some]).iter().map(|batch| batch.slice(0, 4099)).collect();
        let places = sample(&rows, 4 * 4099);
        let at: Vec<usize> = places.iter().map(|(batch, row)| batch * 4099 + row).collect();
        assert!(at.iter().enumerate().all(|(i, at)| (i * 8..i * 8 + 8).contains(at)) && at.len() == SAMPLE);
    }
}
