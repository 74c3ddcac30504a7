//! From the start of the program to its prompt under a terminal, and to the end of `SELECT 1`.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Bench;
use crate::child;
use crate::engine::Engine;
use crate::report::{Bar, Report};
use crate::{Error, Result};

/// Ten times as often as other workloads: one start is short.
pub fn run(bench: &Bench) -> Result<Report> {
    let mut report = Report::new("startup");
    for _ in 0..bench.repeat * 10 {
        let engine = bench.engine()?;
        report.add("start to prompt", to_prompt(&bench.program, &engine)? * 1e3, "ms");
        let (status, usage) = child::run(engine.command().args(["-c", "SELECT 1"]).stdout(Stdio::null()))?;
        if !status.success() {
            return Err(format!("SELECT 1 ended with {status}").into());
        }
        report.add("SELECT 1, whole process", usage.wall_s * 1e3, "ms");
        report.add("SELECT 1, peak memory", usage.peak_bytes as f64 / 1e6, "MB");
    }
    report.bar("start to prompt", Bar::AtMost(100.0));
    Ok(report)
}

/// Seconds until the first `>` of the prompt is written.
fn to_prompt(program: &std::path::Path, engine: &Engine) -> Result<f64> {
    let (mut ours, theirs) = child::terminal()?;
    let mut command = Command::new(program);
    command.arg("--warehouse").arg(engine.directory().join("warehouse"));
    command.env("ALLUVIUM_HISTORY", engine.directory().join("history")).env("TERM", "xterm");
    command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs);
    let started = Instant::now();
    let mut child = command.spawn()?;
    // The child's ends of the terminal must be closed here, or reading would never end with the child.
    drop(command);
    let (sender, receiver) = std::sync::mpsc::channel();
    let mut reader = ours.try_clone()?;
    std::thread::spawn(move || {
        let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(read) = reader.read(&mut buffer) {
            shown.extend_from_slice(&buffer[..read]);
            if read == 0 {
                break;
            }
            if shown.windows(9).any(|window| window == b"alluvium>") {
                let _ = sender.send(Instant::now());
                break;
            }
        }
    });
    let prompt = receiver.recv_timeout(Duration::from_secs(10));
    if prompt.is_ok() {
        ours.write_all(b"\\q\r")?;
        let asked = Instant::now();
        while child.try_wait()?.is_none() && asked.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let _ = child.kill();
    child.wait()?;
    let prompt = prompt.map_err(|_| Error::from("no prompt within 10 s"))?;
    Ok(prompt.duration_since(started).as_secs_f64())
}
