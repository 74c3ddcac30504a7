//! What is decoded: events clean and dirty, nested orders, wide rows, sparse rows, long texts, texts full of escapes.

use std::fmt::Write;
use std::sync::Arc;

use alluvium_formats::Format;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// One measurement.
pub struct Case {
    /// What it is called in reports.
    pub name: &'static str,
    /// Which decoder.
    pub format: Format,
    /// Rows in its text.
    pub rows: usize,
    /// Whether quotes inside values are doubled; theirs knows no other way.
    pub doubled_quotes: bool,
    /// Whether ours reads its text with dirt in it: of a hundred records one broken and five drifted.
    pub dirty: bool,
    /// Its columns.
    pub schema: fn() -> SchemaRef,
    /// Its text.
    pub text: fn(bool) -> Vec<u8>,
}

const ROWS: usize = 100_000;
const WIDE_ROWS: usize = 10_000;
const LONG_ROWS: usize = 10_000;

/// All of them.
pub const CASES: &[Case] = &[
    json("json", ROWS, false, events, events_json),
    json("json dirty", ROWS, true, events, events_json),
    json("json nested", ROWS, false, orders, orders_json),
    json("json nested dirty", ROWS, true, orders, orders_json),
    json("json 100 columns", WIDE_ROWS, false, wide, |_| wide_json(1)),
    json("json 100 columns, one in ten there", WIDE_ROWS, false, wide, |_| wide_json(10)),
    json("json long texts", LONG_ROWS, false, texts, |_| texts_json(LONG)),
    json("json escapes", LONG_ROWS, false, texts, |_| texts_json(ESCAPES)),
    json("json not ASCII", LONG_ROWS, false, texts, |_| texts_json(FOREIGN)),
    csv("csv", ROWS, false, events, events_csv),
    csv("csv dirty", ROWS, true, events, events_csv),
    csv("csv 100 columns", WIDE_ROWS, false, wide, |_| wide_csv()),
    csv("csv long texts", LONG_ROWS, false, texts, |_| texts_csv(LONG)),
    Case { doubled_quotes: true, ..csv("csv escapes", LONG_ROWS, false, texts, |_| texts_csv(ESCAPES)) },
    csv("csv not ASCII", LONG_ROWS, false, texts, |_| texts_csv(FOREIGN)),
];

const fn json(
    name: &'static str,
    rows: usize,
    dirty: bool,
    schema: fn() -> SchemaRef,
    text: fn(bool) -> Vec<u8>,
) -> Case {
    Case { name, format: Format::Json, rows, doubled_quotes: false, dirty, schema, text }
}

const fn csv(
    name: &'static str,
    rows: usize,
    dirty: bool,
    schema: fn() -> SchemaRef,
    text: fn(bool) -> Vec<u8>,
) -> Case {
    Case { name, format: Format::Csv, rows, doubled_quotes: false, dirty, schema, text }
}

fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

fn events() -> SchemaRef {
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        field("id", DataType::Int64),
        field("user_id", DataType::Utf8),
        field("country", DataType::Utf8),
        field("quantity", DataType::Int64),
        field("price", DataType::Float64),
        field("active", DataType::Boolean),
        field("created", timestamp),
        field("note", DataType::Utf8),
    ]))
}

/// How a row of dirty data is.
enum Row {
    Clean,
    Broken,
    Misfit,
    NewField,
}

fn kind(row: usize, dirty: bool) -> Row {
    match row % 100 {
        7 if dirty => Row::Broken,
        11 | 31 | 51 if dirty => Row::Misfit,
        71 | 91 if dirty => Row::NewField,
        _ => Row::Clean,
    }
}

fn events_json(dirty: bool) -> Vec<u8> {
    let mut text = String::new();
    for row in 0..ROWS {
        let (user, country, cents) = (row * 7919 % 100_000, ["IT", "DE", "FR", "US"][row % 4], row * 31 % 100_000);
        let id = match kind(row, dirty) {
            Row::Clean => row.to_string(),
            Row::Broken => "oops".to_owned(),
            Row::Misfit => "\"oops\"".to_owned(),
            Row::NewField => format!("{row},\"extra\":{{\"n\":{row}}}"),
        };
        let _ = writeln!(
            text,
            "{{\"id\":{id},\"user_id\":\"U{user:06}\",\"country\":\"{country}\",\"quantity\":{},\"price\":{}.{:02},\
             \"active\":{},\"created\":\"2024-01-{:02}T10:{:02}:{:02}.123Z\",\"note\":\"a short note about row {row}\"}}",
            row % 9 + 1,
            cents / 100,
            cents % 100,
            row % 3 == 0,
            row % 28 + 1,
            row % 60,
            row / 60 % 60,
        );
    }
    text.into_bytes()
}

