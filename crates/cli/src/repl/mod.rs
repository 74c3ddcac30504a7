//! The prompt: reads a statement or a backslash command, has it done, shows what came of it.
//!
//! `editor` owns the terminal while a line is typed, `helper` knows when a statement is complete and what
//! could come next, `meta` the backslash commands, `live` results that go on. Statements go to the driver.

mod editor;
mod helper;
pub mod live;
mod meta;

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_parser::{Piece, Place, Splitter};

use crate::args::Common;
use crate::driver::{Driver, source_of};
use crate::engine::Completions;
use crate::report::{json_errors, no_source};
use editor::{Editor, Line};
use meta::Meta;

const PROMPT: &str = "alluvium> ";

/// Runs the prompt until the user leaves; gives the process's exit code.
pub async fn run(common: &Common) -> u8 {
    let mut repl = Repl { driver: Driver::new(common, true), completions: Arc::default() };
    if !common.quiet {
        println!("Alluvium {}: \\h for help, \\q to leave; a statement ends with ;", env!("CARGO_PKG_VERSION"));
    }
    let mut editor = match Editor::start(repl.completions.clone()).await {
        Ok((editor, above_prompt)) => {
            repl.driver.reporter.set_above_prompt(above_prompt);
            editor
        }
        Err(message) => {
            let diagnostic = alluvium_parser::Diagnostic::new("TERMINAL", message);
            repl.driver.reporter.error(&diagnostic, &no_source());
            return 3;
        }
    };
    // The session opens while the first statement is being typed.
    repl.refresh_completions();
    repl.read_and_run(&mut editor).await;
    match repl.driver.stop_streams().await {
        Ok(()) => 0,
        Err(code) => code,
    }
}

/// What the user's answer means for the loop.
#[derive(PartialEq, Eq)]
enum Next {
    Prompt,
    Leave,
}

struct Repl {
    driver: Driver,
    completions: Arc<Mutex<Completions>>,
}

impl Repl {
    async fn read_and_run(&mut self, editor: &mut Editor) {
        let mut leaving = false;
        loop {
            match editor.read(PROMPT).await {
                Line::Text(text) => {
                    leaving = false;
                    if self.input(&text).await == Next::Leave {
                        return;
                    }
                }
                Line::Interrupted { was_empty: true } if leaving => return,
                Line::Interrupted { was_empty } => {
                    leaving = was_empty;
                    if was_empty {
                        self.say("(Ctrl-C again or Ctrl-D leaves)");
                    }
                }
                Line::End => return,
                Line::Failed(message) => {
                    self.say(&format!("cannot read from the terminal: {message}"));
                    return;
                }
            }
        }
    }

    async fn input(&mut self, text: &str) -> Next {
        if let Some(meta) = meta::parse(text) {
            return self.meta(meta).await;
        }
        let mut splitter = Splitter::new();
        splitter.push(text);
        while let Some(piece) = splitter.next().or_else(|| splitter.finish()) {
            if self.driver.run(&piece, &source_of(&piece)).await.is_err() {
                break;
            }
        }
        self.refresh_completions();
        Next::Prompt
    }

    async fn meta(&mut self, meta: Meta) -> Next {
        match meta {
            Meta::Quit => return Next::Leave,
            Meta::Help(None) => self.say(&meta::help()),
            Meta::Help(Some(topic)) => self.say(&meta::help_for(&topic)),
            Meta::Statement(text) => {
                let piece = Piece::new(text, Place { line: 1, column: 1 });
                // Its error has been shown, and the prompt comes back either way.
                let _ = self.driver.run(&piece, &source_of(&piece)).await;
            }
            Meta::Timing => {
                self.driver.timing = !self.driver.timing;
                self.say(if self.driver.timing { "timing is on" } else { "timing is off" });
            }
            Meta::Format(format) => {
                self.driver.format = format;
                self.driver.reporter.set_json(json_errors(format));
            }
            Meta::Refused(message) => self.say(&message),
        }
        Next::Prompt
    }

    fn say(&mut self, text: &str) {
        let written = writeln!(self.driver.output, "{text}").and_then(|()| self.driver.output.flush());
        // A terminal that cannot be written to ends the prompt at its next read.
        drop(written);
    }

    /// Names for completion, fetched behind the prompt's back.
    fn refresh_completions(&self) {
        let (session, completions) = (self.driver.session.clone(), self.completions.clone());
        tokio::spawn(async move {
            // A session that cannot be opened says so when a statement needs it.
            if let Ok(session) = session.get().await {
                let fresh = session.completions().await;
                *completions.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
            }
        });
    }
}
