//! XML: one record per element named by `rowTag`, wherever it stands in the document.
//!
//! Records are found first, by their tags alone, so that one that is not well-formed does not cost its neighbours. Each is
//! then read into a small tree and put into typed columns: attributes as fields with a prefix, child elements as
//! fields, repeated ones as arrays, text beside them as the field `_VALUE`. Child elements without a field go, as they
//! stand, into the column that `wildcardColName` names, where there is one.

mod frame;
pub(crate) mod infer;
mod tree;

use arrow::datatypes::{DataType, Schema};

use crate::column::{Column, Data};
use crate::csv::value::Values;
use crate::decode::DecodeError;
use crate::json::fields::FieldTable;
use crate::options::{FormatOptions, XmlOptions};
use crate::rescue::write_string;
use crate::row::{Ending, FillRows, Rows, UnmatchedNames};
use frame::{Frame, Framer};
use tree::Node;

const DOES_NOT_FIT: &str = "a value does not fit its column";

/// Decodes XML.
pub struct XmlDecoder {
    rows: Rows,
    framer: Framer,
    table: FieldTable,
    filler: Filler,
}

/// What putting trees into columns needs to know.
struct Filler {
    options: XmlOptions,
    values: Values,
    rescues: bool,
    /// Whether the names of unmatched elements are collected.
    tracks: bool,
    misfit: bool,
    /// Whether records have a column for unmatched elements that is not built.
    wildcard_unasked: bool,
    unmatched: UnmatchedNames,
    /// Whether columns that a wider type would suit are collected.
    widens: bool,
    outgrown: UnmatchedNames,
}

/// The column of an element for children that have none.
#[derive(Clone, Copy)]
enum Wildcard {
    /// There is none.
    None,
    /// There is one, and it is not built.
    Unasked,
    /// A STRING, by its place.
    One(usize),
    /// An ARRAY<STRING>, by its place.
    List(usize),
}

