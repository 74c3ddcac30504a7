//! Queries: our relations are cut out of the tokens, sqlparser reads the rest, and its errors become ours.

use std::thread;

use sqlparser::ast;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::cursor::Cursor;
use crate::depth::{check_depth, too_complex};
use crate::diagnostic::Diagnostic;
use crate::dialect::BoundedDialect;
use crate::lexer::{Lexeme, syntax, with_span};
use crate::relations::cut_relations;
use crate::span::{Place, Span};
use crate::statement::Query;
use crate::words::near;

/// sqlparser's own limit; each level of ours costs it several.
const RECURSION_MAX: usize = 400;

/// Stack for sqlparser.
const STACK_BYTES: usize = 64 << 20;

/// Words that one meets behind a query's relation, for `did you mean`.
const CLAUSE_WORDS: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP",
    "HAVING",
    "ORDER",
    "LIMIT",
    "OFFSET",
    "JOIN",
    "UNION",
    "INTERSECT",
    "EXCEPT",
    "WATERMARK",
    "WINDOW",
    "DEDUPLICATE",
    "TRIGGER",
    "BETWEEN",
    "DISTINCT",
    "LEFT",
    "RIGHT",
    "INNER",
    "CROSS",
];

/// Words of clauses that some write behind the query.
const STREAM_WORDS: &[&str] = &["AVAILABLE", "CHECKPOINT", "MODE", "ONCE", "OUTPUT", "PROCESSING", "TRIGGER"];

/// Reads the tokens from the cursor to its end as one query. With `shorthand`, what stands here is `FROM …`
/// and means `SELECT * FROM …`.
pub(crate) fn query(cursor: &mut Cursor<'_>, shorthand: bool) -> Result<Query, Diagnostic> {
    let first = cursor.at;
    if cursor.is_done() {
        return Err(cursor.expected("a query"));
    }
    check_depth(cursor)?;
    let rewritten = cut_relations(cursor.clone(), shorthand)?;
    let body = cursor.clone();
    cursor.at = cursor.end;
    let ast = parse(&body, rewritten.tokens)?;
    let typed = cursor.typed(first..cursor.end);
    Ok(Query {
        ast,
        relations: rewritten.relations,
        deduplicates: rewritten.deduplicates,
        not_yet: rewritten.not_yet,
        span: cursor.span_from(first),
        text: if shorthand { format!("SELECT * {typed}") } else { typed.to_owned() },
    })
}

/// `SELECT * FROM name` for the name here, where a query is expected.
pub(crate) fn whole_table(cursor: &mut Cursor<'_>) -> Result<Query, Diagnostic> {
    let first = cursor.at;
    let name = cursor.name("a table name")?;
    let tokens = cursor.tokens.get(first..cursor.at).unwrap_or(&[]).iter().map(Lexeme::for_sqlparser);
    let tokens = select_all(name.span).chain([with_span(Token::make_word("FROM", None), name.span)]).chain(tokens);
    let body = Cursor { at: first, end: cursor.at, ..cursor.clone() };
    let ast = parse(&body, tokens.collect())?;
    let text = format!("SELECT * FROM {}", cursor.typed(first..cursor.at));
    Ok(Query { ast, relations: Vec::new(), deduplicates: Vec::new(), not_yet: Vec::new(), span: name.span, text })
}

/// `SELECT *` at a span.
pub(crate) fn select_all(span: Span) -> impl Iterator<Item = TokenWithSpan> {
    [Token::make_word("SELECT", None), Token::Mul].into_iter().map(move |token| with_span(token, span))
}

fn parse(body: &Cursor<'_>, tokens: Vec<TokenWithSpan>) -> Result<Box<ast::Query>, Diagnostic> {
    read(body, tokens, "here", |parser| parser.parse_query())
}

/// Has sqlparser read all of the tokens. It recurses over what it reads with frames of many kilobytes and not
/// everywhere counts them, so it runs on a stack of its own that is large enough for all that the depth check
/// lets through; only the pages that are touched cost memory.
fn read<T: Send>(
    body: &Cursor<'_>,
    tokens: Vec<TokenWithSpan>,
    within: &str,
    form: impl FnOnce(&mut Parser<'_>) -> Result<T, ParserError> + Send,
) -> Result<T, Diagnostic> {
    let work = move || {
        let dialect = BoundedDialect::new(tokens.len());
        let mut parser = Parser::new(&dialect).with_recursion_limit(RECURSION_MAX).with_tokens_with_locations(tokens);
        form(&mut parser).map(|tree| (tree, parser.peek_token()))
    };
    let result = thread::scope(|scope| {
        let reader = thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work).ok()?;
        reader.join().ok()
    });
    let Some(result) = result else {
        return Err(syntax("this cannot be read", whole(body)).help("take it apart with WITH or CREATE TEMP VIEW"));
    };
    let (tree, next) = result.map_err(|error| diagnose(&error, body))?;
    if next.token == Token::EOF {
        return Ok(tree);
    }
    let place = Span::from(next.span).start;
    Err(complain(body, Some(place), |found| format!("{found} is not expected {within}")))
}

