//! Properties of tables whose names begin with `delta.`: they are those that Delta Lake knows, whatever case they are written in,
//! and have values that it takes. What nobody would act on is refused where it is typed.

use alluvium_parser::{Diagnostic, OptionEntry};
use alluvium_planner::near::nearest;

use crate::error::Result;

/// What a property takes.
#[derive(Clone, Copy)]
enum Takes {
    TrueOrFalse,
    /// A whole number that is not less.
    NumberFrom(i64),
    /// An interval without months: `interval 7 days`.
    Length,
    OneOf(&'static [&'static str]),
    Anything,
}

use Takes::{Anything, Length, NumberFrom, OneOf, TrueOrFalse};

/// The properties that Delta Lake 4 knows, as it spells them.
const KNOWN: [(&str, Takes); 43] = [
    ("delta.appendOnly", TrueOrFalse),
    ("delta.autoOptimize", TrueOrFalse),
    ("delta.autoOptimize.autoCompact", OneOf(&["true", "false", "auto", "legacy"])),
    ("delta.autoOptimize.optimizeWrite", TrueOrFalse),
    ("delta.castIcebergTimeType", TrueOrFalse),
    ("delta.checkpoint.writeStatsAsJson", TrueOrFalse),
    ("delta.checkpoint.writeStatsAsStruct", TrueOrFalse),
    ("delta.checkpointInterval", NumberFrom(1)),
    ("delta.checkpointPolicy", OneOf(&["classic", "v2"])),
    ("delta.checkpointRetentionDuration", Length),
    ("delta.columnMapping.maxColumnId", NumberFrom(0)),
    ("delta.columnMapping.mode", OneOf(&["none", "id", "name"])),
    ("delta.compatibility.symlinkFormatManifest.enabled", TrueOrFalse),
    ("delta.dataSkippingNumIndexedCols", NumberFrom(-1)),
    ("delta.dataSkippingStatsColumns", Anything),
    ("delta.deletedFileRetentionDuration", Length),
    ("delta.dropFeatureTruncateHistory.retentionDuration", Length),
    ("delta.enableChangeDataFeed", TrueOrFalse),
    ("delta.enableDeletionVectors", TrueOrFalse),
    ("delta.enableExpiredLogCleanup", TrueOrFalse),
    ("delta.enableFullRetentionRollback", TrueOrFalse),
    ("delta.enableIcebergCompatV1", TrueOrFalse),
    ("delta.enableIcebergCompatV2", TrueOrFalse),
    ("delta.enableIcebergCompatV3", TrueOrFalse),
    ("delta.enableInCommitTimestamps", TrueOrFalse),
    ("delta.enableRowTracking", TrueOrFalse),
    ("delta.enableTypeWidening", TrueOrFalse),
    ("delta.enableVariantShredding", TrueOrFalse),
    ("delta.ignoreProtocolDefaults", TrueOrFalse),
    ("delta.inCommitTimestampEnablementTimestamp", NumberFrom(0)),
    ("delta.inCommitTimestampEnablementVersion", NumberFrom(0)),
    ("delta.isolationLevel", OneOf(&["Serializable", "WriteSerializable", "SnapshotIsolation"])),
    ("delta.logRetentionDuration", Length),
    ("delta.minReaderVersion", NumberFrom(1)),
    ("delta.minWriterVersion", NumberFrom(1)),
    ("delta.randomizeFilePrefixes", TrueOrFalse),
    ("delta.randomPrefixLength", NumberFrom(1)),
    ("delta.requireCheckpointProtectionBeforeVersion", NumberFrom(0)),
    ("delta.rowTrackingSuspended", TrueOrFalse),
    ("delta.sampleRetentionDuration", Length),
    ("delta.setTransactionRetentionDuration", Length),
    ("delta.targetFileSize", Anything),
    ("delta.tuneFileSizesForRewrites", TrueOrFalse),
];

/// Families of properties whose members are taken as they are written.
const OPEN: [&str; 6] = [
    "delta.constraints.",
    "delta.coordinatedCommits.",
    "delta.feature.",
    "delta.parquet.",
    "delta.rowTracking.",
    "delta.universalFormat.",
];

fn known(name: &str) -> Option<&'static (&'static str, Takes)> {
    KNOWN.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))
}

