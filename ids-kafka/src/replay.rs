//! The producer: sends labelled flows to a topic as a sensor would, and knows what was acknowledged.

use std::io::BufRead;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ids_core::decode::{FlowReader, Read, Skipped};
use ids_core::{FlowRecords, RecordError, Schema};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use serde::Serialize;

use crate::arrivals::Arrivals;
use crate::config::{IDEMPOTENT, ReplayConfig, set_defaults};
use crate::error::{Error, Result};
use crate::headers;
use crate::malformed::Breakage;
use crate::reach::{self, Refusal};
use crate::replay_metrics::ReplayMetrics;
use crate::shutdown::Shutdown;

/// Longest time to wait for acknowledgements once it is to end.
const END_WAIT: Duration = Duration::from_secs(60);
const TOPIC_WAIT: Duration = Duration::from_secs(10);

const DEFAULTS: [(&str, &str); 5] = [
    // The partitioner of Kafka's Java clients, so that a key goes where they would send it.
    ("partitioner", "murmur2_random"),
    ("compression.type", "lz4"),
    ("linger.ms", "5"),
    ("message.max.bytes", "10485760"),
    // A broker that is away is waited for, however long: nothing is dropped.
    ("message.timeout.ms", "0"),
];

/// A flow to replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// The record, as a JSON object without the label.
    pub json: String,
    /// The class of the flow, if the file gave one.
    pub label: Option<Arc<str>>,
}

/// What is in a file of flows.
#[derive(Debug, Clone)]
pub struct FlowFile {
    /// Its flows.
    pub flows: Vec<Flow>,
    /// What is wrong with the rows that are none.
    pub bad: Vec<RecordError>,
    /// Rows that are neither.
    pub skipped: Skipped,
}

/// Reads all rows of a file, CSV or JSON lines; errors speak of it as `path`.
///
/// # Errors
/// [`ids_core::Error`] where it cannot be read or its header cannot be used; [`Error::Config`] where no
/// row is a flow.
pub fn read_flows(input: impl BufRead, path: &Path, schema: &Arc<Schema>) -> Result<FlowFile> {
    let mut reader = FlowReader::new(input, path, Arc::clone(schema), &[])?;
    let mut records = FlowRecords::new(Arc::clone(schema));
    let mut flows = Vec::new();
    let mut labels: Vec<Arc<str>> = Vec::new();
    let mut bad = Vec::new();
    loop {
        records.clear();
        match reader.read(&mut records)? {
            Read::End => break,
            Read::Bad(error) => bad.push(error),
            Read::Flow => {
                let record = records.get(0);
                let label = record.label().map(|label| {
                    let known = labels.iter().find(|known| ***known == *label).cloned();
                    known.unwrap_or_else(|| {
                        labels.push(label.into());
                        Arc::clone(&labels[labels.len() - 1])
                    })
                });
                flows.push(Flow { json: record.to_json(), label });
            }
        }
    }
    if flows.is_empty() {
        let first = bad.first().map(|error| format!("; the first row: {error}")).unwrap_or_default();
        return Err(Error::Config(format!("{}: there are no flows to replay{first}", path.display())));
    }
    Ok(FlowFile { flows, bad, skipped: reader.skipped() })
}

/// What Kafka acknowledged of a record.
#[derive(Debug, Clone, Serialize)]
pub struct Receipt {
    /// Number of the record in the replay, from 0.
    pub sequence: u64,
    /// Where it is.
    pub partition: i32,
    /// Where it is. Not known of a record that was sent again because its first acknowledgement did not arrive: then
    /// Kafka says that it has it already, but not where.
    pub offset: Option<i64>,
    /// Its class, if known.
    pub label: Option<Arc<str>>,
    /// How it was made malformed, if it was.
    pub malformed: Option<&'static str>,
}

/// When a replay ends by itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limit {
    /// After so many records.
    pub records: Option<u64>,
    /// After so long.
    pub duration: Option<Duration>,
}

/// What became of a replay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Records sent, every one of them acknowledged.
    pub records: u64,
    /// Time from the first to the last acknowledgement.
    pub elapsed: Duration,
}

/// Sends flows over and over.
pub struct Replay<F: Fn(Receipt) + Send + Sync + 'static> {
    config: ReplayConfig,
    flows: Vec<Flow>,
    producer: ThreadedProducer<Receipts<F>>,
    failure: Arc<OnceLock<KafkaError>>,
    refusal: Arc<Refusal>,
    metrics: Arc<ReplayMetrics>,
}

