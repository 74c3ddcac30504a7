//! Random joins of two streams against a model that keeps every row: what has come out after each epoch is what the query
//! gives over all rows that were not late, and of rows that wait for a match those that can match no more.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::state::{Batch, Column, Fill, Page, StateStore};

/// What is asked of the times of two rows, in seconds.
#[derive(Debug, Clone, Copy)]
enum Times {
    /// `r.ts` is from so much earlier to so much later than `l.ts`; later than at most.
    Between(i64, i64),
    /// `r.ts` is at most so much later.
    AtMost(i64),
    /// Equal.
    Same,
    /// In one window of this length.
    Window(i64),
    /// Anything.
    Any,
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    kind: &'static str,
    times: Times,
    /// Also `l.v < r.v`.
    less: bool,
    delays: [i64; 2],
}

impl Shape {
    fn any(random: &mut Random) -> Shape {
        let kind =
            ["INNER", "LEFT", "RIGHT", "FULL", "LEFT SEMI", "LEFT ANTI", "RIGHT SEMI", "RIGHT ANTI"][random.below(8)];
        let some = |random: &mut Random| [0, 1, 5, 30][random.below(4)];
        let times = match random.below(8) {
            0 => Times::Same,
            1 => Times::Window([5, 20][random.below(2)]),
            2 if kind == "INNER" => Times::Any,
            3 if kind == "INNER" || kind == "LEFT" || kind == "LEFT SEMI" => Times::AtMost(some(random)),
            4 => {
                let later = 1 + some(random);
                Times::Between(-later, later + some(random))
            }
            _ => Times::Between(some(random), some(random)),
        };
        let delays = [some(random), some(random)];
        Shape { kind, times, less: random.below(3) == 0, delays }
    }

    /// Which side's rows come out alone.
    fn waiting(self) -> [bool; 2] {
        match self.kind {
            "LEFT" | "LEFT ANTI" => [true, false],
            "RIGHT" | "RIGHT ANTI" => [false, true],
            "FULL" => [true, true],
            _ => [false, false],
        }
    }

    fn pairs(self) -> bool {
        ["INNER", "LEFT", "RIGHT", "FULL"].contains(&self.kind)
    }

    /// `from`: whether the relations are streams.
    fn sql(self, streams: bool) -> String {
        let [left, right] = match streams {
            true => [("l", self.delays[0]), ("r", self.delays[1])]
                .map(|(name, delay)| format!("STREAM {name} WATERMARK ts DELAY OF INTERVAL {delay} SECONDS AS {name}")),
            false => ["l".to_string(), "r".to_string()],
        };
        let columns = match self.kind {
            "LEFT SEMI" | "LEFT ANTI" => "unix_timestamp(l.ts), l.k, l.v",
            "RIGHT SEMI" | "RIGHT ANTI" => "unix_timestamp(r.ts), r.k, r.v",
            _ => "unix_timestamp(l.ts), l.k, l.v, unix_timestamp(r.ts), r.k, r.v",
        };
        let times = match self.times {
            Times::Between(earlier, later) => {
                format!(" AND r.ts BETWEEN l.ts - INTERVAL {earlier} SECONDS AND l.ts + INTERVAL {later} SECONDS")
            }
            Times::AtMost(later) => format!(" AND r.ts <= l.ts + INTERVAL {later} SECONDS"),
            Times::Same => " AND l.ts = r.ts".to_string(),
            Times::Window(size) => format!(" AND window(l.ts, '{size} seconds') = window(r.ts, '{size} seconds')"),
            Times::Any => String::new(),
        };
        let less = if self.less { " AND l.v < r.v" } else { "" };
        format!("SELECT {columns} FROM {left} {} JOIN {right} ON l.k = r.k{times}{less}", self.kind)
    }

