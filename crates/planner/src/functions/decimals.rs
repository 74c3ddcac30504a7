//! Arithmetic of DECIMAL as Spark does it: how wide a result is follows from the operands, what does not fit into 38
//! digits costs places behind the point (but not the first six), the rest is rounded half up, and a number that is
//! still too large is an error.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Decimal128Array};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, i256};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{DFSchema, Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    cast,
};
use sqlparser::ast::BinaryOperator;

use super::arithmetic::binary;

/// Digits of a DECIMAL at most.
const DIGITS_MAX: i32 = 38;
/// Places that are kept where digits run out.
const PLACES_KEPT: i32 = 6;

/// Digits, and how many of them stand behind the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Width {
    digits: i32,
    places: i32,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Decimals {
    op: Operator,
    signature: Signature,
}

/// `left op right`, if it is arithmetic of DECIMAL with DECIMAL or whole numbers.
pub(super) fn planned(op: &BinaryOperator, left: &Expr, right: &Expr, schema: &DFSchema) -> Option<Expr> {
    let op = match op {
        BinaryOperator::Plus => Operator::Plus,
        BinaryOperator::Minus => Operator::Minus,
        BinaryOperator::Multiply => Operator::Multiply,
        BinaryOperator::Divide => Operator::Divide,
        BinaryOperator::Modulo => Operator::Modulo,
        _ => return None,
    };
    let types = (left.get_type(schema).ok()?, right.get_type(schema).ok()?);
    if !matches!(types, (DataType::Decimal128(_, _), _) | (_, DataType::Decimal128(_, _))) {
        return None;
    }
    let args = vec![as_decimal(left, &types.0)?, as_decimal(right, &types.1)?];
    let udf = ScalarUDF::from(Decimals { op, signature: Signature::any(2, Volatility::Immutable) });
    Some(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(udf), args)))
}

/// A number as the DECIMAL that it takes part as: a whole number that is written out has no more digits than it needs.
fn as_decimal(expr: &Expr, given: &DataType) -> Option<Expr> {
    let digits = match (given, literal(expr)) {
        (DataType::Decimal128(_, _), _) => return Some(expr.clone()),
        (_, Some(number)) => number.unsigned_abs().checked_ilog10().unwrap_or(0) as u8 + 1,
        (DataType::Int8, None) => 3,
        (DataType::Int16, None) => 5,
        (DataType::Int32, None) => 10,
        (DataType::Int64, None) => 20,
        _ => return None,
    };
    Some(cast(expr.clone(), DataType::Decimal128(digits, 0)))
}

fn literal(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(ScalarValue::Int64(number), _) => *number,
        Expr::Literal(ScalarValue::Int32(number), _) => number.map(i64::from),
        Expr::Negative(inner) => literal(inner)?.checked_neg(),
        _ => None,
    }
}

/// The operation that one of DECIMAL stands for.
pub(super) fn plain(function: &ScalarFunction) -> Option<Expr> {
    let decimals = function.func.inner().downcast_ref::<Decimals>()?;
    match function.args.as_slice() {
        [left, right] => Some(binary(left.clone(), decimals.op, right.clone())),
        _ => None,
    }
}

/// How wide the result of an operation is.
fn width(op: Operator, left: Width, right: Width) -> Width {
    let whole = |width: Width| width.digits - width.places;
    let places = left.places.max(right.places);
    let exact = match op {
        Operator::Plus | Operator::Minus => Width { digits: whole(left).max(whole(right)) + places + 1, places },
        Operator::Multiply => Width { digits: left.digits + right.digits + 1, places: left.places + right.places },
        Operator::Divide => {
            let places = PLACES_KEPT.max(left.places + right.digits + 1);
            Width { digits: whole(left) + right.places + places, places }
        }
        _ => Width { digits: whole(left).min(whole(right)) + places, places },
    };
    if exact.digits <= DIGITS_MAX {
        return exact;
    }
    let places = (DIGITS_MAX - whole(exact)).max(exact.places.min(PLACES_KEPT));
    Width { digits: DIGITS_MAX, places }
}

fn of(data_type: &DataType) -> Result<Width> {
    match data_type {
        DataType::Decimal128(digits, places) => Ok(Width { digits: i32::from(*digits), places: i32::from(*places) }),
        other => plan_err!("arithmetic of DECIMAL does not take the type {}", crate::ddl::sql_type(other)),
    }
}

