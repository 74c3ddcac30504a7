//! Random streams through watermarks, windows and deduplication against a model that knows nothing of state: after
//! every epoch the same rows have come out and the same number is kept, however the input is cut, whatever fails and is
//! run again, in memory, larger than memory, and on disk.
//!
//! `ALLUVIUM_TEST_CASES` sets the number of cases, `ALLUVIUM_TEST_SEED` the first one's seed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet, HashMap};

use alluvium_parser::{OptionEntry, OutputMode, Place, RelationKind, Span, StatementKind, parse_statement};
use alluvium_planner::bind::{Resolved, Wanted, bind, wanted};
use alluvium_planner::functions::session_state;
use alluvium_planner::options::TableStreamOptions;
use alluvium_planner::relation::{SourceKind, TableSpec};
use alluvium_planner::settings::{Settings, WatermarkPolicy};
use alluvium_planner::streaming::plan_stream;
use arrow::array::{Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::util::display::array_value_to_string;
use datafusion::datasource::MemTable;
use datafusion::physical_plan::collect;

use super::*;
use crate::clock::EpochWatermark;
use crate::state::MemoryStore;
use crate::state::tests::{Random, TestDir};

mod joins;
mod limits;

const SECOND: i64 = 1_000_000;

/// The key that stands for NULL.
const NULL_KEY: u8 = u8::MAX;

/// A row of the input: event time in seconds, key, number.
#[derive(Debug, Clone, Copy)]
struct Row {
    ts: Option<i64>,
    k: u8,
    v: i64,
}

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("k", DataType::Utf8, true),
        Field::new("v", DataType::Int64, true),
    ]))
}

fn batch(rows: &[Row]) -> RecordBatch {
    let ts: TimestampMicrosecondArray = rows.iter().map(|row| row.ts.map(|ts| ts * SECOND)).collect();
    let k: StringArray = rows.iter().map(|row| (row.k != NULL_KEY).then(|| format!("k{}", row.k))).collect();
    let v: Int64Array = rows.iter().map(|row| Some(row.v)).collect();
    RecordBatch::try_new(columns(), vec![Arc::new(ts.with_timezone("UTC")), Arc::new(k), Arc::new(v)]).unwrap()
}

/// Rows as a table of two partitions.
fn table(rows: &[Row]) -> Arc<dyn TableProvider> {
    let parts = rows.chunks(7).map(batch).collect::<Vec<_>>();
    let half = parts.len() / 2;
    Arc::new(MemTable::try_new(columns(), vec![parts[..half].to_vec(), parts[half..].to_vec()]).unwrap())
}

/// A plan over streams with these columns, in APPEND.
pub(super) fn planned(sql: &str) -> StreamingPlan {
    planned_with(sql, OutputMode::Append, &session_state(&Settings::default()))
}

fn planned_with(sql: &str, mode: OutputMode, session: &SessionState) -> StreamingPlan {
    let statement = parse_statement(sql, Place { line: 1, column: 1 }).unwrap();
    let StatementKind::Query { query, .. } = statement.kind else { panic!("{sql}") };
    let stream = |name: &str, options: &[OptionEntry]| {
        let kind = SourceKind::Table(Arc::new(TableSpec {
            name: name.into(),
            location: format!("/{name}"),
            options: TableStreamOptions::parse(options).unwrap(),
        }));
        let spec = SourceSpec { kind, title: format!("STREAM {name}"), span: Span::UNKNOWN, schema: columns() };
        Arc::new(StreamRelation { spec: Arc::new(spec) }) as Arc<dyn TableProvider>
    };
    // Streams of one name are one source.
    let mut known: BTreeMap<String, Arc<dyn TableProvider>> = BTreeMap::new();
    let resolved = wanted(&query).into_iter().map(|wanted| match wanted {
        Wanted::Special { relation, .. } => match &relation.kind {
            RelationKind::Stream { name, options } => {
                let name = name.parts.join(".");
                let provider = known.entry(name.clone()).or_insert_with(|| stream(&name, options)).clone();
                Resolved { provider, has_metadata: false }
            }
            other => panic!("{sql}: {other:?}"),
        },
        Wanted::Named { .. } => panic!("{sql}: only streams are known"),
    });
    let bound = bind(&query, &resolved.collect::<Vec<_>>(), session).unwrap();
    plan_stream(bound, &query, (mode, Span::UNKNOWN), session).unwrap_or_else(|e| panic!("{sql}: {e}"))
}

