//! The programs as their users run them.

mod common;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{FLOWS, SMALL, fail, repository, run, succeed};
use ids_kafka::read::read_all;
use ids_kafka::{EmbeddedKafka, Topics};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;

#[test]
fn inspect_shows_the_model() {
    let text = succeed("ids", &["inspect", SMALL]);
    for expected in
        ["saved by    Spark 3.5.9", "50 trees", "depth 6, 42 features", "Normal", "(benign)", "VectorAssembler"]
    {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

#[test]
fn inspect_shows_what_makes_no_verdicts_too() {
    let text = succeed("ids", &["inspect", "testdata/spark/4.3.0/gbtr"]);
    for expected in ["saved by    Spark 4.3.0", "boosted, summed as `Vector512`", "it cannot score flows"] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

#[test]
fn describe_shows_what_a_file_is() {
    let text = succeed("ids", &["describe", FLOWS]);
    for expected in ["schema    unsw-nb15, by its columns", "rejected\n", "`Normal` is no attack", "spkts", "distinct"]
    {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    let json = succeed("ids", &["describe", FLOWS, "--schema", "unsw-nb15", "--json"]);
    let card: Value = serde_json::from_str(&json).expect("JSON");
    let n_lines = std::fs::read_to_string(repository().join(FLOWS)).expect("flows").lines().count() as u64;
    assert_eq!(card["rows"]["flows"].as_u64(), Some(n_lines - 1));
    assert_eq!((card["schema"]["is_given"].as_bool(), card["format"].as_str()), (Some(true), Some("csv")));
}

#[test]
fn what_is_skipped_is_said() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("joined.csv");
    let text = std::fs::read_to_string(repository().join(FLOWS)).expect("flows");
    let lines: Vec<_> = text.lines().take(3).collect();
    let joined = [lines[0], lines[1], lines[0], lines[2], &",".repeat(44), ""].join("\n");
    std::fs::write(&path, joined).expect("writes");
    let path = path.to_string_lossy().into_owned();
    let output = run("ids", &["score", "--model", SMALL, "--input", &path]);
    let errors = String::from_utf8(output.stderr).expect("UTF-8");
    for expected in ["1 copies of the header and 1 empty rows are skipped", "2 rows scored, 0 without a score"] {
        assert!(errors.contains(expected), "{errors}");
    }
    let text = succeed("ids", &["describe", &path]);
    assert!(text.contains(" 1 the header again") && text.contains(" 1 empty"), "{text}");
}

#[test]
fn describe_says_why_it_cannot() {
    for (arguments, expected) in [
        (&["describe", "Cargo.toml"][..], "no built-in schema"),
        (&["describe", "nowhere.csv"], "cannot open nowhere.csv"),
        (&["describe", FLOWS, "--schema", "netflow"], "built in are unsw-nb15, cicflowmeter, "),
        (&["describe", "testdata/spark"], "testdata/spark: "),
    ] {
        let output = run("ids", arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && errors.contains(expected), "{arguments:?}: {errors}");
    }
}

/// The exit code says what came of it: nothing differs, something does, or they could not be compared.
#[test]
fn verify_compares_with_what_spark_wrote() {
    let directory = tempfile::tempdir().expect("a directory");
    let json = directory.path().join("report.json");
    let expected = "testdata/spark/4.3.0/rf_dense.golden.parquet";
    let verify = |model: &str, expected: &str| {
        let json = json.to_string_lossy().into_owned();
        let output = run("ids", &["verify", "--model", model, "--expected", expected, "--json", &json]);
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, text) = verify("testdata/spark/4.3.0/rf_dense", expected);
    assert!(code == Some(0) && text.contains("differ      0 doubles, 0 rows"), "{code:?} {text}");
    let report: Value = serde_json::from_slice(&std::fs::read(&json).expect("a report")).expect("JSON");
    assert_eq!((report["doubles"].as_u64(), report["scored"].as_u64()), (Some(4_424), Some(632)));
    let (code, text) = verify("testdata/spark/4.3.0/rf_weighted", expected);
    assert!(code == Some(1) && text.contains("Spark  ") && text.contains("bits"), "{code:?} {text}");
    let (code, text) = verify("testdata/spark/4.3.0/rf_dense", "absent.parquet");
    assert!(code == Some(2) && text.contains("absent.parquet"), "{code:?} {text}");
}

#[test]
fn score_writes_a_line_per_row_in_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = std::fs::read_to_string(repository().join(FLOWS)).expect("flows");
    let mut lines: Vec<_> = text.lines().take(2_001).map(str::to_owned).collect();
    lines[1] = "too,short".into();
    lines[1_500] = lines[1_500].replacen(",", ",abc", 1);
    let input = directory.path().join("flows.csv");
    std::fs::write(&input, lines.join("\n")).expect("writes");
    let output = directory.path().join("verdicts.jsonl");
    succeed(
        "ids",
        &[
            "score",
            "--model",
            SMALL,
            "--input",
            input.to_str().expect("a path"),
            "--output",
            output.to_str().expect("a path"),
        ],
    );
    let verdicts = std::fs::read_to_string(output).expect("output");
    let verdicts: Vec<Value> = verdicts.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(verdicts.len(), 2_000);
    for (i, verdict) in verdicts.iter().enumerate() {
        let bad = [(0, "row_too_short"), (1_499, "wrong_type")].iter().find(|(row, _)| *row == i);
        let (row, kind) = match bad {
            Some((_, kind)) => (&verdict["offset"], Some(*kind)),
            None => (&verdict["origin"]["offset"], None),
        };
        assert_eq!(row.as_u64(), Some(i as u64 + 1), "{verdict}");
        assert_eq!(verdict["kind"].as_str(), kind);
    }
}

#[test]
fn score_reads_json_lines_from_standard_input() {
    let text = std::fs::read_to_string(repository().join(FLOWS)).expect("flows");
    let mut rows = text.lines();
    let names: Vec<_> = rows.next().expect("a header").split(',').collect();
    let cells = rows
        .next()
        .expect("a row")
        .split(',')
        .map(|cell| if cell.parse::<f64>().is_ok() { cell.to_owned() } else { format!("\"{cell}\"") });
    let fields: Vec<_> = names.iter().zip(cells).map(|(name, cell)| format!("\"{name}\":{cell}")).collect();
    let mut child = Command::new(env!("CARGO_BIN_EXE_ids"))
        .args(["score", "--model", SMALL, "--input", "-"])
        .current_dir(repository())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut input = child.stdin.take().expect("standard input");
    writeln!(input, "{{{}}}\nnonsense", fields.join(",")).expect("writes");
    drop(input);
    let output = String::from_utf8(child.wait_with_output().expect("ends").stdout).expect("UTF-8");
    let lines: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0]["probability"].is_f64());
    assert_eq!(lines[1]["kind"], "syntax");
}

