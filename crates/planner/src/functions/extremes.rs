//! `max` and `min` of structs, arrays: fields are compared in order, a NULL field is lower than any value, whatever
//! order the rows come in. Of everything else they are DataFusion's.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, make_comparator};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, GroupsAccumulator, ReversedUDAF, SetMonotonicity,
    Signature, StatisticsArgs,
};

/// Both functions.
pub(super) fn functions() -> [Arc<AggregateUDF>; 2] {
    use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
    [(max_udaf(), Ordering::Greater), (min_udaf(), Ordering::Less)]
        .map(|(inner, wins)| Arc::new(AggregateUDF::from(Extreme { inner, wins })))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Extreme {
    inner: Arc<AggregateUDF>,
    /// How a value compares to the best so far when it takes its place.
    wins: Ordering,
}

impl AggregateUDFImpl for Extreme {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [DataType::Map(_, _)] => plan_err!("{} does not take a MAP: maps have no order", self.name()),
            [nested] if nested.is_nested() => Ok(vec![nested.clone()]),
            _ => self.inner.coerce_types(arg_types),
        }
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match args.return_field.data_type() {
            nested if nested.is_nested() => {
                Ok(Box::new(Best { best: ScalarValue::try_from(nested)?, wins: self.wins }))
            }
            _ => self.inner.accumulator(args),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.return_field.data_type().is_nested() && self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        self.inner.create_groups_accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.return_field.data_type().is_nested() {
            return self.accumulator(args);
        }
        self.inner.create_sliding_accumulator(args)
    }

    fn is_descending(&self) -> Option<bool> {
        self.inner.is_descending()
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn value_from_stats(&self, statistics: &StatisticsArgs) -> Option<ScalarValue> {
        if statistics.return_type.is_nested() { None } else { self.inner.value_from_stats(statistics) }
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.inner.inner().set_monotonicity(data_type)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// State: the best value so far, NULL before the first; written with each batch.
#[derive(Debug)]
struct Best {
    best: ScalarValue,
    wins: Ordering,
}

impl Accumulator for Best {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(values) = values.first() else { return Ok(()) };
        let options = SortOptions { descending: false, nulls_first: true };
        let compare = make_comparator(values, values, options)?;
        let mut best: Option<usize> = None;
        for row in (0..values.len()).filter(|row| values.is_valid(*row)) {
            if best.is_none_or(|best| compare(row, best) == self.wins) {
                best = Some(row);
            }
        }
        let Some(row) = best else { return Ok(()) };
        if !self.best.is_null() {
            let known = self.best.to_array()?;
            if make_comparator(values, &known, options)?(row, 0) != self.wins {
                return Ok(());
            }
        }
        self.best = ScalarValue::try_from_array(values, row)?.compacted();
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.best.clone()])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.best.clone())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.best.size()
    }
}
