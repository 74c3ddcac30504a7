//! Whether a stream's table and state are what its query gives over everything it has read.
//!
//! What was read is read again (`past.rs`): by the stream's own query, beginning with nothing, into a table and a
//! checkpoint in scratch space, in as few epochs as give the same. Both are then compared with the stream's, the table
//! row by row, the state of each operator key by key (`multisets.rs`). Nothing of the stream is changed, locked or
//! waited for: it is looked at as it was behind one epoch, whatever it goes on to do meanwhile.

mod multisets;
mod past;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium_planner::node::{StreamJoinNode, StreamSessionNode};
use alluvium_planner::plan::StreamingPlan;
use alluvium_planner::streaming::{Likeness, likeness, likeness_by_operator};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::JoinType;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;

use crate::checkpoint::Checkpoint;
use crate::epoch::{Pipeline, Watermarks};
use crate::error::{Error, Result};
use crate::operator::Results;
use crate::sink::Sink;
use crate::sink::delta::DeltaSink;
use crate::source::{Again, Source};
use crate::state::{Damage, JoinRows, StateTable};
use crate::table::{self, Head, NewTable};

pub use multisets::Difference;
use multisets::{Multisets, Side};
use past::parts;
pub use past::unverifiable;

/// Scratch files for the rows of a join are made for so many.
const ROWS_OF_JOINS: u64 = 1_000_000;

/// A stream that is to be verified.
pub struct Verified {
    /// Its name in messages.
    pub name: String,
    /// Its query.
    pub plan: StreamingPlan,
    /// Its checkpoint as it is at one moment ([`Checkpoint::open_to_read`]).
    pub checkpoint: Checkpoint,
    /// Where its table lies.
    pub location: PathBuf,
    /// A table like it, with columns as the query gives them.
    pub like: NewTable,
    /// Whether columns of the table follow the sources to wider types.
    pub widens: bool,
    /// Functions, configuration, memory pool.
    pub session: Arc<SessionState>,
    /// Bytes of state that may be kept in memory, and as many for the scratch database.
    pub state_bytes: usize,
}

/// A part of the stream, and how it differs from what it should be.
#[derive(Debug)]
pub struct Compared {
    /// ``table `t` ``, `operator 0`.
    pub what: String,
    /// The difference; None where nothing could be compared.
    pub difference: Option<Difference>,
    /// What else is to be known.
    pub note: String,
    /// What of it could not be read.
    pub damage: Vec<String>,
}

impl Compared {
    /// Whether it is as it should be, as far as that can be told.
    pub fn is_same(&self) -> bool {
        let same = |difference: &Difference| difference.missing == 0 && difference.extra == 0;
        self.damage.is_empty() && self.difference.as_ref().is_none_or(same)
    }
}

/// Compares the stream's table, and the state of its operators, with what they should be.
pub async fn verify(stream: Verified) -> Result<Vec<Compared>> {
    let parts = parts(&stream.checkpoint, &stream.plan, &stream.name, stream.state_bytes as u64).await?;
    let scratch = tempfile::tempdir().map_err(|e| Error::io("create", &std::env::temp_dir(), &e))?;
    let again = scratch.path().join("table");
    let mut pipeline = stream.shadow(scratch.path(), &again).await?;
    for (epoch, part) in parts.iter().enumerate() {
        let intent = part.intent(epoch as u64, &stream.plan.fingerprint);
        pipeline.replay(intent).await.map_err(|error| stream.lost(error))?;
    }
    let mut compared = vec![stream.compare_tables(&again, rows_of(&pipeline)?).await?];
    let mut results = pipeline.results().await?;
    let likeness = likeness_by_operator(&stream.plan.plan)?;
    for expected in &pipeline.states {
        let operator = expected.operator();
        let sides = pipeline.checkpoint.join_rows(operator, None)?;
        if !sides.is_empty() {
            let (checkpoint, what) = (stream.checkpoint.clone(), format!("operator {operator}"));
            let waiting = waiting_sides(&stream.plan, operator)?;
            let blocking = move || compare_join(&checkpoint, operator, &what, sides, waiting);
            compared.extend(table::blocking(blocking).await?);
            continue;
        }
        let what = match (stream.plan.operators.get(operator as usize), StreamSessionNode::of_keys_number(operator)) {
            (Some(info), _) if info.kind == "limit" => format!("operator {operator}: limit"),
            (Some(info), _) => format!("operator {operator}: {} by {}", info.kind, list(&info.keys)),
            (None, Some(operator)) => format!("operator {operator}: which sessions a key has"),
            (None, None) => format!("operator {operator}"),
        };
        let results = results.remove(&operator);
        compared.push(match likeness.get(&operator) {
            Some(Err(why)) => Compared { what, difference: None, note: why.clone(), damage: Vec::new() },
            other => {
                let likeness = other.and_then(|known| known.as_ref().ok()).cloned();
                let (checkpoint, expected) = (stream.checkpoint.clone(), expected.clone());
                let names = stream.plan.operators.get(operator as usize);
                let names =
                    names.map(|info| info.keys.iter().chain(&info.values).cloned().collect()).unwrap_or_default();
                table::blocking(move || compare_state(&checkpoint, what, &expected, (results, names), likeness)).await?
            }
        });
    }
    Ok(compared)
}

