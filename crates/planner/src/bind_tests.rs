//! Names without case, `_metadata`, what `*` means, and how mistakes are reported.
#![allow(clippy::unwrap_used, clippy::panic)]

use crate::bind::{Wanted, wanted};
use crate::fixtures::{bound, query, state};

fn columns(sql: &str) -> Vec<String> {
    match bound(sql, &state()) {
        Ok(plan) => plan.schema().fields().iter().map(|field| field.name().clone()).collect(),
        Err(refusal) => panic!("{sql}: {refusal} {:?}", refusal.help),
    }
}

fn refusal(sql: &str) -> (&'static str, u64, u64) {
    match bound(sql, &state()) {
        Ok(plan) => panic!("{sql} binds to {plan}"),
        Err(refusal) => (refusal.code, refusal.span.start.line, refusal.span.start.column),
    }
}

#[test]
fn relations_are_wanted_once_and_ctes_are_not() {
    let query = query(
        "WITH b2 AS (SELECT * FROM b), s AS (SELECT * FROM s) SELECT * FROM B, b2, STREAM s, s WHERE 1 IN (SELECT v FROM x.y)",
    );
    let names: Vec<String> = wanted(&query)
        .iter()
        .map(|want| match want {
            Wanted::Named { parts, .. } => parts.join("."),
            Wanted::Special { index, .. } => format!("#{index}"),
        })
        .collect();
    assert_eq!(names, ["b", "s", "#0", "x.y"]);
}

#[test]
fn names_have_no_case_and_keep_their_spelling() {
    for sql in [
        "SELECT InvoiceNo FROM Invoices",
        "SELECT invoiceno FROM invoices",
        "SELECT INVOICES.INVOICENO FROM Invoices",
        "SELECT i.`invoiceNO` FROM Invoices AS I",
        "SELECT x.invoiceNo FROM (SELECT invoiceno, QUANTITY FROM Invoices) X",
        "WITH C AS (SELECT * FROM invoices) SELECT c.invoiceno FROM c",
        "SELECT invoiceno FROM Invoices GROUP BY INVOICENO HAVING count(QUANTITY) > 1 ORDER BY invoiceNo",
        "SELECT invoiceno FROM Invoices UNION ALL SELECT k FROM STREAM s ORDER BY INVOICENO",
    ] {
        assert_eq!(columns(sql), ["InvoiceNo"], "{sql}");
    }
    assert_eq!(columns("SELECT * EXCEPT (quantity, CUSTOMER) FROM Invoices"), ["InvoiceNo"]);
    assert_eq!(columns("SELECT customer.fullname, Customer.FULLNAME AS n FROM Invoices"), ["fullname", "n"]);
    assert_eq!(
        columns("SELECT o.InvoiceNo FROM invoices o WHERE EXISTS (SELECT 1 FROM b WHERE bk = O.invoiceno)"),
        ["InvoiceNo"]
    );
}

#[test]
fn columns_without_alias_are_called_as_in_spark() {
    assert_eq!(
        columns("SELECT count(*), sum(v), upper(k), 1, 'x', v + 1, s.k FROM STREAM s GROUP BY k, v"),
        ["count(1)", "sum(v)", "upper(k)", "1", "x", "v + 1", "k"]
    );
}

#[test]
fn metadata_is_there_and_not_in_star() {
    let files = "cloud_files('in', 'json')";
    assert_eq!(columns(&format!("SELECT * FROM {files}")), ["InvoiceNo", "Quantity", "Customer"]);
    assert_eq!(
        columns(&format!("SELECT f.*, _metadata.FILE_PATH, input_file_name() AS source_file FROM {files} F")),
        ["InvoiceNo", "Quantity", "Customer", "FILE_PATH", "source_file"]
    );
    assert_eq!(columns(&format!("SELECT *, input_file_name() FROM {files}")).last().unwrap(), "input_file_name()");
    assert_eq!(columns(&format!("SELECT * EXCEPT (customer) FROM {files}")), ["InvoiceNo", "Quantity"]);
    let two = format!("{files} a JOIN {files} b ON a.invoiceno = b.invoiceno");
    assert_eq!(columns(&format!("SELECT a.* FROM {two}")), ["InvoiceNo", "Quantity", "Customer"]);
    assert_eq!(columns(&format!("SELECT a.invoiceno AS x FROM {two} WHERE a._metadata.file_size > 1")), ["x"]);
    assert_eq!(refusal(&format!("SELECT input_file_name() FROM {two}")).0, "AMBIGUOUS_REFERENCE");
    assert_eq!(refusal(&format!("SELECT _metadata FROM {two}")).0, "AMBIGUOUS_REFERENCE");
}

#[test]
fn mistakes_have_code_place_and_suggestion() {
    assert_eq!(refusal("SELECT k,\n  vv FROM STREAM s"), ("UNRESOLVED_COLUMN", 2, 3));
    assert_eq!(refusal("SELECT s.nope FROM STREAM s"), ("UNRESOLVED_COLUMN", 1, 8));
    assert_eq!(refusal("SELECT k FROM STREAM s\nWHERE lenght(k) > 1"), ("UNRESOLVED_ROUTINE", 2, 7));
    assert_eq!(refusal("SELECT bk FROM b AS x JOIN b AS y ON x.bk = y.bk"), ("AMBIGUOUS_REFERENCE", 1, 8));
    assert_eq!(refusal("SELECT k, v FROM STREAM s GROUP BY k").0, "MISSING_AGGREGATION");
    assert_eq!(refusal("SELECT k FROM STREAM s WHERE ts + k > 1").0, "DATATYPE_MISMATCH");
    assert_eq!(refusal("SELECT customer.nope FROM Invoices").0, "INVALID_QUERY");
    let refused = bound("SELECT quantty FROM Invoices", &state()).unwrap_err();
    assert_eq!(refused.help.first().unwrap(), "did you mean `Quantity`?");
    for sql in ["SELECT * FROM b SORT BY bk", "SELECT * FROM b CLUSTER BY bk", "SELECT DISTINCT ON (bk) bk FROM b"] {
        let Ok(statement) = std::panic::catch_unwind(|| query(sql)) else { continue };
        drop(statement);
        assert_eq!(refusal(sql).0, "NOT_SUPPORTED_YET", "{sql}");
    }
}

#[test]
fn json_paths_are_read_from_text() {
    assert_eq!(
        columns("SELECT k:first_name, k:address.city[0] AS c, o.K:`zip code` AS z FROM STREAM s o"),
        ["first_name", "c", "z"]
    );
}
