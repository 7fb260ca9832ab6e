//! What the programs share. Each program is a thin main over the libraries; start reading in `bin/`.

pub mod dlq;
pub mod flow_file;
pub mod monitor;
pub mod observer;
pub mod report;

use std::path::Path;

use anyhow::{Context, Result};
use ids_core::{Model, Schema};

/// Loads a model file, or a directory that Spark saved with the schema of that name or file, or else
/// with the built-in one that has all its columns.
pub fn load_model(path: &Path, schema: Option<&str>) -> Result<Model> {
    let loaded = match schema {
        Some(schema) => Schema::named(schema).and_then(|schema| Model::load_spark(path, schema)),
        None => Model::load(path),
    };
    loaded.with_context(|| format!("cannot load the model {}", path.display()))
}
