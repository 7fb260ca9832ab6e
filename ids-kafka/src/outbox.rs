//! Messages on their way out, and the tickets by which a batch learns that all of its are acknowledged.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{Timestamp, TopicPartitionList};

use crate::config::{Connection, IDEMPOTENT, Topics, set_defaults};
use crate::error::{Error, Result};
use crate::headers;
use crate::health::Health;
use crate::metrics::DetectorMetrics;
use crate::reach::Refusal;

const DEFAULTS: [(&str, &str); 4] = [
    ("compression.type", "lz4"),
    ("linger.ms", "2"),
    // Room for what may be open, see MOST_OPEN_BYTES, and for what is said of the batch after that.
    ("queue.buffering.max.kbytes", "24576"),
    // What a record may be and still become a dead letter uncut, if the broker takes it.
    ("message.max.bytes", "10485760"),
];

/// A broker that is away is waited for, however long: nothing is dropped.
const PATIENT: [(&str, &str); 1] = [("message.timeout.ms", "0")];

/// After a message of a partition that failed for good, none of those behind it is written. (A verdict says that all
/// records before it are done.)
const GAPLESS: [(&str, &str); 1] = [("enable.gapless.guarantee", "true")];

/// Bytes that are not acknowledged, at which there is no room for more.
pub(crate) const MOST_OPEN_BYTES: usize = 8 << 20;

/// A transaction that cannot be ended is aborted by its coordinator after this; only then do others see what came
/// after it.
const TRANSACTION: [(&str, &str); 2] = [("transaction.timeout.ms", "30000"), ("message.timeout.ms", "30000")];
const TRANSACTION_INIT_WAIT: Duration = Duration::from_secs(60);
const CONNECTION_WAIT: Duration = Duration::from_secs(2);

/// Counts the messages of a batch that are not acknowledged yet.
#[derive(Debug)]
pub(crate) struct Ticket {
    outstanding: AtomicUsize,
}

impl Ticket {
    /// A ticket for the messages of a batch. It counts the batch itself as one message until it is
    /// [sealed](Self::seal), so that it cannot be done before all are sent.
    pub(crate) fn open() -> Arc<Self> {
        Arc::new(Self { outstanding: AtomicUsize::new(1) })
    }

    /// All messages of the batch are sent.
    pub(crate) fn seal(&self) {
        self.acknowledge();
    }

    /// One more message is to be acknowledged.
    pub(crate) fn expect(&self) {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn acknowledge(&self) {
        self.outstanding.fetch_sub(1, Ordering::Release);
    }

    pub(crate) fn is_done(&self) -> bool {
        self.outstanding.load(Ordering::Acquire) == 0
    }
}

/// What acknowledgements leave for the loop.
struct Returned {
    failure: Mutex<Option<Failure>>,
    /// Of keys and values that are not acknowledged.
    open_bytes: AtomicUsize,
    refusal: Refusal,
    /// Dead letters that the broker finds too large, to be cut and sent again.
    too_large: Mutex<Vec<(OwnedMessage, Arc<Ticket>)>>,
    /// Whether dead letters are cut before they are sent: in a transaction they cannot be sent again.
    cuts: AtomicBool,
    metrics: Arc<DetectorMetrics>,
}

/// A message that was not acknowledged.
struct Failure {
    topic: String,
    error: KafkaError,
    /// Whether sending the message again, in another transaction, would fail again.
    is_final: bool,
}

impl Returned {
    fn fail(&self, topic: &str, error: KafkaError, is_final: bool) {
        self.metrics.delivery_errors.add(1);
        tracing::error!(topic, %error, "a message failed");
        let mut failure = lock(&self.failure);
        if failure.as_ref().is_none_or(|failure| is_final && !failure.is_final) {
            *failure = Some(Failure { topic: topic.to_owned(), error, is_final });
        }
    }
}

/// Whether Kafka refuses a message for what it is: another try would have the same answer.
fn is_final(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::*;
    let refusals = [
        ClusterAuthorizationFailed,
        InvalidMessage,
        InvalidMessageSize,
        InvalidRecord,
        InvalidRequiredAcks,
        InvalidTimestamp,
        MessageSizeTooLarge,
        PolicyViolation,
        TopicAuthorizationFailed,
        TransactionalIdAuthorizationFailed,
        UnknownPartition,
        UnknownTopic,
        UnknownTopicOrPartition,
        UnsupportedForMessageFormat,
    ];
    error.rdkafka_error_code().is_some_and(|code| refusals.contains(&code))
}

/// Receives acknowledgements.
struct Acknowledgements {
    returned: Arc<Returned>,
    dead_letters: String,
    is_transactional: bool,
}

impl ClientContext for Acknowledgements {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(reason, %error, "producer");
        self.returned.refusal.note(error, reason);
    }
}

