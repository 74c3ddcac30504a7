//! Names to relations and columns: from a parsed query to an unoptimized plan.
//!
//! The caller finds out what each relation is ([`wanted`]); this file only connects them. Whether the result is
//! a stream, and whether it may be one, is decided in [`crate::streaming`].

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use alluvium_parser::{Diagnostic, Query, Relation, RelationKind, Span};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result as PlanResult, TableReference, plan_err};
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::execution::SessionState;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF};
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::planner::{NullOrdering, ParserOptions, SqlToRel};
use sqlparser::ast::{self, Spanned, Visit, Visitor};

use crate::casts_apart::tell_casts_apart;
use crate::errors::diagnose;
use crate::event_clauses::{deduplicated, watermarked};
use crate::names::{Known, rewrite_names, window_name};
use crate::relation::{SourceSpec, StreamRelation};
use crate::strict::{self, not_yet};
use crate::windows::{WindowError, expand_windows};

/// A relation a query needs.
#[derive(Debug, Clone)]
pub enum Wanted<'a> {
    /// A plain name, to be looked up in the catalog.
    Named {
        /// `[table]` or `[schema, table]`, as typed.
        parts: Vec<String>,
        /// Where it stands first.
        span: Span,
    },
    /// A relation the parser cut out: `query.relations[index]`.
    Special {
        /// Its number.
        index: usize,
        /// What was typed.
        relation: &'a Relation,
    },
}

/// What the caller found for a [`Wanted`].
#[derive(Debug, Clone)]
pub struct Resolved {
    /// A `StreamRelation`, a `StaticRelation`, or a view over a bound plan.
    pub provider: Arc<dyn TableProvider>,
    /// The schema's last column is the hidden `_metadata`.
    pub has_metadata: bool,
}

/// The number in `__relation_N`, by which the parser replaces what it cuts out.
pub(crate) fn special_index(name: &str) -> Option<usize> {
    name.strip_prefix("__relation_")?.parse().ok()
}

/// Relations a query needs, each once, in order of first appearance; names of CTEs are not among them.
pub fn wanted(query: &Query) -> Vec<Wanted<'_>> {
    let mut collector = Collector { query, found: Vec::new(), frames: Vec::new() };
    let _ = query.ast.visit(&mut collector);
    collector.found
}

/// CTEs of one query block: the queries still to come, and the names already visible.
struct Frame {
    pending: Vec<(usize, String)>,
    visible: Vec<String>,
}

struct Collector<'a> {
    query: &'a Query,
    found: Vec<Wanted<'a>>,
    frames: Vec<Frame>,
}

impl Collector<'_> {
    fn add(&mut self, parts: Vec<String>, span: Span) {
        if let [name] = parts.as_slice() {
            if let Some(index) = special_index(name)
                && let Some(relation) = self.query.relations.get(index)
            {
                if !self.found.iter().any(|w| matches!(w, Wanted::Special { index: i, .. } if *i == index)) {
                    self.found.push(Wanted::Special { index, relation });
                }
                return;
            }
            let lower = name.to_lowercase();
            if self.frames.iter().any(|frame| frame.visible.contains(&lower)) {
                return;
            }
        }
        let key = key_of(&parts);
        if !self.found.iter().any(|w| matches!(w, Wanted::Named { parts, .. } if key_of(parts) == key)) {
            self.found.push(Wanted::Named { parts, span });
        }
    }
}

