//! The programs as their users run them.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use ids_kafka::read::read_all;
use ids_kafka::{EmbeddedKafka, Topics};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let path = match program {
        "ids" => env!("CARGO_BIN_EXE_ids"),
        "demo" => env!("CARGO_BIN_EXE_demo"),
        "producer" => env!("CARGO_BIN_EXE_producer"),
        "detector" => env!("CARGO_BIN_EXE_detector"),
        other => panic!("no program {other}"),
    };
    Command::new(path).args(arguments).current_dir(repository()).output().expect("runs")
}

fn succeed(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn fail(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    assert!(!output.status.success(), "{program} {arguments:?} succeeded");
    String::from_utf8(output.stderr).expect("UTF-8")
}

const SMALL: &str = "models/unsw-nb15-small";
const FLOWS: &str = "testdata/synthetic-unsw-nb15.csv";

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
fn evaluate_prints_what_it_writes_and_import_changes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str| directory.path().join(name).to_str().expect("a path").to_owned();
    let (model, json) = (file("model.ids"), file("quality.json"));
    let imported = succeed("ids", &["import", SMALL, &model]);
    assert!(imported.contains("50 trees"), "{imported}");
    let of_directory = succeed("ids", &["evaluate", "--model", SMALL, "--input", FLOWS]);
    let of_file = succeed("ids", &["evaluate", "--model", &model, "--input", FLOWS, "--json", &json]);
    assert_eq!(of_directory, of_file);
    let quality: Value = serde_json::from_str(&std::fs::read_to_string(json).expect("figures")).expect("JSON");
    let accuracy = format!("{:.2} %", 100.0 * quality["accuracy"].as_f64().expect("a figure"));
    assert!(of_file.contains(&accuracy), "{accuracy} in {of_file}");
    assert_eq!(quality["rows"], 9_000);
}

/// The figures at its end are those of the model that it wrote, on the rows it held out.
#[test]
fn train_writes_a_model_and_says_how_good_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str| directory.path().join(name).to_str().expect("a path").to_owned();
    let train = |out: &str, more: &[&str]| {
        let fixed = ["train", "--input", FLOWS, "--out", out, "--trees", "8", "--depth", "8"];
        succeed("ids", &[&fixed[..], more].concat())
    };
    let (model, again, whole) = (file("model.ids"), file("again.ids"), file("whole.ids"));
    let split = ["--split", "hash", "--seed", "1"];
    let text = train(&model, &split);
    for expected in
        ["schema unsw-nb15", "rows to train on", "trains    8 trees", "that it has not seen", "macro average"]
    {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    train(&again, &[&split[..], &["--threads", "1"]].concat());
    assert!(std::fs::read(&model).expect("a model") == std::fs::read(&again).expect("a model"), "the same seed");
    assert!(train(&whole, &[]).contains("no row is held out"));
    let text = succeed("ids", &["inspect", &whole]);
    for expected in ["trained     by ids ", "on 9000 rows", "depth 8", "seed 0", "42 features"] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    let quality = succeed("ids", &["evaluate", "--model", &whole, "--input", FLOWS]);
    let accuracy =
        quality.lines().find_map(|line| line.strip_prefix("accuracy")?.split('%').next()?.trim().parse().ok());
    assert!(accuracy.is_some_and(|accuracy: f64| accuracy > 75.0), "what it has learnt it knows: {quality}");
}

