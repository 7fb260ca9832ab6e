//! What operators do with the programs: check the books, watch a producer, prove a model before it serves.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ids_core::Model;
use ids_kafka::read::read_all;
use ids_kafka::{Detector, DetectorConfig, EmbeddedKafka, GoldenRows, Shutdown, Topics, exposition};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;

const SMALL: &str = "models/unsw-nb15-small";
const FLOWS: &str = "testdata/synthetic-unsw-nb15.csv";
const PATIENCE: Duration = Duration::from_secs(60);

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let path = match program {
        "ids" => env!("CARGO_BIN_EXE_ids"),
        "producer" => env!("CARGO_BIN_EXE_producer"),
        "detector" => env!("CARGO_BIN_EXE_detector"),
        other => panic!("no program {other}"),
    };
    Command::new(path).args(arguments).current_dir(repository()).output().expect("runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Has a detector work off the topic; its metrics at the end.
fn detect(kafka: &EmbeddedKafka, n_records: u64) -> String {
    let model = Arc::new(Model::load(repository().join(SMALL)).expect("loads"));
    let detector = Detector::new(DetectorConfig::new(kafka.connection(), "demo"), model).expect("a detector");
    let (metrics, stop) = (Arc::clone(detector.metrics()), Shutdown::new());
    let flag = stop.clone();
    let running = thread::spawn(move || detector.run(&flag));
    let start = Instant::now();
    while metrics.verdicts.get() + metrics.dead_letters.get() < n_records {
        assert!(start.elapsed() < PATIENCE, "{} verdicts of {n_records}", metrics.verdicts.get());
        thread::sleep(Duration::from_millis(20));
    }
    stop.request();
    running.join().expect("no panic").expect("stops cleanly");
    exposition::text(&metrics)
}

/// The books of a producer and a detector, as they are and as they are after each kind of damage.
#[test]
fn recon_proves_that_nothing_is_lost_and_finds_what_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let kafka = EmbeddedKafka::start(1).expect("starts");
    kafka.create(&Topics::of("demo"), 3).expect("creates topics");
    let servers = kafka.connection().bootstrap_servers;
    let receipts = path("receipts.jsonl");
    let arguments = ["--records", "600", "--rate", "5000", "--malformed", "0.05", "--receipts", &receipts];
    let output =
        run("producer", &[&arguments[..], &["--listen", "127.0.0.1:0", "--bootstrap-servers", &servers]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!output.stderr.contains(&0x1b), "colours where there is no terminal: {}", text(&output.stderr));
    let metrics = detect(&kafka, 600);
    std::fs::write(path("metrics"), &metrics).expect("writes");

    let recon = |more: &[&str]| {
        let json = path("report.json");
        let arguments = ["recon", "--bootstrap-servers", &servers, "--no-duplicates", "--json", &json];
        let output = run("ids", &[&arguments[..], more].concat());
        let report = std::fs::read_to_string(&json).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let _ = std::fs::remove_file(json);
        (output.status.code(), report.unwrap_or_default(), text(&[output.stdout, output.stderr].concat()))
    };
    let counted = |report: &Value| -> Vec<(String, u64)> {
        let fields = report.as_object().expect("a report").iter();
        let counts = fields.filter_map(|(name, value)| Some((name.clone(), value.as_u64().filter(|n| *n > 0)?)));
        counts.collect()
    };
    let check = |more: &[&str], code: i32, expected: &[(&str, u64)]| {
        let (found, report, printed) = recon(more);
        assert_eq!(found, Some(code), "{more:?}: {printed}");
        let expected: Vec<_> = expected.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        assert_eq!(counted(&report), expected, "{more:?}: {printed}");
    };
    let (metrics_file, large) = (path("metrics"), "models/unsw-nb15");
    let sound = ["--model", large, "--model", SMALL, "--acked", &receipts, "--metrics", &metrics_file];
    check(&[&sound[..], &["--metrics-are-all"]].concat(), 0, &[("acked", 600)]);
    check(&["--model", SMALL], 0, &[("acked", 600)]);

    // Another model, another policy, counts that do not add up.
    let (code, report, printed) = recon(&["--model", large]);
    assert_eq!((code, report["unknown_models"].as_u64()), (Some(1), Some(600)), "{printed}");
    let (code, report, printed) = recon(&["--model", SMALL, "--alert-threshold", "0.9"]);
    assert!(code == Some(1) && report["wrong_alerts"].as_u64() > Some(10), "{printed}");
    std::fs::write(path("less"), metrics.replace("ids_records_total 600", "ids_records_total 599")).expect("writes");
    let less = path("less");
    check(&["--model", SMALL, "--metrics", &less], 1, &[("acked", 600), ("wrong_metrics", 1)]);
    let less = ["--model", SMALL, "--metrics", &less, "--metrics-are-all"];
    check(&less, 1, &[("acked", 600), ("wrong_metrics", 2)]);

    // Where it cannot be told, it says so.
    for (more, expected) in [
        (["--model", SMALL, "--acked", "absent.jsonl"], "absent.jsonl"),
        (["--model", SMALL, "--acked", "README.md"], "README.md, line 1"),
        (["--model", SMALL, "--metrics", "README.md"], "it is no detector's /metrics"),
    ] {
        let (code, _, printed) = recon(&more);
        assert!(code == Some(2) && printed.contains(expected), "{more:?}: {printed}");
    }

    // A flow that nobody has scored, a verdict of no record, one that comes again, one that contradicts.
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &servers).create().expect("a producer");
    let send = |topic: &str, key: &str, value: &str| {
        let record = BaseRecord::to(topic).key(key).payload(value).partition(0);
        producer.send(record).map_err(|(error, _)| error).expect("queues");
        producer.flush(PATIENCE).expect("flushes");
    };
    send("demo", "k", "{}");
    check(&["--model", SMALL], 1, &[("acked", 601), ("behind", 1), ("lost", 1)]);
    check(&["--model", SMALL, "--acked", &receipts], 0, &[("acked", 600)]);
    send("demo.verdicts", "demo/0/9999", r#"{"model":"x"}"#);
    let forged = [("acked", 600), ("invented", 1)];
    check(&["--model", SMALL, "--acked", &receipts], 1, &forged);
    send("demo.verdicts", "demo/0/0", r#"{"model":"x"}"#);
    let forged = [("acked", 600), ("duplicates", 1), ("invented", 1), ("wrong", 1)];
    check(&["--model", SMALL, "--acked", &receipts], 1, &forged);
    send("demo.alerts", "demo/0/8888", "{}");
    send("demo.dlq", "k", "{}");
    let forged = [
        ("acked", 600),
        ("duplicates", 1),
        ("invented", 1),
        ("wrong", 1),
        ("wrong_alerts", 1),
        ("wrong_dead_letters", 1),
    ];
    check(&["--model", SMALL, "--acked", &receipts], 1, &forged);

    // An alert and a dead letter that come again, as they were and not as they were.
    let first = |topic: &str| {
        let mut first = None;
        read_all(&kafka.connection(), topic, |message| {
            first.get_or_insert_with(|| message.detach());
        })
        .expect("reads");
        first.expect("a message")
    };
    let (alert, letter) = (first("demo.alerts"), first("demo.dlq"));
    let text_of = |bytes: Option<&[u8]>| text(bytes.unwrap_or_default());
    let send_letter = |detail: Option<&str>| {
        let value_of = |header: &Header<'_, &[u8]>| {
            detail.filter(|_| header.key == "ids.detail").map_or_else(|| text_of(header.value), str::to_owned)
        };
        let all = letter.headers().expect("headers").iter().fold(OwnedHeaders::new(), |all, header| {
            all.insert(Header { key: header.key, value: Some(&value_of(&header)) })
        });
        let (key, value) = (letter.key().unwrap_or_default(), letter.payload().unwrap_or_default());
        let record = BaseRecord::to("demo.dlq").key(key).payload(value).headers(all);
        producer.send(record).map_err(|(error, _)| error).expect("queues");
        producer.flush(PATIENCE).expect("flushes");
    };
    let (key, value) = (text_of(alert.key()), text_of(alert.payload()));
    send("demo.alerts", &key, &value);
    send_letter(None);
    let repeated = |n_wrong: u64, n_repeated: u64| {
        let mut all = vec![("acked", 600), ("duplicates", 1), ("invented", 1)];
        all.extend([("repeated_alerts", n_repeated), ("repeated_dead_letters", n_repeated), ("wrong", 1)]);
        all.extend([("wrong_alerts", n_wrong), ("wrong_dead_letters", n_wrong)]);
        all
    };
    check(&["--model", SMALL, "--acked", &receipts], 1, &repeated(1, 1));
    send("demo.alerts", &key, &value.replace("with probability", "with a probability of"));
    send_letter(Some("another"));
    check(&["--model", SMALL, "--acked", &receipts], 1, &repeated(2, 2));
}

#[test]
fn a_producer_logs_for_machines_and_names_a_topic_that_is_not_there() {
    let kafka = EmbeddedKafka::start(1).expect("starts");
    kafka.create(&Topics::of("demo"), 1).expect("creates topics");
    let servers = kafka.connection().bootstrap_servers;
    let arguments = ["--records", "50", "--listen", "127.0.0.1:0", "--bootstrap-servers", &servers];
    let output = run("producer", &[&arguments[..], &["--log-format", "json"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines: Vec<Value> = text(&output.stderr)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect();
    let last = lines.last().expect("a line");
    assert_eq!((last["records"].as_u64(), last["level"].as_str()), (Some(50), Some("INFO")), "{last}");
}

#[test]
fn a_model_that_gives_other_verdicts_than_the_golden_rows_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let all = std::fs::read_to_string(repository().join(FLOWS)).expect("flows");
    let mut rows: Vec<_> = all.lines().take(101).map(str::to_owned).collect();
    rows[50] = "no flow".into();
    std::fs::write(path("golden.csv"), rows.join("\n")).expect("writes");
    let (flows, verdicts) = (path("golden.csv"), path("golden.jsonl"));
    let output = run("ids", &["score", "--model", SMALL, "--input", &flows, "--output", &verdicts]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (small, large) = ["models/unsw-nb15-small", "models/unsw-nb15"]
        .map(|path| Model::load(repository().join(path)).expect("loads"))
        .into();
    let golden = GoldenRows::new(&flows, &verdicts);
    assert_eq!(golden.check(&small).expect("its own"), 100);
    let error = golden.check(&large).expect_err("another model's").to_string();
    assert!(error.contains("golden.jsonl, row 1: model") && error.contains("`"), "{error}");

    // As its user sees it, at start: the row is named.
    let mut lines: Vec<_> = std::fs::read_to_string(&verdicts).expect("verdicts").lines().map(str::to_owned).collect();
    lines[6] = r#"{"class":"No such class"}"#.into();
    std::fs::write(&verdicts, lines.join("\n")).expect("writes");
    let arguments = ["--model", SMALL, "--golden-rows", &flows, "--golden-verdicts", &verdicts];
    let output = run("detector", &[&arguments[..], &["--listen", "127.0.0.1:0"]].concat());
    let log = text(&output.stderr);
    let expected = r#"golden.jsonl, row 7: model"#;
    assert!(!output.status.success() && log.contains(expected) && log.contains("No such class"), "{log}");

    // Too few verdicts, none at all, and half of the options.
    std::fs::write(&verdicts, lines[..5].join("\n")).expect("writes");
    let error = golden.check(&small).expect_err("too few").to_string();
    assert!(error.contains("row 6: it is missing"), "{error}");
    let output = run("detector", &["--golden-rows", &flows]);
    assert!(text(&output.stderr).contains("--golden-verdicts"), "{}", text(&output.stderr));
}