impl ProducerContext for Acknowledgements {
    type DeliveryOpaque = Arc<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Arc<Ticket>) {
        let (Ok(message) | Err((_, message))) = result;
        self.returned.open_bytes.fetch_sub(message.key_len() + message.payload_len(), Ordering::Relaxed);
        match result {
            Ok(_) => ticket.acknowledge(),
            Err((error, message)) if is_too_large(error) && message.topic() == self.dead_letters => {
                if self.is_transactional {
                    // Where they are cut already there is nothing left to try.
                    let was_cut = self.returned.cuts.swap(true, Ordering::AcqRel);
                    self.returned.fail(message.topic(), error.clone(), was_cut);
                } else {
                    lock(&self.returned.too_large).push((message.detach(), ticket));
                }
            }
            // The ticket stays open, so what it covers is never committed.
            Err((error, message)) => self.returned.fail(message.topic(), error.clone(), is_final(error)),
        }
    }
}

fn is_too_large(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge)
}

/// Idempotent producers that know what is acknowledged.
pub(crate) struct Outbox {
    /// Of alerts and dead letters; of verdicts too in transactions, which have no gaps by themselves.
    producer: ThreadedProducer<Acknowledgements>,
    /// Of verdicts: a producer without gaps ends at the first message that is refused, and a dead letter that is too large
    /// may be.
    verdicts: Option<ThreadedProducer<Acknowledgements>>,
    returned: Arc<Returned>,
    topics: Topics,
    health: Arc<Health>,
}

/// What is kept of the value of a dead letter that the broker finds too large.
const CUT_BYTES: usize = 256 << 10;

/// A message to send.
pub(crate) struct Outgoing<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Option<OwnedHeaders>,
}

impl Outbox {
    /// Producers to `topics`; dead letters may be cut. With a transactional id,
    /// [`init_transactions`](Self::init_transactions) comes before all else.
    pub(crate) fn new(
        connection: &Connection,
        topics: &Topics,
        transactional_id: Option<&str>,
        metrics: &Arc<DetectorMetrics>,
        health: &Arc<Health>,
    ) -> Result<Self> {
        let returned = Arc::new(Returned {
            failure: Mutex::default(),
            open_bytes: AtomicUsize::new(0),
            refusal: Refusal::default(),
            too_large: Mutex::default(),
            cuts: AtomicBool::default(),
            metrics: Arc::clone(metrics),
        });
        let create = |properties: &[(&str, &str)]| -> Result<ThreadedProducer<_>> {
            let mut config = connection.client(&IDEMPOTENT)?;
            set_defaults(&mut config, properties);
            set_defaults(&mut config, &DEFAULTS);
            let context = Acknowledgements {
                returned: Arc::clone(&returned),
                dead_letters: topics.dead_letters.clone(),
                is_transactional: transactional_id.is_some(),
            };
            config.create_with_context(context).map_err(Error::kafka("creating a producer"))
        };
        let (producer, verdicts) = match transactional_id {
            Some(id) => (create(&[&TRANSACTION[..], &[("transactional.id", id)]].concat())?, None),
            None => (create(&PATIENT)?, Some(create(&[PATIENT, GAPLESS].concat())?)),
        };
        Ok(Self { producer, verdicts, returned, topics: topics.clone(), health: Arc::clone(health) })
    }

