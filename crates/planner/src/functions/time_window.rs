//! `window(ts, size [, slide [, start]])` and `window_time(w)`: windows of event time, as Spark cuts them.
//!
//! Windows are `[start, end)`, aligned to 1970-01-01 00:00:00 UTC moved by `start`. A tumbling window is a struct; of a
//! sliding one `__windows` gives every window a time lies in, to be unnested. Where the calls stand and what becomes of
//! rows without a time is [`crate::windows`]' business.

use std::sync::Arc;

use alluvium_parser::{Span, parse_interval};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray, TimestampMicrosecondArray};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::{DataType, Field, Fields, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::ddl::{sql_type, timestamp};

/// Windows of one length at regular distances, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeWindow {
    /// From a window's start to its end.
    pub size: i64,
    /// From one window's start to the next one's.
    pub slide: i64,
    /// What starts are moved by against multiples of `slide` since 1970.
    pub start: i64,
}

/// Windows that a row may be in: each is a row of its own.
const WINDOWS_MAX: i64 = 10_000;

impl TimeWindow {
    /// From the arguments behind the time. The error is a sentence about them.
    pub(crate) fn of(args: &[ScalarValue]) -> std::result::Result<TimeWindow, String> {
        let lengths = args.iter().map(length).collect::<std::result::Result<Vec<i64>, _>>()?;
        let (size, slide, start) = match lengths[..] {
            [size] => (size, size, 0),
            [size, slide] => (size, slide, 0),
            [size, slide, start] => (size, slide, start),
            _ => return Err("the form is window(time, size [, slide [, start]])".into()),
        };
        if size <= 0 || slide <= 0 {
            return Err("its size and slide must be longer than nothing".into());
        }
        if slide > size {
            return Err("its slide must not be longer than its size, or rows between windows would be lost".into());
        }
        if size / slide > WINDOWS_MAX {
            return Err(format!("a row would be in {} of them; make the slide longer", size / slide));
        }
        if start.unsigned_abs() >= slide.unsigned_abs() {
            return Err("its start must be shorter than its slide".into());
        }
        Ok(TimeWindow { size, slide, start })
    }

    /// Whether every time lies in one window.
    pub(crate) fn is_tumbling(self) -> bool {
        self.size == self.slide
    }

    /// Start of the last window `time` lies in.
    fn last_start(self, time: i64) -> i64 {
        time.saturating_sub(time.saturating_sub(self.start).rem_euclid(self.slide))
    }

    /// Starts of the windows `time` lies in, the latest first.
    pub fn starts(self, time: i64) -> impl Iterator<Item = i64> {
        std::iter::successors(Some(self.last_start(time)), move |start| start.checked_sub(self.slide))
            .take_while(move |start| time.saturating_sub(*start) < self.size)
    }

    /// The pane `time` lies in, the stretch between two borders of windows: its start, and the end of the last window
    /// that has it. Every time of a pane lies in the same windows.
    ///
    /// Windows start at one place within each slide and end at one, so that there are two panes in a slide at most.
    pub fn pane(self, time: i64) -> (i64, i64) {
        let start = self.last_start(time);
        let until = start.saturating_add(self.size);
        let border = start.saturating_add(self.size.rem_euclid(self.slide));
        (if time >= border { border } else { start }, until)
    }

    /// The end of the last window that ends at or before `time`.
    pub fn last_end(self, time: i64) -> i64 {
        self.last_start(time.saturating_sub(self.size)).saturating_add(self.size)
    }
}

/// The microseconds of an interval, or of a text that says one.
pub(super) fn length(value: &ScalarValue) -> std::result::Result<i64, String> {
    let days = |days: i32| i64::from(days).saturating_mul(86_400_000_000);
    let months = || "months and years have no fixed length".to_string();
    match value {
        ScalarValue::IntervalMonthDayNano(Some(interval)) => match interval.months {
            0 => Ok(days(interval.days).saturating_add(interval.nanoseconds / 1000)),
            _ => Err(months()),
        },
        ScalarValue::IntervalDayTime(Some(interval)) => {
            Ok(days(interval.days).saturating_add(i64::from(interval.milliseconds) * 1000))
        }
        ScalarValue::IntervalYearMonth(_) => Err(months()),
        other => match other.try_as_str() {
            Some(Some(text)) => {
                let (sign, text) = match text.trim().strip_prefix('-') {
                    Some(rest) => (-1, rest),
                    None => (1, text.trim()),
                };
                let length = parse_interval(text, Span::UNKNOWN).map_err(|refusal| refusal.message)?;
                i64::try_from(length.as_micros()).map(|length| sign * length).map_err(|_| "it is too long".into())
            }
            _ => Err("its lengths must be intervals such as '10 minutes'".into()),
        },
    }
}

