//! `verify` finds what differs and nothing else; and the cases in which a parity run once differed.

mod common;

use std::fs;
use std::path::Path;

use common::repository;
use ids_core::import::spark;
use ids_core::pipeline::{HandleInvalid, Transform};
use ids_core::verify::{Comparison, Report, verify};

fn compare(model: &Path, input: Option<&Path>, expected: &Path, key: Option<&str>) -> Report {
    let model = spark::read(model).expect("loads");
    verify(&model, Comparison { input, key, ..Comparison::with(expected) }, |_, _| {}).expect("compares")
}

#[test]
fn cases_that_once_differed_are_equal() {
    let mut n_cases = 0;
    for entry in fs::read_dir(repository().join("testdata/laboratory/cases")).expect("cases") {
        let case = entry.expect("entry").path();
        let report = compare(&case.join("model"), Some(&case.join("input")), &case.join("expected"), Some("row_id"));
        assert!(report.is_equal() && report.scored > 0, "{}: {:?}", case.display(), report.differences);
        n_cases += 1;
    }
    assert!(n_cases > 0);
}

#[test]
fn what_spark_wrote_is_equal() {
    for version in ["3.5.9", "4.3.0"] {
        for (case, n_doubles) in [("rf_dense", 4_424), ("pipeline_basic", 6_200)] {
            let directory = repository().join("testdata/spark").join(version);
            let expected = directory.join(format!("{case}.golden.parquet"));
            let report = compare(&directory.join(case), None, &expected, None);
            assert!(report.is_equal(), "{version}/{case}: {:?}", report.differences);
            assert_eq!((report.doubles, report.differing_doubles), (n_doubles, 0), "{version}/{case}");
            // The same rows as an input of their own, in order.
            let again = compare(&directory.join(case), Some(&expected), &expected, None);
            assert_eq!((again.is_equal(), again.doubles), (true, n_doubles), "{version}/{case}");
        }
    }
}

/// The last bit of one surrogate is enough.
#[test]
fn a_single_bit_is_found() {
    let directory = repository().join("testdata/spark/3.5.9");
    let mut model = spark::read(&directory.join("pipeline_basic")).expect("loads");
    let imputer = model.stages.iter_mut().find_map(|stage| match &mut stage.transform {
        Transform::Imputer(imputer) => Some(imputer),
        _ => None,
    });
    let surrogate = &mut imputer.expect("an imputer").surrogates[0];
    *surrogate = f64::from_bits(surrogate.to_bits() + 1);
    let expected = directory.join("pipeline_basic.golden.parquet");
    let report = verify(&model, Comparison::with(&expected), |_, _| {}).expect("compares");
    assert!(!report.is_equal() && report.differing_doubles > 0);
    let imputed = report.columns.iter().find(|column| column.name == "duration_f").expect("compared");
    assert!(imputed.differing > 0, "{:?}", report.columns);
    let difference = &report.differences[0];
    assert!(difference.expected.contains("bits"), "{difference:?}");
}

/// Rows that only one side has are differences.
#[test]
fn rows_that_are_not_on_both_sides_are_found() {
    let directory = repository().join("testdata/spark/3.5.9");
    let (model, once) = (directory.join("rf_dense"), directory.join("rf_dense.golden.parquet"));
    let part = fs::read_dir(&once).expect("parts").map(|part| part.expect("a part").path()).next().expect("a part");
    let twice = tempfile::tempdir().expect("a directory");
    for name in ["part-0.parquet", "part-1.parquet"] {
        fs::copy(&part, twice.path().join(name)).expect("copies");
    }
    let given_more = compare(&model, Some(twice.path()), &once, None);
    assert_eq!((given_more.rows, given_more.differing_rows, given_more.differing_doubles), (1_264, 632, 0));
    let expected_more = compare(&model, Some(&once), twice.path(), None);
    assert_eq!((expected_more.rows, expected_more.differing_rows, expected_more.differing_doubles), (632, 632, 0));
}

#[test]
fn what_cannot_be_compared_is_said() {
    let case = repository().join("testdata/laboratory/cases/indexed_integers_beyond_2_53");
    let golden = repository().join("testdata/spark/3.5.9/pipeline_basic.golden.parquet");
    let model = spark::read(&case.join("model")).expect("loads");
    let input = case.join("input");
    let empty = tempfile::tempdir().expect("a directory");
    let comparisons = [
        (Comparison { input: Some(&input), key: Some("row_id"), ..Comparison::with(&golden) }, "row_id"),
        (Comparison::with(&input), "none of the columns to compare"),
        (Comparison::with(&golden), "cannot supply"),
        (Comparison::with(empty.path()), "no Parquet"),
    ];
    for (comparison, expected) in comparisons {
        let message = verify(&model, comparison, |_, _| {}).expect_err(expected).to_string();
        assert!(message.contains(expected), "{message}");
    }
}

/// The names of predicted classes are what a verdict carries.
#[test]
fn a_wrong_name_of_a_class_is_found() {
    let directory = repository().join("testdata/spark/3.5.9");
    let mut model = spark::read(&directory.join("pipeline_basic")).expect("loads");
    model.predicted_label.as_mut().expect("an IndexToString").labels.reverse();
    let expected = directory.join("pipeline_basic.golden.parquet");
    let report = verify(&model, Comparison::with(&expected), |_, _| {}).expect("compares");
    let named = report.columns.iter().find(|column| column.name == "predicted_label").expect("compared");
    assert!(named.differing > 0 && report.differing_doubles == 0, "{report:?}");
}

/// Spark writes nothing where a row fails: a row that is refused here and absent there was dropped.
#[test]
fn a_refused_row_must_be_a_failure_of_spark() {
    let directory = repository().join("testdata/spark/3.5.9");
    let mut model = spark::read(&directory.join("pipeline_basic")).expect("loads");
    let golden = directory.join("pipeline_basic.golden.parquet");
    // The other names of categories leave no row that an indexer of `error` knows.
    for stage in &mut model.stages {
        if let Transform::StringIndexer(indexer) = &mut stage.transform {
            indexer.handle_invalid = HandleInvalid::Error;
            indexer.labels.iter_mut().for_each(Vec::clear);
        }
    }
    let nothing = Comparison { input: Some(&golden), ..Comparison::with(&golden) };
    let report = verify(&model, nothing, |_, _| {}).expect("compares");
    assert!(report.scored == 0 && report.refused == report.rows && report.differing_rows > report.rows);
    let allowed = Comparison { allow_refused: true, ..nothing };
    assert!(
        verify(&model, allowed, |_, _| {}).expect("compares").differing_rows == report.differing_rows - report.rows
    );
}
