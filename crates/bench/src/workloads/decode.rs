//! The engine's decoders, rescue on, beside arrow-json and arrow-csv over the same bytes in memory, in one thread.
//!
//! Decoders cannot be measured from outside the engine, so a program of its own links them and prints what it found: the
//! example `decode` of the crate that has them. Of dirty records one in a hundred is broken and five have drifted; theirs
//! read them without the dirt.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::Bench;
use crate::report::{Bar, Report};
use crate::{Error, Result};

/// Passes over the data for each repetition asked for; each side's best counts.
const PASSES: u32 = 5;

/// One figure a case: how many times theirs ours is as fast, or for dirty data how many times as long it takes.
pub fn run(bench: &Bench) -> Result<Report> {
    let program = program()?;
    let child = Command::new(&program).arg((bench.repeat * PASSES).to_string()).stderr(Stdio::inherit()).output()?;
    if !child.status.success() {
        return Err(format!("{} ended with {}", program.display(), child.status).into());
    }
    let mut report = Report::new("decode");
    for line in String::from_utf8(child.stdout)?.lines() {
        add(&mut report, &serde_json::from_str(line)?)?;
    }
    Ok(report)
}

fn add(report: &mut Report, line: &Value) -> Result<()> {
    let number = |name: &str| line[name].as_f64().ok_or_else(|| Error::from(format!("no `{name}` in {line}")));
    let case = line["case"].as_str().unwrap_or_default();
    let (ours, theirs) = (number("ours_s")?, number("arrow_s")?);
    report.add(&format!("{case}, rows per second"), number("rows")? / ours, "rows/s");
    report.add(&format!("{case}, bytes per second"), number("bytes")? / ours / 1e6, "MB/s");
    let (name, value, bar) = match case {
        dirty if dirty.ends_with(" dirty") => ("time, engine / arrow on clean data", ours / theirs, Bar::AtMost(1.3)),
        "json" | "csv" | "json nested" => ("rows per second, engine / arrow", theirs / ours, Bar::AtLeast(1.0)),
        _ => ("rows per second, engine / arrow", theirs / ours, Bar::AtLeast(0.8)),
    };
    let name = format!("{case}, {name}");
    report.add(&name, value, "×");
    report.bar(&name, bar);
    Ok(())
}

/// It lies beside this program, or where cargo puts examples.
fn program() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let directory = here.parent().ok_or("this program is nowhere")?;
    let places = [directory.join("decode"), directory.join("examples/decode")];
    let found = places.into_iter().find(|place| place.is_file());
    found.ok_or_else(|| {
        format!("there is no program `decode` beside {}; `make release` builds it", here.display()).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dirty_cases_are_held_against_their_time() -> Result<()> {
        let mut report = Report::new("decode");
        let line = |case: &str, ours: f64| serde_json::json!({"case": case, "rows": 100, "bytes": 1000, "ours_s": ours, "arrow_s": 1.0});
        add(&mut report, &line("json", 0.5))?;
        add(&mut report, &line("json dirty", 1.25))?;
        assert!(report.all_met());
        assert_eq!(report.sample("json, rows per second, engine / arrow").median(), 2.0);
        assert_eq!(report.sample("json dirty, time, engine / arrow on clean data").median(), 1.25);
        add(&mut report, &line("csv", 1.1))?;
        assert!(!report.all_met());
        assert!(add(&mut report, &serde_json::json!({"case": "csv"})).is_err());
        Ok(())
    }
}
