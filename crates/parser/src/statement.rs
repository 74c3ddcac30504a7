//! Statements as the rest of the engine sees them: what was typed, with places, nothing resolved.

use std::time::Duration;

use sqlparser::ast;

use crate::span::Span;

/// One statement of a script.
#[derive(Clone, Debug)]
pub struct Statement {
    /// What it is.
    pub kind: StatementKind,
    /// From its first token to its last, without the semicolon.
    pub span: Span,
    /// Its text, as typed (after `${…}` replacement), without the semicolon.
    pub text: String,
}

/// A possibly qualified name with its place. Parts keep their spelling; compare without case.
#[derive(Clone, Debug)]
pub struct Name {
    /// `[table]` or `[schema, table]`.
    pub parts: Vec<String>,
    /// Where it stands.
    pub span: Span,
}

/// Every statement of the language.
#[expect(missing_docs, reason = "each variant's syntax names its fields")]
#[derive(Clone, Debug)]
pub enum StatementKind {
    /// `CREATE [OR REFRESH | OR REPLACE] STREAMING TABLE …`
    CreateStreamingTable(Box<CreateStreamingTable>),
    /// `CREATE [OR REPLACE] [TEMP] [STREAMING] VIEW …`
    CreateView(Box<CreateView>),
    /// `CREATE [OR REPLACE] TABLE …`, with columns or `AS query`
    CreateTable(Box<CreateTable>),
    /// `DROP TABLE | VIEW | STREAMING TABLE [IF EXISTS] name`
    Drop { what: Dropped, if_exists: bool, name: Name },
    /// `INSERT INTO | OVERWRITE t [(cols) | BY NAME] query`
    Insert { table: Name, columns: Vec<Name>, by_name: bool, overwrite: bool, query: Query },
    /// `SELECT`, `WITH`, `VALUES`, with an optional `TRIGGER AVAILABLE NOW` behind it
    Query { query: Query, available_now: bool },
    /// `COPY (query) TO 'file' [STORED AS fmt] [OPTIONS (…)]`, `COPY t TO …`
    CopyTo { query: Query, path: Text, format: Option<Text>, options: Vec<OptionEntry> },
    /// `REFRESH [STREAMING] TABLE t [FULL]`
    Refresh { table: Name, full: bool },
    /// `START STREAM t [TRIGGER …]`
    StartStream { name: Name, trigger: Option<TriggerClause> },
    /// `STOP STREAM t`
    StopStream { name: Name },
    /// `STOP ALL STREAMS`
    StopAllStreams,
    /// `AWAIT STREAM t [FOR 'interval']`
    AwaitStream { name: Name, timeout: Option<Duration> },
    /// `SHOW STREAMS`
    ShowStreams,
    /// `DESCRIBE STREAM t`
    DescribeStream { name: Name },
    /// `VERIFY STREAM t`
    VerifyStream { name: Name },
    /// `SHOW EPOCHS FROM t [LIMIT n]`
    ShowEpochs { name: Name, limit: Option<u64> },
    /// `SHOW FILES FROM t [WHERE …] [ORDER BY …] [LIMIT n]`, as a query over them
    ShowFiles { query: Query },
    /// `ALTER STREAM t FORGET FILE 'x'`, `ALTER STREAM t SKIP FILE 'x'`
    AlterFile { name: Name, change: FileChange, path: Text },
    /// `ALTER STREAM t SET TRIGGER …`
    SetTrigger { name: Name, trigger: TriggerClause },
    /// `PREVIEW cloud_files(…)`, `PREVIEW [STREAM] read_files(…)`
    Preview { relation: RelationKind, span: Span },
    /// `SHOW TABLES`, `SHOW VIEWS`
    ShowRelations {
        /// Views only.
        views: bool,
        /// Of this schema.
        schema: Option<Name>,
        /// Whose names are like this; `*` is any text, `|` separates patterns.
        pattern: Option<Text>,
    },
    /// `SHOW COLUMNS IN t`
    ShowColumns { name: Name },
    /// `SHOW CREATE TABLE t`
    ShowCreateTable { name: Name },
    /// `SHOW TBLPROPERTIES t`
    ShowTblProperties { name: Name },
    /// `DESCRIBE [TABLE] [EXTENDED] t`
    Describe { name: Name, extended: bool },
    /// `DESCRIBE DETAIL t`
    DescribeDetail { name: Name },
    /// `DESCRIBE HISTORY t [LIMIT n]`
    DescribeHistory { name: Name, limit: Option<u64> },
    /// `EXPLAIN [VERBOSE | FORMATTED] statement`
    Explain { verbose: bool, statement: Box<Statement> },
    /// `SET key = value`
    Set { key: Text, value: Text },
    /// `SET` alone: every key, value and meaning
    ShowSettings,
    /// `SET key`: one key, value and meaning
    ShowSetting { key: Text },
    /// `RESET key`
    Reset { key: Text },
    /// `SET VAR name = 'value'`: a script variable for `${name}` in the text that follows
    SetVar { name: Text, value: Text },
    /// A statement of the language that this release does not carry out; refused by name.
    NotYet { what: String, help: String, span: Span },
}

