//! The pipelines of ids-kafka for Python: threads that are started and stopped, and a Kafka inside the process.
//! Settings come by keyword from `ids_py/kafka.py`, which documents them.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ids_kafka::config::{BurstCap, BurstPower, Fraction, Rate};
use ids_kafka::replay::{self, Limit};
use ids_kafka::{Connection, Delivery, DetectorConfig, Flow, Load, ReplayConfig, Shutdown, Tail, Topics};
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::{self, ConfigError, KafkaError};
use crate::flows::Flows;
use crate::input;
use crate::model::Model;
use crate::watch::{NAP, Watch};

type Outcome<T> = Result<T, ids_kafka::Error>;
type Properties = Vec<(String, String)>;

fn connection(bootstrap_servers: String, properties: Properties, secrets: Properties) -> Connection {
    let mut connection = Connection::new(bootstrap_servers);
    connection.properties = properties;
    connection.secrets = secrets;
    connection
}

/// The value that a thread ends with, waited for so that Ctrl-C works: then `shutdown` is requested, the end is
/// awaited, and KeyboardInterrupt is raised.
fn join<T: Send>(py: Python<'_>, thread: JoinHandle<Outcome<T>>, shutdown: &Shutdown) -> PyResult<T> {
    let mut interrupted = None;
    while !thread.is_finished() {
        py.detach(|| thread::sleep(NAP));
        if let Err(signal) = py.check_signals() {
            shutdown.request();
            interrupted = Some(signal);
        }
    }
    let outcome = thread.join();
    match (interrupted, outcome) {
        (Some(signal), _) => Err(signal),
        (None, Ok(outcome)) => outcome.map_err(errors::kafka),
        (None, Err(_)) => Err(KafkaError::new_err("the pipeline ended in a panic: please report it")),
    }
}

