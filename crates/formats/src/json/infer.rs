//! Types of JSON fields.
//!
//! Integers are BIGINT, or DECIMAL beyond 64 bits; fractions DOUBLE; kinds that do not go together are STRING, which
//! holds any value by its text. An object without fields anywhere has no type and no column.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};

use crate::decode::DecodeError;
use crate::infer::CorruptRecords;
use crate::json::cursor::{Cursor, Syntax, Text, unescape};
use crate::json::frame::{Frame, Framer};
use crate::options::{FormatOptions, JsonOptions};
use crate::times::Times;

/// Objects deeper than this are STRING: no table has such columns, and the reader recurses.
const NESTING_MAX: usize = 64;

/// What a field's values have been so far.
#[derive(Debug, Default)]
enum Kind {
    /// `null` only, or not there.
    #[default]
    Unknown,
    Boolean,
    BigInt,
    /// Digits before and behind the point.
    Decimal(u32, u32),
    Double,
    Timestamp,
    Text,
    List(Box<Kind>),
    Object(Box<Object>),
}

#[derive(Debug, Default)]
struct Object {
    fields: Vec<(String, Kind)>,
    places: HashMap<String, usize>,
    /// Lower-case names, to find spellings that differ by case only.
    folded: HashMap<String, usize>,
}

/// Infers from JSON.
pub(crate) struct JsonInferrer {
    framer: Framer,
    types: bool,
    rules: Rules,
    root: Object,
}

struct Rules {
    json: JsonOptions,
    times: Times,
    case_sensitive: bool,
}

impl JsonInferrer {
    pub fn new(options: &FormatOptions) -> JsonInferrer {
        JsonInferrer {
            framer: Framer::new(options),
            types: options.infer_column_types,
            rules: Rules {
                json: options.json.clone(),
                times: Times::new(options),
                case_sensitive: options.case_sensitive,
            },
            root: Object::default(),
        }
    }

    pub fn start_file(&mut self) {
        self.framer.start_file();
    }

    pub fn sample(&mut self, input: &[u8], eof: bool, corrupt: &mut CorruptRecords) -> Result<usize, DecodeError> {
        let mut pos = 0;
        loop {
            match self.framer.next(input, pos, eof) {
                Frame::Record(record, next) => {
                    pos = next;
                    if !corrupt.takes() {
                        continue;
                    }
                    // A broken record must leave no trace, so its syntax is checked before its types are taken.
                    match check(&input[record.clone()], &self.rules.json) {
                        Ok(()) => self.record(&input[record]),
                        Err(syntax) => corrupt.met(syntax.to_string())?,
                    }
                }
                Frame::More(used) => return Ok(used),
            }
        }
    }

    /// Takes the types of a record, or of an array of records, that is known to be JSON.
    fn record(&mut self, text: &[u8]) {
        let mut cursor = Cursor::new(text, &self.rules.json);
        let depth = if self.types { 0 } else { NESTING_MAX };
        let result = (|| {
            cursor.whitespace()?;
            if !cursor.eat(b'[') {
                return self.root.read(&mut cursor, &self.rules, depth);
            }
            cursor.whitespace()?;
            while !cursor.eat(b']') {
                self.root.read(&mut cursor, &self.rules, depth)?;
                cursor.element_end()?;
            }
            Ok(())
        })();
        debug_assert!(result.is_ok(), "checked before");
    }

    pub fn finish(self) -> Vec<Field> {
        let JsonInferrer { types, rules, root, .. } = self;
        if !types {
            return root.fields.into_iter().map(|(name, _)| Field::new(name, DataType::Utf8, true)).collect();
        }
        root.into_fields(&rules.json)
    }
}

