//! What a start does: a pure decision on three observed facts, with its table of tests.
//!
//! The order of the protocol leaves few honest states: an intent is written before the sink publishes its epoch, and
//! the epoch is committed after. So the sink is at most at the intent's epoch, and the intent is the next epoch.
//! Everything else means that checkpoint and table do not belong together, and continuing would lose or repeat rows.

use alluvium_parser::Diagnostic;

use crate::error::Error;

/// What was found at a start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// Newest committed epoch.
    pub last_committed: Option<u64>,
    /// Newest committed epoch that published something ([`super::Checkpoint::last_published`]); epochs without
    /// output leave no trace in the sink.
    pub last_published: Option<u64>,
    /// Epoch of the pending intent.
    pub intent: Option<u64>,
    /// Newest epoch of this query the sink has.
    pub sink_last: Option<u64>,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// A first start: epoch 0 is next.
    Fresh,
    /// Nothing is pending.
    Continue {
        /// The next epoch.
        next: u64,
    },
    /// An intent is pending: run it again.
    Rerun {
        /// Its epoch.
        epoch: u64,
        /// The sink has it already: only state, ledger and positions are missing.
        sink_has_it: bool,
    },
    /// Checkpoint and sink do not belong together.
    Refuse(Refusal),
}

/// Why a start is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The sink has an epoch that was never intended here: the checkpoint is older than the table.
    SinkAhead {
        /// What the sink has.
        sink: u64,
        /// The newest epoch the checkpoint can explain.
        explained: Option<u64>,
    },
    /// The sink lacks an epoch that was published: the table is older than the checkpoint, or another table.
    SinkBehind {
        /// What the sink has.
        sink: Option<u64>,
        /// What was published.
        published: u64,
    },
    /// The intent is not the next epoch: the checkpoint contradicts itself.
    IntentNotNext {
        /// The intent's epoch.
        intent: u64,
        /// The epoch that would be next.
        next: u64,
    },
}

/// Decides what a start does.
pub fn decide(facts: &Facts) -> Recovery {
    let next = facts.last_committed.map_or(0, |last| last + 1);
    if let Some(intent) = facts.intent
        && intent != next
    {
        return Recovery::Refuse(Refusal::IntentNotNext { intent, next });
    }
    let explained = facts.intent.or(facts.last_committed);
    if let Some(sink) = facts.sink_last
        && explained.is_none_or(|explained| sink > explained)
    {
        return Recovery::Refuse(Refusal::SinkAhead { sink, explained });
    }
    if let Some(published) = facts.last_published
        && facts.sink_last.is_none_or(|sink| sink < published)
    {
        return Recovery::Refuse(Refusal::SinkBehind { sink: facts.sink_last, published });
    }
    match facts.intent {
        Some(epoch) => Recovery::Rerun { epoch, sink_has_it: facts.sink_last == Some(epoch) },
        None if facts.last_committed.is_none() => Recovery::Fresh,
        None => Recovery::Continue { next },
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let epoch = |epoch: &Option<u64>| epoch.map_or_else(|| "no epoch".to_string(), |e| format!("only epoch {e}"));
        match self {
            Refusal::SinkAhead { sink, explained } => write!(
                f,
                "the table has epoch {sink}, the checkpoint knows {}: the checkpoint is older than the table",
                epoch(explained)
            ),
            Refusal::SinkBehind { sink, published } => write!(
                f,
                "the checkpoint has published epoch {published}, the table has {}: the table was replaced or restored",
                epoch(sink)
            ),
            Refusal::IntentNotNext { intent, next } => {
                write!(f, "the checkpoint contradicts itself: epoch {intent} was begun where {next} is next")
            }
        }
    }
}

