//! Options that cannot both be meant: the same one twice, two names of one option with different values, and options that
//! have no effect beside another. What would be ignored is refused.

use super::{Format, FormatOptions, Mistake, OptionError};

/// Two names of one option.
const SAME: [(&str, &str); 3] =
    [("sep", "delimiter"), ("encoding", "charset"), ("readerCaseSensitive", "parserCaseSensitive")];

/// Refuses the first contradiction among the options that were given.
pub(super) fn refuse(options: &FormatOptions, entries: &[(String, String)]) -> Result<(), OptionError> {
    let given = |name: &str| entries.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    let twice = |(at, (key, _)): (usize, &(String, String))| {
        entries[..at].iter().any(|(other, _)| other.eq_ignore_ascii_case(key)).then(|| key.clone())
    };
    if let Some(key) = entries.iter().enumerate().find_map(twice) {
        return Err(OptionError {
            kind: Mistake::Twice,
            message: format!("option `{key}` is there twice"),
            key,
            help: "leave one of them out".to_owned(),
        });
    }
    for (one, other) in SAME {
        if let (Some((_, a)), Some((key, b))) = (given(one), given(other))
            && a != b
        {
            return Err(contradiction(key, format!("options `{one}` and `{other}` are one, and have two values")));
        }
    }
    if let (Some((key, _)), Some(_)) = (given("mode"), &options.bad_records_path) {
        return Err(OptionError {
            kind: Mistake::Contradiction,
            key: key.clone(),
            message: "options `mode` and `badRecordsPath` exclude each other".to_owned(),
            help: "leave `mode` out: malformed records go to `badRecordsPath`".to_owned(),
        });
    }
    // A file that is one document, or one row, has no lines.
    let whole = match options.format {
        Format::Json => Some("multiLine"),
        Format::Text => Some("wholeText"),
        _ => None,
    };
    if let (Some(whole), Some((key, _)), true) = (whole, given("lineSep"), options.multi_line) {
        return Err(contradiction(key, format!("option `lineSep` has no meaning with `{whole}`: a file has no lines")));
    }
    let corrupt = given("columnNameOfCorruptRecord");
    if let (Some((key, name)), Some(rescue)) = (corrupt, &options.rescued_data_column)
        && name.eq_ignore_ascii_case(rescue)
    {
        return Err(contradiction(key, format!("options `{key}` and `rescuedDataColumn` name the same column")));
    }
    if options.json.primitives_as_string {
        let typed =
            [("prefersDecimal", options.json.prefers_decimal), ("inferTimestamp", options.json.infer_timestamp)];
        let wanted = typed.iter().filter(|(_, wanted)| *wanted).find_map(|(name, _)| given(name));
        if let Some((key, _)) = wanted {
            return Err(contradiction(key, format!("option `{key}` has no meaning with `primitivesAsString`")));
        }
    }
    Ok(())
}

fn contradiction(key: &str, message: String) -> OptionError {
    OptionError {
        kind: Mistake::Contradiction,
        key: key.to_owned(),
        message,
        help: format!("leave `{key}` or the other out"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_both_be_meant_is_refused() {
        let kind = |format, entries: &[(&str, &str)]| {
            let entries: Vec<_> = entries.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            FormatOptions::parse(format, &entries, true, true).map_err(|error| error.kind).err()
        };
        let contradiction = Some(Mistake::Contradiction);
        assert_eq!(kind(Format::Csv, &[("sep", ";"), ("SEP", ";")]), Some(Mistake::Twice));
        assert_eq!(kind(Format::Csv, &[("sep", ";"), ("delimiter", ",")]), contradiction);
        assert_eq!(kind(Format::Csv, &[("sep", ";"), ("delimiter", ";")]), None);
        assert_eq!(kind(Format::Json, &[("encoding", "UTF-16"), ("charset", "UTF-8")]), contradiction);
        assert_eq!(kind(Format::Json, &[("multiLine", "true"), ("lineSep", "|")]), contradiction);
        assert_eq!(kind(Format::Json, &[("multiLine", "false"), ("lineSep", "|")]), None);
        assert_eq!(kind(Format::Csv, &[("multiLine", "true"), ("lineSep", "|")]), None);
        assert_eq!(kind(Format::Text, &[("wholeText", "true"), ("lineSep", "|")]), contradiction);
        assert_eq!(kind(Format::Json, &[("columnNameOfCorruptRecord", "_rescued_data")]), contradiction);
        assert_eq!(kind(Format::Json, &[("primitivesAsString", "true"), ("inferTimestamp", "true")]), contradiction);
        assert_eq!(kind(Format::Json, &[("badRecordsPath", "/b"), ("mode", "PERMISSIVE")]), contradiction);
    }
}
