//! Types as Databricks writes them, to Arrow and back.
//!
//! One table of names serves declared columns, casts in expressions and the DDL text of the `schema` and
//! `schemaHints` options. Timestamps are microseconds: with a zone they are UTC, without one TIMESTAMP_NTZ.

use std::sync::Arc;

use alluvium_parser::{Diagnostic, Span};
use datafusion::arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, Field, FieldRef, Fields, IntervalUnit, Schema, TimeUnit,
};
use datafusion::common::{DataFusionError, Result as PlanResult};
use datafusion::logical_expr::planner::TypePlanner;
use sqlparser::ast::{self, ArrayElemTypeDef, ExactNumberInfo, TimezoneInfo};

use crate::near::nearest as near;

const NAMES: [&str; 18] = [
    "BOOLEAN",
    "TINYINT",
    "SMALLINT",
    "INT",
    "BIGINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
    "STRING",
    "VARCHAR",
    "CHAR",
    "BINARY",
    "DATE",
    "TIMESTAMP",
    "TIMESTAMP_NTZ",
    "ARRAY",
    "MAP",
    "STRUCT",
];

/// TIMESTAMP: an instant.
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn unknown(name: &str) -> Diagnostic {
    let diagnostic = Diagnostic::new("UNSUPPORTED_DATATYPE", format!("there is no type {name}"));
    match near(name, NAMES) {
        Some(other) => diagnostic.help(format!("did you mean {other}?")),
        None => diagnostic.help(format!("types: {}", NAMES.join(", "))),
    }
}

/// A type without type arguments in `<…>`; `numbers` are the ones in parentheses.
fn simple(name: &str, numbers: &[u64]) -> Result<DataType, Diagnostic> {
    let data_type = match name.to_uppercase().as_str() {
        "BOOLEAN" | "BOOL" => DataType::Boolean,
        "TINYINT" | "BYTE" => DataType::Int8,
        "SMALLINT" | "SHORT" => DataType::Int16,
        "INT" | "INTEGER" => DataType::Int32,
        "BIGINT" | "LONG" => DataType::Int64,
        "FLOAT" | "REAL" => DataType::Float32,
        "DOUBLE" => DataType::Float64,
        "DECIMAL" | "DEC" | "NUMERIC" => return decimal(numbers),
        "STRING" | "VARCHAR" | "CHAR" | "CHARACTER" | "TEXT" => DataType::Utf8,
        "BINARY" => DataType::Binary,
        "DATE" => DataType::Date32,
        "TIMESTAMP" | "TIMESTAMP_LTZ" => timestamp(),
        "TIMESTAMP_NTZ" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "VOID" => DataType::Null,
        _ => return Err(unknown(name)),
    };
    Ok(data_type)
}

fn decimal(numbers: &[u64]) -> Result<DataType, Diagnostic> {
    let (precision, scale) = match numbers {
        [] => (10, 0),
        [precision] => (*precision, 0),
        [precision, scale, ..] => (*precision, *scale),
    };
    let fits = (1..=u64::from(DECIMAL128_MAX_PRECISION)).contains(&precision) && scale <= precision;
    match (fits, u8::try_from(precision), i8::try_from(scale)) {
        (true, Ok(precision), Ok(scale)) => Ok(DataType::Decimal128(precision, scale)),
        _ => Err(Diagnostic::new(
            "UNSUPPORTED_DATATYPE",
            format!("DECIMAL({precision}, {scale}): the precision is 1 to 38 and the scale at most the precision"),
        )),
    }
}

/// A list of `element`, with the field name Delta and Parquet use.
fn list_of(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("element", element, true)))
}

fn map_of(key: DataType, value: DataType) -> DataType {
    let entries = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entries), false)), false)
}

