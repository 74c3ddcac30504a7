//! JSON objects in column order, one per line, or as one array per result.

use std::io::{self, Write};

use super::value::{Zone, write_json, write_json_string};
use super::{ResultWriter, Summary};
use crate::engine::arrow::array::RecordBatch;
use crate::engine::arrow::datatypes::SchemaRef;

/// Writes one object per row.
pub struct JsonWriter {
    zone: Zone,
    /// `"name":` of each column, escaped once.
    keys: Vec<String>,
    array: bool,
    rows: u64,
}

impl JsonWriter {
    /// One array of objects, each on its own line.
    pub fn array(zone: Zone, schema: &SchemaRef) -> Self {
        Self::new(zone, schema, true)
    }

    /// One object per line.
    pub fn lines(zone: Zone, schema: &SchemaRef) -> Self {
        Self::new(zone, schema, false)
    }

    fn new(zone: Zone, schema: &SchemaRef, array: bool) -> Self {
        let key = |name: &String| {
            let mut key = String::new();
            write_json_string(&mut key, name);
            key.push(':');
            key
        };
        let keys = schema.fields().iter().map(|field| key(field.name())).collect();
        JsonWriter { zone, keys, array, rows: 0 }
    }
}

impl ResultWriter for JsonWriter {
    fn batch(&mut self, out: &mut dyn Write, batch: &RecordBatch) -> io::Result<()> {
        let mut line = String::new();
        for row in 0..batch.num_rows() {
            line.clear();
            if self.array {
                line.push_str(if self.rows == 0 { "[" } else { ",\n " });
            }
            line.push('{');
            for (index, (key, column)) in self.keys.iter().zip(batch.columns()).enumerate() {
                if index > 0 {
                    line.push(',');
                }
                line.push_str(key);
                write_json(&mut line, column, row, self.zone);
            }
            line.push('}');
            if !self.array {
                line.push('\n');
            }
            out.write_all(line.as_bytes())?;
            self.rows += 1;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<Summary> {
        if self.array {
            out.write_all(if self.rows == 0 { b"[]\n" } else { b"]\n" })?;
        }
        let columns = self.keys.len();
        Ok(Summary { rows: self.rows, rows_shown: self.rows, columns, columns_shown: columns })
    }
}
