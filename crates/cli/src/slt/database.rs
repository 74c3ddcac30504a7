//! The session behind a test file: opened in an empty warehouse, closed and opened again where the replay says so.
//!
//! Each connection of a file is a session of its own on the same warehouse, so that a file can play two
//! processes.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use alluvium_parser::{Piece, Place, Splitter, Statement, StatementKind, parse_piece, substitute};
use sqllogictest::{AsyncDB, DBOutput, Record};
use tempfile::TempDir;

use super::cells::{Kind, kinds, rows};
use super::replay::{Memory, Replay};
use crate::args::Common;
use crate::driver::source_of;
use crate::engine::{Error, Outcome, Session, SessionOptions};
use crate::print::Zone;

/// The directories of one run, removed at its end. Clones share them.
#[derive(Clone)]
pub struct Sandbox(Arc<Directories>);

struct Directories {
    warehouse: TempDir,
    test_dir: TempDir,
    replay: Replay,
    settings: Vec<(String, String)>,
    variables: HashMap<String, String>,
}

impl Sandbox {
    /// Fresh directories.
    pub fn new(common: &Common, replay: Replay) -> std::io::Result<Sandbox> {
        let directory = || tempfile::Builder::new().prefix("alluvium-test-").tempdir();
        let (warehouse, test_dir) = (directory()?, directory()?);
        let mut variables: HashMap<String, String> = common.variables.iter().cloned().collect();
        variables.insert("TEST_DIR".to_owned(), test_dir.path().display().to_string());
        let mut settings = common.settings.clone();
        settings.extend(replay.settings());
        Ok(Sandbox(Arc::new(Directories { warehouse, test_dir, replay, settings, variables })))
    }

    /// `${TEST_DIR}` in a shell command; in SQL the connection replaces it.
    pub fn fill_in(&self, mut record: Record<Kind>) -> Record<Kind> {
        if let Record::System { command, .. } = &mut record {
            *command = command.replace("${TEST_DIR}", &self.0.test_dir.path().display().to_string());
        }
        record
    }

    /// The directories by their names, since their paths differ from run to run.
    pub fn hide_paths(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (directory, name) in [(&self.0.test_dir, "${TEST_DIR}"), (&self.0.warehouse, "${WAREHOUSE}")] {
            let path = directory.path();
            if let Ok(real) = path.canonicalize() {
                text = text.replace(&real.display().to_string(), name);
            }
            text = text.replace(&path.display().to_string(), name);
        }
        text
    }
}

/// A failed statement, as the file may expect it: the error's picture, paths hidden.
#[derive(Debug)]
pub struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// One connection.
pub struct Database {
    sandbox: Sandbox,
    session: Option<Session>,
    variables: HashMap<String, String>,
    memory: Memory,
}

impl Database {
    /// Opens a session in the sandbox.
    pub async fn open(sandbox: Sandbox) -> Result<Database, Failure> {
        let variables = sandbox.0.variables.clone();
        let mut database = Database { sandbox, session: None, variables, memory: Memory::default() };
        match database.opened().await {
            Ok(session) => database.session = Some(session),
            Err(error) => return Err(database.failure(&error, &Piece::new("", Place::default()))),
        }
        Ok(database)
    }

    async fn session(&mut self) -> Result<&Session, Error> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.opened().await?,
        };
        Ok(self.session.insert(session))
    }

    /// A new session that knows what the last one was told.
    async fn opened(&self) -> Result<Session, Error> {
        let session = Session::open(SessionOptions {
            warehouse: self.sandbox.0.warehouse.path().to_owned(),
            interactive: false,
            settings: self.sandbox.0.settings.clone(),
            progress: None,
        })
        .await?;
        for statement in self.memory.statements() {
            // A view whose table is gone by now is missed where it is used.
            drop(session.execute(statement).await);
        }
        Ok(session)
    }

    /// Closes the session, unless streams run in its background: those would not run again by themselves.
    async fn restart(&mut self) -> Result<(), Error> {
        let Some(session) = &self.session else { return Ok(()) };
        if session.background_streams().await.is_empty() {
            session.stop_all().await?;
            self.session = None;
        }
        Ok(())
    }

    async fn piece(&mut self, piece: &Piece) -> Result<DBOutput<Kind>, Error> {
        let statement = parse_piece(&substitute(piece, &self.variables)?)?;
        if let StatementKind::SetVar { name, value } = &statement.kind {
            self.variables.insert(name.value.clone(), value.value.clone());
            return Ok(DBOutput::StatementComplete(0));
        }
        if self.sandbox.0.replay.restarts_before(&statement) {
            self.restart().await?;
        }
        let output = self.execute(&statement).await?;
        self.memory.note(&statement);
        Ok(output)
    }

    async fn execute(&mut self, statement: &Statement) -> Result<DBOutput<Kind>, Error> {
        let session = self.session().await?;
        let zone = Zone::named(&session.time_zone());
        let mut results = match session.execute(statement).await? {
            Outcome::Rows(rows) => rows,
            Outcome::Done(_) => return Ok(DBOutput::StatementComplete(0)),
            Outcome::Live(_) => return Err(Error::internal("a live result outside the prompt")),
        };
        let types = kinds(&results.schema());
        let mut all = Vec::new();
        while let Some(batch) = results.next().await {
            all.extend(rows(&batch?, zone));
        }
        for cell in all.iter_mut().flatten() {
            if cell.contains("alluvium-test-") {
                *cell = self.sandbox.hide_paths(cell);
            }
        }
        Ok(DBOutput::Rows { types, rows: all })
    }

    fn failure(&self, error: &Error, piece: &Piece) -> Failure {
        Failure(self.sandbox.hide_paths(&error.diagnostic().render(&source_of(piece))))
    }
}

#[async_trait::async_trait]
impl AsyncDB for Database {
    type Error = Failure;
    type ColumnType = Kind;

    /// Runs every statement of the record; the last one's result counts.
    async fn run(&mut self, sql: &str) -> Result<DBOutput<Kind>, Failure> {
        let mut splitter = Splitter::new();
        splitter.push(sql);
        let mut output = DBOutput::StatementComplete(0);
        while let Some(piece) = splitter.next().or_else(|| splitter.finish()) {
            output = match self.piece(&piece).await {
                Ok(output) => output,
                Err(error) => return Err(self.failure(&error, &piece)),
            };
        }
        Ok(output)
    }

    async fn shutdown(&mut self) {
        if let Some(session) = self.session.take() {
            // The warehouse is about to be removed; streams that cannot stop lose nothing by it.
            drop(session.stop_all().await);
        }
    }

    fn engine_name(&self) -> &str {
        "alluvium"
    }

    async fn sleep(duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
