//! GROUPING SETS of static queries, over rows of which nothing is known.
//!
//! `WHERE j = 0` makes `j` a constant to DataFusion, and a constant has any order. An aggregation takes what it knows of its
//! input's columns for true of its keys, and gives groups out as soon as a key changes: but a set that leaves `j` out has NULL in
//! its place, and so one group would come out in several pieces. This rule hides what is known below such aggregations. (Streams
//! group by one set of keys, see `expand.rs`.)

use std::fmt;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateInputMode};
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::StreamExt;

use super::exec::{Operator, OperatorExec, Rows, Run, Shape};

/// The rule. It goes first: what is decided by orders comes later.
#[derive(Debug)]
pub(super) struct UnorderedSets;

impl PhysicalOptimizerRule for UnorderedSets {
    fn name(&self) -> &str {
        "unordered_sets"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| match input_with_order(&node) {
            Some(input) => {
                let schema = input.schema();
                let hidden = OperatorExec::new(AnyOrder, input, schema, Shape::Transforms);
                let anew = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
                Ok(Transformed::yes(node.replace_children(vec![hidden], anew)?))
            }
            None => Ok(Transformed::no(node)),
        })
        .map(|transformed| transformed.data)
    }
}

/// The rows that go into grouping sets, where something is known of them.
fn input_with_order(node: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    let aggregate = node.downcast_ref::<AggregateExec>()?;
    let known = aggregate.input().equivalence_properties();
    let nothing = known.oeq_class().is_empty() && known.eq_group().is_empty();
    let sets = aggregate.group_expr().has_grouping_set() && aggregate.mode().input_mode() == AggregateInputMode::Raw;
    (sets && !nothing).then(|| aggregate.input().clone())
}

/// Rows as they come.
struct AnyOrder;

impl Operator for AnyOrder {
    fn name(&self) -> &'static str {
        "AnyOrderExec"
    }

    fn describe(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("below grouping sets")
    }

    fn needs_every_row(&self) -> bool {
        false
    }

    fn run(self: Arc<Self>, run: Run) -> Result<Rows> {
        Ok(run.input()?.boxed())
    }
}