/// A stream's plan and what is remembered of it.
struct Stream {
    session: SessionState,
    plan: StreamingPlan,
    budget: usize,
    log_bytes: usize,
    checkpoint: Option<Checkpoint>,
    states: Vec<Arc<StateTable>>,
    watermarks: Watermarks,
    epoch: u64,
}

/// What an epoch did.
struct Done {
    rows: Vec<String>,
    late: u64,
    kept: u64,
}

impl Stream {
    fn new(sql: &str, mode: OutputMode, partitions: usize, budget: usize, log_bytes: usize) -> Stream {
        let session = session_state(&Settings { target_partitions: partitions, ..Settings::default() });
        let plan = planned_with(sql, mode, &session);
        Stream {
            session,
            plan,
            budget,
            log_bytes,
            checkpoint: None,
            states: Vec::new(),
            watermarks: Watermarks::default(),
            epoch: 0,
        }
    }

    fn open(&mut self, checkpoint: Checkpoint) {
        let tables = self.plan.state_tables().into_iter();
        self.states = tables.map(|at| checkpoint.state_with(at, self.budget, self.log_bytes).unwrap()).collect();
        self.watermarks = Watermarks::after(checkpoint.last_committed().unwrap().as_ref(), WatermarkPolicy::Min, 0);
        self.checkpoint = Some(checkpoint);
    }

    fn close(&mut self) {
        self.states.clear();
        if let Some(checkpoint) = self.checkpoint.take() {
            checkpoint.settle().unwrap();
        }
    }

    /// Runs an epoch without committing it.
    async fn run(&self, rows: &[&[Row]], watermark: EpochWatermark) -> (Vec<RecordBatch>, Arc<StreamExtensionPlanner>) {
        assert_eq!(self.plan.sources.len(), rows.len());
        let bound: Vec<_> = self.plan.sources.iter().cloned().zip(rows.iter().map(|rows| table(rows))).collect();
        let plan = rebind(self.plan.plan.clone(), &bound, &HashMap::new()).unwrap();
        let extension = Arc::new(StreamExtensionPlanner::new(self.states.clone(), self.epoch, watermark));
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![extension.clone()]);
        let physical = planner.create_physical_plan(&plan, &self.session).await.unwrap();
        (collect(physical, self.session.task_ctx()).await.unwrap(), extension)
    }

    /// One epoch; `twice`: after a run of it that failed.
    async fn epoch(&mut self, rows: &[Row], twice: bool) -> Done {
        self.epoch_of(&[rows], twice).await
    }

    /// One epoch with these rows of each source.
    async fn epoch_of(&mut self, rows: &[&[Row]], twice: bool) -> Done {
        let heard = Heard { ids: Vec::new(), with_input: Vec::new(), now_ms: 0 };
        let watermark = self.watermarks.next(&self.plan, &heard);
        if twice {
            self.run(rows, watermark).await;
        }
        let (batches, extension) = self.run(rows, watermark).await;
        let checkpoint = self.checkpoint.as_ref().unwrap();
        let watermarks = self.watermarks.behind(&self.plan, watermark, &extension.event_times(), &heard);
        let intent = Intent {
            epoch: self.epoch,
            timestamp_ms: 0,
            inputs: Vec::new(),
            fingerprint: String::new(),
            statics: BTreeMap::new(),
            watermark,
        };
        checkpoint.write_intent(&intent).unwrap();
        let record = EpochRecord {
            epoch: self.epoch,
            watermark_us: watermarks.current(),
            event_times_us: watermarks.event_times().to_vec(),
            ..EpochRecord::default()
        };
        let (state, joins) = (extension.staged().unwrap(), extension.staged_joins().unwrap());
        let (ledger, positions) = (Vec::new(), Vec::new());
        checkpoint
            .commit(EpochCommit { record, inputs: Vec::new(), ledger, positions, state, joins, sink: Vec::new() })
            .unwrap();
        self.watermarks = watermarks;
        self.epoch += 1;
        let kept = checkpoint.state_sizes().unwrap().iter().map(|size| size.rows).sum();
        Done { rows: lines(&batches), late: extension.late(), kept }
    }
}

