//! Files of flows, read in batches with a progress bar.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use ids_core::decode::{FlowReader, Read};
use ids_core::{FlowRecords, Model, RecordError};
use indicatif::{ProgressBar, ProgressStyle};

/// Rows per batch: enough to keep the forest's tiles full.
const BATCH: usize = 1024;

/// A file of flows on its way through a model.
pub struct FlowFile {
    reader: FlowReader<Box<dyn BufRead>>,
    records: FlowRecords,
    /// Row numbers (from 1) of `records`.
    rows: Vec<u64>,
    bad: Vec<RecordError>,
    n_rows: u64,
    progress: ProgressBar,
}

/// Some rows of a file: those that are flows, and those that are not.
pub struct Batch<'a> {
    /// The flows.
    pub records: &'a FlowRecords,
    /// Per flow: its row, from 1.
    pub rows: &'a [u64],
    /// The rows that are no flow.
    pub bad: &'a [RecordError],
}

impl FlowFile {
    /// Opens the file at `path`, or standard input for `-`, for `model`.
    pub fn open(path: &Path, model: &Model) -> Result<Self> {
        let (input, progress): (Box<dyn BufRead>, _) = if path == Path::new("-") {
            (Box::new(BufReader::new(std::io::stdin())), ProgressBar::new_spinner())
        } else {
            let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
            let progress = ProgressBar::new(file.metadata()?.len());
            progress.set_style(ProgressStyle::with_template(
                "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            )?);
            (Box::new(BufReader::with_capacity(1 << 16, progress.wrap_read(file))), progress)
        };
        progress.set_message("scoring");
        let schema = Arc::clone(model.schema());
        let reader = FlowReader::new(input, path, Arc::clone(&schema), model.inputs())
            .with_context(|| format!("cannot read {}", path.display()))?;
        let records = FlowRecords::new(schema);
        Ok(Self { reader, records, rows: Vec::new(), bad: Vec::new(), n_rows: 0, progress })
    }

    /// The next batch; `None` at the end of the file.
    pub fn next_batch(&mut self) -> Result<Option<Batch<'_>>> {
        self.records.clear();
        self.rows.clear();
        self.bad.clear();
        while self.records.len() + self.bad.len() < BATCH {
            match self.reader.read(&mut self.records)? {
                Read::End => break,
                Read::Bad(error) => self.bad.push(error),
                Read::Flow => self.rows.push(self.n_rows + 1),
            }
            self.n_rows += 1;
        }
        if self.records.is_empty() && self.bad.is_empty() {
            self.progress.finish_and_clear();
            return Ok(None);
        }
        Ok(Some(Batch { records: &self.records, rows: &self.rows, bad: &self.bad }))
    }
}
