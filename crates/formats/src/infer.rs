//! From sampled bytes to a schema.
//!
//! Columns are nullable and stand in the order of their first appearance. The rescue column is not among them.
//! Broken records tell nothing about types: where the options have a rescue column, or drop malformed records,
//! they are passed over; otherwise they add the corrupt record column, and with FAILFAST they are an error.

use arrow::datatypes::{DataType, Field, Schema};

use crate::csv::infer::CsvInferrer;
use crate::decode::DecodeError;
use crate::json::infer::JsonInferrer;
use crate::options::{Format, FormatOptions, Mode};
use crate::xml::infer::XmlInferrer;

/// Collects what files look like.
pub struct Inferrer {
    reader: Reader,
    corrupt: CorruptRecords,
}

enum Reader {
    Json(Box<JsonInferrer>),
    Csv(Box<CsvInferrer>),
    Xml(Box<XmlInferrer>),
    Text,
    None(&'static str),
}

/// What broken records mean for the schema.
pub(crate) struct CorruptRecords {
    mode: Mode,
    /// The column they add.
    column: Option<String>,
    pub path: String,
    record: u64,
    count: u64,
    records: u64,
    sampler: Sampler,
}

/// Which records are looked at (`samplingRatio`): the first one, and of the others such a share, by their number.
struct Sampler {
    ratio: f64,
    number: u64,
}

impl Sampler {
    /// Whether the next record is looked at.
    fn takes(&mut self) -> bool {
        let number = self.number;
        self.number += 1;
        number == 0 || self.ratio >= 1.0 || scattered(number) < self.ratio
    }
}

/// A number from 0 to below 1 that looks random and is the same at every run (SplitMix64).
fn scattered(number: u64) -> f64 {
    let mut bits = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

impl CorruptRecords {
    /// A record begins; whether it is looked at.
    pub fn takes(&mut self) -> bool {
        self.record += 1;
        let takes = self.sampler.takes();
        self.records += u64::from(takes);
        takes
    }

    /// Notes that it could not be read.
    pub fn met(&mut self, reason: String) -> Result<(), DecodeError> {
        self.count += 1;
        if self.mode == Mode::FailFast {
            return Err(DecodeError::Malformed { path: self.path.clone(), record: self.record, reason });
        }
        Ok(())
    }
}

impl Inferrer {
    /// An inferrer by the format and its options.
    pub fn new(options: &FormatOptions) -> Inferrer {
        let reader = match options.format {
            Format::Json => Reader::Json(Box::new(JsonInferrer::new(options))),
            Format::Csv => Reader::Csv(Box::new(CsvInferrer::new(options))),
            Format::Xml => Reader::Xml(Box::new(XmlInferrer::new(options))),
            Format::Text => Reader::Text,
            other => Reader::None(other.name()),
        };
        let keeps = options.mode == Mode::Permissive && options.bad_records_path.is_none();
        let adds_column = keeps && options.rescued_data_column.is_none();
        let corrupt = CorruptRecords {
            mode: options.mode,
            column: adds_column.then(|| options.corrupt_column.clone()),
            path: String::new(),
            record: 0,
            count: 0,
            records: 0,
            sampler: Sampler { ratio: options.sampling_ratio, number: 0 },
        };
        Inferrer { reader, corrupt }
    }

    /// A new file begins.
    pub fn start_file(&mut self, path: &str) {
        path.clone_into(&mut self.corrupt.path);
        self.corrupt.record = 0;
        match &mut self.reader {
            Reader::Json(reader) => reader.start_file(),
            Reader::Csv(reader) => reader.start_file(),
            Reader::Xml(reader) => reader.start_file(),
            Reader::Text | Reader::None(_) => {}
        }
    }

    /// Looks at the records in `input`; returns the bytes consumed, as
    /// [`RecordDecoder::decode`](crate::RecordDecoder::decode) does.
    pub fn sample(&mut self, input: &[u8], eof: bool) -> Result<usize, DecodeError> {
        match &mut self.reader {
            Reader::Json(reader) => reader.sample(input, eof, &mut self.corrupt),
            Reader::Csv(reader) => reader.sample(input, eof, &mut self.corrupt),
            Reader::Xml(reader) => reader.sample(input, eof, &mut self.corrupt),
            Reader::Text => Ok(input.len()),
            Reader::None(format) => Err(DecodeError::Format(format)),
        }
    }

    /// Records looked at, broken ones included. Always 0 for text, whose schema is fixed.
    pub fn records(&self) -> u64 {
        self.corrupt.records
    }

    /// Records that could not be read.
    pub fn corrupt_records(&self) -> u64 {
        self.corrupt.count
    }

    /// The schema of what was sampled; without columns if nothing was.
    pub fn finish(self) -> Result<Schema, DecodeError> {
        let mut fields = match self.reader {
            Reader::Json(reader) => reader.finish(),
            Reader::Csv(reader) => reader.finish(),
            Reader::Xml(reader) => reader.finish(),
            Reader::Text => vec![Field::new(crate::text::VALUE, DataType::Utf8, true)],
            Reader::None(format) => return Err(DecodeError::Format(format)),
        };
        if let Some(name) = self.corrupt.column.filter(|_| self.corrupt.count > 0)
            && !fields.iter().any(|field| *field.name() == name)
        {
            fields.push(Field::new(name, DataType::Utf8, true));
        }
        Ok(Schema::new(fields))
    }
}

#[cfg(test)]
mod tests;
