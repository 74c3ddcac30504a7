//! JSON: one record a line, or one document a file (`multiLine`).
//!
//! Lines are found first, then each is read on its own, straight into typed columns; a line that breaks is cut
//! out again and leaves no trace but its text. Coercions are Spark's: nothing is converted between kinds, except
//! that STRING columns take any value by its text.

mod cursor;
pub(crate) mod fields;
mod frame;
pub(crate) mod infer;
mod record;

use arrow::datatypes::Schema;

use crate::decode::DecodeError;
use crate::json::cursor::{Cursor, Syntax};
use crate::json::fields::FieldTable;
use crate::json::frame::{Frame, Framer};
use crate::json::record::{Assembler, Scratch};
use crate::options::{FormatOptions, JsonOptions};
use crate::row::{Ending, FillRows, Rows};
use crate::times::Times;

const DOES_NOT_FIT: &str = "a value does not fit its column";

/// Decodes JSON.
pub struct JsonDecoder {
    rows: Rows,
    table: FieldTable,
    scratch: Scratch,
    framer: Framer,
    options: JsonOptions,
    times: Times,
}

impl JsonDecoder {
    /// A decoder of the columns `projection` of `full_schema`.
    pub fn new(
        options: &FormatOptions,
        full_schema: &Schema,
        projection: &[usize],
        batch_rows: usize,
    ) -> Result<JsonDecoder, DecodeError> {
        let rows = Rows::new(options, full_schema, projection, batch_rows)?;
        // Columns that are not built come behind the others: known by name, without a place to put values.
        let (built, others): (Vec<_>, Vec<_>) = rows.fields.iter().partition(|(_, place)| place.is_some());
        let names = built.into_iter().chain(others).map(|(name, _)| name.as_str());
        let table = FieldTable::new(names, options.case_sensitive);
        Ok(JsonDecoder {
            rows,
            table,
            scratch: Scratch::new(options.track_outgrown),
            framer: Framer::new(options),
            options: options.json.clone(),
            times: Times::new(options),
        })
    }

    /// Decodes one record, or the records of an array that stands in one.
    fn record(&mut self, text: &[u8]) -> Result<(), DecodeError> {
        self.rows.begin_record(text.len())?;
        let mark = self.rows.mark();
        match self.values(text) {
            Ok(()) => Ok(()),
            Err(Broken::Syntax(syntax)) => {
                self.rows.rollback(&mark);
                self.rows.corrupt(text, syntax.to_string())
            }
            Err(Broken::Refused(error)) => Err(error),
        }
    }

    fn values(&mut self, text: &[u8]) -> Result<(), Broken> {
        let JsonDecoder { rows, table, scratch, options, times, .. } = self;
        let cursor = Cursor::new(text, options);
        let mut assembler = Assembler::new(cursor, scratch, rows.rescues, rows.tracks, times);
        assembler.cursor.whitespace()?;
        if assembler.cursor.eat(b'[') {
            assembler.cursor.whitespace()?;
            while !assembler.cursor.eat(b']') {
                one(&mut assembler, table, rows)?;
                assembler.cursor.element_end()?;
            }
        } else {
            one(&mut assembler, table, rows)?;
        }
        assembler.cursor.whitespace()?;
        if !assembler.cursor.at_end() {
            assembler.cursor.error("text after the record")?;
        }
        Ok(())
    }
}

/// Decodes the object at the cursor into a row.
#[inline]
fn one(assembler: &mut Assembler<'_>, table: &mut FieldTable, rows: &mut Rows) -> Result<(), Broken> {
    let start = assembler.cursor.pos;
    let row = rows.len();
    assembler.record(table, &mut rows.columns, row)?;
    assembler.write_rescued(&mut rows.rescued);
    let ending = if assembler.misfit { Ending::Misfit } else { Ending::Whole };
    let raw = &assembler.cursor.input[start..assembler.cursor.pos];
    Ok(rows.close(ending, raw, DOES_NOT_FIT)?)
}

/// Why a record gave no rows.
enum Broken {
    /// It is not JSON.
    Syntax(Syntax),
    /// The mode refuses it.
    Refused(DecodeError),
}

impl From<Syntax> for Broken {
    fn from(syntax: Syntax) -> Broken {
        Broken::Syntax(syntax)
    }
}

impl From<DecodeError> for Broken {
    fn from(error: DecodeError) -> Broken {
        Broken::Refused(error)
    }
}

impl FillRows for JsonDecoder {
    fn rows(&self) -> &Rows {
        &self.rows
    }

    fn rows_mut(&mut self) -> &mut Rows {
        &mut self.rows
    }

    fn begin(&mut self) {
        self.framer.start_file();
    }

    fn fill(&mut self, input: &[u8], eof: bool) -> Result<usize, DecodeError> {
        let mut pos = 0;
        while !self.rows.is_full() {
            match self.framer.next(input, pos, eof) {
                Frame::Record(record, next) => {
                    self.record(&input[record])?;
                    pos = next;
                }
                Frame::More(used) => return Ok(used),
            }
        }
        Ok(pos)
    }

    fn unmatched(&self) -> Vec<String> {
        self.scratch.unmatched.names()
    }

    fn outgrown(&self) -> Vec<String> {
        self.scratch.outgrown.names()
    }
}

#[cfg(test)]
mod tests;
