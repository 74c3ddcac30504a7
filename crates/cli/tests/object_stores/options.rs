//! What discovery and statements about files do where the files are objects: the same as in a directory.

use serde_json::json;

use super::{Bench, Driven, PATIENCE};
use std::time::{Duration, Instant};

fn line(id: u64) -> String {
    format!("{{\"id\":{id}}}\n")
}

/// Ids in the table, sorted.
#[track_caller]
fn ids(bench: &Bench) -> Vec<u64> {
    let rows = bench.ask("SELECT id FROM bronze ORDER BY id");
    rows.iter().map(|row| row["id"].as_u64().unwrap()).collect()
}

/// Name, state and reason of each file.
#[track_caller]
fn states(bench: &Bench) -> Vec<[String; 3]> {
    let rows = bench.ask("SHOW FILES FROM bronze ORDER BY path");
    let text = |row: &serde_json::Value, column: &str| row[column].as_str().unwrap_or_default().to_owned();
    let name = |path: String| path.strip_prefix("s3://lake/in/").unwrap_or(&path).to_owned();
    rows.iter().map(|row| [name(text(row, "path")), text(row, "state"), text(row, "reason")]).collect()
}

fn state(name: &str, state: &str, reason: &str) -> [String; 3] {
    [name, state, reason].map(str::to_owned)
}

#[test]
fn times_and_hidden_names_rule_objects_out() {
    let Some(mut bench) = Bench::new() else { return };
    for (key, id, at) in [
        ("in/old.json", 1, "2024-01-01T00:00:00+00:00"),
        ("in/mid.json", 2, "2024-06-01T00:00:00+00:00"),
        ("in/new.json", 3, "2025-01-01T00:00:00+00:00"),
        ("in/tmp/x.json", 4, "2024-06-01T00:00:00+00:00"),
        ("in/_y.json", 5, "2024-06-02T00:00:00+00:00"),
    ] {
        bench.store.put_dated("lake", key, &line(id), at);
    }
    let options =
        [("modifiedAfter", "2024-03-01"), ("modifiedBefore", "2024-12-01"), ("ignoredPathSegmentRegex", "^tmp$")];
    bench.ask(&bench.bronze("", &options));
    assert_eq!(ids(&bench), [2, 5]);
    assert_eq!(
        states(&bench),
        [
            state("_y.json", "ingested", "ingested in epoch 0"),
            state("mid.json", "ingested", "ingested in epoch 0"),
            state("new.json", "filtered", "not modified before modifiedBefore"),
            state("old.json", "filtered", "not modified after modifiedAfter"),
            state("tmp/x.json", "hidden", "the name `tmp` is hidden"),
        ]
    );
    let count = |table: &str| format!("SELECT count(*) AS n FROM {table}");
    let read =
        "read_files('s3://lake/in', format => 'json', schema => 'id BIGINT', ignoredPathSegmentRegex => '^tmp$')";
    assert_eq!(bench.ask(&count(read)), [json!({"n": 4})]);
    let previewed = bench.ask("PREVIEW cloud_files('s3://lake/in', 'json', map('modifiedAfter', '2024-03-01'))");
    let previewed: Vec<_> = previewed.iter().filter(|row| row["item"] == "ignored files").collect();
    assert_eq!(previewed.len(), 2, "{previewed:?}");
}

#[test]
fn an_object_that_is_too_old_is_neither_read_nor_remembered() {
    let Some(mut bench) = Bench::new() else { return };
    let create = bench.bronze("", &[("maxFileAge", "14 days")]);
    bench.store.put_dated("lake", "in/a.json", &line(1), "2024-01-01T00:00:00+00:00");
    bench.store.put_dated("lake", "in/b.json", &line(2), "2025-01-01T00:00:00+00:00");
    bench.ask(&create);
    bench.store.put_dated("lake", "in/c.json", &line(3), "2024-12-01T00:00:00+00:00");
    bench.store.put_dated("lake", "in/d.json", &line(4), "2024-12-25T00:00:00+00:00");
    bench.ask(&create);
    assert_eq!(ids(&bench), [1, 2, 4], "at the first start everything counts");
    let old = "older than the newest file read by more than maxFileAge";
    assert!(states(&bench).contains(&state("c.json", "filtered", old)));
}

