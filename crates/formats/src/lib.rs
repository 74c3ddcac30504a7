//! Bytes to Arrow: JSON, CSV, XML and text with per-record isolation and rescue, Parquet, Avro, ORC and whole files,
//! inference of column types, decompression.
//!
//! This crate knows formats and nothing else: no SQL, no files or object stores, no state, no clock. Its callers
//! bring the bytes of a file in pieces and take Arrow batches away.
//!
//! - [`options`]: typed format options, parsed once; unknown names are refused with the nearest known one.
//! - [`decode`]: the decoder contract, and how broken records and misfits are treated.
//! - [`json`], [`csv`], [`xml`]: the record decoders, each with its half of the type inference.
//! - [`typed`]: files that say themselves what columns they have.
//! - [`pattern`]: dates by the patterns that options give.
//! - [`zone`]: the zone of timestamps that name none.
//! - [`infer`]: from sampled bytes to a schema.
//! - [`wider_type`]: what a column becomes when its values outgrow it.
//! - [`compression`], [`charset`]: from compressed bytes to bytes, from other encodings to UTF-8.

pub mod charset;
mod column;
pub mod compression;
pub mod csv;
pub mod decode;
pub mod infer;
pub mod json;
pub mod locale;
pub mod options;
pub mod pattern;
mod rescue;
mod row;
mod scalar;
mod text;
mod times;
pub mod typed;
mod widen;
pub mod xml;
pub mod zone;

pub use charset::Charset;
pub use compression::Compression;
pub use decode::{BadRecord, DecodeCounts, DecodeError, RecordDecoder, decoder, decoder_projected};
pub use infer::Inferrer;
pub use options::{CsvOptions, Format, FormatOptions, JsonOptions, Mistake, Mode, OptionDoc, OptionError, XmlOptions};
pub use widen::wider_type;
pub use zone::Zone;
