//! The detector: flows in; verdicts, alerts and dead letters out.
//!
//! The loop is one page: next batch -> decode -> score -> send -> commit what is acknowledged. A
//! record's offset is committed only after everything said of it is acknowledged, so a detector that
//! is killed repeats some records and loses none.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ids_core::{
    Alerting, CsvColumns, CsvDecoder, DeadLetter, FlowRecords, JsonDecoder, Model, Origin, RecordError,
    RecordErrorKind, Schema, Scorer, Verdict, alert,
};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaResult;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::config::{DetectorConfig, Topics, set_defaults};
use crate::error::{Error, Result};
use crate::headers;
use crate::metrics::{BatchCounts, DetectorMetrics};
use crate::outbox::{Outbox, Outgoing, Ticket, lock};
use crate::progress::{Offsets, Progress};
use crate::shutdown::Shutdown;

/// Most records of a batch: enough to keep the forest's tiles full.
const BATCH_RECORDS: usize = 1024;
/// Bytes of a batch beyond which no record is added: bounds its memory whatever the size of records.
const BATCH_BYTES: usize = 16 << 20;
/// Longest time to wait for a batch to fill once it has a record.
const BATCH_WAIT: Duration = Duration::from_millis(5);
/// Longest time to wait for a first record, and so to notice a shutdown.
const IDLE_WAIT: Duration = Duration::from_millis(100);
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// Longest time to wait for acknowledgements before partitions are handed over.
const REVOKE_WAIT: Duration = Duration::from_secs(5);
/// Longest time to wait for acknowledgements at the end.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(30);

/// Properties of the consumer that the promise of the loop rests on.
const OWNED: [(&str, &str); 2] = [("enable.auto.commit", "false"), ("enable.auto.offset.store", "false")];

const DEFAULTS: [(&str, &str); 9] = [
    ("auto.offset.reset", "earliest"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("session.timeout.ms", "10000"),
    ("heartbeat.interval.ms", "3000"),
    ("fetch.wait.max.ms", "50"),
    // A full local queue otherwise pauses fetching for a whole second.
    ("fetch.queue.backoff.ms", "20"),
    // Bounds the memory of a consumer that has fallen behind.
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.message.max.bytes", "10485760"),
    ("check.crcs", "true"),
];

/// Scores the flows of a topic.
pub struct Detector {
    config: DetectorConfig,
    topics: Topics,
    model: Arc<Model>,
    alerting: Alerting,
    decoder: Decoder,
    metrics: Arc<DetectorMetrics>,
}

/// Decodes the records of the topic.
#[derive(Clone)]
enum Decoder {
    Json(JsonDecoder),
    Csv(Box<CsvDecoder>),
}

impl Decoder {
    fn new(config: &DetectorConfig, model: &Model) -> Result<Self> {
        let schema: Arc<Schema> = Arc::clone(model.schema());
        Ok(match &config.csv_columns {
            None => Self::Json(JsonDecoder::new(schema, model.inputs())?),
            Some(columns) => {
                let columns = if schema.layout(columns).is_some() {
                    CsvColumns::layout(&schema, columns)?
                } else {
                    CsvColumns::from_header(&schema, &columns.split(',').collect::<Vec<_>>())?
                };
                Self::Csv(Box::new(CsvDecoder::new(schema, model.inputs(), columns)?))
            }
        })
    }

    fn decode(
        &mut self,
        offset: u64,
        value: Option<&[u8]>,
        records: &mut FlowRecords,
    ) -> std::result::Result<(), RecordError> {
        let Some(value) = value else {
            return Err(RecordError { record: offset, column: None, offset: None, kind: RecordErrorKind::Tombstone });
        };
        match self {
            Self::Json(decoder) => decoder.decode(offset, value, records),
            Self::Csv(decoder) => decoder.decode(offset, value, records),
        }
    }
}

/// What the consumer's callbacks and the loop share.
struct Group {
    /// The topic with the flows.
    topic: String,
    progress: Mutex<Progress>,
    metrics: Arc<DetectorMetrics>,
}

impl ClientContext for Group {}

impl ConsumerContext for Group {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(partitions) = rebalance else { return };
        // Hand over cleanly: wait for what is on its way, commit it, then let go. What is not
        // acknowledged in time is scored again by the next owner.
        let deadline = Instant::now() + REVOKE_WAIT;
        while lock(&self.progress).settle() > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Counted; what is not committed is scored again by the next owner.
        let _ = self.commit(consumer);
        lock(&self.progress).revoke(partitions.elements().iter().map(TopicPartitionListElem::partition));
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, _: &Rebalance<'_>) {
        self.metrics.rebalances.add(1);
        self.metrics.set_assigned_partitions(consumer.assignment().map_or(0, |assignment| assignment.count()));
    }
}

