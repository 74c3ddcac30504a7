//! Batches cut by their partition columns, and those columns' values as the log writes them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use arrow_row::{RowConverter, SortField};
use indexmap::IndexMap;

use crate::error::{Error, Result};

/// The partition values of a group of rows, in order of the partition columns.
pub type Values = Vec<Option<String>>;

/// Rows of one partition.
#[derive(Debug)]
pub struct Part {
    /// Its values.
    pub values: Values,
    /// Which rows of the batch they were, in order; None: all of them.
    pub rows: Option<Vec<u32>>,
    /// They, without the partition columns.
    pub batch: RecordBatch,
}

/// The rows of a batch by partition, without the partition columns.
pub fn split(batch: RecordBatch, partition_columns: &[usize], file_columns: &[usize]) -> Result<Vec<Part>> {
    if partition_columns.is_empty() {
        return Ok(vec![Part { values: Vec::new(), rows: None, batch }]);
    }
    let keys: Vec<ArrayRef> = partition_columns.iter().map(|at| batch.column(*at).clone()).collect();
    let fields = keys.iter().map(|key| SortField::new(key.data_type().clone())).collect();
    let rows = RowConverter::new(fields)?.convert_columns(&keys)?;
    let mut groups: IndexMap<&[u8], Vec<u32>> = IndexMap::new();
    for at in 0..rows.num_rows() {
        groups.entry(rows.row(at).data()).or_default().push(at as u32);
    }
    let texts = keys.iter().map(as_text).collect::<Result<Vec<_>>>()?;
    let file_batch = batch.project(file_columns)?;
    let whole = groups.len() == 1;
    groups
        .into_values()
        .map(|indices| {
            let first = indices.first().copied().unwrap_or_default() as usize;
            let values = texts.iter().map(|text| value(text, first)).collect();
            if whole {
                return Ok(Part { values, rows: None, batch: file_batch.clone() });
            }
            let batch = taken(&file_batch, &indices)?;
            Ok(Part { values, rows: Some(indices), batch })
        })
        .collect()
}

fn taken(batch: &RecordBatch, indices: &[u32]) -> Result<RecordBatch> {
    if batch.num_columns() == 0 {
        let options = RecordBatchOptions::new().with_row_count(Some(indices.len()));
        return Ok(RecordBatch::try_new_with_options(batch.schema(), Vec::new(), &options)?);
    }
    Ok(take_record_batch(batch, &UInt32Array::from(indices.to_vec()))?)
}

fn value(text: &ArrayRef, row: usize) -> Option<String> {
    let text = text.as_string::<i32>();
    // The format has no empty partition value: it means NULL.
    text.is_valid(row).then(|| text.value(row).to_owned()).filter(|value| !value.is_empty())
}

/// Delta's text of each value: dates and numbers plain, timestamps in UTC.
fn as_text(column: &ArrayRef) -> Result<ArrayRef> {
    let DataType::Timestamp(_, zone) = column.data_type() else { return Ok(cast(column, &DataType::Utf8)?) };
    let pattern = if zone.is_some() { "%Y-%m-%dT%H:%M:%S%.6fZ" } else { "%Y-%m-%d %H:%M:%S%.6f" };
    let stamps = column.as_primitive::<TimestampMicrosecondType>();
    let mut out = arrow::array::StringBuilder::new();
    for stamp in stamps {
        match stamp {
            None => out.append_null(),
            Some(micros) => match chrono::DateTime::from_timestamp_micros(micros) {
                Some(time) => out.append_value(time.format(pattern).to_string()),
                None => return Err(Error::internal(format!("timestamp {micros} is out of range"))),
            },
        }
    }
    Ok(Arc::new(out.finish()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow::array::{Date32Array, Int64Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn rows_go_to_their_partition_in_order() {
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("day", Arc::new(Date32Array::from(vec![0, 1, 0])) as ArrayRef, true),
            ("v", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef, true),
            ("k", Arc::new(StringArray::from(vec![Some("a"), None, Some("a")])) as ArrayRef, true),
        ])
        .unwrap();
        let parts = split(batch, &[0, 2], &[1]).unwrap();
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0].values, vec![Some("1970-01-01".to_owned()), Some("a".to_owned())]);
        assert_eq!(parts[0].rows, Some(vec![0, 2]));
        assert_eq!(parts[0].batch.column(0).as_ref(), &Int64Array::from(vec![1, 3]) as &dyn Array);
        assert_eq!(parts[1].values, vec![Some("1970-01-02".to_owned()), None]);
    }

    #[test]
    fn timestamps_are_utc_text() {
        let zoned: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1_500_000]).with_timezone("UTC"));
        assert_eq!(as_text(&zoned).unwrap().as_string::<i32>().value(0), "1970-01-01T00:00:01.500000Z");
    }
}
