//! One statement: which one it is, by its first words, and where each begins and ends.

use crate::create;
use crate::cursor::Cursor;
use crate::diagnostic::Diagnostic;
use crate::files;
use crate::lexer::{syntax, tokenize};
use crate::not_yet::not_yet;
use crate::query::{query, whole_table};
use crate::settings;
use crate::show;
use crate::span::{Place, Span};
use crate::splitter::Piece;
use crate::statement::{Dropped, Query, Statement, StatementKind, TriggerClause};
use crate::streams;
use crate::words::near;

use sqlparser::tokenizer::Token;

/// First words of the statements, for `did you mean`.
const STARTERS: &[&str] = &[
    "ALTER", "AWAIT", "COPY", "CREATE", "DELETE", "DESCRIBE", "DROP", "EXPLAIN", "INSERT", "MERGE", "OPTIMIZE",
    "PREVIEW", "REFRESH", "RESET", "RESTORE", "SELECT", "SET", "SHOW", "START", "STOP", "TRUNCATE", "UPDATE", "USE",
    "VACUUM", "VALUES", "VERIFY", "WITH",
];

/// Reads one statement whose first character stands at `start` in its script. One semicolon may end it.
///
/// # Errors
/// `SYNTAX_ERROR` at the first token that does not fit, `INVALID_INTERVAL`, `TOO_COMPLEX`.
pub fn parse_statement(text: &str, start: Place) -> Result<Statement, Diagnostic> {
    parse_piece(&Piece::new(text, start))
}

/// Reads one statement of a [`crate::Splitter`], also after [`crate::substitute`]: places are those of the
/// script before replacement.
///
/// # Errors
/// As [`parse_statement`].
pub fn parse_piece(piece: &Piece) -> Result<Statement, Diagnostic> {
    let tokens = tokenize(&piece.text, piece.start, &piece.edits)?;
    let mut cursor = Cursor::new(&piece.text, &tokens);
    while cursor.end > 0 && tokens.get(cursor.end - 1).is_some_and(|last| last.token == Token::SemiColon) {
        cursor.end -= 1;
    }
    if cursor.is_done() {
        let mut end = piece.start;
        end.column += 1;
        return Err(syntax("there is no statement here", Span { start: piece.start, end }));
    }
    let inner = tokens.iter().take(cursor.end).find(|token| token.token == Token::SemiColon);
    if let Some(semicolon) = inner {
        return Err(syntax("expected one statement, found two", semicolon.span).help("run them one after the other"));
    }
    statement(&mut cursor)
}

/// The statement from the cursor to its end.
fn statement(cursor: &mut Cursor<'_>) -> Result<Statement, Diagnostic> {
    let first = cursor.at;
    let kind = kind(cursor)?;
    // A refusal does not read on.
    cursor.at = cursor.end;
    let text = cursor.typed(first..cursor.end).to_owned();
    Ok(Statement { kind, span: cursor.span_from(first), text })
}

fn kind(cursor: &mut Cursor<'_>) -> Result<StatementKind, Diagnostic> {
    if let Some(refused) = not_yet(cursor) {
        return Ok(refused);
    }
    let word = cursor.peek().and_then(|token| token.bare_word()).unwrap_or("").to_ascii_uppercase();
    let first = cursor.at;
    cursor.at += 1;
    match word.as_str() {
        "CREATE" => create::create(cursor),
        "DROP" => drop_object(cursor),
        "INSERT" => insert(cursor),
        "COPY" => copy(cursor),
        "REFRESH" => streams::refresh(cursor),
        "START" => streams::start(cursor),
        "STOP" => streams::stop(cursor),
        "AWAIT" => streams::wait(cursor),
        "VERIFY" => streams::verify(cursor),
        "ALTER" => files::alter(cursor),
        "PREVIEW" => files::preview(cursor),
        "SHOW" => show::show(cursor),
        "DESCRIBE" | "DESC" => show::describe(cursor),
        "EXPLAIN" => explain(cursor),
        "SET" => settings::set(cursor),
        "RESET" => settings::reset(cursor),
        _ => {
            cursor.at = first;
            let begins_query =
                matches!(word.as_str(), "SELECT" | "WITH" | "VALUES") || cursor.is_symbol(&Token::LParen);
            if begins_query { top_query(cursor) } else { Err(unknown(cursor)) }
        }
    }
}

fn unknown(cursor: &Cursor<'_>) -> Diagnostic {
    let error = syntax(format!("expected a statement, found {}", cursor.found()), cursor.span());
    match cursor.peek().and_then(|token| token.bare_word()).and_then(|word| near(word, STARTERS.iter().copied())) {
        Some(close) => error.help(format!("did you mean {close}?")),
        None => error.help("a statement begins with a word such as SELECT, CREATE, REFRESH, INSERT, SHOW or DESCRIBE"),
    }
}

/// A query with an optional `TRIGGER AVAILABLE NOW` behind it.
fn top_query(cursor: &mut Cursor<'_>) -> Result<StatementKind, Diagnostic> {
    let end = cursor.end;
    let last_words = |count: usize, words: &[&str]| {
        let at = end.saturating_sub(count);
        at > cursor.at && Cursor { at, ..cursor.clone() }.is(words)
    };
    let available_now = last_words(3, &["TRIGGER", "AVAILABLE", "NOW"]);
    if last_words(2, &["TRIGGER", "ONCE"]) {
        let at = Cursor { at: end - 2, ..cursor.clone() };
        return Err(at
            .expected("the end of the query")
            .help("behind a SELECT stands TRIGGER AVAILABLE NOW or nothing"));
    }
    let mut body = Cursor { end: if available_now { end - 3 } else { end }, ..cursor.clone() };
    let query = query(&mut body, false)?;
    cursor.at = end;
    Ok(StatementKind::Query { query, available_now })
}

