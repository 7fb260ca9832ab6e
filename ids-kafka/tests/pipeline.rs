//! The detector on an embedded Kafka: what goes in comes out, once, as a verdict or a dead letter.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ids_core::{AlertPolicy, Model, Schema};
use ids_kafka::recon::Books;
use ids_kafka::replay::{Limit, read_flows};
use ids_kafka::tally::Tally;
use ids_kafka::{
    Connection, Detector, DetectorConfig, EmbeddedKafka, Error, Load, OTHER_CLASS, Replay, ReplayConfig, Shutdown,
    Topics, admin, exposition, headers,
};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Message, OwnedHeaders, OwnedMessage};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

const PARTITIONS: i32 = 6;
const PATIENCE: Duration = Duration::from_secs(30);

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn model() -> Arc<Model> {
    Arc::new(Model::load(repository().join("models/unsw-nb15-small")).expect("loads"))
}

fn flows() -> Vec<ids_kafka::Flow> {
    let path = repository().join("testdata/synthetic-unsw-nb15.csv");
    let input = std::io::BufReader::new(std::fs::File::open(&path).expect("flows"));
    let (flows, bad) = read_flows(input, &path, &Arc::new(Schema::unsw_nb15())).expect("reads");
    assert!(bad.is_empty());
    flows
}

fn kafka() -> EmbeddedKafka {
    let kafka = EmbeddedKafka::start(1).expect("starts");
    kafka.create(&Topics::of("demo"), PARTITIONS).expect("creates topics");
    kafka
}

/// A detector in a thread of its own.
struct Running {
    stop: Shutdown,
    thread: JoinHandle<Result<(), Error>>,
    metrics: Arc<ids_kafka::DetectorMetrics>,
}

impl Running {
    fn start(kafka: &EmbeddedKafka) -> Self {
        let mut connection = kafka.connection();
        // Members learn of a rebalance by their heartbeat.
        connection.properties.push(("heartbeat.interval.ms".into(), "200".into()));
        let detector = Detector::new(DetectorConfig::new(connection, "demo"), model()).expect("a detector");
        let (stop, metrics) = (Shutdown::new(), Arc::clone(detector.metrics()));
        let flag = stop.clone();
        Self { stop, metrics, thread: thread::spawn(move || detector.run(&flag)) }
    }

    fn stop(self) -> Result<(), Error> {
        self.stop.request();
        self.thread.join().expect("the detector does not panic")
    }
}

fn produce(kafka: &EmbeddedKafka, values: &[Option<Vec<u8>>]) {
    produce_with(kafka, values, None);
}

fn produce_with(kafka: &EmbeddedKafka, values: &[Option<Vec<u8>>], headers: Option<&OwnedHeaders>) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.connection().bootstrap_servers).set("message.max.bytes", "10485760");
    let producer: BaseProducer = config.create().expect("a producer");
    for (i, value) in values.iter().enumerate() {
        let key = format!("key-{i}");
        let mut record = BaseRecord::<[u8], [u8]>::to("demo").key(key.as_bytes()).partition(i as i32 % PARTITIONS);
        record.payload = value.as_deref();
        record.headers = headers.cloned();
        producer.send(record).map_err(|(error, _)| error).expect("queues");
    }
    producer.flush(PATIENCE).expect("flushes");
}

/// Reads a topic until `n` messages are there, and a little longer for more than that.
fn consume(kafka: &EmbeddedKafka, topic: &str, n: usize) -> Vec<OwnedMessage> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.connection().bootstrap_servers).set("group.id", "test");
    config.set("fetch.wait.max.ms", "10").set("fetch.message.max.bytes", "10485760");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&all).expect("assigns");
    let mut messages = Vec::new();
    let mut deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
            messages.push(message.detach());
            if messages.len() == n {
                deadline = Instant::now() + Duration::from_millis(500);
            }
        }
    }
    messages
}

fn header<'a>(message: &'a OwnedMessage, name: &str) -> Option<&'a str> {
    use rdkafka::message::Headers;
    let found = message.headers()?.iter().find(|header| header.key == name)?;
    std::str::from_utf8(found.value?).ok()
}

