//! What a table must be: which rows an epoch reads, where the watermark is, and what of the batch's result is to be seen.
//!
//! Epochs are known beforehand, since files are read in the order in which they landed. Knows nothing of how a stream
//! does it.

use std::collections::{BTreeMap, VecDeque};

use super::event_time::Marks;
use super::rows::Row;
use super::sessions::Sessions;

/// How a table follows from the oracle's query.
pub enum Expected {
    /// It is what the query gives.
    Same,
    /// It has so many of the rows that the query gives, or all.
    Limit(usize),
    /// It has the sessions that are over, each as it was when the watermark reached its end.
    Sessions(Sessions),
    /// The oracle is a model.
    Within(Within),
}

/// Rows by source.
pub type BySource = [Vec<Row>; 3];

/// An epoch: rows that come by `late_by` or before are late, what is over by `until` comes out.
pub struct EpochOf {
    pub late_by: Option<i64>,
    pub until: Option<i64>,
    pub rows: BySource,
}

/// What has landed, and how far event time has come. Times are seconds since 1970.
#[derive(Default)]
pub struct Input {
    pub marks: Marks,
    /// The greatest of several watermarks counts, not the least.
    pub greatest_counts: bool,
    /// Most files of a source that an epoch takes.
    pub most: usize,
    /// Whether an epoch runs for the watermark alone.
    pub acts: bool,
    /// The rows of each file that waits.
    pub waiting: [VecDeque<Vec<Row>>; 3],
    pub watermark: Option<i64>,
    pub greatest: [Option<i64>; 3],
}

impl Input {
    /// The epochs of a run that reads everything.
    pub fn epochs(&mut self) -> Vec<EpochOf> {
        let mut epochs = Vec::new();
        while self.waiting.iter().any(|files| !files.is_empty()) {
            let (most, until) = (self.most, self.reached());
            let rows = self.waiting.each_mut().map(|files| {
                let taken = files.drain(..most.min(files.len())).flatten();
                taken.collect::<Vec<Row>>()
            });
            for (greatest, rows) in self.greatest.iter_mut().zip(&rows) {
                *greatest = rows.iter().filter_map(|row| row.ts).chain(*greatest).max();
            }
            epochs.push(EpochOf { late_by: self.watermark, until, rows });
            self.watermark = until;
        }
        let until = self.reached();
        if self.acts && until > self.watermark {
            epochs.push(EpochOf { late_by: self.watermark, until, rows: BySource::default() });
            self.watermark = until;
        }
        epochs
    }

    /// The watermark after what was read.
    fn reached(&self) -> Option<i64> {
        let mut each = self.marks.0.iter().map(|(source, delay)| Some(self.greatest[*source]? - delay));
        let reached = match self.greatest_counts {
            true => each.flatten().max(),
            false => each.try_fold(i64::MAX, |least, one| Some(least.min(one?))).filter(|_| !self.marks.0.is_empty()),
        };
        self.watermark.max(reached)
    }
}

/// Sessions that came out, and the rows that are in none of them.
#[derive(Default)]
pub struct OpenRows {
    pub rows: BySource,
    /// Sessions that came out, as lines of `since|until|key|…|shown`.
    ended: Vec<String>,
}

impl OpenRows {
    /// Takes the rows of an epoch that are not late.
    pub fn take(&mut self, sessions: &Sessions, epoch: &EpochOf) {
        for (open, rows) in self.rows.iter_mut().zip(&epoch.rows) {
            open.extend(
                rows.iter()
                    .filter(|row| {
                        let end = row.ts.zip(sessions.gap(row)).map(|(ts, gap)| ts + gap);
                        end.zip(epoch.late_by).is_none_or(|(end, late_by)| end > late_by)
                    })
                    .cloned(),
            );
        }
    }

    /// Takes out the sessions that are over, of all those of the open rows.
    pub fn end(&mut self, sessions: &Sessions, all: Vec<String>, until: i64) {
        for line in all {
            let mut cells = line.split('|');
            let (since, end) = (number(cells.next()), number(cells.next()));
            let key = cells.next().unwrap().to_string();
            if end > until {
                continue;
            }
            self.rows.iter_mut().for_each(|rows| {
                rows.retain(|row| {
                    let within = row.ts.zip(sessions.gap(row)).is_some_and(|(ts, gap)| since <= ts && ts + gap <= end);
                    !within || sessions.key_of(row) != key
                });
            });
            self.ended.push(line);
        }
    }

    /// The table.
    pub fn table(&self, sessions: &Sessions, until: Option<i64>) -> Vec<String> {
        let mut lines: Vec<String> = match sessions.windows {
            None => self.ended.iter().filter_map(|line| Some(line.strip_suffix("|true")?.to_string())).collect(),
            Some(size) => {
                let mut windows: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
                for line in &self.ended {
                    let cells: Vec<&str> = line.split('|').collect();
                    // The last instant of a session is before its end.
                    let end = ((number(cells.get(1).copied()) - 1).div_euclid(size) + 1) * size;
                    let known = windows.entry(end).or_default();
                    *known = (known.0 + 1, known.1 + number(cells.get(3).copied()));
                }
                let over = windows.into_iter().filter(|(end, _)| until.is_some_and(|until| *end <= until));
                over.map(|(end, (sessions, rows))| format!("{end}|{sessions}|{rows}")).collect()
            }
        };
        lines.sort();
        lines
    }
}

fn number(cell: Option<&str>) -> i64 {
    cell.unwrap().parse().unwrap()
}

/// DEDUPLICATE BY … WITHIN WATERMARK, row by row.
#[derive(Default)]
pub struct Within {
    /// The key is `k, j`, not `k`.
    pub by_j: bool,
    /// Only rows with a greater `v`.
    pub above: Option<i64>,
    /// Until when a key is remembered; None: for ever.
    pub until: BTreeMap<String, Option<i64>>,
    pub out: Vec<String>,
}

impl Within {
    pub fn epoch(&mut self, epoch: &EpochOf, delay: i64) {
        let mut new: BTreeMap<String, Option<i64>> = BTreeMap::new();
        for row in epoch.rows.iter().flatten() {
            let late = row.ts.zip(epoch.late_by).is_some_and(|(ts, late_by)| ts <= late_by);
            if late || self.above.is_some_and(|above| row.v.is_none_or(|v| v <= above)) {
                continue;
            }
            let k = row.k.unwrap_or("NULL");
            let key = match self.by_j {
                true => format!("{k}|{}", row.j.map_or("NULL".to_string(), |j| j.to_string())),
                false => k.to_string(),
            };
            if self.until.contains_key(&key) {
                continue;
            }
            let until = row.ts.map(|ts| ts + delay);
            match new.get_mut(&key) {
                // Of the first rows of one epoch that with the least time counts.
                Some(known) => *known = [*known, until].into_iter().flatten().min(),
                None => {
                    self.out.push(key.clone());
                    new.insert(key, until);
                }
            }
        }
        self.until.extend(new);
        self.until.retain(|_, until| !until.zip(epoch.until).is_some_and(|(until, watermark)| until <= watermark));
    }

    pub fn table(&self) -> Vec<String> {
        let mut lines = self.out.clone();
        lines.sort();
        lines
    }
}
