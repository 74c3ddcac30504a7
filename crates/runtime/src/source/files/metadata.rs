//! The `_metadata` column: where each row comes from.

use std::path::Path;
use std::sync::Arc;

use alluvium_planner::relation::metadata_fields;
use arrow::array::{ArrayRef, Int64Array, StringArray, StructArray, TimestampMicrosecondArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};

use super::FileEntry;

/// The column for a batch whose rows come from `origin`: (file, rows), in order.
pub fn metadata_array(files: &[FileEntry], origin: &[(usize, usize)]) -> ArrayRef {
    let sources: Vec<(&FileEntry, usize)> =
        origin.iter().filter_map(|(file, rows)| files.get(*file).map(|file| (file, *rows))).collect();
    let rows = sources.iter().map(|(_, rows)| rows).sum();
    let numbers = |value: &dyn Fn(&FileEntry) -> i64| -> ScalarBuffer<i64> {
        let mut out = Vec::with_capacity(rows);
        for (file, rows) in &sources {
            out.resize(out.len() + rows, value(file));
        }
        out.into()
    };
    let size = |file: &FileEntry| i64::try_from(file.size).unwrap_or(i64::MAX);
    let modified = numbers(&|file| file.modified_ms.saturating_mul(1000));
    let columns: Vec<ArrayRef> = vec![
        repeated(&sources, |file| file_url(&file.path)),
        repeated(&sources, |file| file.path.rsplit('/').next().unwrap_or_default().to_owned()),
        Arc::new(Int64Array::new(numbers(&size), None)),
        Arc::new(Int64Array::new(numbers(&|_| 0), None)),
        Arc::new(Int64Array::new(numbers(&size), None)),
        Arc::new(TimestampMicrosecondArray::new(modified, None).with_timezone("UTC")),
    ];
    Arc::new(StructArray::new(metadata_fields(), columns, None))
}

fn repeated(sources: &[(&FileEntry, usize)], text: impl Fn(&FileEntry) -> String) -> ArrayRef {
    let texts: Vec<(String, usize)> = sources.iter().map(|(file, rows)| (text(file), *rows)).collect();
    let bytes = texts.iter().map(|(text, rows)| text.len() * rows).sum();
    let mut values = Vec::with_capacity(bytes);
    let mut lengths = Vec::new();
    for (text, rows) in &texts {
        for _ in 0..*rows {
            values.extend_from_slice(text.as_bytes());
        }
        lengths.resize(lengths.len() + rows, text.len());
    }
    // The values are whole strings and the offsets their ends, so this cannot fail.
    match StringArray::try_new(OffsetBuffer::from_lengths(lengths), values.into(), None) {
        Ok(array) => Arc::new(array),
        Err(_) => Arc::new(StringArray::from_iter_values(
            texts.iter().flat_map(|(text, rows)| std::iter::repeat_n(text, *rows)),
        )),
    }
}

/// Spark's spelling of a file: a URL with what URLs cannot hold percent-encoded.
pub fn file_url(path: &str) -> String {
    if let Some(url) = super::store::encoded_url(path) {
        return url;
    }
    match url::Url::from_file_path(Path::new(path)) {
        Ok(url) => url.into(),
        Err(()) => path.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Int64Type, TimestampMicrosecondType};

    use super::*;

    #[test]
    fn rows_carry_their_file() {
        let file = |path: &str, size| FileEntry { path: path.into(), size, modified_ms: 5 };
        let files = [file("/d/a b.json", 7), file("/d/c.json", 9)];
        let array = metadata_array(&files, &[(0, 2), (1, 1)]);
        let array = array.as_struct();
        let paths: Vec<_> = array.column(0).as_string::<i32>().iter().map(Option::unwrap).collect();
        assert_eq!(paths, ["file:///d/a%20b.json", "file:///d/a%20b.json", "file:///d/c.json"]);
        assert_eq!(array.column(1).as_string::<i32>().value(2), "c.json");
        assert_eq!(array.column(2).as_primitive::<Int64Type>().values(), &[7, 7, 9]);
        assert_eq!(array.column(5).as_primitive::<TimestampMicrosecondType>().value(0), 5000);
    }
}