#[test]
fn import_keeps_what_is_there_if_it_is_told_to() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("model.ids");
    let model = path.to_str().expect("a path");
    assert!(succeed("ids", &["import", "--keep", SMALL, model]).contains("50 trees"));
    std::fs::write(&path, "another").expect("writes");
    assert!(succeed("ids", &["import", "--keep", SMALL, model]).contains("is kept"));
    assert_eq!(std::fs::read_to_string(&path).expect("reads"), "another");
    assert!(succeed("ids", &["import", SMALL, model]).contains("50 trees"));
}

#[test]
fn errors_say_what_is_wrong() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("writes");
        path.to_str().expect("a path").to_owned()
    };
    let header_only = file(
        "header.csv",
        std::fs::read_to_string(repository().join(FLOWS)).expect("flows").lines().next().expect("a header"),
    );
    let narrow = file("narrow.csv", "dur,proto\n1,tcp\n");
    let twice = file("twice.csv", "dur,proto,dur\n1,tcp,1\n");
    let nothing = file("nothing.csv", "");
    let no_model = directory.path().to_str().expect("a path").to_owned();
    let unknown_key = file("unknown.toml", "colour = 'red'\n");
    let evaluate = ["evaluate", "--model", SMALL, "--input", FLOWS];
    let by_time = [&evaluate[..], &["--split", "time"]].concat();
    let by_address = [&evaluate[..], &["--split", "group"]].concat();
    let no_split = [&evaluate[..], &["--test-share", "0.5"]].concat();
    let cases: [(&str, &[&str], &str); 15] = [
        ("ids", &by_time, "say --by COLUMN"),
        ("ids", &by_address, "9000 have no value to split by"),
        ("ids", &no_split, "--split"),
        ("ids", &["inspect", &no_model], "it has no metadata directory"),
        ("ids", &["inspect", FLOWS], "not a model file"),
        ("ids", &["inspect", "absent"], "absent"),
        ("ids", &["evaluate", "--model", SMALL, "--input", &header_only], "has no labelled flow"),
        ("ids", &["evaluate", "--model", SMALL, "--input", &narrow], "cannot supply"),
        ("ids", &["score", "--model", SMALL, "--input", &twice], "there twice"),
        ("ids", &["score", "--model", SMALL, "--input", &nothing], "is empty"),
        ("demo", &["--rate", "0"], "a rate above 0"),
        ("demo", &["--burst-power", "1.0"], "1.1 or more"),
        ("producer", &["--config", &unknown_key], "unknown key `colour`"),
        ("detector", &["--config", &unknown_key], "unknown key `colour`"),
        ("detector", &["--class-threshold", "Dos=0.5"], "no attack class"),
    ];
    for (program, arguments, expected) in cases {
        let message = fail(program, arguments);
        assert!(message.contains(expected), "{program} {arguments:?}: {message}");
    }
}