fn validator(name: &str) -> jsonschema::Validator {
    let text = std::fs::read_to_string(repository().join(format!("docs/{name}.schema.json"))).expect("schema");
    jsonschema::validator_for(&serde_json::from_str(&text).expect("JSON")).expect("a valid schema")
}

#[test]
fn a_bad_record_becomes_a_dead_letter_with_its_bytes_and_the_reason() {
    let good = flows()[0].json.clone().into_bytes();
    let text = String::from_utf8(good.clone()).expect("text");
    let edit = |from: &str, to: &str| Some(text.replacen(from, to, 1).into_bytes());
    let megabyte = "x".repeat(1 << 20);
    let cases: Vec<(Option<Vec<u8>>, Option<&str>)> = vec![
        (Some(good.clone()), None),
        (Some(Vec::new()), Some("empty")),
        (None, Some("tombstone")),
        (Some(good[..good.len() / 2].to_vec()), Some("truncated")),
        (edit("\"dur\":", "\"dur\":\"1\",\"x\":"), Some("wrong_type")),
        (edit("\"dur\":", "\"dur\":1e309,\"x\":"), Some("number_overflow")),
        (edit("\"dur\":", "\"dur\":NaN,\"x\":"), None),
        (edit("\"dur\":", "\"dur\":-Infinity,\"x\":"), None),
        (edit("\"dur\":", "\"x\":"), Some("missing_column")),
        (edit("{", "{\"dur\":1,"), Some("duplicate_column")),
        (edit("\"proto\":\"", "\"proto\":\"never seen "), None),
        (Some(vec![0; 100]), Some("syntax")),
        (Some([&good[..], b"\xff"].concat()), Some("invalid_utf8")),
        (Some(megabyte.clone().into_bytes()), Some("syntax")),
        (edit("{", &format!("{{\"x\":\"{megabyte}\",")), None),
        (Some(good), None),
    ];
    let kafka = kafka();
    let values: Vec<_> = cases.iter().map(|(value, _)| value.clone()).collect();
    produce(&kafka, &values);
    let running = Running::start(&kafka);
    let n_bad = cases.iter().filter(|(_, kind)| kind.is_some()).count();
    let dead_letters = consume(&kafka, "demo.dlq", n_bad);
    let verdicts = consume(&kafka, "demo.verdicts", cases.len());
    let metrics = Arc::clone(&running.metrics);
    running.stop().expect("stops cleanly");

    // By place: message i went to partition i % 6, at offset i / 6.
    let index = |partition: i32, offset: i64| (offset * i64::from(PARTITIONS) + i64::from(partition)) as usize;
    let schema = validator("dead-letter");
    assert_eq!(dead_letters.len(), n_bad);
    let mut seen = Vec::new();
    for letter in &dead_letters {
        let number = |name| header(letter, name).expect(name).parse::<i64>().expect("a number");
        let i = index(number("ids.partition") as i32, number("ids.offset"));
        let (value, kind) = &cases[i];
        assert_eq!(header(letter, "ids.kind"), *kind, "case {i}");
        assert_eq!(letter.payload(), value.as_deref(), "the bytes of case {i}");
        assert_eq!(letter.key(), Some(format!("key-{i}").as_bytes()), "the key of case {i}");
        seen.push(i);

        use rdkafka::message::Headers;
        let numbers = ["partition", "offset", "timestamp_ms", "byte_offset"];
        let fields = letter.headers().expect("headers").iter().map(|header| {
            let field = header.key.strip_prefix("ids.").expect("our own header").to_owned();
            let text = std::str::from_utf8(header.value.expect("a value")).expect("text");
            let value = if numbers.contains(&field.as_str()) {
                Value::from(text.parse::<i64>().expect("a number"))
            } else {
                Value::from(text)
            };
            (field, value)
        });
        let fields = Value::Object(fields.collect());
        assert!(schema.is_valid(&fields), "{fields}");
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), n_bad, "each bad record once");

    let schema = validator("verdict");
    assert_eq!(verdicts.len(), cases.len(), "every record has one, or a mark that it has none");
    for verdict in &verdicts {
        let json: Value = serde_json::from_slice(verdict.payload().expect("a value")).expect("JSON");
        assert!(schema.is_valid(&json), "{json}");
        let (partition, offset) = (json["origin"]["partition"].as_i64(), json["origin"]["offset"].as_i64());
        let (_, kind) = &cases[index(verdict.partition(), offset.expect("an offset"))];
        assert_eq!((json["dead_letter"].as_str(), json["class"].is_string()), (*kind, kind.is_none()), "{json}");
        assert_eq!(partition, Some(i64::from(verdict.partition())), "a verdict goes to the partition of its flow");
        let key = format!("demo/{}/{}", verdict.partition(), offset.expect("an offset"));
        assert_eq!(verdict.key(), Some(key.as_bytes()));
    }
    assert_eq!(metrics.dead_letters.get(), n_bad as u64);
    assert_eq!(metrics.records.get(), cases.len() as u64);
    assert_eq!(metrics.offset_gaps.get(), 0);
}

