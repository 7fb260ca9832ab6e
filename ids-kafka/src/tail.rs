//! Follows a topic: its messages as they come, for whoever watches a pipeline.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use crate::config::{Connection, set_defaults};
use crate::error::{Error, Result};

const REQUEST_WAIT: Duration = Duration::from_secs(10);
const DEFAULTS: [(&str, &str); 2] = [("group.id", "ids-tail"), ("fetch.message.max.bytes", "10485760")];

/// A reader of all partitions of a topic, from where they ended when it was made. It belongs to no group and commits
/// nothing.
pub struct Tail {
    topic: String,
    consumer: BaseConsumer,
    /// Per partition: the offset that is read next.
    next: BTreeMap<i32, i64>,
}

impl Tail {
    /// Follows `topic` from where it ends now.
    ///
    /// # Errors
    /// [`Error::Topic`] where there is no such topic, [`Error::Kafka`] where Kafka is out of reach.
    pub fn new(connection: &Connection, topic: &str) -> Result<Self> {
        let doing = || format!("following topic `{topic}`");
        let mut config = connection.client(&[("enable.auto.commit", "false")])?;
        // It joins no group.
        config.remove("group.instance.id");
        set_defaults(&mut config, &DEFAULTS);
        let consumer: BaseConsumer = config.create().map_err(Error::kafka(doing()))?;
        let metadata = consumer.fetch_metadata(Some(topic), REQUEST_WAIT).map_err(Error::kafka(doing()))?;
        let n_partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
        if n_partitions == 0 {
            return Err(Error::Topic { topic: topic.into(), detail: "it does not exist".into() });
        }
        let mut next = BTreeMap::new();
        let mut all = TopicPartitionList::new();
        for partition in 0..n_partitions as i32 {
            let (_, end) = consumer.fetch_watermarks(topic, partition, REQUEST_WAIT).map_err(Error::kafka(doing()))?;
            next.insert(partition, end);
            all.add_partition_offset(topic, partition, Offset::Offset(end)).map_err(Error::kafka(doing()))?;
        }
        consumer.assign(&all).map_err(Error::kafka(doing()))?;
        Ok(Self { topic: topic.into(), consumer, next })
    }

    /// The value of the next message; `None` if none comes within `wait`. A message without a value is empty.
    ///
    /// # Errors
    /// [`Error::Kafka`] where the topic cannot be read on.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Vec<u8>>> {
        match self.consumer.poll(wait) {
            None => Ok(None),
            Some(Err(error)) => Err(Error::kafka(format!("following topic `{}`", self.topic))(error)),
            Some(Ok(message)) => {
                self.next.insert(message.partition(), message.offset() + 1);
                Ok(Some(message.payload().unwrap_or_default().to_vec()))
            }
        }
    }

    /// Whether all messages that are in the topic by now were read.
    ///
    /// # Errors
    /// [`Error::Kafka`] where Kafka is out of reach.
    pub fn is_at_end(&self) -> Result<bool> {
        for (&partition, &next) in &self.next {
            let doing = || format!("asking where topic `{}` ends", self.topic);
            let (_, end) =
                self.consumer.fetch_watermarks(&self.topic, partition, REQUEST_WAIT).map_err(Error::kafka(doing()))?;
            // What stands at the end of a transaction is no message: the consumer is beyond it.
            let position = self.consumer.position().map_err(Error::kafka(doing()))?;
            let position = position.find_partition(&self.topic, partition).map(|found| found.offset());
            let reached = match position {
                Some(Offset::Offset(offset)) => offset.max(next),
                _ => next,
            };
            if reached < end {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
