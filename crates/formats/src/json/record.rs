//! One record's text into one row of columns, noting what fits nowhere.
//!
//! Recursion follows the columns' types, never the text: what has no column is skipped without recursion.

use crate::column::{Column, Data, Texts};
use crate::json::cursor::{Cursor, Syntax, Text, unescape};
use crate::json::fields::FieldTable;
use crate::rescue::{RescueObject, write_string};
use crate::row::UnmatchedNames;
use crate::scalar;
use crate::times::Times;

/// How a value and its column went together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// The value is in the column.
    Whole,
    /// The value is in the column without some inner values of a list or map.
    Partly,
    /// Nothing was appended.
    Not,
}

/// One step of a path to a field.
#[derive(Debug, Clone, Copy)]
enum Step {
    Field(Text),
    /// Any element of a list.
    Element,
    /// Any value of a map.
    Value,
}

/// A value that fits nowhere: the way to it, its name, and where it stands in the text.
#[derive(Debug, Clone, Copy)]
struct Misfit {
    path_start: usize,
    path_end: usize,
    name: Text,
    start: usize,
    end: usize,
}

/// Buffers that outlive a record.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    misfits: Vec<Misfit>,
    paths: Vec<Text>,
    path: Vec<Step>,
    text: Vec<u8>,
    pub unmatched: UnmatchedNames,
    /// Whether columns that a wider type would suit are collected.
    widens: bool,
    pub outgrown: UnmatchedNames,
}

impl Scratch {
    /// Empty; `widens`: columns that a wider type would suit are to be collected.
    pub fn new(widens: bool) -> Scratch {
        Scratch { widens, ..Scratch::default() }
    }
}

/// Reads records of one text.
pub(crate) struct Assembler<'a> {
    pub cursor: Cursor<'a>,
    scratch: &'a mut Scratch,
    /// Whether misfits and unmatched fields are kept for the rescue column.
    rescues: bool,
    times: &'a Times,
    /// Whether the names of unmatched fields are collected.
    tracks: bool,
    /// Lists and maps around the current value: inside, a misfit rescues the outermost of them.
    lists: usize,
    list_misfit: bool,
    /// Whether any value of the record did not fit its column.
    pub misfit: bool,
}