/// So many seconds, and when they are over; `None` where that is beyond what a clock tells: forever.
fn until(name: &str, seconds: f64) -> PyResult<Option<(Duration, Instant)>> {
    if seconds.is_nan() || seconds < 0.0 {
        return Err(ConfigError::new_err(format!("{name}: {seconds} is no number of seconds (0 or more)")));
    }
    let duration = Duration::try_from_secs_f64(seconds).ok();
    Ok(duration.and_then(|duration| Some((duration, Instant::now().checked_add(duration)?))))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Replays flows to a topic.
#[pyclass(module = "ids_py._ids", frozen)]
pub(crate) struct Producer(ReplayConfig);

#[pymethods]
impl Producer {
    #[new]
    #[pyo3(signature = (*, bootstrap_servers, topic, rate, burst_prob, burst_power, burst_cap, malformed, seed, properties, secrets))]
    #[allow(clippy::too_many_arguments)] // by keyword, one for each setting
    fn new(
        bootstrap_servers: String,
        topic: String,
        rate: f64,
        burst_prob: f64,
        burst_power: f64,
        burst_cap: f64,
        malformed: f64,
        seed: u64,
        properties: Properties,
        secrets: Properties,
    ) -> PyResult<Self> {
        let load = || -> Outcome<Load> {
            Ok(Load {
                rate: Rate::new(rate)?,
                burst_prob: Fraction::new(burst_prob)?,
                burst_power: BurstPower::new(burst_power)?,
                burst_cap: BurstCap::new(burst_cap)?,
                malformed: Fraction::new(malformed)?,
                seed,
            })
        };
        let mut config = ReplayConfig::new(connection(bootstrap_servers, properties, secrets), topic);
        config.load = load().map_err(errors::kafka)?;
        Ok(Self(config))
    }

    /// Sends flows, over and over, until `records` are sent or `seconds` are over; waits for every
    /// acknowledgement. Returns how many records were acknowledged and the seconds it took.
    #[pyo3(signature = (flows, records=None, seconds=None))]
    fn run(
        &self,
        py: Python<'_>,
        flows: &Bound<'_, PyAny>,
        records: Option<u64>,
        seconds: Option<f64>,
    ) -> PyResult<(u64, f64)> {
        let end = seconds.map(|seconds| until("seconds", seconds)).transpose()?.flatten();
        let duration = end.map(|(duration, _)| duration);
        let flows = flows_of(flows)?;
        let (config, shutdown) = (self.0.clone(), Shutdown::new());
        let limit = Limit { records, duration };
        let stop = shutdown.clone();
        let thread = thread::spawn(move || {
            let replay = ids_kafka::Replay::new(config, flows, |_| ())?;
            // Whoever sits at a notebook wants to know that Kafka is away.
            replay.check()?;
            replay.run(limit, &stop)
        });
        let summary = join(py, thread, &shutdown)?;
        Ok((summary.records, summary.elapsed.as_secs_f64()))
    }
}

/// The flows to replay: of a file, or what `read_flows` returned.
fn flows_of(data: &Bound<'_, PyAny>) -> PyResult<Vec<Flow>> {
    if let Ok(flows) = data.cast::<Flows>() {
        let flow =
            |record: ids_core::FlowRecord<'_>| Flow { json: record.to_json(), label: record.label().map(Arc::from) };
        return Ok(flows.get().records().iter().map(flow).collect());
    }
    let path: PathBuf = data.extract().map_err(|_| {
        let found = data.get_type();
        pyo3::exceptions::PyTypeError::new_err(format!("flows are a file or what read_flows returned, not {found}"))
    })?;
    let schema = Arc::new(ids_core::Schema::unsw_nb15());
    let watch = Watch::new();
    let read = data.py().detach(|| {
        let file = input::buffered(&path, &watch).map_err(errors::core)?;
        replay::read_flows(file, &path, &schema).map_err(errors::kafka)
    });
    watch.finish()?;
    let (flows, bad) = read?;
    match bad.first() {
        None => Ok(flows),
        Some(first) => Err(errors::DecodeError::new_err(format!(
            "{} rows of {} are no flows; the first: {first}. read_flows takes the others",
            bad.len(),
            path.display()
        ))),
    }
}

/// Scores the flows of a topic in a thread of its own.
#[pyclass(module = "ids_py._ids", frozen)]
pub(crate) struct Detector {
    config: DetectorConfig,
    model: Arc<ids_core::Model>,
    running: Mutex<Option<Running>>,
    /// The counts of the latest run.
    metrics: Mutex<Option<Arc<ids_kafka::DetectorMetrics>>>,
    /// What follows the verdicts of the latest run.
    tail: Mutex<Option<Tail>>,
}

struct Running {
    thread: JoinHandle<Outcome<()>>,
    shutdown: Shutdown,
}

#[pymethods]
impl Detector {
    #[new]
    #[pyo3(signature = (model, *, bootstrap_servers, topic, group_id, group_instance_id, exactly_once, csv_columns, alert_threshold, class_thresholds, properties, secrets))]
    #[allow(clippy::too_many_arguments)] // by keyword, one for each setting
    fn new(
        model: &Bound<'_, Model>,
        bootstrap_servers: String,
        topic: String,
        group_id: String,
        group_instance_id: Option<String>,
        exactly_once: bool,
        csv_columns: Option<String>,
        alert_threshold: Option<f64>,
        class_thresholds: Vec<(String, f64)>,
        properties: Properties,
        secrets: Properties,
    ) -> PyResult<Self> {
        let fraction = |value| Fraction::new(value).map_err(errors::kafka);
        let mut config = DetectorConfig::new(connection(bootstrap_servers, properties, secrets), topic);
        config.group_id = group_id;
        config.group_instance_id = group_instance_id;
        config.delivery = if exactly_once { Delivery::ExactlyOnce } else { Delivery::AtLeastOnce };
        config.csv_columns = csv_columns;
        config.alert_threshold = alert_threshold.map(fraction).transpose()?;
        for (class, threshold) in class_thresholds {
            config.class_threshold.push((class, fraction(threshold)?));
        }
        let model = Arc::clone(model.get().inner());
        // What does not fit the model is said here and not in the thread.
        ids_kafka::Detector::new(config.clone(), Arc::clone(&model)).map_err(errors::kafka)?;
        Ok(Self { config, model, running: Mutex::new(None), metrics: Mutex::new(None), tail: Mutex::new(None) })
    }

    /// Starts detecting and waits until the consumer group is joined, `join_wait` seconds at most.
    fn start(&self, py: Python<'_>, join_wait: f64) -> PyResult<()> {
        let wait = until("join_wait", join_wait)?.map(|(wait, _)| wait);
        if lock(&self.running).is_some() {
            return Err(PyRuntimeError::new_err("the detector runs already"));
        }
        let verdicts = Topics::of(&self.config.topic).verdicts;
        let connection = &self.config.connection;
        let tail = py.detach(|| Tail::new(connection, &verdicts)).map_err(errors::kafka)?;
        let detector = ids_kafka::Detector::new(self.config.clone(), Arc::clone(&self.model)).map_err(errors::kafka)?;
        let metrics = Arc::clone(detector.metrics());
        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        let thread = thread::spawn(move || detector.run(&stop));
        *lock(&self.tail) = Some(tail);
        *lock(&self.metrics) = Some(Arc::clone(&metrics));
        *lock(&self.running) = Some(Running { thread, shutdown });
        let start = Instant::now();
        while metrics.rebalances.get() == 0 {
            if self.is_over() {
                return self.stop(py);
            }
            if wait.is_some_and(|wait| start.elapsed() >= wait) {
                let seen = metrics.last_consumer_error().map(|error| format!(" The last error: {error}."));
                self.stop(py)?;
                let (group, seen) = (&self.config.group_id, seen.unwrap_or_default());
                return Err(KafkaError::new_err(format!(
                    "the consumer group `{group}` was not joined within {join_wait} s.{seen} Look at the brokers' log, at \
                     whether this user may read the group, and at the group's other members (kafka-consumer-groups --describe)"
                )));
            }
            py.detach(|| thread::sleep(NAP));
            if let Err(signal) = py.check_signals() {
                self.stop(py)?;
                return Err(signal);
            }
        }
        Ok(())
    }

    /// Stops detecting: waits for acknowledgements and commits. Raises what ended the detector before its time.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        let Some(Running { thread, shutdown }) = lock(&self.running).take() else { return Ok(()) };
        shutdown.request();
        join(py, thread, &shutdown)
    }

    /// Whether it detects.
    #[getter]
    fn running(&self) -> bool {
        lock(&self.running).as_ref().is_some_and(|running| !running.thread.is_finished())
    }

    /// What the latest run has counted.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = PyDict::new(py);
        let metrics = lock(&self.metrics).clone().unwrap_or_default();
        for (name, counter) in [
            ("records", &metrics.records),
            ("verdicts", &metrics.verdicts),
            ("alerts", &metrics.alerts),
            ("dead_letters", &metrics.dead_letters),
            ("batches", &metrics.batches),
            ("commits", &metrics.commits),
            ("consumer_errors", &metrics.consumer_errors),
        ] {
            stats.set_item(name, counter.get())?;
        }
        stats.set_item("assigned_partitions", metrics.assigned_partitions())?;
        stats.set_item("verdicts_by_class", metrics.verdicts_by_class())?;
        stats.set_item("dead_letters_by_kind", metrics.dead_letters_by_kind())?;
        stats.set_item("last_consumer_error", metrics.last_consumer_error())?;
        Ok(stats)
    }

    /// The next message among the verdicts, as JSON; None if none came within `timeout` seconds.
    fn poll(&self, py: Python<'_>, timeout: f64) -> PyResult<Option<Vec<u8>>> {
        let end = until("timeout", timeout)?;
        loop {
            let left = end.map_or(NAP, |(_, end)| end.saturating_duration_since(Instant::now()));
            // Locked only while the interpreter is released: whoever waits for the lock does not hold it.
            let next = py.detach(|| lock(&self.tail).as_mut().map(|tail| tail.next(left.min(NAP))));
            let Some(next) = next else {
                return Err(PyRuntimeError::new_err("the detector has not been started"));
            };
            if let Some(value) = next.map_err(errors::kafka)? {
                return Ok(Some(value));
            }
            py.check_signals()?;
            if left.is_zero() {
                return Ok(None);
            }
        }
    }

    /// The next message among the verdicts, as JSON. Ends once the detector is stopped and all are read.
    fn __next__(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        loop {
            let is_over = self.is_over();
            if let Some(value) = self.poll(py, NAP.as_secs_f64())? {
                return Ok(value);
            }
            if is_over {
                let at_end = py.detach(|| lock(&self.tail).as_ref().map_or(Ok(true), Tail::is_at_end));
                if at_end.map_err(errors::kafka)? {
                    // What ended it before its time is raised by stop.
                    self.stop(py)?;
                    return Err(PyStopIteration::new_err(()));
                }
            }
        }
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }
}

