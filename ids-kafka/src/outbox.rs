//! Messages on their way out, and the tickets by which a batch learns that all of its are acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer};

use crate::config::{Connection, set_defaults};
use crate::error::{Error, Result};

/// Properties of a producer that never loses, doubles or reorders a message while it lives.
const OWNED: [(&str, &str); 2] = [("enable.idempotence", "true"), ("acks", "all")];

const DEFAULTS: [(&str, &str); 5] = [
    ("compression.type", "lz4"),
    ("linger.ms", "5"),
    ("queue.buffering.max.kbytes", "65536"),
    // As large as the largest record may be that became a dead letter, with its headers.
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

/// Receives acknowledgements.
struct Acknowledgements {
    failure: Arc<OnceLock<(String, KafkaError)>>,
}

impl ClientContext for Acknowledgements {}

impl ProducerContext for Acknowledgements {
    type DeliveryOpaque = Arc<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Arc<Ticket>) {
        match result {
            Ok(_) => ticket.acknowledge(),
            // The ticket stays open, so what it covers is never committed.
            Err((error, message)) => {
                let _ = self.failure.set((message.topic().to_owned(), error.clone()));
            }
        }
    }
}

/// An idempotent producer that knows what is acknowledged.
pub(crate) struct Outbox {
    producer: ThreadedProducer<Acknowledgements>,
    failure: Arc<OnceLock<(String, KafkaError)>>,
}

/// A message to send.
pub(crate) struct Outgoing<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: OwnedHeaders,
}

impl Outbox {
    pub(crate) fn new(connection: &Connection) -> Result<Self> {
        let mut config = connection.client(&OWNED)?;
        set_defaults(&mut config, &DEFAULTS);
        let failure = Arc::new(OnceLock::new());
        let context = Acknowledgements { failure: Arc::clone(&failure) };
        let producer = config.create_with_context(context).map_err(Error::kafka("creating a producer"))?;
        Ok(Self { producer, failure })
    }

    /// Hands a message to librdkafka; waits while its queue is full.
    pub(crate) fn send(&self, message: Outgoing<'_>, ticket: &Arc<Ticket>) -> Result<()> {
        ticket.outstanding.fetch_add(1, Ordering::Relaxed);
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
                Err((error, record)) => {
                    return Err(Error::Delivery { topic: record.topic.to_owned(), error });
                }
            }
        }
    }

    /// Whether any message failed for good.
    pub(crate) fn check(&self) -> Result<()> {
        match self.failure.get() {
            None => Ok(()),
            Some((topic, error)) => Err(Error::Delivery { topic: topic.clone(), error: error.clone() }),
        }
    }
}

/// A lock whose holder panicked still holds counts that are right: each update is one step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
