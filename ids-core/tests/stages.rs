//! Every saved model and stage in `testdata/spark`, of every version of Spark there, gives what that Spark
//! returned for hard rows: each double by bits, each vector in its form, each error and dropped row.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::golden::{Golden, golden_of, golden_rows, is_double, rows, vector};
use common::{hexadecimal_double, repository};
use ids_core::forest::reference;
use ids_core::import::spark;
use ids_core::pipeline::{Cell, Pipeline};
use ids_core::{Predictor, Scorer, SparkModel};
use serde_json::Value;

fn spark_data() -> PathBuf {
    repository().join("testdata/spark")
}

/// The versions of Spark that saved fixtures.
fn versions() -> Vec<String> {
    let entries = fs::read_dir(spark_data()).expect("fixtures");
    let names = entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned());
    let mut versions: Vec<_> = names.filter(|name| name.starts_with(|c: char| c.is_ascii_digit())).collect();
    versions.sort();
    assert!(versions.len() >= 2, "{versions:?}");
    versions
}

/// What Spark gave, in words that our own cells have too.
fn expected(cell: &Value) -> String {
    match cell {
        Value::Null => "missing".into(),
        Value::String(text) if is_double(text) => in_bits(hexadecimal_double(text)),
        Value::String(text) => format!("{text:?}"),
        Value::Bool(flag) => in_bits(f64::from(u8::from(*flag))),
        Value::Number(number) => in_bits(number.as_f64().expect("a number")),
        cell => {
            let vector = vector(cell).expect("a vector");
            found(Cell::Vector { entries: vector.values(), stored: vector.stored() })
        }
    }
}

fn found(cell: Cell<'_>) -> String {
    match cell {
        Cell::Missing => "missing".into(),
        Cell::Number(x) => in_bits(x),
        Cell::Text(text) => format!("{text:?}"),
        Cell::Vector { entries, stored } => {
            let entries: Vec<_> = entries.iter().map(|&x| in_bits(x)).collect();
            format!("{} stored {stored:?}", entries.join(" "))
        }
    }
}

/// Java does not say which NaN it gives.
fn in_bits(x: f64) -> String {
    if x.is_nan() { "NaN".into() } else { format!("{x:?}={:016x}", x.to_bits()) }
}

/// Compares all that the model computes of the golden's rows with the golden; says how many cells it were.
fn assert_equals(case: &str, model: &SparkModel, golden: &[Golden]) -> usize {
    let rows = rows(case, golden);
    let pipeline = Pipeline::new(model.stages.clone(), rows.fields()).unwrap_or_else(|error| panic!("{case}: {error}"));
    let mut scratch = pipeline.scratch();
    let mut n_cells = 0;
    for (index, (row, cells)) in rows.iter().zip(golden).enumerate() {
        let made = pipeline.transform(row, &mut scratch).unwrap_or_else(|fault| panic!("{case}, row {index}: {fault}"));
        for output in pipeline.outputs() {
            // Of an RFormula, the columns in between are dropped.
            if let Some(cell) = cells.get(output.name()) {
                assert_eq!(found(made.get(output)), expected(cell), "{case}, row {index}, column {}", output.name());
                n_cells += 1;
            }
        }
    }
    let Some(saved) = &model.forest else { return n_cells };
    let predictor = Arc::new(Predictor::new(model, rows.fields()).expect("binds"));
    let mut scorer = Scorer::new(Arc::clone(&predictor));
    let scored: Vec<_> = {
        let scored = scorer.score(&rows);
        let own = |score: ids_core::Score<'_>| (score.raw.to_vec(), score.probabilities.to_vec(), score.prediction);
        scored.iter().map(|score| own(score.expect("a score"))).collect()
    };
    let features = scorer.features(&rows).to_vec();
    for (index, ((raw, probabilities, prediction), cells)) in scored.iter().zip(golden).enumerate() {
        let mut assert_cell = |name: &Option<String>, cell: Cell<'_>, may_be_near: bool| {
            let Some(expected_cell) = name.as_ref().and_then(|name| cells.get(name)) else { return };
            n_cells += 1;
            if may_be_near && found(cell) != expected(expected_cell) {
                let (Cell::Vector { entries, .. }, Some(expected)) = (cell, vector(expected_cell)) else {
                    panic!("probabilities");
                };
                let near = |(a, b): (&f64, &f64)| (a - b).abs() <= ids_core::verify::PROBABILITY_BOUND;
                assert!(entries.iter().zip(expected.values()).all(near), "{case}, row {index}, probability");
                return;
            }
            assert_eq!(found(cell), expected(expected_cell), "{case}, row {index}, column {name:?}");
        };
        let columns = &saved.columns;
        let is_boosted = case.starts_with("gbt");
        assert_cell(&columns.raw_prediction, Cell::Vector { entries: raw, stored: None }, false);
        assert_cell(&columns.probability, Cell::Vector { entries: probabilities, stored: None }, is_boosted);
        assert_cell(&columns.prediction, Cell::Number(*prediction), false);
        let x = &features[index * saved.forest.n_features()..][..saved.forest.n_features()];
        let leaves: Vec<_> = reference::leaf_positions(&saved.forest, x).into_iter().map(|leaf| leaf as f64).collect();
        assert_cell(&columns.leaf, Cell::Vector { entries: &leaves, stored: None }, false);
    }
    n_cells
}

