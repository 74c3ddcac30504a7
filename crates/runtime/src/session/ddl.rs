//! CREATE TABLE, CREATE VIEW, DROP and INSERT.

use std::sync::Arc;

use alluvium_parser::sqlparser::ast::{Ident, SelectItem, SetExpr};
use alluvium_parser::{
    ColumnDef, CreateForm, CreateTable, CreateView, Diagnostic, Dropped, Name, OptionEntry, Query, Span, Statement,
};
use alluvium_planner::{ddl, streaming};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast};

use crate::catalog::{Entry, Object, TableEntry, ViewEntry, table_name};
use crate::error::{Error, Result};
use crate::session::Session;
use crate::session::outcome::Outcome;
use crate::session::resolve::StoredSchemas;
use crate::session::streaming_table::remove_directory;
use crate::session::table_properties;
use crate::table::{self, NewTable, Operation};

impl Session {
    pub(super) async fn create_table(&self, create: &CreateTable) -> Result<Outcome> {
        let name = table_name(&create.name)?;
        let existing = self.inner.catalog.get(&name)?;
        match (&existing, create.form) {
            (Some(_), CreateForm::IfNotExists) => return Ok(Outcome::Done(format!("`{name}` exists already"))),
            (Some(entry), CreateForm::New) => return Err(exists_error("TABLE", entry.kind(), &name, create.name.span)),
            (Some(entry), _) if !matches!(entry.object, Object::Table(_)) => {
                return Err(exists_error("TABLE", entry.kind(), &name, create.name.span));
            }
            _ => {}
        }
        if self.temporary_views().contains_key(&name.to_lowercase()) {
            return Err(exists_error("TABLE", "TEMP VIEW", &name, create.name.span));
        }
        refuse_unknown_properties(&create.properties, &[], "leave it out: `alluvium.…` is for streaming tables")?;
        let query = match &create.query {
            Some(query) => Some(self.static_plan(query, "CREATE TABLE … AS").await?),
            None => None,
        };
        let (location, managed) = match &create.location {
            Some(at) => (table::table_path(&at.value).map_err(|e| e.at_least(at.span))?, false),
            None => (self.inner.catalog.managed_location(&name), true),
        };
        let location = std::path::absolute(&location).map_err(|e| Error::io("find", &location, &e))?;
        let declared = match (&query, create.columns.is_empty()) {
            (Some(plan), true) => nullable(plan.schema().as_arrow()),
            (None, true) if table::exists(&location) => table::Head::open(&location).await?.schema(),
            (None, true) => {
                return Err(Diagnostic::new("NO_COLUMNS", format!("`{name}` has neither columns nor a query"))
                    .at(create.name.span)
                    .help("write CREATE TABLE t (id BIGINT, name STRING), or give the LOCATION of a Delta table")
                    .into());
            }
            _ => declared_schema(&create.columns)?,
        };
        refuse_duplicates(&declared, create.name.span)?;
        let new = NewTable {
            partition_columns: partition_columns(&create.partitioned_by, &declared)?,
            schema: declared,
            comment: create.comment.as_ref().map(|text| text.value.clone()),
            properties: properties(&create.properties),
            name: Some(name.clone()),
        };
        let there = table::exists(&location);
        let replaces = create.form == CreateForm::OrReplace && there;
        if there && !replaces && (managed || query.is_some() || !create.columns.is_empty()) {
            return Err(Diagnostic::new(
                "LOCATION_IN_USE",
                format!("there is a Delta table in `{}` already", location.display()),
            )
            .at(create.name.span)
            .help("leave the columns out to use it as it is, or choose another LOCATION")
            .into());
        }
        let with_rows = query.is_some();
        let rows = match query {
            Some(plan) => self.run_static(plan).await?,
            None => Vec::new(),
        };
        let written = match (replaces, with_rows) {
            (true, true) => Some(table::replace(&location, &new, rows, Operation::ReplaceAsSelect).await?),
            (true, false) => Some(table::replace(&location, &new, rows, Operation::CreateOrReplaceTable).await?),
            (false, true) => Some(table::create_as(&location, &new, rows).await?),
            (false, false) if !there => {
                table::create(&location, &new).await?;
                None
            }
            (false, false) => None,
        };
        let said = match written.filter(|_| with_rows) {
            Some(written) => format!("{} written to `{name}`", super::show::counted(written.rows)),
            None => format!("table `{name}` created"),
        };
        self.inner.catalog.put(&Entry::new(&name, Object::Table(TableEntry { location, managed })))?;
        Ok(Outcome::Done(said))
    }

