//! What the numbers in the index mean: the target's data files, as the last epoch left them.
//!
//! A number outlives its file. When a file is written again without its dead rows, its successor keeps the number, and the
//! rows keep theirs: the numbers that are `gone` are remembered, and the place of a row in the file is its number less the
//! gone ones before it. So rewriting moves nothing in the index. Only merging small files gives rows new numbers.

use roaring::{RoaringBitmap, RoaringTreemap};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::table::actions::AddFile;
use crate::table::deletion::Descriptor;

/// A data file of the target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndexedFile {
    /// As the table has it, with statistics.
    pub add: AddFile,
    /// Rows in the file.
    pub rows: u64,
    /// Those that no longer count.
    pub dead: u64,
    /// Whether numbers of rows are gone.
    pub gone: bool,
}

impl IndexedFile {
    /// Rows that count.
    #[cfg(test)]
    pub fn live(&self) -> u64 {
        self.rows.saturating_sub(self.dead)
    }

    /// The add of the same file with these dead rows. Its bounds are then no longer tight, and say so.
    pub fn with_dead(&self, vector: &Descriptor) -> Result<IndexedFile> {
        let mut stats: serde_json::Map<String, serde_json::Value> =
            self.add.stats.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        stats.insert("numRecords".into(), self.rows.into());
        stats.insert("tightBounds".into(), false.into());
        let stats = serde_json::to_string(&stats).map_err(|error| Error::internal(error.to_string()))?;
        let add = AddFile { stats: Some(stats), deletion_vector: Some(vector.to_value()?), ..self.add.clone() };
        Ok(IndexedFile { add, dead: vector.cardinality, ..self.clone() })
    }
}

/// Where in the file the rows with these numbers are; numbers that are gone are nowhere.
pub fn positions(numbers: &RoaringBitmap, gone: &RoaringBitmap) -> RoaringTreemap {
    if gone.is_empty() {
        return numbers.iter().map(u64::from).collect();
    }
    if numbers.len() * 64 < gone.len() {
        let alive = numbers.iter().filter(|number| !gone.contains(*number));
        return alive.map(|number| u64::from(number) - gone.rank(number)).collect();
    }
    let mut before = 0;
    let mut gone = gone.iter().peekable();
    let mut positions = RoaringTreemap::new();
    for number in numbers {
        while gone.next_if(|gone| *gone < number).is_some() {
            before += 1;
        }
        if gone.peek() != Some(&number) {
            positions.insert(u64::from(number - before));
        }
    }
    positions
}

/// The numbers that are gone once the rows at these positions are.
pub fn gone_with(positions: &RoaringTreemap, gone: &RoaringBitmap) -> RoaringBitmap {
    let mut all = gone.clone();
    let mut before: u32 = 0;
    let mut gone = gone.iter().peekable();
    for position in positions {
        let position = position as u32;
        while gone.next_if(|gone| *gone <= position + before).is_some() {
            before += 1;
        }
        all.insert(position + before);
    }
    all
}

/// As it is kept.
pub fn to_bytes(gone: &RoaringBitmap) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(gone.serialized_size());
    gone.serialize_into(&mut bytes).map_err(|error| Error::internal(error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_when_rows_before_them_go() {
        // Rows 0 to 9; 2 and 5 go, then, of what is left, those at positions 0, 4 and 7.
        let none = RoaringBitmap::new();
        let first = gone_with(&[2, 5].into_iter().collect(), &none);
        assert_eq!(first.iter().collect::<Vec<_>>(), [2, 5]);
        let at = |numbers: &[u32], gone: &RoaringBitmap| {
            positions(&numbers.iter().copied().collect(), gone).iter().collect::<Vec<_>>()
        };
        assert_eq!(at(&[0, 1, 2, 3, 4, 5, 6, 9], &first), [0, 1, 2, 3, 4, 7]);
        let second = gone_with(&[0, 4, 7].into_iter().collect(), &first);
        assert_eq!(second.iter().collect::<Vec<_>>(), [0, 2, 5, 6, 9]);
        assert_eq!(at(&[1, 3, 4, 7, 8], &second), [0, 1, 2, 3, 4]);
        assert!(at(&[0, 2, 5, 6, 9], &second).is_empty());
    }

    #[test]
    fn positions_and_numbers_are_each_others_inverse() {
        let mut gone = RoaringBitmap::new();
        let mut left: Vec<u32> = (0..1000).collect();
        for step in [7, 3, 11, 2] {
            let dead: RoaringTreemap = (0..left.len() as u64).step_by(step).collect();
            gone = gone_with(&dead, &gone);
            left = left.into_iter().enumerate().filter(|(at, _)| at % step != 0).map(|(_, number)| number).collect();
            let expected: Vec<u64> = (0..left.len() as u64).collect();
            assert_eq!(positions(&left.iter().copied().collect(), &gone).iter().collect::<Vec<_>>(), expected);
            let (Some(first), Some(last)) = (left.first(), left.last()) else { return };
            let few = positions(&[*first, *last].into_iter().collect(), &gone);
            assert_eq!(few.iter().collect::<Vec<_>>(), [0, left.len() as u64 - 1]);
            assert_eq!(gone.len() as usize + left.len(), 1000);
        }
    }
}