impl ScalarUDFImpl for Decimals {
    fn name(&self) -> &str {
        match self.op {
            Operator::Plus => "decimal_add",
            Operator::Minus => "decimal_subtract",
            Operator::Multiply => "decimal_multiply",
            Operator::Divide => "decimal_divide",
            _ => "decimal_remainder",
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
        let [left, right] = arg_types else { return plan_err!("{} takes two numbers", self.name()) };
        let Width { digits, places } = width(self.op, of(left)?, of(right)?);
        Ok(DataType::Decimal128(digits as u8, places as i8))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let arrays = args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let [left, right] = arrays.as_slice() else { return exec_err!("{} takes two numbers", self.name()) };
        let gives = args.return_field.data_type();
        let step = Step::new(self.op, of(left.data_type())?, of(right.data_type())?, of(gives)?);
        let result = step.over(left, right, gives)?;
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)),
            false => Ok(ColumnarValue::Array(result)),
        }
    }
}

/// One operation between numbers of known widths.
struct Step {
    op: Operator,
    /// Each side is multiplied by this much first.
    raised: (i128, i128),
    /// The result is divided by ten this often.
    lowered: u32,
    /// The greatest result.
    most: i128,
}

fn power(exponent: i32) -> Option<i128> {
    10_i128.checked_pow(u32::try_from(exponent).ok()?)
}

impl Step {
    fn new(op: Operator, left: Width, right: Width, gives: Width) -> Step {
        let (raised, lowered) = match op {
            Operator::Multiply => ((0, 0), left.places + right.places - gives.places),
            Operator::Divide => {
                let raise = gives.places + right.places - left.places;
                ((raise.max(0), (-raise).max(0)), 0)
            }
            _ => {
                let places = left.places.max(right.places);
                ((places - left.places, places - right.places), places - gives.places)
            }
        };
        // What is out of reach here is beyond 38 digits anyway; nought makes `wide` take over.
        let raise = |exponent| power(exponent).unwrap_or(0);
        let most = power(gives.digits).map_or(i128::MAX, |power| power - 1);
        let raised = (raise(raised.0), raise(raised.1));
        Step { op, raised, lowered: u32::try_from(lowered).unwrap_or(0), most }
    }

    fn over(&self, left: &ArrayRef, right: &ArrayRef, gives: &DataType) -> Result<ArrayRef> {
        let (left, right) = (left.as_primitive::<Decimal128Type>(), right.as_primitive::<Decimal128Type>());
        let results = left.iter().zip(right.iter()).map(|(left, right)| match (left, right) {
            (Some(left), Some(right)) => self.of(left, right).map(Some),
            _ => Ok(None),
        });
        let results = results.collect::<Result<Decimal128Array, ArrowError>>()?;
        Ok(Arc::new(results.with_data_type(gives.clone())))
    }

    fn of(&self, left: i128, right: i128) -> Result<i128, ArrowError> {
        if right == 0 && matches!(self.op, Operator::Divide | Operator::Modulo) {
            return Err(ArrowError::DivideByZero);
        }
        let result = match self.narrow(left, right) {
            Some(result) => Some(result),
            None => self.wide(left, right),
        };
        result.filter(|result| (-self.most..=self.most).contains(result)).ok_or_else(|| {
            ArrowError::ArithmeticOverflow(format!("the result of DECIMAL {} has too many digits", self.op))
        })
    }

    /// In 128 bits; None when they do not suffice.
    fn narrow(&self, left: i128, right: i128) -> Option<i128> {
        if self.raised.0 == 0 || self.raised.1 == 0 {
            return None;
        }
        let (left, right) = (left.checked_mul(self.raised.0)?, right.checked_mul(self.raised.1)?);
        let exact = match self.op {
            Operator::Plus => left.checked_add(right)?,
            Operator::Minus => left.checked_sub(right)?,
            Operator::Multiply => left.checked_mul(right)?,
            Operator::Divide => return half_up(left, right),
            _ => left.checked_rem(right)?,
        };
        match self.lowered {
            0 => Some(exact),
            lowered => half_up(exact, 10_i128.checked_pow(lowered)?),
        }
    }