    pub(super) async fn create_view(&self, statement: &Statement, create: &CreateView) -> Result<Outcome> {
        let name = table_name(&create.name)?;
        let existing = self.inner.catalog.get(&name)?;
        let made = if create.temporary { "TEMP VIEW" } else { "VIEW" };
        let temporary = self.temporary_views().contains_key(&name.to_lowercase());
        if create.if_not_exists && (if create.temporary { temporary } else { existing.is_some() }) {
            return Ok(Outcome::Done(format!("`{name}` exists already")));
        }
        if !create.or_replace && (create.temporary && temporary || !create.temporary && existing.is_some()) {
            let kind = existing.as_ref().filter(|_| !create.temporary).map_or("TEMP VIEW", Entry::kind);
            return Err(exists_error(made, kind, &name, create.name.span));
        }
        if let Some(entry) = &existing
            && !create.temporary
            && !matches!(entry.object, Object::View(_))
        {
            return Err(exists_error(made, entry.kind(), &name, create.name.span));
        }
        let bound = match self.bind(&create.query, &StoredSchemas::new()).await {
            Ok(bound) => Some(bound),
            // Its columns are not known before the first file; the query that uses it will wait.
            Err(Error::Statement(d)) if d.code == super::resolve::EMPTY_DIRECTORY => None,
            Err(error) => return Err(error),
        };
        if let Some(bound) = bound {
            let streaming = streaming::first_stream(&bound).is_some();
            if create.streaming && !streaming {
                return Err(Diagnostic::new(
                    "STATIC_WHERE_STREAM_NEEDED",
                    format!("`{name}` is declared STREAMING and reads no stream"),
                )
                .at(create.query.span)
                .help("write STREAM in front of a table, or leave the word STREAMING out")
                .into());
            }
            let renamed = rename_columns(bound, &create.columns)?;
            refuse_duplicates(renamed.schema().as_arrow(), create.query.span)?;
        }
        if create.temporary {
            self.temporary_views().insert(name.to_lowercase(), (statement.text.clone(), name.clone()));
        } else {
            self.refuse_temporary(&create.query, &name)?;
            let view = ViewEntry { statement: statement.text.clone() };
            self.inner.catalog.put(&Entry::new(&name, Object::View(view)))?;
        }
        Ok(Outcome::Done(format!("view `{name}` created")))
    }

    /// A view that outlives the session may not stand on one that does not.
    fn refuse_temporary(&self, query: &Query, name: &str) -> Result<()> {
        for want in alluvium_planner::bind::wanted(query) {
            if let alluvium_planner::bind::Wanted::Named { parts, span } = want
                && let [only] = parts.as_slice()
                && self.temporary_views().contains_key(&only.to_lowercase())
            {
                return Err(Diagnostic::new(
                    "INVALID_TEMP_OBJ_REFERENCE",
                    format!("view `{name}` would outlive the temp view `{only}` it reads"),
                )
                .at(span)
                .help("make it a TEMP VIEW as well")
                .into());
            }
        }
        Ok(())
    }

