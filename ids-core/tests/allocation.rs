//! The hot path allocates nothing for a row: not to decode it, not to make its features, not to score it.
#![allow(unsafe_code)] // an allocator that counts

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ids_core::decode::{JsonDecoder, Read};
use ids_core::{FlowReader, FlowRecords, Model, Scores};

/// The system's allocator, counting what it is asked for.
struct Counting;

static N_ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: it does what the system's allocator does.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        N_ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        N_ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations `work` makes.
fn allocations(work: impl FnOnce()) -> usize {
    let before = N_ALLOCATIONS.load(Ordering::Relaxed);
    work();
    N_ALLOCATIONS.load(Ordering::Relaxed) - before
}

// One test: others beside it would be counted too.
#[test]
fn nothing_is_allocated_for_a_row() {
    const ROWS: usize = 2_000;
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let model = Arc::new(Model::load(repository.join("models/unsw-nb15-small")).expect("loads"));
    let path = repository.join("testdata/synthetic-unsw-nb15.csv");
    let input = BufReader::new(File::open(&path).expect("the synthetic flows"));
    let mut reader = FlowReader::new(input, &path, Arc::clone(model.schema()), model.inputs()).expect("a header");
    let mut records = FlowRecords::new(Arc::clone(model.schema()));
    while records.len() < ROWS && reader.read(&mut records).expect("reads") != Read::End {}
    let messages: Vec<String> = records.iter().map(|flow| flow.to_json()).collect();

    let mut decoder = JsonDecoder::new(Arc::clone(model.schema()), model.inputs()).expect("a decoder");
    let mut scorer = model.scorer();
    let mut decode_and_score = || {
        records.clear();
        for message in &messages {
            decoder.decode(0, message.as_bytes(), &mut records).expect("a good message");
        }
        scorer.score(&records).len()
    };
    // Once, to make room.
    assert_eq!(decode_and_score(), ROWS);
    let n = allocations(|| assert_eq!(decode_and_score(), ROWS));
    // What a batch allocates does not grow with its rows.
    assert!(n < 20, "{n} allocations for {ROWS} rows");

    let features = scorer.features(&records).to_vec();
    let (mut scores, engine) = (Scores::default(), model.predictor().engine());
    let n_features = engine.forest().n_features();
    for n_rows in [1, 64, ROWS] {
        let mut score = || {
            for rows in features.chunks(n_rows * n_features) {
                engine.score(rows, &mut scores);
            }
        };
        score();
        assert_eq!(allocations(score), 0, "{n_rows} rows at a time");
    }
}
