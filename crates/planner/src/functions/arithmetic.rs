//! Arithmetic as Spark's ANSI mode has it: a result beyond its type is an error, and so is a division by zero.
//!
//! Only what Arrow does otherwise is replaced: `+ - *` of whole numbers, which would wrap around, and `/ %` of
//! floating-point numbers, which would give infinities. Whole numbers divided by zero fail in Arrow; DECIMAL has a file of
//! its own (`decimals.rs`).

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::compute::kernels::numeric;
use datafusion::arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::expr::{BinaryExpr, ScalarFunction};
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr_common::datum::apply;

/// An operator that fails instead of giving a wrong number.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Checked {
    op: Operator,
    signature: Signature,
}

/// `left op right` as it stands.
pub(super) fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

/// The checked form of an operation, where there is need of one. Types are coerced already.
pub(super) fn checked(binary: &BinaryExpr, left: &DataType, right: &DataType) -> Option<Expr> {
    use Operator::{Divide, Minus, Modulo, Multiply, Plus};
    let needed = match binary.op {
        Plus | Minus | Multiply => left.is_integer() && right.is_integer(),
        Divide | Modulo => left.is_floating() && right.is_floating() && !non_zero(&binary.right),
        _ => false,
    };
    if !needed || left != right {
        return None;
    }
    let signature = Signature::any(2, Volatility::Immutable);
    let udf = Arc::new(ScalarUDF::from(Checked { op: binary.op, signature }));
    let args = vec![binary.left.as_ref().clone(), binary.right.as_ref().clone()];
    Some(Expr::ScalarFunction(ScalarFunction::new_udf(udf, args)))
}

/// The operation that a checked one stands for.
pub(crate) fn plain_arithmetic(expr: &Expr) -> Option<Expr> {
    let Expr::ScalarFunction(function) = expr else { return None };
    if let Some(plain) = super::decimals::plain(function) {
        return Some(plain);
    }
    let checked = function.func.inner().downcast_ref::<Checked>()?;
    match function.args.as_slice() {
        [left, right] => Some(binary(left.clone(), checked.op, right.clone())),
        _ => None,
    }
}

/// A divisor that is written out and not zero, perhaps behind the cast of a coercion.
fn non_zero(divisor: &Expr) -> bool {
    match divisor {
        Expr::Literal(ScalarValue::Float64(Some(value)), _) => *value != 0.0,
        Expr::Literal(ScalarValue::Float32(Some(value)), _) => *value != 0.0,
        Expr::Literal(ScalarValue::Int64(Some(value)), _) => *value != 0,
        Expr::Cast(cast) => cast.field.data_type().is_numeric() && non_zero(&cast.expr),
        _ => false,
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        match self.op {
            Operator::Plus => "add",
            Operator::Minus => "subtract",
            Operator::Multiply => "multiply",
            Operator::Divide => "divide",
            _ => "remainder",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The name the plain operation would have, so that nothing that refers to it by name is lost.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        match args {
            [left, right] => Ok(binary(left.clone(), self.op, right.clone()).schema_name().to_string()),
            _ => plan_err!("{} takes two numbers", self.name()),
        }
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types.first() {
            Some(first) => Ok(first.clone()),
            None => plan_err!("{} takes two numbers", self.name()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = args.args.as_slice() else {
            return exec_err!("{} takes two numbers", self.name());
        };
        match self.op {
            Operator::Plus => apply(left, right, numeric::add),
            Operator::Minus => apply(left, right, numeric::sub),
            Operator::Multiply => apply(left, right, numeric::mul),
            Operator::Divide => {
                refuse_zero(left, right)?;
                apply(left, right, numeric::div)
            }
            _ => {
                refuse_zero(left, right)?;
                apply(left, right, numeric::rem)
            }
        }
    }
}

/// Fails when a number that is there is divided by a zero.
fn refuse_zero(dividend: &ColumnarValue, divisor: &ColumnarValue) -> Result<()> {
    let zero = match divisor {
        ColumnarValue::Scalar(ScalarValue::Float64(value)) => *value == Some(0.0) && any_valid(dividend),
        ColumnarValue::Scalar(ScalarValue::Float32(value)) => *value == Some(0.0) && any_valid(dividend),
        ColumnarValue::Scalar(_) => false,
        ColumnarValue::Array(divisors) => {
            let at_zero = |row: usize| divisors.is_valid(row) && valid_at(dividend, row);
            match divisors.data_type() {
                DataType::Float64 => {
                    let values = divisors.as_primitive::<Float64Type>().values();
                    values.contains(&0.0) && values.iter().enumerate().any(|(row, v)| *v == 0.0 && at_zero(row))
                }
                DataType::Float32 => {
                    let values = divisors.as_primitive::<Float32Type>().values();
                    values.contains(&0.0) && values.iter().enumerate().any(|(row, v)| *v == 0.0 && at_zero(row))
                }
                _ => false,
            }
        }
    };
    if zero { Err(ArrowError::DivideByZero.into()) } else { Ok(()) }
}

fn any_valid(value: &ColumnarValue) -> bool {
    match value {
        ColumnarValue::Array(array) => array.null_count() < array.len(),
        ColumnarValue::Scalar(scalar) => !scalar.is_null(),
    }
}

fn valid_at(value: &ColumnarValue, row: usize) -> bool {
    match value {
        ColumnarValue::Array(array) => array.is_valid(row),
        ColumnarValue::Scalar(scalar) => !scalar.is_null(),
    }
}
