//! The options that each format knows: name, default, meaning, and what a value sets.

use super::{Format, FormatOptions, Mistake, Mode, OptionError, UnescapedQuotes};
use crate::charset::Charset;
use crate::locale::{ACCEPTED, Locale};
use crate::pattern::DatePattern;
use crate::typed::{RebaseMode, check_avro_schema};
use crate::zone::Zone;

/// One option of a format.
#[derive(Debug, Clone, Copy)]
pub struct OptionDoc {
    /// Its name.
    pub name: &'static str,
    /// Its default, as it would be written.
    pub default: &'static str,
    /// What it does; for one that is not carried out, what to do instead.
    pub meaning: &'static str,
    /// Whether values other than the default have their effect. If not, they are refused.
    pub carried_out: bool,
    pub(super) set: Set,
}

type Set = fn(&mut FormatOptions, &str, &str) -> Result<(), OptionError>;

/// An option whose value is put in a place by a reader of values.
macro_rules! option {
    ($name:literal, $default:literal, $meaning:literal, $read:ident, $($place:ident).+) => {
        OptionDoc {
            name: $name, default: $default, meaning: $meaning, carried_out: true,
            set: |options, key, value| { options.$($place).+ = $read(key, value)?; Ok(()) },
        }
    };
}

/// An option that only takes values which change nothing. `$instead`: the way out.
macro_rules! not_carried_out {
    ($name:literal, $default:literal, $instead:literal, [$($accepted:literal),*]) => {
        OptionDoc {
            name: $name, default: $default, meaning: $instead, carried_out: false,
            set: |_, key, value| refuse_but(key, value, $instead, &[$($accepted),*]),
        }
    };
}

/// Options of JSON files.
pub const JSON_OPTIONS: &[OptionDoc] = &[
    option!(
        "allowBackslashEscapingAnyCharacter",
        "false",
        "`\\x` stands for `x`, whatever `x`",
        flag,
        json.allow_backslash_escaping_any_character
    ),
    option!("allowComments", "false", "`/* … */` and `// …` between tokens", flag, json.allow_comments),
    option!(
        "allowNonNumericNumbers",
        "true",
        "`NaN`, `Infinity`, `-INF` and their like are numbers",
        flag,
        json.allow_non_numeric_numbers
    ),
    option!("allowNumericLeadingZeros", "false", "`007` is a number", flag, json.allow_numeric_leading_zeros),
    option!("allowSingleQuotes", "true", "`'text'` is a string", flag, json.allow_single_quotes),
    option!(
        "allowUnquotedControlChars",
        "false",
        "control characters may stand in strings as they are",
        flag,
        json.allow_unquoted_control_chars
    ),
    option!(
        "allowUnquotedFieldNames",
        "false",
        "field names may stand without quotes",
        flag,
        json.allow_unquoted_field_names
    ),
    BAD_RECORDS_PATH,
    CORRUPT_COLUMN,
    DATE_FORMAT,
    option!(
        "dropFieldIfAllNull",
        "false",
        "inference: no column for fields that are NULL or empty throughout",
        flag,
        json.drop_field_if_all_null
    ),
    ENCODING,
    CHARSET,
    option!(
        "inferTimestamp",
        "false",
        "inference: strings that are timestamps make a TIMESTAMP column",
        flag,
        json.infer_timestamp
    ),
    LINE_SEP,
    LOCALE,
    MERGE_SCHEMA,
    MODE,
    option!(
        "multiLine",
        "false",
        "a file is one document, or an array of records, over several lines",
        flag,
        multi_line
    ),
    option!("prefersDecimal", "false", "inference: fractions are DECIMAL, not DOUBLE", flag, json.prefers_decimal),
    option!("primitivesAsString", "false", "inference: every leaf is STRING", flag, json.primitives_as_string),
    CASE_SENSITIVE,
    RESCUED_DATA_COLUMN,
    SAMPLING_RATIO,
    SINGLE_VARIANT,
    TIMESTAMP_FORMAT,
    TIMESTAMP_NTZ_FORMAT,
    TIME_ZONE,
];

