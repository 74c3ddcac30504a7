//! A table in a box: fitted to the terminal, its middle left out when it is long.
//!
//! Rows become text as they arrive; when the middle may be left out, only the first and the last are held, so
//! that a long result costs no memory.

use std::collections::VecDeque;
use std::io::{self, Write};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::value::{Zone, type_name, write_text};
use super::{ResultWriter, Style, Summary, is_right_aligned, visible};
use crate::engine::arrow::array::RecordBatch;
use crate::engine::arrow::datatypes::SchemaRef;

/// A column narrower than this is not shortened.
const WIDTH_MIN: usize = 8;

/// A column of a table.
#[derive(Clone, Debug)]
pub struct Column {
    name: String,
    type_name: Option<String>,
    right: bool,
}

/// The columns of a schema, with a line of types or without.
pub fn columns(schema: &SchemaRef, types: bool) -> Vec<Column> {
    let column = |name: &str, data_type: &_| Column {
        name: visible(name.to_owned()).replace('\n', "\\n"),
        type_name: types.then(|| type_name(data_type)),
        right: is_right_aligned(data_type),
    };
    schema.fields().iter().map(|field| column(field.name(), field.data_type())).collect()
}

/// The texts of one row.
pub fn cells(batch: &RecordBatch, row: usize, zone: Zone) -> Vec<String> {
    let cell = |column| {
        let mut value = String::new();
        write_text(&mut value, column, row, zone);
        visible(value)
    };
    batch.columns().iter().map(|column| cell(column)).collect()
}

/// Collects rows and draws them at the end.
pub struct TableWriter {
    columns: Vec<Column>,
    width: Option<usize>,
    /// Rows kept of each end; `None` keeps all in `head`.
    half: Option<usize>,
    zone: Zone,
    head: Vec<Vec<String>>,
    tail: VecDeque<Vec<String>>,
    rows: u64,
}

impl TableWriter {
    /// A writer of rows with this schema.
    pub fn new(style: &Style, schema: &SchemaRef) -> Self {
        TableWriter {
            columns: columns(schema, style.types),
            width: style.width,
            half: style.rows_max.map(|rows| (rows / 2).max(1)),
            zone: style.zone,
            head: Vec::new(),
            tail: VecDeque::new(),
            rows: 0,
        }
    }

    /// A single text of several lines (a plan, a CREATE statement) is easier to read and to copy without a box.
    fn single_text(&self) -> Option<&str> {
        match (self.columns.as_slice(), self.head.as_slice()) {
            ([_], [row]) if self.rows == 1 => row.first().map(String::as_str).filter(|text| text.contains('\n')),
            _ => None,
        }
    }
}

