//! The statistics of a data file that Delta readers skip files by, taken from the Parquet footer.

use std::collections::{BTreeSet, HashMap};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, FieldRef, Float32Type, Float64Type, Schema};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use serde_json::{Map, Number, Value, json};

/// Finds the columns in which NaN occurs: Parquet leaves NaN out of minimum and maximum, comparisons do not.
#[derive(Debug, Default)]
pub struct NanWatch {
    seen: BTreeSet<usize>,
}

impl NanWatch {
    /// Looks at a batch that goes into the file.
    pub fn look(&mut self, batch: &RecordBatch) {
        for (at, column) in batch.columns().iter().enumerate() {
            let found = match column.data_type() {
                _ if self.seen.contains(&at) => continue,
                DataType::Float64 => column.as_primitive::<Float64Type>().values().iter().any(|v| v.is_nan()),
                DataType::Float32 => column.as_primitive::<Float32Type>().values().iter().any(|v| v.is_nan()),
                _ => continue,
            };
            if found {
                self.seen.insert(at);
            }
        }
    }
}

/// The `stats` text of a file of `schema`, for its first `columns` leaf columns.
pub fn of_file(schema: &Schema, footer: &ParquetMetaData, columns: usize, nans: &NanWatch) -> String {
    let descriptor = footer.file_metadata().schema_descr();
    let leaves: HashMap<&[String], usize> =
        descriptor.columns().iter().enumerate().map(|(at, column)| (column.path().parts(), at)).collect();
    let mut collected = Collected { footer, leaves, left: columns, extremes_trusted: true };
    let mut totals = Totals::default();
    for (at, field) in schema.fields().iter().enumerate() {
        collected.extremes_trusted = !nans.seen.contains(&at);
        collected.visit(&mut vec![field.name().clone()], field, &mut totals);
    }
    json!({
        "numRecords": footer.file_metadata().num_rows(),
        "minValues": totals.min,
        "maxValues": totals.max,
        "nullCount": totals.nulls,
    })
    .to_string()
}

/// By column, nested as the columns are.
#[derive(Default)]
struct Totals {
    min: Map<String, Value>,
    max: Map<String, Value>,
    nulls: Map<String, Value>,
}

struct Collected<'a> {
    footer: &'a ParquetMetaData,
    leaves: HashMap<&'a [String], usize>,
    left: usize,
    extremes_trusted: bool,
}

impl Collected<'_> {
    fn visit(&mut self, path: &mut Vec<String>, field: &FieldRef, out: &mut Totals) {
        if let DataType::Struct(fields) = field.data_type() {
            let mut inner = Totals::default();
            for child in fields {
                path.push(child.name().clone());
                self.visit(path, child, &mut inner);
                path.pop();
            }
            for (whole, part) in [(&mut out.min, inner.min), (&mut out.max, inner.max), (&mut out.nulls, inner.nulls)] {
                if !part.is_empty() {
                    whole.insert(field.name().clone(), Value::Object(part));
                }
            }
            return;
        }
        let Some(leaf) = self.leaves.get(path.as_slice()).copied() else { return };
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        let (nulls, min, max) = self.leaf(leaf, field.data_type(), path.len() > 1);
        let name = field.name();
        out.nulls.extend(nulls.map(|nulls| (name.clone(), json!(nulls))));
        out.min.extend(min.map(|value| (name.clone(), value)));
        out.max.extend(max.map(|value| (name.clone(), value)));
    }

    /// NULLs, minimum, maximum over all row groups, each where known.
    fn leaf(&self, leaf: usize, data_type: &DataType, nested: bool) -> (Option<u64>, Option<Value>, Option<Value>) {
        let mut nulls = Some(0);
        let (mut min, mut max): (Option<Extreme>, Option<Extreme>) = (None, None);
        let floating = matches!(data_type, DataType::Float32 | DataType::Float64);
        let mut trusted = self.extremes_trusted && !(nested && floating);
        for group in self.footer.row_groups() {
            let Some(statistics) = group.column(leaf).statistics() else { return (None, None, None) };
            let group_nulls = statistics.null_count_opt();
            nulls = nulls.zip(group_nulls).map(|(sum, more)| sum + more);
            if group_nulls == Some(group.num_rows() as u64) {
                continue;
            }
            match Extreme::both(statistics) {
                Some((low, high)) => {
                    min = Some(min.map_or(low.clone(), |old| if low.less(&old) { low } else { old }));
                    max = Some(max.map_or(high.clone(), |old| if old.less(&high) { high } else { old }));
                }
                None => trusted = false,
            }
        }
        if !trusted {
            return (nulls, None, None);
        }
        match (min.and_then(|value| value.json(data_type)), max.and_then(|value| value.json(data_type))) {
            (Some(min), Some(max)) => (nulls, Some(min), Some(max)),
            _ => (nulls, None, None),
        }
    }
}

