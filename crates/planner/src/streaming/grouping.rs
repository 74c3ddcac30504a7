//! GROUPING SETS, ROLLUP and CUBE over a stream become one grouping: by the keys and the number of the set.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::logical_expr::utils::{grouping_set_to_exprlist, powerset};
use datafusion::logical_expr::{Aggregate, Expr, Extension, GroupingSet as Typed, LogicalPlan};

use crate::node::{ExpandNode, GroupingSet};

/// The parts of an aggregate, none of whose keys is a list of grouping sets.
pub(super) struct Grouped {
    pub input: LogicalPlan,
    pub keys: Vec<Expr>,
    pub aggregates: Vec<Expr>,
}

/// `aggregate` with its sets taken out of its keys: they become rows below it.
pub(super) fn grouped(aggregate: Aggregate) -> Result<Grouped> {
    let input = Arc::unwrap_or_clone(aggregate.input);
    let [Expr::GroupingSet(typed)] = aggregate.group_expr.as_slice() else {
        return Ok(Grouped { input, keys: aggregate.group_expr, aggregates: aggregate.aggr_expr });
    };
    let keys = all_keys(&aggregate.group_expr)?;
    let mut sets: Vec<GroupingSet> = Vec::new();
    for set in sets_of(typed)? {
        let without: Vec<bool> = keys.iter().map(|key| !set.contains(key)).collect();
        let alike = sets.iter().filter(|known| known.without == without).count() as u64;
        let bits = without.iter().fold(0, |bits, out| bits << 1 | u64::from(*out));
        let id = bits | alike.checked_shl(keys.len() as u32).unwrap_or(0);
        sets.push(GroupingSet { without, id });
    }
    let id_type = aggregate.schema.field(keys.len()).data_type().clone();
    let keys = keys.into_iter().cloned().collect();
    let node = ExpandNode::try_new(input, keys, sets, id_type)?;
    let keys = node.grouping();
    let input = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    Ok(Grouped { input, keys, aggregates: aggregate.aggr_expr })
}

/// The keys of an aggregate in the order of its columns.
pub(super) fn all_keys(group_expr: &[Expr]) -> Result<Vec<&Expr>> {
    match group_expr {
        [Expr::GroupingSet(_)] => grouping_set_to_exprlist(group_expr),
        keys => Ok(keys.iter().collect()),
    }
}

/// Whether every grouping of an aggregate has this key.
pub(super) fn is_in_every_set(key: &Expr, group_expr: &[Expr]) -> bool {
    match group_expr {
        [Expr::GroupingSet(typed)] => sets_of(typed).is_ok_and(|sets| sets.iter().all(|set| set.contains(&key))),
        _ => true,
    }
}

/// The sets, each with its keys.
pub(crate) fn sets_of(typed: &Typed) -> Result<Vec<Vec<&Expr>>> {
    Ok(match typed {
        Typed::Rollup(keys) => (0..=keys.len()).map(|until| keys[..until].iter().collect()).collect(),
        Typed::Cube(keys) => powerset(keys)?,
        Typed::GroupingSets(sets) => sets.iter().map(|set| set.iter().collect()).collect(),
    })
}