/// Of CSV rows a surplus of values is what is broken; what JSON has as new fields are misfits here.
fn events_csv(dirty: bool) -> Vec<u8> {
    let mut text = String::from("id,user_id,country,quantity,price,active,created,note\n");
    for row in 0..ROWS {
        let (user, country, cents) = (row * 7919 % 100_000, ["IT", "DE", "FR", "US"][row % 4], row * 31 % 100_000);
        let id = match kind(row, dirty) {
            Row::Clean => row.to_string(),
            Row::Broken => format!("{row},one,more"),
            Row::Misfit | Row::NewField => "oops".to_owned(),
        };
        let _ = writeln!(
            text,
            "{id},U{user:06},{country},{},{}.{:02},{},2024-01-{:02}T10:{:02}:{:02}.123Z,\"a short note, row {row}\"",
            row % 9 + 1,
            cents / 100,
            cents % 100,
            row % 3 == 0,
            row % 28 + 1,
            row % 60,
            row / 60 % 60,
        );
    }
    text.into_bytes()
}

fn orders() -> SchemaRef {
    let course = vec![
        field("course_id", DataType::Utf8),
        field("discount_percent", DataType::Int64),
        field("subtotal", DataType::Float64),
    ];
    let address = vec![field("city", DataType::Utf8), field("zip", DataType::Utf8)];
    let customer = vec![field("name", DataType::Utf8), field("address", DataType::Struct(address.into()))];
    let courses = DataType::List(Arc::new(field("element", DataType::Struct(course.into()))));
    Arc::new(Schema::new(vec![
        field("courses", courses),
        field("customer", DataType::Struct(customer.into())),
        field("enroll_id", DataType::Utf8),
        field("enroll_timestamp", DataType::Int64),
        field("total", DataType::Float64),
    ]))
}

fn orders_json(dirty: bool) -> Vec<u8> {
    let mut text = String::new();
    for row in 0..ROWS {
        let courses: Vec<_> = (0..row % 3 + 1)
            .map(|n| format!("{{\"course_id\":\"C{n:02}\",\"discount_percent\":{},\"subtotal\":{n}.25}}", row % 90))
            .collect();
        let zip = match kind(row, dirty) {
            Row::Clean => format!("\"{row:05}\""),
            Row::Broken => "oops".to_owned(),
            Row::Misfit | Row::NewField => format!("\"{row:05}\",\"street\":{{\"no\":{row}}}"),
        };
        let _ = writeln!(
            text,
            "{{\"courses\":[{}],\"customer\":{{\"name\":\"N{}\",\"address\":{{\"city\":\"Bologna\",\"zip\":{zip}}}}},\
             \"enroll_id\":\"{row:016}\",\"enroll_timestamp\":{},\"total\":{}.5}}",
            courses.join(","),
            row % 977,
            1_657_521_575 + row,
            row % 100,
        );
    }
    text.into_bytes()
}

const WIDE: usize = 100;

fn wide() -> SchemaRef {
    let types = [DataType::Int64, DataType::Float64, DataType::Utf8, DataType::Int64];
    Arc::new(Schema::new((0..WIDE).map(|at| field(&format!("column_{at}"), types[at % 4].clone())).collect::<Vec<_>>()))
}

fn wide_value(row: usize, column: usize, quote: &str) -> String {
    let number = row * 31 + column * 7919;
    match column % 4 {
        1 => format!("{}.{}", number % 10_000, number % 10),
        2 => format!("{quote}v{}{quote}", number % 100_000),
        _ => (number % 1_000_000).to_string(),
    }
}

/// Every `step`th column, another tenth of them in each row.
fn wide_json(step: usize) -> Vec<u8> {
    let mut text = String::new();
    for row in 0..WIDE_ROWS {
        let columns = (row % step..WIDE).step_by(step);
        let fields: Vec<_> = columns.map(|at| format!("\"column_{at}\":{}", wide_value(row, at, "\""))).collect();
        let _ = writeln!(text, "{{{}}}", fields.join(","));
    }
    text.into_bytes()
}

fn wide_csv() -> Vec<u8> {
    let names: Vec<_> = (0..WIDE).map(|at| format!("column_{at}")).collect();
    let mut text = names.join(",") + "\n";
    for row in 0..WIDE_ROWS {
        let values: Vec<_> = (0..WIDE).map(|at| wide_value(row, at, "")).collect();
        let _ = writeln!(text, "{}", values.join(","));
    }
    text.into_bytes()
}

/// Repeated to about 2,000 bytes.
const LONG: &str = "the river rose by a hand in the night and left its sand on the steps; ";
const ESCAPES: &str = "say \"so\"\tor\n\\no\\ ";
const FOREIGN: &str = "Größe, naïveté, 東京, Москва, señor 😀; ";

fn texts() -> SchemaRef {
    Arc::new(Schema::new(vec![field("id", DataType::Int64), field("body", DataType::Utf8)]))
}

fn body(piece: &str) -> String {
    piece.repeat(2000 / piece.len())
}

fn texts_json(piece: &str) -> Vec<u8> {
    let body = serde_json::Value::from(body(piece)).to_string();
    let rows = (0..LONG_ROWS).map(|row| format!("{{\"id\":{row},\"body\":{body}}}\n"));
    rows.collect::<String>().into_bytes()
}

fn texts_csv(piece: &str) -> Vec<u8> {
    let body = body(piece).replace('"', "\"\"").replace('\n', " ");
    let rows = (0..LONG_ROWS).map(|row| format!("{row},\"{body}\"\n"));
    ("id,body\n".to_owned() + &rows.collect::<String>()).into_bytes()
}
