//! Whether two sets of rows are the same, each row as often in one as in the other.
//!
//! Rows of any number: they are written to scratch files by a hash of what must be the same in them, and compared a
//! file at a time. What is nearly the same in two runs (sums of floating-point numbers) is paired within a tolerance,
//! what may be anything is not looked at. Knows nothing of where rows come from.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{BufWriter, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use alluvium_planner::streaming::Likeness;
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray, RecordBatch, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Float64Type, SchemaRef};
use arrow::util::display::array_value_to_string;
use arrow_row::{RowConverter, SortField};
use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::state::canonical_keys;

/// Rows per scratch file that are aimed at, and the most files per side.
const ROWS_PER_FILE: u64 = 65_536;
const FILES_MAX: u64 = 128;
/// Differing rows of each side that are told.
const TOLD: usize = 5;
/// Numbers that were added up in another order differ by less than this, of the greater one or of 1.
const TOLERANCE: f64 = 1e-9;
/// The same of FLOAT.
const TOLERANCE_FLOAT: f64 = 1e-5;

/// Whose rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// What should be there.
    Expected,
    /// What is there.
    Found,
}

/// What [`Multisets::compare`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Rows that should be there.
    pub expected: u64,
    /// Rows that are there.
    pub found: u64,
    /// Rows that should be there and are not.
    pub missing: u64,
    /// Rows that are there and should not be.
    pub extra: u64,
    /// Rows that are there within the tolerance, or but for what may be anything.
    pub alike: u64,
    /// The first of both, in the order of their columns, as `missing: k = 1, n = 2`.
    pub first: Vec<String>,
}

/// See the module.
pub struct Multisets {
    schema: SchemaRef,
    exact: Part,
    loose: Part,
    /// How many of the loose columns are numbers to be near.
    near: usize,
    any_order: Vec<usize>,
    scratch: TempDir,
    files: [Vec<Option<BufWriter<File>>>; 2],
    rows: [u64; 2],
}

/// Some of the columns, as bytes.
struct Part {
    columns: Vec<usize>,
    converter: Option<RowConverter>,
}

impl Part {
    fn new(schema: &SchemaRef, columns: Vec<usize>) -> Result<Part> {
        let fields: Vec<SortField> =
            columns.iter().map(|at| SortField::new(schema.field(*at).data_type().clone())).collect();
        let converter = if fields.is_empty() { None } else { Some(RowConverter::new(fields)?) };
        Ok(Part { columns, converter })
    }

    fn encode(&self, columns: &[ArrayRef]) -> Result<Option<arrow_row::Rows>> {
        let of: Vec<ArrayRef> = self.columns.iter().map(|at| columns[*at].clone()).collect();
        Ok(self.converter.as_ref().map(|converter| converter.convert_columns(&of)).transpose()?)
    }

    fn decode(&self, rows: &[&[u8]]) -> Result<Vec<ArrayRef>> {
        let Some(converter) = &self.converter else { return Ok(Vec::new()) };
        let parser = converter.parser();
        Ok(converter.convert_rows(rows.iter().map(|row| parser.parse(row)))?)
    }
}

/// A row in scratch space.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    exact: Vec<u8>,
    side: Side,
    loose: Vec<u8>,
}

impl Multisets {
    /// For rows of `schema`, about `rows` of them on each side; `likeness` by column.
    pub fn new(schema: SchemaRef, likeness: &[Likeness], rows: u64) -> Result<Multisets> {
        let of = |at: usize| likeness.get(at).copied().unwrap_or(Likeness::Same);
        let (mut exact, mut near, mut any, mut any_order) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (at, field) in schema.fields().iter().enumerate() {
            match (of(at), field.data_type()) {
                (Likeness::Same, _) => exact.push(at),
                (Likeness::Near, data_type) if data_type.is_floating() => near.push(at),
                (Likeness::AnyOrder, DataType::List(_)) => {
                    any_order.push(at);
                    exact.push(at);
                }
                _ => any.push(at),
            }
        }
        let nears = near.len();
        near.extend(any);
        let files = (rows / ROWS_PER_FILE).clamp(1, FILES_MAX) as usize;
        let empty = || (0..files).map(|_| None).collect();
        let scratch = tempfile::tempdir().map_err(|e| Error::io("create", &std::env::temp_dir(), &e))?;
        Ok(Multisets {
            exact: Part::new(&schema, exact)?,
            loose: Part::new(&schema, near)?,
            near: nears,
            schema,
            any_order,
            scratch,
            files: [empty(), empty()],
            rows: [0, 0],
        })
    }

