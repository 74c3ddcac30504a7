//! Operators stay where nothing can come of their rows.
//!
//! DataFusion takes out what stands under a condition that never holds, or is joined with an empty relation. A watermark there
//! would no longer see the times of its stream, and a query with several would wait for it for ever; an operator with state
//! would not take its rows in.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

type Rule = Arc<dyn OptimizerRule + Send + Sync>;

/// The rule, with this care taken if it is one that takes out.
pub(super) fn kept(rule: &Rule) -> Rule {
    match rule.name() {
        "eliminate_filter" | "eliminate_join" | "propagate_empty_relation" => Arc::new(KeptOperators(rule.clone())),
        _ => rule.clone(),
    }
}

#[derive(Debug)]
struct KeptOperators(Rule);

impl OptimizerRule for KeptOperators {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let there = operators(&plan)?;
        if there == 0 {
            return self.0.rewrite(plan, config);
        }
        let rewritten = self.0.rewrite(plan.clone(), config)?;
        if operators(&rewritten.data)? < there { Ok(Transformed::no(plan)) } else { Ok(rewritten) }
    }
}

/// How many nodes of ours there are.
fn operators(plan: &LogicalPlan) -> Result<usize> {
    let mut found = 0;
    plan.apply(|node| {
        found += usize::from(matches!(node, LogicalPlan::Extension(_)));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}
