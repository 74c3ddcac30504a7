//! Statements of the language that this release does not carry out. They are recognised by their first words
//! so that they can be refused by name, with what to do instead; the rest of them is not read.

use crate::cursor::Cursor;
use crate::statement::StatementKind;

const WITH_OVERWRITE: &str = "INSERT OVERWRITE t SELECT … replaces a table's rows";
const WITH_DELTA_TOOL: &str =
    "the table is a Delta table: any other Delta engine can do this while no stream writes to it";
const ONE_SCHEMA: &str = "all tables and views live in one schema; leave the schema's name out";
const RECREATE: &str = "make a table with the wanted columns and properties and INSERT INTO it";

/// First words and the way out; longer forms before their beginnings.
const FORMS: &[(&[&str], &str)] = &[
    (
        &["COPY", "INTO"],
        "CREATE STREAMING TABLE … FROM cloud_files(…) loads each file once, and REFRESH loads what is new",
    ),
    (
        &["ALTER", "STREAMING", "TABLE"],
        "CREATE OR REFRESH STREAMING TABLE changes the query and keeps table and checkpoint",
    ),
    (&["ALTER", "TABLE"], RECREATE),
    (&["ALTER", "VIEW"], "CREATE OR REPLACE VIEW changes the query"),
    (&["ALTER", "SCHEMA"], ONE_SCHEMA),
    (&["ALTER", "DATABASE"], ONE_SCHEMA),
    (&["DELETE", "FROM"], WITH_OVERWRITE),
    (&["UPDATE"], WITH_OVERWRITE),
    (&["MERGE", "INTO"], WITH_OVERWRITE),
    (
        &["TRUNCATE", "TABLE"],
        "INSERT OVERWRITE t SELECT * FROM t WHERE false empties a table; REFRESH TABLE t FULL a streaming one",
    ),
    (&["OPTIMIZE"], WITH_DELTA_TOOL),
    (&["VACUUM"], WITH_DELTA_TOOL),
    (&["RESTORE"], "INSERT OVERWRITE t SELECT * FROM t VERSION AS OF n brings earlier rows back"),
    (&["CREATE", "SCHEMA"], ONE_SCHEMA),
    (&["CREATE", "DATABASE"], ONE_SCHEMA),
    (&["DROP", "SCHEMA"], ONE_SCHEMA),
    (&["DROP", "DATABASE"], ONE_SCHEMA),
    (&["SHOW", "DATABASES"], ONE_SCHEMA),
    (&["SHOW", "SCHEMAS"], ONE_SCHEMA),
    (&["DESCRIBE", "SCHEMA"], ONE_SCHEMA),
    (&["DESCRIBE", "DATABASE"], ONE_SCHEMA),
    (&["USE"], ONE_SCHEMA),
    (&["CREATE", "FLOW"], "write one CREATE STREAMING TABLE per flow, or one query with UNION ALL"),
    (&["DROP", "FLOW"], "DROP STREAMING TABLE stops a stream and removes its table"),
    (
        &["APPLY", "CHANGES"],
        "keep the changes as they come in a streaming table and pick the last of each key when you query it",
    ),
    (
        &["CREATE", "MATERIALIZED", "VIEW"],
        "CREATE STREAMING TABLE … OUTPUT MODE COMPLETE keeps an aggregate up to date",
    ),
    (
        &["CREATE", "OR", "REPLACE", "MATERIALIZED", "VIEW"],
        "CREATE STREAMING TABLE … OUTPUT MODE COMPLETE keeps an aggregate up to date",
    ),
    (&["DROP", "MATERIALIZED", "VIEW"], "materialized views do not exist yet"),
    (&["REFRESH", "MATERIALIZED", "VIEW"], "REFRESH STREAMING TABLE runs a stream"),
    (&["CREATE", "FUNCTION"], "write the expression out, or put it into a view"),
    (
        &["CREATE", "EXTERNAL", "TABLE"],
        "CREATE TABLE t (…) LOCATION 'uri' makes a Delta table at a place; json.`path`, csv.`path` read files",
    ),
    (&["ANALYZE", "TABLE"], "no statistics need to be computed"),
    (&["CACHE", "TABLE"], "CREATE TABLE t AS query keeps a result"),
    (&["UNCACHE", "TABLE"], "nothing is cached"),
    (&["COMMENT", "ON"], "give the COMMENT when the table is made"),
    (&["GRANT"], "access is what the file system or object store allows"),
    (&["REVOKE"], "access is what the file system or object store allows"),
    (&["SHOW", "FUNCTIONS"], "docs list the functions"),
    (&["SHOW", "PARTITIONS"], "SELECT DISTINCT over the partition columns shows them"),
    (&["DESCRIBE", "FUNCTION"], "docs list the functions"),
    (&["DESCRIBE", "QUERY"], "CREATE TEMP VIEW v AS query, then DESCRIBE v"),
];

/// The refusal, if the statement here is one of those.
pub(crate) fn not_yet(cursor: &Cursor<'_>) -> Option<StatementKind> {
    let (words, help) = FORMS
        .iter()
        .find(|(words, _)| cursor.is(words) && cursor.peek_at(words.len()).is_some() || is_whole(cursor, words))?;
    let last = Cursor { at: cursor.at + words.len(), ..cursor.clone() };
    Some(StatementKind::NotYet { what: words.join(" "), help: (*help).to_owned(), span: last.span_from(cursor.at) })
}

/// Forms that may have nothing behind them.
fn is_whole(cursor: &Cursor<'_>, words: &[&str]) -> bool {
    words.first() == Some(&"SHOW") && cursor.is(words)
}
