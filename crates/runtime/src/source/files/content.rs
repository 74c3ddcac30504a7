//! The bytes of files, uncompressed: whole or some of their lines, through one reused buffer.
//!
//! Errors name the file. What bytes mean is the decoders' matter, and whose rows they become [`read`](super::read)'s.

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use alluvium_formats::compression::Compression;
use alluvium_formats::typed::Content;
use alluvium_formats::{Charset, DecodeError, Format, FormatOptions, csv};
use alluvium_parser::Diagnostic;

use super::FileEntry;
use super::store::{Input, Inputs};
use super::version::{Held, Version, changed};
use crate::error::{Error, Result};

/// Bytes read at once. Small enough to stay in a core's cache until decoded.
const CHUNK: usize = 1 << 20;

/// Objects up to this size are held in memory where a format is read here and there.
const IN_MEMORY_MAX: u64 = 64 << 20;

/// A record longer than this is refused: it would have to be held whole.
const RECORD_MAX: usize = 1 << 30;

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
    held: Held,
    /// Version of the file that is being read, where versions matter.
    version: Option<Version>,
    /// A local file that is being read.
    opened: Option<Arc<File>>,
}

/// Some lines of a file.
pub struct Part<'o> {
    /// They begin at or behind this byte,
    pub from: u64,
    /// and before this one.
    pub to: u64,
    /// What they are: of CSV the beginning with its header is brought before the lines of each part.
    pub options: &'o FormatOptions,
}

/// Takes bytes; how many of them it used, or None to stop. What it leaves comes again with more behind it.
pub type Take<'t> = dyn FnMut(&[u8], bool) -> Result<Option<usize>> + 't;

