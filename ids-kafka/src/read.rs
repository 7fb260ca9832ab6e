//! Reads a topic from its beginning to where it ends now.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::config::{Connection, set_defaults};
use crate::error::{Error, Result};

const REQUEST_WAIT: Duration = Duration::from_secs(20);
/// Longest time without a message or an end.
const SILENCE: Duration = Duration::from_secs(60);

const DEFAULTS: [(&str, &str); 2] = [("group.id", "ids-reader"), ("fetch.message.max.bytes", "10485760")];

/// Hands every message of `topic` that is committed to `each`: those of a partition in order, partitions as they come.
///
/// # Errors
/// [`Error::Topic`] where there is no such topic, [`Error::Kafka`] where it cannot be read to its end.
pub fn read_all(connection: &Connection, topic: &str, mut each: impl FnMut(&BorrowedMessage<'_>)) -> Result<()> {
    let doing = || format!("reading topic `{topic}`");
    let (consumer, n_partitions) = reader(connection, topic)?;
    let mut all = TopicPartitionList::new();
    for partition in 0..n_partitions {
        all.add_partition_offset(topic, partition as i32, Offset::Beginning).map_err(Error::kafka(doing()))?;
    }
    consumer.assign(&all).map_err(Error::kafka(doing()))?;
    let (mut ended, mut last) = (BTreeSet::new(), Instant::now());
    while ended.len() < n_partitions {
        match consumer.poll(Duration::from_millis(200)) {
            // What came after a partition had ended is new.
            Some(Ok(message)) if ended.contains(&message.partition()) => {}
            Some(Ok(message)) => {
                each(&message);
                last = Instant::now();
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition);
                last = Instant::now();
            }
            _ if last.elapsed() >= SILENCE => {
                let error = KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut);
                return Err(Error::kafka(doing())(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The first offset that each partition of `topic` still holds: those before were removed by retention.
///
/// # Errors
/// As [`read_all`].
pub fn first_offsets(connection: &Connection, topic: &str) -> Result<BTreeMap<i32, i64>> {
    let (consumer, n_partitions) = reader(connection, topic)?;
    let first = |partition: i32| {
        let watermarks = consumer.fetch_watermarks(topic, partition, REQUEST_WAIT);
        let (first, _) = watermarks.map_err(Error::kafka(format!("asking where topic `{topic}` begins")))?;
        Ok((partition, first))
    };
    (0..n_partitions as i32).map(first).collect()
}

/// A consumer in no group, and the number of partitions of `topic`.
fn reader(connection: &Connection, topic: &str) -> Result<(BaseConsumer, usize)> {
    let doing = || format!("reading topic `{topic}`");
    let mut config = connection.client(&[("enable.auto.commit", "false"), ("enable.partition.eof", "true")])?;
    config.remove("group.instance.id");
    set_defaults(&mut config, &DEFAULTS);
    let consumer: BaseConsumer = config.create().map_err(Error::kafka(doing()))?;
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST_WAIT).map_err(Error::kafka(doing()))?;
    let n_partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    if n_partitions == 0 {
        return Err(Error::Topic { topic: topic.into(), detail: "it does not exist".into() });
    }
    Ok((consumer, n_partitions))
}
