//! `producer`: replays labelled flows into a Kafka topic at a Poisson rate with bursts.

use std::fs::File;
use std::io::{BufReader, LineWriter, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use ids_core::Schema;
use ids_kafka::logs::Logs;
use ids_kafka::replay::{FlowFile, Limit, read_flows};
use ids_kafka::{Receipt, Replay, ReplayConfig, ReplayMetrics, Shutdown, admin, config_file};

/// How often the counts are logged.
const INTERVAL: Duration = Duration::from_secs(10);

/// Replay labelled network flows into a Kafka topic, as JSON, at a Poisson rate with Pareto bursts.
#[derive(Parser)]
#[command(version)]
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
    /// Write a JSON line for each record that Kafka acknowledged to this file: its number, partition, offset, class.
    #[arg(long, env = "RECEIPTS", value_name = "FILE")]
    receipts: Option<PathBuf>,
    /// Address of /metrics, /livez and /readyz; port 0 takes any that is free, and logs it.
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:9465")]
    listen: SocketAddr,
    #[command(flatten)]
    logs: Logs,
    #[command(flatten)]
    replay: ReplayConfig,
}

fn main() -> ExitCode {
    let cli: Cli = config_file::parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    ids_examples::run_logged(&cli.logs.clone(), || run(cli))
}

fn run(cli: Cli) -> Result<()> {
    let schema = Arc::new(Schema::named(&cli.schema)?);
    let file = File::open(&cli.flows).with_context(|| format!("cannot open {}", cli.flows.display()))?;
    let FlowFile { flows, bad, skipped } = read_flows(BufReader::new(file), &cli.flows, &schema)?;
    if let Some(first) = bad.first() {
        tracing::warn!(rows = bad.len(), first = %first, "rows are no flows and are left out");
    }
    if skipped.any() {
        tracing::info!("{skipped}");
    }
    let (topic, rate, n_flows) = (cli.replay.topic.clone(), cli.replay.load.rate, flows.len());
    let shutdown = Shutdown::new();
    let flag = shutdown.clone();
    ctrlc::set_handler(move || flag.request())?;
    let limit = Limit { records: cli.records, duration: cli.seconds.map(Duration::from_secs) };
    let receipts = Arc::new(cli.receipts.as_deref().map(Receipts::create).transpose()?);
    let keep = Arc::clone(&receipts);
    let stop = shutdown.clone();
    let receive = move |receipt| {
        // What is acknowledged and not written down must not go unnoticed.
        if keep.as_ref().as_ref().is_some_and(|receipts| !receipts.write(&receipt)) {
            stop.request();
        }
    };
    let replay = Replay::new(cli.replay, flows, receive)?;
    let address = admin::serve_health(cli.listen, Arc::clone(replay.metrics()))?;
    tracing::info!(topic, %rate, flows = n_flows, %address, "replaying");
    let (metrics, flag) = (Arc::clone(replay.metrics()), shutdown.clone());
    thread::spawn(move || report(&metrics, &flag));
    let outcome = replay.run(limit, &shutdown);
    log(replay.metrics());
    let summary = outcome?;
    if let Some(receipts) = receipts.as_ref() {
        receipts.check()?;
    }
    let rate = (summary.records as f64 / summary.elapsed.as_secs_f64().max(f64::EPSILON)).round();
    tracing::info!(records = summary.records, rate, "all records acknowledged");
    Ok(())
}

/// The file of receipts; a line is in it, whole, as soon as its record is acknowledged.
struct Receipts {
    path: PathBuf,
    file: Mutex<(LineWriter<File>, Option<std::io::Error>)>,
}

impl Receipts {
    fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path: path.into(), file: Mutex::new((LineWriter::new(file), None)) })
    }

    /// Whether the receipt is written.
    fn write(&self, receipt: &Receipt) -> bool {
        let mut guard = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, failure) = &mut *guard;
        let written = serde_json::to_string(receipt).map_err(std::io::Error::from).and_then(|mut line| {
            line.push('\n');
            file.write_all(line.as_bytes())
        });
        if let Err(error) = written {
            failure.get_or_insert(error);
        }
        failure.is_none()
    }

    fn check(&self) -> Result<()> {
        let failure = self.file.lock().unwrap_or_else(PoisonError::into_inner).1.take();
        failure.map_or(Ok(()), |error| Err(error).with_context(|| format!("cannot write {}", self.path.display())))
    }
}

fn report(metrics: &ReplayMetrics, shutdown: &Shutdown) {
    let mut next = Instant::now() + INTERVAL;
    while !shutdown.is_requested() {
        thread::sleep(Duration::from_millis(100));
        if Instant::now() >= next {
            log(metrics);
            next += INTERVAL;
        }
    }
}

fn log(metrics: &ReplayMetrics) {
    tracing::info!(
        records = metrics.records.get(),
        acknowledged = metrics.acknowledged.get(),
        in_flight = metrics.in_flight(),
        malformed = metrics.malformed.get(),
        bursts = metrics.bursts.get(),
        delivery_errors = metrics.delivery_errors.get(),
        behind_ms = metrics.behind().as_millis() as u64,
        "counts"
    );
}
