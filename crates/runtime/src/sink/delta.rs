//! Epochs into a Delta table, each as one commit that carries the stream's id and the epoch's number.
//!
//! State: the table's head in memory, followed commit by commit. An epoch that the log already has is not written
//! again; this is looked at before writing and after every lost race, because nobody else looks. Knows nothing of
//! where the rows come from.

#[cfg(test)]
mod tests;
mod upsert;

use std::path::Path;
use std::sync::Arc;

use alluvium_parser::{Diagnostic, OutputMode};
use alluvium_planner::plan::StreamingPlan;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use tokio::task::JoinHandle;

use self::upsert::{Changes, Upserts};
use super::{Sink, SinkCommit, Touched, Written};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::table::actions::{Action, Transaction};
use crate::table::{self, Conform, Grown, Head, Layout, Operation, SeenTransaction, Staged};

/// The table a stream writes to. A checkpoint of the log that is being written when this is dropped is finished; cut
/// off half-way it has no name yet, and no reader sees it.
pub struct DeltaSink {
    head: Head,
    query_id: String,
    /// Another table at the same place is not ours.
    table_id: String,
    mode: OutputMode,
    /// Columns that rows have; None: those of the table.
    wanted: Option<SchemaRef>,
    /// Whether columns of the table that are narrower than those of `wanted` are made wider.
    widens: bool,
    /// Some are: that comes before the next epoch is written.
    narrow: bool,
    /// The table as the next commit makes it, where it lacks columns of `wanted`.
    grown: Option<Grown>,
    layout: Arc<Layout>,
    /// The head's generation that `layout` and the checks belong to.
    generation: u64,
    /// Version of the last checkpoint of the log that is there or being written.
    log_checkpointed: u64,
    log_checkpoint: Option<JoinHandle<()>>,
    /// Where rows take the place of others.
    upserts: Option<Upserts>,
}

impl DeltaSink {
    /// The existing table at `path`, for the stream with this id. Refuses tables that must not be written to.
    pub async fn open(path: &Path, query_id: &str, mode: OutputMode) -> Result<DeltaSink> {
        let mut head = match mode {
            OutputMode::Append => Head::open(path).await?.without_files(),
            _ => Head::open(path).await?,
        };
        table::check(&head, mode == OutputMode::Complete)?;
        head.txn(query_id).await?;
        let layout = Arc::new(Layout::new(path, head.metadata())?);
        let generation = head.generation();
        // Streams that live for one epoch at a time catch up here on what they have no time for at their end.
        table::checkpoint_log_if_due(&head, head.version()).await;
        let log_checkpointed = head.log().announced_checkpoint().unwrap_or(0);
        let table_id = head.table_id().to_owned();
        Ok(DeltaSink {
            head,
            query_id: query_id.to_owned(),
            table_id,
            mode,
            wanted: None,
            widens: false,
            narrow: false,
            grown: None,
            layout,
            generation,
            log_checkpointed,
            log_checkpoint: None,
            upserts: None,
        })
    }

    /// For a plan whose rows may take the place of others: those are remembered in `checkpoint`, where the mode and the
    /// table allow it. `budget`: bytes that may be kept in memory for it.
    pub fn upserting(mut self, plan: &StreamingPlan, checkpoint: &Checkpoint, budget: usize) -> Result<DeltaSink> {
        let vectors = table::takes_deletion_vectors(self.head.protocol(), self.head.metadata());
        match (&plan.upsert, plan.mode) {
            (Some(upsert), OutputMode::Update) => {
                table::upsertable(self.head.metadata())?;
                self.upserts = Some(Upserts::open(upsert, &plan.schema, checkpoint, budget)?);
            }
            // Readers of a table without deletion vectors are spared them; all of it is then written again.
            (Some(upsert), OutputMode::Complete) if vectors && table::upsertable(self.head.metadata()).is_ok() => {
                let upserts = Upserts::open(upsert, &plan.schema, checkpoint, budget)?;
                self.upserts = Some(upserts.of_query(plan.plan.display_indent().to_string())?);
            }
            (None, OutputMode::Update) => self.head = self.head.without_files(),
            _ => {}
        }
        Ok(self)
    }

