//! Reads files inside a plan: a leaf whose partitions each decode their share of the files on a thread of their own.
//!
//! Which partition reads what is decided before anything runs and only by names and sizes, so a re-run reads the
//! same rows in the same order in each partition. Shares are neighbouring files of about the same cost; a large file is
//! cut where a share ends, if its format has records or pieces to cut between.

use std::fmt;
use std::sync::Arc;
use std::task::Poll;

use alluvium_formats::compression::Compression;
use alluvium_formats::{Format, FormatOptions};
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::stream::{RecordBatchReceiverStreamBuilder, RecordBatchStreamAdapter};
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
    ReplaceChildrenOptions,
};

use futures::StreamExt;

use super::FileEntry;
use super::ahead::{Ahead, Taken};
use super::read::{self, Job, Unit};

/// What opening a file costs, in bytes decoded meanwhile.
const FILE_COST: u64 = 16 << 10;

/// How many bytes a compressed byte stands for.
const COMPRESSED: u64 = 5;

/// A partition gets at least this much to do.
const SHARE_MIN: u64 = 512 << 10;

/// Smaller pieces than this are not cut off a file of lines,
const PIECE_MIN: u64 = 1 << 20;

/// nor smaller ones than this off a typed file, each of whose parts is opened with its footer.
const TYPED_PIECE_MIN: u64 = 4 << 20;

/// Batches that may wait between the reading thread and the plan.
const QUEUE: usize = 2;

/// Reads files.
#[derive(Debug)]
pub struct FilesExec {
    job: Arc<Job>,
    shares: Vec<Arc<[Unit]>>,
    limit: Option<usize>,
    properties: Arc<PlanProperties>,
    /// Where what follows is read once this is.
    ahead: Option<Arc<Ahead>>,
    /// The rows, if they were read ahead.
    taken: Option<Arc<Taken>>,
}

impl FilesExec {
    /// A scan with up to `partitions` partitions. `limit`: rows after which no more are wanted.
    pub(super) fn new(job: Job, partitions: usize, limit: Option<usize>) -> FilesExec {
        let shares = shares_of(&job, partitions);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(job.output.clone()),
            Partitioning::UnknownPartitioning(shares.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        let properties = Arc::new(properties);
        FilesExec { job: Arc::new(job), shares, limit, properties, ahead: None, taken: None }
    }

    /// With the rows that are in `ahead`, if they are these; what follows is then read there. `batch_rows`: of a batch.
    pub(super) fn reading_ahead(self, ahead: Arc<Ahead>, batch_rows: usize) -> FilesExec {
        let taken = ahead.take(&self.job, &self.shares, batch_rows);
        FilesExec { ahead: Some(ahead), taken, ..self }
    }
}

impl DisplayAs for FilesExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let bytes: u64 = self.job.files.iter().map(|file| file.size).sum();
        let columns: Vec<&str> = self.job.output.fields().iter().map(|field| field.name().as_str()).collect();
        write!(
            f,
            "FilesExec: format={}, files={}, bytes={bytes}, partitions={}, columns=[{}]",
            self.job.options.format.name(),
            self.job.files.len(),
            self.shares.len(),
            columns.join(", ")
        )?;
        if let Some(limit) = self.limit {
            write!(f, ", limit={limit}")?;
        }
        match self.job.files.first() {
            Some(first) => write!(f, ", first={}", first.path),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for FilesExec {
    fn name(&self) -> &str {
        "FilesExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(units) = self.shares.get(partition).cloned() else {
            return Err(DataFusionError::Internal(format!("FilesExec has no partition {partition}")));
        };
        let share = Share { units, job: self.job.clone(), limit: self.limit, ahead: self.ahead.clone(), context };
        let Some(taken) = self.taken.clone() else { return Ok(share.read()) };
        let rows = futures::stream::once(async move {
            match taken.share(partition, &share.job.counters).await {
                Some(rows) => {
                    // Once they are through: until then others have enough to do.
                    let end = futures::stream::poll_fn(move |_| {
                        share.read_on();
                        Poll::Ready(None)
                    });
                    futures::stream::iter(rows.into_iter().map(Ok)).chain(end).boxed()
                }
                None => share.read().boxed(),
            }
        });
        let rows = RecordBatchStreamAdapter::new(self.job.output.clone(), rows.flatten());
        Ok(make_cooperative(Box::pin(rows)))
    }
}

/// What one partition reads.
struct Share {
    units: Arc<[Unit]>,
    job: Arc<Job>,
    limit: Option<usize>,
    ahead: Option<Arc<Ahead>>,
    context: Arc<TaskContext>,
}

impl Share {
    fn read(self) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStreamBuilder::new(self.job.output.clone(), QUEUE);
        let out = builder.tx();
        // The thread ends when the stream is dropped: its next batch, or its next file, finds nobody listening.
        builder.spawn_blocking(move || {
            let batch_rows = self.context.session_config().batch_size();
            read::run(&self.job, &self.units, batch_rows, self.limit, &out)?;
            if !out.is_closed() {
                self.read_on();
            }
            Ok(())
        });
        builder.build()
    }

