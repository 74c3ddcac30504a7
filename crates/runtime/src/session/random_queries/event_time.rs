//! Queries of event time: windows, instants, DISTINCT and DEDUPLICATE BY that forget.

use super::oracle::{Expected, Within};
use super::queries::{
    Query, aggregate, aggregates, condition, filter, for_oracle, for_stream, having, one_of, properties,
};
use crate::state::tests::Random;

/// The streams there are; numbers of sources are places in it.
pub const NAMES: [&str; 3] = ["one", "two", "three"];

/// The WATERMARKs of a query: source, and delay in seconds.
#[derive(Debug, Clone, Default)]
pub struct Marks(pub Vec<(usize, i64)>);

impl Marks {
    /// A stream with its watermark.
    pub fn stream(&mut self, random: &mut Random, source: usize) -> String {
        let delay = [0, 5, 30, 120][random.below(4)];
        self.0.push((source, delay));
        format!("STREAM {}<< WATERMARK ts DELAY OF INTERVAL {delay} SECONDS>>", NAMES[source])
    }
}

/// What is read, with the columns of the input, and of the oracle's input `arrival`; keys and times stay as they are.
pub fn relation(random: &mut Random, marks: &mut Marks) -> String {
    match random.below(6) {
        0 => format!(
            "(SELECT * FROM {} AS a WHERE {} UNION ALL SELECT * FROM {} AS b) AS u",
            marks.stream(random, 0),
            condition(random),
            marks.stream(random, 1),
        ),
        1 => format!("(SELECT * FROM {} AS a WHERE {}) AS f", marks.stream(random, 0), condition(random)),
        2 => format!(
            "(SELECT s.id, s.k, s.j, s.v + dim.more AS v, s.x, s.b, s.d, s.ts[[, s.arrival]] FROM {} AS s JOIN dim ON \
             s.k = dim.name) AS m",
            marks.stream(random, 0)
        ),
        _ => format!("{} AS s", marks.stream(random, 0)),
    }
}

/// `window(…)` of a length, slide and start; all in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    pub size: i64,
    pub slide: i64,
    pub start: i64,
}

impl Cut {
    pub fn tumbling(random: &mut Random) -> Cut {
        let size = [10, 30, 120][random.below(3)];
        Cut { size, slide: size, start: [0, 0, 2][random.below(3)] }
    }

    pub fn any(random: &mut Random) -> Cut {
        let cut = Cut::tumbling(random);
        match random.below(5) {
            0 => Cut { slide: cut.size / 2, ..cut },
            1 => Cut { slide: cut.size / 10 * 3, ..cut },
            _ => cut,
        }
    }

    pub fn of(self, time: &str) -> String {
        let Cut { size, slide, start } = self;
        match (size == slide, start) {
            (true, 0) => format!("window({time}, '{size} seconds')"),
            (_, 0) => format!("window({time}, '{size} seconds', '{slide} seconds')"),
            _ => format!("window({time}, '{size} seconds', '{slide} seconds', '{start} seconds')"),
        }
    }

    /// The end of the window of a time in seconds, where windows do not overlap.
    pub fn end(self, time: &str) -> String {
        let Cut { size, start, .. } = self;
        format!("unix_timestamp({time}) - (unix_timestamp({time}) - {start}) % {size} + {size}")
    }
}

/// The condition that a row whose time is over at `end` was not late.
pub fn timely(end: &str) -> String {
    format!("coalesce({end} > arrival, true)")
}

/// ` WHERE …` with a condition of the oracle's.
pub fn and_timely(filter: &str, end: &str) -> String {
    match filter.strip_prefix(" WHERE ") {
        Some(condition) => format!(" WHERE ({condition})[[ AND {}]]", timely(end)),
        None => format!("[[ WHERE {}]]", timely(end)),
    }
}

/// `template` with the rows only whose column `until` the watermark has reached.
pub fn over(template: &str, lag: i64) -> String {
    format!("[[SELECT * FROM (]]{template}[[) AS o WHERE coalesce(unix_timestamp(until) + {lag} <= :until, false)]]")
}

