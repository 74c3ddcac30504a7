//! `read_state` of a join of streams: a row for each row that is kept, of either side.
//!
//! Columns that both sides have by one name and type are one column; what only the other side has is NULL. So a query says
//! `WHERE side = 'left'` where it means one of them.

use std::fmt;
use std::sync::{Arc, Weak};

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::streaming::PartitionStream;

use crate::catalog::StreamEntry;
use crate::error::Result;
use crate::session::Inner;
use crate::session::state::from_checkpoint;
use crate::state::JoinRows;

/// Columns in front of those of the rows: the operator's number and kind, and the side.
const OWN: usize = 3;

/// Rows of a join's state as they are when the query begins to read.
pub(super) struct JoinStateRows {
    session: Weak<Inner>,
    stream: StreamEntry,
    operator: u32,
    kind: Option<String>,
    schema: SchemaRef,
    /// By side: where each of its columns stands in the schema.
    places: Vec<(&'static str, Vec<usize>)>,
}

impl JoinStateRows {
    /// The rows of an operator, `sides` of which tell what there is.
    pub fn new(
        session: Weak<Inner>,
        stream: StreamEntry,
        (operator, kind): (u32, Option<String>),
        sides: Vec<JoinRows>,
    ) -> Result<JoinStateRows> {
        let (mut fields, mut places) = (Vec::new(), Vec::new());
        for (at, rows) in sides.into_iter().enumerate() {
            let rows = rows.with_keys()?;
            places.push((rows.side(), merged(&mut fields, &rows, at)));
        }
        let taken = |name: &str| fields.iter().any(|field: &Field| field.name().eq_ignore_ascii_case(name));
        let own = |name: &str| if taken(name) { format!("_{name}") } else { name.to_string() };
        let mut all = vec![
            Field::new(own("operator"), DataType::Int32, false),
            Field::new(own("kind"), DataType::Utf8, true),
            Field::new(own("side"), DataType::Utf8, false),
        ];
        all.extend(fields);
        Ok(JoinStateRows { session, stream, operator, kind, schema: Arc::new(Schema::new(all)), places })
    }
}

/// Puts the columns of a side's rows among `fields`, and says where. `time` and `matched`, which the rows have last, come
/// before what the query calls.
fn merged(fields: &mut Vec<Field>, rows: &JoinRows, side: usize) -> Vec<usize> {
    let schema = rows.schema();
    let columns = schema.fields().len();
    let keys = schema.fields().iter().take_while(|field| field.name().starts_with("key_")).count();
    let mut places = vec![0; columns];
    let mut used: Vec<usize> = Vec::new();
    for at in (0..keys).chain(columns - 2..columns).chain(keys..columns - 2) {
        let field = schema.field(at);
        let same = |(place, known): (usize, &Field)| {
            (known.name().eq_ignore_ascii_case(field.name())
                && known.data_type() == field.data_type()
                && !used.contains(&place))
            .then_some(place)
        };
        let found = fields.iter().enumerate().find_map(same).filter(|_| side > 0);
        let place = found.unwrap_or_else(|| {
            let taken = |name: &str| fields.iter().any(|known| known.name().eq_ignore_ascii_case(name));
            let mut name = field.name().clone();
            while taken(&name) {
                name = format!("{}_{name}", rows.side());
            }
            fields.push(Field::new(name, field.data_type().clone(), true));
            fields.len() - 1
        });
        used.push(place);
        places[at] = OWN + place;
    }
    places
}

fn rows_of(
    schema: &SchemaRef,
    operator: u32,
    kind: Option<&str>,
    (side, places): (&str, &[(&'static str, Vec<usize>)]),
    rows: &RecordBatch,
) -> Result<RecordBatch> {
    let count = rows.num_rows();
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![operator as i32; count])),
        Arc::new(StringArray::from(vec![kind; count])),
        Arc::new(StringArray::from(vec![side; count])),
    ];
    columns.extend(schema.fields()[OWN..].iter().map(|field| new_null_array(field.data_type(), count)));
    let places = places.iter().find(|(of, _)| *of == side).map(|(_, places)| places.as_slice()).unwrap_or_default();
    for (column, place) in rows.columns().iter().zip(places) {
        columns[*place] = column.clone();
    }
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

impl fmt::Debug for JoinStateRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinStateRows({})", self.operator)
    }
}

impl PartitionStream for JoinStateRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = self.schema.clone();
        let (operator, kind, places) = (self.operator, self.kind.clone(), self.places.clone());
        from_checkpoint(&self.session, &self.stream, &self.schema, move |checkpoint, out| {
            for rows in checkpoint.join_rows(operator, None)? {
                let side = rows.side();
                for rows in rows.with_keys()? {
                    if !out(rows_of(&schema, operator, kind.as_deref(), (side, &places), &rows?)?) {
                        return Ok(());
                    }
                }
            }
            Ok(())
        })
    }
}
