//! Functions that are one thing or another by the types of their arguments: `typeof`, `reverse`, `sequence`.

use std::sync::Arc;

use chrono::{DateTime, Months, Utc};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Builder, ListBuilder, TimestampMicrosecondBuilder};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Field, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
    TimestampMicrosecondType,
};
use datafusion::common::{Result, exec_datafusion_err, exec_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

use crate::ddl::{sql_type, timestamp};

/// An array of a `sequence` has no more elements than this.
const ELEMENTS_MAX: i128 = 10_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    TypeOf,
    Reverse,
    Sequence,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ByType {
    kind: Kind,
    signature: Signature,
}

/// All of them.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let udf = |kind| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::from(ByType { kind, signature }))
    };
    [Kind::TypeOf, Kind::Reverse, Kind::Sequence].into_iter().map(udf).collect()
}

impl ScalarUDFImpl for ByType {
    fn name(&self) -> &str {
        match self.kind {
            Kind::TypeOf => "typeof",
            Kind::Reverse => "reverse",
            Kind::Sequence => "sequence",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match (self.kind, arg_types) {
            (Kind::TypeOf, [one]) => Ok(vec![one.clone()]),
            (Kind::Reverse, [list @ DataType::List(_)]) => Ok(vec![list.clone()]),
            (Kind::Reverse, [nested]) if nested.is_nested() => {
                plan_err!("reverse takes a text or an ARRAY as its type, not {}", sql_type(nested))
            }
            (Kind::Reverse, [_]) => Ok(vec![DataType::Utf8]),
            (Kind::Sequence, [start, stop, step @ ..]) if step.len() <= 1 => sequence_types(start, stop, step),
            _ => plan_err!("{} does not take {} arguments", self.name(), arg_types.len()),
        }
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match (self.kind, arg_types.first()) {
            (Kind::TypeOf, _) => Ok(DataType::Utf8),
            (Kind::Reverse, Some(given)) => Ok(given.clone()),
            (Kind::Sequence, Some(given)) => Ok(DataType::List(Arc::new(Field::new_list_field(given.clone(), true)))),
            _ => plan_err!("{} takes arguments", self.name()),
        }
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let Some(given) = args.first().map(|first| first.get_type(info.schema())).transpose()? else {
            return Ok(ExprSimplifyResult::Original(args));
        };
        let call = |udf: Arc<ScalarUDF>, args| {
            Ok(ExprSimplifyResult::Simplified(Expr::ScalarFunction(ScalarFunction::new_udf(udf, args))))
        };
        match (self.kind, &given) {
            (Kind::TypeOf, _) => Ok(ExprSimplifyResult::Simplified(lit(type_name(&given)))),
            (Kind::Reverse, DataType::List(_)) => {
                call(datafusion::functions_nested::reverse::array_reverse_udf(), args)
            }
            (Kind::Reverse, _) => call(datafusion::functions::unicode::reverse(), args),
            (Kind::Sequence, _) => Ok(ExprSimplifyResult::Original(args)),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if self.kind != Kind::Sequence {
            return exec_err!("{} was run without having been optimized", self.name());
        }
        let arrays = args.args.iter().map(|arg| arg.to_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
        Ok(ColumnarValue::Array(match arrays.first().map(|start| start.data_type()) {
            Some(DataType::Int64) => numbers(&arrays)?,
            Some(DataType::Date32) => {
                let [start, stop, step @ ..] = arrays.as_slice() else { return exec_err!("sequence takes two dates") };
                let local = DataType::Timestamp(TimeUnit::Microsecond, None);
                let (start, stop) = (cast(start, &local)?, cast(stop, &local)?);
                cast(&times(&start, &stop, step.first())?, args.return_field.data_type())?
            }
            _ => {
                let [start, stop, step @ ..] = arrays.as_slice() else { return exec_err!("sequence takes two times") };
                cast(&times(start, stop, step.first())?, args.return_field.data_type())?
            }
        }))
    }
}

fn sequence_types(start: &DataType, stop: &DataType, step: &[DataType]) -> Result<Vec<DataType>> {
    let time = |given: &DataType| matches!(given, DataType::Date32 | DataType::Timestamp(_, _));
    let (both, third) = match (start, stop) {
        (DataType::Date32, DataType::Date32) => (DataType::Date32, DataType::Interval(IntervalUnit::MonthDayNano)),
        (start, stop) if time(start) || time(stop) => (timestamp(), DataType::Interval(IntervalUnit::MonthDayNano)),
        (start, stop) if start.is_nested() || stop.is_nested() => {
            return plan_err!("sequence is of whole numbers or times, not of the type {}", sql_type(start));
        }
        _ => (DataType::Int64, DataType::Int64),
    };
    Ok([both.clone(), both].into_iter().chain(step.iter().map(|_| third.clone())).collect())
}

/// From the first to the second; by one towards it unless a third says otherwise.
fn numbers(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let [start, stop, ..] = arrays else { return exec_err!("sequence takes a start and an end") };
    let (start, stop) = (start.as_primitive::<Int64Type>(), stop.as_primitive::<Int64Type>());
    let steps = arrays.get(2).map(|steps| steps.as_primitive::<Int64Type>());
    let mut out = ListBuilder::new(Int64Builder::new());
    for row in 0..start.len() {
        if start.is_null(row) || stop.is_null(row) || steps.is_some_and(|steps| steps.is_null(row)) {
            out.append_null();
            continue;
        }
        let (from, to) = (start.value(row), stop.value(row));
        let towards = if from <= to { 1 } else { -1 };
        let step = steps.map_or(towards, |steps| steps.value(row));
        if from != to && step.signum() != towards {
            return exec_err!("sequence from {from} to {to} never arrives by steps of {step}");
        }
        let count = if from == to { 0 } else { (i128::from(to) - i128::from(from)) / i128::from(step) };
        if count >= ELEMENTS_MAX {
            return exec_err!("sequence from {from} to {to} would have more than {ELEMENTS_MAX} elements");
        }
        for at in 0..=count as i64 {
            out.values().append_value(from + at * step);
        }
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}

/// The same of times, whose days have 24 hours. Months are counted from the start, so that the last days of months
/// do not lose days on the way.
fn times(start: &ArrayRef, stop: &ArrayRef, steps: Option<&ArrayRef>) -> Result<ArrayRef> {
    let (start, stop) =
        (start.as_primitive::<TimestampMicrosecondType>(), stop.as_primitive::<TimestampMicrosecondType>());
    let steps = steps.map(|steps| steps.as_primitive::<IntervalMonthDayNanoType>());
    let mut out = ListBuilder::new(TimestampMicrosecondBuilder::new());
    for row in 0..start.len() {
        if start.is_null(row) || stop.is_null(row) || steps.is_some_and(|steps| steps.is_null(row)) {
            out.append_null();
            continue;
        }
        let (from, to) = (start.value(row), stop.value(row));
        let day = IntervalMonthDayNano::new(0, if from <= to { 1 } else { -1 }, 0);
        let step = steps.map_or(day, |steps| steps.value(row));
        let forward = moved(from, step, 1)? > from;
        if from != to && (moved(from, step, 1)? == from || forward != (from < to)) {
            return exec_err!("sequence never arrives at its end by steps of that interval");
        }
        for count in 0.. {
            let at = moved(from, step, count)?;
            let past = if forward { at > to } else { at < to };
            if past || (from == to && count > 0) {
                break;
            }
            if i128::from(count) >= ELEMENTS_MAX {
                return exec_err!("the sequence would have more than {ELEMENTS_MAX} elements");
            }
            out.values().append_value(at);
        }
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}

/// A time moved by so many intervals.
fn moved(from: i64, step: IntervalMonthDayNano, count: i64) -> Result<i64> {
    let moved = || {
        let at = DateTime::<Utc>::from_timestamp_micros(from)?;
        let months = i32::try_from(i64::from(step.months).checked_mul(count)?).ok()?;
        let at = match u32::try_from(months) {
            Ok(months) => at.checked_add_months(Months::new(months))?,
            Err(_) => at.checked_sub_months(Months::new(months.unsigned_abs()))?,
        };
        let days = i64::from(step.days).checked_mul(count)?.checked_mul(86_400_000_000)?;
        let micros = (step.nanoseconds / 1000).checked_mul(count)?;
        at.timestamp_micros().checked_add(days)?.checked_add(micros)
    };
    moved().ok_or_else(|| exec_datafusion_err!("a time of the sequence is out of range"))
}

/// As Spark names types in `typeof`: `struct<a:int>`.
fn type_name(t: &DataType) -> String {
    match t {
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            format!("array<{}>", type_name(element.data_type()))
        }
        DataType::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|field| format!("{}:{}", field.name(), type_name(field.data_type()))).collect();
            format!("struct<{}>", fields.join(","))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                format!("map<{},{}>", type_name(fields[0].data_type()), type_name(fields[1].data_type()))
            }
            other => format!("map<{}>", type_name(other)),
        },
        other => sql_type(other).to_lowercase(),
    }
}
