//! The rules against the tables of what Spark accepts: every query that is carried out plans, every other one is
//! refused by its code.
#![allow(clippy::unwrap_used, clippy::panic)]

use alluvium_parser::{Diagnostic, OutputMode, Span};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;

use super::{plan_stream, require_static, with_epoch_timestamp};
use crate::fixtures::{bound, query, state};
use crate::plan::StreamingPlan;

fn plan(sql: &str, mode: OutputMode) -> Result<StreamingPlan, Diagnostic> {
    let state = state();
    let query = query(sql);
    plan_stream(bound(sql, &state)?, &query, (mode, Span::UNKNOWN), &state)
}

fn outcome(sql: &str, mode: OutputMode) -> &'static str {
    match plan(sql, mode) {
        Ok(_) => "ok",
        Err(refusal) => {
            assert!(refusal.span.is_known(), "{sql}: {refusal} has no place");
            assert!(!refusal.help.is_empty() || refusal.code == "NOT_SUPPORTED_YET", "{sql}: {refusal} has no way out");
            refusal.code
        }
    }
}

const E_MODE: &str = "COMPLETE_WITHOUT_AGGREGATE";
const E_APPEND: &str = "APPEND_AGGREGATE_WITHOUT_WATERMARK";

/// Query, outcome in APPEND, outcome in COMPLETE.
const TABLE: &[(&str, &str, &str)] = &[
    ("SELECT * FROM STREAM s WHERE v > 1", "ok", E_MODE),
    ("SELECT * FROM STREAM s ORDER BY id", "STREAMING_SORT", E_MODE),
    ("SELECT k, count(*) c FROM STREAM s GROUP BY k", E_APPEND, "ok"),
    ("SELECT k, count(*) c FROM STREAM s GROUP BY k ORDER BY c", E_APPEND, "ok"),
    ("SELECT * FROM STREAM s LIMIT 5", "ok", E_MODE),
    ("SELECT k FROM (SELECT * FROM STREAM s LIMIT 5) WHERE v > 1", "ok", E_MODE),
    ("SELECT * FROM STREAM s JOIN STREAM s2 ON id = id2 LIMIT 5", "ok", E_MODE),
    ("SELECT * FROM STREAM s LIMIT 5 OFFSET 2", "STREAMING_OFFSET", E_MODE),
    ("SELECT k, count(*) FROM (SELECT * FROM STREAM s LIMIT 5) GROUP BY k", E_APPEND, "STREAMING_LIMIT"),
    ("SELECT * FROM (SELECT * FROM STREAM s LIMIT 5) JOIN STREAM s2 ON id = id2", "STREAMING_LIMIT", E_MODE),
    ("SELECT * FROM (SELECT * FROM STREAM s LIMIT 5) DEDUPLICATE BY (k)", "STREAMING_LIMIT", E_MODE),
    ("SELECT * FROM STREAM s OFFSET 2", "STREAMING_OFFSET", E_MODE),
    ("SELECT DISTINCT k FROM STREAM s", "STREAMING_DISTINCT", "ok"),
    ("SELECT DISTINCT ts, k FROM STREAM s WATERMARK ts DELAY OF INTERVAL 1 MINUTE", "ok", "ok"),
    ("SELECT DISTINCT k FROM STREAM s WATERMARK ts DELAY OF INTERVAL 1 MINUTE", "STREAMING_DISTINCT", "ok"),
    (
        "SELECT window(ts, '1 minute') w, count(*) FROM STREAM s WATERMARK ts DELAY OF INTERVAL 1 MINUTE GROUP BY 1",
        "ok",
        "ok",
    ),
    ("SELECT ts, count(*) FROM STREAM s WATERMARK ts DELAY OF INTERVAL 1 MINUTE GROUP BY ts", "ok", "ok"),
    ("SELECT window(ts, '1 minute') w, count(*) FROM STREAM s GROUP BY 1", E_APPEND, "ok"),
    ("SELECT k, count(*) FROM STREAM s WATERMARK ts DELAY OF INTERVAL 1 MINUTE GROUP BY k", E_APPEND, "ok"),
    (
        "SELECT k, date_trunc('minute', ts) m, count(*) FROM STREAM s WATERMARK ts DELAY OF INTERVAL 1 MINUTE GROUP BY 1, 2",
        E_APPEND,
        "ok",
    ),
    (
        "SELECT w.start, sum(c) FROM (SELECT window(ts, '1 minute') w, k, count(*) c \
         FROM STREAM s WATERMARK ts DELAY OF INTERVAL 1 MINUTE GROUP BY 1, 2) GROUP BY w",
        "ok",
        "STREAMING_CHAINED_AGGREGATES",
    ),
    (
        "SELECT window(window_time(w), '1 hour') h, sum(c) FROM (SELECT window(ts, '1 minute') w, k, count(*) c \
         FROM STREAM s WATERMARK ts DELAY OF INTERVAL 1 MINUTE GROUP BY 1, 2) GROUP BY 1",
        "ok",
        "STREAMING_CHAINED_AGGREGATES",
    ),
    (
        "SELECT window(w, '1 hour') h, sum(c) FROM (SELECT window(ts, '1 minute', '30 seconds') w, count(*) c \
         FROM STREAM s WATERMARK ts DELAY OF INTERVAL 1 MINUTE GROUP BY 1) GROUP BY 1",
        "ok",
        "STREAMING_CHAINED_AGGREGATES",
    ),
    (
        "SELECT window.end, bv, count(*) FROM STREAM s WATERMARK ts DELAY OF INTERVAL 1 MINUTE JOIN b ON k = bk \
         GROUP BY window(ts, '1 minute'), bv",
        "ok",
        "ok",
    ),
    (
        "SELECT window(t, '1 minute'), count(*) FROM (SELECT ts AS t FROM STREAM s WATERMARK ts DELAY OF INTERVAL 1 MINUTE \
         UNION ALL SELECT ts2 FROM STREAM s2 WATERMARK ts2 DELAY OF INTERVAL 1 MINUTE) GROUP BY 1",
        "ok",
        "ok",
    ),
    (
        "SELECT window(t, '1 minute'), count(*) FROM (SELECT ts AS t FROM STREAM s WATERMARK ts DELAY OF INTERVAL 1 MINUTE \
         UNION ALL SELECT ts2 FROM STREAM s2) GROUP BY 1",
        E_APPEND,
        "ok",
    ),
    (
        "SELECT window(ts, '1 minute') w, count(*) c FROM STREAM s WATERMARK ts DELAY OF INTERVAL 1 MINUTE GROUP BY 1 ORDER BY c",
        "STREAMING_SORT",
        "ok",
    ),
    (
        "SELECT * FROM STREAM s WATERMARK ts DELAY OF INTERVAL 1 MINUTE DEDUPLICATE BY (k) WITHIN WATERMARK",
        "ok",
        E_MODE,
    ),
    ("SELECT * FROM STREAM s DEDUPLICATE BY (k)", "ok", E_MODE),
    ("SELECT k, count(*) FROM STREAM s DEDUPLICATE BY (id) GROUP BY k", E_APPEND, "ok"),
    ("SELECT * FROM STREAM s DEDUPLICATE BY (k) WITHIN WATERMARK", "WITHIN_WATERMARK_WITHOUT_WATERMARK", E_MODE),
    (
        "SELECT session_window(ts, '1 minute') w, k, count(*) FROM STREAM s WATERMARK ts DELAY OF INTERVAL 1 MINUTE GROUP BY 1, 2",
        "ok",
        "ok",
    ),
    (
        "SELECT session_window(ts, '1 minute') w, count(*) FROM STREAM s WATERMARK ts DELAY OF INTERVAL 1 MINUTE GROUP BY 1",
        "ok",
        "ok",
    ),
    ("SELECT session_window(ts, '1 minute') w, k, count(*) FROM STREAM s GROUP BY 1, 2", E_APPEND, "ok"),
    ("SELECT k, count(DISTINCT v) FROM STREAM s GROUP BY k", E_APPEND, "ok"),
    (
        "SELECT window(ts, '1 minute') w, count(DISTINCT k) FROM STREAM s WATERMARK ts DELAY OF INTERVAL 1 MINUTE GROUP BY 1",
        "ok",
        "ok",
    ),
    ("SELECT k, approx_count_distinct(v) FROM STREAM s GROUP BY k", E_APPEND, "ok"),
    ("SELECT k, date_trunc('minute', ts) m, count(*) FROM STREAM s GROUP BY 1, 2", E_APPEND, "ok"),
    ("SELECT *, row_number() OVER (PARTITION BY k ORDER BY ts) rn FROM STREAM s", "STREAMING_WINDOW_FUNCTION", E_MODE),
    ("SELECT k, v, count(*) FROM STREAM s GROUP BY CUBE(k, v)", E_APPEND, "ok"),
    ("SELECT k, count(*) FROM STREAM s GROUP BY GROUPING SETS((k), ())", E_APPEND, "ok"),
    (
        "SELECT w, k, count(*) FROM (SELECT window(ts, '1 minute') w, k \
         FROM STREAM s WATERMARK ts DELAY OF INTERVAL 1 MINUTE) GROUP BY GROUPING SETS ((w, k), (w))",
        "ok",
        "ok",
    ),
    (
        "SELECT w, k, count(*) FROM (SELECT window(ts, '1 minute') w, k \
         FROM STREAM s WATERMARK ts DELAY OF INTERVAL 1 MINUTE) GROUP BY ROLLUP (w, k)",
        E_APPEND,
        "ok",
    ),
    ("SELECT count(*) FROM STREAM s", E_APPEND, "ok"),
    ("SELECT * FROM STREAM s JOIN b ON k = bk", "ok", E_MODE),
    ("SELECT * FROM STREAM s LEFT JOIN b ON k = bk", "ok", E_MODE),
    ("SELECT * FROM STREAM s RIGHT JOIN b ON k = bk", "STREAMING_JOIN_SIDE", E_MODE),
    ("SELECT * FROM STREAM s FULL JOIN b ON k = bk", "STREAMING_JOIN_SIDE", E_MODE),
    ("SELECT * FROM b LEFT JOIN STREAM s ON k = bk", "STREAMING_JOIN_SIDE", E_MODE),
    ("SELECT * FROM b JOIN STREAM s ON k = bk", "ok", E_MODE),
    ("SELECT * FROM b RIGHT JOIN STREAM s ON k = bk", "ok", E_MODE),
    ("SELECT * FROM STREAM s LEFT SEMI JOIN b ON k = bk", "ok", E_MODE),
    ("SELECT * FROM STREAM s LEFT ANTI JOIN b ON k = bk", "ok", E_MODE),
    ("SELECT * FROM b LEFT ANTI JOIN STREAM s ON k = bk", "STREAMING_JOIN_SIDE", E_MODE),
    ("SELECT * FROM b LEFT SEMI JOIN STREAM s ON k = bk", "STREAMING_JOIN_SIDE", E_MODE),
    ("SELECT * FROM STREAM s CROSS JOIN b", "ok", E_MODE),
    ("SELECT * FROM STREAM s JOIN STREAM s2 ON id = id2", "ok", E_MODE),
    ("SELECT * FROM STREAM s, STREAM s2 WHERE id = id2 AND v > 1", "ok", E_MODE),
    ("SELECT * FROM STREAM s CROSS JOIN STREAM s2", "STREAM_STREAM_JOIN_KEYS", E_MODE),
    ("SELECT * FROM STREAM s JOIN STREAM s2 ON id < id2", "STREAM_STREAM_JOIN_KEYS", E_MODE),
    ("SELECT k, count(*) FROM STREAM s JOIN STREAM s2 ON id = id2 GROUP BY k", E_APPEND, "ok"),
    ("SELECT k, count(*) FROM STREAM s LEFT JOIN STREAM s2 ON id = id2 GROUP BY k", E_APPEND, "STREAM_STREAM_JOIN"),
    (
        "SELECT * FROM (SELECT k, count(*) FROM STREAM s GROUP BY k) a JOIN STREAM s2 ON k = k2",
        E_APPEND,
        "STREAM_STREAM_JOIN",
    ),
    ("SELECT k FROM STREAM s UNION ALL SELECT k2 FROM STREAM s2", "ok", E_MODE),
    ("SELECT k FROM STREAM s UNION ALL SELECT bk FROM b", "STREAMING_UNION", E_MODE),
    ("SELECT k FROM STREAM s EXCEPT SELECT bk FROM b", "STREAMING_SET_OPERATION", "STREAMING_SET_OPERATION"),
    ("SELECT bk FROM b EXCEPT SELECT k FROM STREAM s", "STREAMING_SET_OPERATION", "COMPLETE_WITHOUT_AGGREGATE"),
    ("SELECT k FROM STREAM s INTERSECT SELECT bk FROM b", "STREAMING_SET_OPERATION", "STREAMING_SET_OPERATION"),
    ("SELECT k FROM STREAM s UNION SELECT k2 FROM STREAM s2", "STREAMING_DISTINCT", "ok"),
    ("SELECT * FROM STREAM s WHERE k IN (SELECT bk FROM b)", "ok", E_MODE),
    ("SELECT * FROM STREAM s WHERE k NOT IN (SELECT bk FROM b)", "ok", E_MODE),
    ("SELECT * FROM STREAM s WHERE EXISTS (SELECT 1 FROM b WHERE bk = k)", "ok", E_MODE),
    ("SELECT *, (SELECT max(bk) FROM b) m FROM STREAM s", "ok", E_MODE),
    ("SELECT * FROM b WHERE bk IN (SELECT k FROM STREAM s)", "STREAMING_SUBQUERY", "STREAMING_SUBQUERY"),
    ("SELECT *, (SELECT max(k2) FROM STREAM s2) m FROM STREAM s", "STREAMING_SUBQUERY", "STREAMING_SUBQUERY"),
    ("SELECT * FROM STREAM s TABLESAMPLE (10 PERCENT)", "NOT_SUPPORTED_YET", "NOT_SUPPORTED_YET"),
    ("SELECT monotonically_increasing_id() i, * FROM STREAM s", "STREAMING_EXPRESSION", "STREAMING_EXPRESSION"),
    ("SELECT current_timestamp() t, uuid() u, * FROM STREAM s", "ok", E_MODE),
    ("SELECT explode(array(1, 2)) e FROM STREAM s", "ok", E_MODE),
    (
        "SELECT m, sum(c) FROM (SELECT date_trunc('DD', ts) m, k, count(*) c FROM STREAM s GROUP BY 1, 2) GROUP BY m",
        E_APPEND,
        "STREAMING_CHAINED_AGGREGATES",
    ),
    ("SELECT k, collect_list(v), first(v), last(v) FROM STREAM s GROUP BY k", E_APPEND, "ok"),
    ("SELECT k, median(v), stddev(v), min(v), max(ts), avg(v) FROM STREAM s GROUP BY k", E_APPEND, "ok"),
    ("SELECT k, count(*) FROM STREAM s GROUP BY k HAVING count(*) > 1", E_APPEND, "ok"),
    ("SELECT k, count(*) c FROM STREAM s GROUP BY k LIMIT 2", E_APPEND, "ok"),
    ("SELECT k, count(*) c FROM STREAM s GROUP BY k ORDER BY c DESC LIMIT 2 OFFSET 1", E_APPEND, "ok"),
    ("WITH a AS (SELECT * FROM STREAM s) SELECT a.id, x.id AS other FROM a JOIN a x ON a.id = x.id", "ok", E_MODE),
    ("SELECT k, sum(v) * 2 AS twice, count_if(v > 1) FROM STREAM s GROUP BY k", E_APPEND, "ok"),
    ("SELECT k, count(*) FROM STREAM s JOIN b ON k = bk WHERE bv > 1 GROUP BY k", E_APPEND, "ok"),
    ("SELECT a.k, b.bv FROM (SELECT k, count(*) c FROM STREAM s GROUP BY k) a JOIN b ON a.k = b.bk", E_APPEND, "ok"),
    (
        "SELECT k, count(*) c FROM (SELECT k FROM STREAM s UNION ALL SELECT k2 FROM STREAM s2) GROUP BY k",
        E_APPEND,
        "ok",
    ),
    (
        "SELECT k, count(*) c FROM STREAM s GROUP BY k UNION ALL SELECT k2, count(*) FROM STREAM s2 GROUP BY k2",
        E_APPEND,
        "ok",
    ),
    ("SELECT k, count(*) c FROM STREAM s GROUP BY k UNION ALL SELECT k2, id2 FROM STREAM s2", E_APPEND, E_MODE),
    ("SELECT k, count(*) c FROM (SELECT * FROM STREAM s ORDER BY id) GROUP BY k", E_APPEND, "STREAMING_SORT"),
    ("SELECT * FROM sv WHERE v > 1", "ok", E_MODE),
    ("SELECT * FROM sorted", "STREAMING_SORT", E_MODE),
    ("SELECT * FROM sv ORDER BY id", "STREAMING_SORT", E_MODE),
    ("SELECT * FROM b", "STATIC_WHERE_STREAM_NEEDED", "STATIC_WHERE_STREAM_NEEDED"),
    ("SELECT 1", "STATIC_WHERE_STREAM_NEEDED", "STATIC_WHERE_STREAM_NEEDED"),
    (
        "WITH RECURSIVE r AS (SELECT id FROM STREAM s UNION ALL SELECT id + 1 FROM r WHERE id < 3) SELECT * FROM r",
        "STREAMING_RECURSIVE_CTE",
        E_MODE,
    ),
    ("SELECT k FROM STREAM s WHERE false", "ok", E_MODE),
    ("SELECT k, input_file_name() FROM STREAM s", "NO_FILE_RELATION", "NO_FILE_RELATION"),
    ("SELECT * FROM cloud_files('in', 'json')", "ok", E_MODE),
    (
        "SELECT *, current_timestamp() AS arrival_time, input_file_name() AS source_file FROM cloud_files('in', 'json')",
        "ok",
        E_MODE,
    ),
    (
        "SELECT id, o.k, b.bk:name AS n, CAST(from_unixtime(id, 'yyyy-MM-dd HH:mm:ss') AS TIMESTAMP) AS at \
         FROM STREAM s o INNER JOIN b ON o.k = b.bk WHERE v > 0",
        "ok",
        E_MODE,
    ),
    (
        "SELECT id, date_trunc(\"DD\", ts) AS day, sum(v) AS total FROM STREAM s GROUP BY id, date_trunc(\"DD\", ts)",
        E_APPEND,
        "ok",
    ),
];

