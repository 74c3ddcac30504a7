//! The command line: names, defaults, help texts. What is refused here is bad usage, exit code 2.

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::print::Format;
use crate::slt::Replay;

const EXIT_CODES: &str = "\
Results go to standard output, everything else to standard error.
Exit codes: 0 done; 1 a statement was refused or failed; 2 bad usage; 3 stored state or the
environment prevents it; 130 interrupted.";

/// Streams from files into Delta tables, in SQL.
///
/// Without a command: the interactive prompt on a terminal, else statements from standard input, each run
/// as soon as its semicolon has arrived.
#[derive(Debug, Parser)]
#[command(name = "alluvium", version, after_help = EXIT_CODES, max_term_width = 100, args_override_self = true)]
pub struct Cli {
    /// Run these statements and leave; may be given several times
    #[arg(short = 'c', long = "command", value_name = "SQL", allow_hyphen_values = true)]
    pub statements: Vec<String>,
    /// Options of every command.
    #[command(flatten)]
    pub common: Common,
    /// What to do instead of the prompt.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run scripts in order; stop at the first error
    Run {
        /// Files of SQL statements
        #[arg(required = true, value_name = "SCRIPT.sql")]
        scripts: Vec<PathBuf>,
    },
    /// Run .slt test files, each in its own empty warehouse
    ///
    /// `${TEST_DIR}` in a file is a fresh directory of its own. A comment `# replays: straight, restart` before
    /// the first record limits the replays a file takes part in; `onlyif straight` and `skipif single` do so
    /// for one record.
    Test(TestArgs),
}

/// Arguments of `alluvium test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Files, or directories that are searched for .slt files
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Write the actual results into the files instead of comparing
    #[arg(long)]
    pub complete: bool,
    /// How to run each file: as it stands, with a restart before every read or refresh, with all input in
    /// one epoch, with one file per epoch; may be given several times [default: straight]
    #[arg(long = "replay", value_enum, value_name = "HOW")]
    pub replays: Vec<Replay>,
    /// Files run at the same time
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: u16,
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Directory of the catalog, of managed tables and their checkpoints
    #[arg(long, global = true, value_name = "DIR", env = "ALLUVIUM_WAREHOUSE", default_value = "./alluvium-warehouse")]
    pub warehouse: PathBuf,
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// A value for ${name} in the statements; may be given several times
    #[arg(long = "var", global = true, value_name = "NAME=VALUE", value_parser = pair)]
    pub variables: Vec<(String, String)>,
    /// A setting, as by SET; may be given several times
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = pair)]
    pub settings: Vec<(String, String)>,
    /// How long a script waits at its end for the streams it started (500ms, 30s, 5m, 2h); then it stops them
    #[arg(long, global = true, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// Say nothing but results and errors
    #[arg(long, short = 'q', global = true)]
    pub quiet: bool,
    /// Show no progress line
    #[arg(long, global = true)]
    pub no_progress: bool,
}

impl Cli {
    /// Parses the process's arguments; ends the process with code 2 on bad usage and 0 after `--help`.
    pub fn from_process() -> Cli {
        let cli = Cli::parse();
        if let Err(error) = cli.check() {
            error.exit();
        }
        cli
    }

    /// What clap's declarations cannot say.
    fn check(&self) -> Result<(), clap::Error> {
        if self.command.is_some() && !self.statements.is_empty() {
            let message = "`-c` runs statements by itself and cannot stand with `run` or `test`";
            return Err(Cli::command().error(ErrorKind::ArgumentConflict, message));
        }
        Ok(())
    }
}

/// `name=value`, split at the first `=`.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err("write it as name=value".to_owned()),
    }
}

/// `500ms`, `30s`, `5m`, `2h`; a bare number is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is not a time; write it as 500ms, 30s, 5m or 2h");
    let text = text.trim();
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let number: f64 = number.parse().map_err(|_| bad())?;
    let seconds = match unit.trim() {
        "ms" => number / 1000.0,
        "" | "s" | "sec" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(bad()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
        let cli = Cli::try_parse_from(std::iter::once(&"alluvium").chain(args))?;
        cli.check()?;
        Ok(cli)
    }

    #[test]
    fn the_declarations_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_stand_before_and_after_the_command() {
        for args in [&["--format", "ndjson", "run", "a.sql"][..], &["run", "a.sql", "--format", "ndjson"]] {
            assert_eq!(parse(args).unwrap().common.format, Format::Ndjson);
        }
        let cli = parse(&["-c", "SELECT 1", "--var", "a=b=c", "--set", "on_error=continue"]).unwrap();
        assert_eq!(cli.statements, ["SELECT 1"]);
        assert_eq!(cli.common.variables, [("a".to_owned(), "b=c".to_owned())]);
        assert_eq!(cli.common.settings, [("on_error".to_owned(), "continue".to_owned())]);
    }

    #[test]
    fn bad_usage_ends_with_two() {
        for args in [
            &["run"][..],
            &["--format", "xml"],
            &["--var", "novalue"],
            &["--timeout", "soon"],
            &["-c", "SELECT 1", "run", "a.sql"],
            &["test", "x", "--replay", "backwards"],
            &["test", "x", "--jobs", "0"],
            &["walk"],
        ] {
            assert_eq!(parse(args).unwrap_err().exit_code(), 2, "{args:?}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        for bad in ["", "s", "-1s", "5 days", "1e400s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