impl Group {
    /// Commits what is done, and waits for Kafka to confirm it.
    fn commit(&self, consumer: &BaseConsumer<Self>) -> KafkaResult<()> {
        let offsets = lock(&self.progress).to_commit();
        if offsets.is_empty() {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        for (partition, next) in &offsets {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*next))?;
        }
        match consumer.commit(&list, CommitMode::Sync) {
            Ok(()) => {
                self.metrics.commits.add(1);
                lock(&self.progress).confirm(offsets);
                Ok(())
            }
            Err(error) => {
                self.metrics.commit_failures.add(1);
                Err(error)
            }
        }
    }
}

/// A batch of messages as they were consumed: those that were decoded lie in `records`, in order.
struct Batch<'a> {
    messages: Vec<Consumed<'a>>,
    records: FlowRecords,
    /// Partitions taken away while the batch filled.
    revoked: BTreeSet<i32>,
    /// When the batch was complete, in milliseconds since 1970-01-01 UTC.
    read_at_ms: i64,
}

struct Consumed<'a> {
    message: BorrowedMessage<'a>,
    error: Option<RecordError>,
    /// Its partition was taken away after it was consumed: the new owner consumes it again.
    is_revoked: bool,
}

/// How many partitions the topics have that are written to.
struct Widths {
    alerts: i32,
    dead_letters: i32,
}

impl Detector {
    /// A detector with `model`.
    ///
    /// # Errors
    /// [`Error::Core`] where the policy or the columns do not fit the model.
    pub fn new(config: DetectorConfig, model: Arc<Model>) -> Result<Self> {
        Ok(Self {
            topics: Topics::of(&config.topic),
            alerting: config.policy().bind(&model)?,
            decoder: Decoder::new(&config, &model)?,
            metrics: Arc::new(DetectorMetrics::default()),
            config,
            model,
        })
    }

    /// What the detector counts.
    pub fn metrics(&self) -> &Arc<DetectorMetrics> {
        &self.metrics
    }

    /// Consumes and scores until shutdown is requested, then waits for acknowledgements and commits.
    ///
    /// # Errors
    /// [`Error::Kafka`] and [`Error::Topic`] where it cannot start, [`Error::Delivery`] where a message
    /// failed for good: nothing after it is committed.
    pub fn run(&self, shutdown: &Shutdown) -> Result<()> {
        let mut client = self.config.connection.client(&OWNED)?;
        client.set("group.id", &self.config.group_id);
        set_defaults(&mut client, &DEFAULTS);
        let topic = self.topics.flows.clone();
        let group = Group { topic, progress: Mutex::default(), metrics: Arc::clone(&self.metrics) };
        let consumer: BaseConsumer<Group> =
            client.create_with_context(group).map_err(Error::kafka("creating a consumer"))?;
        let widths = self.check_topics(&consumer)?;
        let outbox = Outbox::new(&self.config.connection, &self.topics.dead_letters)?;
        consumer.subscribe(&[&self.topics.flows]).map_err(Error::kafka("subscribing"))?;

        let group = consumer.context();
        let mut decoder = self.decoder.clone();
        let mut scorer = self.model.scorer();
        let mut records = FlowRecords::new(Arc::clone(self.model.schema()));
        let mut expected = Offsets::new();
        let mut last_commit = Instant::now();
        while !shutdown.is_requested() {
            let batch = next_batch(&consumer, &mut decoder, records)?;
            self.count(&batch, &mut expected);
            if !batch.messages.is_empty() {
                let ticket = Ticket::open();
                let next = self.send_batch(&batch, &mut scorer, &outbox, &ticket, &widths)?;
                ticket.seal();
                lock(&group.progress).push(ticket, next);
            }
            records = batch.records;
            outbox.resend()?;
            outbox.check()?;
            lock(&group.progress).settle();
            if last_commit.elapsed() >= COMMIT_INTERVAL {
                // Counted; tried again after the next interval.
                let _ = group.commit(&consumer);
                last_commit = Instant::now();
            }
        }

        let deadline = Instant::now() + SHUTDOWN_WAIT;
        let mut outstanding = lock(&group.progress).settle();
        while outstanding > 0 && Instant::now() < deadline {
            outbox.resend()?;
            outbox.check()?;
            std::thread::sleep(Duration::from_millis(1));
            outstanding = lock(&group.progress).settle();
        }
        let committed = group.commit(&consumer);
        if outstanding > 0 {
            return Err(Error::Unacknowledged { outstanding, seconds: SHUTDOWN_WAIT.as_secs() });
        }
        committed.map_err(Error::kafka("committing the last offsets"))
    }

