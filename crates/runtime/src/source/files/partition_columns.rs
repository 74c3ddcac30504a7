//! Columns whose values stand in a file's path: `…/year=2024/month=01/…`.
//!
//! Names and types are found once, from the paths there are; a value that does not fit its type later is NULL, and so is a
//! key that a path lacks. Knows nothing of what is in the files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, UInt32Array};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};

use super::FileEntry;
use crate::error::Result;

/// How Hive writes NULL.
const NULL_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// The `key=value` directories between `base` and the file, decoded.
fn keys<'p>(base: &Path, path: &'p str) -> impl Iterator<Item = (String, &'p str)> {
    let relative = Path::new(path).strip_prefix(base).ok().and_then(Path::to_str).unwrap_or_default();
    let directories = relative.rsplit_once('/').map_or("", |(directories, _)| directories);
    directories.split('/').filter_map(|part| {
        let (key, value) = part.split_once('=')?;
        (!key.is_empty()).then(|| (decoded(key), value))
    })
}

/// The value of a key; of several the innermost. None: NULL.
fn value(base: &Path, path: &str, key: &str) -> Option<String> {
    let (_, value) = keys(base, path).filter(|(name, _)| name.to_lowercase() == key.to_lowercase()).last()?;
    (value != NULL_VALUE && !value.is_empty()).then(|| decoded(value))
}

/// Undoes `%20` and its like; what is no escape stays.
fn decoded(text: &str) -> String {
    crate::table::decoded(text)
}

/// The columns that the paths of files have, typed by their values. `wanted`: only these, in this order, also if no
/// path has them; `typed`: names with types that are known.
pub fn infer<'p>(
    base: &Path,
    paths: impl Iterator<Item = &'p str>,
    wanted: Option<&[String]>,
    typed: &[FieldRef],
) -> Fields {
    let mut found: Vec<(String, Kind)> = wanted.unwrap_or_default().iter().map(|n| (n.clone(), Kind::Null)).collect();
    let mut last = "";
    for path in paths {
        // Neighbours share their directories.
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        if directory == last {
            continue;
        }
        last = directory;
        for (key, text) in keys(base, path) {
            let lower = key.to_lowercase();
            let at = found.iter().position(|(name, _)| name.to_lowercase() == lower);
            let kind = if text == NULL_VALUE || text.is_empty() { Kind::Null } else { Kind::of(&decoded(text)) };
            match at {
                Some(at) => found[at].1 = found[at].1.merge(kind),
                None if wanted.is_none() => found.push((key, kind)),
                None => {}
            }
        }
    }
    let fields = found.into_iter().map(|(name, kind)| {
        let known = typed.iter().find(|field| field.name().to_lowercase() == name.to_lowercase());
        let data_type = known.map_or_else(|| kind.data_type(), |field| field.data_type().clone());
        Field::new(known.map_or(name, |field| field.name().clone()), data_type, true)
    });
    fields.collect()
}

/// What a key's values have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    Int,
    BigInt,
    /// Integers of up to so many digits.
    Decimal(u8),
    Double,
    Date,
    Timestamp,
    Text,
}

impl Kind {
    fn of(text: &str) -> Kind {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            return match text.parse::<i64>() {
                Ok(value) if i32::try_from(value).is_ok() => Kind::Int,
                Ok(_) => Kind::BigInt,
                Err(_) if digits.len() <= 38 => Kind::Decimal(digits.len() as u8),
                Err(_) => Kind::Double,
            };
        }
        let number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
        if number && text.parse::<f64>().is_ok() {
            return Kind::Double;
        }
        if chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok() {
            return Kind::Date;
        }
        let timestamp = |format| chrono::NaiveDateTime::parse_from_str(text, format).is_ok();
        if timestamp("%Y-%m-%d %H:%M:%S%.f") || timestamp("%Y-%m-%dT%H:%M:%S%.f") {
            return Kind::Timestamp;
        }
        Kind::Text
    }

    fn merge(self, other: Kind) -> Kind {
        use Kind as K;
        match (self, other) {
            (K::Null, kind) | (kind, K::Null) => kind,
            (a, b) if a == b => a,
            (K::Int, K::BigInt) | (K::BigInt, K::Int) => K::BigInt,
            (K::Decimal(a), K::Decimal(b)) => K::Decimal(a.max(b)),
            (K::Decimal(digits), K::Int | K::BigInt) | (K::Int | K::BigInt, K::Decimal(digits)) => K::Decimal(digits),
            (K::Double, K::Int | K::BigInt | K::Decimal(_)) | (K::Int | K::BigInt | K::Decimal(_), K::Double) => {
                K::Double
            }
            (K::Date, K::Timestamp) | (K::Timestamp, K::Date) => K::Timestamp,
            _ => K::Text,
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Kind::Int => DataType::Int32,
            Kind::BigInt => DataType::Int64,
            Kind::Decimal(digits) => DataType::Decimal128(digits, 0),
            Kind::Double => DataType::Float64,
            Kind::Date => DataType::Date32,
            Kind::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Kind::Null | Kind::Text => DataType::Utf8,
        }
    }
}