/// Options of CSV files.
pub const CSV_OPTIONS: &[OptionDoc] = &[
    BAD_RECORDS_PATH,
    OptionDoc {
        name: "charToEscapeQuoteEscaping",
        default: "`escape`, or none if that is `quote`",
        meaning: "stands before an `escape` that is meant as it stands; '' for none",
        carried_out: true,
        set: |options, key, value| {
            options.csv.escape_escape = Some(character(key, value)?);
            Ok(())
        },
    },
    CORRUPT_COLUMN,
    option!("comment", "", "lines that begin with this character are left out", character, csv.comment),
    DATE_FORMAT,
    option!("delimiter", ",", "the same as `sep`", separator, csv.sep),
    option!("emptyValue", "", "what an empty value in quotes stands for", text, csv.empty_value),
    ENCODING,
    CHARSET,
    OptionDoc {
        name: "enforceSchema",
        default: "true",
        meaning: "without effect: with a header columns are always matched by name",
        carried_out: true,
        set: |_, key, value| flag(key, value).map(drop),
    },
    option!(
        "escape",
        "\\",
        "stands before a quote inside a quoted value; `\"` for doubled quotes",
        character,
        csv.escape
    ),
    not_carried_out!(
        "failOnUnknownFields",
        "false",
        "schemaEvolutionMode => 'failOnNewColumns' ends the stream at a field without a column",
        ["false"]
    ),
    not_carried_out!(
        "failOnWidenedFields",
        "false",
        "rescuedDataColumn => '' with mode => 'FAILFAST' ends the stream at a value that does not fit its column",
        ["false"]
    ),
    option!(
        "header",
        "true",
        "the first line of each file names its columns; otherwise they are `_c0`, `_c1`, …",
        flag,
        csv.header
    ),
    option!(
        "ignoreLeadingWhiteSpace",
        "false",
        "white space before a value is not part of it",
        flag,
        csv.ignore_leading_white_space
    ),
    option!(
        "ignoreTrailingWhiteSpace",
        "false",
        "white space behind a value is not part of it",
        flag,
        csv.ignore_trailing_white_space
    ),
    option!(
        "inferSchema",
        "as `inferColumnTypes`",
        "inference finds types; otherwise every column is STRING",
        flag,
        infer_column_types
    ),
    LINE_SEP,
    LOCALE,
    option!(
        "maxCharsPerColumn",
        "-1",
        "most characters of a value; a row with a longer one is malformed; -1 for any number",
        most_characters,
        csv.max_chars_per_column
    ),
    option!("maxColumns", "20480", "most columns of a file", count, csv.max_columns),
    MERGE_SCHEMA,
    MODE,
    option!("multiLine", "false", "quoted values may contain line breaks", flag, multi_line),
    option!("nanValue", "NaN", "the text of a NaN", text, csv.nan_value),
    option!("negativeInf", "-Inf", "the text of minus infinity", text, csv.negative_inf),
    option!("nullValue", "", "the text of NULL, besides no text at all", text, csv.null_value),
    option!("parserCaseSensitive", "true", "the same as `readerCaseSensitive`", flag, case_sensitive),
    option!("positiveInf", "Inf", "the text of plus infinity", text, csv.positive_inf),
    option!("preferDate", "true", "inference: `yyyy-MM-dd` is a DATE, not a TIMESTAMP", flag, csv.prefer_date),
    option!("quote", "\"", "stands around values that contain separators; '' for no quoting", character, csv.quote),
    CASE_SENSITIVE,
    RESCUED_DATA_COLUMN,
    SAMPLING_RATIO,
    option!("sep", ",", "stands between values; one or several characters", separator, csv.sep),
    option!("skipRows", "0", "lines left out at the beginning of each file, before the header", rows, csv.skip_rows),
    TIMESTAMP_FORMAT,
    TIMESTAMP_NTZ_FORMAT,
    TIME_ZONE,
    option!(
        "unescapedQuoteHandling",
        "STOP_AT_DELIMITER",
        "what becomes of a quoted value with a quote inside that is not escaped: that, `STOP_AT_CLOSING_QUOTE`, `BACK_TO_DELIMITER`, `SKIP_VALUE` or `RAISE_ERROR`",
        quote_handling,
        csv.unescaped_quotes
    ),
];

/// Options of text files.
pub const TEXT_OPTIONS: &[OptionDoc] =
    &[CHARSET, ENCODING, LINE_SEP, option!("wholeText", "false", "a file is one row", flag, multi_line)];

