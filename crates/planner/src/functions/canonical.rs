//! One representation for values that Spark calls equal: `-0.0` becomes `0.0`, every NaN the same, an interval of 24 hours one
//! of a day, also inside structs and arrays.
//!
//! Arrow groups, hashes and sorts by bits, and intervals field by field. So keys are brought to this form before they are
//! compared: in plans by the function here, in stored state by [`canonical`] itself. Knows nothing of where keys stand.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float32Array, Float64Array, IntervalMonthDayNanoArray, ListArray, StructArray,
};
use datafusion::arrow::datatypes::{
    DataType, Field, FieldRef, Float32Type, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// A day as day-time intervals have it.
const DAY_NANOSECONDS: i128 = 86_400_000_000_000;

/// `column` with one representation per value.
pub fn canonical(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float64 => {
            let floats = column.as_primitive::<Float64Type>();
            let canonical: Float64Array = floats.unary(|x| if x.is_nan() { f64::NAN } else { x + 0.0 });
            Arc::new(canonical)
        }
        DataType::Float32 => {
            let floats = column.as_primitive::<Float32Type>();
            let canonical: Float32Array = floats.unary(|x| if x.is_nan() { f32::NAN } else { x + 0.0 });
            Arc::new(canonical)
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let intervals = column.as_primitive::<IntervalMonthDayNanoType>();
            let canonical: IntervalMonthDayNanoArray = intervals.unary(in_days);
            Arc::new(canonical)
        }
        DataType::Struct(fields) if several_forms(column.data_type()) => {
            let rows = column.as_struct();
            let columns = rows.columns().iter().map(canonical).collect();
            Arc::new(StructArray::new(fields.clone(), columns, rows.nulls().cloned()))
        }
        DataType::List(field) if several_forms(column.data_type()) => {
            let lists = column.as_list::<i32>();
            let values = canonical(lists.values());
            Arc::new(ListArray::new(field.clone(), lists.offsets().clone(), values, lists.nulls().cloned()))
        }
        _ => column.clone(),
    }
}

/// Whether equal values of a type may have several representations.
pub(super) fn several_forms(of: &DataType) -> bool {
    match of {
        DataType::Float32 | DataType::Float64 | DataType::Interval(IntervalUnit::MonthDayNano) => true,
        DataType::Struct(fields) => fields.iter().any(|field| several_forms(field.data_type())),
        DataType::List(field) => several_forms(field.data_type()),
        _ => false,
    }
}

/// As many whole days as an interval has, and the rest, of the same sign: then fields in their order are in the order of lengths.
fn in_days(interval: IntervalMonthDayNano) -> IntervalMonthDayNano {
    let all = i128::from(interval.days) * DAY_NANOSECONDS + i128::from(interval.nanoseconds);
    let days = (all / DAY_NANOSECONDS).clamp(i128::from(i32::MIN), i128::from(i32::MAX));
    IntervalMonthDayNano::new(interval.months, days as i32, (all % DAY_NANOSECONDS) as i64)
}

/// What may be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Months {
    /// Intervals with months too, which then are longer than any without.
    Kept,
    /// Only intervals without: a month has no length in days.
    Refused,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Canonical {
    months: Months,
    /// Whether it goes by the name of the value.
    as_value: bool,
    signature: Signature,
}

/// `expr` with one representation per value, under the name that it has: a key or an argument whose result is referred to by
/// name.
pub(super) fn in_one_form(expr: Expr) -> Expr {
    formed(expr, Months::Kept, true)
}

/// `expr` with one representation per value, to be compared: it may stand beside the value itself, so it has a name of its own.
pub(super) fn to_be_compared(expr: Expr, months: Months) -> Expr {
    formed(expr, months, false)
}

fn formed(expr: Expr, months: Months, as_value: bool) -> Expr {
    if is_in_one_form(&expr) {
        return expr;
    }
    let canonical = Canonical { months, as_value, signature: Signature::any(1, Volatility::Immutable) };
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::from(canonical)), vec![expr]))
}

/// Whether it has one representation per value already.
pub(super) fn is_in_one_form(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_in_one_form(&alias.expr),
        Expr::ScalarFunction(call) => call.func.inner().downcast_ref::<Canonical>().is_some(),
        _ => false,
    }
}

impl ScalarUDFImpl for Canonical {
    fn name(&self) -> &str {
        "canonical"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        match args {
            [value] if self.as_value => Ok(value.schema_name().to_string()),
            [value] => Ok(format!("{}({})", self.name(), value.schema_name())),
            _ => plan_err!("{} takes one value", self.name()),
        }
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [value] => Ok(value.clone()),
            _ => plan_err!("{} takes one value", self.name()),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match args.arg_fields {
            [value] => Ok(Arc::new(Field::new(self.name(), value.data_type().clone(), value.is_nullable()))),
            _ => plan_err!("{} takes one value", self.name()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = args.args.as_slice() else {
            return exec_err!("{} takes one value", self.name());
        };
        let values = value.to_array(1)?;
        if self.months == Months::Refused
            && let Some(intervals) = values.as_primitive_opt::<IntervalMonthDayNanoType>()
            && intervals.iter().flatten().any(|interval| interval.months != 0)
        {
            return exec_err!("an interval with months cannot be compared here: a month has no length in days");
        }
        let values = canonical(&values);
        Ok(match value {
            ColumnarValue::Array(_) => ColumnarValue::Array(values),
            ColumnarValue::Scalar(_) => ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_its_length() {
        let form = |days: i32, hours: i64| {
            let interval = IntervalMonthDayNano::new(0, days, hours * 3_600_000_000_000);
            let known = in_days(interval);
            (known.days, known.nanoseconds / 3_600_000_000_000)
        };
        assert_eq!(form(0, 24), (1, 0));
        assert_eq!(form(1, 30), (2, 6));
        assert_eq!(form(1, -1), (0, 23));
        assert_eq!(form(0, -30), (-1, -6));
        assert_eq!(form(-1, 6), (0, -18));
        let lengths = [(-2, 0), (-1, -6), (-1, 0), (0, -6), (0, 0), (0, 6), (0, 24), (1, 1), (0, 47), (2, 0)];
        assert!(lengths.iter().map(|(days, hours)| form(*days, *hours)).is_sorted());
    }
}