#[test]
fn a_restart_goes_on_where_the_last_run_committed() {
    let kafka = kafka();
    let values: Vec<_> = flows().into_iter().take(600).map(|flow| Some(flow.json.into_bytes())).collect();
    for (round, half) in values.chunks(300).enumerate() {
        produce(&kafka, half);
        let running = Running::start(&kafka);
        let verdicts = consume(&kafka, "demo.verdicts", 300 * (round + 1));
        let metrics = Arc::clone(&running.metrics);
        let deadline = Instant::now() + Duration::from_secs(30);
        while metrics.commits.get() == 0 {
            assert!(Instant::now() < deadline, "nothing is committed while it runs");
            thread::sleep(Duration::from_millis(20));
        }
        running.stop().expect("stops cleanly");
        assert!(metrics.alerts.get() > 0);
        assert_eq!(metrics.records.get(), 300, "round {round} starts where the one before ended");
        let mut keys = BTreeMap::new();
        for verdict in &verdicts {
            *keys.entry(verdict.key().expect("a key").to_vec()).or_insert(0) += 1;
        }
        assert_eq!((verdicts.len(), keys.len()), (300 * (round + 1), 300 * (round + 1)), "round {round}");
    }
}

#[test]
fn what_is_not_acknowledged_is_not_committed() {
    let kafka = kafka();
    let values: Vec<_> = flows().into_iter().take(60).map(|flow| Some(flow.json.into_bytes())).collect();
    produce(&kafka, &values);
    let cluster: &MockCluster<'_, DefaultProducerContext> = kafka.cluster();
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 20]);
    let running = Running::start(&kafka);
    let error = running.thread.join().expect("no panic").expect_err("the detector stops");
    assert!(matches!(error, Error::Delivery { .. }), "{error}");
    cluster.clear_request_errors(RDKafkaApiKey::Produce);

    let running = Running::start(&kafka);
    let verdicts = consume(&kafka, "demo.verdicts", 60);
    running.stop().expect("stops cleanly");
    let mut keys: Vec<_> = verdicts.iter().map(|verdict| verdict.key().expect("a key").to_vec()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 60, "every record has a verdict in the end");
}

#[test]
fn a_topic_that_is_not_there_is_named() {
    let kafka = EmbeddedKafka::start(1).expect("starts");
    let detector = Detector::new(DetectorConfig::new(kafka.connection(), "demo"), model()).expect("a detector");
    let error = detector.run(&Shutdown::new()).expect_err("refused");
    assert!(matches!(&error, Error::Topic { topic, .. } if topic == "demo"), "{error}");
}

#[test]
fn a_replay_waits_for_kafka_until_it_is_ended() {
    let mut nowhere = Connection::new("127.0.0.1:1");
    nowhere.properties.push(("log_level".into(), "0".into()));
    let replay = Replay::new(ReplayConfig::new(nowhere, "demo"), flows(), |_| ()).expect("a replay");
    assert!(matches!(replay.check().expect_err("out of reach"), Error::Kafka { .. }));
    let (metrics, stop) = (Arc::clone(replay.metrics()), Shutdown::new());
    let flag = stop.clone();
    let running = thread::spawn(move || replay.run(Limit::default(), &flag));
    thread::sleep(Duration::from_millis(300));
    assert!(!running.is_finished(), "it does not wait");
    assert!(metrics.is_live().is_ok() && metrics.is_ready().is_err());
    stop.request();
    let summary = running.join().expect("no panic").expect("ends");
    assert_eq!(summary.records, 0);
}

