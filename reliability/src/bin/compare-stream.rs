//! `compare-stream`: the detector against Spark Structured Streaming, the same job on the same filled topic, in one run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use ids_core::Schema;
use ids_kafka::config::{Fraction, Rate};
use ids_kafka::recon::Place;
use ids_kafka::replay::{FlowFile, Limit, read_flows};
use ids_kafka::{Connection, Flow, Load, Replay, ReplayConfig, Shutdown, Topics};
use ids_reliability::cluster::{Cluster, Options, Shape};
use ids_reliability::engine::{self, Engine, Job, Usage};
use ids_reliability::pace::{self, Latency, Said};
use ids_reliability::program::Detector;
use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use serde::Serialize;

const PARTITIONS: i32 = 6;
/// The core of the engine, and that of Kafka and of this program.
const ENGINE_CORE: usize = 0;
const KAFKA_CORE: usize = 1;
/// Longest time without a new verdict.
const PATIENCE: Duration = Duration::from_secs(180);
/// An engine keeps up where no more flows are open than come in so many seconds: Spark's micro-batches take that long.
const OPEN_SECONDS: f64 = 6.0;
/// The filled topic.
const FLOWS: &str = "demo";

/// Compare the detector with Spark Structured Streaming: verdicts a second from a filled topic, and latency at a
/// steady rate. Each engine has one core, Kafka the other.
#[derive(Parser)]
#[command(
    after_help = "Both do the same job: flows as JSON from Kafka, the saved pipeline, verdicts to Kafka. Whether \
    they say the same, to the bit, is checked.\n\n\
    The clock is the broker's, which stamps what it appends. Rows a second: a fifth of the rows is passed over as \
    warm-up (two micro-batches of ten), then from the last append of these to the last append of all. Latency: from \
    the append of a flow to the append of its verdict.\n\n\
    Examples:\n  compare-stream --only detector --rows 300000 --seconds 10\n  \
    compare-stream --only detector --seconds 0 --profile target/detector.perf"
)]
struct Cli {
    /// Rows in the filled topic.
    #[arg(long, default_value_t = 600_000, value_parser = clap::value_parser!(u64).range(10_000..))]
    rows: u64,
    /// Seconds over which latency is measured; 0 leaves it out.
    #[arg(long, default_value_t = 40)]
    seconds: u64,
    /// Seconds that latency passes over, once the engine has caught up with what came while it started.
    #[arg(long, default_value_t = 20)]
    warm_up: u64,
    /// Rows a second while latency is measured.
    #[arg(long, default_value = "1000")]
    rate: Rate,
    /// How often the detector empties the topic: the median counts. (Spark does once: its micro-batches are alike.)
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// Only this engine.
    #[arg(long)]
    only: Option<Engine>,
    /// A directory that Spark saved; can be given more than once.
    #[arg(long = "model", default_values = ["models/unsw-nb15-small", "models/unsw-nb15"])]
    models: Vec<PathBuf>,
    /// A Python that has PySpark, for Spark.
    #[arg(long, default_value = "target/spark-3.5.1/bin/python")]
    python: PathBuf,
    /// A further argument of the detector; can be given more than once (e.g. --detector-arg=--alert-threshold=1).
    #[arg(long = "detector-arg", allow_hyphen_values = true)]
    detector_arguments: Vec<String>,
    /// Have `perf` record the detector's last run over the filled topic into this file.
    #[arg(long)]
    profile: Option<PathBuf>,
    /// Where the figures go.
    #[arg(long, default_value = "target/compare-stream.json")]
    output: PathBuf,
}

