//! Files of flows, batch by batch: which rows are flows, and what is wrong with the others.

use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;

use super::{FlowReader, Read, RecordError};
use crate::error::Result;
use crate::record::FlowRecords;
use crate::schema::Schema;

/// Reads a file in batches.
#[derive(Debug)]
pub struct FlowBatches<R> {
    reader: FlowReader<R>,
    records: FlowRecords,
    rows: Vec<u64>,
    bad: Vec<RecordError>,
    n_rows: u64,
}

/// Some rows of a file: those that are flows, and those that are not.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The flows.
    pub records: &'a FlowRecords,
    /// Per flow: its row, from 1.
    pub rows: &'a [u64],
    /// The rows that are no flow, in order.
    pub bad: &'a [RecordError],
}

impl<R: BufRead> FlowBatches<R> {
    /// Opens `input` as [`FlowReader::new`] does.
    ///
    /// # Errors
    /// As [`FlowReader::new`].
    pub fn new(input: R, path: impl Into<PathBuf>, schema: Arc<Schema>, inputs: &[String]) -> Result<Self> {
        let reader = FlowReader::new(input, path, Arc::clone(&schema), inputs)?;
        Ok(Self { reader, records: FlowRecords::new(schema), rows: Vec::new(), bad: Vec::new(), n_rows: 0 })
    }

    /// The reader: what it skipped, which columns the file has.
    pub fn reader(&self) -> &FlowReader<R> {
        &self.reader
    }

    /// The next `n_rows` rows, or as many as there are; `None` at the end of the file.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) where the file cannot be read on.
    pub fn next_batch(&mut self, n_rows: usize) -> Result<Option<Batch<'_>>> {
        self.records.clear();
        self.rows.clear();
        self.bad.clear();
        while self.records.len() + self.bad.len() < n_rows {
            match self.reader.read(&mut self.records)? {
                Read::End => break,
                Read::Bad(error) => self.bad.push(error),
                Read::Flow => self.rows.push(self.n_rows + 1),
            }
            self.n_rows += 1;
        }
        if self.records.is_empty() && self.bad.is_empty() {
            return Ok(None);
        }
        Ok(Some(Batch { records: &self.records, rows: &self.rows, bad: &self.bad }))
    }
}
