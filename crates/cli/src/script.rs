//! Statements without a prompt: files, `-c`, and standard input as it arrives.
//!
//! Knows when to stop and with which code. One statement is the driver's business.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alluvium_parser::{Diagnostic, Piece, SourceText, Splitter};
use tokio::sync::mpsc;

use crate::args::Common;
use crate::driver::{Driver, source_of};
use crate::engine::Error;
use crate::print::counted;
use crate::report::no_source;

/// `alluvium run SCRIPT.sql …`
pub async fn run_files(common: &Common, paths: &[PathBuf]) -> u8 {
    let mut script = Script::new(common);
    // All are read first: a misspelt third name should not be found out after an hour of the first two.
    let mut texts = Vec::new();
    for path in paths {
        match read(path) {
            Ok(text) => texts.push(SourceText { file: Some(path.display().to_string()), text, first_line: 1 }),
            Err(failure) => {
                let (diagnostic, code) = *failure;
                script.driver.reporter.error(&diagnostic, &no_source());
                return code;
            }
        }
    }
    for source in &texts {
        if script.text(source).await.is_err() {
            script.stopped = true;
            break;
        }
    }
    script.end().await
}

/// `alluvium -c "SQL; SQL" …`
pub async fn run_command(common: &Common, statements: &[String]) -> u8 {
    let mut script = Script::new(common);
    for text in statements {
        let source = SourceText { file: None, text: text.clone(), first_line: 1 };
        if script.text(&source).await.is_err() {
            script.stopped = true;
            break;
        }
    }
    script.end().await
}

/// `alluvium < SCRIPT.sql`: each statement runs as soon as its semicolon has arrived.
pub async fn run_stdin(common: &Common) -> u8 {
    let mut script = Script::new(common);
    script.stopped = script.stdin().await.is_err();
    script.end().await
}

/// The script must stop; its code has been noted.
struct Stop;

/// A run of statements and the code it will end with.
struct Script {
    driver: Driver,
    timeout: Option<Duration>,
    code: u8,
    /// Stopped before its end; background streams are not waited for.
    stopped: bool,
}

impl Script {
    fn new(common: &Common) -> Script {
        Script { driver: Driver::new(common, false), timeout: common.timeout, code: 0, stopped: false }
    }

    async fn text(&mut self, source: &SourceText) -> Result<(), Stop> {
        let mut splitter = Splitter::new();
        splitter.push(&source.text);
        while let Some(piece) = splitter.next().or_else(|| splitter.finish()) {
            self.piece(&piece, source).await?;
        }
        Ok(())
    }

    async fn stdin(&mut self) -> Result<(), Stop> {
        let mut chunks = read_stdin();
        let mut splitter = Splitter::new();
        let mut decoder = Decoder::default();
        loop {
            for piece in splitter.by_ref() {
                self.piece(&piece, &source_of(&piece)).await?;
            }
            let chunk = tokio::select! {
                chunk = chunks.recv() => chunk,
                () = self.driver.interrupts.next() => {
                    self.code = 130;
                    return Err(Stop);
                }
            };
            match chunk {
                None => break,
                Some(Ok(bytes)) => match decoder.push(&bytes) {
                    Ok(text) => splitter.push(&text),
                    Err(diagnostic) => return self.refuse(&diagnostic, 1),
                },
                Some(Err(error)) => {
                    let error = Error::io("read", Path::new("standard input"), &error);
                    return self.refuse(&error.diagnostic(), error.exit_code());
                }
            }
        }
        if let Err(diagnostic) = decoder.finish() {
            return self.refuse(&diagnostic, 1);
        }
        while let Some(piece) = splitter.finish() {
            self.piece(&piece, &source_of(&piece)).await?;
        }
        Ok(())
    }

    fn refuse(&mut self, diagnostic: &Diagnostic, code: u8) -> Result<(), Stop> {
        self.driver.reporter.error(diagnostic, &no_source());
        self.code = code;
        Err(Stop)
    }

    async fn piece(&mut self, piece: &Piece, source: &SourceText) -> Result<(), Stop> {
        // Opened before the first statement, so that `--set on_error = continue` counts for that one too.
        if let Err(error) = self.driver.session.get().await {
            self.code = self.driver.fail(&error);
            return Err(Stop);
        }
        let Err(code) = self.driver.run(piece, source).await else { return Ok(()) };
        let goes_on = self.driver.session.opened().is_some_and(|session| session.on_error_continue());
        // A script that was told to go on ends with 1 whatever failed; one that stops, with the failure's own code.
        self.code = if goes_on && code != 130 { 1 } else { code };
        if goes_on && code != 130 { Ok(()) } else { Err(Stop) }
    }

