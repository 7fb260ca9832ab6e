//! The detector: flows in; verdicts, alerts and dead letters out.
//!
//! The loop is one page: next batch -> decode -> score -> alerts and dead letters -> verdicts -> commit what is
//! acknowledged. A record's verdict is sent only after everything else said of it is acknowledged, and its offset
//! is committed only after its verdict is: a detector that is killed loses nothing. See `docs/delivery.md`.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ids_core::{
    Alerting, CsvColumns, CsvDecoder, DeadLetter, FlowRecords, JsonDecoder, Model, Origin, RecordError,
    RecordErrorKind, Schema, Scorer, Verdict,
};
use rdkafka::consumer::Consumer;
use rdkafka::message::{BorrowedMessage, Header, Message, OwnedHeaders};

use crate::config::{Delivery, DetectorConfig, Topics};
use crate::error::{Error, Result};
use crate::flight::{Offsets, Reach, Verdicts};
use crate::group::{Group, GroupConsumer};
use crate::headers;
use crate::health::Health;
use crate::metrics::{BatchCounts, DetectorMetrics, OTHER_CLASS};
use crate::outbox::{Outbox, Outgoing, Ticket, lock};
use crate::reach;
use crate::shutdown::Shutdown;

/// Most records of a batch: enough to keep the forest's tiles full.
const BATCH_RECORDS: usize = 1024;
/// Bytes of a batch beyond which no record is added: bounds its memory whatever the size of records.
const BATCH_BYTES: usize = 16 << 20;
/// Longest time to wait for a batch to fill once it has a record, where a batch's worth is on its way already: large
/// batches are cheap. With less on its way there is time to spare, and a record does not wait for others.
const BATCH_WAIT: Duration = Duration::from_millis(5);
/// Longest time to wait for a first record, and so to notice a shutdown.
const IDLE_WAIT: Duration = Duration::from_millis(100);
/// The same while there are records on their way, whose verdicts wait to be sent.
const BUSY_WAIT: Duration = Duration::from_millis(1);
/// Records on their way at which no more are taken: bounds memory while Kafka does not acknowledge.
const FULL: usize = 8 * BATCH_RECORDS;
/// Most records on their way, a batch that was taken just before included: so many may have two verdicts where a member is
/// taken for dead and is not.
pub const MOST_OPEN_RECORDS: usize = FULL + BATCH_RECORDS - 1;
/// Bytes of a header of ours, at most.
const LONGEST_HEADER: usize = 256;
const TOPIC_WAIT: Duration = Duration::from_secs(4);
const REQUEST_WAIT: Duration = Duration::from_secs(10);
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// Longest time to wait for acknowledgements at the end.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(30);

/// Scores the flows of a topic.
pub struct Detector {
    config: DetectorConfig,
    topics: Topics,
    scoring: Scoring,
    handle: Handle,
}

/// A model with what it takes to score with it.
#[derive(Clone)]
struct Scoring {
    model: Arc<Model>,
    alerting: Alerting,
    decoder: Decoder,
    scorer: Scorer,
}

impl Scoring {
    fn new(config: &DetectorConfig, model: Arc<Model>) -> Result<Self> {
        let alerting = model.alerting(config.policy().as_ref())?;
        let decoder = Decoder::new(config.csv_columns.as_deref(), &model)?;
        Ok(Self { alerting, decoder, scorer: model.scorer(), model })
    }
}

/// A running detector as others see it: what it counts, how it is, and a way to give it another model.
#[derive(Clone)]
pub struct Handle {
    config: Arc<DetectorConfig>,
    schema: Arc<Schema>,
    metrics: Arc<DetectorMetrics>,
    health: Arc<Health>,
    /// To be taken over between batches.
    offered: Arc<Mutex<Option<Scoring>>>,
}

impl Handle {
    /// What the detector counts.
    pub fn metrics(&self) -> &Arc<DetectorMetrics> {
        &self.metrics
    }

