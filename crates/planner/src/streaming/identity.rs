//! What an operator keeps, told so that another query's operator can be compared with it: by what is typed and what it
//! means, not by how columns are called inside or which number an operator has.
//!
//! Stored in checkpoints: a change of these texts makes state that fits unusable.

use datafusion::arrow::datatypes::FieldRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::function::StateFieldsArgs;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use serde::{Deserialize, Serialize};

use super::stateful::{defined, evicts, exact_text, fingerprints, sql_text};
use crate::ddl::sql_type;
use crate::node::StreamAggregateNode;
use crate::plan::OperatorInfo;

/// The state of one operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateIdentity {
    /// The operator's number.
    pub operator: u32,
    /// `aggregate`, `distinct`, `deduplicate`, …
    pub kind: String,
    /// Keys with their types; of an aggregate only.
    pub keys: Vec<String>,
    /// Aggregates; of an aggregate only.
    pub values: Vec<ValueIdentity>,
    /// Everything else that must be the same.
    pub rest: String,
    /// Names of its key and state columns; of an aggregate only, and not stored: they follow the query's spelling.
    #[serde(skip)]
    pub columns: Vec<String>,
    /// The same for readers, of keys and aggregates.
    #[serde(default)]
    pub names: Vec<String>,
}

/// One aggregate of an operator.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ValueIdentity {
    /// As SQL, with its type.
    pub text: String,
    /// Types of its state columns.
    pub state: Vec<String>,
}

impl StateIdentity {
    /// Whether its keys and values are told apart, so that columns can be mapped.
    pub fn is_aggregate(&self) -> bool {
        self.kind == AGGREGATE
    }
}

const AGGREGATE: &str = "aggregate";

/// What each operator of a plan keeps, by operator number.
pub(super) fn identities(plan: &LogicalPlan, operators: &[OperatorInfo]) -> Result<Vec<StateIdentity>> {
    let mut found: Vec<StateIdentity> = Vec::new();
    for (operator, text) in fingerprints(plan)? {
        let kind = operators.get(operator as usize).map_or("", |info| info.kind).to_string();
        let (keys, values, columns, names) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        found.push(StateIdentity { operator, kind, keys, values, rest: text, columns, names });
    }
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Extension(extension) = node
            && let Some(node) = extension.node.as_any().downcast_ref::<StreamAggregateNode>()
            && let Some(known) = found.iter_mut().find(|known| known.operator == node.operator)
        {
            *known = of_aggregate(node)?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

fn of_aggregate(node: &StreamAggregateNode) -> Result<StateIdentity> {
    let typed = |(at, expr): (usize, &Expr)| {
        let data_type = node.schema.field(at).data_type();
        format!("{} {}", exact_text(&defined(expr, &node.input)), sql_type(data_type))
    };
    let schema = node.input.schema();
    let keys: Vec<String> = node.group_expr.iter().enumerate().map(typed).collect();
    let mut columns: Vec<String> = (0..keys.len()).map(|at| node.schema.field(at).name().clone()).collect();
    let mut values = Vec::with_capacity(node.aggr_expr.len());
    for (at, expr) in node.aggr_expr.iter().enumerate() {
        let at = node.group_expr.len() + at;
        let mut text = typed((at, expr));
        if let Some(hashed) = hashed_type(expr, schema) {
            // Equal numbers of different types have different hashes.
            text = format!("{text} of {hashed}");
        }
        let state = state_fields(expr, node.schema.field(at).name(), schema)?;
        columns.extend(state.iter().map(|field| field.name().clone()));
        values.push(ValueIdentity { text, state: state.iter().map(|field| sql_type(field.data_type())).collect() });
    }
    let names = node.group_expr.iter().map(|key| sql_text(&defined(key, &node.input)));
    let names = names.chain(node.aggr_expr.iter().map(sql_text)).collect();
    // By the key itself: its place among the keys may change.
    let rest = match node.time.and_then(|at| Some((at, keys.get(at)?))) {
        Some((at, key)) => evicts(node).replacen(&format!("={at}"), &format!(" {key}"), 1).trim().to_string(),
        None => String::new(),
    };
    // Rows of panes are not those of groups: they are taken over as they are, or not at all.
    let (kind, columns) = match node.panes {
        Some(_) => ("aggregate by panes", Vec::new()),
        None => (AGGREGATE, columns),
    };
    Ok(StateIdentity { operator: node.operator, kind: kind.to_string(), keys, values, rest, columns, names })
}

/// The state columns of an aggregate whose result is called `name`.
fn state_fields(expr: &Expr, name: &str, schema: &DFSchema) -> Result<Vec<FieldRef>> {
    let Expr::AggregateFunction(function) = expr.clone().unalias() else { return Ok(Vec::new()) };
    let field = |expr: &Expr| -> Result<FieldRef> { Ok(expr.to_field(schema)?.1) };
    let input: Vec<FieldRef> = function.params.args.iter().map(field).collect::<Result<_>>()?;
    let ordering = function.params.order_by.iter().map(|sort| field(&sort.expr)).collect::<Result<Vec<_>>>()?;
    function.func.state_fields(StateFieldsArgs {
        name,
        input_fields: &input,
        return_field: field(expr)?,
        ordering_fields: &ordering,
        is_distinct: function.params.distinct,
    })
}

/// The type of what an aggregate hashes and forgets.
fn hashed_type(expr: &Expr, schema: &DFSchema) -> Option<String> {
    match expr.clone().unalias() {
        Expr::AggregateFunction(function) if function.func.name() == "approx_distinct" => {
            Some(sql_type(&function.params.args.first()?.get_type(schema).ok()?))
        }
        _ => None,
    }
}
