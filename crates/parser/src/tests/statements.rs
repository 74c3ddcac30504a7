//! Every statement form.

use std::time::Duration;

use super::*;
use crate::{CreateForm, Dropped, FileChange, OutputMode, RelationKind, StatementKind as Kind, Trigger};

fn streaming(text: &str) -> crate::CreateStreamingTable {
    match kind(text) {
        Kind::CreateStreamingTable(table) => *table,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_streaming_table_with_everything() {
    let table = streaming(
        "CREATE STREAMING TABLE IF NOT EXISTS s.t (a INT NOT NULL COMMENT 'key', b MAP<STRING, ARRAY<LONG>>, c STRUCT<x: INT, y: STRING>, d DECIMAL(10, 2)) \
         USING DELTA CHECKPOINT LOCATION '/cp' TRIGGER PROCESSING TIME '10 seconds' OUTPUT MODE COMPLETE \
         TBLPROPERTIES ('a' = 'b', delta.appendOnly = true) COMMENT \"it's\" LOCATION 'file:///x' PARTITIONED BY (a, `b c`) \
         AS SELECT a, count(*) FROM STREAM u GROUP BY a",
    );
    assert_eq!(table.name.parts, ["s", "t"]);
    assert_eq!(table.form, CreateForm::IfNotExists);
    let types: Vec<String> = table.columns.iter().map(|column| column.data_type.to_string()).collect();
    assert_eq!(types, ["INT", "Map(STRING, ARRAY<BIGINT>)", "STRUCT<x INT, y STRING>", "DECIMAL(10,2)"]);
    assert!(table.columns[0].not_null && !table.columns[1].not_null);
    assert_eq!(table.columns[0].comment.as_ref().unwrap().value, "key");
    assert_eq!(table.checkpoint_location.unwrap().value, "/cp");
    assert_eq!(table.trigger.unwrap().trigger, Trigger::ProcessingTime(Duration::from_secs(10)));
    assert_eq!(table.output_mode.unwrap().0, OutputMode::Complete);
    let properties: Vec<_> =
        table.properties.iter().map(|entry| (entry.key.value.as_str(), entry.value.value.as_str())).collect();
    assert_eq!(properties, [("a", "b"), ("delta.appendOnly", "true")]);
    assert_eq!(table.comment.unwrap().value, "it's");
    assert_eq!(table.location.unwrap().value, "file:///x");
    assert_eq!(table.partitioned_by.iter().map(|name| name.parts.concat()).collect::<Vec<_>>(), ["a", "b c"]);
    assert_eq!(table.query.text, "SELECT a, count(*) FROM STREAM u GROUP BY a");
}

#[test]
fn short_forms_of_a_streaming_table() {
    let table = streaming("CREATE OR REFRESH STREAMING TABLE b FROM cloud_files('/in', 'json')");
    assert_eq!(table.form, CreateForm::OrRefresh);
    assert_eq!(table.query.text, "SELECT * FROM cloud_files('/in', 'json')");
    assert_eq!(table.query.ast.to_string(), "SELECT * FROM __relation_0");
    assert!(matches!(table.query.relations[0].kind, RelationKind::Files { streaming: true, .. }));
    let again = query(&table.query.text);
    assert_eq!(again.ast.to_string(), table.query.ast.to_string());
    let table = streaming(
        "create or replace streaming table b trigger once from stream t watermark ts delay of interval 1 minute;",
    );
    assert_eq!(table.form, CreateForm::OrReplace);
    assert_eq!(table.trigger.unwrap().trigger, Trigger::Once);
    assert!(table.query.relations[0].watermark.is_some());
}

#[test]
fn triggers_and_intervals() {
    let table = [
        ("'500 milliseconds'", 500),
        ("'10 seconds'", 10_000),
        ("'1 minute'", 60_000),
        ("INTERVAL 10 SECONDS", 10_000),
        ("INTERVAL '10' SECONDS", 10_000),
        ("'interval 1 hour 30 minutes'", 5_400_000),
        ("'0 seconds'", 0),
        ("'1.5s'", 1500),
    ];
    for (text, milliseconds) in table {
        let Kind::StartStream { trigger: Some(trigger), .. } =
            kind(&format!("START STREAM t TRIGGER PROCESSING TIME {text}"))
        else {
            panic!()
        };
        assert_eq!(trigger.trigger, Trigger::ProcessingTime(Duration::from_millis(milliseconds)), "{text}");
        assert_eq!(trigger.span.start.column, 16);
    }
    for text in ["'soon'", "'10'", "'10 parsecs'", "'1 month'", "'-1 second'", "INTERVAL -1 SECOND", "''"] {
        let error = refused(&format!("START STREAM t TRIGGER PROCESSING TIME {text}"));
        assert_eq!(error.code, "INVALID_INTERVAL", "{text}: {error}");
        assert_eq!(error.span, span(40, 40 + text.len() as u64));
        assert!(error.help[0].contains("'10 seconds'"));
    }
}

#[test]
fn views() {
    let Kind::CreateView(view) = kind("CREATE OR REPLACE TEMP STREAMING VIEW v (a, b) COMMENT 'c' AS SELECT 1, 2")
    else {
        panic!()
    };
    assert!(view.or_replace && view.temporary && view.streaming && !view.if_not_exists);
    assert_eq!(view.columns.len(), 2);
    let Kind::CreateView(view) = kind("CREATE TEMPORARY VIEW s.v AS (SELECT * FROM STREAM t)") else { panic!() };
    assert!(!view.or_replace && view.temporary && !view.streaming);
    assert_eq!(view.query.relations.len(), 1);
}

#[test]
fn tables() {
    let Kind::CreateTable(table) =
        kind("CREATE TABLE IF NOT EXISTS t (a INT, b TIMESTAMP_NTZ NOT NULL) USING delta PARTITIONED BY (a)")
    else {
        panic!()
    };
    assert_eq!((table.form, table.columns.len(), table.query.is_none()), (CreateForm::IfNotExists, 2, true));
    let Kind::CreateTable(table) =
        kind("CREATE OR REPLACE TABLE t LOCATION '/x' AS WITH q AS (SELECT 1) SELECT * FROM q")
    else {
        panic!()
    };
    assert_eq!((table.form, table.query.is_some()), (CreateForm::OrReplace, true));
    assert!(matches!(kind("DROP TABLE IF EXISTS t"), Kind::Drop { what: Dropped::Table, if_exists: true, .. }));
    assert!(matches!(kind("DROP VIEW v"), Kind::Drop { what: Dropped::View, if_exists: false, .. }));
    assert!(matches!(kind("DROP STREAMING TABLE s.t"), Kind::Drop { what: Dropped::StreamingTable, .. }));
}

#[test]
fn inserts_and_copies() {
    let Kind::Insert { table, columns, by_name: false, overwrite: false, query } =
        kind("INSERT INTO TABLE s.t (a, b) VALUES (1, 'x'), (2, 'y')")
    else {
        panic!()
    };
    assert_eq!((table.parts.len(), columns.len(), query.text.as_str()), (2, 2, "VALUES (1, 'x'), (2, 'y')"));
    let Kind::Insert { columns, overwrite: true, .. } = kind("INSERT OVERWRITE t (SELECT * FROM u)") else { panic!() };
    assert!(columns.is_empty());
    let Kind::Insert { by_name: true, .. } = kind("INSERT INTO t BY NAME SELECT 1 AS a") else { panic!() };
    let Kind::Insert { query, .. } = kind("INSERT INTO t TABLE s.u") else { panic!() };
    assert_eq!(query.ast.to_string(), "SELECT * FROM s.u");
    let Kind::CopyTo { query, path, format, options } =
        kind("COPY (SELECT * FROM t@v1) TO 'out/1.json' STORED AS JSON OPTIONS ('a' 'b', 'c' = 'd', e true)")
    else {
        panic!()
    };
    assert_eq!(
        (query.text.as_str(), path.value.as_str(), format.unwrap().value.as_str()),
        ("SELECT * FROM t@v1", "out/1.json", "JSON")
    );
    assert_eq!(
        options.iter().map(|entry| format!("{}={}", entry.key.value, entry.value.value)).collect::<Vec<_>>(),
        ["a=b", "c=d", "e=true"]
    );
    let Kind::CopyTo { query, format: None, .. } = kind("COPY t TO 'x.csv'") else { panic!() };
    assert_eq!((query.ast.to_string().as_str(), query.text.as_str()), ("SELECT * FROM t", "SELECT * FROM t"));
}

#[test]
fn running_and_watching() {
    assert!(matches!(kind("REFRESH TABLE t"), Kind::Refresh { full: false, .. }));
    assert!(matches!(kind("refresh streaming table t full"), Kind::Refresh { full: true, .. }));
    assert!(matches!(kind("START STREAM t"), Kind::StartStream { trigger: None, .. }));
    assert!(matches!(kind("STOP STREAM t"), Kind::StopStream { .. }));
    assert!(matches!(kind("STOP ALL STREAMS"), Kind::StopAllStreams));
    assert!(matches!(kind("AWAIT STREAM t"), Kind::AwaitStream { timeout: None, .. }));
    let Kind::AwaitStream { timeout, .. } = kind("AWAIT STREAM t FOR '30 seconds'") else { panic!() };
    assert_eq!(timeout, Some(Duration::from_secs(30)));
    assert!(matches!(kind("VERIFY STREAM t"), Kind::VerifyStream { .. }));
    assert!(matches!(kind("SHOW STREAMS"), Kind::ShowStreams));
    assert!(matches!(kind("SHOW EPOCHS FROM t LIMIT 5"), Kind::ShowEpochs { limit: Some(5), .. }));
    assert!(matches!(kind("SHOW TABLES"), Kind::ShowRelations { views: false, schema: None, pattern: None }));
    assert!(matches!(kind("SHOW VIEWS"), Kind::ShowRelations { views: true, schema: None, pattern: None }));
    assert!(matches!(kind("SHOW COLUMNS IN t"), Kind::ShowColumns { .. }));
    assert!(matches!(kind("SHOW CREATE TABLE t"), Kind::ShowCreateTable { .. }));
    assert!(matches!(kind("SHOW TBLPROPERTIES t"), Kind::ShowTblProperties { .. }));
}

#[test]
fn describing() {
    assert!(matches!(kind("DESCRIBE STREAM t"), Kind::DescribeStream { .. }));
    assert!(matches!(kind("DESC t"), Kind::Describe { extended: false, .. }));
    assert!(matches!(kind("DESCRIBE TABLE EXTENDED s.t"), Kind::Describe { extended: true, .. }));
    assert!(matches!(kind("DESCRIBE EXTENDED t"), Kind::Describe { extended: true, .. }));
    let Kind::Describe { name, .. } = kind("DESCRIBE stream") else { panic!() };
    assert_eq!(name.parts, ["stream"]);
    assert!(matches!(kind("DESCRIBE DETAIL t"), Kind::DescribeDetail { .. }));
    assert!(matches!(kind("DESCRIBE HISTORY t LIMIT 2"), Kind::DescribeHistory { limit: Some(2), .. }));
    let Kind::DescribeHistory { name, .. } = kind("DESCRIBE HISTORY delta.`/x/y`") else { panic!() };
    assert_eq!(name.parts, ["delta", "/x/y"]);
}

#[test]
fn explaining() {
    let Kind::Explain { verbose: false, statement } = kind("EXPLAIN SELECT 1") else { panic!() };
    assert_eq!((statement.text.as_str(), statement.span), ("SELECT 1", span(9, 17)));
    let Kind::Explain { verbose: true, statement } =
        kind("EXPLAIN FORMATTED CREATE STREAMING TABLE t AS SELECT * FROM STREAM u")
    else {
        panic!()
    };
    assert!(matches!(statement.kind, Kind::CreateStreamingTable(_)));
    assert_eq!(refused("EXPLAIN SHOW TABLES").span, span(9, 13));
}

#[test]
fn settings() {
    let table = [
        ("SET a.b = 'x y'", "a.b", "x y"),
        ("SET on_error = continue", "on_error", "continue"),
        ("SET n = 42", "n", "42"),
        ("SET x = -1.5", "x", "-1.5"),
        ("SET every = 10 seconds", "every", "10 seconds"),
        ("SET `k` = true", "k", "true"),
        ("SET TIME ZONE 'UTC'", "timezone", "UTC"),
    ];
    for (text, wanted_key, wanted_value) in table {
        let Kind::Set { key, value } = kind(text) else { panic!("{text}") };
        assert_eq!((key.value.as_str(), value.value.as_str()), (wanted_key, wanted_value), "{text}");
    }
    assert!(matches!(kind("SET"), Kind::ShowSettings));
    assert!(matches!(kind("SET a.b;"), Kind::ShowSetting { key } if key.value == "a.b"));
    assert!(matches!(kind("RESET a.b"), Kind::Reset { key } if key.value == "a.b"));
    assert!(
        matches!(kind("SET VAR dir = '/in'"), Kind::SetVar { name, value } if name.value == "dir" && value.value == "/in")
    );
    assert!(matches!(kind("SET var = 1"), Kind::Set { key, .. } if key.value == "var"));
}

#[test]
fn files_of_a_stream() {
    let Kind::ShowFiles { query } =
        kind("SHOW FILES FROM s.t WHERE size > 1 AND state = 'waiting' ORDER BY path LIMIT 2")
    else {
        panic!()
    };
    assert_eq!(
        query.ast.to_string(),
        "SELECT * FROM __relation_0 WHERE size > 1 AND state = 'waiting' ORDER BY path LIMIT 2"
    );
    let RelationKind::CloudFilesState { table, all: true } = &query.relations[0].kind else { panic!() };
    assert_eq!((table.value.as_str(), table.span), ("s.t", span(17, 20)));
    assert!(matches!(kind("show files in t"), Kind::ShowFiles { .. }));
    assert_eq!(refused("SHOW FILES FROM t WHERE").code, "SYNTAX_ERROR");
    assert_eq!(refused("SHOW FILES FROM t JOIN u").code, "SYNTAX_ERROR");

    let Kind::AlterFile { name, change, path } = kind("ALTER STREAM t FORGET FILE '/in/a.json'") else { panic!() };
    assert_eq!((name.parts.concat(), change, path.value), ("t".into(), FileChange::Forget, "/in/a.json".into()));
    assert!(matches!(kind("alter stream t skip file 'x'"), Kind::AlterFile { change: FileChange::Skip, .. }));
    let Kind::SetTrigger { trigger, .. } = kind("ALTER STREAM t SET TRIGGER ONCE") else { panic!() };
    assert_eq!(trigger.trigger, Trigger::Once);
    assert!(refused("ALTER STREAM t SKIP FILES 'x'").help.iter().any(|help| help.contains("FILE")));

    for text in ["PREVIEW cloud_files('/in', 'json')", "PREVIEW STREAM read_files('/in')", "PREVIEW read_files('/in')"]
    {
        let Kind::Preview { relation: RelationKind::Files { path, streaming: true, .. }, span: at } = kind(text) else {
            panic!("{text}")
        };
        assert_eq!((path.value.as_str(), at.start.column), ("/in", 9));
    }
    for text in ["PREVIEW t", "PREVIEW STREAM t", "PREVIEW json.`/in`", "PREVIEW cloud_files('/in', 'json') WHERE a"] {
        assert_eq!(refused(text).code, "SYNTAX_ERROR", "{text}");
    }
}

#[test]
fn a_trigger_is_put_into_a_statement() {
    let with = |text: &str| crate::with_trigger(text, "TRIGGER ONCE").unwrap();
    let plain = "CREATE STREAMING TABLE t (a INT) /* AS */ LOCATION 'as' AS SELECT a FROM STREAM u";
    assert_eq!(with(plain), plain.replace("AS SELECT", "TRIGGER ONCE AS SELECT"));
    assert_eq!(with(&with(plain)), with(plain));
    let short = "CREATE STREAMING TABLE t TRIGGER PROCESSING TIME '1 s' OUTPUT MODE APPEND\nFROM STREAM u";
    assert_eq!(with(short), "CREATE STREAMING TABLE t TRIGGER ONCE OUTPUT MODE APPEND\nFROM STREAM u");
    assert!(crate::with_trigger("SELECT 1", "TRIGGER ONCE").is_err());
}

#[test]
fn what_a_refresh_leaves_out_is_kept() {
    let with = |text: &str, former: &str| crate::with_kept_clauses(text, former).unwrap();
    let former = "CREATE STREAMING TABLE t COMMENT \"it's\" TBLPROPERTIES ('a' = 'b', delta.appendOnly = true) AS SELECT a FROM STREAM u";
    let plain = "CREATE OR REFRESH STREAMING TABLE t (a INT)\nFROM STREAM u";
    let kept = with(plain, former);
    let clauses = "COMMENT \"it's\" TBLPROPERTIES ('a' = 'b', delta.appendOnly = true) FROM STREAM u";
    assert_eq!(kept, plain.replace("FROM STREAM u", clauses));
    assert_eq!(with(&kept, former), kept);
    assert_eq!(with(plain, plain), plain);
    let some = "CREATE OR REFRESH STREAMING TABLE t TBLPROPERTIES ('A' = 'c') COMMENT 'x' AS SELECT a FROM STREAM u";
    assert_eq!(with(some, former), some.replace("'c'", "'c', delta.appendOnly = true"));
    assert!(crate::with_kept_clauses("SELECT 1", former).is_err());
}

#[test]
fn what_is_refused_by_name() {
    let table = [
        ("COPY INTO t FROM '/in' FILEFORMAT = JSON", "COPY INTO", 1, 10),
        ("DELETE FROM t WHERE a = 1", "DELETE FROM", 1, 12),
        ("UPDATE t SET a = 1", "UPDATE", 1, 7),
        ("MERGE INTO t USING u ON true", "MERGE INTO", 1, 11),
        ("TRUNCATE TABLE t", "TRUNCATE TABLE", 1, 15),
        ("ALTER TABLE t ADD COLUMN a INT", "ALTER TABLE", 1, 12),
        ("OPTIMIZE t ZORDER BY (a)", "OPTIMIZE", 1, 9),
        ("VACUUM t RETAIN 5 HOURS", "VACUUM", 1, 7),
        ("RESTORE TABLE t TO VERSION AS OF 1", "RESTORE", 1, 8),
        ("CREATE SCHEMA s", "CREATE SCHEMA", 1, 14),
        ("DROP SCHEMA s", "DROP SCHEMA", 1, 12),
        ("USE s", "USE", 1, 4),
        ("SHOW DATABASES", "SHOW DATABASES", 1, 15),
        ("CREATE FLOW f AS INSERT INTO t SELECT 1", "CREATE FLOW", 1, 12),
        ("CREATE MATERIALIZED VIEW m AS SELECT 1", "CREATE MATERIALIZED VIEW", 1, 25),
        (
            "CREATE STREAMING TABLE t (a INT, CONSTRAINT c EXPECT (a > 0) ON VIOLATION DROP ROW) AS SELECT 1",
            "CONSTRAINT … EXPECT",
            34,
            83,
        ),
        ("CREATE TABLE t (a INT, PRIMARY KEY (a))", "PRIMARY KEY", 24, 39),
        ("CREATE TABLE t (a INT GENERATED ALWAYS AS IDENTITY)", "GENERATED on a column", 23, 51),
        ("CREATE TABLE t (a INT) USING csv", "USING CSV", 24, 33),
        ("CREATE TABLE t (a INT) CLUSTER BY (a)", "CLUSTER BY", 24, 34),
        ("CREATE TABLE t LIKE u", "CREATE TABLE … LIKE", 16, 20),
    ];
    for (text, name, from, to) in table {
        let Kind::NotYet { what, help, span: place } = kind(text) else { panic!("{text}") };
        assert_eq!((what.as_str(), place), (name, span(from, to)), "{text}");
        assert!(!help.is_empty());
    }
}

#[test]
fn statement_text_leaves_semicolon_and_comments_out() {
    let statement = parse("/* a */ SELECT 1 -- b\n + 2 ; -- c");
    assert_eq!(statement.text, "SELECT 1 -- b\n + 2");
    assert_eq!(statement.span, Span { start: Place { line: 1, column: 9 }, end: Place { line: 2, column: 5 } });
}

#[test]
fn every_listed_statement_begins_with_keywords() {
    for (syntax, meaning) in crate::STATEMENTS {
        let first = syntax.split([' ', '[']).next().unwrap();
        assert!(crate::KEYWORDS.contains(&first), "{syntax}");
        assert!(!meaning.is_empty());
    }
    assert!(crate::KEYWORDS.is_sorted());
}
