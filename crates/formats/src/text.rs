//! Text: a row a line, or a row a file (`wholeText`), in the one column `value`.
//!
//! Nothing can be malformed here; bytes that are not UTF-8 become U+FFFD, as Spark has it.

use arrow::datatypes::{DataType, Schema};

use crate::column::Data;
use crate::decode::DecodeError;
use crate::options::FormatOptions;
use crate::row::{Ending, FillRows, Rows};

/// The name of the column.
pub(crate) const VALUE: &str = "value";

/// Decodes text.
pub(crate) struct TextDecoder {
    rows: Rows,
    separator: Option<Vec<u8>>,
    whole: bool,
    any: bool,
}

impl TextDecoder {
    pub fn new(
        options: &FormatOptions,
        full_schema: &Schema,
        projection: &[usize],
        batch_rows: usize,
    ) -> Result<TextDecoder, DecodeError> {
        let wrong = full_schema.fields().iter().find(|field| field.data_type() != &DataType::Utf8);
        let wrong = wrong.or_else(|| full_schema.fields().get(1));
        if let Some(field) = wrong {
            return Err(DecodeError::ColumnType {
                column: field.name().clone(),
                data_type: field.data_type().to_string(),
                format: options.format.name(),
                reason: "a text file has one column, `value` of type STRING",
            });
        }
        let rows = Rows::new(options, full_schema, projection, batch_rows)?;
        Ok(TextDecoder { rows, separator: options.line_sep.clone(), whole: options.multi_line, any: false })
    }

    /// The end of the record that `text` begins with, and of its separator.
    fn end(&self, text: &[u8], eof: bool) -> Option<(usize, usize)> {
        let rest = (eof && !(text.is_empty() && (self.any || !self.whole))).then_some((text.len(), text.len()));
        if self.whole {
            return rest;
        }
        let found = match &self.separator {
            Some(separator) => memchr::memmem::find(text, separator).map(|at| (at, at + separator.len())),
            None => memchr::memchr2(b'\n', b'\r', text).and_then(|at| match (text[at], text.get(at + 1)) {
                (b'\r', Some(b'\n')) => Some((at, at + 2)),
                (b'\r', None) if !eof => None,
                _ => Some((at, at + 1)),
            }),
        };
        found.or(rest)
    }
}

impl FillRows for TextDecoder {
    fn rows(&self) -> &Rows {
        &self.rows
    }

    fn rows_mut(&mut self) -> &mut Rows {
        &mut self.rows
    }

    fn begin(&mut self) {
        self.any = false;
    }

    fn fill(&mut self, input: &[u8], eof: bool) -> Result<usize, DecodeError> {
        let mut pos = 0;
        while !self.rows.is_full() {
            let rest = &input[pos..];
            let Some((end, next)) = self.end(rest, eof) else { break };
            self.rows.begin_record(next)?;
            if let Some(Data::Utf8(texts)) = self.rows.columns.first_mut().map(|column| &mut column.data) {
                texts.push(&String::from_utf8_lossy(&rest[..end]));
            }
            self.rows.close(Ending::Whole, &[], "")?;
            self.any = true;
            pos += next;
        }
        Ok(pos)
    }

    fn outgrown(&self) -> Vec<String> {
        Vec::new()
    }

    fn unmatched(&self) -> Vec<String> {
        Vec::new()
    }
}
