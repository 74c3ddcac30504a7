//! DESCRIBE in its forms, SHOW COLUMNS, SHOW CREATE TABLE, SHOW TBLPROPERTIES.

use alluvium_parser::{Diagnostic, Name};
use alluvium_planner::ddl::sql_type;
use alluvium_planner::node::StreamSessionNode;
use alluvium_planner::relation::METADATA_COLUMN;
use arrow::datatypes::Field;
use chrono::DateTime;

use crate::catalog::{Entry, Object, table_name};
use crate::checkpoint::SINK_OPERATOR;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::session::outcome::{Outcome, Rows};
use crate::session::secrets::masked;
use crate::session::show::{Table, counted, create_of, mode_sql};
use crate::table;

impl Session {
    pub(super) async fn describe_columns(&self, name: &Name, names_only: bool) -> Result<Outcome> {
        let schema = self.columns_of(&table_name(name)?).await.map_err(|e| e.at_least(name.span))?;
        let fields: Vec<_> = schema.fields().iter().filter(|field| field.name() != METADATA_COLUMN).collect();
        let names = fields.iter().map(|field| Some(field.name()));
        if names_only {
            return Table::new().text("col_name", names).rows();
        }
        Table::new()
            .text("col_name", names)
            .text("data_type", fields.iter().map(|field| Some(sql_type(field.data_type()).to_lowercase())))
            .text("comment", fields.iter().map(|field| comment_of(field)))
            .rows()
    }

    pub(super) async fn describe(&self, name: &Name, extended: bool) -> Result<Outcome> {
        if !extended {
            return self.describe_columns(name, false).await;
        }
        let table = table_name(name)?;
        let entry = self.inner.catalog.get(&table)?.filter(|_| !self.is_temporary(&table));
        let location = entry.as_ref().and_then(Entry::location).filter(|location| table::exists(location));
        let head = match location {
            Some(location) => Some(table::Head::open(location).await?),
            None => None,
        };
        let schema = self.columns_of(&table).await.map_err(|e| e.at_least(name.span))?;
        let columns: Vec<_> = schema.fields().iter().filter(|field| field.name() != METADATA_COLUMN).collect();
        let comments = columns.iter().map(|field| comment_of(field)).collect::<Vec<_>>();
        let mut rows: Vec<(String, String)> =
            columns.iter().map(|field| (field.name().clone(), sql_type(field.data_type()).to_lowercase())).collect();
        if let Some(head) = head.as_ref().filter(|head| !head.partition_columns().is_empty()) {
            rows.push((String::new(), String::new()));
            rows.push(("# Partition Information".into(), String::new()));
            for column in head.partition_columns() {
                let known = schema.fields().iter().find(|field| field.name() == column);
                let data_type = known.map(|field| sql_type(field.data_type()).to_lowercase());
                rows.push((column.clone(), data_type.unwrap_or_default()));
            }
        }
        rows.push((String::new(), String::new()));
        rows.push(("# Detailed Table Information".into(), String::new()));
        if let Some(entry) = entry {
            rows.extend(details(&entry)?);
            if let Some(comment) = head.as_ref().and_then(|head| head.comment()) {
                rows.push(("Comment".into(), comment.to_owned()));
            }
            if let Some(properties) = head.as_ref().map(|head| head.properties()).filter(|all| !all.is_empty()) {
                let all: Vec<String> = properties.iter().map(|(key, value)| format!("{key}={value}")).collect();
                rows.push(("Table Properties".into(), format!("[{}]", all.join(","))));
            }
        } else {
            rows.push(("Name".into(), table));
            rows.push(("Type".into(), "TEMP VIEW".into()));
        }
        Table::new()
            .text("col_name", rows.iter().map(|(key, _)| Some(key)))
            .text("data_type", rows.iter().map(|(_, value)| Some(value)))
            .text("comment", (0..rows.len()).map(|row| comments.get(row).copied().flatten()))
            .rows()
    }

    pub(super) fn is_temporary(&self, name: &str) -> bool {
        self.temporary_views().contains_key(&name.to_lowercase())
    }

    pub(super) async fn describe_history(&self, name: &Name, limit: Option<u64>) -> Result<Outcome> {
        let path = self.table_location(name)?;
        Ok(Outcome::Rows(Rows::batch(table::history(&path, limit).await?)))
    }

