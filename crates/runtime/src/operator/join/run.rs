//! One epoch of a join: what matches comes out, then what leaves without a match; what stays is staged.
//!
//! The steps, in this order: arrivals of the left side with kept rows of the right one; arrivals of the right side with kept
//! rows of the left one; arrivals of both with each other; arrivals that leave or stay; kept rows that the watermark ends.
//! Each gives its rows some at a time.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{filter_record_batch, prep_null_mask_filter, take_record_batch};
use arrow_row::{RowConverter, SortField};
use datafusion::common::{JoinType, Result as DfResult};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_expr::PhysicalExpr;

use super::arrivals::{Arrivals, Keys, NO_KEY};
use super::pairs::{Apart, Pairs};
use super::{JoinCell, StreamJoinExec};
use crate::operator::watermark::in_microseconds;
use crate::state::{Found, JoinChanges, Ranges, RowId, StagedJoin, canonical_keys, times_of};

/// Pairs, and rows, that are worked on at once.
const BATCH_ROWS: usize = 8192;

/// What becomes of the rows of a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// They come out with what they match.
    Pairs,
    /// They come out with NULLs as well, when nothing has matched.
    Outer,
    /// They come out when something matches for the first time.
    Semi,
    /// They come out when nothing has matched.
    Anti,
}

impl Role {
    fn of(join_type: JoinType) -> [Role; 2] {
        match join_type {
            JoinType::Inner => [Role::Pairs, Role::Pairs],
            JoinType::Left => [Role::Outer, Role::Pairs],
            JoinType::Right => [Role::Pairs, Role::Outer],
            JoinType::Full => [Role::Outer, Role::Outer],
            JoinType::LeftSemi | JoinType::LeftMark => [Role::Semi, Role::Pairs],
            JoinType::RightSemi | JoinType::RightMark => [Role::Pairs, Role::Semi],
            JoinType::LeftAnti => [Role::Anti, Role::Pairs],
            JoinType::RightAnti => [Role::Pairs, Role::Anti],
        }
    }

    /// A row that has matched is of no use any more.
    fn is_done_by_match(self) -> bool {
        matches!(self, Role::Semi | Role::Anti)
    }

    /// A row that has not matched comes out when it leaves.
    fn leaves_alone(self) -> bool {
        matches!(self, Role::Outer | Role::Anti)
    }
}

/// Where a run stands.
enum Step {
    /// Arrivals of a side with kept rows of the other.
    Stored { arriving: usize, ranges: Ranges, keys: Vec<u32>, page: Option<(Found, Pairs)> },
    /// Arrivals of the left side with those of the right one.
    Arrived(Pairs),
    /// Arrivals of a side leave or stay, a batch at a time.
    Leave { side: usize, batch: usize },
    /// Kept rows of a side are forgotten.
    End { side: usize, from: Option<Vec<u8>> },
    /// Everything has come out.
    Done,
}

/// See the module.
pub(super) struct Run {
    exec: Arc<StreamJoinExec>,
    roles: [Role; 2],
    converter: RowConverter,
    keys: Keys,
    sides: [Arrivals; 2],
    changes: JoinChanges,
    /// Numbers of kept rows that matched in this epoch, of sides where that matters.
    matched: [HashSet<u64>; 2],
    step: Step,
    reservation: MemoryReservation,
}

/// What arrivals are paired with.
#[derive(Clone, Copy)]
enum Others<'a> {
    Stored(&'a Found),
    Arrived,
}

impl Run {
    pub fn new(exec: Arc<StreamJoinExec>, reservation: MemoryReservation) -> DfResult<Run> {
        let schema = exec.inputs[0].schema();
        let field = |key: &Arc<dyn PhysicalExpr>| Ok(SortField::new(key.data_type(&schema)?));
        let converter = RowConverter::new(exec.conditions.on[0].iter().map(field).collect::<DfResult<_>>()?)?;
        Ok(Run {
            roles: Role::of(exec.conditions.join_type),
            converter,
            keys: Keys::default(),
            sides: Default::default(),
            changes: exec.table.changes(),
            matched: Default::default(),
            step: Step::Done,
            reservation,
            exec,
        })
    }