    /// Whether an epoch takes rows away.
    fn removes(&self) -> bool {
        self.mode == OutputMode::Complete || self.upserts.is_some()
    }

    /// The table's columns.
    pub fn schema(&self) -> SchemaRef {
        self.head.schema()
    }

    /// Refuses rows of this schema if the table cannot take them: a column it does not have, a NOT NULL column that
    /// is missing.
    pub fn accepts(&self, rows: &Schema) -> Result<()> {
        Conform::plan(rows, self.layout.schema()).map(|_| ())
    }

    /// Takes in what others committed, and their changes of schema and properties.
    async fn refresh(&mut self) -> Result<()> {
        self.head.update().await?;
        if self.head.generation() != self.generation {
            if self.head.table_id() != self.table_id {
                return Err(replaced(self.head.path()));
            }
            table::check(&self.head, self.removes())?;
            if self.upserts.is_some() {
                table::upsertable(self.head.metadata())?;
            }
            self.arrange()?;
        }
        Ok(())
    }

    /// How files are written to the table as it is, with the columns it is to get.
    fn arrange(&mut self) -> Result<()> {
        let (protocol, metadata) = (self.head.protocol(), self.head.metadata());
        self.narrow = match &self.wanted {
            Some(wanted) if self.widens => !table::narrow(metadata, wanted)?.is_empty(),
            _ => false,
        };
        self.grown = match &self.wanted {
            Some(wanted) => table::grown(protocol, metadata, wanted)?,
            None => None,
        };
        let metadata = self.grown.as_ref().map_or(metadata, |grown| &grown.metadata);
        self.layout = Arc::new(Layout::new(self.head.path(), metadata)?);
        self.generation = self.head.generation();
        Ok(())
    }

    /// Gives columns of the table the types that rows have by now, in a commit of its own. A crash behind it leaves a
    /// table with room for what its stream reads next.
    async fn widen_if_narrow(&mut self, epoch: u64) -> Result<()> {
        if let (true, Some(wanted)) = (self.narrow, &self.wanted) {
            failpoint::reached("before_widening", epoch);
            table::widen(self.head.path(), wanted).await?;
            failpoint::reached("after_widening", epoch);
            self.refresh().await?;
        }
        Ok(())
    }

    /// The table has this epoch, or a later one, which only another process can have written.
    fn there_already(&mut self, seen: SeenTransaction, epoch: u64) -> Result<Written> {
        if seen.number > epoch {
            return Err(fenced(&self.query_id, epoch, seen.number));
        }
        let (written, info) = self.as_written(seen)?;
        if let Some(upserts) = &mut self.upserts {
            let id = info.as_ref().and_then(|info| info["txnId"].as_str());
            upserts.recover(epoch, id, written.version, &self.layout)?;
        }
        Ok(written)
    }