    fn is_transactional(&self) -> bool {
        self.verdicts.is_none()
    }

    /// Whether so much is not acknowledged that more should wait.
    pub(crate) fn is_full(&self) -> bool {
        self.returned.open_bytes.load(Ordering::Relaxed) >= MOST_OPEN_BYTES
    }

    /// Fences the producer that had the transactional id before; what it left open is aborted. Nothing to do where
    /// there are no transactions.
    pub(crate) fn init_transactions(&self) -> Result<()> {
        if !self.is_transactional() {
            return Ok(());
        }
        // librdkafka asks for the coordinator where a connection is up, and where none is it asks again half a second
        // later. This brings one up; what fails here fails below.
        let _ = self.producer.client().fetch_metadata(Some(&self.topics.dead_letters), CONNECTION_WAIT);
        self.producer.init_transactions(TRANSACTION_INIT_WAIT).map_err(Error::kafka("starting transactions"))
    }

    pub(crate) fn begin_transaction(&self) -> Result<()> {
        self.producer.begin_transaction().map_err(Error::kafka("beginning a transaction"))
    }

    /// Commits the open transaction with the offsets that `group` has done. All messages are acknowledged before.
    pub(crate) fn commit_transaction(
        &self,
        offsets: &TopicPartitionList,
        group: &ConsumerGroupMetadata,
        wait: Duration,
    ) -> std::result::Result<(), KafkaError> {
        self.producer.send_offsets_to_transaction(offsets, group, wait)?;
        // What could be tried again is, until the broker's `transaction.timeout.ms` aborts it.
        let is_retriable = |error: &KafkaError| matches!(error, KafkaError::Transaction(e) if e.is_retriable());
        loop {
            match self.producer.commit_transaction(wait) {
                Err(error) if is_retriable(&error) => tracing::warn!(%error, "committing a transaction again"),
                outcome => return outcome,
            }
        }
    }

    pub(crate) fn abort_transaction(&self, wait: Duration) -> std::result::Result<(), KafkaError> {
        self.producer.abort_transaction(wait)
    }

    /// Whether a message failed for good.
    pub(crate) fn has_failed(&self) -> bool {
        lock(&self.returned.failure).is_some()
    }

    /// Forgets failures of a transaction that was aborted.
    ///
    /// # Errors
    /// Where trying again would fail again.
    pub(crate) fn forgive(&self) -> Result<()> {
        lock(&self.returned.too_large).clear();
        match lock(&self.returned.failure).take() {
            Some(Failure { topic, error, is_final: true }) => Err(Error::Delivery { topic, error }),
            _ => Ok(()),
        }
    }

    /// Hands a message to librdkafka; waits while its queue is full.
    pub(crate) fn send(&self, message: Outgoing<'_>, ticket: &Arc<Ticket>) -> Result<()> {
        ticket.expect();
        if message.topic == self.topics.dead_letters && self.returned.cuts.load(Ordering::Acquire) {
            return self.hand_over(cut(message).0, ticket);
        }
        self.hand_over(message, ticket)
    }