/// `struct<start, end>` of this time type.
pub(super) fn window_type(time: &DataType) -> DataType {
    let field = |name: &str| Field::new(name, time.clone(), true);
    DataType::Struct(Fields::from(vec![field("start"), field("end")]))
}

/// Whether a type is a window's, or could be: a struct whose `end` is a timestamp.
fn end_type(data_type: &DataType) -> Option<&DataType> {
    let DataType::Struct(fields) = data_type else { return None };
    let end = fields.iter().find(|field| field.name() == "end")?.data_type();
    matches!(end, DataType::Timestamp(_, _)).then_some(end)
}

/// The type a time or window is worked on in.
pub(super) fn time_type(argument: &DataType) -> Option<DataType> {
    match argument {
        DataType::Timestamp(_, zone) => Some(DataType::Timestamp(TimeUnit::Microsecond, zone.clone())),
        DataType::Date32 | DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => {
            Some(timestamp())
        }
        _ => None,
    }
}

/// Times of a column: its own, or the last instants of its windows.
pub(super) fn times(column: &ArrayRef) -> Result<TimestampMicrosecondArray> {
    if let Some(windows) = column.as_struct_opt() {
        let Some(end) =
            windows.column_by_name("end").and_then(|end| end.as_primitive_opt::<TimestampMicrosecondType>())
        else {
            return internal_err!("a window without an end");
        };
        let nulls = NullBuffer::union(end.nulls(), windows.nulls());
        let last = end.values().iter().map(|end| end.saturating_sub(1)).collect::<Vec<i64>>();
        return Ok(TimestampMicrosecondArray::new(last.into(), nulls).with_data_type(end.data_type().clone()));
    }
    match column.as_primitive_opt::<TimestampMicrosecondType>() {
        Some(times) => Ok(times.clone()),
        None => internal_err!("{} is no time", column.data_type()),
    }
}

/// The functions.
pub(super) fn functions() -> [Arc<ScalarUDF>; 3] {
    [Kind::Window, Kind::Windows, Kind::WindowTime].map(function)
}

fn function(kind: Kind) -> Arc<ScalarUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(ScalarUDF::from(WindowFunction { kind, signature }))
}

/// Whether an expression calls one of `window`, `__windows` and `__pane`.
pub(crate) fn is_window(expr: &Expr) -> bool {
    kind_of(expr).is_some_and(|kind| kind != Kind::WindowTime)
}

/// Whether an expression calls `window_time`.
pub(crate) fn is_window_time(expr: &Expr) -> bool {
    kind_of(expr) == Some(Kind::WindowTime)
}

fn kind_of(expr: &Expr) -> Option<Kind> {
    match expr {
        Expr::ScalarFunction(call) => call.func.inner().downcast_ref::<WindowFunction>().map(|known| known.kind),
        _ => None,
    }
}

/// The function that gives every window of a time.
pub(crate) fn all_windows() -> Arc<ScalarUDF> {
    function(Kind::Windows)
}

/// For a call that gives every window of a time: the call that gives the time's pane, and the windows.
pub(crate) fn pane_of(expr: &Expr) -> Option<(Expr, TimeWindow)> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let literal = |expr: &Expr| match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        _ => None,
    };
    let lengths = call.args.iter().skip(1).map(literal).collect::<Option<Vec<_>>>()?;
    let window = TimeWindow::of(&lengths).ok().filter(|_| kind_of(expr) == Some(Kind::Windows))?;
    Some((Expr::ScalarFunction(ScalarFunction::new_udf(function(Kind::Pane), call.args.clone())), window))
}

