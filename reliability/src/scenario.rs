//! What is done to the detector, in forms of any length.

use std::collections::BTreeSet;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ids_core::{Model, Schema};
use ids_kafka::config::{Fraction, Rate};
use ids_kafka::recon::{Books, Place, Report};
use ids_kafka::replay::{Limit, read_flows};
use ids_kafka::tally::{self, Tally};
use ids_kafka::{Connection, Flow, Load, MOST_OPEN_RECORDS, Replay, ReplayConfig, Shutdown, Topics};
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde::Serialize;
use tempfile::TempDir;

use crate::cluster::{Cluster, Options, Shape, free_port};
use crate::naive;
use crate::pace;
use crate::program::{Detector, ask};
use crate::steady;

const PARTITIONS: i32 = 6;
/// How long the detector may take to do what it is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
const REQUEST_WAIT: Duration = Duration::from_secs(20);

/// What came of a scenario.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Outcome {
    /// Its name.
    pub test: String,
    /// What was promised of each record.
    pub delivery: &'static str,
    /// Faults that count: the detector owned partitions with rows that were not acknowledged.
    pub kills: usize,
    /// How often the detector ended by itself and was started again, as a supervisor does.
    pub restarts: usize,
    /// Milliseconds from the start of a detector to its first verdict: median over all starts.
    pub restart_ms_median: Option<u64>,
    /// Duplicates that delivery allows: at most what a detector has on its way, each time that it is taken for dead.
    #[serde(skip)]
    pub most_duplicates: usize,
    /// Memory and lag, where they were looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<steady::Load>,
    /// What the checker found.
    #[serde(flatten)]
    pub report: Report,
}

impl Outcome {
    /// What came of a test without restarts.
    pub(crate) fn new(test: impl Into<String>, delivery: &'static str, kills: usize, report: Report) -> Self {
        Self { test: test.into(), delivery, kills, report, ..Self::default() }
    }

    /// The same, where a detector may be taken for dead `n_times` and go on.
    fn with_duplicates(self, delivery: Delivery, n_times: usize) -> Self {
        let most_duplicates = if delivery == Delivery::AtLeastOnce { n_times * MOST_OPEN_RECORDS } else { 0 };
        Self { most_duplicates, ..self }
    }
}

/// The two promises, by the names of the detector's option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The default.
    AtLeastOnce,
    /// Transactions.
    ExactlyOnce,
}

impl Delivery {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AtLeastOnce => "at-least-once",
            Self::ExactlyOnce => "exactly-once",
        }
    }
}

/// A cluster with topics, a model, and a place for logs.
pub struct Lab {
    cluster: Cluster,
    topics: Topics,
    model_path: PathBuf,
    model: Arc<Model>,
    flows: Vec<Flow>,
    directory: TempDir,
    watcher: BaseConsumer,
    n_runs: u32,
    /// Of the topics with flows and verdicts.
    n_partitions: i32,
}

/// Rows that Kafka acknowledged.
#[derive(Default)]
struct Acked {
    places: BTreeSet<Place>,
    /// Of those that were sent again it does not say where they are.
    n_elsewhere: u64,
}

/// Rows that arrive while a scenario runs.
pub(crate) struct Arriving {
    acked: Arc<Mutex<Acked>>,
    stop: Shutdown,
    thread: JoinHandle<ids_kafka::Result<u64>>,
}

impl Arriving {
    fn n_acked(&self) -> usize {
        self.acked.lock().unwrap_or_else(PoisonError::into_inner).places.len()
    }

    /// Has `flows` arrive at `rate` a second with bursts, a fiftieth of them malformed.
    pub(crate) fn start(connection: Connection, topic: &str, flows: Vec<Flow>, rate: f64) -> Result<Self> {
        Self::limited(connection, topic, flows, rate, Limit::default())
    }

