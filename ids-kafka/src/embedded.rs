//! A Kafka inside the process: librdkafka's mock cluster, for demos and quick tests.
//!
//! It keeps 5 MiB per partition and then silently forgets the oldest records, and its transactions
//! mean nothing: it proves nothing about exactly-once delivery.

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use crate::config::{Connection, Topics};
use crate::error::{Error, Result};

/// A running mock cluster; it stops when dropped.
pub struct EmbeddedKafka(MockCluster<'static, DefaultProducerContext>);

impl EmbeddedKafka {
    /// Starts `n_brokers` brokers on loopback.
    ///
    /// # Errors
    /// [`Error::Kafka`] where librdkafka cannot.
    pub fn start(n_brokers: i32) -> Result<Self> {
        MockCluster::new(n_brokers).map(Self).map_err(Error::kafka("starting the embedded Kafka"))
    }

    /// Creates the four topics of a pipeline with `n_partitions` partitions each.
    ///
    /// # Errors
    /// [`Error::Kafka`] where librdkafka cannot.
    pub fn create(&self, topics: &Topics, n_partitions: i32) -> Result<()> {
        for topic in topics.all() {
            let created = self.0.create_topic(topic, n_partitions, 1);
            created.map_err(Error::kafka(format!("creating topic `{topic}`")))?;
        }
        Ok(())
    }

    /// The cluster itself, to inject faults.
    pub fn cluster(&self) -> &MockCluster<'static, DefaultProducerContext> {
        &self.0
    }

    /// How to reach it. An empty fetch makes the mock sleep for its whole wait, so that is kept short.
    pub fn connection(&self) -> Connection {
        let properties = vec![("fetch.wait.max.ms".into(), "10".into())];
        Connection { properties, ..Connection::new(self.0.bootstrap_servers()) }
    }
}