    /// After the last statement: waits for the streams it started if all went well, stops them, gives the code.
    async fn end(mut self) -> u8 {
        if !self.stopped {
            self.wait_for_streams().await;
        }
        if let Err(code) = self.driver.stop_streams().await {
            self.code = self.code.max(code);
        }
        if self.code == 0 && self.driver.reporter.has_failures() {
            self.code = 1;
        }
        self.code
    }

    async fn wait_for_streams(&mut self) {
        let Some(session) = self.driver.session.opened().cloned() else { return };
        let streams = session.background_streams().await;
        if streams.is_empty() {
            return;
        }
        let until = match self.timeout {
            Some(timeout) => format!("for {timeout:?}; Ctrl-C stops sooner"),
            None => "until Ctrl-C".to_owned(),
        };
        let count = counted(streams.len() as u64, "stream");
        self.driver.reporter.info(&format!("{count} in the background, {until}: {}", streams.join(", ")));
        let timeout = async {
            match self.timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        let interrupts = &mut self.driver.interrupts;
        tokio::select! {
            result = session.wait_for_streams() => if let Err(error) = result {
                self.code = self.code.max(self.driver.fail(&error));
            },
            () = interrupts.next() => self.code = 130,
            () = timeout => {}
        }
    }
}

/// A script's text, or what to say and the code to end with. A name that does not exist is bad usage.
fn read(path: &Path) -> Result<String, Box<(Diagnostic, u8)>> {
    let bytes = std::fs::read(path).map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            let message = format!("there is no script `{}`", path.display());
            return Box::new((Diagnostic::new("SCRIPT_NOT_FOUND", message), 2));
        }
        let error = Error::io("read", path, &error);
        Box::new((error.diagnostic(), error.exit_code()))
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        let message = format!("`{}` is not UTF-8 text: line {line} has other bytes", path.display());
        Box::new((Diagnostic::new("INVALID_UTF8", message).help("save the script as UTF-8"), 1))
    })
}

/// What standard input gives, as it comes. The thread ends with its input, or with the process.
fn read_stdin() -> mpsc::Receiver<std::io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let chunk = match input.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => Ok(buffer[..count].to_vec()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let failed = chunk.is_err();
            if sender.blocking_send(chunk).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// Bytes to text, where a chunk may end inside a character.
#[derive(Default)]
struct Decoder {
    pending: Vec<u8>,
}

impl Decoder {
    fn push(&mut self, bytes: &[u8]) -> Result<String, Diagnostic> {
        self.pending.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.pending) {
            Ok(_) => self.pending.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => return Err(not_utf8()),
        };
        let rest = self.pending.split_off(whole);
        let text = std::mem::replace(&mut self.pending, rest);
        String::from_utf8(text).map_err(|_| not_utf8())
    }

    fn finish(&self) -> Result<(), Diagnostic> {
        if self.pending.is_empty() { Ok(()) } else { Err(not_utf8()) }
    }
}

fn not_utf8() -> Diagnostic {
    Diagnostic::new("INVALID_UTF8", "standard input is not UTF-8 text").help("convert the script to UTF-8")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn characters_may_be_cut_anywhere() {
        let text = "SELECT 'é日🌊';";
        for cut in 0..=text.len() {
            let mut decoder = Decoder::default();
            let mut out = decoder.push(&text.as_bytes()[..cut]).unwrap();
            out += &decoder.push(&text.as_bytes()[cut..]).unwrap();
            assert_eq!(out, text, "cut at {cut}");
            assert!(decoder.finish().is_ok());
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        assert!(Decoder::default().push(b"SELECT '\xff'").is_err());
        let mut cut_short = Decoder::default();
        assert_eq!(cut_short.push(b"a\xe6\x97").unwrap(), "a");
        assert!(cut_short.finish().is_err());
    }

    #[test]
    fn missing_scripts_are_bad_usage_and_latin_1_is_named_by_line() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(&directory.path().join("none.sql")).unwrap_err().1, 2);
        let path = directory.path().join("latin.sql");
        std::fs::write(&path, b"SELECT 1;\nSELECT '\xe9';\n").unwrap();
        let (diagnostic, code) = *read(&path).unwrap_err();
        assert_eq!(code, 1);
        assert!(diagnostic.message.contains("line 2"), "{}", diagnostic.message);
    }
}