/// Options of XML files.
pub const XML_OPTIONS: &[OptionDoc] = &[
    option!("attributePrefix", "_", "stands before the names of attributes", text, xml.attribute_prefix),
    BAD_RECORDS_PATH,
    CHARSET,
    CORRUPT_COLUMN,
    DATE_FORMAT,
    ENCODING,
    option!("excludeAttribute", "false", "attributes are left out", flag, xml.exclude_attribute),
    option!("ignoreNamespace", "false", "names lose their prefix", flag, xml.ignore_namespace),
    option!(
        "ignoreSurroundingSpaces",
        "true",
        "white space around values is not part of them",
        flag,
        xml.ignore_surrounding_spaces
    ),
    option!(
        "inferSchema",
        "as `inferColumnTypes`",
        "inference finds types; otherwise every column is STRING",
        flag,
        infer_column_types
    ),
    LOCALE,
    MODE,
    option!("nullValue", "null", "the text of NULL", nullable, xml.null_value),
    CASE_SENSITIVE,
    RESCUED_DATA_COLUMN,
    option!("rowTag", "none; it must be given", "the element that is a record", name, xml.row_tag),
    not_carried_out!(
        "rowValidationXSDPath",
        "none",
        "leave it out; check the columns in the query, or validate the files before they are landed",
        []
    ),
    SAMPLING_RATIO,
    SINGLE_VARIANT,
    TIMESTAMP_FORMAT,
    TIMESTAMP_NTZ_FORMAT,
    TIME_ZONE,
    option!("valueTag", "_VALUE", "the field for text beside attributes or child elements", name, xml.value_tag),
    option!(
        "wildcardColName",
        "xs_any",
        "the STRING or ARRAY<STRING> column, where the schema has it, that takes child elements without a column as they stand",
        name,
        xml.wildcard_column
    ),
];

/// Options of Parquet files.
pub const PARQUET_OPTIONS: &[OptionDoc] =
    &[REBASE_DATETIME, REBASE_INT96, MERGE_SCHEMA, CASE_SENSITIVE, RESCUED_DATA_COLUMN];

/// Options of Avro files.
pub const AVRO_OPTIONS: &[OptionDoc] = &[
    OptionDoc {
        name: "avroSchema",
        default: "each file's own",
        meaning: "the Avro schema, as JSON, that records are read with: new names by aliases, defaults, wider types",
        carried_out: true,
        set: |options, key, value| {
            check_avro_schema(value).map_err(|why| OptionError {
                kind: Mistake::Value,
                key: key.to_owned(),
                message: format!("option `{key}` is no Avro schema of a record: {why}"),
                help: "it takes the JSON of an .avsc file: {\"type\": \"record\", \"name\": …, \"fields\": […]}"
                    .to_owned(),
            })?;
            options.avro_schema = Some(value.to_owned());
            Ok(())
        },
    },
    REBASE_DATETIME,
    MERGE_SCHEMA,
    not_carried_out!(
        "mode",
        "FAILFAST",
        "a record that cannot be read damages its file; ignoreCorruptFiles => 'true' passes over such files",
        ["FAILFAST"]
    ),
    CASE_SENSITIVE,
    RESCUED_DATA_COLUMN,
];

/// Options of ORC files.
pub const ORC_OPTIONS: &[OptionDoc] = &[MERGE_SCHEMA, CASE_SENSITIVE, RESCUED_DATA_COLUMN];

/// Options of whole files.
pub const BINARY_FILE_OPTIONS: &[OptionDoc] = &[];

