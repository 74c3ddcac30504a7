//! Queries: what is cut out, and that sqlparser reads the rest.

use std::time::Duration;

use super::*;
use crate::{Relation, RelationKind};

/// The query as sqlparser prints it, and one line for each relation.
fn shown(text: &str) -> (String, Vec<String>) {
    let query = query(text);
    (query.ast.to_string(), query.relations.iter().map(relation).collect())
}

fn relation(relation: &Relation) -> String {
    let options = |options: &[crate::OptionEntry]| {
        options.iter().map(|entry| format!(" {}={}", entry.key.value, entry.value.value)).collect::<String>()
    };
    let kind = match &relation.kind {
        RelationKind::Stream { name, options: with } => format!("stream {}{}", name.parts.join("."), options(with)),
        RelationKind::Files { path, format, options: with, streaming, read_files } => format!(
            "{}{} {} {}{}",
            if *streaming { "streaming " } else { "" },
            if *read_files { "read_files" } else { "cloud_files" },
            path.value,
            format.as_ref().map_or("?", |format| &format.value),
            options(with)
        ),
        RelationKind::Path { format, path } => format!("{} {}", format.value, path.value),
        RelationKind::StreamPath { format, path, options: with } => {
            format!("stream {} {}{}", format.value, path.value, options(with))
        }
        RelationKind::Named { name } => format!("named {}", name.parts.join(".")),
        RelationKind::Version { name, version } => format!("{} version {version}", name.parts.join(".")),
        RelationKind::Timestamp { name, timestamp } => format!("{} at {}", name.parts.join("."), timestamp.value),
        RelationKind::CloudFilesState { table, .. } => format!("state of {}", table.value),
        RelationKind::State { table, operator: None } => format!("kept by {}", table.value),
        RelationKind::State { table, operator: Some(number) } => format!("kept by {} operator {number}", table.value),
        RelationKind::NotYet { what } => format!("not yet {what}"),
    };
    match &relation.watermark {
        Some(mark) => format!("{kind} watermark {} {:?}", mark.column.parts.join("."), mark.delay),
        None => kind,
    }
}

#[test]
fn relations_are_cut_out() {
    let table: &[(&str, &str, &[&str])] = &[
        ("SELECT * FROM STREAM t", "SELECT * FROM __relation_0 AS t", &["stream t"]),
        ("SELECT * FROM stream(t)", "SELECT * FROM __relation_0 AS t", &["stream t"]),
        ("SELECT * FROM STREAM s.t AS a", "SELECT * FROM __relation_0 AS a", &["stream s.t"]),
        ("SELECT * FROM STREAM(s.t) a WHERE a.x > 1", "SELECT * FROM __relation_0 AS a WHERE a.x > 1", &["stream s.t"]),
        ("SELECT * FROM STREAM `my t`", "SELECT * FROM __relation_0 AS `my t`", &["stream my t"]),
        (
            "SELECT * FROM STREAM t WITH (maxFilesPerTrigger = 1, 'startingVersion' = 'latest', a.b => true) x",
            "SELECT * FROM __relation_0 AS x",
            &["stream t maxFilesPerTrigger=1 startingVersion=latest a.b=true"],
        ),
        (
            "SELECT * FROM cloud_files('/in', 'json', map('cloudFiles.inferColumnTypes', 'true', 'a', 5)) WHERE x = 1",
            "SELECT * FROM __relation_0 WHERE x = 1",
            &["streaming cloud_files /in json cloudFiles.inferColumnTypes=true a=5"],
        ),
        ("SELECT * FROM cloud_files('/in', \"csv\")", "SELECT * FROM __relation_0", &["streaming cloud_files /in csv"]),
        (
            "SELECT * FROM STREAM read_files('/in', format => 'json', maxFilesPerTrigger => 1, `cloudFiles.x` => true) f",
            "SELECT * FROM __relation_0 AS f",
            &["streaming read_files /in json maxFilesPerTrigger=1 cloudFiles.x=true"],
        ),
        ("SELECT * FROM STREAM(read_files('/in'))", "SELECT * FROM __relation_0", &["streaming read_files /in ?"]),
        (
            "SELECT * FROM read_files('/in', FORMAT => 'csv', header => true)",
            "SELECT * FROM __relation_0",
            &["read_files /in csv header=true"],
        ),
        ("SELECT * FROM json.`/a/b c.json`", "SELECT * FROM __relation_0", &["json /a/b c.json"]),
        ("SELECT * FROM delta.`/a` AS d", "SELECT * FROM __relation_0 AS d", &["delta /a"]),
        ("SELECT * FROM STREAM delta.`/a`", "SELECT * FROM __relation_0", &["stream delta /a"]),
        ("SELECT * FROM delta.`/a` VERSION AS OF 2", "SELECT * FROM __relation_0", &["delta./a version 2"]),
        ("SELECT * FROM t VERSION AS OF 3 x", "SELECT * FROM __relation_0 AS x", &["t version 3"]),
        ("SELECT * FROM s.t FOR VERSION AS OF '3'", "SELECT * FROM __relation_0 AS t", &["s.t version 3"]),
        ("SELECT * FROM t TIMESTAMP AS OF '2024-01-01'", "SELECT * FROM __relation_0 AS t", &["t at 2024-01-01"]),
        (
            "SELECT * FROM t@v12 JOIN u ON t.a = u.a",
            "SELECT * FROM __relation_0 AS t JOIN u ON t.a = u.a",
            &["t version 12"],
        ),
        ("SELECT * FROM cloud_files_state('t')", "SELECT * FROM __relation_0", &["state of t"]),
        ("SELECT * FROM cloud_files_state(TABLE(s.t))", "SELECT * FROM __relation_0", &["state of s.t"]),
        ("SELECT * FROM table_changes('t', 1, 2) c", "SELECT * FROM __relation_0 AS c", &["not yet table_changes(…)"]),
        ("SELECT * FROM read_state('t')", "SELECT * FROM __relation_0", &["kept by t"]),
        ("SELECT * FROM read_state(TABLE(s.t), 2) r", "SELECT * FROM __relation_0 AS r", &["kept by s.t operator 2"]),
        (
            "SELECT * FROM STREAM t WATERMARK ts DELAY OF INTERVAL 10 MINUTES AS a",
            "SELECT * FROM __relation_0 AS a",
            &["stream t watermark ts 600s"],
        ),
        (
            "SELECT * FROM v WATERMARK ts DELAY OF INTERVAL '1 hour 30 minutes' JOIN u USING (k)",
            "SELECT * FROM __relation_0 AS v JOIN u USING(k)",
            &["named v watermark ts 5400s"],
        ),
        (
            "SELECT * FROM v AS w WATERMARK w.ts DELAY OF INTERVAL '2' SECONDS",
            "SELECT * FROM __relation_0 AS w",
            &["named v watermark w.ts 2s"],
        ),
    ];
    for (text, rest, relations) in table {
        let (shown, cut) = shown(text);
        assert_eq!(&shown, rest, "{text}");
        assert_eq!(&cut, relations, "{text}");
    }
}