/// Rows as sorted text.
fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let line = |batch: &RecordBatch, row: usize| {
        let cell = |column: &Arc<dyn Array>| match column.is_null(row) {
            true => "NULL".to_string(),
            false => array_value_to_string(column, row).unwrap(),
        };
        batch.columns().iter().map(cell).collect::<Vec<_>>().join("|")
    };
    let mut lines: Vec<String> =
        batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|row| line(batch, row))).collect();
    lines.sort();
    lines
}

/// The shapes of queries that are tried; lengths in seconds.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// Windows and perhaps the key.
    Windows { size: i64, slide: i64, start: i64, by_key: bool, complete: bool },
    /// Longer windows of windows.
    OfWindows { size: i64, times: i64 },
    /// Sessions and perhaps the key; with `by_row` the gap differs from row to row, and some rows have none.
    Sessions { gap: i64, by_row: bool, by_key: bool, complete: bool },
    /// Windows of sessions.
    OfSessions { gap: i64, size: i64 },
    /// The event time itself and the key.
    Instants,
    /// Different keys and event times.
    Distinct,
    /// The first row of each key, within the watermark.
    Within,
}

impl Shape {
    fn any(random: &mut Random) -> Shape {
        let size = [5, 10, 30, 60][random.below(4)];
        match random.below(12) {
            0 => Shape::OfWindows { size, times: 1 + random.below(3) as i64 },
            1 => Shape::Instants,
            2 => Shape::Distinct,
            3 => Shape::Within,
            4 => Shape::OfSessions { gap: 1 + random.below(40) as i64, size },
            5..8 => Shape::Sessions {
                gap: 1 + random.below(40) as i64,
                by_row: random.below(2) == 0,
                by_key: random.below(3) > 0,
                complete: random.below(4) == 0,
            },
            _ => {
                let slide = if random.below(2) == 0 { size } else { 1 + random.below(size as usize) as i64 };
                let start = random.below(slide as usize) as i64;
                Shape::Windows { size, slide, start, by_key: random.below(3) > 0, complete: random.below(5) == 0 }
            }
        }
    }

    fn mode(self) -> OutputMode {
        match self {
            Shape::Windows { complete: true, .. } | Shape::Sessions { complete: true, .. } => OutputMode::Complete,
            _ => OutputMode::Append,
        }
    }

    /// The gap of a row's session; None: it is in none.
    fn gap(self, row: &Row) -> Option<i64> {
        match self {
            Shape::Sessions { gap, by_row: true, .. } => match row.v {
                ..300 => Some(gap),
                300..350 => None,
                350..400 => Some(3 * gap),
                400..420 => None,
                _ => Some(1),
            },
            Shape::Sessions { gap, .. } | Shape::OfSessions { gap, .. } => Some(gap),
            _ => None,
        }
    }

