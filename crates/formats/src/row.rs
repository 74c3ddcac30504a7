//! The rows of a batch in the making: data columns, rescue column, corrupt record column, and what the parse mode
//! makes of a row that is broken. Decoders fill the data columns and then say how the row ended.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema, SchemaRef};

use crate::column::{Column, Data};
use crate::decode::{BadRecord, DecodeCounts, DecodeError, RecordDecoder};
use crate::options::{FormatOptions, Mode};
use crate::rescue::RescueObject;

/// What each format does on its own; all decoders share the rest of [`RecordDecoder`], which is bookkeeping over
/// [`Rows`].
pub(crate) trait FillRows: Send {
    fn rows(&self) -> &Rows;
    fn rows_mut(&mut self) -> &mut Rows;
    /// A new file begins; the rows know already.
    fn begin(&mut self);
    /// [`RecordDecoder::decode`].
    fn fill(&mut self, input: &[u8], eof: bool) -> Result<usize, DecodeError>;
    /// [`RecordDecoder::unmatched_fields`].
    fn unmatched(&self) -> Vec<String>;
    /// [`RecordDecoder::outgrown_fields`].
    fn outgrown(&self) -> Vec<String>;
}

impl<D: FillRows> RecordDecoder for D {
    fn start_file(&mut self, path: &str) {
        self.rows_mut().start_file(path);
        self.begin();
    }

    fn decode(&mut self, input: &[u8], eof: bool) -> Result<usize, DecodeError> {
        self.fill(input, eof)
    }

    fn buffered(&self) -> usize {
        self.rows().len()
    }

    fn is_full(&self) -> bool {
        self.rows().is_full()
    }

    fn finish(&mut self) -> Result<RecordBatch, DecodeError> {
        self.rows_mut().finish()
    }

    fn counts(&self) -> DecodeCounts {
        self.rows().counts()
    }

    fn take_bad_records(&mut self) -> Vec<BadRecord> {
        std::mem::take(&mut self.rows_mut().bad)
    }

    fn unmatched_fields(&self) -> Vec<String> {
        self.unmatched()
    }

    fn outgrown_fields(&self) -> Vec<String> {
        self.outgrown()
    }
}

/// A batch is full with this many bytes of input, so that no column's offsets run over, whatever the rows.
pub(crate) const BATCH_BYTES_MAX: usize = 128 << 20;

/// A longer record is refused: it would not fit a column next to a full batch.
pub(crate) const RECORD_BYTES_MAX: usize = 512 << 20;

const UNMATCHED_NAMES_MAX: usize = 1000;

/// Where a column of the batch comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Slot {
    /// A data column, by its place among those that are built.
    Data(usize),
    Rescue,
    Corrupt,
}

/// Where rescue column and corrupt record column stand in a schema.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Special {
    pub rescue: Option<usize>,
    pub corrupt: Option<usize>,
}

impl Special {
    pub fn of(options: &FormatOptions, full_schema: &Schema) -> Special {
        let fields = full_schema.fields();
        let text = |name: &str| {
            let place = fields.iter().position(|field| field.name() == name);
            place.filter(|&place| full_schema.field(place).data_type() == &DataType::Utf8)
        };
        Special {
            rescue: options.rescued_data_column.as_deref().and_then(text),
            corrupt: text(&options.corrupt_column),
        }
    }

    pub fn is_data(&self, index: usize) -> bool {
        Some(index) != self.rescue && Some(index) != self.corrupt
    }

    /// Where the columns of `projection` come from, the built ones being at `places`.
    pub fn slots(&self, projection: &[usize], places: &[Option<usize>]) -> Vec<Slot> {
        let slot = |&index: &usize| match places.get(index).copied().flatten() {
            Some(place) => Slot::Data(place),
            None if Some(index) == self.rescue => Slot::Rescue,
            None => Slot::Corrupt,
        };
        projection.iter().map(slot).collect()
    }
}

/// The rows.
pub(crate) struct Rows {
    /// The data columns that are built, some of which may not be asked for.
    pub columns: Vec<Column>,
    /// The data columns of the full schema: name, and place in `columns` if built.
    pub fields: Vec<(String, Option<usize>)>,
    /// Whether misfits and unmatched fields are to be written to `rescued`.
    pub rescues: bool,
    /// Whether the names of unmatched fields are collected.
    pub tracks: bool,
    /// Whether the names of columns that a wider type would suit are collected.
    pub widens: bool,
    /// The row's rescued values; decoders append, `close` takes.
    pub rescued: RescueObject,
    /// The file being read.
    pub path: String,
    /// Records of this file met so far.
    pub record: u64,
    /// Whether the full schema has a rescue column: then misfits are never malformed.
    tolerant: bool,
    mode: Mode,
    /// Whether malformed records are kept out of the rows, in `bad`.
    sets_aside: bool,
    bad: Vec<BadRecord>,
    corrupt_name: String,
    rescue: Column,
    corrupt: Column,
    keeps_corrupt: bool,
    slots: Vec<Slot>,
    schema: SchemaRef,
    batch_rows: usize,
    len: usize,
    bytes: usize,
    counts: DecodeCounts,
}