    /// Checks that the topics exist, and that a verdict can go to the partition of its flow.
    fn check_topics(&self, consumer: &BaseConsumer<Group>) -> Result<Widths> {
        let n_partitions = |topic: &str| -> Result<i32> {
            let doing = format!("asking for the partitions of topic `{topic}`");
            let metadata =
                consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).map_err(Error::kafka(doing))?;
            match metadata.topics().first().map_or(0, |topic| topic.partitions().len()) {
                0 => Err(Error::Topic { topic: topic.into(), detail: "it does not exist; create it first".into() }),
                n => Ok(n as i32),
            }
        };
        let flows = n_partitions(&self.topics.flows)?;
        let verdicts = n_partitions(&self.topics.verdicts)?;
        if verdicts < flows {
            let detail = format!("it has {verdicts} partitions; it needs the {flows} of `{}`", self.topics.flows);
            return Err(Error::Topic { topic: self.topics.verdicts.clone(), detail });
        }
        Ok(Widths {
            alerts: n_partitions(&self.topics.alerts)?,
            dead_letters: n_partitions(&self.topics.dead_letters)?,
        })
    }

    /// Counts the records of a batch, and offsets that were passed over.
    fn count(&self, batch: &Batch<'_>, expected: &mut Offsets) {
        // What another member consumed meanwhile is no gap.
        expected.retain(|partition, _| !batch.revoked.contains(partition));
        for Consumed { message, .. } in batch.messages.iter().filter(|consumed| !consumed.is_revoked) {
            self.metrics.records.add(1);
            let next = expected.insert(message.partition(), message.offset() + 1);
            // A smaller offset is a record seen again after a rebalance: no gap.
            let gap = next.map_or(0, |next| message.offset() - next).max(0);
            self.metrics.offset_gaps.add(gap as u64);
        }
    }

    /// Scores a batch and sends what is to be said of each record; the offsets that follow it.
    fn send_batch(
        &self,
        batch: &Batch<'_>,
        scorer: &mut Scorer,
        outbox: &Outbox,
        ticket: &Arc<Ticket>,
        widths: &Widths,
    ) -> Result<Offsets> {
        let scored = scorer.score(&batch.records);
        let mut counts = BatchCounts::default();
        let mut next = Offsets::new();
        let mut decoded = 0..;
        let mut verdict_json = Vec::new();
        for Consumed { message, error, is_revoked } in &batch.messages {
            let index = if error.is_none() { decoded.next() } else { None };
            let partition = message.partition();
            if *is_revoked {
                continue;
            }
            next.insert(partition, message.offset() + 1);
            let origin = origin(message);
            let dead_letter = match (index.map(|index| (index, scored.get(index))), error) {
                (Some((index, Ok(score))), _) => {
                    let verdict = Verdict::new(&self.model, origin, score);
                    *counts.verdicts.entry(verdict.class).or_default() += 1;
                    let key = origin.key();
                    if self.alerting.raises(&verdict) {
                        counts.alerts += 1;
                        let alert =
                            alert::alert(&self.model, &verdict, batch.records.get(index), &score, batch.read_at_ms)
                                .to_string();
                        let outgoing = Outgoing {
                            topic: &self.topics.alerts,
                            partition: partition % widths.alerts,
                            key: Some(key.as_bytes()),
                            value: Some(alert.as_bytes()),
                            headers: own_headers(message),
                        };
                        outbox.send(outgoing, ticket)?;
                    }
                    verdict_json.clear();
                    serde_json::to_writer(&mut verdict_json, &verdict)
                        .map_err(|error| Error::Config(format!("a verdict cannot be written: {error}")))?;
                    let outgoing = Outgoing {
                        topic: &self.topics.verdicts,
                        partition,
                        key: Some(key.as_bytes()),
                        value: Some(&verdict_json),
                        headers: own_headers(message),
                    };
                    outbox.send(outgoing, ticket)?;
                    continue;
                }
                (Some((_, Err(fault))), _) => DeadLetter::unscored(origin, &fault, self.model.version()),
                (None, Some(error)) => DeadLetter::undecoded(origin, error, self.model.version()),
                (None, None) => unreachable!("a record is decoded or in error"),
            };
            *counts.dead_letters.entry(dead_letter.kind).or_default() += 1;
            let outgoing = Outgoing {
                topic: &self.topics.dead_letters,
                partition: partition % widths.dead_letters,
                key: message.key(),
                value: message.payload(),
                headers: dead_letter_headers(message, &dead_letter),
            };
            outbox.send(outgoing, ticket)?;
        }
        self.metrics.add_batch(&counts);
        Ok(next)
    }
}

