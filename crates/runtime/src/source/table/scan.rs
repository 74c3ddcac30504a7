//! Reading exactly the files of one epoch: a Parquet scan over them, partition columns as constants, rows counted.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, ScalarValue};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;
use object_store::ObjectMeta;
use object_store::path::Path as StorePath;

use super::position::TableFile;
use crate::error::Error;
use crate::source::ReadCounters;
use crate::table;
use crate::table::deletion::{self, Descriptor};

/// The files of one epoch as a table.
#[derive(Debug)]
pub struct EpochFiles {
    /// Where the table lies.
    pub path: PathBuf,
    /// The columns to give, in this order.
    pub schema: SchemaRef,
    /// Those of them that are not in the files.
    pub partition_columns: Vec<String>,
    /// In reading order.
    pub files: Vec<TableFile>,
    /// Where rows are counted.
    pub counters: Arc<ReadCounters>,
}

impl EpochFiles {
    /// Columns of the files, then partition columns: the order in which a scan has them.
    fn columns(&self) -> (Vec<FieldRef>, Vec<FieldRef>) {
        let partition = |field: &&FieldRef| self.partition_columns.iter().any(|name| name == field.name());
        let in_files = self.schema.fields().iter().filter(|field| !partition(field)).cloned().collect();
        let in_log = self.partition_columns.iter();
        let in_log = in_log.filter_map(|name| self.schema.fields().iter().find(|field| field.name() == name)).cloned();
        (in_files, in_log.collect())
    }

    fn partitioned(&self, file: &TableFile, constants: &[FieldRef]) -> Result<PartitionedFile> {
        let path = table::absolute(&self.path, &file.path)?;
        let location = StorePath::from_absolute_path(&path)?;
        let last_modified = chrono::DateTime::from_timestamp_millis(file.modified_ms).unwrap_or_default();
        let meta = ObjectMeta { location, last_modified, size: file.size, e_tag: None, version: None };
        let values = constants.iter().map(|field| {
            let text = file.partition_values.get(field.name()).cloned().flatten().filter(|text| !text.is_empty());
            match text {
                Some(text) => ScalarValue::try_from_string(text, field.data_type()),
                None => ScalarValue::try_from(field.data_type()),
            }
        });
        let partitioned = PartitionedFile::new_from_meta(meta).with_partition_values(values.collect::<Result<_>>()?);
        let Some(vector) = &file.deletion_vector else { return Ok(partitioned) };
        let dead = Descriptor::of(vector)?.read(&self.path)?;
        let alive = deletion::alive(&dead, table::rows_of_file(&path)?);
        Ok(partitioned.with_extension(ParquetRowSelection::new(alive)))
    }

    /// The files cut into runs of about the same size, in order.
    fn groups(&self, partitions: usize, constants: &[FieldRef]) -> Result<Vec<FileGroup>> {
        let total: u64 = self.files.iter().map(|file| file.size).sum();
        let share = total.div_ceil(partitions.max(1) as u64).max(1);
        let mut groups: Vec<Vec<PartitionedFile>> = Vec::new();
        let mut filled = share;
        for file in &self.files {
            if filled >= share {
                groups.push(Vec::new());
                filled = 0;
            }
            filled += file.size;
            let file = self.partitioned(file, constants)?;
            if let Some(last) = groups.last_mut() {
                last.push(file);
            }
        }
        Ok(groups.into_iter().map(FileGroup::new).collect())
    }
}

#[async_trait]
impl TableProvider for EpochFiles {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wanted: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        if self.files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(Arc::new(self.schema.project(&wanted)?))));
        }
        let (in_files, constants) = self.columns();
        let groups = self.groups(state.config().target_partitions(), &constants)?;
        let table_schema =
            TableSchema::builder(Arc::new(Schema::new(in_files))).with_table_partition_cols(constants).build();
        let in_scan = table_schema.table_schema().clone();
        let indices =
            wanted.iter().map(|at| in_scan.index_of(self.schema.field(*at).name())).collect::<Result<_, _>>()?;
        let mut parquet = state.default_table_options().parquet;
        // As nanoseconds, Spark's INT96 timestamps would wrap around outside 1677 to 2262.
        parquet.global.coerce_int96.get_or_insert_with(|| "us".to_owned());
        let source = ParquetSource::new(table_schema).with_table_parquet_options(parquet);
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
            .with_file_groups(groups)
            .with_projection_indices(Some(indices))?
            .build();
        let input: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(config);
        Ok(Arc::new(CountedExec { input, counters: self.counters.clone() }))
    }
}

/// Passes rows through and counts them. Nothing is pushed below it, so what it counts is what was read.
#[derive(Debug)]
struct CountedExec {
    input: Arc<dyn ExecutionPlan>,
    counters: Arc<ReadCounters>,
}

impl DisplayAs for CountedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CountedExec")
    }
}

impl ExecutionPlan for CountedExec {
    fn name(&self) -> &str {
        "CountedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match children.pop() {
            Some(input) => Ok(Arc::new(CountedExec { input, counters: self.counters.clone() })),
            None => Err(Error::internal("CountedExec without input").into()),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (input, counters) = (self.input.execute(partition, context)?, self.counters.clone());
        let schema = input.schema();
        let counted = input.inspect(move |batch| {
            if let Ok(batch) = batch {
                counters.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, counted)))
    }
}
