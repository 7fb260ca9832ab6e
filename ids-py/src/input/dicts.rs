//! Flows as dictionaries: names are looked up once, as producers write them in one order.

use std::sync::Arc;

use ids_core::decode::{Value, ValueDecoder};
use ids_core::rows::Slot;
use ids_core::schema::ColumnKind;
use ids_core::{FlowRecords, RecordError, RecordErrorKind, Schema};
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyString};

use super::{Columns, Records};
use crate::errors;
use crate::outputs::TILE;

/// Reads dictionaries into records.
pub(crate) struct DictReader {
    schema: Arc<Schema>,
    columns: Columns,
    decoder: ValueDecoder,
    /// The column that the i-th key of the previous dictionary named, if it is to be read.
    expected: Vec<Named>,
}

/// A key, and the position and slot of the column that it names, if that is to be read.
type Named = (Py<PyString>, Option<(usize, Slot)>);

/// What became of a dictionary: nothing yet, where reading it might run code that changes it.
type Outcome = Option<Result<(), RecordError>>;

impl DictReader {
    pub(crate) fn new(schema: &Arc<Schema>, inputs: &[String], columns: Columns) -> PyResult<Self> {
        let decoder = ValueDecoder::new(Arc::clone(schema), inputs).map_err(errors::core)?;
        Ok(Self { schema: Arc::clone(schema), columns, decoder, expected: Vec::new() })
    }

    /// Appends the flow in `dict` to `records`, or says what is wrong with it and leaves `records` as it was.
    pub(crate) fn read(
        &mut self,
        record: u64,
        dict: &Bound<'_, PyDict>,
        records: &mut FlowRecords,
    ) -> Result<(), RecordError> {
        if let Some(outcome) = self.fill(record, dict.iter(), records, false) {
            return outcome;
        }
        // Some value is not of Python's own types, and reading it may run code that changes the dictionary.
        let items: Vec<_> = dict.iter().collect();
        self.fill(record, items.into_iter(), records, true).unwrap_or(Ok(()))
    }

    fn fill<'py>(
        &mut self,
        record: u64,
        items: impl Iterator<Item = (Bound<'py, PyAny>, Bound<'py, PyAny>)>,
        records: &mut FlowRecords,
        takes_any: bool,
    ) -> Outcome {
        let Self { schema, columns, decoder, expected } = self;
        let mut row = decoder.start(records);
        for (field, (key, value)) in items.enumerate() {
            // What is no string names no column.
            let Ok(key) = key.cast::<PyString>() else { continue };
            let known = expected.get(field).filter(|(known, _)| is_same(known, key));
            let column = match known {
                Some((_, column)) => *column,
                None => match look_up(schema, *columns, expected, field, key) {
                    Ok(column) => column,
                    Err(kind) => return Some(Err(row.refusal(record, kind))),
                },
            };
            let Some((position, slot)) = column else { continue };
            let outcome = if let Ok(number) = value.cast::<PyFloat>() {
                row.set(record, position, Value::Number(number.value()))
            } else if let (Ok(text), Slot::Text(_)) = (value.cast::<PyString>(), slot) {
                match text.to_str() {
                    Ok(text) => row.set(record, position, Value::Text(text)),
                    Err(_) => Err(row.error(record, position, RecordErrorKind::InvalidUtf8)),
                }
            } else if value.is_none() {
                row.set(record, position, Value::Missing)
            } else if let (true, Slot::Number(_)) = (value.is_exact_instance_of::<PyInt>(), slot) {
                match value.extract::<f64>() {
                    Ok(number) => row.set(record, position, Value::Number(number)),
                    Err(error) => Err(row.error(record, position, no_number(&value, &error))),
                }
            } else if takes_any {
                let kind = schema.columns()[position].kind;
                match other(&value, slot, kind) {
                    Ok(Other::Missing) => row.set(record, position, Value::Missing),
                    Ok(Other::Number(number)) => row.set(record, position, Value::Number(number)),
                    Ok(Other::Text(text)) => row.set(record, position, Value::Text(&text)),
                    Err(fault) => Err(row.error(record, position, fault)),
                }
            } else {
                return None;
            };
            if let Err(error) = outcome {
                return Some(Err(error));
            }
        }
        Some(row.finish(record))
    }
}