    fn limited(connection: Connection, topic: &str, flows: Vec<Flow>, rate: f64, limit: Limit) -> Result<Self> {
        let load = Load { rate: Rate::new(rate)?, malformed: Fraction::new(0.02)?, ..Load::default() };
        let config = ReplayConfig { load, ..ReplayConfig::new(connection, topic) };
        let acked = Arc::<Mutex<Acked>>::default();
        let receive = {
            let acked = Arc::clone(&acked);
            move |receipt: ids_kafka::Receipt| {
                let mut acked = acked.lock().unwrap_or_else(PoisonError::into_inner);
                match receipt.offset {
                    Some(offset) => drop(acked.places.insert((receipt.partition, offset))),
                    None => acked.n_elsewhere += 1,
                }
            }
        };
        let replay = Replay::new(config, flows, receive)?;
        let stop = Shutdown::new();
        let flag = stop.clone();
        let run = move || replay.run(limit, &flag).map(|summary| summary.records);
        Ok(Self { acked, stop, thread: thread::spawn(run) })
    }

    /// Ends the arrivals; the places of all rows that Kafka acknowledged.
    pub(crate) fn finish(self) -> Result<BTreeSet<Place>> {
        self.stop.request();
        self.join()
    }

    /// Waits until the arrivals end by themselves.
    fn join(self) -> Result<BTreeSet<Place>> {
        let n = self.thread.join().map_err(|_| anyhow::anyhow!("the producer panicked"))?.context("the producer")?;
        let acked = std::mem::take(&mut *self.acked.lock().unwrap_or_else(PoisonError::into_inner));
        let Acked { places, n_elsewhere } = acked;
        let n_acked = places.len() as u64 + n_elsewhere;
        ensure!(n_acked == n, "{n} rows sent, {n_acked} acknowledged");
        Ok(places)
    }
}