#[test]
fn a_replay_accounts_for_every_record() {
    let kafka = kafka();
    let load =
        Load { rate: "20000".parse().expect("a rate"), malformed: "0.2".parse().expect("a share"), ..Load::default() };
    let config = ReplayConfig { load, ..ReplayConfig::new(kafka.connection(), "demo") };
    let (sender, receipts) = std::sync::mpsc::channel();
    let replay = Replay::new(config, flows(), move |receipt| sender.send(receipt).expect("sends")).expect("a replay");
    let limit = Limit { records: Some(3_000), duration: None };
    let summary = replay.run(limit, &Shutdown::new()).expect("runs");
    // The producer holds the sender: without it the receipts end.
    drop(replay);
    assert_eq!(summary.records, 3_000);
    let receipts: BTreeMap<_, _> = receipts.iter().map(|receipt| (receipt.sequence, receipt)).collect();
    assert_eq!(receipts.keys().copied().collect::<Vec<_>>(), (0..3_000).collect::<Vec<_>>());
    let malformed = receipts.values().filter(|receipt| receipt.malformed.is_some()).count();
    // 600 expected; six standard deviations.
    assert!((470..730).contains(&malformed), "{malformed}");
    let messages = consume(&kafka, "demo", 3_000);
    assert_eq!(messages.len(), 3_000);
    for message in &messages {
        let sequence: u64 = header(message, headers::SEQUENCE).expect("a sequence number").parse().expect("a number");
        let receipt = &receipts[&sequence];
        assert_eq!((receipt.partition, receipt.offset), (message.partition(), Some(message.offset())));
        assert_eq!(receipt.label.as_deref(), header(message, headers::LABEL));
        assert_eq!(receipt.malformed, header(message, headers::MALFORMED));
        assert_eq!(message.key(), Some(sequence.to_string().as_bytes()));
    }
}

#[test]
fn members_come_and_go_and_every_record_has_a_verdict() {
    let kafka = kafka();
    let load =
        Load { rate: "500".parse().expect("a rate"), burst_prob: "0".parse().expect("a share"), ..Load::default() };
    let config = ReplayConfig { load, ..ReplayConfig::new(kafka.connection(), "demo") };
    let replay = Replay::new(config, flows(), |_| ()).expect("a replay");
    let stop_replay = Shutdown::new();
    let flag = stop_replay.clone();
    let sending = thread::spawn(move || replay.run(Limit::default(), &flag).expect("runs").records);

    let wait_for = |what: &str, is_so: &dyn Fn() -> bool| {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < PATIENCE, "{what}");
            thread::sleep(Duration::from_millis(20));
        }
        eprintln!("{what} after {:?}", start.elapsed());
    };
    let first = Running::start(&kafka);
    wait_for("the first member owns all", &|| first.metrics.assigned_partitions() == PARTITIONS as u64);
    let second = Running::start(&kafka);
    let both = || (first.metrics.assigned_partitions(), second.metrics.assigned_partitions());
    wait_for("the members share", &|| both() == (3, 3));
    thread::sleep(Duration::from_secs(1));
    first.stop().expect("stops cleanly");
    wait_for("the second member owns all", &|| second.metrics.assigned_partitions() == PARTITIONS as u64);
    thread::sleep(Duration::from_secs(1));
    stop_replay.request();
    let sent = sending.join().expect("no panic") as usize;
    let verdicts = consume(&kafka, "demo.verdicts", sent);
    second.stop().expect("stops cleanly");

    let mut keys: Vec<_> = verdicts.iter().map(|verdict| verdict.key().expect("a key").to_vec()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), sent, "of {} verdicts", verdicts.len());
    // Handed over cleanly: hardly anything is scored twice.
    assert!(verdicts.len() - keys.len() < sent / 20, "{} verdicts for {sent} records", verdicts.len());
}

