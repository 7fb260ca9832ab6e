//! Inputs that the benches share: four forests with rows to score, and flows as messages.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ids_core::decode::{JsonDecoder, Read};
use ids_core::forest::{Engine, Forest, Isa, Plan, reference};
use ids_core::import::spark;
use ids_core::{FlowReader, FlowRecords, Model, Scores};

/// Flows that are decoded, and scored, together, as the detector does it.
pub const BATCH: usize = 1_024;

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The committed model called `name`.
///
/// # Panics
/// Where it cannot be loaded.
pub fn model(name: &str) -> Arc<Model> {
    Arc::new(Model::load(repository().join("models").join(name)).expect("the committed model loads"))
}

/// Where the synthetic flows are.
pub fn synthetic_flows() -> PathBuf {
    repository().join("testdata/synthetic-unsw-nb15.csv")
}

/// The flows of a CSV file, decoded.
///
/// # Panics
/// Where they cannot be read.
pub fn read_flows(model: &Model, path: &Path) -> FlowRecords {
    let input = BufReader::new(File::open(path).expect("a file of flows"));
    let mut reader = FlowReader::new(input, path, Arc::clone(model.schema()), model.inputs()).expect("a good header");
    let mut records = FlowRecords::new(Arc::clone(model.schema()));
    while reader.read(&mut records).expect("reads") != Read::End {}
    records
}

/// The synthetic flows as JSON messages.
pub fn messages(model: &Model) -> Vec<String> {
    read_flows(model, &synthetic_flows()).iter().map(|flow| flow.to_json()).collect()
}

/// A decoder of such messages.
///
/// # Panics
/// Never: a model's inputs are its schema's.
pub fn decoder(model: &Model) -> JsonDecoder {
    JsonDecoder::new(Arc::clone(model.schema()), model.inputs()).expect("a decoder")
}

/// Decodes messages into `records`, which are cleared before.
///
/// # Panics
/// Where one is no flow.
pub fn decode(decoder: &mut JsonDecoder, messages: &[String], records: &mut FlowRecords) {
    records.clear();
    for message in messages {
        decoder.decode(0, message.as_bytes(), records).expect("a good message");
    }
}

/// A forest, with rows to score.
pub struct Subject {
    /// P, Q, M or L, as docs/performance.md describes them.
    pub name: &'static str,
    /// The forest.
    pub forest: Forest,
    /// `[n_rows, n_features]`, row-major.
    pub rows: Vec<f64>,
}

impl Subject {
    /// P and Q are committed, with the synthetic flows; M and L, and rows for them, are where `make compare` has fitted
    /// them.
    ///
    /// # Panics
    /// Where files that are there cannot be read.
    pub fn all() -> Vec<Self> {
        let committed = [("P", "unsw-nb15-small"), ("Q", "unsw-nb15")].map(|(name, directory)| {
            let model = model(directory);
            let rows = model.scorer().features(read_flows(&model, &synthetic_flows())).to_vec();
            Self { name, forest: model.forest().clone(), rows }
        });
        let fitted = ["M", "L"].into_iter().filter_map(|name| {
            let compared = ["real", "synthetic"].map(|flows| repository().join("target/compare").join(flows));
            let Some(directory) = compared.into_iter().find(|directory| directory.join("fitted").is_file()) else {
                eprintln!("SKIPPED: {name}: `make compare ARGS=\"--forests M L --engines\"` fits it");
                return None;
            };
            let forest = spark::read(&directory.join(name)).expect("a fitted forest").forest.expect("a forest").forest;
            let rows = fs::read(directory.join("rows.f64")).expect("rows");
            let rows = rows.as_chunks().0.iter().map(|bytes| f64::from_ne_bytes(*bytes)).collect();
            Some(Self { name, forest, rows })
        });
        committed.into_iter().chain(fitted).collect()
    }

    /// The forest compiled, after it was seen to agree with the reference on some rows.
    ///
    /// # Panics
    /// Where it does not.
    pub fn engine(&self) -> Engine {
        self.checked(Engine::new(&self.forest))
    }

    /// The forest compiled for the usual plan of this processor, whatever it takes: to count instructions, which must not
    /// depend on a clock.
    ///
    /// # Panics
    /// As [`Subject::engine`].
    pub fn usual_engine(&self) -> Engine {
        self.checked(Engine::with(&self.forest, Plan::usual(Isa::best())))
    }

    fn checked(&self, engine: Engine) -> Engine {
        let rows = self.first(BATCH);
        let (mut expected, mut found) = (Scores::default(), Scores::default());
        reference::score(&self.forest, rows, &mut expected);
        engine.score(rows, &mut found);
        assert!(expected == found, "{}: the engine differs from the reference", self.name);
        engine
    }

    /// The first `n_rows` rows, or all.
    pub fn first(&self, n_rows: usize) -> &[f64] {
        &self.rows[..(n_rows * self.forest.n_features()).min(self.rows.len())]
    }

    /// `n_rows` rows: those that there are, again and again.
    pub fn some(&self, n_rows: usize) -> Vec<f64> {
        self.rows.iter().copied().cycle().take(n_rows * self.forest.n_features()).collect()
    }
}