impl ResultWriter for TableWriter {
    fn batch(&mut self, _out: &mut dyn Write, batch: &RecordBatch) -> io::Result<()> {
        let rows = batch.num_rows();
        self.rows += rows as u64;
        let to_head = self.half.map_or(rows, |half| half.saturating_sub(self.head.len()).min(rows));
        self.head.extend((0..to_head).map(|row| cells(batch, row, self.zone)));
        if let Some(half) = self.half {
            let from = to_head.max(rows.saturating_sub(half));
            self.tail.extend((from..rows).map(|row| cells(batch, row, self.zone)));
            self.tail.drain(..self.tail.len().saturating_sub(half));
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<Summary> {
        let columns = self.columns.len();
        let rows_shown = (self.head.len() + self.tail.len()) as u64;
        let mut summary = Summary { rows: self.rows, rows_shown, columns, columns_shown: columns };
        if let Some(text) = self.single_text() {
            writeln!(out, "{}", text.trim_end_matches('\n'))?;
            return Ok(summary);
        }
        let mut rows: Vec<Row> = self.head.drain(..).map(Row::Cells).collect();
        if rows_shown < self.rows {
            rows.push(Row::Gap);
        }
        rows.extend(self.tail.drain(..).map(Row::Cells));
        let (text, columns_shown) = draw(&self.columns, rows, self.width);
        out.write_all(text.as_bytes())?;
        summary.columns_shown = columns_shown;
        Ok(summary)
    }
}

/// A line of the table's body.
#[derive(Clone, Debug)]
pub enum Row {
    /// Values in column order.
    Cells(Vec<String>),
    /// Rows left out.
    Gap,
}

/// The drawn table and how many of its columns are in it.
pub fn draw(columns: &[Column], mut rows: Vec<Row>, width: Option<usize>) -> (String, usize) {
    let natural: Vec<usize> = (0..columns.len()).map(|index| natural_width(&columns[index], &rows, index)).collect();
    let (kept, mut widths) = fit(&natural, width);
    let mut columns: Vec<Column> = kept.iter().map(|index| columns[*index].clone()).collect();
    for row in &mut rows {
        if let Row::Cells(cells) = row {
            *cells = kept.iter().map(|index| cells.get(*index).cloned().unwrap_or_default()).collect();
        }
    }
    let columns_shown = kept.len();
    if columns_shown < natural.len() {
        let at = columns_shown.div_ceil(2);
        let hidden = Column { name: "…".to_owned(), type_name: None, right: false };
        columns.insert(at, hidden);
        widths.insert(at, 1);
        for row in &mut rows {
            if let Row::Cells(cells) = row {
                cells.insert(at, "…".to_owned());
            }
        }
    }
    (Drawing { columns: &columns, widths: &widths, out: String::new() }.run(&rows), columns_shown)
}

fn natural_width(column: &Column, rows: &[Row], index: usize) -> usize {
    let body = rows.iter().filter_map(|row| match row {
        Row::Cells(cells) => cells.get(index),
        Row::Gap => None,
    });
    let lines = body.flat_map(|cell| cell.split('\n')).map(UnicodeWidthStr::width);
    let type_width = column.type_name.as_deref().map_or(0, UnicodeWidthStr::width);
    lines.max().unwrap_or(0).max(column.name.width()).max(type_width).max(1)
}

/// Which columns are drawn, and how wide: the widest are shortened first, then the middle ones are left out.
fn fit(natural: &[usize], width: Option<usize>) -> (Vec<usize>, Vec<usize>) {
    let all = || (0..natural.len()).collect();
    let Some(width) = width else { return (all(), natural.to_vec()) };
    let total = |widths: &[usize]| widths.iter().map(|width| width + 3).sum::<usize>() + 1;
    let capped = |cap: usize| natural.iter().map(|width| *width.min(&cap)).collect::<Vec<_>>();
    let widest = natural.iter().copied().max().unwrap_or(0);
    if total(natural) <= width {
        return (all(), natural.to_vec());
    }
    let fitting = (WIDTH_MIN..widest).rev().map(capped).find(|widths| total(widths) <= width);
    if let Some(widths) = fitting {
        return (all(), widths);
    }
    let narrow = capped(WIDTH_MIN);
    for keep in (1..natural.len()).rev() {
        let front = keep.div_ceil(2);
        let kept: Vec<usize> = (0..front).chain(natural.len() - (keep - front)..natural.len()).collect();
        let widths: Vec<usize> = kept.iter().map(|index| narrow[*index]).collect();
        if total(&widths) + 4 <= width || keep == 1 {
            return (kept, widths);
        }
    }
    (all(), narrow)
}

/// One table being drawn.
struct Drawing<'a> {
    columns: &'a [Column],
    widths: &'a [usize],
    out: String,
}

impl Drawing<'_> {
    fn run(mut self, rows: &[Row]) -> String {
        self.rule('┌', '┬', '┐');
        let names: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        self.line(&names);
        if self.columns.iter().any(|column| column.type_name.is_some()) {
            let types: Vec<&str> =
                self.columns.iter().map(|column| column.type_name.as_deref().unwrap_or("")).collect();
            self.line(&types);
        }
        self.rule('├', '┼', '┤');
        for row in rows {
            match row {
                Row::Cells(cells) => self.row(cells),
                Row::Gap => self.line(&vec!["·"; self.columns.len()]),
            }
        }
        self.rule('└', '┴', '┘');
        self.out
    }

    fn rule(&mut self, left: char, middle: char, right: char) {
        self.out.push(left);
        for (index, width) in self.widths.iter().enumerate() {
            if index > 0 {
                self.out.push(middle);
            }
            self.out.push_str(&"─".repeat(width + 2));
        }
        self.out.push(right);
        self.out.push('\n');
    }

    /// A row takes as many lines as its tallest value.
    fn row(&mut self, cells: &[String]) {
        let lines: Vec<Vec<&str>> = cells.iter().map(|cell| cell.split('\n').collect()).collect();
        let height = lines.iter().map(Vec::len).max().unwrap_or(1);
        for index in 0..height {
            let line: Vec<&str> = lines.iter().map(|lines| lines.get(index).copied().unwrap_or("")).collect();
            self.line(&line);
        }
    }

    fn line(&mut self, texts: &[&str]) {
        for ((text, width), column) in texts.iter().zip(self.widths).zip(self.columns) {
            self.out.push_str("│ ");
            pad(&mut self.out, text, *width, column.right);
            self.out.push(' ');
        }
        self.out.push_str("│\n");
    }
}

/// Appends `text` in exactly `width` columns, shortened with `…` where it is longer.
pub fn pad(out: &mut String, text: &str, width: usize, right: bool) {
    let natural = text.width();
    if natural > width {
        let mut used = 0;
        for letter in text.chars() {
            let letter_width = letter.width().unwrap_or(0);
            if used + letter_width + 1 > width {
                break;
            }
            used += letter_width;
            out.push(letter);
        }
        out.push('…');
        out.push_str(&" ".repeat(width.saturating_sub(used + 1)));
        return;
    }
    let padding = " ".repeat(width - natural);
    if right {
        out.push_str(&padding);
    }
    out.push_str(text);
    if !right {
        out.push_str(&padding);
    }
}
