//! Cutting CSV text into rows and values, as Spark's parser does.
//!
//! Inside quotes the escape character makes a quote, or itself, part of the value, and is kept before anything
//! else (`"C:\temp"` stays as it is). A value that begins with a quote and goes on behind its closing one is taken
//! as it stands, quotes and all, up to the next separator. Nothing is refused; a quote without end marks the row.

use crate::options::{FormatOptions, UnescapedQuotes};

/// The characters that give a text its shape.
#[derive(Debug)]
pub(crate) struct Dialect {
    sep: Vec<u8>,
    quote: Option<u8>,
    escape: Option<u8>,
    /// Before an escape that is meant as it stands.
    escape_escape: Option<u8>,
    comment: Option<u8>,
    /// The bytes of which each ends a line.
    ends: [u8; 2],
    /// Whether any of CR, LF, CRLF ends a line.
    any_end: bool,
    unescaped: UnescapedQuotes,
    multi_line: bool,
    trim_start: bool,
    trim_end: bool,
    /// Whether a value outside quotes simply ends before the next separator, which is one byte.
    simple: bool,
}

/// Where a value stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value {
    start: usize,
    end: usize,
    /// Whether in the row's scratch, because of escapes, instead of the input.
    copied: bool,
    pub quoted: bool,
}

/// The values of one row.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub values: Vec<Value>,
    scratch: Vec<u8>,
    high_bits: u64,
    /// A quote without end.
    pub torn: bool,
}

impl Row {
    /// A value's text.
    #[inline]
    pub fn text<'t>(&'t self, value: Value, input: &'t [u8]) -> &'t [u8] {
        let source = if value.copied { &self.scratch } else { input };
        &source[value.start..value.end]
    }

    /// Whether all of the row is ASCII, and so needs no check of its UTF-8.
    #[inline]
    pub fn ascii(&self) -> bool {
        self.high_bits & HIGHS == 0
    }

    /// What is wrong if a value has more characters than `most`.
    #[inline]
    pub fn too_long(&self, input: &[u8], most: Option<usize>) -> Option<String> {
        let most = most?;
        let length = |text: &[u8]| text.iter().filter(|&&byte| byte & 0xC0 != 0x80).count();
        let mut texts = self.values.iter().map(|&value| self.text(value, input));
        texts
            .any(|text| text.len() > most && length(text) > most)
            .then(|| format!("a value is longer than maxCharsPerColumn = {most}"))
    }

