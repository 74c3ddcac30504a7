//! What a stream of files would read, told before it reads anything.
//!
//! Files are counted, not opened, but for a sample: at most [`SAMPLE_FILES`] files, spread over all of them by time.
//! Of these, columns are learnt file by file, so that those which drift are seen, and rows are decoded, so that what would
//! be rescued is seen with its reason.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use alluvium_parser::{OptionEntry, RelationKind, Span, Text};
use alluvium_planner::ddl::sql_type;
use alluvium_planner::relation::{FilesSpec, SourceKind, SourceSpec, with_metadata_column};
use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema};
use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;

use super::infer::Sampling;
use super::input::FilesInput;
use super::resolve::{self, Context, ResolvedFiles, Typed};
use super::store::{self, Place};
use super::{FileEntry, blocking, infer, provider};
use crate::checkpoint::Ages;
use crate::error::{Error, Result};
use crate::source::ReadCounters;

/// Most files of a sample.
pub const SAMPLE_FILES: usize = 50;
/// About the most bytes of a sample.
const SAMPLE_BYTES: u64 = 16 << 20;
/// Most rows of a sample that are decoded.
const SAMPLE_ROWS: usize = 100_000;
/// The rescue column where a relation has none.
const RESCUED: &str = "_rescued_data";

/// One line of a preview.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewItem {
    /// What it is about: `waiting files`, `column`, `rescued value`.
    pub item: &'static str,
    /// A number, a name, a time.
    pub value: String,
    /// More about it.
    pub detail: String,
}

fn item(item: &'static str, value: impl ToString, detail: impl Into<String>) -> PreviewItem {
    PreviewItem { item, value: value.to_string(), detail: detail.into() }
}

/// Looks at what `relation` would read. Errors: those of resolving it, and of reading the sample.
pub async fn preview(relation: &RelationKind, span: Span, state: &SessionState) -> Result<Vec<PreviewItem>> {
    let typed = Typed::parse(relation, span)?;
    let time_zone = state.config_options().execution.time_zone.clone().unwrap_or_default();
    let context = Context { time_zone, ..Context::default() };
    let (mut items, sample, resolved) = blocking(move || {
        let mut items = Vec::new();
        let files = match typed.place()?.remote() {
            Some(remote) => store::wait(remote.files())?,
            None => count(&typed.selection()?)?,
        };
        describe(&files, &mut items);
        ignored(&typed.selection()?, &mut items)?;
        let sample = sample(&files);
        Ok((items, sample, typed.resolve(context)?))
    })
    .await
    .map_err(|e| e.at_least(span))?;
    let ResolvedFiles::Ready(source) = resolved else {
        items.push(item("columns", "unknown", "no file has records yet; a stream waits for the first one"));
        return Ok(items);
    };
    let SourceKind::Files(spec) = &source.kind else {
        return Err(Error::internal("a file relation became a table"));
    };
    let (learning, files) = (spec.clone(), sample.clone());
    items.extend(blocking(move || columns(&learning, &files)).await?);
    items.extend(rescued(&source, spec, sample, state).await?);
    Ok(items)
}

/// All files that count, oldest first.
fn count(selection: &super::Selection) -> Result<Vec<FileEntry>> {
    let mut files = Vec::new();
    selection.each(&Ages::default(), &mut |path, file, ignored| {
        if ignored.is_none() {
            files.extend(match file {
                Some(file) => Some(file),
                None => selection.stat(path)?,
            });
        }
        Ok(true)
    })?;
    files.sort_by(|a, b| (a.modified_ms, &a.path).cmp(&(b.modified_ms, &b.path)));
    Ok(files)
}

fn describe(files: &[FileEntry], items: &mut Vec<PreviewItem>) {
    items.push(item("waiting files", files.len(), ""));
    items.push(item("waiting bytes", files.iter().map(|file| file.size).sum::<u64>(), ""));
    if let (Some(oldest), Some(newest)) = (files.first(), files.last()) {
        items.push(item("oldest file", time(oldest.modified_ms), &oldest.path));
        items.push(item("newest file", time(newest.modified_ms), &newest.path));
    }
}

