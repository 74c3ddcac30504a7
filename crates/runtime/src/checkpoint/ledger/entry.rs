//! One file of the ledger, and its bytes.
//!
//! Version 1 had six numbers and knew files that were read and files that were there before the stream. Version 2 is
//! written now: a state, eight numbers, how the file was cleaned, two texts.

const VERSION_1: u8 = 1;
const VERSION: u8 = 2;
const NUMBERS: usize = 8;

/// How "not known" is stored for counts and epochs.
const NO_COUNT: u64 = u64::MAX;
/// How "not known" is stored for times.
const NO_TIME: i64 = i64::MIN;

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileState {
    /// Its rows are in the table.
    Ingested,
    /// It was there before the stream, which leaves those out.
    SkippedExisting,
    /// ALTER STREAM … SKIP FILE.
    Skipped,
    /// Damaged, and passed over; rows before the damage are in the table.
    Corrupt,
    /// Chosen, and gone before it could be read. It is read when it comes again.
    Vanished,
}

impl FileState {
    const ALL: [FileState; 5] =
        [FileState::Ingested, FileState::SkippedExisting, FileState::Skipped, FileState::Corrupt, FileState::Vanished];

    /// The word `state` and SHOW FILES print.
    pub fn word(self) -> &'static str {
        match self {
            FileState::Ingested => "ingested",
            FileState::SkippedExisting | FileState::Skipped => "skipped",
            FileState::Corrupt => "corrupt",
            FileState::Vanished => "vanished",
        }
    }

    /// The word of the column `ingestion_state`.
    pub fn ingestion_state(self) -> &'static str {
        match self {
            FileState::Ingested => "INGESTED",
            FileState::SkippedExisting => "SKIPPED_EXISTING",
            FileState::Skipped => "SKIPPED",
            FileState::Corrupt => "CORRUPT",
            FileState::Vanished => "VANISHED",
        }
    }

    /// Whether the file is to be read when it is found (again).
    pub fn comes_again(self) -> bool {
        self == FileState::Vanished
    }
}

/// How a file was cleaned after it had been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// When, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// Where it was moved to; None: it was deleted.
    pub moved_to: Option<String>,
}

/// A file that a source has decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// The source.
    pub source: String,
    /// Its path, as the source writes paths.
    pub path: String,
    /// What became of it.
    pub state: FileState,
    /// Bytes.
    pub size: u64,
    /// Modification time when it was chosen, milliseconds since 1970 UTC.
    pub modified_ms: i64,
    /// The epoch that read it.
    pub epoch: Option<u64>,
    /// When it was first seen.
    pub discovered_ms: i64,
    /// When its epoch began to read.
    pub processed_ms: Option<i64>,
    /// When its epoch was committed.
    pub committed_ms: i64,
    /// Rows it had, where they were counted.
    pub rows: Option<u64>,
    /// How it was cleaned.
    pub archived: Option<Archived>,
    /// Why, where the state alone does not say it.
    pub reason: Option<String>,
}

impl LedgerEntry {
    /// Whether its rows, or some of them, are in the table.
    pub fn was_read(&self) -> bool {
        matches!(self.state, FileState::Ingested | FileState::Corrupt)
    }
}

pub(super) fn encode(entry: &LedgerEntry) -> Vec<u8> {
    let mode = match &entry.archived {
        None => 0,
        Some(Archived { moved_to: None, .. }) => 1,
        Some(Archived { moved_to: Some(_), .. }) => 2,
    };
    let moved_to = entry.archived.as_ref().and_then(|archived| archived.moved_to.as_deref()).unwrap_or("");
    let reason = entry.reason.as_deref().unwrap_or("");
    let mut value = Vec::with_capacity(3 + NUMBERS * 8 + 8 + moved_to.len() + reason.len());
    let state = FileState::ALL.iter().position(|state| *state == entry.state).unwrap_or(0);
    value.extend_from_slice(&[VERSION, state as u8, mode]);
    let numbers: [u64; NUMBERS] = [
        entry.size,
        entry.modified_ms as u64,
        entry.epoch.unwrap_or(NO_COUNT),
        entry.discovered_ms as u64,
        entry.processed_ms.unwrap_or(NO_TIME) as u64,
        entry.committed_ms as u64,
        entry.rows.unwrap_or(NO_COUNT),
        entry.archived.as_ref().map_or(NO_TIME, |archived| archived.at_ms) as u64,
    ];
    for number in numbers {
        value.extend_from_slice(&number.to_le_bytes());
    }
    for text in [moved_to, reason] {
        value.extend_from_slice(&(text.len() as u32).to_le_bytes());
        value.extend_from_slice(text.as_bytes());
    }
    value
}

pub(super) fn decode(source: &str, path: String, value: &[u8]) -> Option<LedgerEntry> {
    match value.split_first()? {
        (&VERSION_1, numbers) => decode_1(source, path, numbers),
        (&VERSION, rest) => decode_2(source, path, rest),
        _ => None,
    }
}

fn decode_1(source: &str, path: String, value: &[u8]) -> Option<LedgerEntry> {
    let (numbers, rest) = value.as_chunks::<8>();
    let &[size, modified, epoch, discovered, committed, rows] = numbers else { return None };
    let epoch = count(epoch);
    rest.is_empty().then(|| LedgerEntry {
        source: source.to_string(),
        path,
        state: if epoch.is_some() { FileState::Ingested } else { FileState::SkippedExisting },
        size: u64::from_le_bytes(size),
        modified_ms: i64::from_le_bytes(modified),
        epoch,
        discovered_ms: i64::from_le_bytes(discovered),
        processed_ms: None,
        committed_ms: i64::from_le_bytes(committed),
        rows: count(rows),
        archived: None,
        reason: None,
    })
}

fn decode_2(source: &str, path: String, value: &[u8]) -> Option<LedgerEntry> {
    let (&[state, mode], rest) = value.split_first_chunk::<2>()?;
    let (numbers, rest) = rest.split_at_checked(NUMBERS * 8)?;
    let &[size, modified, epoch, discovered, processed, committed, rows, archived] = numbers.as_chunks::<8>().0 else {
        return None;
    };
    let (moved_to, rest) = text(rest)?;
    let (reason, rest) = text(rest)?;
    let at_ms = i64::from_le_bytes(archived);
    let processed = i64::from_le_bytes(processed);
    rest.is_empty().then_some(LedgerEntry {
        source: source.to_string(),
        path,
        state: *FileState::ALL.get(usize::from(state))?,
        size: u64::from_le_bytes(size),
        modified_ms: i64::from_le_bytes(modified),
        epoch: count(epoch),
        discovered_ms: i64::from_le_bytes(discovered),
        processed_ms: (processed != NO_TIME).then_some(processed),
        committed_ms: i64::from_le_bytes(committed),
        rows: count(rows),
        archived: match mode {
            0 => None,
            1 => Some(Archived { at_ms, moved_to: None }),
            2 => Some(Archived { at_ms, moved_to: Some(moved_to) }),
            _ => return None,
        },
        reason: Some(reason).filter(|reason| !reason.is_empty()),
    })
}

fn count(bytes: [u8; 8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes)).filter(|number| *number != NO_COUNT)
}

fn text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (text, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    Some((String::from_utf8(text.to_vec()).ok()?, rest))
}
