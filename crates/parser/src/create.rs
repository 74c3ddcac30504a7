//! CREATE: streaming tables, tables and views. Clauses may come in any order, each at most once.

use sqlparser::tokenizer::Token;

use crate::clauses::Clauses;
use crate::cursor::Cursor;
use crate::diagnostic::Diagnostic;
use crate::lexer::syntax;
use crate::query::query;
use crate::span::Span;
use crate::statement::{CreateForm, CreateStreamingTable, CreateTable, CreateView, StatementKind};

/// Behind CREATE.
pub(crate) fn create(cursor: &mut Cursor<'_>) -> Result<StatementKind, Diagnostic> {
    let first = cursor.at;
    let form = if cursor.take(&["OR", "REFRESH"]) {
        CreateForm::OrRefresh
    } else if cursor.take(&["OR", "REPLACE"]) {
        CreateForm::OrReplace
    } else if cursor.is(&["OR"]) {
        cursor.at += 1;
        return Err(cursor.expected_word(&["REPLACE", "REFRESH"]));
    } else {
        CreateForm::New
    };
    let or = cursor.span_from(first);
    let refresh = form == CreateForm::OrRefresh;
    if cursor.take(&["STREAMING", "TABLE"]) {
        return streaming_table(cursor, form, or);
    }
    let temporary = cursor.take(&["TEMP"]) || cursor.take(&["TEMPORARY"]);
    let streaming = cursor.take(&["STREAMING"]);
    let is_view = cursor.is(&["VIEW"]);
    if refresh && (is_view || cursor.is(&["TABLE"])) {
        return Err(syntax("OR REFRESH belongs to CREATE STREAMING TABLE", or)
            .help("CREATE OR REPLACE changes a table or view; CREATE OR REFRESH STREAMING TABLE a stream"));
    }
    if cursor.take(&["VIEW"]) {
        return view(cursor, form == CreateForm::OrReplace, temporary, streaming);
    }
    if streaming {
        return Err(cursor.expected_word(&["TABLE", "VIEW"]));
    }
    if temporary {
        return Err(cursor.expected_word(&["VIEW", "STREAMING VIEW"]));
    }
    if !cursor.take(&["TABLE"]) {
        return Err(cursor.expected_word(&["STREAMING TABLE", "TABLE", "VIEW", "TEMP VIEW"]));
    }
    table(cursor, form, or)
}

/// `[IF NOT EXISTS]`, which OR REPLACE and OR REFRESH contradict.
fn if_not_exists(cursor: &mut Cursor<'_>, form: CreateForm, or: Span) -> Result<CreateForm, Diagnostic> {
    let span = cursor.span();
    if cursor.is(&["IF"]) && !cursor.is(&["IF", "NOT", "EXISTS"]) {
        return Err(cursor.expected("IF NOT EXISTS"));
    }
    if !cursor.take(&["IF", "NOT", "EXISTS"]) {
        return Ok(form);
    }
    let chosen = match form {
        CreateForm::New => return Ok(CreateForm::IfNotExists),
        CreateForm::OrReplace => "OR REPLACE",
        _ => "OR REFRESH",
    };
    Err(syntax(format!("IF NOT EXISTS contradicts {chosen}"), span.to(or)).help("choose one of them"))
}

/// Behind STREAMING TABLE.
fn streaming_table(cursor: &mut Cursor<'_>, form: CreateForm, or: Span) -> Result<StatementKind, Diagnostic> {
    let form = if_not_exists(cursor, form, or)?;
    let name = cursor.name("a table name")?;
    let clauses = Clauses::read(cursor, true)?;
    let shorthand = cursor.is(&["FROM"]);
    if !shorthand && !cursor.take(&["AS"]) {
        return Err(cursor.expected_word(clauses.words(true)));
    }
    if let Some((what, help, span)) = clauses.not_yet {
        return Ok(StatementKind::NotYet { what, help, span });
    }
    let query = query(cursor, shorthand)?;
    Ok(StatementKind::CreateStreamingTable(Box::new(CreateStreamingTable {
        name,
        form,
        columns: clauses.columns,
        partitioned_by: clauses.partitioned_by,
        location: clauses.location,
        comment: clauses.comment,
        properties: clauses.properties,
        output_mode: clauses.output_mode,
        trigger: clauses.trigger,
        checkpoint_location: clauses.checkpoint_location,
        query,
    })))
}

/// Behind TABLE.
fn table(cursor: &mut Cursor<'_>, form: CreateForm, or: Span) -> Result<StatementKind, Diagnostic> {
    let form = if_not_exists(cursor, form, or)?;
    let name = cursor.name("a table name")?;
    for words in [&["LIKE"][..], &["SHALLOW", "CLONE"], &["DEEP", "CLONE"], &["CLONE"]] {
        let span = cursor.span();
        if cursor.take(words) {
            let what = format!("CREATE TABLE … {}", words.join(" "));
            let help = "CREATE TABLE t AS SELECT * FROM other copies a table".to_owned();
            return Ok(StatementKind::NotYet { what, help, span });
        }
    }
    let clauses = Clauses::read(cursor, false)?;
    let query = if cursor.take(&["AS"]) {
        Some(query(cursor, false)?)
    } else if cursor.is_done() {
        None
    } else {
        return Err(cursor.expected_word(clauses.words(false)));
    };
    if let Some((what, help, span)) = clauses.not_yet {
        return Ok(StatementKind::NotYet { what, help, span });
    }
    if query.is_none() && clauses.columns.is_empty() && clauses.location.is_none() {
        return Err(cursor
            .expected("columns or AS query")
            .help("write CREATE TABLE t (a INT, b STRING) or CREATE TABLE t AS SELECT …"));
    }
    Ok(StatementKind::CreateTable(Box::new(CreateTable {
        name,
        form,
        columns: clauses.columns,
        partitioned_by: clauses.partitioned_by,
        location: clauses.location,
        comment: clauses.comment,
        properties: clauses.properties,
        query,
    })))
}

/// Behind VIEW.
fn view(
    cursor: &mut Cursor<'_>,
    or_replace: bool,
    temporary: bool,
    streaming: bool,
) -> Result<StatementKind, Diagnostic> {
    let span = cursor.span();
    let if_not_exists = cursor.take(&["IF", "NOT", "EXISTS"]);
    if if_not_exists && or_replace {
        return Err(syntax("IF NOT EXISTS contradicts OR REPLACE", span).help("choose one of them"));
    }
    let name = cursor.name("a view name")?;
    let columns = if cursor.is_symbol(&Token::LParen) { cursor.name_list("a column name")? } else { Vec::new() };
    let comment = if cursor.take(&["COMMENT"]) { Some(cursor.string("the comment, a string")?) } else { None };
    for word in ["USING", "TBLPROPERTIES"] {
        if cursor.is(&[word]) {
            let help = "a view is CREATE VIEW name AS query; json.`path` or read_files(…) reads files".to_owned();
            return Ok(StatementKind::NotYet { what: format!("CREATE VIEW … {word}"), help, span: cursor.span() });
        }
    }
    if !cursor.take(&["AS"]) {
        return Err(cursor.expected_word(&["AS"]));
    }
    let query = query(cursor, false)?;
    let view = CreateView { name, or_replace, temporary, streaming, if_not_exists, comment, columns, query };
    Ok(StatementKind::CreateView(Box::new(view)))
}
