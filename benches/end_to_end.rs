//! How many flows a second does one core take from bytes to verdicts, and how many rows does a forest score?
//!
//! `JSON to scores` and `CSV to scores` decode, run the pipeline and the forest, batch by batch, as the detector and
//! `ids score` do. Then the engine alone (docs/engine.md), in batches of many sizes: by each of the ways between which it
//! chooses, `as planned`, and by each processor's instructions, every row scored; `of repeats one` looks for equal ones.
//! `by doubles` is its fall-back, and `reference` the obvious scorer.
#![allow(missing_docs)] // criterion's macros make functions without any

use std::fs;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ids_benches::{BATCH, Subject, decode, decoder, messages, model, synthetic_flows};
use ids_core::decode::FlowBatches;
use ids_core::forest::{Engine, Isa, Plan, reference};
use ids_core::{FlowRecords, Scores};

fn bytes_to_scores(criterion: &mut Criterion) {
    for name in ["unsw-nb15-small", "unsw-nb15"] {
        let model = model(name);
        let messages = messages(&model);
        let csv = fs::read(synthetic_flows()).expect("the synthetic flows");
        let (mut decoder, mut scorer) = (decoder(&model), model.scorer());
        let mut records = FlowRecords::new(Arc::clone(model.schema()));
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(messages.len() as u64));
        group.bench_function("JSON to scores", |bencher| {
            bencher.iter(|| {
                for messages in messages.chunks(BATCH) {
                    decode(&mut decoder, messages, &mut records);
                    let scored = scorer.score(&records);
                    assert!(scored.iter().all(|score| score.is_ok()));
                }
            });
        });
        group.bench_function("CSV to scores", |bencher| {
            bencher.iter(|| {
                let mut batches = FlowBatches::new(&csv[..], "flows", Arc::clone(model.schema()), model.inputs())
                    .expect("a good header");
                let mut n_scored = 0;
                while let Some(batch) = batches.next_batch(BATCH).expect("reads") {
                    n_scored += scorer.score(batch.records).iter().filter(Result::is_ok).count();
                }
                assert_eq!(n_scored, messages.len());
            });
        });
        group.finish();
    }
}

fn forest(criterion: &mut Criterion) {
    for subject in Subject::all() {
        // Agrees with the reference.
        let engine = subject.engine();
        let plan = Plan { finds_repeats: false, ..engine.plan() };
        eprintln!("{}: {plan}", subject.name);
        let n_features = subject.forest.n_features();
        let mut scores = Scores::default();
        let mut group = criterion.benchmark_group(subject.name);
        let side_by_side = Plan { most_one_by_one: 0, fewest_crowned: usize::MAX, ..plan };
        let ways = [
            ("one by one", Plan { most_one_by_one: usize::MAX, ..plan }, &[4, 8, 16, 32][..]),
            ("side by side", side_by_side, &[4, 8, 16, 32, 64, 256, 1_024]),
            ("with a crown", Plan { fewest_crowned: 0, ..side_by_side }, &[32, 64, 256, 1_024]),
            ("as planned", plan, &[1, 4, 8, 16, 32, 64, 256, 1_024, 65_536]),
        ];
        for (name, plan, sizes) in ways {
            let engine = Engine::with(&subject.forest, plan);
            for &n_rows in sizes {
                let rows = subject.some(n_rows.max(1_024));
                group.throughput(Throughput::Elements((rows.len() / n_features) as u64));
                group.bench_function(BenchmarkId::new(name, n_rows), |bencher| {
                    bencher.iter(|| {
                        rows.chunks(n_rows * n_features).for_each(|rows| engine.score(rows, &mut scores));
                    });
                });
            }
        }
        let engine = Engine::with(&subject.forest, Plan { finds_repeats: true, ..plan });
        let rows = subject.some(65_536);
        group.bench_function(BenchmarkId::new("of repeats one", 65_536), |bencher| {
            bencher.iter(|| engine.score(&rows, &mut scores));
        });
        let rows = subject.some(1_024);
        group.throughput(Throughput::Elements(1_024));
        for isa in Isa::all() {
            let engine = Engine::with(&subject.forest, Plan { isa, ..plan });
            group.bench_function(BenchmarkId::new(format!("{isa:?}"), 1_024), |bencher| {
                bencher.iter(|| engine.score(&rows, &mut scores));
            });
        }
        let doubles = Engine::with(&subject.forest, Plan { by_ranks: false, ..plan });
        group.bench_function(BenchmarkId::new("by doubles", 1_024), |bencher| {
            bencher.iter(|| doubles.score(&rows, &mut scores));
        });
        group.bench_function(BenchmarkId::new("reference", 1_024), |bencher| {
            bencher.iter(|| reference::score(&subject.forest, &rows, &mut scores));
        });
        group.finish();
    }
}

criterion_group!(benches, bytes_to_scores, forest);
criterion_main!(benches);
