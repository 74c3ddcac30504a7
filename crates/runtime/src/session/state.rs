//! `read_state`: what a stream keeps, as a relation with a row per key; of a join of streams with a row per row (`join_state.rs`).
//!
//! The checkpoint is looked at as it is when the query begins to read, behind one epoch, whether the stream runs or not;
//! rows come some thousands at a time, so state may be of any size.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Weak};

use alluvium_parser::{Diagnostic, Name, Span};
use alluvium_planner::bind::Resolved;
use alluvium_planner::relation::{StaticReference, StaticRelation};
use alluvium_planner::streaming::StateIdentity;
use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::PartitionStream;

use crate::catalog::{Entry, StreamEntry};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::query::stored_identity;
use crate::session::join_state::JoinStateRows;
use crate::session::{Inner, Session};
use crate::state::times_of;

/// Batches that may wait between the reading thread and the plan.
pub(super) const QUEUE: usize = 2;

impl Session {
    /// The state of a stream's operator as a relation; None: of its only one.
    pub(super) fn state_of_stream(&self, table: &str, operator: Option<u32>, span: Span) -> Result<Resolved> {
        let name = Name { parts: table.split('.').map(str::to_string).collect(), span };
        let (entry, stream) = self.streaming_entry(&name)?;
        let no_state = |what: &str, help: &str| {
            Error::from(
                Diagnostic::new("NO_STATE", format!("stream `{}` {what}", entry.name)).at(span).help(help.to_string()),
            )
        };
        let join = self.read_checkpoint(&entry, &stream, |checkpoint| {
            let operators = checkpoint.operators()?;
            let Some(asked) = operator.or((operators.len() == 1).then(|| operators[0])) else { return Ok(None) };
            let sides = checkpoint.join_rows(asked, None)?;
            Ok((!sides.is_empty()).then_some((asked, stored_identity(checkpoint, asked)?, sides)))
        })?;
        if let Some((operator, identity, sides)) = join.flatten() {
            let kind = identity.map(|identity| identity.kind);
            let rows = JoinStateRows::new(Arc::downgrade(&self.inner), stream, (operator, kind), sides)?;
            return resolved(Arc::new(rows));
        }
        let found = self.read_checkpoint(&entry, &stream, |checkpoint| {
            let operators = checkpoint.operators()?;
            let columns = |operator: u32| checkpoint.state_columns(operator);
            Ok(match (operator, operators.as_slice()) {
                (Some(operator), _) => columns(operator)?.map(|columns| (operator, columns)).ok_or(operators),
                (None, [only]) => columns(*only)?.map(|columns| (*only, columns)).ok_or(operators),
                (None, _) => Err(operators),
            })
        })?;
        let (operator, (schema, keys, time)) = match (found, operator) {
            (Some(Ok(found)), _) => found,
            (None, _) => return Err(no_state("has not been started, so it keeps nothing", "REFRESH TABLE starts it")),
            (Some(Err(operators)), _) if operators.is_empty() => {
                return Err(no_state(
                    "keeps no state",
                    "queries with GROUP BY, DISTINCT, DEDUPLICATE BY or LIMIT do, and joins of two streams",
                ));
            }
            (Some(Err(operators)), None) => {
                let what = format!("keeps the state of {} operators: {}", operators.len(), numbers(&operators));
                return Err(no_state(&what, &format!("name one: read_state('{table}', {})", operators[0])));
            }
            (Some(Err(operators)), Some(operator)) => {
                let what = format!("has no operator {operator} with state; there is {}", numbers(&operators));
                return Err(no_state(&what, "EXPLAIN and DESCRIBE STREAM show the operators"));
            }
        };
        let identity = self.read_checkpoint(&entry, &stream, |checkpoint| stored_identity(checkpoint, operator))?;
        let identity = identity.flatten();
        let rows = StateRows {
            session: Arc::downgrade(&self.inner),
            entry,
            stream,
            operator,
            schema: shown(&schema, keys, time.is_some(), identity.as_ref()),
            kind: identity.map(|identity| identity.kind),
            time,
        };
        resolved(Arc::new(rows))
    }
}

fn resolved(rows: Arc<dyn PartitionStream>) -> Result<Resolved> {
    let provider = Arc::new(StreamingTable::try_new(rows.schema().clone(), vec![rows])?);
    Ok(Resolved {
        provider: Arc::new(StaticRelation { reference: StaticReference::Fixed, provider }),
        has_metadata: false,
    })
}

