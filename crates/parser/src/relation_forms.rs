//! The relations that sqlparser cannot read, form by form. Where a table may stand is decided elsewhere.

use sqlparser::tokenizer::Token;

use crate::cursor::Cursor;
use crate::diagnostic::Diagnostic;
use crate::lexer::{Lexeme, syntax};
use crate::relations::{ends_table, malformed};
use crate::statement::{Name, OptionEntry, RelationKind, Text};

const CLOUD_FILES: &str = "cloud_files('path', 'format' [, map('option', 'value', …)])";
const READ_FILES: &str = "read_files('path', format => 'json', option => value, …)";

const READ_STATE: &str = "read_state('t' [, operator])";

/// Formats that can stand before a path in back-ticks.
const PATH_FORMATS: &[&str] = &["avro", "binaryfile", "csv", "delta", "json", "orc", "parquet", "text"];

/// Table functions of the language that are not carried out.
const FUNCTIONS_NOT_YET: &[&str] = &["read_kafka", "table_changes"];

/// A relation and the token that names it when the query gives no alias.
type Form = (RelationKind, Option<Token>);

/// Takes a special relation if one stands here; the cursor is only to be used when it did.
pub(crate) fn relation_form(cursor: &mut Cursor<'_>) -> Result<Option<Form>, Diagnostic> {
    if cursor.is(&["STREAM"]) {
        let behind = Cursor { at: cursor.at + 1, ..cursor.clone() };
        let call = behind.is_symbol(&Token::LParen);
        let qualified = behind.is_symbol(&Token::Period) || behind.is_symbol(&Token::AtSign);
        let begins_table = matches!(behind.peek(), Some(Lexeme { token: Token::Word(_), .. }));
        if call || (begins_table && !qualified && !ends_table(&behind)) {
            cursor.at += 1;
            return stream(cursor).map(Some);
        }
    }
    if let Some(function) = function(cursor) {
        return table_function(cursor, &function, false).map(|kind| Some((kind, None)));
    }
    if let Some((format, path)) = path(cursor) {
        let name =
            Name { parts: vec![format.value.clone(), path.value.clone()], span: cursor.span_from(cursor.at - 3) };
        return Ok(Some(match version(cursor, &name)? {
            Some(kind) => (kind, None),
            None => (RelationKind::Path { format, path }, None),
        }));
    }
    versioned_table(cursor)
}

/// Behind the word STREAM.
fn stream(cursor: &mut Cursor<'_>) -> Result<Form, Diagnostic> {
    let parens = cursor.take_symbol(&Token::LParen);
    if cursor.is(&["SELECT"]) || cursor.is(&["WITH"]) || cursor.is_symbol(&Token::LParen) {
        return Err(syntax("STREAM takes a table, and this is a query", cursor.span())
            .help("read the tables inside the query as streams, or give the query a name with CREATE TEMP VIEW"));
    }
    let (mut kind, mut alias) = stream_source(cursor)?;
    if parens {
        cursor.expect_symbol(&Token::RParen)?;
    }
    if cursor.is(&["WITH"]) && cursor.peek_at(1).is_some_and(|next| next.token == Token::LParen) {
        cursor.at += 1;
        let with = cursor.option_list()?;
        match &mut kind {
            RelationKind::Stream { options, .. }
            | RelationKind::StreamPath { options, .. }
            | RelationKind::Files { options, .. } => options.extend(with),
            _ => {}
        }
    }
    if matches!(kind, RelationKind::Files { .. } | RelationKind::StreamPath { .. } | RelationKind::NotYet { .. }) {
        alias = None;
    }
    Ok((kind, alias))
}

