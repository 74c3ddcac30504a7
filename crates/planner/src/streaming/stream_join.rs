//! Joins of two streams: which keys they have, and until when a row of one side may still meet one of the other.
//!
//! Both follow from the conditions. Where one of them says that a row of the other side is later by a certain length at
//! most, a row can be forgotten once the other side's watermark is past its time and that length: whatever comes then
//! is late or does not match. Spark's analyzer takes outer joins that lack such a bound on one side; here the rules
//! refuse them. Knows nothing of how rows are kept.

mod conditions;
mod shown;

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, DFSchema, JoinType, Result};
use datafusion::logical_expr::utils::{conjunction, find_valid_equijoin_key_pair, split_conjunction};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Join, LogicalPlan, Operator};
use datafusion::scalar::ScalarValue;

use super::event_time::{EventTime, Kind, Known, bounded_column};
use crate::bind::first_stream;
use crate::functions::time_window::{TimeWindow, is_window, is_window_time};
use crate::node::JoinSide;

pub(super) use conditions::with_conditions_moved;
pub(super) use shown::{fingerprint, info, stored_columns};

/// What the conditions of a join say.
pub(super) struct StreamJoin {
    /// Pairs of equal expressions, left and right.
    pub on: Vec<(Expr, Expr)>,
    /// What else must hold.
    pub filter: Option<Expr>,
    /// What bounds the two sides.
    pub sides: [JoinSide; 2],
}

/// Why rows of a side can never be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unbounded {
    /// The other side has no watermark.
    Watermark,
    /// No condition says until when a row of the other side matches.
    Condition,
}

/// Whether a join has a stream on either side.
pub(crate) fn is_of_streams(join: &Join) -> bool {
    first_stream(&join.left).is_some() && first_stream(&join.right).is_some()
}

/// Whether two streams are joined somewhere in `plan`.
pub(crate) fn joins_streams(plan: &LogicalPlan) -> bool {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Join(join) if is_of_streams(join)))).unwrap_or(true)
}

impl StreamJoin {
    /// What `join`'s conditions say.
    pub fn of(join: &Join) -> Result<StreamJoin> {
        let equal = |(left, right): &(Expr, Expr)| binary(left.clone(), Operator::Eq, right.clone());
        let mut conditions: Vec<Expr> = join.on.iter().map(equal).collect();
        conditions.extend(join.filter.iter().flat_map(|filter| split_conjunction(filter)).cloned());
        let sides = Sides { left: join.left.schema(), right: join.right.schema(), both: joint(join)? };
        let (mut on, mut others) = (Vec::new(), Vec::new());
        for condition in &conditions {
            match sides.key(condition)? {
                Some(key) => on.push(key),
                None => others.push(condition.clone()),
            }
        }
        let known = [Known::of(&join.left), Known::of(&join.right)];
        let mut bounds = Bounds { sides: &sides, known: &known, pairs: Vec::new() };
        conditions.iter().for_each(|condition| bounds.read(condition));
        let sides = bounds.decide(join);
        Ok(StreamJoin { on, filter: conjunction(others), sides })
    }

    /// Why rows of a side (0 left, 1 right) are never forgotten; None: they are.
    pub fn unbounded(&self, side: usize) -> Option<Unbounded> {
        unbounded(&self.sides, side)
    }
}

/// Why rows of one of `sides` are never forgotten; None: they are.
pub(super) fn unbounded(sides: &[JoinSide; 2], side: usize) -> Option<Unbounded> {
    match (sides[side].hold_us, &sides[1 - side].late) {
        (Some(_), _) => None,
        (None, None) => Some(Unbounded::Watermark),
        (None, Some(_)) => Some(Unbounded::Condition),
    }
}

/// The sides whose rows come out when it is sure that nothing matches them, or (semi) that wait for their first match.
pub(super) fn waiting_sides(join_type: JoinType) -> &'static [usize] {
    match join_type {
        JoinType::Inner => &[],
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => &[0],
        JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => &[1],
        JoinType::Full => &[0, 1],
    }
}

/// What the columns of a join tell of event time. A row of a side may come out as long as it is kept: its times stay
/// behind the watermark by as much. Where rows are kept for ever, their times tell nothing.
pub(super) fn joined_times(
    left: &LogicalPlan,
    right: &LogicalPlan,
    sides: &[JoinSide; 2],
    join_type: JoinType,
) -> Vec<Option<EventTime>> {
    let of = |plan: &LogicalPlan, side: &JoinSide| -> Vec<Option<EventTime>> {
        let known = Known::of(plan);
        let columns = plan.schema().columns().into_iter();
        columns
            .map(|column| known.event_time(&Expr::Column(column.clone())).and_then(|t| held(t, &column, side)))
            .collect()
    };
    match join_type {
        JoinType::LeftSemi | JoinType::LeftAnti => of(left, &sides[0]),
        JoinType::RightSemi | JoinType::RightAnti => of(right, &sides[1]),
        _ => [of(left, &sides[0]), of(right, &sides[1])].concat(),
    }
}

