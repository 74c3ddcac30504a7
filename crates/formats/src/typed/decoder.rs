//! Typed files as batches of one schema.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringBuilder, new_null_array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Fields, SchemaRef};

use super::fit::{Leftover, StructFit, fit_fields, outgrown};
use super::json_text::{any, json_text};
use super::plain::{plain_type, to_plain};
use super::rebase::Rebasing;
use super::{Batches, Content, FileDecoder, FileFacts, FilePart, corrupt, guarded, open};
use crate::decode::{DecodeCounts, DecodeError};
use crate::options::FormatOptions;
use crate::rescue::write_string;
use crate::row::{BATCH_BYTES_MAX, Slot, Special, UnmatchedNames};

/// Decodes Parquet, Avro and ORC.
pub(super) struct TypedDecoder {
    options: FormatOptions,
    /// Data columns of the full schema.
    wanted: Fields,
    slots: Vec<Slot>,
    output: SchemaRef,
    /// Whether the full schema has a rescue column: then types that do not fit are no error.
    tolerant: bool,
    /// Whether the rescue column is asked for.
    rescues: bool,
    /// Whether the names of unmatched columns are collected.
    tracks: bool,
    batch_rows: usize,
    file: Option<OpenFile>,
    ready: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
    counts: DecodeCounts,
    unmatched: UnmatchedNames,
    /// Whether columns that a wider type would suit are looked for.
    widens: bool,
    outgrown: Vec<String>,
}

/// The file being read.
struct OpenFile {
    path: String,
    batches: Batches,
    /// The columns read, in the types they have in the file.
    read: Vec<Field>,
    /// The same in the types they are brought into.
    plain: Fields,
    /// How those fill the wanted columns.
    fit: StructFit,
    /// What becomes of dates and timestamps of an old calendar.
    rebasing: Option<Rebasing>,
}

impl TypedDecoder {
    pub fn new(
        options: &FormatOptions,
        full_schema: SchemaRef,
        projection: &[usize],
        batch_rows: usize,
    ) -> Result<TypedDecoder, DecodeError> {
        let fields = full_schema.fields();
        let special = Special::of(options, &full_schema);
        let mut places = vec![None; fields.len()];
        let mut wanted = Vec::new();
        for (at, field) in fields.iter().enumerate() {
            if special.is_data(at) {
                places[at] = Some(wanted.len());
                wanted.push(field.clone());
            }
        }
        let rescues = special.rescue.is_some_and(|at| projection.contains(&at));
        Ok(TypedDecoder {
            options: options.clone(),
            wanted: wanted.into(),
            slots: special.slots(projection, &places),
            output: Arc::new(full_schema.project(projection)?),
            tolerant: special.rescue.is_some(),
            rescues,
            tracks: options.track_unmatched || rescues,
            batch_rows: batch_rows.max(1),
            file: None,
            ready: Vec::new(),
            rows: 0,
            bytes: 0,
            counts: DecodeCounts::default(),
            unmatched: UnmatchedNames::default(),
            widens: options.track_outgrown,
            outgrown: Vec::new(),
        })
    }

