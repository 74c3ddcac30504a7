//! Reading JSON text token by token, strictly by RFC 8259 plus the leniences that options allow.
//!
//! The cursor never builds values: it says where a string begins and ends, what a number is worth, and where a
//! value stops. It refuses nothing but syntax, and never recurses, so depth cannot exhaust the stack.

use crate::options::JsonOptions;
use crate::scalar::Number;

/// Objects and arrays inside each other that are read; deeper text is malformed.
pub(crate) const DEPTH_MAX: usize = 1000;

/// Text that is not JSON: where, and what was wrong there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Syntax {
    pub at: usize,
    pub what: &'static str,
}

impl std::fmt::Display for Syntax {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at + 1)
    }
}

/// A string's content between its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Text {
    pub start: usize,
    pub end: usize,
    /// Whether it contains escapes.
    pub escaped: bool,
    /// Whether its bytes are ASCII.
    pub ascii: bool,
}

/// A position in a text.
pub(crate) struct Cursor<'a> {
    pub input: &'a [u8],
    pub pos: usize,
    options: &'a JsonOptions,
    /// Whether something was read that only a lenience allows; such text is not JSON for anyone else.
    pub lenient: bool,
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Longer words before their beginnings.
const NON_NUMBERS: [(&[u8], f64); 7] = [
    (b"NaN", f64::NAN),
    (b"Infinity", f64::INFINITY),
    (b"+Infinity", f64::INFINITY),
    (b"-Infinity", f64::NEG_INFINITY),
    (b"INF", f64::INFINITY),
    (b"+INF", f64::INFINITY),
    (b"-INF", f64::NEG_INFINITY),
];

/// A word whose lowest set bit is in the first byte of `word` that equals `byte`.
#[inline(always)]
fn equals(word: u64, byte: u8) -> u64 {
    let zero_there = word ^ (ONES * byte as u64);
    zero_there.wrapping_sub(ONES) & !zero_there & HIGHS
}

