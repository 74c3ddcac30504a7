//! What users read when something does not fit.

use super::*;
use crate::SourceText;

fn source(text: &str) -> SourceText {
    SourceText { file: Some("script.sql".to_owned()), text: text.to_owned(), first_line: 1 }
}

#[test]
fn the_manuals_example() {
    let text = "SELECT *\nFROM STREAM courses\nORDER BY instructor\n";
    let at = |line, column| Place { line, column };
    let error = Diagnostic::new("STREAMING_SORT", "ORDER BY needs a finished result, and a stream never finishes")
        .at(Span { start: at(3, 1), end: at(3, 20) })
        .label("sorting `courses_streaming_tmp_vw`, a stream")
        .help("aggregate first and use OUTPUT MODE COMPLETE, or sort when you query the target table");
    let expected = "\
error[STREAMING_SORT]: ORDER BY needs a finished result, and a stream never finishes
 --> script.sql:3:1
  |
3 | ORDER BY instructor
  | ^^^^^^^^^^^^^^^^^^^ sorting `courses_streaming_tmp_vw`, a stream
  = help: aggregate first and use OUTPUT MODE COMPLETE, or sort when you query the target table";
    assert_eq!(error.render(&source(text)), expected);
}

#[test]
fn gutters_tabs_and_wide_letters() {
    let mut text = "\n".repeat(11);
    text.push_str("\tSELECT 'größe',\tnope FROM t\r\nWHERE 1");
    let at = |line, column| Place { line, column };
    let error = Diagnostic::new("X", "m").at(Span { start: at(12, 18), end: at(12, 22) }).help("h");
    let mut file = source(&text);
    file.file = None;
    assert_eq!(
        error.render(&file),
        "error[X]: m\n  --> <input>:12:18\n   |\n12 | \tSELECT 'größe',\tnope FROM t\n   | \t               \t^^^^\n   = help: h"
    );
    let several_lines = Diagnostic::new("X", "m").at(Span { start: at(12, 23), end: at(13, 3) }).label("l");
    assert!(several_lines.render(&file).ends_with("^^^^^^ l"));
    let mut later = source("b\nc");
    later.first_line = 12;
    assert!(error.render(&later).contains("12 | b\n"));
    let beyond = Diagnostic::new("X", "m").at(Span { start: at(99, 1), end: at(99, 2) }).help("h");
    assert_eq!(beyond.render(&file), "error[X]: m\n  --> <input>:99:1\n   = help: h");
    assert_eq!(Diagnostic::new("X", "m").help("a").help("b").render(&file), "error[X]: m\n  = help: a\n  = help: b");
}

#[test]
fn syntax_errors_say_what_where_and_what_was_meant() {
    let table = [
        ("SELCT 1", "expected a statement, found `SELCT`", 1, "SELECT"),
        ("FROB 1", "expected a statement, found `FROB`", 1, "begins with"),
        (
            "CREATE STREMING TABLE t AS SELECT 1",
            "expected STREAMING TABLE, TABLE, VIEW or TEMP VIEW, found `STREMING`",
            8,
            "STREAMING",
        ),
        (
            "CREATE STREAMING TABLE t OUTPUT MODE COMPLET AS SELECT 1",
            "expected APPEND, COMPLETE or UPDATE, found `COMPLET`",
            38,
            "COMPLETE",
        ),
        ("CREATE STREAMING TABLE t COMMENT 'a' COMMENT 'b' AS SELECT 1", "COMMENT is given twice", 38, "at most once"),
        ("CREATE TABLE t (a INT) OUTPUT MODE APPEND", "OUTPUT MODE belongs to a stream", 24, "STREAMING TABLE"),
        ("CREATE OR REPLACE TABLE IF NOT EXISTS t (a INT)", "IF NOT EXISTS contradicts OR REPLACE", 8, "choose"),
        ("SELECT * FROM t WHER x = 1", "`x` is not expected here", 22, "WHERE"),
        ("SELECT * FORM t", "`FORM` is not expected here", 10, "FROM"),
        ("SELECT a FROM cloud_files('/x')", "expected `,` and the format, found `)`", 31, "cloud_files('path'"),
        (
            "SELECT a FROM STREAM read_files('/x', format 'json')",
            "expected `=>` after `format`, found `'json'`",
            46,
            "read_files(",
        ),
        ("SELECT a FROM STREAM (SELECT 1)", "STREAM takes a table, and this is a query", 23, "TEMP VIEW"),
        ("SELECT a FROM STREAM t@v3", "a stream reads every version of a table, not one", 23, "STREAM"),
        ("SELECT 'abc", "this string has no end", 8, "'"),
        ("SELECT `abc", "this quoted name has no end", 8, "back-tick"),
        ("SELECT 1 /* abc", "this comment has no end", 10, "*/"),
        ("SELECT a.b.c FROM t; SELECT 2", "expected one statement, found two", 20, "one after"),
        ("DROP TABLE a.b.c", "`a.b.c` has too many parts", 12, "schema.table"),
        ("CREATE STREAMING TABLE AS SELECT 1", "expected a table name, found `AS`", 24, "back-ticks"),
        (
            "CREATE STREAMING TABLE t AS SELECT * FROM STREAM u OUTPUT MODE COMPLETE",
            "`OUTPUT` is not expected here",
            52,
            "before AS",
        ),
        (
            "SELECT * FROM STREAM t TRIGGER PROCESSING TIME '1 second'",
            "`PROCESSING` is not expected here",
            32,
            "AVAILABLE NOW",
        ),
        ("SELECT * FROM STREAM range(10)", "range(…) cannot be read as a stream", 22, "cloud_files"),
        (
            "SHOW STREAM",
            "expected STREAMS, EPOCHS, FILES, TABLES, VIEWS, COLUMNS, CREATE TABLE, TBLPROPERTIES or DATABASES, found `STREAM`",
            6,
            "STREAMS",
        ),
    ];
    for (text, message, column, help) in table {
        let error = refused(text);
        assert_eq!((error.code, error.message.as_str()), ("SYNTAX_ERROR", message), "{text}");
        assert_eq!(error.span.start, Place { line: 1, column }, "{text}");
        assert!(error.help.iter().any(|line| line.contains(help)), "{text}: {:?}", error.help);
    }
}