fn stream_source(cursor: &mut Cursor<'_>) -> Result<Form, Diagnostic> {
    if let Some(function) = function(cursor) {
        return table_function(cursor, &function, true).map(|kind| (kind, None));
    }
    if let Some((format, path)) = path(cursor) {
        return Ok((RelationKind::StreamPath { format, path, options: Vec::new() }, None));
    }
    let name = cursor.name("a table name after STREAM")?;
    if cursor.is_symbol(&Token::LParen) {
        return Err(syntax(format!("{}(…) cannot be read as a stream", name.parts.join(".")), name.span)
            .help(format!("the functions that can are {CLOUD_FILES} and {READ_FILES}")));
    }
    let alias = last_token(cursor);
    let first = cursor.at;
    if version(cursor, &name)?.is_some() {
        return Err(syntax("a stream reads every version of a table, not one", cursor.span_from(first))
            .help("leave STREAM out to read one version, or give the first one: STREAM t WITH (startingVersion = n)"));
    }
    Ok((RelationKind::Stream { name, options: Vec::new() }, alias))
}

fn last_token(cursor: &Cursor<'_>) -> Option<Token> {
    cursor.at.checked_sub(1).and_then(|last| cursor.tokens.get(last)).map(|token| token.token.clone())
}

/// The name, in lower case, of one of our table functions that is called here.
fn function(cursor: &Cursor<'_>) -> Option<String> {
    let name = cursor.peek()?.bare_word()?.to_ascii_lowercase();
    let ours = matches!(name.as_str(), "cloud_files" | "read_files" | "cloud_files_state" | "read_state")
        || FUNCTIONS_NOT_YET.contains(&name.as_str());
    (ours && cursor.peek_at(1)?.token == Token::LParen).then_some(name)
}

fn table_function(cursor: &mut Cursor<'_>, function: &str, stream: bool) -> Result<RelationKind, Diagnostic> {
    let first = cursor.at;
    cursor.at += 1;
    match function {
        "cloud_files" => cloud_files(cursor),
        "read_files" => read_files(cursor, stream),
        "cloud_files_state" | "read_state" if stream => {
            Err(syntax(format!("{function} is read once and is not a stream"), cursor.span_from(first))
                .help("leave STREAM out"))
        }
        "read_state" => read_state(cursor),
        "cloud_files_state" => cloud_files_state(cursor),
        other => {
            cursor.skip_parens()?;
            Ok(RelationKind::NotYet { what: format!("{other}(…)") })
        }
    }
}

/// Behind `cloud_files`.
fn cloud_files(cursor: &mut Cursor<'_>) -> Result<RelationKind, Diagnostic> {
    let malformed = |cursor: &Cursor<'_>, what: &str| malformed(cursor, what, CLOUD_FILES);
    cursor.expect_symbol(&Token::LParen)?;
    let path = cursor.string("").map_err(|_| malformed(cursor, "the path, a string"))?;
    if !cursor.take_symbol(&Token::Comma) {
        return Err(malformed(cursor, "`,` and the format"));
    }
    let format = cursor.string("").map_err(|_| malformed(cursor, "the format, a string"))?;
    let mut options = Vec::new();
    if cursor.take_symbol(&Token::Comma) {
        if !(cursor.is(&["MAP"]) && cursor.peek_at(1).is_some_and(|next| next.token == Token::LParen)) {
            return Err(malformed(cursor, "map(…) with the options"));
        }
        cursor.at += 1;
        options = map_entries(cursor)?;
    }
    if !cursor.take_symbol(&Token::RParen) {
        return Err(malformed(cursor, "`)`"));
    }
    Ok(RelationKind::Files { path, format: Some(format), options, streaming: true, read_files: false })
}

/// `('k', 'v', …)` of a map.
fn map_entries(cursor: &mut Cursor<'_>) -> Result<Vec<OptionEntry>, Diagnostic> {
    let mut entries = Vec::new();
    cursor.expect_symbol(&Token::LParen)?;
    if cursor.take_symbol(&Token::RParen) {
        return Ok(entries);
    }
    loop {
        let key = cursor.string("an option's name, a string")?;
        if !cursor.take_symbol(&Token::Comma) {
            return Err(cursor.expected(&format!("`,` and the value of `{}`", key.value)));
        }
        entries.push(OptionEntry { key, value: cursor.value()? });
        if !cursor.take_symbol(&Token::Comma) {
            cursor.expect_symbol(&Token::RParen)?;
            return Ok(entries);
        }
    }
}

