//! Dates and timestamps of an old calendar: Spark before 3.0 wrote days before 1582-10-15 by the Julian calendar, and
//! instants before 1900 by offsets that time zones did not have then.
//!
//! A file that names the Spark that wrote it tells by that which calendar it has; of others `datetimeRebaseMode` and
//! `int96RebaseMode` say it. Rebasing keeps what calendar and clock showed: 1582-10-04 stays 1582-10-04.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray};
use arrow::datatypes::{DataType, Date32Type, Fields, TimestampMicrosecondType};
use arrow::error::ArrowError;

use crate::options::FormatOptions;
use crate::scalar;
use crate::zone::Zone;

/// 1582-10-15, the first day of the Gregorian calendar, in days since 1970-01-01.
const GREGORIAN_DAY: i32 = -141_427;

/// 1900-01-01 00:00 UTC: from here on nothing differs in any zone.
const SAME_MICROS: i64 = -2_208_988_800_000_000;

const DAY_MICROS: i64 = 86_400_000_000;

/// How old dates and timestamps are read, where the file does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RebaseMode {
    /// As they stand.
    #[default]
    Corrected,
    /// From the calendar that Spark had before 3.0.
    Legacy,
    /// Not: such a file is refused.
    Exception,
}

/// What becomes of the values of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Keep,
    Refuse(&'static str),
    /// The zone is that in which timestamps were written.
    Rebase(Zone),
}

/// What a file tells of its calendars.
#[derive(Debug, Default)]
pub(crate) struct Calendars {
    /// The texts that its writer put into the file, by key.
    pub said: HashMap<String, String>,
    /// For each column, which of its leaves are 96-bit timestamps; empty if there are none.
    pub int96: Vec<Vec<bool>>,
}

const VERSION: &str = "org.apache.spark.version";
const ZONE: &str = "org.apache.spark.timeZone";

impl Calendars {
    /// The rule for values that Spark writes right from `version` on, unless the file has `legacy`.
    fn rule(
        &self,
        mode: RebaseMode,
        option: &'static str,
        version: (u32, u32),
        legacy: &str,
        session: Option<Zone>,
    ) -> Rule {
        let mode = match self.said.get(VERSION).and_then(|text| major_minor(text)) {
            Some(wrote) if wrote < version || self.said.contains_key(legacy) => RebaseMode::Legacy,
            Some(_) => RebaseMode::Corrected,
            None => mode,
        };
        match mode {
            RebaseMode::Corrected => Rule::Keep,
            RebaseMode::Exception => Rule::Refuse(option),
            RebaseMode::Legacy => {
                let zone = self.said.get(ZONE).and_then(|name| Zone::from_name(name)).or(session);
                Rule::Rebase(zone.unwrap_or(Zone::UTC))
            }
        }
    }

    /// What becomes of the columns `places`, whose types are `types`.
    pub fn rebasing(&self, options: &FormatOptions, places: &[usize], types: &Fields) -> Rebasing {
        let zone = options.time_zone;
        let usual = "org.apache.spark.legacyDateTime";
        let usual = self.rule(options.datetime_rebase, "datetimeRebaseMode", (3, 0), usual, zone);
        let int96 = self.rule(options.int96_rebase, "int96RebaseMode", (3, 1), "org.apache.spark.legacyINT96", zone);
        let column = |(&place, field): (&usize, &Arc<arrow::datatypes::Field>)| {
            let none = Vec::new();
            let mut leaves = self.int96.get(place).unwrap_or(&none).iter();
            plan(field.data_type(), usual, int96, &mut leaves)
        };
        Rebasing(places.iter().zip(types).map(column).collect())
    }
}

/// `3.5` of `3.5.1` and `4.0.0-SNAPSHOT`.
fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.trim().parse().ok()?, parts.next()?.parse().ok()?))
}

/// What becomes of a column.
#[derive(Debug, PartialEq)]
enum Plan {
    Keep,
    Days(Rule),
    Micros(Rule),
    Inside(Vec<Plan>),
}

fn plan(data_type: &DataType, usual: Rule, int96: Rule, leaves: &mut std::slice::Iter<'_, bool>) -> Plan {
    let mut all = |types: Vec<&DataType>| {
        let plans: Vec<Plan> = types.into_iter().map(|inner| plan(inner, usual, int96, leaves)).collect();
        if plans.iter().all(|plan| *plan == Plan::Keep) { Plan::Keep } else { Plan::Inside(plans) }
    };
    match data_type {
        DataType::Struct(fields) => all(fields.iter().map(|field| field.data_type()).collect()),
        DataType::List(item) => all(vec![item.data_type()]),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) => all(pair.iter().map(|field| field.data_type()).collect()),
            _ => Plan::Keep,
        },
        leaf => {
            let rule = if leaves.next().copied().unwrap_or(false) { int96 } else { usual };
            match leaf {
                _ if rule == Rule::Keep => Plan::Keep,
                DataType::Date32 => Plan::Days(rule),
                // The local clock has no zone; Spark wrote it by the new calendar from the start.
                DataType::Timestamp(_, Some(_)) => Plan::Micros(rule),
                _ => Plan::Keep,
            }
        }
    }
}

