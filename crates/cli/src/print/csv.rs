//! Comma-separated values as in RFC 4180. NULL is an empty field, an empty string is `""`.

use std::io::{self, Write};

use super::value::{Zone, write_text};
use super::{ResultWriter, Summary};
use crate::engine::arrow::array::{Array, RecordBatch};
use crate::engine::arrow::datatypes::{DataType, SchemaRef};

/// Writes a header and one line per row.
pub struct CsvWriter {
    zone: Zone,
    schema: SchemaRef,
    header_written: bool,
    rows: u64,
}

impl CsvWriter {
    /// A writer of rows with this schema.
    pub fn new(zone: Zone, schema: &SchemaRef) -> Self {
        CsvWriter { zone, schema: schema.clone(), header_written: false, rows: 0 }
    }

    fn header(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if std::mem::replace(&mut self.header_written, true) {
            return Ok(());
        }
        let mut line = String::new();
        for (index, field) in self.schema.fields().iter().enumerate() {
            separate(&mut line, index);
            quote(&mut line, field.name());
        }
        line.push('\n');
        out.write_all(line.as_bytes())
    }
}

impl ResultWriter for CsvWriter {
    fn batch(&mut self, out: &mut dyn Write, batch: &RecordBatch) -> io::Result<()> {
        self.header(out)?;
        let (mut line, mut value) = (String::new(), String::new());
        for row in 0..batch.num_rows() {
            line.clear();
            for (index, column) in batch.columns().iter().enumerate() {
                separate(&mut line, index);
                if column.is_null(row) || column.data_type() == &DataType::Null {
                    continue;
                }
                value.clear();
                write_text(&mut value, column, row, self.zone);
                quote(&mut line, &value);
            }
            line.push('\n');
            out.write_all(line.as_bytes())?;
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<Summary> {
        self.header(out)?;
        let columns = self.schema.fields().len();
        Ok(Summary { rows: self.rows, rows_shown: self.rows, columns, columns_shown: columns })
    }
}

fn separate(line: &mut String, index: usize) {
    if index > 0 {
        line.push(',');
    }
}

fn quote(line: &mut String, value: &str) {
    let edge_space = value.starts_with(' ') || value.ends_with(' ');
    if !value.is_empty() && !edge_space && !value.contains([',', '"', '\n', '\r']) {
        line.push_str(value);
        return;
    }
    line.push('"');
    line.push_str(&value.replace('"', "\"\""));
    line.push('"');
}