#[test]
fn objects_that_are_written_again_are_read_again_where_that_is_allowed() {
    let Some(mut bench) = Bench::new() else { return };
    let create = bench.bronze("", &[("allowOverwrites", "true")]);
    bench.store.put_dated("lake", "in/a.json", &line(1), "2024-01-01T00:00:00+00:00");
    bench.store.put_dated("lake", "in/b.json", &line(2), "2024-01-01T00:00:00+00:00");
    bench.ask(&create);
    bench.ask(&create);
    assert_eq!(ids(&bench), [1, 2]);
    bench.store.put_dated("lake", "in/a.json", &line(3), "2024-01-02T00:00:00+00:00");
    bench.store.put_dated("lake", "in/b.json", &line(4), "2023-12-31T00:00:00+00:00");
    assert!(states(&bench).contains(&state("a.json", "waiting", "it has changed since it was read")));
    bench.ask(&create);
    bench.ask(&create);
    assert_eq!(ids(&bench), [1, 2, 3], "an older object is not new");
    let known = bench.ask("SELECT path FROM cloud_files_state('bronze')");
    assert_eq!(known.len(), 2, "a path is known once");
}

#[test]
fn an_object_that_shrank_after_it_was_chosen_is_read_as_it_is_then() {
    let Some(mut bench) = Bench::new() else { return };
    let create = bench.bronze("", &[("allowOverwrites", "true")]);
    // Large enough to be read in parts, of which the later ones begin behind the end of what replaces it.
    let large: String = (0..80_000).map(|id| format!("{{\"id\":{id},\"text\":\"{}\"}}\n", "x".repeat(90))).collect();
    bench.store.put_dated("lake", "in/a.json", &large, "2024-01-01T00:00:00+00:00");
    bench.store.put_dated("lake", "in/b.json", &large, "2024-01-01T00:00:00+00:00");
    super::crash_at(&bench, &create, "after_intent:0");
    bench.store.put_dated("lake", "in/a.json", &line(1), "2024-01-02T00:00:00+00:00");
    bench.store.put_dated("lake", "in/b.json", "", "2024-01-02T00:00:00+00:00");
    bench.ask(&create);
    assert_eq!(ids(&bench), [1]);
    let sizes = bench.ask("SELECT size FROM cloud_files_state('bronze') ORDER BY path");
    assert_eq!(sizes, [json!({"size": 9}), json!({"size": 0})], "what is remembered is what was read");
    bench.ask(&create);
    assert_eq!(ids(&bench), [1], "and it is read once");
}

#[test]
fn with_notifications_only_objects_that_changed_are_read_again() {
    let Some(mut bench) = Bench::new() else { return };
    let queue = bench.store.queue("news", "lake");
    let options = [("useNotifications", "true"), ("queueUrl", queue.as_str()), ("allowOverwrites", "true")];
    let create = bench.bronze("", &options);
    bench.ask(&create);
    // Found by a message, and dated by the store.
    bench.store.put_dated("lake", "in/a.json", &line(1), "2024-01-01T00:00:00+00:00");
    bench.ask(&create);
    let event = r#"{"Records":[{"eventName":"ObjectCreated:Put","eventTime":"2030-05-01T10:00:00Z","s3":{"bucket":{"name":"lake"},"object":{"key":"in/a.json","size":9}}}]}"#;
    bench.store.send(&queue, event);
    bench.ask(&create);
    assert_eq!(ids(&bench), [1], "a message that comes twice says nothing new");
    bench.store.put_dated("lake", "in/a.json", &line(2), "2024-01-02T00:00:00+00:00");
    bench.ask(&create);
    assert_eq!(ids(&bench), [1, 2]);
    assert_eq!(bench.store.depth(&queue), (0, 0));
}