/// What becomes of the columns of a file.
#[derive(Debug)]
pub(crate) struct Rebasing(Vec<Plan>);

impl Rebasing {
    /// The columns, in their types that tables have, with dates and timestamps of the calendar that tables have.
    pub fn apply(&self, columns: Vec<ArrayRef>) -> Result<Vec<ArrayRef>, ArrowError> {
        if self.0.iter().all(|plan| *plan == Plan::Keep) {
            return Ok(columns);
        }
        columns.iter().zip(&self.0).map(|(column, plan)| plan.apply(column)).collect()
    }
}

impl Plan {
    fn apply(&self, array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        match (self, array.data_type()) {
            (Plan::Days(rule), DataType::Date32) => {
                let days = array.as_primitive::<Date32Type>();
                match rule {
                    Rule::Keep => {}
                    Rule::Refuse(option) if days.iter().flatten().any(|day| day < GREGORIAN_DAY) => {
                        return Err(refusal(option, "dates before 1582-10-15"));
                    }
                    Rule::Refuse(_) => {}
                    Rule::Rebase(_) => return Ok(Arc::new(days.unary::<_, Date32Type>(day_of_julian))),
                }
                Ok(array.clone())
            }
            (Plan::Micros(rule), DataType::Timestamp(_, zone)) => {
                let micros = array.as_primitive::<TimestampMicrosecondType>();
                match rule {
                    Rule::Keep => {}
                    Rule::Refuse(option) if micros.iter().flatten().any(|micros| micros < SAME_MICROS) => {
                        return Err(refusal(option, "timestamps before 1900-01-01"));
                    }
                    Rule::Refuse(_) => {}
                    Rule::Rebase(written) => {
                        let offset = written.standard_offset();
                        let moved = micros.unary::<_, TimestampMicrosecondType>(|at| instant_of(at, *written, offset));
                        return Ok(Arc::new(moved.with_timezone_opt(zone.clone())));
                    }
                }
                Ok(array.clone())
            }
            (Plan::Inside(plans), DataType::Struct(fields)) => {
                let source = array.as_struct();
                let children = source.columns().iter().zip(plans).map(|(child, plan)| plan.apply(child));
                let children = children.collect::<Result<Vec<_>, _>>()?;
                let nulls = source.nulls().cloned();
                Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), children, nulls, source.len())?))
            }
            (Plan::Inside(plans), DataType::List(item)) => {
                let source = array.as_list::<i32>();
                let Some(plan) = plans.first() else { return Ok(array.clone()) };
                let (offsets, nulls) = (source.offsets().clone(), source.nulls().cloned());
                Ok(Arc::new(ListArray::try_new(item.clone(), offsets, plan.apply(source.values())?, nulls)?))
            }
            (Plan::Inside(plans), DataType::Map(entries, sorted)) => {
                let source = array.as_map();
                let (DataType::Struct(pair), [key, value]) = (entries.data_type(), &plans[..]) else {
                    return Ok(array.clone());
                };
                let columns = vec![key.apply(source.keys())?, value.apply(source.values())?];
                let inner = StructArray::try_new(pair.clone(), columns, None)?;
                let (offsets, nulls) = (source.offsets().clone(), source.nulls().cloned());
                Ok(Arc::new(MapArray::try_new(entries.clone(), offsets, inner, nulls, *sorted)?))
            }
            _ => Ok(array.clone()),
        }
    }
}

fn refusal(option: &str, what: &str) -> ArrowError {
    ArrowError::InvalidArgumentError(format!(
        "it has {what} and does not tell by which calendar ({option} EXCEPTION); LEGACY reads what Spark wrote before \
         3.0, CORRECTED takes them as they stand"
    ))
}

/// The day of the Gregorian calendar, continued backwards, that has the name of a day of the calendar which is Julian before
/// 1582-10-15. A 29 February that there is in the Julian calendar only is the day before 1 March, plus one.
fn day_of_julian(day: i32) -> i32 {
    if day >= GREGORIAN_DAY {
        return day;
    }
    // Julian years of four years' cycles, beginning in March; 719,470 days from 1 March of year 0 to 1970-01-01.
    let since = i64::from(day) + 719_470;
    let year = (4 * since + 3).div_euclid(1_461);
    let of_year = since - (1_461 * year).div_euclid(4);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    let first = scalar::days(year, month, 1).unwrap_or(i64::from(day) - of_month);
    i32::try_from(first + of_month).unwrap_or(day)
}

