//! A query that takes the place of another one: which operator goes on with whose state.
//!
//! A pure comparison of what operators keep. State goes to the operator that keeps the same, whatever its number; an
//! aggregate also takes over that of one which kept more, or the same in another order. What an aggregate would have to
//! know of rows that were read before, and does not, is said; so is state that nobody would take.

use std::fmt;

use alluvium_parser::Diagnostic;
use alluvium_planner::plan::StreamingPlan;
use alluvium_planner::streaming::{StateIdentity, source_text};

use crate::checkpoint::{Checkpoint, Origin};
use crate::error::{Error, Result};

/// Checkpoint entry for former versions: the fingerprint of the plan whose state is stored.
const FINGERPRINT: &str = "fingerprint";

/// What becomes of an operator's state.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    /// It is gone on with; of which operator it was.
    Kept(u32),
    /// It is gone on with, but for some aggregates, or with columns in another order.
    Mapped { from: u32, columns: Vec<usize>, without: Vec<String> },
    /// There is none that fits; what is new about the operator.
    New(Vec<String>),
}

/// The comparison; its lines are for the user.
#[derive(Debug)]
pub struct Changes {
    operators: Vec<(StateIdentity, Fate)>,
    lost: Vec<StateIdentity>,
    sources: Option<(Vec<String>, Vec<String>)>,
}

impl Changes {
    /// Of what is stored to what is wanted.
    fn between(stored: &[StateIdentity], wanted: &[StateIdentity], sources: (&[String], &[String])) -> Changes {
        let mut free: Vec<&StateIdentity> = stored.iter().collect();
        let mut fates: Vec<Option<Fate>> = vec![None; wanted.len()];
        let rules: [fn(&StateIdentity, &StateIdentity) -> Option<Fate>; 3] = [same_place, same, mapped];
        for rule in rules {
            for (want, fate) in wanted.iter().zip(&mut fates).filter(|(_, fate)| fate.is_none()) {
                let found = free.iter().enumerate().find_map(|(at, have)| Some((at, rule(have, want)?)));
                if let Some((at, found)) = found {
                    free.remove(at);
                    *fate = Some(found);
                }
            }
        }
        let operators = wanted.iter().zip(fates).map(|(want, fate)| {
            let fate = fate.unwrap_or_else(|| Fate::New(new_in(want, &free)));
            (want.clone(), fate)
        });
        let sorted = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort();
            names
        };
        let differ = sorted(sources.0) != sorted(sources.1);
        Changes {
            operators: operators.collect(),
            lost: free.into_iter().cloned().collect(),
            sources: differ.then(|| (sources.0.to_vec(), sources.1.to_vec())),
        }
    }

    /// Whether the query can go on with what is stored.
    fn fits(&self) -> bool {
        let fits = |(_, fate): &(StateIdentity, Fate)| !matches!(fate, Fate::New(_));
        let stateful = !self.operators.is_empty() || !self.lost.is_empty();
        self.lost.is_empty() && self.operators.iter().all(fits) && !(stateful && self.sources.is_some())
    }

    /// Whether anything is other than before.
    pub fn is_change(&self) -> bool {
        let same = |(want, fate): &(StateIdentity, Fate)| matches!(fate, Fate::Kept(from) if *from == want.operator);
        !self.operators.iter().all(same) || !self.lost.is_empty() || self.sources.is_some()
    }

    /// Operator by operator what becomes of the state.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        if let Some((before, now)) = self.sources.as_ref().filter(|_| !self.fits()) {
            lines.push(format!("it was made of [{}], and the query reads [{}]", before.join("; "), now.join("; ")));
        }
        for (want, fate) in &self.operators {
            lines.push(format!("{}: {}", Named(want), Told { want, fate }));
        }
        lines.extend(
            self.lost.iter().map(|lost| format!("{} of the former query: its state would be lost", Named(lost))),
        );
        lines
    }

    fn origins(&self) -> Vec<Option<Origin>> {
        let origin = |(want, fate): &(StateIdentity, Fate)| match fate {
            Fate::Kept(from) => Some(Origin::Kept(*from)),
            Fate::Mapped { from, columns, .. } => Some(Origin::Mapped(*from, columns.clone(), want.keys.len())),
            Fate::New(_) => None,
        };
        self.operators.iter().map(origin).collect()
    }
}

/// The same operator with the same number.
fn same_place(have: &StateIdentity, want: &StateIdentity) -> Option<Fate> {
    if have.operator != want.operator { None } else { is_same(have, want).then_some(Fate::Kept(have.operator)) }
}

/// The same operator; it has one table of state, which can be another operator's.
fn same(have: &StateIdentity, want: &StateIdentity) -> Option<Fate> {
    let movable = ["aggregate", "distinct", "deduplicate", "distinct values"].contains(&want.kind.as_str());
    (movable && is_same(have, want)).then_some(Fate::Kept(have.operator))
}

fn is_same(have: &StateIdentity, want: &StateIdentity) -> bool {
    (&have.kind, &have.keys, &have.values, &have.rest) == (&want.kind, &want.keys, &want.values, &want.rest)
}