#[test]
fn relations_are_found_wherever_a_table_can_stand() {
    let table = [
        ("SELECT * FROM a, STREAM b, (SELECT * FROM STREAM c) d", 2),
        ("SELECT * FROM a LEFT JOIN STREAM b ON a.x = b.x CROSS JOIN json.`p`", 2),
        ("SELECT * FROM (STREAM a JOIN STREAM b ON a.x = b.x)", 2),
        ("SELECT * FROM ((SELECT * FROM STREAM a) UNION ALL (SELECT * FROM STREAM b)) u", 2),
        ("WITH c AS (SELECT * FROM STREAM a), d AS (SELECT * FROM c JOIN STREAM b USING (k)) SELECT * FROM d", 2),
        ("SELECT * FROM STREAM a UNION ALL SELECT * FROM STREAM b EXCEPT SELECT * FROM t@v1", 3),
        ("SELECT * FROM t WHERE x IN (SELECT y FROM STREAM u) AND EXISTS (SELECT 1 FROM json.`p`)", 2),
        ("SELECT (SELECT max(x) FROM delta.`p`) AS m FROM STREAM u", 2),
        ("SELECT a IS DISTINCT FROM stream, b FROM STREAM u", 1),
        ("SELECT EXTRACT(DAY FROM stream) FROM STREAM u", 1),
        ("SELECT * EXCEPT (a) FROM STREAM u", 1),
        ("SELECT x FROM STREAM u GROUP BY x HAVING count(*) > 1 ORDER BY x LIMIT 3", 1),
        ("SELECT * FROM VALUES (1, x), (2, y) AS v (a, b), STREAM t", 1),
        ("SELECT * FROM (VALUES (1), (2)) v (a) JOIN STREAM t ON true", 1),
        ("SELECT * FROM VALUES (1) v NATURAL JOIN STREAM t FULL OUTER JOIN STREAM u USING (a, b)", 2),
        ("SELECT * FROM a JOIN b ON CASE WHEN limit = 1 THEN true END JOIN STREAM c ON a.order = c.x, STREAM d", 2),
        ("SELECT * FROM a JOIN STREAM f ON true LATERAL VIEW explode(b) e AS c, d WHERE x", 1),
        ("SELECT * FROM a PIVOT (sum(x) FOR y IN ('a', 'b')) JOIN STREAM f ON true", 1),
        ("SELECT sum(a) OVER (PARTITION BY b ORDER BY c) FROM (((STREAM a JOIN b ON true))) JOIN t@v1 ON true", 2),
        ("SELECT * FROM LATERAL (SELECT * FROM STREAM u) l", 1),
        ("SELECT stream, watermark FROM t watermark WHERE stream > 1", 0),
        ("SELECT s.stream FROM s GROUP BY stream", 0),
        ("SELECT * FROM stream", 0),
        ("SELECT * FROM stream WHERE stream.a = 1", 0),
        ("SELECT * FROM stream AS s JOIN stream ON true", 0),
        ("SELECT f(a, stream, b) FROM t ORDER BY a, stream", 0),
        ("SELECT * FROM json.t", 0),
        ("SELECT a FROM range(10) r, unnest(array(1, 2)) u", 0),
        ("SELECT * FROM VALUES (1, 'a'), (2, 'b') AS v (x, y)", 0),
    ];
    for (text, count) in table {
        assert_eq!(query(text).relations.len(), count, "{text}");
    }
}

