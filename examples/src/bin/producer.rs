//! `producer`: replays labelled flows into a Kafka topic at a Poisson rate with bursts.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use ids_core::Schema;
use ids_kafka::replay::{Limit, read_flows};
use ids_kafka::{Replay, ReplayConfig, Shutdown, config_file};

/// Replay labelled network flows into a Kafka topic, as JSON, at a Poisson rate with Pareto bursts.
#[derive(Parser)]
#[command(version, about)]
#[command(after_help = "A flag wins over its environment variable, that over the configuration file.\n\n\
    Example:\n  producer --flows flows.csv --rate 5000 --burst-prob 0.2 --malformed 0.01")]
struct Cli {
    /// TOML file whose keys are the names of these flags.
    #[arg(long, env = "CONFIG")]
    config: Option<PathBuf>,
    /// Print the settings in force, as such a file, and end.
    #[arg(long)]
    print_config: bool,
    /// A file of flows, CSV or JSON lines.
    #[arg(long, env = "FLOWS", default_value = "testdata/synthetic-unsw-nb15.csv")]
    flows: PathBuf,
    /// Name or TOML file of the schema of the flows.
    #[arg(long, env = "SCHEMA", default_value = "unsw-nb15")]
    schema: String,
    /// Stop after so many records.
    #[arg(long)]
    records: Option<u64>,
    /// Stop after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    #[command(flatten)]
    replay: ReplayConfig,
}

fn main() -> ExitCode {
    let cli: Cli = config_file::parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let schema = Arc::new(Schema::named(&cli.schema)?);
    let file = File::open(&cli.flows).with_context(|| format!("cannot open {}", cli.flows.display()))?;
    let (flows, bad) = read_flows(BufReader::new(file), &cli.flows, &schema)?;
    if let Some(first) = bad.first() {
        eprintln!("warning: {} rows are no flows and are left out; the first: {first}", bad.len());
    }
    let topic = cli.replay.topic.clone();
    eprintln!("replaying {} flows to topic {topic} at {}/s", flows.len(), cli.replay.load.rate);
    let shutdown = Shutdown::new();
    let flag = shutdown.clone();
    ctrlc::set_handler(move || flag.request())?;
    let limit = Limit { records: cli.records, duration: cli.seconds.map(Duration::from_secs) };
    let summary = Replay::new(cli.replay, flows, |_| ())?.run(limit, &shutdown)?;
    let rate = summary.records as f64 / summary.elapsed.as_secs_f64();
    eprintln!("{} records acknowledged, {rate:.0}/s", summary.records);
    Ok(())
}