/// A property's name as Delta Lake spells it.
pub(super) fn spelled(name: &str) -> String {
    known(name).map_or(name, |(known, _)| known).to_string()
}

/// Refuses names and values that Delta Lake does not have.
pub(super) fn check(entries: &[OptionEntry]) -> Result<()> {
    for entry in entries {
        let (key, value) = (&entry.key.value, entry.value.value.trim());
        let lower = key.to_ascii_lowercase();
        if !lower.starts_with("delta.") || OPEN.iter().any(|open| lower.starts_with(&open.to_ascii_lowercase())) {
            continue;
        }
        let Some((name, takes)) = known(key) else {
            let unknown = Diagnostic::new("UNKNOWN_OPTION", format!("Delta Lake has no table property `{key}`"));
            let help = match nearest(key, KNOWN.iter().map(|(name, _)| *name)) {
                Some(other) => format!("did you mean `{other}`?"),
                None => "leave it out, or give it a name that does not begin with `delta.`".to_string(),
            };
            return Err(unknown.at(entry.key.span).help(help).into());
        };
        let one_of = |all: &[&str]| all.iter().any(|one| one.eq_ignore_ascii_case(value));
        let (fits, wanted) = match takes {
            TrueOrFalse => (one_of(&["true", "false"]), "`true` or `false`".to_string()),
            NumberFrom(least) => {
                let fits = value.parse::<i64>().is_ok_and(|number| number >= *least);
                (fits, format!("a whole number from {least} on"))
            }
            Length => (is_length(value), "an interval such as `interval 7 days`".to_string()),
            OneOf(all) => (one_of(all), format!("one of `{}`", all.join("`, `"))),
            Anything => (true, String::new()),
        };
        if !fits {
            return Err(Diagnostic::new("INVALID_OPTION", format!("table property `{name}` cannot be `{value}`"))
                .at(entry.value.span)
                .help(format!("it takes {wanted}"))
                .into());
        }
    }
    Ok(())
}

/// `interval 7 days`, `7 days 12 hours`.
fn is_length(text: &str) -> bool {
    let lower = text.to_lowercase();
    let mut words = lower.split_whitespace().skip_while(|word| *word == "interval").peekable();
    let some = words.peek().is_some();
    while let Some(number) = words.next() {
        let unit = words.next().unwrap_or_default();
        let unit = unit.strip_suffix('s').unwrap_or(unit);
        let units = ["week", "day", "hour", "minute", "second", "millisecond", "microsecond"];
        if number.parse::<u32>().is_err() || !units.contains(&unit) {
            return false;
        }
    }
    some
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use alluvium_parser::{Span, Text};

    use super::*;

    #[test]
    fn names_in_any_case_and_values_that_delta_takes() {
        let text = |value: &str| Text { value: value.to_string(), span: Span::UNKNOWN };
        let code = |key: &str, value: &str| {
            let checked = check(&[OptionEntry { key: text(key), value: text(value) }]);
            checked.map_err(|error| error.diagnostic().code).err().unwrap_or("ok")
        };
        assert_eq!(code("delta.ENABLEdeletionvectors", "TRUE"), "ok");
        assert_eq!(spelled("delta.ENABLEdeletionvectors"), "delta.enableDeletionVectors");
        assert_eq!(code("delta.enableDeletionVectors", "maybe"), "INVALID_OPTION");
        assert_eq!(code("delta.enableDeletionVector", "true"), "UNKNOWN_OPTION");
        assert_eq!(code("delta.constraints.positive", "x > 0"), "ok");
        assert_eq!(code("owner", "maybe"), "ok");
        assert_eq!(code("delta.checkpointInterval", "0"), "INVALID_OPTION");
        assert_eq!(code("delta.dataSkippingNumIndexedCols", "-1"), "ok");
        for (value, expected) in [
            ("interval 7 days", "ok"),
            ("30 days 12 hours", "ok"),
            ("interval 1 month", "INVALID_OPTION"),
            ("", "INVALID_OPTION"),
        ] {
            assert_eq!(code("delta.logRetentionDuration", value), expected, "{value}");
        }
        let sorted = KNOWN.map(|(name, _)| name.to_lowercase());
        assert!(sorted.is_sorted());
    }
}
