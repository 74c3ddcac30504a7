//! From stateful logical nodes to physical operators, for one run of one epoch.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_parser::OutputMode;
use alluvium_planner::node::{
    ExpandNode, Forget, LateRowsNode, Panes, StreamAggregateNode, StreamDeduplicateNode, StreamJoinNode,
    StreamLimitNode, StreamMarkNode, StreamSessionNode, WatermarkNode,
};
use arrow::array::RecordBatch;
use async_trait::async_trait;
use datafusion::common::{DFSchema, DFSchemaRef, Result as DfResult, internal_err};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

use super::aggregate::StreamAggregate;
use super::deduplicate::StreamDeduplicate;
use super::exec::{OperatorExec, Shape};
use super::expand::Expand;
use super::first_keys::{Keys, Remembered};
use super::join::{Conditions, JoinCell, SideTimes, StreamJoinExec};
use super::late::{Collected, KeptRows, Late};
use super::limit::StreamLimit;
use super::mark::StreamMark;
use super::pane_aggregate::windows_of_panes;
use super::panes::{Windows, WindowsOf};
use super::session::StreamSessions;
use super::session_merge::SessionTables;
use super::watermark::{Future, Greatest, Watermark};
use crate::clock::EpochWatermark;
use crate::error::{Error, Result};
use crate::state::{StagedJoin, StagedState, StateTable};

/// What an operator staged, filled when its input is read to the end.
pub(super) type StagedCell = Arc<Mutex<Option<StagedState>>>;

/// The keys that an epoch touched, and the instant up to which keys are done with, filled likewise.
pub(super) type TouchedCell = Arc<Mutex<Option<(RecordBatch, Option<i64>)>>>;

/// See the module above.
pub struct StreamExtensionPlanner {
    states: Vec<Arc<StateTable>>,
    epoch: u64,
    watermark: EpochWatermark,
    staged: Mutex<BTreeMap<u32, StagedCell>>,
    joined: Mutex<BTreeMap<u32, JoinCell>>,
    /// Greatest event times by the watermark's number.
    greatest: Mutex<BTreeMap<u32, Greatest>>,
    late: Arc<AtomicU64>,
    /// Late rows that are kept.
    kept: Collected,
    /// The epoch's time, from which event times may be too far ahead; microseconds since 1970 UTC.
    now_us: i64,
    future: Arc<AtomicU64>,
    /// Only results of the groups that the epoch touches are wanted, also in COMPLETE mode.
    changes_only: bool,
    touched: TouchedCell,
}

impl StreamExtensionPlanner {
    /// For one run of `epoch`; `states` by operator number.
    pub fn new(states: Vec<Arc<StateTable>>, epoch: u64, watermark: EpochWatermark) -> Self {
        StreamExtensionPlanner {
            states,
            epoch,
            watermark,
            staged: Mutex::default(),
            joined: Mutex::default(),
            greatest: Mutex::default(),
            late: Arc::default(),
            kept: Arc::default(),
            now_us: i64::MAX,
            future: Arc::default(),
            changes_only: false,
            touched: Arc::default(),
        }
    }

    /// The same, for an epoch of this time.
    pub fn at(self, timestamp_ms: i64) -> Self {
        StreamExtensionPlanner { now_us: timestamp_ms.saturating_mul(1000), ..self }
    }

    /// For a sink that takes changes: in COMPLETE mode, too, only groups that the epoch touches come out.
    pub fn changes_only(self, changes_only: bool) -> Self {
        StreamExtensionPlanner { changes_only, ..self }
    }

    /// Key columns of the groups that the epoch touched, where only those came out, and the instant up to which groups are
    /// done with, in microseconds since 1970 UTC. Call it after the plan ran to its end.
    pub fn touched(&self) -> Option<(RecordBatch, Option<i64>)> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The greatest event time of each watermark in the input, by number. Call it after the plan ran to its end.
    pub fn event_times(&self) -> BTreeMap<u32, i64> {
        let greatest = self.greatest.lock().unwrap_or_else(PoisonError::into_inner);
        greatest.iter().filter_map(|(number, greatest)| Some((*number, greatest.get()?))).collect()
    }

