//! Times to text and back, with Java's patterns: `from_unixtime`, `unix_timestamp`, `to_timestamp`, `to_date`,
//! `date_format`, and the casts that Spark does differently.
//!
//! Text without a zone is local to the session time zone; so is text that is written. A text that does not match
//! is an error, as in Spark's ANSI mode; the `try_` forms give NULL.

use std::sync::Arc;

use alluvium_parser::Diagnostic;
use chrono::{DateTime, NaiveDateTime, TimeZone, Utc};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::types::{Decimal128Type, TimestampMicrosecondType};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Int64Array, PrimitiveArray, StringArray, StringBuilder,
    TimestampMicrosecondArray,
};
use datafusion::arrow::compute::kernels::cast_utils::string_to_datetime;
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::cast::as_string_array;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use super::java_pattern::JavaPattern;
use crate::ddl::timestamp;

const DEFAULT_PATTERN: &str = "yyyy-MM-dd HH:mm:ss";

/// Which function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// Seconds to text.
    FromUnixtime,
    /// Text or time to seconds.
    UnixTimestamp,
    /// Text or time to TIMESTAMP.
    ToTimestamp,
    /// Text or time to DATE.
    ToDate,
    /// Time to text.
    DateFormat,
    /// CAST(time AS STRING).
    TimestampText,
    /// Seconds to TIMESTAMP.
    TimestampSeconds,
    /// CAST(time AS TIMESTAMP_NTZ).
    LocalTimestamp,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TimeFunction {
    name: &'static str,
    kind: Kind,
    /// NULL for text that does not match.
    lenient: bool,
    timezone: String,
    signature: Signature,
}

fn udf(name: &'static str, kind: Kind, lenient: bool, timezone: &str) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(TimeFunction {
        name,
        kind,
        lenient,
        timezone: timezone.to_string(),
        signature: Signature::user_defined(Volatility::Immutable),
    }))
}

/// All of them, for a session time zone.
pub(super) fn functions(timezone: &str) -> Vec<Arc<ScalarUDF>> {
    vec![
        udf("from_unixtime", Kind::FromUnixtime, false, timezone),
        unix_timestamp(timezone),
        udf("to_unix_timestamp", Kind::UnixTimestamp, false, timezone),
        to_timestamp(timezone),
        udf("try_to_timestamp", Kind::ToTimestamp, true, timezone),
        to_date(timezone),
        udf("try_to_date", Kind::ToDate, true, timezone),
        udf("date_format", Kind::DateFormat, false, timezone),
        timestamp_seconds(),
    ]
}

pub(super) fn unix_timestamp(timezone: &str) -> Arc<ScalarUDF> {
    udf("unix_timestamp", Kind::UnixTimestamp, false, timezone)
}

pub(super) fn to_timestamp(timezone: &str) -> Arc<ScalarUDF> {
    udf("to_timestamp", Kind::ToTimestamp, false, timezone)
}

pub(super) fn timestamp_seconds() -> Arc<ScalarUDF> {
    udf("timestamp_seconds", Kind::TimestampSeconds, false, "UTC")
}

/// CAST(… AS TIMESTAMP), or try_cast.
pub(super) fn timestamp_of(timezone: &str, lenient: bool) -> Arc<ScalarUDF> {
    udf(if lenient { "try_timestamp" } else { "timestamp" }, Kind::ToTimestamp, lenient, timezone)
}

pub(super) fn to_date(timezone: &str) -> Arc<ScalarUDF> {
    udf("to_date", Kind::ToDate, false, timezone)
}

/// CAST(… AS TIMESTAMP_NTZ) of a TIMESTAMP: what a clock of the zone shows.
pub(super) fn local_timestamp(timezone: &str) -> Arc<ScalarUDF> {
    udf("timestamp_ntz", Kind::LocalTimestamp, false, timezone)
}