#[test]
fn what_sqlparser_must_read() {
    let table = [
        ("SELECT 7 DIV 2 + 1", "SELECT 7 DIV 2 + 1"),
        (
            "SELECT INTERVAL 10 MINUTES, INTERVAL '10 minutes', INTERVAL 1 HOUR -30 MINUTES",
            "SELECT INTERVAL '10 MINUTES', INTERVAL '10 minutes', INTERVAL '1 HOUR -30 MINUTES'",
        ),
        ("SELECT INTERVAL '10' MINUTE + x", "SELECT INTERVAL '10 MINUTE' + x"),
        (
            "SELECT interval, t.interval FROM t WHERE interval > 1",
            "SELECT `interval`, t.interval FROM t WHERE `interval` > 1",
        ),
        (
            "SELECT r'a\\d', \"it's\", 'a\\tb', 'it''s', 'a' 'b', '50\\%'",
            "SELECT 'a\\d', 'it''s', 'a\tb', 'it''s', 'ab', '50\\%'",
        ),
        ("SELECT `a b`.`c``d` FROM `x y`", "SELECT `a b`.`c``d` FROM `x y`"),
        (
            "SELECT map('a', 1), array(1, 2)[0], named_struct('a', 1).a",
            "SELECT map('a', 1), array(1, 2)[0], named_struct('a', 1).a",
        ),
        ("SELECT col:path.to.field, a:b::INT FROM t", "SELECT col:path.to.field, a:b::INT FROM t"),
        (
            "SELECT CAST(a AS LONG), b::SHORT, try_cast(c AS BYTE) FROM t",
            "SELECT CAST(a AS BIGINT), b::SMALLINT, TRY_CAST(c AS TINYINT) FROM t",
        ),
        ("SELECT CAST(a AS MAP<STRING, ARRAY<INT>>) FROM t", "SELECT CAST(a AS Map(STRING, ARRAY<INT>)) FROM t"),
        ("SELECT 1L, 1.5D, .5, 1e3, 2E-2", "SELECT 1L, CAST(1.5 AS DOUBLE), .5, 1e3, 2E-2"),
        ("SELECT * FROM 2022_orders", "SELECT * FROM 2022_orders"),
        ("SELECT transform(a, x -> x + 1) FROM t", "SELECT transform(a, x -> x + 1) FROM t"),
        (
            "SELECT count(*) FILTER (WHERE a > 1) FROM t GROUP BY ALL",
            "SELECT count(*) FILTER (WHERE a > 1) FROM t GROUP BY ALL",
        ),
        (
            "SELECT * FROM a LEFT SEMI JOIN b ON a.x = b.x LEFT ANTI JOIN c ON a.x == c.x",
            "SELECT * FROM a LEFT SEMI JOIN b ON a.x = b.x LEFT ANTI JOIN c ON a.x = c.x",
        ),
        (
            "SELECT window(ts, '10 minutes').start AS s, x FROM t GROUP BY window(ts, '10 minutes'), x",
            "SELECT window(ts, '10 minutes').start AS s, x FROM t GROUP BY window(ts, '10 minutes'), x",
        ),
        ("SELECT * FROM t LATERAL VIEW explode(a) e AS b", "SELECT * FROM t LATERAL VIEW explode(a) e AS b"),
        (
            "SELECT row_number() OVER (PARTITION BY a ORDER BY b DESC NULLS LAST) FROM t QUALIFY 1 = 1",
            "SELECT row_number() OVER (PARTITION BY a ORDER BY b DESC NULLS LAST) FROM t QUALIFY 1 = 1",
        ),
        ("VALUES (1, 2), (3, 4)", "VALUES (1, 2), (3, 4)"),
        (
            "SELECT CASE WHEN NOT a THEN 1 ELSE 2 END, !b, a <=> b FROM t",
            "SELECT CASE WHEN NOT a THEN 1 ELSE 2 END, !b, a <=> b FROM t",
        ),
        (
            "SELECT DATE '2024-01-01', TIMESTAMP '2024-01-01 00:00:00'",
            "SELECT DATE '2024-01-01', TIMESTAMP '2024-01-01 00:00:00'",
        ),
        ("SELECT größe FROM t -- end", "SELECT größe FROM t"),
        ("SELECT /* a ; */ 1", "SELECT 1"),
        (
            "SELECT a RLIKE '^x' FROM t WHERE b NOT LIKE 'c%' AND d BETWEEN 1 AND 2",
            "SELECT a RLIKE '^x' FROM t WHERE b NOT LIKE 'c%' AND d BETWEEN 1 AND 2",
        ),
        ("SELECT * FROM t TABLESAMPLE (10 PERCENT)", "SELECT * FROM t TABLESAMPLE (10 PERCENT)"),
    ];
    for (text, expected) in table {
        assert_eq!(query(text).ast.to_string(), expected, "{text}");
    }
}

