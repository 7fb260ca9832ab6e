//! `ids threshold`: alert thresholds for a budget of false alarms.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use ids_core::budget::Budget;
use ids_core::{Holdout, Model, whole_file};

use crate::evaluate::{cases, positive};
use crate::model_arg::ModelArg;
use crate::split::SplitArgs;

/// What `threshold` chooses.
#[derive(Args)]
pub struct ThresholdArgs {
    #[command(flatten)]
    model: ModelArg,
    /// Labelled flows that the model was not trained on: CSV or JSON lines; `-` is standard input.
    #[arg(long)]
    input: PathBuf,
    /// False alarms a day that are bearable, e.g. 20/day.
    #[arg(long, value_parser = per_day, value_name = "N/day")]
    budget: f64,
    /// Flows a day where the detector is to serve.
    #[arg(long, value_parser = positive)]
    flows_per_day: f64,
    /// The model file to write: the same model, with the thresholds.
    #[arg(long, visible_alias = "output")]
    out: PathBuf,
    #[command(flatten)]
    split: SplitArgs,
    /// Spare the rows that the same split would test with this smaller test share, to judge the thresholds on them.
    #[arg(long, value_name = "SHARE", requires = "split")]
    spare: Option<f64>,
    /// Also write what they cost as JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Writes the model with its thresholds, and prints what they cost.
pub fn run(arguments: &ThresholdArgs) -> Result<()> {
    let ThresholdArgs { model, input, out, split, .. } = arguments;
    crate::writable(out)?;
    let model = model.load()?;
    let cases = cases(&model, None, input, split, arguments.spare)?;
    for caution in &cases.cautions {
        eprintln!("beware: {caution}");
    }
    let budget = Budget { false_alarms_per_day: arguments.budget, flows_per_day: arguments.flows_per_day };
    let budgeted = budget.choose(&cases)?;
    Model::clone(&model).with_alerts(budgeted.policy.clone())?.save(out)?;
    if let Some(path) = &arguments.json {
        let json = serde_json::to_string_pretty(&budgeted)? + "\n";
        whole_file::write(path, json.as_bytes())?;
    }
    writeln!(std::io::stdout(), "{budgeted}\n\nwritten   {}", out.display())?;
    if let (Some(test_share), Some(holdout)) = (arguments.spare, split.holdout()?) {
        let (n_spared, holdout) = (cases.rows.spared, Holdout { test_share, ..holdout });
        writeln!(std::io::stdout(), "spared    {n_spared} rows, to judge them on: ids evaluate {holdout}")?;
    }
    Ok(())
}

/// Reads `20/day`.
fn per_day(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/day").and_then(|number| positive(number.trim()).ok());
    number.ok_or_else(|| "a budget is a number of false alarms a day above 0, such as 20/day".into())
}