    fn sql(self, from: &str) -> String {
        match self {
            Shape::Sessions { gap, by_row, by_key, .. } => {
                let gap = match by_row {
                    true => format!(
                        "CASE WHEN v < 300 THEN '{gap} seconds' WHEN v < 350 THEN NULL WHEN v < 400 THEN '{} seconds' \
                         WHEN v < 420 THEN '-1 minute' ELSE '1 second' END",
                        3 * gap
                    ),
                    false => format!("'{gap} seconds'"),
                };
                let (column, key) = if by_key { ("k", "k, ") } else { ("'-'", "") };
                format!(
                    "SELECT unix_timestamp(session_window.start), unix_timestamp(session_window.end), {column}, count(*), sum(v), max(v) \
                     FROM {from} GROUP BY {key}session_window(ts, {gap})"
                )
            }
            Shape::OfSessions { gap, size } => format!(
                "SELECT unix_timestamp(window.start), sum(n), sum(t), count(*) FROM (SELECT session_window AS w, k, count(*) AS n, \
                 sum(v) AS t FROM {from} GROUP BY session_window(ts, INTERVAL {gap} SECONDS), k) \
                 GROUP BY window(window_time(w), '{size} seconds')"
            ),
            Shape::Windows { size, slide, start, by_key, .. } => {
                let window = format!("window(ts, '{size} seconds', '{slide} seconds', '{start} seconds')");
                let (column, key) = if by_key { ("k", ", k") } else { ("'-'", "") };
                format!(
                    "SELECT unix_timestamp(window.start), {column}, count(*), sum(v), max(v) FROM {from} GROUP BY {window}{key}"
                )
            }
            Shape::OfWindows { size, times } => format!(
                "SELECT unix_timestamp(window.start), sum(n), sum(t), count(*) FROM (SELECT window(ts, '{size} seconds') AS w, k, \
                 count(*) AS n, sum(v) AS t FROM {from} GROUP BY window(ts, '{size} seconds'), k) \
                 GROUP BY window(window_time(w), '{} seconds')",
                size * times
            ),
            Shape::Instants => format!(
                "SELECT unix_timestamp(ts), k, count(*), sum(v), count(DISTINCT v % 7) FROM {from} GROUP BY ts, k"
            ),
            Shape::Distinct => format!("SELECT unix_timestamp(ts), k FROM (SELECT DISTINCT k, ts FROM {from})"),
            Shape::Within => format!("SELECT k FROM {from} DEDUPLICATE BY (k) WITHIN WATERMARK"),
        }
    }
}

/// A session: its bounds, and count, sum, greatest of its rows.
#[derive(Debug, Clone, Copy)]
struct Session {
    start: i64,
    end: i64,
    rows: (i64, i64, i64),
}

/// What is kept and what comes out, told row by row.
struct Model {
    shape: Shape,
    delay: i64,
    watermark: Option<i64>,
    greatest: Option<i64>,
    /// Numbers of rows by window start or instant, and key: count, sum, greatest.
    groups: BTreeMap<(Option<i64>, String), (i64, i64, i64)>,
    /// Different values of the same groups.
    values: BTreeMap<(Option<i64>, String), BTreeSet<i64>>,
    /// Windows of windows: rows, their sum, parts.
    outer: BTreeMap<i64, (i64, i64, i64)>,
    /// Sessions by key.
    sessions: BTreeMap<String, Vec<Session>>,
    /// Panes of sliding windows by their start, with the end of their last window.
    panes: BTreeSet<(i64, i64, String)>,
    seen: BTreeSet<(Option<i64>, u8)>,
    /// Until when a key is remembered; None: for ever.
    until: BTreeMap<u8, Option<i64>>,
}

impl Model {
    fn new(shape: Shape, delay: i64) -> Model {
        Model {
            shape,
            delay,
            watermark: None,
            greatest: None,
            groups: BTreeMap::new(),
            values: BTreeMap::new(),
            outer: BTreeMap::new(),
            sessions: BTreeMap::new(),
            panes: BTreeSet::new(),
            seen: BTreeSet::new(),
            until: BTreeMap::new(),
        }
    }

