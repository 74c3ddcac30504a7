//! `DEDUPLICATE BY` and `SELECT DISTINCT` over a stream: the first row of each key goes on, later ones do not.

use std::cmp::Ordering;
use std::fmt;

use datafusion::common::{DFSchemaRef, Result, internal_err};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

/// See the module. Output schema: the input's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamDeduplicateNode {
    /// Position among the stateful operators of the query, bottom-up from 0; names its state.
    pub operator: u32,
    /// The rows.
    pub input: LogicalPlan,
    /// The columns that make two rows the same.
    pub on: Vec<Expr>,
    /// An event-time column of the input: late rows are left out by it.
    pub time: Option<Expr>,
    /// When a key is forgotten.
    pub forget: Forget,
    /// How far rows may stay behind the watermark by that column, in microseconds.
    pub lag_us: i64,
}

/// When a key of a [`StreamDeduplicateNode`] is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Hash)]
pub enum Forget {
    /// Never.
    Never,
    /// When the watermark passes the key's event time: the position in `on` of the event-time column.
    Passed(usize),
    /// `WITHIN WATERMARK`: when the watermark passes the event time of its first row and this many microseconds.
    After(i64),
}

impl PartialOrd for StreamDeduplicateNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.operator.partial_cmp(&other.operator).filter(|order| *order != Ordering::Equal || self == other)
    }
}

impl UserDefinedLogicalNodeCore for StreamDeduplicateNode {
    fn name(&self) -> &str {
        "StreamDeduplicate"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        self.on.iter().chain(&self.time).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let on = self.on.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        write!(f, "StreamDeduplicate #{}: on=[{on}]", self.operator)
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let keys = self.on.len();
        if exprs.len() != keys + usize::from(self.time.is_some()) {
            return internal_err!("StreamDeduplicate was given {} expressions", exprs.len());
        }
        let time = exprs.drain(keys..).next();
        match (inputs.pop(), inputs.is_empty()) {
            (Some(input), true) => Ok(StreamDeduplicateNode { input, on: exprs, time, ..self.clone() }),
            _ => internal_err!("StreamDeduplicate has one input"),
        }
    }

    /// The columns that are asked for; keys and event time are among the node's own expressions.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}