/// What `column` tells of event time behind the join. Only the time by which rows are forgotten bounds how old they are.
fn held(time: EventTime, column: &Column, side: &JoinSide) -> Option<EventTime> {
    let hold_us = side.hold_us?.saturating_add(older_by(side.time.as_ref()?, column)?);
    Some(EventTime { lag_us: time.lag_us.max(hold_us), ..time })
}

/// By how much the value of `column` is older than `time`, at most; None: they do not belong together.
fn older_by(time: &Expr, column: &Column) -> Option<i64> {
    match time {
        Expr::Column(same) => (same == column).then_some(0),
        Expr::Cast(cast) => older_by(&cast.expr, column),
        Expr::Alias(alias) => older_by(&alias.expr, column),
        Expr::ScalarFunction(call) => {
            let (of, lengths) = call.args.split_first()?;
            let below = older_by(of, column)?;
            if !is_window(time) {
                // A window's end, or its last instant.
                return (is_window_time(time) || call.func.name() == "get_field").then_some(below);
            }
            let literal = |expr: &Expr| match expr {
                Expr::Literal(value, _) => Some(value.clone()),
                _ => None,
            };
            let window = TimeWindow::of(&lengths.iter().map(literal).collect::<Option<Vec<_>>>()?).ok()?;
            Some(below.saturating_add(window.size))
        }
        _ => None,
    }
}

/// Columns of the two sides.
struct Sides<'a> {
    left: &'a DFSchema,
    right: &'a DFSchema,
    both: DFSchema,
}

/// The columns of both inputs, whatever the join gives out.
fn joint(join: &Join) -> Result<DFSchema> {
    join.left.schema().join(join.right.schema())
}

impl Sides<'_> {
    /// The pair of equal expressions of one type that `condition` is.
    fn key(&self, condition: &Expr) -> Result<Option<(Expr, Expr)>> {
        let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return Ok(None) };
        if condition.is_volatile() || left.get_type(&self.both)? != right.get_type(&self.both)? {
            return Ok(None);
        }
        find_valid_equijoin_key_pair(left, right, self.left, self.right)
    }

    /// 0 for an expression over columns of the left side, 1 of the right one.
    fn side_of(&self, expr: &Expr) -> Option<usize> {
        let columns = expr.column_refs();
        let all = |schema: &DFSchema| !columns.is_empty() && columns.iter().all(|column| schema.has_column(column));
        [self.left, self.right].into_iter().position(all)
    }
}

/// Two times that conditions compare.
struct Pair {
    times: [Expr; 2],
    /// By how much the right time is later than the left one at most, and the left one than the right one.
    ahead_us: [Option<i64>; 2],
}

struct Bounds<'a> {
    sides: &'a Sides<'a>,
    known: &'a [Known; 2],
    pairs: Vec<Pair>,
}

impl Bounds<'_> {
    /// Notes what a condition says of times of the two sides.
    fn read(&mut self, condition: &Expr) {
        match condition {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
                Operator::Eq => {
                    self.same_windows(left, right);
                    self.at_most(left, right);
                    self.at_most(right, left);
                }
                // A row that would be just too early is kept a microsecond longer than need be.
                Operator::Lt | Operator::LtEq => self.at_most(left, right),
                Operator::Gt | Operator::GtEq => self.at_most(right, left),
                _ => {}
            },
            Expr::Between(between) if !between.negated => {
                self.at_most(&between.low, &between.expr);
                self.at_most(&between.expr, &between.high);
            }
            _ => {}
        }
    }

    /// `less <= more`.
    fn at_most(&mut self, less: &Expr, more: &Expr) {
        let mut difference = Difference::default();
        let read =
            difference.add(less, false, &self.sides.both).and_then(|()| difference.add(more, true, &self.sides.both));
        let (Some(()), [plus], [minus]) = (read, &difference.plus[..], &difference.minus[..]) else { return };
        // plus - minus + length <= 0
        let Some(most_us) = difference.length_us.checked_neg() else { return };
        match (self.sides.side_of(plus), self.sides.side_of(minus)) {
            (Some(1), Some(0)) => self.note([minus.clone(), plus.clone()], 0, most_us),
            (Some(0), Some(1)) => self.note([plus.clone(), minus.clone()], 1, most_us),
            _ => {}
        }
    }

    /// Rows of one window end together.
    fn same_windows(&mut self, left: &Expr, right: &Expr) {
        let is_window =
            |side: usize, expr: &Expr| self.known[side].event_time(expr).is_some_and(|time| time.kind == Kind::Window);
        let times = match (self.sides.side_of(left), self.sides.side_of(right)) {
            (Some(0), Some(1)) => [left, right],
            (Some(1), Some(0)) => [right, left],
            _ => return,
        };
        if is_window(0, times[0]) && is_window(1, times[1]) {
            self.note(times.map(Expr::clone), 0, 0);
            self.note(times.map(Expr::clone), 1, 0);
        }
    }

    fn note(&mut self, times: [Expr; 2], side: usize, most_us: i64) {
        let at = self.pairs.iter().position(|pair| pair.times == times).unwrap_or_else(|| {
            self.pairs.push(Pair { times, ahead_us: [None; 2] });
            self.pairs.len() - 1
        });
        let known = &mut self.pairs[at].ahead_us[side];
        *known = Some(known.map_or(most_us, |known| known.min(most_us)));
    }

    /// The pair that bounds most, the first of these.
    fn decide(self, join: &Join) -> [JoinSide; 2] {
        let times = |pair: &Pair| [0, 1].map(|side| self.known[side].event_time(&pair.times[side]));
        // A row waits for the other side: for its lag as well.
        let holds = |pair: &Pair| {
            let times = times(pair);
            [0, 1].map(|side| Some(pair.ahead_us[side]?.saturating_add(times[1 - side]?.lag_us)))
        };
        let bounds = |pair: &Pair| holds(pair).iter().flatten().count();
        let best = self.pairs.iter().rev().max_by_key(|pair| bounds(pair));
        let mut sides = [JoinSide::default(), JoinSide::default()];
        for (side, plan) in [&join.left, &join.right].into_iter().enumerate() {
            if let Some(pair) = best {
                sides[side].time = Some(pair.times[side].clone());
                sides[side].ahead_us = pair.ahead_us[side];
                sides[side].hold_us = holds(pair)[side];
            }
            let of_pair = best.and_then(|pair| Some((pair.times[side].clone(), times(pair)[side]?)));
            let of_column = || {
                let column = Expr::Column(bounded_column(plan)?);
                let time = self.known[side].event_time(&column)?;
                Some((column, time))
            };
            if let Some((late, time)) = of_pair.or_else(of_column) {
                (sides[side].late, sides[side].lag_us) = (Some(late), time.lag_us);
            }
        }
        sides
    }
}