const BAD_RECORDS_PATH: OptionDoc = option!(
    "badRecordsPath",
    "none",
    "malformed records are written below this directory instead of going into the table; excludes `mode`",
    directory,
    bad_records_path
);
const CORRUPT_COLUMN: OptionDoc = option!(
    "columnNameOfCorruptRecord",
    "_corrupt_record",
    "the column that keeps the text of corrupt records, where the schema has it",
    name,
    corrupt_column
);
const DATE_FORMAT: OptionDoc = option!(
    "dateFormat",
    "as Spark casts text",
    "the Java pattern of dates, `dd/MM/yyyy`; for inference too",
    pattern,
    date_format
);
const ENCODING: OptionDoc = option!(
    "encoding",
    "UTF-8",
    "of the files' text: UTF-8, UTF-16 (LE, BE), ISO-8859-1, windows-1252 and the others of the web",
    encoding,
    charset
);
const CHARSET: OptionDoc = option!("charset", "UTF-8", "the same as `encoding`", encoding, charset);
const REBASE_DATETIME: OptionDoc = option!(
    "datetimeRebaseMode",
    "CORRECTED",
    "dates before 1582-10-15 and timestamps before 1900, where the file does not name the Spark that wrote it: CORRECTED takes them as they stand, LEGACY from the calendar of Spark 2, EXCEPTION refuses the file",
    rebase_mode,
    datetime_rebase
);
const REBASE_INT96: OptionDoc =
    option!("int96RebaseMode", "CORRECTED", "the same for 96-bit timestamps", rebase_mode, int96_rebase);
const SINGLE_VARIANT: OptionDoc = not_carried_out!(
    "singleVariantColumn",
    "none",
    "there is no type VARIANT; read lines with format 'text' and take them apart with from_json or get_json_object",
    []
);
const LINE_SEP: OptionDoc = OptionDoc {
    name: "lineSep",
    default: "any of \\r, \\n, \\r\\n",
    meaning: "ends a record; for CSV one character",
    carried_out: true,
    set: line_separator,
};
const LOCALE: OptionDoc = option!(
    "locale",
    "en-US",
    "of names of months and days (dateFormat) and of DECIMAL in text: `en-US`, `de-DE`, `fr-FR`, `es-ES`, `it-IT`, `pt-BR`, `pt-PT`, `nl-NL`",
    locale,
    locale
);
const MERGE_SCHEMA: OptionDoc = option!(
    "mergeSchema",
    "true",
    "inference: the columns of all sampled files; false: of the newest of them that has any",
    flag,
    merge_schema
);
const MODE: OptionDoc = option!(
    "mode",
    "PERMISSIVE",
    "what becomes of malformed records: PERMISSIVE keeps, DROPMALFORMED drops, FAILFAST stops",
    parse_mode,
    mode
);
const CASE_SENSITIVE: OptionDoc =
    option!("readerCaseSensitive", "true", "`Id` and `id` are different fields", flag, case_sensitive);
const RESCUED_DATA_COLUMN: OptionDoc = OptionDoc {
    name: "rescuedDataColumn",
    default: "_rescued_data when the schema is inferred, else none",
    meaning: "the column for values that fit no column; '' for none",
    carried_out: true,
    set: |options, _, value| {
        options.rescued_data_column = (!value.is_empty()).then(|| value.to_owned());
        Ok(())
    },
};
const SAMPLING_RATIO: OptionDoc =
    option!("samplingRatio", "1.0", "inference: share of records looked at, above 0", ratio, sampling_ratio);
const TIMESTAMP_FORMAT: OptionDoc = option!(
    "timestampFormat",
    "as Spark casts text",
    "the Java pattern of timestamps, `dd/MM/yyyy HH:mm`; for inference too",
    pattern,
    timestamp_format
);
const TIMESTAMP_NTZ_FORMAT: OptionDoc = option!(
    "timestampNTZFormat",
    "as Spark casts text",
    "the Java pattern of timestamps without zone, `dd/MM/yyyy HH:mm`",
    ntz_pattern,
    timestamp_ntz_format
);
const TIME_ZONE: OptionDoc = option!(
    "timeZone",
    "the session's",
    "the zone of timestamps in text that name none: `Europe/Berlin`, `+02:00`",
    time_zone,
    time_zone
);

/// The option of that name, in any case.
pub(super) fn find(format: Format, key: &str) -> Option<&'static OptionDoc> {
    format.options().iter().find(|option| option.name.eq_ignore_ascii_case(key))
}

/// The error for a name that the format does not have.
pub(super) fn unknown(format: Format, key: &str) -> OptionError {
    let others = Format::ALL.into_iter().filter(|&other| find(other, key).is_some()).map(Format::name);
    let others: Vec<_> = others.collect();
    let message = if others.is_empty() {
        format!("option `{key}` is not known for {} files", format.name())
    } else {
        format!("option `{key}` is not known for {} files, only for {}", format.name(), others.join(" and "))
    };
    let nearest = format
        .options()
        .iter()
        .map(|option| (distance(&key.to_lowercase(), &option.name.to_lowercase()), option.name))
        .min()
        .filter(|(distance, name)| *distance <= name.len() / 3 + 1);
    let help = match nearest {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None => {
            let names: Vec<_> = format.options().iter().map(|option| option.name).collect();
            format!("known are: {}", names.join(", "))
        }
    };
    OptionError { kind: Mistake::Unknown, key: key.to_owned(), message, help }
}

