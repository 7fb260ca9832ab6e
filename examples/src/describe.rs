//! `ids describe`: the data card of a file.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use ids_core::describe;
use indicatif::{ProgressBar, ProgressStyle};

use crate::flow_file::named_schema;

/// What `describe` looks at.
#[derive(Args)]
pub struct DescribeArgs {
    /// CSV (with a header, or of a layout that a schema knows) or JSON lines; `-` is standard input.
    file: PathBuf,
    /// Name or TOML file of the schema [default: the built-in one that the columns tell].
    #[arg(long)]
    schema: Option<String>,
    /// Print the card as JSON.
    #[arg(long)]
    json: bool,
}

/// Prints the card.
pub fn run(arguments: &DescribeArgs) -> Result<()> {
    let DescribeArgs { file: path, schema, json } = arguments;
    let schema = schema.as_deref().map(named_schema).transpose()?;
    let (input, progress): (Box<dyn Read>, _) = if path == Path::new("-") {
        (Box::new(std::io::stdin()), ProgressBar::new_spinner())
    } else {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let progress = ProgressBar::new(file.metadata()?.len());
        progress
            .set_style(ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")?);
        (Box::new(progress.wrap_read(file)), progress)
    };
    progress.set_message("reading");
    let card = describe(input, &path.to_string_lossy(), schema);
    progress.finish_and_clear();
    let card = card?;
    let text = if *json { serde_json::to_string_pretty(&card)? + "\n" } else { card.to_string() };
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