#[test]
fn a_dead_letter_that_is_too_large_is_cut_and_stops_nothing() {
    let kafka = kafka();
    let large = vec![b'x'; 600_000];
    produce(&kafka, &[Some(large.clone())]);
    let too_large = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE];
    kafka.cluster().request_errors(RDKafkaApiKey::Produce, &too_large);
    let running = Running::start(&kafka);
    let letters = consume(&kafka, "demo.dlq", 1);
    running.stop().expect("stops cleanly");
    assert_eq!(letters.len(), 1);
    assert_eq!(header(&letters[0], "ids.cut_from_bytes"), Some("600000"));
    assert_eq!(letters[0].payload(), Some(&large[..256 << 10]));
    assert_eq!(header(&letters[0], "ids.kind"), Some("syntax"));
}

/// The record's own headers may be what is too large.
#[test]
fn a_dead_letter_with_too_many_headers_is_sent_without_them() {
    let kafka = kafka();
    let large = "x".repeat(10_000);
    let headers =
        (0..40).fold(OwnedHeaders::new(), |headers, _| headers.insert(Header { key: "theirs", value: Some(&large) }));
    produce_with(&kafka, &[Some(b"{".to_vec())], Some(&headers));
    let too_large = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE];
    kafka.cluster().request_errors(RDKafkaApiKey::Produce, &too_large);
    let running = Running::start(&kafka);
    let letters = consume(&kafka, "demo.dlq", 1);
    running.stop().expect("stops cleanly");
    assert_eq!((letters.len(), letters[0].payload()), (1, Some(&b"{"[..])));
    assert_eq!(header(&letters[0], "ids.cut_headers"), Some("40"));
    assert_eq!((header(&letters[0], "ids.cut_from_bytes"), header(&letters[0], "theirs")), (None, None));
    assert_eq!(header(&letters[0], "ids.kind"), Some("truncated"));
}

/// A dead letter that is too large whatever is left out ends the detector: it does not try for ever.
#[test]
fn a_dead_letter_that_is_refused_however_small_ends_it() {
    let kafka = kafka();
    produce(&kafka, &[Some(b"{".to_vec())]);
    let too_large = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 20];
    kafka.cluster().request_errors(RDKafkaApiKey::Produce, &too_large);
    let detector = Detector::new(DetectorConfig::new(kafka.connection(), "demo"), model()).expect("a detector");
    let error = detector.run(&Shutdown::new()).expect_err("it ends");
    assert!(matches!(&error, Error::Delivery { topic, .. } if topic == "demo.dlq"), "{error}");
}

#[test]
fn a_dead_letter_that_is_sent_again_says_only_what_is_true_of_it_now() {
    let kafka = kafka();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.connection().bootstrap_servers);
    let producer: BaseProducer = config.create().expect("a producer");
    let old =
        [("ids.kind", "tombstone"), ("ids.offset", "99"), ("ids.byte_offset", "5"), ("ids.seq", "7"), ("other", "x")];
    let headers = old.iter().fold(rdkafka::message::OwnedHeaders::new(), |all, (key, value)| {
        all.insert(rdkafka::message::Header { key, value: Some(*value) })
    });
    let record = BaseRecord::<str, str>::to("demo").key("k").payload("").partition(0).headers(headers);
    producer.send(record).map_err(|(error, _)| error).expect("queues");
    producer.flush(PATIENCE).expect("flushes");
    let running = Running::start(&kafka);
    let letters = consume(&kafka, "demo.dlq", 1);
    running.stop().expect("stops cleanly");
    let expected =
        [("ids.kind", Some("empty")), ("ids.offset", Some("0")), ("ids.byte_offset", None), ("ids.seq", Some("7"))];
    for (name, value) in expected {
        assert_eq!(header(&letters[0], name), value, "{name}");
    }
    assert_eq!(header(&letters[0], "other"), Some("x"));
}