    /// Takes in rows of a side.
    pub fn take_in(&mut self, side: usize, batch: RecordBatch) -> DfResult<()> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(());
        }
        let evaluate = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(&batch)?.into_array(rows);
        let on = self.exec.conditions.on[side].iter().map(evaluate).collect::<DfResult<Vec<ArrayRef>>>()?;
        let times = match &self.exec.conditions.times[side].time {
            Some(time) => Some(times_of(&in_microseconds(evaluate(time)?)?)?),
            None => None,
        };
        self.sides[side].push(batch, &canonical_keys(&on), times.as_ref(), &self.converter, &mut self.keys)?;
        self.reserve()
    }

    /// Everything was taken in.
    pub fn begin(&mut self) -> DfResult<()> {
        let keys = self.keys.len();
        self.sides.iter_mut().for_each(|side| side.sort(keys));
        self.step = self.stored(0);
        self.reserve()
    }

    /// The next rows; None: that was all.
    pub fn next_batch(&mut self) -> DfResult<Option<RecordBatch>> {
        loop {
            let rows = match std::mem::replace(&mut self.step, Step::Done) {
                Step::Stored { arriving, ranges, keys, page } => self.match_stored(arriving, ranges, keys, page)?,
                Step::Arrived(pairs) => self.match_arrived(pairs)?,
                Step::Leave { side, batch } => self.leave(side, batch)?,
                Step::End { side, from } => self.end(side, from)?,
                Step::Done => return Ok(None),
            };
            self.reserve()?;
            if let Some(rows) = rows.filter(|rows| rows.num_rows() > 0) {
                return Ok(Some(rows));
            }
        }
    }

    /// The changes, and where they go.
    pub fn finish(self) -> (JoinCell, StagedJoin) {
        (self.exec.staged.clone(), self.changes.stage(self.exec.epoch))
    }

    fn reserve(&mut self) -> DfResult<()> {
        let arrivals: usize = self.sides.iter().map(Arrivals::bytes).sum();
        let matched: usize = self.matched.iter().map(|matched| matched.capacity() * 16).sum();
        self.reservation.try_resize(arrivals + matched + self.keys.bytes() + self.changes.bytes())
    }

    /// How far apart the times of an arrival of a side and of another row may be.
    fn apart(&self, arriving: usize) -> Apart {
        let times = &self.exec.conditions.times;
        Apart { other_later_us: times[arriving].ahead_us, arrival_later_us: times[1 - arriving].ahead_us }
    }

    /// Where rows are kept that may match arrivals of a side.
    fn stored(&self, arriving: usize) -> Step {
        let arrivals = &self.sides[arriving];
        let mut keys: Vec<u32> = arrivals.present().collect();
        keys.sort_unstable_by(|a, b| self.keys.get(*a).cmp(self.keys.get(*b)));
        let apart = self.apart(arriving);
        let range = |key: &u32| {
            let rows = arrivals.of_key(*key);
            let time = |row: Option<&u32>| row.and_then(|row| arrivals.time(*row));
            let (least, most) = apart.of_others(time(rows.first()), time(rows.last()));
            self.exec.table.range_of(1 - arriving, self.keys.get(*key), least, most)
        };
        let ranges = Ranges::of(keys.iter().map(range).collect());
        Step::Stored { arriving, ranges, keys, page: None }
    }

    fn match_stored(
        &mut self,
        arriving: usize,
        mut ranges: Ranges,
        keys: Vec<u32>,
        page: Option<(Found, Pairs)>,
    ) -> DfResult<Option<RecordBatch>> {
        let (found, mut pairs) = match page {
            Some(page) => page,
            None if ranges.is_empty() => {
                self.step = if arriving == 0 { self.stored(1) } else { Step::Arrived(Pairs::default()) };
                return Ok(None);
            }
            None => (self.exec.table.find(1 - arriving, &mut ranges, BATCH_ROWS)?, Pairs::default()),
        };
        let done = self.roles[arriving].is_done_by_match();
        let arrivals = &self.sides[arriving];
        let (of_arrivals, of_others) = pairs.take(
            arrivals,
            (found.ids.len(), |at: usize| (keys[found.ranges[at] as usize], found.ids[at].time)),
            self.apart(arriving),
            |row| done && arrivals.matched[row as usize],
            BATCH_ROWS,
        );
        let rows = self.match_pairs(arriving, &of_arrivals, Others::Stored(&found), &of_others)?;
        let page = if of_arrivals.is_empty() { None } else { Some((found, pairs)) };
        self.step = Step::Stored { arriving, ranges, keys, page };
        Ok(rows)
    }

    fn match_arrived(&mut self, mut pairs: Pairs) -> DfResult<Option<RecordBatch>> {
        let [left, right] = &self.sides;
        let done = self.roles[0].is_done_by_match();
        let (of_left, of_right) = pairs.take(
            left,
            (right.len(), |at: usize| (right.key(at as u32), right.time(at as u32))),
            self.apart(0),
            |row| done && left.matched[row as usize],
            BATCH_ROWS,
        );
        let rows = self.match_pairs(0, &of_left, Others::Arrived, &of_right)?;
        let finished = of_left.is_empty();
        self.step = if finished { Step::Leave { side: 0, batch: 0 } } else { Step::Arrived(pairs) };
        Ok(rows)
    }

    /// What comes out of pairs: those that meet all conditions, or the rows that match for the first time.
    fn match_pairs(
        &mut self,
        arriving: usize,
        of_arrivals: &[u32],
        others: Others<'_>,
        of_others: &[u32],
    ) -> DfResult<Option<RecordBatch>> {
        if of_arrivals.is_empty() {
            return Ok(None);
        }
        let conditions = self.exec.conditions.clone();
        let gives_pairs = !self.roles.iter().any(|role| role.is_done_by_match());
        let mut pairs = None;
        if gives_pairs || conditions.filter.is_some() {
            let arrived = self.sides[arriving].take(of_arrivals)?;
            let other = match others {
                Others::Stored(found) => take_record_batch(&found.rows, &UInt32Array::from(of_others.to_vec()))?,
                Others::Arrived => self.sides[1 - arriving].take(of_others)?,
            };
            let (left, right) = if arriving == 0 { (arrived, other) } else { (other, arrived) };
            let columns = [left.columns(), right.columns()].concat();
            pairs = Some(crate::state::batch_of(conditions.both.clone(), columns, of_arrivals.len())?);
        }
        let meets = match (&conditions.filter, &pairs) {
            (Some(filter), Some(pairs)) => {
                let meets = filter.evaluate(pairs)?.into_array(pairs.num_rows())?;
                let meets = meets.as_boolean();
                if meets.null_count() > 0 { prep_null_mask_filter(meets) } else { meets.clone() }
            }
            _ => BooleanArray::from(vec![true; of_arrivals.len()]),
        };
        let first = self.note_matches(arriving, of_arrivals, others, of_others, &meets);
        if gives_pairs {
            let Some(pairs) = pairs else { return Ok(None) };
            let pairs =
                if meets.true_count() == pairs.num_rows() { pairs } else { filter_record_batch(&pairs, &meets)? };
            let schema = self.exec.properties.eq_properties.schema().clone();
            let rows = pairs.num_rows();
            return Ok(Some(crate::state::batch_of(schema, pairs.columns().to_vec(), rows)?));
        }
        match first {
            FirstMatches { arrived, .. } if !arrived.is_empty() => {
                let rows = self.sides[arriving].take(&arrived)?;
                self.alone(arriving, rows).map(Some)
            }
            FirstMatches { other, .. } if !other.is_empty() => {
                let rows = match others {
                    Others::Stored(found) => take_record_batch(&found.rows, &UInt32Array::from(other))?,
                    Others::Arrived => self.sides[1 - arriving].take(&other)?,
                };
                self.alone(1 - arriving, rows).map(Some)
            }
            FirstMatches { .. } => Ok(None),
        }
    }

    /// Notes which rows have matched; gives those of a semi join's side for which it is the first time.
    fn note_matches(
        &mut self,
        arriving: usize,
        of_arrivals: &[u32],
        others: Others<'_>,
        of_others: &[u32],
        meets: &BooleanArray,
    ) -> FirstMatches {
        let mut first = FirstMatches::default();
        let (role, other_role) = (self.roles[arriving], self.roles[1 - arriving]);
        for ((row, other), _) in of_arrivals.iter().zip(of_others).zip(meets.values()).filter(|(_, meets)| *meets) {
            let before = std::mem::replace(&mut self.sides[arriving].matched[*row as usize], true);
            if role == Role::Semi && !before {
                first.arrived.push(*row);
            }
            let before = match others {
                Others::Arrived => std::mem::replace(&mut self.sides[1 - arriving].matched[*other as usize], true),
                Others::Stored(_) if other_role == Role::Pairs => true,
                Others::Stored(found) => {
                    let key = self.sides[arriving].key(*row);
                    !self.matched_stored(1 - arriving, key, found.ids[*other as usize])
                }
            };
            if other_role == Role::Semi && !before {
                first.other.push(*other);
            }
        }
        first
    }

    /// A kept row has matched; false when it did before in this epoch.
    fn matched_stored(&mut self, side: usize, key: u32, id: RowId) -> bool {
        if !self.matched[side].insert(id.number) {
            return false;
        }
        let key = self.keys.get(key);
        match self.roles[side] {
            Role::Semi | Role::Anti => self.changes.remove(side, key, id),
            // One that leaves with this epoch must not be written again.
            Role::Outer if !is_past(id.time, self.exec.until_us[side]) => self.changes.matched(side, key, id),
            Role::Outer | Role::Pairs => {}
        }
        true
    }

    /// Arrivals of a batch that can match no more come out if they have to; the others are kept.
    fn leave(&mut self, side: usize, batch: usize) -> DfResult<Option<RecordBatch>> {
        let role = self.roles[side];
        let arrivals = &self.sides[side];
        if batch == arrivals.batches() {
            self.step = Step::End { side, from: None };
            return Ok(None);
        }
        self.step = Step::Leave { side, batch: batch + 1 };
        let times = &self.exec.conditions.times[side];
        let (rows, encoded, before) = arrivals.batch(batch);
        let (mut alone, mut kept) = (Vec::new(), Vec::new());
        for at in 0..rows.num_rows() {
            let row = before + at as u32;
            let (matched, time) = (arrivals.matched[row as usize], arrivals.time(row));
            let unmatchable = arrivals.key(row) == NO_KEY;
            let over = is_past(time, self.exec.until_us[side]) || times.hold_us.is_some() && time.is_none();
            if role.is_done_by_match() && matched || unmatchable && !role.leaves_alone() {
                continue;
            }
            if !over {
                kept.push((at, encoded.row(at), time, matched));
            } else if role.leaves_alone() && !matched {
                alone.push(row);
            }
        }
        let kept = kept.iter().map(|(at, key, time, matched)| (*at, key.data(), *time, *matched));
        self.changes.keep(side, rows, kept)?;
        if alone.is_empty() {
            return Ok(None);
        }
        let rows = arrivals.take(&alone)?;
        self.alone(side, rows).map(Some)
    }

    /// Forgets kept rows that the watermark has passed; those that have to come out do so.
    fn end(&mut self, side: usize, from: Option<Vec<u8>>) -> DfResult<Option<RecordBatch>> {
        let next_side = if side == 0 { Step::Leave { side: 1, batch: 0 } } else { Step::Done };
        let Some(until_us) = self.exec.until_us[side] else {
            self.step = next_side;
            return Ok(None);
        };
        let role = self.roles[side];
        let page = self.exec.table.ended(side, until_us, from, BATCH_ROWS)?;
        let mut alone: Vec<(&[u8], RowId)> = Vec::new();
        for ((id, key), matched) in page.ids.iter().zip(&page.keys).zip(&page.matched) {
            let matched_now = self.matched[side].contains(&id.number);
            if role.is_done_by_match() && matched_now {
                continue;
            }
            self.changes.remove_row(side, key, *id);
            if role.leaves_alone() && !matched && !matched_now {
                alone.push((key, *id));
            }
        }
        let rows = if alone.is_empty() { None } else { Some(self.exec.table.rows_at(side, &alone)?) };
        self.step = match page.next {
            Some(from) => Step::End { side, from: Some(from) },
            None => {
                self.changes.end(side, until_us);
                next_side
            }
        };
        rows.map(|rows| self.alone(side, rows)).transpose()
    }

    /// Rows of a side as they come out without the other one.
    fn alone(&self, side: usize, rows: RecordBatch) -> DfResult<RecordBatch> {
        let schema = self.exec.properties.eq_properties.schema().clone();
        let count = rows.num_rows();
        let mut columns = rows.columns().to_vec();
        if self.roles[side] == Role::Outer {
            let others = self.exec.inputs[1 - side].schema();
            let nulls: Vec<ArrayRef> =
                others.fields().iter().map(|field| new_null_array(field.data_type(), count)).collect();
            columns = if side == 0 { [columns, nulls].concat() } else { [nulls, columns].concat() };
        }
        Ok(crate::state::batch_of(schema, columns, count)?)
    }
}

/// Rows of a semi join's side that have matched for the first time.
#[derive(Default)]
struct FirstMatches {
    arrived: Vec<u32>,
    other: Vec<u32>,
}

fn is_past(time: Option<i64>, until_us: Option<i64>) -> bool {
    time.zip(until_us).is_some_and(|(time, until_us)| time <= until_us)
}