/// Behind `read_files`.
fn read_files(cursor: &mut Cursor<'_>, streaming: bool) -> Result<RelationKind, Diagnostic> {
    let malformed = |cursor: &Cursor<'_>, what: &str| malformed(cursor, what, READ_FILES);
    cursor.expect_symbol(&Token::LParen)?;
    let (mut path, mut format, mut options) = (None, None, Vec::new());
    if matches!(cursor.peek(), Some(Lexeme { token: Token::SingleQuotedString(_), .. }))
        && cursor.peek_at(1).is_none_or(|next| next.token != Token::RArrow)
    {
        path = Some(cursor.string("the path")?);
        if !cursor.is_symbol(&Token::RParen) && !cursor.take_symbol(&Token::Comma) {
            return Err(malformed(cursor, "`,` or `)`"));
        }
    }
    while !cursor.take_symbol(&Token::RParen) {
        let key = cursor.key().map_err(|_| malformed(cursor, "an option's name"))?;
        if !cursor.take_symbol(&Token::RArrow) {
            return Err(malformed(cursor, &format!("`=>` after `{}`", key.value)));
        }
        let value = cursor.value()?;
        let target = match key.value.to_ascii_lowercase().as_str() {
            "path" => Some(&mut path),
            "format" => Some(&mut format),
            _ => None,
        };
        match target {
            Some(Some(_)) => {
                return Err(syntax(format!("`{}` is given twice", key.value), key.span)
                    .help(format!("the form is {READ_FILES}")));
            }
            Some(target) => *target = Some(value),
            None => options.push(OptionEntry { key, value }),
        }
        if !cursor.is_symbol(&Token::RParen) && !cursor.take_symbol(&Token::Comma) {
            return Err(malformed(cursor, "`,` or `)`"));
        }
    }
    let Some(path) = path else {
        let end = Cursor { at: cursor.at - 1, ..cursor.clone() };
        return Err(malformed(&end, "the path, a string"));
    };
    Ok(RelationKind::Files { path, format, options, streaming, read_files: true })
}

/// Behind `cloud_files_state`: `('t')`, `(t)` or `(TABLE(t))`.
fn cloud_files_state(cursor: &mut Cursor<'_>) -> Result<RelationKind, Diagnostic> {
    let table = table_argument(cursor)?;
    cursor.expect_symbol(&Token::RParen)?;
    Ok(RelationKind::CloudFilesState { table, all: false })
}

/// Behind `read_state`: `('t')`, with the operator's number behind a comma.
fn read_state(cursor: &mut Cursor<'_>) -> Result<RelationKind, Diagnostic> {
    let table = table_argument(cursor)?;
    let mut operator = None;
    if cursor.take_symbol(&Token::Comma) {
        let number = cursor.whole_number("").ok().and_then(|number| u32::try_from(number).ok());
        operator = Some(number.ok_or_else(|| malformed(cursor, "an operator's number", READ_STATE))?);
    }
    if !cursor.take_symbol(&Token::RParen) {
        return Err(malformed(cursor, "`)`", READ_STATE));
    }
    Ok(RelationKind::State { table, operator })
}

/// Behind a table function's name: `('t'`, `(t` or `(TABLE(t)`.
fn table_argument(cursor: &mut Cursor<'_>) -> Result<Text, Diagnostic> {
    cursor.expect_symbol(&Token::LParen)?;
    let wrapped = cursor.is(&["TABLE"]) && cursor.peek_at(1).is_some_and(|next| next.token == Token::LParen);
    if wrapped {
        cursor.at += 2;
    }
    let table = if matches!(cursor.peek(), Some(Lexeme { token: Token::SingleQuotedString(_), .. })) {
        cursor.string("a table name")?
    } else {
        let name = cursor.name("a table name")?;
        Text { value: name.parts.join("."), span: name.span }
    };
    if wrapped {
        cursor.expect_symbol(&Token::RParen)?;
    }
    Ok(table)
}

