//! `alluvium-bench`: measures an `alluvium` program and prints what it found.

use std::path::PathBuf;
use std::process::ExitCode;

use alluvium_bench::Result;
use alluvium_bench::baseline::{self, Work};
use alluvium_bench::dataset::Format;
use alluvium_bench::workloads::{Bench, Workload};
use clap::{Parser, Subcommand};

/// Workloads that measure the alluvium program beside plain DataFusion.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run workloads and print their figures.
    Run {
        /// Which; all when none is named.
        workloads: Vec<Workload>,
        /// The program to measure, best an optimised one.
        #[arg(long, env = "ALLUVIUM_PROGRAM")]
        program: PathBuf,
        /// Where data sets are made and kept (2 GB at full scale), and where tables are written.
        #[arg(long, env = "ALLUVIUM_BENCH_DATA")]
        data: PathBuf,
        /// Repetitions, engine and baseline in turn.
        #[arg(long, default_value_t = 3)]
        repeat: u32,
        /// Share of the full number of files.
        #[arg(long, default_value_t = 1.0)]
        scale: f64,
        /// One JSON object per workload instead of text.
        #[arg(long)]
        json: bool,
        /// Exit with 1 when a bar is missed.
        #[arg(long)]
        strict: bool,
    },
    /// Do a baseline's work once; started by `run`.
    Baseline {
        /// What to do.
        work: Work,
        /// Format of the files.
        #[arg(value_parser = format)]
        format: Format,
        /// Directory with the files.
        input: PathBuf,
        /// Directory to write to.
        output: PathBuf,
        /// Number of rows that must come out.
        #[arg(long)]
        expect: u64,
    },
}

fn format(name: &str) -> Result<Format, String> {
    [Format::Json, Format::Csv].into_iter().find(|format| format.name() == name).ok_or("json or csv".into())
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything was as wished.
fn run(command: Command) -> Result<bool> {
    match command {
        Command::Run { workloads, program, data, repeat, scale, json, strict } => {
            std::fs::create_dir_all(&data)?;
            let (program, data) = (program.canonicalize()?, data.canonicalize()?);
            let bench = Bench { program, data, repeat, scale };
            let chosen = if workloads.is_empty() { Workload::ALL.to_vec() } else { workloads };
            let mut all_well = true;
            for workload in chosen {
                match workload.run(&bench) {
                    Ok(report) => {
                        if json {
                            println!("{}", report.to_json())
                        } else {
                            println!("{}", report.to_text())
                        }
                        all_well &= report.all_met() || !strict;
                    }
                    // One workload that fails must not hide the figures of the others.
                    Err(error) => {
                        eprintln!("{workload:?} failed: {error}\n");
                        all_well = false;
                    }
                }
            }
            Ok(all_well)
        }
        Command::Baseline { work, format, input, output, expect } => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            let rows = runtime.block_on(baseline::run(work, format, &input, &output))?;
            println!("{rows}");
            if rows == expect { Ok(true) } else { Err(format!("{rows} rows came out instead of {expect}").into()) }
        }
    }
}