#[derive(Debug, Clone)]
enum Extreme {
    Integer(i64),
    Real(f64),
    Text(String),
}

impl Extreme {
    fn both(statistics: &Statistics) -> Option<(Extreme, Extreme)> {
        let text = |bytes: Option<&[u8]>| Some(Extreme::Text(String::from_utf8(bytes?.to_vec()).ok()?));
        match statistics {
            Statistics::Int32(s) => {
                Some((Extreme::Integer((*s.min_opt()?).into()), Extreme::Integer((*s.max_opt()?).into())))
            }
            Statistics::Int64(s) => Some((Extreme::Integer(*s.min_opt()?), Extreme::Integer(*s.max_opt()?))),
            Statistics::Float(s) => {
                Some((Extreme::Real((*s.min_opt()?).into()), Extreme::Real((*s.max_opt()?).into())))
            }
            Statistics::Double(s) => Some((Extreme::Real(*s.min_opt()?), Extreme::Real(*s.max_opt()?))),
            Statistics::ByteArray(s) => Some((text(s.min_bytes_opt())?, text(s.max_bytes_opt())?)),
            _ => None,
        }
    }

    fn less(&self, other: &Extreme) -> bool {
        match (self, other) {
            (Extreme::Integer(a), Extreme::Integer(b)) => a < b,
            (Extreme::Real(a), Extreme::Real(b)) => a < b,
            (Extreme::Text(a), Extreme::Text(b)) => a < b,
            _ => false,
        }
    }

    /// As JSON; None for what has no faithful form.
    fn json(self, data_type: &DataType) -> Option<Value> {
        match (self, data_type) {
            (Extreme::Integer(v), DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64) => {
                Some(json!(v))
            }
            (Extreme::Integer(days), DataType::Date32) => {
                let date = chrono::NaiveDate::default().checked_add_signed(chrono::TimeDelta::try_days(days)?)?;
                Some(json!(date.format("%Y-%m-%d").to_string()))
            }
            (Extreme::Integer(micros), DataType::Timestamp(_, zone)) => {
                let time = chrono::DateTime::from_timestamp_micros(micros)?;
                let pattern = if zone.is_some() { "%Y-%m-%dT%H:%M:%S%.6fZ" } else { "%Y-%m-%dT%H:%M:%S%.6f" };
                Some(json!(time.format(pattern).to_string()))
            }
            // Beyond 15 digits a JSON number would be rounded by its readers.
            (Extreme::Integer(v), DataType::Decimal128(_, scale)) if v.unsigned_abs() < 1_000_000_000_000_000 => {
                Number::from_f64(v as f64 / 10f64.powi((*scale).into())).map(Value::Number)
            }
            (Extreme::Real(v), DataType::Float32) => {
                Number::from_f64((v as f32).to_string().parse().ok()?).map(Value::Number)
            }
            (Extreme::Real(v), DataType::Float64) => Number::from_f64(v).map(Value::Number),
            (Extreme::Text(v), DataType::Utf8) => Some(json!(v)),
            _ => None,
        }
    }
}