/// What was measured of an engine with a model.
#[derive(Serialize)]
struct Figures {
    /// Name of the model's directory.
    model: String,
    engine: Engine,
    /// Median over the runs.
    rows_per_second: f64,
    /// Least and most of the runs.
    rows_per_second_range: [f64; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<Latency>,
    /// Of the process (Spark's: of all its processes), after the filled topic.
    peak_resident_mib: f64,
    /// User and system time for a row, over the rows that are measured.
    cpu_us_per_row: f64,
}

/// A broker with a filled topic.
struct Bench {
    cli: Cli,
    cluster: Cluster,
    watcher: BaseConsumer,
    flows: Vec<Flow>,
    directory: tempfile::TempDir,
    n_runs: u64,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    ensure!(!cfg!(debug_assertions), "this is a debug build: its figures would mean nothing; cargo build --release");
    // Kafka, and the load, start where this thread is.
    engine::pin(KAFKA_CORE)?;
    let mut bench = Bench::start(cli)?;
    let figures = bench.measure();
    if figures.is_err() {
        bench.directory.disable_cleanup(true);
        eprintln!("logs are in {}", bench.directory.path().display());
    }
    let figures = figures?;
    print!("{}", table(&figures));
    let path = &bench.cli.output;
    std::fs::write(path, serde_json::to_string_pretty(&figures)? + "\n")
        .with_context(|| format!("cannot write {}", path.display()))
}

impl Bench {
    fn start(cli: Cli) -> Result<Self> {
        let flows = flows()?;
        let directory = tempfile::tempdir().context("cannot make a directory")?;
        eprintln!("starting Kafka on core {KAFKA_CORE}");
        let stamped = ("log.message.timestamp.type".to_owned(), "LogAppendTime".to_owned());
        let options = Options { properties: vec![stamped], ..Options::default() };
        let cluster = Cluster::start(directory.path(), Shape::Single, &options)?;
        let watcher = ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).create()?;
        let bench = Self { cli, cluster, watcher, flows, directory, n_runs: 0 };
        bench.cluster.create_topics(&Topics::of(FLOWS).all(), PARTITIONS)?;
        bench.fill()?;
        Ok(bench)
    }

    fn measure(&mut self) -> Result<Vec<Figures>> {
        let mut all = Vec::new();
        for model in self.cli.models.clone() {
            let mut first: Option<BTreeMap<Place, Said>> = None;
            for engine in [Engine::Detector, Engine::Spark] {
                if self.cli.only.is_some_and(|only| only != engine) {
                    continue;
                }
                let (mut figures, said) = self.throughput(engine, &model)?;
                if let Some(difference) = first.as_ref().and_then(|first| pace::first_difference(first, &said)) {
                    bail!("the engines do not say the same of the flow {difference}");
                }
                if first.replace(said).is_some() {
                    eprintln!("  all {} verdicts are those of the detector, to the bit", self.cli.rows);
                }
                if self.cli.seconds > 0 {
                    figures.latency_ms = self.at_steady_rate(engine, &model)?;
                }
                all.push(figures);
            }
        }
        Ok(all)
    }

