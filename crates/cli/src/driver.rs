//! One statement from its text to its printed result, with Ctrl-C in between.
//!
//! Shared by scripts and the prompt. Knows which statements concern the command line alone (`SET VAR`); all
//! others belong to the session.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use alluvium_parser::{Piece, Place, SourceText, Statement, StatementKind, parse_piece, substitute};
use tokio::sync::{OnceCell, mpsc};
use tokio::task::JoinError;

use crate::args::Common;
use crate::engine::{Error, Notice, Outcome, Result, Rows, Session, SessionOptions};
use crate::interrupt::Interrupts;
use crate::output::Output;
use crate::print::{Format, Style, Summary, Zone, counted, writer};
use crate::report::{Reporter, no_source};

/// Rows of a table that the prompt shows before it leaves out the middle.
const ROWS_MAX: usize = 40;

/// The variable that names a fresh temporary directory.
const TEMP_DIR: &str = "TEMP_DIR";

/// A session that is opened when it is first needed. Clones share it.
#[derive(Clone)]
pub struct LazySession {
    warehouse: PathBuf,
    interactive: bool,
    settings: Vec<(String, String)>,
    notices: mpsc::UnboundedSender<Notice>,
    cell: Arc<OnceCell<Session>>,
}

impl LazySession {
    /// A session to be, whose notices go to `reporter`. Must be made inside the runtime.
    pub fn new(common: &Common, interactive: bool, reporter: &Reporter) -> LazySession {
        let (notices, mut receiver) = mpsc::unbounded_channel();
        let reporter = reporter.clone();
        // Ends when the session and all who could open it are gone.
        tokio::spawn(async move {
            while let Some(notice) = receiver.recv().await {
                reporter.notice(notice);
            }
        });
        LazySession {
            warehouse: common.warehouse.clone(),
            interactive,
            settings: common.settings.clone(),
            notices,
            cell: Arc::default(),
        }
    }

    /// The open session; a failure to open it is tried again next time.
    pub async fn get(&self) -> Result<&Session> {
        let open = || {
            Session::open(SessionOptions {
                warehouse: self.warehouse.clone(),
                interactive: self.interactive,
                settings: self.settings.clone(),
                progress: Some(self.notices.clone()),
            })
        };
        self.cell.get_or_try_init(open).await
    }

    /// The session if it is open.
    pub fn opened(&self) -> Option<&Session> {
        self.cell.get()
    }
}

/// What runs statements and prints what they give.
pub struct Driver {
    /// The session behind it.
    pub session: LazySession,
    /// Values of `${name}`.
    pub variables: HashMap<String, String>,
    /// Where results go.
    pub output: Output,
    /// Where all else goes.
    pub reporter: Reporter,
    /// Ctrl-C.
    pub interrupts: Interrupts,
    /// The format of results.
    pub format: Format,
    /// The prompt: tables fit the terminal and have types, live results are allowed.
    pub interactive: bool,
    /// Whether the line under a result tells the time.
    pub timing: bool,
    quiet: bool,
    /// `${TEMP_DIR}`, made when first named and removed at the end.
    temp_dir: Option<tempfile::TempDir>,
}

impl Driver {
    /// A driver with the command line's options. Must be made inside the runtime.
    pub fn new(common: &Common, interactive: bool) -> Driver {
        let reporter = Reporter::new(common);
        Driver {
            session: LazySession::new(common, interactive, &reporter),
            variables: common.variables.iter().cloned().collect(),
            output: Output::new(),
            reporter,
            interrupts: Interrupts::listen(interactive),
            format: common.format,
            interactive,
            timing: true,
            quiet: common.quiet,
            temp_dir: None,
        }
    }

    /// Gives `${TEMP_DIR}` a value when a statement first names it: a fresh directory of this process.
    fn provide_temp_dir(&mut self, piece: &Piece) -> Result<()> {
        if self.variables.contains_key(TEMP_DIR) || !piece.text.contains("${TEMP_DIR}") {
            return Ok(());
        }
        let dir =
            tempfile::tempdir().map_err(|error| Error::io("make a directory in", &std::env::temp_dir(), &error))?;
        self.variables.insert(TEMP_DIR.to_owned(), dir.path().display().to_string());
        self.temp_dir = Some(dir);
        Ok(())
    }

    /// Runs one statement and reports its error, whose place is one in `source`. The code is what the process
    /// would end with.
    pub async fn run(&mut self, piece: &Piece, source: &SourceText) -> std::result::Result<(), u8> {
        let result = self.statement(piece).await;
        self.reporter.end_progress();
        let flushed = self.output.flush().map_err(|error| output_failed(&error));
        match result.and(flushed) {
            Ok(()) => Ok(()),
            Err(Error::Interrupted) => {
                self.reporter.info(if self.interactive { "cancelled" } else { "interrupted" });
                Err(Error::Interrupted.exit_code())
            }
            Err(error) => {
                self.reporter.error(&error.diagnostic(), source);
                Err(error.exit_code())
            }
        }
    }

