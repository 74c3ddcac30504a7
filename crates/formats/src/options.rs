//! Format options: parsed once into typed structs. One list per format drives validation, documentation and
//! suggestions; an option that is known and not carried out is refused by name, never ignored.
//!
//! Options about which files are read (`cloudFiles.*`, `pathGlobFilter`, …) are not known here.

mod contradictions;
mod known;

pub use known::{
    AVRO_OPTIONS, BINARY_FILE_OPTIONS, CSV_OPTIONS, JSON_OPTIONS, ORC_OPTIONS, OptionDoc, PARQUET_OPTIONS,
    TEXT_OPTIONS, XML_OPTIONS,
};

use crate::charset::Charset;
use crate::locale::Locale;
use crate::pattern::DatePattern;
use crate::typed::RebaseMode;
use crate::zone::Zone;

/// A file format that SQL can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// JSON, one record a line or one document a file.
    Json,
    /// Comma-separated values and their kin.
    Csv,
    /// Lines.
    Text,
    /// Apache Parquet.
    Parquet,
    /// Apache Avro.
    Avro,
    /// Apache ORC.
    Orc,
    /// Whole files as bytes.
    BinaryFile,
    /// XML.
    Xml,
}

impl Format {
    /// All formats.
    pub const ALL: [Format; 8] = [
        Format::Json,
        Format::Csv,
        Format::Text,
        Format::Parquet,
        Format::Avro,
        Format::Orc,
        Format::BinaryFile,
        Format::Xml,
    ];

    /// The format of that name, in any case.
    pub fn from_name(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name))
    }

    /// The name, as SQL spells it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Csv => "csv",
            Format::Text => "text",
            Format::Parquet => "parquet",
            Format::Avro => "avro",
            Format::Orc => "orc",
            Format::BinaryFile => "binaryFile",
            Format::Xml => "xml",
        }
    }

    /// Whether files of the format say themselves what columns they have, and are read as a whole
    /// ([`crate::typed`]); the others are records one after the other ([`crate::decode`]).
    pub fn is_typed(self) -> bool {
        matches!(self, Format::Parquet | Format::Avro | Format::Orc | Format::BinaryFile)
    }

    /// The options that the format has.
    pub fn options(self) -> &'static [OptionDoc] {
        match self {
            Format::Json => JSON_OPTIONS,
            Format::Csv => CSV_OPTIONS,
            Format::Text => TEXT_OPTIONS,
            Format::Parquet => PARQUET_OPTIONS,
            Format::Avro => AVRO_OPTIONS,
            Format::Orc => ORC_OPTIONS,
            Format::BinaryFile => BINARY_FILE_OPTIONS,
            Format::Xml => XML_OPTIONS,
        }
    }
}

/// What becomes of malformed records; [`crate::decode`] has the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// Kept and marked.
    #[default]
    Permissive,
    /// Dropped and counted.
    DropMalformed,
    /// An error.
    FailFast,
}

/// `unescapedQuoteHandling`: what becomes of a quoted value that goes on behind a quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum UnescapedQuotes {
    /// It goes on to the next closing quote before a separator, quotes included.
    StopAtClosingQuote,
    /// It is no quoted value: it ends at the first separator, quotes included.
    BackToDelimiter,
    /// It is taken as it stands up to the next separator behind the quote.
    #[default]
    StopAtDelimiter,
    /// It is NULL.
    SkipValue,
    /// The row is malformed.
    RaiseError,
}