/// Why a file could not be read.
pub enum ReadError {
    /// It is not there.
    Missing,
    /// It is cut short or damaged.
    Corrupt(Error),
    /// It is not what it was when it was chosen, or when reading it began.
    Changed(Error),
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
        FileReader { inputs, ..FileReader::default() }
    }

    /// Takes only such versions of files.
    pub fn holding(self, held: Held) -> FileReader {
        FileReader { held, ..self }
    }

    /// Begins a file. Its version matters where the reader is held to one, or where it is read in `parts`.
    fn open(&mut self, file: &FileEntry, from: u64, parts: bool) -> Result<Input, ReadError> {
        let input = self.inputs.open(file, from)?;
        if self.held == Held::No && !parts {
            return Ok(input);
        }
        let failed = |e: std::io::Error| ReadError::Failed(Error::io("look at", Path::new(&file.path), &e));
        let Some(version) = input.version().map_err(failed)? else { return Ok(input) };
        let same = self.version.as_ref().is_none_or(|before| *before == version);
        if !same || !version.is_taken(file, self.held) {
            return Err(ReadError::Changed(changed(&file.path)));
        }
        self.version = Some(version);
        if let Input::File(file) = &input {
            self.opened = Some(file.clone());
        }
        Ok(input)
    }

    /// Ends a file, of which `read` came: its version where that matters. A file that was written again meanwhile may have
    /// given anything, an error too.
    pub fn end(&mut self, file: &FileEntry, read: Result<(), ReadError>) -> Result<Option<Version>, ReadError> {
        let (version, opened) = (self.version.take(), self.opened.take());
        if let (Some(version), Some(opened)) = (&version, opened)
            && !matches!(read, Err(ReadError::Missing | ReadError::Changed(_)))
        {
            let failed = |e: std::io::Error| ReadError::Failed(Error::io("look at", Path::new(&file.path), &e));
            let now = opened.metadata().and_then(|now| Version::of_file(&now)).map_err(failed)?;
            if now != *version {
                return Err(ReadError::Changed(changed(&file.path)));
            }
        }
        read.map(|()| version)
    }

    /// The content of a file whose format is read where it is needed: a local file itself; an object in memory, or in
    /// a temporary file when it is large.
    pub fn content(&mut self, file: &FileEntry, parts: bool) -> Result<Content, ReadError> {
        let path = Path::new(&file.path);
        let failed = |e: std::io::Error| read_error(path, Compression::None, &e);
        let mut object = match self.open(file, 0, parts)? {
            Input::File(file) => return file.try_clone().map(Content::File).map_err(failed),
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
        part: Option<Part<'_>>,
        how: Reading,
        take: &mut Take<'_>,
    ) -> Result<(), ReadError> {
        let path = Path::new(&file.path);
        let compression = Compression::from_file_name(&file.path)
            .map_err(|e| Error::from(Diagnostic::new("UNSUPPORTED_COMPRESSION", e.to_string())))?;
        let failed = |e: std::io::Error| read_error(path, compression, &e);
        let size = usize::try_from(file.size).unwrap_or(usize::MAX);
        let one_piece = size < CHUNK || size < how.whole_max;
        match (compression, part) {
            (Compression::None, None) if how.charset.is_none() => {
                let wanted = if one_piece { size.saturating_add(1).min(RECORD_MAX) } else { CHUNK };
                let mut input = self.open(file, 0, false)?;
                self.pump(path, &mut input, wanted, failed, take)
            }
            (Compression::None, Some(part)) => {
                let mut before = match part.options.format {
                    Format::Csv if part.from > 0 => {
                        beginning(&mut self.open(file, 0, true)?, part.options).map_err(failed)?
                    }
                    _ => Vec::new(),
                };
                let Some((from, exact)) = part.first_line(&before) else { return Ok(()) };
                let input = self.open(file, if exact { from } else { from.saturating_sub(1) }, true)?;
                let lines = Lines::new(input, from, part.to, exact);
                if part.from > 0 && before.is_empty() && part.options.format != Format::Text {
                    // A blank line, so that a byte order mark is not taken for one in the middle of a file.
                    before.push(b'\n');
                }
                self.pump(path, &mut Cursor::new(before).chain(lines), CHUNK, failed, take)
            }
            (_, _) => {
                let input = self.open(file, 0, false)?;
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

impl Part<'_> {
    /// Where its lines are looked for, and whether one begins exactly there instead of behind the next line feed; None if
    /// it has none. `before` is what stands before the file's first row.
    fn first_line(&self, before: &[u8]) -> Option<(u64, bool)> {
        let rows = before.len() as u64;
        if rows <= self.from {
            return Some((self.from, false));
        }
        // A header that ends with a carriage return stands on one line with the first row, by line feeds.
        let line = memchr::memrchr(b'\n', before).map_or(0, |end| end as u64 + 1);
        match line < rows && self.from <= line {
            true => (line < self.to).then_some((rows, true)),
            false => Some((rows, false)),
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
    /// `file` stands at the byte before `from`, or at the beginning; `exact`: at `from`, where a line begins.
    fn new(file: Input, from: u64, to: u64, exact: bool) -> Lines {
        let at = if exact { from } else { from.saturating_sub(1) };
        Lines { file, at, skipping: from > 0 && !exact, last: to.saturating_sub(1), done: to <= from && !exact }
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

/// What stands before the first row of a CSV file.
fn beginning(file: &mut Input, options: &FormatOptions) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut piece = 4096;
    loop {
        let count = file.by_ref().take(piece).read_to_end(&mut text)?;
        let eof = (count as u64) < piece || text.len() > RECORD_MAX;
        if let Some(end) = csv::beginning(options, &text, eof) {
            text.truncate(end);
            return Ok(text);
        }
        piece *= 2;
    }
}

fn record_too_long(path: &Path) -> Diagnostic {
    Diagnostic::new("RECORD_TOO_LONG", format!("`{}` has a record of more than {RECORD_MAX} bytes", path.display()))
        .help("write one record per line; with multiLine a file is held in memory whole")
}

/// A failure while reading: of the disk, or of the compressed data.
fn read_error(path: &Path, compression: Compression, error: &std::io::Error) -> ReadError {
    if let Some(ours) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return match ours.diagnostic().code {
            "OBJECT_CHANGED" => ReadError::Changed(ours.clone()),
            _ => ReadError::Failed(ours.clone()),
        };
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
    use std::sync::Arc;

    use alluvium_formats::decode::decoder_projected;
    use arrow::array::RecordBatch;
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn options(format: Format, entries: &[(&str, &str)]) -> FormatOptions {
        let entries: Vec<_> = entries.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        FormatOptions::parse(format, &entries, true, true).unwrap()
    }

    /// What `take` is brought of each part of a file that is cut at `cuts`.
    fn read_parts(content: &[u8], cuts: &[u64], options: &FormatOptions, take: &mut Take<'_>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.csv");
        std::fs::write(&path, content).unwrap();
        let file = FileEntry { path: path.to_str().unwrap().to_owned(), size: content.len() as u64, modified_ms: 0 };
        let mut reader = FileReader::default();
        let mut from = 0;
        for to in cuts.iter().copied().chain([u64::MAX]) {
            let read = reader.read(&file, Some(Part { from, to, options }), Reading::of(options), take);
            assert!(read.is_ok());
            from = to;
        }
    }

    #[test]
    fn parts_of_a_file_are_the_file_wherever_it_is_cut() {
        let content = b"one\n\ntwo two\r\nthree\nf\nlast line without end";
        let text = options(Format::Text, &[]);
        for first in 0..content.len() as u64 + 2 {
            for second in first..content.len() as u64 + 2 {
                let mut parts = vec![Vec::new()];
                read_parts(content, &[first, second], &text, &mut |bytes, eof| {
                    // As decoders do: whole lines, and the rest at the end.
                    let used = if eof { bytes.len() } else { memchr::memrchr(b'\n', bytes).map_or(0, |end| end + 1) };
                    parts.last_mut().unwrap().extend_from_slice(&bytes[..used]);
                    if eof {
                        parts.push(Vec::new());
                    }
                    Ok(Some(used))
                });
                assert_eq!(parts.concat(), content, "cut at {first} and {second}");
                let lines_end =
                    parts[..2].iter().all(|part| part.is_empty() || part.ends_with(b"\n") || part.ends_with(b"end"));
                assert!(lines_end, "cut at {first} and {second}: {parts:?}");
            }
        }
    }

    #[test]
    fn a_file_that_is_written_again_while_it_is_read_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.txt");
        let text = options(Format::Text, &[]);
        let write = |content: &[u8]| std::fs::write(&path, content).unwrap();
        let stat = || super::super::listing::stat(path.to_str().unwrap()).unwrap().unwrap();
        // Some of the old content was given, then the file became another one: in place, or by another one's name.
        type Change<'c> = &'c dyn Fn();
        let in_place: Change<'_> = &|| write(&vec![b'x'; 3 << 20]);
        let shorter: Change<'_> = &|| write(b"x\n");
        let renamed: Change<'_> = &|| {
            std::fs::write(dir.path().join("g"), vec![b'y'; 3 << 20]).unwrap();
            std::fs::rename(dir.path().join("g"), &path).unwrap();
        };
        for (change, ends_changed) in [(in_place, true), (shorter, true), (renamed, false)] {
            write(&vec![b'a'; 3 << 20]);
            let modified = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
            File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
            let file = stat();
            let mut reader = FileReader::default().holding(Held::Chosen);
            let (mut times, mut seen) = (0, Vec::new());
            let read = reader.read(&file, None, Reading { whole_max: 0, charset: None }, &mut |bytes, eof| {
                if times == 0 {
                    change();
                }
                times += 1;
                seen.extend_from_slice(&bytes[..if eof { bytes.len() } else { bytes.len() / 2 }]);
                Ok(Some(if eof { bytes.len() } else { bytes.len() / 2 }))
            });
            match reader.end(&file, read) {
                Err(ReadError::Changed(error)) => {
                    assert!(ends_changed && error.diagnostic().code == "FILE_CHANGED", "{error}");
                }
                other => assert!(!ends_changed && other.is_ok() && seen == vec![b'a'; 3 << 20], "one version, whole"),
            }
            // What was chosen is not there any more.
            let again = reader.read(&file, None, Reading::of(&text), &mut |bytes, _| Ok(Some(bytes.len())));
            assert!(matches!(reader.end(&file, again), Err(ReadError::Changed(_))));
        }
    }

    /// The rows of all parts; `None` as cuts: the file is read whole.
    fn rows(content: &[u8], cuts: Option<&[u64]>, options: &FormatOptions) -> RecordBatch {
        let utf8 = |name| Field::new(name, DataType::Utf8, true);
        let schema = Arc::new(match options.format {
            Format::Text => Schema::new(vec![utf8("value")]),
            _ => Schema::new(vec![Field::new("a", DataType::Int64, true), utf8("b"), utf8("_rescued_data")]),
        });
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        let mut decoder = decoder_projected(options, schema.clone(), &all, 1000).unwrap();
        decoder.start_file("f");
        let mut take = |bytes: &[u8], eof: bool| {
            let mut used = 0;
            loop {
                let more = decoder.decode(&bytes[used..], eof).unwrap();
                used += more;
                if more == 0 || used == bytes.len() {
                    break;
                }
            }
            if eof {
                decoder.start_file("f");
            }
            Ok(Some(used))
        };
        match cuts {
            Some(cuts) => read_parts(content, cuts, options, &mut take),
            None => assert_eq!(take(content, true).unwrap(), Some(content.len())),
        }
        decoder.finish().unwrap()
    }

    #[test]
    fn parts_of_a_file_hold_the_same_records_wherever_it_is_cut() {
        type Case<'a> = (Format, &'a [(&'a str, &'a str)], &'a str, usize);
        let cases: [Case<'_>; 7] = [
            (Format::Csv, &[], "\n \na,b\r\n1,\"x, y\"\r\n\r\n2,\"q\"\"q\"\r\n3,é\r\n4,last", 4),
            (Format::Csv, &[], "a,b\n1,\"open\n2,y\n3,\"\"\"\nx,4,z\n5,\\\"\n", 5),
            (Format::Csv, &[("skipRows", "2"), ("comment", "#")], "1\n2\n#c\n\na,b\r1,x\n2,y\n#no\n\n3,z\n", 3),
            (Format::Csv, &[("header", "false")], "\u{feff}1,x\n2,y\r\n\u{feff}3,z\r4,\n", 4),
            (
                Format::Json,
                &[],
                "\u{feff}{\"a\":1}\r\n\n{\"b\":\"\\n\"}\n\u{feff}{\"a\":3}\nno\n{\"a\":4}\r{\"a\":5}\n[{\"a\":6},{\"a\":7}]\n{}",
                9,
            ),
            (Format::Json, &[("lineSep", "\n")], "{\"a\":1}\n{\"a\":2}\r\n\n{\"a\":3}", 3),
            (Format::Text, &[], "x\r\n\ny\rz\n\n\u{feff}e", 6),
        ];
        for (format, entries, text, count) in cases {
            let options = options(format, entries);
            let whole = rows(text.as_bytes(), None, &options);
            assert_eq!(whole.num_rows(), count, "{text:?}");
            let end = text.len() as u64 + 2;
            for first in 0..end {
                for second in [first, first + 1, first + 9, end] {
                    let parts = rows(text.as_bytes(), Some(&[first, second]), &options);
                    assert_eq!(parts, whole, "{text:?} cut at {first} and {second}");
                }
            }
        }
    }
}
