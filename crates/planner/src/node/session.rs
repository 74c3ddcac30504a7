//! `GROUP BY session_window(ts, gap)` over a stream: the sessions of a key that touch are one.

use std::cmp::Ordering;
use std::fmt;

use alluvium_parser::OutputMode;
use datafusion::common::{DFSchemaRef, Result, internal_err};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

/// See the module. Output schema: grouping columns, then one column per aggregate; the same as the `Aggregate` it stands
/// for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamSessionNode {
    /// Position among the stateful operators of the query, bottom-up from 0; names its state.
    pub operator: u32,
    /// The rows, each with the session it would make alone.
    pub input: LogicalPlan,
    /// Grouping expressions over the input, the session among them.
    pub group_expr: Vec<Expr>,
    /// Aggregate functions, unaliased or aliased.
    pub aggr_expr: Vec<Expr>,
    /// Output schema.
    pub schema: DFSchemaRef,
    /// Complete: every session each epoch. Append: those that the watermark has reached.
    pub mode: OutputMode,
    /// Position of the session in `group_expr`.
    pub session: usize,
    /// How far rows may stay behind the watermark, in microseconds: behind a join of two streams.
    pub lag_us: i64,
}

impl StreamSessionNode {
    /// The number under which an operator keeps which sessions a key has, beside its sessions.
    pub fn keys_number(operator: u32) -> u32 {
        operator | KEYS
    }

    /// The operator whose keys are kept under a number; None: it is an operator's own.
    pub fn of_keys_number(number: u32) -> Option<u32> {
        (number & KEYS != 0).then_some(number & !KEYS)
    }
}

/// No query has as many operators.
const KEYS: u32 = 1 << 31;

impl PartialOrd for StreamSessionNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.operator.partial_cmp(&other.operator).filter(|order| *order != Ordering::Equal || self == other)
    }
}

impl UserDefinedLogicalNodeCore for StreamSessionNode {
    fn name(&self) -> &str {
        "StreamSession"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.group_expr.iter().chain(&self.aggr_expr).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let list = |exprs: &[Expr]| exprs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let (keys, values) = (list(&self.group_expr), list(&self.aggr_expr));
        write!(f, "StreamSession #{}: keys=[{keys}] aggregates=[{values}]", self.operator)
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let keys = self.group_expr.len();
        if exprs.len() != keys + self.aggr_expr.len() {
            return internal_err!("StreamSession was given {} expressions", exprs.len());
        }
        let aggr_expr = exprs.split_off(keys);
        match (inputs.pop(), inputs.is_empty()) {
            (Some(input), true) => Ok(StreamSessionNode { input, group_expr: exprs, aggr_expr, ..self.clone() }),
            _ => internal_err!("StreamSession has one input"),
        }
    }

    /// Nothing beyond what its own expressions read: every output column is computed by one of them.
    fn necessary_children_exprs(&self, _output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![Vec::new()])
    }
}