    /// The epoch's rows in the place of others. `None`: another process was faster with this epoch.
    async fn write_upserts(
        &mut self,
        upserts: &mut Upserts,
        epoch: u64,
        partitions: Vec<SendableRecordBatchStream>,
        touched: Touched<'_>,
    ) -> Result<Result<Written, SeenTransaction>> {
        upserts.follow(&self.head, &self.layout)?;
        let vectors = table::takes_deletion_vectors(self.head.protocol(), self.head.metadata());
        let mut changes = upserts.run(epoch, &self.layout, partitions, touched, vectors).await?;
        failpoint::reached("after_data_files", epoch);
        if changes.is_empty() {
            upserts.unpublished(changes);
            return Ok(Ok(Written::default()));
        }
        changes.staged.sync().await?;
        upserts.note(epoch, &changes)?;
        failpoint::reached("after_note", epoch);
        let staged = std::mem::take(&mut changes.staged);
        let operation = Operation::StreamingUpdate { mode: self.mode, query_id: self.query_id.clone(), epoch };
        let (query_id, generation) = (self.query_id.clone(), self.generation);
        let grown = self.grown.clone();
        let mut overtaken = None;
        let written = table::publish_until_done(&mut self.head, staged, |head, _| {
            if let Some(seen) = head.known_transaction(&query_id)
                && seen.number >= epoch
            {
                overtaken = Some(seen);
                return Ok(None);
            }
            failpoint::reached("before_publish", epoch);
            if head.generation() != generation || !upserts.fits(head) {
                return Err(table::changed_meanwhile());
            }
            Ok(Some(commit_lines(head, &changes, &operation, &grown, &query_id, epoch)))
        })
        .await?;
        failpoint::reached("after_publish", epoch);
        match (overtaken, written.version) {
            (Some(seen), _) => Ok(Err(seen)),
            (None, Some(version)) => {
                let rows = changes.rows;
                upserts.published(changes, version)?;
                self.write_log_checkpoint_if_due(version);
                Ok(Ok(Written { rows, ..written }))
            }
            (None, None) => Ok(Ok(written)),
        }
    }

    /// What an epoch wrote that is there already, as far as its commit can still be read, and what that says of itself.
    fn as_written(&self, seen: SeenTransaction) -> Result<(Written, Option<serde_json::Value>)> {
        let version = seen.version.or_else(|| self.find(seen.number));
        let Some(at) = version else { return Ok((Written { existed: true, ..Written::default() }, None)) };
        let actions = self.head.log().read(at)?.unwrap_or_default();
        let info = actions.into_iter().find_map(|action| action.commit_info);
        let rows = info.as_ref().and_then(|info| info["operationMetrics"]["numOutputRows"].as_str()?.parse().ok());
        Ok((Written { rows: rows.unwrap_or(0), version, publish_us: 0, existed: true }, info))
    }

    /// The version of an epoch's commit, which is among the last ones when it matters.
    fn find(&self, epoch: u64) -> Option<u64> {
        (0..=self.head.version()).rev().take(100).find(|version| {
            let actions = self.head.log().read(*version).ok().flatten().unwrap_or_default();
            let mut transactions = actions.iter().filter_map(|action| action.txn.as_ref());
            transactions.any(|txn| txn.app_id == self.query_id && txn.version == epoch as i64)
        })
    }

    /// Starts a checkpoint of the log when one is due and none is being written. It only makes opening faster, so
    /// its failure is nobody's failure; the next one is tried when it is due.
    fn write_log_checkpoint_if_due(&mut self, version: u64) {
        let due = version.saturating_sub(self.log_checkpointed) >= table::commits_per_checkpoint(&self.head);
        let busy = self.log_checkpoint.as_ref().is_some_and(|task| !task.is_finished());
        if due && !busy {
            self.log_checkpointed = version;
            let path = self.head.path().to_owned();
            self.log_checkpoint = Some(tokio::spawn(async move {
                let _ = table::write_log_checkpoint(&path, version).await;
            }));
        }
    }

    /// Waits until no checkpoint of the log is being written.
    pub async fn settled(&mut self) {
        if let Some(task) = self.log_checkpoint.take() {
            let _ = task.await;
        }
    }
}

#[async_trait]
impl Sink for DeltaSink {
    async fn last_epoch(&mut self) -> Result<Option<u64>> {
        self.refresh().await?;
        let path = self.head.path().to_owned();
        table::blocking(move || table::sync(&path)).await?;
        self.head.txn(&self.query_id).await
    }

    fn take_schema(&mut self, schema: &SchemaRef, widens: bool) -> Result<()> {
        (self.wanted, self.widens) = (Some(schema.clone()), widens);
        self.arrange()
    }

    fn takes_changes(&self) -> bool {
        self.upserts.as_ref().is_some_and(|upserts| !upserts.wants_all())
    }

