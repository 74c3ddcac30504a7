//! Data files of a commit that is not there yet: streams of rows in, durable Parquet files and their adds out.
//!
//! The streams run side by side. A stream that ends early hands its few rows over, so that little data becomes one
//! file; what is more than that is written as it comes. Files nobody commits are harmless: no reader sees them.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use indexmap::IndexMap;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use tokio::task::JoinSet;

use super::actions::{AddFile, Metadata};
use super::conform::Conform;
use super::log::{blocking, create_directories, sync_directory};
use super::partition::{self, Part, Values};
use super::statistics::{self, NanWatch};
use super::{commit, dictionary, location, schema};
use crate::error::{Error, Result};

/// From here on a stream writes files of its own.
const OWN_FILE_ROWS: usize = 32_768;
const OWN_FILE_BYTES: usize = 8 << 20;
/// A file that is larger than this is closed and another one begun.
pub(super) const FILE_BYTES: usize = 256 << 20;
/// Encoded bytes a row group holds in memory before it is written out.
const ROW_GROUP_BYTES: usize = 32 << 20;
/// Rows of all partitions a stream holds back, and partitions it keeps files open for.
const HELD_BYTES: usize = 64 << 20;
pub(super) const OPEN_FILES: usize = 64;
/// Encoded bytes that the open files of a stream hold in memory together.
pub(super) const ENCODING_BYTES: usize = 64 << 20;

/// Where and how a table's files are written.
#[derive(Debug)]
pub struct Layout {
    root: PathBuf,
    schema: SchemaRef,
    file_schema: SchemaRef,
    partition_names: Vec<String>,
    partition_columns: Vec<usize>,
    file_columns: Vec<usize>,
    statistics_columns: usize,
}

impl Layout {
    /// The layout of the table with this metadata.
    pub fn new(root: &Path, metadata: &Metadata) -> Result<Self> {
        let schema = schema::from_json(&metadata.schema_string)?;
        let partition_columns =
            metadata.partition_columns.iter().map(|name| schema.index_of(name)).collect::<Result<Vec<_>, _>>()?;
        let file_columns: Vec<_> = (0..schema.fields().len()).filter(|at| !partition_columns.contains(at)).collect();
        // Field metadata (comments) belongs to the log, not into every file.
        let file_fields: Vec<_> =
            file_columns.iter().map(|at| schema.field(*at).clone().with_metadata(Default::default())).collect();
        let statistics_columns =
            match metadata.configuration.get("delta.dataSkippingNumIndexedCols").map(|n| n.parse::<i64>()) {
                Some(Ok(-1)) => usize::MAX,
                Some(Ok(columns)) => columns.max(0) as usize,
                _ => 32,
            };
        Ok(Layout {
            root: root.to_owned(),
            file_schema: Arc::new(Schema::new(file_fields)),
            partition_names: metadata.partition_columns.clone(),
            partition_columns,
            file_columns,
            statistics_columns,
            schema,
        })
    }

    /// The table's columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns of the files: those that are not partitioned by.
    pub fn file_schema(&self) -> &SchemaRef {
        &self.file_schema
    }

    /// Where a column of the table is: among the columns of the files, or among those that are partitioned by.
    pub fn place(&self, column: usize) -> ColumnPlace {
        match self.partition_columns.iter().position(|at| *at == column) {
            Some(at) => ColumnPlace::Partition(at),
            None => ColumnPlace::File(self.file_columns.iter().position(|at| *at == column).unwrap_or_default()),
        }
    }

    /// The rows of a batch of the table's columns by partition, without the partition columns.
    pub fn split(&self, batch: RecordBatch) -> Result<Vec<Part>> {
        partition::split(batch, &self.partition_columns, &self.file_columns)
    }

    /// The partition that a file belongs to.
    pub fn values(&self, add: &AddFile) -> Values {
        self.partition_names.iter().map(|name| add.partition_values.get(name).cloned().flatten()).collect()
    }

    /// Where the table lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A directory of one partition, relative to the table; empty without PARTITIONED BY.
    fn directory(&self, values: &Values) -> String {
        let parts = self.partition_names.iter().zip(values);
        parts.map(|(name, value)| location::partition_directory(name, value.as_deref()) + "/").collect()
    }
}

