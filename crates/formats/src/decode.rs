//! The decoder contract, and what happens to records that are broken or do not fit.
//!
//! A record is *corrupt* when it cannot be read as its format (broken JSON, a CSV row with too few or too many
//! values) and has *misfits* when single values do not fit their column's type.
//!
//! A corrupt record that is kept is a row with what could be read (nothing of JSON); its text goes to the corrupt
//! record column, or is rescued if there is only a rescue column.
//!
//! | mode | misfit, schema has rescue column | misfit, it has none | corrupt record |
//! |---|---|---|---|
//! | PERMISSIVE | NULL, value rescued | NULL, record counts as corrupt | row kept, counted |
//! | DROPMALFORMED | NULL, value rescued | row dropped, counted | row dropped, counted |
//! | FAILFAST | NULL, value rescued | error | error |
//! | `badRecordsPath` | NULL, value rescued | set aside, counted | set aside, counted |

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use crate::csv::CsvDecoder;
use crate::json::JsonDecoder;
use crate::options::{Format, FormatOptions};
use crate::xml::XmlDecoder;

/// Turns the bytes of files, brought in pieces, into batches. Several small files may share one batch.
pub trait RecordDecoder: Send {
    /// A new file begins (CSV: its header is still to come). `path` goes into rescued data as `_file_path` and
    /// into errors. The caller has brought the file before to its end (`eof`), or gives it up.
    fn start_file(&mut self, path: &str);

    /// Decodes records from `input` until the batch is full or the input is used up; returns the bytes consumed.
    ///
    /// With `eof` false an incomplete last record is left unconsumed, and the caller promises to bring it again
    /// at the start of a longer input; consuming nothing of a non-empty input, with the batch not full, asks for
    /// more bytes. With `eof` true everything is consumed unless the batch is full before that. After an error
    /// the decoder's rows are those of earlier records and its place in the file is lost.
    fn decode(&mut self, input: &[u8], eof: bool) -> Result<usize, DecodeError>;

    /// Rows decoded since the last [`finish`](RecordDecoder::finish).
    fn buffered(&self) -> usize;

    /// Whether the batch should be taken now: it has its rows, or so many bytes that offsets come near their end.
    fn is_full(&self) -> bool;

    /// Takes the buffered rows.
    fn finish(&mut self) -> Result<RecordBatch, DecodeError>;

    /// What has been met since the decoder was made.
    fn counts(&self) -> DecodeCounts;

    /// Takes the malformed records that were set aside since the last call (`badRecordsPath`).
    fn take_bad_records(&mut self) -> Vec<BadRecord>;

    /// Names of fields that no column of the schema matches, as dotted paths in order of first appearance, since
    /// the decoder was made (at most 1,000). Empty when no rescue column is asked for, since they are not looked
    /// at then.
    fn unmatched_fields(&self) -> Vec<String>;

    /// Names of columns with values that do not fit their type and might fit a wider one
    /// ([`wider_type`](crate::wider_type)), as dotted paths of fields; arrays and maps add no step. Looked at only where
    /// [`FormatOptions::track_outgrown`] asks for it.
    fn outgrown_fields(&self) -> Vec<String>;
}

/// A malformed record that goes to `badRecordsPath` and not into the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    /// The file, as given to `start_file`.
    pub path: String,
    /// Its text; bytes that are not UTF-8 are U+FFFD.
    pub record: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What a decoder has met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DecodeCounts {
    /// Rows handed out or buffered.
    pub rows: u64,
    /// Rows among them with rescued values (not counting the rescue of whole corrupt records).
    pub rescued_rows: u64,
    /// Corrupt records, kept or dropped.
    pub corrupt_records: u64,
    /// Corrupt records that were dropped (DROPMALFORMED) or set aside (`badRecordsPath`).
    pub dropped_records: u64,
}

/// Why decoding stopped.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// FAILFAST met a record it may not keep. Mend or skip the file, or read with another mode.
    #[error("record {record} of `{path}` is malformed: {reason} (mode FAILFAST)")]
    Malformed {
        /// The file, as given to `start_file`.
        path: String,
        /// Number of the record in its file, from 1; blank lines and comments do not count.
        record: u64,
        /// What is wrong.
        reason: String,
    },
    /// A column has a type that the format cannot be read into. Choose another type for it.
    #[error("column `{column}` of type {data_type} cannot be read from {format}: {reason}")]
    ColumnType {
        /// Dotted path of the column.
        column: String,
        /// Its Arrow type.
        data_type: String,
        /// The format's name.
        format: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// Files of the format have no records that could be read one by one; see [`crate::typed`].
    #[error("{0} files are not read record by record")]
    Format(&'static str),
    /// A file of a typed format cannot be read as one. Replace it, leave it out, or set `ignoreCorruptFiles`.
    #[error("`{path}` cannot be read as {format}: {reason}")]
    Corrupt {
        /// The file.
        path: String,
        /// The format's name.
        format: &'static str,
        /// What its reader says.
        reason: String,
    },
    /// A column of a typed file has a type that does not go into the wanted one, and nothing rescues it.
    #[error("column `{column}` of `{path}` is {found} and does not fit {wanted}")]
    TypeMismatch {
        /// The file.
        path: String,
        /// The column.
        column: String,
        /// Its type in the file.
        found: String,
        /// The type wanted.
        wanted: String,
    },
    /// One record is longer than a column can hold.
    #[error("record {record} of `{path}` is longer than {limit} bytes")]
    TooLong {
        /// The file.
        path: String,
        /// Number of the record in its file, from 1.
        record: u64,
        /// The longest record that is read.
        limit: usize,
    },
    /// The file's first line names more columns than `maxColumns` allows.
    #[error("`{path}` has {columns} columns, more than maxColumns = {limit}")]
    TooManyColumns {
        /// The file.
        path: String,
        /// Columns in its first row.
        columns: usize,
        /// The option's value.
        limit: usize,
    },
    /// The rows do not form a batch of the wanted schema, for example NULL in a column that may not be.
    #[error("decoded rows do not form a batch: {0}")]
    Batch(#[from] ArrowError),
}

/// A decoder of all columns of `schema`: data columns, and where wanted the rescue column (the STRING column
/// named as `options.rescued_data_column`) and the corrupt record column (`columnNameOfCorruptRecord`).
pub fn decoder(
    options: &FormatOptions,
    schema: SchemaRef,
    batch_rows: usize,
) -> Result<Box<dyn RecordDecoder>, DecodeError> {
    let projection: Vec<usize> = (0..schema.fields().len()).collect();
    decoder_projected(options, schema, &projection, batch_rows)
}

/// A decoder of the columns `projection` of `full_schema`. Which fields are unmatched, and which records are
/// corrupt, does not depend on the projection where the answer shows: a projected rescue column, a projected
/// corrupt record column, DROPMALFORMED and FAILFAST.
pub fn decoder_projected(
    options: &FormatOptions,
    full_schema: SchemaRef,
    projection: &[usize],
    batch_rows: usize,
) -> Result<Box<dyn RecordDecoder>, DecodeError> {
    match options.format {
        Format::Json => Ok(Box::new(JsonDecoder::new(options, &full_schema, projection, batch_rows)?)),
        Format::Csv => Ok(Box::new(CsvDecoder::new(options, &full_schema, projection, batch_rows)?)),
        Format::Text => Ok(Box::new(crate::text::TextDecoder::new(options, &full_schema, projection, batch_rows)?)),
        Format::Xml => Ok(Box::new(XmlDecoder::new(options, &full_schema, projection, batch_rows)?)),
        other => Err(DecodeError::Format(other.name())),
    }
}