#[test]
fn evaluate_trains_on_one_data_set_and_tests_on_another() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str| directory.path().join(name).to_str().expect("a path").to_owned();
    let (learnt, tested, other, json) =
        (file("learnt.csv"), file("tested.csv"), file("other.csv"), file("report.json"));
    let text = std::fs::read_to_string(repository().join(FLOWS)).expect("flows");
    let (header, rows) = text.split_once('\n').expect("a header");
    let place = header.split(',').position(|name| name == "sload").expect("a column");
    let without = |line: &str| {
        let fields = line.split(',').enumerate().filter(|(at, _)| *at != place);
        fields.map(|(_, field)| field).collect::<Vec<_>>().join(",")
    };
    let rows: Vec<_> = rows.lines().collect();
    let (first, second) = rows.split_at(6_000);
    std::fs::write(&learnt, [&[header], first].concat().join("\n")).expect("writes");
    let second: Vec<_> = std::iter::once(header).chain(second.iter().copied()).map(without).collect();
    std::fs::write(&tested, second.join("\n")).expect("writes");
    std::fs::write(&other, format!("{}normal\n", "0,".repeat(41))).expect("writes");

    let arguments =
        ["evaluate", "--train", &learnt, "--test", &tested, "--trees", "8", "--depth", "8", "--json", &json];
    let output = run("ids", &arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("does not have `sload`: no input"), "{said}");
    assert!(said.contains("on 6000 rows") && said.contains("41 inputs"), "{said}");
    let report: Value = serde_json::from_slice(&std::fs::read(&json).expect("a report")).expect("JSON");
    assert_eq!(report["rows"], 3_000);
    assert!(report["accuracy"].as_f64().is_some_and(|accuracy| accuracy > 0.7), "{report}");
    let message = fail("ids", &["evaluate", "--train", &learnt, "--test", &other]);
    assert!(message.contains("of schema `unsw-nb15`") && message.contains("of `nsl-kdd`"), "{message}");
    assert!(fail("ids", &["evaluate", "--input", FLOWS]).contains("--model"));
}

/// Whoever is interrupted leaves the model that was there.
#[test]
fn train_leaves_no_half_model() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("model.ids");
    std::fs::write(&path, "another").expect("writes");
    let out = path.to_str().expect("a path");
    let long = ["train", "--input", FLOWS, "--out", out, "--trees", "10000", "--depth", "30"];
    let mut training = Command::new(env!("CARGO_BIN_EXE_ids"))
        .args(long)
        .current_dir(repository())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("runs");
    let lines = BufReader::new(training.stdout.take().expect("piped")).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.starts_with("trains ")));
    training.kill().expect("is there");
    assert!(!training.wait().expect("ends").success());
    for (input, expected) in [("nowhere.csv", "nowhere.csv"), ("-", "standard input"), ("Cargo.toml", "schema")] {
        let message = fail("ids", &["train", "--input", input, "--out", out]);
        assert!(message.contains(expected), "{message}");
    }
    let message = fail("ids", &["train", "--input", FLOWS, "--out", out, "--depth", "31"]);
    assert!(message.contains("depth is 31, not 1 to 30"), "{message}");
    assert_eq!(std::fs::read_to_string(&path).expect("reads"), "another");
    assert_eq!(std::fs::read_dir(directory.path()).expect("lists").count(), 1);
}

/// The exit code is 1 for what is denied, and 2 where nothing could be read.
#[test]
fn lint_finds_a_leak_and_can_deny_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let (leaking, json) = (directory.path().join("leaking.csv"), directory.path().join("lint.json"));
    let text = std::fs::read_to_string(repository().join(FLOWS)).expect("flows");
    // The duration becomes the label.
    let leak = |line: &str| {
        let mut fields: Vec<_> = line.split(',').collect();
        fields[1] = fields[44];
        fields.join(",")
    };
    let mut lines = text.lines();
    let header = lines.next().expect("a header").to_owned();
    let leaked: Vec<_> = std::iter::once(header).chain(lines.map(leak)).collect();
    std::fs::write(&leaking, leaked.join("\n")).expect("writes");
    let (leaking, json) = (leaking.to_string_lossy().into_owned(), json.to_string_lossy().into_owned());
    let lint = |file: &str, more: &[&str]| {
        let output = run("ids", &[&["lint", file][..], more].concat());
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, text) = lint(&leaking, &["--json", &json]);
    assert!(
        code == Some(0) && text.contains("`dur` alone decides the label: balanced accuracy 1.00"),
        "{code:?} {text}"
    );
    let found: Value = serde_json::from_slice(&std::fs::read(&json).expect("findings")).expect("JSON");
    let first = &found["findings"][0];
    assert_eq!((first["severity"].as_str(), found["rows"].as_u64()), (Some("severe"), Some(9_000)));
    assert_eq!(lint(&leaking, &["--deny"]).0, Some(1));
    let (code, text) = lint(FLOWS, &["--deny", "severe"]);
    assert!(!text.contains("`dur` alone"), "{code:?} {text}");
    assert_eq!(lint("nowhere.csv", &["--deny"]).0, Some(2));
}

