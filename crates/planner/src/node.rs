//! Stateful operators as logical nodes.
//!
//! They take DataFusion's place for the same operator between the analyzer and the optimizer, so that no rewrite
//! can split an operator whose state is stored. The runtime gives them their physical form.

mod deduplicate;
mod expand;
mod join;
mod late;
mod limit;
mod mark;
mod session;
mod watermark;

use std::cmp::Ordering;
use std::fmt;

use datafusion::common::{DFSchemaRef, Result, internal_err};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use alluvium_parser::OutputMode;

pub use crate::functions::time_window::TimeWindow;
pub use deduplicate::{Forget, StreamDeduplicateNode};
pub use expand::{ExpandNode, GroupingSet};
pub use join::{JoinSide, StreamJoinNode};
pub use late::LateRowsNode;
pub use limit::StreamLimitNode;
pub use mark::StreamMarkNode;
pub use session::StreamSessionNode;
pub use watermark::WatermarkNode;

/// `GROUP BY` over a stream: partial state per key is kept across epochs and merged with each epoch's input.
///
/// Output schema: grouping columns, then one column per aggregate; the same as the `Aggregate` it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamAggregateNode {
    /// Position among the stateful operators of the query, bottom-up from 0; names its state.
    pub operator: u32,
    /// What is kept: rows of the stream.
    pub input: LogicalPlan,
    /// Grouping expressions over the input; empty for a single group.
    pub group_expr: Vec<Expr>,
    /// Aggregate functions, unaliased or aliased.
    pub aggr_expr: Vec<Expr>,
    /// Output schema.
    pub schema: DFSchemaRef,
    /// Complete: every key each epoch. Update: touched keys. Append: keys the watermark has passed.
    pub mode: OutputMode,
    /// Position in `group_expr` of a key that the watermark bounds: an event time, or a window of it. A key is final
    /// when the watermark is at or behind it (the window's end).
    pub time: Option<usize>,
    /// How far rows may stay behind the watermark by that key, in microseconds: an operator below gives them out later.
    pub lag_us: i64,
    /// Where a key of the input is not a window but the pane of a time. The output has windows.
    pub panes: Option<Panes>,
}

/// Panes of windows: the key is a struct<start, end>, the end being that of the last window that has the pane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Panes {
    /// Position of the key among the grouping columns.
    pub key: usize,
    /// The windows.
    pub windows: TimeWindow,
}

impl PartialOrd for StreamAggregateNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.operator.partial_cmp(&other.operator).filter(|order| *order != Ordering::Equal || self == other)
    }
}

impl UserDefinedLogicalNodeCore for StreamAggregateNode {
    fn name(&self) -> &str {
        "StreamAggregate"
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
        write!(
            f,
            "StreamAggregate #{}: keys=[{}] aggregates=[{}]",
            self.operator,
            list(&self.group_expr),
            list(&self.aggr_expr)
        )
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let keys = self.group_expr.len();
        if exprs.len() != keys + self.aggr_expr.len() {
            return internal_err!("StreamAggregate was given {} expressions", exprs.len());
        }
        let Some(input) = inputs.pop() else {
            return internal_err!("StreamAggregate needs an input");
        };
        Ok(StreamAggregateNode {
            operator: self.operator,
            input,
            group_expr: exprs[..keys].to_vec(),
            aggr_expr: exprs[keys..].to_vec(),
            schema: self.schema.clone(),
            mode: self.mode,
            time: self.time,
            lag_us: self.lag_us,
            panes: self.panes,
        })
    }

    /// Nothing beyond what its own expressions read: every output column is computed by one of them.
    fn necessary_children_exprs(&self, _output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![Vec::new()])
    }
}