    /// Which of the file's columns are read: those that fill wanted ones, and with a rescue column all.
    fn columns(&self, have: &Fields, fit: &StructFit) -> Vec<usize> {
        if self.rescues {
            return (0..have.len()).collect();
        }
        let asked = self.slots.iter().filter_map(|slot| match slot {
            Slot::Data(place) => fit.from.get(*place)?.as_ref().map(|(from, _)| *from),
            Slot::Rescue | Slot::Corrupt => None,
        });
        let mut columns: Vec<usize> = asked.collect();
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// Without a rescue column a type that does not fit must not become NULL unseen.
    fn check_types(&self, path: &str, have: &Fields, fit: &StructFit) -> Result<(), DecodeError> {
        if self.tolerant || self.widens {
            return Ok(());
        }
        for slot in &self.slots {
            let Slot::Data(place) = slot else { continue };
            let (Some(None), Some(wanted)) = (fit.from.get(*place), self.wanted.get(*place)) else { continue };
            if let Some(found) = have.iter().find(|field| field.name() == wanted.name()) {
                return Err(DecodeError::TypeMismatch {
                    path: path.to_owned(),
                    column: wanted.name().clone(),
                    found: found.data_type().to_string(),
                    wanted: wanted.data_type().to_string(),
                });
            }
        }
        Ok(())
    }

    fn note_unmatched(&mut self, have: &Fields, fit: &StructFit) {
        if self.widens {
            outgrown(have, &self.wanted, "", &mut self.outgrown);
            self.outgrown.sort();
            self.outgrown.dedup();
        }
        if !self.tracks {
            return;
        }
        let mut names = Vec::new();
        fit.unmatched(have, &self.wanted, "", &mut names);
        names.iter().for_each(|name| self.unmatched.add(name.as_bytes()));
    }

    /// Fits one batch of the open file and keeps it.
    fn take_in(&mut self, raw: &RecordBatch) -> Result<(), String> {
        let Some(file) = &self.file else { return Ok(()) };
        let rows = raw.num_rows();
        let said = |e: arrow::error::ArrowError| e.to_string();
        let plain = file.read.iter().zip(raw.columns()).map(|(field, column)| to_plain(field, column));
        let mut plain = plain.collect::<Result<Vec<_>, _>>().map_err(said)?;
        if let Some(rebasing) = &file.rebasing {
            plain = rebasing.apply(plain).map_err(said)?;
        }
        let leftovers = if self.rescues { file.fit.leftovers(&file.plain, &plain) } else { Vec::new() };
        let (rescued, rescued_rows) = rescued(&leftovers, rows, &file.path).map_err(said)?;
        let column = |slot: &Slot| match slot {
            Slot::Data(place) => match (file.fit.from.get(*place), self.wanted.get(*place)) {
                (Some(Some((from, fit))), Some(wanted)) => match plain.get(*from) {
                    Some(column) => fit.apply(column, wanted.data_type()),
                    None => Ok(new_null_array(wanted.data_type(), rows)),
                },
                (_, Some(wanted)) => Ok(new_null_array(wanted.data_type(), rows)),
                (_, None) => Ok(new_null_array(&DataType::Utf8, rows)),
            },
            Slot::Rescue => Ok(rescued.clone()),
            Slot::Corrupt => Ok(new_null_array(&DataType::Utf8, rows)),
        };
        let columns = self.slots.iter().map(column).collect::<Result<Vec<ArrayRef>, _>>().map_err(said)?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.output.clone(), columns, &options).map_err(said)?;
        self.rows += rows;
        self.bytes = self.bytes.saturating_add(batch.get_array_memory_size());
        self.counts.rows += rows as u64;
        self.counts.rescued_rows += rescued_rows;
        self.ready.push(batch);
        Ok(())
    }
}

impl FileDecoder for TypedDecoder {
    fn start_file(&mut self, facts: FileFacts<'_>, content: Content, part: FilePart) -> Result<(), DecodeError> {
        self.file = None;
        let opened = open(&self.options, facts.path, content)?;
        let raw: Vec<Field> = opened.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
        let plain_field = |field: &Field| Field::new(field.name(), plain_type(field), true);
        let plain: Fields = raw.iter().map(plain_field).collect::<Vec<_>>().into();
        let all = fit_fields(&plain, &self.wanted, self.options.case_sensitive);
        self.check_types(facts.path, &plain, &all)?;
        self.note_unmatched(&plain, &all);
        let columns = self.columns(&plain, &all);
        let place = |from: usize| columns.binary_search(&from).ok();
        let fit = StructFit {
            from: all.from.into_iter().map(|from| from.and_then(|(at, fit)| Some((place(at)?, fit)))).collect(),
            left: all.left.into_iter().filter_map(place).collect(),
        };
        let batch_rows = self.batch_rows;
        let types: Fields = columns.iter().filter_map(|&at| plain.get(at).cloned()).collect::<Vec<_>>().into();
        let calendars = opened.calendars();
        let rebasing = calendars.map(|calendars| calendars.rebasing(&self.options, &columns, &types));
        let batches = guarded(|| opened.batches(&columns, batch_rows, part));
        let batches = batches.map_err(|reason| corrupt(self.options.format, facts.path, reason))?;
        self.file = Some(OpenFile {
            path: facts.path.to_owned(),
            batches,
            read: columns.iter().filter_map(|&at| raw.get(at).cloned()).collect(),
            plain: types,
            fit,
            rebasing,
        });
        Ok(())
    }