/// A call that gives a time's pane as the one that gives its windows; others as they are.
pub(crate) fn windows_of_pane(expr: Expr) -> Expr {
    match (kind_of(&expr), expr) {
        (Some(Kind::Pane), Expr::ScalarFunction(call)) => {
            Expr::ScalarFunction(ScalarFunction::new_udf(all_windows(), call.args))
        }
        (_, expr) => expr,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// The one window of a time.
    Window,
    /// All windows of a time, as a list.
    Windows,
    /// The pane of a time, with the end of the last window that has it.
    Pane,
    /// The last instant of a window.
    WindowTime,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowFunction {
    kind: Kind,
    signature: Signature,
}

impl WindowFunction {
    fn result(&self, argument: &DataType) -> Result<DataType> {
        let time = end_type(argument).cloned().or_else(|| time_type(argument)).unwrap_or_else(timestamp);
        Ok(match self.kind {
            Kind::Window | Kind::Pane => window_type(&time),
            Kind::Windows => DataType::new_list(window_type(&time), true),
            Kind::WindowTime => time,
        })
    }
}

impl ScalarUDFImpl for WindowFunction {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Window => "window",
            Kind::Windows => "__windows",
            Kind::Pane => "__pane",
            Kind::WindowTime => "window_time",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let Some((first, lengths)) = arg_types.split_first() else {
            return plan_err!("{} takes a time", self.name());
        };
        let first = match (end_type(first), self.kind) {
            (Some(DataType::Timestamp(TimeUnit::Microsecond, _)), _) => first.clone(),
            (Some(end), _) => return plan_err!("the window's end is of type {}, not a TIMESTAMP", sql_type(end)),
            (None, Kind::WindowTime) => {
                return plan_err!("window_time takes a window, not a value of type {}", sql_type(first));
            }
            (None, _) => match time_type(first) {
                Some(time) => time,
                None => return plan_err!("windows are of a TIMESTAMP type, not of {}", sql_type(first)),
            },
        };
        if (self.kind == Kind::WindowTime) != lengths.is_empty() || lengths.len() > 3 {
            return plan_err!("{} was given {} arguments; types do not matter here", self.name(), arg_types.len());
        }
        Ok(std::iter::once(first).chain(lengths.iter().cloned()).collect())
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.result(arg_types.first().unwrap_or(&DataType::Null))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<Arc<Field>> {
        let argument = args.arg_fields.first().map_or(DataType::Null, |field| field.data_type().clone());
        Ok(Arc::new(Field::new(self.name(), self.result(&argument)?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let Some((first, lengths)) = args.args.split_first() else {
            return internal_err!("{} without arguments", self.name());
        };
        let times = times(&first.to_array(rows)?)?;
        if self.kind == Kind::WindowTime {
            return Ok(ColumnarValue::Array(Arc::new(times)));
        }
        let mut literals = Vec::with_capacity(lengths.len());
        for length in lengths {
            match length {
                ColumnarValue::Scalar(value) => literals.push(value.clone()),
                ColumnarValue::Array(_) => return exec_err!("the lengths of a window are not constant"),
            }
        }
        let window = match TimeWindow::of(&literals) {
            Ok(window) => window,
            Err(why) => return exec_err!("window(…): {why}"),
        };
        Ok(ColumnarValue::Array(match self.kind {
            Kind::Windows => Arc::new(lists(&times, window)?),
            Kind::Pane => Arc::new(panes(&times, window)?),
            _ => Arc::new(tumbling(&times, window)?),
        }))
    }
}

/// The window of each time; NULL of none.
fn tumbling(times: &TimestampMicrosecondArray, window: TimeWindow) -> Result<StructArray> {
    let starts: Vec<i64> = times.values().iter().map(|time| window.last_start(*time)).collect();
    windows(starts, times.data_type(), window.size, times.nulls().cloned())
}

/// Every window of each time, the earliest first; NULL of none.
fn lists(times: &TimestampMicrosecondArray, window: TimeWindow) -> Result<ListArray> {
    let mut starts: Vec<i64> = Vec::new();
    let mut lengths = Vec::with_capacity(times.len());
    for at in 0..times.len() {
        let before = starts.len();
        if times.is_valid(at) {
            starts.extend(window.starts(times.value(at)));
            starts[before..].reverse();
        }
        lengths.push(starts.len() - before);
    }
    let values = windows(starts, times.data_type(), window.size, None)?;
    let item = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(ListArray::try_new(item, offsets, Arc::new(values), times.nulls().cloned())?)
}

/// The pane of each time; NULL of none.
fn panes(times: &TimestampMicrosecondArray, window: TimeWindow) -> Result<StructArray> {
    let (starts, ends) = times.values().iter().map(|time| window.pane(*time)).unzip();
    stretches(starts, ends, times.data_type(), times.nulls().cloned())
}

fn windows(starts: Vec<i64>, time: &DataType, size: i64, nulls: Option<NullBuffer>) -> Result<StructArray> {
    let ends: Vec<i64> = starts.iter().map(|start| start.saturating_add(size)).collect();
    stretches(starts, ends, time, nulls)
}

fn stretches(starts: Vec<i64>, ends: Vec<i64>, time: &DataType, nulls: Option<NullBuffer>) -> Result<StructArray> {
    let column = |times: Vec<i64>| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::new(times.into(), None).with_data_type(time.clone()))
    };
    let DataType::Struct(fields) = window_type(time) else { return internal_err!("a window is a struct") };
    Ok(StructArray::try_new(fields, vec![column(starts), column(ends)], nulls)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn of(texts: &[&str]) -> std::result::Result<TimeWindow, String> {
        TimeWindow::of(&texts.iter().map(|text| ScalarValue::from(*text)).collect::<Vec<_>>())
    }

    #[test]
    fn a_time_lies_in_size_over_slide_windows() {
        let window = of(&["10 seconds", "4 seconds", "1 second"]).unwrap();
        let starts = |time: i64| window.starts(time * 1_000_000).map(|start| start / 1_000_000).collect::<Vec<_>>();
        // Starts are 1 modulo 4: …, -7, -3, 1, 5, 9.
        assert_eq!(starts(9), [9, 5, 1]);
        assert_eq!(starts(8), [5, 1]);
        assert_eq!(starts(10), [9, 5, 1]);
        assert_eq!(starts(11), [9, 5]);
        assert_eq!(starts(0), [-3, -7]);
        assert_eq!(starts(-8), [-11, -15]);
    }

    #[test]
    fn times_of_a_pane_lie_in_the_same_windows() {
        for texts in
            [["10 us", "5 us", "0 us"], ["10 us", "4 us", "1 us"], ["7 us", "3 us", "-2 us"], ["5 us", "5 us", "3 us"]]
        {
            let window = of(&texts).unwrap();
            for time in -50..50 {
                let (pane, until) = window.pane(time);
                let starts = window.starts(time).collect::<Vec<_>>();
                assert_eq!(starts, window.starts(pane).collect::<Vec<_>>(), "{texts:?}, {time}");
                assert_eq!(Some(until - window.size), starts.first().copied());
                // A pane ends where the windows change.
                let next = window.starts(time + 1).collect::<Vec<_>>();
                assert_eq!(window.pane(time + 1).0 != pane, next != starts, "{texts:?}, {time}");
                let ends =
                    (-200..=time).filter(|end| window.starts(end - window.size).next() == Some(end - window.size));
                assert_eq!(Some(window.last_end(time)), ends.last(), "{texts:?}, {time}");
            }
        }
    }

    #[test]
    fn tumbling_windows_are_half_open_and_aligned() {
        let window = of(&["1 hour"]).unwrap();
        let hour = 3_600_000_000;
        let of_time = |time: i64| window.starts(time).collect::<Vec<_>>();
        assert_eq!(
            (of_time(0), of_time(hour - 1), of_time(hour), of_time(-1)),
            (vec![0], vec![0], vec![hour], vec![-hour])
        );
    }

    #[test]
    fn lengths_that_make_no_windows_are_refused() {
        for texts in [
            &["0 seconds"][..],
            &["1 month"],
            &["10 seconds", "20 seconds"],
            &["10 seconds", "5 seconds", "5 seconds"],
            &["soon"],
            &["-5 seconds"],
            &["1 day", "1 millisecond"],
        ] {
            assert!(of(texts).is_err(), "{texts:?}");
        }
        assert!(of(&["10 minutes", "5 minutes", "-1 minute"]).is_ok());
    }
}
