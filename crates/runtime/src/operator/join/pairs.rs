//! Pairs of an arrival and a row that may match it: of one key, with times that the conditions allow.
//!
//! Pairs are made some at a time, so that a key with many rows on both sides needs no memory for all of them.

use std::ops::Range;

use super::arrivals::{Arrivals, NO_KEY};

/// How far the times of two matching rows are apart: by how much the other row is later at most, and the arrival.
#[derive(Debug, Clone, Copy)]
pub(super) struct Apart {
    pub other_later_us: Option<i64>,
    pub arrival_later_us: Option<i64>,
}

impl Apart {
    /// Times of matching other rows, where arrivals have times from `first` to `last`.
    pub fn of_others(self, first: Option<i64>, last: Option<i64>) -> (Option<i64>, Option<i64>) {
        let least = first.zip(self.arrival_later_us).map(|(first, later)| first.saturating_sub(later));
        let most = last.zip(self.other_later_us).map(|(last, later)| last.saturating_add(later));
        (least, most)
    }

    /// The arrivals among `rows`, oldest first, that match another row of this time.
    fn among(self, arrivals: &Arrivals, rows: &[u32], other: Option<i64>) -> Range<usize> {
        let Some(other) = other else { return 0..rows.len() };
        let least = self.other_later_us.map(|later| other.saturating_sub(later));
        let most = self.arrival_later_us.map(|later| other.saturating_add(later));
        let before = |limit: Option<i64>, row: &u32| {
            limit.is_some_and(|limit| arrivals.time(*row).is_some_and(|time| time < limit))
        };
        let not_behind = |row: &u32| most.is_none_or(|most| arrivals.time(*row).is_none_or(|time| time <= most));
        let from = rows.partition_point(|row| before(least, row));
        let until = rows.partition_point(not_behind);
        from..until.max(from)
    }
}

/// Where the making of pairs stands.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    /// The other row.
    other: usize,
    /// Which of its key's arrivals are left; None: not looked for yet.
    left: Option<Range<usize>>,
}

impl Pairs {
    /// Up to `limit` more pairs as numbers of arrivals and of other rows, of which there are so many, each with this key and
    /// time. Arrivals that are `done` are left out. Nothing when there are no more.
    pub fn take(
        &mut self,
        arrivals: &Arrivals,
        (others, key_and_time): (usize, impl Fn(usize) -> (u32, Option<i64>)),
        apart: Apart,
        done: impl Fn(u32) -> bool,
        limit: usize,
    ) -> (Vec<u32>, Vec<u32>) {
        let (mut of_arrivals, mut of_others) = (Vec::new(), Vec::new());
        while self.other < others && of_arrivals.len() < limit {
            let (key, time) = key_and_time(self.other);
            let rows = if key == NO_KEY { &[][..] } else { arrivals.of_key(key) };
            let left = self.left.get_or_insert_with(|| apart.among(arrivals, rows, time));
            for at in left.by_ref() {
                if !done(rows[at]) {
                    of_arrivals.push(rows[at]);
                    of_others.push(self.other as u32);
                    if of_arrivals.len() == limit {
                        break;
                    }
                }
            }
            if left.start >= left.end {
                self.other += 1;
                self.left = None;
            }
        }
        (of_arrivals, of_others)
    }
}
