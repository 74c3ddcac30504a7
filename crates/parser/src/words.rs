//! The words and statement forms of the language as lists: for completion, for help, and to find what a
//! misspelt word was meant to be.

/// Words with a meaning in the language, for completion.
pub const KEYWORDS: &[&str] = &[
    "ALL",
    "ALTER",
    "AND",
    "ANTI",
    "AS",
    "ASC",
    "AVAILABLE",
    "AWAIT",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "CHECKPOINT",
    "COLUMNS",
    "COMMENT",
    "COMPLETE",
    "CONSTRAINT",
    "COPY",
    "CREATE",
    "CROSS",
    "DATABASES",
    "DEDUPLICATE",
    "DELAY",
    "DELETE",
    "DELTA",
    "DESC",
    "DESCRIBE",
    "DETAIL",
    "DISTINCT",
    "DROP",
    "ELSE",
    "END",
    "EPOCHS",
    "EXCEPT",
    "EXISTS",
    "EXPECT",
    "EXPLAIN",
    "EXTENDED",
    "FILE",
    "FILES",
    "FOR",
    "FORGET",
    "FORMATTED",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "HISTORY",
    "IF",
    "IN",
    "INNER",
    "INSERT",
    "INTERSECT",
    "INTERVAL",
    "INTO",
    "IS",
    "JOIN",
    "LATERAL",
    "LEFT",
    "LIKE",
    "LIMIT",
    "LOCATION",
    "MERGE",
    "MODE",
    "NOT",
    "NOW",
    "NULL",
    "OF",
    "OFFSET",
    "ON",
    "ONCE",
    "OPTIMIZE",
    "OPTIONS",
    "OR",
    "ORDER",
    "OUTER",
    "OUTPUT",
    "OVER",
    "OVERWRITE",
    "PARTITION",
    "PARTITIONED",
    "PREVIEW",
    "PROCESSING",
    "REFRESH",
    "REPLACE",
    "RESET",
    "RESTORE",
    "RIGHT",
    "SELECT",
    "SEMI",
    "SET",
    "SHOW",
    "SKIP",
    "START",
    "STOP",
    "STORED",
    "STREAM",
    "STREAMING",
    "STREAMS",
    "TABLE",
    "TABLES",
    "TBLPROPERTIES",
    "TEMP",
    "TEMPORARY",
    "THEN",
    "TIME",
    "TIMESTAMP",
    "TO",
    "TRIGGER",
    "TRUNCATE",
    "UNION",
    "UPDATE",
    "USING",
    "VACUUM",
    "VALUES",
    "VAR",
    "VERBOSE",
    "VERIFY",
    "VERSION",
    "VIEW",
    "VIEWS",
    "VIOLATION",
    "WATERMARK",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
    "WITHIN",
];

/// The statements that are carried out: their syntax and what they do, in the order of the manual.
pub const STATEMENTS: &[(&str, &str)] = &[
    (
        "CREATE [OR REFRESH | OR REPLACE] STREAMING TABLE [IF NOT EXISTS] name [(column type [NOT NULL] [COMMENT 's'], …)] \
         [PARTITIONED BY (col, …)] [LOCATION 'uri'] [COMMENT 's'] [TBLPROPERTIES ('k' = 'v', …)] \
         [OUTPUT MODE {APPEND | COMPLETE}] [TRIGGER {PROCESSING TIME 'interval' | AVAILABLE NOW | ONCE}] \
         [CHECKPOINT LOCATION 'uri'] {AS query | FROM cloud_files(…) | FROM STREAM …}",
        "a Delta table that a stream keeps up to date",
    ),
    (
        "CREATE [OR REPLACE] [TEMP] [STREAMING] VIEW name [(col, …)] AS query",
        "a named query; streaming when its query reads a stream",
    ),
    ("REFRESH [STREAMING] TABLE t [FULL]", "run everything available now; FULL starts over"),
    ("START STREAM t [TRIGGER …]", "run the stream in the background"),
    ("STOP STREAM t", "stop after the running epoch"),
    ("STOP ALL STREAMS", "stop every stream after its running epoch"),
    ("AWAIT STREAM t [FOR 'interval']", "wait until the stream is idle, failed or stopped"),
    ("SHOW STREAMS", "every stream with its state, rates and backlog"),
    ("DESCRIBE STREAM t", "one stream in full"),
    ("SHOW EPOCHS FROM t [LIMIT n]", "what each epoch read, wrote and took"),
    ("SHOW FILES FROM t [WHERE …]", "every file of the stream's sources, with its state and the reason"),
    ("ALTER STREAM t FORGET FILE 'path'", "read a file again"),
    ("ALTER STREAM t SKIP FILE 'path'", "keep a file out"),
    ("ALTER STREAM t SET TRIGGER …", "change the trigger"),
    ("PREVIEW cloud_files(…)", "what a stream of these files would read, and how; nothing is ingested"),
    ("EXPLAIN [VERBOSE | FORMATTED] query | CREATE …", "the streaming plan; nothing is run"),
    ("SELECT … [TRIGGER AVAILABLE NOW]", "run a query; over a stream, show results as they arrive"),
    (
        "CREATE [OR REPLACE] TABLE [IF NOT EXISTS] t (cols) [USING DELTA] [PARTITIONED BY …] [LOCATION …] [COMMENT …] \
         [TBLPROPERTIES …] [AS query]",
        "a Delta table",
    ),
    ("DROP TABLE | VIEW | STREAMING TABLE [IF EXISTS] name", "remove it; a streaming table with its stream"),
    ("INSERT INTO t [(cols)] VALUES … | query", "add rows"),
    ("INSERT OVERWRITE t query", "replace all rows"),
    ("COPY (query) TO 'path' [STORED AS JSON | CSV | PARQUET] [OPTIONS ('k' = 'v', …)]", "write rows to a file"),
    ("SHOW TABLES", "every table and streaming table"),
    ("SHOW VIEWS", "every view"),
    ("SHOW COLUMNS IN t", "the columns of a table or view"),
    ("SHOW CREATE TABLE t", "the statement that makes the table"),
    ("SHOW TBLPROPERTIES t", "the table's properties"),
    ("DESCRIBE [TABLE] [EXTENDED] t", "columns and types"),
    ("DESCRIBE DETAIL t", "location, size and format of a table"),
    ("DESCRIBE HISTORY t [LIMIT n]", "the table's versions"),
    ("SET key = value", "change a setting"),
    ("SET", "every setting with its value and meaning"),
    ("RESET key", "the setting's default"),
    ("SET VAR name = 'value'", "a variable for ${name}"),
];

/// The candidate that a misspelt word most likely means; `None` when all are far away or the word is one of
/// them.
pub fn near<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let length = word.chars().count();
    if length > 64 {
        return None;
    }
    let allowed = if length < 5 {
        1
    } else if length < 8 {
        2
    } else {
        3
    };
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let far = distance(&word, &candidate.to_lowercase());
            (far > 0 && far <= allowed && far < length).then_some((far, candidate))
        })
        .min_by_key(|(far, _)| *far)
        .map(|(_, candidate)| candidate)
}

/// Edits from one word to the other: insertions, removals, replacements and swaps of neighbours.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let mut above_that: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (row, from) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, to) in right.iter().enumerate() {
            let mut best =
                (above[column] + usize::from(from != to)).min(above[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && left[row - 1] == *to && right[column - 1] == *from {
                best = best.min(above_that[column - 1] + 1);
            }
            current.push(best);
        }
        above_that = std::mem::replace(&mut above, current);
    }
    above.last().copied().unwrap_or(0)
}