fn ignored(selection: &super::Selection, items: &mut Vec<PreviewItem>) -> Result<()> {
    for (reason, ignored) in selection.ignored(&Ages::default())? {
        items.push(item("ignored files", ignored.files, format!("{reason}; the first: {}", ignored.example)));
    }
    Ok(())
}

fn time(ms: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(ms);
    time.map(|time| time.format("%Y-%m-%d %H:%M:%S%.3f UTC").to_string()).unwrap_or_default()
}

/// Some of the files, spread evenly; the newest one among them.
fn sample(files: &[FileEntry]) -> Vec<FileEntry> {
    let step = files.len().div_ceil(SAMPLE_FILES).max(1);
    let mut bytes = 0;
    let mut some: Vec<FileEntry> = files
        .iter()
        .rev()
        .step_by(step)
        .take_while(|file| {
            let fits = bytes < SAMPLE_BYTES;
            bytes += file.size;
            fits
        })
        .cloned()
        .collect();
    some.reverse();
    some
}

/// The columns a stream would have, and those that are not the same in every file of the sample.
fn columns(spec: &FilesSpec, sample: &[FileEntry]) -> Result<Vec<PreviewItem>> {
    let mut options = resolve::format_options(spec)?;
    // Types drift whether or not they are inferred for the stream.
    options.infer_column_types = true;
    let (place, passes) = (Place::of(spec)?, provider::passes(spec, None));
    let mut seen: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    let mut first: BTreeMap<String, &str> = BTreeMap::new();
    let (mut order, mut looked_at) = (Vec::new(), 0);
    for file in sample {
        let Some(schema) = infer::infer(std::slice::from_ref(file), &options, &place, &passes, Sampling::ALL)? else {
            continue;
        };
        looked_at += 1;
        for field in schema.fields() {
            let types = seen.entry(field.name().clone()).or_insert_with(|| {
                order.push(field.name().clone());
                BTreeMap::new()
            });
            *types.entry(sql_type(field.data_type())).or_default() += 1;
            first.entry(field.name().clone()).or_insert(&file.path);
        }
    }
    let mut items: Vec<PreviewItem> = spec
        .data_schema
        .fields()
        .iter()
        .map(|field| {
            let files: u64 = seen.get(field.name()).map_or(0, |types| types.values().sum());
            let detail = match options.rescued_data_column.as_ref() == Some(field.name()) {
                true => "what fits no column".to_owned(),
                false => format!("in {files} of {looked_at} sampled files"),
            };
            item("column", format!("{} {}", field.name(), sql_type(field.data_type())), detail)
        })
        .collect();
    items.extend(spec.partition_columns.iter().map(|field| {
        item("partition column", format!("{} {}", field.name(), sql_type(field.data_type())), "from the path")
    }));
    for name in order {
        let Some(types) = seen.get(&name) else { continue };
        let files: u64 = types.values().sum();
        let known = spec.data_schema.index_of(&name).is_ok();
        if types.len() == 1 && files == looked_at && known || !known && name == options.corrupt_column {
            continue;
        }
        let types: Vec<String> = types.iter().map(|(of, files)| format!("{of} in {files}")).collect();
        let mut detail = format!("{} of {looked_at} sampled files", types.join(", "));
        if !known {
            detail.push_str("; not among the columns");
        }
        if let Some(path) = first.get(&name).filter(|_| files < looked_at) {
            detail.push_str(&format!("; first in {path}"));
        }
        items.push(item("drifting column", name, detail));
    }
    Ok(items)
}