impl Lab {
    /// Starts a cluster of `shape`.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn start(shape: Shape) -> Result<Self> {
        let directory = tempfile::tempdir().context("cannot make a directory")?;
        let cluster = Cluster::start(directory.path(), shape, &Options::default())?;
        let model_path = repository().join("models/unsw-nb15-small");
        let (model, flows) = (Arc::new(Model::load(&model_path)?), synthetic_flows()?);
        let watcher = watcher(&cluster, "none")?;
        Ok(Self {
            cluster,
            topics: Topics::of("none"),
            model_path,
            model,
            flows,
            directory,
            watcher,
            n_runs: 0,
            n_partitions: PARTITIONS,
        })
    }

    /// Has detectors score with another model from here on.
    pub(crate) fn set_model(&mut self, path: &Path) -> Result<()> {
        self.model = Arc::new(Model::load(path)?);
        self.model_path = path.into();
        Ok(())
    }

    /// Where logs are.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Keeps the logs when it is dropped; where they are.
    pub fn keep_logs(&mut self) -> &Path {
        self.directory.disable_cleanup(true);
        self.directory.path()
    }

    /// New topics for another scenario.
    pub(crate) fn renew(&mut self) -> Result<()> {
        self.n_runs += 1;
        self.topics = Topics::of(&format!("demo{}", self.n_runs));
        self.watcher = watcher(&self.cluster, &self.topics.flows)?;
        self.n_partitions = PARTITIONS;
        self.cluster.create_topics(&self.topics.all(), PARTITIONS)
    }

    fn connection(&self) -> Connection {
        Connection::new(self.cluster.bootstrap_servers())
    }

    /// Starts a detector; members with an `instance` get their partitions back at once.
    pub(crate) fn detector(&self, delivery: Delivery, instance: Option<&str>, more: &[&str]) -> Result<Detector> {
        let bootstrap = self.cluster.bootstrap_servers();
        let model = self.model_path.to_string_lossy().into_owned();
        let mut arguments: Vec<String> =
            ["--model", &model, "--topic", &self.topics.flows, "--group-id", &self.topics.flows]
                .into_iter()
                .chain(["--bootstrap-servers", &bootstrap, "--delivery", delivery.name()])
                .chain(
                    if more.contains(&"--listen") { [].as_slice() } else { &["--listen", "127.0.0.1:0"] }
                        .iter()
                        .copied(),
                )
                .chain(more.iter().copied())
                .map(Into::into)
                .collect();
        if let Some(instance) = instance {
            arguments.extend(["--group-instance-id".into(), instance.into()]);
        }
        let log = self.directory.path().join(format!("detector-{}.log", instance.unwrap_or("member")));
        Detector::start(&arguments, &log)
    }

    /// Has rows arrive at `rate` a second with bursts, a fiftieth of them malformed.
    pub(crate) fn arrive(&self, rate: f64) -> Result<Arriving> {
        Arriving::start(self.connection(), &self.topics.flows, self.flows.clone(), rate)
    }

    /// Fills the topic with `n_rows`, as fast as that goes.
    pub(crate) fn fill(&self, n_rows: u64) -> Result<BTreeSet<Place>> {
        let limit = Limit { records: Some(n_rows), duration: None };
        Arriving::limited(self.connection(), &self.topics.flows, self.flows.clone(), 1e6, limit)?.join()
    }

    /// How many rows are done: have a verdict, or with exactly-once a committed offset.
    fn n_done(&self, delivery: Delivery) -> Result<usize> {
        let mut n = 0;
        match delivery {
            Delivery::AtLeastOnce => {
                n += pace::ends(&self.watcher, &self.topics.verdicts, self.n_partitions)?.iter().sum::<i64>();
            }
            Delivery::ExactlyOnce => {
                let mut all = TopicPartitionList::new();
                for partition in 0..self.n_partitions {
                    all.add_partition(&self.topics.flows, partition);
                }
                let committed = patiently(|| self.watcher.committed_offsets(all.clone(), REQUEST_WAIT))?;
                for element in committed.elements() {
                    if let Offset::Offset(offset) = element.offset() {
                        n += offset;
                    }
                }
            }
        }
        usize::try_from(n).context("a count")
    }

    /// Waits until more than `n` rows are done; how long that took.
    pub(crate) fn wait_for_more(&self, delivery: Delivery, n: usize, detector: &mut Detector) -> Result<Duration> {
        let start = Instant::now();
        while self.n_done(delivery)? <= n {
            detector.check()?;
            ensure!(start.elapsed() < PATIENCE, "no verdict within {} s", PATIENCE.as_secs());
            thread::sleep(Duration::from_millis(5));
        }
        Ok(start.elapsed())
    }

    /// Waits until all rows that arrived are done.
    pub(crate) fn wait_for_all(&self, delivery: Delivery, n: usize, detector: &mut Detector) -> Result<()> {
        let (mut done, mut since) = (0, Instant::now());
        loop {
            let now_done = self.n_done(delivery)?;
            if now_done >= n {
                return Ok(());
            }
            if now_done > done {
                (done, since) = (now_done, Instant::now());
            }
            detector.check()?;
            ensure!(since.elapsed() < PATIENCE, "{done} of {n} rows done, and no more");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Checks the books of a scenario in which detectors ended before they could be asked what they counted.
    pub(crate) fn recon(&self, acked: &BTreeSet<Place>) -> Result<Report> {
        self.recon_with(acked, &[])
    }

    /// The same, where `tallies` are what all detectors counted.
    pub(crate) fn recon_with(&self, acked: &BTreeSet<Place>, tallies: &[Tally]) -> Result<Report> {
        let books = Books {
            connection: &self.connection(),
            topics: &self.topics,
            models: std::slice::from_ref(&self.model),
            policy: None,
            csv_columns: None,
            acked: Some(acked),
            tallies,
            tallies_are_all: !tallies.is_empty(),
        };
        Ok(books.check()?)
    }
}

/// The directory of the sources.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The flows that come with the sources.
pub(crate) fn synthetic_flows() -> Result<Vec<Flow>> {
    let path = repository().join("testdata/synthetic-unsw-nb15.csv");
    let file = BufReader::new(std::fs::File::open(&path).context("the synthetic flows")?);
    Ok(read_flows(file, &path, &Arc::new(Schema::unsw_nb15()))?.0)
}

/// What `ask` answers, once brokers that went away are back.
pub(crate) fn patiently<T>(ask: impl Fn() -> KafkaResult<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(200)),
            outcome => return Ok(outcome?),
        }
    }
}