impl Detector {
    fn is_over(&self) -> bool {
        lock(&self.running).as_ref().is_none_or(|running| running.thread.is_finished())
    }
}

impl Drop for Detector {
    fn drop(&mut self) {
        if let Some(running) = lock(&self.running).as_ref() {
            running.shutdown.request();
        }
    }
}

/// A Kafka inside the process. It lives in a thread of its own, which it must not leave.
#[pyclass(module = "ids_py._ids", frozen)]
pub(crate) struct EmbeddedKafka {
    connection: Connection,
    requests: Mutex<Option<Sender<Request>>>,
}

/// Topics to make, and where to say what came of it.
type Request = (String, i32, Sender<Outcome<()>>);

#[pymethods]
impl EmbeddedKafka {
    #[new]
    #[pyo3(signature = (n_brokers=3))]
    fn new(py: Python<'_>, n_brokers: i32) -> PyResult<Self> {
        if !(1..=100).contains(&n_brokers) {
            return Err(ConfigError::new_err(format!("{n_brokers} is no number of brokers (1 to 100)")));
        }
        let (requests, received) = mpsc::channel();
        let (started, start) = mpsc::channel();
        thread::spawn(move || serve(n_brokers, &started, &received));
        let connection = py.detach(move || start.recv());
        let connection = connection.map_err(|_| KafkaError::new_err("the embedded Kafka did not start"))?;
        Ok(Self { connection: connection.map_err(errors::kafka)?, requests: Mutex::new(Some(requests)) })
    }

