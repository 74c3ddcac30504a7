//! From files to batches, on a thread that may block: one reused buffer, one decoder, batches that span files.
//!
//! Errors name the file. A file that is not there is an error in a first run; in a re-run it is noted and passed over.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use alluvium_formats::compression::Compression;
use alluvium_formats::decode::{DecodeCounts, RecordDecoder, decoder_projected};
use alluvium_formats::typed::{Content, FileDecoder, FileFacts, file_decoder};
use alluvium_formats::{Charset, DecodeError, Format, FormatOptions};
use alluvium_parser::Diagnostic;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use tokio::sync::mpsc::Sender;

use super::FileEntry;
use super::bad_records::{BadRecords, Run};
use super::evolve::UnknownFields;
use super::input::FilesInput;
use super::metadata::{file_url, metadata_array};
use super::partition_columns::PathColumns;
use super::store::{Input, Inputs, Place};
use crate::error::{Error, Result};
use crate::source::ReadCounters;

/// Bytes read at once. Small enough to stay in a core's cache until decoded.
const CHUNK: usize = 1 << 20;

/// Objects up to this size are held in memory where a format is read here and there.
const IN_MEMORY_MAX: u64 = 64 << 20;

/// A record longer than this is refused: it would have to be held whole.
const RECORD_MAX: usize = 1 << 30;

/// A file or a part of one.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// Position among the files.
    pub file: usize,
    /// Only the lines that begin in this byte range; None: the whole file.
    pub lines: Option<(u64, u64)>,
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
    let begins = |unit: &Unit| unit.lines.map_or(0, |(from, _)| from.saturating_sub(1));
    let wanted = units.iter().filter_map(|unit| Some((job.files.get(unit.file)?, begins(unit))));
    let mut reader = FileReader::new(Inputs::of(&job.place, wanted));
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
            Decoder::Files(_) => self.read_typed(reader, unit.file, file),
            Decoder::Records(decoder) => {
                decoder.start_file(&file.path);
                let csv = &self.job.options.csv;
                let separator =
                    csv.sep.first().copied().filter(|_| self.job.options.format == Format::Csv && csv.header);
                let lines = unit.lines.map(|(from, to)| Part { from, to, header_separator: separator });
                let how = Reading::of(&self.job.options);
                reader.read(file, lines, how, &mut |bytes, eof| self.decode(unit.file, bytes, eof))
            }
        };
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
            Err(ReadError::Corrupt(error) | ReadError::Failed(error)) => return Err(error),
            Ok(()) => {}
        }
        self.attribute(unit.file)?;
        self.look_for_new_fields(unit.file)
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
    fn read_typed(&mut self, reader: &mut FileReader, at: usize, file: &FileEntry) -> Result<(), ReadError> {
        let content = reader.content(file)?;
        let Decoder::Files(decoder) = &mut self.decoder else { return Ok(()) };
        let url = file_url(&file.path);
        let modified_us = file.modified_ms.saturating_mul(1000);
        decoder.start_file(FileFacts { path: &file.path, url: &url, size: file.size, modified_us }, content)?;
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

/// How the bytes of files are brought.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Up to this size a file is brought in one piece.
    pub whole_max: usize,
    /// What its text is decoded from; None: it is UTF-8.
    pub charset: Option<Charset>,
}

impl Reading {
    /// A file is best brought in one piece where it is one document.
    pub fn of(options: &FormatOptions) -> Reading {
        let document = options.multi_line && options.format != Format::Csv;
        Reading { whole_max: if document { usize::MAX } else { CHUNK }, charset: options.charset }
    }
}

/// Brings the bytes of files, uncompressed, through one buffer.
#[derive(Default)]
pub struct FileReader {
    inputs: Inputs,
    buffer: Vec<u8>,
}

/// Some lines of a file.
pub struct Part {
    /// They begin at or behind this byte,
    pub from: u64,
    /// and before this one.
    pub to: u64,
    /// Some for files whose first line names columns separated by this: it comes first.
    pub header_separator: Option<u8>,
}