    fn matches(self, left: &Row, right: &Row) -> bool {
        let times = match (self.times, left.ts, right.ts) {
            (Times::Any, ..) => true,
            (times, Some(l), Some(r)) => match times {
                Times::Between(earlier, later) => l - earlier <= r && r <= l + later,
                Times::AtMost(later) => r <= l + later,
                Times::Same => l == r,
                Times::Window(size) => l.div_euclid(size) == r.div_euclid(size),
                Times::Any => true,
            },
            _ => false,
        };
        left.k == right.k && left.k != NULL_KEY && times && (!self.less || left.v < right.v)
    }

    /// The instant by which a row of a side is late.
    fn late_at(self, ts: i64) -> i64 {
        match self.times {
            Times::Window(size) => ts.div_euclid(size) * size + size,
            _ => ts,
        }
    }

    /// The watermark at which a row of a side can match no more; None: never.
    fn over_at(self, side: usize, ts: i64) -> Option<i64> {
        match (self.times, side) {
            (Times::Between(_, later), 0) | (Times::AtMost(later), 0) => Some(ts + later),
            (Times::Between(earlier, _), _) => Some(ts + earlier),
            (Times::Same, _) => Some(ts),
            (Times::Window(_), _) => Some(self.late_at(ts)),
            (Times::AtMost(_), _) | (Times::Any, _) => None,
        }
    }
}

/// Every row that was not late.
struct Model {
    shape: Shape,
    rows: [Vec<Row>; 2],
    watermark: Option<i64>,
    greatest: [Option<i64>; 2],
    late: u64,
}

impl Model {
    /// Everything that has come out, and how many rows are kept.
    fn epoch(&mut self, arrivals: [&[Row]; 2]) -> (Vec<String>, u64) {
        let shape = self.shape;
        let until = match (self.greatest[0], self.greatest[1]) {
            (Some(left), Some(right)) => {
                self.watermark.max(Some((left - shape.delays[0]).min(right - shape.delays[1])))
            }
            _ => self.watermark,
        };
        for side in [0, 1] {
            for row in arrivals[side] {
                let late = row.ts.is_some_and(|ts| self.watermark.is_some_and(|w| shape.late_at(ts) <= w));
                match late {
                    true => self.late += 1,
                    false => self.rows[side].push(*row),
                }
            }
            self.greatest[side] = self.greatest[side].max(arrivals[side].iter().filter_map(|row| row.ts).max());
        }
        self.watermark = until;
        let is_over = |side: usize, row: &Row| match row.ts {
            Some(ts) => shape.over_at(side, ts).is_some_and(|over| until.is_some_and(|until| over <= until)),
            None => shape.over_at(side, 0).is_some(),
        };
        let mut matched = [vec![false; self.rows[0].len()], vec![false; self.rows[1].len()]];
        let mut out = Vec::new();
        for (l, left) in self.rows[0].iter().enumerate() {
            for (r, right) in self.rows[1].iter().enumerate().filter(|(_, right)| shape.matches(left, right)) {
                (matched[0][l], matched[1][r]) = (true, true);
                if shape.pairs() {
                    out.push(format!("{}|{}", line(left), line(right)));
                }
            }
        }
        let mut kept = 0;
        for side in [0, 1] {
            for (row, matched) in self.rows[side].iter().zip(&matched[side]) {
                let alone = match (shape.kind, side) {
                    ("LEFT", 0) | ("FULL", 0) => Some(format!("{}|NULL|NULL|NULL", line(row))),
                    ("RIGHT", 1) | ("FULL", 1) => Some(format!("NULL|NULL|NULL|{}", line(row))),
                    ("LEFT ANTI", 0) | ("RIGHT ANTI", 1) => Some(line(row)),
                    _ => None,
                };
                let first = (shape.kind, side) == ("LEFT SEMI", 0) || (shape.kind, side) == ("RIGHT SEMI", 1);
                if first && *matched {
                    out.push(line(row));
                }
                if !*matched && is_over(side, row) {
                    out.extend(alone);
                }
                let anti = [("LEFT ANTI", 0), ("RIGHT ANTI", 1)].contains(&(shape.kind, side));
                let done = (first || anti) && *matched;
                let unmatchable = row.k == NULL_KEY || row.ts.is_none() && !matches!(shape.times, Times::Any);
                let of_use = shape.waiting()[side] || !unmatchable;
                kept += u64::from(!is_over(side, row) && !done && of_use);
            }
        }
        out.sort();
        (out, kept)
    }
}

