//! Flows that are decoded, and files of them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use ids_core::decode::{FlowBatches, FlowReader, Read, Skipped};
use ids_core::{Error, FlowRecords, Model, RecordError, Schema};
use pyo3::PyResult;

use super::no_labels;
use crate::errors;
use crate::outputs::{Outputs, Source, TILE, Tile, Wanted};
use crate::watch::{Watch, Watched};

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
pub(crate) fn open<'a>(
    path: &Path,
    schema: &Arc<Schema>,
    inputs: &[String],
    watch: &'a Watch,
) -> ids_core::Result<FlowBatches<BufReader<Watched<'a>>>> {
    FlowBatches::new(buffered(path, watch)?, path, Arc::clone(schema), inputs).map_err(|error| named(error, path))
}

/// How files begin that are no text, and what to do with them.
const NO_TEXT: [(&[u8], &str); 4] = [
    (b"PAR1", "is a Parquet file: read it with pandas, polars or pyarrow and pass the table"),
    (b"\x1f\x8b", "is compressed (gzip): decompress it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed (zstd): decompress it first"),
    (b"PK\x03\x04", "is a zip archive: unpack it first"),
];

/// A file that is read until Ctrl-C.
pub(crate) fn buffered<'a>(path: &Path, watch: &'a Watch) -> ids_core::Result<BufReader<Watched<'a>>> {
    let failed = |reason| Error::Io { path: path.into(), reason };
    let file = File::open(path).map_err(failed)?;
    let mut file = BufReader::with_capacity(1 << 16, Watched::new(file, watch));
    let start = file.fill_buf().map_err(failed)?;
    match NO_TEXT.iter().find(|(magic, _)| start.starts_with(magic)) {
        None => Ok(file),
        Some((_, what)) => {
            Err(Error::Columns { source_name: path.display().to_string(), detail: format!("the file {what}") })
        }
    }
}

/// What is wrong with the header of a file, with the name of the file.
fn named(error: Error, path: &Path) -> Error {
    match error {
        Error::Header { .. } => Error::Columns { source_name: path.display().to_string(), detail: error.to_string() },
        other => other,
    }
}

/// A file, to be read flow by flow.
fn reader<'a>(
    path: &Path,
    schema: &Arc<Schema>,
    inputs: &[String],
    watch: &'a Watch,
) -> ids_core::Result<FlowReader<BufReader<Watched<'a>>>> {
    FlowReader::new(buffered(path, watch)?, path, Arc::clone(schema), inputs).map_err(|error| named(error, path))
}

/// Scores the rows of a file, batch by batch.
pub(crate) fn score(
    path: &Path,
    model: &Model,
    outputs: &mut Outputs,
    wanted: Wanted,
    n_threads: usize,
    watch: &Watch,
) -> PyResult<()> {
    let schema = model.schema();
    let mut reader = reader(path, schema, model.inputs(), watch).map_err(errors::core)?;
    let (mut records, mut bad) = (FlowRecords::new(Arc::clone(schema)), Vec::new());
    let mut is_at_end = false;
    while !is_at_end && !watch.is_over() {
        records.clear();
        bad.clear();
        while !is_at_end && records.len() + bad.len() < BATCH {
            let row = records.len() + bad.len();
            match reader.read(&mut records).map_err(errors::core)? {
                Read::End => is_at_end = true,
                Read::Flow => {}
                Read::Bad(error) => bad.push((row, error)),
            }
        }
        outputs.score(model, &RecordRows::new(&records, &bad), wanted, n_threads, watch);
    }
    outputs.skipped = reader.skipped();
    let label = schema.labels().and_then(|labels| schema.position(&labels.column));
    match label {
        Some(label) if wanted.labels && !reader.given().contains(&label) => {
            Err(no_labels(schema, &path.display().to_string()))
        }
        _ => Ok(()),
    }
}

/// All flows of a file, their rows (from 0), the rows that are none, and the positions of the columns it has.
pub(crate) struct Collected {
    pub(crate) records: FlowRecords,
    pub(crate) rows: Vec<u64>,
    pub(crate) bad: Vec<RecordError>,
    pub(crate) given: Vec<usize>,
    pub(crate) skipped: Skipped,
}

/// Reads a file whole.
pub(crate) fn collect(
    path: &Path,
    schema: &Arc<Schema>,
    inputs: &[String],
    watch: &Watch,
) -> ids_core::Result<Collected> {
    let mut reader = reader(path, schema, inputs, watch)?;
    let mut records = FlowRecords::new(Arc::clone(schema));
    let (mut rows, mut bad) = (Vec::new(), Vec::new());
    for row in 0.. {
        match reader.read(&mut records)? {
            Read::End => break,
            Read::Flow => rows.push(row),
            Read::Bad(error) => bad.push(error),
        }
    }
    Ok(Collected { records, rows, bad, given: reader.given(), skipped: reader.skipped() })
}
