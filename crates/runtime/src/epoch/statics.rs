//! Delta tables that a stream reads whole, as their columns change while it runs.
//!
//! Before an epoch is begun its tables' latest columns are compared with the plan's. More columns, other places and wider
//! types make a new plan; a column that the query uses and that is gone, or of another type, ends the stream. An epoch
//! that is run again may be bound to a version from before the plan's columns came: [`OlderTable`] gives that version in
//! the plan's columns.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use alluvium_parser::Diagnostic;
use alluvium_planner::ddl::sql_type;
use alluvium_planner::relation::{StaticReference, StaticRelation};
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan, TableProviderFilterPushDown, TableScan, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;

use super::{Pipeline, relation};
use crate::error::{Error, Result};
use crate::source::files;
use crate::table;

/// Plans made one after the other because tables changed meanwhile: more is a mistake of this engine.
const PLANS_MAX: usize = 10;

impl Pipeline {
    /// The latest versions of the tables that the plan reads whole, and a new plan where their columns ask for one.
    pub(super) async fn follow_statics(&mut self) -> Result<BTreeMap<String, u64>> {
        for _ in 0..PLANS_MAX {
            let latest = self.latest_statics().await?;
            // One that was dropped and made again may have as many versions as the former.
            let known = |(location, version): (&String, &u64)| -> Result<bool> {
                let identity = table::identity(&table::table_path(location)?);
                let same = |known: &super::StaticTable| known.version == *version && known.identity == identity;
                Ok(self.statics.get(location).is_some_and(same))
            };
            if latest.iter().map(known).collect::<Result<Vec<_>>>()?.into_iter().all(|known| known) {
                return Ok(latest);
            }
            let providers = self.statics(&latest).await?;
            let (Some(replan), true) = (&self.replan, changed(&self.plan.plan, &providers)?) else {
                return Ok(latest);
            };
            let replanned = replan(Vec::new()).await?;
            self.check(&replanned)?;
            self.new_columns.extend(files::added(&self.plan.schema, &replanned.plan.schema));
            self.take(replanned).await?;
        }
        Err(Error::internal("a plan never had the columns of its tables"))
    }
}

/// Whether any table has other columns than the plan was made with. An error: one that the query uses is lost to it.
fn changed(plan: &LogicalPlan, providers: &HashMap<String, Arc<dyn TableProvider>>) -> Result<bool> {
    let mut changed = false;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(StaticRelation { reference: StaticReference::Delta { location }, .. }) = relation(scan)
            && let Some(provider) = providers.get(location)
        {
            let (was, now) = (scan.source.schema(), provider.schema());
            let pairs = || was.fields().iter().zip(now.fields());
            let same = was.fields().len() == now.fields().len()
                && pairs().all(|(was, now)| was.name() == now.name() && was.data_type() == now.data_type());
            if !same {
                check_used(scan, &now, location)?;
                changed = true;
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(changed)
}

/// Refuses a table without a column that the scan uses, or with another type of it that does not hold the old values.
fn check_used(scan: &TableScan, now: &Schema, location: &str) -> Result<()> {
    for field in scan.projected_schema.fields() {
        let what = match now.field_with_name(field.name()) {
            Err(_) => format!("column `{}`, which the query uses, is gone", field.name()),
            Ok(new) if files::grows_into(field.data_type(), new.data_type()) => continue,
            Ok(new) => format!(
                "column `{}`, which the query uses, changed from {} to {}",
                field.name(),
                sql_type(field.data_type()),
                sql_type(new.data_type())
            ),
        };
        return Err(table_changed(location, &what));
    }
    Ok(())
}

pub(super) fn table_changed(location: &str, what: &str) -> Error {
    Diagnostic::new(
        "TABLE_CHANGED",
        format!("the table at `{location}`, which the stream reads whole, changed: {what}"),
    )
    .help("start the stream again to plan it anew, or change its query by CREATE OR REFRESH")
    .into()
}

/// A table at a version that may lack columns of the plan, or have narrower types: those are NULL, these are cast.
#[derive(Debug)]
pub(super) struct OlderTable {
    inner: Arc<dyn TableProvider>,
    schema: SchemaRef,
}

impl OlderTable {
    /// `inner` in the columns of `schema`; None where it has a column of another type that does not become the wanted one
    /// by a cast.
    pub fn new(inner: Arc<dyn TableProvider>, schema: SchemaRef) -> Option<OlderTable> {
        let older = inner.schema();
        let fits = schema.fields().iter().all(|field| match older.field_with_name(field.name()) {
            Ok(old) => {
                let same = old.data_type() == field.data_type();
                same || !field.data_type().is_nested() && files::grows_into(old.data_type(), field.data_type())
            }
            Err(_) => field.is_nullable(),
        });
        fits.then_some(OlderTable { inner, schema })
    }

    /// Whether all columns of a filter are in the table as the plan has them.
    fn understands(&self, filter: &Expr) -> bool {
        let older = self.inner.schema();
        filter.column_refs().iter().all(|column| {
            let types = (older.field_with_name(column.name()), self.schema.field_with_name(column.name()));
            matches!(types, (Ok(old), Ok(new)) if old.data_type() == new.data_type())
        })
    }
}

#[async_trait]
impl TableProvider for OlderTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        self.inner.table_type()
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        let one = |filter: &&Expr| match self.understands(filter) {
            true => Ok(self.inner.supports_filters_pushdown(&[filter])?.remove(0)),
            false => Ok(TableProviderFilterPushDown::Inexact),
        };
        filters.iter().map(one).collect()
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let older = self.inner.schema();
        let wanted = Arc::new(match projection {
            Some(places) => self.schema.project(places)?,
            None => self.schema.as_ref().clone(),
        });
        let there = wanted.fields().iter().filter_map(|field| older.index_of(field.name()).ok());
        let there: Vec<usize> = there.collect();
        let passed: Vec<Expr> = filters.iter().filter(|filter| self.understands(filter)).cloned().collect();
        // A limit counts rows that pass all filters.
        let limit = limit.filter(|_| passed.len() == filters.len());
        let input = self.inner.scan(state, Some(&there), &passed, limit).await?;
        let schema = input.schema();
        let column = |field: &arrow::datatypes::FieldRef| {
            let value: Arc<dyn PhysicalExpr> = match schema.index_of(field.name()) {
                Ok(at) => {
                    let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), at));
                    match schema.field(at).data_type() == field.data_type() {
                        true => column,
                        false => Arc::new(CastExpr::new(column, field.data_type().clone(), None)),
                    }
                }
                Err(_) => Arc::new(Literal::new(ScalarValue::try_from(field.data_type())?)),
            };
            Ok((value, field.name().clone()))
        };
        let columns = wanted.fields().iter().map(column).collect::<DfResult<Vec<_>>>()?;
        Ok(Arc::new(ProjectionExec::try_new(columns, input)?))
    }
}
