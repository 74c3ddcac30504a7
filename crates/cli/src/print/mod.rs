//! Results to text, batch by batch: which format, which writer, how values are spelt.
//!
//! Knows Arrow batches and a byte sink. Knows nothing of sessions, statements or standard output.

mod csv;
mod json;
mod markdown;
pub mod table;
pub mod value;
mod vertical;

use std::io::{self, Write};

use clap::ValueEnum;

use crate::engine::arrow::array::RecordBatch;
use crate::engine::arrow::datatypes::{DataType, SchemaRef};
pub use value::Zone;

/// The formats of `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A box drawn around aligned columns
    Table,
    /// Comma-separated values with a header; NULL is empty, an empty string is ""
    Csv,
    /// One array of objects per result; errors are objects too
    Json,
    /// One object per line
    Ndjson,
    /// A Markdown table
    Markdown,
    /// One line per value
    Vertical,
}

/// How results look.
#[derive(Clone, Debug)]
pub struct Style {
    /// The format.
    pub format: Format,
    /// Columns of the terminal, when the table must fit one.
    pub width: Option<usize>,
    /// Rows of a table above which its middle is left out.
    pub rows_max: Option<usize>,
    /// Whether a table has a line of types.
    pub types: bool,
    /// Zone of instants.
    pub zone: Zone,
}

/// What was written of one result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Rows of the result.
    pub rows: u64,
    /// Rows written, fewer when the middle of a table was left out.
    pub rows_shown: u64,
    /// Columns of the result.
    pub columns: usize,
    /// Columns written, fewer when a terminal is too narrow.
    pub columns_shown: usize,
}

/// Writes one result. The caller gives each batch once, in order, all of one schema, and calls `finish` last.
pub trait ResultWriter: Send {
    /// Takes a batch; writes it now where the format allows it.
    fn batch(&mut self, out: &mut dyn Write, batch: &RecordBatch) -> io::Result<()>;
    /// Writes what is left.
    fn finish(&mut self, out: &mut dyn Write) -> io::Result<Summary>;
}

/// The writer of one result with this schema.
pub fn writer(style: &Style, schema: &SchemaRef) -> Box<dyn ResultWriter> {
    match style.format {
        Format::Table => Box::new(table::TableWriter::new(style, schema)),
        Format::Csv => Box::new(csv::CsvWriter::new(style.zone, schema)),
        Format::Json => Box::new(json::JsonWriter::array(style.zone, schema)),
        Format::Ndjson => Box::new(json::JsonWriter::lines(style.zone, schema)),
        Format::Markdown => Box::new(markdown::MarkdownWriter::new(style.zone, schema)),
        Format::Vertical => Box::new(vertical::VerticalWriter::new(style.zone, schema)),
    }
}

/// `1 row`, `2 rows`, `1,234 rows`.
pub fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", thousands(count), if count == 1 { "" } else { "s" })
}

/// `1,234,567`.
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Whether a column of this type is set to the right.
fn is_right_aligned(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

/// Control characters as escapes, so that no value moves the cursor; line breaks stay.
fn visible(text: String) -> String {
    if !text.chars().any(|letter| letter.is_control() && letter != '\n') {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match letter {
            '\n' => out.push('\n'),
            letter if letter.is_control() => out.extend(letter.escape_default()),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests;