    pub(super) async fn describe_detail(&self, name: &Name) -> Result<Outcome> {
        let path = self.table_location(name)?;
        Ok(Outcome::Rows(Rows::batch(table::detail(&path).await?)))
    }

    pub(super) async fn show_properties(&self, name: &Name) -> Result<Outcome> {
        let path = self.table_location(name)?;
        let head = table::Head::open(&path).await?;
        let properties: Vec<(String, String)> = head.properties().clone().into_iter().collect();
        Table::new()
            .text("key", properties.iter().map(|(key, _)| Some(key)))
            .text("value", properties.iter().map(|(_, value)| Some(value)))
            .rows()
    }

    pub(super) async fn show_create_table(&self, name: &Name) -> Result<Outcome> {
        let table = table_name(name)?;
        let text = match self.view_statement(&table)? {
            Some(statement) => statement.text,
            None => {
                let entry = self.entry(&table, name.span)?;
                match &entry.object {
                    Object::StreamingTable(stream) => stream.statement.clone(),
                    Object::View(view) => view.statement.clone(),
                    Object::Table(_) => self.create_table_text(&entry).await?,
                }
            }
        };
        Table::new().text("createtab_stmt", [Some(masked(&text))]).rows()
    }

    async fn create_table_text(&self, entry: &Entry) -> Result<String> {
        let Object::Table(table) = &entry.object else {
            return Err(Error::internal("not a table"));
        };
        let head = table::Head::open(&table.location).await?;
        let schema = head.schema();
        let columns: Vec<String> = schema
            .fields()
            .iter()
            .map(|field| {
                let null = if field.is_nullable() { "" } else { " NOT NULL" };
                let comment = comment_of(field).map_or(String::new(), |text| format!(" COMMENT {}", quoted(text)));
                format!("  {} {}{null}{comment}", identifier(field.name()), sql_type(field.data_type()))
            })
            .collect();
        let mut text = format!("CREATE TABLE {} (\n{})\nUSING DELTA", entry.name, columns.join(",\n"));
        let partitions = head.partition_columns();
        if !partitions.is_empty() {
            let names: Vec<String> = partitions.iter().map(|name| identifier(name)).collect();
            text.push_str(&format!("\nPARTITIONED BY ({})", names.join(", ")));
        }
        if !table.managed {
            text.push_str(&format!("\nLOCATION {}", quoted(&table.location.display().to_string())));
        }
        if let Some(comment) = head.comment() {
            text.push_str(&format!("\nCOMMENT {}", quoted(comment)));
        }
        let properties: Vec<String> =
            head.properties().iter().map(|(key, value)| format!("{} = {}", quoted(key), quoted(value))).collect();
        if !properties.is_empty() {
            text.push_str(&format!("\nTBLPROPERTIES ({})", properties.join(", ")));
        }
        Ok(text)
    }

    /// The directory of a Delta table by name.
    pub(super) fn table_location(&self, name: &Name) -> Result<std::path::PathBuf> {
        let entry = self.entry(&table_name(name)?, name.span)?;
        let Some(location) = entry.location() else {
            return Err(Diagnostic::new("NOT_A_TABLE", format!("`{}` is a view", entry.name)).at(name.span).into());
        };
        if !table::exists(location) {
            return Err(Diagnostic::new(
                "TABLE_PENDING",
                format!("`{}` has no columns yet: no file has arrived for it", entry.name),
            )
            .at(name.span)
            .help(format!("REFRESH TABLE {} when there are files", entry.name))
            .into());
        }
        Ok(location.to_path_buf())
    }

