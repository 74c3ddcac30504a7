//! What a stream has read, told from its checkpoint: its epochs in parts, each of which is read again as one.
//!
//! Epochs are taken together where that changes nothing, so that a stream of many small epochs is read again in few
//! large ones. Where the checkpoint does not know everything that was read, or it is no longer there, that is said.

use std::collections::{BTreeMap, HashMap};

use alluvium_parser::{Diagnostic, OutputMode};
use alluvium_planner::plan::StreamingPlan;
use alluvium_planner::relation::SourceKind;
use alluvium_planner::streaming::cut_matters;
use serde_json::Value;

use crate::checkpoint::{Checkpoint, Intent};
use crate::clock::EpochWatermark;
use crate::error::{Error, Result};
use crate::metrics::EpochRecord;
use crate::query::open::sources_of;
use crate::source::files::{FileEntry, FilesInput, is_remote, stat};
use crate::source::{EpochInput, table};

/// What a row of an epoch may take in operators with state until the epoch is over: each may have a key of its own.
const ROW_BYTES: u64 = 256;
/// Files of epochs that are taken together, at most; an epoch with more is a part of its own.
const FILES_PER_PART: u64 = 100_000;
/// Files that are named in a refusal.
const NAMED: usize = 3;

/// Epochs that are read again as one.
#[derive(Debug, Default)]
pub struct Part {
    /// Their numbers.
    epochs: Vec<u64>,
    rows: u64,
    files: u64,
    late: u64,
    timestamp_ms: i64,
    statics: BTreeMap<String, u64>,
    watermark: EpochWatermark,
    /// Ranges of tables by source: from, to.
    ranges: BTreeMap<String, (Value, Value)>,
    inputs: Vec<(String, EpochInput)>,
}

impl Part {
    /// The intent of epoch `epoch`, which reads it again.
    pub fn intent(&self, epoch: u64, fingerprint: &str) -> Intent {
        Intent {
            epoch,
            timestamp_ms: self.timestamp_ms,
            inputs: self.inputs.clone(),
            fingerprint: fingerprint.to_string(),
            statics: self.statics.clone(),
            watermark: self.watermark,
        }
    }

    /// Why this part cannot be read again, where only `known` of its files can be told.
    fn unknown(&self, known: u64) -> String {
        let (first, last) = (self.epochs.first().copied().unwrap_or(0), self.epochs.last().copied().unwrap_or(0));
        let epochs = if first == last { format!("epoch {first}") } else { format!("epochs {first} to {last}") };
        format!(
            "{epochs} read {} files, and only {known} of them are known: others were forgotten, overwritten and read \
             again, or read by a former version, which did not write down what it read of tables",
            self.files
        )
    }

    fn begin(record: EpochRecord, late_us: Option<i64>) -> Part {
        let mut part = Part {
            timestamp_ms: record.started_ms,
            statics: record.statics.clone(),
            watermark: EpochWatermark { late_us, until_us: record.watermark_us },
            ..Part::default()
        };
        part.take(record);
        part
    }

    fn take(&mut self, record: EpochRecord) {
        self.epochs.push(record.epoch);
        self.rows += record.rows_in;
        self.files += record.files;
        self.late += record.rows_late;
        self.watermark.until_us = record.watermark_us;
        for range in record.ranges {
            self.ranges
                .entry(range.source)
                .and_modify(|(_, to)| *to = range.to.clone())
                .or_insert((range.from, range.to));
        }
    }
}

