//! `TBLPROPERTIES ('alluvium.lateRows' = 'name')`: the table that keeps a stream's late rows.

use alluvium_parser::{CreateStreamingTable, Diagnostic, Name, OptionEntry};

use crate::catalog::{Entry, Object, TableEntry, table_name};
use crate::epoch::LateTable;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::sink::delta::DeltaSink;
use crate::table::{self, NewTable};

/// The property.
pub(super) const PROPERTY: &str = "alluvium.lateRows";

/// The property of a statement, if it has it.
pub(super) fn wanted(create: &CreateStreamingTable) -> Option<&OptionEntry> {
    create.properties.iter().find(|entry| entry.key.value.eq_ignore_ascii_case(PROPERTY))
}

impl Session {
    /// Refuses a name under which late rows cannot be kept.
    pub(super) async fn check_late_rows(&self, create: &CreateStreamingTable) -> Result<()> {
        let Some(entry) = wanted(create) else { return Ok(()) };
        let (name, existing) = self.late_rows_entry(entry)?;
        let refused = |why: String| {
            Err(Diagnostic::new("LATE_ROWS_TABLE", format!("late rows cannot be kept in `{name}`: {why}"))
                .at(entry.value.span)
                .help("name a table that does not exist yet, or one that was made for late rows")
                .into())
        };
        if table_name(&create.name)?.eq_ignore_ascii_case(&name) {
            return refused("it is the stream's own table".into());
        }
        match existing.as_ref().map(|existing| (&existing.object, existing.kind())) {
            Some((Object::Table(there), _)) if table::exists(&there.location) => {
                let columns = table::Head::open(&there.location).await?.schema();
                match table::Conform::plan(&LateTable::schema(), &columns) {
                    Ok(_) => Ok(()),
                    Err(error) => refused(format!("its columns are others: {}", error.diagnostic().message)),
                }
            }
            Some((Object::Table(_), _)) | None => Ok(()),
            Some((_, kind)) => refused(format!("it is a {kind}")),
        }
    }

    /// The table that keeps the late rows of `stream`, whose commits carry `query_id`; made where there is none.
    pub(super) async fn late_table(&self, stream: &str, wanted: &OptionEntry, query_id: &str) -> Result<LateTable> {
        let (name, existing) = self.late_rows_entry(wanted)?;
        let location = match existing.as_ref().map(|existing| &existing.object) {
            Some(Object::Table(table)) => table.location.clone(),
            Some(_) => {
                return Err(Error::internal(format!("late rows were to be kept in `{name}`, which is no table")));
            }
            None => {
                let location = self.inner.catalog.managed_location(&name);
                let location = std::path::absolute(&location).map_err(|e| Error::io("find", &location, &e))?;
                if !table::exists(&location) {
                    let new = NewTable {
                        partition_columns: Vec::new(),
                        schema: LateTable::schema(),
                        comment: Some("Rows that came too late".to_string()),
                        properties: Default::default(),
                        name: Some(name.clone()),
                    };
                    table::create(&location, &new).await?;
                }
                let entry = TableEntry { location: location.clone(), managed: true };
                self.inner.catalog.put(&Entry::new(&name, Object::Table(entry)))?;
                location
            }
        };
        let sink = DeltaSink::open(&location, query_id, alluvium_parser::OutputMode::Append).await?;
        sink.accepts(&LateTable::schema()).map_err(|error| error.helped(format!("`{name}` is to keep late rows")))?;
        Ok(LateTable { stream: stream.to_string(), sink: Box::new(sink) })
    }

    fn late_rows_entry(&self, wanted: &OptionEntry) -> Result<(String, Option<Entry>)> {
        let parts = wanted.value.value.split('.').map(|part| part.trim().to_string()).collect();
        let name = table_name(&Name { parts, span: wanted.value.span })?;
        let existing = self.inner.catalog.get(&name)?;
        Ok((name, existing))
    }
}
