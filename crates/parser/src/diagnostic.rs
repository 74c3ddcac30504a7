//! What a user reads when something is wrong: code, sentence, place, way out.

use std::fmt;

use crate::span::Span;

/// One error, as a user sees it. Rendering needs the script's text; see [`Diagnostic::render`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable upper-case code, listed in `docs/errors.md`.
    pub code: &'static str,
    /// One sentence that names the thing.
    pub message: String,
    /// Where in the script.
    pub span: Span,
    /// What stands under the caret; empty for none.
    pub label: String,
    /// The way out; one line each.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// An error without a place yet.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Diagnostic { code, message: message.into(), span: Span::UNKNOWN, label: String::new(), help: Vec::new() }
    }

    /// Sets the place.
    pub fn at(mut self, span: Span) -> Self {
        self.span = span;
        self
    }

    /// Sets the place unless there is one already.
    pub fn at_least(mut self, span: Span) -> Self {
        if !self.span.is_known() {
            self.span = span;
        }
        self
    }

    /// Sets the text under the caret.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Adds a way out.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}", self.code, self.message)
    }
}

impl std::error::Error for Diagnostic {}
