//! Plain DataFusion doing the work once, in a process of its own: what the ratios stand on.
//!
//! No epochs, no checkpoint, no exactly-once, no Delta log. Two partitions, Snappy as in the engine's files.

use std::path::Path;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{Int64Type, UInt64Type};
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::Result;
use crate::dataset::Format;
use crate::rows::datafusion_schema;

/// What is done once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Work {
    /// Every row into Parquet files.
    Copy,
    /// The query of the aggregate workload into Parquet files.
    Aggregate,
    /// The query of the windows workload into Parquet files.
    Windows,
    /// Every column of every row looked at; nothing written.
    Read,
}

impl Work {
    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Work::Copy => "copy",
            Work::Aggregate => "aggregate",
            Work::Windows => "windows",
            Work::Read => "read",
        }
    }
}

/// Does the work over all files in `input`; gives the number of rows that came out of it.
pub async fn run(work: Work, format: Format, input: &Path, output: &Path) -> Result<u64> {
    let mut config = SessionConfig::new().with_target_partitions(2);
    config.options_mut().execution.parquet.compression = Some("snappy".into());
    let context = SessionContext::new_with_config(config);
    let (schema, input, output) = (datafusion_schema(), input.display(), output.display());
    let (kind, options) = match format {
        Format::Json => ("JSON", ""),
        Format::Csv => ("CSV", "OPTIONS ('format.has_header' 'true')"),
    };
    let create = format!("CREATE EXTERNAL TABLE events ({schema}) STORED AS {kind} LOCATION '{input}/' {options}");
    context.sql(&create).await?.collect().await?;
    let sql = match work {
        Work::Copy => format!("COPY (SELECT * FROM events) TO '{output}/' STORED AS PARQUET"),
        Work::Aggregate => format!(
            "COPY (SELECT device, count(*) AS n, sum(value) AS total, avg(value) AS mean FROM events GROUP BY device) \
             TO '{output}/' STORED AS PARQUET"
        ),
        Work::Windows => format!(
            "COPY (SELECT date_bin(INTERVAL '10 minutes', ts) AS at, site, count(*) AS n, sum(value) AS total, avg(value) AS mean \
             FROM events GROUP BY 1, site) TO '{output}/' STORED AS PARQUET"
        ),
        Work::Read => "SELECT count(*), max(event_id), max(ts), max(device), max(site), max(event_type), sum(value), \
                       sum(status), max(url) FROM events"
            .to_string(),
    };
    let batches = context.sql(&sql).await?.collect().await?;
    let first = batches.first().ok_or("no result")?.column(0);
    // COPY counts unsigned, count(*) signed.
    let copied = first.as_primitive_opt::<UInt64Type>().map(|counts| counts.value(0));
    let counted = first.as_primitive_opt::<Int64Type>().map(|counts| counts.value(0) as u64);
    copied.or(counted).ok_or_else(|| format!("a {} instead of a count", first.data_type()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::DataSet;

    #[test]
    fn the_work_covers_every_row() -> Result<()> {
        let data = tempfile::tempdir()?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        for format in [Format::Json, Format::Csv] {
            let set = DataSet::new(format.name(), format, 3, 20, 7);
            let input = set.make(data.path())?;
            let rows = |work: Work| {
                let output = data.path().join(format!("{}-{}", format.name(), work.name()));
                runtime.block_on(run(work, format, &input, &output))
            };
            assert_eq!((rows(Work::Read)?, rows(Work::Copy)?), (60, 60));
            assert_eq!(rows(Work::Aggregate)?, set.expected().devices);
        }
        Ok(())
    }
}
