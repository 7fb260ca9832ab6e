//! `demo`: the main job in one process. Starts an embedded Kafka, replays labelled flows with bursts,
//! detects attacks in a consumer group, and reports what came of every record.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use ids_examples::load_model;
use ids_examples::monitor::Monitor;
use ids_examples::observer::{Ledger, observe};
use ids_examples::report::Report;
use ids_kafka::replay::{FlowFile, Limit, read_flows};
use ids_kafka::{Detector, DetectorConfig, EmbeddedKafka, Load, Replay, ReplayConfig, Shutdown, Topics};

const BROKERS: i32 = 3;
const PARTITIONS: i32 = 6;
const SYNTHETIC_FLOWS: &str = "testdata/synthetic-unsw-nb15.csv";
/// How long the last verdicts may take after the last flow.
const DRAIN: Duration = Duration::from_secs(20);

/// Detect attacks in a stream of network flows: a whole pipeline in one process, for a few seconds.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// How long flows are sent.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// A labelled file of flows, CSV or JSON lines [default: the project's synthetic ones].
    #[arg(long)]
    flows: Option<PathBuf>,
    /// A directory that Spark saved, or a model file.
    #[arg(long, default_value = "models/unsw-nb15")]
    model: PathBuf,
    /// Also write the report as JSON to this file.
    #[arg(long)]
    report: Option<PathBuf>,
    #[command(flatten)]
    load: Load,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(report) if report.rows_lost == 0 => ExitCode::SUCCESS,
        Ok(report) => {
            eprintln!("error: {} rows were lost", report.rows_lost);
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<Report> {
    let model = Arc::new(load_model(&cli.model, None)?);
    let path = cli.flows.as_deref().unwrap_or(Path::new(SYNTHETIC_FLOWS));
    let file = File::open(path).with_context(|| format!("cannot open the flows {}", path.display()))?;
    let FlowFile { flows, bad, skipped } = read_flows(BufReader::new(file), path, model.schema())?;
    if let Some(first) = bad.first() {
        eprintln!("warning: {} rows are no flows and are left out; the first: {first}", bad.len());
    }
    if skipped.any() {
        eprintln!("{skipped}");
    }
    let (forest, n_flows) = (model.forest(), flows.len());
    let nature = if cli.flows.is_none() { "SYNTHETIC flows, made by testdata/synthesize.py" } else { "flows" };
    eprintln!("model   {} version {}, {} trees", cli.model.display(), model.version(), forest.n_trees());
    eprintln!("flows   {n_flows} {nature}, from {}", path.display());

    let kafka = EmbeddedKafka::start(BROKERS)?;
    let topics = Topics::of("demo");
    kafka.create(&topics, PARTITIONS)?;
    let connection = kafka.connection();
    eprintln!("kafka   {BROKERS} brokers in this process, topic {} of {PARTITIONS} partitions", topics.flows);

    let detector = Detector::new(DetectorConfig::new(connection.clone(), "demo"), Arc::clone(&model))?;
    let metrics = Arc::clone(detector.metrics());
    let ledger = Arc::new(Ledger::new(&model)?);
    let (stop_detector, stop_observer, stop_replay) = (Shutdown::new(), Shutdown::new(), Shutdown::new());
    let interrupted = Shutdown::new();
    let (flag, replay_flag) = (interrupted.clone(), stop_replay.clone());
    ctrlc::set_handler(move || {
        flag.request();
        replay_flag.request();
    })?;

    let stop = stop_detector.clone();
    let detecting = thread::spawn(move || Ok(detector.run(&stop)?));
    let (books, stop, to) = (Arc::clone(&ledger), stop_observer.clone(), connection.clone());
    let observing = thread::spawn(move || observe(&to, &topics, PARTITIONS, &books, &stop));

    let books = Arc::clone(&ledger);
    let config = ReplayConfig { connection, topic: "demo".into(), load: cli.load.clone() };
    let replay = Replay::new(config, flows, move |receipt| books.enter_receipt(&receipt))?;

    eprintln!("detector joins its consumer group ...");
    while metrics.assigned_partitions() < PARTITIONS as u64 && !interrupted.is_requested() {
        if detecting.is_finished() {
            return Err(failure(detecting, "the detector"));
        }
        thread::sleep(Duration::from_millis(20));
    }

    let limit = Limit { duration: Some(Duration::from_secs(cli.seconds)), records: None };
    let stop = stop_replay.clone();
    let start = Instant::now();
    let replaying: JoinHandle<Result<_>> = thread::spawn(move || Ok(replay.run(limit, &stop)?));

    let mut monitor = Monitor::new(cli.seconds)?;
    let mut drain_until = None;
    loop {
        thread::sleep(Duration::from_millis(100));
        // Asked before the books are read: with the replay over they hold every receipt.
        let is_sent = replaying.is_finished();
        let summary = ledger.summary();
        monitor.show(start.elapsed(), &summary);
        if detecting.is_finished() {
            return Err(failure(detecting, "the detector"));
        }
        if observing.is_finished() {
            return Err(failure(observing, "the observer"));
        }
        if is_sent {
            let deadline = *drain_until.get_or_insert_with(|| Instant::now() + DRAIN);
            if summary.outstanding == 0 || Instant::now() > deadline {
                break;
            }
        }
    }
    monitor.finish();
    let seconds = start.elapsed().as_secs_f64();
    replaying.join().map_err(|_| anyhow::anyhow!("the producer panicked"))??;
    stop_detector.request();
    detecting.join().map_err(|_| anyhow::anyhow!("the detector panicked"))??;
    // Alerts lie in a topic of their own: the last may arrive after the last verdict.
    while ledger.summary().alerts < metrics.alerts.get() && start.elapsed().as_secs_f64() < seconds + 5.0 {
        thread::sleep(Duration::from_millis(20));
    }
    stop_observer.request();
    observing.join().map_err(|_| anyhow::anyhow!("the observer panicked"))??;

    let flows = path.display().to_string();
    let report = Report::new(ledger.summary(), model.version(), &flows, cli.flows.is_none(), seconds);
    println!("\n{report}");
    if let Some(path) = &cli.report {
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("report written to {}", path.display());
    }
    if report.rows_produced == 0 {
        bail!("no flow was sent");
    }
    Ok(report)
}

/// Why a thread that should run on has ended.
fn failure<T>(thread: JoinHandle<Result<T>>, who: &str) -> anyhow::Error {
    match thread.join() {
        Ok(Ok(_)) => anyhow::anyhow!("{who} stopped early"),
        Ok(Err(error)) => error.context(format!("{who} failed")),
        Err(_) => anyhow::anyhow!("{who} panicked"),
    }
}
