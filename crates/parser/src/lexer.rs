//! Text to tokens with places. One lexer serves statements, queries and relations, so that a token means the
//! same everywhere; it knows nothing about grammar.
//!
//! Both `'…'` and `"…"` are string literals with Spark's backslash escapes, `r'…'` is taken as it stands, and
//! back-ticks quote identifiers. Comments do not nest.

use std::ops::Range;

use sqlparser::tokenizer::{Location, Span as TokenSpan, Token, TokenWithSpan};

use crate::diagnostic::Diagnostic;
use crate::span::{Place, Span};
use crate::variables::Edit;

/// One token, its place in the script and its bytes in the statement's text.
#[derive(Clone, Debug)]
pub(crate) struct Lexeme {
    pub(crate) token: Token,
    pub(crate) span: Span,
    pub(crate) bytes: Range<usize>,
}

impl Lexeme {
    /// The word as typed when it is an unquoted one.
    pub(crate) fn bare_word(&self) -> Option<&str> {
        match &self.token {
            Token::Word(word) if word.quote_style.is_none() => Some(&word.value),
            _ => None,
        }
    }

    /// Whether this is the unquoted word, without regard to case.
    pub(crate) fn is(&self, word: &str) -> bool {
        self.bare_word().is_some_and(|typed| typed.eq_ignore_ascii_case(word))
    }

    /// The same token as sqlparser wants it.
    pub(crate) fn for_sqlparser(&self) -> TokenWithSpan {
        with_span(self.token.clone(), self.span)
    }
}

/// A token at one of our spans.
pub(crate) fn with_span(token: Token, span: Span) -> TokenWithSpan {
    let location = |place: Place| Location::new(place.line, place.column);
    TokenWithSpan::new(token, TokenSpan::new(location(span.start), location(span.end)))
}

/// `text` without what its layout is: tokens as they are written, one space between them, no comments. A text that cannot be cut
/// into tokens stays as it is.
pub fn without_layout(text: &str) -> String {
    match tokenize(text, Place { line: 1, column: 1 }, &[]) {
        Ok(tokens) => {
            let words: Vec<&str> = tokens.iter().filter_map(|token| text.get(token.bytes.clone())).collect();
            words.join(" ")
        }
        Err(_) => text.to_string(),
    }
}

/// Cuts `text`, whose first character stands at `start`, into tokens.
pub(crate) fn tokenize(text: &str, start: Place, edits: &[Edit]) -> Result<Vec<Lexeme>, Diagnostic> {
    let mut lexer = Lexer { walk: Walk::new(text, start, edits), lexemes: Vec::new() };
    while lexer.skip_blank()? {
        lexer.token()?;
    }
    Ok(lexer.lexemes)
}

/// A position in a text that knows its place in the script, also behind replaced variables: text that a
/// variable brought in stands where `${name}` stood.
pub(crate) struct Walk<'a> {
    text: &'a str,
    byte: usize,
    place: Place,
    edits: &'a [Edit],
}

impl<'a> Walk<'a> {
    pub(crate) fn new(text: &'a str, start: Place, edits: &'a [Edit]) -> Self {
        let mut walk = Walk { text, byte: 0, place: start, edits };
        walk.leave_edits();
        walk
    }

    pub(crate) fn byte(&self) -> usize {
        self.byte
    }

    pub(crate) fn rest(&self) -> &'a str {
        self.text.get(self.byte..).unwrap_or("")
    }

    pub(crate) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn peek_second(&self) -> Option<char> {
        self.rest().chars().nth(1)
    }

    /// Where a token that begins here begins.
    pub(crate) fn place(&self) -> Place {
        match self.edits.first() {
            Some(edit) if edit.bytes.start <= self.byte => edit.from,
            _ => self.place,
        }
    }

    /// Where a token that ends here ends.
    pub(crate) fn end_place(&self) -> Place {
        match self.edits.first() {
            Some(edit) if edit.bytes.start < self.byte => edit.to,
            _ => self.place,
        }
    }

    pub(crate) fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        let replaced = self.edits.first().is_some_and(|edit| edit.bytes.start <= self.byte);
        self.byte += next.len_utf8();
        if !replaced {
            if next == '\n' {
                self.place.line += 1;
                self.place.column = 1;
            } else {
                self.place.column += 1;
            }
        }
        self.leave_edits();
        Some(next)
    }

    fn leave_edits(&mut self) {
        while let Some((edit, later)) = self.edits.split_first() {
            if self.byte < edit.bytes.end || self.byte < edit.bytes.start {
                break;
            }
            self.place = edit.to;
            self.edits = later;
        }
    }
}

