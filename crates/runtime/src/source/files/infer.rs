//! The columns of files, learnt from a sample.
//!
//! The sample is the newest files, at most so many of them and about so many bytes (compressed ones count five times),
//! read oldest first, so that columns come in the order in which they appeared. Of the file that
//! crosses the limit only whole records up to the limit are looked at.

use alluvium_formats::compression::Compression;
use alluvium_formats::typed::{FileFacts, binary_file_schema, file_schema, reader_schema, widest_schema};
use alluvium_formats::{Format, FormatOptions, Inferrer};
use alluvium_parser::Diagnostic;
use arrow::datatypes::Schema;

use super::FileEntry;
use super::content::{FileReader, ReadError, Reading, decode_error};
use super::read::Passes;
use super::store::{Inputs, Place};
use crate::error::{Error, Result};

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    /// Most files.
    pub files_max: usize,
    /// About how many bytes.
    pub bytes_max: u64,
}

impl Sampling {
    /// Everything.
    pub const ALL: Sampling = Sampling { files_max: usize::MAX, bytes_max: u64::MAX };
}

impl Default for Sampling {
    /// A tenth of a second or two of one core.
    fn default() -> Sampling {
        Sampling { files_max: 1000, bytes_max: 32 << 20 }
    }
}

/// The first columns of a relation: [`infer`] over all files, or with `mergeSchema` false over the newest that has any.
pub fn first(
    files: &[FileEntry],
    options: &FormatOptions,
    place: &Place,
    passes: &Passes,
    sampling: Sampling,
) -> Result<Option<Schema>> {
    if options.merge_schema || files.len() < 2 {
        return infer(files, options, place, passes, sampling);
    }
    for file in files.iter().rev().take(sampling.files_max) {
        if let Some(schema) = infer(std::slice::from_ref(file), options, place, passes, sampling)? {
            return Ok(Some(schema));
        }
    }
    Ok(None)
}

/// What the sample told; None when it has no records. Damaged files are passed over where `passes` says so.
pub fn infer(
    files: &[FileEntry],
    options: &FormatOptions,
    place: &Place,
    passes: &Passes,
    sampling: Sampling,
) -> Result<Option<Schema>> {
    if options.format.is_typed() {
        return typed(files, options, place, passes, sampling);
    }
    let mut inferrer = Inferrer::new(options);
    let files = sample(files, sampling);
    let mut reader = FileReader::new(Inputs::of(place, files.iter().map(|file| (file, 0))));
    let mut left = sampling.bytes_max;
    for file in files {
        inferrer.start_file(&file.path);
        let read = reader.read(file, None, Reading::of(options), &mut |bytes, eof| {
            let used = inferrer.sample(bytes, eof).map_err(|e| decode_error(&e))?;
            left = left.saturating_sub(used as u64);
            Ok((left > 0).then_some(used))
        });
        match read {
            // It went between listing and reading; the next look will tell.
            Ok(()) | Err(ReadError::Missing) => {}
            Err(ReadError::Corrupt(error)) if passes.corrupt(&file.path, &error) => {}
            Err(ReadError::Corrupt(error) | ReadError::Changed(error) | ReadError::Failed(error)) => return Err(error),
        }
        if left == 0 {
            break;
        }
    }
    let records = inferrer.records();
    let schema = inferrer.finish().map_err(|e| decode_error(&e))?;
    Ok((records > 0 || !schema.fields().is_empty()).then_some(schema))
}

/// What the files say themselves: all columns of the newest of them, each with the widest common type.
fn typed(
    files: &[FileEntry],
    options: &FormatOptions,
    place: &Place,
    passes: &Passes,
    sampling: Sampling,
) -> Result<Option<Schema>> {
    if options.format == Format::BinaryFile {
        return Ok(Some(binary_file_schema()));
    }
    if let Some(schema) = reader_schema(options).map_err(|e| decode_error(&e))? {
        return Ok(Some(schema));
    }
    let files = &files[files.len().saturating_sub(sampling.files_max)..];
    let mut reader = FileReader::new(Inputs::of(place, files.iter().map(|file| (file, 0))));
    let mut learnt: Option<Schema> = None;
    for file in files {
        let facts = FileFacts { path: &file.path, url: "", size: file.size, modified_us: 0 };
        let schema = reader.content(file, false).and_then(|content| Ok(file_schema(options, facts, content)?));
        let schema = match schema {
            Ok(schema) => schema,
            Err(ReadError::Missing) => continue,
            Err(ReadError::Corrupt(error)) if passes.corrupt(&file.path, &error) => continue,
            Err(ReadError::Corrupt(error) | ReadError::Changed(error) | ReadError::Failed(error)) => return Err(error),
        };
        learnt = Some(match learnt {
            Some(known) => widest_schema(&known, &schema),
            None => schema,
        });
    }
    Ok(learnt.filter(|schema| !schema.fields().is_empty()))
}

/// The newest files within the limits, oldest first. `files` are ordered oldest first.
fn sample(files: &[FileEntry], sampling: Sampling) -> &[FileEntry] {
    let mut bytes = 0u64;
    let enough = files.iter().rev().take(sampling.files_max).take_while(|file| {
        let before = bytes;
        let factor = if Compression::from_file_name(&file.path) == Ok(Compression::None) { 1 } else { 5 };
        bytes = bytes.saturating_add(file.size.saturating_mul(factor));
        before < sampling.bytes_max
    });
    &files[files.len() - enough.count()..]
}

/// The error for a place without records where columns are to be learnt.
pub fn nothing_to_learn(title: &str) -> Error {
    Diagnostic::new("UNABLE_TO_INFER_SCHEMA", format!("{title} has no records from which columns could be learnt"))
        .help("give them: schema => 'a BIGINT, b STRING'")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_the_newest_files_within_the_limits() {
        let file = |i: i64, size| FileEntry { path: format!("{i}.json"), size, modified_ms: i };
        let many: Vec<_> = (0..1500).map(|i| file(i, 10)).collect();
        let sampling = Sampling::default();
        assert_eq!(sample(&many, sampling).len(), 1000);
        assert_eq!(sample(&many, Sampling { files_max: 3, ..sampling }).len(), 3);
        assert_eq!(sample(&many, Sampling::ALL).len(), 1500);
        assert_eq!(sample(&many, sampling)[0].modified_ms, 500);
        let large: Vec<_> = (0..10).map(|i| file(i, sampling.bytes_max / 2)).collect();
        assert_eq!(sample(&large, sampling).iter().map(|f| f.modified_ms).collect::<Vec<_>>(), [8, 9]);
        assert!(sample(&[], sampling).is_empty());
    }
}
