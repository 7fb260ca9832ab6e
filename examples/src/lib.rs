//! What the programs share. Each program is a thin main over the libraries; start reading in `bin/`.

pub mod cross;
pub mod describe;
pub mod dlq;
pub mod evaluate;
pub mod flow_file;
pub mod forest_args;
mod html;
pub mod lint;
pub mod model_arg;
pub mod monitor;
pub mod observer;
pub mod recon;
pub mod report;
pub mod split;
pub mod threshold;
pub mod train;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use ids_core::{Model, Schema};
use ids_kafka::logs::Logs;

/// Loads a model file, or a directory that Spark saved with the schema of that name or file, or else
/// with the built-in one that has all its columns.
pub fn load_model(path: &Path, schema: Option<&str>) -> Result<Model> {
    let loaded = match schema {
        Some(schema) => Schema::named(schema).and_then(|schema| Model::load_spark(path, schema)),
        None => Model::load(path),
    };
    loaded.with_context(|| format!("cannot load the model {}", path.display()))
}

/// Whether a model file can be written there, as far as can be told before there is one.
pub(crate) fn writable(out: &Path) -> Result<()> {
    if out.is_dir() {
        bail!("{} is a directory; --out is the model file to write", out.display());
    }
    let directory = out.parent().filter(|directory| !directory.as_os_str().is_empty());
    match directory.filter(|directory| !directory.is_dir()) {
        Some(missing) => bail!("there is no directory {} to write the model file to", missing.display()),
        None => Ok(()),
    }
}

/// Runs a program that logs: what ends it is in its log, in the log's own form.
pub fn run_logged(logs: &Logs, run: impl FnOnce() -> Result<()>) -> ExitCode {
    if let Err(error) = logs.start() {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
