//! Types of XML fields: BIGINT, DOUBLE, BOOLEAN, DATE, TIMESTAMP or STRING for text, arrays for repeated elements, structs
//! for elements with attributes or children.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};

use super::frame::{Frame, Framer};
use super::tree::{self, Node};
use crate::csv::value::Values;
use crate::decode::DecodeError;
use crate::infer::CorruptRecords;
use crate::options::{FormatOptions, XmlOptions};
use crate::scalar;

/// What a field's values have been so far.
#[derive(Debug, Default, Clone, PartialEq)]
enum Kind {
    /// Nothing but empty.
    #[default]
    Unknown,
    BigInt,
    Double,
    Boolean,
    Date,
    Timestamp,
    Text,
    Object(Vec<(String, Shape)>),
}

/// A field: what it holds, and whether it was there more than once in an element.
#[derive(Debug, Default, Clone, PartialEq)]
struct Shape {
    kind: Kind,
    repeated: bool,
}

/// Infers from XML.
pub(crate) struct XmlInferrer {
    framer: Framer,
    options: XmlOptions,
    values: Values,
    types: bool,
    case_sensitive: bool,
    fields: Vec<(String, Shape)>,
}

impl XmlInferrer {
    pub fn new(options: &FormatOptions) -> XmlInferrer {
        XmlInferrer {
            framer: Framer::new(&options.xml),
            options: options.xml.clone(),
            values: Values::new(options),
            types: options.infer_column_types,
            case_sensitive: options.case_sensitive,
            fields: Vec::new(),
        }
    }

    pub fn start_file(&mut self) {
        self.framer.start_file();
    }

    pub fn sample(&mut self, input: &[u8], eof: bool, corrupt: &mut CorruptRecords) -> Result<usize, DecodeError> {
        let mut pos = 0;
        loop {
            match self.framer.next(input, pos, eof) {
                Frame::Record { range, torn } => {
                    pos = range.end;
                    if !corrupt.takes() {
                        continue;
                    }
                    let read =
                        if torn { Err("it has no end".to_owned()) } else { tree::read(&input[range], &self.options) };
                    match read {
                        Ok(node) => {
                            let mut fields = std::mem::take(&mut self.fields);
                            self.merge_node(&mut fields, &node);
                            self.fields = fields;
                        }
                        Err(reason) => corrupt.met(reason)?,
                    }
                }
                Frame::More(used) => return Ok(used),
            }
        }
    }

    pub fn finish(self) -> Vec<Field> {
        self.fields.iter().map(|(name, shape)| Field::new(name, data_type(shape, self.types), true)).collect()
    }

    fn merge_node(&self, fields: &mut Vec<(String, Shape)>, node: &Node) {
        let mut met: Vec<usize> = Vec::new();
        for (name, text) in &node.attributes {
            self.meet(fields, &mut met, name, self.text_kind(text));
        }
        for (name, child) in &node.children {
            let kind = self.node_kind(child);
            self.meet(fields, &mut met, name, kind);
        }
        let text = node.text(&self.options);
        if !text.is_empty() {
            self.meet(fields, &mut met, &self.options.value_tag, self.text_kind(text));
        }
    }

    fn meet(&self, fields: &mut Vec<(String, Shape)>, met: &mut Vec<usize>, name: &str, kind: Kind) {
        let exact = fields.iter().position(|(known, _)| known == name);
        let folded = || fields.iter().position(|(known, _)| known.to_lowercase() == name.to_lowercase());
        let at = match (exact, exact.or_else(folded)) {
            (Some(at), _) => at,
            // Another spelling is another field, which the reader rescues.
            (None, Some(_)) if self.case_sensitive => return,
            (None, Some(at)) => at,
            (None, None) => {
                fields.push((name.to_owned(), Shape::default()));
                fields.len() - 1
            }
        };
        let shape = &mut fields[at].1;
        shape.kind = self.merge(std::mem::take(&mut shape.kind), kind);
        shape.repeated |= met.contains(&at);
        met.push(at);
    }

    fn node_kind(&self, node: &Node) -> Kind {
        if node.attributes.is_empty() && node.children.is_empty() {
            return self.text_kind(node.text(&self.options));
        }
        let mut fields = Vec::new();
        self.merge_node(&mut fields, node);
        Kind::Object(fields)
    }

    fn text_kind(&self, text: &str) -> Kind {
        let bytes = text.trim().as_bytes();
        if bytes.is_empty() || self.options.null_value.as_deref() == Some(text) {
            Kind::Unknown
        } else if scalar::integer(bytes).is_some() {
            Kind::BigInt
        } else if scalar::Number::read(bytes).is_some() {
            Kind::Double
        } else if scalar::boolean(bytes).is_some() {
            Kind::Boolean
        } else if self.values.is_date(bytes) {
            Kind::Date
        } else if self.values.is_timestamp(bytes) {
            Kind::Timestamp
        } else {
            Kind::Text
        }
    }

    fn merge(&self, a: Kind, b: Kind) -> Kind {
        match (a, b) {
            (Kind::Unknown, kind) | (kind, Kind::Unknown) => kind,
            (a, b) if a == b => a,
            (Kind::BigInt | Kind::Double, Kind::BigInt | Kind::Double) => Kind::Double,
            (Kind::Date | Kind::Timestamp, Kind::Date | Kind::Timestamp) => Kind::Timestamp,
            (Kind::Object(mut a), Kind::Object(b)) => {
                for (name, shape) in b {
                    match a.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, known)) => {
                            known.kind = self.merge(std::mem::take(&mut known.kind), shape.kind);
                            known.repeated |= shape.repeated;
                        }
                        None => a.push((name, shape)),
                    }
                }
                Kind::Object(a)
            }
            // Text where others have elements: the struct's text.
            (Kind::Object(fields), text) | (text, Kind::Object(fields)) => {
                let own = vec![(self.options.value_tag.clone(), Shape { kind: text, repeated: false })];
                self.merge(Kind::Object(fields), Kind::Object(own))
            }
            _ => Kind::Text,
        }
    }
}

fn data_type(shape: &Shape, types: bool) -> DataType {
    let single = match &shape.kind {
        Kind::Object(fields) => {
            let fields = fields.iter().map(|(name, shape)| Field::new(name, data_type(shape, types), true));
            DataType::Struct(fields.collect::<Vec<_>>().into())
        }
        _ if !types => DataType::Utf8,
        Kind::Unknown | Kind::Text => DataType::Utf8,
        Kind::BigInt => DataType::Int64,
        Kind::Double => DataType::Float64,
        Kind::Boolean => DataType::Boolean,
        Kind::Date => DataType::Date32,
        Kind::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    };
    if shape.repeated { DataType::List(Arc::new(Field::new("element", single, true))) } else { single }
}
