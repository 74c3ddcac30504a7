//! Typed formats: Parquet, Avro and ORC, whose files say themselves what columns they have, and whole files as bytes.
//!
//! A file is opened as a whole ([`Content`]), tells its columns, and gives batches in its own types. They are first
//! brought into the types that tables have ([`plain`]), then fitted to the wanted schema ([`fit`]): columns that are
//! absent are NULL, values without a place are rescued. Rows of several small files share a batch.
//!
//! Libraries that read the bytes are kept behind [`TypedFile`]; what they do with damaged files, panics included, ends
//! as [`DecodeError::Corrupt`] with the file's name.

mod avro;
mod binary;
mod compression;
mod decoder;
mod fit;
mod json_text;
mod orc;
mod parquet;
mod plain;
mod rebase;
pub(crate) mod widest;

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use bytes::Bytes;

use crate::decode::{DecodeCounts, DecodeError};
use crate::options::{Format, FormatOptions};

pub use avro::check as check_avro_schema;
pub use binary::binary_file_schema;
pub(crate) use fit::digits as decimal_digits;
use rebase::Calendars;
pub use rebase::RebaseMode;
pub use widest::widest_schema;

/// A file's bytes.
pub enum Content {
    /// A local file, read where it is needed.
    File(File),
    /// All of them.
    Bytes(Bytes),
}

/// A part of a file, as a range of its bytes: the rows that the format's own pieces (row groups, stripes, blocks) put
/// there. Of parts that meet each row is in one, whatever the file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilePart {
    /// The first byte.
    pub from: u64,
    /// The byte behind the last.
    pub to: u64,
}

impl FilePart {
    /// All of a file.
    pub const WHOLE: FilePart = FilePart { from: 0, to: u64::MAX };

    /// Whether what begins at `place` belongs to it.
    pub fn has(&self, place: u64) -> bool {
        self.from <= place && (place < self.to || self.to == u64::MAX)
    }
}

/// What is known of a file before it is opened.
#[derive(Debug, Clone, Copy)]
pub struct FileFacts<'f> {
    /// Its path, for errors and `_file_path`.
    pub path: &'f str,
    /// Its URL, which is the `path` column of binary files.
    pub url: &'f str,
    /// Its size in bytes.
    pub size: u64,
    /// When it was modified, microseconds since 1970 UTC.
    pub modified_us: i64,
}

/// Turns whole files into batches of one schema. Several small files may share one batch.
///
/// The caller opens a file, calls `advance` until it returns false, and takes a batch whenever `is_full` says so. After
/// an error the decoder's rows are those before it, and the next file may be opened.
pub trait FileDecoder: Send {
    /// Opens a file, of which only `part` is wanted; the one before is given up. A file of [`Format::BinaryFile`] has
    /// no parts.
    fn start_file(&mut self, facts: FileFacts<'_>, content: Content, part: FilePart) -> Result<(), DecodeError>;

    /// Decodes some rows of the file; false when it has no more.
    fn advance(&mut self) -> Result<bool, DecodeError>;

    /// Rows decoded since the last `finish`.
    fn buffered(&self) -> usize;

    /// Whether the batch should be taken now.
    fn is_full(&self) -> bool;

    /// Takes the buffered rows as a batch.
    fn finish(&mut self) -> Result<RecordBatch, DecodeError>;

    /// What has been met since the decoder was made.
    fn counts(&self) -> DecodeCounts;

    /// Columns of files that no column of the schema matches, as dotted paths, at most 1,000. Empty without a rescue
    /// column.
    fn unmatched_fields(&self) -> Vec<String>;

    /// [`RecordDecoder::outgrown_fields`](crate::RecordDecoder::outgrown_fields), by the types of the files' columns.
    fn outgrown_fields(&self) -> Vec<String>;
}

/// A decoder of the columns `projection` of `full_schema`, for a typed format.
pub fn file_decoder(
    options: &FormatOptions,
    full_schema: SchemaRef,
    projection: &[usize],
    batch_rows: usize,
) -> Result<Box<dyn FileDecoder>, DecodeError> {
    if options.format == Format::BinaryFile {
        return Ok(Box::new(binary::BinaryFileDecoder::new(&full_schema, projection, batch_rows)?));
    }
    Ok(Box::new(decoder::TypedDecoder::new(options, full_schema, projection, batch_rows)?))
}

/// The columns of one file, in the types that tables have; all of them nullable.
pub fn file_schema(options: &FormatOptions, facts: FileFacts<'_>, content: Content) -> Result<Schema, DecodeError> {
    if options.format == Format::BinaryFile {
        return Ok(binary_file_schema());
    }
    Ok(table_schema(open(options, facts.path, content)?.schema()))
}

/// The columns of the schema to read with (`avroSchema`), whatever files there are; None without one.
pub fn reader_schema(options: &FormatOptions) -> Result<Option<Schema>, DecodeError> {
    let Some(schema) = &options.avro_schema else { return Ok(None) };
    let schema = avro::columns_of(schema).map_err(|reason| corrupt(options.format, "avroSchema", reason))?;
    Ok(Some(table_schema(&schema)))
}

fn table_schema(schema: &Schema) -> Schema {
    let plain = |field: &std::sync::Arc<Field>| {
        let data_type = plain::plain_type(field);
        Field::new(field.name(), plain::without_null(&data_type), true)
    };
    Schema::new(schema.fields().iter().map(plain).collect::<Vec<_>>())
}

/// Batches as a library gives them.
pub(crate) type Batches = Box<dyn Iterator<Item = Result<RecordBatch, String>> + Send>;

/// An opened file.
pub(crate) trait TypedFile: Send {
    /// Its columns in its own types.
    fn schema(&self) -> &Schema;

    /// What it tells of the calendars of its dates and timestamps; None: they are those of tables.
    fn calendars(&self) -> Option<Calendars> {
        None
    }

    /// The rows of `columns` (places in the schema, ascending) in a part of the file, in batches of at most about
    /// `batch_rows`.
    fn batches(self: Box<Self>, columns: &[usize], batch_rows: usize, part: FilePart) -> Result<Batches, String>;
}

fn open(options: &FormatOptions, path: &str, content: Content) -> Result<Box<dyn TypedFile>, DecodeError> {
    let format = options.format;
    let opened = guarded(|| match format {
        Format::Parquet => parquet::open(content),
        Format::Avro => avro::open(content, options.avro_schema.as_deref()),
        Format::Orc => orc::open(content),
        other => Err(format!("{} files have no columns of their own", other.name())),
    });
    opened.map_err(|reason| corrupt(format, path, reason))
}

fn corrupt(format: Format, path: &str, reason: String) -> DecodeError {
    DecodeError::Corrupt { path: path.to_owned(), format: format.name(), reason }
}

/// Runs a library's code on bytes that may be damaged; a panic there is a damaged file.
fn guarded<R>(run: impl FnOnce() -> Result<R, String>) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(format!("its reader gave up: {}", text.unwrap_or("no reason given")))
    })
}

#[cfg(test)]
mod tests;