/// The options of one format, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct FormatOptions {
    /// The format.
    pub format: Format,
    /// Whether inference finds types; otherwise every column is STRING.
    pub infer_column_types: bool,
    /// The name of the column for values that fit nowhere, if there is to be one.
    pub rescued_data_column: Option<String>,
    /// The name of the column that keeps the text of corrupt records, where a schema has it.
    pub corrupt_column: String,
    /// Whether fields without a column are looked for even if nobody asks for the rescue column.
    pub track_unmatched: bool,
    /// Whether columns are looked for whose values do not fit and would fit a wider type.
    pub track_outgrown: bool,
    /// Whether `Id` and `id` are different fields.
    pub case_sensitive: bool,
    /// What becomes of malformed records.
    pub mode: Mode,
    /// What ends a record; None: any of CR, LF, CRLF.
    pub line_sep: Option<Vec<u8>>,
    /// Whether a record may span lines (CSV), or a file is one document (JSON).
    pub multi_line: bool,
    /// JSON's own options.
    pub json: JsonOptions,
    /// How text is encoded; None: UTF-8.
    pub charset: Option<Charset>,
    /// How DATE is written; None: as Spark casts text.
    pub date_format: Option<DatePattern>,
    /// How TIMESTAMP is written; None: as Spark casts text.
    pub timestamp_format: Option<DatePattern>,
    /// How TIMESTAMP_NTZ is written; None: as Spark casts text.
    pub timestamp_ntz_format: Option<DatePattern>,
    /// In which language names of months and days, and decimals, are written.
    pub locale: Locale,
    /// In which zone timestamps are meant that name none; None: where no option says it.
    pub time_zone: Option<Zone>,
    /// Inference: the share of records that are looked at, above 0 and at most 1.
    pub sampling_ratio: f64,
    /// The directory that malformed records are written to instead of going into the table.
    pub bad_records_path: Option<String>,
    /// Whether the first columns are those of all sampled files, or of the newest of them alone.
    pub merge_schema: bool,
    /// Typed formats: how dates and timestamps of old calendars are read, where the file does not tell.
    pub datetime_rebase: RebaseMode,
    /// Parquet: the same for 96-bit timestamps.
    pub int96_rebase: RebaseMode,
    /// Avro: the schema to read with; None: each file's own.
    pub avro_schema: Option<String>,
    /// CSV's own options.
    pub csv: CsvOptions,
    /// XML's own options.
    pub xml: XmlOptions,
}

/// Options of JSON alone. The `allow_…` ones are leniences against RFC 8259.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonOptions {
    /// `\x` stands for `x`, whatever `x`.
    pub allow_backslash_escaping_any_character: bool,
    /// `/* … */` and `// …`.
    pub allow_comments: bool,
    /// `NaN`, `Infinity`, `-INF` and their like are numbers.
    pub allow_non_numeric_numbers: bool,
    /// `007` is a number.
    pub allow_numeric_leading_zeros: bool,
    /// `'text'` is a string.
    pub allow_single_quotes: bool,
    /// Control characters may stand in strings as they are.
    pub allow_unquoted_control_chars: bool,
    /// Field names may stand without quotes.
    pub allow_unquoted_field_names: bool,
    /// Inference: fields that are NULL or empty throughout get no column.
    pub drop_field_if_all_null: bool,
    /// Inference: strings that are timestamps make a TIMESTAMP column.
    pub infer_timestamp: bool,
    /// Inference: fractions are DECIMAL, not DOUBLE.
    pub prefers_decimal: bool,
    /// Inference: every leaf is STRING.
    pub primitives_as_string: bool,
}

impl Default for JsonOptions {
    fn default() -> JsonOptions {
        JsonOptions {
            allow_backslash_escaping_any_character: false,
            allow_comments: false,
            allow_non_numeric_numbers: true,
            allow_numeric_leading_zeros: false,
            allow_single_quotes: true,
            allow_unquoted_control_chars: false,
            allow_unquoted_field_names: false,
            drop_field_if_all_null: false,
            infer_timestamp: false,
            prefers_decimal: false,
            primitives_as_string: false,
        }
    }
}

/// Options of CSV alone.
#[derive(Debug, Clone, PartialEq)]
pub struct CsvOptions {
    /// Between the values of a row; not empty.
    pub sep: Vec<u8>,
    /// Around values that contain separators; None: no quoting.
    pub quote: Option<u8>,
    /// Before a quote that belongs to the value; equal to `quote`: quotes are doubled. None: no escaping.
    pub escape: Option<u8>,
    /// Before an escape that is meant as it stands; None: the escape itself, unless it is the quote. Some(None): nothing.
    pub escape_escape: Option<Option<u8>>,
    /// Lines beginning so are comments.
    pub comment: Option<u8>,
    /// Whether the first line of a file names its columns.
    pub header: bool,
    /// Lines left out before the header.
    pub skip_rows: u64,
    /// What becomes of a quoted value with a quote inside that is not escaped.
    pub unescaped_quotes: UnescapedQuotes,
    /// The text of NULL, besides no text at all.
    pub null_value: String,
    /// What an empty value in quotes stands for.
    pub empty_value: String,
    /// The text of a NaN in a number column.
    pub nan_value: String,
    /// The text of plus infinity.
    pub positive_inf: String,
    /// The text of minus infinity.
    pub negative_inf: String,
    /// White space before a value is not part of it.
    pub ignore_leading_white_space: bool,
    /// White space behind a value is not part of it.
    pub ignore_trailing_white_space: bool,
    /// Inference: `yyyy-MM-dd` is a DATE, not a TIMESTAMP.
    pub prefer_date: bool,
    /// Most columns of a row.
    pub max_columns: usize,
    /// Most characters of a value; None: any number.
    pub max_chars_per_column: Option<usize>,
}

