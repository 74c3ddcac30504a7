//! A random query, and the queries that need no event time. How the others look is in `event_time.rs`, `sessions.rs` and
//! `joins.rs`.

use std::fmt::Write as _;

use super::event_time::{self, Marks};
use super::oracle::Expected;
use super::{joins, sessions};
use crate::state::tests::Random;

/// A query and what its table must be. Both texts come of one template: in it, what stands in `<<…>>` is for the stream
/// only, and what stands in `[[…]]` for the oracle.
pub struct Query {
    pub kind: &'static str,
    /// What the stream runs; `STREAM one` is a relation.
    pub stream: String,
    /// What the oracle asks. It reads the same rows with a column `arrival`, the watermark (seconds) by which they may have
    /// been late; `:until` is the watermark now.
    pub oracle: String,
    pub mode: &'static str,
    /// Clauses of the table.
    pub properties: String,
    /// The WATERMARKs of the query.
    pub marks: Marks,
    /// Whether an epoch runs for the watermark alone.
    pub acts: bool,
    pub expected: Expected,
}

impl Query {
    /// A query whose table is what the oracle's query gives.
    pub fn of(kind: &'static str, mode: &'static str, template: &str) -> Query {
        Query {
            kind,
            stream: for_stream(template),
            oracle: for_oracle(template),
            mode,
            properties: String::new(),
            marks: Marks::default(),
            acts: mode != "COMPLETE",
            expected: Expected::Same,
        }
    }

    pub fn any(random: &mut Random) -> Query {
        match random.below(24) {
            0 | 1 => stateless(random),
            2 => limited(random),
            3..6 => distinct(random),
            6..10 => grouped(random),
            10..14 => event_time::windows(random),
            14 => event_time::instants(random),
            15 => event_time::windows_of_windows(random),
            16 => event_time::distinct(random),
            17 => event_time::within_watermark(random),
            18 | 19 => sessions::sessions(random),
            20..23 => joins::joined(random),
            _ => joins::above_a_join(random),
        }
    }
}

/// What of a template is for the stream.
pub fn for_stream(template: &str) -> String {
    without(template, ("[[", "]]")).replace("<<", "").replace(">>", "")
}

/// What of a template is for the oracle.
pub fn for_oracle(template: &str) -> String {
    without(template, ("<<", ">>")).replace("[[", "").replace("]]", "")
}

fn without(template: &str, (begin, end): (&str, &str)) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once(begin) {
        text.push_str(before);
        rest = behind.split_once(end).unwrap().1;
    }
    text + rest
}

pub fn one_of<'a>(random: &mut Random, of: &[&'a str]) -> &'a str {
    of[random.below(of.len())]
}

pub fn condition(random: &mut Random) -> String {
    let number = random.below(6) as i64 - 2;
    let simple = match random.below(9) {
        0 => format!("v > {number}"),
        1 => "k IS NOT NULL".to_string(),
        2 => format!("j = {number}"),
        3 => "b".to_string(),
        4 => format!("x <= {number}.5"),
        5 => "k IN ('a', 'b', 'é')".to_string(),
        6 => format!("v % 2 = {}", number.rem_euclid(2)),
        7 => "d IS NULL OR d < 2.50".to_string(),
        _ => "k LIKE '%a%' OR v IS NULL".to_string(),
    };
    match random.below(4) {
        0 => format!("({simple}) AND (j IS NULL OR j <> 3)"),
        1 => format!("NOT ({simple})"),
        _ => simple,
    }
}

/// ` WHERE …`, or nothing.
pub fn filter(random: &mut Random) -> String {
    if random.below(2) == 0 { format!(" WHERE {}", condition(random)) } else { String::new() }
}

/// ` HAVING …`, or nothing.
pub fn having(random: &mut Random) -> String {
    match random.below(4) {
        0 => format!(" HAVING {}", one_of(random, &["count(*) > 1", "sum(v) > 3", "max(j) IS NOT NULL"])),
        _ => String::new(),
    }
}