impl<'a> Cursor<'a> {
    pub fn new(input: &'a [u8], options: &'a JsonOptions) -> Cursor<'a> {
        Cursor { input, pos: 0, options, lenient: false }
    }

    pub fn error<T>(&self, what: &'static str) -> Result<T, Syntax> {
        Err(Syntax { at: self.pos, what })
    }

    /// The byte at the position; 0 at the end, which no token begins with.
    #[inline]
    pub fn peek(&self) -> u8 {
        self.input.get(self.pos).copied().unwrap_or(0)
    }

    #[inline]
    pub fn at_end(&self) -> bool {
        self.pos >= self.input.len()
    }

    #[inline]
    pub fn whitespace(&mut self) -> Result<(), Syntax> {
        loop {
            match self.peek() {
                b' ' | b'\t' | b'\n' | b'\r' => self.pos += 1,
                b'/' if self.options.allow_comments => self.comment()?,
                _ => return Ok(()),
            }
        }
    }

    fn comment(&mut self) -> Result<(), Syntax> {
        self.lenient = true;
        let rest = &self.input[self.pos..];
        if rest.starts_with(b"//") {
            self.pos += memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
            Ok(())
        } else if rest.starts_with(b"/*") {
            match memchr::memmem::find(&rest[2..], b"*/") {
                Some(end) => {
                    self.pos += end + 4;
                    Ok(())
                }
                None => self.error("a comment without end"),
            }
        } else {
            self.error("expected a value")
        }
    }

    /// Consumes `byte` if it is next.
    #[inline]
    pub fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == byte;
        self.pos += usize::from(there);
        there
    }

    /// A field name; afterwards the position is behind it, before the colon.
    pub fn name(&mut self) -> Result<Text, Syntax> {
        match self.peek() {
            b'"' => self.string(),
            b'\'' if self.options.allow_single_quotes => self.string(),
            _ if self.options.allow_unquoted_field_names => {
                let start = self.pos;
                let word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | b'-' | 0x80..);
                self.pos += self.input[start..].iter().take_while(|b| word(b)).count();
                self.lenient = true;
                if self.pos == start || std::str::from_utf8(&self.input[start..self.pos]).is_err() {
                    return self.error("expected a field name");
                }
                Ok(Text { start, end: self.pos, escaped: false, ascii: false })
            }
            _ => self.error("expected a field name"),
        }
    }

    /// The colon after a name, with white space on both sides.
    #[inline]
    pub fn colon(&mut self) -> Result<(), Syntax> {
        self.whitespace()?;
        if !self.eat(b':') {
            return self.error("expected `:`");
        }
        self.whitespace()
    }

    /// Behind an element of an array: reads the comma, or stays before the closing bracket.
    pub fn element_end(&mut self) -> Result<(), Syntax> {
        self.whitespace()?;
        if self.eat(b',') {
            self.whitespace()?;
            return if self.peek() == b']' { self.error("expected a value") } else { Ok(()) };
        }
        if self.peek() == b']' { Ok(()) } else { self.error("expected `,` or `]`") }
    }

    /// A string; the position is at its opening quote, afterwards behind the closing one.
    #[inline]
    pub fn string(&mut self) -> Result<Text, Syntax> {
        let found = self.unchecked_string()?;
        if !found.ascii {
            self.check_utf8(found)?;
        }
        Ok(found)
    }

    /// The same without a look at its UTF-8.
    #[inline]
    pub fn unchecked_string(&mut self) -> Result<Text, Syntax> {
        if self.peek() == b'"' { self.string_until::<b'"'>() } else { self.single_quoted() }
    }

    fn single_quoted(&mut self) -> Result<Text, Syntax> {
        self.lenient = true;
        self.string_until::<b'\''>()
    }

    #[inline(always)]
    fn string_until<const QUOTE: u8>(&mut self) -> Result<Text, Syntax> {
        self.pos += 1;
        let start = self.pos;
        let (mut escaped, mut high_bits) = (false, 0_u64);
        loop {
            while let Some(word) = self.input[self.pos..].first_chunk::<8>() {
                let word = u64::from_le_bytes(*word);
                let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
                let stops = equals(word, QUOTE) | equals(word, b'\\') | control;
                if stops == 0 {
                    high_bits |= word;
                    self.pos += 8;
                    if self.pos - start == 64 {
                        high_bits |= self.plain_run::<QUOTE>();
                    }
                } else {
                    // Bytes before the stop only; what follows belongs to other tokens.
                    high_bits |= word & (stops.wrapping_sub(1) & !stops);
                    self.pos += stops.trailing_zeros() as usize / 8;
                    break;
                }
            }
            match self.input.get(self.pos) {
                Some(&byte) if byte == QUOTE => {
                    let text = Text { start, end: self.pos, escaped, ascii: high_bits & HIGHS == 0 };
                    self.pos += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    escaped = true;
                    match self.input.get(self.pos + 1) {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.pos += 2,
                        _ => self.escape()?,
                    }
                }
                Some(0..0x20) if !self.options.allow_unquoted_control_chars => {
                    return self.error("a control character inside a string");
                }
                Some(&byte) => {
                    self.lenient |= byte < 0x20;
                    high_bits |= u64::from(byte);
                    self.pos += 1;
                }
                None => return self.error("a string without end"),
            }
        }
    }

    /// Passes over bytes that say nothing, as many at once as the compiler finds registers for; returns the bits above 0x7F
    /// among them.
    fn plain_run<const QUOTE: u8>(&mut self) -> u64 {
        let mut high_bits = 0;
        while let Some(chunk) = self.input[self.pos..].first_chunk::<32>() {
            let (mut stops, mut high) = (false, 0);
            for &byte in chunk {
                stops |= (byte == QUOTE) | (byte == b'\\') | (byte < 0x20);
                high |= byte;
            }
            if stops {
                break;
            }
            high_bits |= high;
            self.pos += chunk.len();
        }
        u64::from(high_bits)
    }

    /// Refuses a string whose bytes are not UTF-8.
    #[cold]
    pub fn check_utf8(&self, found: Text) -> Result<(), Syntax> {
        match std::str::from_utf8(&self.input[found.start..found.end]) {
            Ok(_) => Ok(()),
            Err(error) => Err(Syntax { at: found.start + error.valid_up_to(), what: "invalid UTF-8" }),
        }
    }

    /// An escape of the rarer kinds.
    fn escape(&mut self) -> Result<(), Syntax> {
        match self.input.get(self.pos + 1) {
            Some(b'u') => {
                let digits = self.input.get(self.pos + 2..self.pos + 6);
                if !digits.is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit)) {
                    return self.error("`\\u` needs four hexadecimal digits");
                }
                self.pos += 6;
            }
            Some(b'\'') if self.options.allow_single_quotes => {
                self.lenient = true;
                self.pos += 2;
            }
            Some(0x20..) if self.options.allow_backslash_escaping_any_character => {
                self.lenient = true;
                // The escaped character may take several bytes; the rest of them follow as ordinary ones.
                self.pos += 2;
            }
            _ => return self.error("an unknown escape"),
        }
        Ok(())
    }

    /// A number; the position is at its first byte.
    #[inline]
    pub fn number(&mut self) -> Result<Number, Syntax> {
        let start = self.pos;
        let negative = self.eat(b'-');
        let first_digit = self.pos;
        let mut number = Number::begin(start, negative);
        let digits = self.digits(&mut number);
        if digits == 0 {
            return self.error("expected a digit");
        }
        if digits > 1 && self.input[first_digit] == b'0' {
            if !self.options.allow_numeric_leading_zeros {
                self.pos = first_digit;
                return self.error("a number with leading zeros");
            }
            self.lenient = true;
        }
        if self.peek() == b'.' {
            self.pos += 1;
            number.integer = false;
            let digits = self.digits(&mut number);
            number.exponent -= digits as i32;
            if digits == 0 {
                return self.error("expected a digit");
            }
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.exponent(&mut number)?;
        }
        number.end = self.pos;
        Ok(number)
    }

    #[inline]
    fn digits(&mut self, number: &mut Number) -> usize {
        let start = self.pos;
        while let digit @ b'0'..=b'9' = self.peek() {
            number.push_digit(digit - b'0');
            self.pos += 1;
        }
        self.pos - start
    }

    fn exponent(&mut self, number: &mut Number) -> Result<(), Syntax> {
        self.pos += 1;
        number.integer = false;
        let negative = match self.peek() {
            sign @ (b'+' | b'-') => {
                self.pos += 1;
                sign == b'-'
            }
            _ => false,
        };
        let start = self.pos;
        let mut exponent = 0_i32;
        while let digit @ b'0'..=b'9' = self.peek() {
            exponent = exponent.saturating_mul(10).saturating_add(i32::from(digit - b'0'));
            self.pos += 1;
        }
        if self.pos == start {
            return self.error("expected a digit");
        }
        let exponent = if negative { -exponent } else { exponent };
        number.exponent = number.exponent.saturating_add(exponent);
        Ok(())
    }

    /// `NaN` or an infinity, if one is next and allowed.
    pub fn non_number(&mut self) -> Option<f64> {
        if !self.options.allow_non_numeric_numbers || !matches!(self.peek(), b'N' | b'I' | b'+' | b'-') {
            return None;
        }
        let rest = &self.input[self.pos..];
        let (word, value) = NON_NUMBERS.iter().find(|(word, _)| rest.starts_with(word))?;
        self.pos += word.len();
        self.lenient = true;
        Some(*value)
    }

    /// The value of a string in a number column, which may only be one of these words.
    pub fn non_number_word(&self, word: &[u8]) -> Option<f64> {
        let (_, value) = NON_NUMBERS.iter().find(|(known, _)| *known == word)?;
        self.options.allow_non_numeric_numbers.then_some(*value)
    }

    /// Whether a string begins here.
    #[inline]
    pub fn at_string(&self) -> bool {
        let byte = self.peek();
        byte == b'"' || byte == b'\'' && self.options.allow_single_quotes
    }

    #[inline]
    pub fn eat_word(&mut self, word: &'static [u8]) -> bool {
        let there = self.input[self.pos..].starts_with(word);
        self.pos += if there { word.len() } else { 0 };
        there
    }

    /// Reads over any value that is not an object or array.
    fn scalar(&mut self) -> Result<(), Syntax> {
        match self.peek() {
            b'"' => self.string().map(drop),
            b'\'' if self.options.allow_single_quotes => self.string().map(drop),
            b't' if self.eat_word(b"true") => Ok(()),
            b'f' if self.eat_word(b"false") => Ok(()),
            b'n' if self.eat_word(b"null") => Ok(()),
            b'N' | b'I' | b'+' | b'-' if self.non_number().is_some() => Ok(()),
            b'0'..=b'9' | b'-' => self.number().map(drop),
            _ if self.at_end() => self.error("the text ends inside a value"),
            _ => self.error("expected a value"),
        }
    }

    /// Reads over one value of any kind, checking its syntax.
    pub fn skip(&mut self) -> Result<(), Syntax> {
        if !matches!(self.peek(), b'{' | b'[') {
            return self.scalar();
        }
        // One entry per open container; true: an object.
        let mut open: Vec<bool> = Vec::new();
        loop {
            self.whitespace()?;
            match self.peek() {
                bracket @ (b'{' | b'[') => {
                    self.pos += 1;
                    self.whitespace()?;
                    let object = bracket == b'{';
                    if !self.eat(if object { b'}' } else { b']' }) {
                        if open.len() == DEPTH_MAX {
                            return self.error("nested too deeply");
                        }
                        if object {
                            self.name()?;
                            self.colon()?;
                        }
                        open.push(object);
                        continue;
                    }
                }
                _ => self.scalar()?,
            }
            loop {
                let Some(&object) = open.last() else { return Ok(()) };
                self.whitespace()?;
                if self.eat(b',') {
                    if object {
                        self.whitespace()?;
                        self.name()?;
                        self.colon()?;
                    }
                    break;
                }
                if !self.eat(if object { b'}' } else { b']' }) {
                    return self.error(if object { "expected `,` or `}`" } else { "expected `,` or `]`" });
                }
                open.pop();
            }
        }
    }

    /// Appends `raw`, a value that this cursor has read with some lenience, as JSON that anyone can read:
    /// strings and names in double quotes, words and odd numbers as strings, no comments.
    pub fn write_strict(&self, raw: &[u8], out: &mut Vec<u8>) {
        let mut cursor = Cursor::new(raw, self.options);
        let mut content = Vec::new();
        while cursor.whitespace().is_ok() && !cursor.at_end() {
            let start = cursor.pos;
            let strict_token = match cursor.peek() {
                b'{' | b'}' | b'[' | b']' | b':' | b',' => {
                    cursor.pos += 1;
                    true
                }
                _ if cursor.at_string() => {
                    let Ok(found) = cursor.string() else { return };
                    content.clear();
                    unescape(&raw[found.start..found.end], &mut content);
                    crate::rescue::write_string(&content, out);
                    continue;
                }
                _ => {
                    let token_end = |b: &u8| matches!(b, b':' | b',' | b'}' | b']' | b'/') || b.is_ascii_whitespace();
                    let rest = &raw[start..];
                    cursor.pos += rest.iter().position(token_end).unwrap_or(rest.len()).max(1);
                    serde_json::from_slice::<serde::de::IgnoredAny>(&raw[start..cursor.pos]).is_ok()
                }
            };
            let token = &raw[start..cursor.pos];
            if strict_token { out.extend_from_slice(token) } else { crate::rescue::write_string(token, out) }
        }
    }
}

