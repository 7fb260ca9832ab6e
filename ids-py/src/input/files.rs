//! Flows that are decoded, and files of them.

use std::fs::File;
use std::io::BufReader;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use ids_core::decode::{FlowBatches, FlowReader, Read};
use ids_core::{FlowRecords, Model, RecordError, Schema};

use crate::outputs::{Outputs, Source, TILE, Tile, Wanted};

/// Rows of a file that are read before they are scored: bounds memory, keeps several threads busy.
const BATCH: usize = 64 * TILE;

/// Decoded rows.
pub(crate) struct RecordRows<'a> {
    records: &'a FlowRecords,
    /// The rows that are no flows, in order.
    bad: &'a [(usize, RecordError)],
}

impl<'a> RecordRows<'a> {
    pub(crate) fn new(records: &'a FlowRecords, bad: &'a [(usize, RecordError)]) -> Self {
        Self { records, bad }
    }
}

impl Source for RecordRows<'_> {
    type Decoder = ();

    fn n_rows(&self) -> usize {
        self.records.len() + self.bad.len()
    }

    fn decoder(&self) -> Self::Decoder {}

    fn tile<'a>(&'a self, (): &'a mut (), range: Range<usize>) -> Tile<'a> {
        let (start, end) = (range.start, range.end.min(range.start + TILE));
        let bad_before = |row: usize| self.bad.partition_point(|&(bad, _)| bad < row);
        let (from, to) = (bad_before(start), bad_before(end));
        let bad = self.bad[from..to].iter().map(|(row, error)| (row - start, error.clone())).collect();
        Tile { n_rows: end - start, records: self.records, range: start - from..end - to, bad }
    }
}

/// A file, to be read by its batches.
pub(crate) fn open(
    path: &Path,
    schema: &Arc<Schema>,
    inputs: &[String],
) -> ids_core::Result<FlowBatches<BufReader<File>>> {
    FlowBatches::new(buffered(path)?, path, Arc::clone(schema), inputs)
}

fn buffered(path: &Path) -> ids_core::Result<BufReader<File>> {
    let file = File::open(path).map_err(|reason| ids_core::Error::Io { path: path.into(), reason })?;
    Ok(BufReader::with_capacity(1 << 16, file))
}

/// Scores the rows of a file, batch by batch.
pub(crate) fn score(
    path: &Path,
    model: &Model,
    outputs: &mut Outputs,
    wanted: Wanted,
    n_threads: usize,
) -> ids_core::Result<()> {
    let mut file = open(path, model.schema(), model.inputs())?;
    while let Some(batch) = file.next_batch(BATCH)? {
        let first = outputs.n_rows;
        let bad: Vec<_> = batch.bad.iter().map(|error| (error.record as usize - 1 - first, error.clone())).collect();
        outputs.score(model, &RecordRows::new(batch.records, &bad), wanted, n_threads);
    }
    Ok(())
}

/// All flows of a file, their rows (from 0), the rows that are none, and the positions of the columns it has.
pub(crate) struct Collected {
    pub(crate) records: FlowRecords,
    pub(crate) rows: Vec<u64>,
    pub(crate) bad: Vec<RecordError>,
    pub(crate) given: Vec<usize>,
}

/// Reads a file whole.
pub(crate) fn collect(path: &Path, schema: &Arc<Schema>, inputs: &[String]) -> ids_core::Result<Collected> {
    let mut reader = FlowReader::new(buffered(path)?, path, Arc::clone(schema), inputs)?;
    let mut records = FlowRecords::new(Arc::clone(schema));
    let (mut rows, mut bad) = (Vec::new(), Vec::new());
    for row in 0.. {
        match reader.read(&mut records)? {
            Read::End => break,
            Read::Flow => rows.push(row),
            Read::Bad(error) => bad.push(error),
        }
    }
    Ok(Collected { records, rows, bad, given: reader.given() })
}
