//! Where one record ends and the next begins, without reading what is inside.
//!
//! Lines are cut at line ends. In a document (`multiLine`) the records are the elements of a top-level array, or
//! the top-level values; a bracket counter that knows strings finds their ends, so that a broken record is as
//! isolated there as on a line of its own.

use std::ops::Range;

use crate::options::FormatOptions;

/// What comes next in the input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A record's text, and the position after it.
    Record(Range<usize>, usize),
    /// No complete record; everything before the position is used up. At the end of the file that is everything.
    More(usize),
}

/// Finds records in a file whose bytes come in pieces.
#[derive(Debug)]
pub(crate) struct Framer {
    separator: Option<Vec<u8>>,
    documents: bool,
    /// With comments brackets cannot be counted; then a document is one record.
    whole: bool,
    single_quotes: bool,
    state: State,
    scan: Scan,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing read yet; a byte order mark may come.
    Start,
    /// Between lines or top-level values.
    Top,
    /// Behind `[` or a comma of the top-level array.
    Element,
    /// Behind an element of the top-level array.
    Between,
    /// In something else than JSON, to the end of the file.
    Lost,
}

/// How far an incomplete record has been looked at, so that a longer input is not searched again from its start.
#[derive(Debug, Default, Clone, Copy)]
struct Scan {
    seen: usize,
    depth: usize,
    quote: Option<u8>,
}

impl Framer {
    pub fn new(options: &FormatOptions) -> Framer {
        Framer {
            separator: options.line_sep.clone(),
            documents: options.multi_line,
            whole: options.json.allow_comments,
            single_quotes: options.json.allow_single_quotes,
            state: State::Start,
            scan: Scan::default(),
        }
    }

    pub fn start_file(&mut self) {
        self.state = State::Start;
        self.scan = Scan::default();
    }

    /// The next record at or after `pos`.
    #[inline]
    pub fn next(&mut self, input: &[u8], mut pos: usize, eof: bool) -> Frame {
        if self.state == State::Start {
            const MARK: &[u8] = b"\xEF\xBB\xBF";
            let start = &input[pos..];
            if start.len() < MARK.len() && MARK.starts_with(start) && !eof {
                return Frame::More(pos);
            }
            pos += if start.starts_with(MARK) { MARK.len() } else { 0 };
            self.state = State::Top;
        }
        if self.documents { self.document(input, pos, eof) } else { self.line(input, pos, eof) }
    }

    #[inline]
    fn line(&mut self, input: &[u8], mut pos: usize, eof: bool) -> Frame {
        loop {
            let rest = &input[pos..];
            let seen = self.scan.seen.min(rest.len());
            let (end, width) = match &self.separator {
                None => (memchr::memchr2(b'\n', b'\r', &rest[seen..]).map(|at| at + seen), 1),
                Some(separator) => (memchr::memmem::find(rest, separator), separator.len()),
            };
            let Some(end) = end else {
                if eof && rest.is_empty() {
                    return Frame::More(input.len());
                } else if eof {
                    self.scan.seen = 0;
                    return if is_blank(rest) {
                        Frame::More(input.len())
                    } else {
                        Frame::Record(pos..input.len(), input.len())
                    };
                }
                self.scan.seen = rest.len();
                return Frame::More(pos);
            };
            self.scan.seen = 0;
            let line = pos..pos + end;
            pos += end + width;
            if !is_blank(&input[line.clone()]) {
                return Frame::Record(line, pos);
            }
        }
    }

    fn document(&mut self, input: &[u8], mut pos: usize, eof: bool) -> Frame {
        loop {
            if self.scan.seen == 0 {
                pos += input[pos..].iter().take_while(|b| b.is_ascii_whitespace()).count();
            }
            let Some(&byte) = input.get(pos) else {
                // A document that ends inside its array has lost something, were it only the bracket.
                let torn = matches!(self.state, State::Element | State::Between) && eof;
                self.state = if torn { State::Top } else { self.state };
                return if torn { Frame::Record(pos..pos, pos) } else { Frame::More(pos) };
            };
            match (self.state, byte) {
                (State::Top, b'[') if !self.whole && self.scan.seen == 0 => {
                    pos += 1;
                    self.state = State::Element;
                    pos += input[pos..].iter().take_while(|b| b.is_ascii_whitespace()).count();
                    match input.get(pos) {
                        Some(b']') => {
                            pos += 1;
                            self.state = State::Top;
                        }
                        // `[` alone would be forgotten; it is brought again with what follows.
                        None if !eof => {
                            self.state = State::Top;
                            let bracket = input[..pos].iter().rposition(|&b| b == b'[').unwrap_or(pos);
                            return Frame::More(bracket);
                        }
                        _ => {}
                    }
                }
                (State::Between, b',') => {
                    pos += 1;
                    self.state = State::Element;
                }
                (State::Between, b']') => {
                    pos += 1;
                    self.state = State::Top;
                }
                (State::Between, _) => self.state = State::Lost,
                (State::Top | State::Element, _) if !self.whole => return self.value(input, pos, eof),
                _ if eof => return Frame::Record(pos..input.len(), input.len()),
                _ => return Frame::More(pos),
            }
        }
    }

    /// Frames the value that begins at `pos`.
    fn value(&mut self, input: &[u8], pos: usize, eof: bool) -> Frame {
        match self.end_of_value(&input[pos..]) {
            Some(end) => self.framed(pos..pos + end),
            None if eof => {
                self.state = State::Top;
                self.framed(pos..input.len())
            }
            None => Frame::More(pos),
        }
    }

    fn framed(&mut self, record: Range<usize>) -> Frame {
        self.scan = Scan::default();
        if self.state == State::Element {
            self.state = State::Between;
        }
        let end = record.end;
        Frame::Record(record, end)
    }

    /// The length of the value that `text` begins with; None if it does not end in it.
    fn end_of_value(&mut self, text: &[u8]) -> Option<usize> {
        let mut scan = self.scan;
        let mut at = scan.seen;
        let end = loop {
            if let Some(quote) = scan.quote {
                let Some(stop) = text.get(at..).and_then(|rest| memchr::memchr2(quote, b'\\', rest)) else {
                    at = text.len();
                    break None;
                };
                at += stop;
                if text[at] == quote {
                    scan.quote = None;
                    at += 1;
                    if scan.depth == 0 {
                        break Some(at);
                    }
                } else if at + 1 < text.len() {
                    at += 2;
                } else {
                    break None;
                }
                continue;
            }
            match text.get(at) {
                None => break None,
                Some(b'"') => scan.quote = Some(b'"'),
                Some(b'\'') if self.single_quotes => scan.quote = Some(b'\''),
                Some(b'{' | b'[') => scan.depth += 1,
                Some(b'}' | b']') if scan.depth > 0 => {
                    scan.depth -= 1;
                    if scan.depth == 0 {
                        break Some(at + 1);
                    }
                }
                Some(b'}') => break Some(at + 1),
                Some(b',' | b']' | b' ' | b'\t' | b'\n' | b'\r') if scan.depth == 0 => {
                    // A top-level comma or bracket outside an array is a value of its own, and a broken one.
                    break Some(if at == 0 && self.state == State::Top { 1 } else { at });
                }
                Some(_) => {}
            }
            at += 1;
        };
        scan.seen = at;
        self.scan = scan;
        end
    }
}

fn is_blank(text: &[u8]) -> bool {
    match text.first() {
        Some(b'{') => false,
        _ => text.iter().all(u8::is_ascii_whitespace),
    }
}