/// Everything that `checkpoint` says was read, for the query `plan` of stream `name`. `bytes`: what the rows of a part may
/// take, unless they are of one epoch.
pub async fn parts(checkpoint: &Checkpoint, plan: &StreamingPlan, name: &str, bytes: u64) -> Result<Vec<Part>> {
    let rows_max = bytes / ROW_BYTES;
    let sources = sources_of(plan, checkpoint)?;
    if let Some(lost) = sources.lost.first() {
        return Err(unverifiable(name, &format!("it has read {lost}, which its query no longer names")));
    }
    // A session that is over does not take in rows that come later, though they would have been of it.
    let sessions =
        plan.mode != OutputMode::Complete && plan.operators.iter().any(|operator| operator.kind == "session");
    let every_epoch = sessions || cut_matters(&plan.plan)?;
    let has_state = !plan.operators.is_empty();
    let mut parts: Vec<Part> = Vec::new();
    let mut watermark = None;
    checkpoint.each_epoch(&mut |record| {
        let late_us = std::mem::replace(&mut watermark, record.watermark_us);
        let fits = |part: &Part| {
            let small =
                part.files + record.files <= FILES_PER_PART && (!has_state || part.rows + record.rows_in <= rows_max);
            // Rows may be late also for what no watermark ends: a join that keeps its rows for ever.
            let timely = part.late == 0 && record.rows_late == 0;
            !every_epoch && small && timely && part.statics == record.statics
        };
        match parts.last_mut() {
            Some(part) if fits(part) => part.take(record),
            _ => parts.push(Part::begin(record, late_us)),
        }
        Ok(())
    })?;
    let (mut read_files, vanished) = files(checkpoint, plan, &sources.ids, name)?;
    for part in &mut parts {
        for (id, files) in &mut read_files {
            let of_epochs = part.epochs.iter().filter_map(|epoch| files.remove(epoch));
            let files: Vec<FileEntry> = of_epochs.flatten().collect();
            if !files.is_empty() {
                let input = FilesInput::new(files);
                input.require_all();
                part.inputs.push((id.clone(), EpochInput::Files(input)));
            }
        }
    }
    for (id, spec) in sources.ids.iter().zip(&plan.sources) {
        let Some(id) = id else { continue };
        let mut past: Option<table::Past> = None;
        for part in &mut parts {
            let Some((from, to)) = part.ranges.get(id) else { continue };
            let past = match &mut past {
                Some(past) => past,
                none => none.insert(table::Past::open(spec, from).await?),
            };
            part.inputs.push((id.clone(), EpochInput::Table(past.read(from, to)?)));
        }
    }
    for part in &parts {
        let known: u64 = part.inputs.iter().map(|(_, input)| input.size().files).sum();
        let gone: u64 = part.epochs.iter().filter_map(|epoch| vanished.get(epoch)).sum();
        let known = known + gone;
        if known != part.files {
            return Err(unverifiable(name, &part.unknown(known)));
        }
    }
    Ok(parts)
}

/// The files of each file source by epoch, in the order in which they were read; and how many files of an epoch were gone
/// before they could be read.
type ReadFiles = (Vec<(String, HashMap<u64, Vec<FileEntry>>)>, HashMap<u64, u64>);

fn files(checkpoint: &Checkpoint, plan: &StreamingPlan, ids: &[Option<String>], name: &str) -> Result<ReadFiles> {
    let (mut all, mut vanished) = (Vec::new(), HashMap::new());
    let (mut gone, mut changed) = (Vec::new(), Vec::new());
    for (id, spec) in ids.iter().zip(&plan.sources) {
        let (Some(id), SourceKind::Files(files)) = (id, &spec.kind) else { continue };
        let mut by_epoch: HashMap<u64, Vec<FileEntry>> = HashMap::new();
        for entry in checkpoint.ledger().iter(id) {
            let entry = entry?;
            let (true, Some(epoch)) = (entry.was_read(), entry.epoch) else { continue };
            let file = FileEntry { path: entry.path, size: entry.size, modified_ms: entry.modified_ms };
            if entry.archived.is_some() {
                gone.push(file.path);
                continue;
            }
            if !is_remote(&files.path) {
                match stat(&file.path)? {
                    Some(now) if now == file => {}
                    Some(_) => changed.push(file.path.clone()),
                    None => gone.push(file.path.clone()),
                }
            }
            by_epoch.entry(epoch).or_default().push(file);
        }
        for files in by_epoch.values_mut() {
            files.sort_by(|a, b| (a.modified_ms, &a.path).cmp(&(b.modified_ms, &b.path)));
        }
        all.push((id.clone(), by_epoch));
        for remark in checkpoint.ledger().remarks(id) {
            if let Some(epoch) = remark?.epoch {
                *vanished.entry(epoch).or_default() += 1;
            }
        }
    }
    for (files, what) in [(gone, "no longer there"), (changed, "other files by now")] {
        if !files.is_empty() {
            let named = files.iter().take(NAMED).map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
            let more = if files.len() > NAMED { ", …" } else { "" };
            let why = format!("{} of the files it has read are {what}: {named}{more}", files.len());
            return Err(unverifiable(name, &why));
        }
    }
    Ok((all, vanished))
}

/// There is nothing to compare the table with.
pub fn unverifiable(name: &str, why: &str) -> Error {
    Diagnostic::new("STREAM_UNVERIFIABLE", format!("stream `{name}` cannot be verified: {why}"))
        .help("what was read must still be there to be read again; REFRESH TABLE … FULL starts over from what there is")
        .into()
}