    async fn statement(&mut self, piece: &Piece) -> Result<()> {
        self.provide_temp_dir(piece)?;
        let statement = parse_piece(&substitute(piece, &self.variables)?)?;
        if let StatementKind::SetVar { name, value } = &statement.kind {
            self.variables.insert(name.value.clone(), value.value.clone());
            return Ok(());
        }
        let started = Instant::now();
        match self.execute(statement).await? {
            Outcome::Rows(rows) => self.rows(rows, started).await,
            Outcome::Live(live) => crate::repl::live::show(self, live).await,
            Outcome::Done(text) => {
                self.reporter.end_progress();
                self.reporter.info(&text);
                Ok(())
            }
        }
    }

    /// Runs the statement on a task of its own, so that Ctrl-C is heard while it computes.
    async fn execute(&mut self, statement: Statement) -> Result<Outcome> {
        let session = self.session.clone();
        let mut task = tokio::spawn(async move { session.get().await?.execute(&statement).await });
        let result = tokio::select! {
            result = &mut task => result,
            () = self.interrupts.next() => {
                task.abort();
                // Dropped at its next wait, which loses nothing; whoever cannot wait for that presses again.
                tokio::select! {
                    _ = &mut task => {}
                    () = self.interrupts.next() => std::process::exit(130),
                }
                return Err(Error::Interrupted);
            }
        };
        result.unwrap_or_else(|error| Err(abnormal_end(error)))
    }

    async fn rows(&mut self, mut rows: Rows, started: Instant) -> Result<()> {
        let schema = rows.schema();
        let mut writer = writer(&self.style(), &schema);
        while !self.output.is_closed() {
            let batch = tokio::select! {
                batch = rows.next() => batch,
                () = self.interrupts.next() => return Err(Error::Interrupted),
            };
            let Some(batch) = batch else { break };
            let batch = batch?;
            self.reporter.clear_progress();
            writer.batch(&mut self.output, &batch).map_err(|error| output_failed(&error))?;
        }
        self.reporter.end_progress();
        let summary = writer.finish(&mut self.output).map_err(|error| output_failed(&error))?;
        self.footer(summary, started);
        Ok(())
    }

    /// `3 rows (0.012 s)`: to the reader at the prompt, and beside a script's tables on standard error.
    fn footer(&mut self, summary: Summary, started: Instant) {
        if !matches!(self.format, Format::Table | Format::Vertical) || (self.quiet && !self.interactive) {
            return;
        }
        let mut text = counted(summary.rows, "row");
        let mut shown = Vec::new();
        if summary.rows_shown < summary.rows {
            shown.push(format!("{} shown", summary.rows_shown));
        }
        if summary.columns_shown < summary.columns {
            shown.push(format!("{} of {} columns shown", summary.columns_shown, summary.columns));
        }
        if !shown.is_empty() {
            text += &format!(", {}", shown.join(", "));
        }
        if self.timing {
            text += &format!(" ({:.3} s)", started.elapsed().as_secs_f64());
        }
        let _ = self.output.flush();
        if self.interactive {
            let _ = writeln!(self.output, "{text}");
        } else {
            self.reporter.info(&text);
        }
    }

    /// How results look now: the terminal may have changed its size since the last one.
    pub fn style(&self) -> Style {
        let terminal = self.output.terminal();
        Style {
            format: self.format,
            width: terminal.map(|(width, _)| width.max(20)),
            rows_max: (self.interactive && terminal.is_some()).then_some(ROWS_MAX),
            types: self.interactive,
            zone: self.session.opened().map_or(Zone::Utc, |session| Zone::named(&session.time_zone())),
        }
    }

    /// Stops all background streams after their running epoch; a second Ctrl-C does not wait.
    pub async fn stop_streams(&mut self) -> std::result::Result<(), u8> {
        let Some(session) = self.session.opened().cloned() else { return Ok(()) };
        let streams = session.background_streams().await;
        if !streams.is_empty() {
            self.reporter.info(&format!(
                "stopping {}: {}",
                counted(streams.len() as u64, "stream"),
                streams.join(", ")
            ));
        }
        let result = tokio::select! {
            result = session.stop_all() => result,
            () = self.interrupts.next() => std::process::exit(130),
        };
        self.reporter.end_progress();
        result.map_err(|error| self.fail(&error))
    }

    /// Reports an error that belongs to no statement's text.
    pub fn fail(&mut self, error: &Error) -> u8 {
        let diagnostic = error.diagnostic();
        if !self.reporter.is_known_failure(&diagnostic) {
            self.reporter.error(&diagnostic, &no_source());
        }
        error.exit_code()
    }
}

/// A panic in the engine.
fn abnormal_end(error: JoinError) -> Error {
    let panic = error.try_into_panic();
    let said = panic.as_ref().ok().and_then(|panic| {
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied())
    });
    Error::internal(format!("the statement ended abnormally: {}", said.unwrap_or("for no known reason")))
}

/// The statement's own lines, for an error's picture where the whole text is not at hand. What stood before it
/// on its first line is blank.
pub fn source_of(piece: &Piece) -> SourceText {
    let Place { line, column } = piece.start;
    let before = " ".repeat(usize::try_from(column.saturating_sub(1)).unwrap_or(0));
    SourceText { file: None, text: format!("{before}{}", piece.text), first_line: line }
}

/// Standard output could not be written to: a full disk behind a redirection, most often.
pub fn output_failed(error: &std::io::Error) -> Error {
    Error::io("write", std::path::Path::new("standard output"), error)
}
