//! Inputs that the benches share: the committed models and the synthetic flows.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ids_core::decode::Read;
use ids_core::{FlowReader, FlowRecords, Model};

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

/// The synthetic flows, decoded.
///
/// # Panics
/// Where they cannot be read.
pub fn flows(model: &Model) -> FlowRecords {
    read_flows(model, &repository().join("testdata/synthetic-unsw-nb15.csv"))
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
