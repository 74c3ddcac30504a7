//! Places in SQL text. Lines and columns count from 1, columns in characters, ends are exclusive.

use std::fmt;

/// A point in a script.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Line, from 1; 0 means unknown.
    pub line: u64,
    /// Column in characters, from 1; 0 means unknown.
    pub column: u64,
}

/// From a place up to, not including, another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// First character.
    pub start: Place,
    /// One past the last character.
    pub end: Place,
}

impl Span {
    /// The span that covers nothing known.
    pub const UNKNOWN: Span = Span { start: Place { line: 0, column: 0 }, end: Place { line: 0, column: 0 } };

    /// Whether this span points anywhere.
    pub fn is_known(&self) -> bool {
        self.start.line > 0
    }

    /// The smallest span that covers both; unknown ones do not count.
    pub fn to(self, other: Span) -> Span {
        if !self.is_known() {
            return other;
        }
        if !other.is_known() {
            return self;
        }
        Span { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

impl From<sqlparser::tokenizer::Span> for Span {
    fn from(span: sqlparser::tokenizer::Span) -> Self {
        let place = |at: sqlparser::tokenizer::Location| Place { line: at.line, column: at.column };
        Span { start: place(span.start), end: place(span.end) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}
