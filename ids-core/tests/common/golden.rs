//! The goldens of `testdata/spark`: JSON lines, a row each, doubles in hexadecimal.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ids_core::rows::{DataType, Field, Slot, Vector};
use ids_core::{Fields, Rows};
use serde_json::{Map, Value};

use super::hexadecimal_double;

pub(crate) type Golden = Map<String, Value>;

pub(crate) fn golden_rows(path: &Path) -> Vec<Golden> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).expect("golden JSON")).collect()
}

/// Columns of the goldens that are not doubles, which a golden does not tell.
fn data_type(case: &str, column: &str, cells: &mut dyn Iterator<Item = &Value>) -> DataType {
    match (case, column) {
        (_, "cnt" | "src_bytes" | "i") => return DataType::Integer,
        (_, "f" | "rate") => return DataType::Float,
        (_, "logged_in") => return DataType::Boolean,
        _ => {}
    }
    for cell in cells {
        match cell {
            Value::Object(vector) => {
                let size = vector.get("n").and_then(Value::as_u64).map(|n| n as usize);
                return DataType::Vector(size.unwrap_or_else(|| vector["v"].as_array().expect("entries").len()));
            }
            Value::String(text) if is_double(text) => return DataType::Double,
            Value::String(_) => return DataType::Text,
            _ => {}
        }
    }
    DataType::Double
}

pub(crate) fn is_double(text: &str) -> bool {
    text.contains("0x") || ["nan", "inf", "-inf"].contains(&text)
}

pub(crate) fn vector(cell: &Value) -> Option<Vector> {
    let doubles = |key: &str| -> Vec<f64> {
        let entries = cell[key].as_array().expect("entries").iter();
        entries.map(|entry| hexadecimal_double(entry.as_str().expect("hexadecimal"))).collect()
    };
    match cell.get("t")?.as_str()? {
        "dense" => Some(Vector::dense(doubles("v"))),
        _ => {
            let indices = cell["i"].as_array().expect("indices").iter().map(|i| i.as_u64().expect("index") as usize);
            let size = cell["n"].as_u64().expect("size") as usize;
            Some(Vector::sparse(size, &indices.collect::<Vec<_>>(), &doubles("v")).expect("a vector"))
        }
    }
}

/// The rows of a golden as input.
pub(crate) fn rows(case: &str, golden: &[Golden]) -> Rows {
    let mut fields = Fields::new("golden");
    for name in golden[0].keys() {
        let data_type = data_type(case, name, &mut golden.iter().map(|row| &row[name]));
        fields.push(Field { name: name.clone(), data_type, is_input: true }, &[]).expect("a new name");
    }
    let fields = Arc::new(fields);
    let mut rows = Rows::new(Arc::clone(&fields));
    for cells in golden {
        let mut row = rows.new_row();
        for (position, field) in fields.iter().enumerate() {
            match (fields.slot(position), &cells[&field.name]) {
                (_, Value::Null) => {}
                (Slot::Number(slot), Value::String(text)) => row.set_number(slot, hexadecimal_double(text)),
                (Slot::Number(slot), Value::Bool(flag)) => row.set_number(slot, f64::from(u8::from(*flag))),
                (Slot::Number(slot), cell) => row.set_number(slot, cell.as_i64().expect("an integer") as f64),
                (Slot::Text(slot), cell) => row.set_text(slot, cell.as_str().expect("text")),
                (Slot::Vector(slot), cell) => row.set_vector(slot, vector(cell).expect("a vector")),
            }
        }
        row.keep();
    }
    rows
}

/// Cases that no golden of their own belongs to, and the one that does.
pub(crate) fn golden_of(case: &str) -> &str {
    let copies = ["rf_multipart", "rf_codec_", "rf_legacyformat", "rf_pagev2", "rf_gzmeta"];
    if copies.iter().any(|copy| case.starts_with(copy)) { "rf_dense" } else { case }
}