#[test]
fn errors_at_the_end_stand_behind_the_last_token() {
    for text in [
        "SELECT * FROM",
        "SELECT (1 + ",
        "DROP TABLE",
        "CREATE STREAMING TABLE t",
        "INSERT INTO t",
        "SET a =",
        "SELECT 1 +",
    ] {
        let error = refused(text);
        assert!(error.message.ends_with("found the end of the statement"), "{text}: {error}");
        let end = text.trim_end().len() as u64 + 1;
        assert_eq!(error.span, span(end, end + 1), "{text}");
    }
}

#[test]
fn depth_ends_in_an_error() {
    let parens = format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000));
    let calls = format!("SELECT {}1{}", "f(".repeat(5000), ")".repeat(5000));
    let nots = format!("SELECT {} true", "NOT ".repeat(5000));
    let minus = format!("SELECT {} 1", "- ".repeat(5000));
    let sums = format!("SELECT 1{}", " + 1".repeat(100_000));
    let unions = format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(50_000));
    let cases = format!("SELECT {} 1", "CASE WHEN ".repeat(5000));
    let types = format!("CREATE TABLE t (a {}INT{})", "ARRAY<".repeat(5000), ">".repeat(5000));
    let fields = format!("SELECT a{}", ".b".repeat(100_000));
    let casts = format!("SELECT a{}", "::INT".repeat(100_000));
    let tables = format!("SELECT * FROM {}t{}", "(".repeat(5000), ")".repeat(5000));
    let explains = format!("{} SELECT 1", "EXPLAIN ".repeat(100_000));
    for text in [parens, calls, nots, minus, sums, unions, cases, types, fields, casts, tables, explains] {
        let error = refused(&text);
        assert!(error.span.is_known());
    }
}

/// sqlparser recurses behind many words, and tries again behind most when the text ends too early. What is
/// unfinished ends soon nevertheless, without overflowing the stack.
#[test]
fn repeated_beginnings_end() {
    let beginnings = [
        "INTERVAL (",
        "INTERVAL x (",
        "INTERVAL -",
        "INTERVAL f(",
        "DATE (",
        "NOT (",
        "NOT [",
        "NOT -",
        "CASE (",
        "CASE x",
        "EXISTS (",
        "PRIOR",
        "LATERAL (",
        "(SELECT",
        "(SELECT * FROM",
        "((SELECT * FROM",
        "(a JOIN",
        "ARRAY [",
        "x.",
        "x[",
        "x ->",
        "(x, y) ->",
        "f(",
        "CAST(",
        "x IN (",
        "x BETWEEN",
        "WITH a AS (",
        "UNION",
        "STRUCT<a",
        "x::",
        "-",
        "@",
        "{",
        "[",
        "1,",
        "INTERVAL NOT",
        "DATE INTERVAL",
    ];
    for beginning in beginnings {
        for count in [15, 50, 1500] {
            for prefix in ["SELECT ", "SELECT * FROM ", "SELECT * FROM t WHERE "] {
                // Some of it parses; what matters is that it ends.
                drop(parse_statement(&format!("{prefix}{}", format!("{beginning} ").repeat(count)), START));
            }
        }
    }
}

#[test]
fn usual_depth_is_fine() {
    parse(&format!("SELECT 1 WHERE {}", vec!["a = 1"; 500].join(" OR ")));
    parse(&format!("SELECT {}1{}", "f(".repeat(30), ")".repeat(30)));
    parse(&format!("SELECT {}1{}", "(".repeat(10), ")".repeat(10)));
    parse(&format!("SELECT * FROM {}t{}", "(".repeat(10), ")".repeat(10)));
    parse(&format!("INSERT INTO t VALUES {}", vec!["(1, 'a', -2.5)"; 20_000].join(", ")));
    parse(&format!("SELECT 1 WHERE a IN ({})", vec!["1"; 20_000].join(", ")));
}