    /// Has the detector score with `model` from the next batch on.
    ///
    /// # Errors
    /// Where it does not fit: another schema, a policy for classes that it lacks. The one before serves on.
    pub fn offer(&self, model: Arc<Model>) -> Result<()> {
        let scoring = if model.schema().fields().is_like(self.schema.fields()) {
            Scoring::new(&self.config, model)
        } else {
            let (found, expected) = (model.schema().name(), self.schema.name());
            Err(Error::Config(format!("the model is of schema `{found}`; the detector reads `{expected}`")))
        };
        match scoring {
            Ok(scoring) => {
                *lock(&self.offered) = Some(scoring);
                Ok(())
            }
            Err(error) => {
                self.refuse(&error.to_string());
                Err(error)
            }
        }
    }

    /// Counts a model that could not even be loaded.
    pub fn refuse(&self, reason: &str) {
        tracing::error!(reason, "a model was refused; the one before serves on");
        self.metrics.model_refusals.add(1);
    }

    /// # Errors
    /// Where the loop has not come round for a minute: it hangs.
    pub fn is_live(&self) -> std::result::Result<(), String> {
        self.health.is_live()
    }

    /// # Errors
    /// Where it has not joined its group yet, or is ending.
    pub fn is_ready(&self) -> std::result::Result<(), String> {
        self.is_live()?;
        if self.health.is_ending() {
            return Err("it is ending".into());
        }
        if self.metrics.rebalances.get() == 0 { Err("it has not joined its group yet".into()) } else { Ok(()) }
    }

    fn beat(&self) {
        self.health.beat();
    }
}

/// Decodes the records of the topic.
#[derive(Clone)]
pub(crate) enum Decoder {
    Json(JsonDecoder),
    Csv(Box<CsvDecoder>),
}