    pub(super) fn describe_stream(&self, name: &Name) -> Result<Outcome> {
        let (entry, stream) = self.streaming_entry(name)?;
        let view = self.stream_view(&entry, &stream)?;
        let mut rows: Vec<(String, String)> = vec![
            ("name".into(), view.name.clone()),
            ("id".into(), view.query_id.clone().unwrap_or_default()),
            ("state".into(), view.state.clone()),
            ("trigger".into(), view.trigger.clone()),
            ("output mode".into(), view.mode.into()),
            ("table".into(), stream.location.display().to_string()),
            ("checkpoint".into(), stream.checkpoint.display().to_string()),
            ("query".into(), masked(&create_of(&stream)?.query.text)),
        ];
        if let Some(status) = &view.status {
            rows.push(("backlog".into(), format!("{} files, {} bytes", status.backlog.files, status.backlog.bytes)));
            rows.extend(status.facts.iter().cloned());
        }
        let stored = self.read_checkpoint(&entry, &stream, |checkpoint| {
            let mut rows = Vec::new();
            if let Some(last) = checkpoint.last_committed()? {
                rows.push((
                    "last epoch".to_string(),
                    match last.rows_late {
                        0 => format!("{}: {} in, {} out", last.epoch, counted(last.rows_in), counted(last.rows_out)),
                        late => format!(
                            "{}: {} in, {} out, {late} came too late",
                            last.epoch,
                            counted(last.rows_in),
                            counted(last.rows_out)
                        ),
                    },
                ));
                if let Some(watermark) = last.watermark_us.and_then(DateTime::from_timestamp_micros) {
                    rows.push(("watermark".to_string(), watermark.format("%Y-%m-%d %H:%M:%S%.3f UTC").to_string()));
                }
                if last.event_times_us.len() > 1
                    && let Some(policy) = checkpoint.meta(crate::query::WATERMARK_POLICY)?
                {
                    rows.push(("watermark policy".to_string(), policy));
                }
            }
            let ids = checkpoint.meta("source_ids")?.unwrap_or_else(|| "[]".into());
            let ids: Vec<String> = serde_json::from_str(&ids).unwrap_or_default();
            for (id, source) in ids.iter().enumerate() {
                let position = match checkpoint.position(&id.to_string())? {
                    Some(position) => position.to_string(),
                    None => format!("{} files", checkpoint.ledger().count(&id.to_string())?),
                };
                rows.push((format!("source {id}"), format!("{source} at {position}")));
            }
            rows.extend(self.describe_files(&stream, checkpoint)?);
            for size in checkpoint.state_sizes()? {
                if size.operator == SINK_OPERATOR {
                    rows.push(("index".into(), format!("{} by key, {} bytes", counted(size.rows), size.bytes)));
                    continue;
                }
                let operator = match StreamSessionNode::of_keys_number(size.operator) {
                    Some(operator) => format!("operator {operator} keys"),
                    None => {
                        format!(
                            "operator {}{}",
                            size.operator,
                            size.part.map_or(String::new(), |part| format!(" {part} side"))
                        )
                    }
                };
                rows.push((operator, format!("{}, {} bytes of state", counted(size.rows), size.bytes)));
            }
            Ok(rows)
        })?;
        rows.extend(stored.unwrap_or_default());
        if let Some(error) = view.error {
            rows.push(("last error".into(), error));
        }
        Table::new()
            .text("property", rows.iter().map(|(key, _)| Some(key)))
            .text("value", rows.iter().map(|(_, value)| Some(value)))
            .rows()
    }
}

/// A column's COMMENT.
fn comment_of(field: &Field) -> Option<&str> {
    let metadata = field.metadata();
    metadata.get("comment").or(metadata.get("delta.comment")).map(String::as_str)
}

/// A name as one writes it.
fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A string literal.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn details(entry: &Entry) -> Result<Vec<(String, String)>> {
    let mut rows = vec![("Name".to_string(), entry.name.clone()), ("Type".into(), entry.kind().into())];
    if let Some(location) = entry.location() {
        rows.push(("Location".into(), location.display().to_string()));
        rows.push(("Provider".into(), "delta".into()));
    }
    match &entry.object {
        Object::StreamingTable(stream) => {
            let create = create_of(stream)?;
            let mode = create.output_mode.map_or(alluvium_parser::OutputMode::Append, |(mode, _)| mode);
            rows.push(("Output Mode".into(), mode_sql(mode).into()));
            rows.push(("Checkpoint".into(), stream.checkpoint.display().to_string()));
            rows.push(("Query".into(), masked(&create.query.text)));
        }
        Object::View(view) => rows.push(("View Text".into(), masked(&view.statement))),
        Object::Table(_) => {}
    }
    Ok(rows)
}