/// What is remembered of a record until it is acknowledged.
struct Sent {
    sequence: u64,
    label: Option<Arc<str>>,
    malformed: Option<&'static str>,
}

struct Receipts<F> {
    receive: F,
    failure: Arc<OnceLock<KafkaError>>,
    refusal: Arc<Refusal>,
    metrics: Arc<ReplayMetrics>,
}

impl<F: Send + Sync> ClientContext for Receipts<F> {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(reason, %error, "producer");
        self.refusal.note(error, reason);
    }
}

impl<F: Fn(Receipt) + Send + Sync> ProducerContext for Receipts<F> {
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Box<Sent>) {
        match result {
            Ok(message) => {
                let Sent { sequence, label, malformed } = *sent;
                let (partition, offset) = (message.partition(), Some(message.offset()).filter(|&offset| offset >= 0));
                (self.receive)(Receipt { sequence, partition, offset, label, malformed });
                self.metrics.acknowledged.add(1);
            }
            Err((error, _)) => {
                self.metrics.delivery_errors.add(1);
                let _ = self.failure.set(error.clone());
            }
        }
    }
}

impl<F: Fn(Receipt) + Send + Sync + 'static> Replay<F> {
    /// A replay of `flows`, which start over when they are all sent. `receive` gets a receipt for each
    /// record, from another thread. It connects at once: an idempotent producer needs about half a
    /// second from here until its first record can leave.
    ///
    /// # Errors
    /// [`Error::Config`] where there are no flows, or the connection cannot be.
    pub fn new(config: ReplayConfig, flows: Vec<Flow>, receive: F) -> Result<Self> {
        if flows.is_empty() {
            return Err(Error::Config("there are no flows to replay".into()));
        }
        let mut client = config.connection.client(&IDEMPOTENT)?;
        set_defaults(&mut client, &DEFAULTS);
        let (failure, refusal) = (Arc::new(OnceLock::new()), Arc::<Refusal>::default());
        let metrics = Arc::<ReplayMetrics>::default();
        let context = Receipts {
            receive,
            failure: Arc::clone(&failure),
            refusal: Arc::clone(&refusal),
            metrics: Arc::clone(&metrics),
        };
        let producer: ThreadedProducer<_> =
            client.create_with_context(context).map_err(Error::kafka("creating a producer"))?;
        Ok(Self { config, flows, producer, failure, refusal, metrics })
    }

    /// Checks that the topic is there; waits for it, and for Kafka, some 20 seconds at most.
    ///
    /// # Errors
    /// [`Error::Kafka`] where Kafka is out of reach or refuses us; [`Error::Topic`] where there is no such topic.
    pub fn check(&self) -> Result<()> {
        check_topic(&self.producer, &self.config.topic).map_err(|error| self.refusal.check().err().unwrap_or(error))
    }

    /// What the replay counts.
    pub fn metrics(&self) -> &Arc<ReplayMetrics> {
        &self.metrics
    }

    /// Waits for Kafka, sends until the limit or until shutdown is requested, then waits for every acknowledgement.
    ///
    /// # Errors
    /// [`Error::Kafka`] where Kafka refuses us; [`Error::Topic`] where there is no such topic; [`Error::Delivery`] where a record failed for good; [`Error::Unsent`] where Kafka is away at the end.
    pub fn run(&self, limit: Limit, shutdown: &Shutdown) -> Result<Summary> {
        let failed = |error| Error::Delivery { topic: self.config.topic.clone(), error };
        let ReplayConfig { connection, topic, .. } = &self.config;
        let beat = || self.metrics.health.beat();
        if !reach::wait_for(self.producer.client(), connection, topic, &self.refusal, shutdown, beat)? {
            return Ok(Summary { records: 0, elapsed: Duration::ZERO });
        }
        self.check()?;
        let start = Instant::now();
        let start_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
        // A stream of its own: how many records are malformed does not change when they arrive.
        let mut rng = StdRng::seed_from_u64(self.config.load.seed ^ 0x006d_616c_666f_726d);
        let mut n_records = 0;
        let metrics = &*self.metrics;
        let mut arrivals = Arrivals::new(&self.config.load);
        let mut flows = self.flows.iter().cycle();
        while let (Some(due), Some(flow)) = (arrivals.next(), flows.next()) {
            let is_over = limit.duration.is_some_and(|end| due >= end) || limit.records == Some(n_records);
            if is_over || !self.wait_until(start + due, shutdown) {
                break;
            }
            metrics.bursts.set(arrivals.n_bursts());
            metrics.set_behind(start.elapsed().saturating_sub(due));
            let is_malformed = rng.random_bool(self.config.load.malformed.get());
            let breakage = is_malformed.then(|| Breakage::draw(&mut rng, &flow.json));
            let scheduled_us = start_us + due.as_micros();
            let is_sent = self.send(flow, breakage, n_records, scheduled_us, shutdown).map_err(failed)?;
            if !is_sent {
                break;
            }
            n_records += 1;
        }
        metrics.health.end();
        let end = Instant::now();
        // What librdkafka has no more of may still be on its way to `receive`: our own count is the one.
        while metrics.in_flight() > 0 {
            if let Some(error) = self.failure.get() {
                return Err(failed(error.clone()));
            }
            if end.elapsed() >= END_WAIT {
                return Err(Error::Unsent { outstanding: metrics.in_flight(), seconds: END_WAIT.as_secs() });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        match self.failure.get() {
            Some(error) => Err(failed(error.clone())),
            None => Ok(Summary { records: n_records, elapsed: start.elapsed() }),
        }
    }

    /// Hands a record to librdkafka, and waits while its queue is full; `false` if shutdown was requested meanwhile.
    fn send(
        &self,
        flow: &Flow,
        breakage: Option<Breakage>,
        sequence: u64,
        scheduled_us: u128,
        shutdown: &Shutdown,
    ) -> std::result::Result<bool, KafkaError> {
        let key = sequence.to_string();
        let broken = breakage.map(|breakage| breakage.apply(&flow.json));
        let value = match &broken {
            None => Some(flow.json.as_bytes()),
            Some(broken) => broken.as_deref(),
        };
        let scheduled = scheduled_us.to_string();
        let mut all = OwnedHeaders::new()
            .insert(Header { key: headers::SEQUENCE, value: Some(&key) })
            .insert(Header { key: headers::SCHEDULED_US, value: Some(&scheduled) });
        if let Some(label) = &flow.label {
            all = all.insert(Header { key: headers::LABEL, value: Some(label.as_ref()) });
        }
        if let Some(breakage) = breakage {
            all = all.insert(Header { key: headers::MALFORMED, value: Some(breakage.name) });
        }
        let sent = Sent { sequence, label: flow.label.clone(), malformed: breakage.map(|breakage| breakage.name) };
        let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(&self.config.topic, Box::new(sent))
            .key(key.as_bytes())
            .headers(all);
        record.payload = value;
        let n_bytes = key.len() + value.map_or(0, <[u8]>::len);
        let metrics = &*self.metrics;
        loop {
            match self.producer.send(record) {
                Ok(()) => {
                    metrics.records.add(1);
                    metrics.bytes.add(n_bytes as u64);
                    metrics.malformed.add(u64::from(breakage.is_some()));
                    return Ok(true);
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
                    if let Some(error) = self.failure.get() {
                        return Err(error.clone());
                    }
                    if shutdown.is_requested() {
                        return Ok(false);
                    }
                    record = returned;
                    metrics.health.beat();
                    let since = Instant::now();
                    std::thread::sleep(Duration::from_millis(1));
                    metrics.blocked_us.add(since.elapsed().as_micros() as u64);
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// Sleeps until `due`; `false` if shutdown was requested meanwhile.
    fn wait_until(&self, due: Instant, shutdown: &Shutdown) -> bool {
        const NAP: Duration = Duration::from_millis(100);
        while !shutdown.is_requested() {
            self.metrics.health.beat();
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(NAP));
        }
        false
    }
}

/// Waits for the topic, which a broker may be about to create.
fn check_topic<C: ProducerContext>(producer: &ThreadedProducer<C>, topic: &str) -> Result<()> {
    let deadline = Instant::now() + TOPIC_WAIT;
    loop {
        let metadata = producer.client().fetch_metadata(Some(topic), TOPIC_WAIT);
        let metadata = metadata.map_err(Error::kafka(format!("asking for topic `{topic}`")))?;
        if metadata.topics().first().is_some_and(|topic| !topic.partitions().is_empty()) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::Topic { topic: topic.into(), detail: "it does not exist; create it first".into() });
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