/// What ALTER STREAM does with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileChange {
    /// `FORGET FILE`: it is read again.
    Forget,
    /// `SKIP FILE`: it is not read.
    Skip,
}

/// What DROP names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// `DROP TABLE` (streaming tables too)
    Table,
    /// `DROP VIEW`
    View,
    /// `DROP STREAMING TABLE`
    StreamingTable,
}

/// A literal or word with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Its value, unquoted.
    pub value: String,
    /// Where it stands.
    pub span: Span,
}

/// `key = value`, `key => value` or `'key', 'value'`.
#[derive(Clone, Debug)]
pub struct OptionEntry {
    /// As typed, unquoted.
    pub key: Text,
    /// As text: `true`, `10`, `json`.
    pub value: Text,
}

/// How an existing object is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateForm {
    /// Plain CREATE: fails when it exists.
    New,
    /// IF NOT EXISTS: does nothing when it exists.
    IfNotExists,
    /// OR REFRESH: keeps table and checkpoint.
    OrRefresh,
    /// OR REPLACE: starts over.
    OrReplace,
}

/// `CREATE STREAMING TABLE`.
#[derive(Clone, Debug)]
pub struct CreateStreamingTable {
    /// What it is called.
    pub name: Name,
    /// What happens to an existing one.
    pub form: CreateForm,
    /// Declared columns; empty when the query decides.
    pub columns: Vec<ColumnDef>,
    /// PARTITIONED BY; empty for none.
    pub partitioned_by: Vec<Name>,
    /// Where the table lies; in the warehouse when left out.
    pub location: Option<Text>,
    /// COMMENT.
    pub comment: Option<Text>,
    /// TBLPROPERTIES.
    pub properties: Vec<OptionEntry>,
    /// OUTPUT MODE with its place.
    pub output_mode: Option<(OutputMode, Span)>,
    /// TRIGGER.
    pub trigger: Option<TriggerClause>,
    /// CHECKPOINT LOCATION; managed with the table when left out.
    pub checkpoint_location: Option<Text>,
    /// The query behind AS.
    pub query: Query,
}

/// A declared column.
#[derive(Clone, Debug)]
pub struct ColumnDef {
    /// What it is called.
    pub name: Name,
    /// As sqlparser reads it.
    pub data_type: ast::DataType,
    /// NOT NULL.
    pub not_null: bool,
    /// COMMENT.
    pub comment: Option<Text>,
}

/// `CREATE VIEW`.
#[derive(Clone, Debug)]
pub struct CreateView {
    /// What it is called.
    pub name: Name,
    /// OR REPLACE.
    pub or_replace: bool,
    /// TEMP or TEMPORARY: gone with the session.
    pub temporary: bool,
    /// The word STREAMING was given: the query must be a stream.
    pub streaming: bool,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// COMMENT.
    pub comment: Option<Text>,
    /// Names for the query's columns; empty to keep its own.
    pub columns: Vec<Name>,
    /// The query behind AS.
    pub query: Query,
}

/// `CREATE TABLE`.
#[derive(Clone, Debug)]
pub struct CreateTable {
    /// What it is called.
    pub name: Name,
    /// What happens to an existing one.
    pub form: CreateForm,
    /// Declared columns; empty when the query decides.
    pub columns: Vec<ColumnDef>,
    /// PARTITIONED BY; empty for none.
    pub partitioned_by: Vec<Name>,
    /// Where the table lies; in the warehouse when left out.
    pub location: Option<Text>,
    /// COMMENT.
    pub comment: Option<Text>,
    /// TBLPROPERTIES.
    pub properties: Vec<OptionEntry>,
    /// The query behind AS; none for a table that begins empty.
    pub query: Option<Query>,
}