#[test]
fn objects_that_were_read_are_moved() {
    let Some(mut bench) = Bench::new() else { return };
    let plain = bench.bronze("", &[]);
    let keys = ["in/a.json", "in/x/b.json", "in/c.json", "in/d.json"];
    for (id, key) in keys.iter().enumerate() {
        bench.store.put("lake", &[((*key).to_owned(), line(id as u64))]);
    }
    bench.ask(&format!("{plain} ALTER STREAM bronze FORGET FILE 'd.json';"));
    // As a crash between copy and deletion leaves it; another file of that name; one that was written again.
    bench.store.put("lake", &[("done/a.json".to_owned(), line(0)), ("done/x/b.json".to_owned(), line(7))]);
    bench.store.put("lake", &[("in/c.json".to_owned(), format!("{}{}", line(8), line(9)))]);
    let options = [
        ("cleanSource", "MOVE"),
        ("cleanSource.moveDestination", "s3://lake/done"),
        ("cleanSource.retentionDuration", "0 seconds"),
    ];
    bench.ask(&bench.bronze("", &options));
    let keys = bench.store.keys("lake", "");
    assert_eq!(keys.len(), 5, "{keys:?}");
    let renamed = keys.iter().find(|key| key.starts_with("done/x/b.json.")).unwrap_or_else(|| panic!("{keys:?}"));
    assert_eq!(
        [&keys[0], &keys[1], &keys[2], &keys[4]],
        ["done/a.json", "done/d.json", "done/x/b.json", "in/c.json"],
        "{keys:?}"
    );
    assert_eq!(ids(&bench), [0, 1, 2, 3, 3], "what was forgotten was read once more and moved then");
    let state = bench.ask(
        "SELECT path, archive_mode, move_location, archive_time IS NOT NULL AS t, reason FROM cloud_files_state('bronze') \
         ORDER BY path",
    );
    let of = |at: usize, column: &str| state[at][column].as_str().unwrap_or_default().to_owned();
    assert_eq!(of(0, "move_location"), "s3://lake/done/a.json");
    assert_eq!((of(0, "archive_mode"), &state[0]["t"]), ("MOVE".to_owned(), &json!(true)));
    assert!(of(1, "reason").contains("has changed since it was read"), "{state:?}");
    assert_eq!(of(3, "move_location"), format!("s3://lake/{renamed}"));

    // To another bucket; what the destination may not be.
    bench.store.bucket("attic");
    bench.store.put("lake", &[("in/e.json".to_owned(), line(5))]);
    let to = |to| [options[0], ("cleanSource.moveDestination", to), options[2]];
    bench.ask(&bench.bronze("", &to("s3://attic/from/lake")));
    assert_eq!(bench.store.keys("attic", ""), ["from/lake/e.json"]);
    for (destination, code) in [
        ("s3://lake/in/done", "CONTRADICTORY_OPTIONS"),
        ("s3a://lake", "CONTRADICTORY_OPTIONS"),
        ("/tmp/done", "INVALID_OPTION"),
        ("gs://lake/done", "INVALID_OPTION"),
    ] {
        let sql = bench.bronze("", &to(destination)).replace("bronze", "other");
        assert_eq!(bench.refused(&sql), (code.to_owned(), Some(1)), "{destination}");
    }
}

