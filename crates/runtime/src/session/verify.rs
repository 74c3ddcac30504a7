//! VERIFY STREAM: the stream's query once more over everything it has read, compared with its table and state.

use alluvium_parser::{Diagnostic, Name};

use crate::checkpoint::Checkpoint;
use crate::epoch::widens;
use crate::error::{Error, Result};
use crate::metrics::EpochRecord;
use crate::query::{Compared, Difference, Verified, unverifiable, verify};
use crate::session::Session;
use crate::session::outcome::Outcome;
use crate::session::resolve::{StoredSchemas, unplaced};
use crate::session::show::{Table, create_of};
use crate::session::streaming_table::{Planned, former_schemas, new_table};
use crate::table::{self, NewTable};

impl Session {
    pub(super) async fn verify_stream(&self, name: &Name) -> Result<Outcome> {
        let (entry, stream) = self.streaming_entry(name)?;
        let checkpoint = match Checkpoint::open_to_read(&stream.checkpoint)? {
            Some(checkpoint) if table::exists(&stream.location) => checkpoint,
            _ => {
                return Err(Diagnostic::new(
                    "STREAM_NOT_STARTED",
                    format!("stream `{}` has never been started, so there is nothing to verify", entry.name),
                )
                .at(name.span)
                .help(format!("REFRESH TABLE {} starts it", entry.name))
                .into());
            }
        };
        let create = create_of(&stream)?;
        let stored = StoredSchemas::of_stream(&stream.checkpoint).or_former(former_schemas(&checkpoint)?);
        let session = self.in_zone(stream.timezone.as_deref());
        let owner = format!("the stored query of stream `{}`", entry.name);
        let Planned { plan, target } = session.plan(&create, &stored).await.map_err(|error| unplaced(error, &owner))?;
        let past = checkpoint.clone();
        let like = NewTable { schema: target, ..new_table(&create, &plan)? };
        let verified = Verified {
            name: entry.name.clone(),
            widens: widens(&plan)?,
            plan,
            checkpoint,
            location: stream.location.clone(),
            like,
            session: session.state(),
            state_bytes: (self.settings().memory_limit / 4) as usize,
        };
        let query = verified.plan.query.clone();
        let compared = verify(verified).await?;
        if let Some(differs) = differing(&entry.name, &compared) {
            let damaged = compared.iter().any(|part| !part.damage.is_empty());
            if let Some(epoch) = last_of_another(&past, &query)?.filter(|_| !damaged) {
                return Err(of_another(&entry.name, epoch, &compared).at_least(name.span));
            }
            let told = earlier_schema(&past)?.into_iter().fold(differs, |told, help| told.help(help));
            return Err(told.at(name.span).into());
        }
        let number = |get: fn(&Difference) -> u64| compared.iter().map(move |part| part.difference.as_ref().map(get));
        Table::new()
            .text("compared", compared.iter().map(|part| Some(&part.what)))
            .number("expected", number(|difference| difference.expected))
            .number("found", number(|difference| difference.found))
            .number("missing", number(|difference| difference.missing))
            .number("extra", number(|difference| difference.extra))
            .text("note", compared.iter().map(|part| Some(&part.note).filter(|note| !note.is_empty())))
            .rows()
    }
}

/// What is wrong with a stream; None where nothing is.
fn differing(name: &str, compared: &[Compared]) -> Option<Diagnostic> {
    let wrong: Vec<&Compared> = compared.iter().filter(|part| !part.is_same()).collect();
    if wrong.is_empty() {
        return None;
    }
    let told: Vec<String> = wrong.iter().map(|part| counts(part)).collect();
    let message = format!("stream `{name}` is not what its query gives over what it has read: {}", told.join("; "));
    let mut diagnostic = Diagnostic::new("STREAM_DIFFERS", message);
    for part in wrong {
        for damage in &part.damage {
            diagnostic = diagnostic.help(format!("{}: {damage} is damaged", part.what));
        }
        for row in part.difference.iter().flat_map(|difference| &difference.first) {
            diagnostic = diagnostic.help(format!("{}: {row}", part.what));
        }
    }
    Some(diagnostic.help(format!(
        "restore table and checkpoint from a backup, or start over with REFRESH TABLE {name} FULL; rows that another \
         statement wrote or took away differ too, and so do rows that were read by a former query or with an earlier schema"
    )))
}

/// The last epoch of which `says` holds.
fn last_epoch(checkpoint: &Checkpoint, says: impl Fn(&EpochRecord) -> bool) -> Result<Option<u64>> {
    let mut last = None;
    checkpoint.each_epoch(&mut |record| {
        if says(&record) {
            last = Some(record.epoch);
        }
        Ok(())
    })?;
    Ok(last)
}

/// The last epoch that another query made than `query`.
fn last_of_another(checkpoint: &Checkpoint, query: &str) -> Result<Option<u64>> {
    last_epoch(checkpoint, |record| record.query.as_ref().is_some_and(|of_epoch| of_epoch != query))
}

/// What a former query made and this one would make may differ without anything being wrong.
fn of_another(name: &str, epoch: u64, compared: &[Compared]) -> Error {
    let told: Vec<String> = compared.iter().filter(|part| !part.is_same()).map(counts).collect();
    let why = format!(
        "epochs up to {epoch} were made by another query (CREATE OR REFRESH), and this one gives something else over what they \
         read: {}",
        told.join("; ")
    );
    unverifiable(name, &why)
}

/// Up to which epoch files were read with another version of their schema than now, which may be why rows differ.
fn earlier_schema(checkpoint: &Checkpoint) -> Result<Option<String>> {
    let newest = checkpoint.last_committed()?.and_then(|last| last.schema_version);
    let until = last_epoch(checkpoint, |record| record.schema_version != newest)?;
    Ok(until.map(|epoch| {
        format!(
            "epochs up to {epoch} were read with an earlier version of the schema (SHOW EPOCHS), which alone may be why"
        )
    }))
}

/// ``table `t`: expected 3, found 4, missing 0, extra 1``
fn counts(part: &Compared) -> String {
    let Some(difference) = &part.difference else { return format!("{} cannot be read", part.what) };
    let damaged = match part.damage.len() {
        0 => String::new(),
        count => format!(", {count} damaged"),
    };
    format!(
        "{}: expected {}, found {}, missing {}, extra {}{damaged}",
        part.what, difference.expected, difference.found, difference.missing, difference.extra
    )
}