    fn hand_over(&self, message: Outgoing<'_>, ticket: &Arc<Ticket>) -> Result<()> {
        let mut record =
            BaseRecord::<[u8], [u8], _>::with_opaque_to(message.topic, Arc::clone(ticket)).partition(message.partition);
        record.headers = message.headers;
        record.key = message.key;
        record.payload = message.value;
        let n_bytes = message.key.map_or(0, <[u8]>::len) + message.value.map_or(0, <[u8]>::len);
        let producer = match &self.verdicts {
            Some(verdicts) if message.topic == self.topics.verdicts => verdicts,
            _ => &self.producer,
        };
        loop {
            // Counted before it can be acknowledged.
            self.returned.open_bytes.fetch_add(n_bytes, Ordering::Relaxed);
            let sent = producer.send(record);
            if sent.is_err() {
                self.returned.open_bytes.fetch_sub(n_bytes, Ordering::Relaxed);
            }
            match sent {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
                    if self.is_transactional() && self.has_failed() {
                        return Ok(());
                    }
                    self.check()?;
                    // Waiting for Kafka is no standstill.
                    self.health.beat();
                    record = returned;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err((error, record)) if is_too_large(&error) && record.topic == self.topics.dead_letters => {
                    let (value, key) = (record.payload.map(<[u8]>::to_vec), record.key.map(<[u8]>::to_vec));
                    let (topic, partition) = (record.topic.to_owned(), record.partition.unwrap_or(0));
                    let now = Timestamp::NotAvailable;
                    let message = OwnedMessage::new(value, key, topic, now, partition, 0, record.headers);
                    lock(&self.returned.too_large).push((message, Arc::clone(ticket)));
                    return Ok(());
                }
                // The transaction has failed already, and will be aborted.
                Err((error, record)) if self.is_transactional() => {
                    let is_final = is_final(&error);
                    self.returned.fail(record.topic, error, is_final);
                    return Ok(());
                }
                Err((error, record)) => {
                    return Err(Error::Delivery { topic: record.topic.to_owned(), error });
                }
            }
        }
    }

    /// Sends dead letters that were too large again, cut: a record that just fits its topic does not fit
    /// another with the reason in its headers, and must not stop the pipeline.
    pub(crate) fn resend(&self) -> Result<()> {
        let returned = std::mem::take(&mut *lock(&self.returned.too_large));
        for (message, ticket) in returned {
            let whole = Outgoing {
                topic: &self.topics.dead_letters,
                partition: message.partition(),
                key: message.key(),
                value: message.payload(),
                headers: message.headers().cloned(),
            };
            let (cut, is_smaller) = cut(whole);
            if !is_smaller {
                let error = KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge);
                return Err(Error::Delivery { topic: self.topics.dead_letters.clone(), error });
            }
            self.hand_over(cut, &ticket)?;
        }
        Ok(())
    }

    /// Whether Kafka refused the connection.
    pub(crate) fn refusal(&self) -> &Refusal {
        &self.returned.refusal
    }

    /// Whether any message failed for good.
    pub(crate) fn check(&self) -> Result<()> {
        match &*lock(&self.returned.failure) {
            None => Ok(()),
            Some(Failure { topic, error, .. }) => Err(Error::Delivery { topic: topic.clone(), error: error.clone() }),
        }
    }
}

/// A dead letter without what makes it large: a large key, all but the start of a large value, and the record's headers where
/// they are large. Whether there was anything to cut.
fn cut(message: Outgoing<'_>) -> (Outgoing<'_>, bool) {
    let length = message.value.map_or(0, <[u8]>::len);
    let is_long = length > CUT_BYTES || message.key.is_some_and(|key| key.len() > CUT_BYTES);
    let mut headers = message.headers.unwrap_or_default();
    let size = |header: Header<'_, &[u8]>| header.key.len() + header.value.map_or(0, <[u8]>::len);
    let is_crowded = headers.iter().map(size).sum::<usize>() > CUT_BYTES;
    if is_crowded {
        let own = headers.iter().filter(|header| !headers::is_of_record(header.key));
        let own = own.fold(OwnedHeaders::new(), OwnedHeaders::insert);
        let n_left_out = headers.count() - own.count();
        headers = own.insert(Header { key: headers::CUT_HEADERS, value: Some(&n_left_out.to_string()) });
    }
    if is_long {
        headers = headers.insert(Header { key: headers::CUT_FROM, value: Some(&length.to_string()) });
    }
    let cut = Outgoing {
        key: message.key.filter(|key| key.len() <= CUT_BYTES),
        value: message.value.map(|value| &value[..length.min(CUT_BYTES)]),
        headers: Some(headers),
        ..message
    };
    (cut, is_long || is_crowded)
}

/// A lock whose holder panicked still holds counts that are right: each update is one step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
