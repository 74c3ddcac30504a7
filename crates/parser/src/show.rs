//! Statements that only look: SHOW and DESCRIBE.

use crate::cursor::Cursor;
use crate::diagnostic::Diagnostic;
use crate::files::show_files;
use crate::statement::StatementKind;

/// Behind SHOW.
pub(crate) fn show(cursor: &mut Cursor<'_>) -> Result<StatementKind, Diagnostic> {
    if cursor.take(&["FILES"]) {
        return show_files(cursor);
    }
    let kind = if cursor.take(&["STREAMS"]) {
        StatementKind::ShowStreams
    } else if cursor.take(&["EPOCHS"]) {
        if !cursor.take(&["FROM"]) && !cursor.take(&["IN"]) {
            return Err(cursor.expected_word(&["FROM"]));
        }
        let name = cursor.name("a stream name")?;
        StatementKind::ShowEpochs { name, limit: limit(cursor)? }
    } else if cursor.take(&["TABLES"]) {
        relations(cursor, false)?
    } else if cursor.take(&["VIEWS"]) {
        relations(cursor, true)?
    } else if cursor.take(&["COLUMNS"]) {
        if !cursor.take(&["IN"]) && !cursor.take(&["FROM"]) {
            return Err(cursor.expected_word(&["IN", "FROM"]));
        }
        StatementKind::ShowColumns { name: cursor.name("a table name")? }
    } else if cursor.take(&["CREATE", "TABLE"]) {
        StatementKind::ShowCreateTable { name: cursor.name("a table name")? }
    } else if cursor.take(&["TBLPROPERTIES"]) {
        StatementKind::ShowTblProperties { name: cursor.name("a table name")? }
    } else {
        return Err(cursor.expected_word(&[
            "STREAMS",
            "EPOCHS",
            "FILES",
            "TABLES",
            "VIEWS",
            "COLUMNS",
            "CREATE TABLE",
            "TBLPROPERTIES",
            "DATABASES",
        ]));
    };
    cursor.finish(&[])?;
    Ok(kind)
}

/// `[{IN | FROM} schema] [[LIKE] 'pattern']` behind SHOW TABLES and SHOW VIEWS.
fn relations(cursor: &mut Cursor<'_>, views: bool) -> Result<StatementKind, Diagnostic> {
    let schema = match cursor.take(&["IN"]) || cursor.take(&["FROM"]) {
        true => Some(cursor.simple_name("a schema name")?),
        false => None,
    };
    let like = cursor.take(&["LIKE"]);
    let pattern = match like || cursor.is_string() {
        true => Some(cursor.string("a pattern such as 'sales_*'")?),
        false => None,
    };
    Ok(StatementKind::ShowRelations { views, schema, pattern })
}

/// Behind DESCRIBE.
pub(crate) fn describe(cursor: &mut Cursor<'_>) -> Result<StatementKind, Diagnostic> {
    // A table may be called like one of the words: the word counts only when a name follows.
    let followed = cursor.peek_at(1).is_some();
    let kind = if followed && cursor.take(&["STREAM"]) {
        StatementKind::DescribeStream { name: cursor.name("a stream name")? }
    } else if followed && cursor.take(&["DETAIL"]) {
        StatementKind::DescribeDetail { name: cursor.name("a table name")? }
    } else if followed && cursor.take(&["HISTORY"]) {
        let name = cursor.name("a table name")?;
        StatementKind::DescribeHistory { name, limit: limit(cursor)? }
    } else {
        if followed {
            let _ = cursor.take(&["TABLE"]) || cursor.take(&["VIEW"]);
        }
        let extended = cursor.peek_at(1).is_some() && (cursor.take(&["EXTENDED"]) || cursor.take(&["FORMATTED"]));
        StatementKind::Describe { name: cursor.name("a table name")?, extended }
    };
    cursor.finish(&[])?;
    Ok(kind)
}

fn limit(cursor: &mut Cursor<'_>) -> Result<Option<u64>, Diagnostic> {
    if cursor.take(&["LIMIT"]) { cursor.whole_number("a number of rows").map(Some) } else { Ok(None) }
}
