//! `max_by(x, y)` and `min_by(x, y)`: the x of the row whose y is the greatest or the least. Rows whose y is NULL do
//! not count; of rows with the same y, the one that comes first wins.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, make_comparator};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

/// Both functions.
pub(super) fn functions() -> [Arc<AggregateUDF>; 2] {
    [("max_by", Ordering::Greater), ("min_by", Ordering::Less)].map(|(name, wins)| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(AggregateUDF::from(BestBy { name, wins, signature }))
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BestBy {
    name: &'static str,
    /// How a row's y compares to the best so far when the row takes its place.
    wins: Ordering,
    signature: Signature,
}

impl AggregateUDFImpl for BestBy {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [_, DataType::Map(_, _)] => plan_err!("{}: maps have no order", self.name),
            [value, order] => Ok(vec![value.clone(), order.clone()]),
            _ => plan_err!("{} takes a value and what decides, as in {}(name, points)", self.name, self.name),
        }
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [value, _] => Ok(value.clone()),
            _ => plan_err!("{} takes two arguments", self.name),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let [value, order] = args.input_fields else { return plan_err!("{} takes two arguments", self.name) };
        let field = |part: &str, of: &FieldRef| {
            Arc::new(Field::new(format!("{}[{part}]", args.name), of.data_type().clone(), true))
        };
        Ok(vec![field("value", value), field("order", order)])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let [value, order] = args.expr_fields else { return exec_err!("{} takes two arguments", self.name) };
        Ok(Box::new(Best {
            value: ScalarValue::try_from(value.data_type())?,
            order: ScalarValue::try_from(order.data_type())?,
            wins: self.wins,
        }))
    }
}

/// State: the best row's value and what decided for it, both NULL before the first; written with each batch.
#[derive(Debug)]
struct Best {
    value: ScalarValue,
    order: ScalarValue,
    wins: Ordering,
}

impl Accumulator for Best {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [values, orders] = values else { return exec_err!("a value and what decides are needed") };
        let options = SortOptions { descending: false, nulls_first: true };
        let compare = make_comparator(orders, orders, options)?;
        let mut best: Option<usize> = None;
        for row in (0..orders.len()).filter(|row| orders.is_valid(*row)) {
            if best.is_none_or(|best| compare(row, best) == self.wins) {
                best = Some(row);
            }
        }
        let Some(row) = best else { return Ok(()) };
        if !self.order.is_null() {
            let known = self.order.to_array()?;
            if make_comparator(orders, &known, options)?(row, 0) != self.wins {
                return Ok(());
            }
        }
        self.order = ScalarValue::try_from_array(orders, row)?.compacted();
        self.value = ScalarValue::try_from_array(values, row)?.compacted();
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.value.clone(), self.order.clone()])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.value.clone())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.value.size() + self.order.size()
    }
}
