//! `DISTINCT` inside an aggregate over a stream: which rows are the first with their grouping key and value.
//!
//! It passes every row on with one column more, TRUE for the first row of each key and FALSE for all others. The
//! aggregate above takes the rows that are marked, so that an epoch costs what its new values cost, however many a
//! group has seen.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result, TableReference, internal_err};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

/// See the module. Output schema: the input's, then the mark.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamMarkNode {
    /// Position among the stateful operators of the query, bottom-up from 0; names its state and the mark.
    pub operator: u32,
    /// The rows.
    pub input: LogicalPlan,
    /// The grouping key, then the arguments of the aggregate.
    pub on: Vec<Expr>,
    /// The aggregate's FILTER: rows that do not meet it are never marked and not remembered.
    pub condition: Option<Expr>,
    /// Position in `on` of a key that the watermark bounds: it is forgotten with the group.
    pub time: Option<usize>,
    /// How far behind the watermark rows may come by that key, in microseconds.
    pub lag_us: i64,
    schema: DFSchemaRef,
}

impl StreamMarkNode {
    /// Over `input`. `time`: with the lag by it.
    ///
    /// # Errors
    /// The input has a column of the mark's name.
    pub fn try_new(
        operator: u32,
        input: LogicalPlan,
        on: Vec<Expr>,
        condition: Option<Expr>,
        (time, lag_us): (Option<usize>, i64),
    ) -> Result<StreamMarkNode> {
        let mark = Arc::new(Field::new(StreamMarkNode::column_of(operator).name, DataType::Boolean, false));
        let schema = wider(input.schema(), [(None, mark)])?;
        Ok(StreamMarkNode { operator, input, on, condition, time, lag_us, schema })
    }

    /// The mark.
    pub fn mark(&self) -> Expr {
        Expr::Column(StreamMarkNode::column_of(self.operator))
    }

    fn column_of(operator: u32) -> Column {
        Column::from_name(format!("__first_{operator}"))
    }
}

/// A schema with more columns at its end.
pub(super) fn wider(
    schema: &DFSchema,
    more: impl IntoIterator<Item = (Option<TableReference>, FieldRef)>,
) -> Result<DFSchemaRef> {
    let known = schema.iter().map(|(qualifier, field)| (qualifier.cloned(), field.clone()));
    Ok(Arc::new(DFSchema::new_with_metadata(known.chain(more).collect(), schema.metadata().clone())?))
}

impl PartialOrd for StreamMarkNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.operator.partial_cmp(&other.operator).filter(|order| *order != Ordering::Equal || self == other)
    }
}

impl UserDefinedLogicalNodeCore for StreamMarkNode {
    fn name(&self) -> &str {
        "StreamMark"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.on.iter().chain(&self.condition).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let on = self.on.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        write!(f, "StreamMark #{}: on=[{on}]", self.operator)
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let keys = self.on.len();
        if exprs.len() != keys + usize::from(self.condition.is_some()) {
            return internal_err!("StreamMark was given {} expressions", exprs.len());
        }
        let condition = exprs.drain(keys..).next();
        match (inputs.pop(), inputs.is_empty()) {
            (Some(input), true) => {
                StreamMarkNode::try_new(self.operator, input, exprs, condition, (self.time, self.lag_us))
            }
            _ => internal_err!("StreamMark has one input"),
        }
    }

    /// The columns that are asked for, without the mark; what it is made of are the node's own expressions.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let mark = self.input.schema().fields().len();
        Some(vec![output_columns.iter().copied().filter(|column| *column < mark).collect()])
    }
}