/// Waits for records and decodes them as they come.
fn next_batch<'a>(
    consumer: &'a BaseConsumer<Group>,
    decoder: &mut Decoder,
    mut records: FlowRecords,
) -> Result<Batch<'a>> {
    records.clear();
    let mut messages: Vec<Consumed<'_>> = Vec::new();
    let mut revoked = BTreeSet::new();
    let mut deadline = Instant::now() + IDLE_WAIT;
    let mut n_bytes = 0;
    while messages.len() < BATCH_RECORDS && n_bytes < BATCH_BYTES {
        let wait = deadline.saturating_duration_since(Instant::now());
        let polled = consumer.poll(wait);
        // Partitions come and go inside of `poll`, before it gives the next message. What was consumed
        // before is the new owner's; what comes after, should the partition come back, is ours.
        let taken = lock(&consumer.context().progress).take_revoked();
        for consumed in messages.iter_mut().filter(|consumed| taken.contains(&consumed.message.partition())) {
            consumed.is_revoked = true;
        }
        revoked.extend(taken);
        match polled {
            Some(Ok(message)) => {
                if messages.is_empty() {
                    deadline = Instant::now() + BATCH_WAIT;
                }
                n_bytes += message.payload_len();
                let decoded = decoder.decode(message.offset() as u64, message.payload(), &mut records);
                messages.push(Consumed { message, error: decoded.err(), is_revoked: false });
            }
            // librdkafka reconnects by itself; only a fatal error is the end.
            Some(Err(error)) => {
                consumer.context().metrics.note_consumer_error(&error.to_string());
                if let Some((code, detail)) = consumer.client().fatal_error() {
                    return Err(Error::Kafka { doing: format!("consuming: {detail} ({code})"), error });
                }
            }
            None => {}
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    let read_at_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    Ok(Batch { messages, records, revoked, read_at_ms })
}

fn origin<'a>(message: &'a BorrowedMessage<'_>) -> Origin<'a> {
    Origin {
        topic: message.topic(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
    }
}

/// The headers of a flow that travel on with what is said of it.
fn own_headers(message: &BorrowedMessage<'_>) -> OwnedHeaders {
    let received = message.headers().into_iter().flat_map(|received| received.iter());
    let passed_on = received.filter(|header| headers::PASSED_ON.contains(&header.key));
    passed_on.fold(OwnedHeaders::new(), OwnedHeaders::insert)
}

/// All headers of a record, and after them those that say why it is a dead letter. Where it has some of
/// those already (a dead letter that was sent again, or a forgery) they are left out: ours are the ones.
fn dead_letter_headers(message: &BorrowedMessage<'_>, dead_letter: &DeadLetter<'_>) -> OwnedHeaders {
    let received = message.headers().into_iter().flat_map(|received| received.iter());
    let is_foreign = |header: &Header<'_, &[u8]>| {
        !header.key.starts_with(headers::PREFIX) || headers::PASSED_ON.contains(&header.key)
    };
    let mut all = received.filter(is_foreign).fold(OwnedHeaders::new(), OwnedHeaders::insert);
    if let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(dead_letter) {
        for (field, value) in &fields {
            let key = format!("{}{field}", headers::PREFIX);
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            all = all.insert(Header { key: &key, value: Some(&text) });
        }
    }
    all
}