/// A parsed type as Arrow's.
///
/// # Errors
/// UNSUPPORTED_DATATYPE, without a place: the syntax tree does not say where a type stands.
pub fn arrow_type(t: &ast::DataType) -> Result<DataType, Diagnostic> {
    use ast::DataType as Sql;
    match t {
        Sql::Boolean | Sql::Bool => Ok(DataType::Boolean),
        Sql::TinyInt(_) => Ok(DataType::Int8),
        Sql::SmallInt(_) => Ok(DataType::Int16),
        Sql::Int(_) | Sql::Integer(_) => Ok(DataType::Int32),
        Sql::BigInt(_) => Ok(DataType::Int64),
        Sql::Float(_) | Sql::Real => Ok(DataType::Float32),
        Sql::Double(_) | Sql::DoublePrecision => Ok(DataType::Float64),
        Sql::Decimal(info) | Sql::Dec(info) | Sql::Numeric(info) => decimal(&numbers_of(info)),
        Sql::String(_) | Sql::Varchar(_) | Sql::Char(_) | Sql::Character(_) | Sql::Text => Ok(DataType::Utf8),
        Sql::CharacterVarying(_) | Sql::CharVarying(_) => Ok(DataType::Utf8),
        Sql::Binary(_) | Sql::Bytes(_) | Sql::Varbinary(_) => Ok(DataType::Binary),
        Sql::Date => Ok(DataType::Date32),
        Sql::Timestamp(_, TimezoneInfo::WithoutTimeZone) | Sql::TimestampNtz(_) => simple("TIMESTAMP_NTZ", &[]),
        Sql::Timestamp(_, _) => Ok(timestamp()),
        Sql::Interval { .. } => Ok(DataType::Interval(IntervalUnit::MonthDayNano)),
        Sql::Array(ArrayElemTypeDef::AngleBracket(element) | ArrayElemTypeDef::Parenthesis(element)) => {
            Ok(list_of(arrow_type(element)?))
        }
        Sql::Map(key, value) => Ok(map_of(arrow_type(key)?, arrow_type(value)?)),
        Sql::Struct(fields, _) => Ok(DataType::Struct(struct_fields(fields)?)),
        Sql::Custom(name, _) => simple(&name.to_string(), &[]),
        other => Err(unknown(&other.to_string())),
    }
}

fn numbers_of(info: &ExactNumberInfo) -> Vec<u64> {
    match info {
        ExactNumberInfo::None => Vec::new(),
        ExactNumberInfo::Precision(precision) => vec![*precision],
        ExactNumberInfo::PrecisionAndScale(precision, scale) => {
            vec![*precision, u64::try_from(*scale).unwrap_or(u64::MAX)]
        }
    }
}

fn struct_fields(fields: &[ast::StructField]) -> Result<Fields, Diagnostic> {
    fields
        .iter()
        .map(|field| match &field.field_name {
            Some(name) => Ok(Field::new(&name.value, arrow_type(&field.field_type)?, true)),
            None => Err(Diagnostic::new("UNSUPPORTED_DATATYPE", "the fields of a STRUCT need names: STRUCT<a: INT>")
                .at(Span::UNKNOWN)),
        })
        .collect()
}

/// Gives DataFusion's SQL planner Databricks' types (for CAST and typed literals).
#[derive(Debug)]
pub(crate) struct DatabricksTypes;

impl TypePlanner for DatabricksTypes {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> PlanResult<Option<FieldRef>> {
        let data_type = arrow_type(sql_type).map_err(|refusal| DataFusionError::Plan(refusal.message))?;
        Ok(Some(Arc::new(Field::new("", data_type, true))))
    }
}

/// Columns from DDL text: `a INT, b STRUCT<c: STRING> COMMENT 's', d.e DATE`. Dotted names stay dotted.
///
/// # Errors
/// INVALID_SCHEMA or UNSUPPORTED_DATATYPE; the place is the caller's to add.
pub fn parse_ddl(text: &str) -> Result<Schema, Diagnostic> {
    let mut reader = Reader { tokens: tokens(text)?, at: 0, text };
    let mut fields: Vec<Field> = Vec::new();
    while reader.peek().is_some() {
        let mut name = reader.name()?;
        while reader.eat('.') {
            name = format!("{name}.{}", reader.name()?);
        }
        let field = reader.field(name)?;
        if fields.iter().any(|other| other.name().eq_ignore_ascii_case(field.name())) {
            return Err(Diagnostic::new("COLUMN_ALREADY_EXISTS", format!("column `{}` is there twice", field.name())));
        }
        fields.push(field);
        if !reader.eat(',') && reader.peek().is_some() {
            return Err(reader.expected("`,`"));
        }
    }
    Ok(Schema::new(fields))
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Quoted(String),
    Literal(String),
    Symbol(char),
}