impl Default for CsvOptions {
    fn default() -> CsvOptions {
        CsvOptions {
            sep: b",".to_vec(),
            quote: Some(b'"'),
            escape: Some(b'\\'),
            escape_escape: None,
            comment: None,
            header: true,
            skip_rows: 0,
            unescaped_quotes: UnescapedQuotes::default(),
            null_value: String::new(),
            empty_value: String::new(),
            nan_value: "NaN".to_owned(),
            positive_inf: "Inf".to_owned(),
            negative_inf: "-Inf".to_owned(),
            ignore_leading_white_space: false,
            ignore_trailing_white_space: false,
            prefer_date: true,
            max_columns: 20480,
            max_chars_per_column: None,
        }
    }
}

/// Options of XML alone.
#[derive(Debug, Clone, PartialEq)]
pub struct XmlOptions {
    /// The element that is a record.
    pub row_tag: String,
    /// Stands before the names of attributes that become fields.
    pub attribute_prefix: String,
    /// The field for text beside attributes or child elements.
    pub value_tag: String,
    /// Attributes are left out.
    pub exclude_attribute: bool,
    /// White space around values is not part of them.
    pub ignore_surrounding_spaces: bool,
    /// Names lose their prefix.
    pub ignore_namespace: bool,
    /// The text of NULL.
    pub null_value: Option<String>,
    /// The column that takes child elements which have no column, as they stand; where a schema has it.
    pub wildcard_column: String,
}

impl Default for XmlOptions {
    fn default() -> XmlOptions {
        XmlOptions {
            row_tag: String::new(),
            attribute_prefix: "_".to_owned(),
            value_tag: "_VALUE".to_owned(),
            exclude_attribute: false,
            ignore_surrounding_spaces: true,
            ignore_namespace: false,
            null_value: Some("null".to_owned()),
            wildcard_column: "xs_any".to_owned(),
        }
    }
}

/// Why an option is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// The format has no option of that name.
    Unknown,
    /// It is known, and what it asks for is not carried out.
    NotCarriedOut,
    /// It stands there twice.
    Twice,
    /// It contradicts another option.
    Contradiction,
    /// It has no such value.
    Value,
}

/// An option that is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct OptionError {
    /// What kind of mistake it is.
    pub kind: Mistake,
    /// The option's name as it was given.
    pub key: String,
    /// What is wrong with it.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

impl OptionError {
    fn value(key: &str, value: &str, accepted: &str) -> OptionError {
        OptionError {
            kind: Mistake::Value,
            key: key.to_owned(),
            message: format!("option `{key}` cannot be '{value}'"),
            help: format!("it takes {accepted}"),
        }
    }
}

impl FormatOptions {
    /// The defaults. `inferring` says that no schema is given; then rescued data has a column.
    pub fn new(format: Format, infer_column_types: bool, inferring: bool) -> FormatOptions {
        FormatOptions {
            format,
            infer_column_types,
            rescued_data_column: (inferring && has_misfits(format)).then(|| "_rescued_data".to_owned()),
            corrupt_column: "_corrupt_record".to_owned(),
            track_unmatched: false,
            track_outgrown: false,
            case_sensitive: true,
            mode: Mode::default(),
            line_sep: None,
            multi_line: false,
            json: JsonOptions::default(),
            charset: None,
            date_format: None,
            timestamp_format: None,
            timestamp_ntz_format: None,
            locale: Locale::default(),
            time_zone: None,
            sampling_ratio: 1.0,
            bad_records_path: None,
            merge_schema: true,
            datetime_rebase: RebaseMode::default(),
            int96_rebase: RebaseMode::default(),
            avro_schema: None,
            csv: CsvOptions::default(),
            xml: XmlOptions::default(),
        }
    }

    /// The options in `entries` over the defaults. Names are compared without case.
    ///
    /// # Errors
    /// An option that is unknown, not carried out, there twice, without meaning beside another, or has no such value.
    pub fn parse(
        format: Format,
        entries: &[(String, String)],
        infer_column_types: bool,
        inferring: bool,
    ) -> Result<FormatOptions, OptionError> {
        let mut options = FormatOptions::new(format, infer_column_types, inferring);
        for (key, value) in entries {
            let known = known::find(format, key).ok_or_else(|| known::unknown(format, key))?;
            (known.set)(&mut options, key, value)?;
        }
        let locale = options.locale;
        for pattern in [&mut options.date_format, &mut options.timestamp_format, &mut options.timestamp_ntz_format] {
            *pattern = pattern.take().map(|pattern| pattern.in_locale(locale));
        }
        contradictions::refuse(&options, entries)?;
        options.check()?;
        Ok(options)
    }

