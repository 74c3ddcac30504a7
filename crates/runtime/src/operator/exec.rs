//! An operator over one input, as DataFusion wants it.
//!
//! What DataFusion asks of a physical operator is answered here, once for all operators of this room that have one input;
//! each of them says what it does with the rows. Knows nothing of state.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result as DfResult, internal_err};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties, InputDistributionRequirements,
    Partitioning, PlanProperties,
};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::results::Results;

/// The rows of one partition of an operator's output.
pub(super) type Rows = BoxStream<'static, DfResult<RecordBatch>>;

/// What an operator does in one run of one epoch.
pub(super) trait Operator: Send + Sync + 'static {
    /// What EXPLAIN calls it.
    fn name(&self) -> &'static str;

    /// What is said behind the name.
    fn describe(&self, f: &mut fmt::Formatter) -> fmt::Result;

    /// Expressions over the columns of the input.
    fn expressions(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        Vec::new()
    }

    /// Whether an epoch is right only if every row of the input comes by: the operator keeps state, or notes what it saw.
    fn needs_every_row(&self) -> bool;

    /// For an operator whose rows of state are results, its number and how they become that.
    fn results(&self, _schema: &SchemaRef) -> Option<(u32, Results)> {
        None
    }

    /// Makes one partition of the output. The caller asks for each at most once and reads it to its end; what was staged
    /// counts only then.
    fn run(self: Arc<Self>, run: Run) -> DfResult<Rows>;
}

/// How the partitions of an operator's output are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// All input in one partition; results come out as it is read.
    Gathers,
    /// All input in one partition; results come out, in so many partitions, when it has been read.
    Concludes(usize),
    /// Each of one partition of the input, with rows that its order and distribution say nothing of.
    Transforms,
    /// Each of one partition of the input, whose rows stay as they are, though some may be left out.
    Passes,
}

/// One partition of an operator's output, to be made.
pub(super) struct Run {
    input: Arc<dyn ExecutionPlan>,
    partition: usize,
    context: Arc<TaskContext>,
    metrics: ExecutionPlanMetricsSet,
    /// Columns of the output.
    pub schema: SchemaRef,
}

impl Run {
    /// The rows of the input that this partition is made of.
    pub(super) fn input(&self) -> DfResult<SendableRecordBatchStream> {
        self.input.execute(self.partition, self.context.clone())
    }

    /// What `make` makes of each batch of the input.
    pub(super) fn each(
        &self,
        mut make: impl FnMut(RecordBatch) -> DfResult<Vec<RecordBatch>> + Send + 'static,
    ) -> DfResult<Rows> {
        let rows =
            self.input()?.map(move |batch| Ok::<_, DataFusionError>(futures::stream::iter(make(batch?)?).map(Ok)));
        Ok(rows.try_flatten().boxed())
    }

    /// All rows of the input, given to `take`, which says how many bytes they take from then on. The memory they hold.
    pub(super) async fn read_all(
        &self,
        consumer: &str,
        mut take: impl FnMut(RecordBatch) -> DfResult<usize>,
    ) -> DfResult<MemoryReservation> {
        let (metrics, reservation) = (self.metrics(), self.reservation(consumer));
        // Whichever partition comes first reads what all of them are made of.
        let mut input = self.input.execute(0, self.context.clone())?;
        while let Some(batch) = input.next().await {
            let batch = batch?;
            let timer = metrics.elapsed_compute().timer();
            reservation.try_resize(take(batch)?)?;
            timer.done();
        }
        Ok(reservation)
    }

    /// Room in the memory of the query, none yet.
    pub(super) fn reservation(&self, consumer: &str) -> MemoryReservation {
        MemoryConsumer::new(consumer).register(self.context.memory_pool())
    }

    /// Where memory is taken from.
    pub(super) fn memory_pool(&self) -> Arc<dyn MemoryPool> {
        self.context.memory_pool().clone()
    }

    /// Counters of this partition.
    pub(super) fn metrics(&self) -> BaselineMetrics {
        BaselineMetrics::new(&self.metrics, self.partition)
    }
}

/// An [`Operator`] in a physical plan.
#[derive(Clone)]
pub(super) struct OperatorExec {
    input: Arc<dyn ExecutionPlan>,
    operator: Arc<dyn Operator>,
    shape: Shape,
    metrics: ExecutionPlanMetricsSet,
    properties: Arc<PlanProperties>,
}

impl OperatorExec {
    /// Over `input`. `schema`: of the output.
    pub(super) fn new(
        operator: impl Operator,
        input: Arc<dyn ExecutionPlan>,
        schema: SchemaRef,
        shape: Shape,
    ) -> Arc<dyn ExecutionPlan> {
        Arc::new(OperatorExec::over(input, Arc::new(operator), schema, shape))
    }

    fn over(
        input: Arc<dyn ExecutionPlan>,
        operator: Arc<dyn Operator>,
        schema: SchemaRef,
        shape: Shape,
    ) -> OperatorExec {
        let (partitions, emission) = match shape {
            Shape::Gathers => (1, EmissionType::Incremental),
            Shape::Concludes(partitions) => (partitions, EmissionType::Final),
            Shape::Transforms | Shape::Passes => {
                (input.output_partitioning().partition_count(), input.properties().emission_type)
            }
        };
        let properties = match shape {
            Shape::Passes => input.properties().clone(),
            _ => Arc::new(PlanProperties::new(
                EquivalenceProperties::new(schema),
                Partitioning::UnknownPartitioning(partitions),
                emission,
                Boundedness::Bounded,
            )),
        };
        OperatorExec { input, operator, shape, metrics: ExecutionPlanMetricsSet::new(), properties }
    }

    /// What it does.
    pub(super) fn operator(&self) -> &dyn Operator {
        self.operator.as_ref()
    }

    fn gathers(&self) -> bool {
        matches!(self.shape, Shape::Gathers | Shape::Concludes(_))
    }
}

impl ExecutionPlan for OperatorExec {
    fn name(&self) -> &str {
        self.operator.name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![self.shape == Shape::Passes]
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![match self.gathers() {
            true => Distribution::SinglePartition,
            false => Distribution::UnspecifiedDistribution,
        }])
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        for expr in self.operator.expressions() {
            if f(expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => {
                Ok(Arc::new(OperatorExec::over(input, self.operator.clone(), self.schema(), self.shape)))
            }
            _ => internal_err!("{} has one input", self.name()),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        let recompute = datafusion::physical_plan::execution_plan::ChildrenPropertiesMode::Recompute;
        self.replace_children(children, ReplaceChildrenOptions::new(recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        if partition >= self.properties.partitioning.partition_count() {
            return internal_err!("{} has no partition {partition}", self.name());
        }
        let (input, metrics, schema) = (self.input.clone(), self.metrics.clone(), self.schema());
        let run = Run { input, partition, context, metrics, schema: schema.clone() };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, self.operator.clone().run(run)?)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

impl DisplayAs for OperatorExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: ", self.name())?;
        self.operator.describe(f)
    }
}

impl fmt::Debug for OperatorExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.operator.name()).field("input", &self.input).finish_non_exhaustive()
    }
}