/// Reads dictionaries, one after the other.
pub(super) fn read_all<'py>(
    items: impl Iterator<Item = Bound<'py, PyAny>>,
    schema: &Arc<Schema>,
    inputs: &[String],
    columns: Columns,
) -> PyResult<Records> {
    let mut reader = DictReader::new(schema, inputs, columns)?;
    let mut records = FlowRecords::new(Arc::clone(schema));
    let mut bad = Vec::new();
    for (row, item) in items.enumerate() {
        if row % TILE == 0 {
            item.py().check_signals()?;
        }
        let Ok(dict) = item.cast::<PyDict>() else {
            return Err(PyTypeError::new_err(format!("item {row} is {}, not a dict of a flow", item.get_type())));
        };
        if let Err(error) = reader.read(row as u64, dict, &mut records) {
            bad.push((row, error));
        }
    }
    Ok(Records { records, bad })
}

/// Whether two keys are the same: mostly they are the same object.
fn is_same(known: &Py<PyString>, key: &Bound<'_, PyString>) -> bool {
    let known = known.bind(key.py());
    known.is(key) || matches!((known.to_str(), key.to_str()), (Ok(known), Ok(key)) if known == key)
}

/// The column that a key names, if it is to be read; remembered for the next dictionary. An error where it tells of
/// another data set.
#[cold]
fn look_up(
    schema: &Schema,
    columns: Columns,
    expected: &mut Vec<Named>,
    field: usize,
    key: &Bound<'_, PyString>,
) -> Result<Option<(usize, Slot)>, RecordErrorKind> {
    let is_read = |position: &usize| match schema.columns()[*position].kind {
        ColumnKind::Number | ColumnKind::Integer | ColumnKind::Category => true,
        ColumnKind::Label => columns != Columns::Inputs,
        ColumnKind::Identifier => columns == Columns::All,
    };
    let Ok(text) = key.to_str() else { return Ok(None) };
    if let Some(foreign) = RecordErrorKind::of_foreign(schema, text) {
        return Err(foreign);
    }
    let column = schema.position(text).filter(is_read).map(|position| (position, schema.slot(position)));
    // A dictionary with more or longer keys is not of the kind that the short cut is for.
    const REMEMBERED: usize = 512;
    const LONGEST: usize = 64;
    if text.len() <= LONGEST {
        if field < expected.len() {
            expected[field] = (key.clone().unbind(), column);
        } else if field == expected.len() && field < REMEMBERED {
            expected.push((key.clone().unbind(), column));
        }
    }
    Ok(column)
}

/// A value that is not of Python's own types, as one of them.
enum Other {
    Missing,
    Number(f64),
    Text(String),
}

fn other(value: &Bound<'_, PyAny>, slot: Slot, kind: ColumnKind) -> Result<Other, RecordErrorKind> {
    let type_name = value.get_type().name().map(|name| name.to_string()).unwrap_or_default();
    if type_name == "NAType" {
        return Ok(Other::Missing);
    }
    let is_number = matches!(slot, Slot::Number(_));
    let wrong = |expected| RecordErrorKind::WrongType { expected, found: shown(value) };
    if value.is_instance_of::<PyBool>() || ["bool", "bool_"].contains(&type_name.as_str()) {
        return Err(wrong(if is_number { "a number" } else { "a text" }));
    }
    let is_text = value.is_instance_of::<PyString>();
    if is_number {
        return match value.extract::<f64>() {
            Ok(number) if !is_text => Ok(Other::Number(number)),
            Ok(_) => Err(wrong("a number")),
            Err(error) => Err(no_number(value, &error)),
        };
    }
    // Labels and identifiers are often numbers: keep them as they are written.
    let is_written = is_text || (kind != ColumnKind::Category && value.hasattr("__index__").unwrap_or(false));
    match value.str() {
        Ok(text) if is_written => {
            text.to_str().map(|text| Other::Text(text.into())).map_err(|_| RecordErrorKind::InvalidUtf8)
        }
        _ => Err(wrong("a text")),
    }
}

fn no_number(value: &Bound<'_, PyAny>, error: &PyErr) -> RecordErrorKind {
    if error.is_instance_of::<PyOverflowError>(value.py()) {
        return RecordErrorKind::NumberOverflow { found: shown(value) };
    }
    RecordErrorKind::WrongType { expected: "a number", found: shown(value) }
}

/// The beginning of how Python writes a value.
fn shown(value: &Bound<'_, PyAny>) -> String {
    const LIMIT: usize = 40;
    let text = value.repr().and_then(|text| text.extract::<String>());
    let text = text.unwrap_or_else(|_| value.get_type().to_string());
    let start: String = text.chars().take(LIMIT).collect();
    let more = if start.len() < text.len() { "..." } else { "" };
    format!("`{start}{more}`")
}
