//! What Spark saved is read to the bit, and what cannot be is refused by name.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{bits_of, hexadecimal_double, repository};
use ids_core::{AlertPolicy, Error, FlowRecords, JsonDecoder, Model, Origin, Schema, Verdict};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The columns of the fixture: a schema as a user would describe it.
const FIXTURE_SCHEMA: &str = r#"
name = "fixture"
labels = { column = "label", benign = "normal" }
columns = [
    { name = "duration", kind = "number", unit = "s" },
    { name = "src_bytes", kind = "number", unit = "bytes" },
    { name = "dst_bytes", kind = "number", unit = "bytes", optional = true },
    { name = "cnt", kind = "number" },
    { name = "rate", kind = "number" },
    { name = "land", kind = "number" },
    { name = "const", kind = "number" },
    { name = "logged_in", kind = "number" },
    { name = "proto", kind = "category" },
    { name = "service", kind = "category" },
    { name = "flag", kind = "category" },
    { name = "label", kind = "label" },
]
"#;

fn fixture() -> PathBuf {
    repository().join("testdata/spark/3.5.9/pipeline_basic")
}

fn fixture_schema() -> Schema {
    Schema::from_toml(FIXTURE_SCHEMA).expect("a valid schema")
}

/// A golden cell as the JSON that a sensor would send.
fn as_json(cell: &Value) -> String {
    match cell {
        Value::Bool(flag) => u8::from(*flag).to_string(),
        Value::String(text) if text.contains("0x") || ["nan", "inf", "-inf"].contains(&text.as_str()) => {
            match hexadecimal_double(text) {
                x if x.is_nan() => "NaN".into(),
                x if x.is_infinite() => if x > 0.0 { "Infinity" } else { "-Infinity" }.into(),
                x => format!("{x:e}"),
            }
        }
        other => other.to_string(),
    }
}

#[test]
fn a_whole_pipeline_gives_sparks_doubles() {
    let model = Arc::new(Model::load_spark(fixture(), fixture_schema()).expect("loads"));
    assert_eq!(model.classes().as_ref(), ["normal", "dos", "probe"]);
    assert_eq!(model.inputs().len(), 10);
    let mut decoder = JsonDecoder::new(Arc::clone(model.schema()), model.inputs()).expect("a decoder");
    let mut scorer = model.scorer();
    let golden =
        fs::read_to_string(repository().join("testdata/spark/3.5.9/pipeline_basic.golden.jsonl")).expect("golden");
    let mut n_doubles = 0;
    for (line, row) in golden.lines().enumerate() {
        let row: Value = serde_json::from_str(row).expect("golden JSON");
        let fields: Vec<_> = model
            .schema()
            .columns()
            .iter()
            .filter_map(|column| Some(format!("\"{}\":{}", column.name, as_json(row.get(&column.name)?))))
            .collect();
        let mut records = FlowRecords::new(Arc::clone(model.schema()));
        decoder.decode(0, format!("{{{}}}", fields.join(",")).as_bytes(), &mut records).expect("decodes");
        let scored = scorer.score(&records);
        let score = scored.get(0).expect("scores");
        for (column, found) in [("rawPrediction", score.raw), ("probability", score.probabilities)] {
            let expected = row[column]["v"].as_array().expect("dense");
            let expected: Vec<_> =
                expected.iter().map(|x| hexadecimal_double(x.as_str().expect("hex")).to_bits()).collect();
            assert_eq!(bits_of(found), expected, "{column} of line {line}");
            n_doubles += expected.len();
        }
        assert_eq!(Value::from(model.classes()[score.class()].as_str()), row["predicted_label"], "line {line}");
    }
    assert!(n_doubles > 500, "{n_doubles} doubles compared");
}

#[test]
fn a_model_file_gives_the_same_model() {
    let model = Model::load_spark(fixture(), fixture_schema()).expect("loads");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("model.ids");
    model.save(&path).expect("saves");
    let again = Model::load(&path).expect("loads again");
    assert_eq!((again.version(), again.classes()), (model.version(), model.classes()));
    assert_eq!(again.predictor().pipeline().stages().len(), model.predictor().pipeline().stages().len());
    let copy = directory.path().join("copy.ids");
    again.save(&copy).expect("saves again");
    assert_eq!(fs::read(&path).expect("file"), fs::read(&copy).expect("copy"), "saving is deterministic");
    assert_eq!(fs::read_dir(directory.path()).expect("directory").count(), 2, "nothing partial is left");
}