/// A state of the rows to return to.
pub(crate) struct Mark {
    len: usize,
    counts: DecodeCounts,
}

/// How a row that could be read ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As it should.
    Whole,
    /// With values that do not fit their columns.
    Misfit,
    /// With too few or too many values.
    Ragged,
}

impl Rows {
    pub fn new(
        options: &FormatOptions,
        full_schema: &Schema,
        projection: &[usize],
        batch_rows: usize,
    ) -> Result<Rows, DecodeError> {
        let special = Special::of(options, full_schema);
        let asked = |index: Option<usize>| index.is_some_and(|index| projection.contains(&index));
        let (rescues, keeps_corrupt) = (asked(special.rescue), asked(special.corrupt));
        let sets_aside = options.bad_records_path.is_some();
        let strict = options.mode != Mode::Permissive && special.rescue.is_none();
        let build_all = options.track_outgrown || rescues || keeps_corrupt || strict || sets_aside;

        let (mut columns, mut fields, mut places) = (Vec::new(), Vec::new(), vec![None; full_schema.fields().len()]);
        for (index, field) in full_schema.fields().iter().enumerate() {
            if !special.is_data(index) {
                continue;
            }
            if build_all || projection.contains(&index) {
                places[index] = Some(columns.len());
                let format = options.format.name();
                columns.push(Column::new(field, field.name(), options.case_sensitive, format)?);
            }
            fields.push((field.name().clone(), places[index]));
        }
        let text_field = arrow::datatypes::Field::new("text", DataType::Utf8, true);
        Ok(Rows {
            columns,
            fields,
            rescues,
            tracks: rescues || options.track_unmatched,
            widens: options.track_outgrown,
            rescued: RescueObject::default(),
            path: String::new(),
            record: 0,
            tolerant: special.rescue.is_some(),
            mode: options.mode,
            sets_aside,
            bad: Vec::new(),
            corrupt_name: options.corrupt_column.clone(),
            rescue: Column::new(&text_field, "", true, "")?,
            corrupt: Column::new(&text_field, "", true, "")?,
            keeps_corrupt,
            slots: special.slots(projection, &places),
            schema: Arc::new(full_schema.project(projection)?),
            batch_rows: batch_rows.max(1),
            len: 0,
            bytes: 0,
            counts: DecodeCounts::default(),
        })
    }

    pub fn start_file(&mut self, path: &str) {
        path.clone_into(&mut self.path);
        self.record = 0;
    }

    pub fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub fn is_full(&self) -> bool {
        self.len >= self.batch_rows || self.bytes >= BATCH_BYTES_MAX
    }

    pub fn counts(&self) -> DecodeCounts {
        self.counts
    }

    /// Notes that a record of so many bytes is about to be decoded.
    #[inline]
    pub fn begin_record(&mut self, bytes: usize) -> Result<(), DecodeError> {
        self.record += 1;
        self.bytes += bytes;
        if bytes > RECORD_BYTES_MAX {
            let path = self.path.clone();
            return Err(DecodeError::TooLong { path, record: self.record, limit: RECORD_BYTES_MAX });
        }
        Ok(())
    }

    pub fn mark(&self) -> Mark {
        Mark { len: self.len, counts: self.counts }
    }

    /// Forgets all rows since the mark, and a row half done.
    pub fn rollback(&mut self, mark: &Mark) {
        self.rescued.clear();
        self.columns.iter_mut().for_each(|column| column.truncate(mark.len));
        self.rescue.truncate(mark.len);
        self.corrupt.truncate(mark.len);
        self.len = mark.len;
        self.counts = mark.counts;
    }

    /// Ends a row whose data columns are all one longer than `len`. `raw` is the record's text, `reason` says
    /// what is wrong with it if anything is.
    #[inline]
    pub fn close(&mut self, ending: Ending, raw: &[u8], reason: &'static str) -> Result<(), DecodeError> {
        if ending == Ending::Whole && self.rescued.is_empty() {
            self.len += 1;
            self.counts.rows += 1;
            if self.rescues {
                self.rescue.push_null();
            }
            if self.keeps_corrupt {
                self.corrupt.push_null();
            }
            return Ok(());
        }
        self.close_marked(ending, raw, reason)
    }