impl Visitor for Collector<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<()> {
        let mut frame = Frame { pending: Vec::new(), visible: Vec::new() };
        if let Some(with) = &query.with {
            for cte in &with.cte_tables {
                let name = cte.alias.name.value.to_lowercase();
                if with.recursive {
                    frame.visible.push(name);
                } else {
                    frame.pending.push((std::ptr::from_ref(cte.query.as_ref()) as usize, name));
                }
            }
        }
        self.frames.push(frame);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &ast::Query) -> ControlFlow<()> {
        self.frames.pop();
        let address = std::ptr::from_ref(query) as usize;
        if let Some(frame) = self.frames.last_mut()
            && let Some(at) = frame.pending.iter().position(|(pending, _)| *pending == address)
        {
            let (_, name) = frame.pending.remove(at);
            frame.visible.push(name);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &ast::TableFactor) -> ControlFlow<()> {
        if let ast::TableFactor::Table { name, args: None, .. } = factor {
            self.add(parts_of(name), Span::from(name.span()));
        }
        ControlFlow::Continue(())
    }
}

/// The parts of a name, as typed.
pub(crate) fn parts_of(name: &ast::ObjectName) -> Vec<String> {
    name.0
        .iter()
        .map(|part| match part.as_ident() {
            Some(ident) => ident.value.clone(),
            None => part.to_string(),
        })
        .collect()
}

/// How relations are looked up: parts without case.
pub(crate) fn key_of(parts: &[String]) -> String {
    parts.iter().map(|part| part.to_lowercase()).collect::<Vec<_>>().join(".")
}

/// Binds names, expands `*`, checks types. `resolved` answers [`wanted`], in its order.
///
/// The plan is neither analyzed nor optimized. Columns keep their spelling, `_metadata` is in no `*`.
///
/// # Errors
/// What is not carried out yet, names that mean nothing, types that do not fit: each with its place.
pub fn bind(query: &Query, resolved: &[Resolved], state: &SessionState) -> Result<LogicalPlan, Diagnostic> {
    bound(query, resolved, state).map_err(strict::with_way_out)
}

fn bound(query: &Query, resolved: &[Resolved], state: &SessionState) -> Result<LogicalPlan, Diagnostic> {
    refuse_not_yet(query)?;
    strict::check(&query.ast, query.span)?;
    let wanted = wanted(query);
    if wanted.len() != resolved.len() {
        return Err(Diagnostic::new(
            "INTERNAL_ERROR",
            format!("{} relations were wanted and {} were found", wanted.len(), resolved.len()),
        )
        .at(query.span));
    }
    let mut known = HashMap::new();
    let mut sources = HashMap::new();
    for (wanted, resolved) in wanted.iter().zip(resolved) {
        let key = match wanted {
            Wanted::Named { parts, .. } => key_of(parts),
            Wanted::Special { index, .. } => format!("__relation_{index}"),
        };
        let columns = resolved.provider.schema().fields().iter().map(|field| field.name().clone()).collect();
        known.insert(key.clone(), Known { columns, hidden: resolved.has_metadata });
        let provider = match wanted {
            Wanted::Special { relation, .. } if relation.watermark.is_some() => watermarked(resolved, relation, &key)?,
            _ => resolved.provider.clone(),
        };
        sources.insert(key, provider_as_source(provider));
    }
    let mut ast = query.ast.clone();
    rewrite_names(&mut ast, known)?;
    tell_casts_apart(&mut ast, &|name| state.aggregate_functions().contains_key(name));
    let context = Context { sources, state };
    let planner = SqlToRel::new_with_options(&context, parser_options());
    let statement = DfStatement::Statement(Box::new(ast::Statement::Query(ast)));
    let plan = planner.statement_to_plan(statement).map_err(|error| diagnose(&error, query))?;
    let plan = deduplicated(plan, query)?;
    let plan = expand_windows(plan, window_call(&query.ast)).map_err(|error| match error {
        WindowError::Refused(refusal) => refusal.at_least(query.span),
        WindowError::Failed(error) => diagnose(&error, query),
    })?;
    state
        .analyzer()
        .execute_and_check(plan.clone(), state.config_options(), |_, _| {})
        .map_err(|error| diagnose(&error, query))?;
    Ok(plan)
}

