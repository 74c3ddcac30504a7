//! Whose state it is that a checkpoint has: what each operator of the query kept when it was last started.
//!
//! Under `named/operators` stand the identities of the operators, the numbers under which their state is stored where it
//! was taken over from another operator, and numbers that are to be cleared. One batch changes them all, so that state
//! is never half one query's and half another's.

use std::collections::BTreeMap;

use alluvium_planner::streaming::StateIdentity;
use serde::{Deserialize, Serialize};

use super::Checkpoint;
use crate::error::{Error, Result};
use crate::state::{Batch, Column, StateStore, StateTable, copy_mapped, forget_operator, rename_columns};

/// State that is written anew gets one of these numbers, which no operator has.
const ANEW: std::ops::Range<u32> = 1 << 16..1 << 17;

/// Whether state was written anew, for an operator with another number.
pub(super) fn is_anew(number: u32) -> bool {
    ANEW.contains(&number)
}

const NAME: &str = "operators";

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredOperators {
    /// The query's sources, as fingerprints name them.
    pub sources: Vec<String>,
    /// What each operator keeps.
    pub operators: Vec<StateIdentity>,
    /// Numbers under which state is stored, by the operator's number, where they differ.
    #[serde(default)]
    pub numbers: BTreeMap<u32, u32>,
    /// Numbers whose state nobody has any more.
    #[serde(default)]
    pub dropped: Vec<u32>,
}

/// Where the state of an operator comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// From the operator that had this number, as it is.
    Kept(u32),
    /// From that one, with these of its columns; so many are keys.
    Mapped(u32, Vec<usize>, usize),
}

pub(super) fn load(store: &dyn StateStore, name: &str) -> Result<Option<StoredOperators>> {
    match store.get(Column::Meta, super::named_key(NAME).as_bytes())? {
        Some(bytes) => Ok(Some(super::parse(name, "what its operators are", &bytes)?)),
        None => Ok(None),
    }
}

impl Checkpoint {
    /// Whose state it is; None before the first start, and in checkpoints of former versions.
    pub fn stored_operators(&self) -> Result<Option<StoredOperators>> {
        load(self.shared.store.as_ref(), &self.shared.name)
    }

    /// From now on the state is that of `operators`, each of which has it from `origins`; without one it has none. State
    /// that nobody takes is removed. No state of theirs may be open.
    pub fn adopt(&self, sources: Vec<String>, operators: &[StateIdentity], origins: &[Option<Origin>]) -> Result<()> {
        if operators.iter().any(|operator| self.inner().tables.contains_key(&operator.operator)) {
            return Err(Error::internal("state was given to other operators while it was in use"));
        }
        let store = &self.shared.store;
        let before = self.stored_operators()?.unwrap_or_default();
        let number_of = |operator: u32| before.numbers.get(&operator).copied().unwrap_or(operator);
        let used: Vec<u32> =
            StateTable::stored_operators(store.as_ref())?.into_iter().map(|(number, _)| number).collect();
        let newest = used.iter().copied().filter(|number| is_anew(*number)).max();
        let mut next = newest.map_or(ANEW.start, |newest| newest + 1);
        let mut after = StoredOperators { sources, operators: operators.to_vec(), ..StoredOperators::default() };
        for (operator, origin) in operators.iter().zip(origins) {
            let number = match origin {
                None => continue,
                Some(Origin::Kept(from)) => number_of(*from),
                Some(Origin::Mapped(from, columns, keys)) => {
                    copy_mapped(store, number_of(*from), next, columns, *keys)?;
                    next += 1;
                    next - 1
                }
            };
            if !operator.columns.is_empty() {
                rename_columns(store.as_ref(), number, &operator.columns)?;
            }
            if number != operator.operator {
                after.numbers.insert(operator.operator, number);
            }
        }
        let kept = |number: &u32| {
            let of_operator = operators.iter().zip(origins).find(|(operator, _)| operator.operator == *number);
            let as_itself =
                of_operator.is_some_and(|(_, origin)| origin.is_some()) && !after.numbers.contains_key(number);
            as_itself || after.numbers.values().any(|used| used == number)
        };
        // Of the query's operators, before and now, and of what was written anew: other state is not ours to judge.
        let ours = |number: &u32| {
            let known = |operator: &StateIdentity| operator.operator == *number;
            is_anew(*number) || before.operators.iter().any(known) || operators.iter().any(known)
        };
        after.dropped = used.into_iter().filter(|number| ours(number) && !kept(number)).collect();
        after.operators.iter_mut().for_each(|operator| operator.columns.clear());
        if after != before {
            self.store_operators(&after)?;
        }
        self.inner().numbers.clone_from(&after.numbers);
        self.clear_dropped(after)
    }

    /// The operators keep something else from now on, of which nothing is stored yet.
    pub fn describe_operators(&self, operators: &[StateIdentity]) -> Result<()> {
        let mut operators = operators.to_vec();
        operators.iter_mut().for_each(|operator| operator.columns.clear());
        self.store_operators(&StoredOperators { operators, ..self.stored_operators()?.unwrap_or_default() })
    }

    /// Removes state that nobody has any more, as an earlier start may have left it.
    fn clear_dropped(&self, stored: StoredOperators) -> Result<()> {
        if stored.dropped.is_empty() {
            return Ok(());
        }
        for number in &stored.dropped {
            forget_operator(self.shared.store.as_ref(), *number)?;
        }
        self.store_operators(&StoredOperators { dropped: Vec::new(), ..stored })
    }

    fn store_operators(&self, stored: &StoredOperators) -> Result<()> {
        let mut batch = Batch::default();
        batch.put(Column::Meta, super::named_key(NAME), super::json(stored)?);
        self.shared.store.write(batch, true)
    }
}
