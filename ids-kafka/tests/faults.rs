//! The detector on an embedded Kafka that is slow, refuses, or lacks a topic.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ids_core::{Model, Schema};
use ids_kafka::read::read_all;
use ids_kafka::replay::{Limit, read_flows};
use ids_kafka::{
    Delivery, Detector, DetectorConfig, DetectorMetrics, EmbeddedKafka, Error, Load, MOST_OPEN_RECORDS, Replay,
    ReplayConfig, Shutdown, Topics,
};
use rdkafka::message::Message;
use rdkafka::mocking::MockCoordinator;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

const PATIENCE: Duration = Duration::from_secs(300);

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn model() -> Arc<Model> {
    Arc::new(Model::load(repository().join("models/unsw-nb15-small")).expect("loads"))
}

/// Sends `n` flows at once.
fn fill(kafka: &EmbeddedKafka, n: u64) {
    let path = repository().join("testdata/synthetic-unsw-nb15.csv");
    let input = std::io::BufReader::new(std::fs::File::open(&path).expect("flows"));
    let (flows, _) = read_flows(input, &path, &Arc::new(Schema::unsw_nb15())).expect("reads");
    let load = Load { rate: "1000000".parse().expect("a rate"), ..Load::default() };
    let config = ReplayConfig { load, ..ReplayConfig::new(kafka.connection(), "demo") };
    let replay = Replay::new(config, flows, |_| ()).expect("a replay");
    replay.run(Limit { records: Some(n), duration: None }, &Shutdown::new()).expect("runs");
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Keys of all verdicts, and how many there are.
fn verdicts(kafka: &EmbeddedKafka) -> (BTreeSet<Vec<u8>>, usize) {
    let (mut keys, mut n) = (BTreeSet::new(), 0);
    read_all(&kafka.connection(), "demo.verdicts", |message| {
        keys.insert(message.key().expect("a key").to_vec());
        n += 1;
    })
    .expect("reads");
    (keys, n)
}

/// The topics that are written to answer after two seconds. What is on its way is bounded, the member stays in its
/// group although it polls nothing for long, and in the end everything is done once.
#[test]
fn a_slow_sink_pauses_the_detector_and_loses_nothing() {
    const N: u64 = 24_000;
    const MOST_OPEN: u64 = MOST_OPEN_RECORDS as u64;
    let kafka = EmbeddedKafka::start(2).expect("starts");
    let topics = Topics::of("demo");
    kafka.create(&topics, 6).expect("creates topics");
    let cluster = kafka.cluster();
    let set_leaders = |topic: &str, broker: i32| {
        for partition in 0..6 {
            cluster.partition_leader(topic, partition, Some(broker)).expect("a leader");
        }
    };
    set_leaders(&topics.flows, 1);
    for topic in [&topics.verdicts, &topics.alerts, &topics.dead_letters] {
        set_leaders(topic, 2);
    }
    cluster.coordinator(MockCoordinator::Group("ids-detector".into()), 1).expect("a coordinator");
    fill(&kafka, N);
    cluster.broker_round_trip_time(2, Duration::from_secs(2)).expect("a delay");

    let mut connection = kafka.connection();
    // It must poll more often than the sink answers.
    connection.properties.push(("max.poll.interval.ms".into(), "6000".into()));
    connection.properties.push(("session.timeout.ms".into(), "6000".into()));
    let detector = Detector::new(DetectorConfig::new(connection, "demo"), model()).expect("a detector");
    let (metrics, stop) = (Arc::clone(detector.metrics()), Shutdown::new());
    let flag = stop.clone();
    let running = thread::spawn(move || detector.run(&flag));
    let (mut most_in_flight, mut most_ahead) = (0, 0);
    wait_for("all rows are done", || {
        let acknowledged = acknowledged(&metrics);
        most_in_flight = most_in_flight.max(metrics.in_flight());
        most_ahead = most_ahead.max(metrics.records.get() - acknowledged);
        acknowledged == N
    });
    eprintln!("at most {most_in_flight} records on their way, {most_ahead} not acknowledged");
    assert!(most_in_flight > MOST_OPEN - 1_024, "the sink is not slow: {most_in_flight} records on their way");
    assert!(most_in_flight.max(most_ahead) <= MOST_OPEN, "{most_in_flight} and {most_ahead} records");
    assert_eq!(metrics.rebalances.get(), 1, "it stayed in its group: {:?}", metrics.last_consumer_error());
    cluster.broker_round_trip_time(2, Duration::ZERO).expect("no delay");
    stop.request();
    running.join().expect("no panic").expect("stops cleanly");
    let (keys, n) = verdicts(&kafka);
    assert_eq!((keys.len() as u64, n as u64), (N, N));
}

/// Records whose verdicts are acknowledged.
fn acknowledged(metrics: &Arc<DetectorMetrics>) -> u64 {
    let text = ids_kafka::exposition::text(metrics);
    ids_kafka::tally::sum(&text, "ids_end_to_end_seconds_count").unwrap_or(0.0) as u64
}

/// A topic that is written to and is not there is named before anything is consumed.
#[test]
fn a_sink_that_is_not_there_is_named_before_it_serves() {
    for absent in ["demo.verdicts", "demo.alerts", "demo.dlq"] {
        let kafka = EmbeddedKafka::start(1).expect("starts");
        for topic in Topics::of("demo").all().into_iter().filter(|topic| *topic != absent) {
            kafka.cluster().create_topic(topic, 2, 1).expect("creates");
        }
        let unknown = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        // Else the embedded Kafka makes it when it is asked for.
        kafka.cluster().topic_error(absent, unknown).expect("an error");
        fill(&kafka, 10);
        let detector = Detector::new(DetectorConfig::new(kafka.connection(), "demo"), model()).expect("a detector");
        let (metrics, ready) = (Arc::clone(detector.metrics()), detector.handle());
        let error = detector.run(&Shutdown::new()).expect_err("refused");
        assert!(matches!(&error, Error::Topic { topic, .. } if topic == absent), "{absent}: {error}");
        assert!(error.to_string().contains("create it first"), "{error}");
        assert_eq!((metrics.records.get(), metrics.rebalances.get()), (0, 0), "{absent}");
        assert!(ready.is_ready().is_err());
    }
}

/// What a broker says that does not get better by waiting ends the detector, and nothing after it is committed: the
/// next run does everything that is left, once.
#[test]
fn errors_that_are_final_end_it_and_nothing_is_lost() {
    use RDKafkaRespErr::*;
    let cases = [
        (RDKafkaApiKey::Produce, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED),
        (RDKafkaApiKey::Produce, RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS),
        (RDKafkaApiKey::Produce, RD_KAFKA_RESP_ERR_INVALID_RECORD),
        (RDKafkaApiKey::Produce, RD_KAFKA_RESP_ERR_POLICY_VIOLATION),
    ];
    for (request, error) in cases {
        let kafka = EmbeddedKafka::start(1).expect("starts");
        kafka.create(&Topics::of("demo"), 2).expect("creates topics");
        fill(&kafka, 120);
        kafka.cluster().request_errors(request, &[error; 100]);
        let detector = Detector::new(DetectorConfig::new(kafka.connection(), "demo"), model()).expect("a detector");
        let metrics = Arc::clone(detector.metrics());
        let stop = Shutdown::new();
        let flag = stop.clone();
        let running = thread::spawn(move || detector.run(&flag));
        wait_for(&format!("it ends at {error:?}"), || running.is_finished());
        let ended = running.join().expect("no panic").expect_err("it ends with an error");
        assert!(matches!(ended, Error::Delivery { .. } | Error::Kafka { .. }), "{error:?}: {ended}");
        assert!(metrics.delivery_errors.get() > 0, "{error:?}");
        kafka.cluster().clear_request_errors(request);

        let detector = Detector::new(DetectorConfig::new(kafka.connection(), "demo"), model()).expect("a detector");
        let stop = Shutdown::new();
        let flag = stop.clone();
        let running = thread::spawn(move || detector.run(&flag));
        wait_for("the rest is done", || verdicts(&kafka).0.len() == 120);
        stop.request();
        running.join().expect("no panic").expect("stops cleanly");
        assert_eq!(verdicts(&kafka).1, 120, "{error:?}");
    }
}

/// A verdict that is refused is the last one of its partition: the next run goes on after the furthest verdict, and what
/// is missing before it would be missing for ever.
#[test]
fn after_a_verdict_that_is_refused_no_other_is_written() {
    use RDKafkaRespErr::*;
    const N: usize = 9_000;
    for error in [RD_KAFKA_RESP_ERR_INVALID_RECORD, RD_KAFKA_RESP_ERR_POLICY_VIOLATION] {
        let kafka = EmbeddedKafka::start(1).expect("starts");
        kafka.create(&Topics::of("demo"), 1).expect("creates topics");
        fill(&kafka, N as u64);
        // No alerts: all that is sent are verdicts. One of the first requests is refused, and none after it.
        let config = DetectorConfig {
            alert_threshold: Some("1".parse().expect("a threshold")),
            ..DetectorConfig::new(kafka.connection(), "demo")
        };
        kafka.cluster().request_errors(RDKafkaApiKey::Produce, &[RD_KAFKA_RESP_ERR_NO_ERROR, error]);
        let detector = Detector::new(config, model()).expect("a detector");
        let ended = detector.run(&Shutdown::new()).expect_err("it ends with an error");
        assert!(matches!(ended, Error::Delivery { .. }), "{error:?}: {ended}");
        let before = verdicts(&kafka);
        assert!(before.1 < N, "nothing was refused");

        let detector = Detector::new(DetectorConfig::new(kafka.connection(), "demo"), model()).expect("a detector");
        let stop = Shutdown::new();
        let flag = stop.clone();
        let metrics = Arc::clone(detector.metrics());
        let running = thread::spawn(move || detector.run(&flag));
        wait_for("the rest is done", || acknowledged(&metrics) + before.1 as u64 >= N as u64);
        stop.request();
        running.join().expect("no panic").expect("stops cleanly");
        let (keys, n) = verdicts(&kafka);
        assert_eq!((keys.len(), n), (N, N), "{error:?}: {} were there before", before.1);
    }
}

/// So it is exactly once: what another transaction would not mend ends the detector too.
#[test]
fn refusals_end_it_in_transactions_too() {
    use RDKafkaRespErr::*;
    for error in [RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, RD_KAFKA_RESP_ERR_INVALID_RECORD] {
        let kafka = EmbeddedKafka::start(1).expect("starts");
        kafka.create(&Topics::of("demo"), 2).expect("creates topics");
        fill(&kafka, 120);
        kafka.cluster().request_errors(RDKafkaApiKey::Produce, &[error; 100]);
        let config =
            DetectorConfig { delivery: Delivery::ExactlyOnce, ..DetectorConfig::new(kafka.connection(), "demo") };
        let detector = Detector::new(config, model()).expect("a detector");
        let ended = detector.run(&Shutdown::new()).expect_err("it ends with an error");
        assert!(matches!(ended, Error::Delivery { .. }), "{error:?}: {ended}");
    }
}

/// Errors while it joins and reads, of the kind that librdkafka mends: nobody starts again, nothing comes twice.
#[test]
fn errors_while_joining_and_reading_are_mended() {
    use RDKafkaRespErr::*;
    let cases = [
        (RDKafkaApiKey::FindCoordinator, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE),
        (RDKafkaApiKey::JoinGroup, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS),
        (RDKafkaApiKey::JoinGroup, RD_KAFKA_RESP_ERR_NOT_COORDINATOR),
        (RDKafkaApiKey::SyncGroup, RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS),
        (RDKafkaApiKey::OffsetFetch, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS),
        (RDKafkaApiKey::ListOffsets, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION),
        (RDKafkaApiKey::Metadata, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE),
        (RDKafkaApiKey::InitProducerId, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS),
    ];
    for (request, error) in cases {
        let kafka = EmbeddedKafka::start(1).expect("starts");
        kafka.create(&Topics::of("demo"), 2).expect("creates topics");
        fill(&kafka, 120);
        kafka.cluster().request_errors(request, &[error; 3]);
        let detector = Detector::new(DetectorConfig::new(kafka.connection(), "demo"), model()).expect("a detector");
        let (metrics, stop) = (Arc::clone(detector.metrics()), Shutdown::new());
        let flag = stop.clone();
        let running = thread::spawn(move || detector.run(&flag));
        wait_for(&format!("all rows are done after {request:?} {error:?}"), || {
            assert!(!running.is_finished(), "it ended at {request:?} {error:?}");
            acknowledged(&metrics) >= 120
        });
        kafka.cluster().clear_request_errors(request);
        stop.request();
        running.join().expect("no panic").expect("stops cleanly");
        let (keys, n) = verdicts(&kafka);
        assert_eq!((keys.len(), n), (120, 120), "{request:?} {error:?}");
    }
}
