//! `sum` that does not wrap around: over BIGINT and DECIMAL an overflow is an error, as with Spark's ANSI arithmetic,
//! instead of a wrong number. Everything else is DataFusion's `sum`; `try_sum` gives NULL instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray};
use datafusion::arrow::datatypes::{ArrowPrimitiveType, DataType, Decimal128Type, FieldRef, Int64Type};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, EmitTo, Expr, GroupsAccumulator, Operator,
    ReversedUDAF, SetMonotonicity, Signature, StatisticsArgs,
};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::prim_op::PrimitiveGroupsAccumulator;

/// The function.
pub(super) fn udaf() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(CheckedSum { inner: Sum::new() }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedSum {
    inner: Sum,
}

fn checked(args: &AccumulatorArgs) -> bool {
    !args.is_distinct && matches!(args.return_field.data_type(), DataType::Int64 | DataType::Decimal128(_, _))
}

/// What sums are kept in, and how far they may go.
trait Summed: ArrowPrimitiveType + std::fmt::Debug + Send {
    /// The type's name for a message.
    const NAME: &'static str;

    /// The greatest sum of a type.
    fn most(gives: &DataType) -> Self::Native;

    /// The sum, if it is not beyond the greatest.
    fn plus(sum: Self::Native, value: Self::Native, most: Self::Native) -> Option<Self::Native>;
}

impl Summed for Int64Type {
    const NAME: &'static str = "BIGINT";

    fn most(_gives: &DataType) -> i64 {
        i64::MAX
    }

    fn plus(sum: i64, value: i64, _most: i64) -> Option<i64> {
        sum.checked_add(value)
    }
}

impl Summed for Decimal128Type {
    const NAME: &'static str = "DECIMAL";

    fn most(gives: &DataType) -> i128 {
        match gives {
            DataType::Decimal128(precision, _) => 10_i128.pow(u32::from(*precision).min(38)) - 1,
            _ => i128::MAX,
        }
    }

    fn plus(sum: i128, value: i128, most: i128) -> Option<i128> {
        sum.checked_add(value).filter(|sum| (-most..=most).contains(sum))
    }
}

fn overflow<T: Summed>() -> ArrowError {
    ArrowError::ArithmeticOverflow(format!("sum({0}) left the range of {0}", T::NAME))
}

fn groups<T: Summed>(gives: &DataType) -> Box<dyn GroupsAccumulator> {
    let overflowed = Arc::new(AtomicBool::new(false));
    let flag = overflowed.clone();
    let most = T::most(gives);
    let add = move |sum: &mut T::Native, value: T::Native| match T::plus(*sum, value, most) {
        Some(total) => *sum = total,
        None => flag.store(true, Ordering::Relaxed),
    };
    Box::new(Totals { inner: PrimitiveGroupsAccumulator::<T, _>::new(gives, add), overflowed })
}

fn total<T: Summed>(gives: &DataType) -> Box<dyn Accumulator> {
    Box::new(Total::<T> { sum: None, most: T::most(gives), gives: gives.clone() })
}

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match args.return_field.data_type() {
            gives @ DataType::Int64 if checked(&args) => Ok(total::<Int64Type>(gives)),
            gives @ DataType::Decimal128(_, _) if checked(&args) => Ok(total::<Decimal128Type>(gives)),
            _ => self.inner.accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        match args.return_field.data_type() {
            gives @ DataType::Int64 if checked(&args) => Ok(groups::<Int64Type>(gives)),
            gives @ DataType::Decimal128(_, _) if checked(&args) => Ok(groups::<Decimal128Type>(gives)),
            _ => self.inner.create_groups_accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.inner.create_sliding_accumulator(args)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.inner.reverse_expr()
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner.order_sensitivity()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.inner.set_monotonicity(data_type)
    }

    fn simplify_expr_op_literal(
        &self,
        function: &AggregateFunction,
        arg: &Expr,
        op: Operator,
        literal: &Expr,
        arg_is_left: bool,
    ) -> Result<Option<Expr>> {
        self.inner.simplify_expr_op_literal(function, arg, op, literal, arg_is_left)
    }

    fn value_from_stats(&self, statistics: &StatisticsArgs) -> Option<ScalarValue> {
        self.inner.value_from_stats(statistics)
    }
}

/// One sum; NULL until there is a value.
#[derive(Debug)]
struct Total<T: Summed> {
    sum: Option<T::Native>,
    most: T::Native,
    gives: DataType,
}

impl<T: Summed> Accumulator for Total<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<T>().iter().flatten() {
            let sum = self.sum.unwrap_or_default();
            self.sum = Some(T::plus(sum, value, self.most).ok_or_else(overflow::<T>)?);
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::new_primitive::<T>(self.sum, &self.gives)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// One sum a group. The library's accumulator does the work; what it adds with cannot fail and raises a flag instead.
struct Totals<T: Summed, F: Fn(&mut T::Native, T::Native) + Send + Sync + 'static> {
    inner: PrimitiveGroupsAccumulator<T, F>,
    overflowed: Arc<AtomicBool>,
}

impl<T: Summed, F: Fn(&mut T::Native, T::Native) + Send + Sync + 'static> Totals<T, F> {
    fn check(&self) -> Result<()> {
        if self.overflowed.load(Ordering::Relaxed) { Err(overflow::<T>().into()) } else { Ok(()) }
    }
}

impl<T: Summed, F: Fn(&mut T::Native, T::Native) + Send + Sync + 'static> GroupsAccumulator for Totals<T, F> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.inner.update_batch(values, group_indices, filter, total_num_groups)?;
        self.check()
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.inner.merge_batch(values, group_indices, total_num_groups)?;
        self.check()
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.inner.evaluate(emit_to)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.inner.state(emit_to)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.inner.convert_to_state(values, filter)
    }

    fn size(&self) -> usize {
        self.inner.size()
    }
}