    fn epoch(&mut self, rows: &[Row]) -> Done {
        let late_by = self.watermark;
        let until = self.watermark.max(self.greatest.map(|greatest| greatest - self.delay));
        let is_late = |end: i64| late_by.is_some_and(|watermark| end <= watermark);
        let is_over = |end: i64| until.is_some_and(|watermark| end <= watermark);
        let (mut late, mut out) = (0, Vec::new());
        let mut within: BTreeMap<u8, Option<i64>> = BTreeMap::new();
        for row in rows {
            match self.shape {
                Shape::Windows { size, slide, start, by_key, complete } => {
                    let Some(ts) = row.ts else { continue };
                    let key = if by_key { format!("k{}", row.k) } else { "-".into() };
                    let starts = |at: &i64| (at - start).rem_euclid(slide) == 0;
                    for at in (ts - size + 1..=ts).filter(starts) {
                        match !complete && is_late(at + size) {
                            true => late += 1,
                            false => self.add((Some(at), key.clone()), row.v),
                        }
                    }
                    let last_end = (ts - slide + 1..=ts).find(starts).unwrap() + size;
                    if slide < size && !complete && !is_late(last_end) {
                        let border = |at: &i64| starts(at) || starts(&(at - size));
                        self.panes.insert(((ts - slide + 1..=ts).rev().find(border).unwrap(), last_end, key));
                    }
                }
                Shape::OfWindows { size, .. } => {
                    let Some(ts) = row.ts else { continue };
                    let at = ts - ts.rem_euclid(size);
                    match is_late(at + size) {
                        true => late += 1,
                        false => self.add((Some(at), format!("k{}", row.k)), row.v),
                    }
                }
                Shape::Sessions { by_key, complete, .. } => {
                    let (Some(ts), Some(gap)) = (row.ts, self.shape.gap(row)) else { continue };
                    let key = if by_key { format!("k{}", row.k) } else { "-".into() };
                    match !complete && is_late(ts + gap) {
                        true => late += 1,
                        false => self.add_session(key, ts, ts + gap, row.v),
                    }
                }
                Shape::OfSessions { gap, .. } => {
                    let Some(ts) = row.ts else { continue };
                    match is_late(ts + gap) {
                        true => late += 1,
                        false => self.add_session(format!("k{}", row.k), ts, ts + gap, row.v),
                    }
                }
                Shape::Instants => match row.ts.is_some_and(is_late) {
                    true => late += 1,
                    false => {
                        let group = (row.ts, format!("k{}", row.k));
                        self.values.entry(group.clone()).or_default().insert(row.v % 7);
                        self.add(group, row.v);
                    }
                },
                Shape::Distinct => match row.ts.is_some_and(is_late) {
                    true => late += 1,
                    false => {
                        if self.seen.insert((row.ts, row.k)) {
                            out.push(format!("{}|k{}", text(row.ts), row.k));
                        }
                    }
                },
                Shape::Within => match row.ts.is_some_and(is_late) {
                    true => late += 1,
                    false if self.until.contains_key(&row.k) => {}
                    false => {
                        let until = row.ts.map(|ts| ts + self.delay);
                        match within.get_mut(&row.k) {
                            None => {
                                within.insert(row.k, until);
                                out.push(format!("k{}", row.k));
                            }
                            Some(known) => *known = [*known, until].into_iter().flatten().min(),
                        }
                    }
                },
            }
        }
        self.until.extend(within);
        match self.shape {
            Shape::Windows { complete: true, .. } => {
                out = self
                    .groups
                    .iter()
                    .map(|((at, k), (n, sum, most))| format!("{}|{k}|{n}|{sum}|{most}", text(*at)))
                    .collect();
            }
            Shape::Windows { size, .. } => {
                self.panes.retain(|(_, end, _)| !is_over(*end));
                for ((at, k), (n, sum, most)) in self.end(|at| is_over(at + size)) {
                    out.push(format!("{}|{k}|{n}|{sum}|{most}", text(at)));
                }
            }
            Shape::OfWindows { size, times } => {
                for ((at, _), (n, sum, _)) in self.end(|at| is_over(at + size)) {
                    let at = at.unwrap();
                    let outer = self.outer.entry(at - at.rem_euclid(size * times)).or_default();
                    *outer = (outer.0 + n, outer.1 + sum, outer.2 + 1);
                }
                let over: Vec<i64> = self.outer.keys().copied().filter(|at| is_over(at + size * times)).collect();
                for at in over {
                    let (n, sum, parts) = self.outer.remove(&at).unwrap();
                    out.push(format!("{at}|{n}|{sum}|{parts}"));
                }
            }
            Shape::Sessions { complete, .. } => {
                let over = |session: &Session| complete || is_over(session.end);
                for (k, Session { start, end, rows: (n, sum, most) }) in self.ended_sessions(over, complete) {
                    out.push(format!("{start}|{end}|{k}|{n}|{sum}|{most}"));
                }
            }
            Shape::OfSessions { size, .. } => {
                for (_, Session { end, rows: (n, sum, _), .. }) in self.ended_sessions(|one| is_over(one.end), false) {
                    let last = end - 1;
                    let outer = self.outer.entry(last - last.rem_euclid(size)).or_default();
                    *outer = (outer.0 + n, outer.1 + sum, outer.2 + 1);
                }
                let over: Vec<i64> = self.outer.keys().copied().filter(|at| is_over(at + size)).collect();
                for at in over {
                    let (n, sum, parts) = self.outer.remove(&at).unwrap();
                    out.push(format!("{at}|{n}|{sum}|{parts}"));
                }
            }
            Shape::Instants => {
                for ((at, k), (n, sum, _)) in self.end(is_over) {
                    let group = (at, k);
                    let values = self.values.remove(&group).map_or(0, |values| values.len());
                    out.push(format!("{}|{}|{n}|{sum}|{values}", text(at), group.1));
                }
            }
            Shape::Distinct => self.seen.retain(|(ts, _)| !ts.is_some_and(is_over)),
            Shape::Within => self.until.retain(|_, until| !until.is_some_and(is_over)),
        }
        out.sort();
        self.watermark = until;
        self.greatest = self.greatest.max(rows.iter().filter_map(|row| row.ts).max());
        let values: usize = self.values.values().map(BTreeSet::len).sum();
        // A session is a row, and so is a key that has some.
        let sessions = self.sessions.values().map(|sessions| sessions.len() + 1).sum::<usize>();
        let groups = match self.shape {
            Shape::Windows { size, slide, complete: false, .. } if slide < size => self.panes.len(),
            _ => self.groups.len(),
        };
        let kept = values + groups + self.outer.len() + self.seen.len() + self.until.len() + sessions;
        Done { rows: out, late, kept: kept as u64 }
    }

