//! Where does the time of a flow go? Each stage alone, one core, per row.
//!
//! `decode JSON`, `decode CSV` and `pipeline` are of the model `unsw-nb15-small`, a batch of flows at a time. The engine's
//! stages (docs/engine.md) are each done again on a tile of rows that has just been scored, all of them; `repeats` is what
//! it takes to look for equal ones.
#![allow(missing_docs)] // criterion's macros make functions without any

use std::fs;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ids_benches::{BATCH, Subject, decode, decoder, messages, model, read_flows, synthetic_flows};
use ids_core::decode::FlowBatches;
use ids_core::forest::{Engine, EngineStage, Plan};
use ids_core::{FlowRecords, Scores};

fn flow(criterion: &mut Criterion) {
    let model = model("unsw-nb15-small");
    let messages = messages(&model);
    let mut decoder = decoder(&model);
    let mut records = FlowRecords::new(Arc::clone(model.schema()));
    let mut group = criterion.benchmark_group("flow");
    group.throughput(Throughput::Elements(messages.len() as u64));
    group.bench_function("decode JSON", |bencher| {
        bencher.iter(|| {
            for messages in messages.chunks(BATCH) {
                decode(&mut decoder, messages, &mut records);
                assert_eq!(records.len(), messages.len());
            }
        });
    });
    // Read whole, so that the disk has no part in it.
    let csv = fs::read(synthetic_flows()).expect("the synthetic flows");
    group.bench_function("decode CSV", |bencher| {
        bencher.iter(|| {
            let mut batches =
                FlowBatches::new(&csv[..], "flows", Arc::clone(model.schema()), model.inputs()).expect("a good header");
            let mut n_flows = 0;
            while let Some(batch) = batches.next_batch(BATCH).expect("reads") {
                n_flows += batch.records.len();
            }
            assert_eq!(n_flows, messages.len());
        });
    });
    let flows = read_flows(&model, &synthetic_flows());
    let mut scorer = model.scorer();
    group.bench_function("pipeline", |bencher| {
        bencher.iter(|| {
            assert_eq!(scorer.features(&flows).len(), flows.len() * model.forest().n_features());
        });
    });
    group.finish();
}

fn engine(criterion: &mut Criterion) {
    for subject in Subject::all() {
        // Agrees with the reference.
        let plan = subject.engine().plan();
        let [engine, every_row] =
            [true, false].map(|finds_repeats| Engine::with(&subject.forest, Plan { finds_repeats, ..plan }));
        let rows = subject.first(engine.tile_rows());
        let mut scores = Scores::default();
        engine.score(rows, &mut scores);
        let expected = scores.clone();
        let mut group = criterion.benchmark_group(subject.name);
        group.throughput(Throughput::Elements(scores.n_rows() as u64));
        group.bench_function("repeats", |bencher| {
            bencher.iter(|| engine.score_again(rows, &mut scores, EngineStage::Repeats));
        });
        every_row.score(rows, &mut scores);
        for stage in every_row.stages() {
            group.bench_function(format!("{stage:?}").to_lowercase(), |bencher| {
                bencher.iter(|| every_row.score_again(rows, &mut scores, stage));
            });
        }
        assert!(scores == expected, "{}: a stage alone has left something behind", subject.name);
        group.finish();
    }
}

criterion_group!(benches, flow, engine);
criterion_main!(benches);