impl Verified {
    /// A pipeline that begins with nothing and writes into scratch space.
    async fn shadow(&self, scratch: &Path, again: &Path) -> Result<Pipeline> {
        table::create(again, &self.like).await?;
        let checkpoint = Checkpoint::open_within(&scratch.join("checkpoint"), &self.name, self.state_bytes)?;
        let sink = DeltaSink::open(again, checkpoint.query_id(), self.plan.mode).await?;
        let mut sink = Box::new(sink.upserting(&self.plan, &checkpoint, self.state_bytes / 2)?);
        sink.take_schema(&self.like.schema, self.widens)?;
        let mut states = Vec::new();
        for operator in self.plan.state_tables() {
            states.push(checkpoint.state(operator, self.state_bytes / self.plan.state_tables().len().max(1))?);
        }
        let ids = super::open::sources_of(&self.plan, &self.checkpoint)?.ids;
        let sources = ids.into_iter().zip(&self.plan.sources).enumerate().map(|(at, (id, spec))| {
            let source: Box<dyn Source> = Box::new(Again::new(spec.clone(), &scratch.join("bad_records")));
            (id.unwrap_or_else(|| format!("new {at}")), source)
        });
        Ok(Pipeline {
            plan: self.plan.clone(),
            sources: sources.collect(),
            sink,
            checkpoint,
            states,
            session: self.session.clone(),
            next_epoch: 0,
            statics: HashMap::new(),
            replan: None,
            new_columns: Vec::new(),
            watermarks: Watermarks::default(),
            late_rows: None,
        })
    }

    /// An error of reading again, as what it means here.
    fn lost(&self, error: Error) -> Error {
        let diagnostic = error.diagnostic();
        match diagnostic.code {
            "FILE_VANISHED" | "FILE_NOT_FOUND" => unverifiable(&self.name, &diagnostic.message),
            _ => error,
        }
    }

    async fn compare_tables(&self, again: &Path, rows: u64) -> Result<Compared> {
        let what = format!("table `{}`", self.name);
        let likeness = match likeness(&self.plan.plan) {
            Ok(likeness) => likeness,
            Err(why) => return Ok(Compared { what, difference: None, note: why, damage: Vec::new() }),
        };
        let head = Head::open(&self.location).await?;
        let version = version_behind(&head, &self.checkpoint)?;
        let (columns, mut note) = self.columns(&head, &likeness)?;
        let mut sets = Multisets::new(columns, &likeness, rows)?;
        self.read(&mut sets, Side::Expected, again, None).await?;
        self.read(&mut sets, Side::Found, &self.location, Some(version)).await?;
        let difference = table::blocking(move || sets.compare()).await?;
        if difference.alike > 0 {
            note.push(format!("{} rows are alike, not the same", difference.alike));
        }
        Ok(Compared { what, difference: Some(difference), note: note.join("; "), damage: Vec::new() })
    }

