//! GROUPING SETS, ROLLUP and CUBE over a stream: each row once for every set, with the keys the set leaves out as NULL.
//!
//! The aggregate above groups by the keys given here and by the number of the set, so that its state knows nothing of
//! sets. Nothing is kept here.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{Column, DFSchemaRef, Result, internal_err};
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, LogicalPlan, UserDefinedLogicalNodeCore};

use super::mark::wider;

/// See the module. Output schema: the input's, the keys, `__grouping_id`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ExpandNode {
    /// The rows.
    pub input: LogicalPlan,
    /// The keys of all sets.
    pub keys: Vec<Expr>,
    /// The sets.
    pub sets: Vec<GroupingSet>,
    id_type: DataType,
    schema: DFSchemaRef,
}

/// One of the groupings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
pub struct GroupingSet {
    /// Which of the keys it leaves out.
    pub without: Vec<bool>,
    /// Its `__grouping_id`: a bit for each key, 1 where it is left out, the last key's lowest; above them which it is of
    /// several sets that are alike.
    pub id: u64,
}

impl ExpandNode {
    /// Over `input`. `id_type`: of `__grouping_id`.
    ///
    /// # Errors
    /// A key without a type.
    pub fn try_new(
        input: LogicalPlan,
        keys: Vec<Expr>,
        sets: Vec<GroupingSet>,
        id_type: DataType,
    ) -> Result<ExpandNode> {
        let mut fields = Vec::with_capacity(keys.len() + 1);
        for (at, key) in keys.iter().enumerate() {
            let (_, field) = key.to_field(input.schema())?;
            let field = field.as_ref().clone().with_name(column_of(at)).with_nullable(true);
            fields.push((None, Arc::new(field)));
        }
        fields.push((None, Arc::new(Field::new(Aggregate::INTERNAL_GROUPING_ID, id_type.clone(), false))));
        let schema = wider(input.schema(), fields)?;
        Ok(ExpandNode { input, keys, sets, id_type, schema })
    }

    /// What the aggregate above groups by.
    pub fn grouping(&self) -> Vec<Expr> {
        let keys = (0..self.keys.len()).map(column_of).chain([Aggregate::INTERNAL_GROUPING_ID.to_string()]);
        keys.map(|name| Expr::Column(Column::from_name(name))).collect()
    }

    /// The key that a column of the output is.
    pub fn key_of(&self, column: &Column) -> Option<&Expr> {
        (0..self.keys.len()).find(|at| column.name == column_of(*at)).and_then(|at| self.keys.get(at))
    }
}

/// The name of a key in the output, which no column of the input has.
fn column_of(key: usize) -> String {
    format!("__key_{key}")
}

impl PartialOrd for ExpandNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.sets.partial_cmp(&other.sets).filter(|order| *order != Ordering::Equal || self == other)
    }
}

impl UserDefinedLogicalNodeCore for ExpandNode {
    fn name(&self) -> &str {
        "Expand"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.keys.clone()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let keys = self.keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        write!(f, "Expand: keys=[{keys}] sets={}", self.sets.len())
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (inputs.pop(), inputs.is_empty() && exprs.len() == self.keys.len()) {
            (Some(input), true) => ExpandNode::try_new(input, exprs, self.sets.clone(), self.id_type.clone()),
            _ => internal_err!("Expand has one input and {} keys", self.keys.len()),
        }
    }

    /// The columns of the input that are asked for; the keys are the node's own expressions.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let own = self.input.schema().fields().len();
        Some(vec![output_columns.iter().copied().filter(|column| *column < own).collect()])
    }
}
