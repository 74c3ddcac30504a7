//! One line per value, for rows wider than any screen.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

use super::value::{Zone, write_text};
use super::{ResultWriter, Summary, visible};
use crate::engine::arrow::array::RecordBatch;
use crate::engine::arrow::datatypes::SchemaRef;

/// Writes `name | value` lines under a numbered line per row.
pub struct VerticalWriter {
    zone: Zone,
    names: Vec<String>,
    width: usize,
    rows: u64,
}

impl VerticalWriter {
    /// A writer of rows with this schema.
    pub fn new(zone: Zone, schema: &SchemaRef) -> Self {
        let names: Vec<String> = schema.fields().iter().map(|field| visible(field.name().clone())).collect();
        let width = names.iter().map(|name| name.width()).max().unwrap_or(0);
        VerticalWriter { zone, names, width, rows: 0 }
    }
}

impl ResultWriter for VerticalWriter {
    fn batch(&mut self, out: &mut dyn Write, batch: &RecordBatch) -> io::Result<()> {
        for row in 0..batch.num_rows() {
            self.rows += 1;
            writeln!(out, "-[ row {} ]-", self.rows)?;
            for (name, column) in self.names.iter().zip(batch.columns()) {
                let mut value = String::new();
                write_text(&mut value, column, row, self.zone);
                let padding = " ".repeat(self.width - name.width());
                for (index, line) in visible(value).split('\n').enumerate() {
                    match index {
                        0 => writeln!(out, "{name}{padding} | {line}")?,
                        _ => writeln!(out, "{} | {line}", " ".repeat(self.width))?,
                    }
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self, _out: &mut dyn Write) -> io::Result<Summary> {
        let columns = self.names.len();
        Ok(Summary { rows: self.rows, rows_shown: self.rows, columns, columns_shown: columns })
    }
}
