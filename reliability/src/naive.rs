//! A detector that commits before its verdicts are acknowledged: the fault that the checker must catch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use ids_core::{DeadLetter, FlowRecords, JsonDecoder, Model, Origin, Verdict};
use ids_kafka::{Connection, Topics};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, PurgeConfig};

/// Consumes, commits, and only then has its verdicts sent; after `life` it crashes: what is not sent is gone.
///
/// # Errors
/// What Kafka says against it.
pub fn run(connection: &Connection, topics: &Topics, model: &Arc<Model>, life: Duration) -> Result<()> {
    let client = || {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &connection.bootstrap_servers);
        config
    };
    let mut config = client();
    config.set("group.id", "naive").set("group.instance.id", "naive").set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer = config.set("enable.auto.commit", "false").create()?;
    // It lingers, as a producer set for throughput does.
    let producer: BaseProducer = client().set("linger.ms", "300").create()?;
    consumer.subscribe(&[&topics.flows])?;
    let mut decoder = JsonDecoder::new(Arc::clone(model.schema()), model.inputs())?;
    let (mut scorer, mut records) = (model.scorer(), FlowRecords::new(Arc::clone(model.schema())));
    let end = Instant::now() + life;
    while Instant::now() < end {
        producer.poll(Duration::ZERO);
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) else { continue };
        consumer.commit_message(&message, CommitMode::Async)?;
        let origin = Origin {
            topic: message.topic(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis(),
        };
        records.clear();
        let value = message.payload().unwrap_or_default();
        let json = match decoder.decode(0, value, &mut records) {
            Ok(()) => match scorer.score(&records).get(0) {
                Ok(score) => serde_json::to_vec(&Verdict::new(model, origin, score))?,
                Err(fault) => serde_json::to_vec(&DeadLetter::unscored(origin, &fault, model.version()).marker())?,
            },
            Err(error) => serde_json::to_vec(&DeadLetter::undecoded(origin, &error, model.version()).marker())?,
        };
        let key = origin.to_string();
        let record = BaseRecord::to(&topics.verdicts).key(&key).payload(&json).partition(message.partition());
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.purge(PurgeConfig::default().queue().inflight());
    Ok(())
}