/// A file of version 3 knows nothing of thresholds.
#[test]
fn a_model_file_of_version_3_is_read() {
    use ciborium::Value as Cbor;
    let model = Model::load_spark(fixture(), fixture_schema()).expect("loads");
    let bytes = model.to_bytes().expect("bytes");
    let mut body: Cbor = ciborium::from_reader(&bytes[20..bytes.len() - 32]).expect("CBOR");
    let fields = body.as_map_mut().expect("a map");
    fields.retain(|(name, _)| name.as_text() != Some("alerts"));
    let mut cbor = Vec::new();
    ciborium::into_writer(&body, &mut cbor).expect("CBOR");
    let mut old = [&b"IDSMODEL"[..], &3u32.to_le_bytes(), &(cbor.len() as u64).to_le_bytes(), &cbor].concat();
    let checksum = Sha256::digest(&old);
    old.extend_from_slice(&checksum);
    let read = Model::from_bytes(&old).expect("reads");
    assert_eq!(read.alerts(), &AlertPolicy::default());
    // It is the same model: written again, it is of the newest version.
    assert_eq!(read.to_bytes().expect("bytes"), bytes);
}

/// Thresholds decide which verdicts raise an alert, and nothing else.
#[test]
fn thresholds_change_no_score_and_no_version() {
    let model = Model::load(repository().join("models/unsw-nb15-small")).expect("loads");
    let by_class = [("DoS".to_owned(), 0.75), ("Worms".to_owned(), 1.0)].into_iter().collect();
    let alerts = AlertPolicy { threshold: 0.5, by_class };
    let bytes = model.clone().with_alerts(alerts.clone()).expect("a policy").to_bytes().expect("bytes");
    let with = Model::from_bytes(&bytes).expect("reads");
    assert_eq!((with.alerts(), with.version()), (&alerts, model.version()));
    let shown = with.to_string();
    assert!(shown.contains("DoS  threshold 1  alert from 0.75") && shown.contains("(benign)\n"), "{shown}");

    let path = repository().join("testdata/synthetic-unsw-nb15.csv");
    let input = std::io::BufReader::new(fs::File::open(&path).expect("flows"));
    let schema = Arc::clone(model.schema());
    let mut batches = ids_core::decode::FlowBatches::new(input, &path, schema, model.inputs()).expect("opens");
    let (own, plain) = (with.alerting(None).expect("binds"), model.alerting(None).expect("binds"));
    let overruled = with.alerting(Some(&AlertPolicy::default())).expect("binds");
    let (mut n_rows, mut n_alerts, mut n_plain) = (0, 0, 0);
    while let Some(batch) = batches.next_batch(1_024).expect("reads") {
        let (mut one, mut other) = (model.scorer(), with.scorer());
        let (one, other) = (one.score(batch.records), other.score(batch.records));
        for (one, other) in one.iter().zip(other.iter()) {
            let (one, other) = (one.expect("a score"), other.expect("a score"));
            let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!((one.class(), bits(one.raw)), (other.class(), bits(other.raw)));
            assert_eq!(bits(one.probabilities), bits(other.probabilities));
            let origin = Origin::of_file("flows", 1);
            let [one, other] = [Verdict::new(&model, origin, one), Verdict::new(&with, origin, other)];
            let json = |verdict: &Verdict<'_>| serde_json::to_string(verdict).expect("serialises");
            assert_eq!(json(&one), json(&other));
            assert_eq!(overruled.raises(&other), plain.raises(&one));
            let least = alerts.by_class.get(other.class).copied().unwrap_or(0.5);
            assert_eq!(own.raises(&other), other.attack && other.probability >= least);
            n_rows += 1;
            n_alerts += usize::from(own.raises(&other));
            n_plain += usize::from(plain.raises(&one));
        }
    }
    assert!(n_rows == 9_000 && 0 < n_alerts && n_alerts < n_plain, "{n_alerts} of {n_plain}");
}

#[test]
fn a_damaged_model_file_is_refused() {
    let model = Model::load_spark(fixture(), fixture_schema()).expect("loads");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("model.ids");
    model.save(&path).expect("saves");
    let good = fs::read(&path).expect("file");
    let refusal = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("writes");
        Model::load(&path).expect_err("refused").to_string()
    };
    assert!(refusal(b"").contains("not a model file"));
    assert!(refusal(&good[..10]).contains("truncated"));
    assert!(refusal(&good[..good.len() - 1]).contains("truncated"));
    assert!(refusal(&[&good[..], b"x"].concat()).contains("bytes follow"));
    let mut damaged = good.clone();
    damaged[good.len() / 2] ^= 1;
    assert!(refusal(&damaged).contains("checksum"));
    let of_version = |version: u8| {
        let mut bytes = good[..good.len() - 32].to_vec();
        bytes[8] = version;
        let checksum = Sha256::digest(&bytes);
        [&bytes[..], &checksum].concat()
    };
    for other in [2, 6] {
        assert!(refusal(&of_version(other)).contains(&format!("format version {other}")));
    }
    for older in [3, 4] {
        fs::write(&path, of_version(older)).expect("writes");
        assert_eq!(Model::load(&path).expect("is read").version(), model.version());
    }
    assert!(Model::load(directory.path().join("absent.ids")).expect_err("refused").to_string().contains("absent.ids"));
}

