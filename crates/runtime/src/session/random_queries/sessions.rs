//! Queries of sessions. A row that is not late, but lies within a session that came out, opens a new one: so the oracle
//! asks for the sessions of the rows that are in none that is over, epoch by epoch.

use super::event_time::{self, Marks};
use super::oracle::Expected;
use super::queries::{Query, aggregates, filter, having};
use super::rows::Row;
use crate::state::tests::Random;

/// How the oracle follows sessions.
#[derive(Debug, Clone)]
pub struct Sessions {
    /// Seconds.
    gap: i64,
    /// The gap differs from row to row.
    by_row: bool,
    pub key: Key,
    /// Length of the windows that count sessions, in seconds.
    pub windows: Option<i64>,
}

/// What sessions belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    None,
    K,
    J,
}

impl Sessions {
    fn gap_sql(&self) -> String {
        let gap = self.gap;
        match self.by_row {
            true => format!(
                "CASE j WHEN 0 THEN '5 seconds' WHEN 1 THEN '{} seconds' WHEN 2 THEN '-1 minute' ELSE '{gap} seconds' END",
                3 * gap
            ),
            false => format!("'{gap} seconds'"),
        }
    }

    /// The gap of a row's session, in seconds; None: it is in none.
    pub fn gap(&self, row: &Row) -> Option<i64> {
        match row.j {
            Some(0) if self.by_row => Some(5),
            Some(1) if self.by_row => Some(3 * self.gap),
            Some(2) if self.by_row => None,
            _ => Some(self.gap),
        }
    }

    /// The row's key as it is shown.
    pub fn key_of(&self, row: &Row) -> String {
        match self.key {
            Key::None => "-".to_string(),
            Key::K => row.k.unwrap_or("NULL").to_string(),
            Key::J => row.j.map_or("NULL".to_string(), |j| j.to_string()),
        }
    }
}

pub fn sessions(random: &mut Random) -> Query {
    let mut marks = Marks::default();
    let followed = Sessions {
        gap: [3, 10, 40][random.below(3)],
        by_row: random.below(2) == 0,
        key: [Key::None, Key::K, Key::K, Key::J][random.below(4)],
        windows: None,
    };
    let relation = event_time::relation(random, &mut marks);
    let filter = filter(random);
    let (shown, by) = match followed.key {
        Key::None => ("'-' AS key", ""),
        Key::K => ("k AS key", ", k"),
        Key::J => ("j AS key", ", j"),
    };
    let group = format!("GROUP BY session_window(ts, {}){by}", followed.gap_sql());
    match random.below(5) {
        0 => {
            let size = [20, 100][random.below(2)];
            let select = "SELECT session_window AS w, count(*) AS n";
            let template = format!(
                "<<SELECT unix_timestamp(window.end) AS until, count(*) AS sessions, sum(n) AS n FROM ({select}>>[[SELECT \
                 unix_timestamp(session_window.start) AS since, unix_timestamp(session_window.end) AS until, {shown}, \
                 count(*) AS n, true AS shown]] FROM {relation}{filter} {group}<<) GROUP BY window(window_time(w), \
                 '{size} seconds')>>"
            );
            let expected = Expected::Sessions(Sessions { windows: Some(size), ..followed });
            Query { marks, expected, ..Query::of("windows of sessions", "APPEND", &template) }
        }
        mode => {
            let having = having(random);
            let condition = having.strip_prefix(" HAVING ").unwrap_or("true");
            let bounds = "unix_timestamp(session_window.start) AS since, unix_timestamp(session_window.end) AS until";
            let values = aggregates(random, false);
            let select = format!("SELECT {bounds}, {shown}, {values}");
            if mode == 1 {
                let template = format!("{select} FROM {relation}{filter} {group}{having}");
                return Query { marks, ..Query::of("sessions, COMPLETE", "COMPLETE", &template) };
            }
            let template = format!(
                "{select}[[, coalesce({condition}, false) AS shown]] FROM {relation}{filter} {group}<<{having}>>"
            );
            let kind = if followed.by_row { "sessions, gap by row" } else { "sessions" };
            Query { marks, expected: Expected::Sessions(followed), ..Query::of(kind, "APPEND", &template) }
        }
    }
}