/// A client that looks at the group of the detectors, which is named like the topic with flows.
fn watcher(cluster: &Cluster, group: &str) -> Result<BaseConsumer> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster.bootstrap_servers()).set("group.id", group);
    Ok(config.create()?)
}

/// Ends the detector `n_kills` times with `signal` while rows arrive, each time while rows are on their way, and
/// starts it again each time.
///
/// # Errors
/// Where a detector ends by itself, or does not take up its work.
pub fn killed(lab: &mut Lab, delivery: Delivery, signal: Signal, n_kills: usize, rate: f64) -> Result<Outcome> {
    lab.renew()?;
    let mut rng = StdRng::seed_from_u64(n_kills as u64);
    let arriving = lab.arrive(rate)?;
    let (mut kills, mut restarts) = (0, Vec::new());
    for _ in 0..2 * n_kills {
        if kills == n_kills {
            break;
        }
        let before = lab.n_done(delivery)?;
        let mut detector = lab.detector(delivery, Some("detector-0"), &[])?;
        restarts.push(lab.wait_for_more(delivery, before, &mut detector)?.as_millis() as u64);
        thread::sleep(Duration::from_millis(rng.random_range(100..1_000)));
        kills += usize::from(arriving.n_acked() > lab.n_done(delivery)?);
        match signal {
            Signal::SIGKILL => detector.kill()?,
            _ => drop(detector.stop()?),
        }
    }
    ensure!(kills == n_kills, "the detector had nothing on its way at {kills} of {} kills", 2 * n_kills);
    let acked = arriving.finish()?;
    let mut detector = lab.detector(delivery, Some("detector-0"), &[])?;
    lab.wait_for_all(delivery, acked.len(), &mut detector)?;
    detector.stop()?;
    restarts.sort_unstable();
    let outcome = Outcome::new(format!("killed by {signal}"), delivery.name(), kills, lab.recon(&acked)?);
    Ok(Outcome { restart_ms_median: restarts.get(restarts.len() / 2).copied(), ..outcome })
}

/// Stops one of two members for longer than its session, so that it owns partitions no more and does not know, and
/// lets it go on.
///
/// # Errors
/// As [`killed`].
pub fn zombie(lab: &mut Lab, delivery: Delivery, n_times: usize, rate: f64) -> Result<Outcome> {
    lab.renew()?;
    let session = ["--kafka", "session.timeout.ms=3000", "--kafka", "heartbeat.interval.ms=500"];
    let arriving = lab.arrive(rate)?;
    let mut first = lab.detector(delivery, None, &session)?;
    let mut second = lab.detector(delivery, None, &session)?;
    lab.wait_for_more(delivery, 0, &mut first)?;
    thread::sleep(Duration::from_secs(6));
    let mut kills = 0;
    for _ in 0..n_times {
        kills += usize::from(arriving.n_acked() > lab.n_done(delivery)?);
        first.signal(Signal::SIGSTOP)?;
        thread::sleep(Duration::from_secs(5));
        first.signal(Signal::SIGCONT)?;
        thread::sleep(Duration::from_secs(5));
    }
    let acked = arriving.finish()?;
    lab.wait_for_all(delivery, acked.len(), &mut second)?;
    // A member that comes back may speak of rows again: let it.
    thread::sleep(Duration::from_secs(3));
    first.stop()?;
    second.stop()?;
    Ok(Outcome::new("zombie", delivery.name(), kills, lab.recon(&acked)?).with_duplicates(delivery, n_times))
}

