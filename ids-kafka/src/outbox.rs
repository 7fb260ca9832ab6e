//! Messages on their way out, and the tickets by which a batch learns that all of its are acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::Timestamp;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer};

use crate::config::{Connection, IDEMPOTENT, set_defaults};
use crate::error::{Error, Result};

const DEFAULTS: [(&str, &str); 5] = [
    ("compression.type", "lz4"),
    ("linger.ms", "5"),
    ("queue.buffering.max.kbytes", "65536"),
    // What a record may be and still become a dead letter uncut, if the broker takes it.
    ("message.max.bytes", "10485760"),
    // A broker that is away for longer stops the pipeline: nothing is dropped, nothing committed.
    ("message.timeout.ms", "300000"),
];

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

    fn acknowledge(&self) {
        self.outstanding.fetch_sub(1, Ordering::Release);
    }

    pub(crate) fn is_done(&self) -> bool {
        self.outstanding.load(Ordering::Acquire) == 0
    }
}

/// What acknowledgements leave for the loop.
#[derive(Default)]
struct Returned {
    failure: OnceLock<(String, KafkaError)>,
    /// Dead letters that the broker finds too large, to be cut and sent again.
    too_large: Mutex<Vec<(OwnedMessage, Arc<Ticket>)>>,
}

/// Receives acknowledgements.
struct Acknowledgements {
    returned: Arc<Returned>,
    dead_letters: String,
}

impl ClientContext for Acknowledgements {}

impl ProducerContext for Acknowledgements {
    type DeliveryOpaque = Arc<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Arc<Ticket>) {
        match result {
            Ok(_) => ticket.acknowledge(),
            Err((error, message)) if is_too_large(error) && message.topic() == self.dead_letters => {
                lock(&self.returned.too_large).push((message.detach(), ticket));
            }
            // The ticket stays open, so what it covers is never committed.
            Err((error, message)) => {
                let _ = self.returned.failure.set((message.topic().to_owned(), error.clone()));
            }
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
    pub(crate) headers: OwnedHeaders,
}

impl Outbox {
    /// A producer; messages to the topic `dead_letters` may be cut.
    pub(crate) fn new(connection: &Connection, dead_letters: &str) -> Result<Self> {
        let mut config = connection.client(&IDEMPOTENT)?;
        set_defaults(&mut config, &DEFAULTS);
        let (returned, dead_letters) = (Arc::<Returned>::default(), dead_letters.to_owned());
        let context = Acknowledgements { returned: Arc::clone(&returned), dead_letters: dead_letters.clone() };
        let producer = config.create_with_context(context).map_err(Error::kafka("creating a producer"))?;
        Ok(Self { producer, returned, dead_letters })
    }

    /// Hands a message to librdkafka; waits while its queue is full.
    pub(crate) fn send(&self, message: Outgoing<'_>, ticket: &Arc<Ticket>) -> Result<()> {
        ticket.outstanding.fetch_add(1, Ordering::Relaxed);
        self.hand_over(message, ticket)
    }

    fn hand_over(&self, message: Outgoing<'_>, ticket: &Arc<Ticket>) -> Result<()> {
        let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(message.topic, Arc::clone(ticket))
            .partition(message.partition)
            .headers(message.headers);
        record.key = message.key;
        record.payload = message.value;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
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
            let value = message.payload().unwrap_or_default();
            let length = value.len().to_string();
            let cut = Outgoing {
                topic: &self.dead_letters,
                partition: message.partition(),
                key: message.key().filter(|key| key.len() <= CUT_BYTES),
                value: Some(&value[..value.len().min(CUT_BYTES)]),
                headers: headers.insert(Header { key: CUT_FROM, value: Some(&length) }),
            };
            self.hand_over(cut, &ticket)?;
        }
        Ok(())
    }

    /// Whether any message failed for good.
    pub(crate) fn check(&self) -> Result<()> {
        match self.returned.failure.get() {
            None => Ok(()),
            Some((topic, error)) => Err(Error::Delivery { topic: topic.clone(), error: error.clone() }),
        }
    }
}

/// A lock whose holder panicked still holds counts that are right: each update is one step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