/// Behind DROP.
fn drop_object(cursor: &mut Cursor<'_>) -> Result<StatementKind, Diagnostic> {
    let what = if cursor.take(&["STREAMING", "TABLE"]) {
        Dropped::StreamingTable
    } else if cursor.take(&["TABLE"]) {
        Dropped::Table
    } else if cursor.take(&["VIEW"]) {
        Dropped::View
    } else {
        return Err(cursor.expected_word(&["TABLE", "VIEW", "STREAMING TABLE"]));
    };
    let if_exists = cursor.take(&["IF", "EXISTS"]);
    let name = cursor.name(if what == Dropped::View { "a view name" } else { "a table name" })?;
    cursor.finish(&[])?;
    Ok(StatementKind::Drop { what, if_exists, name })
}

/// Behind INSERT.
fn insert(cursor: &mut Cursor<'_>) -> Result<StatementKind, Diagnostic> {
    let overwrite = if cursor.take(&["OVERWRITE"]) {
        cursor.take(&["INTO"]);
        true
    } else if cursor.take(&["INTO"]) {
        false
    } else {
        return Err(cursor.expected_word(&["INTO", "OVERWRITE"]));
    };
    cursor.take(&["TABLE"]);
    let table = cursor.name("a table name")?;
    for (words, what) in [(&["PARTITION"][..], "INSERT … PARTITION"), (&["REPLACE", "WHERE"], "INSERT … REPLACE WHERE")]
    {
        let first = cursor.at;
        if cursor.take(words) {
            let span = cursor.span_from(first);
            let help = "name the columns: INSERT INTO t (a, b) SELECT …".to_owned();
            return Ok(StatementKind::NotYet { what: what.to_owned(), help, span });
        }
    }
    let by_name = cursor.take(&["BY", "NAME"]);
    let begins_query =
        |word: &str| ["SELECT", "WITH", "VALUES", "FROM"].iter().any(|first| first.eq_ignore_ascii_case(word));
    let inner = cursor.peek_at(1);
    let has_columns = !by_name
        && cursor.is_symbol(&Token::LParen)
        && inner.is_some_and(|inner| inner.token != Token::LParen && !inner.bare_word().is_some_and(begins_query));
    let columns = if has_columns { cursor.name_list("a column name")? } else { Vec::new() };
    let query = source(cursor)?;
    Ok(StatementKind::Insert { table, columns, by_name, overwrite, query })
}

/// A query, or `TABLE t`, up to the cursor's end.
fn source(cursor: &mut Cursor<'_>) -> Result<Query, Diagnostic> {
    if cursor.take(&["TABLE"]) {
        let query = whole_table(cursor)?;
        cursor.finish(&[])?;
        return Ok(query);
    }
    let begins = ["SELECT", "WITH", "VALUES"].iter().any(|word| cursor.is(&[word])) || cursor.is_symbol(&Token::LParen);
    if begins { query(cursor, false) } else { Err(cursor.expected_word(&["VALUES", "SELECT", "WITH"])) }
}

/// Behind COPY.
fn copy(cursor: &mut Cursor<'_>) -> Result<StatementKind, Diagnostic> {
    let query = if cursor.is_symbol(&Token::LParen) {
        let inside = cursor.at + 1;
        cursor.skip_parens()?;
        let mut body = Cursor { at: inside, end: cursor.at - 1, ..cursor.clone() };
        query(&mut body, false)?
    } else {
        whole_table(cursor)?
    };
    cursor.expect("TO")?;
    let path = cursor.string("the path, a string")?;
    let format = if cursor.take(&["STORED", "AS"]) { Some(cursor.value()?) } else { None };
    let options = if cursor.take(&["OPTIONS"]) { cursor.option_list()? } else { Vec::new() };
    cursor.finish(&["STORED AS", "OPTIONS"])?;
    Ok(StatementKind::CopyTo { query, path, format, options })
}

/// Behind EXPLAIN.
fn explain(cursor: &mut Cursor<'_>) -> Result<StatementKind, Diagnostic> {
    let verbose = cursor.take(&["VERBOSE"]) || cursor.take(&["FORMATTED"]) || cursor.take(&["EXTENDED"]);
    if cursor.is_done() {
        return Err(cursor.expected("a query or CREATE STREAMING TABLE"));
    }
    let span = cursor.span();
    let refuse = || {
        let error = Diagnostic::new("EXPLAIN_UNSUPPORTED", "only what runs a query has a plan").at(span);
        Err(error.help("EXPLAIN takes SELECT, INSERT, COPY, and CREATE … AS"))
    };
    // Before it is read: EXPLAIN inside EXPLAIN would recurse as often as it is written.
    if cursor.is(&["EXPLAIN"]) {
        return refuse();
    }
    let statement = statement(cursor)?;
    match statement.kind {
        StatementKind::Query { .. }
        | StatementKind::CreateStreamingTable(_)
        | StatementKind::CreateView(_)
        | StatementKind::CreateTable(_)
        | StatementKind::Insert { .. }
        | StatementKind::CopyTo { .. }
        | StatementKind::NotYet { .. } => Ok(StatementKind::Explain { verbose, statement: Box::new(statement) }),
        _ => refuse(),
    }
}

/// `TRIGGER …`, if one stands here.
pub(crate) fn trigger(cursor: &mut Cursor<'_>) -> Result<Option<TriggerClause>, Diagnostic> {
    let first = cursor.at;
    if !cursor.take(&["TRIGGER"]) {
        return Ok(None);
    }
    let trigger = streams::trigger(cursor)?;
    Ok(Some(TriggerClause { trigger, span: cursor.span_from(first) }))
}
