//! Refuses, before sqlparser sees it, what would exhaust the stack or sqlparser's patience. The limits are far
//! above what people write and below what a thread's 2 MiB hold.

use sqlparser::tokenizer::Token;

use crate::cursor::Cursor;
use crate::diagnostic::Diagnostic;
use crate::lexer::{Lexeme, syntax};
use crate::span::Span;

/// Brackets and CASEs inside one another.
const DEPTH_MAX: usize = 60;

/// `(` behind `(`, FROM or JOIN inside one another, unless a query begins there. sqlparser tries each both as a
/// subquery and as a join, which doubles its work.
const JOIN_DEPTH_MAX: usize = 10;

/// Types inside types.
const TYPE_DEPTH_MAX: usize = 30;

/// Operators in one bracket between two commas: the syntax tree is as deep as this.
const OPERATORS_MAX: usize = 2000;

/// The same unquoted word right behind itself: several prefix words recurse.
const REPEATED_MAX: usize = 20;

/// One open bracket, or CASE.
#[derive(Default)]
struct Open {
    operators: usize,
    join: bool,
}

/// Checks the tokens from the cursor to its end.
pub(crate) fn check_depth(body: &Cursor<'_>) -> Result<(), Diagnostic> {
    let tokens = body.tokens.get(body.at..body.end).unwrap_or(&[]);
    let mut open = vec![Open::default()];
    let (mut types, mut repeated) = (0_usize, 0_usize);
    let mut previous: Option<&Lexeme> = None;
    for (index, token) in tokens.iter().enumerate() {
        match &token.token {
            Token::LParen => open.push(Open { operators: 0, join: begins_join(previous, tokens.get(index + 1)) }),
            Token::LBracket | Token::LBrace => open.push(Open::default()),
            Token::RParen | Token::RBracket | Token::RBrace => close(&mut open),
            Token::Comma => open.iter_mut().last().into_iter().for_each(|level| level.operators = 0),
            Token::Number(..) | Token::SingleQuotedString(_) => {}
            Token::Lt if previous.is_some_and(takes_types) => types += 1,
            Token::Gt if types > 0 => types -= 1,
            Token::ShiftRight if types > 0 => types = types.saturating_sub(2),
            Token::Word(_) if token.is("CASE") => open.push(Open::default()),
            Token::Word(_) if token.is("END") && open.len() > 1 => close(&mut open),
            Token::Word(word) if word.quote_style.is_some() || !is_operator(&word.value) => {}
            _ => open.iter_mut().last().into_iter().for_each(|level| level.operators += 1),
        }
        let again = previous.and_then(Lexeme::bare_word).is_some_and(|word| token.is(word));
        repeated = if again { repeated + 1 } else { 0 };
        let operators = open.last().map_or(0, |level| level.operators);
        let joins = if token.token == Token::LParen { open.iter().filter(|level| level.join).count() } else { 0 };
        let too_deep = open.len() > DEPTH_MAX || joins > JOIN_DEPTH_MAX || types > TYPE_DEPTH_MAX;
        if too_deep || operators > OPERATORS_MAX || repeated > REPEATED_MAX {
            return Err(too_complex(token.span));
        }
        previous = Some(token);
    }
    Ok(())
}

fn close(open: &mut Vec<Open>) {
    open.pop();
    if open.is_empty() {
        open.push(Open::default());
    }
}

fn begins_join(before: Option<&Lexeme>, behind: Option<&Lexeme>) -> bool {
    let after_table_word =
        before.is_some_and(|before| before.token == Token::LParen || before.is("FROM") || before.is("JOIN"));
    let query = behind.is_some_and(|behind| behind.is("SELECT") || behind.is("WITH") || behind.is("VALUES"));
    let doubled = before.is_some_and(|before| before.token == Token::LParen);
    after_table_word && (doubled || !query)
}

fn takes_types(word: &Lexeme) -> bool {
    ["ARRAY", "MAP", "STRUCT"].iter().any(|name| word.is(name))
}

fn is_operator(word: &str) -> bool {
    const OPERATORS: &[&str] = &[
        "AND",
        "OR",
        "NOT",
        "IS",
        "IN",
        "LIKE",
        "RLIKE",
        "ILIKE",
        "BETWEEN",
        "DIV",
        "UNION",
        "INTERSECT",
        "EXCEPT",
        "MINUS",
    ];
    OPERATORS.iter().any(|operator| operator.eq_ignore_ascii_case(word))
}

/// The refusal.
pub(crate) fn too_complex(span: Span) -> Diagnostic {
    let mut error = syntax("this is nested too deep", span);
    error.code = "TOO_COMPLEX";
    error.help("give parts of the query a name with WITH or CREATE TEMP VIEW")
}
