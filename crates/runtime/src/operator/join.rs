//! `JOIN` of two streams.
//!
//! State: the rows of each side by join key, event time and a number ([`crate::state::JoinTable`]), written with the epoch
//! that brings them, forgotten when the watermark says that nothing can match them any more. An epoch matches the rows it
//! brings with those that are kept and with each other, so each pair comes out once, in the epoch of its later row. A row of
//! a side that is kept without a match (outer, anti) comes out when it is forgotten; of a semi join's side it comes out with
//! its first match, and is forgotten then. Both inputs are read to their end before anything comes out.

mod arrivals;
mod pairs;
mod run;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{JoinType, Result as DfResult, internal_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, InputDistributionRequirements, Partitioning,
    PlanProperties,
};
use futures::{StreamExt, TryStreamExt};

use self::run::Run;
use crate::state::{JoinTable, StagedJoin, StateTable};

/// What a join staged, filled when its inputs are read and everything has come out.
pub(super) type JoinCell = Arc<Mutex<Option<StagedJoin>>>;

/// What a join is, whatever its inputs are.
#[derive(Debug, Clone)]
pub(super) struct Conditions {
    pub join_type: JoinType,
    /// Equal expressions of the left and the right side, of one type each.
    pub on: [Vec<Arc<dyn PhysicalExpr>>; 2],
    /// What else must hold, over the columns of the left side and then of the right one.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// Columns of the left side and then of the right one.
    pub both: SchemaRef,
    /// What is known of the sides' times.
    pub times: [SideTimes; 2],
}

/// What is known of the times of a side.
#[derive(Debug, Clone)]
pub(super) struct SideTimes {
    /// The time of a row; a row without one matches nothing.
    pub time: Option<Arc<dyn PhysicalExpr>>,
    /// By how much a matching row of the other side is later at most, in microseconds.
    pub ahead_us: Option<i64>,
    /// A row is forgotten when the watermark is at or behind its time and this many microseconds.
    pub hold_us: Option<i64>,
}

/// Matches the epoch's rows; see the module.
#[derive(Clone)]
pub struct StreamJoinExec {
    inputs: [Arc<dyn ExecutionPlan>; 2],
    conditions: Arc<Conditions>,
    table: Arc<JoinTable>,
    epoch: u64,
    /// Rows of the left and the right side at or before these times are forgotten.
    until_us: [Option<i64>; 2],
    staged: JoinCell,
    properties: Arc<PlanProperties>,
}

impl StreamJoinExec {
    /// Over these inputs. `schema`: of the output; `until_us`: the watermark.
    pub(super) fn try_new(
        inputs: [Arc<dyn ExecutionPlan>; 2],
        conditions: Conditions,
        schema: SchemaRef,
        state: &StateTable,
        (epoch, until_us): (u64, Option<i64>),
        staged: JoinCell,
    ) -> DfResult<StreamJoinExec> {
        let [left, right] = [inputs[0].schema(), inputs[1].schema()];
        let types = |side: usize, schema: &SchemaRef| {
            conditions.on[side].iter().map(|key| key.data_type(schema)).collect::<DfResult<Vec<DataType>>>()
        };
        let keys = types(0, &left)?;
        if keys != types(1, &right)? {
            return internal_err!("the keys of the two sides of a join are of different types");
        }
        let timed = [0, 1].map(|side| conditions.times[side].hold_us.is_some());
        let table = JoinTable::open(state, [&left, &right], &keys, timed)?;
        let until_us = [0, 1].map(|side| Some(until_us?.saturating_sub(conditions.times[side].hold_us?)));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Ok(StreamJoinExec {
            inputs,
            conditions: Arc::new(conditions),
            table: Arc::new(table),
            epoch,
            until_us,
            staged,
            properties: Arc::new(properties),
        })
    }

    /// Reads both inputs.
    async fn gather(self: Arc<Self>, context: Arc<TaskContext>) -> DfResult<Run> {
        let reservation = MemoryConsumer::new("StreamJoin").register(context.memory_pool());
        let mut run = Run::new(self.clone(), reservation)?;
        for (side, input) in self.inputs.iter().enumerate() {
            let mut rows = input.execute(0, context.clone())?;
            while let Some(batch) = rows.next().await {
                run.take_in(side, batch?)?;
            }
        }
        run.begin()?;
        Ok(run)
    }
}

impl ExecutionPlan for StreamJoinExec {
    fn name(&self) -> &str {
        "StreamJoinExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::SinglePartition, Distribution::SinglePartition])
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false, false]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        let Conditions { on, filter, times, .. } = self.conditions.as_ref();
        let times = times.iter().filter_map(|side| side.time.as_ref());
        for expr in on.iter().flatten().chain(filter).chain(times) {
            if f(expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        match <[Arc<dyn ExecutionPlan>; 2]>::try_from(children) {
            Ok(inputs) => Ok(Arc::new(StreamJoinExec { inputs, ..(*self).clone() })),
            Err(_) => internal_err!("StreamJoinExec has two inputs"),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        let recompute = datafusion::physical_plan::execution_plan::ChildrenPropertiesMode::Recompute;
        self.replace_children(children, ReplaceChildrenOptions::new(recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("StreamJoinExec has no partition {partition}");
        }
        let this = Arc::new(self.clone());
        let rows = futures::stream::once(this.gather(context)).map_ok(|run| {
            futures::stream::try_unfold(Some(run), |run| async move {
                let Some(mut run) = run else { return Ok(None) };
                match run.next_batch()? {
                    Some(rows) => Ok(Some((rows, Some(run)))),
                    None => {
                        let (cell, staged) = run.finish();
                        *cell.lock().unwrap_or_else(PoisonError::into_inner) = Some(staged);
                        Ok(None)
                    }
                }
            })
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows.try_flatten())))
    }
}

impl DisplayAs for StreamJoinExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "StreamJoinExec: operator={}, type={}", self.table.operator(), self.conditions.join_type)
    }
}

impl fmt::Debug for StreamJoinExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamJoinExec")
            .field("operator", &self.table.operator())
            .field("inputs", &self.inputs)
            .finish()
    }
}