/// An aggregate of rows of the input; those of sessions are without DISTINCT.
pub fn aggregate(random: &mut Random, distinct: bool) -> String {
    let functions = [
        "count(*)",
        "count(v)",
        "count(k, j)",
        "sum(v)",
        "sum(j)",
        "sum(d)",
        "sum(x)",
        "avg(v)",
        "avg(x)",
        "avg(d)",
        "min(v)",
        "max(v)",
        "min(k)",
        "max(k)",
        "max(ts)",
        "min(d)",
        "max(x)",
        "bool_and(b)",
        "bool_or(b)",
        "count_if(v > 2)",
        "stddev(x)",
        "var_pop(v)",
        "percentile(v, 0.5)",
        "approx_count_distinct(v)",
        "size(collect_set(j))",
        "sort_array(collect_list(j))",
        "sort_array(collect_set(k))",
        "sum(v * 2 + j)",
        "sum(CASE WHEN b THEN 1 ELSE 0 END)",
        "max(upper(k))",
        "max(named_struct('j', j, 'k', k))",
        "bit_xor(v)",
        "corr(x, v)",
        "count(DISTINCT j)",
        "count(DISTINCT k)",
        "count(DISTINCT k, j)",
        "sum(DISTINCT v)",
        "max(DISTINCT v)",
        "avg(DISTINCT v)",
    ];
    let function = loop {
        let function = one_of(random, &functions);
        if distinct || !function.contains("DISTINCT") {
            break function;
        }
    };
    let plain = ["count", "sum", "min", "max", "avg"].iter().any(|name| function.starts_with(name));
    match random.below(5) {
        0 if plain && !function.starts_with("count_if") => format!("{function} FILTER (WHERE {})", condition(random)),
        1 if function.starts_with("sum(") => format!("coalesce({function}, 0) + 1"),
        _ => function.to_string(),
    }
}

/// Some aggregates with names: `count(*) AS a0, …`.
pub fn aggregates(random: &mut Random, distinct: bool) -> String {
    let mut values = String::new();
    for at in 0..1 + random.below(4) {
        write!(values, "{}{} AS a{at}", if at > 0 { ", " } else { "" }, aggregate(random, distinct)).unwrap();
    }
    values
}

/// What is read, with the columns of the input.
fn relation(random: &mut Random) -> String {
    let columns = "s.id, s.j, s.x, s.b, s.d, s.ts";
    match random.below(10) {
        0 => format!("(SELECT * FROM STREAM one WHERE {} UNION ALL SELECT * FROM STREAM two) AS u", condition(random)),
        1 => format!("(SELECT * FROM STREAM one WHERE {}) AS f", condition(random)),
        2 => {
            format!("(SELECT {columns}, s.k, s.v + dim.more AS v FROM STREAM one AS s JOIN dim ON s.k = dim.name) AS m")
        }
        3 => {
            format!("(SELECT {columns}, s.v, dim.name AS k FROM STREAM one AS s LEFT JOIN dim ON s.k = dim.name) AS m")
        }
        4 => {
            let kind = one_of(random, &["SEMI", "ANTI"]);
            format!("(SELECT s.* FROM STREAM one AS s LEFT {kind} JOIN dim ON s.k = dim.name AND s.v < dim.more) AS m")
        }
        _ => "STREAM one AS s".to_string(),
    }
}

fn row_columns(random: &mut Random) -> String {
    let more = one_of(random, &["upper(k)", "coalesce(v, j)", "x * 2", "CAST(d AS STRING)", "date_trunc('hour', ts)"]);
    format!("k, j, v, b, {more} AS e")
}

fn stateless(random: &mut Random) -> Query {
    let mode = one_of(random, &["APPEND", "APPEND", "UPDATE"]);
    let (mut marks, watched) = (Marks::default(), random.below(4) == 0);
    // Without an operator that keeps rows, no row is late.
    let relation = if watched { event_time::relation(random, &mut marks) } else { relation(random) };
    let template = format!("SELECT {} FROM {relation}{}", row_columns(random), filter(random));
    Query { marks, acts: false, ..Query::of("rows", mode, &template) }
}

fn limited(random: &mut Random) -> Query {
    let rows = random.below(20);
    let template = match random.below(3) {
        0 => format!("SELECT k, j FROM STREAM one AS s{} DEDUPLICATE BY (k, j)<< LIMIT {rows}>>", filter(random)),
        _ => format!("SELECT id, {} FROM {}{}<< LIMIT {rows}>>", row_columns(random), relation(random), filter(random)),
    };
    Query { expected: Expected::Limit(rows), ..Query::of("LIMIT", "APPEND", &template) }
}

