//! SELECT and EXPLAIN.

use std::sync::Arc;

use alluvium_parser::{Diagnostic, OutputMode, Query, Statement, StatementKind};
use alluvium_planner::streaming::{first_stream, plan_stream, require_static, with_epoch_timestamp};
use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, displayable, execute_stream, execute_stream_partitioned};

use crate::clock::now_ms;
use crate::error::Result;
use crate::session::Session;
use crate::session::outcome::{Outcome, Rows};
use crate::session::resolve::StoredSchemas;

impl Session {
    pub(super) async fn select(&self, query: &Query, available_now: bool) -> Result<Outcome> {
        let bound = self.bind(query, &StoredSchemas::new()).await?;
        if let Some(stream) = first_stream(&bound) {
            let bounded = available_now || query.ast.limit_clause.is_some();
            if !self.inner.interactive && !bounded {
                return Err(Diagnostic::new(
                    "UNBOUNDED_SELECT",
                    format!("{} never ends, and a script would wait for ever", stream.title),
                )
                .at(query.span)
                .help(
                    "append TRIGGER AVAILABLE NOW or a LIMIT, or write CREATE STREAMING TABLE … AS and query the table",
                )
                .into());
            }
            return self.select_stream(query, bound, available_now || !self.inner.interactive).await;
        }
        let physical = self.physical(bound).await?;
        Ok(Outcome::Rows(Rows::stream(execute_stream(physical, self.state().task_ctx())?)))
    }

    /// A bound query that must not read a stream; `what` names the statement in the refusal.
    pub(super) async fn static_plan(&self, query: &Query, what: &str) -> Result<LogicalPlan> {
        let bound = self.bind(query, &StoredSchemas::new()).await?;
        require_static(&bound, query, what)?;
        Ok(bound)
    }

    /// Optimizes and plans a static query, with this moment as its time.
    pub(super) async fn physical(&self, bound: LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = with_epoch_timestamp(bound, now_ms())?;
        Ok(self.state().create_physical_plan(&plan).await?)
    }

    /// Runs a static query; one stream per partition.
    pub(super) async fn run_static(&self, bound: LogicalPlan) -> Result<Vec<SendableRecordBatchStream>> {
        let physical = self.physical(bound).await?;
        Ok(execute_stream_partitioned(physical, self.state().task_ctx())?)
    }

    pub(super) async fn explain(&self, verbose: bool, statement: &Statement) -> Result<Outcome> {
        let (query, mode) = match &statement.kind {
            StatementKind::Query { query, .. } => (query, None),
            StatementKind::CreateStreamingTable(create) => {
                let mode = create.output_mode.unwrap_or((OutputMode::Append, create.query.span));
                (&create.query, Some(mode))
            }
            StatementKind::CreateTable(create) if create.query.is_some() => match &create.query {
                Some(query) => (query, None),
                None => return Err(explain_refusal(statement)),
            },
            StatementKind::Insert { query, .. } | StatementKind::CopyTo { query, .. } => (query, None),
            StatementKind::CreateView(view) => (&view.query, None),
            _ => return Err(explain_refusal(statement)),
        };
        let bound = self.bind(query, &StoredSchemas::new()).await?;
        let text = if mode.is_some() || first_stream(&bound).is_some() {
            let (mode, span) = match mode {
                Some(mode) => mode,
                None => (natural_mode(&bound), query.span),
            };
            let plan = plan_stream(bound, query, (mode, span), &self.state())?;
            let logical = if verbose { format!("\n{}", plan.plan.display_indent()) } else { String::new() };
            format!("{plan}{logical}")
        } else {
            let plan = with_epoch_timestamp(bound, now_ms())?;
            let optimized = self.state().optimize(&plan)?;
            let mut text = optimized.display_indent().to_string();
            if verbose {
                let physical = self.state().create_physical_plan(&plan).await?;
                text = format!("{text}\n\n{}", displayable(physical.as_ref()).indent(false));
            }
            text
        };
        let schema = Arc::new(Schema::new(vec![Field::new("plan", DataType::Utf8, false)]));
        let lines: StringArray = text.trim_end().lines().map(Some).collect();
        Ok(Outcome::Rows(Rows::batch(RecordBatch::try_new(schema, vec![Arc::new(lines)])?)))
    }
}

/// The output mode in which a query over a stream is shown: an aggregate's whole result, else new rows.
pub(super) fn natural_mode(bound: &LogicalPlan) -> OutputMode {
    use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
    let mut aggregates = false;
    // A walk that cannot fail.
    let _ = bound.apply(|node| {
        aggregates |= matches!(node, LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_));
        Ok(TreeNodeRecursion::Continue)
    });
    if aggregates { OutputMode::Complete } else { OutputMode::Append }
}

fn explain_refusal(statement: &Statement) -> crate::error::Error {
    Diagnostic::new("EXPLAIN_UNSUPPORTED", "EXPLAIN takes a query, or a statement with one")
        .at(statement.span)
        .help("EXPLAIN SELECT …, EXPLAIN CREATE STREAMING TABLE … AS SELECT …")
        .into()
}