/// What a stream writes each epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputMode {
    /// Only rows that will never change.
    Append,
    /// The whole result.
    Complete,
    /// Rows that changed, upserted by the grouping columns.
    Update,
}

/// `TRIGGER …` with its place.
#[derive(Clone, Debug)]
pub struct TriggerClause {
    /// Which.
    pub trigger: Trigger,
    /// Where it stands.
    pub span: Span,
}

/// When epochs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// On multiples of the interval; zero means as fast as data comes.
    ProcessingTime(Duration),
    /// Everything available at the start, in several epochs within the limits, then stop.
    AvailableNow,
    /// Everything available at the start in one epoch, then stop.
    Once,
}

/// A query whose special relations have been cut out.
///
/// Every relation that sqlparser cannot say (`STREAM t`, `cloud_files(…)`, `read_files(…)`, ``json.`path` ``,
/// `t VERSION AS OF n`, `t@v3`, anything with WATERMARK …) stands in `ast` as a plain table named
/// `__relation_N`, with its alias kept (for `STREAM t` without alias: alias `t`), and in `relations[N]` as
/// what was typed. Every other table name is left as it was.
#[derive(Clone, Debug)]
pub struct Query {
    /// What sqlparser read.
    pub ast: Box<ast::Query>,
    /// The relations that were cut out, by number.
    pub relations: Vec<Relation>,
    /// Every `DEDUPLICATE BY`, in the order of the text; in `ast` it stands in WHERE as a call of
    /// [`Deduplicate::CALL`].
    pub deduplicates: Vec<Deduplicate>,
    /// Query clauses that are parsed and not yet carried out: (name, place).
    pub not_yet: Vec<(String, Span)>,
    /// Where it stands.
    pub span: Span,
    /// The query's text as typed, to be stored and parsed again.
    pub text: String,
}

/// A relation that was cut out of a query.
#[derive(Clone, Debug)]
pub struct Relation {
    /// What was typed.
    pub kind: RelationKind,
    /// The WATERMARK behind it.
    pub watermark: Option<Watermark>,
    /// Where it stands.
    pub span: Span,
}

/// The forms of [`Relation`].
#[expect(missing_docs, reason = "each variant's syntax names its fields")]
#[derive(Clone, Debug)]
pub enum RelationKind {
    /// `STREAM t [WITH (…)]`
    Stream { name: Name, options: Vec<OptionEntry> },
    /// `cloud_files('path', 'format', map(…))`, and `STREAM read_files(…)` with `read_files` set
    Files { path: Text, format: Option<Text>, options: Vec<OptionEntry>, streaming: bool, read_files: bool },
    /// ``json.`path` ``, ``delta.`path` ``
    Path { format: Text, path: Text },
    /// `STREAM delta.`path` [WITH (…)]`
    StreamPath { format: Text, path: Text, options: Vec<OptionEntry> },
    /// A plain named table that carries a WATERMARK
    Named { name: Name },
    /// `t VERSION AS OF n`, `t@v3`
    Version { name: Name, version: u64 },
    /// `t TIMESTAMP AS OF 'ts'`
    Timestamp { name: Name, timestamp: Text },
    /// `cloud_files_state('t')`; `all` with what SHOW FILES tells beyond it
    CloudFilesState { table: Text, all: bool },
    /// `read_state('t' [, operator])`
    State { table: Text, operator: Option<u32> },
    /// A relation of the language that this release does not carry out, by name.
    NotYet { what: String },
}

/// `DEDUPLICATE BY (column, …) [WITHIN WATERMARK]`
#[derive(Clone, Debug)]
pub struct Deduplicate {
    /// Where it stands.
    pub span: Span,
}

impl Deduplicate {
    /// The function whose call stands for the clause: whether WITHIN WATERMARK was typed, then the columns.
    pub const CALL: &'static str = "__deduplicate";
}

/// `WATERMARK column DELAY OF INTERVAL …`
#[derive(Clone, Debug)]
pub struct Watermark {
    /// The event-time column.
    pub column: Name,
    /// How late a row may come.
    pub delay: Duration,
    /// Where it stands.
    pub span: Span,
}