/// Where a column's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnPlace {
    /// In the data files, at this position.
    File(usize),
    /// In the log: this one of the partition columns.
    Partition(usize),
}

/// Files that are written and belong to no version yet.
///
/// Dropped, it takes them away, unless a commit names them or may name them ([`Staged::kept`]).
#[derive(Debug, Default)]
pub struct Staged {
    files: Vec<StagedFile>,
    /// Files that are no data files but come and go with them.
    beside: Vec<PathBuf>,
    kept: bool,
}

impl Drop for Staged {
    fn drop(&mut self) {
        for path in self.paths().filter(|_| !self.kept) {
            // One that cannot be removed stays as an orphan, which VACUUM takes.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[derive(Debug)]
pub(super) struct StagedFile {
    pub(super) add: AddFile,
    path: PathBuf,
    pub(super) rows: u64,
}

impl Staged {
    /// Writes the rows of all streams. On failure the files written so far are taken away.
    pub async fn write(layout: Arc<Layout>, partitions: Vec<SendableRecordBatchStream>) -> Result<Staged> {
        let mut staged = Staged::default();
        staged.collect(&layout, partitions).await?;
        Ok(staged)
    }

    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.iter().map(|file| &file.path).chain(&self.beside)
    }

    pub(super) fn push(&mut self, file: StagedFile) {
        self.files.push(file);
    }

    /// Takes over the files of another.
    pub fn append(&mut self, mut other: Staged) {
        self.files.append(&mut other.files);
        self.beside.append(&mut other.beside);
    }

    /// Takes in a file that is no data file.
    pub fn push_beside(&mut self, path: PathBuf) {
        self.beside.push(path);
    }

    /// Whether the files outlive this value: true from the moment a commit that names them may exist.
    pub fn keep(&mut self, kept: bool) {
        self.kept = kept;
    }

    async fn collect(&mut self, layout: &Arc<Layout>, partitions: Vec<SendableRecordBatchStream>) -> Result<()> {
        let mut rest: IndexMap<Values, Pile> = IndexMap::new();
        let mut running = JoinSet::new();
        let alone = partitions.len() == 1;
        for stream in partitions {
            let drain = Drain::new(layout, IndexMap::new());
            if alone {
                self.take(drain.run(stream).await, &mut rest)?;
            } else {
                running.spawn(drain.run(stream));
            }
        }
        let mut failure = None;
        while let Some(ended) = running.join_next().await {
            let ended = match ended {
                Ok(drained) => self.take(drained, &mut rest),
                Err(error) if error.is_cancelled() => Ok(()),
                Err(error) => Err(Error::internal(format!("writing data files ended early: {error}"))),
            };
            if let Err(error) = ended {
                running.abort_all();
                failure.get_or_insert(error);
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        let mut last = Drain::new(layout, rest);
        let written = last.write_all();
        self.files.append(&mut last.files);
        written
    }

    fn take(&mut self, drained: (Drain, Result<()>), rest: &mut IndexMap<Values, Pile>) -> Result<()> {
        let (mut drain, result) = drained;
        self.files.append(&mut drain.files);
        result?;
        for (values, pile) in std::mem::take(&mut drain.piles) {
            let all = rest.entry(values).or_default();
            all.rows += pile.rows;
            all.batches.extend(pile.batches);
        }
        Ok(())
    }

    /// The adds of a commit.
    pub fn adds(&self) -> impl Iterator<Item = AddFile> + '_ {
        self.files.iter().map(|file| file.add.clone())
    }

    /// How many.
    pub fn files(&self) -> u64 {
        self.files.len() as u64
    }

    /// Rows in all of them.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.add.size).sum()
    }

    /// Makes the files and their names durable. The files are synced side by side: a journal is flushed once for all.
    pub async fn sync(&self) -> Result<()> {
        let mut running = JoinSet::new();
        for path in self.paths() {
            let path = path.clone();
            running.spawn(blocking(move || {
                File::open(&path).and_then(|file| file.sync_all()).map_err(|error| Error::io("sync", &path, &error))
            }));
        }
        let directories: BTreeSet<_> = self.paths().filter_map(|path| path.parent()).map(Path::to_owned).collect();
        for directory in directories {
            running.spawn(blocking(move || sync_directory(&directory)));
        }
        while let Some(done) = running.join_next().await {
            done.map_err(|error| Error::internal(format!("a sync ended early: {error}")))??;
        }
        Ok(())
    }
}

/// Rows of one partition that are not in a closed file yet.
#[derive(Default)]
struct Pile {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
    open: Option<OpenFile>,
}

/// One stream being written. Dropped before its files are handed over, it takes them away.
struct Drain {
    layout: Arc<Layout>,
    files: Vec<StagedFile>,
    piles: IndexMap<Values, Pile>,
    /// Bytes of rows that are in no file.
    held: usize,
    open_files: usize,
    /// Bytes of the row groups that the open files hold in memory.
    encoding: usize,
}

impl Drain {
    fn new(layout: &Arc<Layout>, piles: IndexMap<Values, Pile>) -> Self {
        Drain { layout: layout.clone(), files: Vec::new(), piles, held: 0, open_files: 0, encoding: 0 }
    }

    /// Reads the stream to its end. The files are given back in any case, so that they can be taken away.
    async fn run(mut self, stream: SendableRecordBatchStream) -> (Self, Result<()>) {
        let result = self.read(stream).await;
        (self, result)
    }

    async fn read(&mut self, mut stream: SendableRecordBatchStream) -> Result<()> {
        let conform = Conform::plan(&stream.schema(), &self.layout.schema)?;
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            if batch.num_rows() == 0 {
                continue;
            }
            let batch = conform.apply(&batch)?;
            for part in self.layout.split(batch)? {
                self.add(part.values, part.batch)?;
            }
        }
        self.close_open_files()
    }

    fn add(&mut self, values: Values, batch: RecordBatch) -> Result<()> {
        let bytes = batch.get_array_memory_size();
        let pile = self.piles.entry(values.clone()).or_default();
        pile.rows += batch.num_rows();
        pile.bytes += bytes;
        pile.batches.push(batch);
        self.held += bytes;
        if pile.open.is_some() || pile.rows >= OWN_FILE_ROWS || pile.bytes >= OWN_FILE_BYTES {
            self.flush(&values)?;
        }
        if self.held > HELD_BYTES {
            self.flush_largest()?;
        }
        self.keep_within_limits()
    }

    /// Moves the largest piles into files until half of what may be held is left: one look at all piles for many rows.
    fn flush_largest(&mut self) -> Result<()> {
        let mut piles: Vec<_> = self.piles.iter().map(|(values, pile)| (pile.bytes, values.clone())).collect();
        piles.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        for (_, values) in piles {
            if self.held <= HELD_BYTES / 2 {
                break;
            }
            self.flush(&values)?;
            self.keep_within_limits()?;
        }
        Ok(())
    }

    /// Open files cost a row group each.
    fn keep_within_limits(&mut self) -> Result<()> {
        if self.open_files > OPEN_FILES || self.encoding > ENCODING_BYTES && self.open_files > 1 {
            self.close_open_files()?;
        }
        Ok(())
    }

    /// Moves a pile's batches into its file.
    fn flush(&mut self, values: &Values) -> Result<()> {
        let Some(pile) = self.piles.get_mut(values) else { return Ok(()) };
        let mut open = match pile.open.take() {
            Some(open) => open,
            None => OpenFile::create(&self.layout, values, &pile.batches)?,
        };
        self.open_files -= usize::from(open.rows > 0);
        self.encoding = self.encoding.saturating_sub(open.encoding());
        for batch in pile.batches.drain(..) {
            open.write(&batch)?;
        }
        self.held = self.held.saturating_sub(pile.bytes);
        (pile.rows, pile.bytes) = (0, 0);
        if open.bytes() > FILE_BYTES {
            self.files.push(open.close(&self.layout, values)?);
        } else {
            self.open_files += 1;
            self.encoding += open.encoding();
            pile.open = Some(open);
        }
        Ok(())
    }

    fn close_open_files(&mut self) -> Result<()> {
        for (values, pile) in &mut self.piles {
            if let Some(open) = pile.open.take() {
                self.files.push(open.close(&self.layout, values)?);
            }
        }
        (self.open_files, self.encoding) = (0, 0);
        Ok(())
    }

    /// Everything that is left, each partition in one file.
    fn write_all(&mut self) -> Result<()> {
        let left: Vec<_> =
            self.piles.iter().filter(|(_, pile)| pile.rows > 0).map(|(values, _)| values.clone()).collect();
        for values in left {
            self.flush(&values)?;
            self.close_open_files()?;
        }
        Ok(())
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        for file in &self.files {
            let _ = std::fs::remove_file(&file.path);
        }
    }
}

/// A Parquet file being written. Dropped before it is closed, it is taken away.
pub(super) struct OpenFile {
    relative: String,
    path: PathBuf,
    writer: ArrowWriter<File>,
    pub(super) rows: u64,
    nans: NanWatch,
    closed: bool,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if !self.closed {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl OpenFile {
    /// A new file. `first`: the rows that will be written first, to judge by how values are best stored.
    pub(super) fn create(layout: &Layout, values: &Values, first: &[RecordBatch]) -> Result<Self> {
        let name = format!("part-00000-{}-c000.snappy.parquet", uuid::Uuid::new_v4());
        let relative = layout.directory(values) + &name;
        let path = layout.root.join(&relative);
        if let Some(directory) = path.parent() {
            create_directories(directory)?;
        }
        let mut properties =
            WriterProperties::builder().set_compression(Compression::SNAPPY).set_created_by(commit::ENGINE.to_owned());
        for column in dictionary::columns_without(first)? {
            let column = ColumnPath::new(vec![layout.file_schema.field(column).name().clone()]);
            properties = properties.set_column_dictionary_enabled(column, false);
        }
        let file = File::create_new(&path).map_err(|error| Error::io("create", &path, &error))?;
        let writer = ArrowWriter::try_new(file, layout.file_schema.clone(), Some(properties.build()));
        let writer = writer.map_err(|error| parquet_failed("create", &path, error))?;
        Ok(OpenFile { relative, path, writer, rows: 0, nans: NanWatch::default(), closed: false })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.nans.look(batch);
        self.rows += batch.num_rows() as u64;
        let written = self
            .writer
            .write(batch)
            .and_then(|()| if self.writer.in_progress_size() > ROW_GROUP_BYTES { self.writer.flush() } else { Ok(()) });
        written.map_err(|error| parquet_failed("write", &self.path, error))
    }

    pub(super) fn bytes(&self) -> usize {
        self.writer.bytes_written() + self.encoding()
    }

    /// Bytes of the row group that is in memory.
    pub(super) fn encoding(&self) -> usize {
        self.writer.in_progress_size()
    }

    pub(super) fn close(mut self, layout: &Layout, values: &Values) -> Result<StagedFile> {
        let footer = self.writer.finish().map_err(|error| parquet_failed("write", &self.path, error))?;
        let about = std::fs::metadata(&self.path).map_err(|error| Error::io("look at", &self.path, &error))?;
        let modified = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let add = AddFile {
            path: location::encode(&self.relative),
            partition_values: layout.partition_names.iter().cloned().zip(values.iter().cloned()).collect(),
            size: about.len(),
            modification_time: modified.map_or(0, |since| since.as_millis() as i64),
            data_change: true,
            stats: Some(statistics::of_file(&layout.file_schema, &footer, layout.statistics_columns, &self.nans)),
            deletion_vector: None,
        };
        self.closed = true;
        Ok(StagedFile { add, path: self.path.clone(), rows: self.rows })
    }
}

/// The operating system's word where there is one: a full disk is not a fault of the data.
fn parquet_failed(doing: &str, path: &Path, error: parquet::errors::ParquetError) -> Error {
    if let parquet::errors::ParquetError::External(inner) = &error
        && let Some(io) = inner.downcast_ref::<std::io::Error>()
    {
        return Error::io(doing, path, io);
    }
    Error::environment("IO", format!("cannot {doing} `{}`: {error}", path.display()))
}
