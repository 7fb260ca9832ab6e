//! A copy of a saved model, of which one file is replaced by the fuzzer's bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ids_core::import::spark;
use ids_core::rows::{DataType, Field, Vector};
use ids_core::{Fields, Predictor, Rows, Scorer};
use tempfile::TempDir;

pub struct Fixture {
    directory: TempDir,
    part: PathBuf,
    given: Rows,
}

impl Fixture {
    /// The saved forest with category splits; `part` is the directory in it whose file is replaced.
    pub fn new(part: &str) -> Self {
        spare_caught_panics();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/spark/3.5.9/rf_cat");
        let directory = tempfile::tempdir().expect("a directory");
        copy(&from, &directory.path().join("model"));
        let files = fs::read_dir(directory.path().join("model").join(part)).expect("the part's directory");
        let part = files.map(|file| file.expect("a file").path()).next().expect("a part");
        Self { directory, part, given: given() }
    }

    /// Reads the model with `bytes` in the place of the part, and has it score. An error must name the part or
    /// the stage.
    pub fn read_with(&self, bytes: &[u8]) {
        fs::write(&self.part, bytes).expect("writes");
        match spark::read(&self.directory.path().join("model")) {
            Ok(model) => {
                if let Ok(predictor) = Predictor::new(&model, self.given.fields()) {
                    Scorer::new(Arc::new(predictor)).score(&self.given);
                }
            }
            Err(error) => {
                let message = error.to_string();
                let directory = self.directory.path().to_str().expect("UTF-8");
                assert!(message.contains(directory) || message.starts_with("stage `"), "{message}");
            }
        }
    }
}

/// The fuzzer ends on any panic, also on those of the Parquet reader, which are caught where it is called.
fn spare_caught_panics() {
    let ends = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.location().is_some_and(|location| location.file().contains("/parquet-")) {
            ends(info);
        }
    }));
}

/// Some vectors of the length that the model takes.
fn given() -> Rows {
    let mut fields = Fields::new("given");
    let features = Field { name: "features".into(), data_type: DataType::Vector(4), is_input: true };
    fields.push(features, &[]).expect("a new name");
    let mut rows = Rows::new(Arc::new(fields));
    for x in [0.0, -1.0, 2.5, 1e300, f64::NAN] {
        let mut row = rows.new_row();
        row.set_vector(0, Vector::dense(vec![x; 4]));
        row.keep();
    }
    rows
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("directory");
    for entry in fs::read_dir(from).expect("directory") {
        let path = entry.expect("entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, target).expect("copies");
        }
    }
}
