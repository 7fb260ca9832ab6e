//! The JSON Schemas in `docs/` describe what is really written.

mod common;

use std::fs;
use std::sync::Arc;

use common::repository;
use ids_core::schema::ColumnKind;
use ids_core::{AlertPolicy, DeadLetter, FlowRecords, JsonDecoder, Model, Origin, RowFault, Schema, Verdict};
use jsonschema::Validator;
use serde_json::{Value, json};

fn validator(name: &str) -> Validator {
    let path = repository().join(format!("docs/{name}.schema.json"));
    let schema: Value = serde_json::from_str(&fs::read_to_string(path).expect("schema file")).expect("JSON");
    jsonschema::validator_for(&schema).expect("a valid schema")
}

fn assert_valid(validator: &Validator, message: &Value) {
    let errors: Vec<_> =
        validator.iter_errors(message).map(|error| format!("{error} at {}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:?} in {message}");
}

/// The synthetic flows as records.
fn synthetic(model: &Model, n: usize) -> FlowRecords {
    let file = fs::File::open(repository().join("testdata/synthetic-unsw-nb15.csv")).expect("flows");
    let input = std::io::BufReader::new(file);
    let mut reader =
        ids_core::FlowReader::new(input, "synthetic", Arc::clone(model.schema()), model.inputs()).expect("opens");
    let mut records = FlowRecords::new(Arc::clone(model.schema()));
    while records.len() < n {
        assert_eq!(reader.read(&mut records).expect("reads"), ids_core::decode::Read::Flow);
    }
    records
}

fn model() -> Arc<Model> {
    Arc::new(Model::load(repository().join("models/unsw-nb15-small")).expect("loads"))
}

#[test]
fn records_verdicts_and_alerts_are_as_described() {
    let model = model();
    let records = synthetic(&model, 500);
    let mut scorer = model.scorer();
    let scored = scorer.score(&records);
    let alerting = AlertPolicy::default().bind(&model).expect("a valid policy");
    let (of_record, of_verdict, of_alert) = (validator("record"), validator("verdict"), validator("alert"));
    let mut n_alerts = 0;
    for (index, flow) in records.iter().enumerate() {
        assert_valid(&of_record, &serde_json::from_str(&flow.to_json()).expect("JSON"));
        let origin =
            Origin { topic: "demo", partition: 3, offset: index as i64, timestamp_ms: Some(1_700_000_000_123) };
        let score = scored.get(index).expect("scores");
        let verdict = Verdict::new(&model, origin, score);
        let json = serde_json::to_value(verdict).expect("serialises");
        assert_valid(&of_verdict, &json);
        // Doubles survive the message: the shortest decimal that reads back.
        for (class, &p) in model.classes().iter().zip(score.probabilities) {
            assert_eq!(json["probabilities"][class].as_f64().map(f64::to_bits), Some(p.to_bits()));
        }
        if alerting.raises(&verdict) {
            n_alerts += 1;
            let alert = serde_json::to_value(alerting.alert(&model, &verdict, flow, &score, 0)).expect("serialises");
            assert_valid(&of_alert, &alert);
            assert_eq!(alert["@timestamp"], "2023-11-14T22:13:20.123Z");
            assert_eq!(alert["event"]["id"], format!("demo/3/{index}"));
            assert_eq!(alert["network"]["transport"], flow.text("proto").expect("a protocol"));
        }
    }
    assert!(n_alerts > 100, "{n_alerts} alerts");
}

#[test]
fn dead_letters_are_as_described() {
    let model = model();
    let origin = Origin { topic: "demo", partition: 0, offset: 7, timestamp_ms: None };
    let mut decoder = JsonDecoder::new(Arc::clone(model.schema()), model.inputs()).expect("a decoder");
    let mut records = FlowRecords::new(Arc::clone(model.schema()));
    let validator = validator("dead-letter");
    for message in ["", "{", "[]", "{\"dur\":\"1\"}", "{\"dur\":1e309}", "{\"dur\":1,\"dur\":1}", "{}"] {
        let error = decoder.decode(7, message.as_bytes(), &mut records).expect_err("bad");
        let dead_letter = DeadLetter::undecoded(origin, &error, model.version());
        assert_valid(&validator, &serde_json::to_value(dead_letter).expect("serialises"));
    }
    let fault = RowFault::Refused { stage: "s".into(), column: "proto".into(), reason: "is missing".into() };
    let dead_letter = serde_json::to_value(DeadLetter::unscored(origin, &fault, model.version())).expect("serialises");
    assert_valid(&validator, &dead_letter);
    assert_eq!(dead_letter["detail"], "stage `s` refuses the row: column `proto` is missing");
}

#[test]
fn the_record_schema_has_the_columns_of_the_table() {
    let documented: Value =
        serde_json::from_str(&fs::read_to_string(repository().join("docs/record.schema.json")).expect("file"))
            .expect("JSON");
    let schema = Schema::unsw_nb15();
    let columns: Vec<_> = schema.columns().iter().filter(|column| column.kind != ColumnKind::Label).collect();
    let properties = documented["properties"].as_object().expect("properties");
    assert_eq!(properties.len(), columns.len());
    for column in &columns {
        let types = match column.kind {
            ColumnKind::Number => json!(["number", "null"]),
            ColumnKind::Category => json!(["string", "null"]),
            _ => json!(["string", "number", "null"]),
        };
        assert_eq!(properties[&column.name]["type"], types, "{}", column.name);
    }
    let is_required = |kind| matches!(kind, ColumnKind::Number | ColumnKind::Category);
    let required: Vec<_> = columns
        .iter()
        .filter(|column| is_required(column.kind) && column.derive.is_none() && !column.optional)
        .map(|column| column.name.as_str())
        .collect();
    assert_eq!(documented["required"], json!(required));
}

#[test]
fn a_policy_that_cannot_work_is_refused() {
    let model = model();
    let by_class = |class: &str, threshold| AlertPolicy {
        threshold: 0.5,
        by_class: [(class.to_owned(), threshold)].into_iter().collect(),
    };
    assert!(by_class("DoS", 0.9).bind(&model).is_ok());
    for (policy, expected) in [
        (by_class("DoS", 1.5), "not from 0 to 1"),
        (by_class("Normal", 0.5), "no attack class"),
        (by_class("Dos", 0.5), "no attack class"),
        (AlertPolicy { threshold: f64::NAN, ..AlertPolicy::default() }, "not from 0 to 1"),
    ] {
        let message = policy.bind(&model).expect_err(expected).to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn the_documented_schema_file_is_one() {
    let text = fs::read_to_string(repository().join("docs/schema-file.md")).expect("file");
    let (_, rest) = text.split_once("```toml").expect("an example");
    let (example, _) = rest.split_once("```").expect("its end");
    let schema = Schema::from_toml(example).expect("a valid schema");
    assert_eq!(schema.labels().and_then(|labels| labels.class("norm")), Some("normal"));
}