/// GROUP BY of windows; sliding ones are repeated rows to the oracle, each with its own lateness.
pub fn windows(random: &mut Random) -> Query {
    let (cut, mut marks) = (Cut::any(random), Marks::default());
    let mode = one_of(random, &["APPEND", "APPEND", "APPEND", "UPDATE", "COMPLETE"]);
    let sets = mode != "UPDATE" && random.below(5) == 0;
    let (key, by) = match random.below(3) {
        _ if sets => ("k, j, ", one_of(random, &[", ROLLUP (k, j)", ", CUBE (k, j)", ", ROLLUP (k), j"])),
        0 => ("", ""),
        1 => ("k, ", ", k"),
        _ => ("k, j, ", ", k, j"),
    };
    let (relation, filter, having) = (relation(random, &mut marks), filter(random), having(random));
    let values = aggregates(random, true);
    let template = match mode {
        "COMPLETE" => {
            let window = cut.of("ts");
            format!("SELECT window.end AS until, {key}{values} FROM {relation}{filter} GROUP BY {window}{by}{having}")
        }
        _ => {
            let filter = and_timely(&filter, "unix_timestamp(w.end)");
            format!(
                "SELECT <<window.end>>[[w.end]] AS until, {key}{values} FROM [[(SELECT *, {window} AS w FROM ]]{relation}\
                 [[ WHERE ts IS NOT NULL) AS e]]{filter} GROUP BY <<{window}>>[[w]]{by}{having}",
                window = cut.of("ts")
            )
        }
    };
    let template = if mode == "APPEND" { over(&template, 0) } else { template };
    let kind = match (mode, cut.slide < cut.size) {
        _ if sets => "windows, GROUPING SETS",
        ("APPEND", false) => "windows, APPEND",
        ("APPEND", true) => "sliding windows, APPEND",
        ("UPDATE", false) => "windows, UPDATE",
        ("UPDATE", true) => "sliding windows, UPDATE",
        _ => "windows, COMPLETE",
    };
    Query { marks, properties: properties(random, mode), ..Query::of(kind, mode, &template) }
}

/// GROUP BY of the event time itself.
pub fn instants(random: &mut Random) -> Query {
    let mut marks = Marks::default();
    let (relation, filter) = (relation(random, &mut marks), and_timely(&filter(random), "unix_timestamp(ts)"));
    let template = format!(
        "SELECT ts AS until, k, {}, {} AS b FROM {relation}{filter} GROUP BY ts, k{}",
        aggregates(random, true),
        aggregate(random, true),
        having(random)
    );
    Query { marks, ..Query::of("GROUP BY ts", "APPEND", &over(&template, 0)) }
}

pub fn windows_of_windows(random: &mut Random) -> Query {
    let (cut, mut marks) = (Cut { start: 0, ..Cut::tumbling(random) }, Marks::default());
    let (inner, outer) =
        (cut.of("ts"), Cut { size: cut.size * 3, slide: cut.size * [3, 1][random.below(2)], start: 0 });
    let (relation, filter) = (relation(random, &mut marks), and_timely(&filter(random), &cut.end("ts")));
    let template = format!(
        "SELECT window.end AS until, sum(n) AS n, max(t) AS t, count(DISTINCT k) AS ks, count(*) AS parts FROM (SELECT \
         {inner} AS w, k, count(*) AS n, sum(v) AS t FROM {relation}{filter} GROUP BY {inner}, k) GROUP BY {}",
        outer.of("window_time(w)")
    );
    Query { marks, ..Query::of("windows of windows", "APPEND", &over(&template, 0)) }
}

/// Rows once, remembered until the watermark passes their time.
pub fn distinct(random: &mut Random) -> Query {
    let mut marks = Marks::default();
    let (relation, filter) = (relation(random, &mut marks), filter(random));
    let late = and_timely(&filter, "unix_timestamp(ts)");
    match random.below(3) {
        0 => {
            let (cut, columns) = (Cut::any(random), one_of(random, &["k, ts, v", "ts, j, v"]));
            let template = format!(
                "SELECT window.end AS until, count(*) AS n, sum(v) AS t FROM <<{}{filter} DEDUPLICATE BY ({columns})>>\
                 [[(SELECT DISTINCT {columns} FROM {}) AS d]] GROUP BY {}",
                for_stream(&relation),
                for_oracle(&format!("{relation}{late}")),
                cut.of("ts")
            );
            Query { marks, ..Query::of("windows of DEDUPLICATE BY", "APPEND", &over(&template, 0)) }
        }
        1 => {
            let template =
                format!("SELECT <<k, ts>>[[DISTINCT k, ts]] FROM {relation}{late}<< DEDUPLICATE BY (k, ts)>>");
            Query { marks, ..Query::of("DEDUPLICATE BY, event time", "APPEND", &template) }
        }
        _ => {
            let template = format!("SELECT DISTINCT k, ts FROM {relation}{late}");
            Query { marks, ..Query::of("SELECT DISTINCT, event time", "APPEND", &template) }
        }
    }
}

/// Keys, remembered for the delay.
pub fn within_watermark(random: &mut Random) -> Query {
    let mut marks = Marks::default();
    let stream = marks.stream(random, 0);
    let within = Within { by_j: random.below(2) == 0, above: [None, Some(1)][random.below(2)], ..Within::default() };
    let filter = within.above.map_or(String::new(), |v| format!(" WHERE v > {v}"));
    let columns = if within.by_j { "k, j" } else { "k" };
    let template = format!("SELECT {columns} FROM {stream} AS s{filter} DEDUPLICATE BY ({columns}) WITHIN WATERMARK");
    Query { marks, expected: Expected::Within(within), ..Query::of("WITHIN WATERMARK", "APPEND", &template) }
}