/// Has members join and leave for `length`: one to four of them.
///
/// # Errors
/// As [`killed`].
pub fn members(lab: &mut Lab, delivery: Delivery, length: Duration, rate: f64) -> Result<Outcome> {
    lab.renew()?;
    let session = ["--kafka", "heartbeat.interval.ms=300"];
    let mut rng = StdRng::seed_from_u64(4);
    let arriving = lab.arrive(rate)?;
    let mut members = vec![lab.detector(delivery, None, &session)?];
    lab.wait_for_more(delivery, 0, &mut members[0])?;
    let (start, mut n_changes) = (Instant::now(), 0);
    while start.elapsed() < length {
        let joins = members.len() == 1 || (members.len() < 4 && rng.random_bool(0.5));
        if joins {
            members.push(lab.detector(delivery, None, &session)?);
        } else {
            let leaving = members.swap_remove(rng.random_range(0..members.len()));
            leaving.stop()?;
        }
        n_changes += 1;
        thread::sleep(Duration::from_secs(2));
    }
    let acked = arriving.finish()?;
    lab.wait_for_all(delivery, acked.len(), &mut members[0])?;
    for member in members {
        member.stop()?;
    }
    let outcome = Outcome::new("members join and leave", delivery.name(), n_changes, lab.recon(&acked)?);
    // Partitions are handed over when all is done, unless that takes too long: it may once.
    Ok(outcome.with_duplicates(delivery, 1))
}

/// What happens to brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerFault {
    /// One of three is killed and starts again.
    OneKilled,
    /// All three are stopped and started, one after the other.
    Rolling,
    /// Two of three are killed, so that nothing can be acknowledged, and start again.
    TwoKilled,
}

/// Brokers go away and come back while rows arrive.
///
/// # Errors
/// As [`killed`]; where the lab's cluster has a single node.
pub fn brokers(lab: &mut Lab, delivery: Delivery, fault: BrokerFault, rate: f64) -> Result<Outcome> {
    lab.renew()?;
    let arriving = lab.arrive(rate)?;
    let mut detector = lab.detector(delivery, Some("detector-0"), &[])?;
    lab.wait_for_more(delivery, 0, &mut detector)?;
    thread::sleep(Duration::from_secs(1));
    let away = Duration::from_secs(5);
    // Longer than a session, and than a transaction may take.
    let long_away = Duration::from_secs(60);
    let n = match fault {
        BrokerFault::OneKilled => {
            lab.cluster.kill_broker(0)?;
            thread::sleep(away);
            lab.cluster.start_broker(0)?;
            1
        }
        BrokerFault::Rolling => {
            for broker in 0..3 {
                lab.cluster.stop_broker(broker)?;
                lab.cluster.start_broker(broker)?;
                thread::sleep(away);
            }
            3
        }
        BrokerFault::TwoKilled => {
            lab.cluster.kill_broker(0)?;
            lab.cluster.kill_broker(1)?;
            thread::sleep(long_away);
            lab.cluster.start_broker(0)?;
            lab.cluster.start_broker(1)?;
            2
        }
    };
    thread::sleep(Duration::from_secs(3));
    let acked = arriving.finish()?;
    let mut restarts = 0;
    while let Err(error) = lab.wait_for_all(delivery, acked.len(), &mut detector) {
        // A member that Kafka fenced, or whose transaction hangs, ends: Kubernetes would start it again.
        ensure!(restarts < 3 && detector.check().is_err(), "after {restarts} restarts: {error:#}");
        restarts += 1;
        detector = lab.detector(delivery, Some("detector-0"), &[])?;
    }
    detector.stop()?;
    let outcome = Outcome::new(format!("brokers: {fault:?}"), delivery.name(), n, lab.recon(&acked)?);
    Ok(Outcome { restarts, ..outcome.with_duplicates(delivery, n) })
}

