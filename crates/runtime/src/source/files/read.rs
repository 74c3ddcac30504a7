//! From files to batches, on a thread that may block: one decoder, batches that span files.
//!
//! Errors name the file. A file that is not there is an error in a first run; in a re-run it is noted and passed over.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_formats::decode::{DecodeCounts, RecordDecoder, decoder_projected};
use alluvium_formats::typed::{FileDecoder, FileFacts, FilePart, file_decoder};
use alluvium_formats::{DecodeError, FormatOptions};
use alluvium_parser::Diagnostic;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use tokio::sync::mpsc::Sender;

use super::FileEntry;
use super::bad_records::{BadRecords, Run};
use super::content::{FileReader, Part, ReadError, Reading, decode_error};
use super::evolve::UnknownFields;
use super::input::FilesInput;
use super::metadata::{file_url, metadata_array};
use super::partition_columns::PathColumns;
use super::store::{Inputs, Place};
use super::version::{Held, Version, changed, not_as_published};
use crate::error::{Error, Result};
use crate::source::ReadCounters;

/// A file or a part of one.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// Position among the files.
    pub file: usize,
    /// Only the lines that begin in this byte range, or the pieces of a typed file; None: the whole file.
    pub part: Option<(u64, u64)>,
}

/// What all partitions of a read share.
#[derive(Debug)]
pub struct Job {
    /// The files, in order.
    pub files: Arc<[FileEntry]>,
    /// Where they are.
    pub place: Place,
    /// How to decode them.
    pub options: FormatOptions,
    /// All data columns.
    pub data_schema: SchemaRef,
    /// Wanted data columns, in order of appearance in the output.
    pub columns: Vec<usize>,
    /// Where `_metadata` stands among the wanted columns.
    pub metadata_at: Option<usize>,
    /// Columns whose values stand in the path.
    pub partitions: PathColumns,
    /// Columns given.
    pub output: SchemaRef,
    /// Where what was read is counted.
    pub counters: Arc<ReadCounters>,
    /// Some for a re-run: missing files are noted there instead of failing.
    pub rerun: Option<FilesInput>,
    /// Whose malformed records are written to `badRecordsPath`.
    pub run: Run,
    /// Which files are passed over instead of failing, and where that is noted for a stream.
    pub passes: Passes,
    /// Some where a field without a column ends the run.
    pub unknown: Option<Arc<UnknownFields>>,
    /// What the parts of files found.
    pub parts: Parts,
}

impl Job {
    /// The same for other files, which an epoch may read next; nobody hears of what it meets. None where reading leaves
    /// traces or is paid for, or where no epoch will follow.
    pub(super) fn followed_by(&self, files: Arc<[FileEntry]>) -> Option<Job> {
        let first_run = self.passes.notes.is_some() && self.rerun.is_none();
        if !first_run || self.options.bad_records_path.is_some() || self.place.remote().is_some() {
            return None;
        }
        let input = FilesInput::new(files.to_vec());
        input.begin_run();
        Some(Job {
            files,
            place: self.place.clone(),
            options: self.options.clone(),
            data_schema: self.data_schema.clone(),
            columns: self.columns.clone(),
            metadata_at: self.metadata_at,
            partitions: self.partitions.clone(),
            output: self.output.clone(),
            counters: Arc::default(),
            rerun: None,
            run: self.run,
            passes: Passes { notes: Some(input), ..self.passes.clone() },
            unknown: self.unknown.as_ref().map(|unknown| Arc::new(unknown.unmet())),
            parts: Parts::default(),
        })
    }

    /// Whether it gives the same rows as `other`, for an epoch's first run. Made by [`Self::followed_by`], nothing else has to be
    /// compared.
    pub(super) fn reads_like(&self, other: &Job) -> bool {
        other.rerun.is_none()
            && other.passes.notes.is_some()
            && self.files == other.files
            && self.options == other.options
            && self.data_schema == other.data_schema
            && (&self.columns, self.metadata_at) == (&other.columns, other.metadata_at)
            && self.partitions == other.partitions
            && self.output == other.output
            && (self.passes.missing, self.passes.corrupt) == (other.passes.missing, other.passes.corrupt)
            && self.unknown.is_some() == other.unknown.is_some()
    }

    /// Whether all of its files were there, and whole, in the versions it names.
    pub(super) fn met_nothing(&self) -> bool {
        self.passes.notes.as_ref().is_none_or(FilesInput::met_nothing)
    }

    /// Which versions of its files it takes.
    fn held(&self) -> Held {
        match &self.passes.notes {
            Some(input) if input.all_required() => Held::Published,
            Some(input) if input.is_tied() => Held::Chosen,
            _ => Held::No,
        }
    }
}

