//! SET and RESET. Keys are not checked here.

use sqlparser::tokenizer::Token;

use crate::cursor::Cursor;
use crate::diagnostic::Diagnostic;
use crate::statement::{StatementKind, Text};

/// Behind SET.
pub(crate) fn set(cursor: &mut Cursor<'_>) -> Result<StatementKind, Diagnostic> {
    if cursor.is_done() {
        return Ok(StatementKind::ShowSettings);
    }
    let variable = cursor.is(&["VAR"]) || cursor.is(&["VARIABLE"]);
    let assigned = cursor.peek_at(1).is_some_and(|next| next.token == Token::Eq);
    if variable && !assigned && cursor.peek_at(1).is_some() {
        cursor.at += 1;
        let name = cursor.simple_name("a variable's name")?;
        cursor.expect_symbol(&Token::Eq)?;
        let name = Text { value: name.parts.concat(), span: name.span };
        return Ok(StatementKind::SetVar { name, value: rest(cursor)? });
    }
    if cursor.take(&["TIME", "ZONE"]) {
        let span = cursor.span_from(cursor.at - 2);
        let key = Text { value: "timezone".to_owned(), span };
        return Ok(StatementKind::Set { key, value: rest(cursor)? });
    }
    let key = key(cursor)?;
    if cursor.is_done() {
        return Ok(StatementKind::ShowSetting { key });
    }
    cursor.expect_symbol(&Token::Eq)?;
    Ok(StatementKind::Set { key, value: rest(cursor)? })
}

/// Behind RESET.
pub(crate) fn reset(cursor: &mut Cursor<'_>) -> Result<StatementKind, Diagnostic> {
    let key = key(cursor)?;
    cursor.finish(&[])?;
    Ok(StatementKind::Reset { key })
}

fn key(cursor: &mut Cursor<'_>) -> Result<Text, Diagnostic> {
    let expected = cursor.expected("a setting's name");
    cursor.key().map_err(|error| if error.span == expected.span { expected } else { error })
}

/// Everything up to the end as one value: a string literal's content, otherwise the text as typed, which may
/// be several words.
fn rest(cursor: &mut Cursor<'_>) -> Result<Text, Diagnostic> {
    let first = cursor.at;
    if cursor.is_done() {
        return Err(cursor.expected("a value"));
    }
    if let Ok(text) = cursor.string("a value") {
        cursor.finish(&[])?;
        return Ok(text);
    }
    cursor.at = cursor.end;
    Ok(Text { value: cursor.typed(first..cursor.end).to_owned(), span: cursor.span_from(first) })
}
