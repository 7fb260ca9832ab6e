//! What `instructions.py` counts: one piece of work, done once before and once in [`counted`], which callgrind is told of.
//!
//!     instructions WORK    prints how many rows that are

use std::hint::black_box;
use std::sync::Arc;

use ids_benches::{BATCH, Subject, decode, decoder, messages, model, read_flows, synthetic_flows};
use ids_core::decode::FlowBatches;
use ids_core::{FlowRecords, Scores};

fn main() {
    let work = std::env::args().nth(1).unwrap_or_default();
    let n_rows = match work.split(' ').collect::<Vec<_>>()[..] {
        ["decode-json"] => decode_json(),
        ["decode-csv"] => decode_csv(),
        ["pipeline"] => pipeline(),
        ["forest", name, n_rows] => forest(name, n_rows.parse().expect("a number of rows")),
        _ => panic!("no such work: `{work}`"),
    };
    println!("{n_rows}");
}

/// Twice, of which the second time counts: memory is there, and what can be remembered is.
fn twice(mut work: impl FnMut()) {
    work();
    counted(&mut work);
}

/// What callgrind counts.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
    black_box(());
}

fn decode_json() -> usize {
    let model = model("unsw-nb15-small");
    let messages = messages(&model);
    let (mut decoder, mut records) = (decoder(&model), FlowRecords::new(Arc::clone(model.schema())));
    twice(|| messages.chunks(BATCH).for_each(|messages| decode(&mut decoder, messages, &mut records)));
    messages.len()
}

fn decode_csv() -> usize {
    let model = model("unsw-nb15-small");
    let csv = std::fs::read(synthetic_flows()).expect("the synthetic flows");
    let mut n_flows = 0;
    twice(|| {
        n_flows = 0;
        let mut batches =
            FlowBatches::new(&csv[..], "flows", Arc::clone(model.schema()), model.inputs()).expect("a good header");
        while let Some(batch) = batches.next_batch(BATCH).expect("reads") {
            n_flows += batch.records.len();
        }
    });
    n_flows
}

fn pipeline() -> usize {
    let model = model("unsw-nb15-small");
    let flows = read_flows(&model, &synthetic_flows());
    let mut scorer = model.scorer();
    twice(|| {
        black_box(scorer.features(&flows));
    });
    flows.len()
}

fn forest(name: &str, n_rows: usize) -> usize {
    let subject = Subject::all().into_iter().find(|subject| subject.name == name).expect("a forest that is there");
    let (engine, rows) = (subject.usual_engine(), subject.some(BATCH));
    let mut scores = Scores::default();
    twice(|| rows.chunks(n_rows * subject.forest.n_features()).for_each(|rows| engine.score(rows, &mut scores)));
    BATCH
}