/// Letters to insert, remove or replace to get from one name to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn refuse_but(key: &str, value: &str, instead: &str, accepted: &[&str]) -> Result<(), OptionError> {
    if accepted.iter().any(|accepted| accepted.eq_ignore_ascii_case(value)) {
        return Ok(());
    }
    Err(OptionError {
        kind: Mistake::NotCarriedOut,
        key: key.to_owned(),
        message: format!("option `{key}` = '{value}' is not carried out yet"),
        help: instead.to_owned(),
    })
}

fn flag(key: &str, value: &str) -> Result<bool, OptionError> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(OptionError::value(key, value, "true or false")),
    }
}

fn text(_: &str, value: &str) -> Result<String, OptionError> {
    Ok(value.to_owned())
}

fn nullable(_: &str, value: &str) -> Result<Option<String>, OptionError> {
    Ok(Some(value.to_owned()))
}

fn pattern(key: &str, value: &str) -> Result<Option<DatePattern>, OptionError> {
    // The defaults, written out, ask for what happens anyway.
    if ["yyyy-MM-dd", "yyyy-MM-dd'T'HH:mm:ss[.SSS][XXX]"].contains(&value) {
        return Ok(None);
    }
    DatePattern::new(value).map(Some).map_err(|why| OptionError {
        kind: Mistake::Value,
        key: key.to_owned(),
        message: format!("option `{key}` cannot be '{value}': {why}"),
        help: "letters are y M d H h m s S a E and X x Z for the offset; other text stands in quotes".to_owned(),
    })
}

fn ntz_pattern(key: &str, value: &str) -> Result<Option<DatePattern>, OptionError> {
    if value == "yyyy-MM-dd'T'HH:mm:ss[.SSS]" { Ok(None) } else { pattern(key, value) }
}

fn time_zone(key: &str, value: &str) -> Result<Option<Zone>, OptionError> {
    let zone = Zone::from_name(value);
    zone.map(Some)
        .ok_or_else(|| OptionError::value(key, value, "a region or an offset: 'Europe/Berlin', '+02:00', 'UTC'"))
}

fn ratio(key: &str, value: &str) -> Result<f64, OptionError> {
    let ratio = value.trim().parse().ok().filter(|ratio| *ratio > 0.0 && *ratio <= 1.0);
    ratio.ok_or_else(|| OptionError::value(key, value, "a number above 0, at most 1"))
}

fn locale(key: &str, value: &str) -> Result<Locale, OptionError> {
    Locale::from_tag(value).ok_or_else(|| OptionError::value(key, value, ACCEPTED))
}

fn rebase_mode(key: &str, value: &str) -> Result<RebaseMode, OptionError> {
    match value.trim().to_ascii_uppercase().as_str() {
        "CORRECTED" => Ok(RebaseMode::Corrected),
        "LEGACY" => Ok(RebaseMode::Legacy),
        "EXCEPTION" => Ok(RebaseMode::Exception),
        _ => Err(OptionError::value(key, value, "CORRECTED, LEGACY or EXCEPTION")),
    }
}

fn most_characters(key: &str, value: &str) -> Result<Option<usize>, OptionError> {
    match value.trim().parse::<i64>() {
        Ok(-1) => Ok(None),
        Ok(most @ 1..) => Ok(usize::try_from(most).ok()),
        _ => Err(OptionError::value(key, value, "a number above 0, or -1 for any length")),
    }
}

fn directory(key: &str, value: &str) -> Result<Option<String>, OptionError> {
    let local = value.strip_prefix("file://").unwrap_or(value);
    match local {
        "" => Err(OptionError::value(key, value, "a directory")),
        other if other.contains("://") => Err(OptionError::value(key, value, "a directory of this machine")),
        path => Ok(Some(path.to_owned())),
    }
}