#[test]
fn statements_about_single_objects() {
    let Some(mut bench) = Bench::new() else { return };
    let create = bench.bronze("", &[]);
    bench.store.put("lake", &[("in/a b.json".to_owned(), line(1))]);
    bench.ask(&create);
    bench.store.put("lake", &[("in/b.json".to_owned(), line(2)), ("in/c.json".to_owned(), line(3))]);
    bench.ask("ALTER STREAM bronze SKIP FILE 's3a://lake/in/b.json'; ALTER STREAM bronze SKIP FILE 'later.json'");
    assert_eq!(bench.refused("ALTER STREAM bronze SKIP FILE 'a b.json'").0, "FILE_ALREADY_READ");
    assert_eq!(bench.refused("ALTER STREAM bronze SKIP FILE 's3://lake/out/b.json'").0, "FILE_NOT_IN_SOURCE");
    assert_eq!(bench.refused("ALTER STREAM bronze FORGET FILE 's3://lake/in/c.json'").0, "FILE_NOT_KNOWN");
    bench.store.put("lake", &[("in/later.json".to_owned(), line(4))]);
    bench.ask(&create);
    assert_eq!(ids(&bench), [1, 3]);
    let skipped = |name| state(name, "skipped", "kept out by ALTER STREAM … SKIP FILE");
    let read = |name, epoch| state(name, "ingested", &format!("ingested in epoch {epoch}"));
    assert_eq!(states(&bench), [read("a b.json", 0), skipped("b.json"), read("c.json", 1), skipped("later.json")]);
    let filled = "SELECT count(*) AS n FROM cloud_files_state('bronze') WHERE discovery_time <= processed_time \
                  AND processed_time <= commit_time AND size = 9 AND create_time IS NOT NULL AND source_id = '0' \
                  AND ingestion_state = 'INGESTED'";
    assert_eq!(bench.ask(filled), [json!({"n": 2})]);
    // As _metadata.file_path spells it.
    bench.ask("ALTER STREAM bronze FORGET FILE 's3://lake/in/a%20b.json'; ALTER STREAM bronze FORGET FILE 'b.json'");
    bench.ask(&create);
    assert_eq!(ids(&bench), [1, 1, 2, 3]);
}

#[test]
fn what_is_forgotten_is_found_again_although_a_queue_told_of_it_once() {
    let Some(mut bench) = Bench::new() else { return };
    let queue = bench.store.queue("news", "lake");
    let options = [("useNotifications", "true"), ("queueUrl", queue.as_str())];
    let create = bench.bronze("", &options);
    bench.store.put("lake", &[("in/a.json".to_owned(), line(1))]);
    bench.ask(&create);
    bench.store.put("lake", &[("in/b.json".to_owned(), line(2))]);
    bench.ask(&create);
    bench.ask("ALTER STREAM bronze FORGET FILE 'b.json'");
    bench.ask(&create);
    assert_eq!(ids(&bench), [1, 2, 2]);
    // While the stream runs, in the process that runs it.
    let mut running = Driven::start(&bench);
    running.tell("START STREAM bronze TRIGGER PROCESSING TIME '0 seconds';");
    bench.store.put("lake", &[("in/c.json".to_owned(), line(3))]);
    bench.has_rows(4, "an event");
    running.tell("ALTER STREAM bronze FORGET FILE 'a.json';");
    bench.has_rows(5, "what was forgotten");
    running.kill();
    assert_eq!(ids(&bench), [1, 1, 2, 2, 3]);
}

#[test]
fn what_is_forgotten_while_a_first_run_settles_is_read_by_the_next() {
    let Some(mut bench) = Bench::new() else { return };
    let queue = bench.store.queue("news", "lake");
    let options = [("useNotifications", "true"), ("queueUrl", queue.as_str()), ("maxFilesPerTrigger", "1")];
    let create = bench.bronze("", &options);
    for id in 0..40 {
        bench.store.put("lake", &[(format!("in/{id:02}.json"), line(id))]);
    }
    super::crash_at(&bench, &create, "after_intent:0");
    let mut running = Driven::start(&bench);
    running.tell("START STREAM bronze TRIGGER AVAILABLE NOW;");
    bench.has_rows(3, "some epochs");
    // The first listing is not read to its end, and the run takes nothing new.
    running.tell("ALTER STREAM bronze FORGET FILE '00.json'; AWAIT STREAM bronze FOR '200 seconds';");
    running.property("source 0 listings");
    running.kill();
    bench.ask(&create);
    let mut wanted: Vec<u64> = (0..40).collect();
    wanted.insert(0, 0);
    assert_eq!(ids(&bench), wanted);
    let listed = bench.store.requests("list");
    bench.ask(&create);
    assert_eq!((ids(&bench), bench.store.requests("list")), (wanted, listed), "and nothing is listed for it");
}