    fn add(&mut self, group: (Option<i64>, String), v: i64) {
        let known = self.groups.entry(group).or_insert((0, 0, i64::MIN));
        *known = (known.0 + 1, known.1 + v, known.2.max(v));
    }

    fn add_session(&mut self, key: String, start: i64, end: i64, v: i64) {
        let known = self.sessions.entry(key).or_default();
        let mut one = Session { start, end, rows: (1, v, v) };
        known.retain(|other| {
            let meets = other.start <= end && start <= other.end;
            if meets {
                let (rows, others) = (one.rows, other.rows);
                one = Session {
                    start: one.start.min(other.start),
                    end: one.end.max(other.end),
                    rows: (rows.0 + others.0, rows.1 + others.1, rows.2.max(others.2)),
                };
            }
            !meets
        });
        known.push(one);
    }

    /// Takes the sessions out that are over, or only shows them.
    fn ended_sessions(&mut self, over: impl Fn(&Session) -> bool, keep: bool) -> Vec<(String, Session)> {
        let ended = self.sessions.iter().flat_map(|(key, all)| all.iter().map(move |one| (key.clone(), *one)));
        let ended = ended.filter(|(_, one)| over(one)).collect();
        if !keep {
            self.sessions.values_mut().for_each(|all| all.retain(|one| !over(one)));
            self.sessions.retain(|_, all| !all.is_empty());
        }
        ended
    }

