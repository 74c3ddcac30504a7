//! Queries that join two streams, or three. What is final of them, and what was late, is said in the oracle's text: it
//! joins the rows that were not late, and of those without a match shows the ones that can have none any more.

use super::event_time::{Cut, Marks, NAMES, over, timely};
use super::queries::{Query, aggregates, condition, filter, one_of};
use crate::state::tests::Random;

/// What is asked of the times of two rows, in seconds.
#[derive(Debug, Clone, Copy)]
enum Times {
    /// `r.ts` is from so much earlier to so much later than `l.ts`.
    Between(i64, i64),
    /// `r.ts` is at most so much later.
    AtMost(i64),
    /// `r.ts` is at most so much earlier.
    AtLeast(i64),
    /// Equal.
    Same,
    /// In one window of this length.
    Window(i64),
    /// Anything.
    Any,
}

impl Times {
    fn any(random: &mut Random, kind: &str) -> Times {
        let some = |random: &mut Random| [0, 1, 5, 30, 120, 120][random.below(6)];
        match random.below(9) {
            0 => Times::Same,
            1 => Times::Window([10, 60][random.below(2)]),
            2 if kind == "INNER" => Times::Any,
            3 if ["INNER", "LEFT", "LEFT SEMI", "LEFT ANTI"].contains(&kind) => Times::AtMost(some(random)),
            4 if ["INNER", "RIGHT", "RIGHT SEMI", "RIGHT ANTI"].contains(&kind) => Times::AtLeast(some(random)),
            5 => {
                let later = 1 + some(random);
                Times::Between(-later, later + some(random))
            }
            _ => Times::Between(some(random), some(random)),
        }
    }

    fn sql(self) -> String {
        match self {
            Times::Between(earlier, later) => {
                format!(" AND r.ts BETWEEN l.ts - INTERVAL {earlier} SECONDS AND l.ts + INTERVAL {later} SECONDS")
            }
            Times::AtMost(later) => format!(" AND r.ts <= l.ts + INTERVAL {later} SECONDS"),
            Times::AtLeast(earlier) => format!(" AND l.ts - INTERVAL {earlier} SECONDS <= r.ts"),
            Times::Same => " AND l.ts = r.ts".to_string(),
            Times::Window(size) => format!(" AND window(l.ts, '{size} seconds') = window(r.ts, '{size} seconds')"),
            Times::Any => String::new(),
        }
    }

    /// When a row of a side is late.
    fn end(self) -> String {
        match self {
            Times::Window(size) => Cut { size, slide: size, start: 0 }.end("ts"),
            _ => "unix_timestamp(ts)".to_string(),
        }
    }

    /// How long after its time a row of a side may match; None: for ever.
    fn hold(self, side: usize) -> Option<i64> {
        match (self, side) {
            (Times::Between(_, later), 0) | (Times::AtMost(later), _) => (side == 0).then_some(later),
            (Times::Between(earlier, _), _) => Some(earlier),
            (Times::AtLeast(earlier), _) => (side == 1).then_some(earlier),
            (Times::Same | Times::Window(_), _) => Some(0),
            (Times::Any, _) => None,
        }
    }

    /// The condition that a row of a side, without a match, can have none any more.
    fn is_over(self, side: usize) -> String {
        let name = ["l", "r"][side];
        let time = match self {
            Times::Window(size) => Cut { size, slide: size, start: 0 }.end(&format!("{name}.ts")),
            _ => format!("unix_timestamp({name}.ts) + {}", self.hold(side).unwrap_or(0)),
        };
        format!("({name}.ts IS NULL OR coalesce({time} <= :until, false))")
    }
}

/// A side: rows that were not late, perhaps filtered, with the columns of the input.
fn side(random: &mut Random, stream: &str, end: Option<String>) -> String {
    let late = end.map_or("true".to_string(), |end| timely(&end));
    match random.below(6) {
        0 => format!("(SELECT * FROM {stream} AS a WHERE ({})[[ AND {late}]])", condition(random)),
        1 => format!(
            "(SELECT s.id, s.k, s.j, s.v + dim.more AS v, s.x, s.b, s.d, s.ts FROM {stream} AS s JOIN dim ON s.k = dim.name\
             [[ WHERE {late}]])"
        ),
        _ => format!("[[(SELECT * FROM ]]{stream}[[ WHERE {late})]]"),
    }
}