/// Cases that are refused, with what the refusal says.
fn refusal(case: &str) -> Option<&'static str> {
    Some(match case {
        "st_ohe_stateless" => "feature.OneHotEncoder",
        "st_pca" => "PCAModel",
        "st_sqlt" => "SQLTransformer",
        "st_hasher" => "FeatureHasher",
        "st_poly" => "PolynomialExpansion",
        "st_targetenc" => "TargetEncoderModel",
        _ => return None,
    })
}

/// Per stage or model: per version of Spark, what was found.
type Table = BTreeMap<String, BTreeMap<String, &'static str>>;

/// The classes of what is saved in `path`.
fn classes(path: &Path, model: Option<&SparkModel>) -> Vec<String> {
    let short = |class: &str| class.rsplit('.').next().unwrap_or(class).to_owned();
    let Some(model) = model else {
        let metadata = fs::read_dir(path.join("metadata")).expect("metadata").next().expect("a part").expect("a part");
        let json: Value = serde_json::from_str(&fs::read_to_string(metadata.path()).expect("text")).expect("JSON");
        return vec![short(json["class"].as_str().expect("a class"))];
    };
    model.stage_classes.iter().map(|(_, class)| short(class)).collect()
}

#[test]
fn all_that_spark_saved_gives_what_spark_gave() {
    let versions = versions();
    let mut table = Table::new();
    for version in &versions {
        let directory = spark_data().join(version);
        let mut n_cells = BTreeMap::new();
        let entries = fs::read_dir(&directory).expect("fixtures").map(|entry| entry.expect("entry").path());
        for path in entries.filter(|path| path.join("metadata").is_dir()) {
            let case = path.file_name().expect("a name").to_string_lossy().into_owned();
            let what = format!("{version}/{case}");
            let mut note = |model: Option<&SparkModel>, finding| {
                // Which of a pipeline's stages Spark 2 computes otherwise, its golden does not say.
                let finding = if case.starts_with("st_") || finding != "bits of 3" { finding } else { "bits" };
                for class in classes(&path, model) {
                    let cell = table.entry(class).or_default().entry(version.clone()).or_insert(finding);
                    if *cell != "bits of 3" {
                        *cell = finding;
                    }
                }
            };
            if let Some(reason) = refusal(&case) {
                let message = spark::read(&path).expect_err(&what).to_string();
                assert!(message.contains("not supported") && message.contains(reason), "{what}: {message}");
                note(None, "refused");
                continue;
            }
            let model = spark::read(&path).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(model.spark_version, *version, "{what}");
            let golden = directory.join(format!("{}.golden.jsonl", golden_of(&case)));
            if !golden.is_file() {
                continue;
            }
            // Spark 2 computed otherwise in its scalers: what is said here is what Spark 3 says with its models.
            let by_spark_3 = directory.join(format!("{case}.by-3.5.9.golden.jsonl"));
            let is_boosted = case.starts_with("gbt");
            let (golden, finding) = if is_boosted || !by_spark_3.is_file() {
                (golden, if is_boosted { "mode" } else { "bits" })
            } else {
                (by_spark_3, "bits of 3")
            };
            n_cells.insert(case.clone(), assert_equals(&case, &model, &golden_rows(&golden)));
            note(Some(&model), finding);
        }
        assert!(n_cells.values().all(|&n| n > 0), "{version}: nothing was compared: {n_cells:?}");
        let total: usize = n_cells.values().sum();
        println!("Spark {version}: {} models and stages, {total} cells", n_cells.len());
        assert!(n_cells.len() >= 40 && total > 5_000, "{version}: {n_cells:?}");
    }
    assert_documented(&versions, &table);
}

/// The table in `docs/compatibility.md` is the one that this test finds; `IDS_UPDATE=1` writes it anew.
fn assert_documented(versions: &[String], table: &Table) {
    let mut text = format!("| stage or model | {} |\n|---|", versions.join(" | "));
    text.push_str(&"---|".repeat(versions.len()));
    for (class, found) in table {
        let cells: Vec<_> = versions.iter().map(|version| found.get(version).copied().unwrap_or("")).collect();
        text.push_str(&format!("\n| {class} | {} |", cells.join(" | ")));
    }
    let path = repository().join("docs/compatibility.md");
    let document = fs::read_to_string(&path).expect("the document");
    let (start, end) = ("<!-- table -->\n", "\n<!-- end of table -->");
    let (before, rest) = document.split_once(start).expect("a table");
    let (documented, after) = rest.split_once(end).expect("the end of the table");
    if std::env::var_os("IDS_UPDATE").is_some() {
        fs::write(&path, format!("{before}{start}{text}{end}{after}")).expect("writes");
    } else {
        assert_eq!(documented, text, "docs/compatibility.md is not what was found; IDS_UPDATE=1 writes it");
    }
}
