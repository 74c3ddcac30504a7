//! Cuts text that arrives bit by bit into statements at `;`. Knows strings, quoted names and comments, and
//! nothing else of the language: a piece may be nonsense.

use std::collections::VecDeque;

use crate::lexer::continues_word;
use crate::span::Place;
use crate::variables::Edit;

/// The text of one statement, without its semicolon, from its first character that is neither blank nor
/// comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The text.
    pub text: String,
    /// Where its first character stands.
    pub start: Place,
    pub(crate) edits: Vec<Edit>,
}

impl Piece {
    /// A piece whose first character stands at `start`.
    pub fn new(text: impl Into<String>, start: Place) -> Self {
        Piece { text: text.into(), start, edits: Vec::new() }
    }
}

/// What the next character is part of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Code,
    Quotes {
        quote: char,
        raw: bool,
    },
    LineComment,
    /// So many comments, one inside the other.
    BlockComment {
        depth: usize,
    },
}

/// Cuts a growing text into statements: [`Splitter::push`] text, take complete statements as an iterator,
/// [`Splitter::finish`] for a last one without semicolon.
pub struct Splitter {
    /// Text not yet given out; scanned up to `scanned`.
    text: String,
    scanned: usize,
    place: Place,
    inside: Inside,
    /// The last two characters of code, to tell `r'` from `for'`.
    before: [char; 2],
    /// Where the statement at the beginning of `text` begins.
    start: Option<(usize, Place)>,
    ready: VecDeque<Piece>,
}

impl Default for Splitter {
    fn default() -> Self {
        Splitter::new()
    }
}

impl Splitter {
    /// A splitter at line 1, column 1.
    pub fn new() -> Self {
        Splitter {
            text: String::new(),
            scanned: 0,
            place: Place { line: 1, column: 1 },
            inside: Inside::Code,
            before: [' '; 2],
            start: None,
            ready: VecDeque::new(),
        }
    }

    /// Adds text behind what was there.
    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.scan(false);
    }

    /// The last statement when it has no semicolon; the splitter is empty afterwards.
    pub fn finish(&mut self) -> Option<Piece> {
        if let Some(piece) = self.ready.pop_front() {
            return Some(piece);
        }
        self.scan(true);
        let start = self.start.take();
        let text = std::mem::take(&mut self.text);
        self.scanned = 0;
        self.inside = Inside::Code;
        self.before = [' '; 2];
        let (from, place) = start?;
        Some(Piece::new(text.get(from..)?.trim_end(), place))
    }

    /// Whether nothing waits: no complete statement, and no text but blanks and comments.
    pub fn is_empty(&self) -> bool {
        let tail = self.text.get(self.scanned..).unwrap_or("");
        self.ready.is_empty() && self.start.is_none() && tail.trim().is_empty()
    }

    /// Reads what has not been read. A last character whose meaning depends on the next one waits for it,
    /// unless the text is finished.
    fn scan(&mut self, finished: bool) {
        while let Some(rest) = self.text.get(self.scanned..) {
            let mut letters = rest.chars();
            let Some(letter) = letters.next() else { break };
            let next = letters.next();
            let undecided = match self.inside {
                Inside::Code => matches!(letter, '-' | '/'),
                Inside::Quotes { raw, .. } => letter == '\\' && !raw,
                Inside::LineComment => false,
                Inside::BlockComment { .. } => matches!(letter, '*' | '/'),
            };
            if undecided && next.is_none() && !finished {
                break;
            }
            self.step(letter, next);
        }
        if self.start.is_none() && self.inside == Inside::Code {
            self.text.drain(..self.scanned);
            self.scanned = 0;
        }
    }

    fn step(&mut self, letter: char, next: Option<char>) {
        match self.inside {
            Inside::Code => self.step_in_code(letter, next),
            Inside::Quotes { raw, .. } if letter == '\\' && !raw => {
                self.advance(letter);
                if let Some(next) = next {
                    self.advance(next);
                }
            }
            Inside::Quotes { quote, .. } => {
                self.advance(letter);
                if letter == quote {
                    self.inside = Inside::Code;
                    self.before = [' ', quote];
                }
            }
            Inside::LineComment => {
                self.advance(letter);
                if letter == '\n' {
                    self.inside = Inside::Code;
                }
            }
            Inside::BlockComment { depth } => {
                self.advance(letter);
                match (letter, next) {
                    ('*', Some('/')) => {
                        self.advance('/');
                        self.inside = if depth > 1 { Inside::BlockComment { depth: depth - 1 } } else { Inside::Code };
                    }
                    ('/', Some('*')) => {
                        self.advance('*');
                        self.inside = Inside::BlockComment { depth: depth + 1 };
                    }
                    _ => {}
                }
            }
        }
    }

    fn step_in_code(&mut self, letter: char, next: Option<char>) {
        match (letter, next) {
            ('-', Some('-')) | ('/', Some('*')) => {
                self.inside = if letter == '-' { Inside::LineComment } else { Inside::BlockComment { depth: 1 } };
                self.before = [' '; 2];
                self.advance(letter);
                self.advance(if letter == '-' { '-' } else { '*' });
                return;
            }
            (';', _) => return self.cut(),
            ('\'' | '"', _) => {
                let raw = matches!(self.before[1], 'r' | 'R') && !continues_word(self.before[0]);
                self.inside = Inside::Quotes { quote: letter, raw };
            }
            ('`', _) => self.inside = Inside::Quotes { quote: '`', raw: true },
            _ => {}
        }
        if self.start.is_none() && !letter.is_whitespace() && letter != '\u{feff}' {
            self.start = Some((self.scanned, self.place));
        }
        self.before = [self.before[1], letter];
        self.advance(letter);
    }

    fn advance(&mut self, letter: char) {
        self.scanned += letter.len_utf8();
        if letter == '\n' {
            self.place.line += 1;
            self.place.column = 1;
        } else {
            self.place.column += 1;
        }
    }

    /// Gives out the statement that ends before the semicolon under the cursor.
    fn cut(&mut self) {
        if let Some((from, place)) = self.start.take() {
            let text = self.text.get(from..self.scanned).unwrap_or("");
            self.ready.push_back(Piece::new(text.trim_end(), place));
        }
        self.advance(';');
        self.text.drain(..self.scanned);
        self.scanned = 0;
        self.before = [' '; 2];
    }
}

impl Iterator for Splitter {
    type Item = Piece;

    /// The next complete statement; `None` until more text brings one.
    fn next(&mut self) -> Option<Piece> {
        self.ready.pop_front()
    }
}

/// Whether the text holds at least one statement and ends in `;` outside strings and comments.
pub fn is_complete(text: &str) -> bool {
    let mut splitter = Splitter::new();
    splitter.push(text);
    let mut found = false;
    while splitter.next().is_some() {
        found = true;
    }
    found && splitter.finish().is_none()
}
