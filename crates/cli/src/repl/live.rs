//! Results that go on: an aggregate redrawn in place, other rows appended, a status line under both, until Ctrl-C.
//!
//! Redrawing needs a terminal and the table format; everywhere else each update is written as it comes.

use std::io::Write;

use crate::driver::{Driver, output_failed};
use crate::engine::arrow::array::RecordBatch;
use crate::engine::arrow::datatypes::SchemaRef;
use crate::engine::{Live, LiveUpdate, Result};
use crate::print::{Format, ResultWriter, Style, counted, table, thousands, writer};

/// Shows updates until Ctrl-C, or until the query ends by itself.
pub async fn show(driver: &mut Driver, mut live: Live) -> Result<()> {
    let schema = live.schema();
    let mut view: Box<dyn View> = match (live.complete(), driver.format, driver.output.terminal()) {
        (true, Format::Table, Some(_)) => Box::new(Redrawn { schema, lines: 0 }),
        (true, _, _) => Box::new(Repeated { schema }),
        (false, Format::Table, terminal) => Box::new(Appended::new(&schema, terminal.is_some())),
        (false, _, _) => Box::new(Streamed { writer: writer(&driver.style(), &schema) }),
    };
    loop {
        let update = tokio::select! {
            update = live.next() => update,
            () = driver.interrupts.next() => break,
        };
        let Some(update) = update else { break };
        let update = update?;
        let screen = driver.output.terminal();
        let style = driver.style();
        let status = screen.map(|(width, _)| fitted(&status(&update), width));
        let frame = Frame { update: &update, style, height: screen.map(|(_, height)| height), status };
        view.update(&mut driver.output, frame).and_then(|()| driver.output.flush()).map_err(|e| output_failed(&e))?;
        if driver.output.is_closed() {
            break;
        }
    }
    view.end(&mut driver.output).and_then(|()| driver.output.flush()).map_err(|error| output_failed(&error))
}

/// `epoch 12 · 3,400 rows/s in · 12 rows/s out · 3 files waiting · Ctrl-C stops`
fn status(update: &LiveUpdate) -> String {
    // Rates are shown whole; a saturating cast of a float that is never negative.
    let rate = |rows: f64| thousands(rows.round() as u64);
    format!(
        "epoch {} · {} rows/s in · {} rows/s out · {} waiting · Ctrl-C stops",
        update.epoch,
        rate(update.rows_in_per_s),
        rate(update.rows_out_per_s),
        counted(update.backlog_files, "file"),
    )
}

fn fitted(text: &str, width: usize) -> String {
    let mut out = String::new();
    table::pad(&mut out, text, width.saturating_sub(1).min(text.chars().count()), false);
    out
}

/// One update and the screen it goes to.
struct Frame<'a> {
    update: &'a LiveUpdate,
    style: Style,
    /// Lines of the terminal.
    height: Option<usize>,
    /// On a terminal only.
    status: Option<String>,
}

/// A way to show updates. The caller gives each once, in order, and calls `end` last.
trait View: Send {
    fn update(&mut self, out: &mut dyn Write, frame: Frame<'_>) -> std::io::Result<()>;
    fn end(&mut self, out: &mut dyn Write) -> std::io::Result<()>;
}

fn write_all(writer: &mut dyn ResultWriter, out: &mut dyn Write, batches: &[RecordBatch]) -> std::io::Result<()> {
    batches.iter().try_for_each(|batch| writer.batch(out, batch))
}

/// A complete result on a terminal: each update covers the one before.
struct Redrawn {
    schema: SchemaRef,
    /// Lines above the status line that the next update covers.
    lines: usize,
}

impl View for Redrawn {
    fn update(&mut self, out: &mut dyn Write, frame: Frame<'_>) -> std::io::Result<()> {
        // Borders, header, types, gap and status take eight lines; what scrolled away cannot be covered.
        let rows_max = frame.height.map(|height| height.saturating_sub(8).max(2));
        let mut writer = writer(&Style { rows_max, ..frame.style }, &self.schema);
        let mut drawn = Vec::new();
        write_all(writer.as_mut(), &mut drawn, &frame.update.batches)?;
        writer.finish(&mut drawn)?;
        if self.lines > 0 {
            write!(out, "\x1b[{}A", self.lines)?;
        }
        self.lines = drawn.iter().filter(|byte| **byte == b'\n').count();
        write!(out, "\r\x1b[J")?;
        out.write_all(&drawn)?;
        write!(out, "{}", frame.status.unwrap_or_default())
    }