impl Decoder {
    /// Decodes JSON, or CSV rows of `csv_columns`.
    pub(crate) fn new(csv_columns: Option<&str>, model: &Model) -> Result<Self> {
        let schema: Arc<Schema> = Arc::clone(model.schema());
        Ok(match csv_columns {
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

    pub(crate) fn decode(
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
        let metrics = Arc::<DetectorMetrics>::default();
        metrics.set_model(&model);
        let handle = Handle {
            config: Arc::new(config.clone()),
            schema: Arc::clone(model.schema()),
            metrics,
            health: Arc::default(),
            offered: Arc::default(),
        };
        let (topics, scoring) = (Topics::of(&config.topic), Scoring::new(&config, model)?);
        Ok(Self { topics, scoring, handle, config })
    }

    /// What the detector counts.
    pub fn metrics(&self) -> &Arc<DetectorMetrics> {
        &self.handle.metrics
    }

    /// The detector as others see it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Consumes and scores until shutdown is requested, then waits for acknowledgements and commits.
    ///
    /// # Errors
    /// [`Error::Kafka`] and [`Error::Topic`] where it cannot start, [`Error::Delivery`] where a message
    /// failed for good: nothing after it is committed.
    pub fn run(&self, shutdown: &Shutdown) -> Result<()> {
        let (transactional_id, metrics) = (self.transactional_id(), &self.handle.metrics);
        let (connection, flows) = (&self.config.connection, &self.topics.flows);
        let outbox = Outbox::new(connection, &self.topics, transactional_id.as_deref(), metrics, &self.handle.health)?;
        let outbox = Arc::new(outbox);
        let consumer = Group::consumer(&self.config, &self.topics, &outbox, metrics)?;
        let beat = || self.handle.beat();
        if !reach::wait_for(consumer.client(), connection, flows, outbox.refusal(), shutdown, beat)? {
            return Ok(());
        }
        let widths = self.check_topics(&consumer)?;
        // librdkafka joins the group while the one that had our transactional id is fenced: each takes its time. Nothing
        // is consumed before both are done.
        consumer.subscribe(&[&self.topics.flows]).map_err(Error::kafka("subscribing"))?;
        outbox.init_transactions()?;

        let group = consumer.context();
        std::thread::scope(|scope| {
            // Offsets are committed beside the loop: one that waits for Kafka lets records wait.
            let (due, dues) = mpsc::sync_channel(1);
            let consumer = &consumer;
            scope.spawn(move || dues.iter().for_each(|()| group.commit(consumer)));
            self.consume(consumer, &outbox, &widths, &due, shutdown).inspect_err(|_| group.break_off())
        })?;
        self.handle.health.end();
        match group.settle(&consumer, Instant::now() + SHUTDOWN_WAIT)? {
            0 => Ok(()),
            outstanding => Err(Error::Unacknowledged { outstanding, seconds: SHUTDOWN_WAIT.as_secs() }),
        }
    }

    /// The loop, until shutdown is requested. Says when a commit is `due`.
    fn consume(
        &self,
        consumer: &GroupConsumer,
        outbox: &Outbox,
        widths: &Widths,
        due: &SyncSender<()>,
        shutdown: &Shutdown,
    ) -> Result<()> {
        let (group, metrics) = (consumer.context(), &self.handle.metrics);
        let mut scoring = self.scoring.clone();
        let mut records = FlowRecords::new(Arc::clone(scoring.model.schema()));
        let mut expected = Offsets::new();
        let mut last_commit = Instant::now();
        let mut is_paused = false;
        let mut n_open = 0;
        while !shutdown.is_requested() {
            self.handle.beat();
            if let Some(offered) = lock(&self.handle.offered).take() {
                scoring = offered;
                records = FlowRecords::new(Arc::clone(scoring.model.schema()));
                metrics.set_model(&scoring.model);
                metrics.model_reloads.add(1);
                tracing::info!(model = scoring.model.version(), "another model scores from here on");
            }
            let is_full = n_open >= FULL || outbox.is_full();
            if is_full || is_paused {
                // Kafka still hears of this member: it polls, but is given nothing until there is room.
                group.pause(consumer, is_full)?;
                is_paused = is_full;
            }
            let wait = if n_open == 0 { IDLE_WAIT } else { BUSY_WAIT };
            let to_fill = if n_open < BATCH_RECORDS { Duration::ZERO } else { BATCH_WAIT };
            let batch = next_batch(consumer, &mut scoring.decoder, records, wait, to_fill)?;
            group.check()?;
            self.count(&batch, group, &mut expected);
            if !batch.messages.is_empty() {
                let ticket = group.ticket()?;
                let (verdicts, reach) = self.speak(&batch, &mut scoring, outbox, &ticket, widths)?;
                group.push(ticket, verdicts, reach, batch.messages.len())?;
            }
            records = batch.records;
            n_open = group.advance(consumer)?;
            metrics.set_in_flight(n_open);
            if last_commit.elapsed() >= COMMIT_INTERVAL {
                // Where the one before is not confirmed yet, the next is soon enough.
                let _ = due.try_send(());
                last_commit = Instant::now();
            }
        }
        Ok(())
    }

    /// Of delivery exactly once: the same for a member that starts again, another for each other member.
    fn transactional_id(&self) -> Option<String> {
        let DetectorConfig { group_id, group_instance_id, delivery, .. } = &self.config;
        let of_this_run = || {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
            format!("{}-{since}", std::process::id())
        };
        let member = || group_instance_id.clone().unwrap_or_else(of_this_run);
        (*delivery == Delivery::ExactlyOnce).then(|| format!("{group_id}-{}", member()))
    }

    /// Checks that the topics exist, and that a verdict can go to the partition of its flow.
    fn check_topics(&self, consumer: &GroupConsumer) -> Result<Widths> {
        let n_partitions = |topic: &str| -> Result<i32> {
            let doing = format!("asking for the partitions of topic `{topic}`");
            let deadline = Instant::now() + TOPIC_WAIT;
            loop {
                let metadata = consumer.fetch_metadata(Some(topic), REQUEST_WAIT).map_err(Error::kafka(&doing))?;
                match metadata.topics().first().map_or(0, |topic| topic.partitions().len()) {
                    // A broker may not have heard of a topic that was just created.
                    0 if Instant::now() < deadline => std::thread::sleep(TOPIC_WAIT / 20),
                    0 => {
                        let detail = "it does not exist; create it first".into();
                        return Err(Error::Topic { topic: topic.into(), detail });
                    }
                    n => return Ok(n as i32),
                }
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
    fn count(&self, batch: &Batch<'_>, group: &Group, expected: &mut Offsets) {
        // What another member consumed meanwhile is no gap.
        expected.retain(|partition, _| !batch.revoked.contains(partition));
        for Consumed { message, .. } in batch.messages.iter().filter(|consumed| !consumed.is_revoked) {
            self.handle.metrics.records.add(1);
            let next = expected.insert(message.partition(), message.offset() + 1);
            if next.is_none() {
                let timestamp_ms = message.timestamp().to_millis().unwrap_or(batch.read_at_ms);
                self.handle.metrics.note_first(message.partition(), message.offset(), timestamp_ms);
            }
            let next = next.or_else(|| group.take_start(message.partition()));
            // A smaller offset is a record seen again after a rebalance: no gap.
            let gap = next.map_or(0, |next| message.offset() - next).max(0);
            self.handle.metrics.offset_gaps.add(gap as u64);
        }
        self.handle.metrics.note_given(expected);
    }

    /// Scores a batch and sends what is to be said of its records beside verdicts; the verdicts, and the offsets that
    /// follow the batch.
    fn speak(
        &self,
        batch: &Batch<'_>,
        scoring: &mut Scoring,
        outbox: &Outbox,
        ticket: &Arc<Ticket>,
        widths: &Widths,
    ) -> Result<(Verdicts, Reach)> {
        let Scoring { model, alerting, scorer, .. } = scoring;
        let start = Instant::now();
        let scored = scorer.score(&batch.records);
        self.handle.metrics.batch_seconds.observe(start.elapsed().as_secs_f64());
        self.handle.metrics.batch_records.observe(batch.messages.len() as f64);
        let mut counts = BatchCounts::default();
        let mut reach = Reach::default();
        let mut decoded = 0..;
        let mut verdicts = Verdicts::default();
        // Key and value of an alert.
        let mut text = Vec::new();
        let unwritable = |error| Error::Config(format!("a verdict cannot be written: {error}"));
        for Consumed { message, error, is_revoked } in &batch.messages {
            let index = if error.is_none() { decoded.next() } else { None };
            let partition = message.partition();
            if *is_revoked {
                continue;
            }
            let origin = origin(message);
            reach.add(partition, origin.offset, origin.timestamp_ms);
            let dead_letter = match (index.map(|index| (index, scored.get(index))), error) {
                (Some((index, Ok(score))), _) => {
                    let verdict = Verdict::new(model, origin, score);
                    *counts.verdicts.entry(verdict.class).or_default() += 1;
                    let flow = batch.records.get(index);
                    let sent = message.headers().and_then(|headers| headers::text(headers, headers::LABEL));
                    let sent = sent.and_then(|text| model.schema().labels()?.class(text));
                    if let Some(label) = sent.or(flow.label()) {
                        let known = model.labels().iter().position(|class| **class == *label);
                        let actual = known.map_or(OTHER_CLASS, |class| model.classes()[class].as_str());
                        *counts.labelled.entry((actual, verdict.class)).or_default() += 1;
                    }
                    if alerting.raises(&verdict) {
                        counts.alerts += 1;
                        let alert = alerting.alert(model, &verdict, flow, &score, batch.read_at_ms);
                        text.clear();
                        // Writing to memory does not fail.
                        let _ = write!(text, "{origin}");
                        let key_length = text.len();
                        serde_json::to_writer(&mut text, &alert).map_err(unwritable)?;
                        let (key, value) = text.split_at(key_length);
                        let outgoing = Outgoing {
                            topic: &self.topics.alerts,
                            partition: partition % widths.alerts,
                            key: Some(key),
                            value: Some(value),
                            headers: own_headers(message),
                        };
                        outbox.send(outgoing, ticket)?;
                    }
                    verdicts.push(origin, own_headers(message), &verdict).map_err(unwritable)?;
                    continue;
                }
                (Some((_, Err(fault))), _) => DeadLetter::unscored(origin, &fault, model.version()),
                (None, Some(error)) => DeadLetter::undecoded(origin, error, model.version()),
                (None, None) => unreachable!("a record is decoded or in error"),
            };
            *counts.dead_letters.entry(dead_letter.kind).or_default() += 1;
            let outgoing = Outgoing {
                topic: &self.topics.dead_letters,
                partition: partition % widths.dead_letters,
                key: message.key(),
                value: message.payload(),
                headers: Some(dead_letter_headers(message, &dead_letter)),
            };
            outbox.send(outgoing, ticket)?;
            verdicts.push(origin, own_headers(message), &dead_letter.marker()).map_err(unwritable)?;
        }
        self.handle.metrics.add_batch(&counts);
        Ok((verdicts, reach))
    }
}

/// Waits for records, `longest` for the first and then `to_fill` for more, and decodes them as they come.
fn next_batch<'a>(
    consumer: &'a GroupConsumer,
    decoder: &mut Decoder,
    mut records: FlowRecords,
    longest: Duration,
    to_fill: Duration,
) -> Result<Batch<'a>> {
    records.clear();
    let mut messages: Vec<Consumed<'_>> = Vec::new();
    let mut revoked = BTreeSet::new();
    let mut deadline = Instant::now() + longest;
    let mut n_bytes = 0;
    while messages.len() < BATCH_RECORDS && n_bytes < BATCH_BYTES {
        // What is there already is taken whatever the time.
        let polled = consumer.poll(Duration::ZERO).or_else(|| {
            let wait = deadline.saturating_duration_since(Instant::now());
            if wait.is_zero() { None } else { consumer.poll(wait) }
        });
        // Partitions come and go inside of `poll`, before it gives the next message. What was consumed
        // before is the new owner's; what comes after, should the partition come back, is ours.
        let taken = consumer.context().take_revoked();
        for consumed in messages.iter_mut().filter(|consumed| taken.contains(&consumed.message.partition())) {
            consumed.is_revoked = true;
        }
        revoked.extend(taken);
        match polled {
            Some(Ok(message)) => {
                if messages.is_empty() {
                    deadline = Instant::now() + to_fill;
                }
                n_bytes += message.key_len() + message.payload_len();
                let decoded = decoder.decode(message.offset() as u64, message.payload(), &mut records);
                messages.push(Consumed { message, error: decoded.err(), is_revoked: false });
            }
            // librdkafka reconnects by itself; only a fatal error is the end.
            Some(Err(error)) => {
                consumer.context().note_consumer_error(&error.to_string());
                if let Some((code, detail)) = consumer.client().fatal_error() {
                    return Err(Error::Kafka { doing: format!("consuming: {detail} ({code})"), error });
                }
            }
            None if Instant::now() >= deadline => break,
            None => {}
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

/// The headers of a flow that travel on with what is said of it. A long one is none of ours, and would travel on into each verdict.
fn own_headers(message: &BorrowedMessage<'_>) -> Option<OwnedHeaders> {
    let passed_on = headers::iter(message.headers()?).filter(|(name, value)| {
        headers::PASSED_ON.contains(&&**name) && value.is_none_or(|value| value.len() <= LONGEST_HEADER)
    });
    Some(passed_on.fold(OwnedHeaders::new(), |all, (name, value)| all.insert(Header { key: &name, value })))
}

/// All headers of a record, and after them those that say why it is a dead letter. Where it has some of
/// those already (a dead letter that was sent again, or a forgery) they are left out: ours are the ones.
fn dead_letter_headers(message: &BorrowedMessage<'_>, dead_letter: &DeadLetter<'_>) -> OwnedHeaders {
    let received = message.headers().into_iter().flat_map(headers::iter);
    let own = received.filter(|(name, _)| headers::is_of_record(name));
    let all = own.fold(OwnedHeaders::new(), |all, (name, value)| all.insert(Header { key: &name, value }));
    headers::of_dead_letter(dead_letter)
        .iter()
        .fold(all, |all, (key, value)| all.insert(Header { key, value: Some(value) }))
}
