//! Rows of the input: few keys, NULLs anywhere, event times that go forward with some disorder.

use crate::state::tests::Random;

/// The columns of the input.
pub const COLUMNS: &str = "id BIGINT, k STRING, j INT, v BIGINT, x DOUBLE, b BOOLEAN, d DECIMAL(12,2), ts TIMESTAMP";
/// Seconds since 1970 of the first event.
pub const BEGIN: i64 = 1_767_225_600;

/// One row of the input.
#[derive(Debug, Clone)]
pub struct Row {
    /// No other row has it.
    pub id: i64,
    pub k: Option<&'static str>,
    pub j: Option<i64>,
    pub v: Option<i64>,
    x: Option<f64>,
    b: Option<bool>,
    d: Option<i64>,
    /// Seconds since 1970.
    pub ts: Option<i64>,
}

impl Row {
    /// The row as a line of JSON; what the oracle reads says with which watermark it came, too.
    pub fn json(&self, arrival: Option<i64>) -> String {
        let time = |ts: i64| {
            let at = chrono::DateTime::from_timestamp(ts, 0).unwrap();
            format!("\"{}\"", at.format("%Y-%m-%d %H:%M:%S"))
        };
        let fields = [
            ("id", Some(self.id.to_string())),
            ("k", self.k.map(|k| format!("\"{k}\""))),
            ("j", self.j.map(|j| j.to_string())),
            ("v", self.v.map(|v| v.to_string())),
            ("x", self.x.map(|x| x.to_string())),
            ("b", self.b.map(|b| b.to_string())),
            ("d", self.d.map(|d| format!("{}{}.{:02}", if d < 0 { "-" } else { "" }, d.abs() / 100, d.abs() % 100))),
            ("ts", self.ts.map(time)),
            ("arrival", arrival.map(|watermark| watermark.to_string())),
        ];
        // A missing field is NULL as well.
        let shown = fields.into_iter().filter_map(|(name, value)| Some(format!("\"{name}\":{}", value?)));
        format!("{{{}}}\n", shown.collect::<Vec<_>>().join(","))
    }
}

/// Where rows come from.
pub struct Rows {
    rows: i64,
    now: i64,
    /// Between two rows event time goes on by less than so many seconds.
    step: usize,
    /// A row in four is up to so many seconds late.
    disorder: usize,
}

impl Rows {
    /// `joined`: the times of two rows are to be near each other.
    pub fn any(random: &mut Random, joined: bool) -> Rows {
        let step = if joined { [2, 6, 25] } else { [4, 20, 60] };
        Rows { rows: 0, now: BEGIN, step: step[random.below(3)], disorder: [10, 90, 600][random.below(3)] }
    }

    /// The rows of a file.
    pub fn some(&mut self, random: &mut Random) -> Vec<Row> {
        (0..random.below(14)).map(|_| self.next(random)).collect()
    }

    fn next(&mut self, random: &mut Random) -> Row {
        fn sometimes<T>(random: &mut Random, value: T) -> Option<T> {
            (random.below(6) > 0).then_some(value)
        }
        self.rows += 1;
        self.now += random.below(self.step) as i64;
        let back = if random.below(4) == 0 { random.below(self.disorder) as i64 } else { 0 };
        let ts = (random.below(10) > 0).then_some(self.now - back);
        let keys = ["a", "b", "c", "A", "", "é", "long key with spaces"];
        let k = keys[random.below(keys.len())];
        let (j, v) = (random.below(4) as i64, random.below(12) as i64 - 4);
        // Quarters: their sums are exact in any order.
        let (x, d) = (random.below(40) as f64 / 4.0 - 3.0, random.below(1000) as i64 - 300);
        let b = random.below(2) == 0;
        Row {
            id: self.rows,
            k: sometimes(random, k),
            j: sometimes(random, j),
            v: sometimes(random, v),
            x: sometimes(random, x),
            b: sometimes(random, b),
            d: sometimes(random, d),
            ts,
        }
    }
}
