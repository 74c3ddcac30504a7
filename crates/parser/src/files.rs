//! Statements about the files of a stream: SHOW FILES, ALTER STREAM, PREVIEW.

use sqlparser::tokenizer::Token;

use crate::cursor::Cursor;
use crate::diagnostic::Diagnostic;
use crate::lexer::{Lexeme, syntax, tokenize};
use crate::parse::{parse_statement, trigger};
use crate::query::query;
use crate::relation_forms::relation_form;
use crate::span::{Place, Span};
use crate::statement::{FileChange, Name, Query, Relation, RelationKind, StatementKind};

/// Behind SHOW FILES: `FROM t [WHERE …] [ORDER BY …] [LIMIT n]`.
pub(crate) fn show_files(cursor: &mut Cursor<'_>) -> Result<StatementKind, Diagnostic> {
    if !cursor.take(&["FROM"]) && !cursor.take(&["IN"]) {
        return Err(cursor.expected_word(&["FROM"]));
    }
    let name = cursor.name("a stream name")?;
    if !["WHERE", "ORDER", "LIMIT"].iter().any(|word| cursor.is(&[word])) {
        cursor.finish(&["WHERE", "ORDER BY", "LIMIT"])?;
    }
    let query = files_query(cursor, &name)?;
    cursor.at = cursor.end;
    Ok(StatementKind::ShowFiles { query })
}

/// The clauses from the cursor to its end over the files of `name`: what they mean is the query's matter.
fn files_query(cursor: &Cursor<'_>, name: &Name) -> Result<Query, Diagnostic> {
    let table = name.parts.join(".");
    let last = cursor.tokens.get(cursor.at.saturating_sub(1)).map_or(0..0, |token| token.bytes.clone());
    let made = |token| Lexeme { token, span: name.span, bytes: last.clone() };
    let relation = [
        Token::make_word("FROM", None),
        Token::make_word("cloud_files_state", None),
        Token::LParen,
        Token::SingleQuotedString(table.clone()),
        Token::RParen,
    ];
    let mut tokens: Vec<Lexeme> = relation.into_iter().map(made).collect();
    tokens.extend(cursor.tokens.get(cursor.at..cursor.end).unwrap_or(&[]).iter().cloned());
    let tail = cursor.typed(cursor.at..cursor.end);
    let mut inner = Cursor::new(cursor.text, &tokens);
    let mut query = query(&mut inner, true)?;
    if let Some(Relation { kind: RelationKind::CloudFilesState { all, .. }, .. }) = query.relations.first_mut() {
        *all = true;
    }
    query.text = format!("FILES FROM {table} {tail}").trim_end().to_owned();
    query.span = name.span.to(cursor.tokens.get(cursor.end.saturating_sub(1)).map_or(name.span, |last| last.span));
    Ok(query)
}

/// Behind PREVIEW: `cloud_files(…)` or `[STREAM] read_files(…)`.
pub(crate) fn preview(cursor: &mut Cursor<'_>) -> Result<StatementKind, Diagnostic> {
    let first = cursor.at;
    let help = "PREVIEW cloud_files('path', 'format') or PREVIEW read_files('path', format => 'json')";
    match relation_form(cursor)? {
        Some((RelationKind::Files { path, format, options, read_files, .. }, _)) => {
            cursor.finish(&[])?;
            let kind = RelationKind::Files { path, format, options, streaming: true, read_files };
            Ok(StatementKind::Preview { relation: kind, span: cursor.span_from(first) })
        }
        Some(_) => {
            Err(syntax("PREVIEW looks at files, and this is another relation", cursor.span_from(first)).help(help))
        }
        None => Err(cursor.expected("cloud_files(…) or read_files(…)").help(help)),
    }
}

/// Behind ALTER: `STREAM t { FORGET FILE 'x' | SKIP FILE 'x' | SET TRIGGER … }`.
pub(crate) fn alter(cursor: &mut Cursor<'_>) -> Result<StatementKind, Diagnostic> {
    if !cursor.take(&["STREAM"]) {
        return Err(cursor.expected_word(&["STREAM"]));
    }
    let name = cursor.name("a stream name")?;
    let change = if cursor.take(&["FORGET"]) {
        FileChange::Forget
    } else if cursor.take(&["SKIP"]) {
        FileChange::Skip
    } else if cursor.take(&["SET"]) {
        let Some(trigger) = trigger(cursor)? else { return Err(cursor.expected_word(&["TRIGGER"])) };
        cursor.finish(&[])?;
        return Ok(StatementKind::SetTrigger { name, trigger });
    } else {
        return Err(cursor.expected_word(&["FORGET FILE", "SKIP FILE", "SET TRIGGER"]));
    };
    if !cursor.take(&["FILE"]) {
        return Err(cursor.expected_word(&["FILE"]));
    }
    let path = cursor.string("the file's path, a string")?;
    cursor.finish(&[])?;
    Ok(StatementKind::AlterFile { name, change, path })
}

/// The text of a CREATE STREAMING TABLE statement with `clause` (`TRIGGER …`) in place of the trigger it has, or
/// in front of its query.
///
/// # Errors
/// Those of [`crate::parse_statement`], when the text is not such a statement.
pub fn with_trigger(text: &str, clause: &str) -> Result<String, Diagnostic> {
    let start = Place { line: 1, column: 1 };
    let StatementKind::CreateStreamingTable(create) = parse_statement(text, start)?.kind else {
        return Err(syntax("this is not CREATE STREAMING TABLE", Span::UNKNOWN));
    };
    let tokens = tokenize(text, start, &[])?;
    let (from, until) = match &create.trigger {
        Some(old) => {
            let inside = |token: &&Lexeme| token.span.start >= old.span.start && token.span.end <= old.span.end;
            let bytes = tokens.iter().filter(inside).map(|token| token.bytes.clone());
            bytes.fold((text.len(), 0), |(from, until), bytes| (from.min(bytes.start), until.max(bytes.end)))
        }
        None => {
            let at = query_begins(&tokens).ok_or_else(|| syntax("the query is missing", Span::UNKNOWN))?;
            (at, at)
        }
    };
    let (before, behind) = (text.get(..from).unwrap_or(text), text.get(until..).unwrap_or(""));
    let gap = if create.trigger.is_some() { "" } else { " " };
    Ok(format!("{before}{clause}{gap}{behind}"))
}

/// The byte where AS or FROM, outside of brackets, begins the query.
fn query_begins(tokens: &[Lexeme]) -> Option<usize> {
    let mut depth = 0_usize;
    for token in tokens {
        match &token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ if depth == 0 && (token.is("AS") || token.is("FROM")) => return Some(token.bytes.start),
            _ => {}
        }
    }
    None
}
