//! Functions that are one thing or another by the types of their arguments: `typeof`, `reverse`, `sequence`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Builder, ListBuilder};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, IntervalUnit};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
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
            (Kind::Sequence, Some(given)) => {
                Ok(DataType::List(Arc::new(Field::new_list_field(given.clone(), true))))
            }
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
            (Kind::Sequence, DataType::Int64) => Ok(ExprSimplifyResult::Original(args)),
            (Kind::Sequence, _) => {
                let mut args = args;
                if args.len() == 2 {
                    args.push(lit(ScalarValue::new_interval_mdn(0, 1, 0)));
                }
                call(datafusion::functions_nested::range::gen_series_udf(), args)
            }
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if self.kind != Kind::Sequence {
            return exec_err!("{} was run without having been optimized", self.name());
        }
        let arrays = args.args.iter().map(|arg| arg.to_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
        Ok(ColumnarValue::Array(numbers(&arrays)?))
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