/// Keys, and what else is asked of two rows.
fn condition_of_two(random: &mut Random) -> String {
    let keys = [
        "l.k = r.k",
        "l.j = r.j",
        "l.j = r.j",
        "l.j = r.j",
        "l.k = r.k AND l.j = r.j",
        "upper(l.k) = upper(r.k)",
        "l.j = r.v % 4",
    ];
    let also = one_of(random, &["", "", "", " AND l.v < r.v", " AND l.b", " AND r.x > 0", " AND l.id <> r.id"]);
    format!("{}{also}", one_of(random, &keys))
}

/// A join: `FROM … JOIN … ON …`, what is over of it, and how long it holds the rows of each side.
struct Join {
    kind: &'static str,
    times: Times,
    from: String,
    marks: Marks,
    acts: bool,
}

impl Join {
    fn any(random: &mut Random, kind: &'static str, times: Times) -> Join {
        let mut marks = Marks::default();
        // An inner join may do without watermarks.
        let watched = match (kind, random.below(5)) {
            ("INNER", 0) => [[true, false], [false, true], [false, false]][random.below(3)],
            _ => [true, true],
        };
        let right = if random.below(6) == 0 { 0 } else { 1 };
        let sides = [0, 1].map(|at| {
            let source = [0, right][at];
            match watched[at] {
                true => {
                    let stream = marks.stream(random, source);
                    side(random, &stream, Some(times.end()))
                }
                false => side(random, &format!("STREAM {}", NAMES[source]), None),
            }
        });
        let acts = [0, 1].into_iter().any(|side| times.hold(side).is_some() && watched[1 - side]);
        let from = format!(
            "FROM {} AS l {kind} JOIN {} AS r ON {}{}",
            sides[0],
            sides[1],
            condition_of_two(random),
            times.sql()
        );
        Join { kind, times, from, marks, acts }
    }

    /// The condition that what the join gives is final.
    fn is_over(&self) -> String {
        let [left, right] = [0, 1].map(|side| self.times.is_over(side));
        match self.kind {
            "LEFT" => format!("(r.id IS NOT NULL OR {left})"),
            "RIGHT" => format!("(l.id IS NOT NULL OR {right})"),
            "FULL" => format!("((l.id IS NOT NULL OR {right}) AND (r.id IS NOT NULL OR {left}))"),
            "LEFT ANTI" => left,
            "RIGHT ANTI" => right,
            _ => "true".to_string(),
        }
    }
}

const KINDS: [&str; 8] = ["INNER", "LEFT", "RIGHT", "FULL", "LEFT SEMI", "LEFT ANTI", "RIGHT SEMI", "RIGHT ANTI"];

/// A join of two streams, or of three.
pub fn joined(random: &mut Random) -> Query {
    if random.below(8) == 0 {
        return of_three(random);
    }
    let kind = KINDS[random.below(KINDS.len())];
    let times = Times::any(random, kind);
    let join = Join::any(random, kind, times);
    let (columns, conditions): (_, &[&str]) = match kind {
        "LEFT SEMI" | "LEFT ANTI" => ("l.id, l.k, l.j, l.ts, l.v * 2 AS e", &["l.v > 0", "l.b OR l.v IS NULL"]),
        "RIGHT SEMI" | "RIGHT ANTI" => ("r.id, r.k, r.j, r.ts, r.v * 2 AS e", &["r.v > 0", "r.b OR r.v IS NULL"]),
        _ => (
            "l.id AS lid, l.k AS lk, l.ts AS lts, r.id AS rid, r.j AS rj, r.ts AS rts, coalesce(l.v, 100) + coalesce(r.v, 0) AS e",
            &["l.v > 0", "r.v > 0", "coalesce(l.v, 1) > coalesce(r.v, 0)", "l.d IS NULL OR r.d IS NULL"],
        ),
    };
    let filter = if random.below(4) == 0 { one_of(random, conditions) } else { "" };
    let filter = match filter {
        "" => format!("[[ WHERE {}]]", join.is_over()),
        filter => format!(" WHERE ({filter})[[ AND {}]]", join.is_over()),
    };
    let template = format!("SELECT {columns} {}{filter}", join.from);
    let named = match kind {
        "INNER" => "INNER JOIN",
        "LEFT" => "LEFT JOIN",
        "RIGHT" => "RIGHT JOIN",
        "FULL" => "FULL JOIN",
        "LEFT SEMI" | "RIGHT SEMI" => "SEMI JOIN",
        _ => "ANTI JOIN",
    };
    Query { marks: join.marks, acts: join.acts, ..Query::of(named, "APPEND", &template) }
}

