//! A table's newest state in memory, kept up with its log commit by commit: what following costs does not depend on
//! the table's age. Opening replays the log; from a checkpoint on where it has one.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use indexmap::IndexMap;

use super::actions::{Action, AddFile, Metadata, Protocol};
use super::log::Log;
use super::{fence, location, schema};
use crate::error::{Error, Result};

/// How long a head trusts that a missing next version means that there is none. Logs are cleaned after days at the
/// earliest; a head that slept through a cleaning would otherwise take the gap for the end.
const TRUST_IN_ABSENCE: Duration = Duration::from_secs(3600);

/// An application's last transaction, as far as known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenTransaction {
    /// The application's number; a stream's epoch.
    pub number: u64,
    /// The table version that has it; None when it is older than what was replayed commit by commit.
    pub version: Option<u64>,
}

/// The state of a table at one version.
#[derive(Debug)]
pub struct Head {
    path: PathBuf,
    log: Log,
    version: u64,
    protocol: Protocol,
    metadata: Metadata,
    schema: SchemaRef,
    /// By decoded path (and deletion vector), in order of arrival.
    files: IndexMap<String, AddFile>,
    keeps_files: bool,
    transactions: HashMap<String, Option<SeenTransaction>>,
    /// Every transaction of the table's life is in `transactions`.
    transactions_complete: bool,
    /// Counts changes of protocol and metadata.
    generation: u64,
    looked: Instant,
    identity: Option<super::Identity>,
}

impl Head {
    /// The table at `path`, at its latest version.
    pub async fn open(path: &Path) -> Result<Head> {
        let log = Log::of(path);
        let mut head = Head {
            path: path.to_owned(),
            log,
            version: 0,
            protocol: Protocol::default(),
            metadata: Metadata::default(),
            schema: std::sync::Arc::new(arrow::datatypes::Schema::empty()),
            files: IndexMap::new(),
            keeps_files: true,
            transactions: HashMap::new(),
            transactions_complete: true,
            generation: 0,
            looked: Instant::now(),
            identity: None,
        };
        head.load().await?;
        Ok(head)
    }

    /// Lets go of the files, and of those of later commits: who only adds rows need not know them.
    pub fn without_files(mut self) -> Self {
        self.keeps_files = false;
        self.files = IndexMap::new();
        self
    }

    /// Everything anew: from the first commit, or from delta-rs where the log has a checkpoint.
    async fn load(&mut self) -> Result<()> {
        self.identity = self.log.identity();
        self.files.clear();
        let asked: Vec<String> = self.transactions.drain().map(|(app, _)| app).collect();
        let first = match self.log.announced_checkpoint() {
            None => self.log.read(0)?,
            Some(_) => None,
        };
        match first {
            Some(actions) => {
                self.transactions_complete = true;
                self.apply(0, actions)?;
            }
            None if self.log.versions()?.is_empty() && self.log.announced_checkpoint().is_none() => {
                return Err(fence::not_a_table(&self.path));
            }
            None => {
                let loaded = fence::load(&self.path, None).await?;
                self.transactions_complete = false;
                self.version = loaded.version;
                self.protocol = loaded.protocol;
                self.set_metadata(loaded.metadata)?;
                let files = loaded.files.into_iter().filter(|_| self.keeps_files);
                self.files = files.map(|add| (key(&add.path, &add.deletion_vector), add)).collect();
            }
        }
        if self.metadata.schema_string.is_empty() {
            return Err(fence::not_a_table(&self.path));
        }
        self.follow()?;
        // Who was asked for once stays known.
        for app in asked {
            self.transaction(&app).await?;
        }
        Ok(())
    }

    /// Takes in the commits since the last look.
    pub async fn update(&mut self) -> Result<()> {
        if self.log.identity() != self.identity {
            self.load().await?;
        }
        let before = self.version;
        self.follow()?;
        let slept = self.looked.elapsed() > TRUST_IN_ABSENCE;
        if self.version == before && slept && self.log.announced_checkpoint().is_some_and(|at| at > before) {
            self.load().await?;
        }
        self.looked = Instant::now();
        Ok(())
    }

    fn follow(&mut self) -> Result<()> {
        while let Some(actions) = self.log.read(self.version + 1)? {
            self.apply(self.version + 1, actions)?;
        }
        Ok(())
    }

