//! Everything that is not a result: errors, notices and the progress line, on standard error or above the prompt.
//!
//! One value, shared by the threads that have something to say, so that a message never lands inside another
//! or inside the progress line.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use alluvium_parser::{Diagnostic, SourceText};
use serde_json::json;

use crate::args::Common;
use crate::engine::Notice;
use crate::print::{Format, counted, table, thousands};

/// Progress is redrawn no more often than this.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Where messages go. Clones share one.
#[derive(Clone)]
pub struct Reporter(Arc<Mutex<Inner>>);

/// Prints above a prompt that is being edited.
pub type AbovePrompt = Box<dyn FnMut(String) + Send>;

struct Inner {
    json: bool,
    quiet: bool,
    progress: bool,
    above_prompt: Option<AbovePrompt>,
    /// The progress line is on the screen.
    progress_shown: bool,
    progress_at: Option<Instant>,
    streams: BTreeMap<String, String>,
    failures: Vec<Diagnostic>,
}

/// Whether errors are JSON objects beside results of this format.
pub fn json_errors(format: Format) -> bool {
    matches!(format, Format::Json | Format::Ndjson)
}

impl Reporter {
    /// A reporter with the command line's wishes.
    pub fn new(common: &Common) -> Reporter {
        let quiet = common.quiet;
        Reporter(Arc::new(Mutex::new(Inner {
            json: json_errors(common.format),
            quiet,
            progress: !quiet && !common.no_progress && std::io::stderr().is_terminal(),
            above_prompt: None,
            progress_shown: false,
            progress_at: None,
            streams: BTreeMap::new(),
            failures: Vec::new(),
        })))
    }

    /// Errors become JSON objects, or sentences again.
    pub fn set_json(&self, json: bool) {
        self.inner().json = json;
    }

    /// From now on messages go above the prompt and there is no progress line.
    pub fn set_above_prompt(&self, printer: AbovePrompt) {
        let mut inner = self.inner();
        inner.above_prompt = Some(printer);
        inner.progress = false;
    }

    /// An error, with its place in `source`.
    pub fn error(&self, diagnostic: &Diagnostic, source: &SourceText) {
        let mut inner = self.inner();
        let source = &SourceText { text: alluvium_runtime::session::veiled(&source.text), ..source.clone() };
        let text = if inner.json { as_json(diagnostic, source) } else { diagnostic.render(source) };
        inner.say(&text);
    }

    /// Something worth knowing; not with `--quiet`.
    pub fn info(&self, text: &str) {
        let mut inner = self.inner();
        if !inner.quiet && !text.is_empty() {
            inner.say(text);
        }
    }

    /// What the engine has to tell.
    pub fn notice(&self, notice: Notice) {
        match notice {
            Notice::Info(text) => self.info(&text),
            Notice::Warning(text) => self.inner().say(&format!("warning: {text}")),
            Notice::StreamFailed { stream, diagnostic } => self.stream_failed(&stream, diagnostic),
            Notice::Progress { stream, epoch, rows_in, rows_out, backlog_files } => {
                self.inner().progress(stream, epoch, rows_in, rows_out, backlog_files);
            }
        }
    }

    /// A background stream ended badly. Its statement's text is long gone, so the place is left out.
    fn stream_failed(&self, stream: &str, mut diagnostic: Diagnostic) {
        self.inner().failures.push(diagnostic.clone());
        diagnostic.span = alluvium_parser::Span::UNKNOWN;
        if !diagnostic.message.contains(stream) {
            diagnostic.message = format!("stream `{stream}` failed: {}", diagnostic.message);
        }
        self.error(&diagnostic, &no_source());
    }

    /// Whether a background stream failed.
    pub fn has_failures(&self) -> bool {
        !self.inner().failures.is_empty()
    }

    /// Whether this error has been reported as a stream's failure already.
    pub fn is_known_failure(&self, diagnostic: &Diagnostic) -> bool {
        let inner = self.inner();
        inner.failures.iter().any(|known| known.code == diagnostic.code && known.message == diagnostic.message)
    }

    /// Takes the progress line off the screen, before results are written to it.
    pub fn clear_progress(&self) {
        self.inner().clear();
    }

    /// The statement has ended: its progress is history.
    pub fn end_progress(&self) {
        let mut inner = self.inner();
        inner.clear();
        inner.streams.clear();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn say(&mut self, text: &str) {
        self.clear();
        match &mut self.above_prompt {
            Some(print) => print(format!("{text}\n")),
            // With standard error gone there is nobody left to tell.
            None => drop(writeln!(std::io::stderr().lock(), "{text}")),
        }
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.progress_shown) {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[2K");
        }
    }

    fn progress(&mut self, stream: String, epoch: u64, rows_in: u64, rows_out: u64, backlog_files: u64) {
        if !self.progress {
            return;
        }
        let waiting = match backlog_files {
            0 => String::new(),
            files => format!(", {} waiting", counted(files, "file")),
        };
        let text = format!("{stream}: epoch {epoch}, {} in, {} out{waiting}", thousands(rows_in), thousands(rows_out));
        self.streams.insert(stream, text);
        if self.progress_at.is_some_and(|at| at.elapsed() < PROGRESS_EVERY) {
            return;
        }
        self.progress_at = Some(Instant::now());
        let line = self.streams.values().map(String::as_str).collect::<Vec<_>>().join(" · ");
        let width = terminal_size::terminal_size_of(std::io::stderr()).map_or(80, |(width, _)| usize::from(width.0));
        let mut fitted = String::new();
        table::pad(&mut fitted, &line, width.saturating_sub(1).min(line.chars().count().max(1)), false);
        self.progress_shown = true;
        let mut err = std::io::stderr().lock();
        let _ = write!(err, "\r\x1b[2K{fitted}");
        let _ = err.flush();
    }
}

/// A source for errors that have no text to point into.
pub fn no_source() -> SourceText {
    SourceText { file: None, text: String::new(), first_line: 1 }
}

/// `code, message, file, line, column, help`; what is not known is null.
fn as_json(diagnostic: &Diagnostic, source: &SourceText) -> String {
    let place = diagnostic.span.is_known().then_some(diagnostic.span.start);
    let help = (!diagnostic.help.is_empty()).then(|| diagnostic.help.join("\n"));
    json!({
        "code": diagnostic.code,
        "message": diagnostic.message,
        "file": source.file,
        "line": place.map(|place| place.line),
        "column": place.map(|place| place.column),
        "help": help,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use alluvium_parser::{Place, Span};

    use super::*;

    #[test]
    fn errors_as_json() {
        let span = Span { start: Place { line: 3, column: 7 }, end: Place { line: 3, column: 9 } };
        let error = Diagnostic::new("CODE", "a \"word\"").at(span).help("one").help("two");
        let source = SourceText { file: Some("a.sql".to_owned()), text: String::new(), first_line: 1 };
        let expected = concat!(
            r#"{"code":"CODE","message":"a \"word\"","file":"a.sql","line":3,"column":7,"#,
            r#""help":"one\ntwo"}"#
        );
        assert_eq!(as_json(&error, &source), expected);
        let bare = Diagnostic::new("CODE", "m");
        let expected = r#"{"code":"CODE","message":"m","file":null,"line":null,"column":null,"help":null}"#;
        assert_eq!(as_json(&bare, &no_source()), expected);
    }
}
