//! The `alluvium` program as tests drive it: a child process with a warehouse of its own, asked in SQL.
//!
//! Knows the command line; nothing of the crates behind it.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A fresh directory with a warehouse, a landing directory and tables in known places.
pub struct Engine {
    directory: TempDir,
}

/// What a process left behind.
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Codes of the errors that were told: objects where the format is JSON, else `error[CODE]`.
    pub fn codes(&self) -> Vec<String> {
        let object = |line: &str| Some(serde_json::from_str::<Value>(line).ok()?["code"].as_str()?.to_owned());
        let text = |line: &str| Some(line.split_once("error[")?.1.split_once(']')?.0.to_owned());
        self.stderr.lines().filter_map(|line| object(line).or_else(|| text(line))).collect()
    }
}

impl Engine {
    pub fn new() -> Engine {
        Engine { directory: tempfile::tempdir().unwrap() }
    }

    /// The directory all of it lies in.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A directory for arriving files, there after the call.
    pub fn landing(&self) -> PathBuf {
        let landing = self.path().join("landing");
        std::fs::create_dir_all(&landing).unwrap();
        landing
    }

    /// LOCATION of a table.
    pub fn table(&self, name: &str) -> PathBuf {
        self.path().join("tables").join(name)
    }

    /// Puts a file into the landing directory whole, by rename.
    pub fn land(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let staged = self.path().join(format!("{name}.staged"));
        std::fs::write(&staged, bytes).unwrap();
        std::fs::rename(staged, self.landing().join(name)).unwrap();
    }

    /// The program with its warehouse, ready for further arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_alluvium"));
        command.arg("--warehouse").arg(self.path().join("warehouse"));
        command.args(["--format", "ndjson", "--quiet", "--no-progress"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env_remove("ALLUVIUM_FAILPOINT");
        command
    }

    /// Runs statements to their end.
    pub fn run(&self, sql: &str) -> Ended {
        self.run_with(sql, &[])
    }

    /// The same with variables in the environment.
    pub fn run_with(&self, sql: &str, environment: &[(&str, &str)]) -> Ended {
        let output = self.command().args(["-c", sql]).envs(environment.iter().copied()).output().unwrap();
        Ended {
            status: output.status,
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts statements without waiting for their end.
    pub fn start(&self, sql: &str) -> Child {
        self.command().args(["-c", sql]).stdout(Stdio::null()).spawn().unwrap()
    }

    /// Runs statements that must succeed; the rows of all of them.
    #[track_caller]
    pub fn ask(&self, sql: &str) -> Vec<Value> {
        let ended = self.run(sql);
        assert!(ended.status.success(), "{sql}\nended with {}:\n{}", ended.status, ended.stderr);
        ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The lines a query prints, sorted.
    #[track_caller]
    pub fn lines(&self, sql: &str) -> Vec<String> {
        let ended = self.run(sql);
        assert!(ended.status.success(), "{sql}\nended with {}:\n{}", ended.status, ended.stderr);
        let mut lines: Vec<String> = ended.stdout.lines().map(String::from).collect();
        lines.sort();
        lines
    }

    /// The values of a query's only row, as numbers; decimals come as text.
    #[track_caller]
    pub fn numbers(&self, sql: &str) -> Vec<f64> {
        let rows = self.ask(sql);
        assert_eq!(rows.len(), 1, "{sql} must give one row: {rows:?}");
        rows[0].as_object().unwrap().values().map(number).collect()
    }
}

/// A number, printed as number or as text; NaN for anything else.
pub fn number(value: &Value) -> f64 {
    match value {
        Value::String(text) => text.parse().unwrap_or(f64::NAN),
        other => other.as_f64().unwrap_or(f64::NAN),
    }
}

/// What a Delta log on disk says, read without the engine: JSON commits from version 0 on.
pub struct Log {
    /// Newest version; None when there is no log.
    pub version: Option<u64>,
    /// Rows of the files that are in the table, by their statistics, without those that deletion vectors take away.
    pub rows: u64,
    /// Versions by `txn` application: (application, epoch) in order of commits.
    pub transactions: Vec<(String, u64)>,
}

impl Log {
    /// Reads a table's log. Every file it names must be on disk with the size it says.
    pub fn read(table: &Path) -> Log {
        let mut log = Log { version: None, rows: 0, transactions: Vec::new() };
        let mut live = std::collections::BTreeMap::new();
        for version in 0.. {
            let path = table.join("_delta_log").join(format!("{version:020}.json"));
            let Ok(text) = std::fs::read_to_string(&path) else { break };
            log.version = Some(version);
            for line in text.lines() {
                let action: Value = serde_json::from_str(line).unwrap();
                if let Some(add) = action.get("add") {
                    let statistics: Value = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
                    let dead = add["deletionVector"]["cardinality"].as_u64().unwrap_or(0);
                    let file = (add["size"].as_u64().unwrap(), statistics["numRecords"].as_u64().unwrap() - dead);
                    assert!(
                        live.insert(add["path"].as_str().unwrap().to_string(), file).is_none(),
                        "added twice: {add}"
                    );
                }
                if let Some(remove) = action.get("remove") {
                    assert!(live.remove(remove["path"].as_str().unwrap()).is_some(), "was not there: {remove}");
                }
                if let Some(txn) = action.get("txn") {
                    let application = txn["appId"].as_str().unwrap().to_string();
                    log.transactions.push((application, txn["version"].as_u64().unwrap()));
                }
            }
        }
        for (path, (size, rows)) in live {
            let path = path.replace("%20", " ").replace("%3D", "=");
            assert_eq!(std::fs::metadata(table.join(&path)).unwrap().len(), size, "{path}");
            log.rows += rows;
        }
        log
    }
}