/// What the parts of files found, by the file's position: all parts of a file are to find the same.
#[derive(Debug, Default)]
pub struct Parts(Mutex<HashMap<usize, Found>>);

/// What a part of a file found.
#[derive(Debug, Clone, PartialEq)]
enum Found {
    /// The file was not there.
    Gone,
    /// It was, in this version where anything of it was read.
    There(Option<Version>),
}

impl Parts {
    /// Notes what one part found; why it does not go with what another part of the file found.
    fn agree(&self, unit: &Unit, path: &str, found: &Found) -> Result<()> {
        if unit.part.is_none() {
            return Ok(());
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (known.entry(unit.file).or_insert_with(|| found.clone()), found) {
            (Found::Gone, Found::Gone) => Ok(()),
            (Found::Gone, _) | (_, Found::Gone) => Err(vanished(path)),
            (Found::There(Some(one)), Found::There(Some(other))) if one != other => Err(changed(path)),
            (before @ Found::There(None), _) => {
                before.clone_from(found);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Files that are passed over.
#[derive(Debug, Clone, Default)]
pub struct Passes {
    /// `ignoreMissingFiles`.
    pub missing: bool,
    /// `ignoreCorruptFiles`.
    pub corrupt: bool,
    /// The input whose files they are.
    pub notes: Option<FilesInput>,
}

impl Passes {
    /// Whether a damaged file is passed over; it is noted then.
    pub fn corrupt(&self, path: &str, error: &Error) -> bool {
        let passes = self.corrupt && error.diagnostic().code == "FILE_CORRUPT";
        if let Some(notes) = self.notes.as_ref().filter(|_| passes) {
            notes.note_corrupt(path, error.diagnostic().message);
        }
        passes
    }

    /// Whether a file that is gone is passed over; it is noted then.
    pub fn missing(&self, path: &str) -> bool {
        if let Some(notes) = self.notes.as_ref().filter(|_| self.missing) {
            notes.note_vanished(path);
        }
        self.missing
    }
}

/// Decodes `units` one after the other into batches of `batch_rows`, until done or until nobody listens.
pub fn run(
    job: &Job,
    units: &[Unit],
    batch_rows: usize,
    limit: Option<usize>,
    out: &Sender<Result<RecordBatch, DataFusionError>>,
) -> Result<()> {
    let (options, schema, columns) = (&job.options, job.data_schema.clone(), &job.columns);
    let decoder = match options.format.is_typed() {
        true => file_decoder(options, schema, columns, batch_rows).map(Decoder::Files),
        false => decoder_projected(options, schema, columns, batch_rows).map(Decoder::Records),
    };
    let decoder = decoder.map_err(|e| decode_error(&e))?;
    let mut rows = RowMaker {
        job,
        decoder,
        counted: DecodeCounts::default(),
        origin: Vec::new(),
        attributed: 0,
        given: 0,
        limit,
        out,
        bad: options.bad_records_path.as_deref().map(|path| BadRecords::new(path, job.run)),
    };
    let begins = |unit: &Unit| unit.part.map_or(0, |(from, _)| from.saturating_sub(1));
    let wanted = units.iter().filter_map(|unit| Some((job.files.get(unit.file)?, begins(unit))));
    let mut reader = FileReader::new(Inputs::of(&job.place, wanted)).holding(job.held());
    for unit in units {
        if !rows.wanted() {
            break;
        }
        rows.read(&mut reader, unit)?;
    }
    rows.give()?;
    rows.bad.as_mut().map_or(Ok(()), BadRecords::end)
}

/// Decodes records out of bytes, or whole files.
enum Decoder {
    Records(Box<dyn RecordDecoder>),
    Files(Box<dyn FileDecoder>),
}

impl Decoder {
    fn buffered(&self) -> usize {
        match self {
            Decoder::Records(decoder) => decoder.buffered(),
            Decoder::Files(decoder) => decoder.buffered(),
        }
    }

    fn is_full(&self) -> bool {
        match self {
            Decoder::Records(decoder) => decoder.is_full(),
            Decoder::Files(decoder) => decoder.is_full(),
        }
    }

    fn finish(&mut self) -> Result<RecordBatch, DecodeError> {
        match self {
            Decoder::Records(decoder) => decoder.finish(),
            Decoder::Files(decoder) => decoder.finish(),
        }
    }

    fn counts(&self) -> DecodeCounts {
        match self {
            Decoder::Records(decoder) => decoder.counts(),
            Decoder::Files(decoder) => decoder.counts(),
        }
    }

    fn unmatched_fields(&self) -> Vec<String> {
        match self {
            Decoder::Records(decoder) => decoder.unmatched_fields(),
            Decoder::Files(decoder) => decoder.unmatched_fields(),
        }
    }

    fn outgrown_fields(&self) -> Vec<String> {
        match self {
            Decoder::Records(decoder) => decoder.outgrown_fields(),
            Decoder::Files(decoder) => decoder.outgrown_fields(),
        }
    }
}

/// One decoder and whose rows it holds.
struct RowMaker<'a> {
    job: &'a Job,
    decoder: Decoder,
    counted: DecodeCounts,
    /// (file, rows) of the buffered rows, in order.
    origin: Vec<(usize, usize)>,
    attributed: usize,
    given: usize,
    limit: Option<usize>,
    out: &'a Sender<Result<RecordBatch, DataFusionError>>,
    bad: Option<BadRecords>,
}

impl RowMaker<'_> {
    fn wanted(&self) -> bool {
        !self.out.is_closed() && self.limit.is_none_or(|limit| self.given < limit)
    }

    fn read(&mut self, reader: &mut FileReader, unit: &Unit) -> Result<()> {
        let Some(file) = self.job.files.get(unit.file) else {
            return Err(Error::internal(format!("there is no file {}", unit.file)));
        };
        if let Some(bad) = &mut self.bad {
            bad.start(&file.path, unit)?;
        }
        let read = match &mut self.decoder {
            Decoder::Files(_) => self.read_typed(reader, unit, file),
            Decoder::Records(decoder) => {
                decoder.start_file(&file.path);
                let options = &self.job.options;
                let part = unit.part.map(|(from, to)| Part { from, to, options });
                let how = Reading::of(options);
                reader.read(file, part, how, &mut |bytes, eof| self.decode(unit.file, bytes, eof))
            }
        };
        let read = reader.end(file, read);
        let found = match &read {
            Ok(version) => Some(Found::There(version.clone())),
            Err(ReadError::Missing) => Some(Found::Gone),
            Err(_) => None,
        };
        // Rows of some parts and not of others would be neither the file nor its absence, nor those of one version.
        if let Some(Err(error)) = found.map(|found| self.job.parts.agree(unit, &file.path, &found)) {
            return Err(self.disturbed(&file.path, error));
        }
        match read {
            Err(ReadError::Missing) => match &self.job.rerun {
                Some(input) if input.all_required() => return Err(vanished(&file.path)),
                Some(input) => input.note_vanished(&file.path),
                None if self.job.passes.missing(&file.path) => {}
                None => return Err(vanished(&file.path)),
            },
            Err(ReadError::Corrupt(error)) if self.job.passes.corrupt(&file.path, &error) => {
                self.job.counters.corrupt_files.fetch_add(1, Ordering::Relaxed);
            }
            Err(ReadError::Changed(error)) => return Err(self.disturbed(&file.path, error)),
            Err(ReadError::Corrupt(error) | ReadError::Failed(error)) => return Err(error),
            Ok(_) => {}
        }
        self.attribute(unit.file)?;
        self.look_for_new_fields(unit.file)
    }

    /// The error for a file that is not what it was, noted for an epoch, which reads its files again as they are then.
    fn disturbed(&self, path: &str, error: Error) -> Error {
        match &self.job.passes.notes {
            Some(input) if input.all_required() => not_as_published(path),
            Some(input) => {
                input.note_changed(path);
                error
            }
            None => error,
        }
    }

    /// Ends the run at a field that no column has, or at a value that outgrows one, where that is wanted.
    fn look_for_new_fields(&self, file: usize) -> Result<()> {
        match (&self.job.unknown, self.job.files.get(file)) {
            (Some(unknown), Some(file)) => {
                unknown.look(&file.path, &self.decoder.unmatched_fields(), self.decoder.outgrown_fields())
            }
            _ => Ok(()),
        }
    }

    /// Decodes a file of a typed format, as long as somebody wants its rows.
    fn read_typed(&mut self, reader: &mut FileReader, unit: &Unit, file: &FileEntry) -> Result<(), ReadError> {
        let at = unit.file;
        let content = reader.content(file, unit.part.is_some())?;
        let Decoder::Files(decoder) = &mut self.decoder else { return Ok(()) };
        let url = file_url(&file.path);
        let modified_us = file.modified_ms.saturating_mul(1000);
        let facts = FileFacts { path: &file.path, url: &url, size: file.size, modified_us };
        let part = unit.part.map_or(FilePart::WHOLE, |(from, to)| FilePart { from, to });
        decoder.start_file(facts, content, part)?;
        loop {
            let Decoder::Files(decoder) = &mut self.decoder else { return Ok(()) };
            let more = decoder.advance()?;
            if self.decoder.is_full() {
                self.attribute(at)?;
                self.look_for_new_fields(at)?;
                if !self.give()? {
                    return Ok(());
                }
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Decodes as much as there are whole records; None when nobody wants more.
    fn decode(&mut self, file: usize, bytes: &[u8], eof: bool) -> Result<Option<usize>> {
        let mut at = 0;
        loop {
            let Decoder::Records(decoder) = &mut self.decoder else { return Ok(None) };
            let used = decoder.decode(&bytes[at..], eof).map_err(|e| decode_error(&e))?;
            at += used;
            if !self.decoder.is_full() {
                if eof && at < bytes.len() && used > 0 {
                    continue;
                }
                return Ok(Some(at));
            }
            self.attribute(file)?;
            self.look_for_new_fields(file)?;
            if !self.give()? {
                return Ok(None);
            }
            if at == bytes.len() {
                return Ok(Some(at));
            }
        }
    }

    /// Rows decoded since the last call are this file's.
    fn attribute(&mut self, file: usize) -> Result<()> {
        if let (Some(bad), Decoder::Records(decoder)) = (&mut self.bad, &mut self.decoder) {
            bad.write(&decoder.take_bad_records())?;
        }
        let buffered = self.decoder.buffered();
        if buffered > self.attributed {
            self.origin.push((file, buffered - self.attributed));
        }
        self.attributed = buffered;
        Ok(())
    }

    /// Hands the buffered rows out; false when no more are wanted.
    fn give(&mut self) -> Result<bool> {
        let batch = match self.decoder.buffered() {
            0 => None,
            _ => Some(self.decoder.finish().map_err(|e| decode_error(&e))?),
        };
        self.count();
        let origin = std::mem::take(&mut self.origin);
        self.attributed = 0;
        let Some(batch) = batch else { return Ok(self.wanted()) };
        self.given += batch.num_rows();
        let batch = self.with_metadata(batch, &origin)?;
        let heard = self.out.blocking_send(Ok(batch)).is_ok();
        Ok(heard && self.wanted())
    }

    fn with_metadata(&self, batch: RecordBatch, origin: &[(usize, usize)]) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let mut columns = batch.columns().to_vec();
        let mut more = self.job.partitions.arrays(&self.job.files, origin)?;
        more.extend(self.job.metadata_at.map(|at| (at, metadata_array(&self.job.files, origin))));
        more.sort_by_key(|(at, _)| *at);
        // From the left, so that each comes to stand where it belongs.
        for (at, column) in more {
            columns.insert(at, column);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.job.output.clone(), columns, &options)?)
    }

    fn count(&mut self) {
        let now = self.decoder.counts();
        let counters = &self.job.counters;
        counters.rows.fetch_add(now.rows - self.counted.rows, Ordering::Relaxed);
        counters.rescued.fetch_add(now.rescued_rows - self.counted.rescued_rows, Ordering::Relaxed);
        counters.corrupt.fetch_add(now.corrupt_records - self.counted.corrupt_records, Ordering::Relaxed);
        self.counted = now;
    }
}

fn vanished(path: &str) -> Error {
    Diagnostic::new("FILE_VANISHED", format!("file `{path}` was listed and is gone before it could be read"))
        .help("put it back; or start the stream again to go on without it")
        .into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn version(path: &std::path::Path) -> Found {
        Found::There(Some(Version::of_file(&std::fs::metadata(path).unwrap()).unwrap()))
    }

    #[test]
    fn parts_of_a_file_are_of_one_version() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        for path in [&one, &other] {
            std::fs::write(path, "text").unwrap();
            let modified = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
            std::fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
        }
        let unit = |file, part| Unit { file, part };
        let part = Some((0, 5));
        let code = |parts: &Parts, unit: &Unit, found: &Found| match parts.agree(unit, "p", found) {
            Ok(()) => "",
            Err(error) => error.diagnostic().code,
        };
        let parts = Parts::default();
        assert_eq!(code(&parts, &unit(0, part), &Found::There(None)), "", "nothing of it was read");
        assert_eq!(code(&parts, &unit(0, part), &version(&one)), "");
        assert_eq!(code(&parts, &unit(0, part), &version(&one)), "");
        // Of the same size and time, and another file.
        assert_eq!(code(&parts, &unit(0, part), &version(&other)), "FILE_CHANGED");
        assert_eq!(code(&parts, &unit(0, part), &Found::Gone), "FILE_VANISHED");
        assert_eq!(code(&parts, &unit(1, part), &Found::Gone), "");
        assert_eq!(code(&parts, &unit(1, part), &version(&other)), "FILE_VANISHED");
        assert_eq!(code(&parts, &unit(2, None), &Found::Gone), "");
        assert_eq!(code(&parts, &unit(2, None), &version(&one)), "", "read whole, it is what it is");
    }
}