    pub(super) async fn drop_object(&self, what: Dropped, if_exists: bool, name: &Name) -> Result<Outcome> {
        let table = table_name(name)?;
        if what == Dropped::View && self.temporary_views().remove(&table.to_lowercase()).is_some() {
            return Ok(Outcome::Done(format!("view `{table}` dropped")));
        }
        let Some(entry) = self.inner.catalog.get(&table)? else {
            if self.is_temporary(&table) {
                return Err(Diagnostic::new("WRONG_OBJECT_KIND", format!("`{table}` is a TEMP VIEW"))
                    .at(name.span)
                    .help(format!("write DROP VIEW {table}"))
                    .into());
            }
            if if_exists {
                return Ok(Outcome::Done(format!("there was no `{table}`")));
            }
            return Err(self.entry(&table, name.span).err().unwrap_or_else(|| Error::internal("entry appeared")));
        };
        let fits = matches!(
            (&entry.object, what),
            (Object::View(_), Dropped::View)
                | (Object::Table(_), Dropped::Table)
                | (Object::StreamingTable(_), Dropped::Table | Dropped::StreamingTable)
        );
        if !fits {
            return Err(Diagnostic::new("WRONG_OBJECT_KIND", format!("`{}` is a {}", entry.name, entry.kind()))
                .at(name.span)
                .help(format!("write DROP {} {}", entry.kind(), entry.name))
                .into());
        }
        self.remove_table(&entry).await?;
        Ok(Outcome::Done(format!("{} `{}` dropped", entry.kind().to_lowercase(), entry.name)))
    }

    /// Stops what runs, forgets the entry, removes what belongs to it. The entry goes first: a crash then leaves
    /// litter, never an entry without its data.
    pub(super) async fn remove_table(&self, entry: &Entry) -> Result<()> {
        self.stop_running(&entry.name).await;
        match &entry.object {
            Object::View(_) => self.inner.catalog.remove(&entry.name),
            Object::Table(table) => {
                self.inner.catalog.remove(&entry.name)?;
                if table.managed { remove_directory(&table.location) } else { Ok(()) }
            }
            Object::StreamingTable(stream) => {
                if stream.checkpoint.exists() {
                    // The lock makes sure that no other process works on it.
                    crate::checkpoint::Checkpoint::require_free(&stream.checkpoint, &entry.name)?;
                }
                self.inner.catalog.remove(&entry.name)?;
                remove_directory(&stream.checkpoint)?;
                if stream.managed { remove_directory(&stream.location) } else { Ok(()) }
            }
        }
    }

    pub(super) async fn insert(
        &self,
        table: &Name,
        columns: &[Name],
        by_name: bool,
        overwrite: bool,
        query: &Query,
    ) -> Result<Outcome> {
        let entry = self.entry(&table_name(table)?, table.span)?;
        let Some(location) = entry.location() else {
            return Err(Diagnostic::new("NOT_A_TABLE", format!("`{}` is a view", entry.name)).at(table.span).into());
        };
        let plan = self.static_plan(&told_apart(query), "INSERT").await?;
        let target = table::Head::open(location).await?.schema();
        let of_query: Vec<Name>;
        let columns = if by_name {
            let fields = plan.schema().fields().iter();
            let name = |field: &FieldRef| Name {
                parts: vec![alluvium_planner::shown_name(field.name()).to_owned()],
                span: query.span,
            };
            of_query = fields.map(name).collect();
            &of_query
        } else {
            columns
        };
        let names = insert_columns(&target, columns, &format!("`{}`", entry.name))?;
        let given = plan.schema().fields().len();
        if given != names.len() {
            return Err(Diagnostic::new(
                "INSERT_COLUMN_ARITY",
                format!(
                    "`{}` takes {} column{} here, and the query gives {given}",
                    entry.name,
                    names.len(),
                    if names.len() == 1 { "" } else { "s" }
                ),
            )
            .at(query.span)
            .help(format!("the columns are {}", names.join(", ")))
            .into());
        }
        let plan = assigned(rename(plan, &names)?, &target, query.span)?;
        let operation = if overwrite { Operation::Overwrite } else { Operation::Write };
        let written = table::append(location, self.run_static(plan).await?, operation).await?;
        Ok(Outcome::Done(format!(
            "{} row{} written to `{}`",
            written.rows,
            if written.rows == 1 { "" } else { "s" },
            entry.name
        )))
    }
}

/// INSERT goes by position, so `SELECT x, x` is fine there: repeated items get names of their own.
fn told_apart(query: &Query) -> Query {
    let mut query = query.clone();
    if let SetExpr::Select(select) = query.ast.body.as_mut() {
        let mut seen = std::collections::HashSet::new();
        for (at, item) in select.projection.iter_mut().enumerate() {
            if let SelectItem::UnnamedExpr(expr) = item
                && !seen.insert(expr.to_string())
            {
                *item =
                    SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::new(format!("column{}", at + 1)) };
            }
        }
    }
    query
}

