//! Files of flows, read in batches with a progress bar.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use ids_core::decode::{Batch, FlowBatches, Skipped, columns_of};
use ids_core::schema::recognise;
use ids_core::{Model, Schema};
use indicatif::{ProgressBar, ProgressStyle};

/// Rows per batch: enough to keep the forest's tiles full.
const BATCH: usize = 1024;

/// A file of flows on its way through a model.
pub struct FlowFile {
    batches: FlowBatches<Box<dyn BufRead>>,
    schema: Arc<Schema>,
    progress: ProgressBar,
}

impl FlowFile {
    /// Opens the file at `path`, or standard input for `-`, for `model`.
    pub fn open(path: &Path, model: &Model) -> Result<Self> {
        Self::of_schema(path, model.schema(), model.inputs(), "scoring")
    }

    /// Opens the file at `path`, or standard input for `-`, which must have the columns `inputs`; the progress bar says
    /// what is `doing`.
    pub fn of_schema(path: &Path, schema: &Arc<Schema>, inputs: &[String], doing: &'static str) -> Result<Self> {
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
        progress.set_message(doing);
        let batches = FlowBatches::new(input, path, Arc::clone(schema), inputs)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { batches, schema: Arc::clone(schema), progress })
    }

    /// What rows were skipped so far, if any was.
    pub fn skipped(&self) -> Option<Skipped> {
        Some(self.batches.reader().skipped()).filter(|skipped| skipped.any())
    }

    /// Names of the columns that any row so far has given, or that follow from them.
    pub fn given(&self) -> BTreeSet<String> {
        let reader = self.batches.reader();
        reader.given().into_iter().map(|position| self.schema.columns()[position].name.clone()).collect()
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

/// The schema of that name or file, or else the built-in one that the columns of the file at `path` tell.
pub fn schema_of(path: &Path, name_or_path: Option<&str>) -> Result<Schema> {
    /// More than any header.
    const MOST: u64 = 1 << 20;
    if let Some(name_or_path) = name_or_path {
        return named_schema(name_or_path);
    }
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut lines = BufReader::new(file.take(MOST));
    let mut line = Vec::new();
    while line.trim_ascii().is_empty() {
        line.clear();
        if lines.read_until(b'\n', &mut line).with_context(|| format!("cannot read {}", path.display()))? == 0 {
            bail!("{} is empty", path.display());
        }
    }
    let names = columns_of(&line);
    let names = names.with_context(|| format!("{} is neither CSV nor JSON lines", path.display()))?;
    Ok(recognise(&names, &path.to_string_lossy())?.chosen.schema)
}

/// The schema of that name or file; where it is neither, the names that there are.
pub fn named_schema(name_or_path: &str) -> Result<Schema> {
    Schema::named(name_or_path).with_context(|| {
        let built_in = Schema::built_in();
        let names: Vec<_> = built_in.iter().map(Schema::name).collect();
        format!("no schema `{name_or_path}`: built in are {}; any other is a file", names.join(", "))
    })
}