/// Appends a string's content without its escapes. Halves of surrogate pairs that stand alone become U+FFFD.
pub(crate) fn unescape(content: &[u8], out: &mut Vec<u8>) {
    out.reserve(content.len());
    let mut rest = content;
    loop {
        // Eight bytes at a time are copied, and those from the escape on taken back.
        while let Some((chunk, tail)) = rest.split_first_chunk::<8>() {
            let stops = equals(u64::from_le_bytes(*chunk), b'\\');
            out.extend_from_slice(chunk);
            if stops == 0 {
                rest = tail;
                continue;
            }
            let before = stops.trailing_zeros() as usize / 8;
            out.truncate(out.len() - 8 + before);
            rest = unescape_one(&rest[before + 1..], out);
        }
        match rest.iter().position(|&byte| byte == b'\\') {
            Some(before) => {
                out.extend_from_slice(&rest[..before]);
                rest = unescape_one(&rest[before + 1..], out);
            }
            None => return out.extend_from_slice(rest),
        }
    }
}

/// Appends what stands behind a backslash; returns what follows.
#[inline]
fn unescape_one<'t>(rest: &'t [u8], out: &mut Vec<u8>) -> &'t [u8] {
    let Some((&code, rest)) = rest.split_first() else { return rest };
    match code {
        b'b' => out.push(0x08),
        b'f' => out.push(0x0C),
        b'n' => out.push(b'\n'),
        b'r' => out.push(b'\r'),
        b't' => out.push(b'\t'),
        b'u' => return unescape_unicode(rest, out),
        other => out.push(other),
    }
    rest
}

fn unescape_unicode<'t>(text: &'t [u8], out: &mut Vec<u8>) -> &'t [u8] {
    let Some((unit, mut rest)) = hex_unit(text) else { return text };
    let mut code = unit;
    if (0xD800..0xDC00).contains(&unit)
        && let Some((low, tail)) = rest.strip_prefix(b"\\u").and_then(hex_unit)
        && (0xDC00..0xE000).contains(&low)
    {
        code = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
        rest = tail;
    }
    let char = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
    rest
}

fn hex_unit(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_at_checked(4)?;
    let unit = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    Some((unit, rest))
}