/// An aggregate by the same keys, in any order, that kept at least as much.
fn mapped(have: &StateIdentity, want: &StateIdentity) -> Option<Fate> {
    if !have.is_aggregate() || !want.is_aggregate() || have.rest != want.rest || have.keys.len() != want.keys.len() {
        return None;
    }
    let mut columns = Vec::new();
    for key in &want.keys {
        columns.push(have.keys.iter().position(|known| known == key)?);
    }
    let mut free: Vec<usize> = (0..have.values.len()).collect();
    for value in &want.values {
        let at = free.iter().position(|at| have.values[*at] == *value)?;
        let at = free.remove(at);
        let before: usize = have.values[..at].iter().map(|value| value.state.len()).sum();
        let first = have.keys.len() + before;
        columns.extend(first..first + value.state.len());
    }
    let without = free.into_iter().map(|at| have.values[at].text.clone()).collect();
    Some(Fate::Mapped { from: have.operator, columns, without })
}

/// What an operator keeps that none of the stored ones does.
fn new_in(want: &StateIdentity, stored: &[&StateIdentity]) -> Vec<String> {
    let by_same_keys = |have: &&&StateIdentity| {
        have.is_aggregate() && want.is_aggregate() && have.rest == want.rest && have.keys == want.keys
    };
    match stored.iter().find(by_same_keys) {
        Some(have) => {
            let new = want.values.iter().filter(|value| !have.values.contains(value));
            new.map(|value| value.text.clone()).collect()
        }
        None => Vec::new(),
    }
}

/// `operator 0, aggregate by k STRING`
struct Named<'a>(&'a StateIdentity);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Named(of) = self;
        write!(f, "operator {}", of.operator)?;
        match of.is_aggregate() {
            true if of.keys.is_empty() => write!(f, ", {} of everything", of.kind),
            true => write!(f, ", {} by {}", of.kind, of.keys.join(", ")),
            false => write!(f, ", {}", of.rest),
        }
    }
}

struct Told<'a> {
    want: &'a StateIdentity,
    fate: &'a Fate,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fate {
            Fate::Kept(from) if *from == self.want.operator => f.write_str("goes on with its state"),
            Fate::Kept(from) => write!(f, "goes on with the state of the former operator {from}"),
            Fate::Mapped { from, without, .. } => {
                write!(f, "goes on with the state of the former operator {from}, written anew in its columns")?;
                match without.is_empty() {
                    true => Ok(()),
                    false => write!(f, ", without {}", without.join(", ")),
                }
            }
            Fate::New(new) if new.is_empty() => {
                f.write_str("is new, and nothing that is stored fits it: all rows would have to be read again")
            }
            Fate::New(new) => {
                write!(f, "{} would be new: all rows would have to be read again for it", new.join(", "))
            }
        }
    }
}

/// Stored state serves only a query that goes on with all of it. What becomes of it; None where nothing is stored.
pub fn changes(plan: &StreamingPlan, checkpoint: &Checkpoint, name: &str) -> Result<Option<Changes>> {
    let sources: Vec<String> = plan.sources.iter().map(|source| source_text(source)).collect();
    // Nothing was read, so nothing is kept.
    if checkpoint.last_committed()?.is_none() && checkpoint.pending_intent()?.is_none() {
        return Ok(None);
    }
    if let Some(stored) = checkpoint.stored_operators()? {
        let changes = Changes::between(&stored.operators, &plan.identities, (&stored.sources, &sources));
        return if changes.fits() { Ok(Some(changes)) } else { Err(incompatible(name, &changes.lines())) };
    }
    match checkpoint.meta(FINGERPRINT)? {
        Some(stored) if stored == plan.fingerprint => {}
        Some(stored) if !plan.operators.is_empty() || has_state(&stored) => {
            let told = format!("a former version stored [{stored}], and the query needs [{}]", plan.fingerprint);
            return Err(incompatible(name, &[told]));
        }
        _ => {}
    }
    Ok(Some(Changes::between(&plan.identities, &plan.identities, (&sources, &sources))))
}

/// Gives the plan's operators the state that is stored, or says why they cannot have it.
pub fn adopt_state(plan: &StreamingPlan, checkpoint: &Checkpoint, name: &str) -> Result<()> {
    let sources: Vec<String> = plan.sources.iter().map(|source| source_text(source)).collect();
    match changes(plan, checkpoint, name)? {
        Some(changes) => checkpoint.adopt(sources, &plan.identities, &changes.origins())?,
        None => checkpoint.adopt(sources, &plan.identities, &vec![None; plan.identities.len()])?,
    }
    // Former versions go by this alone, and look for state where it may be no more.
    let moved = checkpoint.stored_operators()?.is_some_and(|stored| !stored.numbers.is_empty());
    let told = if moved { "aggregate, moved by a later version" } else { plan.fingerprint.as_str() };
    match checkpoint.meta(FINGERPRINT)?.as_deref() == Some(told) {
        true => Ok(()),
        false => checkpoint.put_meta(FINGERPRINT, told),
    }
}