    fn apply(&mut self, version: u64, actions: Vec<Action>) -> Result<()> {
        // Removes first: a commit that removes and adds the same path leaves it there.
        for remove in actions.iter().filter_map(|action| action.remove.as_ref()) {
            self.files.swap_remove(&key(&remove.path, &remove.deletion_vector));
        }
        for action in actions {
            if let Some(add) = action.add.filter(|_| self.keeps_files) {
                self.files.insert(key(&add.path, &add.deletion_vector), AddFile { stats: None, ..add });
            }
            if let Some(protocol) = action.protocol {
                self.generation += 1;
                self.protocol = protocol;
            }
            if let Some(metadata) = action.meta_data {
                self.set_metadata(metadata)?;
            }
            if let Some(txn) = action.txn
                && let Ok(number) = u64::try_from(txn.version)
            {
                self.transactions.insert(txn.app_id, Some(SeenTransaction { number, version: Some(version) }));
            }
        }
        self.version = version;
        Ok(())
    }

    fn set_metadata(&mut self, metadata: Metadata) -> Result<()> {
        self.generation += 1;
        if metadata.schema_string != self.metadata.schema_string {
            self.schema = schema::from_json(&metadata.schema_string)?;
        }
        self.metadata = metadata;
        Ok(())
    }

    /// Where the table lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The version this is the state of.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The columns, partition columns included, in the table's order.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// PARTITIONED BY.
    pub fn partition_columns(&self) -> &[String] {
        &self.metadata.partition_columns
    }

    /// The table's own id; another table at the same place has another one.
    pub fn table_id(&self) -> &str {
        &self.metadata.id
    }

    /// TBLPROPERTIES.
    pub fn properties(&self) -> &BTreeMap<String, String> {
        &self.metadata.configuration
    }

    /// One table property.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.metadata.configuration.get(name).map(String::as_str)
    }

    /// COMMENT.
    pub fn comment(&self) -> Option<&str> {
        self.metadata.description.as_deref()
    }

    /// Schema, properties, id as the log has them.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Required abilities.
    pub fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// The files that make up the table, without statistics.
    pub fn files(&self) -> impl ExactSizeIterator<Item = &AddFile> {
        self.files.values()
    }

    /// Whether this very file, with this very deletion vector, is one of them.
    pub fn holds(&self, add: &AddFile) -> bool {
        self.files.contains_key(&key(&add.path, &add.deletion_vector))
    }

    /// Grows whenever protocol or metadata change.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The application's last transaction number; None for none.
    pub async fn txn(&mut self, app_id: &str) -> Result<Option<u64>> {
        Ok(self.transaction(app_id).await?.map(|seen| seen.number))
    }

    /// The application's last transaction. Costs nothing but the first time an application is asked for in a table
    /// with a checkpoint.
    pub async fn transaction(&mut self, app_id: &str) -> Result<Option<SeenTransaction>> {
        if let Some(seen) = self.transactions.get(app_id) {
            return Ok(*seen);
        }
        if self.transactions_complete {
            return Ok(None);
        }
        let seen =
            fence::transaction(&self.path, app_id).await?.map(|number| SeenTransaction { number, version: None });
        self.transactions.insert(app_id.to_owned(), seen);
        Ok(seen)
    }

    /// The same without looking further than what is in memory: all there is once the application was asked for.
    pub fn known_transaction(&self, app_id: &str) -> Option<SeenTransaction> {
        self.transactions.get(app_id).copied().flatten()
    }

    /// A number from the table's properties.
    pub fn number_property(&self, name: &str) -> Result<Option<u64>> {
        self.property(name)
            .map(|text| {
                text.trim().parse().map_err(|_| {
                    Error::environment(
                        "INVALID_TABLE_PROPERTY",
                        format!("table property `{name}` is `{text}`, not a number"),
                    )
                })
            })
            .transpose()
    }
}

/// Adds and removes of one file meet under the same key however their writers encoded the path.
fn key(path: &str, deletion_vector: &Option<serde_json::Value>) -> String {
    let path = location::decode(path);
    let unique = |vector: &serde_json::Value| {
        let text = |name: &str| vector.get(name).map(|value| value.to_string()).unwrap_or_default();
        format!("{path}\n{}{}{}", text("storageType"), text("pathOrInlineDv"), text("offset"))
    };
    deletion_vector.as_ref().map_or_else(|| path.clone(), unique)
}