/// Whether a text is a record or an array of records.
fn check(text: &[u8], options: &JsonOptions) -> Result<(), Syntax> {
    let mut cursor = Cursor::new(text, options);
    let record = |cursor: &mut Cursor<'_>| {
        if cursor.peek() == b'{' { cursor.skip() } else { cursor.error("a record must be an object") }
    };
    cursor.whitespace()?;
    if cursor.eat(b'[') {
        cursor.whitespace()?;
        while !cursor.eat(b']') {
            record(&mut cursor)?;
            cursor.element_end()?;
        }
    } else {
        record(&mut cursor)?;
    }
    cursor.whitespace()?;
    if cursor.at_end() { Ok(()) } else { cursor.error("text after the record") }
}

impl Object {
    /// Reads the object at the cursor. At `depth` [`NESTING_MAX`] only names are taken.
    fn read(&mut self, cursor: &mut Cursor<'_>, rules: &Rules, depth: usize) -> Result<(), Syntax> {
        cursor.pos += 1;
        cursor.whitespace()?;
        let mut guess = 0;
        while !cursor.eat(b'}') {
            let name = cursor.name()?;
            let (place, spelt_so) = self.place(cursor.input, name, guess, rules);
            guess = place + 1;
            cursor.colon()?;
            match self.fields.get_mut(place) {
                Some((_, kind)) if spelt_so && depth < NESTING_MAX => kind.read(cursor, rules, depth)?,
                _ => cursor.skip()?,
            }
            cursor.whitespace()?;
            if cursor.eat(b',') {
                cursor.whitespace()?;
            }
        }
        Ok(())
    }

    /// The place of a field, and whether the column has its spelling (or any will do).
    fn place(&mut self, input: &[u8], name: Text, guess: usize, rules: &Rules) -> (usize, bool) {
        let content = &input[name.start..name.end];
        if let Some((known, _)) = self.fields.get(guess)
            && !name.escaped
            && known.as_bytes() == content
        {
            return (guess, true);
        }
        let mut plain = Vec::new();
        unescape(content, &mut plain);
        let name = String::from_utf8_lossy(&plain).into_owned();
        if let Some(&place) = self.places.get(&name) {
            return (place, true);
        }
        let folded = name.to_lowercase();
        if let Some(&place) = self.folded.get(&folded) {
            return (place, !rules.case_sensitive);
        }
        let place = self.fields.len();
        self.places.insert(name.clone(), place);
        self.folded.insert(folded, place);
        self.fields.push((name, Kind::Unknown));
        (place, true)
    }

    fn into_fields(self, options: &JsonOptions) -> Vec<Field> {
        let field = |(name, kind): (String, Kind)| Some(Field::new(name, kind.into_type(options)?, true));
        self.fields.into_iter().filter_map(field).collect()
    }
}

impl Kind {
    /// Reads the value at the cursor and widens the kind to hold it.
    fn read(&mut self, cursor: &mut Cursor<'_>, rules: &Rules, depth: usize) -> Result<(), Syntax> {
        let byte = cursor.peek();
        if byte == b'n' && cursor.eat_word(b"null") {
            return Ok(());
        }
        match (byte, &mut *self) {
            (_, Kind::Text) => cursor.skip(),
            (b'{', Kind::Unknown | Kind::Object(_)) if depth + 1 < NESTING_MAX => {
                if let Kind::Unknown = self {
                    *self = Kind::Object(Box::default());
                }
                if let Kind::Object(object) = self {
                    object.read(cursor, rules, depth + 1)?;
                }
                Ok(())
            }
            (b'[', Kind::Unknown | Kind::List(_)) if depth + 1 < NESTING_MAX => {
                if let Kind::Unknown = self {
                    *self = Kind::List(Box::default());
                }
                cursor.pos += 1;
                cursor.whitespace()?;
                while !cursor.eat(b']') {
                    if let Kind::List(item) = self {
                        item.read(cursor, rules, depth + 1)?;
                    }
                    cursor.element_end()?;
                }
                Ok(())
            }
            _ => {
                let found = scalar_kind(cursor, rules)?;
                *self = merge(std::mem::take(self), found);
                Ok(())
            }
        }
    }