    /// Columns of the rows that [`Self::add`] takes.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Takes rows of one side, in the schema's columns.
    pub fn add(&mut self, side: Side, rows: &RecordBatch) -> Result<()> {
        let mut columns = canonical_keys(rows.columns());
        for at in &self.any_order {
            columns[*at] = in_order(&columns[*at])?;
        }
        let (exact, loose) = (self.exact.encode(&columns)?, self.loose.encode(&columns)?);
        for row in 0..rows.num_rows() {
            let exact = exact.as_ref().map_or(&[][..], |rows| rows.row(row).data());
            let loose = loose.as_ref().map_or(&[][..], |rows| rows.row(row).data());
            self.write(side, exact, loose)?;
        }
        self.rows[side as usize] += rows.num_rows() as u64;
        Ok(())
    }

    fn path(&self, side: Side, file: usize) -> PathBuf {
        self.scratch.path().join(format!("{file}.{}", side as usize))
    }

    fn write(&mut self, side: Side, exact: &[u8], loose: &[u8]) -> Result<()> {
        let mut hasher = DefaultHasher::new();
        hasher.write(exact);
        let at = (hasher.finish() % self.files[side as usize].len() as u64) as usize;
        let path = self.path(side, at);
        let file = &mut self.files[side as usize][at];
        let put = || -> std::io::Result<()> {
            let file = match file {
                Some(file) => file,
                none => none.insert(BufWriter::new(File::create(&path)?)),
            };
            file.write_all(&(exact.len() as u32).to_le_bytes())?;
            file.write_all(&(loose.len() as u32).to_le_bytes())?;
            file.write_all(exact)?;
            file.write_all(loose)
        };
        put().map_err(|e| Error::io("write", &path, &e))
    }

    /// The difference. Blocks.
    pub fn compare(mut self) -> Result<Difference> {
        let mut difference = Difference { expected: self.rows[0], found: self.rows[1], ..Difference::default() };
        let mut told: Vec<Told> = Vec::new();
        for at in 0..self.files[0].len() {
            let sides = [self.read(Side::Expected, at)?, self.read(Side::Found, at)?];
            let mut rows: HashMap<&[u8], [Vec<&[u8]>; 2]> = HashMap::new();
            for (side, bytes) in sides.iter().enumerate() {
                for (exact, loose) in Entries(bytes) {
                    rows.entry(exact).or_default()[side].push(loose);
                }
            }
            for (exact, [expected, found]) in rows {
                let (alike, missing, extra) = self.match_up(expected, found)?;
                difference.alike += alike;
                difference.missing += missing.len() as u64;
                difference.extra += extra.len() as u64;
                for (side, rows) in [(Side::Expected, missing), (Side::Found, extra)] {
                    let row = |loose: &[u8]| Told { exact: exact.to_vec(), side, loose: loose.to_vec() };
                    told.extend(rows.into_iter().take(TOLD).map(row));
                }
                if told.len() > 64 * TOLD {
                    told = first(told);
                }
            }
        }
        difference.first = first(told).iter().map(|row| self.text(row)).collect::<Result<_>>()?;
        Ok(difference)
    }

    fn read(&mut self, side: Side, at: usize) -> Result<Vec<u8>> {
        let path = self.path(side, at);
        let Some(file) = self.files[side as usize][at].take() else { return Ok(Vec::new()) };
        let mut bytes = Vec::new();
        let read = || -> std::io::Result<()> {
            drop(file.into_inner()?);
            File::open(&path)?.read_to_end(&mut bytes)?;
            std::fs::remove_file(&path)
        };
        read().map_err(|e| Error::io("read", &path, &e))?;
        Ok(bytes)
    }

