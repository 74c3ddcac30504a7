//! The store of streams: one RocksDB directory, a column family per key space.
//!
//! The only file that names RocksDB. It knows nothing of what the bytes mean; see `docs/checkpoint-format.md`.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use alluvium_parser::Diagnostic;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRawIterator, DBRecoveryMode, ErrorKind, FlushOptions, IngestExternalFileOptions, LogLevel, LruCacheOptions,
    Options, Range, ReadOptions, SstFileWriter, WriteBatch, WriteOptions,
};

use super::{Batch, Column, Fill, Page, StateStore};
use crate::error::{Error, Result};

/// Memory of a database where nobody says otherwise; a quarter of it is for blocks, indexes and filters that were read, the
/// rest for write buffers, of all column families together.
pub const DATABASE_BYTES: usize = 128 << 20;
/// Below this a database would do nothing but flush.
const DATABASE_BYTES_MIN: usize = 16 << 20;
/// Keys that are asked for together: a value holds its block in memory until it was taken, whatever the cache may have.
const KEYS_AT_ONCE: usize = 512;
/// A log of writes up to this is left to the next open, which reads it.
const SETTLED_BYTES: u64 = 4 << 20;
/// Files of sorted entries that are being written are `sorted-1.new` and so on.
const SORTED: (&str, &str) = ("sorted-", ".new");
/// Bytes of one of them: when a file is opened its filter is read as a whole.
const SORTED_BYTES: u64 = 32 << 20;
/// How many neighbours `contains_sorted` steps over before it seeks.
const STEPS_BEFORE_SEEK: usize = 8;

/// A [`StateStore`] in a RocksDB directory.
pub struct RocksStore {
    db: DB,
    path: PathBuf,
    /// Another process may write it; here nothing is written.
    only_read: bool,
    /// How many files of sorted entries were begun.
    sorted: AtomicU64,
    /// Released after the database is closed: fields drop in order.
    _guard: Box<dyn Any + Send + Sync>,
}

impl RocksStore {
    /// Opens or creates the database at `path`. `guard` is kept until the database is closed; it is what keeps
    /// others out, since RocksDB's own lock does not say who holds it.
    pub fn open(path: &Path, guard: Box<dyn Any + Send + Sync>) -> Result<RocksStore> {
        RocksStore::open_within(path, DATABASE_BYTES, guard)
    }

    /// [`Self::open`] with so many bytes of memory, or the least that makes sense.
    pub fn open_within(path: &Path, bytes: usize, guard: Box<dyn Any + Send + Sync>) -> Result<RocksStore> {
        let bytes = bytes.clamp(DATABASE_BYTES_MIN, DATABASE_BYTES);
        remove_unfinished(path);
        let cache = cache(bytes);
        let family = |column: Column| ColumnFamilyDescriptor::new(column.name(), family(column, &cache, bytes));
        let families = Column::ALL.map(family);
        let db = DB::open_cf_descriptors(&database(bytes), path, families).map_err(|e| failure("open", path, &e))?;
        Ok(RocksStore { db, path: path.to_path_buf(), only_read: false, sorted: AtomicU64::new(0), _guard: guard })
    }

    /// Opens the database at `path`, which nobody holds, to be read only. Every file is looked at, as when it is opened to be
    /// written.
    pub fn open_unheld_to_read(path: &Path) -> Result<RocksStore> {
        let mut options = database(DATABASE_BYTES);
        options.create_if_missing(false);
        options.create_missing_column_families(false);
        // Somebody may come and remove some.
        options.set_max_open_files(-1);
        options.set_max_file_opening_threads(4);
        let cache = cache(DATABASE_BYTES);
        let family =
            |column: Column| ColumnFamilyDescriptor::new(column.name(), family(column, &cache, DATABASE_BYTES));
        let db = DB::open_cf_descriptors_read_only(&options, path, Column::ALL.map(family), false)
            .map_err(|e| failure("open", path, &e))?;
        Ok(RocksStore {
            db,
            path: path.to_path_buf(),
            only_read: true,
            sorted: AtomicU64::new(0),
            _guard: Box::new(()),
        })
    }