/// One value of a field.
#[derive(Clone, Copy)]
enum Value<'n> {
    /// An attribute, or the text beside child elements.
    Text(&'n str),
    Element(&'n Node),
}

impl XmlDecoder {
    /// A decoder of the columns `projection` of `full_schema`.
    pub fn new(
        options: &FormatOptions,
        full_schema: &Schema,
        projection: &[usize],
        batch_rows: usize,
    ) -> Result<XmlDecoder, DecodeError> {
        let rows = Rows::new(options, full_schema, projection, batch_rows)?;
        let names = rows.fields.iter().filter(|(_, place)| place.is_some()).map(|(name, _)| name.as_str());
        let table = FieldTable::new(names, options.case_sensitive);
        let filler = Filler {
            options: options.xml.clone(),
            values: Values::new(options),
            rescues: rows.rescues,
            tracks: rows.tracks,
            misfit: false,
            wildcard_unasked: wildcard_unasked(&options.xml, full_schema, &rows),
            unmatched: UnmatchedNames::default(),
            widens: rows.widens,
            outgrown: UnmatchedNames::default(),
        };
        Ok(XmlDecoder { rows, framer: Framer::new(&options.xml), table, filler })
    }

    fn record(&mut self, text: &[u8], torn: bool) -> Result<(), DecodeError> {
        self.rows.begin_record(text.len())?;
        if torn {
            return self.rows.corrupt(text, format!("element `{}` has no end", self.filler.options.row_tag));
        }
        let node = match tree::read(text, &self.filler.options) {
            Ok(node) => node,
            Err(reason) => return self.rows.corrupt(text, reason),
        };
        self.filler.misfit = false;
        let mut rescued = Vec::new();
        self.filler.fill(&mut self.table, &mut self.rows.columns, &node, text, "", &mut rescued);
        if !rescued.is_empty() {
            self.rows.rescued.member().extend_from_slice(&rescued);
        }
        let ending = if self.filler.misfit { Ending::Misfit } else { Ending::Whole };
        self.rows.close(ending, text, DOES_NOT_FIT)
    }
}

impl Filler {
    fn wildcard(&self, table: &mut FieldTable, columns: &[Column]) -> Wildcard {
        let place = table.find(0, self.options.wildcard_column.as_bytes());
        match place.and_then(|place| Some((place, &columns.get(place)?.data))) {
            Some((place, Data::Utf8(_))) => Wildcard::One(place),
            Some((place, Data::List { child, .. })) if matches!(child.data, Data::Utf8(_)) => Wildcard::List(place),
            None if self.wildcard_unasked => Wildcard::Unasked,
            _ => Wildcard::None,
        }
    }

    /// Puts an element's attributes, children and text into columns, one value each. What has no place is appended to
    /// `rescued` as members of a JSON object.
    fn fill(
        &mut self,
        table: &mut FieldTable,
        columns: &mut [Column],
        node: &Node,
        record: &[u8],
        path: &str,
        rescued: &mut Vec<u8>,
    ) {
        let wildcard = self.wildcard(table, columns);
        let mut found: Vec<Vec<Value<'_>>> = vec![Vec::new(); columns.len()];
        let mut left: Vec<(&str, Vec<Value<'_>>)> = Vec::new();
        let mut wild: Vec<(&str, &Node)> = Vec::new();
        let text = Some(node.text(&self.options)).filter(|text| !text.is_empty());
        let attributes = node.attributes.iter().map(|(name, value)| (name.as_str(), Value::Text(value)));
        let children = node.children.iter().map(|(name, child)| (name.as_str(), Value::Element(child)));
        let value_tag = self.options.value_tag.clone();
        let own = text.map(|text| (value_tag.as_str(), Value::Text(text)));
        for (name, value) in attributes.chain(children).chain(own) {
            if let Some(values) = table.find(0, name.as_bytes()).and_then(|place| found.get_mut(place)) {
                values.push(value);
                continue;
            }
            match (value, wildcard) {
                (Value::Element(child), Wildcard::List(_) | Wildcard::One(_)) => wild.push((name, child)),
                // They are in a column that nobody asks for.
                (Value::Element(_), Wildcard::Unasked) if path.is_empty() => {}
                _ => leave(&mut left, name, value),
            }
        }
        let whole = |child: &Node| record.get(child.outer.clone()).and_then(|xml| std::str::from_utf8(xml).ok());
        let (place, first) = match wildcard {
            Wildcard::List(place) => (place, 0),
            // One has room for the last of them; the others are left over.
            Wildcard::One(place) => (place, wild.len().saturating_sub(1)),
            Wildcard::None | Wildcard::Unasked => (0, 0),
        };
        for (at, (name, child)) in wild.into_iter().enumerate() {
            match (found.get_mut(place), whole(child)) {
                (Some(values), Some(xml)) if at >= first => values.push(Value::Text(xml)),
                _ => leave(&mut left, name, Value::Element(child)),
            }
        }
        for (place, (column, values)) in columns.iter_mut().zip(&found).enumerate() {
            let name = table.name(place).to_owned();
            self.column(column, values, record, &name, path, rescued);
        }
        for (name, values) in left {
            if self.tracks {
                self.unmatched.add(format!("{path}{name}").as_bytes());
            }
            if self.rescues {
                self.rescue(name, &values, rescued);
            }
        }
    }

    /// Puts a field's values into its column.
    fn column(
        &mut self,
        column: &mut Column,
        values: &[Value<'_>],
        record: &[u8],
        name: &str,
        path: &str,
        rescued: &mut Vec<u8>,
    ) {
        if let Data::List { child, .. } = &mut column.data {
            if values.is_empty() {
                return column.push_null();
            }
            let inner = format!("{path}{name}.");
            let mut parts = Vec::new();
            for value in values {
                let mut part = Vec::new();
                if !self.push(child, *value, record, &inner, &mut part) {
                    self.note_outgrown(child, *value, path, name);
                    child.push_null();
                    self.misfit = true;
                    parts.push(json(*value, &self.options));
                } else if !part.is_empty() {
                    parts.push([b"{".as_slice(), &part, b"}"].concat());
                }
            }
            column.close_list();
            if !parts.is_empty() && self.rescues {
                member(name, &array(&parts), rescued);
            }
            return;
        }
        let mut part = Vec::new();
        match values {
            [] => column.push_null(),
            [value] if self.push(column, *value, record, &format!("{path}{name}."), &mut part) => {
                if !part.is_empty() {
                    member(name, &[b"{".as_slice(), &part, b"}"].concat(), rescued);
                }
            }
            // A value that does not fit, or several where the column has one.
            _ => {
                if let [value] = values {
                    self.note_outgrown(column, *value, path, name);
                }
                column.push_null();
                self.misfit = true;
                if self.rescues {
                    self.rescue(name, values, rescued);
                }
            }
        }
    }

    /// Appends one value; false, and nothing appended, if it does not fit.
    fn push(
        &mut self,
        column: &mut Column,
        value: Value<'_>,
        record: &[u8],
        path: &str,
        rescued: &mut Vec<u8>,
    ) -> bool {
        match &mut column.data {
            Data::Struct { table, children, len, .. } => {
                match value {
                    Value::Element(node) => self.fill(table, children, node, record, path, rescued),
                    // Text where other records have an element with more in it.
                    Value::Text(text) => self.fill(table, children, &Node::of_text(text), record, path, rescued),
                }
                *len += 1;
                true
            }
            Data::Map { keys, values, .. } => {
                let Value::Element(node) = value else { return false };
                let before = keys.len();
                for (name, child) in &node.children {
                    if !self.push(values, Value::Element(child), record, path, rescued) {
                        keys.truncate(before);
                        values.truncate(before);
                        return false;
                    }
                    keys.push(name);
                }
                column.close_list();
                true
            }
            Data::List { .. } => false,
            _ => self.push_scalar(column, value, record),
        }
    }

    fn push_scalar(&mut self, column: &mut Column, value: Value<'_>, record: &[u8]) -> bool {
        let text = match value {
            Value::Text(text) => text,
            Value::Element(node) if node.children.is_empty() => node.text(&self.options),
            Value::Element(node) => match &mut column.data {
                // What is inside the element, as it stands.
                Data::Utf8(texts) => {
                    let inner = record.get(node.inner.clone()).unwrap_or_default();
                    texts.push(&String::from_utf8_lossy(inner));
                    return true;
                }
                _ => return false,
            },
        };
        if self.options.null_value.as_deref() == Some(text) {
            column.push_null();
            return true;
        }
        if text.is_empty() && !matches!(column.data, Data::Utf8(_)) {
            column.push_null();
            return true;
        }
        let text = if matches!(column.data, Data::Utf8(_)) { text } else { text.trim() };
        self.values.push(column, text.as_bytes(), false)
    }

    /// `value` did not fit `column`, the field `name` or an element of it.
    fn note_outgrown(&mut self, column: &Column, value: Value<'_>, path: &str, name: &str) {
        let text = match value {
            Value::Text(text) => text,
            Value::Element(node) if node.children.is_empty() => node.text(&self.options),
            Value::Element(_) => return,
        };
        if self.widens && column.data.wants_wider(text.as_bytes()) {
            self.outgrown.add(format!("{path}{name}").as_bytes());
        }
    }

    fn rescue(&self, name: &str, values: &[Value<'_>], rescued: &mut Vec<u8>) {
        let parts: Vec<Vec<u8>> = values.iter().map(|value| json(*value, &self.options)).collect();
        member_of(name, &parts, rescued);
    }
}

/// Whether the schema has a column for unmatched elements, and none is built.
fn wildcard_unasked(options: &XmlOptions, full_schema: &Schema, rows: &Rows) -> bool {
    let name = &options.wildcard_column;
    let takes = match full_schema.field_with_name(name).map(|field| field.data_type()) {
        Ok(DataType::Utf8) => true,
        Ok(DataType::List(item)) => item.data_type() == &DataType::Utf8,
        _ => false,
    };
    takes && !rows.fields.iter().any(|(field, place)| field == name && place.is_some())
}

/// Notes a value that has no column.
fn leave<'n>(left: &mut Vec<(&'n str, Vec<Value<'n>>)>, name: &'n str, value: Value<'n>) {
    match left.iter_mut().find(|(known, _)| *known == name) {
        Some((_, values)) => values.push(value),
        None => left.push((name, vec![value])),
    }
}

fn array(parts: &[Vec<u8>]) -> Vec<u8> {
    [b"[".as_slice(), &parts.join(&b','), b"]"].concat()
}

/// Appends a member whose value is the one part there is, or an array of several.
fn member_of(name: &str, parts: &[Vec<u8>], out: &mut Vec<u8>) {
    match parts {
        [one] => member(name, one, out),
        several => member(name, &array(several), out),
    }
}

/// Appends a member of a JSON object.
fn member(name: &str, value: &[u8], out: &mut Vec<u8>) {
    if !out.is_empty() {
        out.push(b',');
    }
    write_string(name.as_bytes(), out);
    out.push(b':');
    out.extend_from_slice(value);
}

/// A value as JSON.
fn json(value: Value<'_>, options: &XmlOptions) -> Vec<u8> {
    let mut out = Vec::new();
    match value {
        Value::Text(text) => write_string(text.as_bytes(), &mut out),
        Value::Element(node) if node.children.is_empty() && node.attributes.is_empty() => {
            write_string(node.text(options).as_bytes(), &mut out);
        }
        Value::Element(node) => {
            let mut names: Vec<(&str, Vec<Vec<u8>>)> = Vec::new();
            let attributes = node.attributes.iter().map(|(name, text)| (name.as_str(), Value::Text(text)));
            let children = node.children.iter().map(|(name, child)| (name.as_str(), Value::Element(child)));
            for (name, value) in attributes.chain(children) {
                let text = json(value, options);
                match names.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, texts)) => texts.push(text),
                    None => names.push((name, vec![text])),
                }
            }
            let own = node.text(options);
            if !own.is_empty() {
                let mut text = Vec::new();
                write_string(own.as_bytes(), &mut text);
                names.push((&options.value_tag, vec![text]));
            }
            let mut members = Vec::new();
            for (name, texts) in names {
                member_of(name, &texts, &mut members);
            }
            out.push(b'{');
            out.extend_from_slice(&members);
            out.push(b'}');
        }
    }
    out
}

impl FillRows for XmlDecoder {
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
                Frame::Record { range, torn } => {
                    pos = range.end;
                    self.record(&input[range], torn)?;
                }
                Frame::More(used) => return Ok(used),
            }
        }
        Ok(pos)
    }

    fn unmatched(&self) -> Vec<String> {
        self.filler.unmatched.names()
    }

    fn outgrown(&self) -> Vec<String> {
        self.filler.outgrown.names()
    }
}

#[cfg(test)]
mod tests;