/// The text of a timestamp as Spark's CAST writes it: `2022-07-12 17:13:57.5`.
pub(super) fn timestamp_text(timezone: &str) -> Arc<ScalarUDF> {
    udf("timestamp_text", Kind::TimestampText, false, timezone)
}

impl ScalarUDFImpl for TimeFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            Kind::FromUnixtime | Kind::DateFormat | Kind::TimestampText => DataType::Utf8,
            Kind::UnixTimestamp => DataType::Int64,
            Kind::ToTimestamp | Kind::TimestampSeconds => timestamp(),
            Kind::ToDate => DataType::Date32,
            Kind::LocalTimestamp => ntz(),
        })
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let (first, pattern) = match arg_types {
            [first] => (first, None),
            [first, pattern] => (first, Some(pattern)),
            _ => return plan_err!("{} takes a value and, if need be, a pattern", self.name),
        };
        if pattern.is_some_and(|pattern| !is_text(pattern) && *pattern != DataType::Null) {
            return plan_err!("{}: the pattern must be a STRING such as '{DEFAULT_PATTERN}'", self.name);
        }
        if pattern.is_none() && self.kind == Kind::DateFormat {
            return plan_err!("date_format takes a time and a pattern, such as 'yyyy-MM-dd'");
        }
        let first = self.coerced(first)?;
        Ok(std::iter::once(first).chain(pattern.map(|_| DataType::Utf8)).collect())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let (Some(value), pattern) = (arrays.first(), arrays.get(1)) else {
            return exec_err!("{} takes a value", self.name);
        };
        let patterns = Patterns { given: pattern.map(|array| as_string_array(array)).transpose()?, last: None };
        let result = self.run(value, patterns)?;
        if constant && result.len() == 1 {
            return Ok(ColumnarValue::Scalar(datafusion::scalar::ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(result))
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn ntz() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

impl TimeFunction {
    /// The type a first argument is brought to.
    fn coerced(&self, given: &DataType) -> Result<DataType> {
        let seconds = matches!(self.kind, Kind::FromUnixtime | Kind::TimestampSeconds);
        Ok(match given {
            given if is_text(given) && self.kind == Kind::FromUnixtime => DataType::Int64,
            given if is_text(given) && !seconds => DataType::Utf8,
            DataType::Timestamp(_, Some(_)) if !seconds => timestamp(),
            DataType::Timestamp(_, None) | DataType::Date32 | DataType::Date64 if !seconds => ntz(),
            DataType::Null if seconds => DataType::Int64,
            DataType::Null => DataType::Utf8,
            given if given.is_floating() && self.kind == Kind::TimestampSeconds => DataType::Float64,
            given @ DataType::Decimal128(_, _) if self.kind == Kind::TimestampSeconds => given.clone(),
            given if given.is_numeric() && seconds => DataType::Int64,
            given if given.is_integer() && self.kind == Kind::ToTimestamp => DataType::Int64,
            other => return plan_err!("{} does not take a {}", self.name, crate::ddl::sql_type(other)),
        })
    }

    fn zone(&self) -> Result<Tz> {
        Ok(self.timezone.parse::<Tz>()?)
    }

    fn run(&self, value: &ArrayRef, patterns: Patterns<'_>) -> Result<ArrayRef> {
        match self.kind {
            Kind::TimestampSeconds => seconds_to_timestamp(value),
            Kind::FromUnixtime => {
                let seconds = value.as_primitive::<datafusion::arrow::array::types::Int64Type>();
                let micros = seconds.unary_opt::<_, TimestampMicrosecondType>(|s| s.checked_mul(1_000_000));
                self.format(&micros, true, patterns)
            }
            Kind::DateFormat | Kind::TimestampText => {
                let (times, instants) = self.times(value, Patterns { given: None, last: None })?;
                self.format(&times, instants, patterns)
            }
            Kind::LocalTimestamp => {
                let zone = self.zone()?;
                let (times, instants) = self.times(value, patterns)?;
                let local = |micros: i64| match instants {
                    true => local_of(micros, &zone).map(|local| local.and_utc().timestamp_micros()),
                    false => Some(micros),
                };
                Ok(Arc::new(times.unary_opt::<_, TimestampMicrosecondType>(local).with_timezone_opt::<Arc<str>>(None)))
            }
            Kind::ToTimestamp if value.data_type() == &DataType::Int64 => seconds_to_timestamp(value),
            Kind::ToTimestamp => Ok(Arc::new(self.instants(value, patterns)?.with_timezone("UTC"))),
            Kind::UnixTimestamp => {
                let instants = self.instants(value, patterns)?;
                Ok(Arc::new(Int64Array::from_iter(
                    instants.iter().map(|micros| micros.map(|micros| micros.div_euclid(1_000_000))),
                )))
            }
            Kind::ToDate => {
                let zone = self.zone()?;
                let (times, instants) = self.times(value, patterns)?;
                let day = |micros: i64| {
                    let local = if instants { local_of(micros, &zone)? } else { naive(micros)? };
                    Some(local.date().signed_duration_since(chrono::NaiveDate::default()).num_days() as i32)
                };
                Ok(Arc::new(Date32Array::from_iter(times.iter().map(|micros| micros.and_then(day)))))
            }
        }
    }

    /// Microseconds, and whether they count from the epoch in UTC (true) or are local (false).
    fn times(&self, value: &ArrayRef, patterns: Patterns<'_>) -> Result<(TimestampMicrosecondArray, bool)> {
        match value.data_type() {
            DataType::Timestamp(_, zone) => {
                let instants = zone.is_some();
                Ok((value.as_primitive::<TimestampMicrosecondType>().clone(), instants))
            }
            _ => Ok((self.parse(as_string_array(value)?, patterns)?, true)),
        }
    }

    fn instants(&self, value: &ArrayRef, patterns: Patterns<'_>) -> Result<TimestampMicrosecondArray> {
        let zone = self.zone()?;
        match self.times(value, patterns)? {
            (times, true) => Ok(times),
            (times, false) => Ok(times.unary_opt(|micros| instant_of(naive(micros)?, &zone))),
        }
    }

    fn format(
        &self,
        times: &TimestampMicrosecondArray,
        instants: bool,
        mut patterns: Patterns<'_>,
    ) -> Result<ArrayRef> {
        let zone = self.zone()?;
        let mut out = StringBuilder::with_capacity(times.len(), times.len() * 20);
        for (row, micros) in times.iter().enumerate() {
            let local = micros.and_then(|m| if instants { local_of(m, &zone) } else { naive(m) });
            match local {
                Some(local) if self.kind == Kind::TimestampText => out.append_value(spark_text(local)),
                Some(local) => out.append_option(patterns.at(row)?.map(|pattern| pattern.format(local, Some(&zone)))),
                None => out.append_null(),
            }
        }
        Ok(Arc::new(out.finish()))
    }

    fn parse(&self, texts: &StringArray, mut patterns: Patterns<'_>) -> Result<TimestampMicrosecondArray> {
        let zone = self.zone()?;
        let free = patterns.given.is_none() && self.kind != Kind::UnixTimestamp;
        let mut out = PrimitiveArray::<TimestampMicrosecondType>::builder(texts.len());
        for (row, text) in texts.iter().enumerate() {
            let Some(text) = text else {
                out.append_null();
                continue;
            };
            let micros = if free {
                string_to_datetime(&zone, text.trim()).ok().map(|at| at.timestamp_micros())
            } else {
                let Some(pattern) = patterns.at(row)? else {
                    out.append_null();
                    continue;
                };
                pattern.parse(text).and_then(|(local, offset)| match offset {
                    Some(offset) => {
                        offset.from_local_datetime(&local).single().map(|at| at.with_timezone(&Utc).timestamp_micros())
                    }
                    None => instant_of(local, &zone),
                })
            };
            match micros {
                None if !self.lenient => return Err(self.mismatch(text, &patterns)),
                micros => out.append_option(micros),
            }
        }
        Ok(out.finish())
    }

    fn mismatch(&self, text: &str, patterns: &Patterns<'_>) -> DataFusionError {
        let pattern = match &patterns.last {
            Some((pattern, _)) => format!(" in the pattern `{pattern}`"),
            None => String::new(),
        };
        let way_out = match self.kind {
            Kind::ToDate => "; try_to_date gives NULL instead",
            Kind::ToTimestamp => "; try_to_timestamp gives NULL instead",
            _ => "",
        };
        if self.name == "timestamp" {
            let refusal = Diagnostic::new("CAST_INVALID_INPUT", format!("`{text}` cannot be cast to TIMESTAMP"))
                .help("try_cast gives NULL instead; to_timestamp(text, pattern) reads other forms");
            return DataFusionError::External(Box::new(refusal));
        }
        exec_datafusion_err!("{}: `{text}` is not a time{pattern}{way_out}", self.name)
    }
}

/// A pattern per row, each read once while it repeats.
struct Patterns<'a> {
    given: Option<&'a StringArray>,
    last: Option<(String, JavaPattern)>,
}

impl Patterns<'_> {
    fn at(&mut self, row: usize) -> Result<Option<&JavaPattern>> {
        let text = match self.given {
            None => DEFAULT_PATTERN,
            Some(given) if given.is_null(row) => return Ok(None),
            Some(given) => given.value(row),
        };
        if self.last.as_ref().is_none_or(|(known, _)| known != text) {
            let pattern = JavaPattern::new(text).map_err(|why| exec_datafusion_err!("pattern `{text}`: {why}"))?;
            self.last = Some((text.to_string(), pattern));
        }
        Ok(self.last.as_ref().map(|(_, pattern)| pattern))
    }
}