    /// Pairs rows that have the same exact part: how many are only alike, and what is left over on each side.
    #[expect(clippy::type_complexity, reason = "two lists of rows and a number, taken apart at once")]
    fn match_up<'a>(
        &self,
        mut expected: Vec<&'a [u8]>,
        mut found: Vec<&'a [u8]>,
    ) -> Result<(u64, Vec<&'a [u8]>, Vec<&'a [u8]>)> {
        expected.sort_unstable();
        found.sort_unstable();
        let (mut missing, mut extra) = (Vec::new(), Vec::new());
        let (mut i, mut j) = (0, 0);
        while let (Some(one), Some(other)) = (expected.get(i), found.get(j)) {
            match one.cmp(other) {
                std::cmp::Ordering::Equal => (i, j) = (i + 1, j + 1),
                std::cmp::Ordering::Less => {
                    missing.push(*one);
                    i += 1;
                }
                std::cmp::Ordering::Greater => {
                    extra.push(*other);
                    j += 1;
                }
            }
        }
        missing.extend(&expected[i..]);
        extra.extend(&found[j..]);
        if missing.is_empty() || extra.is_empty() || self.loose.columns.is_empty() {
            return Ok((0, missing, extra));
        }
        let near = [self.numbers(&missing)?, self.numbers(&extra)?];
        let (mut alike, mut left, mut over) = (0, Vec::new(), Vec::new());
        let (mut i, mut j) = (0, 0);
        while i < missing.len() && j < extra.len() {
            let close = (near[0].iter().zip(&near[1])).all(|((tolerance, a), (_, b))| {
                is_close(a.is_valid(i).then(|| a.value(i)), b.is_valid(j).then(|| b.value(j)), *tolerance)
            });
            if close {
                (alike, i, j) = (alike + 1, i + 1, j + 1);
            } else if missing[i] < extra[j] {
                left.push(missing[i]);
                i += 1;
            } else {
                over.push(extra[j]);
                j += 1;
            }
        }
        left.extend(&missing[i..]);
        over.extend(&extra[j..]);
        Ok((alike, left, over))
    }

    /// The columns that are to be near, with their tolerance.
    fn numbers(&self, rows: &[&[u8]]) -> Result<Vec<(f64, Float64Array)>> {
        let columns = self.loose.decode(rows)?;
        let number = |column: &ArrayRef| {
            let tolerance = if *column.data_type() == DataType::Float64 { TOLERANCE } else { TOLERANCE_FLOAT };
            Ok((tolerance, cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().clone()))
        };
        columns.iter().take(self.near).map(number).collect()
    }

    /// `missing: k = 1, n = 2`.
    fn text(&self, row: &Told) -> Result<String> {
        let mut values = vec![String::new(); self.schema.fields().len()];
        for (part, bytes) in [(&self.exact, &row.exact), (&self.loose, &row.loose)] {
            for (at, column) in part.columns.iter().zip(part.decode(&[bytes])?) {
                values[*at] = match column.is_null(0) {
                    true => "NULL".to_string(),
                    false => array_value_to_string(&column, 0)?,
                };
            }
        }
        let names = self.schema.fields().iter().map(|field| field.name());
        let shown: Vec<String> = names.zip(values).map(|(name, value)| format!("{name} = {value}")).collect();
        let what = match row.side {
            Side::Expected => "missing",
            Side::Found => "extra",
        };
        Ok(format!("{what}: {}", shown.join(", ")))
    }
}

/// The first rows of each side.
fn first(mut told: Vec<Told>) -> Vec<Told> {
    told.sort_unstable();
    let mut counts = [0; 2];
    told.retain(|row| {
        counts[row.side as usize] += 1;
        counts[row.side as usize] <= TOLD
    });
    told
}

fn is_close(a: Option<f64>, b: Option<f64>, tolerance: f64) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => {
            a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= tolerance * a.abs().max(b.abs()).max(1.0)
        }
        (None, None) => true,
        _ => false,
    }
}

/// Rows of a scratch file.
struct Entries<'a>(&'a [u8]);

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (exact, rest) = self.0.split_first_chunk::<4>()?;
        let (loose, rest) = rest.split_first_chunk::<4>()?;
        let (exact, rest) = rest.split_at_checked(u32::from_le_bytes(*exact) as usize)?;
        let (loose, rest) = rest.split_at_checked(u32::from_le_bytes(*loose) as usize)?;
        self.0 = rest;
        Some((exact, loose))
    }
}