#[test]
fn help_teaches() {
    for (program, expected) in
        [("ids", "evaluate"), ("demo", "--report"), ("producer", "MSG_RATE"), ("detector", "BOOTSTRAP_SERVERS")]
    {
        let help = succeed(program, &["--help"]);
        assert!(help.contains(expected), "{expected} in {help}");
    }
    for (command, expected) in [
        ("describe", "Show what a file of flows is"),
        ("train", "Train a random forest"),
        ("evaluate", "Say how good a model is"),
        ("threshold", "Choose alert thresholds"),
        ("lint", "Find what flatters a model"),
        ("verify", "Prove that a saved model"),
    ] {
        let help = succeed("ids", &[command, "--help"]);
        assert!(help.starts_with(expected) && help.contains("Example"), "{command}: {help}");
    }
}

/// The demo as the README shows it, shorter, with one record in a hundred malformed.
#[test]
fn the_demo_loses_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("report.json");
    let arguments = ["--seconds", "5", "--malformed", "0.01", "--report", path.to_str().expect("a path")];
    let printed = succeed("demo", &arguments);
    assert!(printed.contains("SYNTHETIC"), "{printed}");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(path).expect("a report")).expect("JSON");
    let count = |key: &str| report[key].as_u64().expect(key);
    assert!(count("rows_produced") > 3_000, "{report}");
    assert_eq!(count("rows_lost"), 0);
    assert_eq!(count("rows_duplicated"), 0);
    assert!(count("rows_malformed") > 10, "{report}");
    assert_eq!(count("rows_dead_lettered"), count("rows_malformed"), "every malformed record, and no other");
    assert_eq!(count("rows_scored") + count("rows_dead_lettered"), count("rows_produced"));
    assert!(count("alerts") > 100);
    for pointer in ["/rows_per_second", "/latency_ms/p50", "/latency_ms/p99", "/quality/accuracy", "/quality/macro_f1"]
    {
        assert!(report.pointer(pointer).and_then(Value::as_f64).is_some_and(|x| x > 0.0), "{pointer} in {report}");
    }
    assert!(report["quality"]["false_alarm_rate"].as_f64().expect("a figure") < 0.05);
    // What the detector said is what the model says of these flows.
    assert!((report["quality"]["accuracy"].as_f64().expect("a figure") - 0.87).abs() < 0.05, "{report}");
}