/// The flows, of which rows with an odd number have a class that no model knows.
fn flows_of_unknown_classes(directory: &Path) -> String {
    let text = std::fs::read_to_string(repository().join(FLOWS)).expect("flows");
    let lines = text.lines().take(401).enumerate().map(|(row, line)| match row {
        0 => line.to_owned(),
        _ if row % 2 == 1 => line.replace(",Normal,", ",Zero-day,"),
        _ => line.to_owned(),
    });
    let path = directory.join("flows.csv");
    std::fs::write(&path, lines.collect::<Vec<_>>().join("\n")).expect("writes");
    path.to_str().expect("a path").to_owned()
}

#[test]
fn evaluate_splits_compares_and_names_what_no_model_knows() {
    let directory = tempfile::tempdir().expect("a directory");
    let json = directory.path().join("report.json");
    let json = json.to_str().expect("a path");
    let report_of = |arguments: &[&str]| {
        let text = succeed("ids", &[&["evaluate", "--model", SMALL, "--json", json, "--input"], arguments].concat());
        let report: Value = serde_json::from_slice(&std::fs::read(json).expect("a report")).expect("JSON");
        (text, report)
    };
    let split = ["--split", "hash", "--test-share", "0.25", "--seed", "3"];
    let (text, report) = report_of(&[&[FLOWS, "--versus", "models/unsw-nb15"], &split[..]].concat());
    let input = &report["input"];
    let side = |name: &str| input["split"][name].as_u64().expect(name);
    assert_eq!(side("train") + side("test"), 9_000);
    assert_eq!((side("test"), side("repeated")), (report["rows"].as_u64().expect("rows"), 0));
    assert!((2_000..2_500).contains(&side("test")), "{report}");
    assert!(text.contains("on the test side: by a hash of all features, share 0.25, seed 3"), "{text}");
    let differences = report["comparison"]["differences"].as_array().expect("differences");
    let macro_f1 = &differences[0];
    assert_eq!(macro_f1["figure"], "macro_f1");
    // The larger model is the better one, beyond chance.
    assert!(macro_f1["difference"]["high"].as_f64().is_some_and(|high| high < 0.0), "{macro_f1}");
    assert!(report["comparison"]["mcnemar"]["p_value"].as_f64().is_some_and(|p| p < 1e-3), "{report}");
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    // The same seed gives the same report.
    assert_eq!(report_of(&[&[FLOWS, "--versus", "models/unsw-nb15"], &split[..]].concat()).0, text);

    let unknown = flows_of_unknown_classes(directory.path());
    let (text, report) = report_of(&[&unknown, "--base-rate", "0.001", "--flows-per-day", "1000000"]);
    let zero_day = &report["unknown_classes"][0];
    let n = zero_day["rows"].as_u64().expect("rows");
    assert!(zero_day["class"] == "Zero-day" && n > 50, "{report}");
    assert_eq!(report["rows"].as_u64(), Some(400 - n));
    assert!(text.contains("of classes that the model was not taught") && text.contains("  Zero-day"), "{text}");
    let asked = &report["alarms"]["asked"];
    let number = |pointer: &str| asked.pointer(pointer).and_then(Value::as_f64).expect(pointer);
    let alarms = number("/true_alarms_per_day/value") + number("/false_alarms_per_day/value");
    assert!((number("/precision/value") - number("/true_alarms_per_day/value") / alarms).abs() < 1e-12, "{asked}");
    assert!(number("/precision/low") <= number("/precision/value"), "{asked}");
}

