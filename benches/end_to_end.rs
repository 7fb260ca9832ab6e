//! How many flows a second does one core decode, make into feature vectors, and score?
//!
//! `score` starts from decoded records and ends with probabilities and classes: the fitted pipeline
//! and the forest, batch by batch of 1,024 as the detector runs them. `engine` is the forest alone (docs/engine.md), by ranks
//! and by doubles, `reference` the obvious scorer of the same rows. `decode_json` makes records from messages.
#![allow(missing_docs)] // criterion's macros make functions without any

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ids_benches::{flows, model};
use ids_core::decode::JsonDecoder;
use ids_core::forest::{Engine, Isa, Ways, reference};
use ids_core::{FlowRecords, Model, Scores};

const MODELS: [&str; 2] = ["unsw-nb15-small", "unsw-nb15"];
const BATCH: usize = 1_024;

/// The messages of all flows.
fn messages(model: &Model) -> Vec<String> {
    flows(model).iter().map(|flow| flow.to_json()).collect()
}

/// Decoded batches of the messages.
fn batches(model: &Model, messages: &[String]) -> Vec<FlowRecords> {
    let mut decoder = JsonDecoder::new(Arc::clone(model.schema()), model.inputs()).expect("a decoder");
    let decode = |chunk: &[String]| {
        let mut records = FlowRecords::new(Arc::clone(model.schema()));
        for message in chunk {
            decoder.decode(0, message.as_bytes(), &mut records).expect("a good message");
        }
        records
    };
    messages.chunks(BATCH).map(decode).collect()
}

fn decode(criterion: &mut Criterion) {
    let model = model("unsw-nb15-small");
    let messages = messages(&model);
    let mut decoder = JsonDecoder::new(Arc::clone(model.schema()), model.inputs()).expect("a decoder");
    let mut records = FlowRecords::new(Arc::clone(model.schema()));
    let mut group = criterion.benchmark_group("decode_json");
    group.throughput(Throughput::Elements(messages.len() as u64));
    group.bench_function("unsw-nb15", |bencher| {
        bencher.iter(|| {
            for chunk in messages.chunks(BATCH) {
                records.clear();
                for message in chunk {
                    decoder.decode(0, message.as_bytes(), &mut records).expect("a good message");
                }
                assert_eq!(records.len(), chunk.len());
            }
        });
    });
    group.finish();
}

fn score(criterion: &mut Criterion) {
    for name in MODELS {
        let model = model(name);
        let batches = batches(&model, &messages(&model));
        let n_rows: usize = batches.iter().map(FlowRecords::len).sum();
        let mut scorer = model.scorer();

        // The answer, once, before anything is timed: both scorers agree on every row.
        let (mut expected, mut found) = (Scores::default(), Scores::default());
        let features: Vec<Vec<f64>> = batches.iter().map(|batch| scorer.features(batch).to_vec()).collect();
        for features in &features {
            reference::score(model.forest(), features, &mut expected);
            model.predictor().engine().score(features, &mut found);
            assert!(expected == found, "the engine differs from the reference");
        }

        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(n_rows as u64));
        group.bench_function("score", |bencher| {
            bencher.iter(|| batches.iter().map(|batch| scorer.score(batch).len()).sum::<usize>());
        });
        let forms = [("engine", Ways::All), ("engine, doubles", Ways::Doubles)];
        for (form, ways) in forms {
            let engine = Engine::with(model.forest(), ways, Isa::best());
            let (all, n_features) = (features.concat(), model.forest().n_features());
            for batch in [1, 64, BATCH, n_rows] {
                group.bench_function(format!("{form}, {batch} rows at a time"), |bencher| {
                    bencher.iter(|| all.chunks(batch * n_features).for_each(|rows| engine.score(rows, &mut found)));
                });
            }
        }
        group.bench_function("reference", |bencher| {
            bencher.iter(|| {
                features.iter().for_each(|features| reference::score(model.forest(), features, &mut expected));
            });
        });
        group.finish();
    }
}

criterion_group!(benches, decode, score);
criterion_main!(benches);
