//! The line editor on a thread of its own, since it blocks. One request, one line.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc as blocking};

use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, ExternalPrinter};
use tokio::sync::{mpsc, oneshot};

use super::helper::Helper;
use crate::engine::Completions;
use crate::report::AbovePrompt;

/// Entries kept between sessions.
const HISTORY_ENTRIES: usize = 10_000;

/// What came of asking for a line.
pub enum Line {
    /// One or more complete statements, or a backslash command.
    Text(String),
    /// Ctrl-C.
    Interrupted {
        /// Nothing had been typed.
        was_empty: bool,
    },
    /// Ctrl-D on an empty line.
    End,
    /// The terminal is gone.
    Failed(String),
}

/// The asking side.
pub struct Editor {
    requests: blocking::Sender<String>,
    lines: mpsc::Receiver<Line>,
}

impl Editor {
    /// Starts the thread. Also gives the way to print above the line being edited.
    pub async fn start(completions: Arc<Mutex<Completions>>) -> Result<(Editor, AbovePrompt), String> {
        let (requests, inbox) = blocking::channel();
        let (outbox, lines) = mpsc::channel(1);
        let (ready, started) = oneshot::channel();
        std::thread::spawn(move || match Terminal::open(completions) {
            Ok((mut terminal, above_prompt)) => {
                if ready.send(Ok(above_prompt)).is_ok() {
                    terminal.serve(&inbox, &outbox);
                }
            }
            // Nobody waits for the answer any more only when the process ends.
            Err(error) => drop(ready.send(Err(error.to_string()))),
        });
        match started.await {
            Ok(Ok(above_prompt)) => Ok((Editor { requests, lines }, above_prompt)),
            Ok(Err(message)) => Err(message),
            Err(_) => Err("the line editor ended abnormally".to_owned()),
        }
    }

    /// Shows the prompt and waits for the user.
    pub async fn read(&mut self, prompt: &str) -> Line {
        let gone = || Line::Failed("the line editor ended abnormally".to_owned());
        match self.requests.send(prompt.to_owned()) {
            Ok(()) => self.lines.recv().await.unwrap_or_else(gone),
            Err(_) => gone(),
        }
    }
}

/// The thread's side.
struct Terminal {
    editor: rustyline::Editor<Helper, FileHistory>,
    history: Option<PathBuf>,
    line_is_empty: Arc<AtomicBool>,
}

impl Terminal {
    fn open(completions: Arc<Mutex<Completions>>) -> rustyline::Result<(Terminal, AbovePrompt)> {
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .history_ignore_space(true)
            .max_history_size(HISTORY_ENTRIES)?
            .build();
        let mut editor = rustyline::Editor::with_config(config)?;
        let line_is_empty = Arc::new(AtomicBool::new(true));
        editor.set_helper(Some(Helper::new(completions, line_is_empty.clone())));
        let history = history_file();
        if let Some(path) = &history {
            // The first session has none.
            let _ = editor.load_history(path);
        }
        let mut printer = editor.create_external_printer()?;
        let above_prompt: AbovePrompt = Box::new(move |text| {
            let _ = printer.print(text);
        });
        Ok((Terminal { editor, history, line_is_empty }, above_prompt))
    }

    fn serve(&mut self, requests: &blocking::Receiver<String>, lines: &mpsc::Sender<Line>) {
        while let Ok(prompt) = requests.recv() {
            if lines.blocking_send(self.read(&prompt)).is_err() {
                return;
            }
        }
    }

    fn read(&mut self, prompt: &str) -> Line {
        self.line_is_empty.store(true, Ordering::Relaxed);
        match self.editor.readline(prompt) {
            Ok(text) => {
                self.remember(text.trim_end());
                Line::Text(text)
            }
            Err(ReadlineError::Interrupted) => {
                Line::Interrupted { was_empty: self.line_is_empty.load(Ordering::Relaxed) }
            }
            Err(ReadlineError::Eof) => Line::End,
            Err(error) => Line::Failed(error.to_string()),
        }
    }

    /// Written at once, so that a killed session loses nothing. A history that cannot be written is no reason
    /// to disturb anybody.
    fn remember(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let added = self.editor.add_history_entry(text).unwrap_or(false);
        if let (true, Some(path)) = (added, &self.history) {
            let _ = self.editor.append_history(path);
        }
    }
}

/// `$ALLUVIUM_HISTORY`, or a file in the home directory; an empty variable means none.
fn history_file() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("ALLUVIUM_HISTORY") {
        return (!path.is_empty()).then(|| PathBuf::from(path));
    }
    std::env::home_dir().map(|home| home.join(".alluvium_history"))
}
