//! Rows that come too late for the operator above, kept in a table because somebody asked for it.
//!
//! It passes on what is not late. Of a late row it gives the event time and the row as JSON, with every column that
//! reaches it, so nothing below may leave one out.

use std::cmp::Ordering;
use std::fmt;

use datafusion::common::{DFSchemaRef, Result, internal_err};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

/// See the module. Output schema: the input's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LateRowsNode {
    /// The rows.
    pub input: LogicalPlan,
    /// An instant or a window, by which a row is late.
    pub time: Expr,
    /// The row as text.
    pub row: Expr,
    /// How far behind the watermark a row may come and not be late, in microseconds.
    pub lag_us: i64,
}

impl PartialOrd for LateRowsNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.time.partial_cmp(&other.time).filter(|order| *order != Ordering::Equal || self == other)
    }
}

impl UserDefinedLogicalNodeCore for LateRowsNode {
    fn name(&self) -> &str {
        "LateRows"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.time.clone(), self.row.clone()]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "LateRows: {}", self.time)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (<[Expr; 2]>::try_from(exprs), inputs.pop(), inputs.is_empty()) {
            (Ok([time, row]), Some(input), true) => Ok(LateRowsNode { input, time, row, lag_us: self.lag_us }),
            _ => internal_err!("LateRows has a time, a row and one input"),
        }
    }

    /// The columns that are asked for; those of the row are among the node's own expressions.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}
