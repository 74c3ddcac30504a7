//! Statements about the files of a stream: SHOW FILES, ALTER STREAM, PREVIEW.

use sqlparser::tokenizer::Token;

use crate::cursor::Cursor;
use crate::diagnostic::Diagnostic;
use crate::lexer::{Lexeme, syntax, tokenize};
use crate::parse::{parse_statement, trigger};
use crate::query::query;
use crate::relation_forms::relation_form;
use crate::span::{Place, Span};
use crate::statement::{CreateStreamingTable, FileChange, Name, Query, Relation, RelationKind, StatementKind};

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
    let create = streaming_table(text)?;
    let tokens = tokenize(text, START, &[])?;
    let (from, until) = match &create.trigger {
        Some(old) => bytes_of(&tokens, old.span),
        None => {
            let at = query_begins(&tokens).ok_or_else(|| syntax("the query is missing", Span::UNKNOWN))?;
            (at, at)
        }
    };
    let (before, behind) = (text.get(..from).unwrap_or(text), text.get(until..).unwrap_or(""));
    let gap = if create.trigger.is_some() { "" } else { " " };
    Ok(format!("{before}{clause}{gap}{behind}"))
}

/// The text of a CREATE STREAMING TABLE statement with the COMMENT, PARTITIONED BY and TBLPROPERTIES that it leaves out and the
/// `former` statement of the same table has.
///
/// # Errors
/// Those of [`crate::parse_statement`], when one of the texts is not such a statement.
pub fn with_kept_clauses(text: &str, former: &str) -> Result<String, Diagnostic> {
    let (create, before) = (streaming_table(text)?, streaming_table(former)?);
    let (tokens, former_tokens) = (tokenize(text, START, &[])?, tokenize(former, START, &[])?);
    let written = |span: Span| {
        let (from, until) = bytes_of(&former_tokens, span);
        former.get(from..until).unwrap_or("")
    };
    let said = |key: &str| create.properties.iter().any(|entry| entry.key.value.eq_ignore_ascii_case(key));
    let kept = before.properties.iter().filter(|entry| !said(&entry.key.value));
    let properties = kept.map(|entry| written(entry.key.span.to(entry.value.span))).collect::<Vec<_>>().join(", ");
    let mut clauses = String::new();
    if let (None, Some(comment)) = (&create.comment, &before.comment) {
        clauses = format!("COMMENT {} ", written(comment.span));
    }
    if let (true, Some(first), Some(last)) =
        (create.partitioned_by.is_empty(), before.partitioned_by.first(), before.partitioned_by.last())
    {
        clauses = format!("{clauses}PARTITIONED BY ({}) ", written(first.span.to(last.span)));
    }
    if create.properties.is_empty() && !properties.is_empty() {
        clauses = format!("{clauses}TBLPROPERTIES ({properties}) ");
    }
    let query = query_begins(&tokens).ok_or_else(|| syntax("the query is missing", Span::UNKNOWN))?;
    let mut whole = text.to_owned();
    whole.insert_str(query, &clauses);
    // They stand in front of the query.
    if let (Some(last), false) = (create.properties.last(), properties.is_empty()) {
        whole.insert_str(bytes_of(&tokens, last.value.span).1, &format!(", {properties}"));
    }
    Ok(whole)
}

/// Where the first token of a text stands.
const START: Place = Place { line: 1, column: 1 };

fn streaming_table(text: &str) -> Result<Box<CreateStreamingTable>, Diagnostic> {
    match parse_statement(text, START)?.kind {
        StatementKind::CreateStreamingTable(create) => Ok(create),
        _ => Err(syntax("this is not CREATE STREAMING TABLE", Span::UNKNOWN)),
    }
}

/// The bytes from the first to the last token that lies in `span`.
fn bytes_of(tokens: &[Lexeme], span: Span) -> (usize, usize) {
    let inside = tokens.iter().filter(|token| token.span.start >= span.start && token.span.end <= span.end);
    inside.fold((usize::MAX, 0), |(from, until), token| (from.min(token.bytes.start), until.max(token.bytes.end)))
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