/// Whether a character may begin an identifier.
pub(crate) fn starts_word(letter: char) -> bool {
    letter == '_' || letter.is_alphabetic()
}

/// Whether a character may stand inside an identifier.
pub(crate) fn continues_word(letter: char) -> bool {
    letter == '_' || letter.is_alphanumeric()
}

struct Lexer<'a> {
    walk: Walk<'a>,
    lexemes: Vec<Lexeme>,
}

impl Lexer<'_> {
    /// Skips white space and comments; false at the end of the text.
    fn skip_blank(&mut self) -> Result<bool, Diagnostic> {
        loop {
            let rest = self.walk.rest();
            if rest.starts_with("--") {
                while self.walk.peek().is_some_and(|next| next != '\n') {
                    self.walk.next();
                }
            } else if rest.starts_with("/*") {
                self.block_comment()?;
            } else {
                match self.walk.peek() {
                    None => return Ok(false),
                    Some(next) if next.is_whitespace() || next == '\u{feff}' => self.walk.next(),
                    Some(_) => return Ok(true),
                };
            }
        }
    }

    /// Comments nest, so that code with comments can be commented out.
    fn block_comment(&mut self) -> Result<(), Diagnostic> {
        let from = self.walk.place();
        self.walk.next();
        self.walk.next();
        let span = Span { start: from, end: self.walk.end_place() };
        let mut depth = 1;
        while depth > 0 {
            let rest = self.walk.rest();
            let (opens, closes) = (rest.starts_with("/*"), rest.starts_with("*/"));
            if self.walk.next().is_none() {
                let help = "close it with `*/`; each `/*` inside needs its own, since comments nest";
                return Err(syntax("this comment has no end", span).help(help));
            }
            if opens || closes {
                self.walk.next();
                depth = if opens { depth + 1 } else { depth - 1 };
            }
        }
        Ok(())
    }

    fn token(&mut self) -> Result<(), Diagnostic> {
        let (start, from) = (self.walk.byte(), self.walk.place());
        let first = self.walk.peek().unwrap_or(' ');
        let second = self.walk.peek_second();
        let token = match (first, second) {
            ('\'' | '"', _) => Token::SingleQuotedString(self.string(first)?),
            ('r' | 'R', Some(quote @ ('\'' | '"'))) => Token::SingleQuotedString(self.raw_string(quote)?),
            ('x' | 'X', Some('\'')) => Token::HexStringLiteral(self.raw_string('\'')?),
            ('`', _) => Token::make_word(&self.back_ticks()?, Some('`')),
            ('0'..='9', _) => return self.number(start, from),
            ('.', Some('0'..='9')) if !self.after_name(start) => return self.number(start, from),
            (letter, _) if starts_word(letter) => Token::make_word(self.word(), None),
            _ => self.symbol(),
        };
        self.push(token, start, from);
        Ok(())
    }

    fn push(&mut self, token: Token, start: usize, from: Place) {
        let span = Span { start: from, end: self.walk.end_place() };
        self.lexemes.push(Lexeme { token, span, bytes: start..self.walk.byte() });
    }

    /// Whether a name, `)` or `]` ends right before this byte, so that `.` goes on with it.
    fn after_name(&self, byte: usize) -> bool {
        self.lexemes.last().is_some_and(|last| {
            last.bytes.end == byte && matches!(last.token, Token::Word(_) | Token::RParen | Token::RBracket)
        })
    }

    fn word(&mut self) -> &str {
        let rest = self.walk.rest();
        let from = self.walk.byte();
        while self.walk.peek().is_some_and(continues_word) {
            self.walk.next();
        }
        rest.get(..self.walk.byte() - from).unwrap_or("")
    }

    fn back_ticks(&mut self) -> Result<String, Diagnostic> {
        let from = self.walk.place();
        self.walk.next();
        let span = Span { start: from, end: self.walk.end_place() };
        let mut name = String::new();
        loop {
            match self.walk.next() {
                Some('`') if self.walk.peek() == Some('`') => {
                    self.walk.next();
                    name.push('`');
                }
                Some('`') => return Ok(name),
                Some(other) => name.push(other),
                None => return Err(syntax("this quoted name has no end", span).help("close it with a back-tick")),
            }
        }
    }

    fn raw_string(&mut self, quote: char) -> Result<String, Diagnostic> {
        let from = self.walk.place();
        self.walk.next();
        self.walk.next();
        let span = Span { start: from, end: self.walk.end_place() };
        let mut value = String::new();
        loop {
            match self.walk.next() {
                Some(end) if end == quote => return Ok(value),
                Some(other) => value.push(other),
                None => return Err(unterminated(quote, span)),
            }
        }
    }

    fn string(&mut self, quote: char) -> Result<String, Diagnostic> {
        let from = self.walk.place();
        self.walk.next();
        let span = Span { start: from, end: self.walk.end_place() };
        let mut value = String::new();
        loop {
            match self.walk.next() {
                Some(end) if end == quote => {
                    if self.walk.peek() != Some(quote) {
                        return Ok(value);
                    }
                    self.walk.next();
                    value.push(quote);
                }
                Some('\\') => self.escape(&mut value),
                Some(other) => value.push(other),
                None => return Err(unterminated(quote, span)),
            }
        }
    }

    /// What follows a backslash. `\%` and `\_` keep it, since LIKE gives them their meaning.
    fn escape(&mut self, value: &mut String) {
        let rest = self.walk.rest();
        let code = |digits: usize| {
            rest.get(1..=digits).and_then(|hex| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32)
        };
        let octal = rest.get(..3).filter(|digits| digits.bytes().all(|digit| matches!(digit, b'0'..=b'7')));
        let (letter, length) = match self.walk.peek() {
            Some('u') if code(4).is_some() => (code(4), 5),
            Some('U') if code(8).is_some() => (code(8), 9),
            Some('0'..='3') if octal.is_some() => {
                (octal.and_then(|digits| u32::from_str_radix(digits, 8).ok()).and_then(char::from_u32), 3)
            }
            Some('0') => (Some('\0'), 1),
            Some('b') => (Some('\u{8}'), 1),
            Some('n') => (Some('\n'), 1),
            Some('r') => (Some('\r'), 1),
            Some('t') => (Some('\t'), 1),
            Some('Z') => (Some('\u{1a}'), 1),
            Some(like @ ('%' | '_')) => {
                value.push('\\');
                (Some(like), 1)
            }
            other => (other, 1),
        };
        value.extend(letter);
        for _ in 0..length {
            self.walk.next();
        }
    }

    /// Numbers, and identifiers that begin with a digit (`2022_orders`).
    fn number(&mut self, start: usize, from: Place) -> Result<(), Diagnostic> {
        let rest = self.walk.rest();
        let in_name = matches!(self.lexemes.last(), Some(last) if last.token == Token::Period && last.bytes.end == start)
            && self.lexemes.len() > 1;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let mut length = digits;
        if !in_name {
            if rest.get(length..).is_some_and(|tail| tail.starts_with('.')) {
                let fraction = rest.bytes().skip(length + 1).take_while(u8::is_ascii_digit).count();
                length += 1 + fraction;
            }
            length += exponent(rest.get(length..).unwrap_or(""));
        }
        let tail = rest.get(length..).unwrap_or("");
        let letters: String = tail.chars().take_while(|letter| continues_word(*letter)).collect();
        let text = rest.get(..length).unwrap_or("").to_owned();
        let cast = match letters.to_ascii_uppercase().as_str() {
            _ if in_name => None,
            "D" => Some("DOUBLE"),
            "F" => Some("FLOAT"),
            "S" => Some("SMALLINT"),
            "Y" => Some("TINYINT"),
            _ => None,
        };
        let long = !in_name && letters.eq_ignore_ascii_case("L");
        let name = in_name || (!letters.is_empty() && length == digits && cast.is_none() && !long);
        let taken = if name || long || cast.is_some() { length + letters.len() } else { length };
        while self.walk.byte() < start + taken {
            self.walk.next();
        }
        let Some(data_type) = cast else {
            let token =
                if name { Token::make_word(&format!("{text}{letters}"), None) } else { Token::Number(text, long) };
            self.push(token, start, from);
            return Ok(());
        };
        let word = |word: &str| Token::make_word(word, None);
        let number = Token::Number(text, false);
        for token in [word("CAST"), Token::LParen, number, word("AS"), word(data_type), Token::RParen] {
            self.push(token, start, from);
        }
        Ok(())
    }

    fn symbol(&mut self) -> Token {
        const LONG: &[(&str, Token)] = &[
            ("<=>", Token::Spaceship),
            ("==", Token::DoubleEq),
            ("=>", Token::RArrow),
            ("!=", Token::Neq),
            ("<>", Token::Neq),
            ("<=", Token::LtEq),
            (">=", Token::GtEq),
            ("<<", Token::ShiftLeft),
            (">>", Token::ShiftRight),
            ("||", Token::StringConcat),
            ("|>", Token::VerticalBarRightAngleBracket),
            ("::", Token::DoubleColon),
            ("->", Token::Arrow),
        ];
        let rest = self.walk.rest();
        if let Some((text, token)) = LONG.iter().find(|(text, _)| rest.starts_with(text)) {
            for _ in 0..text.len() {
                self.walk.next();
            }
            return token.clone();
        }
        match self.walk.next().unwrap_or(' ') {
            ',' => Token::Comma,
            '=' => Token::Eq,
            '<' => Token::Lt,
            '>' => Token::Gt,
            '+' => Token::Plus,
            '-' => Token::Minus,
            '*' => Token::Mul,
            '/' => Token::Div,
            '%' => Token::Mod,
            '(' => Token::LParen,
            ')' => Token::RParen,
            '.' => Token::Period,
            ':' => Token::Colon,
            ';' => Token::SemiColon,
            '\\' => Token::Backslash,
            '[' => Token::LBracket,
            ']' => Token::RBracket,
            '&' => Token::Ampersand,
            '|' => Token::Pipe,
            '^' => Token::Caret,
            '{' => Token::LBrace,
            '}' => Token::RBrace,
            '#' => Token::Sharp,
            '~' => Token::Tilde,
            '!' => Token::ExclamationMark,
            '@' => Token::AtSign,
            other => Token::Char(other),
        }
    }
}

/// How many bytes of `e10`, `E-3` stand at the beginning.
fn exponent(text: &str) -> usize {
    let bytes = text.as_bytes();
    if !matches!(bytes.first(), Some(b'e' | b'E')) {
        return 0;
    }
    let sign = usize::from(matches!(bytes.get(1), Some(b'+' | b'-')));
    let digits = bytes.iter().skip(1 + sign).take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 { 0 } else { 1 + sign + digits }
}

fn unterminated(quote: char, span: Span) -> Diagnostic {
    syntax("this string has no end", span).help(format!("close it with `{quote}`"))
}

/// A [`Diagnostic`] for text that does not follow the grammar.
pub(crate) fn syntax(message: impl Into<String>, span: Span) -> Diagnostic {
    Diagnostic::new("SYNTAX_ERROR", message).at(span)
}