/// Takes bytes; how many of them it used, or None to stop. What it leaves comes again with more behind it.
pub type Take<'t> = dyn FnMut(&[u8], bool) -> Result<Option<usize>> + 't;

/// Why a file could not be read.
pub enum ReadError {
    /// It is not there.
    Missing,
    /// It is cut short or damaged.
    Corrupt(Error),
    /// Anything else, with its name.
    Failed(Error),
}

impl From<DecodeError> for ReadError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Corrupt { .. } => ReadError::Corrupt(decode_error(&error)),
            other => ReadError::Failed(decode_error(&other)),
        }
    }
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        ReadError::Failed(error)
    }
}

impl FileReader {
    /// Reads files from `inputs`.
    pub fn new(inputs: Inputs) -> FileReader {
        FileReader { inputs, buffer: Vec::new() }
    }

    /// The content of a file whose format is read where it is needed: a local file itself; an object in memory, or in
    /// a temporary file when it is large.
    pub fn content(&mut self, file: &FileEntry) -> Result<Content, ReadError> {
        let path = Path::new(&file.path);
        let failed = |e: std::io::Error| read_error(path, Compression::None, &e);
        let mut object = match self.inputs.open(file, 0)? {
            Input::File(file) => return Ok(Content::File(file)),
            object @ Input::Object(_) => object,
        };
        if file.size <= IN_MEMORY_MAX {
            let mut bytes = Vec::with_capacity(usize::try_from(file.size).unwrap_or(0));
            object.read_to_end(&mut bytes).map_err(failed)?;
            return Ok(Content::Bytes(bytes.into()));
        }
        let mut spooled = tempfile::tempfile().map_err(failed)?;
        std::io::copy(&mut object, &mut spooled).map_err(failed)?;
        spooled.seek(SeekFrom::Start(0)).map_err(failed)?;
        Ok(Content::File(spooled))
    }

    /// Brings a file, or some of its lines, to `take`, ending with `eof`.
    pub fn read(
        &mut self,
        file: &FileEntry,
        lines: Option<Part>,
        how: Reading,
        take: &mut Take<'_>,
    ) -> Result<(), ReadError> {
        let path = Path::new(&file.path);
        let compression = Compression::from_file_name(&file.path)
            .map_err(|e| Error::from(Diagnostic::new("UNSUPPORTED_COMPRESSION", e.to_string())))?;
        let failed = |e: std::io::Error| read_error(path, compression, &e);
        let size = usize::try_from(file.size).unwrap_or(usize::MAX);
        let one_piece = size < CHUNK || size < how.whole_max;
        match (compression, lines) {
            (Compression::None, None) if how.charset.is_none() => {
                let wanted = if one_piece { size.saturating_add(1).min(RECORD_MAX) } else { CHUNK };
                let mut input = self.inputs.open(file, 0)?;
                self.pump(path, &mut input, wanted, failed, take)
            }
            (Compression::None, Some(part)) => {
                if let Some(separator) = part.header_separator.filter(|_| part.from > 0) {
                    let header = header_line(&mut self.inputs.open(file, 0)?, separator).map_err(failed)?;
                    if take(&header, false)?.is_none() {
                        return Ok(());
                    }
                }
                let input = self.inputs.open(file, part.from.saturating_sub(1))?;
                let mut lines = Lines::new(input, part.from, part.to);
                self.pump(path, &mut lines, CHUNK, failed, take)
            }
            (_, _) => {
                let input = self.inputs.open(file, 0)?;
                if size == 0 && input.is_empty() {
                    return Ok(());
                }
                let mut reader = compression.reader(input).map_err(failed)?;
                if let Some(charset) = how.charset {
                    reader = charset.reader(reader);
                }
                self.pump(path, &mut reader, CHUNK, failed, take)
            }
        }
    }