    fn is_blank(&self, input: &[u8]) -> bool {
        match self.values.as_slice() {
            [one] => !one.quoted && self.text(*one, input).iter().all(|&b| b <= b' '),
            _ => false,
        }
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

#[inline(always)]
fn equals(word: u64, byte: u8) -> u64 {
    let zero_there = word ^ (ONES * byte as u64);
    zero_there.wrapping_sub(ONES) & !zero_there & HIGHS
}

/// The first place from `at` on where one of the bytes stands, or the end. Notes bytes above 0x7F.
#[inline(always)]
fn find<const N: usize>(input: &[u8], mut at: usize, bytes: [u8; N], high_bits: &mut u64) -> usize {
    while let Some(word) = input[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        let mut stops = 0;
        for byte in bytes {
            stops |= equals(word, byte);
        }
        if stops != 0 {
            *high_bits |= word & (stops.wrapping_sub(1) & !stops);
            return at + stops.trailing_zeros() as usize / 8;
        }
        *high_bits |= word;
        at += 8;
    }
    while let Some(byte) = input.get(at) {
        if bytes.contains(byte) {
            return at;
        }
        *high_bits |= u64::from(*byte);
        at += 1;
    }
    at
}

/// What stands behind a value.
enum After {
    Separator(usize),
    LineEnd(usize),
    /// The input ends here.
    End,
    Other,
}

impl Dialect {
    pub fn new(options: &FormatOptions) -> Dialect {
        let csv = &options.csv;
        let single_end = options.line_sep.as_ref().and_then(|sep| sep.first().copied());
        Dialect {
            sep: csv.sep.clone(),
            quote: csv.quote,
            escape: csv.escape,
            escape_escape: csv.escape_escape.unwrap_or(csv.escape.filter(|_| csv.escape != csv.quote)),
            comment: csv.comment,
            ends: single_end.map_or([b'\n', b'\r'], |end| [end, end]),
            any_end: single_end.is_none(),
            unescaped: csv.unescaped_quotes,
            multi_line: options.multi_line,
            trim_start: csv.ignore_leading_white_space,
            trim_end: csv.ignore_trailing_white_space,
            simple: csv.sep.len() == 1 && !csv.ignore_leading_white_space && !csv.ignore_trailing_white_space,
        }
    }

    /// The position behind the line that contains `at`; None if its end is not in the input.
    pub fn line_end(&self, input: &[u8], at: usize, eof: bool) -> Option<usize> {
        let end = find(input, at, self.ends, &mut 0);
        if end < input.len() { self.behind_line_end(input, end, eof) } else { eof.then_some(end) }
    }

    /// The position behind the line end at `at`.
    #[inline]
    fn behind_line_end(&self, input: &[u8], at: usize, eof: bool) -> Option<usize> {
        if !self.any_end || input[at] == b'\n' {
            return Some(at + 1);
        }
        match input.get(at + 1) {
            Some(b'\n') => Some(at + 2),
            None if !eof => None,
            _ => Some(at + 1),
        }
    }

    /// Reads the next row at or after `pos`, over blank lines and comments. Returns where the row begins and the
    /// position behind its line end; `Err` with the position up to which the input is used if there is no
    /// complete row.
    pub fn read(&self, input: &[u8], mut pos: usize, eof: bool, row: &mut Row) -> Result<(usize, usize), usize> {
        loop {
            let Some(&byte) = input.get(pos) else { return Err(pos) };
            if self.ends.contains(&byte) {
                pos = self.behind_line_end(input, pos, eof).ok_or(pos)?;
            } else if Some(byte) == self.comment {
                pos = self.line_end(input, pos, eof).ok_or(pos)?;
            } else {
                let next = self.row(input, pos, eof, row).ok_or(pos)?;
                if !row.is_blank(input) {
                    return Ok((pos, next));
                }
                pos = next;
            }
        }
    }

    fn row(&self, input: &[u8], pos: usize, eof: bool, row: &mut Row) -> Option<usize> {
        row.values.clear();
        row.scratch.clear();
        row.high_bits = 0;
        row.torn = false;
        let mut at = pos;
        loop {
            if self.simple && input.get(at).copied() != self.quote {
                // The way nearly all values go, kept free of everything the others need.
                let start = at;
                at = find(input, at, [self.sep[0], self.ends[0], self.ends[1]], &mut row.high_bits);
                row.values.push(Value { start, end: at, copied: false, quoted: false });
                match input.get(at) {
                    Some(&byte) if byte == self.sep[0] => at += 1,
                    Some(_) => return self.behind_line_end(input, at, eof),
                    None => return eof.then_some(at),
                }
                continue;
            }
            if self.trim_start {
                at += input[at..].iter().take_while(|&&b| self.is_space(b)).count();
            }
            let (value, after) = match (self.quote, input.get(at)) {
                (Some(quote), Some(&byte)) if byte == quote => self.quoted(input, at, quote, eof, row)?,
                _ => self.plain(input, at, at, eof, row)?,
            };
            row.values.push(value);
            match after {
                After::Separator(next) => at = next,
                After::LineEnd(next) => return Some(next),
                _ => return Some(input.len()),
            }
        }
    }

    fn is_space(&self, byte: u8) -> bool {
        (byte == b' ' || byte == b'\t') && self.sep.first() != Some(&byte)
    }

    /// A value from `start` to the separator or line end at or behind `from`.
    #[inline]
    fn plain(&self, input: &[u8], start: usize, from: usize, eof: bool, row: &mut Row) -> Option<(Value, After)> {
        let [first, second] = self.ends;
        let sep = self.sep[0];
        let mut at = from;
        let after = loop {
            at = find(input, at, [sep, first, second], &mut row.high_bits);
            match self.after(input, at, eof)? {
                // The first byte only of a longer separator.
                After::Other => at += 1,
                after => break after,
            }
        };
        let mut end = at;
        if self.trim_end {
            end -= input[start..end].iter().rev().take_while(|&&b| self.is_space(b)).count();
        }
        Some((Value { start, end, copied: false, quoted: false }, after))
    }

    /// What stands at `at`; None if only more input can tell.
    #[inline]
    fn after(&self, input: &[u8], at: usize, eof: bool) -> Option<After> {
        let Some(&byte) = input.get(at) else { return eof.then_some(After::End) };
        if byte == self.sep[0] {
            let rest = &input[at..];
            if self.sep.len() == 1 || rest.starts_with(&self.sep) {
                return Some(After::Separator(at + self.sep.len()));
            }
            if !eof && self.sep.starts_with(rest) {
                return None;
            }
        }
        if self.ends.contains(&byte) {
            return self.behind_line_end(input, at, eof).map(After::LineEnd);
        }
        Some(After::Other)
    }

    /// A value whose opening quote is at `open`.
    fn quoted(&self, input: &[u8], open: usize, quote: u8, eof: bool, row: &mut Row) -> Option<(Value, After)> {
        let escape = self.escape.unwrap_or(quote);
        let twice = self.escape_escape.unwrap_or(quote);
        // A quote doubles itself only if it is the escape character.
        let doubled = self.escape == Some(quote);
        let copy_start = row.scratch.len();
        let mut copied_to = open + 1;
        let mut at = open + 1;
        loop {
            let bits = &mut row.high_bits;
            at = match (self.multi_line, escape == twice, escape == quote) {
                (true, true, true) => find(input, at, [quote], bits),
                (true, _, _) => find(input, at, [quote, escape, twice], bits),
                (false, true, true) => find(input, at, [quote, self.ends[0], self.ends[1]], bits),
                (false, true, false) => find(input, at, [quote, escape, self.ends[0], self.ends[1]], bits),
                (false, false, _) => find(input, at, [quote, escape, twice, self.ends[0], self.ends[1]], bits),
            };
            let Some(&byte) = input.get(at) else {
                return if eof { self.torn(input, open, at, row) } else { None };
            };
            let next = input.get(at + 1).copied();
            if next.is_none() && !eof {
                return None;
            }
            let escaped = match next {
                Some(next) if byte == quote && doubled => next == quote,
                Some(next) if byte == escape && byte != quote => next == quote || byte == twice && next == escape,
                Some(next) if byte == twice && byte != quote => next == escape,
                _ => false,
            };
            if escaped {
                row.scratch.extend_from_slice(&input[copied_to..at]);
                copied_to = at + 1;
                at += 2;
            } else if byte == quote {
                let end = self.behind_quote(input, at);
                let goes_on = matches!(self.after(input, end, eof)?, After::Other);
                if !goes_on || self.unescaped != UnescapedQuotes::StopAtClosingQuote {
                    break;
                }
                at += 1;
            } else if byte == escape || byte == twice {
                at += 1;
            } else {
                return self.torn(input, open, at, row);
            }
        }
        let behind = self.behind_quote(input, at);
        match self.after(input, behind, eof)? {
            After::Other => {
                row.scratch.truncate(copy_start);
                match self.unescaped {
                    UnescapedQuotes::BackToDelimiter => self.plain(input, open, open, eof, row),
                    UnescapedQuotes::SkipValue => {
                        let (value, after) = self.plain(input, open, behind, eof, row)?;
                        Some((Value { end: value.start, ..value }, after))
                    }
                    UnescapedQuotes::RaiseError => {
                        let (value, after) = self.plain(input, open, behind, eof, row)?;
                        row.torn = true;
                        Some((value, after))
                    }
                    _ => self.plain(input, open, behind, eof, row),
                }
            }
            after => {
                let copied = copied_to > open + 1;
                if copied {
                    row.scratch.extend_from_slice(&input[copied_to..at]);
                }
                let (start, end) = if copied { (copy_start, row.scratch.len()) } else { (open + 1, at) };
                Some((Value { start, end, copied, quoted: true }, after))
            }
        }
    }

    /// The position behind a closing quote and the white space that follows it.
    fn behind_quote(&self, input: &[u8], quote: usize) -> usize {
        quote + 1 + input[quote + 1..].iter().take_while(|&&b| self.is_space(b)).count()
    }

    /// A quoted value that ends with the line or file at `at` and not with a quote.
    fn torn(&self, input: &[u8], open: usize, at: usize, row: &mut Row) -> Option<(Value, After)> {
        row.torn = true;
        let value = Value { start: open, end: at, copied: false, quoted: true };
        let after = if at < input.len() { After::LineEnd(self.behind_line_end(input, at, true)?) } else { After::End };
        Some((value, after))
    }
}
