//! Fields that no column has, and values that outgrow a column's type: noticing them while files are read, and the schema
//! that has room for them.
//!
//! New columns come last, at every level; known columns keep name and place, and their type unless it may be widened. Knows nothing of how a stream goes
//! on afterwards.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alluvium_formats::wider_type;
use alluvium_parser::Diagnostic;
use alluvium_planner::ddl::sql_type;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};

use crate::error::{Error, Result};

/// So many names stand in a message.
const NAMES_MAX: usize = 10;

/// Looks at the fields that readers could not place. Shared by all partitions of a run.
#[derive(Debug)]
pub struct UnknownFields {
    /// Dotted paths of all columns in lower case: another spelling of one is no new column.
    known: Arc<HashSet<String>>,
    /// They are let through: nothing can be learnt from them.
    pass: AtomicBool,
    met: Mutex<Vec<Met>>,
}

/// What one file had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met {
    /// The file.
    pub path: String,
    /// Dotted names of fields without a column.
    pub fields: Vec<String>,
    /// Dotted names of columns that values outgrew.
    pub outgrown: Vec<String>,
}

impl UnknownFields {
    /// For columns of `schema`; fields called like one of `others` are no columns either.
    pub fn new<'n>(schema: &Schema, others: impl IntoIterator<Item = &'n str>) -> UnknownFields {
        let mut known = HashSet::new();
        paths(schema.fields(), "", &mut known);
        known.extend(others.into_iter().map(str::to_lowercase));
        UnknownFields { known: Arc::new(known), pass: AtomicBool::new(false), met: Mutex::default() }
    }

    /// The same, which has met nothing yet and lets nothing through.
    pub fn unmet(&self) -> UnknownFields {
        UnknownFields { known: self.known.clone(), pass: AtomicBool::new(false), met: Mutex::default() }
    }

    /// Fails if `unmatched`, found in the file `path`, has a field that is not just another spelling, or if values
    /// there outgrew columns.
    pub fn look(&self, path: &str, unmatched: &[String], outgrown: Vec<String>) -> Result<()> {
        if unmatched.is_empty() && outgrown.is_empty() || self.pass.load(Ordering::Relaxed) {
            return Ok(());
        }
        let new = |name: &&String| !self.known.contains(&name.to_lowercase());
        let fields: Vec<String> = unmatched.iter().filter(new).cloned().collect();
        if fields.is_empty() && outgrown.is_empty() {
            return Ok(());
        }
        let met = Met { path: path.to_owned(), fields, outgrown };
        let error = met.error();
        self.lock().push(met);
        Err(error)
    }

    /// What was met since the last call.
    pub fn take(&self) -> Vec<Met> {
        std::mem::take(&mut self.lock())
    }

    /// Lets everything through, or looks again.
    pub fn pass(&self, pass: bool) {
        self.pass.store(pass, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Met>> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Met {
    /// As an error that ends the stream.
    pub fn error(&self) -> Error {
        let (what, all) = match self.fields.is_empty() {
            true => ("values that their columns are too narrow for", &self.outgrown),
            false => ("fields without a column", &self.fields),
        };
        let names: Vec<String> = all.iter().take(NAMES_MAX).map(|name| format!("`{name}`")).collect();
        let more = match all.len().saturating_sub(NAMES_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Diagnostic::new(
            "UNKNOWN_FIELD_EXCEPTION",
            format!("file `{}` has {what}: {}{more}", self.path, names.join(", ")),
        )
        .help("give the columns by `schema` or schemaHints in CREATE OR REFRESH, or take the file away")
        .help("schemaEvolutionMode `addNewColumns` makes them columns, `rescue` puts them into the rescue column")
        .into()
    }
}

fn paths(fields: &Fields, prefix: &str, known: &mut HashSet<String>) {
    for field in fields {
        let path = format!("{prefix}{}", field.name().to_lowercase());
        inner_paths(field.data_type(), &path, known);
        known.insert(path);
    }
}

fn inner_paths(data_type: &DataType, path: &str, known: &mut HashSet<String>) {
    match data_type {
        DataType::Struct(fields) => paths(fields, &format!("{path}."), known),
        DataType::List(item) => inner_paths(item.data_type(), &format!("{path}.element"), known),
        DataType::Map(entries, _) => {
            if let DataType::Struct(pair) = entries.data_type()
                && let Some(value) = pair.get(1)
            {
                inner_paths(value.data_type(), &format!("{path}.value"), known);
            }
        }
        _ => {}
    }
}

/// Which known columns get a wider type where what was learnt of them asks for one ([`wider_type`]).
#[derive(Debug, Clone, Copy)]
pub enum Widen<'w> {
    /// None.
    Never,
    /// Those that values outgrew, by dotted paths of fields in lower case.
    Outgrown(&'w HashSet<String>),
    /// All.
    All,
}

/// `known` with what only `learnt` has behind it, at every level, and with the wider types that `widen` allows; and what
/// that is, as `a.b BIGINT` and `c BIGINT (was INT)`.
pub fn merge(known: &Schema, learnt: &Schema, widen: Widen<'_>) -> (Schema, Vec<String>) {
    let mut merging = Merging { widen, added: Vec::new() };
    let fields = merging.fields(known.fields(), learnt.fields(), "");
    (Schema::new(fields), merging.added)
}

/// What `after` has and `before` has not, as `a.b BIGINT`, and what became wider.
pub fn added(before: &Schema, after: &Schema) -> Vec<String> {
    merge(before, after, Widen::All).1
}

/// Whether a column of type `before` is one of type `after` when it gets more fields or wider types, or nothing new.
pub fn grows_into(before: &DataType, after: &DataType) -> bool {
    let mut merging = Merging { widen: Widen::All, added: Vec::new() };
    merging.types(before, after, "") == *after
}

/// `columns` with the wider types that columns of the same names have in `stored`.
pub fn widened(columns: &Schema, stored: &Schema) -> Schema {
    // Hints only add to what is stored, so nothing comes behind the columns here.
    merge(columns, stored, Widen::All).0
}

struct Merging<'w> {
    widen: Widen<'w>,
    added: Vec<String>,
}

impl Merging<'_> {
    fn fields(&mut self, known: &Fields, learnt: &Fields, prefix: &str) -> Fields {
        let mut fields: Vec<FieldRef> = known.iter().cloned().collect();
        for field in learnt {
            let exact = fields.iter().position(|other| other.name() == field.name());
            let at = exact.or_else(|| {
                let lower = field.name().to_lowercase();
                fields.iter().position(|other| other.name().to_lowercase() == lower)
            });
            match at {
                Some(at) => {
                    let path = format!("{prefix}{}", fields[at].name());
                    let merged = self.types(fields[at].data_type(), field.data_type(), &path);
                    if merged != *fields[at].data_type() {
                        fields[at] = Arc::new(fields[at].as_ref().clone().with_data_type(merged));
                    }
                }
                None => {
                    self.added.push(format!("{prefix}{} {}", field.name(), sql_type(field.data_type())));
                    fields.push(Arc::new(field.as_ref().clone().with_nullable(true)));
                }
            }
        }
        fields.into()
    }

    fn types(&mut self, known: &DataType, learnt: &DataType, path: &str) -> DataType {
        match (known, learnt) {
            (DataType::Struct(known), DataType::Struct(learnt)) => {
                DataType::Struct(self.fields(known, learnt, &format!("{path}.")))
            }
            (DataType::List(known), DataType::List(learnt)) => {
                DataType::List(self.inner(known, learnt.data_type(), path))
            }
            (DataType::Map(entries, sorted), DataType::Map(learnt, _)) => {
                let (DataType::Struct(pair), DataType::Struct(new)) = (entries.data_type(), learnt.data_type()) else {
                    return known.clone();
                };
                let ([key, value], [_, new_value]) = (&pair[..], &new[..]) else { return known.clone() };
                map_of(entries, key, self.inner(value, new_value.data_type(), path), *sorted)
            }
            // Objects are learnt as structs; where the column is a map their values are its values.
            (DataType::Map(entries, sorted), DataType::Struct(learnt)) => {
                let DataType::Struct(pair) = entries.data_type() else { return known.clone() };
                let [key, value] = &pair[..] else { return known.clone() };
                let value =
                    learnt.iter().fold(value.clone(), |value, field| self.inner(&value, field.data_type(), path));
                map_of(entries, key, value, *sorted)
            }
            _ => self.wider(known, learnt, path).unwrap_or_else(|| known.clone()),
        }
    }

    fn inner(&mut self, item: &FieldRef, learnt: &DataType, path: &str) -> FieldRef {
        Arc::new(item.as_ref().clone().with_data_type(self.types(item.data_type(), learnt, path)))
    }

    fn wider(&mut self, known: &DataType, learnt: &DataType, path: &str) -> Option<DataType> {
        let allowed = match self.widen {
            Widen::Never => false,
            Widen::Outgrown(paths) => paths.contains(&path.to_lowercase()),
            Widen::All => true,
        };
        let wider = wider_type(known, learnt).filter(|_| allowed)?;
        self.added.push(format!("{path} {} (was {})", sql_type(&wider), sql_type(known)));
        Some(wider)
    }
}

fn map_of(entries: &Field, key: &FieldRef, value: FieldRef, sorted: bool) -> DataType {
    let pair = DataType::Struct(vec![key.clone(), value].into());
    DataType::Map(Arc::new(entries.clone().with_data_type(pair)), sorted)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use alluvium_planner::ddl::parse_ddl;

    use super::*;

    fn ddl(text: &str) -> Schema {
        parse_ddl(text).unwrap()
    }

    #[test]
    fn new_fields_come_last_and_types_stay() {
        let known = ddl("id BIGINT, s STRUCT<a: INT>, l ARRAY<STRUCT<x: INT>>, m MAP<STRING, STRUCT<v: INT>>");
        let learnt = ddl(
            "extra STRING, ID STRING, s STRUCT<b: DOUBLE, a: STRING>, l ARRAY<STRUCT<y: DATE, x: INT>>, m STRUCT<k: STRUCT<w: INT>>",
        );
        let (merged, added) = merge(&known, &learnt, Widen::Never);
        let wanted = ddl(
            "id BIGINT, s STRUCT<a: INT, b: DOUBLE>, l ARRAY<STRUCT<x: INT, y: DATE>>, m MAP<STRING, STRUCT<v: INT, w: INT>>, extra STRING",
        );
        assert_eq!(merged, wanted);
        assert_eq!(added, ["extra STRING", "s.b DOUBLE", "l.y DATE", "m.w INT"]);
        assert_eq!(merge(&merged, &learnt, Widen::Never), (wanted, vec![]));
    }

    #[test]
    fn types_are_widened_where_values_outgrew_them() {
        let known = ddl("a INT, b INT, s STRUCT<x: BIGINT>, l ARRAY<INT>, m MAP<STRING, DECIMAL(3,1)>, t STRING");
        let learnt = ddl("A BIGINT, b BIGINT, s STRUCT<x: DECIMAL(2,1)>, l ARRAY<BIGINT>, m STRUCT<k: BIGINT>, t INT");
        let paths = ["a", "s.x", "l", "m", "t"].map(str::to_owned).into();
        let (merged, added) = merge(&known, &learnt, Widen::Outgrown(&paths));
        let wanted =
            ddl("a BIGINT, b INT, s STRUCT<x: DECIMAL(21,1)>, l ARRAY<BIGINT>, m MAP<STRING, DECIMAL(21,1)>, t STRING");
        assert_eq!(merged, wanted);
        assert_eq!(
            added,
            [
                "a BIGINT (was INT)",
                "s.x DECIMAL(21,1) (was BIGINT)",
                "l BIGINT (was INT)",
                "m DECIMAL(21,1) (was DECIMAL(3,1))"
            ]
        );
        assert_eq!(widened(&ddl("a INT, u DATE"), &ddl("a BIGINT, u TIMESTAMP")), ddl("a BIGINT, u DATE"));
    }

    #[test]
    fn other_spellings_and_reserved_names_are_not_new() {
        let unknown = UnknownFields::new(&ddl("id INT, s STRUCT<a: INT>, l ARRAY<STRUCT<x: INT>>"), ["_rescued_data"]);
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        unknown.look("f", &names(&["ID", "S.A", "l.element.X", "_Rescued_Data"]), vec![]).unwrap();
        assert!(unknown.take().is_empty());
        let error = unknown.look("f", &names(&["Id", "s.b", "new"]), vec![]).unwrap_err().diagnostic();
        assert!(error.message.contains("`s.b`, `new`") && !error.message.contains("`Id`"), "{error:?}");
        assert_eq!(unknown.take(), [Met { path: "f".into(), fields: names(&["s.b", "new"]), outgrown: vec![] }]);
        unknown.pass(true);
        unknown.look("f", &names(&["new"]), names(&["id"])).unwrap();
        unknown.pass(false);
        let error = unknown.look("f", &[], names(&["id"])).unwrap_err().diagnostic();
        assert!(error.message.contains("too narrow for: `id`"), "{error:?}");
    }
}