impl Refusal {
    /// The refusal as an error for the user.
    pub fn error(&self, stream: &str) -> Error {
        let help = match self {
            Refusal::SinkAhead { .. } => {
                "use the checkpoint that belongs to the table, or CREATE OR REPLACE it to start over"
            }
            Refusal::SinkBehind { .. } => {
                "restore the table that belongs to the checkpoint, or CREATE OR REPLACE it to start over"
            }
            Refusal::IntentNotNext { .. } => {
                "restore the checkpoint from a backup, or CREATE OR REPLACE the table to start over"
            }
        };
        let message = format!("the checkpoint of stream `{stream}` and its table do not belong together: {self}");
        Error::Environment(Box::new(Diagnostic::new("CHECKPOINT_MISMATCH", message).help(help)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_honest_state_goes_on_and_every_other_is_refused() {
        use Recovery::{Continue, Fresh, Refuse, Rerun};
        use Refusal::{IntentNotNext, SinkAhead, SinkBehind};
        #[rustfmt::skip]
        let table = [
            // committed, published, intent, sink → decision
            (None,    None,    None,    None,    Fresh),
            (None,    None,    Some(0), None,    Rerun { epoch: 0, sink_has_it: false }),
            (None,    None,    Some(0), Some(0), Rerun { epoch: 0, sink_has_it: true }),
            (Some(0), Some(0), None,    Some(0), Continue { next: 1 }),
            (Some(4), Some(4), None,    Some(4), Continue { next: 5 }),
            (Some(4), Some(4), Some(5), Some(4), Rerun { epoch: 5, sink_has_it: false }),
            (Some(4), Some(4), Some(5), Some(5), Rerun { epoch: 5, sink_has_it: true }),
            // Epochs that wrote nothing leave the sink behind the last commit, honestly.
            (Some(4), None,    None,    None,    Continue { next: 5 }),
            (Some(4), Some(2), None,    Some(2), Continue { next: 5 }),
            (Some(4), Some(2), Some(5), Some(2), Rerun { epoch: 5, sink_has_it: false }),
            (Some(4), Some(2), Some(5), Some(5), Rerun { epoch: 5, sink_has_it: true }),
            // The table is newer than the checkpoint.
            (None,    None,    None,    Some(0), Refuse(SinkAhead { sink: 0, explained: None })),
            (None,    None,    None,    Some(7), Refuse(SinkAhead { sink: 7, explained: None })),
            (None,    None,    Some(0), Some(1), Refuse(SinkAhead { sink: 1, explained: Some(0) })),
            (Some(4), Some(4), None,    Some(5), Refuse(SinkAhead { sink: 5, explained: Some(4) })),
            (Some(4), Some(4), Some(5), Some(6), Refuse(SinkAhead { sink: 6, explained: Some(5) })),
            // The table is older than the checkpoint, or another one.
            (Some(4), Some(4), None,    None,    Refuse(SinkBehind { sink: None, published: 4 })),
            (Some(4), Some(4), None,    Some(3), Refuse(SinkBehind { sink: Some(3), published: 4 })),
            (Some(4), Some(4), Some(5), Some(3), Refuse(SinkBehind { sink: Some(3), published: 4 })),
            (Some(4), Some(2), None,    Some(1), Refuse(SinkBehind { sink: Some(1), published: 2 })),
            // The checkpoint contradicts itself.
            (None,    None,    Some(1), None,    Refuse(IntentNotNext { intent: 1, next: 0 })),
            (Some(4), Some(4), Some(4), Some(4), Refuse(IntentNotNext { intent: 4, next: 5 })),
            (Some(4), Some(4), Some(6), Some(4), Refuse(IntentNotNext { intent: 6, next: 5 })),
            (Some(4), Some(4), Some(0), Some(4), Refuse(IntentNotNext { intent: 0, next: 5 })),
        ];
        for (last_committed, last_published, intent, sink_last, decision) in table {
            let facts = Facts { last_committed, last_published, intent, sink_last };
            assert_eq!(decide(&facts), decision, "{facts:?}");
        }
    }

    #[test]
    fn whatever_the_facts_no_epoch_is_skipped_or_published_twice() {
        let values = || std::iter::once(None).chain((0..4).map(Some));
        for last_committed in values() {
            for last_published in values().filter(|published| *published <= last_committed) {
                for intent in values() {
                    for sink_last in values() {
                        let facts = Facts { last_committed, last_published, intent, sink_last };
                        let next = last_committed.map_or(0, |last| last + 1);
                        match decide(&facts) {
                            Recovery::Fresh => assert_eq!((next, sink_last), (0, None), "{facts:?}"),
                            Recovery::Continue { next: chosen } => {
                                assert_eq!(chosen, next, "{facts:?}");
                                assert!(sink_last < Some(next), "{facts:?}");
                            }
                            Recovery::Rerun { epoch, sink_has_it } => {
                                assert_eq!((epoch, Some(epoch)), (next, intent), "{facts:?}");
                                assert_eq!(sink_has_it, sink_last == Some(epoch), "{facts:?}");
                            }
                            Recovery::Refuse(refusal) => assert!(refusal.error("t").exit_code() == 3),
                        }
                    }
                }
            }
        }
    }
}