    /// Takes the groups out that are over.
    fn end(&mut self, over: impl Fn(i64) -> bool) -> BTreeMap<(Option<i64>, String), (i64, i64, i64)> {
        let (ended, stay) =
            std::mem::take(&mut self.groups).into_iter().partition(|((at, _), _)| at.is_some_and(&over));
        self.groups = stay;
        ended
    }
}

fn text(at: Option<i64>) -> String {
    at.map_or("NULL".into(), |at| at.to_string())
}

/// Rows whose event times go forward, with some disorder.
fn some_rows(random: &mut Random, now: &mut i64, rows: usize, keys: usize) -> Vec<Row> {
    let step = 1 + random.below(20);
    (0..rows)
        .map(|_| {
            *now += random.below(step) as i64;
            let back = if random.below(4) == 0 { random.below(90) as i64 } else { 0 };
            let ts = (random.below(20) > 0).then_some(*now - back);
            Row { ts, k: random.below(keys) as u8, v: random.below(1000) as i64 }
        })
        .collect()
}

enum Store {
    Memory(Arc<MemoryStore>),
    Disk(TestDir),
}

impl Store {
    fn open(&self) -> Checkpoint {
        match self {
            Store::Memory(store) => Checkpoint::on(store.clone(), "q".into(), "test").unwrap(),
            Store::Disk(dir) => Checkpoint::open(&dir.0, "s").unwrap(),
        }
    }
}

/// Gives how many rows came out and how many were late.
async fn one_case(seed: u64) -> (usize, u64) {
    let mut random = Random::new(seed);
    let (shape, delay) = (Shape::any(&mut random), [0, 1, 10, 60][random.below(4)]);
    let place = match random.below(8) {
        0 => Store::Disk(TestDir::new()),
        _ => Store::Memory(Arc::default()),
    };
    let (budget, log_bytes) = [(64 << 20, 1 << 20), (64 << 20, 0), (20_000, 0), (0, 0)][random.below(4)];
    let keys = [1, 3, 40][random.below(3)];
    let told = format!("seed {seed}: {shape:?}, delay {delay}, budget {budget}, log {log_bytes}, {keys} keys");
    let from = format!("STREAM s WATERMARK ts DELAY OF INTERVAL {delay} SECONDS");
    let mut stream = Stream::new(&shape.sql(&from), shape.mode(), 1 + random.below(3), budget, log_bytes);
    let mut model = Model::new(shape, delay);
    // Around 1970 as well.
    let mut now = [1_767_225_600, 30, -2000][random.below(3)];
    stream.open(place.open());
    let (mut out, mut late) = (0, 0);
    let (mut all, mut last) = (Vec::new(), Vec::new());
    for epoch in 0..4 + random.below(10) {
        let rows = match random.below(5) {
            0 => 0,
            _ => 1 + random.below(60),
        };
        let rows = some_rows(&mut random, &mut now, rows, keys);
        let (found, expected) = (stream.epoch(&rows, random.below(4) == 0).await, model.epoch(&rows));
        assert_eq!(found.rows, expected.rows, "{told}, epoch {epoch}");
        assert_eq!(found.late, expected.late, "late rows: {told}, epoch {epoch}");
        assert_eq!(found.kept, expected.kept, "rows of state: {told}, epoch {epoch}");
        (out, late) = (out + found.rows.len(), late + found.late);
        all.extend(rows);
        last = found.rows;
        if random.below(3) == 0 {
            stream.close();
            stream.open(place.open());
        }
    }
    if shape.mode() == OutputMode::Complete {
        assert_eq!(last, once(&shape.sql("s"), &all).await, "the query run once: {told}");
    }
    (out, late)
}

