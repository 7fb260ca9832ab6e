//! How programs are told which model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use ids_core::Model;

use crate::load_model;

/// A model.
#[derive(Args)]
pub struct ModelArg {
    /// A directory that Spark saved, or a model file.
    #[arg(long)]
    pub model: PathBuf,
    /// Its schema.
    #[command(flatten)]
    pub schema: SchemaArg,
}

/// The schema of what Spark saved.
#[derive(Args)]
pub struct SchemaArg {
    /// Name or TOML file of the schema whose columns a Spark directory takes [default: the built-in one that has them all].
    #[arg(long)]
    pub schema: Option<String>,
}

impl SchemaArg {
    /// The model at that path.
    pub fn load(&self, model: &Path) -> Result<Model> {
        load_model(model, self.schema.as_deref())
    }
}

impl ModelArg {
    /// The model.
    pub fn load(&self) -> Result<Arc<Model>> {
        Ok(Arc::new(self.schema.load(&self.model)?))
    }
}
