//! Times counted, compared and named: `months_between`, `timestampdiff`, `timestampadd`, `dayname`, and TIMESTAMP and
//! DATE from the numbers they are kept as.

use std::sync::Arc;

use chrono::{DateTime, Datelike, Days, Months, NaiveDateTime, TimeDelta, Utc};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Decimal128Array, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Date32Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::logical_expr::ScalarUDF;

use super::plain::plain;
use crate::ddl::timestamp;

/// What the clock of the session's zone shows: the casts put in by type coercion bring instants there.
fn local() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

/// The seconds of a minute with their fraction.
pub(super) fn seconds_type() -> DataType {
    DataType::Decimal128(8, 6)
}

/// All of them.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    use DataType::{Boolean, Date32, Float64, Int32, Int64, Utf8};
    vec![
        plain("months_between", &[local(), local(), Boolean], 2, Float64, months_between),
        plain("timestampdiff", &[Utf8, local(), local()], 3, Int64, difference),
        plain("timestampadd", &[Utf8, Int64, local()], 3, local(), moved),
        plain("dayname", &[Date32], 1, Utf8, dayname),
        plain("timestamp_millis", &[Int64], 1, timestamp(), |args| instants(args, 1000)),
        plain("timestamp_micros", &[Int64], 1, timestamp(), |args| instants(args, 1)),
        plain("date_from_unix_date", &[Int32], 1, Date32, date_of_number),
    ]
}

/// `second_with_fraction`, what EXTRACT(SECOND FROM …) stands for.
pub(super) fn seconds() -> Arc<ScalarUDF> {
    plain("second_with_fraction", &[local()], 1, seconds_type(), |args| {
        let [times] = args else { return exec_err!("a time is needed") };
        let micros = times.as_primitive::<TimestampMicrosecondType>().iter();
        let seconds: Decimal128Array = micros.map(|at| at.map(|at| i128::from(at.rem_euclid(60_000_000)))).collect();
        Ok(Arc::new(seconds.with_data_type(seconds_type())))
    })
}

fn time(micros: i64) -> Result<NaiveDateTime> {
    match DateTime::<Utc>::from_timestamp_micros(micros) {
        Some(at) => Ok(at.naive_utc()),
        None => exec_err!("a time of {micros} microseconds since 1970 is out of range"),
    }
}

/// Each row of two columns of times.
fn pairs(left: &ArrayRef, right: &ArrayRef) -> Result<Vec<Option<(NaiveDateTime, NaiveDateTime)>>> {
    let (left, right) =
        (left.as_primitive::<TimestampMicrosecondType>(), right.as_primitive::<TimestampMicrosecondType>());
    let both = left.iter().zip(right.iter()).map(|(left, right)| match (left, right) {
        (Some(left), Some(right)) => Ok(Some((time(left)?, time(right)?))),
        _ => Ok(None),
    });
    both.collect()
}

/// Months of 31 days, but whole ones between the same days and between the last days of months.
fn months_between(args: &[ArrayRef]) -> Result<ArrayRef> {
    let [later, earlier, ..] = args else { return exec_err!("months_between takes two times") };
    let exact = args.get(2).map(|round| round.as_boolean());
    let months = pairs(later, earlier)?.into_iter().enumerate().map(|(row, pair)| {
        let (later, earlier) = pair?;
        let round = exact.map_or(Some(true), |round| round.is_valid(row).then(|| round.value(row)))?;
        let whole = f64::from((later.year() - earlier.year()) * 12 + later.month() as i32 - earlier.month() as i32);
        if later.day() == earlier.day() || (is_last(&later) && is_last(&earlier)) {
            return Some(whole);
        }
        let in_month = |at: &NaiveDateTime| f64::from(at.day()) * 86_400.0 + seconds_of_day(at);
        let months = whole + (in_month(&later) - in_month(&earlier)) / (31.0 * 86_400.0);
        Some(if round { (months * 1e8).round() / 1e8 } else { months })
    });
    Ok(Arc::new(months.collect::<Float64Array>()))
}

fn seconds_of_day(at: &NaiveDateTime) -> f64 {
    f64::from(chrono::Timelike::num_seconds_from_midnight(at))
}

fn is_last(at: &NaiveDateTime) -> bool {
    at.checked_add_days(Days::new(1)).is_some_and(|next| next.month() != at.month())
}

/// A unit of Spark's, as months or microseconds.
enum Unit {
    Months(i64),
    Micros(i64),
}