    fn advance(&mut self) -> Result<bool, DecodeError> {
        let Some(file) = &mut self.file else { return Ok(false) };
        let taken = match guarded(|| file.batches.next().transpose()) {
            Ok(None) => {
                self.file = None;
                return Ok(false);
            }
            Ok(Some(batch)) => guarded(|| self.take_in(&batch)),
            Err(reason) => Err(reason),
        };
        taken.map(|()| true).map_err(|reason| {
            let path = self.file.take().map(|file| file.path).unwrap_or_default();
            corrupt(self.options.format, &path, reason)
        })
    }

    fn buffered(&self) -> usize {
        self.rows
    }

    fn is_full(&self) -> bool {
        self.rows >= self.batch_rows || self.bytes >= BATCH_BYTES_MAX
    }

    fn finish(&mut self) -> Result<RecordBatch, DecodeError> {
        (self.rows, self.bytes) = (0, 0);
        let ready = std::mem::take(&mut self.ready);
        Ok(match <[RecordBatch; 1]>::try_from(ready) {
            Ok([one]) => one,
            Err(several) => concat_batches(&self.output, &several)?,
        })
    }

    fn counts(&self) -> DecodeCounts {
        self.counts
    }

    fn unmatched_fields(&self) -> Vec<String> {
        self.unmatched.names()
    }

    fn outgrown_fields(&self) -> Vec<String> {
        self.outgrown.clone()
    }
}

/// The rescue column of `rows` rows, and how many of them have something in it.
fn rescued(leftovers: &[Leftover], rows: usize, path: &str) -> Result<(ArrayRef, u64), arrow::error::ArrowError> {
    let leftovers: Vec<&Leftover> = leftovers.iter().filter(|leftover| any(&leftover.values)).collect();
    if leftovers.is_empty() {
        return Ok((new_null_array(&DataType::Utf8, rows), 0));
    }
    let mut column = StringBuilder::new();
    let mut count = 0;
    let mut text = Vec::new();
    for row in 0..rows {
        text.clear();
        let mut open: &[String] = &[];
        for leftover in &leftovers {
            if leftover.values.is_null(row) {
                continue;
            }
            let Some((name, within)) = leftover.path.split_last() else { continue };
            // Neighbours share the structs that both are in.
            let common = open.iter().zip(within).take_while(|(a, b)| a == b).count();
            text.extend(std::iter::repeat_n(b'}', open.len() - common));
            text.push(if text.is_empty() { b'{' } else { b',' });
            for step in &within[common..] {
                write_string(step.as_bytes(), &mut text);
                text.extend_from_slice(b":{");
            }
            write_string(name.as_bytes(), &mut text);
            text.push(b':');
            json_text(&leftover.values, row, &mut text)?;
            open = within;
        }
        if text.is_empty() {
            column.append_null();
            continue;
        }
        text.extend(std::iter::repeat_n(b'}', open.len()));
        text.extend_from_slice(b",\"_file_path\":");
        write_string(path.as_bytes(), &mut text);
        text.push(b'}');
        column.append_value(String::from_utf8_lossy(&text));
        count += 1;
    }
    Ok((Arc::new(column.finish()), count))
}
