//! What a sink keeps in the checkpoint beside its keyed state: values by name, written with an epoch's commit or alone.

use super::Checkpoint;
use crate::error::Result;
use crate::state::{Batch, Column, prefix_end};

/// The number under which a sink's keyed state is kept: one that no operator of a query has.
pub const SINK_OPERATOR: u32 = 0xFFFF_0000;

/// A value by name; None: it goes.
pub type SinkValue = (String, Option<Vec<u8>>);

const PREFIX: &str = "sink/";

impl Checkpoint {
    /// A value; None where there is none.
    pub fn sink_value(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.shared.store.get(Column::Meta, format!("{PREFIX}{name}").as_bytes())
    }

    /// Values whose names begin with `prefix`, by the rest of the name.
    pub fn sink_values(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let mut from = format!("{PREFIX}{prefix}").into_bytes();
        let (length, until) = (from.len(), prefix_end(&from));
        let mut values = Vec::new();
        loop {
            let page = self.shared.store.page(Column::Meta, &from, &until, 1024)?;
            let Some(next) = page.next_key() else { return Ok(values) };
            let entries = page.iter();
            values.extend(entries.map(|(key, value)| (String::from_utf8_lossy(&key[length..]).into(), value.to_vec())));
            from = next;
        }
    }

    /// Sets values, all durably or none.
    pub fn put_sink_values(&self, values: &[SinkValue]) -> Result<()> {
        let mut batch = Batch::default();
        write_into(values, &mut batch);
        self.shared.store.write(batch, true)
    }
}

/// Adds values to a batch.
pub(super) fn write_into(values: &[SinkValue], batch: &mut Batch) {
    for (name, value) in values {
        let key = format!("{PREFIX}{name}");
        match value {
            Some(value) => batch.put(Column::Meta, key, value.as_slice()),
            None => batch.delete(Column::Meta, key),
        }
    }
}
