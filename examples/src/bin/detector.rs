//! `detector`: scores the flows of a Kafka topic; verdicts, alerts and dead letters go to topics beside it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use ids_examples::load_model;
use ids_kafka::logs::Logs;
use ids_kafka::{Detector, DetectorConfig, DetectorMetrics, Shutdown, config_file};

/// How often the counts are printed.
const INTERVAL: Duration = Duration::from_secs(10);

/// Detect attacks in the flows of a Kafka topic.
#[derive(Parser)]
#[command(version, about)]
#[command(after_help = "A flag wins over its environment variable, that over the configuration file.\n\n\
    Example:\n  detector --model models/unsw-nb15 --topic demo --class-threshold DoS=0.8")]
struct Cli {
    /// TOML file whose keys are the names of these flags.
    #[arg(long, env = "CONFIG")]
    config: Option<PathBuf>,
    /// A directory that Spark saved, or a model file.
    #[arg(long, env = "MODEL", default_value = "models/unsw-nb15")]
    model: PathBuf,
    /// Name or TOML file of the schema whose columns a Spark directory takes [default: the built-in one that has them all].
    #[arg(long, env = "SCHEMA")]
    schema: Option<String>,
    #[command(flatten)]
    detector: DetectorConfig,
    #[command(flatten)]
    logs: Logs,
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
    cli.logs.start().map_err(anyhow::Error::msg)?;
    let model = load_model(&cli.model, cli.schema.as_deref())?;
    let (version, topic) = (model.version().to_owned(), cli.detector.topic.clone());
    let detector = Detector::new(cli.detector, Arc::new(model))?;
    eprintln!("model {version}, topic {topic}");

    let shutdown = Shutdown::new();
    let flag = shutdown.clone();
    ctrlc::set_handler(move || flag.request())?;
    let (metrics, flag) = (Arc::clone(detector.metrics()), shutdown.clone());
    let reporter = thread::spawn(move || report(&metrics, &flag));
    let outcome = detector.run(&shutdown);
    shutdown.request();
    let _ = reporter.join();
    print(detector.metrics());
    Ok(outcome?)
}

fn report(metrics: &DetectorMetrics, shutdown: &Shutdown) {
    let mut next = Instant::now() + INTERVAL;
    while !shutdown.is_requested() {
        thread::sleep(Duration::from_millis(100));
        if Instant::now() >= next {
            print(metrics);
            next += INTERVAL;
        }
    }
}

fn print(metrics: &DetectorMetrics) {
    eprintln!(
        "records {}  verdicts {}  alerts {}  dead letters {}  partitions {}  commits {}  offset gaps {}",
        metrics.records.get(),
        metrics.verdicts.get(),
        metrics.alerts.get(),
        metrics.dead_letters.get(),
        metrics.assigned_partitions(),
        metrics.commits.get(),
        metrics.offset_gaps.get(),
    );
    if let Some(error) = metrics.last_consumer_error() {
        eprintln!("consumer errors {}, the last: {error}", metrics.consumer_errors.get());
    }
}
