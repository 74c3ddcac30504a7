//! Filters are pushed into joins and reads only where columns can be told by their names.
//!
//! DataFusion's physical rule finds the columns of a filter below a projection by name. Where two are called the same, as
//! `l.id` and `r.id` behind a join, it takes one of them: `WHERE l.id IS NOT NULL OR r.n < 5` above a LEFT JOIN becomes a condition
//! on `r.id`, and the result is wrong (mended in DataFusion's main branch, apache/datafusion#25259). The rule is left out of
//! plans with such names; the logical optimizer, which knows where columns come from, has pushed filters before.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;

type Rule = Arc<dyn PhysicalOptimizerRule + Send + Sync>;

/// DataFusion's rules, this one in the place of those that push filters.
pub(super) fn physical_rules() -> Vec<Rule> {
    let rules = PhysicalOptimizer::new().rules.into_iter();
    let guarded = |rule: Rule| match rule.name().starts_with("FilterPushdown") {
        true => Arc::new(ByUniqueNames(rule)) as Rule,
        false => rule,
    };
    rules.map(guarded).collect()
}

/// The rule within, for plans in which no operator has two columns of one name.
#[derive(Debug)]
struct ByUniqueNames(Rule);

impl PhysicalOptimizerRule for ByUniqueNames {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let mut unique = true;
        plan.apply(|node| {
            let schema = node.schema();
            let mut names = HashSet::new();
            unique &= schema.fields().iter().all(|field| names.insert(field.name()));
            Ok(if unique { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
        })?;
        if unique { self.0.optimize(plan, config) } else { Ok(plan) }
    }
}