fn tokens(text: &str) -> Result<Vec<Token>, Diagnostic> {
    let mut out = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => {}
            '`' | '\'' | '"' => {
                let mut inside = String::new();
                loop {
                    match chars.next() {
                        Some(end) if end == c && chars.peek() == Some(&c) => {
                            chars.next();
                            inside.push(c);
                        }
                        Some(end) if end == c => break,
                        Some(other) => inside.push(other),
                        None => {
                            return Err(Diagnostic::new("INVALID_SCHEMA", format!("`{text}`: a {c} is not closed")));
                        }
                    }
                }
                out.push(if c == '`' { Token::Quoted(inside) } else { Token::Literal(inside) });
            }
            c if c.is_alphanumeric() || c == '_' => {
                let mut word = String::from(c);
                while let Some(next) = chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    word.push(next);
                }
                out.push(Token::Word(word));
            }
            c => out.push(Token::Symbol(c)),
        }
    }
    Ok(out)
}

struct Reader<'t> {
    tokens: Vec<Token>,
    at: usize,
    text: &'t str,
}

impl Reader<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn eat(&mut self, symbol: char) -> bool {
        let found = self.peek() == Some(&Token::Symbol(symbol));
        self.at += usize::from(found);
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(typed)) if typed.eq_ignore_ascii_case(word));
        self.at += usize::from(found);
        found
    }

    fn expected(&self, what: &str) -> Diagnostic {
        let found = match self.peek() {
            Some(Token::Word(word) | Token::Quoted(word) | Token::Literal(word)) => format!("`{word}`"),
            Some(Token::Symbol(symbol)) => format!("`{symbol}`"),
            None => "the end".to_string(),
        };
        Diagnostic::new("INVALID_SCHEMA", format!("schema `{}`: expected {what}, found {found}", self.text))
            .help("write columns as `name TYPE, name TYPE`, for example `id BIGINT, tags ARRAY<STRING>`")
    }

    fn name(&mut self) -> Result<String, Diagnostic> {
        match self.peek().cloned() {
            Some(Token::Word(name) | Token::Quoted(name)) => {
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.expected("a column name")),
        }
    }

    /// What follows a name: `[:] type [NOT NULL] [COMMENT 's']`.
    fn field(&mut self, name: String) -> Result<Field, Diagnostic> {
        self.eat(':');
        let data_type = self.data_type()?;
        let mut nullable = true;
        if self.eat_word("NOT") {
            if !self.eat_word("NULL") {
                return Err(self.expected("NULL"));
            }
            nullable = false;
        }
        if self.eat_word("COMMENT") {
            match self.peek() {
                Some(Token::Literal(_)) => self.at += 1,
                _ => return Err(self.expected("a comment in quotes")),
            }
        }
        Ok(Field::new(name, data_type, nullable))
    }

    fn data_type(&mut self) -> Result<DataType, Diagnostic> {
        let Some(Token::Word(name)) = self.peek().cloned() else { return Err(self.expected("a type")) };
        self.at += 1;
        match name.to_uppercase().as_str() {
            "ARRAY" => {
                self.open()?;
                let element = self.data_type()?;
                self.close()?;
                Ok(list_of(element))
            }
            "MAP" => {
                self.open()?;
                let key = self.data_type()?;
                if !self.eat(',') {
                    return Err(self.expected("`,`"));
                }
                let value = self.data_type()?;
                self.close()?;
                Ok(map_of(key, value))
            }
            "STRUCT" => {
                self.open()?;
                let mut fields = Vec::new();
                while !self.eat('>') {
                    let name = self.name()?;
                    fields.push(self.field(name)?);
                    if !self.eat(',') && self.peek() != Some(&Token::Symbol('>')) {
                        return Err(self.expected("`,` or `>`"));
                    }
                }
                Ok(DataType::Struct(Fields::from(fields)))
            }
            _ => {
                let numbers = self.numbers()?;
                simple(&name, &numbers)
            }
        }
    }

    fn open(&mut self) -> Result<(), Diagnostic> {
        if self.eat('<') { Ok(()) } else { Err(self.expected("`<`")) }
    }

    fn close(&mut self) -> Result<(), Diagnostic> {
        if self.eat('>') { Ok(()) } else { Err(self.expected("`>`")) }
    }

    fn numbers(&mut self) -> Result<Vec<u64>, Diagnostic> {
        let mut numbers = Vec::new();
        if self.eat('(') {
            while !self.eat(')') {
                match self.peek() {
                    Some(Token::Word(word)) if word.parse::<u64>().is_ok() => {
                        numbers.extend(word.parse::<u64>().ok());
                        self.at += 1;
                    }
                    _ => return Err(self.expected("a number")),
                }
                self.eat(',');
            }
        }
        Ok(numbers)
    }
}

