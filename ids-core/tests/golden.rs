//! The committed models score as Spark itself did (`testdata/spark_golden.py`): every raw vote,
//! probability and prediction by bits, and Spark's own metrics.
//!
//! The synthetic flows are always compared; the real ones where they are there.

mod common;

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use common::{bits_of, real_flows, repository};
use ids_core::decode::Read;
use ids_core::{ConfusionMatrix, FlowReader, FlowRecords, Model, Quality};
use serde_json::Value;
use sha2::{Digest, Sha256};

const MODELS: [&str; 2] = ["unsw-nb15", "unsw-nb15-small"];

/// What scoring a file gave: hashes of all doubles in row order, and the metrics.
struct Outcome {
    rows: u64,
    /// SHA-256 of rawPrediction, probability and prediction, little-endian.
    digests: [String; 3],
    quality: Quality,
}

/// Scores `flows` with `model`; `check` sees the doubles of every row.
fn score(model: &Arc<Model>, flows: &Path, mut check: impl FnMut(usize, &[f64], &[f64], usize)) -> Outcome {
    let input = BufReader::new(File::open(flows).expect("flows"));
    let mut reader = FlowReader::new(input, flows, Arc::clone(model.schema()), model.inputs()).expect("opens");
    let mut records = FlowRecords::new(Arc::clone(model.schema()));
    let mut scorer = model.scorer();
    let mut matrix = ConfusionMatrix::new(model.classes(), model.benign());
    let mut hashes = [Sha256::new(), Sha256::new(), Sha256::new()];
    let mut rows = 0;
    loop {
        records.clear();
        while records.len() < 1_000 {
            match reader.read(&mut records).expect("reads") {
                Read::Flow => {}
                Read::Bad(error) => panic!("{error}"),
                Read::End => break,
            }
        }
        if records.is_empty() {
            let digests = hashes.map(|hash| hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
            return Outcome { rows, digests, quality: matrix.quality() };
        }
        let scored = scorer.score(&records);
        for (flow, score) in records.iter().zip(scored.iter()) {
            let score = score.expect("scores");
            check(rows as usize, score.raw, score.probabilities, score.class());
            for (hash, doubles) in hashes.iter_mut().zip([score.raw, score.probabilities, &[score.prediction]]) {
                doubles.iter().for_each(|double| hash.update(double.to_le_bytes()));
            }
            assert!(matrix.count(flow.label().expect("a label"), score.class()));
            rows += 1;
        }
    }
}

fn assert_equals_spark(outcome: &Outcome, golden: &Value, what: &str) {
    assert_eq!(golden["rows"].as_u64(), Some(outcome.rows), "{what}");
    for (name, digest) in ["raw_prediction", "probability", "prediction"].iter().zip(&outcome.digests) {
        assert_eq!(golden["sha256"][name].as_str(), Some(digest.as_str()), "{name} of {what}");
    }
    // Spark adds in another order, so its means may differ in the last digits.
    let close = |found: f64, expected: &Value| (found - expected.as_f64().expect("a figure")).abs() < 1e-12;
    let (quality, metrics) = (&outcome.quality, &golden["metrics"]);
    assert!(close(quality.accuracy, &metrics["accuracy"]), "accuracy of {what}");
    assert!(close(quality.macro_f1, &metrics["macro_f1"]), "macro-F1 of {what}");
    assert!(close(quality.false_alarm_rate, &metrics["false_alarm_rate"]), "false alarms of {what}");
    for (class, expected) in quality.classes.iter().zip(metrics["per_class"].as_array().expect("classes")) {
        assert_eq!(expected["class"], class.class.as_str());
        assert_eq!(expected["support"].as_u64(), Some(class.support));
        for (figure, name) in [(class.precision, "precision"), (class.recall, "recall"), (class.f1, "f1")] {
            assert!(close(figure, &expected[name]), "{name} of {} of {what}", class.class);
        }
    }
    assert_eq!(serde_json::to_value(&quality.confusion).expect("a matrix"), metrics["confusion"], "{what}");
}

fn golden(name: &str) -> Value {
    let path = repository().join("testdata/golden").join(name);
    serde_json::from_str(&fs::read_to_string(path).expect("golden")).expect("JSON")
}

fn model(name: &str) -> Arc<Model> {
    Arc::new(Model::load(repository().join("models").join(name)).expect("loads"))
}

#[test]
fn synthetic_flows_score_as_in_spark() {
    let bits = |cells: &Value| -> Vec<u64> {
        let cells = cells.as_array().expect("doubles").iter();
        cells.map(|cell| u64::from_str_radix(cell.as_str().expect("hex"), 16).expect("hex")).collect()
    };
    for name in MODELS {
        let text = fs::read_to_string(repository().join(format!("testdata/golden/{name}.synthetic.jsonl")));
        let text = text.expect("golden rows");
        let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let outcome = score(
            &model(name),
            &repository().join("testdata/synthetic-unsw-nb15.csv"),
            |row, raw, probabilities, class| {
                // A hash says that a double differs; these rows say which.
                if let Some(expected) = rows.get(row) {
                    assert_eq!(bits_of(raw), bits(&expected["raw"]), "rawPrediction of row {row}, {name}");
                    assert_eq!(
                        bits_of(probabilities),
                        bits(&expected["probability"]),
                        "probability of row {row}, {name}"
                    );
                    assert_eq!(Some(class as f64), expected["prediction"].as_f64(), "prediction of row {row}, {name}");
                }
            },
        );
        assert!(rows.len() >= 500);
        assert_equals_spark(&outcome, &golden(&format!("{name}.synthetic.json")), name);
    }
}

/// A demo on flows that the model takes for something else would show nothing.
#[test]
fn synthetic_flows_are_as_hard_as_real_ones() {
    let metrics = fs::read_to_string(repository().join("models/unsw-nb15.metrics.json")).expect("metrics");
    let metrics: Value = serde_json::from_str(&metrics).expect("JSON");
    let held_out = metrics["test"]["macro_f1"].as_f64().expect("macro-F1 on the test part");
    let synthetic = golden("unsw-nb15.synthetic.json")["metrics"]["macro_f1"].as_f64().expect("macro-F1");
    assert!((held_out - synthetic).abs() <= 0.1, "held out {held_out}, synthetic {synthetic}");
}

#[test]
fn real_flows_score_as_in_spark() {
    let Some(flows) = real_flows() else {
        eprintln!("SKIPPED: no real flows (set IDS_DATA to the directory that holds unsw-nb15/flows.csv)");
        return;
    };
    for name in MODELS {
        let outcome = score(&model(name), &flows, |_, _, _, _| {});
        assert_equals_spark(&outcome, &golden(&format!("{name}.real.json")), name);
    }
}

/// A model file gives the same scores as the directory it was made from.
#[test]
fn an_imported_model_scores_the_same() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("model.ids");
    let model = model("unsw-nb15");
    model.save(&path).expect("saves");
    let flows = repository().join("testdata/synthetic-unsw-nb15.csv");
    let imported = Arc::new(Model::load(&path).expect("loads"));
    assert_eq!(imported.version(), model.version());
    let outcome = score(&imported, &flows, |_, _, _, _| {});
    assert_equals_spark(&outcome, &golden("unsw-nb15.synthetic.json"), "the imported model");
}