#[test]
fn dead_letters_are_counted_listed_and_sent_again() {
    let kafka = EmbeddedKafka::start(1).expect("starts");
    kafka.create(&Topics::of("demo"), 2).expect("creates topics");
    let servers = kafka.connection().bootstrap_servers;
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &servers).create().expect("a producer");
    for (offset, kind, value) in [("0", "empty", ""), ("1", "truncated", "{\"dur\":"), ("2", "truncated", "{")] {
        let fields = [("ids.topic", "demo"), ("ids.partition", "0"), ("ids.offset", offset), ("ids.kind", kind)];
        let more = [("ids.detail", "it ends early"), ("ids.label", "DoS"), ("mine", "kept")];
        let headers = fields
            .iter()
            .chain(&more)
            .fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: Some(*value) }));
        let record = BaseRecord::<str, str>::to("demo.dlq").key("k").payload(value).headers(headers);
        producer.send(record).map_err(|(error, _)| error).expect("queues");
    }
    producer.flush(Duration::from_secs(30)).expect("flushes");

    let arguments_of =
        |arguments: &[&'static str]| [&["dlq"], arguments, &["--bootstrap-servers", servers.as_str()]].concat();
    let dlq = |arguments: &[&'static str]| succeed("ids", &arguments_of(arguments));
    let counted = dlq(&["count"]);
    let words: Vec<_> = counted.split_whitespace().collect();
    assert_eq!(words, ["empty", "1", "truncated", "2", "all", "3"]);
    let listed = dlq(&["list", "--kind", "truncated"]);
    assert!(listed.contains("demo/0/1  truncated  it ends early  {\\\"dur\\\":"), "{listed}");
    assert_eq!(listed.lines().count(), 2);
    assert_eq!(dlq(&["replay", "--kind", "truncated"]), "2 records sent to demo\n");

    let mut again = Vec::new();
    read_all(&kafka.connection(), "demo", |message| again.push(message.detach())).expect("reads");
    assert_eq!(again.len(), 2);
    for message in &again {
        let names: Vec<_> = message.headers().expect("headers").iter().map(|header| header.key).collect();
        assert_eq!((message.key(), names.as_slice()), (Some(&b"k"[..]), &["ids.label", "mine"][..]));
    }

    // One that was cut stays, and is named.
    let cut = OwnedHeaders::new().insert(Header { key: "ids.cut_from_bytes", value: Some("600000") });
    let cut = cut.insert(Header { key: "ids.kind", value: Some("truncated") });
    let record = BaseRecord::<str, str>::to("demo.dlq").payload("{").headers(cut);
    producer.send(record).map_err(|(error, _)| error).expect("queues");
    producer.flush(Duration::from_secs(30)).expect("flushes");
    let output = run("ids", &arguments_of(&["replay", "--kind", "truncated"]));
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out == "2 records sent to demo\n", "{out}{error}");
    assert!(error.contains("left out: 1"), "{error}");
}

#[test]
fn the_settings_in_force_are_shown_without_secrets() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("detector.toml");
    std::fs::write(&file, "topic = \"flows\"\nclass-threshold = [\"DoS=0.8\"]\n").expect("writes");
    let config = file.to_str().expect("a path");
    let arguments = ["--config", config, "--group-id", "mine", "--kafka", "sasl.password=s3cret", "--print-config"];
    let shown = succeed("detector", &arguments);
    for expected in ["topic = \"flows\"", "group-id = \"mine\"", "DoS=0.8", "delivery = \"at-least-once\"", "not shown"]
    {
        assert!(shown.contains(expected), "{expected} in {shown}");
    }
    assert!(!shown.contains("s3cret"), "{shown}");
    std::fs::write(&file, "golden-rows = \"flows.csv\"\n").expect("writes");
    let refused = fail("detector", &["--config", config]);
    assert!(refused.contains("golden-verdicts"), "{refused}");
    // It is a configuration file itself.
    std::fs::write(&file, shown.replace("kafka = [\"sasl.password=(not shown)\"]\n", "")).expect("writes");
    succeed("detector", &["--config", config, "--print-config"]);
}