    #[cold]
    fn close_marked(&mut self, ending: Ending, raw: &[u8], reason: &'static str) -> Result<(), DecodeError> {
        let malformed = ending == Ending::Ragged || ending == Ending::Misfit && !self.tolerant;
        if malformed && (self.sets_aside || self.mode != Mode::Permissive) {
            let mark = self.mark();
            self.rollback(&mark);
            return self.drop_or_fail(raw, reason.to_owned());
        }
        self.len += 1;
        self.counts.rows += 1;
        self.counts.corrupt_records += u64::from(malformed);
        let values_rescued = !self.rescued.is_empty();
        self.counts.rescued_rows += u64::from(values_rescued);
        if self.rescues {
            // A short row has no value to rescue, but must not pass for a whole one.
            if malformed && !values_rescued && !self.keeps_corrupt {
                self.rescued.text(self.corrupt_name.as_bytes(), raw);
            }
            self.close_rescue();
        }
        if self.keeps_corrupt {
            if malformed { push_text(&mut self.corrupt, raw) } else { self.corrupt.push_null() }
        }
        Ok(())
    }

    /// Adds a record that could not be read at all: by the mode a row of NULLs, nothing, or an error.
    #[cold]
    pub fn corrupt(&mut self, raw: &[u8], reason: String) -> Result<(), DecodeError> {
        if self.sets_aside || self.mode != Mode::Permissive {
            return self.drop_or_fail(raw, reason);
        }
        self.columns.iter_mut().for_each(Column::push_null);
        if self.keeps_corrupt {
            push_text(&mut self.corrupt, raw);
        }
        self.rescued.clear();
        if self.rescues {
            if !self.keeps_corrupt {
                self.rescued.text(self.corrupt_name.as_bytes(), raw);
            }
            self.close_rescue();
        }
        self.len += 1;
        self.counts.rows += 1;
        self.counts.corrupt_records += 1;
        Ok(())
    }

    fn drop_or_fail(&mut self, raw: &[u8], reason: String) -> Result<(), DecodeError> {
        self.counts.corrupt_records += 1;
        if self.sets_aside {
            let (path, record) = (self.path.clone(), String::from_utf8_lossy(raw).into_owned());
            self.bytes += record.len();
            self.bad.push(BadRecord { path, record, reason });
            self.counts.dropped_records += 1;
            return Ok(());
        }
        if self.mode == Mode::FailFast {
            return Err(DecodeError::Malformed { path: self.path.clone(), record: self.record, reason });
        }
        self.counts.dropped_records += 1;
        Ok(())
    }

    fn close_rescue(&mut self) {
        if self.rescued.is_empty() {
            self.rescue.push_null();
        } else {
            push_text(&mut self.rescue, self.rescued.close(&self.path));
            self.rescued.clear();
        }
    }

    /// Takes the rows as a batch.
    pub fn finish(&mut self) -> Result<RecordBatch, DecodeError> {
        let mut data = self.columns.iter_mut().map(Column::finish).collect::<Result<Vec<_>, _>>()?;
        let rescue = self.rescue.finish()?;
        let corrupt = self.corrupt.finish()?;
        let columns = self
            .slots
            .iter()
            .map(|slot| match slot {
                // A column asked for twice is cloned; cloning an array copies no values.
                Slot::Data(place) => data[*place].clone(),
                Slot::Rescue => rescue.clone(),
                Slot::Corrupt => corrupt.clone(),
            })
            .collect();
        data.clear();
        let options = RecordBatchOptions::new().with_row_count(Some(self.len));
        (self.len, self.bytes) = (0, 0);
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

/// Appends text to a STRING column; bytes that are not UTF-8 become U+FFFD.
fn push_text(column: &mut Column, text: &[u8]) {
    if let Data::Utf8(texts) = &mut column.data {
        texts.push(&String::from_utf8_lossy(text));
    }
}

/// Names of fields without a column, in order of first appearance.
#[derive(Debug, Default)]
pub(crate) struct UnmatchedNames {
    known: HashSet<Vec<u8>>,
    names: Vec<String>,
}

impl UnmatchedNames {
    pub fn add(&mut self, name: &[u8]) {
        if self.names.len() < UNMATCHED_NAMES_MAX && !self.known.contains(name) {
            self.known.insert(name.to_vec());
            self.names.push(String::from_utf8_lossy(name).into_owned());
        }
    }

    pub fn names(&self) -> Vec<String> {
        self.names.clone()
    }
}
