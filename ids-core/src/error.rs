//! The one error type of the crate's boundary: what stops a program before it serves.
//!
//! A bad *record* is no [`Error`]: it is a [`RecordError`](crate::decode::RecordError), a value that
//! loops count and dead-letter.

use std::path::{Path, PathBuf};

/// Result of loading, validating or saving.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a schema, a model or a file was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{path}: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },

    /// A schema is not valid.
    #[error("schema `{schema}`: {detail}")]
    Schema {
        /// Name or path of the schema.
        schema: String,
        /// What is wrong with it.
        detail: String,
    },

    /// The header of a file, or the schema of a source, lacks columns that the model needs.
    #[error("{source_name} cannot supply {} that the model needs: {}", plural(columns.len(), "column"), columns.join(", "))]
    MissingColumns {
        /// The file or schema that lacks them.
        source_name: String,
        /// Their names.
        columns: Vec<String>,
    },

    /// The columns of a table cannot be used.
    #[error("{source_name}: {detail}")]
    Columns {
        /// What the table is.
        source_name: String,
        /// What is wrong with its columns.
        detail: String,
    },

    /// Rows cannot be split into those to train on and those to test.
    #[error("split: {detail}")]
    Split {
        /// What is wrong, and what to do.
        detail: String,
    },

    /// The header of a CSV file cannot be used.
    #[error("CSV header: {detail}")]
    Header {
        /// What is wrong with it.
        detail: String,
    },

    /// A file of a saved Spark model is not what Spark writes.
    #[error("{path}: {detail}")]
    SparkFormat {
        /// File or directory.
        path: PathBuf,
        /// What was expected, what was found.
        detail: String,
    },

    /// A pipeline holds a stage that is not supported.
    #[error("stage `{uid}` is a {class}, which is not supported{}", hint.as_ref().map(|h| format!(": {h}")).unwrap_or_default())]
    UnsupportedStage {
        /// The stage's uid.
        uid: String,
        /// Its class, as Spark names it.
        class: String,
        /// What to do instead.
        hint: Option<String>,
    },

    /// A pipeline's stages do not fit together or with the schema.
    #[error("stage `{stage}`: {detail}")]
    Pipeline {
        /// The stage's uid.
        stage: String,
        /// What does not fit.
        detail: String,
    },

    /// A forest is not valid.
    #[error("forest: {}{detail}", at.map(|(tree, node)| format!("tree {tree}, node {node}: ")).unwrap_or_default())]
    Forest {
        /// Tree and node, if the fault has a place.
        at: Option<(usize, usize)>,
        /// What is wrong.
        detail: String,
    },

    /// A model's parts do not fit together.
    #[error("model: {detail}")]
    Model {
        /// What does not fit.
        detail: String,
    },

    /// A model file is damaged, truncated or of another kind.
    #[error("{path}: {detail}")]
    ModelFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },

    /// A model cannot be trained so, or on these flows.
    #[error("training: {detail}")]
    Training {
        /// What is wrong.
        detail: String,
    },

    /// An alert policy is not valid.
    #[error("alert policy: {detail}")]
    Policy {
        /// What is wrong with it.
        detail: String,
    },
}

impl Error {
    pub(crate) fn io(path: &Path, reason: std::io::Error) -> Self {
        Self::Io { path: path.into(), reason }
    }

    #[cfg(feature = "train")]
    pub(crate) fn training(detail: impl Into<String>) -> Self {
        Self::Training { detail: detail.into() }
    }

    pub(crate) fn spark(path: &Path, detail: impl Into<String>) -> Self {
        Self::SparkFormat { path: path.into(), detail: detail.into() }
    }
}

fn plural(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}
