//! `detector`: scores the flows of a Kafka topic; verdicts, alerts and dead letters go to topics beside it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail};
use clap::Parser;
use ids_core::Model;
use ids_examples::load_model;
use ids_kafka::logs::Logs;
use ids_kafka::{Detector, DetectorConfig, DetectorMetrics, GoldenRows, Handle, Shutdown, admin, config_file};

/// How long the end may take: longer than acknowledgements are waited for.
const LONGEST_END: Duration = Duration::from_secs(45);
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// How often the counts are logged.
const INTERVAL: Duration = Duration::from_secs(10);

/// Detect attacks in the flows of a Kafka topic.
#[derive(Parser)]
#[command(version)]
#[command(after_help = "A flag wins over its environment variable, that over the configuration file.\n\n\
    Example:\n  detector --model models/unsw-nb15 --topic demo --class-threshold DoS=0.8")]
struct Cli {
    /// TOML file whose keys are the names of these flags.
    #[arg(long, env = "CONFIG")]
    config: Option<PathBuf>,
    /// Print the settings in force, as such a file, and end.
    #[arg(long)]
    print_config: bool,
    /// A directory that Spark saved, or a model file.
    #[arg(long, env = "MODEL", default_value = "models/unsw-nb15")]
    model: PathBuf,
    /// Name or TOML file of the schema whose columns a Spark directory takes [default: the built-in one that has them all].
    #[arg(long, env = "SCHEMA")]
    schema: Option<String>,
    /// Flows whose verdicts are known, CSV or JSON lines: a model that gives others is refused, at start and at reload.
    #[arg(long, env = "GOLDEN_ROWS", value_name = "FILE", requires = "golden_verdicts")]
    golden_rows: Option<PathBuf>,
    /// Their verdicts, as `ids score --input GOLDEN_ROWS` writes them: a JSON line each, in order.
    #[arg(long, env = "GOLDEN_VERDICTS", value_name = "FILE", requires = "golden_rows")]
    golden_verdicts: Option<PathBuf>,
    #[command(flatten)]
    detector: DetectorConfig,
    #[command(flatten)]
    logs: Logs,
    /// Address of /metrics, /livez, /readyz and POST /reload.
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:9464")]
    listen: SocketAddr,
    /// Take the model over when its file or directory changes.
    #[arg(long, env = "WATCH_MODEL")]
    watch_model: bool,
}

fn main() -> ExitCode {
    let cli: Cli = config_file::parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    ids_examples::run_logged(&cli.logs.clone(), || run(cli))
}

fn run(cli: Cli) -> Result<()> {
    let golden = match (cli.golden_rows, cli.golden_verdicts) {
        (Some(flows), Some(verdicts)) => Some(GoldenRows::new(flows, verdicts)),
        (None, None) => None,
        // clap does not see what a configuration file leaves out.
        _ => bail!("golden-rows and golden-verdicts go together: one of them is missing"),
    };
    let source = Source { path: cli.model.clone(), schema: cli.schema, golden };
    let model = source.load()?;
    let (version, topic) = (model.version().to_owned(), cli.detector.topic.clone());
    let detector = Detector::new(cli.detector, Arc::new(model))?;
    let reload = reload(detector.handle(), source);
    let address = admin::serve(cli.listen, detector.handle(), Arc::clone(&reload))?;
    tracing::info!(model = version, topic, %address, "serving");

    let shutdown = Shutdown::new();
    let flag = shutdown.clone();
    ctrlc::set_handler(move || {
        flag.request();
        thread::spawn(end_by_force);
    })?;
    if cli.watch_model {
        let flag = shutdown.clone();
        thread::spawn(move || watch(&cli.model, &reload, &flag));
    }
    let (metrics, flag) = (Arc::clone(detector.metrics()), shutdown.clone());
    let reporter = thread::spawn(move || report(&metrics, &flag));
    let handle = detector.handle();
    thread::spawn(move || end_if_it_hangs(&handle));
    let outcome = detector.run(&shutdown);
    shutdown.request();
    let _ = reporter.join();
    log(detector.metrics());
    Ok(outcome?)
}

