//! Damaged models: whatever bytes stand where Spark's or our own should, loading ends in a model or in an
//! error that names the file, without a panic and within bounds of memory.
//!
//! The damage is drawn at random from a fixed seed; `make fuzz` looks for more of it, guided by coverage.

mod common;

use std::alloc::System;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap::Cap;
use common::golden::{golden_of, golden_rows, rows};
use common::repository;
use ids_core::import::spark;
use ids_core::{FlowReader, FlowRecords, Model, Pipeline, Predictor, Rows, Schema, Scorer, SparkModel};
use sha2::{Digest, Sha256};

/// An allocation beyond the limit aborts the test.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, 1 << 30);

/// SplitMix64 (Steele, Lea & Flood, OOPSLA 2014): enough to choose where to damage.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// One to four kinds of damage.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..1 + self.below(4) {
            let at = self.below(bytes.len());
            match self.below(7) {
                0 => bytes.truncate(at),
                1 | 2 => {
                    let bit = self.below(8);
                    bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit);
                }
                3 => {
                    let with = [0, 0xff, 0x7f, 0x80, b'9', b'-', b'"'][self.below(7)];
                    bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = with);
                }
                4 => drop(bytes.drain(at..(at + 1 + self.below(8)).min(bytes.len()))),
                5 => {
                    // Thrift and CBOR write numbers in several bytes: make one large.
                    bytes.iter_mut().skip(at).take(4).for_each(|byte| *byte = 0xff);
                }
                _ => {
                    let piece: Vec<u8> = bytes.iter().skip(at).take(16).copied().collect();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, piece);
                }
            }
        }
    }
}

/// How many times as long as usual to look (`IDS_DAMAGE_TIMES`).
fn times() -> usize {
    std::env::var("IDS_DAMAGE_TIMES").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// All files below `directory`, in order.
fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(directory).expect("directory").map(|e| e.expect("entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("directory");
    let mut all = Vec::new();
    files(from, &mut all);
    for path in all {
        let target = to.join(path.strip_prefix(from).expect("inside"));
        fs::create_dir_all(target.parent().expect("a parent")).expect("directory");
        fs::copy(&path, target).expect("copies");
    }
}

/// Binds the model and has it score: neither may panic either, whatever it makes of the rows.
fn run(model: &SparkModel, given: &Rows) {
    if model.forest.is_some() {
        if let Ok(predictor) = Predictor::new(model, given.fields()) {
            Scorer::new(Arc::new(predictor)).score(given);
        }
    } else if let Ok(pipeline) = Pipeline::new(model.stages.clone(), given.fields()) {
        let mut scratch = pipeline.scratch();
        for row in given.iter() {
            if let Ok(made) = pipeline.transform(row, &mut scratch) {
                pipeline.outputs().iter().for_each(|output| drop(format!("{:?}", made.get(output))));
            }
        }
    }
}

/// Has the model, whose schema may be damaged too, score some flows.
fn score_some(model: &Model) {
    let path = repository().join("testdata/synthetic-unsw-nb15.csv");
    let file = std::io::BufReader::new(fs::File::open(&path).expect("flows"));
    let mut flows = FlowRecords::new(Arc::clone(model.schema()));
    if let Ok(mut reader) = FlowReader::new(file, &path, Arc::clone(model.schema()), model.inputs()) {
        for _ in 0..20 {
            reader.read(&mut flows).expect("reads");
        }
    }
    model.scorer().score(&flows);
}

#[test]
fn a_damaged_directory_is_refused_by_file_or_read() {
    let mut draws = Draws(7);
    let (mut n_refused, mut n_read) = (0, 0);
    for case in [
        "rf_cat",
        "rf_codec_zstd",
        "rf_codec_gzip",
        "rf_legacyformat",
        "rf_pagev2",
        "gbt",
        "pipeline_full",
        "st_vindex_keep",
        "st_rformula",
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let model = directory.path().join("model");
        copy(&repository().join("testdata/spark/3.5.9").join(case), &model);
        let mut all = Vec::new();
        files(&model, &mut all);
        let golden = golden_rows(&repository().join(format!("testdata/spark/3.5.9/{}.golden.jsonl", golden_of(case))));
        let given = rows(case, &golden);
        for _ in 0..60 * times() {
            let path = &all[draws.below(all.len())];
            let whole = fs::read(path).expect("a file");
            let mut bytes = whole.clone();
            draws.damage(&mut bytes);
            fs::write(path, &bytes).expect("writes");
            match spark::read(&model) {
                Ok(saved) => {
                    run(&saved, &given);
                    n_read += 1;
                }
                Err(error) => {
                    let message = error.to_string();
                    // The directory that holds the file, or the stage by its name.
                    let directory = path.parent().and_then(Path::parent).expect("a stage").to_str().expect("UTF-8");
                    let names_it = message.contains(directory) || message.starts_with("stage `");
                    assert!(names_it, "{}: {message}", path.display());
                    n_refused += 1;
                }
            }
            fs::write(path, whole).expect("writes");
        }
        spark::read(&model).expect("whole again");
    }
    assert!(n_refused > 100 && n_read > 10, "{n_refused} refused, {n_read} read");
}

#[test]
fn a_damaged_model_file_is_refused_or_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("model.ids");
    let model = Model::load_spark(repository().join("models/unsw-nb15-small"), Schema::unsw_nb15()).expect("loads");
    model.save(&path).expect("saves");
    let whole = fs::read(&path).expect("file");
    let (header, body) = (20, whole.len() - 32);
    let mut draws = Draws(11);
    let mut n_refused = 0;
    for _ in 0..300 * times() {
        let mut inner = whole[header..body].to_vec();
        draws.damage(&mut inner);
        // With the right length and checksum, so that the damage gets past them.
        let mut bytes = whole[..12].to_vec();
        bytes.extend_from_slice(&(inner.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&inner);
        let checksum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&checksum);
        fs::write(&path, &bytes).expect("writes");
        match Model::load(&path) {
            Ok(model) => score_some(&model),
            Err(error) => {
                assert!(error.to_string().contains("model.ids"), "{error}");
                n_refused += 1;
            }
        }
    }
    assert!(n_refused > 100, "{n_refused}");
}