/// An Arrow type in Databricks' spelling, for DESCRIBE.
pub fn sql_type(t: &DataType) -> String {
    match t {
        DataType::Null => "VOID".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 | DataType::UInt8 => "SMALLINT".into(),
        DataType::Int32 | DataType::UInt16 => "INT".into(),
        DataType::Int64 | DataType::UInt32 => "BIGINT".into(),
        DataType::UInt64 => "DECIMAL(20,0)".into(),
        DataType::Float16 | DataType::Float32 => "FLOAT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) => {
            format!("DECIMAL({p},{s})")
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "STRING".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "BINARY".into()
        }
        DataType::Date32 | DataType::Date64 => "DATE".into(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP".into(),
        DataType::Timestamp(_, None) => "TIMESTAMP_NTZ".into(),
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL".into(),
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            format!("ARRAY<{}>", sql_type(element.data_type()))
        }
        DataType::Dictionary(_, value) => sql_type(value),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                format!("MAP<{}, {}>", sql_type(fields[0].data_type()), sql_type(fields[1].data_type()))
            }
            other => format!("MAP<{other}>"),
        },
        DataType::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|field| format!("{}: {}", field.name(), sql_type(field.data_type()))).collect();
            format!("STRUCT<{}>", fields.join(", "))
        }
        other => other.to_string().to_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{parse_ddl, sql_type};

    #[test]
    fn ddl_reads_and_writes_every_type() {
        let text = "a INT, `b c` DECIMAL, d STRUCT<e: STRING NOT NULL, f: ARRAY<MAP<STRING, DECIMAL(12,2)>>>, \
                    g.h timestamp_ntz NOT NULL COMMENT 'x', i Timestamp";
        let schema = parse_ddl(text).unwrap();
        let written: Vec<String> =
            schema.fields().iter().map(|f| format!("{} {}", f.name(), sql_type(f.data_type()))).collect();
        assert_eq!(
            written,
            [
                "a INT",
                "b c DECIMAL(10,0)",
                "d STRUCT<e: STRING, f: ARRAY<MAP<STRING, DECIMAL(12,2)>>>",
                "g.h TIMESTAMP_NTZ",
                "i TIMESTAMP"
            ]
        );
        assert!(!schema.field(3).is_nullable());
    }

    #[test]
    fn ddl_mistakes_name_what_is_wrong() {
        let code = |text: &str| parse_ddl(text).unwrap_err().code;
        assert_eq!(code("a IMT"), "UNSUPPORTED_DATATYPE");
        assert_eq!(code("a"), "INVALID_SCHEMA");
        assert_eq!(code("a INT b INT"), "INVALID_SCHEMA");
        assert_eq!(code("a INT, A INT"), "COLUMN_ALREADY_EXISTS");
        assert_eq!(code("a DECIMAL(50,2)"), "UNSUPPORTED_DATATYPE");
        assert_eq!(code("a ARRAY<INT"), "INVALID_SCHEMA");
        assert!(parse_ddl("a IMT").unwrap_err().help[0].contains("INT"));
    }
}
