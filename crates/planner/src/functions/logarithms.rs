//! Logarithms and roots with Spark's answers: `log(x)` is the natural one, a logarithm of what has none is NULL, a
//! root of a negative number NaN.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Float64Array};
use datafusion::arrow::compute::binary;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// `log(x)`, `log(base, x)`, and `ln(x)` with one argument only.
    Log,
    Ln,
    Log2,
    Log10,
    Log1p,
    Sqrt,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Logarithm {
    kind: Kind,
    signature: Signature,
}

/// All of them.
pub(super) fn functions() -> impl Iterator<Item = Arc<ScalarUDF>> {
    [Kind::Log, Kind::Ln, Kind::Log2, Kind::Log10, Kind::Log1p, Kind::Sqrt].into_iter().map(|kind| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::from(Logarithm { kind, signature }))
    })
}

fn some_if(holds: bool, value: f64) -> Option<f64> {
    holds.then_some(value)
}

impl Logarithm {
    fn of(&self, x: f64) -> Option<f64> {
        match self.kind {
            Kind::Log | Kind::Ln => some_if(x > 0.0 || x.is_nan(), x.ln()),
            Kind::Log2 => some_if(x > 0.0 || x.is_nan(), x.log2()),
            Kind::Log10 => some_if(x > 0.0 || x.is_nan(), x.log10()),
            Kind::Log1p => some_if(x > -1.0 || x.is_nan(), x.ln_1p()),
            Kind::Sqrt => Some(x.sqrt()),
        }
    }
}

impl ScalarUDFImpl for Logarithm {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Log => "log",
            Kind::Ln => "ln",
            Kind::Log2 => "log2",
            Kind::Log10 => "log10",
            Kind::Log1p => "log1p",
            Kind::Sqrt => "sqrt",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let most = if self.kind == Kind::Log { 2 } else { 1 };
        if arg_types.is_empty() || arg_types.len() > most {
            return plan_err!("{} takes {} number{}", self.name(), most, if most > 1 { "s at most" } else { "" });
        }
        if let Some(other) = arg_types.iter().find(|given| {
            !given.is_numeric() && !matches!(given, DataType::Null | DataType::Utf8 | DataType::LargeUtf8)
        }) {
            return plan_err!("{} takes a number as its type, not {}", self.name(), crate::ddl::sql_type(other));
        }
        Ok(vec![DataType::Float64; arg_types.len()])
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let result: Float64Array = match arrays.as_slice() {
            [x] => x.as_primitive::<Float64Type>().unary_opt(|x| self.of(x)),
            [base, x] => {
                let (base, x) = (base.as_primitive::<Float64Type>(), x.as_primitive::<Float64Type>());
                let known: Float64Array = binary(base, x, |base: f64, x: f64| match base > 0.0 && x > 0.0 {
                    true => x.ln() / base.ln(),
                    false => f64::NEG_INFINITY,
                })?;
                known.unary_opt(|value| some_if(value != f64::NEG_INFINITY, value))
            }
            _ => return exec_err!("{} takes a number", self.name()),
        };
        if constant && result.len() == 1 {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(Arc::new(result) as ArrayRef))
    }
}