/// Takes ``format.`path` `` or `format.'path'`.
fn path(cursor: &mut Cursor<'_>) -> Option<(Text, Text)> {
    let format = cursor.peek()?;
    let known =
        format.bare_word().is_some_and(|word| PATH_FORMATS.iter().any(|known| known.eq_ignore_ascii_case(word)));
    if !known || cursor.peek_at(1)?.token != Token::Period {
        return None;
    }
    let path = cursor.peek_at(2)?;
    let value = match &path.token {
        Token::Word(word) if word.quote_style == Some('`') => word.value.clone(),
        Token::SingleQuotedString(path) => path.clone(),
        _ => return None,
    };
    cursor.at += 3;
    let format = Text { value: format.bare_word().unwrap_or("").to_owned(), span: format.span };
    Some((format, Text { value, span: path.span }))
}

/// A named table with a version behind it.
fn versioned_table(cursor: &mut Cursor<'_>) -> Result<Option<Form>, Diagnostic> {
    let mut look = cursor.clone();
    look.next();
    while look.is_symbol(&Token::Period) && matches!(look.peek_at(1), Some(Lexeme { token: Token::Word(_), .. })) {
        look.at += 2;
    }
    let has_version = look.is_symbol(&Token::AtSign) || at_as_of(&look).is_some();
    if !has_version {
        return Ok(None);
    }
    let name = cursor.name("a table name")?;
    let alias = last_token(cursor);
    Ok(version(cursor, &name)?.map(|kind| (kind, alias)))
}

/// `[FOR] VERSION | TIMESTAMP AS OF`: the number of words, and whether it is a version.
fn at_as_of(cursor: &Cursor<'_>) -> Option<(usize, bool)> {
    let words = usize::from(cursor.is(&["FOR"]));
    let behind = Cursor { at: cursor.at + words, ..cursor.clone() };
    let form = |word: &str| behind.is(&[word, "AS", "OF"]);
    if form("VERSION") || form("SYSTEM_VERSION") {
        Some((words + 3, true))
    } else if form("TIMESTAMP") || form("SYSTEM_TIME") {
        Some((words + 3, false))
    } else {
        None
    }
}

/// Takes `@v3`, `VERSION AS OF n`, `TIMESTAMP AS OF 'ts'`.
fn version(cursor: &mut Cursor<'_>, name: &Name) -> Result<Option<RelationKind>, Diagnostic> {
    if cursor.take_symbol(&Token::AtSign) {
        let number =
            cursor.peek().and_then(Lexeme::bare_word).and_then(|word| word.strip_prefix(['v', 'V'])?.parse().ok());
        let Some(version) = number else {
            return Err(malformed(cursor, "a version such as `v3`", "t@v3 or t VERSION AS OF 3"));
        };
        cursor.at += 1;
        return Ok(Some(RelationKind::Version { name: name.clone(), version }));
    }
    let Some((words, is_version)) = at_as_of(cursor) else { return Ok(None) };
    cursor.at += words;
    if !is_version {
        cursor.take(&["TIMESTAMP"]);
        let timestamp = cursor
            .string("")
            .map_err(|_| malformed(cursor, "a timestamp", "t TIMESTAMP AS OF '2024-01-31 12:00:00'"))?;
        return Ok(Some(RelationKind::Timestamp { name: name.clone(), timestamp }));
    }
    let quoted = match cursor.peek().map(|token| &token.token) {
        Some(Token::SingleQuotedString(number)) => number.trim().parse().ok(),
        _ => None,
    };
    let version = match quoted {
        Some(version) => {
            cursor.at += 1;
            version
        }
        None => cursor.whole_number("").map_err(|_| malformed(cursor, "a version number", "t VERSION AS OF 3"))?,
    };
    Ok(Some(RelationKind::Version { name: name.clone(), version }))
}
