//! `WATERMARK col DELAY OF …`: which column tells event time, and how late a row may come.
//!
//! It passes every row on. What it is for: the runtime looks at the column's greatest value each epoch, and operators
//! with state above it learn from the watermark which of their rows can no longer change.

use std::cmp::Ordering;
use std::fmt;

use datafusion::common::{DFSchemaRef, Result, internal_err};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

/// See the module. Output schema: the input's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WatermarkNode {
    /// Position among the watermarks of the query, bottom-up from 0; names what is stored of it.
    pub number: u32,
    /// The rows.
    pub input: LogicalPlan,
    /// The event-time column of `input`, a TIMESTAMP.
    pub column: Expr,
    /// How far the watermark stays behind the greatest event time, in microseconds.
    pub delay_us: i64,
    /// Event times further ahead of the epoch's time than this, in microseconds, do not count.
    pub max_future_us: Option<i64>,
}

impl PartialOrd for WatermarkNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.number.partial_cmp(&other.number).filter(|order| *order != Ordering::Equal || self == other)
    }
}

impl UserDefinedLogicalNodeCore for WatermarkNode {
    fn name(&self) -> &str {
        "Watermark"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.column.clone()]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Watermark #{}: {} delay={}us", self.number, self.column, self.delay_us)
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (exprs.pop(), inputs.pop(), exprs.is_empty() && inputs.is_empty()) {
            (Some(column), Some(input), true) => Ok(WatermarkNode { column, input, ..self.clone() }),
            _ => internal_err!("Watermark has one column and one input"),
        }
    }

    /// The columns that are asked for; the event-time column is among the node's own expressions.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}
