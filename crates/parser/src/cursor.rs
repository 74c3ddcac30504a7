//! A position in a statement's tokens, and the small parts that many statements share: names, literals,
//! option lists, intervals. Knows no statement.

use std::ops::Range;
use std::time::Duration;

use sqlparser::tokenizer::Token;

use crate::diagnostic::Diagnostic;
use crate::interval::{is_unit, parse_interval};
use crate::lexer::{Lexeme, syntax};
use crate::span::Span;
use crate::statement::{Name, OptionEntry, Text};
use crate::words::near;

/// Words that cannot be an unquoted object name where a name is expected: taking them would hide a
/// forgotten name.
const NEVER_NAMES: &[&str] = &[
    "AS", "BY", "FROM", "GROUP", "HAVING", "IF", "JOIN", "ON", "ORDER", "SELECT", "SET", "TO", "UNION", "VALUES",
    "WHERE", "WITH",
];

/// A position in tokens `at..end` of a statement.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    /// The statement's text, into which the tokens' bytes point.
    pub(crate) text: &'a str,
    pub(crate) tokens: &'a [Lexeme],
    pub(crate) at: usize,
    pub(crate) end: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a str, tokens: &'a [Lexeme]) -> Self {
        Cursor { text, tokens, at: 0, end: tokens.len() }
    }

    /// The token `ahead` of the current one.
    pub(crate) fn peek_at(&self, ahead: usize) -> Option<&'a Lexeme> {
        self.tokens.get(..self.end)?.get(self.at + ahead)
    }

    pub(crate) fn peek(&self) -> Option<&'a Lexeme> {
        self.peek_at(0)
    }

    pub(crate) fn next(&mut self) -> Option<&'a Lexeme> {
        let token = self.peek()?;
        self.at += 1;
        Some(token)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.at >= self.end
    }

    /// Whether the unquoted words stand here, in this order.
    pub(crate) fn is(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(ahead, word)| self.peek_at(ahead).is_some_and(|token| token.is(word)))
    }

    /// Takes the words if they stand here.
    pub(crate) fn take(&mut self, words: &[&str]) -> bool {
        let found = self.is(words);
        if found {
            self.at += words.len();
        }
        found
    }

    pub(crate) fn is_symbol(&self, symbol: &Token) -> bool {
        self.peek().is_some_and(|token| token.token == *symbol)
    }

    pub(crate) fn take_symbol(&mut self, symbol: &Token) -> bool {
        let found = self.is_symbol(symbol);
        if found {
            self.at += 1;
        }
        found
    }

    pub(crate) fn expect(&mut self, word: &str) -> Result<Span, Diagnostic> {
        let span = self.span();
        if self.take(&[word]) { Ok(span) } else { Err(self.expected_word(&[word])) }
    }

    pub(crate) fn expect_symbol(&mut self, symbol: &Token) -> Result<(), Diagnostic> {
        if self.take_symbol(symbol) { Ok(()) } else { Err(self.expected(&format!("`{symbol}`"))) }
    }

    /// Where the current token stands; at the end, the place behind the last one.
    pub(crate) fn span(&self) -> Span {
        if let Some(token) = self.peek() {
            return token.span;
        }
        let Some(last) = self.at.checked_sub(1).and_then(|last| self.tokens.get(last)) else { return Span::UNKNOWN };
        let mut end = last.span.end;
        end.column += 1;
        Span { start: last.span.end, end }
    }

    /// From token `first` to the last one taken.
    pub(crate) fn span_from(&self, first: usize) -> Span {
        let taken = self.tokens.get(first..self.at).unwrap_or(&[]);
        taken.iter().fold(Span::UNKNOWN, |span, token| span.to(token.span))
    }

    /// The text of tokens, as typed.
    pub(crate) fn typed(&self, range: Range<usize>) -> &'a str {
        let tokens = self.tokens.get(range).unwrap_or(&[]);
        match (tokens.first(), tokens.last()) {
            (Some(first), Some(last)) => self.text.get(first.bytes.start..last.bytes.end).unwrap_or(""),
            _ => "",
        }
    }

    /// The current token as an error message calls it.
    pub(crate) fn found(&self) -> String {
        match self.peek() {
            Some(_) => format!("`{}`", self.typed(self.at..self.at + 1)),
            None => "the end of the statement".to_owned(),
        }
    }

    /// An error at the current token.
    pub(crate) fn expected(&self, what: &str) -> Diagnostic {
        syntax(format!("expected {what}, found {}", self.found()), self.span())
    }

    /// An error at the current token that also looks for a misspelling.
    pub(crate) fn expected_word(&self, words: &[&str]) -> Diagnostic {
        let list = match words {
            [] => "the end of the statement".to_owned(),
            [one] => (*one).to_owned(),
            [rest @ .., last] => format!("{} or {last}", rest.join(", ")),
        };
        let error = self.expected(&list);
        let singles = words.iter().flat_map(|words| words.split(' '));
        match self.peek().and_then(Lexeme::bare_word).and_then(|word| near(word, singles)) {
            Some(close) => error.help(format!("did you mean {close}?")),
            None => error,
        }
    }

    /// Nothing may follow but, in the caller's words, `or_else`.
    pub(crate) fn finish(&self, or_else: &[&str]) -> Result<(), Diagnostic> {
        if self.is_done() {
            return Ok(());
        }
        let mut words = or_else.to_vec();
        words.push("the end of the statement");
        Err(self.expected_word(&words))
    }

    /// `name` or `schema.name`. `what` is for the error: `a table name`.
    pub(crate) fn name(&mut self, what: &str) -> Result<Name, Diagnostic> {
        let first = self.at;
        let mut parts = vec![self.name_part(what)?];
        while self.take_symbol(&Token::Period) {
            parts.push(self.name_part("a name after the dot")?);
        }
        let span = self.span_from(first);
        if parts.len() > 2 {
            return Err(syntax(format!("`{}` has too many parts", self.typed(first..self.at)), span)
                .help("a name is `table` or `schema.table`; there are no catalogs to choose from"));
        }
        Ok(Name { parts, span })
    }

    /// A name without dots, such as a column's.
    pub(crate) fn simple_name(&mut self, what: &str) -> Result<Name, Diagnostic> {
        let first = self.at;
        let parts = vec![self.name_part(what)?];
        Ok(Name { parts, span: self.span_from(first) })
    }

    /// The name of a column that is being declared: any word, since what may follow is a type.
    pub(crate) fn column_name(&mut self) -> Result<Name, Diagnostic> {
        match self.peek() {
            Some(Lexeme { token: Token::Word(word), .. }) if !word.value.is_empty() => {
                let name = word.value.clone();
                let first = self.at;
                self.at += 1;
                Ok(Name { parts: vec![name], span: self.span_from(first) })
            }
            _ => self.simple_name("a column name"),
        }
    }

    fn name_part(&mut self, what: &str) -> Result<String, Diagnostic> {
        let Some(Lexeme { token: Token::Word(word), .. }) = self.peek() else { return Err(self.expected(what)) };
        let reserved = NEVER_NAMES.iter().any(|never| never.eq_ignore_ascii_case(&word.value));
        if word.quote_style.is_none() && reserved {
            let help = format!("quote it with back-ticks if it is a name: `{}`", word.value);
            return Err(self.expected(what).help(help));
        }
        if word.value.is_empty() {
            return Err(syntax("a name cannot be empty", self.span()));
        }
        self.at += 1;
        Ok(word.value.clone())
    }

    /// `(name, …)`.
    pub(crate) fn name_list(&mut self, what: &str) -> Result<Vec<Name>, Diagnostic> {
        self.expect_symbol(&Token::LParen)?;
        let mut names = vec![self.simple_name(what)?];
        while self.take_symbol(&Token::Comma) {
            names.push(self.simple_name(what)?);
        }
        self.expect_symbol(&Token::RParen)?;
        Ok(names)
    }

    /// Whether a string literal is next.
    pub(crate) fn is_string(&self) -> bool {
        matches!(self.peek(), Some(Lexeme { token: Token::SingleQuotedString(_), .. }))
    }

    /// A string literal; neighbours are one string.
    pub(crate) fn string(&mut self, what: &str) -> Result<Text, Diagnostic> {
        let first = self.at;
        let mut value = String::new();
        while let Some(Lexeme { token: Token::SingleQuotedString(part), .. }) = self.peek() {
            value.push_str(part);
            self.at += 1;
        }
        if self.at == first {
            return Err(self.expected(what));
        }
        Ok(Text { value, span: self.span_from(first) })
    }

    /// A number of rows, a version.
    pub(crate) fn whole_number(&mut self, what: &str) -> Result<u64, Diagnostic> {
        let number = match self.peek().map(|token| &token.token) {
            Some(Token::Number(digits, _)) => digits.parse().ok(),
            _ => None,
        };
        let Some(number) = number else { return Err(self.expected(what)) };
        self.at += 1;
        Ok(number)
    }

    /// An option's value: a string, a number with or without sign, a word, or an interval such as
    /// `10 seconds`.
    pub(crate) fn value(&mut self) -> Result<Text, Diagnostic> {
        if matches!(self.peek().map(|token| &token.token), Some(Token::SingleQuotedString(_))) {
            return self.string("a value");
        }
        let first = self.at;
        let _ = self.take(&["INTERVAL"]) || self.take_symbol(&Token::Minus) || self.take_symbol(&Token::Plus);
        match self.peek().map(|token| &token.token) {
            Some(Token::Number(..)) => {
                self.at += 1;
                if self.peek().and_then(Lexeme::bare_word).is_some_and(is_unit) {
                    self.at += 1;
                }
            }
            Some(Token::Word(_)) => {
                self.name_part("a value")?;
                while self.take_symbol(&Token::Period) {
                    self.name_part("a name after the dot")?;
                }
            }
            Some(Token::SingleQuotedString(_)) => self.at += 1,
            _ => return Err(self.expected("a value: a string, a number or a word")),
        }
        let value = match (self.at - first, self.tokens.get(first).map(|token| &token.token)) {
            (1, Some(Token::Word(word))) => word.value.clone(),
            _ => self.typed(first..self.at).to_owned(),
        };
        Ok(Text { value, span: self.span_from(first) })
    }

    /// An option's key: a string, or words with dots between them.
    pub(crate) fn key(&mut self) -> Result<Text, Diagnostic> {
        if matches!(self.peek().map(|token| &token.token), Some(Token::SingleQuotedString(_))) {
            return self.string("a key");
        }
        let first = self.at;
        let mut value = String::new();
        loop {
            let Some(Lexeme { token: Token::Word(word), .. }) = self.peek() else {
                return Err(self.expected("an option's name"));
            };
            value.push_str(&word.value);
            self.at += 1;
            if !self.take_symbol(&Token::Period) {
                return Ok(Text { value, span: self.span_from(first) });
            }
            value.push('.');
        }
    }

    /// `(key = value, …)`; `=>` or nothing may stand for `=`.
    pub(crate) fn option_list(&mut self) -> Result<Vec<OptionEntry>, Diagnostic> {
        self.expect_symbol(&Token::LParen)?;
        let mut entries = Vec::new();
        if self.take_symbol(&Token::RParen) {
            return Ok(entries);
        }
        loop {
            let key = self.option_key()?;
            let _ = self.take_symbol(&Token::Eq) || self.take_symbol(&Token::RArrow);
            entries.push(OptionEntry { key, value: self.value()? });
            if !self.take_symbol(&Token::Comma) {
                self.expect_symbol(&Token::RParen)?;
                return Ok(entries);
            }
        }
    }

    /// Like [`Cursor::key`], but one literal only: in `'k' 'v'` the second string is the value.
    fn option_key(&mut self) -> Result<Text, Diagnostic> {
        match self.peek() {
            Some(Lexeme { token: Token::SingleQuotedString(key), span, .. }) => {
                self.at += 1;
                Ok(Text { value: key.clone(), span: *span })
            }
            _ => self.key(),
        }
    }

    /// `'10 seconds'`, `INTERVAL 10 SECONDS`, `INTERVAL '10' SECONDS`, `10 seconds`.
    pub(crate) fn interval(&mut self) -> Result<(Duration, Span), Diagnostic> {
        let first = self.at;
        let mut text = String::new();
        // A number waits for its unit; behind a unit `m` or `s` may be an alias.
        let mut waits = false;
        self.take(&["INTERVAL"]);
        let literal = self.at;
        while let Some(token) = self.peek() {
            match &token.token {
                Token::SingleQuotedString(part) if self.at == literal => {
                    text.push_str(part);
                    waits = part.trim().parse::<f64>().is_ok();
                }
                Token::Number(number, _) => {
                    text = format!("{text} {number}");
                    waits = true;
                }
                Token::Minus => text.push('-'),
                Token::Word(word) if waits && word.quote_style.is_none() && is_unit(&word.value) => {
                    text = format!("{text} {}", word.value);
                    waits = false;
                }
                _ => break,
            }
            self.at += 1;
        }
        if self.at == literal {
            return Err(self.expected("an interval such as '10 seconds'"));
        }
        let span = self.span_from(first);
        Ok((parse_interval(text.trim(), span)?, span))
    }

    /// Moves behind the `)` that closes the `(` here.
    pub(crate) fn skip_parens(&mut self) -> Result<(), Diagnostic> {
        let open = self.span();
        self.expect_symbol(&Token::LParen)?;
        let mut depth = 1_usize;
        while depth > 0 {
            match self.next().map(|token| &token.token) {
                Some(Token::LParen) => depth += 1,
                Some(Token::RParen) => depth -= 1,
                Some(_) => {}
                None => return Err(syntax("this `(` has no `)`", open)),
            }
        }
        Ok(())
    }
}
