//! `session_window(ts, gap)`: the session a row would make alone, from its time to the gap behind it.
//!
//! The gap may differ from row to row. A row without a time, or with a gap that is NULL or not longer than nothing, makes
//! no session. That sessions of one key that touch are one is the business of [`crate::sessions`] and of the runtime.

use std::collections::HashMap;
use std::sync::Arc;

use alluvium_parser::Diagnostic;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StructArray, TimestampMicrosecondArray};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{DataType, Field, IntervalMonthDayNanoType, IntervalUnit};
use datafusion::common::{DataFusionError, Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::time_window::{length, time_type, times, window_type};
use crate::ddl::{sql_type, timestamp};

/// The function.
pub(super) fn udf() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(SessionWindow { signature: Signature::user_defined(Volatility::Immutable) }))
}

/// Whether an expression calls `session_window`.
pub(crate) fn is_session(expr: &Expr) -> bool {
    match expr {
        Expr::ScalarFunction(call) => call.func.inner().downcast_ref::<SessionWindow>().is_some(),
        _ => false,
    }
}

/// What is wrong with a gap that is written out.
pub(crate) fn check_gap(gap: &ScalarValue) -> std::result::Result<(), String> {
    match gap.is_null() {
        true => Err("its gap is NULL, and a row without a gap is in no session".into()),
        false => match length(gap)? {
            gap if gap <= 0 => Err("its gap must be longer than nothing".into()),
            _ => Ok(()),
        },
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SessionWindow {
    signature: Signature,
}

fn result(argument: &DataType) -> DataType {
    window_type(&time_type(argument).unwrap_or_else(timestamp))
}

impl ScalarUDFImpl for SessionWindow {
    fn name(&self) -> &str {
        "session_window"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [time, gap] = arg_types else {
            return plan_err!("session_window was given {} arguments; types do not matter here", arg_types.len());
        };
        let Some(time) = time_type(time) else {
            return plan_err!("sessions are of a TIMESTAMP type, not of {}", sql_type(time));
        };
        let gap = match gap {
            DataType::Interval(_) => DataType::Interval(IntervalUnit::MonthDayNano),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => DataType::Utf8,
            other => {
                return plan_err!(
                    "the gap of a session is an interval such as '5 minutes', not a value of type {}",
                    sql_type(other)
                );
            }
        };
        Ok(vec![time, gap])
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(result(arg_types.first().unwrap_or(&DataType::Null)))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<Arc<Field>> {
        let argument = args.arg_fields.first().map_or(DataType::Null, |field| field.data_type().clone());
        Ok(Arc::new(Field::new(self.name(), result(&argument), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let [time, gap] = args.args.as_slice() else { return internal_err!("session_window takes a time and a gap") };
        let times = times(&time.to_array(rows)?)?;
        let gaps = match gap {
            ColumnarValue::Scalar(gap) => vec![gap_of(gap)?; rows],
            ColumnarValue::Array(gaps) => gaps_of(gaps)?,
        };
        Ok(ColumnarValue::Array(Arc::new(sessions(&times, &gaps)?)))
    }
}

/// The session of each time; NULL without a time or a gap.
fn sessions(times: &TimestampMicrosecondArray, gaps: &[Option<i64>]) -> Result<StructArray> {
    let DataType::Struct(fields) = window_type(times.data_type()) else { return internal_err!("a window is a struct") };
    let end = |(at, gap): (usize, &Option<i64>)| times.value(at).saturating_add(gap.unwrap_or(0));
    let ends: Vec<i64> = gaps.iter().enumerate().map(end).collect();
    let has_gap: NullBuffer = gaps.iter().map(Option::is_some).collect::<Vec<bool>>().into();
    let column = |times: TimestampMicrosecondArray, zone: &DataType| -> ArrayRef {
        Arc::new(times.with_data_type(zone.clone()))
    };
    let zone = times.data_type();
    let starts = TimestampMicrosecondArray::new(times.values().clone(), None);
    let columns = vec![column(starts, zone), column(TimestampMicrosecondArray::new(ends.into(), None), zone)];
    Ok(StructArray::try_new(fields, columns, NullBuffer::union(times.nulls(), Some(&has_gap)))?)
}

/// Gaps in microseconds; None where there is none, or it is not longer than nothing.
fn gaps_of(gaps: &ArrayRef) -> Result<Vec<Option<i64>>> {
    if let Some(intervals) = gaps.as_primitive_opt::<IntervalMonthDayNanoType>() {
        let gap = |gap: Option<_>| gap_of(&ScalarValue::IntervalMonthDayNano(gap));
        return intervals.iter().map(gap).collect();
    }
    let Some(texts) = gaps.as_string_opt::<i32>() else { return internal_err!("{} is no gap", gaps.data_type()) };
    let mut known: HashMap<&str, Option<i64>> = HashMap::new();
    let mut gap = |text: Option<_>| -> Result<Option<i64>> {
        let Some(text) = text else { return Ok(None) };
        if let Some(gap) = known.get(text) {
            return Ok(*gap);
        }
        let gap = gap_of(&ScalarValue::from(text))?;
        known.insert(text, gap);
        Ok(gap)
    };
    texts.iter().map(&mut gap).collect()
}

fn gap_of(gap: &ScalarValue) -> Result<Option<i64>> {
    if gap.is_null() {
        return Ok(None);
    }
    match length(gap) {
        Ok(gap) => Ok((gap > 0).then_some(gap)),
        Err(why) => {
            let refusal = Diagnostic::new("INVALID_INTERVAL", format!("the gap of session_window(…) of a row: {why}"));
            Err(DataFusionError::External(Box::new(
                refusal.help("make it NULL where it is none, and the row is left out: CASE WHEN … THEN gap END"),
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use datafusion::arrow::array::StringArray;
    use datafusion::arrow::datatypes::TimestampMicrosecondType;

    use super::*;

    #[test]
    fn a_row_without_a_time_or_a_gap_makes_no_session() {
        let times = TimestampMicrosecondArray::from(vec![Some(10), Some(20), None, Some(30), Some(40)]);
        let texts: StringArray =
            [Some("1 us"), None, Some("1 us"), Some("0 seconds"), Some("-1 minute")].iter().collect();
        let gaps = gaps_of(&(Arc::new(texts) as ArrayRef)).unwrap();
        assert_eq!(gaps, [Some(1), None, Some(1), None, None]);
        let sessions = sessions(&times, &gaps).unwrap();
        assert_eq!((0..5).map(|at| sessions.is_valid(at)).collect::<Vec<_>>(), [true, false, false, false, false]);
        let bound = |at: usize| sessions.column(at).as_primitive::<TimestampMicrosecondType>().value(0);
        assert_eq!((bound(0), bound(1)), (10, 11));
    }

    #[test]
    fn gaps_that_are_written_out_are_checked_early() {
        for gap in ["0 seconds", "-5 minutes", "1 month", "soon", ""] {
            assert!(check_gap(&ScalarValue::from(gap)).is_err(), "{gap}");
        }
        assert!(check_gap(&ScalarValue::Utf8(None)).is_err());
        assert!(check_gap(&ScalarValue::from("90 seconds")).is_ok());
    }
}
