//! `ids evaluate`: how good a model is on labelled flows.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;
use ids_core::evaluate::{Bootstrap, Cases, Gathering};
use ids_core::{Model, Report, ReportOptions, whole_file};

use crate::cross;
use crate::flow_file::FlowFile;
use crate::forest_args::ForestArgs;
use crate::html;
use crate::model_arg::SchemaArg;
use crate::split::SplitArgs;

/// What `evaluate` measures.
#[derive(Args)]
pub struct EvaluateArgs {
    /// A directory that Spark saved, or a model file.
    #[arg(long, required_unless_present = "train")]
    model: Option<PathBuf>,
    #[command(flatten)]
    schema: SchemaArg,
    /// Train a forest on this file, by the columns that both have, and judge that on the flows of another data set.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "versus", "split"])]
    train: Option<PathBuf>,
    #[command(flatten)]
    forest: ForestArgs,
    /// Labelled flows: CSV or JSON lines; `-` is standard input.
    #[arg(long, visible_alias = "test")]
    input: PathBuf,
    /// Another model of the same schema, to compare with on the same rows.
    #[arg(long, value_name = "MODEL")]
    versus: Option<PathBuf>,
    #[command(flatten)]
    split: SplitArgs,
    /// Share of the flows that are attacks where the detector is to serve: tells how many alarms will be true.
    #[arg(long, value_parser = share)]
    base_rate: Option<f64>,
    /// Flows a day where the detector is to serve.
    #[arg(long, value_parser = positive, requires = "base_rate")]
    flows_per_day: Option<f64>,
    /// Bootstrap replicates of the intervals.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(100..=20_000))]
    replicates: u32,
    /// Bins of the reliability curves.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    calibration_bins: u16,
    /// Also write the report as JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Also write the report as one HTML page with plots to this file: it needs nothing else.
    #[arg(long)]
    html: Option<PathBuf>,
}

/// Prints the report.
pub fn run(arguments: &EvaluateArgs) -> Result<()> {
    let EvaluateArgs { schema, forest, input, split, replicates, base_rate, flows_per_day, .. } = arguments;
    let load = |path: &PathBuf| Ok::<_, anyhow::Error>(Arc::new(schema.load(path)?));
    let model = match (&arguments.train, &arguments.model) {
        (Some(train), _) => cross::train(train, input, schema.schema.as_deref(), forest, split.seed)?,
        (None, Some(model)) => load(model)?,
        (None, None) => bail!("say which model: --model or --train"),
    };
    let other = arguments.versus.as_ref().map(load).transpose()?;
    let cases = cases(&model, other.as_ref(), input, split, None)?;
    let options = ReportOptions {
        bootstrap: Bootstrap { replicates: *replicates, seed: split.seed },
        bins: usize::from(arguments.calibration_bins),
        base_rate: *base_rate,
        flows_per_day: *flows_per_day,
    };
    let report = Report::new(&cases, &input.to_string_lossy(), &options);
    writeln!(std::io::stdout(), "{report}")?;
    if let Some(path) = &arguments.json {
        let json = serde_json::to_string_pretty(&report)? + "\n";
        whole_file::write(path, json.as_bytes())?;
    }
    if let Some(path) = &arguments.html {
        whole_file::write(path, html::page(&report)?.as_bytes())?;
    }
    Ok(())
}

/// The labelled rows of the file at `input` that are asked for, with what the models say of them; without those that a
/// test share of `spare` would test.
pub fn cases(
    model: &Arc<Model>,
    other: Option<&Arc<Model>>,
    input: &Path,
    split: &SplitArgs,
    spare: Option<f64>,
) -> Result<Cases> {
    let mut gathering = Gathering::new(model, other, split.holdout()?.as_ref())?;
    if let Some(share) = spare {
        gathering = gathering.sparing(share)?;
    }
    let mut inputs = model.inputs().to_vec();
    inputs.extend(other.into_iter().flat_map(|other| other.inputs()).cloned());
    inputs.sort_unstable();
    inputs.dedup();
    let mut file = FlowFile::of_schema(input, model.schema(), &inputs, "scoring")?;
    while let Some(batch) = file.next_batch()? {
        gathering.add(batch)?;
    }
    if let Some(skipped) = file.skipped() {
        eprintln!("{skipped}");
    }
    let cases = gathering.finish()?;
    if cases.cases.is_empty() {
        let rows = &cases.rows;
        bail!(
            "{} has no labelled flow that the model can score: of {} rows {} are no flows, {} have no score, {} no label, \
             {} a label that the model does not know",
            input.display(),
            rows.read,
            rows.rejected,
            rows.unscored,
            rows.unlabelled,
            rows.unknown
        );
    }
    Ok(cases)
}

/// A share above 0 and below 1.
pub fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        _ => Err("a share is a number above 0 and below 1".into()),
    }
}

/// A number above 0.
pub fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("it is a number above 0".into()),
    }
}