/// Lists with their elements in the order of their values.
fn in_order(column: &ArrayRef) -> Result<ArrayRef> {
    let Some(lists) = column.as_list_opt::<i32>() else { return Ok(column.clone()) };
    let DataType::List(field) = lists.data_type() else { return Ok(column.clone()) };
    let converter = RowConverter::new(vec![SortField::new(lists.value_type())])?;
    let elements = converter.convert_columns(&[lists.values().clone()])?;
    let mut order: Vec<u32> = Vec::with_capacity(lists.values().len());
    let mut lengths = Vec::with_capacity(lists.len());
    for row in 0..lists.len() {
        let (from, until) = (lists.value_offsets()[row] as u32, lists.value_offsets()[row + 1] as u32);
        let mut elements_of: Vec<u32> = if lists.is_null(row) { Vec::new() } else { (from..until).collect() };
        elements_of.sort_unstable_by(|a, b| elements.row(*a as usize).cmp(&elements.row(*b as usize)));
        lengths.push(elements_of.len());
        order.extend(elements_of);
    }
    let values = take(lists.values(), &UInt32Array::from(order), None)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(field.clone(), offsets, values, lists.nulls().cloned())?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::array::{Float64Array, Int64Array, ListArray};
    use arrow::datatypes::{Field, Int64Type, Schema};

    use super::*;

    fn rows(rows: &[(Option<i64>, f64)]) -> RecordBatch {
        let schema =
            Schema::new(vec![Field::new("k", DataType::Int64, true), Field::new("x", DataType::Float64, true)]);
        let k: Int64Array = rows.iter().map(|(k, _)| *k).collect();
        let x: Float64Array = rows.iter().map(|(_, x)| Some(*x)).collect();
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(k), Arc::new(x)]).unwrap()
    }

    fn compare(likeness: [Likeness; 2], expected: &[(Option<i64>, f64)], found: &[(Option<i64>, f64)]) -> Difference {
        let mut sets = Multisets::new(rows(&[]).schema(), &likeness, 1_000_000).unwrap();
        sets.add(Side::Expected, &rows(expected)).unwrap();
        sets.add(Side::Found, &rows(found)).unwrap();
        sets.compare().unwrap()
    }

    #[test]
    fn each_row_counts_as_often_as_it_is_there() {
        use Likeness::Same;
        let same = compare(
            [Same, Same],
            &[(Some(1), 1.0), (Some(1), 1.0), (None, 0.0)],
            &[(None, -0.0), (Some(1), 1.0), (Some(1), 1.0)],
        );
        assert_eq!(same, Difference { expected: 3, found: 3, ..Difference::default() });
        let other = compare([Same, Same], &[(Some(1), 1.0), (Some(1), 1.0)], &[(Some(1), 1.0), (None, 2.0)]);
        assert_eq!((other.missing, other.extra), (1, 1));
        assert_eq!(other.first, ["extra: k = NULL, x = 2.0", "missing: k = 1, x = 1.0"]);
    }

    #[test]
    fn sums_are_compared_within_a_tolerance() {
        use Likeness::{Any, Near, Same};
        let expected = [(Some(1), 0.1 + 0.2), (Some(2), 1e18), (Some(3), f64::NAN)];
        let found = [(Some(1), 0.3), (Some(2), 1e18 + 1e4), (Some(3), f64::NAN)];
        let near = compare([Same, Near], &expected, &found);
        assert_eq!((near.missing, near.extra, near.alike), (0, 0, 2));
        assert_eq!(compare([Same, Same], &expected, &found).missing, 2);
        let far = compare([Same, Near], &[(Some(1), 1.0), (Some(1), 2.0)], &[(Some(1), 2.0), (Some(1), 1.1)]);
        assert_eq!((far.missing, far.extra, far.first[0].as_str()), (1, 1, "missing: k = 1, x = 1.0"));
        assert_eq!(compare([Same, Any], &[(Some(1), 1.0)], &[(Some(1), 7.0)]).alike, 1);
    }

    #[test]
    fn lists_are_compared_in_any_order() {
        let lists = |lists: Vec<Option<Vec<Option<i64>>>>| -> RecordBatch {
            let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists));
            RecordBatch::try_from_iter([("l", lists)]).unwrap()
        };
        let one = lists(vec![Some(vec![Some(2), None, Some(1)]), None, Some(vec![])]);
        let other = lists(vec![Some(vec![]), Some(vec![None, Some(1), Some(2)]), None]);
        for (likeness, missing) in [(Likeness::AnyOrder, 0), (Likeness::Same, 1)] {
            let mut sets = Multisets::new(one.schema(), &[likeness], 3).unwrap();
            sets.add(Side::Expected, &one).unwrap();
            sets.add(Side::Found, &other).unwrap();
            assert_eq!(sets.compare().unwrap().missing, missing);
        }
    }
}
