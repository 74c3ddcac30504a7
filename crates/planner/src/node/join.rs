//! `JOIN` of two streams: rows of both sides are kept across epochs and matched with those that come later.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::common::{DFSchemaRef, JoinType, Result, internal_err};
use datafusion::logical_expr::builder::build_join_schema;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

/// See the module. Output schema: that of the `Join` it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamJoinNode {
    /// Position among the stateful operators of the query, bottom-up from 0; names its state.
    pub operator: u32,
    /// The rows of the left side.
    pub left: LogicalPlan,
    /// The rows of the right side.
    pub right: LogicalPlan,
    /// Which rows come out.
    pub join_type: JoinType,
    /// Pairs of equal expressions over the left and the right side, of one type each; at least one. NULL equals nothing.
    pub on: Vec<(Expr, Expr)>,
    /// What else must hold, over both sides.
    pub filter: Option<Expr>,
    /// What is known of the left and the right side.
    pub sides: [JoinSide; 2],
    /// Output schema.
    pub schema: DFSchemaRef,
}

/// What a join of streams knows of the times of one of its sides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct JoinSide {
    /// The time of its rows that a condition compares with a time of the other side: a timestamp, or a window, whose time is
    /// its end. Either both sides have one or neither has. A row whose time is NULL matches nothing.
    pub time: Option<Expr>,
    /// By how much a matching row of the other side is later, at most, in microseconds; None: any time.
    pub ahead_us: Option<i64>,
    /// A row is forgotten when the watermark is at or behind its time and this many microseconds; None: never.
    pub hold_us: Option<i64>,
    /// An event time of this side: late rows are left out by it.
    pub late: Option<Expr>,
    /// How far rows may stay behind the watermark by `late`, in microseconds.
    pub lag_us: i64,
}

impl StreamJoinNode {
    fn inputs(&self) -> [&LogicalPlan; 2] {
        [&self.left, &self.right]
    }
}

impl PartialOrd for StreamJoinNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.operator.partial_cmp(&other.operator).filter(|order| *order != Ordering::Equal || self == other)
    }
}

impl UserDefinedLogicalNodeCore for StreamJoinNode {
    fn name(&self) -> &str {
        "StreamJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        StreamJoinNode::inputs(self).to_vec()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        let on = self.on.iter().flat_map(|(left, right)| [left, right]);
        let times = self.sides.iter().flat_map(|side| side.time.iter().chain(&side.late));
        on.chain(&self.filter).chain(times).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let on: Vec<String> = self.on.iter().map(|(left, right)| format!("{left} = {right}")).collect();
        write!(f, "StreamJoin #{}: {} on=[{}]", self.operator, self.join_type, on.join(", "))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let wanted = self.expressions().len();
        if exprs.len() != wanted {
            return internal_err!("StreamJoin was given {} expressions for {wanted}", exprs.len());
        }
        let (Some(right), Some(left), true) = (inputs.pop(), inputs.pop(), inputs.is_empty()) else {
            return internal_err!("StreamJoin has two inputs");
        };
        let schema = build_join_schema(left.schema(), right.schema(), &self.join_type)?;
        let mut node = StreamJoinNode { left, right, schema: Arc::new(schema), ..self.clone() };
        let on = node.on.iter_mut().flat_map(|(left, right)| [left, right]);
        let times = node.sides.iter_mut().flat_map(|side| side.time.iter_mut().chain(&mut side.late));
        for (place, expr) in on.chain(&mut node.filter).chain(times).zip(exprs) {
            *place = expr;
        }
        Ok(node)
    }

    /// The columns that are asked for, each from its side; keys, condition and times are among the node's own expressions.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let left = self.left.schema().fields().len();
        let of_one_side = || output_columns.to_vec();
        Some(match self.join_type {
            JoinType::LeftSemi | JoinType::LeftAnti => vec![of_one_side(), Vec::new()],
            JoinType::RightSemi | JoinType::RightAnti => vec![Vec::new(), of_one_side()],
            _ => {
                let (of_left, of_right): (Vec<usize>, Vec<usize>) = output_columns.iter().partition(|at| **at < left);
                vec![of_left, of_right.into_iter().map(|at| at - left).collect()]
            }
        })
    }
}
