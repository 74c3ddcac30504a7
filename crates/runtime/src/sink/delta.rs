//! Epochs into a Delta table, each as one commit that carries the stream's id and the epoch's number.
//!
//! State: the table's head in memory, followed commit by commit. An epoch that the log already has is not written
//! again; this is looked at before writing and after every lost race, because nobody else looks. Knows nothing of
//! where the rows come from.

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use alluvium_parser::{Diagnostic, OutputMode};
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use tokio::task::JoinHandle;

use super::{Sink, Written};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::table::actions::Action;
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
}

impl DeltaSink {
    /// The existing table at `path`, for the stream with this id. Refuses tables that must not be written to.
    pub async fn open(path: &Path, query_id: &str, mode: OutputMode) -> Result<DeltaSink> {
        if mode == OutputMode::Update {
            return Err(Error::statement(
                Diagnostic::new("NOT_SUPPORTED_YET", "OUTPUT MODE UPDATE cannot be written to a Delta table yet")
                    .help("use COMPLETE"),
            ));
        }
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
        })
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
            table::check(&self.head, self.mode == OutputMode::Complete)?;
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
    fn there_already(&self, seen: SeenTransaction, epoch: u64) -> Result<Written> {
        if seen.number > epoch {
            return Err(fenced(&self.query_id, epoch, seen.number));
        }
        self.as_written(seen)
    }

    /// What an epoch wrote that is there already, as far as its commit can still be read.
    fn as_written(&self, seen: SeenTransaction) -> Result<Written> {
        let version = seen.version.or_else(|| self.find(seen.number));
        let Some(at) = version else { return Ok(Written { existed: true, ..Written::default() }) };
        let actions = self.head.log().read(at)?.unwrap_or_default();
        let info = actions.iter().find_map(|action| action.commit_info.as_ref());
        let rows = info.and_then(|info| info["operationMetrics"]["numOutputRows"].as_str()?.parse().ok());
        Ok(Written { rows: rows.unwrap_or(0), version, publish_us: 0, existed: true })
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

    async fn write(&mut self, epoch: u64, partitions: Vec<SendableRecordBatchStream>) -> Result<Written> {
        self.refresh().await?;
        if let Some(seen) = self.head.known_transaction(&self.query_id)
            && seen.number >= epoch
        {
            return self.there_already(seen, epoch);
        }
        self.widen_if_narrow(epoch).await?;
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