#[test]
fn what_no_event_told_is_found_by_the_backfill() {
    let Some(mut bench) = Bench::new() else { return };
    let queue = bench.store.queue("news", "lake");
    let options = |backfill: &'static str| {
        let mut options = vec![("useNotifications", "true"), ("queueUrl", queue.as_str())];
        options.extend((!backfill.is_empty()).then_some(("backfillInterval", backfill)));
        options
    };
    bench.store.put("lake", &[("in/a.json".to_owned(), line(1))]);
    bench.ask(&bench.bronze("", &options("")));
    bench.store.silence("lake");
    bench.store.put("lake", &[("in/b.json".to_owned(), line(2))]);
    bench.ask(&bench.bronze("", &options("")));
    assert_eq!(ids(&bench), [1], "nobody told");
    bench.ask(&bench.bronze("", &options("1 second")));
    assert_eq!(ids(&bench), [1, 2], "at a start");
    let mut running = Driven::start(&bench);
    running.tell(&bench.bronze("TRIGGER PROCESSING TIME '100 milliseconds'", &options("1 second")));
    bench.store.put("lake", &[("in/c.json".to_owned(), line(3))]);
    bench.has_rows(3, "while it runs");
    // Each interval brings one listing, whose end is noted.
    let listed = bench.store.requests("list");
    let begun = Instant::now();
    while bench.store.requests("list") < listed + 2 {
        assert!(begun.elapsed() < PATIENCE, "no listing any more");
        std::thread::sleep(Duration::from_millis(50));
    }
    running.kill();
    assert_eq!(ids(&bench), [1, 2, 3]);
}

#[test]
fn objects_of_before_the_first_start_can_be_left_out() {
    let Some(mut bench) = Bench::new() else { return };
    let create = bench.bronze("", &[("includeExistingFiles", "false")]);
    for id in 0..5 {
        bench.store.put("lake", &[(format!("in/{id}.json"), line(id))]);
    }
    bench.ask(&create);
    assert_eq!(bench.ask("SHOW EPOCHS FROM bronze").len(), 0, "nothing was read");
    bench.store.put("lake", &[("in/00.json".to_owned(), line(7))]);
    bench.ask(&create);
    assert_eq!(ids(&bench), [7], "it came after the first start, before the first epoch");
    let existing = state("0.json", "skipped", "there before the first start, includeExistingFiles is false");
    assert!(states(&bench).contains(&existing));
}

#[test]
fn google_storage_is_read_like_the_others() {
    let Some(mut bench) = Bench::new() else { return };
    let objects: Vec<_> = (0..1100).map(|id| (format!("in/{}/a {id}.json", id % 7), line(id))).collect();
    objects.chunks(100).for_each(|some| bench.store.put("lake", some));
    let create = |options: &str| {
        format!(
            "CREATE OR REFRESH STREAMING TABLE g AS SELECT id, _metadata.file_path AS p FROM \
             cloud_files('gs://lake/in', 'json', map('schema', 'id BIGINT', 'maxFilesPerTrigger', '400'{options}));"
        )
    };
    // Two pages of a listing, requests that are refused for a while, crashes.
    for kind in ["list", "get"] {
        bench.store.refuse(kind, 2, if kind == "list" { 503 } else { 429 });
    }
    super::crash_at(&bench, &create(""), "before_commit:1");
    let sums = "SELECT count(*) AS n, sum(id) AS s, min(p) AS p FROM g;";
    let whole = json!({"n": 1100, "s": 1100 * 1099 / 2, "p": "gs://lake/in/0/a%200.json"});
    assert_eq!(bench.ask(&format!("{} {sums}", create(""))).last(), Some(&whole));
    assert_eq!(bench.store.requests("refused"), 4);
    bench.ask("ALTER STREAM g SKIP FILE 'gs://lake/in/x.json'");
    bench.store.put("lake", &[("in/x.json".to_owned(), line(5)), ("in/y.json".to_owned(), line(0))]);
    let rows = bench.ask(&format!("{} {sums}", create("")));
    assert_eq!(rows.last().unwrap()["n"], 1101, "what is to be skipped is skipped");
}