    fn take_commit(&mut self) -> SinkCommit {
        self.upserts.as_mut().map(Upserts::take_commit).unwrap_or_default()
    }

    async fn write(
        &mut self,
        epoch: u64,
        partitions: Vec<SendableRecordBatchStream>,
        touched: Touched<'_>,
    ) -> Result<Written> {
        self.refresh().await?;
        if let Some(seen) = self.head.known_transaction(&self.query_id)
            && seen.number >= epoch
        {
            return self.there_already(seen, epoch);
        }
        self.widen_if_narrow(epoch).await?;
        if let Some(mut upserts) = self.upserts.take_if(|upserts| !upserts.wants_all()) {
            let written = self.write_upserts(&mut upserts, epoch, partitions, touched).await;
            self.upserts = Some(upserts);
            return match written? {
                Ok(written) => Ok(written),
                Err(seen) => self.there_already(seen, epoch),
            };
        }
        let staged = Staged::write(self.layout.clone(), partitions).await?;
        failpoint::reached("after_data_files", epoch);
        let operation = Operation::StreamingUpdate { mode: self.mode, query_id: self.query_id.clone(), epoch };
        let (query_id, planned) = (&self.query_id, self.head.metadata().clone());
        let grown = self.grown.clone();
        let mut overtaken = None;
        let written = table::publish_until_done(&mut self.head, staged, |head, staged| {
            if let Some(seen) = head.known_transaction(query_id)
                && seen.number >= epoch
            {
                overtaken = Some(seen);
                return Ok(None);
            }
            table::check(head, operation.replaces_rows())?;
            let now = head.metadata();
            let same = now.id == planned.id
                && now.schema_string == planned.schema_string
                && now.partition_columns == planned.partition_columns;
            // Nothing to add and nothing to take away leaves no trace in the table.
            if staged.files() == 0 && !operation.replaces_rows() {
                return Ok(None);
            }
            failpoint::reached("before_publish", epoch);
            if !same {
                return Err(table::changed_meanwhile());
            }
            let mut lines = table::lines(head, staged, &operation);
            if let Some(Grown { metadata, protocol }) = &grown {
                lines.insert(1, Action::metadata(metadata.clone()));
                lines.extend(protocol.clone().map(Action::protocol));
            }
            Ok(Some(lines))
        })
        .await?;
        failpoint::reached("after_publish", epoch);
        match (overtaken, written.version) {
            (Some(seen), _) => self.there_already(seen, epoch),
            (None, Some(version)) => {
                self.write_log_checkpoint_if_due(version);
                Ok(written)
            }
            (None, None) => Ok(written),
        }
    }
}

/// An epoch's commit, with the columns that the table gets with it.
fn commit_lines(
    head: &Head,
    changes: &Changes,
    operation: &Operation,
    grown: &Option<Grown>,
    query_id: &str,
    epoch: u64,
) -> Vec<Action> {
    let last_updated = Some(crate::clock::now_ms());
    let transaction = Transaction { app_id: query_id.to_owned(), version: epoch as i64, last_updated };
    let mut lines = changes.lines(head, operation, Action::txn(transaction));
    if let Some(Grown { metadata, protocol }) = grown {
        lines.insert(1, Action::metadata(metadata.clone()));
        lines.extend(protocol.clone().map(Action::protocol));
    }
    lines
}

fn replaced(path: &Path) -> Error {
    Error::Environment(Box::new(
        Diagnostic::new(
            "DIFFERENT_DELTA_TABLE",
            format!("the table at `{}` was replaced by another one while the stream was running", path.display()),
        )
        .help("drop and create the streaming table, or put the former table back"),
    ))
}

pub(crate) fn fenced(query_id: &str, epoch: u64, ahead: u64) -> Error {
    Error::Environment(Box::new(
        Diagnostic::new(
            "STREAM_FENCED",
            format!("epoch {epoch} of stream {query_id} was overtaken: another process has committed epoch {ahead} to its table"),
        )
        .help("only one process may run a stream; stop the other one"),
    ))
}
