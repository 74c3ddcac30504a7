//! New columns in the midst of a stream: the query planned anew, the schema's next version stored, the epoch run again.
//!
//! The order makes a crash harmless: whether the new plan, the stored state and the table go together is found out before
//! the version is stored; what is stored then is what every later start plans with, and the epoch's intent is the same
//! as before. Knows nothing of how files tell their columns or how a query is planned.

use alluvium_parser::Diagnostic;
use alluvium_planner::plan::StreamingPlan;
use alluvium_planner::relation::SourceKind;
use alluvium_planner::streaming::StateIdentity;
use arrow::datatypes::SchemaRef;
use futures::future::BoxFuture;

use super::{Pipeline, Ran, Run};
use crate::checkpoint::Intent;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::source::files::schema_log::{SchemaLog, SchemaVersion};
use crate::source::files::{self, NewColumns};
use crate::source::{Drift, EpochInput};
use crate::table;

/// Runs of one epoch, each of which learnt more columns or met files that were written again: nobody's files need so many.
const RUNS_MAX: usize = 100;

/// Runs of one epoch whose table another writer changed in the meantime.
const RACES_MAX: usize = 3;

/// What was mended after a failed run.
enum Evolved {
    /// The plan has the columns that were met, or they are let through.
    Columns,
    /// The inputs with their files as they are now.
    Files(Vec<(String, EpochInput)>),
}

/// Plans the stream's query again, with these versions in the place of stored ones.
pub type Replan = Box<dyn Fn(Vec<(SchemaLog, SchemaVersion)>) -> BoxFuture<'static, Result<Replanned>> + Send + Sync>;

/// A new plan.
pub struct Replanned {
    /// What each epoch computes.
    pub plan: StreamingPlan,
    /// The columns of the stream's table.
    pub target: SchemaRef,
}

impl Pipeline {
    /// Runs an intent; after each run that failed for lack of columns, once more with them, after one whose files were
    /// written again, once more with those, and after one that lost its table to another writer, once more on top of that.
    pub(super) async fn run_until_it_fits(&mut self, intent: &mut Intent, run: Run) -> Result<Ran> {
        let (mut runs, mut races) = (0, 0);
        loop {
            let error = match self.run_once(intent, run).await {
                Ok(ran) => return Ok(ran),
                Err(error) => error,
            };
            runs += 1;
            let changed = if runs > RUNS_MAX { None } else { self.evolve(intent).await? };
            match changed {
                None if races < RACES_MAX && table::is_changed_meanwhile(&error) => races += 1,
                None => return Err(error),
                Some(Evolved::Columns) => {}
                Some(Evolved::Files(inputs)) => {
                    // What is in the table is what the intent says now.
                    let published = run == Run::StateOnly || self.sink.last_epoch().await? == Some(intent.epoch);
                    if published {
                        return Err(error);
                    }
                    intent.inputs = inputs;
                    self.checkpoint.write_intent(intent)?;
                    failpoint::reached("after_new_intent", intent.epoch);
                }
            }
        }
    }

    /// The newest version among the schemas of the plan's files.
    pub(super) fn schema_version(&self) -> Option<u64> {
        let versions = self.plan.sources.iter().filter_map(|source| match &source.kind {
            SourceKind::Files(files) => files.schema_version,
            SourceKind::Table(_) => None,
        });
        versions.max()
    }

    /// After a failed run: whether the same intent can be run again, and with better luck.
    async fn evolve(&mut self, intent: &Intent) -> Result<Option<Evolved>> {
        let (mut columns, mut passed) = (Vec::new(), false);
        let (mut inputs, mut chosen_again) = (intent.inputs.clone(), false);
        for (id, input) in &mut inputs {
            let Some((_, source)) = self.sources.iter_mut().find(|(at, _)| at == id) else { continue };
            match source.drift(input).await? {
                Drift::None => {}
                Drift::Passed => passed = true,
                Drift::Columns(new) => columns.push(*new),
                Drift::Changed(now) => {
                    *input = now;
                    chosen_again = true;
                }
            }
        }
        // Columns that were met beside are met again.
        if chosen_again {
            return Ok(Some(Evolved::Files(inputs)));
        }
        if columns.is_empty() {
            return Ok(passed.then_some(Evolved::Columns));
        }
        let Some(replan) = &self.replan else { return Ok(None) };
        failpoint::reached("after_drift", intent.epoch);
        let proposed = columns.iter().map(|new| (new.log.clone(), new.version.clone())).collect();
        let replanned = replan(proposed).await.map_err(|error| without_the_columns(&columns, error))?;
        self.check(&replanned).map_err(|error| without_the_columns(&columns, error))?;
        failpoint::reached("before_schema", intent.epoch);
        for new in &columns {
            new.log.write(&new.version)?;
        }
        failpoint::reached("after_schema", intent.epoch);
        if let Some(new) = columns.iter().find(|new| new.restart) {
            return Err(stored_and_stopped(new));
        }
        self.new_columns.extend(columns.into_iter().flat_map(|new| new.added));
        self.take(replanned).await?;
        Ok(Some(Evolved::Columns))
    }