    /// Its own rows are read: on to what follows.
    fn read_on(&self) {
        if let Some(ahead) = &self.ahead {
            ahead.begin(&self.job, &self.context);
        }
    }
}

/// Roughly how many bytes there are to be decoded in a file.
pub(super) fn bytes_decoded(file: &FileEntry) -> u64 {
    file.size.saturating_mul(if is_plain(file) { 1 } else { COMPRESSED })
}

/// The shares of a job's files.
pub(super) fn shares_of(job: &Job, partitions: usize) -> Vec<Arc<[Unit]>> {
    shares(&job.files, piece_min(job), partitions)
}

/// Cuts the files into shares of about the same cost, in order; at least one share, though it may be empty. Files are
/// cut into pieces of `piece_min` bytes or more, or not at all.
fn shares(files: &[FileEntry], piece_min: Option<u64>, partitions: usize) -> Vec<Arc<[Unit]>> {
    let cost = |file: &FileEntry| bytes_decoded(file).saturating_add(FILE_COST);
    let total: u64 = files.iter().map(cost).sum();
    let count = u64::try_from(partitions).unwrap_or(1).min(total / SHARE_MIN).max(1);
    let end_of = |share: u64| (u128::from(total) * u128::from(share + 1) / u128::from(count)) as u64;
    let mut shares: Vec<Arc<[Unit]>> = Vec::new();
    let mut units = Vec::new();
    let mut before = 0u64;
    for (at, file) in files.iter().enumerate() {
        let cost = cost(file);
        let piece_min = piece_min.filter(|_| is_plain(file));
        let fits = |from: u64, cut: u64| {
            piece_min.is_some_and(|min| cut >= from.saturating_add(min) && cut.saturating_add(min) <= file.size)
        };
        let mut from = 0u64;
        while (shares.len() as u64) < count - 1 && before + cost > end_of(shares.len() as u64) {
            let end = end_of(shares.len() as u64);
            // Past the middle the file belongs to this share as a whole, unless it can be cut.
            let cut = end.saturating_sub(before).min(file.size);
            if fits(from, cut) {
                units.push(Unit { file: at, part: Some((from, cut)) });
                from = cut;
            } else if from == 0 && end.saturating_sub(before) > cost / 2 {
                break;
            }
            shares.push(Arc::from(std::mem::take(&mut units)));
        }
        units.push(Unit { file: at, part: (from > 0).then_some((from, u64::MAX)) });
        before += cost;
        while (shares.len() as u64) < count - 1 && before >= end_of(shares.len() as u64) {
            shares.push(Arc::from(std::mem::take(&mut units)));
        }
    }
    if !units.is_empty() || shares.is_empty() {
        shares.push(Arc::from(units));
    }
    shares.retain(|share| !share.is_empty() || files.is_empty());
    shares
}

/// How small the pieces may be into which files are cut; None if they are read whole.
fn piece_min(job: &Job) -> Option<u64> {
    match job.options.format {
        // What a damaged file still gives depends on where it was cut, and objects are fetched whole.
        Format::Parquet | Format::Avro | Format::Orc => {
            (!job.passes.corrupt && job.place.remote().is_none()).then_some(TYPED_PIECE_MIN)
        }
        _ => is_lines(&job.options).then_some(PIECE_MIN),
    }
}

/// Whether every line feed ends a record, so that reading may begin behind any of them.
fn is_lines(options: &FormatOptions) -> bool {
    let lines = matches!(options.format, Format::Json | Format::Csv | Format::Text) && !options.multi_line;
    lines && options.line_sep.as_deref().is_none_or(|separator| separator == b"\n") && options.charset.is_none()
}

