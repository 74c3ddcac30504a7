//! The plan of a streaming query.

use std::sync::Arc;

use alluvium_parser::OutputMode;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::LogicalPlan;

use crate::node::{LateRowsNode, StreamJoinNode, StreamLimitNode, StreamSessionNode};
use crate::relation::SourceSpec;
use crate::streaming::StateIdentity;

/// What one streaming query does each epoch. Its `Display` is EXPLAIN.
#[derive(Debug, Clone)]
pub struct StreamingPlan {
    /// Optimized plan. Streams stand as `StreamRelation`, stateful operators as nodes of [`crate::node`],
    /// `current_timestamp()` and kin as calls that the runtime replaces each epoch.
    pub plan: LogicalPlan,
    /// Sources in order of first appearance; `plan`'s `StreamRelation`s share these `Arc`s (compare by pointer).
    pub sources: Vec<Arc<SourceSpec>>,
    /// What is written each epoch.
    pub mode: OutputMode,
    /// Stateful operators, bottom-up; index = operator number.
    pub operators: Vec<OperatorInfo>,
    /// Watermarks, by the number of their node. The query's watermark is the least of them.
    pub watermarks: Vec<WatermarkInfo>,
    /// Columns of the result.
    pub schema: SchemaRef,
    /// Rows that come out over the life of the query, where a LIMIT on top says so.
    pub limit: Option<RowLimit>,
    /// Changes when the state of an operator would no longer fit: keys, aggregates and their types, sources.
    pub fingerprint: String,
    /// How rows of the result are found again in the target; None where they are not an aggregate's groups.
    pub upsert: Option<Upsert>,
    /// What each stateful operator keeps, by operator number: what stored state is compared with.
    pub identities: Vec<StateIdentity>,
    /// What tells the query from another one, views included; empty where nobody said it. Kept with each epoch.
    pub query: String,
}

impl StreamingPlan {
    /// Whether an advance of the watermark alone makes rows come out or state go.
    pub fn acts_on_watermark(&self) -> bool {
        if self.watermarks.is_empty() || self.mode == OutputMode::Complete {
            return false;
        }
        let mut for_ever = 0;
        let _ = self.plan.apply(|node| {
            if let LogicalPlan::Extension(extension) = node {
                let node = extension.node.as_any();
                let join = node.downcast_ref::<StreamJoinNode>();
                let kept = join.is_some_and(|join| join.sides.iter().all(|side| side.hold_us.is_none()));
                for_ever += usize::from(kept || node.downcast_ref::<StreamLimitNode>().is_some());
            }
            Ok(TreeNodeRecursion::Continue)
        });
        self.operators.len() > for_ever
    }

    /// Numbers of the tables that keep the operators' state: one is an operator's own, and some have another.
    pub fn state_tables(&self) -> Vec<u32> {
        let own = 0..self.operators.len() as u32;
        let sessions = self.operators.iter().enumerate().filter(|(_, operator)| operator.kind == "session");
        own.chain(sessions.map(|(at, _)| StreamSessionNode::keys_number(at as u32))).collect()
    }
}

impl StreamingPlan {
    /// Whether rows that come too late are kept.
    pub fn keeps_late_rows(&self) -> bool {
        let kept = |plan: &LogicalPlan| match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().is::<LateRowsNode>(),
            _ => false,
        };
        self.plan.exists(|plan| Ok(kept(plan))).unwrap_or(false)
    }
}

/// A LIMIT that everything a query gives passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowLimit {
    /// Its operator number.
    pub operator: u32,
    /// Rows that come out.
    pub rows: u64,
}

/// How an epoch's rows take the place of former ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upsert {
    /// One for each grouping column: together they are different for different groups.
    pub keys: Vec<UpsertKey>,
    /// Whether a group may have no row (HAVING).
    pub filtered: bool,
    /// Position among the keys of the one by which the watermark ends groups; None: no watermark does, or what it ends
    /// by is not in the result.
    pub time: Option<usize>,
}

/// A column of the result that stands for a grouping column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpsertKey {
    /// Its position in the result.
    pub column: usize,
    /// The position of the grouping column among those of the aggregate.
    pub group: usize,
    /// What of that column it is.
    pub part: KeyPart,
}

/// What of a grouping column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPart {
    /// Its value.
    Whole,
    /// The start of a window.
    Start,
    /// The end of a window.
    End,
}

/// A watermark of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatermarkInfo {
    /// The event-time column, as SQL.
    pub column: String,
    /// How far it stays behind the greatest event time, in microseconds.
    pub delay_us: i64,
    /// The sources whose rows it sees: positions in the plan's list.
    pub sources: Vec<usize>,
}

/// The kind of an inner join of two streams.
pub const INNER_JOIN: &str = "inner join";

/// A stateful operator, for EXPLAIN and DESCRIBE STREAM.
#[derive(Debug, Clone)]
pub struct OperatorInfo {
    /// `aggregate`, `session`, `distinct`, `deduplicate`, `inner join`, `left join` and so on, `limit`.
    pub kind: &'static str,
    /// Its keys as SQL.
    pub keys: Vec<String>,
    /// What is kept per key as SQL.
    pub values: Vec<String>,
    /// What bounds the state: `number of distinct keys`.
    pub bounded_by: String,
    /// Aggregates whose state grows with the input of their key.
    pub unbounded: Vec<String>,
}
