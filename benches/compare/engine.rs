//! ids-core's side of `forests.py`: scores rows of features with a forest that Spark saved, as it is told on its input.
//!
//!     compare-engine features MODEL FLOWS N_ROWS FILE    writes feature vectors of flows, evenly taken, to a file
//!     compare-engine messages MODEL FLOWS N_ROWS FILE    writes such flows as JSON, a line each
//!     compare-engine score FOREST ROWS                   answers each line `answer FILE`, `batch` or `single` with JSON
//!     compare-engine score-every-row FOREST ROWS         the same, rows that repeat being scored again
//!     compare-engine score-messages MODEL MESSAGES       the same, from JSON to scores; no `single`
//!
//! Rows and answers are doubles in the machine's order, row after row.

use std::fs;
use std::hint::black_box;
use std::io::{BufRead, Write, stdin, stdout};
use std::path::Path;
use std::time::{Duration, Instant};

use ids_benches::read_flows;
use ids_core::decode::JsonDecoder;
use ids_core::forest::{Engine, Plan};
use ids_core::import::spark;
use ids_core::{FlowRecords, Model, Scores};

/// How long single rows are scored to time one.
const SINGLE: Duration = Duration::from_millis(300);

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Messages that are decoded and scored together, as the detector does it.
const BATCH: usize = 1_024;

fn main() -> Outcome<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["features", model, flows, n_rows, file] => write_features(model, Path::new(flows), n_rows.parse()?, file),
        ["messages", model, flows, n_rows, file] => write_messages(model, Path::new(flows), n_rows.parse()?, file),
        ["score", forest, rows] => score(Path::new(forest), rows, true),
        ["score-every-row", forest, rows] => score(Path::new(forest), rows, false),
        ["score-messages", model, messages] => score_messages(model, messages),
        _ => Err(
            "usage: compare-engine features|messages MODEL FLOWS N_ROWS FILE, or score|score-every-row FOREST ROWS, \
                  or score-messages MODEL MESSAGES"
                .into(),
        ),
    }
}

/// Positions of `n_rows` rows, evenly taken of `n_flows`.
fn evenly(n_rows: usize, n_flows: usize) -> impl Iterator<Item = usize> {
    (0..n_rows).map(move |row| row * n_flows / n_rows)
}

fn write_features(model: &str, flows: &Path, n_rows: usize, file: &str) -> Outcome<()> {
    let model = Model::load(model)?;
    let mut scorer = model.scorer();
    let features = scorer.features(read_flows(&model, flows)).to_vec();
    let width = model.forest().n_features();
    let taken = evenly(n_rows, features.len() / width).flat_map(|flow| &features[flow * width..][..width]);
    Ok(fs::write(file, to_bytes(taken))?)
}

fn write_messages(model: &str, flows: &Path, n_rows: usize, file: &str) -> Outcome<()> {
    let model = Model::load(model)?;
    let flows: Vec<_> = read_flows(&model, flows).iter().map(|flow| flow.to_json()).collect();
    Ok(fs::write(file, evenly(n_rows, flows.len()).map(|flow| flows[flow].clone() + "\n").collect::<String>())?)
}

fn to_bytes<'a>(values: impl Iterator<Item = &'a f64>) -> Vec<u8> {
    values.flat_map(|value| value.to_ne_bytes()).collect()
}

fn score(forest: &Path, rows: &str, finds_repeats: bool) -> Outcome<()> {
    let rows: Vec<f64> = fs::read(rows)?.as_chunks().0.iter().map(|bytes| f64::from_ne_bytes(*bytes)).collect();
    let start = Instant::now();
    let forest = spark::read(forest)?.forest.ok_or("there is no forest")?.forest;
    let read = start.elapsed();
    let start = Instant::now();
    let mut engine = Engine::new(&forest);
    let compile = start.elapsed();
    if !finds_repeats {
        engine = Engine::with(&forest, Plan { finds_repeats, ..engine.plan() });
    }
    let plan = engine.plan();
    drop(forest);

    let width = engine.forest().n_features();
    let n_rows = rows.len() / width;
    let (mut scores, mut single) = (Scores::default(), Scores::default());
    obey(read, compile, &plan.to_string(), |command, file| match command {
        "answer" => {
            engine.score(&rows, &mut scores);
            fs::write(file, to_bytes((0..n_rows).flat_map(|row| scores.probability(row))))?;
            Ok(0.0)
        }
        "batch" => {
            let start = Instant::now();
            engine.score(black_box(&rows), &mut scores);
            black_box(&scores);
            Ok(start.elapsed().as_secs_f64() * 1e6 / n_rows as f64)
        }
        "single" => {
            let (start, mut n_calls) = (Instant::now(), 0);
            let mut all = rows.chunks_exact(width).cycle();
            while start.elapsed() < SINGLE {
                for row in all.by_ref().take(64) {
                    engine.score(black_box(row), &mut single);
                    black_box(&single);
                }
                n_calls += 64;
            }
            Ok(start.elapsed().as_secs_f64() * 1e6 / f64::from(n_calls))
        }
        _ => Err("answer FILE, batch or single".into()),
    })
}

fn score_messages(model: &str, messages: &str) -> Outcome<()> {
    let messages = fs::read_to_string(messages)?;
    let messages: Vec<_> = messages.lines().collect();
    let start = Instant::now();
    let model = Model::load(model)?;
    let read = start.elapsed();
    let mut decoder = JsonDecoder::new(model.schema().clone(), model.inputs())?;
    let mut records = FlowRecords::new(model.schema().clone());
    let mut scorer = model.scorer();
    let mut answers = Vec::new();
    obey(read, Duration::ZERO, "", |command, file| {
        let start = Instant::now();
        for messages in messages.chunks(BATCH) {
            records.clear();
            for message in messages {
                decoder.decode(0, message.as_bytes(), &mut records)?;
            }
            let scored = scorer.score(&records);
            if command == "answer" {
                for score in scored.iter() {
                    answers.extend_from_slice(score?.probabilities);
                }
            }
            black_box(scored);
        }
        let elapsed = start.elapsed();
        if command == "answer" {
            fs::write(file, to_bytes(answers.iter()))?;
        }
        Ok(elapsed.as_secs_f64() * 1e6 / messages.len() as f64)
    })
}

/// Says that all is loaded, and answers each line of the input.
fn obey(
    read: Duration,
    compile: Duration,
    plan: &str,
    mut work: impl FnMut(&str, &str) -> Outcome<f64>,
) -> Outcome<()> {
    let (read, compile) = (read.as_secs_f64(), compile.as_secs_f64());
    println!("{{\"read_s\":{read},\"compile_s\":{compile},\"plan\":\"{plan}\"}}");
    for line in stdin().lock().lines() {
        let line = line?;
        let (command, file) = line.split_once(' ').unwrap_or((&line, ""));
        println!("{{\"us_per_row\":{}}}", work(command, file)?);
        stdout().flush()?;
    }
    Ok(())
}
