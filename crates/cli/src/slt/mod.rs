//! `alluvium test`: sqllogictest files, each in a warehouse of its own, run several at a time.
//!
//! `database` runs records over a session, `replay` says how a file is run, `cells` how values are compared,
//! `complete` writes results into files. One line per run on standard output; what went wrong follows it.

mod cells;
mod complete;
mod database;
mod replay;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use alluvium_parser::Diagnostic;
use sqllogictest::{Record, Runner, strict_column_validator};
use tokio::runtime::{Handle, Runtime};

use crate::args::{Common, TestArgs};
use crate::report::{Reporter, no_source};
use cells::Kind;
use database::{Database, Sandbox};
pub use replay::Replay;

/// How long one run of a file may take when `--timeout` does not say.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Runs the files; gives the process's exit code.
pub fn run(runtime: &Runtime, args: &TestArgs, common: &Common) -> u8 {
    let jobs = match jobs(args) {
        Ok(jobs) => jobs,
        Err(message) => {
            Reporter::new(common).error(&Diagnostic::new("TEST_FILES", message), &no_source());
            return 2;
        }
    };
    let started = Instant::now();
    let (mut passed, mut failed) = (0, 0);
    for outcome in workers(runtime.handle(), args, common, jobs) {
        match &outcome.failure {
            None => passed += 1,
            Some(_) => failed += 1,
        }
        outcome.print(common.quiet);
    }
    println!("{passed} passed, {failed} failed ({:.1} s)", started.elapsed().as_secs_f64());
    u8::from(failed > 0)
}

/// One run of one file.
struct Job {
    path: PathBuf,
    replay: Replay,
}

/// What came of it.
struct Outcome {
    job: Job,
    took: Duration,
    failure: Option<String>,
}

impl Outcome {
    fn print(&self, quiet: bool) {
        let replay = match self.job.replay {
            Replay::Straight => String::new(),
            other => format!(" [{}]", other.label()),
        };
        let line = format!("{}{replay} ({:.2} s)", self.job.path.display(), self.took.as_secs_f64());
        match &self.failure {
            None if quiet => {}
            None => println!("ok      {line}"),
            Some(failure) => {
                println!("FAILED  {line}");
                for line in failure.trim_end().lines() {
                    println!("        {line}");
                }
            }
        }
    }
}

/// Every file with every replay it takes part in, sorted by path.
fn jobs(args: &TestArgs) -> Result<VecDeque<Job>, String> {
    let mut files = Vec::new();
    for path in &args.paths {
        let found = find(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
        if found.is_empty() {
            return Err(format!("there is no .slt file in `{}`", path.display()));
        }
        files.extend(found);
    }
    files.sort();
    files.dedup();
    let asked = match (args.complete, args.replays.as_slice()) {
        (true, _) | (false, []) => vec![Replay::Straight],
        (false, replays) => Replay::expand(replays),
    };
    let mut jobs = VecDeque::new();
    for path in files {
        let text =
            std::fs::read_to_string(&path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
        let takes_part = Replay::of_file(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let runs = asked.iter().filter(|replay| takes_part.contains(replay));
        jobs.extend(runs.map(|replay| Job { path: path.clone(), replay: *replay }));
    }
    Ok(jobs)
}

/// The file itself, or every .slt file below a directory.
fn find(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        std::fs::metadata(path)?;
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?.path();
        if entry.is_dir() {
            found.extend(find(&entry)?);
        } else if entry.extension().is_some_and(|extension| extension == "slt") {
            found.push(entry);
        }
    }
    Ok(found)
}

/// Starts the workers; outcomes come in the order in which they are ready.
fn workers(
    handle: &Handle,
    args: &TestArgs,
    common: &Common,
    jobs: VecDeque<Job>,
) -> impl Iterator<Item = Outcome> + use<> {
    let jobs = std::sync::Arc::new(Mutex::new(jobs));
    let (sender, receiver) = mpsc::channel();
    for _ in 0..args.jobs {
        let (handle, jobs, sender) = (handle.clone(), jobs.clone(), sender.clone());
        let (common, complete) = (common.clone(), args.complete);
        // A thread and not a task: records may run shell commands, which block.
        std::thread::spawn(move || {
            loop {
                let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(job) = job else { return };
                let started = Instant::now();
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    run_job(&handle, &job, &common, complete)
                }));
                let failure = result.unwrap_or_else(|_| Err("the run ended abnormally".to_owned())).err();
                if sender.send(Outcome { job, took: started.elapsed(), failure }).is_err() {
                    return;
                }
            }
        });
    }
    receiver.into_iter()
}

fn run_job(handle: &Handle, job: &Job, common: &Common, complete: bool) -> Result<(), String> {
    let sandbox = Sandbox::new(common, job.replay).map_err(|error| format!("cannot make a directory: {error}"))?;
    let records = sqllogictest::parse_file::<Kind>(&job.path).map_err(|error| error.to_string())?;
    let connection = sandbox.clone();
    let mut runner = Runner::new(move || {
        let sandbox = connection.clone();
        async move { Database::open(sandbox).await }
    });
    runner.add_label(job.replay.label());
    runner.with_column_validator(strict_column_validator);
    let limit = common.timeout.unwrap_or(TIMEOUT);
    handle.block_on(async {
        let work = async {
            match complete {
                true => complete::rewrite(&mut runner, &job.path, records, &sandbox).await,
                false => compare(&mut runner, records, &sandbox).await,
            }
        };
        let result = tokio::time::timeout(limit, work).await;
        runner.shutdown_async().await;
        result.unwrap_or_else(|_| Err(format!("not finished after {limit:?}")))
    })
}

async fn compare<M>(
    runner: &mut Runner<Database, M>,
    records: Vec<Record<Kind>>,
    sandbox: &Sandbox,
) -> Result<(), String>
where
    M: sqllogictest::MakeConnection<Conn = Database>,
{
    let mut failures = Vec::new();
    for record in records {
        if matches!(record, Record::Halt { .. }) {
            break;
        }
        let record = sandbox.fill_in(record);
        // What fails first is the cause of some that follow, and seldom of all.
        if let Err(error) = runner.run_async(record).await {
            failures.push(sandbox.hide_paths(&error.display(false).to_string()));
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

#[cfg(test)]
mod tests;
