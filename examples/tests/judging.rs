//! `ids train`, `evaluate`, `threshold` and `lint`, as their users run them.

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{FLOWS, SMALL, fail, repository, run, succeed};
use serde_json::Value;

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

    // The model knows which rows it has not learnt, and other rows are not taken for them in silence.
    assert!(succeed("ids", &["inspect", &model]).contains("held out rows by --split hash --test-share 0.3 --seed 1"));
    let evaluate = |model: &str, more: &[&str]| {
        succeed("ids", &[&["evaluate", "--model", model, "--input", FLOWS], more].concat())
    };
    assert!(!evaluate(&model, &split).contains("beware"));
    assert!(
        !evaluate(&model, &[&split[..], &["--test-share", "0.2"]].concat()).contains("beware"),
        "fewer of the same"
    );
    assert!(!evaluate(&whole, &[]).contains("beware"), "another file, for all that is known");
    assert!(!evaluate(SMALL, &split).contains("beware"), "nobody knows what Spark has held out");
    for (model, asked) in [(&model, &[][..]), (&model, &["--split", "hash", "--seed", "2"]), (&whole, &split)] {
        let text = evaluate(model, asked);
        assert!(text.contains("it has learnt some of these rows"), "{asked:?} {text}");
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    }
    let (html, json) = (file("report.html"), file("report.json"));
    let versus = [&split[..], &["--versus", &whole, "--html", &html, "--json", &json]].concat();
    evaluate(&model, &versus);
    let page = std::fs::read_to_string(html).expect("a page");
    assert!(
        page.contains("<b>Beware:</b> model") && page.contains("does not say that it held out any"),
        "the other model"
    );
    let report: Value = serde_json::from_slice(&std::fs::read(json).expect("a report")).expect("JSON");
    assert_eq!(report["cautions"].as_array().map(Vec::len), Some(1), "{report}");
    let arguments = ["--input", FLOWS, "--budget", "100/day", "--flows-per-day", "10000", "--out", &again];
    let done = run("ids", &[&["threshold", "--model", &model], &arguments[..]].concat());
    assert!(done.status.success() && String::from_utf8_lossy(&done.stderr).contains("beware: model"), "{done:?}");
}

#[test]
fn evaluate_trains_on_one_data_set_and_tests_on_another() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str| directory.path().join(name).to_str().expect("a path").to_owned();
    let (learnt, tested, other, json) =
        (file("learnt.csv"), file("tested.csv"), file("other.csv"), file("report.json"));
    let text = std::fs::read_to_string(repository().join(FLOWS)).expect("flows");
    let (header, rows) = text.split_once('\n').expect("a header");
    // An input, and what is none.
    let gone = ["sload", "id"].map(|gone| header.split(',').position(|name| name == gone).expect("a column"));
    let without = |line: &str| {
        let fields = line.split(',').enumerate().filter(|(at, _)| !gone.contains(at));
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

    // Beside the model as it was: the same predictions, fewer alerts.
    let compared = succeed("ids", &["evaluate", "--model", &out, "--versus", SMALL, "--input", FLOWS]);
    let line = |figure: &str| {
        let line = compared.lines().find_map(|line| line.trim().strip_prefix(figure)).expect(figure);
        let values: Vec<f64> = line.split_whitespace().take(3).map(|x| x.parse().expect("a number")).collect();
        values
    };
    assert_eq!(line("attack recall")[2], 0.0);
    assert!(compared.contains("their thresholds for alerts may differ"), "{compared}");
    let (attacks, benign) = (line("attacks alerted"), line("benign alerted"));
    assert!((attacks[0] - recall("after")).abs() < 1e-4 && (attacks[1] - recall("before")).abs() < 1e-4, "{compared}");
    assert!(benign[0] < benign[1] && benign[2] < 0.0, "{compared}");

    // Three parts of one file: of those held out, thresholds are chosen on the ones that a smaller test spares.
    let parts = |more: &[&str]| {
        let fixed = ["--split", "hash", "--budget", "2000/day", "--flows-per-day", "100000", "--json", &json];
        run("ids", &[&["threshold", "--model", SMALL, "--input", FLOWS, "--out", &out], &fixed[..], more].concat())
    };
    let benign_rows = |more: &[&str]| {
        let done = parts(more);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let says_where =
            String::from_utf8_lossy(&done.stdout).contains("ids evaluate --split hash --test-share 0.2 --seed 0");
        assert_eq!(says_where, more.contains(&"--spare"));
        let budgeted: Value = serde_json::from_slice(&std::fs::read(&json).expect("figures")).expect("JSON");
        budgeted["benign_rows"].as_u64().expect("a number")
    };
    let [all, large, small] =
        [&["--test-share", "0.5"][..], &["--test-share", "0.5", "--spare", "0.2"], &["--test-share", "0.2"]]
            .map(benign_rows);
    assert!(large + small == all && small > 500, "{all} {large} {small}");
    let refused = parts(&["--test-share", "0.2", "--spare", "0.2"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no rows are left"), "{refused:?}");

    let message = fail(
        "ids",
        &["threshold", "--model", SMALL, "--input", FLOWS, "--out", &out, "--budget", "20", "--flows-per-day", "1"],
    );
    assert!(message.contains("such as 20/day"), "{message}");
}