#[test]
fn csv_rows_are_scored_like_json() {
    let kafka = kafka();
    let text = std::fs::read_to_string(repository().join("testdata/synthetic-unsw-nb15.csv")).expect("flows");
    let mut rows = text.lines();
    let columns = rows.next().expect("a header").to_owned();
    let mut values: Vec<_> = rows.take(60).map(|row| Some(row.as_bytes().to_vec())).collect();
    values.push(Some(b"1,2,3".to_vec()));
    produce(&kafka, &values);
    let config = DetectorConfig { csv_columns: Some(columns), ..DetectorConfig::new(kafka.connection(), "demo") };
    let detector = Detector::new(config, model()).expect("a detector");
    let stop = Shutdown::new();
    let flag = stop.clone();
    let running = thread::spawn(move || detector.run(&flag));
    assert_eq!(consume(&kafka, "demo.verdicts", 61).len(), 61);
    let letters = consume(&kafka, "demo.dlq", 1);
    stop.request();
    running.join().expect("no panic").expect("stops cleanly");
    assert_eq!(header(&letters[0], "ids.kind"), Some("row_too_short"));
}

#[test]
fn classes_that_travel_along_are_counted_beside_the_predicted_ones() {
    let kafka = kafka();
    let text = std::fs::read_to_string(repository().join("testdata/synthetic-unsw-nb15.csv")).expect("flows");
    let (columns, rows) = text.split_once('\n').expect("a header");
    let rows: Vec<_> = rows.lines().take(60).collect();
    let of_class = |class: &str| rows.iter().filter(|row| row.contains(class)).count() as u64;
    let (n_dos, n_normal) = (of_class(",DoS,"), of_class(",Normal,"));
    assert!(n_dos > 0 && n_normal > 0);
    // A class that no model knows, in the record itself; and one that a header says, which is nearer to the sensor.
    let unknown: Vec<_> = rows.iter().map(|row| Some(row.replace(",DoS,", ",Zebra,").into_bytes())).collect();
    produce(&kafka, &unknown);
    let header = OwnedHeaders::new().insert(Header { key: headers::LABEL, value: Some("Worms") });
    produce_with(&kafka, &unknown[..7], Some(&header));
    let config =
        DetectorConfig { csv_columns: Some(columns.to_owned()), ..DetectorConfig::new(kafka.connection(), "demo") };
    let detector = Detector::new(config, model()).expect("a detector");
    let metrics = Arc::clone(detector.metrics());
    let stop = Shutdown::new();
    let flag = stop.clone();
    let running = thread::spawn(move || detector.run(&flag));
    assert_eq!(consume(&kafka, "demo.verdicts", 67).len(), 67);
    stop.request();
    running.join().expect("no panic").expect("stops cleanly");
    let mut by_class = BTreeMap::<String, u64>::new();
    for ((actual, _), n) in metrics.labelled() {
        *by_class.entry(actual).or_default() += n;
    }
    assert_eq!(by_class.values().sum::<u64>(), 67, "{by_class:?}");
    assert_eq!((by_class[OTHER_CLASS], by_class["Normal"]), (n_dos, n_normal));
    assert_eq!(by_class["Worms"], of_class(",Worms,") + 7);
}

/// Alerts are raised by the thresholds of the model that scores, unless the detector has its own.
#[test]
fn a_model_brings_its_own_alert_thresholds() {
    let kafka = kafka();
    let values: Vec<_> = flows().into_iter().take(120).map(|flow| Some(flow.json.into_bytes())).collect();
    let quiet = AlertPolicy { threshold: 1.0, ..AlertPolicy::default() };
    let quiet = Arc::new(Model::clone(&model()).with_alerts(quiet).expect("a policy"));
    let mut n_verdicts = 0;
    // Alerts on the flows, where the second model takes over from the first, thresholds and all, before the first batch.
    let mut alerts = |alert_threshold: Option<&str>, models: [&Arc<Model>; 2]| {
        let alert_threshold = alert_threshold.map(|threshold| threshold.parse().expect("a threshold"));
        let config = DetectorConfig { alert_threshold, ..DetectorConfig::new(kafka.connection(), "demo") };
        let detector = Detector::new(config, Arc::clone(models[0])).expect("a detector");
        let (metrics, stop) = (Arc::clone(detector.metrics()), Shutdown::new());
        detector.handle().offer(Arc::clone(models[1])).expect("it fits");
        let flag = stop.clone();
        let running = thread::spawn(move || detector.run(&flag));
        produce(&kafka, &values);
        n_verdicts += values.len();
        assert_eq!(consume(&kafka, "demo.verdicts", n_verdicts).len(), n_verdicts);
        stop.request();
        running.join().expect("no panic").expect("stops cleanly");
        metrics.alerts.get()
    };
    assert_eq!(alerts(None, [&model(), &quiet]), 0);
    let all = alerts(None, [&quiet, &model()]);
    assert!(all > 20, "{all}");
    assert_eq!(alerts(Some("0"), [&model(), &quiet]), all);
}