    /// The columns that are compared, with the table's types.
    fn columns(&self, head: &Head, likeness: &[Likeness]) -> Result<(SchemaRef, Vec<String>)> {
        let there = head.schema();
        let mut columns = Vec::new();
        for field in self.plan.schema.fields() {
            let column = there.fields().iter().find(|column| column.name().eq_ignore_ascii_case(field.name()));
            match column {
                Some(column) => columns.push(Field::new(column.name(), column.data_type().clone(), true)),
                None => {
                    let why = format!("its table has no column `{}`, which the query gives", field.name());
                    return Err(unverifiable(&self.name, &why));
                }
            }
        }
        let any = self.plan.schema.fields().iter().zip(likeness).filter(|(_, of)| **of == Likeness::Any);
        let any: Vec<String> = any.map(|(field, _)| format!("`{}`", field.name())).collect();
        let note = match any.is_empty() {
            true => Vec::new(),
            false => vec![format!("{} may be one of several values and is not compared", any.join(", "))],
        };
        Ok((Arc::new(Schema::new(columns)), note))
    }

    /// Reads a table, whole, into `sets`.
    async fn read(&self, sets: &mut Multisets, side: Side, path: &Path, version: Option<u64>) -> Result<()> {
        let provider = table::provider(path, version).await?;
        let plan = LogicalPlanBuilder::scan("t", provider_as_source(provider), None)?.build()?;
        let physical = self.session.create_physical_plan(&plan).await?;
        let mut rows = execute_stream(physical, self.session.task_ctx())?;
        while let Some(batch) = rows.next().await {
            sets.add(side, &in_columns(&batch?, sets.schema())?)?;
        }
        Ok(())
    }
}

/// Compares the state of an operator with what it should be, as results where it has any. Blocks.
fn compare_state(
    checkpoint: &Checkpoint,
    what: String,
    expected: &Arc<StateTable>,
    (results, names): (Option<Results>, Vec<String>),
    likeness: Option<Vec<Likeness>>,
) -> Result<Compared> {
    let damage = Arc::new(Damage::default());
    let found = checkpoint.look_at_state(expected.operator(), Some(damage.clone()))?;
    let schema = match (&results, expected.schema()?) {
        (Some(results), _) => results.schema(),
        (None, Some((schema, _))) => schema,
        (None, None) => Arc::new(Schema::empty()),
    };
    // What is not told as results is partial state, of which only this is known.
    let keys = expected.schema()?.map_or(0, |(_, keys)| keys);
    let any = likeness.as_ref().is_some_and(|likeness| likeness.contains(&Likeness::Any));
    let partial = |(at, field): (usize, &Arc<Field>)| match field.data_type() {
        _ if at < keys => Likeness::Same,
        _ if any => Likeness::Any,
        data_type if data_type.is_floating() => Likeness::Near,
        DataType::List(_) => Likeness::AnyOrder,
        _ => Likeness::Same,
    };
    let likeness = match likeness.filter(|_| results.is_some()) {
        Some(likeness) => likeness,
        None => schema.fields().iter().enumerate().map(partial).collect(),
    };
    let named = |(field, name): (&Arc<Field>, &String)| field.as_ref().clone().with_name(name);
    let schema = match results.is_some() && names.len() == schema.fields().len() {
        true => Arc::new(Schema::new(schema.fields().iter().zip(&names).map(named).collect::<Vec<_>>())),
        false => schema,
    };
    let mut sets = Multisets::new(schema, &likeness, expected.size()?.rows)?;
    for (side, state) in [(Side::Expected, expected.as_ref()), (Side::Found, &found)] {
        for rows in state.scan(None)? {
            let rows = rows?;
            let shown = match &results {
                Some(results) => results.of(&rows)?,
                None => rows,
            };
            sets.add(side, &shown)?;
        }
    }
    let difference = sets.compare()?;
    let note = match difference.alike {
        0 => String::new(),
        alike => format!("{alike} keys are alike, not the same"),
    };
    Ok(Compared { what, difference: Some(difference), note, damage: damage.found() })
}