    /// Opens the database at `path` as it is now, while its owner goes on with it undisturbed: nothing of it is
    /// written, locked or kept from being deleted. A file that is damaged is not seen, and its owner's to notice.
    pub fn open_to_read(path: &Path) -> Result<RocksStore> {
        let scratch = tempfile::tempdir().map_err(|e| Error::io("create", &std::env::temp_dir(), &e))?;
        let mut options = database(DATABASE_BYTES);
        options.create_if_missing(false);
        options.create_missing_column_families(false);
        // All of its files are opened at once: the owner may remove some from the directory at any time.
        options.set_max_open_files(-1);
        options.set_max_file_opening_threads(4);
        let cache = cache(DATABASE_BYTES);
        let family =
            |column: Column| ColumnFamilyDescriptor::new(column.name(), family(column, &cache, DATABASE_BYTES));
        let families = Column::ALL.map(family);
        let db = DB::open_cf_descriptors_as_secondary(&options, path, scratch.path(), families)
            .map_err(|e| failure("open", path, &e))?;
        Ok(RocksStore {
            db,
            path: path.to_path_buf(),
            only_read: true,
            sorted: AtomicU64::new(0),
            _guard: Box::new(scratch),
        })
    }

    fn family(&self, column: Column) -> Result<&ColumnFamily> {
        self.db
            .cf_handle(column.name())
            .ok_or_else(|| Error::internal(format!("`{}` has no {} column", self.path.display(), column.name())))
    }

    fn failure(&self, doing: &str, error: &rocksdb::Error) -> Error {
        failure(doing, &self.path, error)
    }

    /// Bytes of the log of writes.
    fn log_bytes(&self) -> u64 {
        let files = std::fs::read_dir(&self.path).into_iter().flatten().flatten();
        let logs = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "log"));
        logs.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
    }

    fn written(&self) -> Error {
        Error::internal(format!("`{}` was opened to be read, and is written", self.path.display()))
    }

    fn iterator(&self, column: Column, from: &[u8], until: &[u8]) -> Result<DBRawIterator<'_>> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(from);
        options.set_iterate_upper_bound(until);
        Ok(self.db.raw_iterator_cf_opt(self.family(column)?, options))
    }
}

