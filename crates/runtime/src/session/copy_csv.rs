//! CSV files as the CSV reader reads them back: quoted where a separator, quote, line break or nothing at all would be
//! misread, `\` before a quote and before itself inside quotes, NULL as nothing.
//!
//! A line break inside a value is written as it is, in quotes; it takes the reader's `multiLine` to read it.

use std::io::Write;
use std::path::Path;

use alluvium_parser::Diagnostic;
use alluvium_planner::ddl;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::copy::Output;
use crate::error::{Error, Result};

/// Writes rows of one schema.
pub(super) struct CsvWriter {
    /// Where they go.
    pub output: Output,
    delimiter: u8,
    line: Vec<u8>,
}

impl CsvWriter {
    /// Refuses columns that CSV has no form for.
    pub fn try_new(output: Output, schema: &Schema, delimiter: u8) -> Result<CsvWriter> {
        if let Some(field) = schema.fields().iter().find(|field| field.data_type().is_nested()) {
            return Err(Diagnostic::new(
                "UNSUPPORTED_DATATYPE",
                format!("CSV has no form for column `{}` of type {}", field.name(), ddl::sql_type(field.data_type())),
            )
            .help("name its fields or elements in the query, or write JSON or PARQUET")
            .into());
        }
        Ok(CsvWriter { output, delimiter, line: Vec::new() })
    }

    /// The line of column names.
    pub fn header(&mut self, schema: &Schema) -> std::io::Result<()> {
        for (at, field) in schema.fields().iter().enumerate() {
            if at > 0 {
                self.line.push(self.delimiter);
            }
            self.value(field.name());
        }
        self.end_line()
    }

    /// One line per row.
    pub fn batch(&mut self, batch: &RecordBatch, target: &Path) -> Result<()> {
        let options = FormatOptions::default();
        let formatters = batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
        let formatters = formatters.collect::<std::result::Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            for (at, (column, formatter)) in batch.columns().iter().zip(&formatters).enumerate() {
                if at > 0 {
                    self.line.push(self.delimiter);
                }
                if column.is_null(row) {
                    continue;
                }
                match infinite(column.as_ref(), row) {
                    Some(word) => self.line.extend_from_slice(word.as_bytes()),
                    None => {
                        let text = formatter.value(row).try_to_string()?;
                        self.value(&text);
                    }
                }
            }
            self.end_line().map_err(|e| Error::io("write", target, &e))?;
        }
        Ok(())
    }

    fn value(&mut self, text: &str) {
        let special = |byte: u8| byte == self.delimiter || matches!(byte, b'"' | b'\n' | b'\r');
        if !text.trim().is_empty() && !text.bytes().any(special) {
            self.line.extend_from_slice(text.as_bytes());
            return;
        }
        self.line.push(b'"');
        for byte in text.bytes() {
            if matches!(byte, b'"' | b'\\') {
                self.line.push(b'\\');
            }
            self.line.push(byte);
        }
        self.line.push(b'"');
    }

    fn end_line(&mut self) -> std::io::Result<()> {
        self.line.push(b'\n');
        let written = self.output.write_all(&self.line);
        self.line.clear();
        written
    }
}

/// The words for the infinities that the reader knows.
fn infinite(column: &dyn Array, row: usize) -> Option<&'static str> {
    let value = match column.data_type() {
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row),
        DataType::Float32 => f64::from(column.as_primitive::<Float32Type>().value(row)),
        _ => return None,
    };
    match value {
        f64::INFINITY => Some("Inf"),
        f64::NEG_INFINITY => Some("-Inf"),
        _ => None,
    }
}