/// The topics grow by three partitions while rows arrive.
///
/// # Errors
/// As [`killed`].
pub fn grown(lab: &mut Lab, delivery: Delivery, rate: f64) -> Result<Outcome> {
    lab.renew()?;
    // Instead of every five minutes.
    let often = ["--kafka", "topic.metadata.refresh.interval.ms=2000"];
    let mut detector = lab.detector(delivery, None, &often)?;
    let arriving = lab.arrive(rate)?;
    lab.wait_for_more(delivery, 0, &mut detector)?;
    lab.n_partitions = PARTITIONS + 3;
    for topic in [&lab.topics.verdicts, &lab.topics.flows] {
        lab.cluster.add_partitions(topic, lab.n_partitions as usize)?;
    }
    let arriving_later = lab.arrive(rate)?;
    thread::sleep(Duration::from_secs(4));
    let mut acked = arriving.finish()?;
    acked.extend(arriving_later.finish()?);
    ensure!(acked.iter().any(|place| place.0 >= PARTITIONS), "no row arrived in a new partition");
    lab.wait_for_all(delivery, acked.len(), &mut detector)?;
    detector.stop()?;
    Ok(Outcome::new("partitions added", delivery.name(), 1, lab.recon(&acked)?))
}

/// Retention removes rows that are done and, of each partition, `n_missed` that are not, while the detector is away: it
/// goes on with what is left, and counts what it missed.
///
/// # Errors
/// As [`killed`]; where the detector counts otherwise.
pub fn expired(lab: &mut Lab, n_missed: i64) -> Result<Outcome> {
    lab.renew()?;
    let delivery = Delivery::AtLeastOnce;
    let n_rows = 3 * n_missed as u64 * PARTITIONS as u64;
    let mut acked = lab.fill(n_rows)?;
    let mut detector = lab.detector(delivery, Some("detector-0"), &[])?;
    lab.wait_for_all(delivery, acked.len(), &mut detector)?;
    detector.stop()?;
    let ends = pace::ends(&lab.watcher, &lab.topics.flows, PARTITIONS)?;
    acked.extend(lab.fill(n_rows)?);
    let n_acked = acked.len();
    let mut removed = TopicPartitionList::new();
    for (partition, end) in (0..).zip(&ends) {
        removed.add_partition_offset(&lab.topics.flows, partition, Offset::Offset(end + n_missed))?;
    }
    lab.cluster.delete_records(&removed)?;
    acked.retain(|&(partition, offset)| offset >= ends[partition as usize] + n_missed);
    let address = format!("127.0.0.1:{}", free_port()?);
    let mut detector = lab.detector(delivery, Some("detector-0"), &["--listen", &address])?;
    let all_missed = n_missed as usize * PARTITIONS as usize;
    lab.wait_for_all(delivery, n_acked - all_missed, &mut detector)?;
    let (_, text) = ask("GET", &format!("http://{address}/metrics"))?;
    detector.stop()?;
    let counted = tally::sum(&text, "ids_offset_gaps_total").unwrap_or(0.0) as usize;
    ensure!(counted == all_missed, "{all_missed} rows were gone before they were read, {counted} are counted");
    Ok(Outcome::new("records expired", delivery.name(), 1, lab.recon(&acked)?))
}

/// A detector that commits before acknowledgement, crashing `n` times: the checker must find records lost.
///
/// # Errors
/// What Kafka says against it.
pub fn commits_too_early(lab: &mut Lab, n: usize, rate: f64) -> Result<Outcome> {
    lab.renew()?;
    let arriving = lab.arrive(rate)?;
    for _ in 0..n {
        naive::run(&lab.connection(), &lab.topics, &lab.model, Duration::from_millis(1_500))?;
    }
    let acked = arriving.finish()?;
    Ok(Outcome::new("commits too early", "none", n, lab.recon(&acked)?))
}

/// # Errors
/// Where records are lost or anything else is wrong, or there are more duplicates than delivery allows.
pub fn judge(outcome: &Outcome) -> Result<()> {
    let Outcome { test, delivery, most_duplicates, report, .. } = outcome;
    ensure!(report.is_sound(), "{test} ({delivery}): {report}");
    ensure!(
        report.duplicates <= *most_duplicates,
        "{test} ({delivery}): more than {most_duplicates} duplicates\n{report}"
    );
    Ok(())
}