impl StateStore for RocksStore {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.db.get_cf(self.family(column)?, key).map_err(|e| self.failure("read", &e))
    }

    fn multi_get(
        &self,
        column: Column,
        keys: &[&[u8]],
        found: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let family = self.family(column)?;
        for (part, keys) in keys.chunks(KEYS_AT_ONCE).enumerate() {
            let values = self.db.batched_multi_get_cf(family, keys.iter().copied(), true);
            for (i, value) in values.into_iter().enumerate() {
                if let Some(value) = value.map_err(|e| self.failure("read", &e))? {
                    found(part * KEYS_AT_ONCE + i, &value)?;
                }
            }
        }
        Ok(())
    }

    fn contains_sorted(&self, column: Column, prefix: &[u8], suffixes: &[&str]) -> Result<Vec<bool>> {
        let mut contains = vec![false; suffixes.len()];
        let mut entries = self.iterator(column, prefix, &super::prefix_end(prefix))?;
        let mut wanted = prefix.to_vec();
        let mut steps = STEPS_BEFORE_SEEK;
        for (suffix, contains) in suffixes.iter().zip(&mut contains) {
            wanted.truncate(prefix.len());
            wanted.extend_from_slice(suffix.as_bytes());
            // Both sides ascend: walk to the wanted key when it is near, else seek. An exhausted iterator stays so.
            while steps < STEPS_BEFORE_SEEK && entries.key().is_some_and(|key| key < wanted.as_slice()) {
                entries.next();
                steps += 1;
            }
            if steps >= STEPS_BEFORE_SEEK && entries.key().is_none_or(|key| key < wanted.as_slice()) {
                entries.seek(&wanted);
            }
            steps = 0;
            match entries.key() {
                Some(key) => *contains = key == wanted.as_slice(),
                None => break,
            }
        }
        entries.status().map_err(|e| self.failure("read", &e))?;
        Ok(contains)
    }

    fn page(&self, column: Column, from: &[u8], until: &[u8], rows: usize) -> Result<Page> {
        let mut page = Page::default();
        if from < until {
            let mut entries = self.iterator(column, from, until)?;
            entries.seek(from);
            while let Some((key, value)) = entries.item() {
                page.push(key, value);
                if page.is_full(rows) {
                    break;
                }
                entries.next();
            }
            entries.status().map_err(|e| self.failure("read", &e))?;
        }
        Ok(page)
    }

    fn page_back(&self, column: Column, from: &[u8], until: &[u8], rows: usize) -> Result<Page> {
        let mut page = Page::default();
        if from < until {
            let mut entries = self.iterator(column, from, until)?;
            entries.seek_to_last();
            while let Some((key, value)) = entries.item() {
                page.push(key, value);
                if page.is_full(rows) {
                    break;
                }
                entries.prev();
            }
            entries.status().map_err(|e| self.failure("read", &e))?;
        }
        Ok(page)
    }

    fn scan_ranges(
        &self,
        column: Column,
        ranges: &[(Vec<u8>, Vec<u8>)],
        found: &mut dyn FnMut(usize, &[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let (Some((first, _)), Some((_, last))) = (ranges.first(), ranges.last()) else { return Ok(()) };
        let mut entries = self.iterator(column, first, last)?;
        for (at, (from, until)) in ranges.iter().enumerate().filter(|(_, (from, until))| from < until) {
            entries.seek(from);
            while let Some((key, value)) = entries.item().filter(|(key, _)| *key < until.as_slice()) {
                if !found(at, key, value)? {
                    return Ok(());
                }
                entries.next();
            }
        }
        entries.status().map_err(|e| self.failure("read", &e))
    }

    fn write(&self, batch: Batch, durable: bool) -> Result<()> {
        if self.only_read {
            return Err(self.written());
        }
        let mut writes = WriteBatch::with_capacity_bytes(batch.bytes + batch.writes.len() * 16);
        for (column, from, until) in batch.ranges {
            writes.delete_range_cf(self.family(column)?, from, until);
        }
        for (column, key, value) in batch.writes {
            let family = self.family(column)?;
            match value {
                Some(value) => writes.put_cf(family, key, value),
                None => writes.delete_cf(family, key),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(durable);
        self.db.write_opt(writes, &options).map_err(|e| self.failure("write", &e))
    }

    fn write_sorted(&self, column: Column, fill: Fill<'_>) -> Result<()> {
        if self.only_read {
            return Err(self.written());
        }
        let mut files = SortedFiles { store: self, paths: Vec::new() };
        let result = files.write(column, fill);
        // They have been moved, unless something failed.
        files.paths.iter().for_each(|path| drop(std::fs::remove_file(path)));
        result
    }

    fn free(&self, column: Column, from: &[u8], until: &[u8]) -> Result<()> {
        // Files that are all within. Others wait for a compaction; without this all would, since no newer file is above them.
        self.db.delete_file_in_range_cf(self.family(column)?, from, until).map_err(|e| self.failure("write", &e))
    }

    fn settle(&self) -> Result<()> {
        // What was flushed and deleted is in the log still, for the sake of other column families.
        if self.only_read || self.log_bytes() < SETTLED_BYTES {
            return Ok(());
        }
        let families: Vec<&ColumnFamily> =
            Column::ALL.iter().map(|column| self.family(*column)).collect::<Result<_>>()?;
        self.db.flush_cfs_opt(&families, &FlushOptions::default()).map_err(|e| self.failure("write", &e))
    }

    fn bytes_between(&self, column: Column, from: &[u8], until: &[u8]) -> Result<u64> {
        if from >= until {
            return Ok(0);
        }
        let in_files: u64 =
            self.db.get_approximate_sizes_cf(self.family(column)?, &[Range::new(from, until)]).iter().sum();
        if in_files > 0 {
            return Ok(in_files);
        }
        // What is in no file yet is not estimated, and never much.
        let mut bytes = 0;
        let mut entries = self.iterator(column, from, until)?;
        entries.seek_to_first();
        while let Some((key, value)) = entries.item() {
            bytes += (key.len() + value.len()) as u64;
            entries.next();
        }
        entries.status().map_err(|e| self.failure("read", &e))?;
        Ok(bytes)
    }
}

/// Files of sorted entries on their way into the database.
struct SortedFiles<'a> {
    store: &'a RocksStore,
    paths: Vec<PathBuf>,
}

impl SortedFiles<'_> {
    fn write(&mut self, column: Column, fill: Fill<'_>) -> Result<()> {
        let failed = |error: rocksdb::Error| self.store.failure("write", &error);
        let mut options = family(column, &cache(DATABASE_BYTES_MIN), DATABASE_BYTES_MIN);
        options.set_compression_per_level(&[DBCompressionType::None]);
        let mut writer: Option<SstFileWriter<'_>> = None;
        let paths = &mut self.paths;
        fill(&mut |key, value| {
            if writer.as_ref().is_some_and(|writer| writer.file_size() >= SORTED_BYTES)
                && let Some(mut full) = writer.take()
            {
                full.finish().map_err(failed)?;
            }
            let writer = match &mut writer {
                Some(writer) => writer,
                none => {
                    let number = self.store.sorted.fetch_add(1, Ordering::Relaxed);
                    let path = self.store.path.join(format!("{}{number}{}", SORTED.0, SORTED.1));
                    let new = SstFileWriter::create(&options);
                    new.open(&path).map_err(failed)?;
                    paths.push(path);
                    none.insert(new)
                }
            };
            let done = match value {
                Some(value) => writer.put(key, value),
                None => writer.delete(key),
            };
            done.map_err(failed)
        })?;
        let Some(mut last) = writer else { return Ok(()) };
        last.finish().map_err(failed)?;
        // The files are there for good from here on, and what was written before them must not be less so.
        self.store.db.flush_wal(true).map_err(failed)?;
        let mut how = IngestExternalFileOptions::default();
        how.set_move_files(true);
        let family = self.store.family(column)?;
        self.store.db.ingest_external_file_cf_opts(family, &how, self.paths.clone()).map_err(failed)
    }
}

/// Takes away files of sorted entries that a crash has left. They are in nobody's way, so that they stay is no error.
fn remove_unfinished(path: &Path) {
    let names = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let unfinished =
        names.filter(|name| name.to_str().is_some_and(|name| name.starts_with(SORTED.0) && name.ends_with(SORTED.1)));
    unfinished.for_each(|name| drop(std::fs::remove_file(path.join(name))));
}

/// A cache in few shards, each of which is large beside a block.
fn cache(bytes: usize) -> Cache {
    let mut options = LruCacheOptions::default();
    options.set_capacity(bytes / 4);
    options.set_num_shard_bits(2);
    Cache::new_lru_cache_opts(&options)
}

fn database(bytes: usize) -> Options {
    let write_buffers = bytes / 4 * 3;
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_max_background_jobs(2);
    options.set_max_open_files(256);
    // At a start RocksDB opens 16 files of each column family at most, and begins 15 threads for that by default.
    options.set_max_file_opening_threads(1);
    options.set_db_write_buffer_size(write_buffers);
    options.set_max_total_wal_size(write_buffers as u64);
    // Each start begins one, and sets room aside for it: a few files and column families need some KB.
    options.set_manifest_preallocation_size(64 << 10);
    // A torn tail is an unfinished commit and is dropped; damage before it is reported. The default would stop
    // silently at the first damaged record and forget every commit behind it.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(4 << 20);
    options.set_stats_dump_period_sec(0);
    options
}

fn family(column: Column, cache: &Cache, bytes: usize) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_block_size(8 << 10);
    blocks.set_cache_index_and_filter_blocks(true);
    // In pieces: a filter or an index of a large file as one block does not fit into its shard of the cache, and would be
    // read from disk for every few keys. Pieces are read when they are asked for; those of new files are not pinned, which may
    // be large.
    blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    blocks.set_partition_filters(true);
    blocks.set_metadata_block_size(4 << 10);
    blocks.set_pin_top_level_index_and_filter(true);
    if matches!(column, Column::Rows | Column::Ledger) {
        // Most lookups are for keys and files never seen before.
        blocks.set_bloom_filter(10.0, false);
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    match column {
        // Blocks of columns that live until the next snapshot: not worth compressing.
        Column::Log => options.set_compression_type(DBCompressionType::None),
        // What was written last is soon written again.
        _ => options.set_compression_per_level(&[DBCompressionType::None, DBCompressionType::Lz4]),
    }
    if column == Column::Rows {
        // Keys of an epoch are all over the rest, which is written again with each of these compactions; filters keep the
        // lookups out of most files meanwhile.
        options.set_level_zero_file_num_compaction_trigger(8);
    }
    options.set_write_buffer_size(match column {
        // Most blocks are replaced before they would be flushed.
        Column::Log => bytes / 8 * 3,
        Column::Rows => bytes / 4,
        Column::Ledger => bytes / 16,
        Column::Meta | Column::Epochs => 1 << 20,
    });
    options
}

/// RocksDB's word, with what to do about it.
fn failure(doing: &str, path: &Path, error: &rocksdb::Error) -> Error {
    let text = error.to_string();
    let place = path.display();
    let (code, help) = if text.contains("No space left") {
        ("DISK_FULL", "make room; the stream can then be started again".to_string())
    } else if text.contains("Permission denied") || text.contains("Read-only file system") {
        ("PERMISSION_DENIED", "give this user the right to it, or choose another place".to_string())
    } else {
        match error.kind() {
            ErrorKind::Corruption => (
                "CHECKPOINT_CORRUPT",
                format!("restore `{place}` and the table from a backup, or start over: REFRESH TABLE … FULL"),
            ),
            ErrorKind::InvalidArgument if text.contains("olumn famil") => (
                "CHECKPOINT_FORMAT",
                "it was written by a newer version; run that version, or create the table again".to_string(),
            ),
            ErrorKind::IOError if text.contains("No such file") => (
                "CHECKPOINT_CORRUPT",
                format!(
                    "a file of it is missing: restore `{place}` and the table, or start over: REFRESH TABLE … FULL"
                ),
            ),
            _ => ("IO", "the stream can be started again when the cause is gone".to_string()),
        }
    };
    Error::Environment(Box::new(
        Diagnostic::new(code, format!("cannot {doing} the checkpoint at `{place}`: {text}")).help(help),
    ))
}
