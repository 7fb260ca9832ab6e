//! pandas DataFrames, column by column and without pyarrow: numbers through NumPy, text through
//! `pandas.factorize`, which finds the distinct values.

use std::sync::Arc;

use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, DictionaryArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{Field, Schema as ArrowSchema};
use ids_core::Schema;
use ids_core::schema::ColumnKind;
use numpy::{PyArray1, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyString};

use super::{ArrowRows, Columns, aligned, read_columns, refuse_foreign, wrong_type};
use crate::errors::{DecodeError, mismatch};

const SOURCE: &str = "the DataFrame";

/// Reads the columns of a DataFrame that the model takes.
pub(super) fn read(
    frame: &Bound<'_, PyAny>,
    schema: Arc<Schema>,
    inputs: &[String],
    columns: Columns,
) -> PyResult<ArrowRows> {
    let n_rows = frame.len()?;
    let is_read = read_columns(&schema, inputs, columns);
    let mut fields = Vec::new();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for (place, label) in frame.getattr("columns")?.try_iter()?.enumerate() {
        let label = label?;
        let Ok(name) = label.cast::<PyString>().map_err(PyErr::from).and_then(|name| name.extract::<String>()) else {
            continue;
        };
        refuse_foreign(&name, &schema, "the DataFrame")?;
        let Some(position) = schema.position(&name) else { continue };
        if !is_read[position] {
            continue;
        }
        let column = &schema.columns()[position];
        let series = frame.getattr("iloc")?.get_item((pyo3::types::PySlice::full(frame.py()), place))?;
        let array = if column.kind.is_number() {
            numbers(&series, &column.name, &schema)?
        } else {
            texts(&series, &column.name, column.kind, &schema)?
        };
        fields.push(Field::new(name, array.data_type().clone(), true));
        arrays.push(array);
    }
    let arrow_schema = Arc::new(ArrowSchema::new(fields));
    let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
    let batch = RecordBatch::try_new_with_options(Arc::clone(&arrow_schema), arrays, &options)
        .map_err(|error| DecodeError::new_err(format!("{SOURCE} cannot be read: {error}")))?;
    ArrowRows::new(&arrow_schema, vec![batch], schema, inputs, columns, SOURCE)
}

fn numbers(series: &Bound<'_, PyAny>, name: &str, schema: &Schema) -> PyResult<ArrayRef> {
    let py = series.py();
    let dtype = series.getattr("dtype")?;
    let kind: String = dtype.getattr("kind").and_then(|kind| kind.extract()).unwrap_or_default();
    if !["f", "i", "u"].contains(&kind.as_str()) {
        // pandas makes a column of None, and one of no rows, one of objects.
        if kind == "O" && series.call_method0("isna")?.call_method0("all")?.is_truthy()? {
            return Ok(Arc::new(arrow_array::NullArray::new(series.len()?)));
        }
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
    let array = aligned(array.cast::<PyArray1<T>>()?)?;
    let array = array.try_readonly().map_err(|error| DecodeError::new_err(error.to_string()))?;
    Ok(array.as_array().to_vec())
}