#[test]
fn the_page_of_a_report_needs_nothing_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("report.html");
    let html = path.to_str().expect("a path");
    let flows = flows_of_unknown_classes(directory.path());
    let flows = std::fs::rename(&flows, directory.path().join("<b>.csv")).map(|()| directory.path().join("<b>.csv"));
    let flows = flows.expect("renames");
    let flows = flows.to_str().expect("a path");
    let text = succeed("ids", &["evaluate", "--model", SMALL, "--input", flows, "--html", html]);
    let page = std::fs::read_to_string(&path).expect("a page");
    assert_eq!((page.matches("<svg").count(), page.matches("</svg>").count()), (5, 5));
    for expected in ["Evaluation of model", "Reconnaissance", "Zero-day", "&#60;b&#62;.csv"] {
        assert!(page.contains(expected), "{expected}");
    }
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    for forbidden in ["<script", "http:", "https:", "@import", "url(", "<link", "<b>.csv"] {
        assert!(!outside.contains(forbidden), "{forbidden}");
    }
    let macro_f1 = text.lines().find(|line| line.starts_with("macro average")).expect("a line");
    assert!(page.contains(macro_f1.trim_end()), "the page has the text");
}

#[test]
fn thresholds_keep_a_budget_and_are_in_the_model() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str| directory.path().join(name).to_str().expect("a path").to_owned();
    let (out, json) = (file("alerting.ids"), file("budget.json"));
    let threshold = |more: &[&str]| {
        let arguments = ["threshold", "--model", SMALL, "--input", FLOWS, "--out", &out, "--json", &json];
        run("ids", &[&arguments[..], more].concat())
    };
    // 4,041 benign rows: too few for 20 alarms among a million, and enough for 2,000.
    let refused = threshold(&["--budget", "20/day", "--flows-per-day", "1000000"]);
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && message.contains("It takes 150,000 benign rows"), "{message}");
    assert!(!Path::new(&out).exists());
    let done = threshold(&["--budget", "2000/day", "--flows-per-day", "1000000"]);
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(text.contains("8 of the 4,041 benign validation rows may raise an alert"), "{text}");
    let budgeted: Value = serde_json::from_slice(&std::fs::read(&json).expect("figures")).expect("JSON");
    assert!(budgeted["false_alarms"].as_u64().is_some_and(|n| (5..=8).contains(&n)), "{budgeted}");
    let recall = |name: &str| budgeted["recall"][name]["value"].as_f64().expect(name);
    assert!(recall("after") > 0.5 && recall("after") < recall("before"), "{budgeted}");

    // The model says the same, and alerts by them.
    assert!(succeed("ids", &["inspect", &out]).contains("alert from 0."));
    let scored = |model: &str| succeed("ids", &["score", "--model", model, "--input", FLOWS]);
    assert!(scored(&out) == scored(SMALL), "verdicts are those of the model without thresholds");
    let report = file("report.json");
    let printed = succeed("ids", &["evaluate", "--model", &out, "--input", FLOWS, "--json", &report]);
    assert!(printed.contains("that reaches the model's alert threshold"), "{printed}");
    let report: Value = serde_json::from_slice(&std::fs::read(report).expect("a report")).expect("JSON");
    assert_eq!(report["alarms"]["false_alarms"], budgeted["false_alarms"]);
    assert_eq!(report["alarms"]["recall"]["value"], budgeted["recall"]["after"]["value"]);
    let message = fail(
        "ids",
        &["threshold", "--model", SMALL, "--input", FLOWS, "--out", &out, "--budget", "20", "--flows-per-day", "1"],
    );
    assert!(message.contains("such as 20/day"), "{message}");
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
