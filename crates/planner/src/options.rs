//! Typed options of streaming relations.

/// Discovery and schema options of a file relation (`cloudFiles.*` and the generic ones).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesOptions {
    /// Most files in one epoch; default 1000.
    pub max_files_per_trigger: Option<u64>,
    /// An epoch ends with the file that crosses this many bytes.
    pub max_bytes_per_trigger: Option<u64>,
    /// Whether files that are there at the first start count.
    pub include_existing_files: bool,
    /// Glob on the file name.
    pub path_glob_filter: Option<String>,
    /// Whether column types are inferred, or all are STRING. `cloud_files` false, `read_files` true.
    pub infer_column_types: bool,
    /// Given schema, as DDL.
    pub schema: Option<String>,
    /// Types for single columns, as DDL.
    pub schema_hints: Option<String>,
    /// `rescue`, `none`, `addNewColumns`, `failOnNewColumns`; None: the default.
    pub schema_evolution_mode: Option<String>,
}

/// Options of `STREAM t WITH (…)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableStreamOptions {
    /// Most files in one epoch; default 1000.
    pub max_files_per_trigger: Option<u64>,
    /// An epoch ends with the file that crosses this many bytes.
    pub max_bytes_per_trigger: Option<u64>,
    /// First version to read, inclusive; None: the whole table as of the first start, then its changes.
    pub starting_version: Option<StartingVersion>,
    /// Commits that change or remove rows are skipped whole instead of failing the stream.
    pub skip_change_commits: bool,
    /// Commits that only remove files are tolerated.
    pub ignore_deletes: bool,
}

/// `startingVersion`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartingVersion {
    /// The first commit after the start.
    Latest,
    /// This commit and what follows.
    At(u64),
}
