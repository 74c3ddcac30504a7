//! What messages told, as it was kept in one value of the checkpoint, taken over into the ledger's keys.
//!
//! The value was written anew with every message. In its place stands that it was moved, in a form that the program that
//! wrote it refuses: it would find nothing in the ledger and lose what waits.

use super::listed::listed_key;
use crate::checkpoint::{Checkpoint, Told};
use crate::clock::now_ms;
use crate::error::{Error, Result};
use crate::source::files::FileEntry;

/// What stands in the value's place.
const MOVED: &str = "{\"in\":\"ledger\"}";

/// The key of the value.
fn key(id: &str) -> String {
    format!("files/{id}/inbox")
}

/// Moves what an earlier version kept of source `id`, if it did. Again after a crash it changes nothing.
pub fn take_over_inbox(checkpoint: &Checkpoint, id: &str) -> Result<()> {
    let stored = checkpoint.meta(&key(id))?;
    if stored.as_deref() == Some(MOVED) {
        return Ok(());
    }
    if let Some(text) = stored {
        let damaged = |e: serde_json::Error| {
            Error::environment("CHECKPOINT_CORRUPT", format!("what messages told source {id} cannot be read: {e}"))
        };
        let files: Vec<FileEntry> = serde_json::from_str(&text).map_err(damaged)?;
        let at_ms = now_ms();
        let told: Vec<Told> = files.into_iter().map(|file| Told { file, at_ms }).collect();
        checkpoint.ledger().keep_told(id, &told)?;
    }
    checkpoint.put_meta(&key(id), MOVED)
}

/// Forgets what messages and listings told source `id` of its place, because it looks at another one now.
pub fn forget_place(checkpoint: &Checkpoint, id: &str) -> Result<()> {
    checkpoint.remove_meta(&listed_key(id))?;
    checkpoint.remove_meta(&key(id))?;
    checkpoint.ledger().drop_all_told(id)?;
    checkpoint.ledger().forget_newest(id)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_the_first_release_kept_in_one_value_is_taken_over() {
        let checkpoint = Checkpoint::in_memory().unwrap();
        // Written by the first release.
        let stored =
            r#"[{"path":"s3://b/in/b","size":9,"modified_ms":7},{"path":"s3://b/in/a","size":8,"modified_ms":-6}]"#;
        checkpoint.put_meta("files/0/inbox", stored).unwrap();
        take_over_inbox(&checkpoint, "0").unwrap();
        let told = || {
            let told = checkpoint.ledger().told("0", None, 9).unwrap();
            told.into_iter().map(|told| (told.file.path, told.file.size, told.file.modified_ms)).collect::<Vec<_>>()
        };
        let wanted = [("s3://b/in/a".to_owned(), 8, -6), ("s3://b/in/b".to_owned(), 9, 7)];
        assert_eq!(told(), wanted);
        take_over_inbox(&checkpoint, "0").unwrap();
        assert_eq!(told(), wanted);
        let left = checkpoint.meta("files/0/inbox").unwrap().unwrap();
        assert!(serde_json::from_str::<Vec<FileEntry>>(&left).is_err(), "the first release refuses it");
        checkpoint.put_meta("files/1/inbox", "no list").unwrap();
        assert_eq!(take_over_inbox(&checkpoint, "1").unwrap_err().diagnostic().code, "CHECKPOINT_CORRUPT");
        forget_place(&checkpoint, "0").unwrap();
        assert!(told().is_empty() && checkpoint.meta("files/0/inbox").unwrap().is_none());
    }
}
