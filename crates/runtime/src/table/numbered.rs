//! Data files whose rows have places: every row that goes in is told the number of its file and its own in it.
//!
//! For writers that find rows again. Rows of a partition go into one file, in the order in which they come; a file that
//! is full gives way to one with the next number. Knows nothing of what the places are for.

use std::sync::Arc;

use arrow::array::RecordBatch;
use indexmap::IndexMap;

use super::actions::AddFile;
use super::files::{ENCODING_BYTES, FILE_BYTES, Layout, OPEN_FILES, OpenFile, Staged};
use super::partition::Values;
use crate::error::Result;

/// Rows of a file at most: what has to be written again when half of them are dead.
const FILE_ROWS: u64 = 1 << 20;

/// A closed file.
#[derive(Debug, Clone)]
pub struct NumberedFile {
    /// Its number.
    pub number: u32,
    /// Its add.
    pub add: AddFile,
    /// Its rows.
    pub rows: u64,
}

/// Files being written. Dropped before [`Self::close`], it takes them away.
pub struct NumberedFiles {
    layout: Arc<Layout>,
    next: u32,
    /// All rows go into the file of the first number, however many.
    single: bool,
    open: IndexMap<Values, (u32, OpenFile)>,
    /// Bytes of the row groups that the open files hold in memory.
    encoding: usize,
    closed: Vec<NumberedFile>,
    staged: Staged,
}

impl NumberedFiles {
    /// Files numbered from `next` on.
    pub fn new(layout: Arc<Layout>, next: u32) -> NumberedFiles {
        NumberedFiles {
            layout,
            next,
            single: false,
            open: IndexMap::new(),
            encoding: 0,
            closed: Vec::new(),
            staged: Staged::default(),
        }
    }

    /// One file, with this number.
    pub fn single(layout: Arc<Layout>, number: u32) -> NumberedFiles {
        NumberedFiles { single: true, ..NumberedFiles::new(layout, number) }
    }

    /// The number that the next file gets.
    pub fn next(&self) -> u32 {
        self.next
    }

    /// Writes rows of one partition, in the columns of files. Number of their file, and of the first row in it.
    pub fn write(&mut self, values: &Values, batch: &RecordBatch) -> Result<(u32, u64)> {
        if !self.open.contains_key(values) {
            if self.open.len() >= OPEN_FILES {
                self.close_all()?;
            }
            let file = OpenFile::create(&self.layout, values, std::slice::from_ref(batch))?;
            self.open.insert(values.clone(), (self.next, file));
            self.next += 1;
        }
        let Some((number, file)) = self.open.get_mut(values) else {
            return Err(crate::error::Error::internal("a data file that was just opened is gone"));
        };
        let place = (*number, file.rows);
        let before = file.encoding();
        file.write(batch)?;
        self.encoding = (self.encoding + file.encoding()).saturating_sub(before);
        if !self.single && (file.rows >= FILE_ROWS || file.bytes() > FILE_BYTES) {
            let (number, file) = match self.open.swap_remove_entry(values) {
                Some((_, open)) => open,
                None => return Ok(place),
            };
            self.finish(number, file, values)?;
        }
        if self.encoding > ENCODING_BYTES && self.open.len() > 1 {
            self.close_all()?;
        }
        Ok(place)
    }

    fn close_all(&mut self) -> Result<()> {
        for (values, (number, file)) in std::mem::take(&mut self.open) {
            self.finish(number, file, &values)?;
        }
        Ok(())
    }

    fn finish(&mut self, number: u32, file: OpenFile, values: &Values) -> Result<()> {
        self.encoding = self.encoding.saturating_sub(file.encoding());
        let file = file.close(&self.layout, values)?;
        self.closed.push(NumberedFile { number, add: file.add.clone(), rows: file.rows });
        self.staged.push(file);
        Ok(())
    }

    /// Ends them: what they are, and the value that takes them away unless they are kept.
    pub fn close(mut self) -> Result<(Vec<NumberedFile>, Staged)> {
        self.close_all()?;
        Ok((self.closed, self.staged))
    }
}
