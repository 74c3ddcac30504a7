//! Whole files as rows: `path`, `modificationTime`, `length`, `content`.

use std::io::Read;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Int64Array, RecordBatch, RecordBatchOptions, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::{Content, FileDecoder, FileFacts, FilePart};
use crate::decode::{DecodeCounts, DecodeError};
use crate::row::{BATCH_BYTES_MAX, RECORD_BYTES_MAX};

/// The columns of every binary file.
pub fn binary_file_schema() -> Schema {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Schema::new(vec![
        Field::new("path", DataType::Utf8, true),
        Field::new("modificationTime", time, true),
        Field::new("length", DataType::Int64, true),
        Field::new("content", DataType::Binary, true),
    ])
}

/// Decodes whole files; the content is read only where it is asked for.
pub(super) struct BinaryFileDecoder {
    columns: Vec<Part>,
    output: SchemaRef,
    batch_rows: usize,
    paths: Vec<String>,
    times: Vec<i64>,
    lengths: Vec<i64>,
    contents: BinaryBuilder,
    bytes: usize,
    counts: DecodeCounts,
    pending: Option<(String, Content)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Path,
    Time,
    Length,
    Content,
}

impl BinaryFileDecoder {
    pub fn new(schema: &Schema, projection: &[usize], batch_rows: usize) -> Result<BinaryFileDecoder, DecodeError> {
        let known = binary_file_schema();
        let parts = [Part::Path, Part::Time, Part::Length, Part::Content];
        let mut columns = Vec::new();
        for field in schema.fields() {
            let place = known.fields().iter().position(|k| k.name().eq_ignore_ascii_case(field.name()));
            let same = place.filter(|&place| known.field(place).data_type() == field.data_type());
            let Some(place) = same else {
                return Err(DecodeError::ColumnType {
                    column: field.name().clone(),
                    data_type: field.data_type().to_string(),
                    format: "binaryFile",
                    reason: "it has path STRING, modificationTime TIMESTAMP, length BIGINT, content BINARY",
                });
            };
            columns.push(parts[place]);
        }
        Ok(BinaryFileDecoder {
            columns: projection.iter().filter_map(|&at| columns.get(at).copied()).collect(),
            output: Arc::new(schema.project(projection)?),
            batch_rows: batch_rows.max(1),
            paths: Vec::new(),
            times: Vec::new(),
            lengths: Vec::new(),
            contents: BinaryBuilder::new(),
            bytes: 0,
            counts: DecodeCounts::default(),
            pending: None,
        })
    }
}

impl FileDecoder for BinaryFileDecoder {
    fn start_file(&mut self, facts: FileFacts<'_>, content: Content, _: FilePart) -> Result<(), DecodeError> {
        self.paths.push(facts.url.to_owned());
        self.times.push(facts.modified_us);
        self.lengths.push(i64::try_from(facts.size).unwrap_or(i64::MAX));
        self.pending = Some((facts.path.to_owned(), content));
        Ok(())
    }

    fn advance(&mut self) -> Result<bool, DecodeError> {
        let Some((path, content)) = self.pending.take() else { return Ok(false) };
        if self.columns.contains(&Part::Content) {
            let read = match content {
                Content::Bytes(bytes) => Ok(bytes.to_vec()),
                Content::File(file) => {
                    let mut bytes = Vec::new();
                    file.take(RECORD_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map(|_| bytes)
                }
            };
            let refused = match read {
                Ok(bytes) if bytes.len() > RECORD_BYTES_MAX => {
                    Some(DecodeError::TooLong { path, record: 1, limit: RECORD_BYTES_MAX })
                }
                Ok(bytes) => {
                    if let Some(length) = self.lengths.last_mut() {
                        *length = bytes.len() as i64;
                    }
                    self.bytes += bytes.len();
                    self.contents.append_value(bytes);
                    None
                }
                Err(e) => Some(DecodeError::Corrupt { path, format: "binaryFile", reason: e.to_string() }),
            };
            if let Some(error) = refused {
                self.paths.pop();
                self.times.pop();
                self.lengths.pop();
                return Err(error);
            }
        }
        self.counts.rows += 1;
        Ok(true)
    }

    fn buffered(&self) -> usize {
        self.paths.len() - usize::from(self.pending.is_some())
    }

    fn is_full(&self) -> bool {
        self.buffered() >= self.batch_rows || self.bytes >= BATCH_BYTES_MAX
    }

    fn finish(&mut self) -> Result<RecordBatch, DecodeError> {
        let paths = std::mem::take(&mut self.paths);
        let times = std::mem::take(&mut self.times);
        let lengths = std::mem::take(&mut self.lengths);
        let options = RecordBatchOptions::new().with_row_count(Some(paths.len()));
        let contents: ArrayRef = Arc::new(self.contents.finish());
        self.bytes = 0;
        let columns = self.columns.iter().map(|part| match part {
            Part::Path => Arc::new(StringArray::from_iter_values(&paths)) as ArrayRef,
            Part::Time => Arc::new(TimestampMicrosecondArray::from(times.clone()).with_timezone("UTC")),
            Part::Length => Arc::new(Int64Array::from(lengths.clone())),
            Part::Content => contents.clone(),
        });
        let columns = columns.collect();
        Ok(RecordBatch::try_new_with_options(self.output.clone(), columns, &options)?)
    }

    fn counts(&self) -> DecodeCounts {
        self.counts
    }

    fn unmatched_fields(&self) -> Vec<String> {
        Vec::new()
    }

    fn outgrown_fields(&self) -> Vec<String> {
        Vec::new()
    }
}