#[test]
fn division_binds_like_other_division() {
    let ast = format!("{:?}", query("SELECT 7 DIV 2 + 1").ast);
    let (plus, division) = (ast.find("Plus").unwrap(), ast.find("MyIntegerDivide").unwrap());
    assert!(plus > division, "the division is inside the left side of the sum");
}

#[test]
fn query_clauses_not_carried_out_are_remembered() {
    let deduplicated = query("SELECT * FROM STREAM t WHERE x > 1 DEDUPLICATE BY (a, b) WITHIN WATERMARK");
    assert_eq!(
        deduplicated.ast.to_string(),
        "SELECT * FROM __relation_0 AS t WHERE (x > 1) AND __deduplicate(true, `a`, `b`)"
    );
    assert_eq!(deduplicated.deduplicates.iter().map(|clause| clause.span).collect::<Vec<_>>(), [span(36, 74)]);
    let without_where = query("SELECT * FROM t DEDUPLICATE BY (a)");
    assert_eq!(without_where.ast.to_string(), "SELECT * FROM t WHERE __deduplicate(false, `a`)");
    let before_group = query("SELECT a FROM t WHERE a = 1 OR b DEDUPLICATE BY (a) GROUP BY a");
    assert_eq!(
        before_group.ast.to_string(),
        "SELECT a FROM t WHERE (a = 1 OR b) AND __deduplicate(false, `a`) GROUP BY a"
    );
    let marked = query("SELECT * FROM (SELECT * FROM STREAM t) s WATERMARK ts DELAY OF INTERVAL 1 MINUTE");
    assert_eq!(marked.ast.to_string(), "SELECT * FROM (SELECT * FROM __relation_0 AS t) s");
    assert_eq!(marked.not_yet.len(), 1);
}

#[test]
fn trigger_behind_a_query() {
    let StatementKind::Query { query, available_now } = kind("SELECT * FROM STREAM t TRIGGER AVAILABLE NOW") else {
        panic!()
    };
    assert!(available_now);
    assert_eq!(query.text, "SELECT * FROM STREAM t");
    assert_eq!(query.span, span(1, 23));
    assert!(matches!(kind("SELECT * FROM STREAM t"), StatementKind::Query { available_now: false, .. }));
}

#[test]
fn spans_are_absolute() {
    let start = Place { line: 7, column: 5 };
    let statement =
        parse_statement("SELECT *\n  FROM STREAM t WATERMARK ts\n DELAY OF INTERVAL 1 MINUTE", start).unwrap();
    assert_eq!(statement.span, Span { start, end: Place { line: 9, column: 28 } });
    let StatementKind::Query { query, .. } = statement.kind else { panic!() };
    let at = |line, from, to| Span { start: Place { line, column: from }, end: Place { line, column: to } };
    assert_eq!(query.relations[0].span, at(8, 8, 16));
    let watermark = query.relations[0].watermark.as_ref().unwrap();
    assert_eq!(watermark.column.span, at(8, 27, 29));
    assert_eq!(watermark.delay, Duration::from_secs(60));
    assert_eq!(watermark.span, Span { start: Place { line: 8, column: 17 }, end: Place { line: 9, column: 28 } });
}
