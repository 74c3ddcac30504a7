//! Every record of a file of 10,000 lines, 500 of them broken or drifting, is accounted for, in every mode: what is in the
//! table, what is rescued, what is corrupt and what was dropped or set aside add up to the lines.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod engine;

use engine::Engine;

const LINES: u64 = 10_000;

/// Each kind of line that is not as it should be stands there so often.
const EACH: u64 = 100;

/// Which kind of odd line this is, if it is one: every twentieth, five kinds in turn.
fn kind(line: u64) -> Option<u64> {
    line.is_multiple_of(20).then_some(line / 20 % 5)
}

/// Broken, a value that does not fit, a new field, another spelling, no JSON at all.
fn json() -> String {
    let line = |id: u64| match kind(id) {
        None => format!("{{\"id\":{id},\"v\":{}}}\n", id * 3),
        Some(0) => format!("{{\"id\":{id},\"v\":\n"),
        Some(1) => format!("{{\"id\":{id},\"v\":\"about {id}\"}}\n"),
        Some(2) => format!("{{\"id\":{id},\"v\":{},\"color\":\"red\"}}\n", id * 3),
        Some(3) => format!("{{\"id\":{id},\"V\":{}}}\n", id * 3),
        Some(_) => format!("id {id}, value {}\n", id * 3),
    };
    (0..LINES).map(line).collect()
}

/// Short, a value that does not fit, long, a quote in the wrong place, no number at all.
fn csv() -> String {
    let line = |id: u64| match kind(id) {
        None => format!("{id},{}\n", id * 3),
        Some(0) => format!("{id}\n"),
        Some(1) => format!("{id},about {id}\n"),
        Some(2) => format!("{id},{},red\n", id * 3),
        Some(3) => format!("{id},\"{}\n", id * 3),
        Some(_) => format!("id {id},{}\n", id * 3),
    };
    format!("id,v\n{}", (0..LINES).map(line).collect::<String>())
}

/// What a mode makes of the lines.
#[derive(Debug, PartialEq)]
struct Account {
    /// Rows of the table.
    rows: u64,
    /// Rows with values in the rescue column besides whole records.
    rescued: u64,
    /// Rows that keep the text of a corrupt record, in a column for it or in the rescue column.
    kept: u64,
    /// Corrupt records, kept or not, by SHOW EPOCHS.
    corrupt: u64,
    /// Records below `badRecordsPath`.
    aside: u64,
}

struct Case {
    options: &'static str,
    /// Whether the table has a rescue column, and one for corrupt records.
    columns: (bool, bool),
    json: Account,
    csv: Account,
}

const fn account(rows: u64, rescued: u64, kept: u64, corrupt: u64, aside: u64) -> Account {
    Account { rows, rescued, kept, corrupt, aside }
}

const RESCUE: &str = "'schema', 'id BIGINT, v BIGINT', 'rescuedDataColumn', 'r'";
const CORRUPT: &str = "'schema', 'id BIGINT, v BIGINT, _corrupt_record STRING'";
const BARE: &str = "'schema', 'id BIGINT, v BIGINT'";

/// In JSON two kinds are corrupt (200 lines) and one has a misfit; in CSV a short row, a long one and one whose quote does
/// not end are corrupt (300), and two kinds have a misfit.
const CASES: &[Case] = &[
    Case {
        options: RESCUE,
        columns: (true, false),
        json: account(LINES, 3 * EACH, 2 * EACH, 2 * EACH, 0),
        csv: account(LINES, 3 * EACH, 2 * EACH, 3 * EACH, 0),
    },
    Case {
        options: CORRUPT,
        columns: (false, true),
        json: account(LINES, 0, 3 * EACH, 3 * EACH, 0),
        csv: account(LINES, 0, 5 * EACH, 5 * EACH, 0),
    },
    Case {
        options: "'schema', 'id BIGINT, v BIGINT', 'rescuedDataColumn', 'r', 'mode', 'DROPMALFORMED'",
        columns: (true, false),
        json: account(LINES - 2 * EACH, 3 * EACH, 0, 2 * EACH, 0),
        csv: account(LINES - 3 * EACH, 2 * EACH, 0, 3 * EACH, 0),
    },
    Case {
        options: "'schema', 'id BIGINT, v BIGINT', 'mode', 'DROPMALFORMED'",
        columns: (false, false),
        json: account(LINES - 3 * EACH, 0, 0, 3 * EACH, 0),
        csv: account(LINES - 5 * EACH, 0, 0, 5 * EACH, 0),
    },
    Case {
        options: "'schema', 'id BIGINT, v BIGINT', 'rescuedDataColumn', 'r', 'badRecordsPath', '${BAD}'",
        columns: (true, false),
        json: account(LINES - 2 * EACH, 3 * EACH, 0, 2 * EACH, 2 * EACH),
        csv: account(LINES - 3 * EACH, 2 * EACH, 0, 3 * EACH, 3 * EACH),
    },
    Case {
        options: "'schema', 'id BIGINT, v BIGINT', 'badRecordsPath', '${BAD}'",
        columns: (false, false),
        json: account(LINES - 3 * EACH, 0, 0, 3 * EACH, 3 * EACH),
        csv: account(LINES - 5 * EACH, 0, 0, 5 * EACH, 5 * EACH),
    },
];