fn parser_options() -> ParserOptions {
    ParserOptions {
        parse_float_as_decimal: false,
        enable_ident_normalization: false,
        support_varchar_with_length: true,
        enable_options_value_normalization: false,
        collect_spans: true,
        map_string_types_to_utf8view: false,
        // Spark: NULL is the smallest value, so first ascending and last descending.
        default_null_ordering: NullOrdering::NullsMin,
    }
}

fn refuse_not_yet(query: &Query) -> Result<(), Diagnostic> {
    if let Some((what, span)) = query.not_yet.first() {
        return Err(not_yet(what, *span));
    }
    for relation in &query.relations {
        if let RelationKind::NotYet { what } = &relation.kind {
            return Err(not_yet(what, relation.span));
        }
    }
    Ok(())
}

/// Where the first call of `window` or `session_window` stands.
fn window_call(query: &ast::Query) -> Span {
    struct Calls;
    impl Visitor for Calls {
        type Break = Span;

        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<Span> {
            match expr {
                ast::Expr::Function(call) if window_name(call).is_some() => ControlFlow::Break(call.name.span().into()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    match query.visit(&mut Calls) {
        ControlFlow::Break(span) => span,
        ControlFlow::Continue(()) => Span::UNKNOWN,
    }
}

/// The first stream a plan reads, through views as well; `None` if it reads none.
pub fn first_stream(plan: &LogicalPlan) -> Option<Arc<SourceSpec>> {
    let mut found = None;
    let _ = plan.apply_with_subqueries(|node| {
        found = stream_of(node);
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}

/// The stream this very node scans.
pub(crate) fn stream_of(node: &LogicalPlan) -> Option<Arc<SourceSpec>> {
    let LogicalPlan::TableScan(scan) = node else { return None };
    let provider = source_as_provider(&scan.source).ok()?;
    if let Some(stream) = provider.downcast_ref::<StreamRelation>() {
        return Some(stream.spec.clone());
    }
    provider.get_logical_plan().and_then(|plan| first_stream(&plan))
}

/// What DataFusion's SQL planner asks for.
struct Context<'a> {
    sources: HashMap<String, Arc<dyn TableSource>>,
    state: &'a SessionState,
}

impl ContextProvider for Context<'_> {
    fn get_table_source(&self, name: TableReference) -> PlanResult<Arc<dyn TableSource>> {
        let parts: Vec<String> = name.to_vec();
        match self.sources.get(&key_of(&parts)) {
            Some(source) => Ok(source.clone()),
            None => plan_err!("table `{}` not found", parts.join(".")),
        }
    }

    fn get_table_function_source(
        &self,
        name: &str,
        args: Vec<datafusion::logical_expr::Expr>,
    ) -> PlanResult<Arc<dyn TableSource>> {
        let Some(function) = self.state.table_functions().get(&name.to_lowercase()) else {
            return plan_err!("table function `{name}` not found");
        };
        let args = args.into_iter().map(|arg| simplified(arg, self.state)).collect::<PlanResult<Vec<_>>>()?;
        let args = datafusion::catalog::TableFunctionArgs::new(&args, self.state);
        Ok(provider_as_source(function.create_table_provider_with_args(args)?))
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> PlanResult<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.state.expr_planners()
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(crate::ddl::DatabricksTypes))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.state.scalar_functions().get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _variable_names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.state.higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}

/// A table function's argument as the literal it stands for (`-1` is a call until then).
fn simplified(
    expr: datafusion::logical_expr::Expr,
    state: &SessionState,
) -> PlanResult<datafusion::logical_expr::Expr> {
    use datafusion::logical_expr::simplify::SimplifyContext;
    use datafusion::optimizer::simplify_expressions::ExprSimplifier;
    let context = SimplifyContext::builder().with_config_options(Arc::clone(state.config_options())).build();
    let simplifier = ExprSimplifier::new(context);
    simplifier.simplify(simplifier.coerce(expr, &datafusion::common::DFSchema::empty())?)
}