    fn pump(
        &mut self,
        path: &Path,
        input: &mut dyn Read,
        wanted: usize,
        failed: impl Fn(std::io::Error) -> ReadError,
        take: &mut Take<'_>,
    ) -> Result<(), ReadError> {
        let mut filled = 0;
        let mut room = wanted.max(4096);
        loop {
            if self.buffer.len() < room {
                self.buffer.resize(room, 0);
            }
            let mut eof = false;
            while filled < room && !eof {
                match input.read(&mut self.buffer[filled..room]) {
                    Ok(0) => eof = true,
                    Ok(count) => filled += count,
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(failed(e)),
                }
            }
            let Some(used) = take(&self.buffer[..filled], eof)? else { return Ok(()) };
            if eof && used < filled {
                return Err(
                    Error::internal(format!("decoding `{}` left {} bytes", path.display(), filled - used)).into()
                );
            }
            if eof {
                return Ok(());
            }
            self.buffer.copy_within(used..filled, 0);
            filled -= used;
            if filled == room {
                if room >= RECORD_MAX {
                    return Err(Error::from(record_too_long(path)).into());
                }
                room = room.saturating_mul(2).min(RECORD_MAX);
            }
        }
    }
}

/// The lines of a file that begin in a byte range.
struct Lines {
    file: Input,
    /// Position of the next byte.
    at: u64,
    /// Skipping to behind the first line break.
    skipping: bool,
    /// The first line break at or behind this position ends it.
    last: u64,
    done: bool,
}

impl Lines {
    /// `file` stands at the byte before `from`, or at the beginning.
    fn new(file: Input, from: u64, to: u64) -> Lines {
        let at = from.saturating_sub(1);
        Lines { file, at, skipping: from > 0, last: to.saturating_sub(1), done: to <= from }
    }
}

impl Read for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while !self.done {
            let count = self.file.read(buffer)?;
            if count == 0 {
                break;
            }
            let begun = self.at;
            self.at += count as u64;
            let mut from = 0;
            if self.skipping {
                let Some(end) = memchr::memchr(b'\n', &buffer[..count]) else { continue };
                self.skipping = false;
                from = end + 1;
                // The line that was skipped reached beyond the range: nothing begins in it.
                if begun + end as u64 >= self.last {
                    self.done = true;
                    break;
                }
            }
            let mut to = count;
            if self.at > self.last {
                let search = usize::try_from(self.last.saturating_sub(begun)).unwrap_or(0).max(from);
                if let Some(end) = buffer.get(search..count).and_then(|rest| memchr::memchr(b'\n', rest)) {
                    to = search + end + 1;
                    self.done = true;
                }
            }
            if to > from {
                buffer.copy_within(from..to, 0);
                return Ok(to - from);
            }
        }
        Ok(0)
    }
}

/// A file's header line, ended by a line feed whatever ends it in the file, and what is blank before it.
fn header_line(file: &mut Input, separator: u8) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = file.read(&mut piece)?;
        line.extend_from_slice(&piece[..count]);
        let text = line.iter().position(|byte| *byte > b' ' || *byte == separator);
        let end = text.and_then(|text| memchr::memchr2(b'\n', b'\r', &line[text..]).map(|end| text + end));
        if end.is_some() || count == 0 || line.len() > RECORD_MAX {
            line.truncate(end.unwrap_or(line.len()));
            line.push(b'\n');
            return Ok(line);
        }
    }
}

fn vanished(path: &str) -> Error {
    Diagnostic::new("FILE_VANISHED", format!("file `{path}` was listed and is gone before it could be read"))
        .help("put it back; or start the stream again to go on without it")
        .into()
}

fn record_too_long(path: &Path) -> Diagnostic {
    Diagnostic::new("RECORD_TOO_LONG", format!("`{}` has a record of more than {RECORD_MAX} bytes", path.display()))
        .help("write one record per line; with multiLine a file is held in memory whole")
}

