//! One record as a tree: attributes, child elements and text, with entities replaced.

use std::ops::Range;

use quick_xml::Reader;
use quick_xml::escape::{resolve_predefined_entity, unescape};
use quick_xml::events::{BytesStart, Event};

use crate::options::XmlOptions;

/// Elements inside each other that are read; a deeper record is malformed.
const DEPTH_MAX: usize = 100;

/// An element.
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// Names carry their prefix.
    pub attributes: Vec<(String, String)>,
    pub children: Vec<(String, Node)>,
    /// What is between its tags, as places in the record.
    pub inner: Range<usize>,
    /// All of it, as places in the record.
    pub outer: Range<usize>,
    text: String,
}

impl Node {
    /// An element of nothing but text.
    pub fn of_text(text: &str) -> Node {
        Node { text: text.to_owned(), ..Node::default() }
    }

    /// The text directly inside it.
    pub fn text(&self, options: &XmlOptions) -> &str {
        // White space between elements is layout.
        if options.ignore_surrounding_spaces || !self.children.is_empty() { self.text.trim() } else { &self.text }
    }
}

/// Reads a record, which is one element.
pub(crate) fn read(record: &[u8], options: &XmlOptions) -> Result<Node, String> {
    let text = std::str::from_utf8(record).map_err(|_| "invalid UTF-8".to_owned())?;
    let mut reader = Reader::from_str(text);
    let mut open: Vec<(String, Node)> = Vec::new();
    loop {
        let before = reader.buffer_position() as usize;
        let event = reader.read_event().map_err(|e| e.to_string())?;
        let after = reader.buffer_position() as usize;
        match event {
            Event::Start(start) => {
                if open.len() == DEPTH_MAX {
                    return Err("nested too deeply".to_owned());
                }
                let mut node = element(&start, options)?;
                node.inner = after..after;
                node.outer = before..after;
                open.push((name(start.name().as_ref(), options), node));
            }
            Event::Empty(start) => {
                let mut node = element(&start, options)?;
                node.outer = before..after;
                match open.last_mut() {
                    Some((_, parent)) => parent.children.push((name(start.name().as_ref(), options), node)),
                    None => return Ok(node),
                }
            }
            Event::End(_) => {
                let Some((name, mut node)) = open.pop() else { return Err("an end without beginning".to_owned()) };
                node.inner.end = before;
                node.outer.end = after;
                match open.last_mut() {
                    Some((_, parent)) => parent.children.push((name, node)),
                    None => return Ok(node),
                }
            }
            Event::Text(text) => {
                let text = text.decode().map_err(|e| e.to_string())?;
                open.last_mut().into_iter().for_each(|(_, node)| node.text.push_str(&text));
            }
            Event::CData(text) => {
                let text = text.decode().map_err(|e| e.to_string())?;
                open.last_mut().into_iter().for_each(|(_, node)| node.text.push_str(&text));
            }
            Event::GeneralRef(reference) => {
                let name = reference.decode().map_err(|e| e.to_string())?;
                let character = reference.resolve_char_ref().map_err(|e| e.to_string())?;
                let Some((_, node)) = open.last_mut() else { continue };
                match (character, resolve_predefined_entity(&name)) {
                    (Some(character), _) => node.text.push(character),
                    (None, Some(text)) => node.text.push_str(text),
                    (None, None) => return Err(format!("entity `&{name};` is not known")),
                }
            }
            Event::Eof => return Err("an element has no end".to_owned()),
            Event::Comment(_) | Event::PI(_) | Event::Decl(_) | Event::DocType(_) => {}
        }
    }
}

fn element(start: &BytesStart<'_>, options: &XmlOptions) -> Result<Node, String> {
    let mut node = Node::default();
    if options.exclude_attribute {
        return Ok(node);
    }
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|e| e.to_string())?;
        let key = attribute.key.as_ref();
        // Declarations of namespaces say nothing about the record.
        if key == b"xmlns" || key.starts_with(b"xmlns:") {
            continue;
        }
        let value = std::str::from_utf8(&attribute.value).map_err(|_| "invalid UTF-8".to_owned())?;
        let value = unescape(value).map_err(|e| e.to_string())?;
        let value = if options.ignore_surrounding_spaces { value.trim() } else { &value };
        node.attributes.push((format!("{}{}", options.attribute_prefix, name(key, options)), value.to_owned()));
    }
    Ok(node)
}

fn name(name: &[u8], options: &XmlOptions) -> String {
    let name = String::from_utf8_lossy(name);
    match name.rsplit_once(':') {
        Some((_, local)) if options.ignore_namespace => local.to_owned(),
        _ => name.into_owned(),
    }
}