fn line(row: &Row) -> String {
    let k = if row.k == NULL_KEY { "NULL".to_string() } else { format!("k{}", row.k) };
    format!("{}|{k}|{}", text(row.ts), row.v)
}

fn rows_of(random: &mut Random, now: &mut i64, keys: usize) -> Vec<Row> {
    let count = match random.below(5) {
        0 => 0,
        _ => 1 + random.below(25),
    };
    let mut rows = some_rows(random, now, count, keys);
    for row in &mut rows {
        if random.below(12) == 0 {
            row.k = NULL_KEY;
        }
    }
    rows
}

/// The query over tables: what a batch engine gives.
async fn batch_of(sql: &str, tables: &[(&str, &[Row])]) -> Vec<String> {
    let session = session_state(&Settings { target_partitions: 2, ..Settings::default() });
    let statement = parse_statement(sql, Place { line: 1, column: 1 }).unwrap();
    let StatementKind::Query { query, .. } = statement.kind else { panic!("{sql}") };
    let resolved = wanted(&query).into_iter().map(|want| match want {
        Wanted::Named { parts, .. } => {
            let (_, rows) = tables.iter().find(|(name, _)| parts.last().unwrap() == name).unwrap();
            Resolved { provider: table(rows), has_metadata: false }
        }
        Wanted::Special { .. } => panic!("{sql}"),
    });
    let plan = bind(&query, &resolved.collect::<Vec<_>>(), &session).unwrap();
    let physical = session.create_physical_plan(&plan).await.unwrap();
    lines(&collect(physical, session.task_ctx()).await.unwrap())
}

/// Gives how many rows came out and how many were late.
async fn one_case(seed: u64) -> (usize, u64) {
    let mut random = Random::new(seed ^ 0x4A01);
    let shape = Shape::any(&mut random);
    let place = match random.below(8) {
        0 => Store::Disk(TestDir::new()),
        _ => Store::Memory(Arc::default()),
    };
    let keys = [1, 3, 20][random.below(3)];
    let told = format!("seed {seed}: {shape:?}, {keys} keys");
    let mut stream = Stream::new(&shape.sql(true), OutputMode::Append, 1 + random.below(3), 0, 0);
    let mut model = Model { shape, rows: Default::default(), watermark: None, greatest: Default::default(), late: 0 };
    let base = [1_767_225_600, 30, -2000][random.below(3)];
    let mut now = [base, base];
    stream.open(place.open());
    let (mut out, mut late) = (Vec::new(), 0);
    for epoch in 0..4 + random.below(8) {
        let left = rows_of(&mut random, &mut now[0], keys);
        let right = rows_of(&mut random, &mut now[1], keys);
        let done = stream.epoch_of(&[&left, &right], random.below(4) == 0).await;
        let (expected, kept) = model.epoch([&left, &right]);
        out.extend(done.rows);
        late += done.late;
        out.sort();
        assert_eq!(out, expected, "{told}, epoch {epoch}\n{}", shape.sql(true));
        assert_eq!(late, model.late, "late rows: {told}, epoch {epoch}");
        assert_eq!(done.kept, kept, "rows of state: {told}, epoch {epoch}");
        if random.below(3) == 0 {
            stream.close();
            stream.open(place.open());
        }
    }
    // Two rows that match nothing move the watermark behind everything; then the table is that of a batch over what was
    // not late, but for these two.
    let last = Row { ts: Some(now[0].max(now[1]) + 1_000_000), k: 200, v: -1 };
    let other = Row { k: 201, v: -1, ..last };
    for rows in [[&[last][..], &[other][..]], [&[], &[]]] {
        let done = stream.epoch_of(&rows, false).await;
        model.epoch(rows);
        out.extend(done.rows);
    }
    out.sort();
    let mut batch = batch_of(&shape.sql(false), &[("l", &model.rows[0]), ("r", &model.rows[1])]).await;
    for lines in [&mut out, &mut batch] {
        lines.retain(|line| !line.contains("k200") && !line.contains("k201"));
    }
    if !matches!(shape.times, Times::Any) {
        assert_eq!(out, batch, "{told}: what is over equals a batch");
    }
    (out.len(), late)
}