/// The instant at which calendar and clock of the zone show what they showed by Spark's old reckoning: the Julian
/// calendar, and the zone's offset of today at all times before 1900.
fn instant_of(micros: i64, zone: Zone, offset_seconds: i64) -> i64 {
    if micros >= SAME_MICROS {
        return micros;
    }
    let Some(local) = micros.checked_add(offset_seconds * 1_000_000) else { return micros };
    let (day, within) = (local.div_euclid(DAY_MICROS), local.rem_euclid(DAY_MICROS));
    let Ok(day) = i32::try_from(day) else { return micros };
    let local = i64::from(day_of_julian(day)).checked_mul(DAY_MICROS).and_then(|day| day.checked_add(within));
    local.and_then(|local| zone.instant(local)).unwrap_or(micros)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use arrow::array::{Date32Array, TimestampMicrosecondArray};
    use arrow::datatypes::{Field, TimeUnit};

    use super::*;

    /// The days from which on Julian and Gregorian differ by so much, as Spark has them.
    #[test]
    fn days_move_by_the_difference_of_the_calendars() {
        let switches = [
            (-719_164, 2),
            (-682_945, 1),
            (-646_420, 0),
            (-609_895, -1),
            (-536_845, -2),
            (-500_320, -3),
            (-463_795, -4),
            (-390_745, -5),
            (-354_220, -6),
            (-317_695, -7),
            (-244_645, -8),
            (-208_120, -9),
            (-171_595, -10),
            (-141_427, 0),
        ];
        for pair in switches.windows(2) {
            let ((from, moved), (to, _)) = (pair[0], pair[1]);
            for day in [from, from + 1, (from + to) / 2, to - 1] {
                assert_eq!(day_of_julian(day), day + moved, "{day}");
            }
        }
        assert_eq!(day_of_julian(-141_427), -141_427);
        assert_eq!(day_of_julian(20_000), 20_000);
    }

    #[test]
    fn what_the_clock_showed_stays() {
        let micros = |text: &str| scalar::local_timestamp(text.as_bytes()).unwrap().0;
        // 1582-10-04 is ten days behind in the Gregorian calendar.
        let julian = micros("1582-10-14 12:34:56.5");
        assert_eq!(instant_of(julian, Zone::UTC, 0), micros("1582-10-04 12:34:56.5"));
        assert_eq!(instant_of(micros("1900-01-01 00:00:00"), Zone::UTC, 0), micros("1900-01-01 00:00:00"));
        // Los Angeles was 7:52:58 behind Greenwich until 1883, not eight hours.
        let angeles = Zone::from_name("America/Los_Angeles").unwrap();
        assert_eq!(angeles.standard_offset(), -8 * 3_600);
        let written = micros("1850-01-01 08:00:00");
        assert_eq!(instant_of(written, angeles, angeles.standard_offset()), micros("1850-01-01 07:52:58"));
        assert_eq!(Zone::from_name("Europe/Berlin").unwrap().standard_offset(), 3_600);
    }

    #[test]
    fn files_tell_or_the_mode_does() {
        let said = |entries: &[(&str, &str)]| Calendars {
            said: entries.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            int96: vec![vec![false], vec![true]],
        };
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let types = Fields::from(vec![Field::new("d", DataType::Date32, true), Field::new("t", time, true)]);
        let mut options = FormatOptions::new(crate::Format::Parquet, true, true);
        let rebased = |calendars: &Calendars, options: &FormatOptions| -> Result<(i32, i64), String> {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Date32Array::from(vec![-141_428])),
                Arc::new(TimestampMicrosecondArray::from(vec![-141_428 * DAY_MICROS]).with_timezone("UTC")),
            ];
            let out = calendars.rebasing(options, &[0, 1], &types).apply(columns).map_err(|e| e.to_string())?;
            let (day, micros) =
                (out[0].as_primitive::<Date32Type>(), out[1].as_primitive::<TimestampMicrosecondType>());
            Ok((day.value(0), micros.value(0) / DAY_MICROS))
        };
        let (kept, moved) = (-141_428, -141_438);
        assert_eq!(rebased(&said(&[]), &options), Ok((kept, i64::from(kept))));
        assert_eq!(rebased(&said(&[(VERSION, "2.4.8")]), &options), Ok((moved, i64::from(moved))));
        assert_eq!(rebased(&said(&[(VERSION, "3.0.1")]), &options), Ok((kept, i64::from(moved))));
        let legacy = [(VERSION, "3.5.1"), ("org.apache.spark.legacyDateTime", "")];
        assert_eq!(rebased(&said(&legacy), &options), Ok((moved, i64::from(kept))));
        options.datetime_rebase = RebaseMode::Legacy;
        assert_eq!(rebased(&said(&[]), &options), Ok((moved, i64::from(kept))));
        assert_eq!(rebased(&said(&[(VERSION, "4.0.0")]), &options), Ok((kept, i64::from(kept))));
        options.int96_rebase = RebaseMode::Exception;
        assert!(rebased(&said(&[]), &options).unwrap_err().contains("int96RebaseMode EXCEPTION"));
    }
}
