//! Files of flows, read in batches with a progress bar.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use ids_core::Model;
use ids_core::decode::{Batch, FlowBatches, Skipped};
use indicatif::{ProgressBar, ProgressStyle};

/// Rows per batch: enough to keep the forest's tiles full.
const BATCH: usize = 1024;

/// A file of flows on its way through a model.
pub struct FlowFile {
    batches: FlowBatches<Box<dyn BufRead>>,
    progress: ProgressBar,
}

impl FlowFile {
    /// Opens the file at `path`, or standard input for `-`, for `model`.
    pub fn open(path: &Path, model: &Model) -> Result<Self> {
        Self::open_with(path, model, model.inputs())
    }

    /// As [`open`](Self::open), for `model` and others of its schema, which take the columns `inputs`.
    pub fn open_with(path: &Path, model: &Model, inputs: &[String]) -> Result<Self> {
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
        let batches = FlowBatches::new(input, path, Arc::clone(model.schema()), inputs)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { batches, progress })
    }

    /// What rows were skipped so far, if any was.
    pub fn skipped(&self) -> Option<Skipped> {
        Some(self.batches.reader().skipped()).filter(|skipped| skipped.any())
    }

    /// The next batch; `None` at the end of the file.
    pub fn next_batch(&mut self) -> Result<Option<Batch<'_>>> {
        let batch = self.batches.next_batch(BATCH)?;
        if batch.is_none() {
            self.progress.finish_and_clear();
        }
        Ok(batch)
    }
}