fn is_plain(file: &FileEntry) -> bool {
    matches!(Compression::from_file_name(&file.path), Ok(Compression::None))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    fn file(name: &str, size: u64) -> FileEntry {
        FileEntry { path: format!("/d/{name}"), size, modified_ms: 0 }
    }

    fn options(entries: &[(&str, &str)]) -> FormatOptions {
        let entries: Vec<_> = entries.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        FormatOptions::parse(Format::Json, &entries, true, false).unwrap()
    }

    type Share = Vec<(usize, Option<(u64, u64)>)>;

    fn cut(files: &[FileEntry], entries: &[(&str, &str)], partitions: usize) -> Vec<Share> {
        let piece_min = is_lines(&options(entries)).then_some(PIECE_MIN);
        let shares = shares(files, piece_min, partitions);
        shares.iter().map(|share| share.iter().map(|unit| (unit.file, unit.part)).collect()).collect()
    }

    #[test]
    fn little_is_read_in_one_partition() {
        assert_eq!(cut(&[], &[], 4), vec![vec![]]);
        assert_eq!(cut(&[file("a", 1000), file("b", 1000)], &[], 4), vec![vec![(0, None), (1, None)]]);
    }

    #[test]
    fn many_files_are_shared_evenly_in_order() {
        let files: Vec<_> = (0..1000).map(|i| file(&format!("{i:04}"), 1000)).collect();
        let shares = cut(&files, &[], 4);
        assert_eq!(shares.iter().map(Vec::len).collect::<Vec<_>>(), [250, 250, 250, 250]);
        let order: Vec<usize> = shares.into_iter().flatten().map(|(file, _)| file).collect();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn one_large_file_of_lines_is_cut() {
        let files = [file("a.json", 64 << 20)];
        let shares = cut(&files, &[], 2);
        assert_eq!(shares.len(), 2);
        let [(0, Some((0, middle)))] = shares[0][..] else { panic!("{shares:?}") };
        assert_eq!(shares[1], [(0, Some((middle, u64::MAX)))]);
        assert_eq!(cut(&files, &[("multiLine", "true")], 2), vec![vec![(0, None)]]);
        assert_eq!(cut(&[file("a.json.gz", 64 << 20)], &[], 2), vec![vec![(0, None)]]);
    }

    #[test]
    fn what_is_cut_and_what_is_not() {
        let lines = |format, entries: &[(&str, &str)]| {
            let entries: Vec<_> = entries.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            is_lines(&FormatOptions::parse(format, &entries, true, false).unwrap())
        };
        assert!(lines(Format::Csv, &[("comment", "#"), ("skipRows", "3")]));
        assert!(lines(Format::Json, &[("lineSep", "\n")]));
        assert!(!lines(Format::Json, &[("lineSep", "\r\n")]));
        assert!(!lines(Format::Csv, &[("multiLine", "true")]));
        assert!(!lines(Format::Json, &[("encoding", "UTF-16")]));
        assert!(!lines(Format::Text, &[("wholeText", "true")]));
        assert!(!lines(Format::Xml, &[("rowTag", "r")]));
        // A typed file is cut into larger pieces.
        let share = |size| shares(&[file("a.parquet", size)], Some(TYPED_PIECE_MIN), 2).len();
        assert_eq!((share(6 << 20), share(9 << 20)), (1, 2));
    }

    #[test]
    fn every_file_is_read_exactly_once_whatever_the_sizes() {
        // A small generator: sizes from nothing to 40 MB.
        let mut state = 7u64;
        let mut random = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            state >> 33
        };
        for _ in 0..300 {
            let files: Vec<_> =
                (0..random() % 12).map(|i| file(&format!("{i}"), random() % (1 << (random() % 26)))).collect();
            let shares = cut(&files, &[], 1 + (random() % 5) as usize);
            let mut at: Vec<u64> = vec![0; files.len()];
            for (file, lines) in shares.iter().flatten() {
                match lines {
                    None => assert_eq!(std::mem::replace(&mut at[*file], u64::MAX), 0),
                    Some((from, to)) => assert_eq!(std::mem::replace(&mut at[*file], *to), *from),
                }
            }
            assert!(at.iter().all(|end| *end == u64::MAX), "{shares:?}");
        }
    }
}