    /// Refuses options that contradict each other.
    fn check(&self) -> Result<(), OptionError> {
        if self.format == Format::Xml && self.xml.row_tag.is_empty() {
            return Err(OptionError {
                kind: Mistake::Value,
                key: "rowTag".to_owned(),
                message: "option `rowTag` is missing".to_owned(),
                help: "it names the element that is a record: rowTag => 'book'".to_owned(),
            });
        }
        let csv = &self.csv;
        let special = [("quote", csv.quote), ("escape", csv.escape), ("comment", csv.comment)];
        let Some(&first) = csv.sep.first() else { return Ok(()) };
        match special.iter().find(|(_, byte)| *byte == Some(first)) {
            Some((name, _)) if self.format == Format::Csv => Err(OptionError {
                kind: Mistake::Value,
                key: (*name).to_owned(),
                message: format!("option `{name}` and option `sep` are the same character"),
                help: format!("choose another `{name}`, or none: ''"),
            }),
            _ => Ok(()),
        }
    }
}

/// Whether files of the format can hold anything that a column cannot.
fn has_misfits(format: Format) -> bool {
    !matches!(format, Format::Text | Format::BinaryFile)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(format: Format, entries: &[(&str, &str)]) -> Result<FormatOptions, OptionError> {
        let entries: Vec<_> = entries.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        FormatOptions::parse(format, &entries, true, true)
    }

    #[test]
    fn names_and_values() {
        let options = parse(Format::Csv, &[("DELIMITER", ";"), ("escape", "\""), ("Mode", "failfast")]).unwrap();
        assert_eq!((options.csv.sep.as_slice(), options.csv.escape), (&b";"[..], Some(b'"')));
        assert_eq!(options.mode, Mode::FailFast);
        assert_eq!(options.rescued_data_column.as_deref(), Some("_rescued_data"));
        assert!(FormatOptions::parse(Format::Json, &[], true, false).unwrap().rescued_data_column.is_none());
        assert_eq!(parse(Format::Csv, &[("sep", "\\t")]).unwrap().csv.sep, b"\t");
        assert_eq!(parse(Format::Json, &[("multiLine", "TRUE")]).map(|o| o.multi_line), Ok(true));
    }

    #[test]
    fn refusals_name_the_way_out() {
        let error = parse(Format::Json, &[("multiline ", "true")]).unwrap_err();
        assert!(error.help.contains("`multiLine`"), "{error:?}");
        let error = parse(Format::Csv, &[("header", "yes")]).unwrap_err();
        assert_eq!(
            (error.message.as_str(), error.help.as_str()),
            ("option `header` cannot be 'yes'", "it takes true or false")
        );
        let error = parse(Format::Json, &[("header", "true")]).unwrap_err();
        assert!(error.message.contains("csv"), "{error:?}");
        assert!(parse(Format::Csv, &[("locale", "en")]).is_ok());
        assert_eq!(parse(Format::Json, &[("timeZone", "+01:00")]).unwrap().time_zone, Some(Zone::Offset(3_600)));
        for (name, value) in [("timeZone", "Mars"), ("samplingRatio", "0"), ("samplingRatio", "1.5")] {
            let error = parse(Format::Xml, &[("rowTag", "r"), (name, value)]).unwrap_err();
            assert!(error.message.contains(&format!("`{name}` cannot be '{value}'")), "{error:?}");
        }
        let error = parse(Format::Csv, &[("locale", "ja-JP")]).unwrap_err();
        assert!(error.message.contains("`locale`") && error.help.contains("de-DE"), "{error:?}");
        assert!(parse(Format::Csv, &[("dateFormat", "dd/MM/yyyy")]).is_ok());
        assert!(parse(Format::Csv, &[("dateFormat", "dd/MM/QQQQ")]).is_err());
        assert!(parse(Format::Json, &[("badRecordsPath", "/tmp")]).is_ok());
        assert!(parse(Format::Json, &[("badRecordsPath", "/tmp"), ("mode", "PERMISSIVE")]).is_err());
        assert!(parse(Format::Csv, &[("sep", "\"")]).is_err());
    }

    #[test]
    fn formats_have_names() {
        assert_eq!(Format::from_name("JSON"), Some(Format::Json));
        assert_eq!(Format::from_name("binaryfile"), Some(Format::BinaryFile));
        assert_eq!(Format::from_name("jsonl"), None);
    }
}