#[tokio::test]
async fn joins_are_as_the_model_says() {
    let (seed, cases) = (from_environment("ALLUVIUM_TEST_SEED", 1), from_environment("ALLUVIUM_TEST_CASES", 300));
    println!("ALLUVIUM_TEST_SEED={seed} ALLUVIUM_TEST_CASES={cases}");
    let (mut out, mut late) = (0, 0);
    for case in 0..cases {
        let (came_out, came_late) = one_case(seed + case).await;
        (out, late) = (out + came_out, late + came_late);
    }
    println!("{out} rows came out, {late} were late");
    assert!(out as u64 > cases && late > cases, "cases in which nothing happens prove nothing: {out} out, {late} late");
}

/// What an operator behind a join takes for late: nothing of what the join gives out. So windows over a join are those of a
/// batch over what was not late for the join.
#[tokio::test]
async fn windows_over_joins_equal_a_batch() {
    let (seed, cases) = (from_environment("ALLUVIUM_TEST_SEED", 1), from_environment("ALLUVIUM_TEST_CASES", 300) / 3);
    let mut rows = 0;
    for case in 0..cases {
        let mut random = Random::new((seed + case) ^ 0x57A7);
        let shape = loop {
            let shape = Shape::any(&mut random);
            if shape.pairs() && !matches!(shape.times, Times::Any | Times::AtMost(_)) {
                break shape;
            }
        };
        let side = match shape.kind {
            "LEFT" => "l",
            "RIGHT" => "r",
            _ => ["l", "r"][random.below(2)],
        };
        let cuts =
            [("window", "'10 seconds'"), ("window", "'10 seconds', '4 seconds'"), ("session_window", "'3 seconds'")];
        let cut = cuts[random.below(3)];
        let from = |streams: bool| {
            let join = shape.sql(streams);
            let (_, from) = join.split_once(" FROM ").unwrap();
            let (name, lengths) = cut;
            format!(
                "SELECT unix_timestamp({name}.start), {side}.k, count(*), sum(l.v), max(r.v) FROM {from} \
                 GROUP BY {name}({side}.ts, {lengths}), {side}.k"
            )
        };
        let told = format!("seed {}: {shape:?}\n{}", seed + case, from(true));
        let mut stream = Stream::new(&from(true), OutputMode::Append, 2, [1 << 20, 0][random.below(2)], 0);
        let mut model =
            Model { shape, rows: Default::default(), watermark: None, greatest: Default::default(), late: 0 };
        stream.open(Store::Memory(Arc::default()).open());
        let (mut now, mut out, mut late) = ([1000, 1000], Vec::new(), 0);
        for _ in 0..8 {
            let left = rows_of(&mut random, &mut now[0], 3);
            let right = rows_of(&mut random, &mut now[1], 3);
            let done = stream.epoch_of(&[&left, &right], random.below(4) == 0).await;
            model.epoch([&left, &right]);
            out.extend(done.rows);
            late += done.late;
        }
        let last = Row { ts: Some(now[0].max(now[1]) + 1_000_000), k: 200, v: -1 };
        let other = Row { k: 201, v: -1, ..last };
        for rows in [[&[last][..], &[other][..]], [&[], &[]]] {
            let done = stream.epoch_of(&rows, false).await;
            model.epoch(rows);
            out.extend(done.rows);
            late += done.late;
        }
        out.sort();
        let mut batch = batch_of(&from(false), &[("l", &model.rows[0]), ("r", &model.rows[1])]).await;
        for lines in [&mut out, &mut batch] {
            lines.retain(|line| !line.contains("k200") && !line.contains("k201"));
        }
        assert_eq!(out, batch, "{told}");
        assert_eq!(late, model.late, "{told}: nothing of the join is late for its windows");
        rows += out.len();
    }
    assert!(rows as u64 > cases, "{rows} groups in {cases} cases prove nothing");
}