    /// Rows that came too late for an operator with state. Call it after the plan ran to its end.
    pub fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    /// The late rows that are to be kept. Call it once, after the plan ran to its end.
    pub fn kept_rows(&self) -> Vec<KeptRows> {
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Rows whose event time was too far ahead to move the watermark. Call it after the plan ran to its end.
    pub fn future(&self) -> u64 {
        self.future.load(Ordering::Relaxed)
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

    /// What the joins of streams staged, by operator number. Call it once, after the plan ran to its end.
    pub fn staged_joins(&self) -> Result<Vec<StagedJoin>> {
        let cells = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        let staged = cells.iter().map(|(operator, cell)| {
            let staged = cell.lock().unwrap_or_else(PoisonError::into_inner).take();
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
        let node = node.as_any();
        if let (Some(node), [left, right]) = (node.downcast_ref::<StreamJoinNode>(), physical_inputs) {
            let inputs = [left.clone(), right.clone()];
            return self.join(planner, node, inputs, session, planning_ctx).map(|join| Some(Arc::new(join) as _));
        }
        let ([logical], [input]) = (logical_inputs, physical_inputs) else { return Ok(None) };
        let expr = |expr: &Expr| planner.create_physical_expr(expr, logical.schema(), session, planning_ctx);
        if let Some(node) = node.downcast_ref::<WatermarkNode>() {
            let mut greatest = self.greatest.lock().unwrap_or_else(PoisonError::into_inner);
            let greatest = greatest.entry(node.number).or_default().clone();
            let until_us = node.max_future_us.map(|skew_us| self.now_us.saturating_add(skew_us));
            let future = Future { until_us, rows: self.future.clone() };
            let watermark = Watermark { time: expr(&node.column)?, greatest, future };
            return Ok(Some(OperatorExec::new(watermark, input.clone(), input.schema(), Shape::Passes)));
        }
        if let Some(node) = node.downcast_ref::<StreamLimitNode>() {
            let (state, cell) = (self.state(node.operator)?, self.cell(node.operator));
            let limit = StreamLimit::try_new(node.rows, state, self.epoch, cell)?;
            return Ok(Some(OperatorExec::new(limit, input.clone(), input.schema(), Shape::Gathers)));
        }
        if let Some(node) = node.downcast_ref::<StreamDeduplicateNode>() {
            let time = node.time.as_ref().map(&expr).transpose()?;
            let watermark = self.watermark.behind(node.lag_us);
            let input = self.timely(input, time.as_ref(), watermark);
            let remembered = match (node.forget, time) {
                (Forget::Never, _) => Remembered::ForEver,
                (Forget::Passed(key), _) => Remembered::UntilPassed(key),
                (Forget::After(delay_us), Some(time)) => Remembered::Within(time, delay_us),
                (Forget::After(_), None) => return internal_err!("WITHIN WATERMARK without an event time"),
            };
            let key = |key: &Expr| Ok((expr(key)?, stored_name(key)));
            let on = node.on.iter().map(key).collect::<DfResult<Vec<_>>>()?;
            let (state, cell) = (self.state(node.operator)?, self.cell(node.operator));
            let schema = input.schema();
            let keys = Keys::try_new(&schema, on, remembered, state, (self.epoch, watermark), cell)?;
            return Ok(Some(OperatorExec::new(StreamDeduplicate { keys }, input, schema, Shape::Gathers)));
        }
        if let Some(node) = node.downcast_ref::<StreamMarkNode>() {
            let time = node.time.and_then(|key| node.on.get(key)).map(&expr).transpose()?;
            let watermark = self.watermark.behind(node.lag_us);
            let input = self.timely(input, time.as_ref(), watermark);
            let remembered = node.time.map_or(Remembered::ForEver, Remembered::UntilPassed);
            let key = |key: &Expr| Ok((expr(key)?, stored_name(key)));
            let on = node.on.iter().map(key).collect::<DfResult<Vec<_>>>()?;
            let condition = node.condition.as_ref().map(&expr).transpose()?;
            let schema = node.schema().inner().clone();
            let (state, cell) = (self.state(node.operator)?, self.cell(node.operator));
            let keys = Keys::try_new(&input.schema(), on, remembered, state, (self.epoch, watermark), cell)?;
            let mark = StreamMark { keys, condition, schema: schema.clone() };
            return Ok(Some(OperatorExec::new(mark, input, schema, Shape::Gathers)));
        }
        if let Some(node) = node.downcast_ref::<LateRowsNode>() {
            return Ok(Some(match self.watermark.behind(node.lag_us).late_us {
                Some(late_us) => {
                    let late = Late::new(expr(&node.time)?, late_us, self.late.clone());
                    late.keeping(expr(&node.row)?, self.kept.clone()).over(input.clone())
                }
                None => input.clone(),
            }));
        }
        if let Some(node) = node.downcast_ref::<ExpandNode>() {
            let keys = node.keys.iter().map(expr).collect::<DfResult<Vec<_>>>()?;
            let schema = node.schema().inner().clone();
            let expand = Expand { keys, sets: node.sets.clone() };
            return Ok(Some(OperatorExec::new(expand, input.clone(), schema, Shape::Transforms)));
        }
        if let Some(node) = node.downcast_ref::<StreamSessionNode>() {
            let watermark = self.watermark.behind(node.lag_us);
            let input = match (node.mode, node.group_expr.get(node.session)) {
                (OutputMode::Append, Some(key)) => self.timely(input, Some(&expr(key)?), watermark),
                _ => input.clone(),
            };
            let grouping = (&node.group_expr[..], &node.aggr_expr[..], &node.schema);
            let partial = partial(planner, grouping, logical.schema(), input, session, planning_ctx)?;
            let keys = StreamSessionNode::keys_number(node.operator);
            return StreamSessions::plan(
                Arc::new(partial),
                SessionTables { sessions: self.state(node.operator)?, keys: self.state(keys)? },
                node.schema.inner().clone(),
                (node.mode, node.session),
                (self.epoch, watermark),
                (self.cell(node.operator), self.cell(keys)),
            )
            .map(Some);
        }
        let Some(node) = node.downcast_ref::<StreamAggregateNode>() else { return Ok(None) };
        let watermark = self.watermark.behind(node.lag_us);
        let input = match (node.mode, node.time.and_then(|key| node.group_expr.get(key))) {
            (OutputMode::Complete, _) | (_, None) => input.clone(),
            (_, Some(key)) => self.timely_or_pane(input, &expr(key)?, node.panes, watermark),
        };
        let grouping = (&node.group_expr[..], &node.aggr_expr[..], &node.schema);
        let partial = partial(planner, grouping, logical.schema(), input, session, planning_ctx)?;
        let (partial, state, cell) = (Arc::new(partial), self.state(node.operator)?, self.cell(node.operator));
        let at = (self.epoch, watermark);
        let input: Arc<dyn ExecutionPlan> = match (node.panes, node.mode) {
            (None, _) => partial.clone(),
            (Some(panes), OutputMode::Append) => {
                return Ok(Some(windows_of_panes(partial, state, panes, at, cell)?));
            }
            // Windows are what is shown, so they are what is kept: panes only save the repetition of rows.
            (Some(panes), mode) => {
                let after_us = watermark.late_us.filter(|_| mode != OutputMode::Complete && node.time.is_some());
                let windows = Windows(WindowsOf { panes, after_us, until_us: None });
                OperatorExec::new(windows, partial.clone(), partial.schema(), Shape::Transforms)
            }
        };
        let schema = (node.schema.inner().clone(), session.config().target_partitions());
        let changes = node.mode == OutputMode::Update || node.mode == OutputMode::Complete && self.changes_only;
        let cells = (cell, changes.then(|| self.touched.clone()));
        StreamAggregate::plan((input, &partial), state, schema, (node.mode, node.time), at, cells).map(Some)
    }
}

impl StreamExtensionPlanner {
    /// A join of two streams on its state.
    fn join(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &StreamJoinNode,
        inputs: [Arc<dyn ExecutionPlan>; 2],
        session: &dyn datafusion::catalog::Session,
        planning_ctx: &PhysicalPlanningContext,
    ) -> DfResult<StreamJoinExec> {
        let both = node.left.schema().join(node.right.schema())?;
        let schemas = [node.left.schema().as_ref(), node.right.schema().as_ref()];
        let physical = |expr: &Expr, schema| planner.create_physical_expr(expr, schema, session, planning_ctx);
        let of_side = |side: usize, expr: &Expr| physical(expr, schemas[side]);
        let side_times = |side: usize| -> DfResult<SideTimes> {
            let known = &node.sides[side];
            let time = known.time.as_ref().map(|time| of_side(side, time)).transpose()?;
            Ok(SideTimes { time, ahead_us: known.ahead_us, hold_us: known.hold_us })
        };
        let timely = |side: usize| -> DfResult<Arc<dyn ExecutionPlan>> {
            let known = &node.sides[side];
            let late = known.late.as_ref().map(|late| of_side(side, late)).transpose()?;
            Ok(self.timely(&inputs[side], late.as_ref(), self.watermark.behind(known.lag_us)))
        };
        let conditions = Conditions {
            join_type: node.join_type,
            on: [
                node.on.iter().map(|(left, _)| of_side(0, left)).collect::<DfResult<_>>()?,
                node.on.iter().map(|(_, right)| of_side(1, right)).collect::<DfResult<_>>()?,
            ],
            filter: node.filter.as_ref().map(|filter| physical(filter, &both)).transpose()?,
            both: both.inner().clone(),
            times: [side_times(0)?, side_times(1)?],
        };
        let cell = JoinCell::default();
        self.joined.lock().unwrap_or_else(PoisonError::into_inner).insert(node.operator, cell.clone());
        let state = self.state(node.operator)?;
        let (schema, at) = (node.schema.inner().clone(), (self.epoch, self.watermark.until_us));
        StreamJoinExec::try_new([timely(0)?, timely(1)?], conditions, schema, &state, at, cell)
    }

    /// `input` without rows that come too late.
    fn timely(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        time: Option<&Arc<dyn PhysicalExpr>>,
        watermark: EpochWatermark,
    ) -> Arc<dyn ExecutionPlan> {
        match (time, watermark.late_us) {
            (Some(time), Some(late_us)) => Late::new(time.clone(), late_us, self.late.clone()).over(input.clone()),
            _ => input.clone(),
        }
    }

    /// The same where the time is a pane of `panes`.
    fn timely_or_pane(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        time: &Arc<dyn PhysicalExpr>,
        panes: Option<Panes>,
        watermark: EpochWatermark,
    ) -> Arc<dyn ExecutionPlan> {
        match (panes, watermark.late_us) {
            (Some(panes), Some(late_us)) => {
                Late::new(time.clone(), late_us, self.late.clone()).of_panes(panes.windows).over(input.clone())
            }
            _ => self.timely(input, Some(time), watermark),
        }
    }

    fn cell(&self, operator: u32) -> StagedCell {
        let cell = StagedCell::default();
        self.staged.lock().unwrap_or_else(PoisonError::into_inner).insert(operator, cell.clone());
        cell
    }
}

/// The name under which a key is stored.
fn stored_name(key: &Expr) -> String {
    match key {
        Expr::Column(column) => column.name.clone(),
        other => other.schema_name().to_string(),
    }
}

/// The stateless first stage: one partial state per key and partition of the epoch's input. It is told grouping
/// expressions, aggregates, and the columns of the result.
fn partial(
    planner: &dyn PhysicalPlanner,
    (group_expr, aggr_expr, result): (&[Expr], &[Expr], &DFSchemaRef),
    logical: &DFSchema,
    input: Arc<dyn ExecutionPlan>,
    session: &dyn datafusion::catalog::Session,
    planning_ctx: &PhysicalPlanningContext,
) -> DfResult<AggregateExec> {
    // Names come from the node's schema, which is fixed before the optimizer may rewrite the expressions: they are
    // pinned with the state.
    let names: Vec<String> = result.fields().iter().map(|field| field.name().clone()).collect();
    let (key_names, value_names) = names.split_at(group_expr.len());
    let mut keys = Vec::with_capacity(group_expr.len());
    for (expr, name) in group_expr.iter().zip(key_names) {
        if matches!(expr, Expr::GroupingSet(_)) {
            return internal_err!("grouping sets above state");
        }
        keys.push((planner.create_physical_expr(expr, logical, session, planning_ctx)?, name.clone()));
    }
    let schema = input.schema();
    let (mut aggregates, mut filters) = (Vec::new(), Vec::new());
    for (expr, name) in aggr_expr.iter().zip(value_names) {
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