/// Times added and subtracted, and a length.
#[derive(Default)]
struct Difference {
    plus: Vec<Expr>,
    minus: Vec<Expr>,
    length_us: i64,
}

impl Difference {
    /// Adds `expr`, or subtracts it. None: it is not made of times and fixed lengths.
    fn add(&mut self, expr: &Expr, subtract: bool, schema: &DFSchema) -> Option<()> {
        match expr {
            Expr::Alias(alias) => self.add(&alias.expr, subtract, schema),
            Expr::Negative(inner) => self.add(inner, !subtract, schema),
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus, right }) => {
                self.add(left, subtract, schema)?;
                self.add(right, subtract, schema)
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) => {
                self.add(left, subtract, schema)?;
                self.add(right, !subtract, schema)
            }
            Expr::Literal(value, _) => {
                let length_us = length_us(value)?;
                let length_us = if subtract { length_us.checked_neg()? } else { length_us };
                self.length_us = self.length_us.checked_add(length_us)?;
                Some(())
            }
            Expr::Cast(cast) if keeps_time(&cast.expr.get_type(schema).ok()?, cast.field.data_type()) => {
                self.add(&cast.expr, subtract, schema)
            }
            _ => {
                // Days are of 24 hours in UTC, in which event times are; in another zone they may not be.
                let in_utc = match expr.get_type(schema).ok()? {
                    DataType::Timestamp(_, Some(zone)) => matches!(zone.as_ref(), "UTC" | "+00:00"),
                    DataType::Timestamp(_, None) => true,
                    _ => false,
                };
                let list = if subtract { &mut self.minus } else { &mut self.plus };
                in_utc.then(|| list.push(expr.clone()))
            }
        }
    }
}

/// Whether a cast leaves times and lengths what they are.
fn keeps_time(from: &DataType, to: &DataType) -> bool {
    let fineness = |unit: &TimeUnit| match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 1,
        TimeUnit::Microsecond => 2,
        TimeUnit::Nanosecond => 3,
    };
    match (from, to) {
        (DataType::Timestamp(from, zone), DataType::Timestamp(to, other)) => {
            fineness(from) <= fineness(to) && zone.is_some() == other.is_some()
        }
        (DataType::Interval(_) | DataType::Duration(_), DataType::Interval(_) | DataType::Duration(_)) => true,
        _ => false,
    }
}

/// A fixed length in microseconds. Months have none, and less than a microsecond is not counted.
pub(crate) fn length_us(value: &ScalarValue) -> Option<i64> {
    let days = |days: i32| i64::from(days).checked_mul(86_400_000_000);
    let whole = |nanoseconds: i64| (nanoseconds % 1000 == 0).then_some(nanoseconds / 1000);
    match value {
        ScalarValue::IntervalMonthDayNano(Some(interval)) if interval.months == 0 => {
            days(interval.days)?.checked_add(whole(interval.nanoseconds)?)
        }
        ScalarValue::IntervalDayTime(Some(interval)) => {
            days(interval.days)?.checked_add(i64::from(interval.milliseconds) * 1000)
        }
        ScalarValue::DurationSecond(Some(seconds)) => seconds.checked_mul(1_000_000),
        ScalarValue::DurationMillisecond(Some(milliseconds)) => milliseconds.checked_mul(1000),
        ScalarValue::DurationMicrosecond(Some(microseconds)) => Some(*microseconds),
        ScalarValue::DurationNanosecond(Some(nanoseconds)) => whole(*nanoseconds),
        _ => None,
    }
}

fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}
