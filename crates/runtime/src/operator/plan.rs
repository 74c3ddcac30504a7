//! From stateful logical nodes to physical operators, for one run of one epoch.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_planner::node::StreamAggregateNode;
use async_trait::async_trait;
use datafusion::common::{DFSchema, Result as DfResult, internal_err, not_impl_err};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

use super::StreamAggregateExec;
use crate::error::{Error, Result};
use crate::state::{StagedState, StateTable};

/// What an operator staged, filled when its input is read to the end.
pub(super) type StagedCell = Arc<Mutex<Option<StagedState>>>;

/// See the module above.
pub struct StreamExtensionPlanner {
    states: Vec<Arc<StateTable>>,
    epoch: u64,
    staged: Mutex<BTreeMap<u32, StagedCell>>,
}

impl StreamExtensionPlanner {
    /// For one run of `epoch`; `states` by operator number.
    pub fn new(states: Vec<Arc<StateTable>>, epoch: u64) -> Self {
        StreamExtensionPlanner { states, epoch, staged: Mutex::new(BTreeMap::new()) }
    }

    /// What the operators staged, by operator number. Call it after the plan ran to its end.
    pub fn staged(&self) -> Result<Vec<StagedState>> {
        let cells = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
        let staged = cells.iter().map(|(operator, cell)| {
            let staged = cell.lock().unwrap_or_else(PoisonError::into_inner).clone();
            staged.ok_or_else(|| Error::internal(format!("operator {operator} did not finish epoch {}", self.epoch)))
        });
        staged.collect()
    }

    fn state(&self, operator: u32) -> DfResult<Arc<StateTable>> {
        match self.states.iter().find(|state| state.operator() == operator) {
            Some(state) => Ok(state.clone()),
            None => internal_err!("operator {operator} has no state"),
        }
    }
}

#[async_trait]
impl ExtensionPlanner for StreamExtensionPlanner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn datafusion::catalog::Session,
        planning_ctx: &PhysicalPlanningContext,
    ) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<StreamAggregateNode>() else { return Ok(None) };
        let ([logical], [input]) = (logical_inputs, physical_inputs) else {
            return internal_err!("a streaming aggregate has {} inputs", physical_inputs.len());
        };
        let partial = partial(planner, node, logical.schema(), input.clone(), session, planning_ctx)?;
        let cell = StagedCell::default();
        let exec = StreamAggregateExec::try_new(
            Arc::new(partial),
            self.state(node.operator)?,
            node.schema.inner().clone(),
            node.mode,
            self.epoch,
            cell.clone(),
        )?;
        self.staged.lock().unwrap_or_else(PoisonError::into_inner).insert(node.operator, cell);
        Ok(Some(Arc::new(exec)))
    }
}

/// The stateless first stage: one partial state per key and partition of the epoch's input.
fn partial(
    planner: &dyn PhysicalPlanner,
    node: &StreamAggregateNode,
    logical: &DFSchema,
    input: Arc<dyn ExecutionPlan>,
    session: &dyn datafusion::catalog::Session,
    planning_ctx: &PhysicalPlanningContext,
) -> DfResult<AggregateExec> {
    // Names come from the node's schema, which is fixed before the optimizer may rewrite the expressions: they are
    // pinned with the state.
    let names: Vec<String> = node.schema.fields().iter().map(|field| field.name().clone()).collect();
    let (key_names, value_names) = names.split_at(node.group_expr.len());
    let mut keys = Vec::with_capacity(node.group_expr.len());
    for (expr, name) in node.group_expr.iter().zip(key_names) {
        if matches!(expr, Expr::GroupingSet(_)) {
            return not_impl_err!("GROUPING SETS, ROLLUP and CUBE over a stream");
        }
        keys.push((planner.create_physical_expr(expr, logical, session, planning_ctx)?, name.clone()));
    }
    let schema = input.schema();
    let (mut aggregates, mut filters) = (Vec::new(), Vec::new());
    for (expr, name) in node.aggr_expr.iter().zip(value_names) {
        let lowered = LoweredAggregateBuilder::new(expr, logical, &schema, session.execution_props(), planning_ctx)
            .with_name(name.clone())
            .build()?;
        aggregates.push(lowered.aggregate);
        filters.push(lowered.filter);
    }
    AggregateExec::try_new(
        AggregateMode::Partial,
        PhysicalGroupBy::new_single(keys),
        aggregates,
        filters,
        input,
        schema,
    )
}
