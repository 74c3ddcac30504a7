//! `LIMIT` over a stream: the first rows over the life of the query go on, later ones do not.

use std::cmp::Ordering;
use std::fmt;

use datafusion::common::{DFSchemaRef, Result, internal_err};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

/// See the module. Output schema: the input's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamLimitNode {
    /// Position among the stateful operators of the query, bottom-up from 0; names its state.
    pub operator: u32,
    /// The rows.
    pub input: LogicalPlan,
    /// How many go on.
    pub rows: u64,
}

impl PartialOrd for StreamLimitNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.operator.partial_cmp(&other.operator).filter(|order| *order != Ordering::Equal || self == other)
    }
}

impl UserDefinedLogicalNodeCore for StreamLimitNode {
    fn name(&self) -> &str {
        "StreamLimit"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "StreamLimit #{}: {}", self.operator, self.rows)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (inputs.pop(), inputs.is_empty() && exprs.is_empty()) {
            (Some(input), true) => Ok(StreamLimitNode { input, ..self.clone() }),
            _ => internal_err!("StreamLimit has one input and no expressions"),
        }
    }

    /// The columns that are asked for.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}