    /// In 256 bits.
    fn wide(&self, left: i128, right: i128) -> Option<i128> {
        let big = i256::from_i128;
        let raise = |number: i128, by: i128| big(number).checked_mul(big(by));
        let (left, right) = (raise(left, self.raised.0)?, raise(right, self.raised.1)?);
        if self.raised.0 == 0 || self.raised.1 == 0 {
            return None;
        }
        let exact = match self.op {
            Operator::Plus => left.checked_add(right)?,
            Operator::Minus => left.checked_sub(right)?,
            Operator::Multiply => left.checked_mul(right)?,
            Operator::Divide => return wide_half_up(left, right)?.to_i128(),
            _ => left.checked_rem(right)?,
        };
        match self.lowered {
            0 => exact.to_i128(),
            lowered => wide_half_up(exact, i256::from_i128(10).checked_pow(lowered)?)?.to_i128(),
        }
    }
}

/// The quotient, halves away from nought.
fn half_up(number: i128, by: i128) -> Option<i128> {
    let (quotient, rest) = (number.checked_div(by)?, number.checked_rem(by)?);
    let away = rest.unsigned_abs() >= by.unsigned_abs() - rest.unsigned_abs();
    match (away, (number < 0) == (by < 0)) {
        (false, _) => Some(quotient),
        (true, true) => quotient.checked_add(1),
        (true, false) => quotient.checked_sub(1),
    }
}

fn wide_half_up(number: i256, by: i256) -> Option<i256> {
    let (quotient, rest) = (number.checked_div(by)?, number.checked_rem(by)?);
    let (rest, size) = (rest.checked_abs()?, by.checked_abs()?);
    let away = rest >= size.checked_sub(rest)?;
    match (away, number.is_negative() == by.is_negative()) {
        (false, _) => Some(quotient),
        (true, true) => quotient.checked_add(i256::ONE),
        (true, false) => quotient.checked_sub(i256::ONE),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn w(digits: i32, places: i32) -> Width {
        Width { digits, places }
    }

    #[test]
    fn widths_are_sparks() {
        let table = [
            (Operator::Plus, w(10, 2), w(5, 3), w(12, 3)),
            (Operator::Plus, w(38, 10), w(38, 10), w(38, 9)),
            (Operator::Multiply, w(10, 2), w(10, 2), w(21, 4)),
            (Operator::Multiply, w(38, 10), w(38, 10), w(38, 6)),
            (Operator::Divide, w(10, 2), w(10, 2), w(23, 13)),
            (Operator::Divide, w(38, 10), w(38, 10), w(38, 6)),
            (Operator::Divide, w(20, 5), w(1, 0), w(22, 7)),
            (Operator::Modulo, w(10, 2), w(5, 3), w(5, 3)),
        ];
        for (op, left, right, expected) in table {
            assert_eq!(width(op, left, right), expected, "{op} {left:?} {right:?}");
        }
    }

    #[test]
    fn results_are_rounded_half_up_and_never_wrong() {
        let of = |op, left: Width, l: i128, right: Width, r: i128| {
            Step::new(op, left, right, width(op, left, right)).of(l, r)
        };
        // 1.00 / 3.00, -1.00 / 3.00, 2.00 / 3.00 with 13 places.
        assert_eq!(of(Operator::Divide, w(10, 2), 100, w(10, 2), 300).unwrap(), 3_333_333_333_333);
        assert_eq!(of(Operator::Divide, w(10, 2), -100, w(10, 2), 300).unwrap(), -3_333_333_333_333);
        assert_eq!(of(Operator::Divide, w(10, 2), 200, w(10, 2), 300).unwrap(), 6_666_666_666_667);
        // Twenty places are needed, six are kept: 0.0000005 is half of the last one.
        assert_eq!(of(Operator::Multiply, w(38, 10), 5_000, w(38, 10), 10_000_000_000).unwrap(), 1);
        assert_eq!(of(Operator::Minus, w(5, 2), 100, w(5, 3), 1).unwrap(), 999);
        assert_eq!(of(Operator::Modulo, w(5, 2), -701, w(5, 2), 300).unwrap(), -101);
        let most = 10_i128.pow(38) - 1;
        assert!(matches!(of(Operator::Plus, w(38, 0), most, w(38, 0), 1), Err(ArrowError::ArithmeticOverflow(_))));
        assert!(matches!(
            of(Operator::Multiply, w(38, 0), most, w(38, 0), most),
            Err(ArrowError::ArithmeticOverflow(_))
        ));
        assert!(matches!(of(Operator::Divide, w(5, 2), 1, w(5, 2), 0), Err(ArrowError::DivideByZero)));
    }
}
