//! The books checked: what went in against what came out.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use ids_kafka::config::{Fraction, class_threshold, policy};
use ids_kafka::recon::{Books, Place};
use ids_kafka::tally::Tally;
use ids_kafka::{Connection, Topics};
use indicatif::ProgressBar;
use serde::Deserialize;

use crate::load_model;

/// What is checked, and against what.
#[derive(Args)]
pub struct ReconArgs {
    /// The model that scored, a directory that Spark saved or a model file; can be given more than once: each verdict
    /// is compared with the model whose version it carries.
    #[arg(long, env = "MODEL", required = true)]
    model: Vec<PathBuf>,
    /// Name or TOML file of the schema whose columns a Spark directory takes [default: the built-in one that has them all].
    #[arg(long, env = "SCHEMA")]
    schema: Option<String>,
    #[command(flatten)]
    connection: Connection,
    /// Topic with the flows; what came out is in TOPIC.verdicts, TOPIC.alerts and TOPIC.dlq.
    #[arg(long, env = "TOPIC", default_value = "demo")]
    topic: String,
    /// Columns of the flows, if they are CSV rows, as the detector was told.
    #[arg(long, env = "CSV_COLUMNS")]
    csv_columns: Option<String>,
    /// Least probability that raises an alert, as the detector was told; without this and --class-threshold the
    /// thresholds of the model.
    #[arg(long, env = "ALERT_THRESHOLD")]
    alert_threshold: Option<Fraction>,
    /// Least probability that raises an alert for one class, as the detector was told.
    #[arg(long, value_name = "CLASS=PROBABILITY", value_parser = class_threshold)]
    class_threshold: Vec<(String, Fraction)>,
    /// The records that Kafka acknowledged, as `producer --receipts FILE` writes them: JSON lines with `partition`
    /// and `offset`. Without it, they are all that the topic holds.
    #[arg(long, value_name = "FILE")]
    acked: Option<PathBuf>,
    /// A detector's /metrics, a file or an http address; can be given more than once. Each must add up: records
    /// consumed are verdicts and dead letters.
    #[arg(long, value_name = "FILE|URL")]
    metrics: Vec<String>,
    /// These are all detectors that were at work, and none of them started again: their sums must be those of the topics.
    #[arg(long, requires = "metrics")]
    metrics_are_all: bool,
    /// Duplicates are findings too, as with exactly once they must be.
    #[arg(long)]
    no_duplicates: bool,
    /// Also write the report as JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Checks the books; whether nothing is wrong.
///
/// # Errors
/// Where they cannot be checked.
pub fn run(arguments: &ReconArgs) -> Result<bool> {
    let models = arguments.model.iter().map(|path| load_model(path, arguments.schema.as_deref()).map(Arc::new));
    let models = models.collect::<Result<Vec<_>>>()?;
    let acked = arguments.acked.as_deref().map(read_acked).transpose()?;
    let tallies = arguments.metrics.iter().map(|source| Ok(Tally::read(source, &text_of(source)?)?));
    let progress = ProgressBar::new_spinner();
    progress.set_message(format!("reading {} and what came of it", arguments.topic));
    progress.enable_steady_tick(Duration::from_millis(100));
    let report = Books {
        connection: &arguments.connection,
        topics: &Topics::of(&arguments.topic),
        models: &models,
        policy: policy(arguments.alert_threshold, &arguments.class_threshold).as_ref(),
        csv_columns: arguments.csv_columns.as_deref(),
        acked: acked.as_ref(),
        tallies: &tallies.collect::<Result<Vec<_>>>()?,
        tallies_are_all: arguments.metrics_are_all,
    }
    .check()?;
    progress.finish_and_clear();
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    writeln!(std::io::stdout(), "{report}")?;
    Ok(report.is_sound() && !(arguments.no_duplicates && report.duplicates > 0))
}

/// A line of receipts, as far as it is needed here.
#[derive(Deserialize)]
struct Acked {
    partition: i32,
    /// Not known of a record that was sent again.
    offset: Option<i64>,
}

fn read_acked(path: &Path) -> Result<BTreeSet<Place>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut places = BTreeSet::new();
    for (i, line) in BufReader::new(file).lines().enumerate() {
        let at = || format!("{}, line {}", path.display(), i + 1);
        let line = line.with_context(at)?;
        let Acked { partition, offset } = serde_json::from_str(&line).with_context(at)?;
        places.extend(offset.map(|offset| (partition, offset)));
    }
    Ok(places)
}

/// What the file or address `source` holds.
fn text_of(source: &str) -> Result<String> {
    if source.starts_with("http://") {
        let answer = ureq::get(source).call().and_then(|mut answer| answer.body_mut().read_to_string());
        return answer.with_context(|| format!("cannot read {source}"));
    }
    std::fs::read_to_string(source).with_context(|| format!("cannot read {source}"))
}
