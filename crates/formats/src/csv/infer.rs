//! Types of CSV columns: INT, BIGINT, DECIMAL, DOUBLE, DATE, TIMESTAMP, BOOLEAN, STRING, in this order.

use arrow::datatypes::{DataType, Field, TimeUnit};
use indexmap::IndexMap;

use crate::csv::header::{Begin, Beginning};
use crate::csv::tokenizer::{Dialect, Row};
use crate::csv::value::Values;
use crate::decode::DecodeError;
use crate::infer::CorruptRecords;
use crate::options::{CsvOptions, FormatOptions};
use crate::scalar;

/// What a column's values have been so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// NULL only.
    Unknown,
    Int,
    BigInt,
    /// Integers of so many digits.
    Decimal(u8),
    Double,
    Date,
    Timestamp,
    Boolean,
    Text,
}

/// Infers from CSV.
pub(crate) struct CsvInferrer {
    options: CsvOptions,
    dialect: Dialect,
    values: Values,
    beginning: Beginning,
    row: Row,
    case_sensitive: bool,
    types: bool,
    columns: IndexMap<String, Kind>,
    /// By place in the file's rows, the place in `columns`.
    places: Vec<usize>,
}

impl CsvInferrer {
    pub fn new(options: &FormatOptions) -> CsvInferrer {
        CsvInferrer {
            options: options.csv.clone(),
            dialect: Dialect::new(options),
            values: Values::new(options),
            beginning: Beginning::new(&options.csv),
            row: Row::default(),
            case_sensitive: options.case_sensitive,
            types: options.infer_column_types,
            columns: IndexMap::new(),
            places: Vec::new(),
        }
    }

    pub fn start_file(&mut self) {
        self.beginning.start_file();
        self.places.clear();
    }

    pub fn sample(&mut self, input: &[u8], eof: bool, corrupt: &mut CorruptRecords) -> Result<usize, DecodeError> {
        let mut pos = 0;
        if !self.beginning.is_over() {
            match self.beginning.read(&self.dialect, input, eof, &mut self.row, self.case_sensitive) {
                Begin::Columns(header, next) => {
                    self.beginning.check_width(header.as_deref(), &corrupt.path)?;
                    header.into_iter().flatten().for_each(|name| self.add_column(name));
                    pos = next;
                }
                Begin::More(used) => return Ok(used),
            }
        }
        loop {
            match self.dialect.read(input, pos, eof, &mut self.row) {
                Ok((_, next)) => {
                    if corrupt.takes() {
                        self.sample_row(input, corrupt)?;
                    }
                    pos = next;
                }
                Err(used) => return Ok(used),
            }
        }
    }

    /// The next place of the file's rows belongs to the column of that name.
    fn add_column(&mut self, name: String) {
        // Spellings that differ by case are one column, under the first of them.
        let known = self
            .columns
            .get_index_of(&name)
            .or_else(|| self.columns.keys().position(|other| other.to_lowercase() == name.to_lowercase()));
        let place = known.unwrap_or_else(|| self.columns.insert_full(name, Kind::Unknown).0);
        self.places.push(place);
    }

    fn sample_row(&mut self, input: &[u8], corrupt: &mut CorruptRecords) -> Result<(), DecodeError> {
        if self.row.torn {
            return corrupt.met(super::NO_END.to_owned());
        }
        if let Some(reason) = self.row.too_long(input, self.options.max_chars_per_column) {
            return corrupt.met(reason);
        }
        if !self.options.header && self.places.is_empty() {
            (0..self.row.values.len()).for_each(|place| self.add_column(format!("_c{place}")));
        }
        if self.types {
            for (&place, &value) in self.places.iter().zip(&self.row.values) {
                let Some((_, kind)) = self.columns.get_index_mut(place) else { continue };
                if *kind == Kind::Text {
                    continue;
                }
                if let Some(text) = self.values.text(self.row.text(value, input), value.quoted) {
                    let found = classify(*kind, text, &self.options, &self.values);
                    *kind = merge(*kind, found);
                }
            }
        }
        if self.row.values.len() == self.places.len() { Ok(()) } else { corrupt.met(super::RAGGED.to_owned()) }
    }

    pub fn finish(self) -> Vec<Field> {
        let types = self.types;
        let data_type = |kind| match kind {
            Kind::Int => DataType::Int32,
            Kind::BigInt => DataType::Int64,
            Kind::Decimal(digits) => DataType::Decimal128(digits, 0),
            Kind::Double => DataType::Float64,
            Kind::Date => DataType::Date32,
            Kind::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Kind::Boolean => DataType::Boolean,
            Kind::Unknown | Kind::Text => DataType::Utf8,
        };
        self.columns
            .into_iter()
            .map(|(name, kind)| Field::new(name, if types { data_type(kind) } else { DataType::Utf8 }, true))
            .collect()
    }
}

/// The first kind that takes the text, beginning with the one the column has.
fn classify(so_far: Kind, text: &[u8], options: &CsvOptions, values: &Values) -> Kind {
    let numbers = matches!(so_far, Kind::Unknown | Kind::Int | Kind::BigInt | Kind::Decimal(_) | Kind::Double);
    if numbers {
        if so_far != Kind::Double {
            if let Some(value) = scalar::integer(text) {
                return if i32::try_from(value).is_ok() { Kind::Int } else { Kind::BigInt };
            }
            if let Some(digits @ ..=38) = values.whole_digits(text) {
                return Kind::Decimal(digits as u8);
            }
        }
        if values.double(text).is_some() {
            return Kind::Double;
        }
    }
    if options.prefer_date && matches!(so_far, Kind::Unknown | Kind::Date) && values.is_date(text) {
        return Kind::Date;
    }
    let times = matches!(so_far, Kind::Unknown | Kind::Date | Kind::Timestamp);
    if times && values.is_timestamp(text) {
        return Kind::Timestamp;
    }
    match so_far {
        Kind::Unknown | Kind::Boolean if scalar::boolean(text).is_some() => Kind::Boolean,
        _ => Kind::Text,
    }
}

/// The narrowest kind that holds the values of both.
fn merge(a: Kind, b: Kind) -> Kind {
    let digits = |kind| match kind {
        Kind::Int => Some(10),
        Kind::BigInt => Some(20),
        Kind::Decimal(digits) => Some(digits),
        _ => None,
    };
    match (a, b) {
        (Kind::Unknown, kind) | (kind, Kind::Unknown) => kind,
        (a, b) if a == b => a,
        (Kind::Int, Kind::BigInt) | (Kind::BigInt, Kind::Int) => Kind::BigInt,
        (Kind::Date, Kind::Timestamp) | (Kind::Timestamp, Kind::Date) => Kind::Timestamp,
        (Kind::Double, other) | (other, Kind::Double) if digits(other).is_some() => Kind::Double,
        (a, b) => match (digits(a), digits(b)) {
            (Some(a), Some(b)) => Kind::Decimal(a.max(b)),
            _ => Kind::Text,
        },
    }
}