/// A consumer may hang while it closes: what is to be committed is by then, so nothing is lost.
fn end_by_force() {
    thread::sleep(LONGEST_END);
    tracing::error!("it did not end in {} s", LONGEST_END.as_secs());
    std::process::exit(1);
}

/// librdkafka may wait without end for a transaction's coordinator that went away. Ended and started again, the
/// detector goes on from what is committed.
fn end_if_it_hangs(handle: &Handle) {
    loop {
        thread::sleep(WATCH_INTERVAL);
        if let Err(reason) = handle.is_live() {
            tracing::error!(reason, "ending, to be started again");
            std::process::exit(1);
        }
    }
}

/// Where the model comes from, and what proves it.
struct Source {
    path: PathBuf,
    schema: Option<String>,
    golden: Option<GoldenRows>,
}

impl Source {
    /// Loads the model, and proves it on the golden rows.
    fn load(&self) -> Result<Model> {
        let model = load_model(&self.path, self.schema.as_deref())?;
        if let Some(golden) = &self.golden {
            let n_rows = golden.check(&model)?;
            tracing::info!(model = model.version(), n_rows, "the golden rows have their verdicts");
        }
        Ok(model)
    }
}

/// Loads the model again and offers it; the one before serves on where it is refused.
fn reload(handle: Handle, source: Source) -> Arc<admin::Reload> {
    // One at a time: a load that began before another must not end after it.
    let alone = Mutex::new(());
    Arc::new(move || {
        let _alone = alone.lock().unwrap_or_else(PoisonError::into_inner);
        let model = source.load().map_err(|error| {
            let reason = format!("{error:#}");
            handle.refuse(&reason);
            reason
        })?;
        let version = model.version().to_owned();
        handle.offer(Arc::new(model)).map_err(|error| error.to_string())?;
        Ok(format!("model {version} scores from the next batch on"))
    })
}

/// Has the model loaded again once its files have changed and come to rest.
fn watch(path: &Path, reload: &Arc<admin::Reload>, shutdown: &Shutdown) {
    let mut serving = stamp(path);
    let mut before = serving.clone();
    while !shutdown.is_requested() {
        thread::sleep(WATCH_INTERVAL);
        let now = stamp(path);
        if now != serving && now == before {
            // Logged and counted where it is refused.
            let _ = reload();
            serving = now.clone();
        }
        before = now;
    }
}

/// When, and how long, the files at `path` were last written; a link leads to what it shows.
fn stamp(path: &Path) -> Vec<(PathBuf, u64, Option<SystemTime>)> {
    let Ok(metadata) = std::fs::metadata(path) else { return Vec::new() };
    if !metadata.is_dir() {
        let real = path.canonicalize().unwrap_or_else(|_| path.into());
        return vec![(real, metadata.len(), metadata.modified().ok())];
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut all: Vec<_> = entries.flat_map(|entry| stamp(&entry.path())).collect();
    all.sort();
    all
}

fn report(metrics: &DetectorMetrics, shutdown: &Shutdown) {
    let mut next = Instant::now() + INTERVAL;
    while !shutdown.is_requested() {
        thread::sleep(Duration::from_millis(100));
        if Instant::now() >= next {
            log(metrics);
            next += INTERVAL;
        }
    }
}

fn log(metrics: &DetectorMetrics) {
    tracing::info!(
        records = metrics.records.get(),
        verdicts = metrics.verdicts.get(),
        alerts = metrics.alerts.get(),
        dead_letters = metrics.dead_letters.get(),
        partitions = metrics.assigned_partitions(),
        commits = metrics.commits.get(),
        offset_gaps = metrics.offset_gaps.get(),
        "counts"
    );
    if let Some(error) = metrics.last_consumer_error() {
        tracing::warn!(consumer_errors = metrics.consumer_errors.get(), last = error, "trouble with Kafka");
    }
}
