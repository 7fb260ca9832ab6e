//! How long ids-core takes for the rows that `python.py` hands to ids_py: decoded records in batches of 1,024 as the
//! detector scores them. Prints the seconds of each repetition as a JSON list.

use std::time::Instant;

use ids_benches::{model, read_flows, synthetic_flows};
use ids_core::FlowRecords;
use ids_core::decode::JsonDecoder;

const BATCH: usize = 1_024;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |what: &str| -> usize {
        let text = arguments.next().unwrap_or_else(|| panic!("usage: compare-rust ROWS REPETITIONS: no {what}"));
        text.parse().unwrap_or_else(|_| panic!("`{text}` is no number of {what}"))
    };
    let (n_rows, n_repetitions) = (number("rows"), number("repetitions"));
    let model = model("unsw-nb15-small");
    let messages: Vec<_> = read_flows(&model, &synthetic_flows()).iter().map(|flow| flow.to_json()).collect();
    let mut decoder = JsonDecoder::new(model.schema().clone(), model.inputs()).expect("a decoder");
    let mut batches = Vec::new();
    for start in (0..n_rows).step_by(BATCH) {
        let mut records = FlowRecords::new(model.schema().clone());
        for row in start..n_rows.min(start + BATCH) {
            decoder.decode(0, messages[row % messages.len()].as_bytes(), &mut records).expect("a good message");
        }
        batches.push(records);
    }
    let mut scorer = model.scorer();
    let mut seconds = Vec::new();
    for _ in 0..n_repetitions {
        let start = Instant::now();
        let n_scored: usize =
            batches.iter().map(|batch| scorer.score(batch).iter().filter(Result::is_ok).count()).sum();
        seconds.push(start.elapsed().as_secs_f64());
        assert_eq!(n_scored, n_rows);
    }
    println!("{seconds:?}");
}