fn incompatible(name: &str, lines: &[String]) -> Error {
    let mut diagnostic = Diagnostic::new(
        "STATE_INCOMPATIBLE",
        format!("the query cannot go on with the stored state of stream `{name}`: {}", lines.join("; ")),
    );
    diagnostic = diagnostic.help(format!(
        "keep the grouping columns and aggregates, or start over with CREATE OR REPLACE; REFRESH TABLE {name} FULL runs the \
         stored query from the beginning"
    ));
    diagnostic.into()
}

/// Whether a fingerprint has more than sources.
fn has_state(fingerprint: &str) -> bool {
    fingerprint.split("; ").any(|part| !part.starts_with("files ") && !part.starts_with("table "))
}

/// What an operator whose state is stored keeps; None where a former version did not say.
pub fn stored_identity(checkpoint: &Checkpoint, operator: u32) -> Result<Option<StateIdentity>> {
    let stored = checkpoint.stored_operators()?.unwrap_or_default();
    Ok(stored.operators.into_iter().find(|known| known.operator == operator))
}

#[cfg(test)]
mod tests {
    use alluvium_planner::streaming::ValueIdentity;

    use super::*;

    fn aggregate(operator: u32, keys: &[&str], values: &[(&str, usize)]) -> StateIdentity {
        let value = |(text, width): &(&str, usize)| ValueIdentity {
            text: (*text).to_string(),
            state: vec!["BIGINT".to_string(); *width],
        };
        StateIdentity {
            operator,
            kind: "aggregate".into(),
            keys: keys.iter().map(ToString::to_string).collect(),
            values: values.iter().map(value).collect(),
            rest: String::new(),
            columns: Vec::new(),
            names: Vec::new(),
        }
    }

    fn between(stored: &[StateIdentity], wanted: &[StateIdentity]) -> Changes {
        Changes::between(stored, wanted, (&[], &[]))
    }

    #[test]
    fn state_goes_to_whoever_keeps_the_same() {
        let (a, b) = (aggregate(0, &["k"], &[("sum(v)", 1)]), aggregate(1, &["j"], &[("max(v)", 1)]));
        assert!(!between(&[a.clone(), b.clone()], &[a.clone(), b.clone()]).is_change());
        let moved = |from: &StateIdentity, operator| StateIdentity { operator, ..from.clone() };
        let swapped = between(&[a.clone(), b.clone()], &[moved(&b, 0), moved(&a, 1)]);
        assert!(swapped.fits() && swapped.is_change());
        assert_eq!(swapped.origins(), [Some(Origin::Kept(1)), Some(Origin::Kept(0))]);
        // The one that has its number already keeps it.
        let twice = [a.clone(), moved(&a, 1)];
        assert_eq!(between(&twice, &twice).origins(), [Some(Origin::Kept(0)), Some(Origin::Kept(1))]);
    }

    #[test]
    fn fewer_aggregates_and_another_order_are_mapped() {
        let stored = aggregate(0, &["a", "b"], &[("avg(v)", 2), ("sum(v)", 1), ("sum(v)", 1), ("count(v)", 1)]);
        let wanted = aggregate(0, &["b", "a"], &[("count(v)", 1), ("avg(v)", 2), ("sum(v)", 1)]);
        let changes = between(&[stored.clone()], &[wanted]);
        assert!(changes.fits());
        assert_eq!(changes.origins(), [Some(Origin::Mapped(0, vec![1, 0, 6, 2, 3, 4], 2))]);
        assert!(changes.lines()[0].ends_with("in its columns, without sum(v)"), "{:?}", changes.lines());
        let more = between(&[stored], &[aggregate(0, &["a", "b"], &[("avg(v)", 2), ("min(v)", 1)])]);
        assert!(!more.fits());
        assert_eq!(more.lines().len(), 2);
        assert!(more.lines()[0].contains("min(v) would be new"), "{:?}", more.lines());
    }

    #[test]
    fn nothing_is_lost_or_taken_for_something_else() {
        let one = aggregate(0, &["k"], &[("sum(v)", 1)]);
        let table = [
            (vec![one.clone()], vec![]),
            (vec![], vec![one.clone()]),
            (vec![one.clone()], vec![aggregate(0, &["j"], &[("sum(v)", 1)])]),
            (vec![one.clone()], vec![StateIdentity { rest: "until ts".into(), ..one.clone() }]),
            (vec![one.clone(), aggregate(1, &["j"], &[])], vec![one.clone()]),
        ];
        for (stored, wanted) in table {
            assert!(!between(&stored, &wanted).fits(), "{stored:?} {wanted:?}");
        }
        let other = Changes::between(&[one.clone()], &[one], (&["files json a".into()], &["files json b".into()]));
        assert!(!other.fits());
        assert!(Changes::between(&[], &[], (&["files json a".into()], &["files json b".into()])).fits());
    }
}
