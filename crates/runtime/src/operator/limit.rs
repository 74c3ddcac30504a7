//! `LIMIT` over a stream.
//!
//! State: one row without a key, how many rows went on so far. Written by each epoch that lets rows through; never
//! forgotten. Which rows of an epoch are the first is not said. The input is read to its end, whatever is let through:
//! operators below take in all of it, and so do the sources' positions.

use std::fmt;
use std::sync::{Arc, PoisonError};

use arrow::array::{Array, AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::common::Result as DfResult;
use futures::StreamExt;

use super::exec::{Operator, Rows, Run};
use super::plan::StagedCell;
use crate::error::Result;
use crate::state::{StateTable, Touched};

/// Lets the first rows through; see the module.
pub(super) struct StreamLimit {
    rows: u64,
    table: Arc<StateTable>,
    epoch: u64,
    staged: StagedCell,
}

impl StreamLimit {
    /// Lets `rows` through.
    pub(super) fn try_new(rows: u64, table: Arc<StateTable>, epoch: u64, staged: StagedCell) -> DfResult<StreamLimit> {
        table.bind(&Schema::new(vec![Field::new("rows", DataType::Int64, true)]), 0)?;
        Ok(StreamLimit { rows, table, epoch, staged })
    }
}

/// How many rows the LIMIT whose state this is let through by committed epochs.
pub fn rows_let_through(table: &StateTable) -> Result<u64> {
    for rows in table.scan(None)? {
        let rows = rows?;
        let count = rows.columns().first().and_then(|column| column.as_primitive_opt::<Int64Type>());
        if let Some(count) = count.filter(|count| count.len() == 1) {
            return Ok(count.value(0) as u64);
        }
    }
    Ok(0)
}

/// How far a run over an epoch's rows is.
struct Counted {
    touched: Vec<u32>,
    is_new: bool,
    before: u64,
    now: u64,
}

impl Counted {
    fn begin(table: &StateTable) -> DfResult<Counted> {
        let mut touched = Vec::new();
        table.touch(table.begin_run()?, &[], 1, &mut touched, &mut Touched::default())?;
        let is_new = table.stored(&touched, &[])?.positions.is_empty();
        let before = rows_let_through(table)?;
        Ok(Counted { touched, is_new, before, now: before })
    }

    fn finish(self, limit: &StreamLimit) -> DfResult<()> {
        let staged = match self.now == self.before {
            true => {
                limit.table.stage(limit.epoch, vec![Arc::new(Int64Array::from(Vec::<i64>::new()))], Vec::new(), 0, None)
            }
            false => {
                let count = Int64Array::from(vec![self.now as i64]);
                limit.table.stage(limit.epoch, vec![Arc::new(count)], self.touched, u64::from(self.is_new), None)
            }
        };
        *limit.staged.lock().unwrap_or_else(PoisonError::into_inner) = Some(staged?);
        Ok(())
    }
}

impl Operator for StreamLimit {
    fn name(&self) -> &'static str {
        "StreamLimitExec"
    }

    fn describe(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "operator={}, rows={}", self.table.operator(), self.rows)
    }

    fn needs_every_row(&self) -> bool {
        true
    }

    fn run(self: Arc<Self>, run: Run) -> DfResult<Rows> {
        let begun = (Counted::begin(&self.table)?, run.input()?, self);
        let rows = futures::stream::try_unfold(Some(begun), |state| async move {
            let Some((mut counted, mut input, limit)) = state else { return Ok(None) };
            while let Some(batch) = input.next().await {
                let batch = batch?;
                let left = limit.rows.saturating_sub(counted.now);
                let rows = left.min(batch.num_rows() as u64);
                if rows > 0 {
                    counted.now += rows;
                    return Ok(Some((batch.slice(0, rows as usize), Some((counted, input, limit)))));
                }
            }
            counted.finish(&limit)?;
            Ok(None)
        });
        Ok(rows.boxed())
    }
}