fn numbers(operators: &[u32]) -> String {
    operators.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

/// Columns of the relation: the operator's number and kind, until when a row is kept where that is known, key and state
/// columns, called as in the query where that is known.
fn shown(state: &Schema, keys: usize, timed: bool, identity: Option<&StateIdentity>) -> SchemaRef {
    let stored: Vec<String> = state.fields().iter().map(|field| field.name().clone()).collect();
    let names = identity.and_then(|identity| readable(identity, &stored, keys)).unwrap_or(stored);
    // A key may have the same name.
    let own = |name: &str| match names.iter().any(|taken| taken.eq_ignore_ascii_case(name)) {
        true => format!("_{name}"),
        false => name.to_string(),
    };
    let mut fields =
        vec![Field::new(own("operator"), DataType::Int32, false), Field::new(own("kind"), DataType::Utf8, true)];
    if timed {
        let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        fields.push(Field::new(own("kept_until"), instant, true));
    }
    let named = state.fields().iter().zip(&names);
    fields.extend(named.map(|(field, name)| Field::new(name, field.data_type().clone(), true)));
    Arc::new(Schema::new(fields))
}

/// `sum(v)[sum]` for `sum(__relation_0.v)[sum]`; None where names would not be different.
fn readable(identity: &StateIdentity, stored: &[String], keys: usize) -> Option<Vec<String>> {
    let width: usize = identity.values.iter().map(|value| value.state.len()).sum();
    if identity.names.len() != keys + identity.values.len() || stored.len() != keys + width {
        return None;
    }
    let (of_keys, of_values) = identity.names.split_at(keys);
    let mut names = of_keys.to_vec();
    for (value, name) in identity.values.iter().zip(of_values) {
        for _ in &value.state {
            let part = stored[names.len()].rsplit_once('[').map_or(String::new(), |(_, part)| format!("[{part}"));
            names.push(format!("{name}{part}"));
        }
    }
    let different: HashSet<String> = names.iter().map(|name| name.to_lowercase()).collect();
    (different.len() == names.len()).then_some(names)
}

/// Rows of an operator's state as they are when the query begins to read.
struct StateRows {
    session: Weak<Inner>,
    entry: Entry,
    stream: StreamEntry,
    operator: u32,
    kind: Option<String>,
    time: Option<usize>,
    schema: SchemaRef,
}

impl fmt::Debug for StateRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateRows({}, {})", self.entry.name, self.operator)
    }
}

impl PartitionStream for StateRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = self.schema.clone();
        let (operator, kind, time) = (self.operator, self.kind.clone(), self.time);
        from_checkpoint(&self.session, &self.stream, &self.schema, move |checkpoint, out| {
            for rows in checkpoint.look_at_state(operator, None)?.scan(None)? {
                if !out(with_operator(&rows?, operator, kind.as_deref(), time, &schema)?) {
                    break;
                }
            }
            Ok(())
        })
    }
}

/// Rows that `read` gives out of a stream's checkpoint as it is then, until it is told that nobody wants more.
pub(super) fn from_checkpoint(
    session: &Weak<Inner>,
    stream: &StreamEntry,
    schema: &SchemaRef,
    read: impl FnOnce(&Checkpoint, &mut dyn FnMut(RecordBatch) -> bool) -> Result<()> + Send + 'static,
) -> SendableRecordBatchStream {
    let mut builder = RecordBatchReceiverStreamBuilder::new(schema.clone(), QUEUE);
    let out = builder.tx();
    let (session, stream) = (session.clone(), stream.clone());
    builder.spawn_blocking(move || {
        // A session that has gone needs no rows.
        let Some(_session) = session.upgrade() else { return Ok(()) };
        let Some(checkpoint) = Checkpoint::open_to_read(&stream.checkpoint)? else { return Ok(()) };
        Ok(read(&checkpoint, &mut |rows| out.blocking_send(Ok(rows)).is_ok())?)
    });
    builder.build()
}

fn with_operator(
    rows: &RecordBatch,
    operator: u32,
    kind: Option<&str>,
    time: Option<usize>,
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let count = rows.num_rows();
    let mut columns: Vec<ArrayRef> =
        vec![Arc::new(Int32Array::from(vec![operator as i32; count])), Arc::new(StringArray::from(vec![kind; count]))];
    if let Some(time) = time {
        columns.push(Arc::new(times_of(rows.column(time))?.with_timezone("UTC")));
    }
    columns.extend(rows.columns().iter().cloned());
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}