/// Two joins over three streams, and then windows: the upper operators wait for what the lower ones hold back.
#[tokio::test]
async fn chains_of_joins_equal_a_batch() {
    let (seed, cases) = (from_environment("ALLUVIUM_TEST_SEED", 1), from_environment("ALLUVIUM_TEST_CASES", 300) / 6);
    let mut groups = 0;
    for case in 0..cases {
        let mut random = Random::new((seed + case) ^ 0x3C41);
        let mut some = || [0, 2, 10, 40][random.below(4)];
        let (bounds, delays) = ([some(), some(), some(), some()], [some(), some(), some()]);
        let kinds = [["INNER", "LEFT"][random.below(2)], ["INNER", "LEFT", "LEFT SEMI", "LEFT ANTI"][random.below(4)]];
        let windows = random.below(2) == 0;
        let sql = |streams: bool| {
            let from = |at: usize| match (["l", "r", "m"][at], streams) {
                (name, true) => {
                    format!("STREAM {name} WATERMARK ts DELAY OF INTERVAL {} SECONDS AS {name}", delays[at])
                }
                (name, false) => name.to_string(),
            };
            let [a, b, c, d] = bounds;
            let joins = format!(
                "{} {} JOIN {} ON l.k = r.k AND r.ts BETWEEN l.ts - INTERVAL {a} SECONDS AND l.ts + INTERVAL {b} SECONDS \
                 {} JOIN {} ON l.k = m.k AND m.ts BETWEEN l.ts - INTERVAL {c} SECONDS AND l.ts + INTERVAL {d} SECONDS",
                from(0),
                kinds[0],
                from(1),
                kinds[1],
                from(2)
            );
            let last = if kinds[1].starts_with("LEFT ") { "0" } else { "m.v" };
            match windows {
                true => format!(
                    "SELECT unix_timestamp(window.start), l.k, count(*), sum(r.v), max({last}) FROM {joins} \
                     GROUP BY window(l.ts, '10 seconds'), l.k"
                ),
                false => format!("SELECT unix_timestamp(l.ts), l.k, l.v, r.v, {last} FROM {joins}"),
            }
        };
        let told = format!("seed {}\n{}", seed + case, sql(true));
        let mut stream = Stream::new(&sql(true), OutputMode::Append, 2, 0, 0);
        stream.open(Store::Memory(Arc::default()).open());
        let (mut now, mut out, mut late) = ([1000; 3], Vec::new(), 0);
        let mut timely: [Vec<Row>; 3] = Default::default();
        let (mut watermark, mut greatest): (Option<i64>, [Option<i64>; 3]) = (None, [None; 3]);
        let mut late_rows = 0;
        for epoch in 0..9 {
            let mut rows: Vec<Vec<Row>> = (0..3).map(|at| rows_of(&mut random, &mut now[at], 3)).collect();
            if epoch >= 7 {
                let far = now[0].max(now[1]).max(now[2]) + 1_000_000;
                let last = |at: u8| Row { ts: Some(far), k: 200 + at, v: -1 };
                rows = if epoch == 7 { (0..3).map(|at| vec![last(at)]).collect() } else { vec![Vec::new(); 3] };
            }
            let done = stream.epoch_of(&[&rows[0], &rows[1], &rows[2]], random.below(4) == 0).await;
            out.extend(done.rows);
            late += done.late;
            let each = (0..3).map(|at| greatest[at].map(|greatest| greatest - delays[at]));
            let until = watermark.max(each.collect::<Option<Vec<i64>>>().and_then(|each| each.into_iter().min()));
            for at in 0..3 {
                let is_late = |row: &&Row| row.ts.zip(watermark).is_some_and(|(ts, watermark)| ts <= watermark);
                late_rows += rows[at].iter().filter(is_late).count() as u64;
                timely[at].extend(rows[at].iter().filter(|row| !is_late(row)));
                greatest[at] = greatest[at].max(rows[at].iter().filter_map(|row| row.ts).max());
            }
            watermark = until;
        }
        out.sort();
        let mut batch = batch_of(&sql(false), &[("l", &timely[0]), ("r", &timely[1]), ("m", &timely[2])]).await;
        for lines in [&mut out, &mut batch] {
            lines.retain(|line| !line.contains("k200"));
        }
        assert_eq!(out, batch, "{told}");
        assert_eq!(late, late_rows, "{told}: nothing that a join gives out is late");
        groups += out.len();
    }
    assert!(groups as u64 > cases, "{groups} rows in {cases} cases prove nothing");
}

