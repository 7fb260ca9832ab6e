//! Watches a pipeline from outside: what went in (receipts) against what came out (verdicts, alerts,
//! dead letters), matched by partition and offset.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use ids_core::{ConfusionMatrix, Model, Quality};
use ids_kafka::{Connection, Receipt, Shutdown, Topics, headers};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use serde::Deserialize;

/// How many of the last alerts are kept.
const LAST_ALERTS: usize = 4;

/// A flow's place in its topic: partition and offset.
type Place = (i32, i64);

/// The books: everything that went in and came out.
pub struct Ledger(Mutex<Books>);

struct Books {
    /// Records that Kafka acknowledged.
    produced: u64,
    /// Places of these without verdict or dead letter so far.
    unmatched: HashSet<Place>,
    /// Places that have a verdict or a dead letter.
    outcomes: HashSet<Place>,
    duplicates: u64,
    scored: u64,
    dead_letters: BTreeMap<String, u64>,
    malformed: u64,
    alerts: u64,
    last_alerts: VecDeque<String>,
    verdicts: BTreeMap<String, u64>,
    matrix: ConfusionMatrix,
    latency_us: Histogram<u64>,
}

/// The books at a moment.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Records that Kafka acknowledged.
    pub produced: u64,
    /// Flows with a verdict.
    pub scored: u64,
    /// Records in the dead-letter topic.
    pub dead_lettered: u64,
    /// Dead letters by kind of fault.
    pub dead_letters: BTreeMap<String, u64>,
    /// Records that were made malformed on purpose.
    pub malformed: u64,
    /// Records without verdict or dead letter so far.
    pub outstanding: u64,
    /// Verdicts or dead letters beyond the first of a record.
    pub duplicates: u64,
    /// Alerts.
    pub alerts: u64,
    /// The last of them, in words.
    pub last_alerts: Vec<String>,
    /// Verdicts by class.
    pub verdicts: BTreeMap<String, u64>,
    /// Milliseconds from the time a flow was due to the arrival of its verdict: median.
    pub latency_p50_ms: f64,
    /// The same: 99th percentile.
    pub latency_p99_ms: f64,
    /// Predictions against the labels that travelled along.
    pub quality: Quality,
}

/// What the observer needs of a verdict.
#[derive(Deserialize)]
struct VerdictMessage {
    origin: PlaceMessage,
    /// Of a record without verdict there is none: its dead letter counts.
    #[serde(flatten)]
    said: Option<Said>,
}

#[derive(Deserialize)]
struct Said {
    class: String,
    prediction: usize,
}

/// What the observer needs of an alert.
#[derive(Deserialize)]
struct AlertMessage {
    ids: AlertFields,
}

#[derive(Deserialize)]
struct AlertFields {
    class: String,
    probability: f64,
    origin: PlaceMessage,
}

#[derive(Deserialize)]
struct PlaceMessage {
    partition: i32,
    offset: i64,
}

impl Ledger {
    /// Empty books for the verdicts of `model`.
    pub fn new(model: &Model) -> Result<Self> {
        let matrix = ConfusionMatrix::new(model.labels(), model.benign());
        // From 1 microsecond to an hour, to three digits.
        let latency_us = Histogram::new_with_bounds(1, 3_600_000_000, 3).context("cannot make a histogram")?;
        Ok(Self(Mutex::new(Books {
            produced: 0,
            unmatched: HashSet::new(),
            outcomes: HashSet::new(),
            duplicates: 0,
            scored: 0,
            dead_letters: BTreeMap::new(),
            malformed: 0,
            alerts: 0,
            last_alerts: VecDeque::new(),
            verdicts: BTreeMap::new(),
            matrix,
            latency_us,
        })))
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a record that Kafka acknowledged.
    pub fn enter_receipt(&self, receipt: &Receipt) {
        let mut books = self.books();
        books.produced += 1;
        books.malformed += u64::from(receipt.malformed.is_some());
        let Some(offset) = receipt.offset else { return };
        let place = (receipt.partition, offset);
        // A verdict may be read before its flow's receipt is.
        if !books.outcomes.contains(&place) {
            books.unmatched.insert(place);
        }
    }

    /// The books now.
    pub fn summary(&self) -> Summary {
        let books = self.books();
        let ms = |quantile| books.latency_us.value_at_quantile(quantile) as f64 / 1000.0;
        Summary {
            produced: books.produced,
            scored: books.scored,
            dead_lettered: books.dead_letters.values().sum(),
            dead_letters: books.dead_letters.clone(),
            malformed: books.malformed,
            outstanding: books.unmatched.len() as u64,
            duplicates: books.duplicates,
            alerts: books.alerts,
            last_alerts: books.last_alerts.iter().cloned().collect(),
            verdicts: books.verdicts.clone(),
            latency_p50_ms: ms(0.5),
            latency_p99_ms: ms(0.99),
            quality: books.matrix.quality(),
        }
    }
}

impl Books {
    /// Whether this is the first outcome of the record at `place`.
    fn settle(&mut self, place: Place) -> bool {
        let is_first = self.outcomes.insert(place);
        self.unmatched.remove(&place);
        self.duplicates += u64::from(!is_first);
        is_first
    }