impl<'a> Assembler<'a> {
    pub fn new(
        cursor: Cursor<'a>,
        scratch: &'a mut Scratch,
        rescues: bool,
        tracks: bool,
        times: &'a Times,
    ) -> Assembler<'a> {
        scratch.path.clear();
        scratch.misfits.clear();
        scratch.paths.clear();
        Assembler { cursor, scratch, rescues, tracks, times, lists: 0, list_misfit: false, misfit: false }
    }

    /// Reads one record at the cursor into row `row` of `columns`, which are all that long. After an error they
    /// are in disorder and must be truncated.
    pub fn record(&mut self, table: &mut FieldTable, columns: &mut [Column], row: usize) -> Result<(), Syntax> {
        self.misfit = false;
        if self.cursor.peek() != b'{' {
            return self.cursor.error("a record must be an object");
        }
        self.object(table, columns, row)
    }

    fn object(&mut self, table: &mut FieldTable, columns: &mut [Column], row: usize) -> Result<(), Syntax> {
        self.cursor.pos += 1;
        self.cursor.whitespace()?;
        let mut filled = 0;
        if !self.cursor.eat(b'}') {
            let mut after = 0;
            loop {
                let (place, name) = self.field(table, after)?;
                self.cursor.colon()?;
                let start = self.cursor.pos;
                let known = place.is_some();
                if let Some((place, column)) = place.and_then(|place| Some((place, columns.get_mut(place)?))) {
                    if column.len() == row {
                        filled += 1;
                    } else {
                        // The same field again: the last one counts.
                        column.truncate(row);
                    }
                    let fit = self.value(column, Step::Field(name))?;
                    if fit == Fit::Not {
                        if self.scratch.widens {
                            self.note_outgrown(column, Some(name), start);
                        }
                        column.push_null();
                    }
                    if fit != Fit::Whole {
                        self.note_misfit(name, start);
                    }
                    after = place + 1;
                } else {
                    self.cursor.skip()?;
                    after = place.map_or(after, |place| place + 1);
                    if self.tracks && !known {
                        self.note_unmatched(name, start);
                    }
                }
                self.cursor.whitespace()?;
                if self.cursor.eat(b',') {
                    self.cursor.whitespace()?;
                } else if self.cursor.eat(b'}') {
                    break;
                } else {
                    return self.cursor.error("expected `,` or `}`");
                }
            }
        }
        if filled < columns.len() {
            columns.iter_mut().for_each(|column| column.fill_to(row));
        }
        Ok(())
    }

    /// The next field's place and name.
    #[inline]
    fn field(&mut self, table: &mut FieldTable, after: usize) -> Result<(Option<usize>, Text), Syntax> {
        if let Some((place, length)) = table.guess(after, &self.cursor.input[self.cursor.pos..]) {
            let start = self.cursor.pos + 1;
            self.cursor.pos += length;
            return Ok((Some(place), Text { start, end: start + length - 2, escaped: false, ascii: false }));
        }
        let name = self.cursor.name()?;
        let place = table.find(after, text(self.cursor.input, name, &mut self.scratch.text));
        Ok((place, name))
    }

    /// Reads one value into its column.
    #[inline]
    fn value(&mut self, column: &mut Column, step: Step) -> Result<Fit, Syntax> {
        let cursor = &mut self.cursor;
        let byte = cursor.peek();
        if byte == b'n' && cursor.eat_word(b"null") {
            column.push_null();
            return Ok(Fit::Whole);
        }
        match &mut column.data {
            Data::Utf8(texts) => {
                if cursor.at_string() {
                    push_string(cursor, texts, &mut self.scratch.text)?;
                } else {
                    let start = cursor.pos;
                    cursor.skip()?;
                    if !texts.push_bytes(&cursor.input[start..cursor.pos]) {
                        return cursor.error("invalid UTF-8");
                    }
                }
                Ok(Fit::Whole)
            }
            Data::I64(values) => push(values, self.integer(byte)?),
            Data::F64(values) => push(values, self.double(byte)?),
            Data::I32(values) => push(values, self.integer(byte)?.and_then(|v| v.try_into().ok())),
            Data::I16(values) => push(values, self.integer(byte)?.and_then(|v| v.try_into().ok())),
            Data::I8(values) => push(values, self.integer(byte)?.and_then(|v| v.try_into().ok())),
            Data::F32(values) => push(values, self.double(byte)?.map(|v| v as f32)),
            Data::Bool(values) => {
                let value = match byte {
                    b't' if cursor.eat_word(b"true") => Some(true),
                    b'f' if cursor.eat_word(b"false") => Some(false),
                    _ => {
                        cursor.skip()?;
                        None
                    }
                };
                push(values, value)
            }
            Data::Timestamp { values, zone } => {
                let value = if zone.is_some() && matches!(byte, b'0'..=b'9' | b'-') {
                    self.integer(byte)?.and_then(|seconds| seconds.checked_mul(1_000_000))
                } else {
                    let times = self.times;
                    match zone {
                        Some(_) => self.text_value(|text| times.timestamp(text))?,
                        None => self.text_value(|text| times.timestamp_ntz(text))?,
                    }
                };
                push(values, value)
            }
            Data::Date(values) => {
                let times = self.times;
                let value = self.text_value(|text| times.date(text))?;
                push(values, value)
            }
            Data::Decimal { values, precision, scale } => {
                let (precision, scale) = (*precision, *scale);
                push(values, self.decimal(precision, scale)?)
            }
            Data::Null(_) => {
                cursor.skip()?;
                Ok(Fit::Not)
            }
            _ => self.nested(column, byte, step),
        }
    }

    fn nested(&mut self, column: &mut Column, byte: u8, step: Step) -> Result<Fit, Syntax> {
        match (&mut column.data, byte) {
            (Data::Struct { table, children, len, .. }, b'{') => {
                self.scratch.path.push(step);
                self.object(table, children, *len)?;
                self.scratch.path.pop();
                *len += 1;
                Ok(Fit::Whole)
            }
            (Data::List { child, ends, .. }, b'[') => {
                self.enter_list(step);
                self.elements(child)?;
                ends.push(child.len() as i32);
                Ok(self.leave_list())
            }
            (Data::Map { keys, values, ends, .. }, b'{') => {
                self.enter_list(step);
                self.pairs(keys, values)?;
                ends.push(keys.len() as i32);
                Ok(self.leave_list())
            }
            _ => {
                self.cursor.skip()?;
                Ok(Fit::Not)
            }
        }
    }

    fn enter_list(&mut self, step: Step) {
        self.lists += 1;
        self.scratch.path.push(step);
    }

    /// Inside an outer list the misfit is the outer list's to report.
    fn leave_list(&mut self) -> Fit {
        self.scratch.path.pop();
        self.lists -= 1;
        if self.lists == 0 && std::mem::take(&mut self.list_misfit) { Fit::Partly } else { Fit::Whole }
    }

    fn elements(&mut self, child: &mut Column) -> Result<(), Syntax> {
        self.cursor.pos += 1;
        self.cursor.whitespace()?;
        if self.cursor.eat(b']') {
            return Ok(());
        }
        loop {
            self.inner_value(child, Step::Element)?;
            self.cursor.element_end()?;
            if self.cursor.eat(b']') {
                return Ok(());
            }
        }
    }

    fn pairs(&mut self, keys: &mut Texts, values: &mut Column) -> Result<(), Syntax> {
        self.cursor.pos += 1;
        self.cursor.whitespace()?;
        if self.cursor.eat(b'}') {
            return Ok(());
        }
        loop {
            let key = self.cursor.name()?;
            if !keys.push_bytes(text(self.cursor.input, key, &mut self.scratch.text)) {
                return self.cursor.error("invalid UTF-8");
            }
            self.cursor.colon()?;
            self.inner_value(values, Step::Value)?;
            self.cursor.whitespace()?;
            if self.cursor.eat(b'}') {
                return Ok(());
            }
            if !self.cursor.eat(b',') {
                return self.cursor.error("expected `,` or `}`");
            }
            self.cursor.whitespace()?;
        }
    }

    #[inline]
    fn inner_value(&mut self, column: &mut Column, step: Step) -> Result<(), Syntax> {
        let start = self.cursor.pos;
        if self.value(column, step)? == Fit::Not {
            if self.scratch.widens {
                self.note_outgrown(column, None, start);
            }
            column.push_null();
            self.list_misfit = true;
        }
        Ok(())
    }

    #[inline]
    fn integer(&mut self, byte: u8) -> Result<Option<i64>, Syntax> {
        if byte.is_ascii_digit() || byte == b'-' && self.cursor.input.get(self.cursor.pos + 1) != Some(&b'I') {
            return Ok(self.cursor.number()?.as_i64());
        }
        self.cursor.skip()?;
        Ok(None)
    }

    #[inline]
    fn double(&mut self, byte: u8) -> Result<Option<f64>, Syntax> {
        let cursor = &mut self.cursor;
        match byte {
            b'0'..=b'9' => Ok(Some(cursor.number()?.as_f64(cursor.input))),
            b'N' | b'I' | b'+' | b'-' => match cursor.non_number() {
                Some(value) => Ok(Some(value)),
                None if byte == b'-' => Ok(Some(cursor.number()?.as_f64(cursor.input))),
                None => cursor.error("expected a value"),
            },
            _ if cursor.at_string() => {
                let found = cursor.string()?;
                let word = &cursor.input[found.start..found.end];
                Ok(cursor.non_number_word(word))
            }
            _ => {
                cursor.skip()?;
                Ok(None)
            }
        }
    }

    /// A string's value by `read`; None for anything but a string.
    #[inline]
    fn text_value<T>(&mut self, read: impl Fn(&[u8]) -> Option<T>) -> Result<Option<T>, Syntax> {
        if self.cursor.at_string() {
            let found = self.cursor.string()?;
            return Ok(read(text(self.cursor.input, found, &mut self.scratch.text)));
        }
        self.cursor.skip()?;
        Ok(None)
    }

    fn decimal(&mut self, precision: u8, scale: i8) -> Result<Option<i128>, Syntax> {
        let byte = self.cursor.peek();
        if byte.is_ascii_digit() || byte == b'-' && self.cursor.input.get(self.cursor.pos + 1) != Some(&b'I') {
            let number = self.cursor.number()?;
            return Ok(scalar::decimal(&self.cursor.input[number.start..number.end], precision, scale));
        }
        if self.cursor.at_string() {
            let found = self.cursor.string()?;
            return Ok(self.times.decimal(&self.cursor.input[found.start..found.end], precision, scale));
        }
        self.cursor.skip()?;
        Ok(None)
    }

    #[cold]
    fn note_misfit(&mut self, name: Text, start: usize) {
        self.misfit = true;
        self.note(name, start);
    }

    /// The value that ends at the cursor did not fit `column`, the field `name` or an element of the innermost one.
    #[cold]
    fn note_outgrown(&mut self, column: &Column, name: Option<Text>, start: usize) {
        let input = self.cursor.input;
        if !column.data.wants_wider(&input[start..self.cursor.pos]) {
            return;
        }
        let mut path = Vec::new();
        let fields = self.scratch.path.iter().filter_map(|step| match step {
            Step::Field(name) => Some(*name),
            Step::Element | Step::Value => None,
        });
        for field in fields.chain(name) {
            if !path.is_empty() {
                path.push(b'.');
            }
            path.extend_from_slice(text(input, field, &mut self.scratch.text));
        }
        self.scratch.outgrown.add(&path);
    }

    #[cold]
    fn note_unmatched(&mut self, name: Text, start: usize) {
        let input = self.cursor.input;
        let mut dotted = Vec::new();
        for step in &self.scratch.path {
            match step {
                Step::Field(name) => dotted.extend_from_slice(text(input, *name, &mut self.scratch.text)),
                Step::Element => dotted.extend_from_slice(b"element"),
                Step::Value => dotted.extend_from_slice(b"value"),
            }
            dotted.push(b'.');
        }
        dotted.extend_from_slice(text(input, name, &mut self.scratch.text));
        self.scratch.unmatched.add(&dotted);
        if self.rescues {
            self.note(name, start);
        }
    }

    fn note(&mut self, name: Text, start: usize) {
        if self.lists > 0 {
            self.list_misfit = true;
        } else if self.rescues {
            let path_start = self.scratch.paths.len();
            let fields = self.scratch.path.iter().filter_map(|step| match step {
                Step::Field(name) => Some(*name),
                Step::Element | Step::Value => None,
            });
            self.scratch.paths.extend(fields);
            let path_end = self.scratch.paths.len();
            self.scratch.misfits.push(Misfit { path_start, path_end, name, start, end: self.cursor.pos });
        }
    }

    /// Moves what was noted since the last call into `out`, nested as it was found.
    #[inline]
    pub fn write_rescued(&mut self, out: &mut RescueObject) {
        if !self.scratch.misfits.is_empty() {
            self.write_misfits(out);
        }
    }

    #[cold]
    fn write_misfits(&mut self, out: &mut RescueObject) {
        let input = self.cursor.input;
        let Scratch { misfits, paths, text: buffer, .. } = &mut *self.scratch;
        let mut open: &[Text] = &[];
        // Misfits come in the order of the text, so those of one object are neighbours.
        for misfit in misfits.iter() {
            let path = &paths[misfit.path_start..misfit.path_end];
            let common = open.iter().zip(path).take_while(|(a, b)| a.start == b.start).count();
            for _ in common..open.len() {
                out.nested().push(b'}');
            }
            let member = out.member();
            for step in &path[common..] {
                write_string(text(input, *step, buffer), member);
                member.extend_from_slice(b":{");
            }
            write_string(text(input, misfit.name, buffer), member);
            member.push(b':');
            let raw = &input[misfit.start..misfit.end];
            if self.cursor.lenient {
                self.cursor.write_strict(raw, member)
            } else {
                member.extend_from_slice(raw)
            }
            open = path;
        }
        for _ in open {
            out.nested().push(b'}');
        }
        misfits.clear();
        paths.clear();
    }
}