    /// The table that source number `at` follows has more columns than the plan: so `error` says.
    pub(super) async fn take_grown_table(&mut self, at: usize, error: Error) -> Result<()> {
        let Some(replan) = &self.replan else { return Err(error) };
        let replanned = replan(Vec::new()).await?;
        self.check(&replanned)?;
        let (before, after) = (self.plan.sources.get(at), replanned.plan.sources.get(at));
        let added = match (before, after) {
            (Some(before), Some(after)) => files::added(&before.schema, &after.schema),
            _ => Vec::new(),
        };
        if added.is_empty() {
            return Err(error);
        }
        self.new_columns.extend(added);
        self.take(replanned).await
    }

    /// Whether sources and stored state are those of the plan so far.
    pub(super) fn check(&self, new: &Replanned) -> Result<()> {
        let titles = |plan: &StreamingPlan| plan.sources.iter().map(|source| source.title.clone()).collect::<Vec<_>>();
        if titles(&new.plan) != titles(&self.plan) {
            return Err(Error::internal(format!(
                "the query read {:?} and now reads {:?}",
                titles(&self.plan),
                titles(&new.plan)
            )));
        }
        // Before the first commit there is no state that could not fit.
        if new.plan.identities != self.plan.identities && self.next_epoch > 0 {
            let told = |plan: &StreamingPlan| {
                let of = |operator: &StateIdentity| {
                    let values =
                        operator.values.iter().map(|value| format!("{} in {}", value.text, value.state.join(", ")));
                    operator
                        .keys
                        .iter()
                        .cloned()
                        .chain(values)
                        .chain([operator.rest.clone()])
                        .collect::<Vec<_>>()
                        .join("; ")
                };
                plan.identities.iter().map(of).collect::<Vec<_>>().join("; ")
            };
            return Err(Diagnostic::new(
                "STATE_INCOMPATIBLE",
                format!(
                    "the stored state is [{}], and with the new columns the query needs [{}]",
                    told(&self.plan),
                    told(&new.plan)
                ),
            )
            .help("name the fields you aggregate instead of the whole structure; REFRESH TABLE … FULL starts over")
            .into());
        }
        Ok(())
    }

    pub(super) async fn take(&mut self, new: Replanned) -> Result<()> {
        for ((_, source), spec) in self.sources.iter_mut().zip(&new.plan.sources) {
            source.rebase(spec).await?;
        }
        self.sink.take_schema(&new.target, widens(&new.plan)?)?;
        if new.plan.identities != self.plan.identities {
            self.checkpoint.describe_operators(&new.plan.identities)?;
        }
        self.plan = new.plan;
        Ok(())
    }
}

/// Whether columns of the stream's table follow its sources to wider types: where a source of files widens them, and
/// where a Delta table is followed or joined, whose columns another stream may widen.
pub fn widens(plan: &StreamingPlan) -> Result<bool> {
    let asked = plan.sources.iter().any(|source| match &source.kind {
        SourceKind::Files(files) => files.options.evolution().widens(),
        SourceKind::Table(_) => true,
    });
    Ok(asked || !super::static_locations(&plan.plan)?.is_empty())
}

fn names(columns: &[NewColumns]) -> String {
    let names = columns.iter().flat_map(|new| &new.added).map(|name| format!("`{name}`"));
    names.collect::<Vec<_>>().join(", ")
}

/// The query cannot be planned, or go on, with the new columns: nothing was stored.
fn without_the_columns(columns: &[NewColumns], error: Error) -> Error {
    let told = |mut diagnostic: Box<Diagnostic>| {
        let sources: Vec<&str> = columns.iter().map(|new| new.title.as_str()).collect();
        diagnostic.message = format!(
            "new columns {} of {} do not go with the query: {}",
            names(columns),
            sources.join(", "),
            diagnostic.message
        );
        diagnostic.help.push("change the query by CREATE OR REFRESH, or use schemaEvolutionMode `rescue`".into());
        diagnostic
    };
    match error {
        Error::Statement(diagnostic) => Error::Statement(told(diagnostic)),
        other => other,
    }
}

fn stored_and_stopped(new: &NewColumns) -> Error {
    let mut diagnostic = new.cause.diagnostic();
    diagnostic.help = vec![format!(
        "version {} of the schema has them; start the stream again to go on (automatic retry: true)",
        new.version.version
    )];
    Error::statement(diagnostic)
}