fn seconds_to_timestamp(value: &ArrayRef) -> Result<ArrayRef> {
    let micros: TimestampMicrosecondArray = match value.data_type() {
        DataType::Float64 => value
            .as_primitive::<datafusion::arrow::array::types::Float64Type>()
            .unary_opt::<_, TimestampMicrosecondType>(|s| s.is_finite().then_some((s * 1e6) as i64)),
        DataType::Decimal128(_, _) => {
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(value, &DataType::Decimal128(38, 6), &options)?
                .as_primitive::<Decimal128Type>()
                .unary_opt::<_, TimestampMicrosecondType>(|micros| i64::try_from(micros).ok())
        }
        _ => {
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(value, &DataType::Int64, &options)?
                .as_primitive::<datafusion::arrow::array::types::Int64Type>()
                .unary_opt::<_, TimestampMicrosecondType>(|seconds| seconds.checked_mul(1_000_000))
        }
    };
    Ok(Arc::new(micros.with_timezone("UTC")))
}

fn naive(micros: i64) -> Option<NaiveDateTime> {
    DateTime::from_timestamp_micros(micros).map(|at| at.naive_utc())
}

fn local_of(micros: i64, zone: &Tz) -> Option<NaiveDateTime> {
    DateTime::from_timestamp_micros(micros).map(|at| at.with_timezone(zone).naive_local())
}

/// The instant of a local time; in the gap of a clock change, of the time an hour later.
fn instant_of(local: NaiveDateTime, zone: &Tz) -> Option<i64> {
    let at = zone.from_local_datetime(&local);
    let at = at.earliest().or_else(|| zone.from_local_datetime(&(local + chrono::Duration::hours(1))).earliest())?;
    Some(at.with_timezone(&Utc).timestamp_micros())
}

/// Seconds, with as many decimals as there are.
fn spark_text(local: NaiveDateTime) -> String {
    let text = local.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}
