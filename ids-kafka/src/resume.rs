//! Where a partition is taken up: after its last verdict.
//!
//! The verdict of a record goes to the record's own partition, in order, and only after everything else that is
//! said of the record is acknowledged. Whoever takes a partition up starts no further than one after its furthest
//! verdict. So there is no record without a verdict before the furthest one, and it says how far the partition is
//! done, more precisely than offsets that are committed once a second: a crash leaves no duplicates.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use crate::config::{Connection, set_defaults};
use crate::error::{Error, Result};
use crate::flight::Offsets;

/// Verdicts looked at. The last one is the furthest, unless a member that had lost the partition without
/// noticing wrote late.
const TAIL: i64 = 1_000;
const PATIENCE: Duration = Duration::from_secs(30);
const REQUEST_WAIT: Duration = Duration::from_secs(10);

const DEFAULTS: [(&str, &str); 3] =
    [("group.id", "ids-resume"), ("fetch.wait.max.ms", "10"), ("fetch.message.max.bytes", "1048576")];

/// Reads the ends of the partitions with verdicts.
pub(crate) struct TailReader {
    consumer: BaseConsumer,
    flows: String,
    verdicts: String,
}

impl TailReader {
    pub(crate) fn new(connection: &Connection, flows: &str, verdicts: &str) -> Result<Self> {
        let mut config = connection.client(&[("enable.auto.commit", "false"), ("enable.partition.eof", "true")])?;
        // It joins no group.
        config.remove("group.instance.id");
        set_defaults(&mut config, &DEFAULTS);
        let consumer = config.create().map_err(Error::kafka("creating a reader of verdicts"))?;
        Ok(Self { consumer, flows: flows.into(), verdicts: verdicts.into() })
    }

    /// The offset after the furthest record that has a verdict, for those of `partitions` that have any.
    ///
    /// # Errors
    /// [`Error::Kafka`] where they cannot be read: starting without would repeat verdicts.
    pub(crate) fn next_offsets(&self, partitions: &[i32]) -> Result<Offsets> {
        let doing = || format!("reading the last verdicts of `{}`", self.verdicts);
        let mut assignment = TopicPartitionList::new();
        let mut pending = BTreeMap::new();
        let deadline = Instant::now() + PATIENCE;
        for &partition in partitions {
            let (low, high) = loop {
                match self.consumer.fetch_watermarks(&self.verdicts, partition, REQUEST_WAIT) {
                    // A leader may be about to change.
                    Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(200)),
                    Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownPartition) => {
                        let detail =
                            format!("it has no partition {partition}, as `{}` has: add partitions to it", self.flows);
                        return Err(Error::Topic { topic: self.verdicts.clone(), detail });
                    }
                    watermarks => break watermarks.map_err(Error::kafka(doing()))?,
                }
            };
            if high > low {
                let start = Offset::Offset(low.max(high - TAIL));
                assignment.add_partition_offset(&self.verdicts, partition, start).map_err(Error::kafka(doing()))?;
                pending.insert(partition, high);
            }
        }
        let mut next = Offsets::new();
        if pending.is_empty() {
            return Ok(next);
        }
        self.consumer.assign(&assignment).map_err(Error::kafka(doing()))?;
        while !pending.is_empty() {
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    let partition = message.partition();
                    if let Some(offset) = self.source_offset(partition, message.key()) {
                        let furthest = next.entry(partition).or_insert(0);
                        *furthest = (*furthest).max(offset + 1);
                    }
                    if pending.get(&partition).is_some_and(|&high| message.offset() + 1 >= high) {
                        pending.remove(&partition);
                    }
                }
                // The last offsets may belong to no message: transactions leave such.
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(pending.remove(&partition)),
                // librdkafka tries again by itself.
                Some(Err(error)) if Instant::now() >= deadline => return Err(Error::kafka(doing())(error)),
                None if Instant::now() >= deadline => {
                    let error = KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut);
                    return Err(Error::kafka(doing())(error));
                }
                _ => {}
            }
        }
        self.consumer.unassign().map_err(Error::kafka(doing()))?;
        Ok(next)
    }

    /// The offset in a key `topic/partition/offset` of a record of our flows in that partition.
    fn source_offset(&self, partition: i32, key: Option<&[u8]>) -> Option<i64> {
        let key = std::str::from_utf8(key?).ok()?;
        let rest = key.strip_prefix(&self.flows)?.strip_prefix('/')?;
        let (found, offset) = rest.split_once('/')?;
        (found.parse() == Ok(partition)).then(|| offset.parse().ok())?
    }
}
