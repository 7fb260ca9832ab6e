//! `ids lint`: what flatters a model that is trained and tested on a data set.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::{Args, ValueEnum};
use ids_core::lint::{Linter, Severity};
use ids_core::whole_file;

use crate::flow_file::{FlowFile, schema_of};

/// What `lint` looks at.
#[derive(Args)]
pub struct LintArgs {
    /// Labelled flows: CSV (with a header, or of a layout that a schema knows) or JSON lines.
    file: PathBuf,
    /// Name or TOML file of the schema [default: the built-in one that the columns tell].
    #[arg(long)]
    schema: Option<String>,
    /// Also write the findings as JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Exit with 1 where a finding is of this severity or above.
    #[arg(long, value_enum, value_name = "SEVERITY", num_args = 0..=1, default_missing_value = "severe")]
    deny: Option<Deny>,
}

/// The severities that can be denied.
#[derive(Clone, Copy, ValueEnum)]
enum Deny {
    /// Figures are not worth having before it is dealt with.
    Severe,
    /// Figures may be better or worse than what they stand for, or severe.
    Warning,
    /// Anything.
    Note,
}

impl From<Deny> for Severity {
    fn from(deny: Deny) -> Self {
        match deny {
            Deny::Severe => Self::Severe,
            Deny::Warning => Self::Warning,
            Deny::Note => Self::Note,
        }
    }
}

/// Prints the findings; whether none is denied.
pub fn run(arguments: &LintArgs) -> Result<bool> {
    let LintArgs { file: path, schema, json, deny } = arguments;
    let schema = Arc::new(schema_of(path, schema.as_deref())?);
    let mut linter = Linter::new(Arc::clone(&schema))?;
    let mut file = FlowFile::of_schema(path, &schema, &[], "reading")?;
    let mut n_bad = 0;
    while let Some(batch) = file.next_batch()? {
        n_bad += batch.bad.len();
        batch.records.iter().for_each(|record| linter.add(record));
    }
    let lint = linter.finish(&path.to_string_lossy())?;
    if let Some(skipped) = file.skipped() {
        eprintln!("{skipped}");
    }
    if n_bad > 0 {
        eprintln!("warning: {n_bad} rows are no flows and are not looked at: `ids describe` tells why");
    }
    write!(std::io::stdout(), "{lint}")?;
    if let Some(path) = json {
        whole_file::write(path, (serde_json::to_string_pretty(&lint)? + "\n").as_bytes())?;
    }
    Ok(deny.is_none_or(|deny| lint.count(deny.into()) == 0))
}
