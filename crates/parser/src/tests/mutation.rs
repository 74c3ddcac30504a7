//! No text makes the parser panic, hang or overflow: statements of every form, cut up and glued together.

use std::collections::HashMap;

use crate::{SourceText, Splitter, parse_piece, substitute};

const SEEDS: &[&str] = &[
    "CREATE OR REFRESH STREAMING TABLE t (a INT NOT NULL, CONSTRAINT c EXPECT (a > 0) ON VIOLATION DROP ROW) TRIGGER PROCESSING TIME '5 seconds' OUTPUT MODE COMPLETE AS SELECT a, count(*) FROM STREAM u GROUP BY a",
    "CREATE STREAMING TABLE b FROM cloud_files('/in', 'json', map('cloudFiles.inferColumnTypes', 'true'))",
    "WITH c AS (SELECT * FROM STREAM(s.t) WITH (a = 1)) SELECT x.*, INTERVAL 1 HOUR 5 MINUTES FROM c x JOIN json.`p` ON x.a <=> 1 WHERE b IN (SELECT 1)",
    "SELECT CASE WHEN a THEN 'x' ELSE r'\\d' END, cast(b AS MAP<STRING, ARRAY<INT>>), c:d.e::INT, f[0] FROM read_files('x', format => 'csv') WATERMARK ts DELAY OF INTERVAL '1' MINUTE",
    "SELECT * FROM t VERSION AS OF 3, u@v4, v TIMESTAMP AS OF '2024' LATERAL VIEW explode(x) y AS z DEDUPLICATE BY (a) WITHIN WATERMARK",
    "INSERT INTO t (a, b) VALUES (1, \"x\"), (.5e3, NULL)",
    "COPY (SELECT 1L, 2.5D) TO 'x' STORED AS JSON OPTIONS ('a' 'b')",
    "CREATE TABLE t (a STRUCT<x: INT, y: ARRAY<STRING>>, PRIMARY KEY (a)) USING DELTA PARTITIONED BY (a) TBLPROPERTIES ('a' = 'b')",
    "SET a.b = 10 seconds; SET VAR x = '${y}'; RESET a; AWAIT STREAM t FOR '1 minute'; SHOW EPOCHS FROM t LIMIT 3",
    "EXPLAIN FORMATTED SELECT row_number() OVER (PARTITION BY a ORDER BY b) FROM (SELECT 1 UNION ALL SELECT 2) QUALIFY 1",
    "/* c */ DESCRIBE HISTORY delta.`x` -- größe\n; DROP STREAMING TABLE IF EXISTS t; REFRESH TABLE t FULL",
];

const SPLINTERS: &[&str] = &[
    "(",
    ")",
    "((((",
    "'",
    "\"",
    "`",
    ";",
    ",",
    ".",
    "@v1",
    "=>",
    "::",
    "<",
    ">",
    "--",
    "/*",
    "*/",
    "\\",
    "${",
    "}",
    "é",
    "\u{1f4a5}",
    "\t",
    "\n",
    " STREAM ",
    " FROM ",
    " JOIN ",
    " SELECT ",
    " INTERVAL ",
    " WATERMARK ",
    " AS ",
    " OF ",
    " CASE ",
    " END ",
    " NOT ",
    " UNION ",
    "1",
    "-",
    "e9",
    "99999999999999999999",
];

/// Marsaglia's xorshift: the same numbers on every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

fn mutate(dice: &mut Dice) -> String {
    let mut letters: Vec<char> = SEEDS[dice.below(SEEDS.len())].chars().collect();
    for _ in 0..=dice.below(6) {
        let at = dice.below(letters.len());
        let until = (at + dice.below(30)).min(letters.len());
        match dice.below(5) {
            0 => drop(letters.drain(at..until)),
            1 => drop(letters.splice(at..at, SPLINTERS[dice.below(SPLINTERS.len())].chars())),
            2 => drop(letters.splice(at..until, SPLINTERS[dice.below(SPLINTERS.len())].chars())),
            3 => {
                let other: Vec<char> = SEEDS[dice.below(SEEDS.len())].chars().collect();
                let from = dice.below(other.len());
                letters.splice(at..until, other[from..].iter().copied().take(40));
            }
            _ => {
                let copy: Vec<char> = letters[at..until].to_vec();
                letters.splice(at..at, copy);
            }
        }
    }
    letters.into_iter().collect()
}

#[test]
fn no_text_panics() {
    let seed = 0x9e37_79b9_7f4a_7c15;
    let mut dice = Dice(seed);
    let vars = HashMap::from([("y".to_owned(), "a 'b\n".to_owned())]);
    let (mut taken, mut refused) = (0, 0);
    for round in 0..6000 {
        let text = mutate(&mut dice);
        let source = SourceText { file: None, text: text.clone(), first_line: 1 };
        let mut splitter = Splitter::new();
        splitter.push(&text);
        let mut pieces: Vec<_> = splitter.by_ref().collect();
        pieces.extend(splitter.finish());
        for piece in pieces {
            let result = substitute(&piece, &vars).and_then(|piece| parse_piece(&piece));
            match result {
                Ok(statement) => {
                    assert!(statement.span.is_known(), "round {round} of seed {seed}: {text}");
                    taken += 1;
                }
                Err(error) => {
                    assert!(error.span.is_known(), "round {round} of seed {seed}: {text}");
                    assert!(error.span.start.line >= piece.start.line, "round {round} of seed {seed}: {text}");
                    assert!(error.render(&source).contains('^'), "round {round} of seed {seed}: {text}");
                    refused += 1;
                }
            }
        }
    }
    assert!(taken > 500 && refused > 500, "{taken} taken, {refused} refused");
}