    fn end(&mut self, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out)
    }
}

/// A complete result without a terminal: each update in full.
struct Repeated {
    schema: SchemaRef,
}

impl View for Repeated {
    fn update(&mut self, out: &mut dyn Write, frame: Frame<'_>) -> std::io::Result<()> {
        let mut writer = writer(&frame.style, &self.schema);
        write_all(writer.as_mut(), out, &frame.update.batches)?;
        writer.finish(out).map(drop)
    }

    fn end(&mut self, _out: &mut dyn Write) -> std::io::Result<()> {
        Ok(())
    }
}

/// Appended rows in a format that needs no widths.
struct Streamed {
    writer: Box<dyn ResultWriter>,
}

impl View for Streamed {
    fn update(&mut self, out: &mut dyn Write, frame: Frame<'_>) -> std::io::Result<()> {
        write_all(self.writer.as_mut(), out, &frame.update.batches)
    }

    fn end(&mut self, out: &mut dyn Write) -> std::io::Result<()> {
        self.writer.finish(out).map(drop)
    }
}

/// Appended rows as columns that widen when they must; the header stands once on top.
struct Appended {
    names: Vec<String>,
    right: Vec<bool>,
    widths: Vec<usize>,
    header_written: bool,
    terminal: bool,
}

impl Appended {
    fn new(schema: &SchemaRef, terminal: bool) -> Appended {
        let fields = schema.fields();
        Appended {
            names: fields.iter().map(|field| field.name().clone()).collect(),
            right: fields.iter().map(|field| field.data_type().is_numeric()).collect(),
            widths: vec![0; fields.len()],
            header_written: false,
            terminal,
        }
    }

    fn line(&self, cells: &[String]) -> String {
        let mut line = String::new();
        for ((cell, width), right) in cells.iter().zip(&self.widths).zip(&self.right) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            table::pad(&mut line, &cell.replace('\n', "\\n"), *width, *right);
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }

    fn widen(&mut self, cells: &[String]) {
        for (width, cell) in self.widths.iter_mut().zip(cells) {
            *width = (*width).max(unicode_width::UnicodeWidthStr::width(cell.as_str()));
        }
    }
}

impl View for Appended {
    fn update(&mut self, out: &mut dyn Write, frame: Frame<'_>) -> std::io::Result<()> {
        let mut rows = Vec::new();
        for batch in &frame.update.batches {
            rows.extend((0..batch.num_rows()).map(|row| table::cells(batch, row, frame.style.zone)));
        }
        let names = self.names.clone();
        self.widen(&names);
        rows.iter().for_each(|cells| self.widen(cells));
        if self.terminal {
            write!(out, "\r\x1b[2K")?;
        }
        if !rows.is_empty() && !std::mem::replace(&mut self.header_written, true) {
            out.write_all(self.line(&names).as_bytes())?;
            let rule: Vec<String> = self.widths.iter().map(|width| "─".repeat(*width)).collect();
            out.write_all(self.line(&rule).as_bytes())?;
        }
        for cells in &rows {
            out.write_all(self.line(cells).as_bytes())?;
        }
        write!(out, "{}", frame.status.unwrap_or_default())
    }

    fn end(&mut self, out: &mut dyn Write) -> std::io::Result<()> {
        if self.terminal { writeln!(out) } else { Ok(()) }
    }
}
