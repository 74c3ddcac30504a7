//! CSV: rows of text values, matched to columns by the header of each file.
//!
//! Values are read straight into typed columns. A value that does not fit is NULL and rescued; a row with too few
//! or too many values keeps those it has; a row whose quotes do not end is corrupt as a whole.

mod header;
pub(crate) mod infer;
pub(crate) mod tokenizer;
pub(crate) mod value;

use arrow::datatypes::Schema;

use crate::column::Column;
pub use crate::csv::header::beginning;
use crate::csv::header::{Begin, Beginning};
use crate::csv::tokenizer::{Dialect, Row};
use crate::csv::value::Values;
use crate::decode::DecodeError;
use crate::options::FormatOptions;
use crate::row::{Ending, FillRows, Rows, UnmatchedNames};

const DOES_NOT_FIT: &str = "a value does not fit its column";
const RAGGED: &str = "the row has not as many values as columns";
const NO_END: &str = "a quoted value does not end as it should";

/// Decodes CSV.
pub struct CsvDecoder {
    rows: Rows,
    dialect: Dialect,
    values: Values,
    beginning: Beginning,
    row: Row,
    /// What becomes of the value at each place of the file's rows.
    targets: Vec<Target>,
    /// Built columns that the file does not have.
    absent: Vec<usize>,
    unmatched: UnmatchedNames,
    outgrown: UnmatchedNames,
    case_sensitive: bool,
    max_chars: Option<usize>,
}

/// What becomes of a value.
#[derive(Debug)]
enum Target {
    /// It goes into a column, by its place among the built ones.
    Column(usize, String),
    /// Its column is not asked for.
    Pass,
    /// The schema has no column of that name.
    Unmatched(String),
}

impl CsvDecoder {
    /// A decoder of the columns `projection` of `full_schema`.
    pub fn new(
        options: &FormatOptions,
        full_schema: &Schema,
        projection: &[usize],
        batch_rows: usize,
    ) -> Result<CsvDecoder, DecodeError> {
        let rows = Rows::new(options, full_schema, projection, batch_rows)?;
        for (index, column) in rows.columns.iter().enumerate() {
            let name = rows.fields.iter().find(|(_, place)| *place == Some(index)).map(|(name, _)| name.as_str());
            value::check(column, name.unwrap_or_default())?;
        }
        Ok(CsvDecoder {
            rows,
            dialect: Dialect::new(options),
            values: Values::new(options),
            beginning: Beginning::new(&options.csv),
            row: Row::default(),
            targets: Vec::new(),
            absent: Vec::new(),
            unmatched: UnmatchedNames::default(),
            outgrown: UnmatchedNames::default(),
            case_sensitive: options.case_sensitive,
            max_chars: options.csv.max_chars_per_column,
        })
    }

    /// Matches the file's columns, named or by their number, to those of the schema.
    fn match_columns(&mut self, header: Option<Vec<String>>) {
        let fields = &self.rows.fields;
        let key = |name: &str| if self.case_sensitive { name.to_owned() } else { name.to_lowercase() };
        let places: std::collections::HashMap<String, Option<usize>> =
            fields.iter().rev().map(|(name, place)| (key(name), *place)).collect();
        let names = header.unwrap_or_else(|| fields.iter().map(|(name, _)| name.clone()).collect());
        let mut met = vec![false; self.rows.columns.len()];
        self.targets.clear();
        for name in names {
            let target = match places.get(&key(&name)) {
                Some(Some(place)) if !met[*place] => {
                    met[*place] = true;
                    Target::Column(*place, name)
                }
                Some(None) => Target::Pass,
                _ => {
                    if self.rows.tracks {
                        self.unmatched.add(name.as_bytes());
                    }
                    Target::Unmatched(name)
                }
            };
            self.targets.push(target);
        }
        self.absent = (0..met.len()).filter(|&place| !met[place]).collect();
    }

    /// Decodes the row that was just cut; its text is `raw`.
    fn decode_row(&mut self, input: &[u8], raw: &[u8]) -> Result<(), DecodeError> {
        self.rows.begin_record(raw.len())?;
        if self.row.torn {
            return self.rows.corrupt(raw, NO_END.to_owned());
        }
        if let Some(reason) = self.row.too_long(input, self.max_chars) {
            return self.rows.corrupt(raw, reason);
        }
        let mut ending = Ending::Whole;
        let ascii = self.row.ascii();
        for (target, &value) in self.targets.iter().zip(&self.row.values) {
            let text = self.row.text(value, input);
            match target {
                Target::Column(place, name) => {
                    let Some(column) = self.rows.columns.get_mut(*place) else { continue };
                    match self.values.text(text, value.quoted) {
                        None => column.push_null(),
                        Some(text) if self.values.push(column, text, ascii) => {}
                        Some(text) => {
                            if self.rows.widens && column.data.wants_wider(text) {
                                self.outgrown.add(name.as_bytes());
                            }
                            column.push_null();
                            ending = Ending::Misfit;
                            if self.rows.rescues {
                                self.rows.rescued.text(name.as_bytes(), text);
                            }
                        }
                    }
                }
                Target::Pass => {}
                Target::Unmatched(name) => {
                    if let (true, Some(text)) = (self.rows.rescues, self.values.text(text, value.quoted)) {
                        self.rows.rescued.text(name.as_bytes(), text);
                    }
                }
            }
        }
        let row = self.rows.len();
        for &place in &self.absent {
            self.rows.columns.get_mut(place).into_iter().for_each(Column::push_null);
        }
        if self.row.values.len() != self.targets.len() {
            ending = Ending::Ragged;
            self.rows.columns.iter_mut().for_each(|column| column.fill_to(row));
            self.rescue_surplus(input);
        }
        let reason = if ending == Ending::Ragged { RAGGED } else { DOES_NOT_FIT };
        self.rows.close(ending, raw, reason)
    }

    /// Values behind the last column are rescued under the names that columns without header would have there.
    fn rescue_surplus(&mut self, input: &[u8]) {
        if !self.rows.rescues {
            return;
        }
        for (place, &value) in self.row.values.iter().enumerate().skip(self.targets.len()) {
            if let Some(text) = self.values.text(self.row.text(value, input), value.quoted) {
                self.rows.rescued.text(format!("_c{place}").as_bytes(), text);
            }
        }
    }
}

impl FillRows for CsvDecoder {
    fn rows(&self) -> &Rows {
        &self.rows
    }

    fn rows_mut(&mut self) -> &mut Rows {
        &mut self.rows
    }

    fn begin(&mut self) {
        self.beginning.start_file();
        self.targets.clear();
    }

    fn fill(&mut self, input: &[u8], eof: bool) -> Result<usize, DecodeError> {
        let mut pos = 0;
        if !self.beginning.is_over() {
            match self.beginning.read(&self.dialect, input, eof, &mut self.row, self.case_sensitive) {
                Begin::Columns(header, next) => {
                    self.beginning.check_width(header.as_deref(), &self.rows.path)?;
                    self.match_columns(header);
                    pos = next;
                }
                Begin::More(used) => return Ok(used),
            }
        }
        while !self.rows.is_full() {
            match self.dialect.read(input, pos, eof, &mut self.row) {
                Ok((start, next)) => {
                    let raw = trim_line_end(&input[start..next]);
                    self.decode_row(input, raw)?;
                    pos = next;
                }
                Err(used) => return Ok(used),
            }
        }
        Ok(pos)
    }

    fn unmatched(&self) -> Vec<String> {
        self.unmatched.names()
    }

    fn outgrown(&self) -> Vec<String> {
        self.outgrown.names()
    }
}

fn trim_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests;