/// Asks the admin server; status and body.
fn ask(address: SocketAddr, request: &str) -> (u16, String) {
    ask_for(address, request, "*/*")
}

/// The same, where a form of the answer is preferred.
fn ask_for(address: SocketAddr, request: &str, accept: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("connects");
    write!(stream, "{request} HTTP/1.1\r\nHost: ids\r\nAccept: {accept}\r\nConnection: close\r\n\r\n").expect("asks");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_owned())
}

#[test]
fn operators_see_how_it_is_and_give_it_another_model() {
    let kafka = kafka();
    let values: Vec<_> = flows().into_iter().take(300).map(|flow| Some(flow.json.into_bytes())).collect();
    produce(&kafka, &values);
    produce(&kafka, &[Some(b"{".to_vec()), Some(Vec::new())]);
    let first = model();
    let detector = Detector::new(DetectorConfig::new(kafka.connection(), "demo"), Arc::clone(&first)).expect("new");
    let handle = detector.handle();
    let other = Arc::new(Model::load(repository().join("models/unsw-nb15")).expect("loads"));
    let reload = {
        let (handle, other, first_try) = (detector.handle(), Arc::clone(&other), AtomicBool::new(true));
        move || {
            if first_try.swap(false, Ordering::Relaxed) {
                handle.refuse("it is damaged");
                return Err("it is damaged".into());
            }
            handle.offer(Arc::clone(&other)).map_err(|error| error.to_string())?;
            Ok("taken".into())
        }
    };
    let address = admin::serve("127.0.0.1:0".parse().expect("an address"), handle, Arc::new(reload)).expect("listens");
    assert_eq!(ask(address, "GET /livez").0, 200, "before it has reached Kafka");
    assert_eq!(ask(address, "GET /readyz"), (503, "it has not joined its group yet\n".into()));

    let stop = Shutdown::new();
    let flag = stop.clone();
    let running = thread::spawn(move || detector.run(&flag));
    assert_eq!(consume(&kafka, "demo.verdicts", 302).len(), 302);
    assert_eq!(ask(address, "GET /readyz"), (200, "ok\n".into()));
    let (status, text) = ask(address, "GET /metrics");
    assert_eq!(status, 200);
    let sum = |name: &str| -> f64 {
        let samples = text.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
        samples.map(|line| line.rsplit(' ').next().and_then(|n| n.parse::<f64>().ok()).expect("a number")).sum()
    };
    assert_eq!(
        (sum("ids_records_total"), sum("ids_verdicts_total"), sum("ids_dead_letters_total")),
        (302.0, 300.0, 2.0)
    );
    assert_eq!((sum("ids_end_to_end_seconds_count"), sum("ids_assigned_partitions")), (302.0, 6.0));
    assert!(text.contains(&format!("ids_model_info{{version=\"{}\"", first.version())), "{text}");
    assert!(text.contains("ids_dead_letters_total{kind=\"empty\"} 1"), "{text}");
    assert!(text.contains("# TYPE ids_records_total counter\n") && !text.contains("EOF"), "{text}");
    let open = ask_for(address, "GET /metrics", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5").1;
    assert!(open.contains("# TYPE ids_records counter\n") && open.ends_with("# EOF\n"), "{open}");

    assert_eq!(ask(address, "POST /reload"), (422, "it is damaged\n".into()));
    assert_eq!(ask(address, "POST /reload"), (200, "taken\n".into()));
    // The loop takes it over between two batches.
    let start = Instant::now();
    while !ask(address, "GET /metrics").1.contains(other.version()) {
        assert!(start.elapsed() < PATIENCE, "the model is taken over");
        thread::sleep(Duration::from_millis(10));
    }
    produce(&kafka, &values);
    let verdicts = consume(&kafka, "demo.verdicts", 602);
    stop.request();
    running.join().expect("no panic").expect("stops cleanly");
    let by = |version: &str| {
        let needle = format!("\"model\":\"{version}\"");
        verdicts.iter().filter(|v| String::from_utf8_lossy(v.payload().expect("a value")).contains(&needle)).count()
    };
    assert_eq!((by(first.version()), by(other.version())), (302, 300));
}

/// What librdkafka is to mend by itself is mended: no record is lost, none has two verdicts, nobody starts again.
#[test]
fn errors_of_brokers_are_mended() {
    use RDKafkaRespErr::*;
    let cases = [
        (RDKafkaApiKey::Produce, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION),
        (RDKafkaApiKey::Produce, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT),
        (RDKafkaApiKey::Produce, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS),
        (RDKafkaApiKey::Fetch, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION),
        (RDKafkaApiKey::OffsetCommit, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS),
        (RDKafkaApiKey::OffsetCommit, RD_KAFKA_RESP_ERR_NOT_COORDINATOR),
        (RDKafkaApiKey::Heartbeat, RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS),
    ];
    let kafka = kafka();
    let running = Running::start(&kafka);
    let values: Vec<_> = flows().into_iter().take(120).map(|flow| Some(flow.json.into_bytes())).collect();
    for (round, (request, error)) in cases.into_iter().enumerate() {
        // The producer of the test must not meet them.
        produce(&kafka, &values);
        kafka.cluster().request_errors(request, &[error; 5]);
        let n = 120 * (round + 1);
        let verdicts = consume(&kafka, "demo.verdicts", n);
        kafka.cluster().clear_request_errors(request);
        let mut keys: Vec<_> = verdicts.iter().map(|verdict| verdict.key().expect("a key").to_vec()).collect();
        keys.sort();
        keys.dedup();
        assert_eq!((verdicts.len(), keys.len()), (n, n), "{request:?} {error:?}");
    }
    running.stop().expect("stops cleanly");
}

/// 10,000 malformed records of twelve kinds among as many good ones.
#[test]
fn poison_ends_in_the_dead_letter_topic_and_stops_nothing() {
    let kafka = kafka();
    let load = Load {
        rate: "20000".parse().expect("a rate"),
        malformed: "0.5".parse().expect("a share"),
        burst_prob: "0".parse().expect("a share"),
        ..Load::default()
    };
    let config = ReplayConfig { load, ..ReplayConfig::new(kafka.connection(), "demo") };
    let (sender, receipts) = std::sync::mpsc::channel();
    let replay = Replay::new(config, flows(), move |receipt| sender.send(receipt).expect("sends")).expect("a replay");
    let running = Running::start(&kafka);
    replay.run(Limit { records: Some(20_000), duration: None }, &Shutdown::new()).expect("runs");
    drop(replay);
    let mut malformed = BTreeMap::new();
    for receipt in receipts.iter().filter_map(|receipt| receipt.malformed) {
        *malformed.entry(receipt).or_insert(0u64) += 1;
    }
    let n_malformed: u64 = malformed.values().sum();
    assert!(malformed.len() >= 12 && (9_500..10_500).contains(&n_malformed), "{malformed:?}");
    let start = Instant::now();
    let metrics = &running.metrics;
    while metrics.verdicts.get() + metrics.dead_letters.get() < 20_000 {
        assert!(start.elapsed() < PATIENCE, "{} verdicts, {}", metrics.verdicts.get(), metrics.dead_letters.get());
        thread::sleep(Duration::from_millis(20));
    }
    let counts = (metrics.records.get(), metrics.verdicts.get(), metrics.dead_letters.get());
    assert_eq!(counts, (20_000, 20_000 - n_malformed, n_malformed));
    let tally = Tally::read("the detector", &exposition::text(metrics)).expect("reads");
    running.stop().expect("stops cleanly");
    let books = Books {
        connection: &kafka.connection(),
        topics: &Topics::of("demo"),
        models: &[model()],
        policy: None,
        csv_columns: None,
        acked: None,
        tallies: &[tally],
        tallies_are_all: true,
    };
    let report = books.check().expect("checks");
    assert!(report.is_sound() && (report.acked, report.duplicates) == (20_000, 0), "{report}");
}