/// Reads tokens as a data type and nothing else.
pub(crate) fn data_type(body: &Cursor<'_>) -> Result<ast::DataType, Diagnostic> {
    if body.is_done() {
        return Err(body.expected("a data type"));
    }
    check_depth(body)?;
    let tokens = body.tokens.get(body.at..body.end).unwrap_or(&[]);
    let rename = |token: &Lexeme, follower: Option<&Lexeme>| {
        let is_field = follower.is_some_and(|next| next.token == Token::Colon);
        match token.bare_word().filter(|_| !is_field).and_then(spark_type) {
            Some(word) => with_span(Token::make_word(word, None), token.span),
            None => token.for_sqlparser(),
        }
    };
    let tokens = tokens.iter().enumerate().map(|(index, token)| rename(token, tokens.get(index + 1))).collect();
    read(body, tokens, "in a data type", |parser| parser.parse_data_type())
}

/// The usual name of a type that only Spark calls so.
pub(crate) fn spark_type(word: &str) -> Option<&'static str> {
    match word.to_ascii_uppercase().as_str() {
        "BYTE" => Some("TINYINT"),
        "SHORT" => Some("SMALLINT"),
        "LONG" => Some("BIGINT"),
        "TIMESTAMP_LTZ" => Some("TIMESTAMP"),
        _ => None,
    }
}

/// sqlparser's error in our words, at the token it speaks of.
fn diagnose(error: &ParserError, body: &Cursor<'_>) -> Diagnostic {
    let text = match error {
        ParserError::ParserError(text) | ParserError::TokenizerError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => return too_complex(whole(body)),
    };
    let (text, place) = split_place(text);
    match text.strip_prefix("Expected: ").and_then(|rest| rest.rsplit_once(", found: ")) {
        Some((wanted, "EOF")) => {
            let end = Cursor { at: body.end, ..body.clone() };
            syntax(format!("expected {}, found {}", soften(wanted), end.found()), end.span())
        }
        Some((wanted, _)) => complain(body, place, |found| format!("expected {}, found {found}", soften(wanted))),
        None => complain(body, place, |_| soften(text)),
    }
}

/// Cuts ` at Line: 1, Column: 2` off.
fn split_place(text: &str) -> (&str, Option<Place>) {
    let split = || {
        let (message, place) = text.rsplit_once(" at Line: ")?;
        let (line, column) = place.split_once(", Column: ")?;
        Some((message, Place { line: line.parse().ok()?, column: column.trim().parse().ok()? }))
    };
    match split() {
        Some((message, place)) => (message.trim_end(), Some(place)),
        None => (text, None),
    }
}

/// The first letter of a sentence in lower case, unless a keyword begins it.
fn soften(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text.to_owned(),
    }
}

/// An error at the token at `place`, or at the last token, with a guess at what was meant.
fn complain(body: &Cursor<'_>, place: Option<Place>, message: impl Fn(&str) -> String) -> Diagnostic {
    let tokens = body.tokens.get(body.at..body.end).unwrap_or(&[]);
    let index = place.and_then(|place| tokens.iter().position(|token| token.span.start == place));
    let index = body.at + index.unwrap_or(tokens.len().saturating_sub(1));
    let at = Cursor { at: index, ..body.clone() };
    let error = syntax(message(&at.found()), at.span());
    let suspects = [Some(index), index.checked_sub(1)].into_iter().flatten();
    let words = suspects.filter_map(|index| body.tokens.get(index)?.bare_word());
    let guess =
        words.filter(|word| word.len() > 2).find_map(|word| Some((word, near(word, CLAUSE_WORDS.iter().copied())?)));
    match guess {
        Some((word, close)) => error.help(format!("did you mean {close} instead of `{word}`?")),
        None if STREAM_WORDS.iter().any(|word| at.is(&[word])) => error
            .help("OUTPUT MODE, TRIGGER and CHECKPOINT LOCATION belong to CREATE STREAMING TABLE and stand before AS")
            .help("behind a SELECT on its own, TRIGGER AVAILABLE NOW may stand"),
        None => error,
    }
}

fn whole(body: &Cursor<'_>) -> Span {
    Cursor { at: body.end, ..body.clone() }.span_from(body.at)
}