fn quote_handling(key: &str, value: &str) -> Result<UnescapedQuotes, OptionError> {
    Ok(match value.to_ascii_uppercase().as_str() {
        "STOP_AT_CLOSING_QUOTE" => UnescapedQuotes::StopAtClosingQuote,
        "BACK_TO_DELIMITER" => UnescapedQuotes::BackToDelimiter,
        "STOP_AT_DELIMITER" => UnescapedQuotes::StopAtDelimiter,
        "SKIP_VALUE" => UnescapedQuotes::SkipValue,
        "RAISE_ERROR" => UnescapedQuotes::RaiseError,
        _ => {
            let accepted = "STOP_AT_CLOSING_QUOTE, BACK_TO_DELIMITER, STOP_AT_DELIMITER, SKIP_VALUE or RAISE_ERROR";
            return Err(OptionError::value(key, value, accepted));
        }
    })
}

fn encoding(key: &str, value: &str) -> Result<Option<Charset>, OptionError> {
    let accepted = "UTF-8, UTF-16, UTF-16LE, UTF-16BE, ISO-8859-1, windows-1252 or another encoding of the web";
    Charset::from_name(value).ok_or_else(|| OptionError::value(key, value, accepted))
}

fn name(key: &str, value: &str) -> Result<String, OptionError> {
    if value.is_empty() { Err(OptionError::value(key, value, "a column name")) } else { Ok(value.to_owned()) }
}

fn count(key: &str, value: &str) -> Result<usize, OptionError> {
    value.parse().ok().filter(|&n| n > 0).ok_or_else(|| OptionError::value(key, value, "a number above 0"))
}

fn rows(key: &str, value: &str) -> Result<u64, OptionError> {
    value.parse().map_err(|_| OptionError::value(key, value, "a number of lines, 0 or more"))
}

fn parse_mode(key: &str, value: &str) -> Result<Mode, OptionError> {
    match value.to_ascii_uppercase().as_str() {
        "PERMISSIVE" => Ok(Mode::Permissive),
        "DROPMALFORMED" => Ok(Mode::DropMalformed),
        "FAILFAST" => Ok(Mode::FailFast),
        _ => Err(OptionError::value(key, value, "PERMISSIVE, DROPMALFORMED or FAILFAST")),
    }
}

/// `\t`, `\n`, `\r`, `\\`, `\0`, `\"` and `\'` may be written with a backslash, since SQL strings often pass it on.
fn unescaped(value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = value.bytes().peekable();
    while let Some(byte) = bytes.next() {
        let escaped = (byte == b'\\').then(|| match bytes.peek() {
            Some(b't') => Some(b'\t'),
            Some(b'n') => Some(b'\n'),
            Some(b'r') => Some(b'\r'),
            Some(b'0') => Some(0),
            Some(&other @ (b'\\' | b'"' | b'\'')) => Some(other),
            _ => None,
        });
        match escaped.flatten() {
            Some(meant) => {
                out.push(meant);
                bytes.next();
            }
            None => out.push(byte),
        }
    }
    out
}

fn character(key: &str, value: &str) -> Result<Option<u8>, OptionError> {
    match unescaped(value).as_slice() {
        [] | [0] => Ok(None),
        [byte @ 1..0x80] if !matches!(byte, b'\n' | b'\r') => Ok(Some(*byte)),
        _ => Err(OptionError::value(key, value, "one ASCII character, or '' for none")),
    }
}

fn separator(key: &str, value: &str) -> Result<Vec<u8>, OptionError> {
    let bytes = unescaped(value);
    if bytes.is_empty() || bytes.contains(&b'\n') || bytes.contains(&b'\r') {
        return Err(OptionError::value(key, value, "one or more characters other than line breaks"));
    }
    Ok(bytes)
}

fn line_separator(options: &mut FormatOptions, key: &str, value: &str) -> Result<(), OptionError> {
    let bytes = unescaped(value);
    if bytes.is_empty() {
        return Err(OptionError::value(key, value, "one or more characters"));
    }
    if options.format == Format::Csv && (bytes.len() > 1 || bytes[0] >= 0x80) {
        return Err(OptionError::value(key, value, "one ASCII character, or is left out for any of \\r, \\n, \\r\\n"));
    }
    options.line_sep = Some(bytes);
    Ok(())
}