/// A failure while reading: of the disk, or of the compressed data.
fn read_error(path: &Path, compression: Compression, error: &std::io::Error) -> ReadError {
    if let Some(ours) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return ReadError::Failed(ours.clone());
    }
    use std::io::ErrorKind as Kind;
    let of_the_data =
        matches!(error.kind(), Kind::UnexpectedEof | Kind::InvalidData | Kind::InvalidInput | Kind::Other);
    if compression == Compression::None || !of_the_data {
        return ReadError::Failed(Error::io("read", path, error));
    }
    let diagnostic =
        Diagnostic::new("FILE_CORRUPT", format!("file `{}` is cut short or damaged: {error}", path.display()));
    ReadError::Corrupt(diagnostic.help(CORRUPT_HELP).into())
}

const CORRUPT_HELP: &str = "replace it by a complete file, or remove it; then run the statement again";

/// A decoder's refusal; it names the file itself.
pub fn decode_error(error: &DecodeError) -> Error {
    let code = match error {
        DecodeError::Malformed { .. } => "MALFORMED_RECORD",
        DecodeError::ColumnType { .. } => "UNSUPPORTED_COLUMN_TYPE",
        DecodeError::Format(_) => return Error::internal(error.to_string()),
        DecodeError::Corrupt { .. } => "FILE_CORRUPT",
        DecodeError::TypeMismatch { .. } => "COLUMN_TYPE_MISMATCH",
        DecodeError::TooLong { .. } => "RECORD_TOO_LONG",
        DecodeError::TooManyColumns { .. } => "TOO_MANY_COLUMNS",
        DecodeError::Batch(_) => "MALFORMED_BATCH",
    };
    let diagnostic = Diagnostic::new(code, error.to_string());
    Error::statement(match error {
        DecodeError::Malformed { .. } => {
            diagnostic.help("mode PERMISSIVE keeps the row and counts it, DROPMALFORMED drops it")
        }
        DecodeError::Corrupt { .. } => {
            diagnostic.help(CORRUPT_HELP).help("or leave such files out: ignoreCorruptFiles")
        }
        DecodeError::TypeMismatch { .. } => {
            diagnostic.help("give the column a type that holds both; or let such values be rescued: rescuedDataColumn")
        }
        _ => diagnostic,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn parts(content: &[u8], cuts: &[u64], header_separator: Option<u8>) -> Vec<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.csv");
        std::fs::write(&path, content).unwrap();
        let file = FileEntry { path: path.to_str().unwrap().to_owned(), size: content.len() as u64, modified_ms: 0 };
        let mut reader = FileReader::default();
        let how = Reading { whole_max: 0, charset: None };
        let mut from = 0;
        let mut parts = Vec::new();
        for to in cuts.iter().copied().chain([u64::MAX]) {
            let mut part = Vec::new();
            let mut keep = |bytes: &[u8], eof: bool| {
                // As decoders do: whole lines, and the rest at the end.
                let used = if eof { bytes.len() } else { memchr::memrchr(b'\n', bytes).map_or(0, |end| end + 1) };
                part.extend_from_slice(&bytes[..used]);
                Ok(Some(used))
            };
            let read = reader.read(&file, Some(Part { from, to, header_separator }), how, &mut keep);
            assert!(read.is_ok());
            parts.push(part);
            from = to;
        }
        parts
    }

    #[test]
    fn parts_of_a_file_are_the_file_wherever_it_is_cut() {
        let content = b"one\n\ntwo two\r\nthree\nf\nlast line without end";
        for first in 0..content.len() as u64 + 2 {
            for second in first..content.len() as u64 + 2 {
                let parts = parts(content, &[first, second], None);
                assert_eq!(parts.concat(), content, "cut at {first} and {second}");
                let lines_end =
                    parts[..2].iter().all(|part| part.is_empty() || part.ends_with(b"\n") || part.ends_with(b"end"));
                assert!(lines_end, "cut at {first} and {second}: {parts:?}");
            }
        }
    }

    #[test]
    fn later_parts_of_a_table_begin_with_its_header() {
        let parts = parts(b"\n \na,b\r\n1,2\n3,4\n5,6\n", &[12], Some(b','));
        assert_eq!(parts[0], b"\n \na,b\r\n1,2\n");
        assert_eq!(parts[1], b"\n \na,b\n3,4\n5,6\n");
    }
}