fn insert_columns(target: &Schema, columns: &[Name], table: &str) -> Result<Vec<String>> {
    if columns.is_empty() {
        return Ok(target.fields().iter().map(|field| field.name().clone()).collect());
    }
    let find = |name: &Name| {
        let wanted = name.parts.join(".");
        let found = target.fields().iter().find(|field| field.name().eq_ignore_ascii_case(&wanted));
        found.map(|field| field.name().clone()).ok_or_else(|| unknown_column(&wanted, table, target, name.span))
    };
    for (at, name) in columns.iter().enumerate() {
        if columns[..at].iter().any(|other| other.parts.join(".").eq_ignore_ascii_case(&name.parts.join("."))) {
            return Err(Diagnostic::new(
                "DUPLICATE_COLUMN",
                format!("column `{}` is named twice", name.parts.join(".")),
            )
            .at(name.span)
            .help("name each column once")
            .into());
        }
    }
    columns.iter().map(find).collect()
}

fn unknown_column(name: &str, table: &str, schema: &Schema, span: Span) -> Error {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let mut error = Diagnostic::new(
        "UNRESOLVED_COLUMN",
        format!("column `{name}` is not in {table} (it has {})", names.join(", ")),
    )
    .at(span);
    if let Some(near) = alluvium_planner::near::nearest(name, names.iter().copied()) {
        error = error.help(format!("did you mean `{near}`?"));
    }
    error.into()
}

/// The plan with its columns called so, in order.
fn rename(plan: LogicalPlan, names: &[String]) -> Result<LogicalPlan> {
    let columns: Vec<Expr> = plan
        .schema()
        .columns()
        .into_iter()
        .zip(names)
        .map(|(column, name)| Expr::Column(column).alias(name.clone()))
        .collect();
    Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
}

/// Values in the types of the columns they are written to, as CAST gives them; what CAST does not do is refused. Columns
/// are matched by name, nested ones left to the writer, which goes field by field.
pub(super) fn assigned(plan: LogicalPlan, target: &Schema, at: Span) -> Result<LogicalPlan> {
    let mut columns = Vec::new();
    let mut changed = false;
    for (column, field) in plan.schema().columns().into_iter().zip(plan.schema().fields()) {
        let name = field.name().clone();
        let wanted = target.fields().iter().find(|wanted| wanted.name().eq_ignore_ascii_case(&name));
        let expr = Expr::Column(column);
        let (from, Some(to)) = (field.data_type(), wanted.map(|wanted| wanted.data_type())) else {
            columns.push(expr);
            continue;
        };
        if from == to || from.is_nested() || to.is_nested() || *from == DataType::Null {
            columns.push(expr);
            continue;
        }
        if !assignable(from, to) {
            return Err(Diagnostic::new(
                "INCOMPATIBLE_DATA_FOR_TABLE",
                format!("column `{name}` is {}, and the query gives {}", ddl::sql_type(to), ddl::sql_type(from)),
            )
            .at(at)
            .help("convert it in the query: unix_timestamp(…), timestamp_seconds(…), to_date(…), a comparison, …")
            .into());
        }
        changed = true;
        columns.push(cast(expr, to.clone()).alias(name));
    }
    Ok(if changed { LogicalPlanBuilder::from(plan).project(columns)?.build()? } else { plan })
}

/// Whether writing a value of one type into a column of the other says what it means: numbers among each other,
/// times among each other, whole numbers as seconds into TIMESTAMP, anything into STRING, and STRING into anything.
fn assignable(from: &DataType, to: &DataType) -> bool {
    let text = |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let time = |data_type: &DataType| matches!(data_type, DataType::Date32 | DataType::Timestamp(_, _));
    let binary = |data_type: &DataType| matches!(data_type, DataType::Binary | DataType::LargeBinary);
    text(from)
        || text(to)
        || binary(from) && binary(to)
        || from.is_numeric() && to.is_numeric()
        || time(from) && time(to)
        || from.is_numeric() && matches!(to, DataType::Timestamp(_, Some(_)))
}

