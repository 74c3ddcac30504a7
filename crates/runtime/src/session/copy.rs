//! COPY (query) TO 'file'.
//!
//! The file is written beside its place under a hidden name, synced and renamed, so that a stream that watches the
//! directory sees it whole or not at all.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use alluvium_parser::{Diagnostic, OptionEntry, Query, Text};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::execute_stream;
use flate2::write::GzEncoder;
use futures::StreamExt;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use crate::error::{Error, Result};
use crate::session::Session;
use crate::session::outcome::Outcome;
use crate::table;

/// Formats COPY writes.
#[derive(Clone, Copy, PartialEq)]
enum Format {
    Json,
    Csv,
    Parquet,
}

impl Session {
    pub(super) async fn copy_to(
        &self,
        query: &Query,
        path: &Text,
        format: Option<&Text>,
        options: &[OptionEntry],
    ) -> Result<Outcome> {
        let target = table::table_path(&path.value).map_err(|e| e.at_least(path.span))?;
        let (format, gzip) = file_format(path, format)?;
        let settings = CsvSettings::parse(format, options)?;
        let plan = self.static_plan(query, "COPY").await?;
        let physical = self.physical(plan).await?;
        let mut stream = execute_stream(physical, self.state().task_ctx())?;
        let mut writer = FileWriter::create(&target, format, gzip, stream.schema(), &settings)?;
        let mut rows = 0;
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            rows += batch.num_rows();
            writer.write(&batch)?;
        }
        writer.finish(&target)?;
        Ok(Outcome::Done(format!("{rows} row{} written to `{}`", if rows == 1 { "" } else { "s" }, path.value)))
    }
}

/// The format by STORED AS, else by the file's name; and whether the name asks for gzip.
fn file_format(path: &Text, stored_as: Option<&Text>) -> Result<(Format, bool)> {
    let name = path.value.to_lowercase();
    let (stem, gzip) = match name.strip_suffix(".gz") {
        Some(stem) => (stem, true),
        None => (name.as_str(), false),
    };
    let word = match stored_as {
        Some(text) => text.value.to_lowercase(),
        None => Path::new(stem).extension().map(|e| e.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    let span = stored_as.map_or(path.span, |text| text.span);
    match word.as_str() {
        "json" | "ndjson" | "jsonl" => Ok((Format::Json, gzip)),
        "csv" => Ok((Format::Csv, gzip)),
        "parquet" if gzip => {
            Err(Diagnostic::new("INVALID_OPTION", "Parquet files are compressed inside; drop `.gz`").at(span).into())
        }
        "parquet" => Ok((Format::Parquet, false)),
        "avro" => Err(super::resolve::not_yet("COPY … STORED AS AVRO", span)),
        "" => Err(Diagnostic::new("UNKNOWN_FORMAT", format!("`{}` does not tell its format", path.value))
            .at(span)
            .help("add STORED AS JSON, CSV or PARQUET")
            .into()),
        other => Err(Diagnostic::new("UNKNOWN_FORMAT", format!("COPY cannot write `{other}`"))
            .at(span)
            .help("it writes JSON, CSV and PARQUET")
            .into()),
    }
}

struct CsvSettings {
    header: bool,
    delimiter: u8,
}

impl CsvSettings {
    fn parse(format: Format, options: &[OptionEntry]) -> Result<CsvSettings> {
        let mut settings = CsvSettings { header: true, delimiter: b',' };
        for option in options {
            let value = option.value.value.as_str();
            match option.key.value.to_lowercase().as_str() {
                "header" if format == Format::Csv && value.eq_ignore_ascii_case("true") => settings.header = true,
                "header" if format == Format::Csv && value.eq_ignore_ascii_case("false") => settings.header = false,
                "sep" | "delimiter" if format == Format::Csv && value.len() == 1 => {
                    settings.delimiter = value.as_bytes()[0];
                }
                _ => {
                    return Err(Diagnostic::new(
                        "UNKNOWN_OPTION",
                        format!("COPY does not know `{} = {value}` here", option.key.value),
                    )
                    .at(option.key.span)
                    .help("CSV files take header (true, false) and sep (one character)")
                    .into());
                }
            }
        }
        Ok(settings)
    }
}

/// Text output, compressed or not.
enum Output {
    Plain(BufWriter<File>),
    Gzip(Box<GzEncoder<BufWriter<File>>>),
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Output::Plain(file) => file.write(bytes),
            Output::Gzip(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Output::Plain(file) => file.flush(),
            Output::Gzip(file) => file.flush(),
        }
    }
}

enum Encoder {
    Json(Output),
    Csv(Box<arrow_csv::Writer<Output>>),
    Parquet(Box<ArrowWriter<BufWriter<File>>>),
}

struct FileWriter {
    encoder: Encoder,
    temporary: Temporary,
}

/// A file that is removed unless it was renamed.
struct Temporary(PathBuf);

impl FileWriter {
    fn create(target: &Path, format: Format, gzip: bool, schema: SchemaRef, csv: &CsvSettings) -> Result<FileWriter> {
        let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(dir).map_err(|e| Error::io("make the directory", dir, &e))?;
        let name = target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let temporary = dir.join(format!(".{name}.{}", uuid::Uuid::new_v4()));
        let file = File::create(&temporary).map_err(|e| Error::io("write", &temporary, &e))?;
        let guard = Temporary(temporary);
        let file = BufWriter::new(file);
        let text = |file| match gzip {
            true => Output::Gzip(Box::new(GzEncoder::new(file, flate2::Compression::default()))),
            false => Output::Plain(file),
        };
        let encoder = match format {
            Format::Json => Encoder::Json(text(file)),
            Format::Csv => {
                let builder = arrow_csv::WriterBuilder::new().with_header(csv.header).with_delimiter(csv.delimiter);
                Encoder::Csv(Box::new(builder.build(text(file))))
            }
            Format::Parquet => {
                let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
                let writer = ArrowWriter::try_new(file, schema, Some(properties));
                Encoder::Parquet(Box::new(writer.map_err(datafusion::error::DataFusionError::from)?))
            }
        };
        Ok(FileWriter { encoder, temporary: guard })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match &mut self.encoder {
            Encoder::Json(output) => {
                let mut writer = arrow::json::LineDelimitedWriter::new(output);
                writer.write(batch)?;
                writer.finish()?;
            }
            Encoder::Csv(writer) => writer.write(batch)?,
            Encoder::Parquet(writer) => writer.write(batch).map_err(datafusion::error::DataFusionError::from)?,
        }
        Ok(())
    }

    fn finish(self, target: &Path) -> Result<()> {
        let io = |e: std::io::Error| Error::io("write", target, &e);
        let text = |output: Output| match output {
            Output::Plain(file) => file.into_inner().map_err(|e| io(e.into_error())),
            Output::Gzip(gzip) => gzip.finish().map_err(io)?.into_inner().map_err(|e| io(e.into_error())),
        };
        let file = match self.encoder {
            Encoder::Json(output) => text(output)?,
            Encoder::Csv(writer) => text(writer.into_inner())?,
            Encoder::Parquet(writer) => {
                let file = writer.into_inner().map_err(datafusion::error::DataFusionError::from)?;
                file.into_inner().map_err(|e| io(e.into_error()))?
            }
        };
        file.sync_all().map_err(io)?;
        fs::rename(&self.temporary.0, target).map_err(io)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Gone already when the copy succeeded.
        let _ = fs::remove_file(&self.0);
    }
}