/// A day of two streams: what is kept never exceeds what the bounds hold, and it goes when the streams stop.
#[tokio::test]
async fn a_day_of_joins_leaves_the_last_hours() {
    for kind in ["INNER", "FULL", "LEFT SEMI"] {
        let columns = if kind == "LEFT SEMI" { "l.v" } else { "l.v, r.v" };
        let sql = format!(
            "SELECT {columns} FROM STREAM l WATERMARK ts DELAY OF INTERVAL 5 MINUTES AS l {kind} JOIN \
             STREAM r WATERMARK ts DELAY OF INTERVAL 10 MINUTES AS r \
             ON l.k = r.k AND r.ts BETWEEN l.ts - INTERVAL 30 MINUTES AND l.ts + INTERVAL 1 HOUR"
        );
        let dir = TestDir::new();
        let mut stream = Stream::new(&sql, OutputMode::Append, 2, 0, 0);
        stream.open(Checkpoint::open(&dir.0, "s").unwrap());
        let (mut most, mut out) = (0, 0);
        for epoch in 0..288_i64 {
            // Few rows at night.
            let rows = if (96..192).contains(&epoch) { 40 } else { 4 };
            let rows: Vec<Row> = (0..rows)
                .map(|at| Row { ts: Some(epoch * 300 + at * 7), k: ((epoch * 31 + at * 17) % 200) as u8, v: at })
                .collect();
            let done = stream.epoch_of(&[&rows, &rows], false).await;
            out += done.rows.len();
            most = most.max(done.kept);
            // A left row is kept for an hour behind the watermark, a right one for half: 12 and 6 epochs, 2 for the delay,
            // 1 since the watermark is that of the epoch before, 1 for borders.
            let bound = if (96..208).contains(&epoch) { 40 } else { 4 } * (16 + 10);
            assert!(done.kept <= bound, "{kind}: {} rows kept in epoch {epoch}", done.kept);
        }
        assert!(most > 300 && out > 1000, "{kind}: {most} kept at most, {out} out");
        let far = Row { ts: Some(200_000), k: 201, v: 0 };
        stream.epoch_of(&[&[far], &[Row { k: 202, ..far }]], false).await;
        let ended = stream.epoch_of(&[&[], &[]], false).await;
        assert_eq!(ended.kept, 2, "{kind}: only the rows that moved the watermark are left");
        let sizes = stream.checkpoint.as_ref().unwrap().state_sizes().unwrap();
        let sides: Vec<_> = sizes.iter().map(|size| (size.part, size.rows)).collect();
        assert_eq!(sides, [(Some("left"), 1), (Some("right"), 1)], "{kind}");
        assert!(sizes.iter().all(|size| size.bytes < 200), "{kind}: {sizes:?}");
    }
}