/// A query that is no stream, over all rows.
async fn once(sql: &str, rows: &[Row]) -> Vec<String> {
    let session = session_state(&Settings { target_partitions: 2, ..Settings::default() });
    let StatementKind::Query { query, .. } = parse_statement(sql, Place { line: 1, column: 1 }).unwrap().kind else {
        panic!("{sql}")
    };
    let parts = rows.chunks(20).map(|rows| vec![batch(rows)]).collect();
    let provider: Arc<dyn TableProvider> = Arc::new(MemTable::try_new(columns(), parts).unwrap());
    let plan = bind(&query, &[Resolved { provider, has_metadata: false }], &session).unwrap();
    let physical = session.create_physical_plan(&plan).await.unwrap();
    lines(&collect(physical, session.task_ctx()).await.unwrap())
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[tokio::test]
async fn event_time_is_as_the_model_says() {
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

/// A day of events: what is kept never exceeds the windows that are open, in memory and on disk.
#[tokio::test]
async fn a_day_of_windows_leaves_the_last_ones() {
    let sql = "SELECT window.start, k, count(*) FROM STREAM s WATERMARK ts DELAY OF INTERVAL 5 MINUTES \
               GROUP BY window(ts, '10 minutes'), k";
    for budget in [64 << 20, 0] {
        let dir = TestDir::new();
        let mut stream = Stream::new(sql, OutputMode::Append, 2, budget, 0);
        stream.open(Checkpoint::open(&dir.0, "s").unwrap());
        let (mut out, mut most) = (0, 0);
        for epoch in 0..288_i64 {
            let rows: Vec<Row> =
                (0..100).map(|at| Row { ts: Some(epoch * 300 + at * 3), k: (at % 10) as u8, v: at }).collect();
            let done = stream.epoch(&rows, false).await;
            out += done.rows.len();
            most = most.max(done.kept);
        }
        // The open window, the one that the delay holds open, and the one that ends with the next epoch: ten keys each.
        assert!(most <= 30, "{most} rows kept at once, budget {budget}");
        let ended = stream.epoch(&[], false).await;
        out += ended.rows.len();
        assert_eq!((out, ended.kept), (143 * 10, 10), "budget {budget}");
        let size = stream.checkpoint.as_ref().unwrap().state_sizes().unwrap()[0];
        assert!(size.bytes < 64 << 10, "{size:?}, budget {budget}");
    }
}

/// A day of sessions: what is kept goes up with the visitors and down with the watermark, in memory and on disk.
#[tokio::test]
async fn a_day_of_sessions_leaves_the_open_ones() {
    let sql = "SELECT session_window.start, k, count(*) FROM STREAM s WATERMARK ts DELAY OF INTERVAL 5 MINUTES \
               GROUP BY session_window(ts, '2 minutes'), k";
    for budget in [64 << 20, 0] {
        let dir = TestDir::new();
        let mut stream = Stream::new(sql, OutputMode::Append, 2, budget, 0);
        stream.open(Checkpoint::open(&dir.0, "s").unwrap());
        let (mut out, mut most) = (0, 0);
        for epoch in 0..288_i64 {
            // Every five minutes another ten visitors come for two and a half.
            let visitor = |at: i64| ((epoch % 20) * 10 + at % 10) as u8;
            let rows: Vec<Row> =
                (0..100).map(|at| Row { ts: Some(epoch * 300 + at * 3 / 2), k: visitor(at), v: at }).collect();
            let done = stream.epoch(&rows, epoch % 50 == 7).await;
            assert_eq!(done.late, 0);
            out += done.rows.len();
            most = most.max(done.kept);
        }
        assert!(most <= 60, "{most} rows kept at once, budget {budget}");
        out += stream.epoch(&[], false).await.rows.len();
        // A time far ahead ends everything that was open.
        stream.epoch(&[Row { ts: Some(1_000_000), k: 255, v: 0 }], false).await;
        let ended = stream.epoch(&[], false).await;
        out += ended.rows.len();
        assert_eq!((out, ended.kept), (288 * 10, 2), "budget {budget}");
        let sizes = stream.checkpoint.as_ref().unwrap().state_sizes().unwrap();
        assert!(sizes.iter().all(|size| size.bytes < 64 << 10), "{sizes:?}, budget {budget}");
    }
}
