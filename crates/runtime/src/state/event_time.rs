//! The time of a row of state, by which it is ordered and forgotten.
//!
//! It is a timestamp in microseconds, or the end of a window. A row without one is never forgotten.

use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::TimestampMicrosecondType;

use crate::error::{Error, Result};

/// Times of a column: its own, or the ends of its windows.
pub fn times_of(column: &ArrayRef) -> Result<TimestampMicrosecondArray> {
    let refused = || Error::internal(format!("state is not ordered by values of type {}", column.data_type()));
    if let Some(windows) = column.as_struct_opt() {
        let end = windows.column_by_name("end").and_then(|end| end.as_primitive_opt::<TimestampMicrosecondType>());
        let end = end.ok_or_else(refused)?;
        let nulls = NullBuffer::union(end.nulls(), windows.nulls());
        return Ok(TimestampMicrosecondArray::new(end.values().clone(), nulls));
    }
    let times = column.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(refused)?;
    Ok(TimestampMicrosecondArray::new(times.values().clone(), times.nulls().cloned()))
}

/// A time as bytes that are in the order of times; rows without one come last.
pub(super) fn ordered(time: Option<i64>) -> [u8; 8] {
    match time {
        Some(time) => ((time as u64) ^ (1 << 63)).to_be_bytes(),
        None => [u8::MAX; 8],
    }
}

/// The time that [`ordered`] made bytes of.
pub(super) fn from_ordered(bytes: [u8; 8]) -> i64 {
    (u64::from_be_bytes(bytes) ^ (1 << 63)) as i64
}

/// The time at a row; None without one.
pub(super) fn time_at(times: &TimestampMicrosecondArray, row: usize) -> Option<i64> {
    times.is_valid(row).then(|| times.value(row))
}