/// A copy of the fixture to damage.
fn copy(to: &Path) {
    fn copy_directory(from: &Path, to: &Path) {
        fs::create_dir_all(to).expect("directory");
        for entry in fs::read_dir(from).expect("directory") {
            let entry = entry.expect("entry");
            let target = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy_directory(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).expect("copies");
            }
        }
    }
    copy_directory(&fixture(), to);
}

fn stage(model: &Path, family: &str) -> PathBuf {
    let stages = fs::read_dir(model.join("stages")).expect("stages");
    let mut found =
        stages.map(|entry| entry.expect("entry").path()).filter(|path| path.to_string_lossy().contains(family));
    found.next().expect("the stage")
}

fn edit_metadata(directory: &Path, from: &str, to: &str) {
    let path = directory.join("metadata/part-00000");
    let text = fs::read_to_string(&path).expect("metadata");
    assert!(text.contains(from), "{from} in {text}");
    fs::write(&path, text.replace(from, to)).expect("writes");
}

fn first_part(directory: &Path) -> PathBuf {
    let files = fs::read_dir(directory.join("data")).expect("data");
    let mut parts =
        files.map(|entry| entry.expect("entry").path()).filter(|path| path.extension().is_some_and(|e| e == "parquet"));
    parts.next().expect("a part")
}

#[test]
fn a_directory_that_cannot_be_scored_is_refused_by_name() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage, &str); 12] = [
        (
            "empty",
            |m| fs::remove_dir_all(m).and_then(|()| fs::create_dir(m)).expect("emptied"),
            "no metadata directory",
        ),
        ("no metadata", |m| fs::write(m.join("metadata/part-00000"), "").expect("writes"), "no part file holds"),
        ("bad metadata", |m| fs::write(m.join("metadata/part-00000"), "{").expect("writes"), "no JSON"),
        ("another class", |m| edit_metadata(m, "PipelineModel", "NaiveBayesModel"), "NaiveBayesModel"),
        ("a stage gone", |m| fs::remove_dir_all(stage(m, "Imputer")).expect("removed"), "no directory for stage 3"),
        ("no data", |m| fs::remove_dir_all(stage(m, "Imputer").join("data")).expect("removed"), "not complete"),
        ("no part", |m| fs::remove_file(first_part(&stage(m, "RandomForest"))).expect("removed"), "not complete"),
        (
            "truncated",
            |m| {
                let part = first_part(&stage(m, "RandomForest"));
                let bytes = fs::read(&part).expect("part");
                fs::write(&part, &bytes[..bytes.len() / 2]).expect("writes");
            },
            "not a readable Parquet file",
        ),
        (
            "an unknown stage",
            |m| edit_metadata(&stage(m, "StandardScaler"), "feature.StandardScalerModel", "feature.PCAModel"),
            "is a org.apache.spark.ml.feature.PCAModel, which is not supported",
        ),
        (
            "trees lost",
            |m| edit_metadata(&stage(m, "RandomForest"), "\"numTrees\":20}", "\"numTrees\":21}"),
            "holds 20 trees",
        ),
        (
            "fewer classes",
            |m| edit_metadata(&stage(m, "RandomForest"), "numClasses\":3", "numClasses\":2"),
            "a leaf with 3 votes, not 2",
        ),
        ("names lost", |m| edit_metadata(&stage(m, "IndexToString"), "\"dos\",", ""), "2 class names"),
    ];
    for (what, damage, expected) in cases {
        let directory = tempfile::tempdir().expect("a directory");
        let model = directory.path().join("model");
        copy(&model);
        damage(&model);
        let message = Model::load_spark(&model, fixture_schema()).expect_err(what).to_string();
        assert!(message.contains(expected), "{what}: {message}");
    }
}

#[test]
fn a_tree_whose_child_points_nowhere_is_refused() {
    let model = repository().join("testdata/spark/dangling_child");
    let message = Model::load_spark(model, fixture_schema()).expect_err("refused").to_string();
    assert!(message.contains("tree 3, node 0: child 99 of"), "{message}");
}

#[test]
fn a_source_that_cannot_supply_the_inputs_is_refused_with_the_list() {
    // NSL-KDD is the nearest of the built-in ones.
    let error = Model::load(fixture()).expect_err("columns of another data set");
    let Error::MissingColumns { columns, .. } = &error else { panic!("{error}") };
    assert_eq!(columns.join(" "), "proto cnt rate const", "{error}");
}