/// A store that counts what is read of ranges and what is written.
#[derive(Default)]
struct Counting {
    inner: MemoryStore,
    read: AtomicU64,
    written: AtomicU64,
}

impl StateStore for Counting {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.inner.get(column, key)
    }
    fn multi_get(
        &self,
        column: Column,
        keys: &[&[u8]],
        found: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        self.inner.multi_get(column, keys, found)
    }
    fn contains_sorted(&self, column: Column, prefix: &[u8], suffixes: &[&str]) -> Result<Vec<bool>> {
        self.inner.contains_sorted(column, prefix, suffixes)
    }
    fn page(&self, column: Column, from: &[u8], until: &[u8], rows: usize) -> Result<Page> {
        self.inner.page(column, from, until, rows)
    }
    fn page_back(&self, column: Column, from: &[u8], until: &[u8], rows: usize) -> Result<Page> {
        self.inner.page_back(column, from, until, rows)
    }
    fn scan_ranges(
        &self,
        column: Column,
        ranges: &[(Vec<u8>, Vec<u8>)],
        found: &mut dyn FnMut(usize, &[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        self.inner.scan_ranges(column, ranges, &mut |range, key, value| {
            self.read.fetch_add(1, Ordering::Relaxed);
            found(range, key, value)
        })
    }
    fn write(&self, batch: Batch, durable: bool) -> Result<()> {
        self.written.fetch_add(batch.bytes() as u64, Ordering::Relaxed);
        self.inner.write(batch, durable)
    }
    fn write_sorted(&self, column: Column, fill: Fill<'_>) -> Result<()> {
        self.inner.write_sorted(column, fill)
    }
    fn free(&self, column: Column, from: &[u8], until: &[u8]) -> Result<()> {
        self.inner.free(column, from, until)
    }
    fn settle(&self) -> Result<()> {
        self.inner.settle()
    }
    fn bytes_between(&self, column: Column, from: &[u8], until: &[u8]) -> Result<u64> {
        self.inner.bytes_between(column, from, until)
    }
}

/// Rows of one key that pile up are neither read nor written again by epochs whose times they are not near to.
#[tokio::test]
async fn a_key_with_many_rows_costs_what_matches() {
    let sql = "SELECT l.v, r.v FROM STREAM l WATERMARK ts DELAY OF INTERVAL 1 DAY AS l FULL JOIN \
               STREAM r WATERMARK ts DELAY OF INTERVAL 1 DAY AS r \
               ON l.k = r.k AND r.ts BETWEEN l.ts - INTERVAL 1 SECOND AND l.ts + INTERVAL 1 SECOND";
    let store = Arc::new(Counting::default());
    let mut stream = Stream::new(sql, OutputMode::Append, 1, 0, 0);
    stream.open(Checkpoint::on(store.clone(), "q".into(), "test").unwrap());
    let counted = || (store.read.swap(0, Ordering::Relaxed), store.written.swap(0, Ordering::Relaxed));
    let mut first = None;
    for epoch in 0..10_i64 {
        let rows: Vec<Row> = (0..2000).map(|at| Row { ts: Some(epoch * 2000 + at), k: 1, v: at }).collect();
        let done = stream.epoch_of(&[&rows, &rows], false).await;
        // Each row meets three; those across the border of two epochs come with the second one.
        assert_eq!(done.rows.len(), if epoch == 0 { 3 * 2000 - 2 } else { 3 * 2000 });
        assert_eq!(done.kept, (epoch as u64 + 1) * 4000);
        let (read, written) = counted();
        if epoch > 0 {
            assert_eq!(read, 2, "the last row before the border, of each side");
            let first = *first.get_or_insert(written);
            assert!(written < first + 1000, "epoch {epoch} wrote {written} bytes, epoch 1 {first}");
        }
    }
}
