//! What Spark does with bad input, recorded in `errors.json` of each version: where it fails, the row is refused or
//! the stage is; where it answers, the answer is the same.

mod common;

use std::fs;
use std::sync::Arc;

use common::{hexadecimal_double, repository};
use ids_core::import::spark;
use ids_core::pipeline::{
    Bucketizer, Cell, Dialect, HandleInvalid, IndexToString, OneHotEncoder, Pipeline, Stage, StringIndexer, Transform,
    VectorAssembler,
};
use ids_core::rows::{DataType, Field, Vector};
use ids_core::{Fields, Predictor, Rows, Scorer};
use serde_json::Value;

/// A value of the one column of the one row.
enum Given {
    Number(DataType, Option<f64>),
    Text(Option<&'static str>),
    Vector(usize, Option<Vector>),
    /// The column is not there.
    Absent,
}

fn rows(name: &str, given: Given) -> Rows {
    let mut fields = Fields::new("a row");
    let data_type = match &given {
        Given::Number(data_type, _) => *data_type,
        Given::Text(_) => DataType::Text,
        Given::Vector(length, _) => DataType::Vector(*length),
        Given::Absent => DataType::Double,
    };
    let name = if matches!(given, Given::Absent) { "another" } else { name };
    fields.push(Field { name: name.into(), data_type, is_input: true }, &[]).expect("a new name");
    let mut rows = Rows::new(Arc::new(fields));
    let mut row = rows.new_row();
    match given {
        Given::Number(_, Some(x)) => row.set_number(0, x),
        Given::Text(Some(text)) => row.set_text(0, text),
        Given::Vector(_, Some(vector)) => row.set_vector(0, vector),
        _ => {}
    }
    row.keep();
    rows
}

/// What a stage makes of the column `in`: the cell, or the error of stage or row.
fn transform(dialect: Dialect, transform: Transform, given: Given) -> Result<String, String> {
    run(vec![Stage { uid: "stage".into(), dialect, transform }], "in", given)
}

fn run(stages: Vec<Stage>, column: &str, given: Given) -> Result<String, String> {
    let rows = rows(column, given);
    let pipeline = Pipeline::new(stages, rows.fields()).map_err(|error| error.to_string())?;
    let mut scratch = pipeline.scratch();
    let made = pipeline.transform(rows.get(0), &mut scratch).map_err(|fault| fault.to_string())?;
    Ok(pipeline.outputs().last().map_or("nothing".into(), |output| shown(made.get(output))))
}

fn shown(cell: Cell<'_>) -> String {
    match cell {
        Cell::Missing => "null".into(),
        Cell::Number(x) => format!("{x:?}"),
        Cell::Text(text) => text.into(),
        Cell::Vector { entries, stored } => {
            format!("{entries:?} {}", if stored.is_some() { "sparse" } else { "dense" })
        }
    }
}

/// The only value of an answer of Spark's, in the words of [`shown`].
fn expected(cell: &Value) -> String {
    let doubles = |key: &str| -> Vec<f64> {
        cell[key].as_array().expect("entries").iter().map(|x| hexadecimal_double(x.as_str().expect("hex"))).collect()
    };
    match cell {
        Value::Null => "null".into(),
        Value::String(text) if text.contains("0x") => format!("{:?}", hexadecimal_double(text)),
        Value::String(text) => text.clone(),
        cell if cell["t"] == "dense" => format!("{:?} dense", doubles("v")),
        cell => {
            let mut entries = vec![0.0; cell["n"].as_u64().expect("a size") as usize];
            for (index, value) in cell["i"].as_array().expect("indices").iter().zip(doubles("v")) {
                entries[index.as_u64().expect("an index") as usize] = value;
            }
            format!("{entries:?} sparse")
        }
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// What is made here of the bad input called `name`.
fn found(name: &str, version: &str, dialect: Dialect) -> Result<String, String> {
    use HandleInvalid::{Error, Keep};
    let saved = |case: &str| spark::read(&repository().join("testdata/spark").join(version).join(case)).expect("loads");
    let double = |x| Given::Number(DataType::Double, x);
    let dense = |entries: &[f64]| Given::Vector(entries.len(), Some(Vector::dense(entries.to_vec())));
    let score = |given| {
        let rows = rows("features", given);
        let predictor = Predictor::new(&saved("rf_dense"), rows.fields()).map_err(|error| error.to_string())?;
        let mut scorer = Scorer::new(Arc::new(predictor));
        let score = scorer.score(&rows).get(0).map(|score| format!("{:?}", score.prediction));
        score.map_err(|fault| fault.to_string())
    };
    let stage_of = |case: &str, given| run(saved(case).stages, "in", given);
    let indexer = |given| {
        let indexer = StringIndexer {
            input_columns: strings(&["in"]),
            output_columns: strings(&["out"]),
            labels: vec![strings(&["a", "b"])],
            handle_invalid: Error,
        };
        transform(dialect, Transform::StringIndexer(indexer), given)
    };
    let assembler = |given| {
        let assembler =
            VectorAssembler { input_columns: strings(&["in"]), output_column: "out".into(), handle_invalid: Error };
        transform(dialect, Transform::VectorAssembler(assembler), given)
    };
    let bucketizer = |splits: &[f64], handle_invalid, x| {
        let bucketizer = Bucketizer {
            input_columns: strings(&["in"]),
            output_columns: strings(&["out"]),
            splits: vec![splits.to_vec()],
            handle_invalid,
        };
        transform(dialect, Transform::Bucketizer(bucketizer), double(x))
    };
    let encoder = |x| {
        let encoder = OneHotEncoder {
            input_columns: strings(&["in"]),
            output_columns: strings(&["out"]),
            category_sizes: vec![3],
            drop_last: true,
            handle_invalid: Error,
        };
        transform(dialect, Transform::OneHotEncoder(encoder), double(Some(x)))
    };
    let label_of = |x| {
        let stage =
            IndexToString { input_column: "in".into(), output_column: "out".into(), labels: strings(&["a", "b"]) };
        transform(dialect, Transform::IndexToString(stage), double(Some(x)))
    };
    let halves = [f64::NEG_INFINITY, 0.0, f64::INFINITY];
    match name {
        "rf_short_dense_vector" => score(dense(&[1.0, 2.0])),
        "rf_long_dense_vector" => score(dense(&[1.0; 12])),
        "rf_short_sparse_vector" => score(Given::Vector(2, Some(Vector::sparse(2, &[], &[]).expect("a vector")))),
        "rf_null_vector" => score(Given::Vector(8, None)),
        "sidx_error_unseen" => indexer(Given::Text(Some("zz"))),
        "sidx_error_null" => indexer(Given::Text(None)),
        "sidx_missing_column" => indexer(Given::Absent),
        "va_error_nan" => assembler(double(Some(f64::NAN))),
        "va_error_null" => assembler(double(None)),
        "va_error_nan_in_vector" => assembler(dense(&[f64::NAN, 1.0])),
        "va_error_nan_float_col" => assembler(Given::Number(DataType::Float, Some(f64::NAN))),
        "bucket_error_nan" => bucketizer(&halves, Error, Some(f64::NAN)),
        "bucket_out_of_range" => bucketizer(&[0.0, 1.0, 2.0], Keep, Some(3.0)),
        "bucket_null" => bucketizer(&halves, Error, None),
        "ohe_error_3.0" => encoder(3.0),
        "ohe_error_-1.0" => encoder(-1.0),
        "ohe_error_nan" => encoder(f64::NAN),
        "ohe_error_1.5" => encoder(1.5),
        "std_wrong_size_short" => stage_of("st_std", dense(&[1.0, 2.0])),
        "std_wrong_size_long" => stage_of("st_std", dense(&[1.0; 9])),
        "minmax_wrong_size" => stage_of("st_minmax", dense(&[1.0, 2.0])),
        "vindex_error" => {
            let mut stages = saved("st_vindex_keep").stages;
            if let Transform::VectorIndexer(indexer) = &mut stages[0].transform {
                indexer.handle_invalid = Error;
            }
            run(stages, "in", dense(&[2.0, 3.0, 1.0]))
        }
        "idx2str_out_of_range" => label_of(5.0),
        "idx2str_fraction_nan" => {
            // Three rows: one that fails, fails all.
            let labels: Result<Vec<_>, _> = [1.9, f64::NAN, -0.5].into_iter().map(label_of).collect();
            labels.map(|labels| labels.join(" "))
        }
        other => panic!("{other}: a kind of bad input that the test does not know"),
    }
}

#[test]
fn bad_input_fails_where_spark_does() {
    let versions = [
        ("2.4.8", Dialect::UpTo3),
        ("3.0.3", Dialect::UpTo3),
        ("3.5.9", Dialect::UpTo3),
        ("4.0.5", Dialect::V4_0),
        ("4.1.4", Dialect::From4_1),
        ("4.3.0", Dialect::From4_1),
    ];
    for (version, dialect) in versions {
        let text = fs::read_to_string(repository().join(format!("testdata/spark/{version}/errors.json")));
        let recorded: Value = serde_json::from_str(&text.expect("errors.json")).expect("JSON");
        let recorded = recorded.as_object().expect("an object");
        assert!(recorded.len() >= 20, "{version}");
        for (name, spark) in recorded {
            let found = found(name, version, dialect);
            let what = format!("Spark {version}, {name}: {spark}, here {found:?}");
            match (spark.get("ok").and_then(Value::as_array), name.as_str()) {
                (None, _) => assert!(found.is_err(), "{what}"),
                // Stricter here: docs/compatibility.md.
                (Some(_), "std_wrong_size_short" | "minmax_wrong_size") => assert!(found.is_err(), "{what}"),
                // What Spark has is another column: nothing is made.
                (Some(_), "sidx_missing_column") => assert_eq!(found.as_deref(), Ok("nothing"), "{what}"),
                (Some(cells), _) => {
                    let cells: Vec<_> = cells.iter().map(expected).collect();
                    assert_eq!(found, Ok(cells.join(" ")), "{what}");
                }
            }
        }
    }
}
