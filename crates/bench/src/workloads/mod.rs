//! One file per workload. Each makes its data, runs the engine and the baseline in turn, checks the result against
//! figures computed from the row numbers, and reports.

pub mod aggregate;
pub mod decode;
pub mod ingest;
pub mod large_state;
pub mod latency;
pub mod long_state;
pub mod million_files;
pub mod small_files;
pub mod startup;
pub mod table_stream;
pub mod update;
pub mod update_scattered;
pub mod windows;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::baseline::Work;
use crate::child::{self, Usage};
use crate::dataset::Format;
use crate::engine::Engine;
use crate::report::Report;
use crate::{Result, rows};

/// What a workload needs to know about this run.
pub struct Bench {
    /// The `alluvium` program.
    pub program: PathBuf,
    /// Where data sets are kept.
    pub data: PathBuf,
    /// Repetitions, interleaved with the baseline's.
    pub repeat: u32,
    /// Share of the full number of files; 1 for figures that count.
    pub scale: f64,
}

impl Bench {
    /// An engine with a fresh warehouse beside the data, so that both lie on one disk.
    pub fn engine(&self) -> Result<Engine> {
        Engine::new(&self.program, &self.data.join("scratch"))
    }

    /// A number of files at this run's scale, at least 10.
    pub fn files(&self, full: u64) -> u64 {
        ((full as f64 * self.scale) as u64).max(10)
    }

    /// Plain DataFusion over the same files, in a child process of this very program.
    pub fn baseline(&self, work: Work, format: Format, input: &Path, rows_out: u64) -> Result<Usage> {
        let scratch = self.data.join("scratch");
        std::fs::create_dir_all(&scratch)?;
        let output = tempfile::tempdir_in(scratch)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["baseline", work.name(), format.name()]).arg(input).arg(output.path());
        command.args(["--expect", &rows_out.to_string()]).stdout(Stdio::null());
        let (status, usage) = child::run(&mut command)?;
        if status.success() { Ok(usage) } else { Err(format!("the baseline ended with {status}").into()) }
    }
}

/// `cloud_files` over a directory of events with their schema given, and further options.
pub fn cloud_files(input: &Path, format: Format, options: &[(&str, &str)]) -> String {
    let mut map = format!("'schema', '{}'", rows::engine_schema());
    if format == Format::Csv {
        map.push_str(", 'header', 'true'");
    }
    for (key, value) in options {
        map.push_str(&format!(", '{key}', '{value}'"));
    }
    format!("cloud_files('{}', '{}', map({map}))", input.display(), format.name())
}

/// A workload by its name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// 500 JSON files of 10,000 rows into a Delta table.
    Ingest,
    /// The same rows as CSV.
    IngestCsv,
    /// Count, sum and mean of 100,000 keys over the same files in 50 epochs, complete mode.
    Aggregate,
    /// The same in windows of ten minutes for each of 50 sites, with a watermark, append mode.
    Windows,
    /// 20,000 files of 10 rows.
    SmallFiles,
    /// A million files that were read, and a hundred new ones.
    MillionFiles,
    /// A 100-row file every 100 ms for 30 s: from its rename to the commit that holds it.
    Latency,
    /// The same files into a complete aggregate of 1,000 keys.
    LatencyAggregate,
    /// From the start of the program to its prompt, and to the end of `SELECT 1`.
    Startup,
    /// 200 epochs into a complete aggregate of 100,000 keys that are all there from the first.
    LongState,
    /// 50 epochs of 200,000 rows each into 5,000,000 groups that are all there, update mode.
    Update,
    /// 5,000,000 keys by and by in 50 epochs of 120,000 rows, update mode.
    LargeState,
    /// 1,000 scattered groups of 10,000,000 change, beside deltalake's MERGE of the same rows.
    UpdateScattered,
    /// A stream of a Delta table with 1,000 commits, and with 10.
    TableStream,
    /// The decoders alone, beside arrow-json and arrow-csv.
    Decode,
}

impl Workload {
    /// All that need nothing but this program, in the order of a full run.
    pub const ALL: [Workload; 14] = [
        Workload::Startup,
        Workload::Ingest,
        Workload::IngestCsv,
        Workload::Aggregate,
        Workload::Windows,
        Workload::SmallFiles,
        Workload::MillionFiles,
        Workload::Latency,
        Workload::LatencyAggregate,
        Workload::LongState,
        Workload::Update,
        Workload::LargeState,
        Workload::TableStream,
        Workload::Decode,
    ];

    /// Measures it.
    pub fn run(self, bench: &Bench) -> Result<Report> {
        match self {
            Workload::Ingest => ingest::run(bench, "ingest", Format::Json),
            Workload::IngestCsv => ingest::run(bench, "ingest-csv", Format::Csv),
            Workload::Aggregate => aggregate::run(bench),
            Workload::Windows => windows::run(bench),
            Workload::SmallFiles => small_files::run(bench),
            Workload::MillionFiles => million_files::run(bench),
            Workload::Latency => latency::run(bench, "latency", latency::Query::Append),
            Workload::LatencyAggregate => latency::run(bench, "latency-aggregate", latency::Query::Complete),
            Workload::Startup => startup::run(bench),
            Workload::LongState => long_state::run(bench),
            Workload::Update => update::run(bench),
            Workload::LargeState => large_state::run(bench),
            Workload::UpdateScattered => update_scattered::run(bench),
            Workload::TableStream => table_stream::run(bench),
            Workload::Decode => decode::run(bench),
        }
    }
}
