//! Where the elements of the row tag begin and end. Comments, CDATA and quoted attribute values are passed over; nothing
//! else is looked at.

use std::ops::Range;

use crate::options::XmlOptions;

/// What comes next in the input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A record's text; torn: the file ends inside it.
    Record { range: Range<usize>, torn: bool },
    /// No complete record; everything before the position is used up.
    More(usize),
}

/// Finds records in a file whose bytes come in pieces.
#[derive(Debug)]
pub(crate) struct Framer {
    tag: Vec<u8>,
    local: bool,
    /// How far the record that is not yet complete was followed, and how many row tags are open there.
    scan: Option<(usize, usize)>,
}

/// A piece of markup.
enum Markup<'t> {
    Open(&'t [u8]),
    Closed(&'t [u8]),
    Empty(&'t [u8]),
    Other,
}

impl Framer {
    pub fn new(options: &XmlOptions) -> Framer {
        Framer { tag: options.row_tag.clone().into_bytes(), local: options.ignore_namespace, scan: None }
    }

    pub fn start_file(&mut self) {
        self.scan = None;
    }

    fn is_row(&self, name: &[u8]) -> bool {
        let local = || name.rsplit(|byte| *byte == b':').next().unwrap_or(name);
        name == self.tag || self.local && local() == self.tag
    }

    /// The next record at or after `pos`. An incomplete one is brought again from its beginning.
    pub fn next(&mut self, input: &[u8], pos: usize, eof: bool) -> Frame {
        let (mut at, mut depth, start) = match self.scan.take() {
            Some((seen, depth)) if depth > 0 => (pos + seen, depth, pos),
            _ => (pos, 0, pos),
        };
        let mut start = start;
        loop {
            let Some(found) = input.get(at..).and_then(|rest| memchr::memchr(b'<', rest)) else {
                at = input.len();
                break;
            };
            let open = at + found;
            let Some((markup, end)) = markup(input, open) else {
                at = open;
                break;
            };
            match markup {
                Markup::Open(name) if self.is_row(name) => {
                    if depth == 0 {
                        start = open;
                    }
                    depth += 1;
                }
                Markup::Empty(name) if depth == 0 && self.is_row(name) => {
                    return Frame::Record { range: open..end, torn: false };
                }
                Markup::Closed(name) if depth > 0 && self.is_row(name) => {
                    depth -= 1;
                    if depth == 0 {
                        return Frame::Record { range: start..end, torn: false };
                    }
                }
                _ => {}
            }
            at = end;
        }
        if depth > 0 && eof {
            return Frame::Record { range: start..input.len(), torn: true };
        }
        if depth > 0 {
            self.scan = Some((at - start, depth));
            return Frame::More(start);
        }
        // Markup that is not complete may be a row's beginning.
        Frame::More(if eof { input.len() } else { at })
    }
}

/// The markup that begins at `open`, and the position behind it; None if it does not end.
fn markup(input: &[u8], open: usize) -> Option<(Markup<'_>, usize)> {
    let rest = &input[open..];
    let until = |skip: usize, end: &[u8]| {
        let found = memchr::memmem::find(rest.get(skip..)?, end)?;
        Some((Markup::Other, open + skip + found + end.len()))
    };
    match rest.get(1)? {
        b'?' => until(2, b"?>"),
        b'!' if rest.starts_with(b"<!--") => until(4, b"-->"),
        b'!' if rest.starts_with(b"<![CDATA[") => until(9, b"]]>"),
        b'!' if b"<![CDATA[".starts_with(rest) || b"<!--".starts_with(rest) => None,
        b'!' => {
            let end = memchr::memchr2(b'>', b'[', rest)?;
            if rest[end] == b'[' { until(end, b"]>") } else { Some((Markup::Other, open + end + 1)) }
        }
        b'/' => {
            let end = memchr::memchr(b'>', rest)?;
            Some((Markup::Closed(rest[2..end].trim_ascii_end()), open + end + 1))
        }
        _ => {
            let mut at = 1;
            let end = loop {
                at += memchr::memchr3(b'>', b'"', b'\'', rest.get(at..)?)?;
                match rest[at] {
                    b'>' => break at,
                    quote => at += 2 + memchr::memchr(quote, rest.get(at + 1..)?)?,
                }
            };
            let inside = &rest[1..end];
            let name = inside.split(|b| b.is_ascii_whitespace() || *b == b'/').next().unwrap_or(inside);
            let markup = if inside.ends_with(b"/") { Markup::Empty(name) } else { Markup::Open(name) };
            Some((markup, open + end + 1))
        }
    }
}