/// Pairs of two streams, joined with a third one; all of them with watermarks.
fn of_three(random: &mut Random) -> Query {
    let mut marks = Marks::default();
    let streams = [0, 1, 2].map(|source| {
        let stream = marks.stream(random, source);
        side(random, &stream, Some("unix_timestamp(ts)".to_string()))
    });
    let some = |random: &mut Random| [10, 60, 120][random.below(3)];
    let bounds = [some(random), some(random), some(random), some(random)];
    let kind = one_of(random, &["", "LEFT "]);
    let last = if kind == "LEFT " {
        format!("[[ WHERE c.id IS NOT NULL OR coalesce(unix_timestamp(l.ts) + {} <= :until, false)]]", bounds[3])
    } else {
        String::new()
    };
    let template = format!(
        "SELECT l.id AS lid, r.id AS rid, c.id AS cid, l.k, c.ts FROM {} AS l JOIN {} AS r ON l.j = r.j AND r.ts BETWEEN l.ts - \
         INTERVAL {} SECONDS AND l.ts + INTERVAL {} SECONDS {kind}JOIN {} AS c ON l.j = c.j AND c.ts BETWEEN l.ts - INTERVAL \
         {} SECONDS AND l.ts + INTERVAL {} SECONDS{last}",
        streams[0], streams[1], bounds[0], bounds[1], streams[2], bounds[2], bounds[3]
    );
    Query { marks, ..Query::of("join of three", "APPEND", &template) }
}

/// Windows, or rows once, above a join.
pub fn above_a_join(random: &mut Random) -> Query {
    let kind = ["INNER", "LEFT", "RIGHT", "FULL"][random.below(4)];
    let times = loop {
        let times = Times::any(random, kind);
        if [0, 1].into_iter().all(|side| times.hold(side).is_some()) {
            break times;
        }
    };
    let join = loop {
        let join = Join::any(random, kind, times);
        if join.marks.0.len() == 2 {
            break join;
        }
    };
    let at = match kind {
        "LEFT" => 0,
        "RIGHT" => 1,
        _ => random.below(2),
    };
    let side = ["l", "r"][at];
    let rows = format!(
        "(SELECT {side}.id, {side}.k, l.j, r.v, l.x, r.b, l.d, {side}.ts {}[[ WHERE {}]]) AS m",
        join.from,
        join.is_over()
    );
    if random.below(3) == 0 {
        let template = format!("SELECT DISTINCT k, ts FROM {rows}{}", filter(random));
        return Query { marks: join.marks, ..Query::of("DISTINCT above a join of streams", "APPEND", &template) };
    }
    let lag = match times {
        Times::Window(size) => size,
        _ => times.hold(at).unwrap_or(0).max(0),
    };
    let template = format!(
        "SELECT window.end AS until, k, {} FROM {rows}{} GROUP BY {}, k",
        aggregates(random, true),
        filter(random),
        Cut::any(random).of("ts")
    );
    Query { marks: join.marks, ..Query::of("windows above a join of streams", "APPEND", &over(&template, lag)) }
}

/// A join of streams below an aggregate that shows everything, with the columns of the input.
pub fn for_ever(random: &mut Random) -> String {
    let times = [Times::Any, Times::any(random, "INNER")][random.below(2)];
    format!(
        "(SELECT l.id, l.k, r.j, r.v, l.x, r.b, l.d, l.ts FROM STREAM one AS l JOIN STREAM two AS r ON {}{}) AS m",
        condition_of_two(random),
        times.sql()
    )
}