/// Which sides' rows of a join come out, or do not, by whether they have matched.
fn waiting_sides(plan: &StreamingPlan, operator: u32) -> Result<[bool; 2]> {
    use JoinType as J;
    let mut waiting = [false, false];
    plan.plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Extension(extension) = node
            && let Some(join) = extension.node.as_any().downcast_ref::<StreamJoinNode>()
            && join.operator == operator
        {
            waiting = match join.join_type {
                J::Inner => [false, false],
                J::Full => [true, true],
                J::Left | J::LeftSemi | J::LeftAnti | J::LeftMark => [true, false],
                J::Right | J::RightSemi | J::RightAnti | J::RightMark => [false, true],
            };
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(waiting)
}

/// Compares the rows that a join keeps with what they should be. Blocks.
fn compare_join(
    checkpoint: &Checkpoint,
    operator: u32,
    what: &str,
    expected: Vec<JoinRows>,
    waiting: [bool; 2],
) -> Result<Vec<Compared>> {
    let mut compared = Vec::new();
    for expected in expected {
        let damage = Arc::new(Damage::default());
        let found = checkpoint.join_rows(operator, Some(damage.clone()))?;
        let what = format!("{what}: rows of the {} side of a join", expected.side());
        // Whether a row has matched is kept up for rows that wait for that alone.
        let waits = waiting[usize::from(expected.side() != "left")];
        let mut likeness = vec![Likeness::Same; expected.schema().fields().len()];
        if let Some(matched) = likeness.last_mut().filter(|_| !waits) {
            *matched = Likeness::Any;
        }
        let mut sets = Multisets::new(expected.schema(), &likeness, ROWS_OF_JOINS)?;
        let found: Vec<JoinRows> = found.into_iter().filter(|found| found.side() == expected.side()).collect();
        let found = found.into_iter().map(|found| (Side::Found, found));
        for (side, rows) in std::iter::once((Side::Expected, expected)).chain(found) {
            for rows in rows {
                sets.add(side, &rows?)?;
            }
        }
        let difference = sets.compare()?;
        compared.push(Compared { what, difference: Some(difference), note: String::new(), damage: damage.found() });
    }
    Ok(compared)
}

/// The table's version behind the checkpoint's last epoch, with what others did to it since: an epoch that the stream
/// has published meanwhile, and everything behind it, is left out.
fn version_behind(head: &Head, checkpoint: &Checkpoint) -> Result<u64> {
    let published = checkpoint.last_published()?;
    let mut version = head.version();
    for at in (0..=head.version()).rev() {
        let Some(actions) = head.log().read(at)? else { break };
        let ours = actions.iter().filter_map(|action| action.txn.as_ref());
        let mut ours = ours.filter(|txn| txn.app_id == checkpoint.query_id());
        let Some(epoch) = ours.next().and_then(|txn| u64::try_from(txn.version).ok()) else { continue };
        if published.is_some_and(|published| epoch <= published) {
            break;
        }
        version = at.saturating_sub(1);
    }
    Ok(version)
}

/// Rows that the table has by what the pipeline's operators keep, roughly: how many files to compare them in.
fn rows_of(pipeline: &Pipeline) -> Result<u64> {
    let mut rows = 0;
    pipeline.checkpoint.each_epoch(&mut |record| {
        rows += record.rows_out;
        Ok(())
    })?;
    Ok(rows)
}

/// A batch in these columns, found by name or else by place, with their types.
fn in_columns(batch: &RecordBatch, columns: &SchemaRef) -> Result<RecordBatch> {
    let mut found = Vec::with_capacity(columns.fields().len());
    for (at, field) in columns.fields().iter().enumerate() {
        let schema = batch.schema();
        let same_place = schema.fields().get(at).is_some_and(|known| known.name() == field.name());
        let named = || schema.fields().iter().position(|known| known.name().eq_ignore_ascii_case(field.name()));
        let place = if same_place { Some(at) } else { named() };
        let column = place
            .map(|place| batch.column(place))
            .ok_or_else(|| Error::internal(format!("column `{}` is not among those that were read", field.name())))?;
        found.push(match column.data_type() == field.data_type() {
            true => column.clone(),
            false => cast(column, field.data_type())?,
        });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let nullable = columns.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    let schema = Arc::new(Schema::new(nullable.collect::<Vec<_>>()));
    Ok(RecordBatch::try_new_with_options(schema, found, &options)?)
}

fn list(keys: &[String]) -> String {
    if keys.is_empty() { "nothing".to_string() } else { keys.join(", ") }
}