fn unit(name: &str) -> Result<Unit> {
    const SECOND: i64 = 1_000_000;
    Ok(match name.to_ascii_uppercase().as_str() {
        "YEAR" | "YEARS" => Unit::Months(12),
        "QUARTER" | "QUARTERS" => Unit::Months(3),
        "MONTH" | "MONTHS" => Unit::Months(1),
        "WEEK" | "WEEKS" => Unit::Micros(7 * 86_400 * SECOND),
        "DAY" | "DAYS" | "DAYOFYEAR" => Unit::Micros(86_400 * SECOND),
        "HOUR" | "HOURS" => Unit::Micros(3_600 * SECOND),
        "MINUTE" | "MINUTES" => Unit::Micros(60 * SECOND),
        "SECOND" | "SECONDS" => Unit::Micros(SECOND),
        "MILLISECOND" | "MILLISECONDS" => Unit::Micros(1_000),
        "MICROSECOND" | "MICROSECONDS" => Unit::Micros(1),
        _ => {
            return exec_err!(
                "there is no unit {name}; there are YEAR, QUARTER, MONTH, WEEK, DAY, HOUR, MINUTE, SECOND, MILLISECOND, MICROSECOND"
            );
        }
    })
}

/// How many whole units lie between two times.
fn difference(args: &[ArrayRef]) -> Result<ArrayRef> {
    let [units, start, end] = args else { return exec_err!("timestampdiff takes a unit and two times") };
    let units = units.as_string::<i32>();
    let counts = pairs(start, end)?.into_iter().zip(units.iter()).map(|(pair, name)| {
        let (Some((start, end)), Some(name)) = (pair, name) else { return Ok(None) };
        let micros = |at: NaiveDateTime| at.and_utc().timestamp_micros();
        Ok(Some(match unit(name)? {
            Unit::Micros(size) => (micros(end) - micros(start)) / size,
            Unit::Months(size) => {
                let months = i64::from((end.year() - start.year()) * 12 + end.month() as i32 - start.month() as i32);
                // The last month counts when its day and time have come.
                let within = |at: &NaiveDateTime| (at.day(), at.time());
                let short = match months {
                    0 => 0,
                    months if months > 0 => i64::from(within(&end) < within(&start)),
                    _ => -i64::from(within(&end) > within(&start)),
                };
                (months - short) / size
            }
        }))
    });
    Ok(Arc::new(counts.collect::<Result<Int64Array>>()?))
}

fn moved(args: &[ArrayRef]) -> Result<ArrayRef> {
    let [units, counts, times] = args else { return exec_err!("timestampadd takes a unit, a number and a time") };
    let (counts, times) = (counts.as_primitive::<Int64Type>(), times.as_primitive::<TimestampMicrosecondType>());
    let rows = units.as_string::<i32>().iter().zip(counts.iter().zip(times.iter()));
    let new = rows.map(|(name, (count, at))| {
        let (Some(name), Some(count), Some(at)) = (name, count, at) else { return Ok(None) };
        let at = time(at)?;
        let moved = match unit(name)? {
            Unit::Micros(size) => {
                count.checked_mul(size).and_then(|micros| at.checked_add_signed(TimeDelta::microseconds(micros)))
            }
            Unit::Months(size) => {
                let months = count.checked_mul(size).and_then(|months| i32::try_from(months).ok());
                months.and_then(|months| match u32::try_from(months) {
                    Ok(forward) => at.checked_add_months(Months::new(forward)),
                    Err(_) => at.checked_sub_months(Months::new(months.unsigned_abs())),
                })
            }
        };
        let moved = moved.ok_or_else(|| exec_datafusion_err!("{count} {name} from {at} is out of range"))?;
        Ok(Some(moved.and_utc().timestamp_micros()))
    });
    Ok(Arc::new(new.collect::<Result<TimestampMicrosecondArray>>()?))
}

fn dayname(args: &[ArrayRef]) -> Result<ArrayRef> {
    let [dates] = args else { return exec_err!("dayname takes a date") };
    let names = dates.as_primitive::<Date32Type>().iter().map(|day| {
        let name = |day: i32| Date32Type::to_naive_date_opt(day).map(|date| date.weekday().to_string());
        day.and_then(name)
    });
    Ok(Arc::new(names.collect::<StringArray>()))
}

fn instants(args: &[ArrayRef], micros: i64) -> Result<ArrayRef> {
    let [numbers] = args else { return exec_err!("a number is needed") };
    let instants = numbers.as_primitive::<Int64Type>().iter().map(|number| match number {
        Some(number) => match number.checked_mul(micros) {
            Some(at) => Ok(Some(at)),
            None => exec_err!("{number} milliseconds since 1970 are out of range"),
        },
        None => Ok(None),
    });
    Ok(Arc::new(instants.collect::<Result<TimestampMicrosecondArray>>()?.with_timezone("UTC")))
}

fn date_of_number(args: &[ArrayRef]) -> Result<ArrayRef> {
    let [numbers] = args else { return exec_err!("a number of days is needed") };
    Ok(Arc::new(numbers.as_primitive::<Int32Type>().iter().collect::<Date32Array>()))
}
