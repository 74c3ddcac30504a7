//! `${name}` in script text. Knows only the text; where values come from is the caller's business.

use std::collections::HashMap;
use std::ops::Range;

use crate::diagnostic::Diagnostic;
use crate::lexer::Walk;
use crate::span::{Place, Span};
use crate::splitter::Piece;
use crate::words::near;

/// Text that a variable brought in, and where `${name}` stood in the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edit {
    pub(crate) bytes: Range<usize>,
    pub(crate) from: Place,
    pub(crate) to: Place,
}

/// Replaces every `${name}` outside comments, also inside strings and quoted names. A value is not searched
/// again. The result remembers where things stood: [`crate::parse_piece`] reports places of the script.
///
/// # Errors
/// `UNDEFINED_VARIABLE` for the first name without a value.
pub fn substitute(piece: &Piece, vars: &HashMap<String, String>) -> Result<Piece, Diagnostic> {
    if !piece.text.contains("${") {
        return Ok(piece.clone());
    }
    let mut walk = Walk::new(&piece.text, piece.start, &piece.edits);
    let mut text = String::with_capacity(piece.text.len());
    let mut edits = Vec::new();
    let mut inside = Inside::Code;
    while let Some(letter) = walk.peek() {
        let name = if inside.is_comment() { None } else { variable(walk.rest()) };
        let Some(name) = name else {
            inside = inside.after(walk.rest());
            text.push(letter);
            walk.next();
            continue;
        };
        let from = walk.place();
        for _ in 0..name.chars().count() + 3 {
            walk.next();
        }
        let to = walk.end_place();
        let Some(value) = vars.get(name) else {
            return Err(undefined(name, Span { start: from, end: to }, vars));
        };
        let start = text.len();
        text.push_str(value);
        edits.push(Edit { bytes: start..text.len(), from, to });
    }
    Ok(Piece { text, start: piece.start, edits })
}

/// The name when the text begins with `${name}`.
fn variable(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("${")?;
    let name = inner.get(..inner.find('}')?)?;
    let fits = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '.' | '-' | ':');
    (!name.is_empty() && name.chars().all(fits)).then_some(name)
}

fn undefined(name: &str, span: Span, vars: &HashMap<String, String>) -> Diagnostic {
    let mut known: Vec<&str> = vars.keys().map(String::as_str).collect();
    known.sort_unstable();
    let mut error = Diagnostic::new("UNDEFINED_VARIABLE", format!("variable `{name}` has no value"))
        .at(span)
        .help(format!("give it one with `--var {name}=value` or `SET VAR {name} = 'value'`"));
    if let Some(close) = near(name, known.iter().copied()) {
        error = error.help(format!("did you mean `{close}`?"));
    }
    if known.is_empty() { error } else { error.help(format!("variables with a value: {}", known.join(", "))) }
}

/// What the next character is part of, as far as comments go.
#[derive(Clone, Copy)]
enum Inside {
    Code,
    Quotes {
        quote: char,
        escaped: bool,
    },
    LineComment,
    /// So many comments, one inside the other; `half`: the next character belongs to a `/*` or `*/` already seen.
    BlockComment {
        depth: usize,
        half: bool,
    },
}

impl Inside {
    fn is_comment(self) -> bool {
        matches!(self, Inside::LineComment | Inside::BlockComment { .. })
    }

    /// The state behind the first character of `rest`.
    fn after(self, rest: &str) -> Inside {
        let first = rest.chars().next().unwrap_or(' ');
        match self {
            Inside::Code if rest.starts_with("--") => Inside::LineComment,
            Inside::Code if rest.starts_with("/*") => Inside::BlockComment { depth: 1, half: true },
            Inside::Code if matches!(first, '\'' | '"' | '`') => Inside::Quotes { quote: first, escaped: false },
            Inside::Quotes { quote, escaped: false } if first == quote => Inside::Code,
            Inside::Quotes { quote, escaped } => {
                Inside::Quotes { quote, escaped: !escaped && first == '\\' && quote != '`' }
            }
            Inside::LineComment if first == '\n' => Inside::Code,
            Inside::BlockComment { depth: 0, half: true } => Inside::Code,
            Inside::BlockComment { depth, half: true } => Inside::BlockComment { depth, half: false },
            Inside::BlockComment { depth, half: false } if rest.starts_with("*/") => {
                Inside::BlockComment { depth: depth - 1, half: true }
            }
            Inside::BlockComment { depth, half: false } if rest.starts_with("/*") => {
                Inside::BlockComment { depth: depth + 1, half: true }
            }
            other => other,
        }
    }
}