fn distinct(random: &mut Random) -> Query {
    let either = one_of(random, &["COMPLETE", "UPDATE"]);
    match random.below(6) {
        0 | 1 => {
            let columns = one_of(random, &["k", "k, j", "j, b", "x", "d, k"]);
            let (relation, filter) = (relation(random), filter(random));
            let template = format!(
                "SELECT <<{columns}>>[[DISTINCT {columns}]] FROM {relation}{filter}<< DEDUPLICATE BY ({columns})>>"
            );
            Query::of("DEDUPLICATE BY", one_of(random, &["APPEND", "APPEND", "UPDATE"]), &template)
        }
        2 => {
            let (values, filter) = (one_of(random, &["count(*)", "sum(v)", "count(v)", "min(k)"]), filter(random));
            let columns = "k, j, v";
            let template = format!(
                "SELECT j, {values} AS a, max(v) AS m FROM <<STREAM one AS s{filter} DEDUPLICATE BY ({columns})>>\
                 [[(SELECT DISTINCT {columns} FROM STREAM one AS s{filter})]] GROUP BY j"
            );
            Query::of("DEDUPLICATE BY below GROUP BY", "COMPLETE", &template)
        }
        3 => {
            let columns = one_of(random, &["k", "k, j", "v, b"]);
            let (first, second) = (filter(random), filter(random));
            let template = format!(
                "SELECT {columns} FROM STREAM one AS s{first} UNION SELECT {columns} FROM STREAM two AS s{second}"
            );
            Query::of("UNION", either, &template)
        }
        _ => {
            let columns = one_of(random, &["k", "k, j", "v % 3 AS m", "b, j", "x", "d, k"]);
            let template = format!("SELECT DISTINCT {columns} FROM {}{}", relation(random), filter(random));
            Query::of("SELECT DISTINCT", either, &template)
        }
    }
}

/// TBLPROPERTIES for the ways to write rows by key.
pub fn properties(random: &mut Random, mode: &str) -> String {
    let properties = match (mode, random.below(3)) {
        ("UPDATE", 0) => "TBLPROPERTIES ('delta.enableDeletionVectors' = 'false') ",
        ("COMPLETE", 0) => "TBLPROPERTIES ('delta.enableDeletionVectors' = 'true') ",
        _ => "",
    };
    properties.to_string()
}

fn grouped(random: &mut Random) -> Query {
    let several = [&["k", "j"][..], &["k", "j"], &["d", "b"]];
    let single = [["k"], ["j"], ["v % 3"], ["upper(k)"], ["b"], ["k IS NULL"], ["x"], ["date_trunc('minute', ts)"]];
    let keys = if random.below(3) == 0 { several[random.below(3)] } else { &single[random.below(single.len())] };
    let update = random.below(2) == 0;
    let several = keys == ["k", "j"] && !update && random.below(3) > 0;
    let group = match random.below(8) {
        0 => String::new(),
        1 | 2 if several => "GROUP BY ROLLUP (k, j)".to_string(),
        3 if several => "GROUP BY CUBE (k, j)".to_string(),
        4 | 5 if several => "GROUP BY GROUPING SETS ((k), (j), ())".to_string(),
        6 => "GROUP BY ALL".to_string(),
        _ => format!("GROUP BY {}", keys.join(", ")),
    };
    let named = keys.iter().enumerate().map(|(at, key)| format!("{key} AS g{at}"));
    let shown = if group.is_empty() { String::new() } else { named.collect::<Vec<_>>().join(", ") + ", " };
    let having = if group.is_empty() { String::new() } else { having(random) };
    let unique = !group.is_empty() && !group.contains("(k");
    let last = match random.below(5) {
        0 if unique && !update => {
            let by: Vec<String> = (0..keys.len()).map(|at| format!("g{at} DESC")).collect();
            format!(" ORDER BY {} LIMIT {}", by.join(", "), random.below(6))
        }
        _ => String::new(),
    };
    let (relation, filter) = match random.below(6) {
        0 if !update => (joins::for_ever(random), String::new()),
        _ => (relation(random), filter(random)),
    };
    let template = format!("SELECT {shown}{} FROM {relation}{filter} {group}{having}{last}", aggregates(random, true));
    let mode = if update { "UPDATE" } else { "COMPLETE" };
    let kind = match (several, update) {
        (true, _) => "GROUPING SETS",
        (_, true) => "GROUP BY, UPDATE",
        _ if relation.contains("STREAM two AS r") => "GROUP BY above a join of streams",
        _ => "GROUP BY, COMPLETE",
    };
    let mut properties = properties(random, mode);
    // The empty text cannot be a partition's value.
    if !group.is_empty() && ["j", "b", "v % 3"].contains(&keys[0]) && random.below(3) == 0 {
        properties.push_str("PARTITIONED BY (g0) ");
    }
    Query { properties, ..Query::of(kind, mode, &template) }
}