    fn enter_verdict(&mut self, message: &BorrowedMessage<'_>) -> Result<()> {
        let verdict: VerdictMessage = serde_json::from_slice(message.payload().unwrap_or_default())?;
        let Some(said) = verdict.said else { return Ok(()) };
        if !self.settle((verdict.origin.partition, verdict.origin.offset)) {
            return Ok(());
        }
        self.scored += 1;
        if let Some(label) = message.headers().and_then(|all| headers::text(all, headers::LABEL)) {
            self.matrix.count(label, said.prediction);
        }
        if let Some(scheduled) = message.headers().and_then(|all| headers::text(all, headers::SCHEDULED_US)) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as u64;
            self.latency_us.saturating_record(now.saturating_sub(scheduled.parse()?));
        }
        *self.verdicts.entry(said.class).or_default() += 1;
        Ok(())
    }

    fn enter_alert(&mut self, message: &BorrowedMessage<'_>) -> Result<()> {
        let AlertMessage { ids } = serde_json::from_slice(message.payload().unwrap_or_default())?;
        self.alerts += 1;
        if self.last_alerts.len() == LAST_ALERTS {
            self.last_alerts.pop_front();
        }
        let PlaceMessage { partition, offset } = ids.origin;
        self.last_alerts
            .push_back(format!("{} {:.2}  partition {partition} offset {offset}", ids.class, ids.probability));
        Ok(())
    }

    fn enter_dead_letter(&mut self, message: &BorrowedMessage<'_>) -> Result<()> {
        let all = message.headers().context("a dead letter without headers")?;
        let header = |name: &str| headers::text(all, name).with_context(|| format!("a dead letter without {name}"));
        let place = (header("ids.partition")?.parse()?, header("ids.offset")?.parse()?);
        if self.settle(place) {
            *self.dead_letters.entry(header("ids.kind")?.to_owned()).or_default() += 1;
        }
        Ok(())
    }
}

/// Reads verdicts, alerts and dead letters into the ledger until shutdown.
pub fn observe(
    connection: &Connection,
    topics: &Topics,
    n_partitions: i32,
    ledger: &Ledger,
    stop: &Shutdown,
) -> Result<()> {
    let mut config = connection.client_config()?;
    config.set("group.id", "ids-observer");
    let consumer: BaseConsumer = config.create().context("cannot create the observer's consumer")?;
    let mut everything = TopicPartitionList::new();
    for topic in [&topics.verdicts, &topics.alerts, &topics.dead_letters] {
        for partition in 0..n_partitions {
            everything.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
    }
    consumer.assign(&everything)?;
    while !stop.is_requested() {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) else { continue };
        let mut books = ledger.books();
        match message.topic() {
            topic if topic == topics.verdicts => books.enter_verdict(&message)?,
            topic if topic == topics.alerts => books.enter_alert(&message)?,
            _ => books.enter_dead_letter(&message)?,
        }
    }
    Ok(())
}
