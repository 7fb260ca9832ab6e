//! A copy of a saved model, of which one file is replaced by the fuzzer's bytes.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

pub struct Fixture {
    directory: TempDir,
    part: PathBuf,
}

impl Fixture {
    /// The saved forest with category splits; `part` is the directory in it whose file is replaced.
    pub fn new(part: &str) -> Self {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/spark/3.5.9/rf_cat");
        let directory = tempfile::tempdir().expect("a directory");
        copy(&from, &directory.path().join("model"));
        let files = fs::read_dir(directory.path().join("model").join(part)).expect("the part's directory");
        let part = files.map(|file| file.expect("a file").path()).next().expect("a part");
        Self { directory, part }
    }

    /// Reads the model with `bytes` in the place of the part. An error must name a place in the model.
    pub fn read_with(&self, bytes: &[u8]) {
        fs::write(&self.part, bytes).expect("writes");
        if let Err(error) = ids_core::import::spark::read(&self.directory.path().join("model")) {
            let message = error.to_string();
            assert!(message.contains("model") || message.contains("stage `"), "{message}");
        }
    }
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
