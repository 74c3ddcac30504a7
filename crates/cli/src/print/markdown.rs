//! A Markdown table with aligned source, held back until the result is complete since its widths depend on all rows.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

use super::value::{Zone, write_text};
use super::{ResultWriter, Summary, is_right_aligned, visible};
use crate::engine::arrow::array::RecordBatch;
use crate::engine::arrow::datatypes::SchemaRef;

/// Collects rows and writes them at the end.
pub struct MarkdownWriter {
    zone: Zone,
    right: Vec<bool>,
    /// The header first.
    rows: Vec<Vec<String>>,
}

impl MarkdownWriter {
    /// A writer of rows with this schema.
    pub fn new(zone: Zone, schema: &SchemaRef) -> Self {
        let right = schema.fields().iter().map(|field| is_right_aligned(field.data_type())).collect();
        let header = schema.fields().iter().map(|field| escape(field.name().clone())).collect();
        MarkdownWriter { zone, right, rows: vec![header] }
    }
}

impl ResultWriter for MarkdownWriter {
    fn batch(&mut self, _out: &mut dyn Write, batch: &RecordBatch) -> io::Result<()> {
        for row in 0..batch.num_rows() {
            let cell = |column| {
                let mut value = String::new();
                write_text(&mut value, column, row, self.zone);
                escape(value)
            };
            self.rows.push(batch.columns().iter().map(|column| cell(column)).collect());
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<Summary> {
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max().unwrap_or(0).max(3)
        };
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        for (index, row) in self.rows.iter().enumerate() {
            let mut line = String::from("|");
            for ((cell, width), right) in row.iter().zip(&widths).zip(&self.right) {
                let padding = " ".repeat(width - cell.width());
                line += &if *right { format!(" {padding}{cell} |") } else { format!(" {cell}{padding} |") };
            }
            writeln!(out, "{line}")?;
            if index == 0 {
                writeln!(out, "{}", rule(&widths, &self.right))?;
            }
        }
        let (rows, columns) = (self.rows.len() as u64 - 1, self.right.len());
        Ok(Summary { rows, rows_shown: rows, columns, columns_shown: columns })
    }
}

fn rule(widths: &[usize], right: &[bool]) -> String {
    let mut line = String::from("|");
    for (width, right) in widths.iter().zip(right) {
        line += &"-".repeat(width + 1);
        line += if *right { ":|" } else { "-|" };
    }
    line
}

fn escape(text: String) -> String {
    visible(text).replace('\\', "\\\\").replace('|', "\\|").replace('\n', "<br>")
}