/// What of the sample's rows fits no column, and why.
async fn rescued(
    source: &SourceSpec,
    spec: &Arc<FilesSpec>,
    sample: Vec<FileEntry>,
    state: &SessionState,
) -> Result<Vec<PreviewItem>> {
    let kept = resolve::format_options(spec)?.rescued_data_column.filter(|name| !name.is_empty());
    let (column, spec) = match &kept {
        Some(column) => (column.clone(), spec.clone()),
        None => (RESCUED.to_owned(), with_rescue(spec)),
    };
    let schema = match source.schema.fields().len() == spec.data_schema.fields().len() {
        true => spec.data_schema.clone(),
        false => with_metadata_column(&spec.data_schema),
    };
    let source = SourceSpec { kind: SourceKind::Files(spec.clone()), schema, ..source.clone() };
    let (files, counters) = (sample.len(), Arc::new(ReadCounters::default()));
    let place = Place::of(&spec)?;
    let table = provider::bound(&source, &spec, &FilesInput::new(sample), true, counters.clone(), place, None)?;
    let rows =
        SessionContext::new_with_state(state.clone()).read_table(Arc::new(table))?.limit(0, Some(SAMPLE_ROWS))?;
    let corrupt_column = resolve::format_options(&spec)?.corrupt_column;
    let (mut total, mut with_rescue, mut reasons) = (0_usize, 0_usize, BTreeMap::new());
    for batch in rows.collect().await? {
        total += batch.num_rows();
        let Some(rescued) = batch.column_by_name(&column) else { continue };
        let texts = cast(rescued, &DataType::Utf8)?;
        for text in texts.as_string::<i32>().iter().flatten() {
            with_rescue += 1;
            note(text, &spec.data_schema, &corrupt_column, &mut reasons);
        }
    }
    let mut items = vec![item("sampled rows", total, format!("of {files} files"))];
    let what = match kept {
        Some(column) => format!("with values in {column}"),
        None => "with values that would be lost: there is no rescue column".to_owned(),
    };
    items.push(item("rescued rows", with_rescue, what));
    for ((name, reason), (rows, example)) in reasons {
        items.push(item("rescued value", name, format!("{reason}, in {rows} sampled rows; first in {example}")));
    }
    let corrupt = counters.corrupt.load(Ordering::Relaxed);
    items.push(item("corrupt records", corrupt, ""));
    Ok(items)
}

/// The same relation with a rescue column, to see what it would hold.
fn with_rescue(spec: &FilesSpec) -> Arc<FilesSpec> {
    let text = |value: &str| Text { value: value.to_owned(), span: Span::UNKNOWN };
    let mut spec = spec.clone();
    spec.format_options.retain(|entry| !entry.key.value.eq_ignore_ascii_case("rescuedDataColumn"));
    spec.format_options.push(OptionEntry { key: text("rescuedDataColumn"), value: text(RESCUED) });
    let mut fields: Vec<_> = spec.data_schema.fields().iter().cloned().collect();
    fields.push(Arc::new(arrow::datatypes::Field::new(RESCUED, DataType::Utf8, true)));
    spec.data_schema = Arc::new(Schema::new(fields));
    Arc::new(spec)
}

/// Counts the fields of one rescued text by why they are there.
fn note(text: &str, schema: &Schema, corrupt_column: &str, reasons: &mut BTreeMap<(String, String), (u64, String)>) {
    let Ok(serde_json::Value::Object(fields)) = serde_json::from_str(text) else { return };
    let path = fields.get("_file_path").and_then(|path| path.as_str()).unwrap_or("").to_owned();
    for name in fields.keys().filter(|name| *name != "_file_path") {
        let exact = schema.fields().iter().find(|field| field.name() == name);
        let near = schema.fields().iter().find(|field| field.name().eq_ignore_ascii_case(name));
        let reason = match (exact, near) {
            (Some(field), _) => format!("does not fit {}", sql_type(field.data_type())),
            (None, Some(field)) => format!("differs from column `{}` by case", field.name()),
            (None, None) if name == corrupt_column => "a record that cannot be parsed".to_owned(),
            (None, None) => "no column of that name".to_owned(),
        };
        reasons.entry((name.clone(), reason)).or_insert_with(|| (0, path.clone())).0 += 1;
    }
}
