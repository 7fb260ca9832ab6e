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

use crate::config::{Connection, IDEMPOTENT, set_defaults};
use crate::error::{Error, Result};
use crate::metrics::DetectorMetrics;
use crate::reach::Refusal;

const DEFAULTS: [(&str, &str); 5] = [
    ("compression.type", "lz4"),
    ("linger.ms", "2"),
    ("queue.buffering.max.kbytes", "16384"),
    // What a record may be and still become a dead letter uncut, if the broker takes it.
    ("message.max.bytes", "10485760"),
    // A broker that is away is waited for, however long: nothing is dropped.
    ("message.timeout.ms", "0"),
];

/// A transaction that cannot be ended is aborted by its coordinator after this; only then do others see what came
/// after it.
const TRANSACTIONAL_DEFAULTS: [(&str, &str); 2] =
    [("transaction.timeout.ms", "30000"), ("message.timeout.ms", "30000")];
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
    failure: Mutex<Option<(String, KafkaError)>>,
    refusal: Refusal,
    /// Dead letters that the broker finds too large, to be cut and sent again.
    too_large: Mutex<Vec<(OwnedMessage, Arc<Ticket>)>>,
    /// Whether dead letters are cut before they are sent: in a transaction they cannot be sent again.
    cuts: AtomicBool,
    metrics: Arc<DetectorMetrics>,
}

impl Returned {
    fn fail(&self, topic: &str, error: KafkaError) {
        self.metrics.delivery_errors.add(1);
        tracing::error!(topic, %error, "a message failed");
        lock(&self.failure).get_or_insert_with(|| (topic.to_owned(), error));
    }
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
        match result {
            Ok(_) => ticket.acknowledge(),
            Err((error, message)) if is_too_large(error) && message.topic() == self.dead_letters => {
                if self.is_transactional {
                    self.returned.cuts.store(true, Ordering::Release);
                    self.returned.fail(message.topic(), error.clone());
                } else {
                    lock(&self.returned.too_large).push((message.detach(), ticket));
                }
            }
            // The ticket stays open, so what it covers is never committed.
            Err((error, message)) => self.returned.fail(message.topic(), error.clone()),
        }
    }
}

fn is_too_large(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge)
}

/// An idempotent producer that knows what is acknowledged.
pub(crate) struct Outbox {
    producer: ThreadedProducer<Acknowledgements>,
    returned: Arc<Returned>,
    dead_letters: String,
    is_transactional: bool,
}

/// What is kept of the value of a dead letter that the broker finds too large.
const CUT_BYTES: usize = 256 << 10;
/// Header with the full length of a value that was cut.
const CUT_FROM: &str = "ids.cut_from_bytes";

/// A message to send.
pub(crate) struct Outgoing<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Option<OwnedHeaders>,
}

impl Outbox {
    /// A producer; messages to the topic `dead_letters` may be cut. With a transactional id,
    /// [`init_transactions`](Self::init_transactions) comes before all else.
    pub(crate) fn new(
        connection: &Connection,
        dead_letters: &str,
        transactional_id: Option<&str>,
        metrics: &Arc<DetectorMetrics>,
    ) -> Result<Self> {
        let mut config = connection.client(&IDEMPOTENT)?;
        let is_transactional = transactional_id.is_some();
        if let Some(id) = transactional_id {
            config.set("transactional.id", id);
            set_defaults(&mut config, &TRANSACTIONAL_DEFAULTS);
        }
        set_defaults(&mut config, &DEFAULTS);
        let returned = Arc::new(Returned {
            failure: Mutex::default(),
            refusal: Refusal::default(),
            too_large: Mutex::default(),
            cuts: AtomicBool::default(),
            metrics: Arc::clone(metrics),
        });
        let dead_letters = dead_letters.to_owned();
        let context =
            Acknowledgements { returned: Arc::clone(&returned), dead_letters: dead_letters.clone(), is_transactional };
        let producer: ThreadedProducer<_> =
            config.create_with_context(context).map_err(Error::kafka("creating a producer"))?;
        Ok(Self { producer, returned, dead_letters, is_transactional })
    }

    /// Fences the producer that had the transactional id before; what it left open is aborted. Nothing to do where
    /// there are no transactions.
    pub(crate) fn init_transactions(&self) -> Result<()> {
        if !self.is_transactional {
            return Ok(());
        }
        // librdkafka asks for the coordinator where a connection is up, and where none is it asks again half a second
        // later. This brings one up; what fails here fails below.
        let _ = self.producer.client().fetch_metadata(Some(&self.dead_letters), CONNECTION_WAIT);
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
    pub(crate) fn forgive(&self) {
        *lock(&self.returned.failure) = None;
        lock(&self.returned.too_large).clear();
    }

    /// Hands a message to librdkafka; waits while its queue is full.
    pub(crate) fn send(&self, message: Outgoing<'_>, ticket: &Arc<Ticket>) -> Result<()> {
        ticket.expect();
        if message.topic == self.dead_letters && self.returned.cuts.load(Ordering::Acquire) {
            return self.hand_over(cut(message), ticket);
        }
        self.hand_over(message, ticket)
    }

    fn hand_over(&self, message: Outgoing<'_>, ticket: &Arc<Ticket>) -> Result<()> {
        let mut record =
            BaseRecord::<[u8], [u8], _>::with_opaque_to(message.topic, Arc::clone(ticket)).partition(message.partition);
        record.headers = message.headers;
        record.key = message.key;
        record.payload = message.value;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
                    if self.is_transactional && self.has_failed() {
                        return Ok(());
                    }
                    self.check()?;
                    record = returned;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err((error, record)) if is_too_large(&error) && record.topic == self.dead_letters => {
                    let (value, key) = (record.payload.map(<[u8]>::to_vec), record.key.map(<[u8]>::to_vec));
                    let (topic, partition) = (record.topic.to_owned(), record.partition.unwrap_or(0));
                    let now = Timestamp::NotAvailable;
                    let message = OwnedMessage::new(value, key, topic, now, partition, 0, record.headers);
                    lock(&self.returned.too_large).push((message, Arc::clone(ticket)));
                    return Ok(());
                }
                // The transaction has failed already, and will be aborted.
                Err((error, record)) if self.is_transactional => {
                    self.returned.fail(record.topic, error);
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
            let headers = message.headers().cloned().unwrap_or_default();
            if headers.iter().any(|header| header.key == CUT_FROM) {
                let error = KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge);
                return Err(Error::Delivery { topic: self.dead_letters.clone(), error });
            }
            let whole = Outgoing {
                topic: &self.dead_letters,
                partition: message.partition(),
                key: message.key(),
                value: message.payload(),
                headers: Some(headers),
            };
            self.hand_over(cut(whole), &ticket)?;
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
            Some((topic, error)) => Err(Error::Delivery { topic: topic.clone(), error: error.clone() }),
        }
    }
}

/// A dead letter, cut where it is large.
fn cut(message: Outgoing<'_>) -> Outgoing<'_> {
    let length = message.value.map_or(0, <[u8]>::len);
    let key_length = message.key.map_or(0, <[u8]>::len);
    if length <= CUT_BYTES && key_length <= CUT_BYTES {
        return message;
    }
    Outgoing {
        key: message.key.filter(|key| key.len() <= CUT_BYTES),
        value: message.value.map(|value| &value[..value.len().min(CUT_BYTES)]),
        headers: Some(
            message.headers.unwrap_or_default().insert(Header { key: CUT_FROM, value: Some(&length.to_string()) }),
        ),
        ..message
    }
}

/// A lock whose holder panicked still holds counts that are right: each update is one step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