fn create(engine: &Engine, format: &str, options: &str) -> String {
    let options = options.replace("${BAD}", &engine.path().join("bad").display().to_string());
    format!("CREATE STREAMING TABLE t FROM cloud_files('{}', '{format}', map({options}))", engine.landing().display())
}

fn account_of(engine: &Engine, case: &Case) -> Account {
    let numbers = |sql: &str| -> Vec<u64> { engine.numbers(sql).iter().map(|number| *number as u64).collect() };
    let (rescue, corrupt) = case.columns;
    let kept = match (rescue, corrupt) {
        (_, true) => "_corrupt_record IS NOT NULL",
        (true, _) => "r LIKE '%\"_corrupt_record\":%'",
        _ => "false",
    };
    let rescued = if rescue { format!("r IS NOT NULL AND NOT ({kept})") } else { "false".to_owned() };
    let rows = numbers(&format!(
        "SELECT count(*), count_if({rescued}) AS rescued, count_if({kept}) AS kept, count(DISTINCT id) AS ids FROM t"
    ));
    let epochs = engine.ask("SHOW EPOCHS FROM t");
    let corrupt = epochs.iter().filter_map(|epoch| epoch["records_corrupt"].as_u64()).sum();
    let bad = engine.path().join("bad");
    let aside = match bad.is_dir() {
        true => numbers(&format!("SELECT count(*) FROM read_files('{}', format => 'json')", bad.display()))[0],
        false => 0,
    };
    account(rows[0], rows[1], rows[2], corrupt, aside)
}

#[test]
fn every_line_is_in_the_table_rescued_or_corrupt() {
    let mut wrong = Vec::new();
    for case in CASES {
        for (format, text, expected) in [("json", json(), &case.json), ("csv", csv(), &case.csv)] {
            let engine = Engine::new();
            engine.land(&format!("1.{format}"), text);
            engine.ask(&create(&engine, format, case.options));
            let found = account_of(&engine, case);
            let (rescue, keeps) = case.columns;
            let dropped = if rescue && found.kept > 0 || keeps { 0 } else { found.corrupt };
            let whole = found.rows + dropped == LINES;
            if found != *expected || !whole {
                wrong.push(format!("{format}, {}: {found:?}\n  instead of {expected:?}", case.options));
            }
            // The good lines are there, each once and as it was.
            let good = (0..LINES).filter(|id| kind(*id).is_none());
            let (count, sum) = good.fold((0.0, 0.0), |(count, sum), id| (count + 1.0, sum + (id * 3) as f64));
            let good = engine.numbers("SELECT count(DISTINCT id), sum(v) FROM t WHERE id % 20 <> 0 AND v = id * 3");
            assert_eq!(good, [count, sum], "{format}, {}", case.options);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn failfast_keeps_nothing_of_a_file_with_a_malformed_line() {
    for (format, text) in [("json", json()), ("csv", csv())] {
        for options in [RESCUE, CORRUPT, BARE] {
            let engine = Engine::new();
            engine.land(&format!("1.{format}"), &text);
            let ended = engine.run(&create(&engine, format, &format!("{options}, 'mode', 'FAILFAST'")));
            assert_eq!(ended.codes(), ["MALFORMED_RECORD"], "{format}, {options}: {}", ended.stderr);
            let rows = engine.run("SELECT count(*) AS n FROM t");
            assert!(!rows.status.success() || rows.stdout.trim() == "{\"n\":0}", "{format}: {}", rows.stdout);
        }
    }
}
