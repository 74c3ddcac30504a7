//! The rows of one data file that still count, each with its number in the file.

use std::fs::File;
use std::path::Path;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use roaring::RoaringTreemap;

use super::conform::Conform;
use crate::error::{Error, Result};

/// Rows per batch.
const BATCH_ROWS: usize = 8192;

/// Reads a file from its first row to its last.
pub struct LiveRows {
    reader: ParquetRecordBatchReader,
    conform: Conform,
    dead: RoaringTreemap,
    at: u64,
    name: String,
}

impl LiveRows {
    /// The file at `path` without the rows in `dead`, in the columns of `schema`; those the file lacks are NULL.
    pub fn open(path: &Path, dead: RoaringTreemap, schema: &SchemaRef) -> Result<LiveRows> {
        let file = File::open(path).map_err(|error| Error::io("open", path, &error))?;
        let failed = |error: parquet::errors::ParquetError| {
            Error::environment("IO", format!("cannot read `{}`: {error}", path.display()))
        };
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(failed)?.with_batch_size(BATCH_ROWS);
        let wanted = |name: &str| schema.fields().iter().any(|field| field.name().eq_ignore_ascii_case(name));
        let columns = builder.schema().fields().iter().enumerate();
        let columns: Vec<usize> = columns.filter(|(_, field)| wanted(field.name())).map(|(at, _)| at).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), columns);
        let reader = builder.with_projection(mask).build().map_err(failed)?;
        let conform = Conform::plan(&arrow::array::RecordBatchReader::schema(&reader), schema)?;
        Ok(LiveRows { reader, conform, dead, at: 0, name: path.display().to_string() })
    }

    /// The next rows and their numbers; None at the end.
    pub fn next_batch(&mut self) -> Result<Option<(Vec<u32>, RecordBatch)>> {
        loop {
            let Some(batch) = self.reader.next() else { return Ok(None) };
            let failed = |error| Error::environment("IO", format!("cannot read `{}`: {error}", self.name));
            let batch = batch.map_err(failed)?;
            let (from, until) = (self.at, self.at + batch.num_rows() as u64);
            self.at = until;
            let dead = self.dead.range_cardinality(from..until);
            if dead == 0 {
                return Ok(Some(((from as u32..until as u32).collect(), self.conform.apply(&batch)?)));
            }
            if dead == until - from {
                continue;
            }
            let mut alive = vec![true; batch.num_rows()];
            let mut gone = self.dead.iter();
            gone.advance_to(from);
            gone.take_while(|row| *row < until).for_each(|row| alive[(row - from) as usize] = false);
            let rows =
                (from as u32..until as u32).zip(&alive).filter(|(_, alive)| **alive).map(|(row, _)| row).collect();
            let batch = filter_record_batch(&batch, &BooleanArray::from(alive))?;
            return Ok(Some((rows, self.conform.apply(&batch)?)));
        }
    }
}

/// Rows of a data file, as its footer says.
pub fn rows_of_file(path: &Path) -> Result<u64> {
    let file = File::open(path).map_err(|error| Error::io("open", path, &error))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)
        .map_err(|error| Error::environment("IO", format!("cannot read `{}`: {error}", path.display())))?;
    Ok(builder.metadata().file_metadata().num_rows().max(0) as u64)
}
