//! The `alluvium` program: a warehouse of its own, scripts run to their end, questions asked about what they did.
//!
//! Knows the command line and the columns of SHOW EPOCHS by name; nothing of the engine's inside.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::child::{self, Usage};
use crate::{Error, Result};

/// The program with a fresh warehouse, which goes with it.
pub struct Engine {
    program: PathBuf,
    directory: TempDir,
}

impl Engine {
    /// A warehouse in a new directory below `scratch`.
    pub fn new(program: &Path, scratch: &Path) -> Result<Engine> {
        std::fs::create_dir_all(scratch)?;
        Ok(Engine { program: program.to_path_buf(), directory: tempfile::tempdir_in(scratch)? })
    }

    /// A directory that lives as long as the warehouse.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where tables with a LOCATION of ours lie.
    pub fn table(&self, name: &str) -> PathBuf {
        self.directory.path().join("tables").join(name)
    }

    /// The program with its warehouse, ready for further arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--warehouse").arg(self.directory.path().join("warehouse"));
        command.args(["--format", "ndjson", "--quiet", "--no-progress"]).stdin(Stdio::null());
        command
    }

    /// Runs a script to its end; the whole process is what is measured.
    pub fn run(&self, script: &str) -> Result<Usage> {
        let mut command = self.script(script)?;
        let (status, usage) = child::run(command.stdout(Stdio::null()))?;
        if status.success() { Ok(usage) } else { Err(self.failed(&format!("ended with {status}"), script)) }
    }

    /// Starts a script that goes on until it is interrupted.
    pub fn start(&self, script: &str) -> Result<Child> {
        Ok(self.script(script)?.stdout(Stdio::null()).spawn()?)
    }

    fn script(&self, script: &str) -> Result<Command> {
        let path = self.directory.path().join("script.sql");
        std::fs::File::create(&path)?.write_all(script.as_bytes())?;
        let mut command = self.command();
        command.arg("run").arg(path);
        Ok(command)
    }

    /// Rows of a query, asked in a process of its own.
    pub fn ask(&self, sql: &str) -> Result<Vec<Value>> {
        let output = self.command().args(["-c", sql]).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(self.failed(&format!("ended with {}", output.status), sql));
        }
        let text = String::from_utf8(output.stdout)?;
        Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }

    fn failed(&self, how: &str, sql: &str) -> Error {
        format!("{} {how}, running:\n{sql}", self.program.display()).into()
    }

    /// What the epochs of a table's stream did, oldest first.
    pub fn epochs(&self, table: &str) -> Result<Vec<EpochTime>> {
        let rows = self.ask(&format!("SHOW EPOCHS FROM {table} LIMIT 1000000"))?;
        let mut epochs: Vec<EpochTime> = rows.iter().map(EpochTime::read).collect::<Result<_>>()?;
        epochs.sort_by_key(|epoch| epoch.epoch);
        Ok(epochs)
    }

    /// Fails unless a query's only row has these values.
    pub fn check(&self, sql: &str, expected: &[u64]) -> Result<()> {
        let rows = self.ask(sql)?;
        let found: Vec<u64> = match rows.as_slice() {
            [Value::Object(row)] => row.values().filter_map(whole_number).collect(),
            _ => Vec::new(),
        };
        if found == expected {
            return Ok(());
        }
        Err(format!("{sql}\n gave {rows:?}\n and must give {expected:?}").into())
    }
}

/// Decimals come as text; both forms count when they are whole.
fn whole_number(value: &Value) -> Option<u64> {
    let number = match value {
        Value::String(text) => text.parse::<f64>().ok()?,
        other => other.as_f64()?,
    };
    (number.fract() == 0.0).then_some(number as u64)
}

/// One row of SHOW EPOCHS.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochTime {
    /// Number, from 0.
    pub epoch: u64,
    /// All phases together.
    pub total_ms: f64,
    /// Rows read.
    pub rows_in: u64,
    /// Version of the table it made; None when nothing was written.
    pub table_version: Option<u64>,
}

impl EpochTime {
    fn read(row: &Value) -> Result<EpochTime> {
        let fields = row.as_object().ok_or("SHOW EPOCHS gave something that is not a row")?;
        let number = |name: &str| {
            let value = fields.get(name).and_then(Value::as_u64);
            value.ok_or_else(|| Error::from(format!("SHOW EPOCHS has no number `{name}`: {row}")))
        };
        let total_ms = fields.get("duration_ms").and_then(Value::as_f64);
        Ok(EpochTime {
            epoch: number("epoch")?,
            total_ms: total_ms.ok_or_else(|| format!("SHOW EPOCHS has no `duration_ms`: {row}"))?,
            rows_in: number("rows_in")?,
            table_version: fields.get("table_version").and_then(Value::as_u64),
        })
    }
}
