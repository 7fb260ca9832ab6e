//! The programs, to be run from the repository as their users do.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> Output {
    let path = match program {
        "ids" => env!("CARGO_BIN_EXE_ids"),
        "demo" => env!("CARGO_BIN_EXE_demo"),
        "producer" => env!("CARGO_BIN_EXE_producer"),
        "detector" => env!("CARGO_BIN_EXE_detector"),
        other => panic!("no program {other}"),
    };
    Command::new(path).args(arguments).current_dir(repository()).output().expect("runs")
}

pub(crate) fn succeed(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

pub(crate) fn fail(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    assert!(!output.status.success(), "{program} {arguments:?} succeeded");
    String::from_utf8(output.stderr).expect("UTF-8")
}

pub(crate) const SMALL: &str = "models/unsw-nb15-small";
pub(crate) const FLOWS: &str = "testdata/synthetic-unsw-nb15.csv";