    /// The type of the column; None if there is to be none.
    fn into_type(self, options: &JsonOptions) -> Option<DataType> {
        if options.primitives_as_string && !matches!(self, Kind::Unknown | Kind::List(_) | Kind::Object(_)) {
            return Some(DataType::Utf8);
        }
        Some(match self {
            Kind::Unknown if options.drop_field_if_all_null => return None,
            Kind::Unknown | Kind::Text => DataType::Utf8,
            Kind::Boolean => DataType::Boolean,
            Kind::BigInt => DataType::Int64,
            Kind::Decimal(before, behind) => DataType::Decimal128((before + behind).max(1) as u8, behind as i8),
            Kind::Double => DataType::Float64,
            Kind::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Kind::List(item) => DataType::List(Arc::new(Field::new("element", item.into_type(options)?, true))),
            Kind::Object(object) => {
                let fields = object.into_fields(options);
                if fields.is_empty() {
                    return None;
                }
                DataType::Struct(fields.into())
            }
        })
    }
}

/// The kind of a value that is no object or array, or does not go with what was there before.
fn scalar_kind(cursor: &mut Cursor<'_>, rules: &Rules) -> Result<Kind, Syntax> {
    let options = &rules.json;
    match cursor.peek() {
        b't' | b'f' => cursor.skip().map(|()| Kind::Boolean),
        b'N' | b'I' | b'+' | b'-' if cursor.non_number().is_some() => Ok(Kind::Double),
        b'0'..=b'9' | b'-' => {
            let number = cursor.number()?;
            if number.as_i64().is_some() {
                return Ok(Kind::BigInt);
            }
            Ok(decimal_kind(&cursor.input[number.start..number.end], number.integer || options.prefers_decimal))
        }
        _ if cursor.at_string() && options.infer_timestamp => {
            let found = cursor.string()?;
            let content = &cursor.input[found.start..found.end];
            Ok(if rules.times.is_timestamp(content) { Kind::Timestamp } else { Kind::Text })
        }
        _ => cursor.skip().map(|()| Kind::Text),
    }
}

/// DECIMAL with the digits of `text` if that is wanted and they are not too many, else DOUBLE.
fn decimal_kind(text: &[u8], wanted: bool) -> Kind {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if !wanted || digits.iter().any(|b| matches!(b, b'e' | b'E')) {
        return Kind::Double;
    }
    let point = digits.iter().position(|&b| b == b'.');
    let behind = point.map_or(0, |point| digits.len() - point - 1);
    let before = point.unwrap_or(digits.len());
    let before = if digits.starts_with(b"0") { 0 } else { before };
    // Integers beyond 64 bits are DECIMAL(20, 0) at least, whatever the first of them has.
    let before = if point.is_none() { before.max(20) } else { before };
    if before + behind <= 38 { Kind::Decimal(before as u32, behind as u32) } else { Kind::Double }
}

/// The narrowest kind that holds the values of both.
fn merge(a: Kind, b: Kind) -> Kind {
    let digits = |kind: &Kind| match kind {
        Kind::BigInt => Some((20, 0)),
        Kind::Decimal(before, behind) => Some((*before, *behind)),
        _ => None,
    };
    match (a, b) {
        (Kind::Unknown, kind) | (kind, Kind::Unknown) => kind,
        (Kind::Boolean, Kind::Boolean) => Kind::Boolean,
        (Kind::BigInt, Kind::BigInt) => Kind::BigInt,
        (Kind::Double, Kind::Double) => Kind::Double,
        (Kind::Timestamp, Kind::Timestamp) => Kind::Timestamp,
        (Kind::Double, other) | (other, Kind::Double) if digits(&other).is_some() => Kind::Double,
        (a, b) => match (digits(&a), digits(&b)) {
            (Some(a), Some(b)) => {
                let (before, behind) = (a.0.max(b.0), a.1.max(b.1));
                if before + behind <= 38 { Kind::Decimal(before, behind) } else { Kind::Double }
            }
            _ => Kind::Text,
        },
    }
}