/// Partition columns of a scan, and where they stand in its output.
#[derive(Debug, Clone, PartialEq)]
pub struct PathColumns {
    /// Below it directories count.
    pub base: PathBuf,
    /// Place in the output, ascending, and the column.
    pub columns: Vec<(usize, FieldRef)>,
}

impl PathColumns {
    /// The columns for a batch whose rows come from `origin`: (file, rows), in order; with their places.
    pub fn arrays(&self, files: &[FileEntry], origin: &[(usize, usize)]) -> Result<Vec<(usize, ArrayRef)>> {
        if self.columns.is_empty() {
            return Ok(Vec::new());
        }
        let runs = origin.iter().enumerate();
        let indices: UInt32Array =
            runs.flat_map(|(run, (_, rows))| std::iter::repeat_n(run as u32, *rows)).collect::<Vec<_>>().into();
        let column = |(at, field): &(usize, FieldRef)| {
            let of = |(file, _): &(usize, usize)| value(&self.base, &files.get(*file)?.path, field.name());
            let texts: ArrayRef = Arc::new(origin.iter().map(of).collect::<StringArray>());
            let values = cast_with_options(&texts, field.data_type(), &CastOptions::default())?;
            Ok((*at, take(&values, &indices, None)?))
        };
        self.columns.iter().map(column).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use alluvium_planner::ddl::sql_type;
    use arrow::array::AsArray;
    use arrow::datatypes::Int32Type;

    use super::*;

    fn types(paths: &[&str], wanted: Option<&[String]>) -> String {
        let fields = infer(Path::new("/in"), paths.iter().copied(), wanted, &[]);
        fields.iter().map(|f| format!("{} {}", f.name(), sql_type(f.data_type()))).collect::<Vec<_>>().join(", ")
    }

    /// The expected types are those that Spark 4.1 finds for the same directories.
    #[test]
    fn types_follow_all_values() {
        assert_eq!(types(&["/in/y=2024/m=01/a", "/in/y=2025/m=12/b"], None), "y INT, m INT");
        assert_eq!(types(&["/in/k=1/a", "/in/k=x/b"], None), "k STRING");
        assert_eq!(types(&["/in/k=1/a", "/in/k=1.5/b", "/in/k=3000000000/c"], None), "k DOUBLE");
        assert_eq!(types(&["/in/k=1/a", "/in/k=3000000000/b"], None), "k BIGINT");
        assert_eq!(types(&["/in/d=2024-01-31/a"], None), "d DATE");
        assert_eq!(types(&["/in/d=2024-01-31/a", "/in/d=2024-01-31 10%3A00%3A00/b"], None), "d TIMESTAMP");
        assert_eq!(types(&["/in/k=__HIVE_DEFAULT_PARTITION__/a"], None), "k STRING");
        assert_eq!(types(&["/in/k=__HIVE_DEFAULT_PARTITION__/a", "/in/k=7/a"], None), "k INT");
        assert_eq!(types(&["/in/plain/a=b.json", "/in/=x/a"], None), "");
        assert_eq!(types(&["/in/a=1/b=2/f"], Some(&["b".into(), "c".into()])), "b INT, c STRING");
        assert_eq!(types(&["/in/a=1/b=2/f"], Some(&[])), "");
    }

    #[test]
    fn values_are_decoded_and_typed() {
        let file = |path: &str| FileEntry { path: path.into(), size: 0, modified_ms: 0 };
        let files =
            [file("/in/n=07/c=New%20York/f"), file("/in/n=__HIVE_DEFAULT_PARTITION__/c=a=b/f"), file("/in/n=x/f")];
        let field = |name: &str, data_type| Arc::new(Field::new(name, data_type, true));
        let columns = vec![(0, field("n", DataType::Int32)), (2, field("C", DataType::Utf8))];
        let arrays = PathColumns { base: "/in".into(), columns }.arrays(&files, &[(0, 2), (1, 1), (2, 1)]).unwrap();
        let numbers: Vec<_> = arrays[0].1.as_primitive::<Int32Type>().iter().collect();
        assert_eq!(numbers, [Some(7), Some(7), None, None]);
        let texts: Vec<_> = arrays[1].1.as_string::<i32>().iter().collect();
        assert_eq!((arrays[1].0, texts), (2, vec![Some("New York"), Some("New York"), Some("a=b"), None]));
    }
}