/// Appends the string at the cursor.
#[inline]
fn push_string(cursor: &mut Cursor<'_>, texts: &mut Texts, buffer: &mut Vec<u8>) -> Result<(), Syntax> {
    let found = cursor.unchecked_string()?;
    let content = &cursor.input[found.start..found.end];
    let pushed = match (found.escaped, found.ascii) {
        (false, true) => {
            texts.push_ascii(content);
            true
        }
        (false, false) => texts.push_bytes(content),
        (true, ascii) => {
            if !ascii {
                cursor.check_utf8(found)?;
            }
            buffer.clear();
            unescape(content, buffer);
            texts.push_bytes(buffer)
        }
    };
    if pushed { Ok(()) } else { cursor.check_utf8(found) }
}

#[inline]
fn push<T>(values: &mut Vec<T>, value: Option<T>) -> Result<Fit, Syntax> {
    Ok(match value {
        Some(value) => {
            values.push(value);
            Fit::Whole
        }
        None => Fit::Not,
    })
}

/// A string's content without escapes.
fn text<'t>(input: &'t [u8], found: Text, buffer: &'t mut Vec<u8>) -> &'t [u8] {
    let content = &input[found.start..found.end];
    if !found.escaped {
        return content;
    }
    buffer.clear();
    unescape(content, buffer);
    buffer
}