    /// Where it listens: host:port, comma-separated.
    #[getter]
    fn bootstrap_servers(&self) -> &str {
        &self.connection.bootstrap_servers
    }

    /// librdkafka properties with which it answers quickly.
    #[getter]
    fn properties(&self) -> Properties {
        self.connection.properties.clone()
    }

    /// Creates the four topics of a pipeline around `topic`.
    fn create_topics(&self, py: Python<'_>, topic: String, partitions: i32) -> PyResult<()> {
        if !(1..=1000).contains(&partitions) {
            return Err(ConfigError::new_err(format!("{partitions} is no number of partitions (1 to 1,000)")));
        }
        let Some(requests) = lock(&self.requests).clone() else {
            return Err(PyRuntimeError::new_err("the embedded Kafka is closed"));
        };
        let (done, outcome) = mpsc::channel();
        let ended = || KafkaError::new_err("the embedded Kafka has ended");
        requests.send((topic, partitions, done)).map_err(|_| ended())?;
        drop(requests);
        py.detach(move || outcome.recv()).map_err(|_| ended())?.map_err(errors::kafka)
    }

    /// Ends it; what it held is gone.
    fn close(&self) {
        lock(&self.requests).take();
    }
}

/// Runs the cluster until nobody can ask for anything any more.
fn serve(n_brokers: i32, started: &Sender<Outcome<Connection>>, requests: &Receiver<Request>) {
    let kafka = match ids_kafka::EmbeddedKafka::start(n_brokers) {
        Ok(kafka) => kafka,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let _ = started.send(Ok(kafka.connection()));
    while let Ok((topic, partitions, done)) = requests.recv() {
        let _ = done.send(kafka.create(&Topics::of(&topic), partitions));
    }
}
