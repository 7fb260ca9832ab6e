//! pandas DataFrames, column by column and without pyarrow: numbers through NumPy, text through
//! `pandas.factorize`, which finds the distinct values.

use std::sync::Arc;

use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, DictionaryArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, Schema as ArrowSchema};
use ids_core::Schema;
use ids_core::schema::ColumnKind;
use numpy::{PyArray1, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyString};

use super::{ArrowRows, Columns, wrong_type};
use crate::errors::{DecodeError, mismatch};

const SOURCE: &str = "the DataFrame";

/// Whether `data` is a DataFrame of a pandas that is imported already: else it cannot be one.
pub(super) fn is_frame(data: &Bound<'_, PyAny>) -> PyResult<bool> {
    let modules = data.py().import("sys")?.getattr("modules")?;
    let Ok(pandas) = modules.get_item("pandas") else { return Ok(false) };
    match pandas.getattr("DataFrame") {
        Ok(class) => data.is_instance(&class),
        // It is being imported.
        Err(_) => Ok(false),
    }
}

/// Reads the columns of a DataFrame that the model takes.
pub(super) fn read(
    frame: &Bound<'_, PyAny>,
    schema: Arc<Schema>,
    inputs: &[String],
    columns: Columns,
) -> PyResult<ArrowRows> {
    let n_rows = frame.len()?;
    let mut fields = Vec::new();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for (place, label) in frame.getattr("columns")?.try_iter()?.enumerate() {
        let label = label?;
        let Ok(name) = label.cast::<PyString>().map_err(PyErr::from).and_then(|name| name.extract::<String>()) else {
            continue;
        };
        let Some(position) = schema.position(&name) else { continue };
        let column = &schema.columns()[position];
        let is_read = match column.kind {
            ColumnKind::Number | ColumnKind::Integer | ColumnKind::Category => {
                columns == Columns::All || is_wanted(&schema, inputs, position)
            }
            ColumnKind::Label => columns != Columns::Inputs,
            ColumnKind::Identifier => columns == Columns::All,
        };
        let (data_type, array): (_, ArrayRef) = if is_read {
            let series = frame.getattr("iloc")?.get_item((pyo3::types::PySlice::full(frame.py()), place))?;
            let array = if column.kind.is_number() {
                numbers(&series, &column.name, &schema)?
            } else {
                texts(&series, &column.name, column.kind, &schema)?
            };
            (array.data_type().clone(), array)
        } else {
            (DataType::Null, Arc::new(arrow_array::NullArray::new(n_rows)))
        };
        fields.push(Field::new(name, data_type, true));
        arrays.push(array);
    }
    let arrow_schema = Arc::new(ArrowSchema::new(fields));
    let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
    let batch = RecordBatch::try_new_with_options(Arc::clone(&arrow_schema), arrays, &options)
        .map_err(|error| DecodeError::new_err(format!("{SOURCE} cannot be read: {error}")))?;
    ArrowRows::new(&arrow_schema, vec![batch], schema, inputs, columns, SOURCE)
}

/// Whether the model's inputs may follow from the column at `position`.
fn is_wanted(schema: &Schema, inputs: &[String], position: usize) -> bool {
    inputs.iter().filter_map(|input| schema.position(input)).any(|input| {
        let derive = schema.columns()[input].derive.iter();
        let mut operands = derive.flat_map(ids_core::schema::Derivation::operands);
        input == position || operands.any(|operand| schema.position(operand) == Some(position))
    })
}

fn numbers(series: &Bound<'_, PyAny>, name: &str, schema: &Schema) -> PyResult<ArrayRef> {
    let py = series.py();
    let dtype = series.getattr("dtype")?;
    let kind: String = dtype.getattr("kind").and_then(|kind| kind.extract()).unwrap_or_default();
    if !["f", "i", "u"].contains(&kind.as_str()) {
        return Err(wrong_type(name, &dtype.str()?.to_string(), true, SOURCE, schema));
    }
    let is_numpy = dtype.is_instance(&py.import("numpy")?.getattr("dtype")?)?;
    let arguments = PyDict::new(py);
    arguments.set_item("dtype", "float64")?;
    if !is_numpy {
        arguments.set_item("na_value", f64::NAN)?;
    }
    let failed =
        |error: PyErr| mismatch(name, format!("column `{name}` of {SOURCE} cannot be read as doubles: {error}"));
    let values = series.call_method("to_numpy", (), Some(&arguments)).map_err(failed)?;
    let values = vector::<f64>(&values)?;
    let nulls = if is_numpy {
        // NaN stays NaN: NumPy has no other missing value.
        None
    } else {
        let missing = series.call_method0("isna")?.call_method("to_numpy", ("bool",), None)?;
        let missing = vector::<bool>(&missing)?;
        Some(NullBuffer::from_iter(missing.into_iter().map(|is_missing| !is_missing)))
    };
    Ok(Arc::new(Float64Array::new(values.into(), nulls)))
}

fn texts(series: &Bound<'_, PyAny>, name: &str, kind: ColumnKind, schema: &Schema) -> PyResult<ArrayRef> {
    let py = series.py();
    let failed = |error: PyErr| mismatch(name, format!("column `{name}` of {SOURCE} cannot be read as text: {error}"));
    let factors = py.import("pandas")?.call_method1("factorize", (series,)).map_err(failed)?;
    let (codes, distinct): (Bound<'_, PyAny>, Bound<'_, PyAny>) = factors.extract()?;
    let mut values = Vec::new();
    for value in distinct.try_iter()? {
        let value = value?;
        let is_number =
            kind != ColumnKind::Category && (value.hasattr("__index__")? || value.is_instance_of::<PyFloat>());
        if !is_number && !value.is_instance_of::<PyString>() {
            let found = format!("{} ({})", series.getattr("dtype")?.str()?, value.get_type().name()?);
            return Err(wrong_type(name, &found, false, SOURCE, schema));
        }
        values.push(value.str()?.extract::<String>().map_err(failed)?);
    }
    let codes = codes.call_method1("astype", ("int64",))?;
    let codes = vector::<i64>(&codes)?;
    let keys = Int64Array::from_iter(codes.into_iter().map(|code| (code >= 0).then_some(code)));
    let values = Arc::new(StringArray::from(values));
    let array = DictionaryArray::<Int64Type>::try_new(keys, values)
        .map_err(|error| mismatch(name, format!("column `{name}` of {SOURCE} cannot be read as text: {error}")))?;
    Ok(Arc::new(array))
}

/// The elements of a NumPy array [n], which need not lie side by side.
fn vector<T: numpy::Element + Clone>(array: &Bound<'_, PyAny>) -> PyResult<Vec<T>> {
    let array = array.cast::<PyArray1<T>>()?.try_readonly().map_err(|error| DecodeError::new_err(error.to_string()))?;
    Ok(array.as_array().to_vec())
}