    /// Fills the topic with flows as a sensor would send them: a JSON object each, no key, no headers.
    fn fill(&self) -> Result<()> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.cluster.bootstrap_servers());
        config.set("enable.idempotence", "true").set("compression.type", "lz4").set("linger.ms", "20");
        let producer: ThreadedProducer<DefaultProducerContext> = config.create()?;
        let (start, mut n_bytes) = (Instant::now(), 0);
        for (i, flow) in (0..self.cli.rows).zip(self.flows.iter().cycle()) {
            let partition = (i % PARTITIONS as u64) as i32;
            let mut record = BaseRecord::<(), str>::to(FLOWS).partition(partition).payload(&flow.json);
            n_bytes += flow.json.len() as u64;
            while let Err((error, returned)) = producer.send(record) {
                let is_full = matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
                ensure!(is_full, "filling the topic: {error}");
                record = returned;
                thread::sleep(Duration::from_millis(1));
            }
        }
        producer.flush(PATIENCE).context("filling the topic")?;
        let n: i64 = pace::ends(&self.watcher, FLOWS, PARTITIONS)?.iter().sum();
        ensure!(n as u64 == self.cli.rows, "only {n} of {} rows are in the topic", self.cli.rows);
        let mean = n_bytes as f64 / n as f64;
        eprintln!("filled topic {FLOWS} with {n} rows of {mean:.0} bytes in {:.1} s", start.elapsed().as_secs_f64());
        Ok(())
    }

    /// Has an engine empty the filled topic; its figures and what it said.
    fn throughput(&mut self, engine: Engine, model: &Path) -> Result<(Figures, BTreeMap<Place, Said>)> {
        let n_runs = if engine == Engine::Detector { self.cli.runs } else { 1 };
        let (n, n_warm) = (self.cli.rows, self.cli.rows / 5);
        let verdicts = Topics::of(FLOWS).verdicts;
        let (mut speeds, mut cpu, mut peak, mut said) = (Vec::new(), Vec::new(), 0.0_f64, BTreeMap::new());
        for i in 0..n_runs {
            let from = pace::ends(&self.watcher, &verdicts, PARTITIONS)?;
            let mut running = self.engine(engine, model, FLOWS, i == 0)?;
            let mut profiler = None;
            let (n_before, before) = self.wait_for(&mut running, &verdicts, &from, n_warm)?;
            if let Some(path) = self.cli.profile.as_ref().filter(|_| engine == Engine::Detector && i + 1 == n_runs) {
                profiler = Some(profile(&running, path, model)?);
            }
            let (n_after, after) = self.wait_for(&mut running, &verdicts, &from, n)?;
            peak = peak.max(after.peak_resident_mib);
            cpu.push((after.cpu_seconds - before.cpu_seconds) * 1e6 / (n_after - n_before).max(1) as f64);
            running.stop()?;
            if let Some(mut profiler) = profiler {
                profiler.wait()?;
            }
            said = pace::verdicts(&self.connection(), &verdicts, &from)?;
            ensure!(said.len() as u64 == n, "{} verdicts on {n} rows", said.len());
            speeds.push(pace::rows_per_second(&said, n_warm as usize)?);
            eprintln!(
                "  {:.0} rows/s, {:.2} us of CPU a row, {peak:.0} MiB",
                speeds[speeds.len() - 1],
                cpu[cpu.len() - 1]
            );
        }
        speeds.sort_by(f64::total_cmp);
        cpu.sort_by(f64::total_cmp);
        let figures = Figures {
            model: model.file_name().unwrap_or(model.as_os_str()).to_string_lossy().into_owned(),
            engine,
            rows_per_second: speeds[speeds.len() / 2],
            rows_per_second_range: [speeds[0], speeds[speeds.len() - 1]],
            latency_ms: None,
            peak_resident_mib: peak,
            cpu_us_per_row: cpu[cpu.len() / 2],
        };
        Ok((figures, said))
    }

    /// What verdicts take while flows come at a steady rate; none where the engine is too slow for that rate.
    fn at_steady_rate(&mut self, engine: Engine, model: &Path) -> Result<Option<Latency>> {
        let topics = Topics::of(&format!("steady{}", self.n_runs));
        self.cluster.create_topics(&topics.all(), PARTITIONS)?;
        let nothing = vec![0; PARTITIONS as usize];
        let mut running = self.engine(engine, model, &topics.flows, true)?;
        let load = Load { rate: self.cli.rate, burst_prob: Fraction::new(0.0)?, ..Load::default() };
        let config = ReplayConfig { load, ..ReplayConfig::new(self.connection(), &topics.flows) };
        let replay = Replay::new(config, self.flows.clone(), |_| ())?;
        let stop = Shutdown::new();
        let flag = stop.clone();
        let load = thread::spawn(move || replay.run(Limit::default(), &flag));
        let (warm_up, length) = (Duration::from_secs(self.cli.warm_up), Duration::from_secs(self.cli.seconds));
        let caught_up = self.wait_until_caught_up(&mut running, &topics);
        let start_ms = now_ms() + warm_up.as_millis() as i64;
        if matches!(caught_up, Ok(true)) {
            thread::sleep(warm_up + length);
        }
        stop.request();
        let n = load.join().map_err(|_| anyhow::anyhow!("the producer panicked"))??.records;
        if !caught_up? {
            running.stop()?;
            return Ok(None);
        }
        self.wait_for(&mut running, &topics.verdicts, &nothing, n)?;
        running.stop()?;
        let flows = pace::flows(&self.connection(), &topics.flows, PARTITIONS as usize)?;
        let verdicts = pace::verdicts(&self.connection(), &topics.verdicts, &nothing)?;
        let latency = pace::latency(&flows, &verdicts, &(start_ms..start_ms + length.as_millis() as i64))?;
        let Latency { p50, p99, max, n } = latency;
        eprintln!("  at {} rows/s: p50 {p50:.0} ms, p99 {p99:.0} ms, max {max:.0} ms ({n} verdicts)", self.cli.rate);
        Ok(Some(latency))
    }

    /// Starts an engine on its core.
    fn engine(&mut self, engine: Engine, model: &Path, topic: &str, says_so: bool) -> Result<Detector> {
        self.n_runs += 1;
        let run = format!("{engine}-{}", self.n_runs);
        let job = Job {
            bootstrap_servers: &self.cluster.bootstrap_servers(),
            topic,
            run: &run,
            model,
            python: &self.cli.python,
            rows_per_trigger: self.cli.rows / 10,
            detector_arguments: &self.cli.detector_arguments,
            directory: self.directory.path(),
        };
        let command = engine.command(&job)?;
        if says_so {
            eprintln!("taskset -c {ENGINE_CORE} {}", words(&command));
        }
        Engine::start(&command, ENGINE_CORE, &job)
    }

    /// Waits until there are `n` verdicts; how many there are then, and what was used for them.
    fn wait_for(&self, running: &mut Detector, topic: &str, from: &[i64], n: u64) -> Result<(u64, Usage)> {
        let (mut done, mut since) = (0, Instant::now());
        loop {
            let ends = pace::ends(&self.watcher, topic, PARTITIONS)?;
            let now_done = ends.iter().zip(from).map(|(end, start)| end - start).sum::<i64>() as u64;
            running.check()?;
            if now_done >= n {
                return Ok((now_done, Usage::of(running.id())?));
            }
            if now_done > done {
                (done, since) = (now_done, Instant::now());
            }
            ensure!(since.elapsed() < PATIENCE, "{done} of {n} verdicts, and no more for {} s", PATIENCE.as_secs());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until an engine has caught up with what came while it started: a micro-batch or two of flows are open.
    /// Whether it did.
    fn wait_until_caught_up(&self, running: &mut Detector, topics: &Topics) -> Result<bool> {
        let start = Instant::now();
        let count = |topic| Ok::<_, anyhow::Error>(pace::ends(&self.watcher, topic, PARTITIONS)?.iter().sum::<i64>());
        loop {
            let (verdicts, flows) = (count(&topics.verdicts)?, count(&topics.flows)?);
            running.check()?;
            if verdicts > 0 && (flows - verdicts) as f64 <= OPEN_SECONDS * self.cli.rate.get() {
                return Ok(true);
            }
            if start.elapsed() > PATIENCE {
                let (rate, seconds) = (self.cli.rate, PATIENCE.as_secs());
                eprintln!("  too slow for {rate} rows/s: {verdicts} of {flows} flows have verdicts after {seconds} s");
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn connection(&self) -> Connection {
        Connection::new(self.cluster.bootstrap_servers())
    }
}

/// Real flows where they are, or else the synthetic ones; says which.
fn flows() -> Result<Vec<Flow>> {
    let real = std::env::var_os("IDS_DATA").map(|data| PathBuf::from(data).join("unsw-nb15/flows.csv"));
    let (path, what) = match real.filter(|path| path.is_file()) {
        Some(path) => (path, "real flows of UNSW-NB15"),
        None => ("testdata/synthetic-unsw-nb15.csv".into(), "synthetic flows (IDS_DATA has no real ones)"),
    };
    let file = std::fs::File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let FlowFile { flows, bad, .. } = read_flows(BufReader::new(file), &path, &Arc::new(Schema::unsw_nb15()))?;
    ensure!(bad.is_empty(), "{} rows of {} are no flows", bad.len(), path.display());
    eprintln!("{} {what}", flows.len());
    Ok(flows)
}

/// Has `perf` record the detector until it ends.
fn profile(running: &Detector, path: &Path, model: &Path) -> Result<std::process::Child> {
    let name = model.file_name().unwrap_or_default();
    let path = path.with_file_name(format!(
        "{}-{}",
        name.to_string_lossy(),
        path.file_name().unwrap_or_default().to_string_lossy()
    ));
    eprintln!("  perf records into {}", path.display());
    let mut perf = Command::new("perf");
    perf.args(["record", "--quiet", "-F", "499", "--call-graph", "dwarf,8192", "-p", &running.id().to_string(), "-o"])
        .arg(path);
    perf.spawn().context("cannot run perf")
}

/// Milliseconds since 1970-01-01 UTC: the broker's clock is that of this machine.
fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// A command as one would type it.
fn words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    let here = std::env::current_dir().map_or(String::new(), |here| format!("{}/", here.display()));
    words.join(" ").replace(&here, "")
}

/// The figures as a table, and how many times better the detector's are where Spark's are there.
fn table(all: &[Figures]) -> String {
    let mut text = String::new();
    let mut line = |cells: [&str; 8]| {
        let [model, cells @ ..] = cells;
        let _ = write!(text, "{model:<16}");
        let _ = writeln!(text, "{}", cells.map(|cell| format!("{cell:>10}")).concat().trim_end());
    };
    line(["model", "engine", "rows/s", "p50 ms", "p99 ms", "max ms", "MiB", "us CPU/row"]);
    for figures in all {
        let latency = figures.latency_ms;
        let of = |pick: fn(Latency) -> f64| latency.map_or("-".into(), |latency| format!("{:.0}", pick(latency)));
        line([
            &figures.model,
            &figures.engine.to_string(),
            &format!("{:.0}", figures.rows_per_second),
            &of(|latency| latency.p50),
            &of(|latency| latency.p99),
            &of(|latency| latency.max),
            &format!("{:.0}", figures.peak_resident_mib),
            &format!("{:.2}", figures.cpu_us_per_row),
        ]);
        let others = all.iter().filter(|other| other.model == figures.model && other.engine == Engine::Detector);
        for ours in others.filter(|_| figures.engine == Engine::Spark) {
            let times = |pick: fn(Latency) -> f64| match (figures.latency_ms, ours.latency_ms) {
                (Some(theirs), Some(ours)) => format!("1/{:.0}", pick(theirs) / pick(ours)),
                _ => "-".into(),
            };
            line([
                "",
                "ratio",
                &format!("{:.1}x", ours.rows_per_second / figures.rows_per_second),
                &times(|latency| latency.p50),
                &times(|latency| latency.p99),
                &times(|latency| latency.max),
                &format!("1/{:.0}", figures.peak_resident_mib / ours.peak_resident_mib),
                &format!("1/{:.1}", figures.cpu_us_per_row / ours.cpu_us_per_row),
            ]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_how_many_times_better() {
        let figures = |engine, rows_per_second, p99| Figures {
            model: "m".into(),
            engine,
            rows_per_second,
            rows_per_second_range: [rows_per_second; 2],
            latency_ms: Some(Latency { p50: p99 / 2.0, p99, max: p99, n: 1 }),
            peak_resident_mib: 64.0,
            cpu_us_per_row: 5.0,
        };
        let text = table(&[figures(Engine::Detector, 100_000.0, 20.0), figures(Engine::Spark, 8_000.0, 2_000.0)]);
        assert!(text.contains("12.5x") && text.contains("1/100"), "{text}");
        let alone = table(&[figures(Engine::Spark, 8_000.0, 2_000.0)]);
        assert!(!alone.contains("ratio"), "{alone}");
    }
}