/// A view's plan under the column names of `CREATE VIEW v (a, b)`.
pub(super) fn rename_columns(plan: LogicalPlan, columns: &[Name]) -> Result<LogicalPlan> {
    if columns.is_empty() {
        return Ok(plan);
    }
    if columns.len() != plan.schema().fields().len() {
        return Err(Diagnostic::new(
            "VIEW_COLUMN_ARITY",
            format!("the view names {} columns and its query gives {}", columns.len(), plan.schema().fields().len()),
        )
        .at(columns[0].span)
        .into());
    }
    let names: Vec<String> = columns.iter().map(|name| name.parts.join(".")).collect();
    rename(plan, &names)
}

/// Declared columns as a schema.
pub(super) fn declared_schema(columns: &[ColumnDef]) -> Result<SchemaRef> {
    let mut fields = Vec::new();
    for column in columns {
        let data_type = ddl::arrow_type(&column.data_type).map_err(|e| Error::from(e).at_least(column.name.span))?;
        let mut field = Field::new(column.name.parts.join("."), data_type, !column.not_null);
        if let Some(comment) = &column.comment {
            field = field.with_metadata([("comment".to_string(), comment.value.clone())].into());
        }
        fields.push(field);
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Two columns of one name cannot be stored.
pub(super) fn refuse_duplicates(schema: &Schema, span: Span) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for field in schema.fields() {
        let name = alluvium_planner::shown_name(field.name());
        if !seen.insert(name.to_lowercase()) {
            return Err(Diagnostic::new("COLUMN_ALREADY_EXISTS", format!("the result has two columns `{name}`"))
                .at(span)
                .help("give one of them another name with AS, or leave it out")
                .into());
        }
    }
    Ok(())
}

/// PARTITIONED BY, in the table's spelling.
pub(super) fn partition_columns(names: &[Name], schema: &Schema) -> Result<Vec<String>> {
    let columns = insert_columns(schema, names, "the table");
    let columns = if names.is_empty() { Vec::new() } else { columns? };
    if !columns.is_empty() && columns.len() == schema.fields().len() {
        return Err(Diagnostic::new("ALL_PARTITION_COLUMNS", "a table cannot be partitioned by all of its columns")
            .at(names[0].span)
            .into());
    }
    Ok(columns)
}

/// Refuses properties in our name that nobody reads, and those of Delta Lake that it does not have. Those of others are kept as
/// they are.
pub(super) fn refuse_unknown_properties(entries: &[OptionEntry], known: &[&str], help: &str) -> Result<()> {
    table_properties::check(entries)?;
    let ours = |key: &str| key.to_ascii_lowercase().starts_with("alluvium.");
    let unknown = |key: &str| ours(key) && !known.iter().any(|name| name.eq_ignore_ascii_case(key));
    match entries.iter().find(|entry| unknown(&entry.key.value)) {
        Some(entry) => {
            Err(Diagnostic::new("UNKNOWN_OPTION", format!("table property `{}` is not known here", entry.key.value))
                .at(entry.key.span)
                .help(help)
                .into())
        }
        None => Ok(()),
    }
}

/// TBLPROPERTIES.
pub(super) fn properties(entries: &[OptionEntry]) -> Vec<(String, String)> {
    entries.iter().map(|entry| (table_properties::spelled(&entry.key.value), entry.value.value.clone())).collect()
}

/// Something of this name is there; `made` is the kind of thing the statement makes.
pub(super) fn exists_error(made: &str, kind: &str, name: &str, span: Span) -> Error {
    let help = match kind {
        _ if kind != made => format!("choose another name, or DROP {} {name} first", kind.trim_start_matches("TEMP ")),
        "STREAMING TABLE" => {
            "write CREATE OR REFRESH to go on with it, CREATE OR REPLACE to start over, or IF NOT EXISTS".into()
        }
        "VIEW" | "TEMP VIEW" => format!("write CREATE OR REPLACE {kind}, or DROP VIEW {name} first"),
        _ => "write CREATE OR REPLACE, IF NOT EXISTS, or drop it first".into(),
    };
    Diagnostic::new("TABLE_ALREADY_EXISTS", format!("there is a {} `{name}` already", kind.to_lowercase()))
        .at(span)
        .help(help)
        .into()
}

fn nullable(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true)));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
