//! How far a stream has read a table, in the form Delta's own streams write it, and what one epoch reads.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::source::Backlog;
use crate::table::actions::PartitionValues;

/// Before the first file of a version.
pub const BEFORE_FIRST: i64 = -1;

/// Everything up to and including the file `index` of `version` has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// A commit; or, while `starting`, the version whose whole table is read first.
    pub version: u64,
    /// Number of the last file read, [`BEFORE_FIRST`] for none: among the commit's adds in the order of its file;
    /// while `starting` among the table's files by modification time and path.
    pub index: i64,
    /// The table as of `version` is being read, not that commit.
    pub starting: bool,
}

impl Position {
    /// Before everything of a commit.
    pub fn before(version: u64) -> Self {
        Position { version, index: BEFORE_FIRST, starting: false }
    }

    /// Whether a file at `other` has been read.
    pub fn covers(&self, other: &Position) -> bool {
        match (self.starting, other.starting) {
            (false, true) => true,
            (true, false) => false,
            _ => (other.version, other.index) <= (self.version, self.index),
        }
    }

    /// As Delta's streaming offset.
    pub fn to_json(self, table_id: &str) -> Value {
        json!({
            "sourceVersion": 1,
            "reservoirId": table_id,
            "reservoirVersion": self.version,
            "index": self.index,
            "isStartingVersion": self.starting,
        })
    }

    /// Position and table id of a stored offset.
    pub fn from_json(value: &Value) -> Result<(Position, String)> {
        let read = || {
            let position = Position {
                version: value["reservoirVersion"].as_u64()?,
                index: value["index"].as_i64()?,
                starting: value["isStartingVersion"].as_bool()?,
            };
            Some((position, value["reservoirId"].as_str()?.to_owned()))
        };
        match value["sourceVersion"].as_u64() {
            Some(1) => {}
            other => {
                let text =
                    format!("a stored table position has format version {other:?}; this program knows version 1");
                return Err(Error::environment("DELTA_INVALID_SOURCE_VERSION", text));
            }
        }
        read().ok_or_else(|| {
            Error::environment("CHECKPOINT_CORRUPT", format!("a stored table position cannot be read: {value}"))
        })
    }
}

/// A data file of one epoch, with all that is needed to read it again when the log has forgotten it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableFile {
    /// As in the log.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since 1970 UTC.
    pub modified_ms: i64,
    /// As in the log.
    #[serde(default, skip_serializing_if = "PartitionValues::is_empty")]
    pub partition_values: PartitionValues,
    /// As in the log: rows of the file that do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_vector: Option<Value>,
}

/// What one epoch reads of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableInput {
    /// The table's own id.
    pub table_id: String,
    /// Where the epoch starts.
    pub from: Position,
    /// Where it ends.
    pub to: Position,
    /// What lies between, in reading order.
    pub files: Vec<TableFile>,
}

impl TableInput {
    /// Files and bytes.
    pub fn size(&self) -> Backlog {
        Backlog { files: self.files.len() as u64, bytes: self.files.iter().map(|file| file.size).sum() }
    }

    /// Where the source stands once this is read; what `TableSource::open` takes.
    pub fn position(&self) -> Value {
        self.to.to_json(&self.table_id)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn positions_survive_and_order() {
        let at = Position { version: 7, index: 3, starting: true };
        assert_eq!(Position::from_json(&at.to_json("id")).unwrap(), (at, "id".to_owned()));
        let tail = |version, index| Position { version, index, starting: false };
        assert!(Position::before(8).covers(&at));
        assert!(tail(8, 2).covers(&tail(8, 2)) && !tail(8, 2).covers(&tail(8, 3)));
        assert!(Position::before(9).covers(&tail(8, 9)) && !at.covers(&tail(7, 0)));
        let newer = json!({ "sourceVersion": 3 });
        assert_eq!(Position::from_json(&newer).unwrap_err().diagnostic().code, "DELTA_INVALID_SOURCE_VERSION");
    }
}