#[test]
fn outcomes_per_output_mode() {
    let mut wrong = Vec::new();
    for (sql, append, complete) in TABLE {
        for (mode, expected) in [(OutputMode::Append, append), (OutputMode::Complete, complete)] {
            let found = outcome(sql, mode);
            if found != *expected {
                let why = plan(sql, mode).err().map(|refusal| refusal.to_string());
                wrong.push(format!("{mode:?} {sql}: expected {expected}, found {found} {why:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn refusals_point_at_the_clause() {
    let place = |sql: &str, mode| {
        let span = plan(sql, mode).unwrap_err().span;
        (span.start.line, span.start.column, span.end.column)
    };
    use OutputMode::Append;
    assert_eq!(place("SELECT *\nFROM sv\nORDER BY id", Append), (3, 1, 12));
    assert_eq!(place("SELECT *\nFROM STREAM s LIMIT 5 OFFSET 1", Append), (2, 23, 31));
    assert_eq!(place("SELECT k, count(*) FROM STREAM s\nGROUP BY k", Append), (2, 1, 11));
    assert_eq!(place("SELECT *\nFROM b LEFT JOIN STREAM s ON k = bk", Append), (2, 8, 26));
    assert_eq!(place("SELECT * FROM b", Append), (1, 15, 16));
    assert_eq!(place("SELECT DISTINCT k FROM STREAM s", Append), (1, 8, 16));
}

#[test]
fn static_statements_refuse_streams() {
    let state = state();
    for sql in ["SELECT * FROM STREAM s", "SELECT * FROM sv", "SELECT * FROM b WHERE bk IN (SELECT k FROM sv)"] {
        let refusal = require_static(&bound(sql, &state).unwrap(), &query(sql), "INSERT").unwrap_err();
        assert_eq!(refusal.code, "STREAM_IN_STATIC_QUERY");
        assert!(refusal.span.is_known());
    }
    let sql = "SELECT * FROM b";
    assert!(require_static(&bound(sql, &state).unwrap(), &query(sql), "INSERT").is_ok());
}

fn scan_columns(plan: &LogicalPlan) -> Vec<String> {
    let mut columns = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            columns.extend(scan.projected_schema.fields().iter().map(|field| field.name().clone()));
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .unwrap();
    columns
}

#[test]
fn scans_below_state_read_only_what_is_needed() {
    let plan = plan("SELECT k, sum(v) FROM STREAM s WHERE id > 1 GROUP BY k", OutputMode::Complete).unwrap();
    assert_eq!(scan_columns(&plan.plan), ["id", "k", "v"]);
    assert_eq!(plan.schema.field(1).name(), "sum(v)");
}

#[test]
fn the_clock_is_a_call_until_the_epoch_sets_it() {
    let sql = "SELECT current_timestamp() AS t, now() AS n, current_date() AS d, k FROM STREAM s";
    let plan = plan(sql, OutputMode::Append).unwrap();
    let before = plan.plan.display_indent().to_string();
    assert!(before.contains("current_timestamp()") && before.contains("current_date()"), "{before}");
    let at = with_epoch_timestamp(plan.plan.clone(), 1_657_646_037_000).unwrap();
    let text = at.display_indent().to_string();
    assert!(text.contains("1657646037000000") && !text.contains("current_timestamp()"), "{text}");
    assert!(text.contains("2022-07-12"), "{text}");
    assert_eq!(at.schema().as_arrow(), plan.plan.schema().as_arrow());
}

#[test]
fn fingerprints_follow_state_and_not_spelling() {
    let of = |sql: &str| plan(sql, OutputMode::Complete).unwrap().fingerprint;
    let first = of("SELECT k, sum(v) FROM STREAM s GROUP BY k");
    assert_eq!(first, of("SELECT x.K AS key, sum(x.v) + 1 AS t FROM STREAM s AS x GROUP BY x.k"));
    assert_ne!(first, of("SELECT k, sum(id) FROM STREAM s GROUP BY k"));
    assert_ne!(first, of("SELECT id, sum(v) FROM STREAM s GROUP BY id"));
    assert_ne!(first, of("SELECT k2, sum(v2) FROM STREAM s2 GROUP BY k2"));
    assert_eq!(first, "table STREAM s; aggregate keys=[k STRING] values=[sum(v) BIGINT]");
}

#[test]
fn distinct_arguments_have_state_of_their_own() {
    let sql = "SELECT k, count(DISTINCT v) AS c, sum(DISTINCT v) AS s, count(DISTINCT id) FILTER (WHERE v > 1) AS f, \
               max(DISTINCT v) AS m, count(*) AS n FROM STREAM s GROUP BY k";
    let plan = plan(sql, OutputMode::Complete).unwrap();
    let kinds: Vec<_> = plan.operators.iter().map(|operator| (operator.kind, operator.keys.join(", "))).collect();
    let expected = [("distinct values", "k, v"), ("distinct values", "k, id"), ("aggregate", "k")];
    assert_eq!(kinds, expected.map(|(kind, keys)| (kind, keys.to_string())), "count and sum of v share theirs");
    assert!(plan.operators[2].unbounded.is_empty());
    let text = plan.to_string();
    assert!(text.contains("keeps per key: count(DISTINCT v), sum(DISTINCT v)"), "{text}");
    assert!(text.contains("Stateful distinct values 1 keys [k, id], where v > 1"), "{text}");
    assert_eq!(scan_columns(&plan.plan), ["id", "k", "v"]);
}

#[test]
fn grouping_sets_are_rows_below_one_grouping() {
    let sql = "SELECT k, id, grouping(k) AS g, count(*) AS n FROM STREAM s GROUP BY ROLLUP (k, id)";
    let plan = plan(sql, OutputMode::Complete).unwrap();
    let text = plan.to_string();
    assert!(text.contains("Grouping sets (), (k), (k, id)"), "{text}");
    assert!(text.contains("keys: k, id, grouping_id()"), "{text}");
    assert_eq!(scan_columns(&plan.plan), ["id", "k"]);
}

#[test]
fn explain_names_watermark_and_what_it_ends() {
    let sql = "SELECT window.start, k, sum(v) FROM STREAM s WATERMARK ts DELAY OF INTERVAL 90 MINUTES GROUP BY window(ts, '1 hour'), k";
    let text = plan(sql, OutputMode::Append).unwrap().to_string();
    for line in [
        "  legal output modes: APPEND, COMPLETE, UPDATE",
        "  watermark: 90 minutes behind the greatest ts",
        "     keys: window(ts, '1 hour'), k",
        "     bounded by: the watermark: window(ts, '1 hour') is over",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let of = |sql: &str| plan(sql, OutputMode::Append).unwrap().fingerprint;
    assert_ne!(of(sql), of(&sql.replace("'1 hour'", "'2 hours'")), "state of other windows does not fit");
    assert_eq!(of(sql), of(&sql.replace("90 MINUTES", "1 MINUTE")), "the delay may change");
    assert_ne!(of(sql), plan(sql, OutputMode::Complete).unwrap().fingerprint, "what came out is gone");
}

#[test]
fn explain_shows_sources_state_and_plan() {
    let sql = "SELECT k, sum(v) AS total, collect_list(v) AS all_of FROM STREAM s JOIN b ON k = bk WHERE v > 1 GROUP BY k ORDER BY total";
    let text = plan(sql, OutputMode::Complete).unwrap().to_string();
    let expected = "\
Streaming query
  output mode: COMPLETE (each epoch replaces the table by the whole result)
  legal output modes: COMPLETE
  watermark: none
Sources
  0: STREAM s: the table's rows, then what is added, at most 1000 files an epoch
Stateful operators
  0: aggregate
     keys: k
     keeps per key: sum(v), collect_list(v)
     why: results go on across epochs
     bounded by: number of distinct keys
     grows with the input: collect_list(v)
Plan, each epoch
";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains("Stateful aggregate 0 keys [k]"), "{text}");
    assert!(text.contains("Stream STREAM s [k, v]"), "{text}");
    assert!(text.contains("Static b [bk], read anew each epoch"), "{text}");
    assert!(!text.contains("__relation_"), "{text}");
}

/// Two streams with watermarks of a minute.
const TWO: [&str; 2] = [
    "STREAM s WATERMARK ts DELAY OF INTERVAL 1 MINUTE AS l",
    "STREAM s2 WATERMARK ts2 DELAY OF INTERVAL 1 MINUTE AS r",
];

/// A join of the two with these conditions, what its rows are kept for as EXPLAIN tells it, or the code of the refusal.
fn joined(kind: &str, on: &str, [left, right]: [&str; 2]) -> Result<String, (&'static str, String)> {
    let columns = if kind.contains("SEMI") || kind.contains("ANTI") { "l.id" } else { "l.id, r.id2" };
    let sql = format!("SELECT {columns} FROM {left} {kind} JOIN {right} ON {on}");
    let plan = plan(&sql, OutputMode::Append).map_err(|refusal| (refusal.code, refusal.message.clone()))?;
    Ok(plan.operators[0].bounded_by.clone())
}

#[test]
fn what_bounds_a_join_of_streams() {
    let past = |left: &str, right: &str| {
        Ok(format!("left side: the watermark: {left} is past; right side: the watermark: {right} is past"))
    };
    let inner = |on: &str| joined("INNER", &format!("l.id = r.id2 AND {on}"), TWO);
    let hour = past("l.ts + 1 hour", "r.ts2 + 2 hours");
    assert_eq!(inner("r.ts2 <= l.ts + INTERVAL 1 HOUR AND r.ts2 >= l.ts - INTERVAL 2 HOURS"), hour);
    assert_eq!(inner("l.ts + INTERVAL 60 MINUTES >= r.ts2 AND l.ts <= r.ts2 + INTERVAL 2 HOURS"), hour);
    assert_eq!(inner("r.ts2 BETWEEN l.ts - INTERVAL 2 HOURS AND l.ts + INTERVAL 1 HOUR"), hour);
    assert_eq!(inner("l.ts BETWEEN r.ts2 - INTERVAL 1 HOUR AND r.ts2 + INTERVAL 2 HOURS"), hour);
    assert_eq!(inner("r.ts2 < l.ts + INTERVAL 1 HOUR AND l.ts < r.ts2 + INTERVAL 2 HOURS"), hour);
    assert_eq!(inner("r.ts2 - INTERVAL 1 HOUR <= l.ts AND l.ts - INTERVAL 2 HOURS <= r.ts2"), hour);
    assert_eq!(
        inner(
            "r.ts2 <= l.ts + INTERVAL 1 HOUR AND r.ts2 <= l.ts + INTERVAL 1 DAY AND r.ts2 >= l.ts - INTERVAL 2 HOURS"
        ),
        hour
    );
    assert_eq!(inner("l.ts = r.ts2"), past("l.ts", "r.ts2"));
    assert_eq!(inner("r.ts2 BETWEEN l.ts AND l.ts + INTERVAL 1 DAY"), past("l.ts + 1 day", "r.ts2"));
    assert_eq!(
        inner("r.ts2 BETWEEN l.ts - INTERVAL 2 HOURS AND l.ts - INTERVAL 1 HOUR"),
        past("l.ts - 1 hour", "r.ts2 + 2 hours")
    );
    let windows = inner("window(l.ts, '5 minutes') = window(r.ts2, '5 minutes')").unwrap();
    assert!(windows.starts_with("left side: the watermark: window(l.ts"), "{windows}");
    let where_bounds = "SELECT l.id FROM STREAM s WATERMARK ts DELAY OF INTERVAL 1 MINUTE AS l, \
        STREAM s2 WATERMARK ts2 DELAY OF INTERVAL 1 MINUTE AS r \
        WHERE l.id = r.id2 AND r.ts2 BETWEEN l.ts - INTERVAL 2 HOURS AND l.ts + INTERVAL 1 HOUR AND v2 > 1";
    assert_eq!(plan(where_bounds, OutputMode::Append).unwrap().operators[0].bounded_by, hour.unwrap());

    let left_only = "left side: the watermark: l.ts + 1 hour is past; right side: nothing: no condition says until when a row of the left side matches";
    assert_eq!(inner("r.ts2 <= l.ts + INTERVAL 1 HOUR"), Ok(left_only.to_string()));
    let nothing = "left side: nothing: no condition says until when a row of the right side matches; \
        right side: nothing: no condition says until when a row of the left side matches";
    assert_eq!(inner("l.v = r.v2"), Ok(nothing.to_string()));
    assert_eq!(inner("r.ts2 <= l.ts + INTERVAL 1 MONTH AND r.ts2 >= l.ts - INTERVAL 1 YEAR"), Ok(nothing.to_string()));
    assert_eq!(inner("r.ts2 NOT BETWEEN l.ts AND l.ts + INTERVAL 1 DAY"), Ok(nothing.to_string()));
    let one_watermark = joined("INNER", "l.id = r.id2 AND l.ts = r.ts2", ["STREAM s AS l", TWO[1]]);
    assert_eq!(
        one_watermark,
        Ok("left side: the watermark: l.ts is past; right side: nothing: the left side has no WATERMARK".to_string())
    );
}

#[test]
fn joins_that_wait_need_watermarks_and_bounds() {
    let both = "l.id = r.id2 AND r.ts2 BETWEEN l.ts - INTERVAL 2 HOURS AND l.ts + INTERVAL 1 HOUR";
    let code = |kind: &str, on: &str, sides| joined(kind, on, sides).map_err(|(code, _)| code).err();
    for kind in ["LEFT", "RIGHT", "FULL", "LEFT SEMI", "LEFT ANTI"] {
        assert_eq!(code(kind, both, TWO), None, "{kind}");
        assert_eq!(code(kind, "l.id = r.id2 AND l.ts = r.ts2", TWO), None, "{kind}");
        let bound = Some("STREAM_STREAM_JOIN_BOUND");
        assert_eq!(code(kind, "l.id = r.id2", TWO), bound, "{kind}");
        assert_eq!(code(kind, both, ["STREAM s AS l", TWO[1]]), bound, "{kind}");
        assert_eq!(code(kind, both, [TWO[0], "STREAM s2 AS r"]), bound, "{kind}");
        assert_eq!(code(kind, "l.ts = r.ts2 + INTERVAL 1 HOUR", TWO), None, "an equality of times is a key: {kind}");
    }
    let upper = "l.id = r.id2 AND r.ts2 <= l.ts + INTERVAL 1 HOUR";
    assert_eq!(code("LEFT", upper, TWO), None, "rows of the right side are kept for ever");
    for kind in ["RIGHT", "FULL"] {
        let (_, message) = joined(kind, upper, TWO).unwrap_err();
        assert!(message.contains("how much later than r.ts2 a matching l.ts may be"), "{message}");
    }
    let (_, message) = joined("LEFT", both, [TWO[0], "STREAM s2 AS r"]).unwrap_err();
    assert!(message.contains("its right side has no watermark"), "{message}");
}

#[test]
fn an_epoch_runs_for_the_watermark_where_it_ends_something() {
    let acts = |on: &str, mode| {
        let [left, right] = TWO;
        let sql = format!("SELECT k, count(*) FROM {left} JOIN {right} ON l.id = r.id2{on} GROUP BY k");
        let sql =
            if mode == OutputMode::Append { sql.replace("k, count(*)", "k").replace(" GROUP BY k", "") } else { sql };
        plan(&sql, mode).unwrap().acts_on_watermark()
    };
    assert!(acts(" AND l.ts = r.ts2", OutputMode::Append));
    assert!(acts(" AND r.ts2 <= l.ts + INTERVAL 1 HOUR", OutputMode::Append));
    assert!(!acts("", OutputMode::Append), "rows are kept for ever");
    assert!(!acts(" AND l.ts = r.ts2", OutputMode::Complete));
}

/// What a join gives out stays behind the watermark by as long as it may hold a row.
#[test]
fn event_time_behind_a_join_of_streams() {
    let windows = |by: &str, on: &str| {
        let [left, right] = TWO;
        let sql = format!(
            "SELECT window.end, count(*) FROM {left} JOIN {right} ON l.id = r.id2 AND {on} GROUP BY window({by}, '1 hour')"
        );
        match plan(&sql, OutputMode::Append) {
            Ok(plan) => {
                let mut lag_us = None;
                plan.plan
                    .apply_with_subqueries(|node| {
                        if let LogicalPlan::Extension(extension) = node
                            && let Some(node) =
                                extension.node.as_any().downcast_ref::<crate::node::StreamAggregateNode>()
                        {
                            lag_us = node.time.map(|_| node.lag_us);
                        }
                        Ok(TreeNodeRecursion::Continue)
                    })
                    .unwrap();
                lag_us.map(|lag_us| lag_us / 60_000_000).ok_or("no time")
            }
            Err(refusal) => Err(refusal.code),
        }
    };
    let both = "r.ts2 BETWEEN l.ts - INTERVAL 2 HOURS AND l.ts + INTERVAL 1 HOUR";
    assert_eq!(windows("l.ts", both), Ok(60));
    assert_eq!(windows("r.ts2", both), Ok(120));
    assert_eq!(windows("l.ts", "l.ts = r.ts2"), Ok(0));
    assert_eq!(windows("r.ts2", "r.ts2 >= l.ts + INTERVAL 1 HOUR AND r.ts2 <= l.ts + INTERVAL 2 HOURS"), Ok(0));
    assert_eq!(windows("l.ts", "window(l.ts, '5 minutes') = window(r.ts2, '5 minutes')"), Ok(5));
    assert_eq!(windows("l.ts", "r.ts2 <= l.ts + INTERVAL 1 HOUR"), Ok(60));
    // Rows of the right side are kept for ever here: one of any age may come out.
    assert_eq!(windows("r.ts2", "r.ts2 <= l.ts + INTERVAL 1 HOUR"), Err(E_APPEND));
    assert_eq!(windows("l.ts", "l.v = r.v2"), Err(E_APPEND));
}
