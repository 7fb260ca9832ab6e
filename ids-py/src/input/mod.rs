//! What Python hands over to be scored, whatever it is: told apart here, read in a file for each kind.

mod arrow;
mod dicts;
mod files;
mod json;
mod pandas;
mod polars;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ids_core::{FlowRecords, Model, Schema};
use numpy::ndarray::Dimension;
use numpy::{
    Element, PyArray, PyArrayDescrMethods, PyArrayMethods, PyReadonlyArray2, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList, PyMemoryView, PyString, PyTuple};

use crate::errors::{SchemaMismatch, mismatch};
use crate::fault::Reason;
use crate::flows::Flows;
use crate::outputs::{Outputs, Wanted};
use crate::watch::Watch;

pub(crate) use arrow::ArrowRows;
pub(crate) use dicts::DictReader;
pub(crate) use files::{RecordRows, buffered, collect, open};
pub(crate) use json::JsonRows;

/// Which columns to read beside those that the model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Columns {
    /// No others.
    Inputs,
    /// The label.
    Label,
    /// All that the schema knows.
    All,
}

/// Rows to score.
pub(crate) enum Input<'py> {
    /// Assembled features, `[n_rows, n_features]`.
    Features(PyReadonlyArray2<'py, f64>),
    /// One flow that is decoded, or what is wrong with it: dictionaries.
    Records(Records),
    /// Flows that were read from a file.
    Flows(Py<Flows>),
    /// JSON: a record, or one per line.
    Json(PyBackedBytes),
    /// A table.
    Arrow(ArrowRows),
    /// A file of flows.
    File(PathBuf),
}

/// Decoded rows and what is wrong with the others, by row.
pub(crate) struct Records {
    pub(crate) records: FlowRecords,
    pub(crate) bad: Vec<(usize, ids_core::RecordError)>,
}

impl<'py> Input<'py> {
    /// Looks at `data`. Tables are bound to `schema` here: that of the model that takes the columns `inputs`.
    pub(crate) fn new(
        data: &Bound<'py, PyAny>,
        schema: &Arc<Schema>,
        inputs: &[String],
        n_features: Option<usize>,
        columns: Columns,
    ) -> PyResult<Self> {
        let py = data.py();
        if let Ok(array) = data.cast::<PyUntypedArray>() {
            refuse_masked(data)?;
            return match n_features {
                Some(n_features) => features(array, n_features).map(Self::Features),
                None => Err(PyTypeError::new_err("a NumPy array of features holds no flows")),
            };
        }
        if let Ok(flows) = data.cast::<Flows>() {
            let (found, expected) = (flows.get().schema(), schema);
            if !found.fields().is_like(expected.fields()) {
                let (found, expected) = (found.name(), expected.name());
                return Err(SchemaMismatch::new_err(format!("the flows are of schema `{found}`, not of `{expected}`")));
            }
            flows.get().check(inputs)?;
            let label = schema.labels().and_then(|labels| schema.position(&labels.column));
            if columns == Columns::Label && label.is_some_and(|label| !flows.get().has(label)) {
                return Err(no_labels(schema, "the file of the flows"));
            }
            return Ok(Self::Flows(flows.clone().unbind()));
        }
        if let Ok(dict) = data.cast::<PyDict>() {
            return dicts::read_all(std::iter::once(dict.as_any().clone()), schema, inputs, columns).map(Self::Records);
        }
        if data.is_instance_of::<PyList>() || data.is_instance_of::<PyTuple>() {
            // A copy of the list: what reads a value may change it.
            let items: Vec<_> = data.try_iter()?.collect::<PyResult<_>>()?;
            return dicts::read_all(items.into_iter(), schema, inputs, columns).map(Self::Records);
        }
        if data.is_instance_of::<PyBytes>() || data.is_instance_of::<PyByteArray>() {
            return Ok(Self::Json(data.extract::<PyBackedBytes>().map_err(PyErr::from)?));
        }
        if data.is_instance_of::<PyMemoryView>() {
            let bytes = py.get_type::<PyBytes>().call1((data,))?;
            return Ok(Self::Json(bytes.extract::<PyBackedBytes>().map_err(PyErr::from)?));
        }
        if is_a(data, "pandas", "DataFrame")? {
            return pandas::read(data, Arc::clone(schema), inputs, columns).map(Self::Arrow);
        }
        if is_a(data, "pandas", "Series")? {
            return Err(PyTypeError::new_err(
                "a pandas Series is no table of flows: pass series.to_dict() if it is a flow, series.to_frame() if it is a \
                 column",
            ));
        }
        if is_a(data, "polars", "DataFrame")? {
            let is_read = read_columns(schema, inputs, columns);
            let prepared = polars::prepared(data, schema, &is_read)?;
            return ArrowRows::read(&prepared, schema, inputs, columns).map(Self::Arrow);
        }
        if data.hasattr("__arrow_c_stream__")? || data.hasattr("__arrow_c_array__")? {
            return ArrowRows::read(data, schema, inputs, columns).map(Self::Arrow);
        }
        if let Ok(path) = data.extract::<PathBuf>() {
            if data.is_instance_of::<PyString>() && is_json(&path) {
                return Err(PyTypeError::new_err(
                    "a str is the path of a file, and this one begins as JSON does: pass JSON as bytes, text.encode()",
                ));
            }
            return Ok(Self::File(path));
        }
        Err(PyTypeError::new_err(format!(
            "cannot read flows from {}: pass an Arrow table (pyarrow, polars, DuckDB), a pandas DataFrame, a NumPy float64 \
             array of assembled features, a dict or a list of dicts, JSON as bytes, the path of a CSV or JSON lines file, \
             or what read_flows returned",
            data.get_type()
        )))
    }

    /// Scores all rows, with the interpreter released.
    pub(crate) fn score(
        &self,
        py: Python<'_>,
        model: &Arc<Model>,
        wanted: Wanted,
        n_threads: usize,
    ) -> PyResult<Outputs> {
        let (mut outputs, watch) = (Outputs::new(model), Watch::new());
        let mut read = Ok(());
        match self {
            Self::Features(array) => {
                let copy;
                let features = match array.as_slice() {
                    // Contiguous is also one that lies column by column.
                    Ok(features) if array.is_c_contiguous() => features,
                    _ => {
                        copy = array.as_array().iter().copied().collect::<Vec<_>>();
                        &copy
                    }
                };
                py.detach(|| outputs.score_features(model, features, wanted, n_threads, &watch));
            }
            Self::Records(Records { records, bad }) => {
                let rows = RecordRows::new(records, bad);
                py.detach(|| outputs.score(model, &rows, wanted, n_threads, &watch));
            }
            Self::Flows(flows) => {
                let rows = RecordRows::new(flows.get().records(), &[]);
                py.detach(|| outputs.score(model, &rows, wanted, n_threads, &watch));
            }
            Self::Json(bytes) => {
                let rows = JsonRows::new(bytes, model.schema(), model.inputs())?;
                py.detach(|| outputs.score(model, &rows, wanted, n_threads, &watch));
            }
            Self::Arrow(rows) => py.detach(|| outputs.score(model, rows, wanted, n_threads, &watch)),
            Self::File(path) => {
                read = py.detach(|| files::score(path, model, &mut outputs, wanted, n_threads, &watch));
            }
        }
        watch.finish()?;
        read?;
        Ok(outputs)
    }
}

/// A matrix of assembled features, or one vector of them.
fn features<'py>(array: &Bound<'py, PyUntypedArray>, n_features: usize) -> PyResult<PyReadonlyArray2<'py, f64>> {
    let py = array.py();
    let dtype = array.dtype();
    if !dtype.is_equiv_to(&numpy::dtype::<f64>(py)) {
        let hint = match dtype.kind() {
            b'f' | b'i' | b'u' => ": convert with .astype('float64')",
            b'O' => ": an array of objects is no matrix of features; pass raw columns as a DataFrame or Arrow table",
            _ => "",
        };
        return Err(SchemaMismatch::new_err(format!("features have dtype {dtype}, not float64{hint}")));
    }
    let (shape, ndim) = (array.shape().to_vec(), array.ndim());
    let wrong = |found: usize| {
        SchemaMismatch::new_err(format!("the array has {found} features per row, the model takes {n_features}"))
    };
    match (ndim, &shape[..]) {
        (1, &[found]) if found != n_features => Err(wrong(found)),
        (2, &[_, found]) if found != n_features => Err(wrong(found)),
        (1, _) => {
            let vector = aligned(array.cast::<numpy::PyArray1<f64>>()?)?;
            vector.reshape([1, n_features])?.try_readonly().map_err(|error| PyValueError::new_err(error.to_string()))
        }
        (2, _) => {
            let matrix = aligned(array.cast::<numpy::PyArray2<f64>>()?)?;
            matrix.try_readonly().map_err(|error| PyValueError::new_err(error.to_string()))
        }
        _ => Err(SchemaMismatch::new_err(format!(
            "features are an array [n_rows, n_features] or [n_features], not one of {ndim} dimensions"
        ))),
    }
}

/// The array, or a copy where its elements do not lie as Rust takes them: in records, or from some odd byte on.
pub(crate) fn aligned<'py, T: Element, D: Dimension>(
    array: &Bound<'py, PyArray<T, D>>,
) -> PyResult<Bound<'py, PyArray<T, D>>> {
    let is_multiple = |&stride: &isize| stride % size_of::<T>() as isize == 0;
    if array.data().addr().is_multiple_of(align_of::<T>()) && array.strides().iter().all(is_multiple) {
        return Ok(array.clone());
    }
    let copy = array.py().import("numpy")?.call_method1("array", (array,))?;
    Ok(copy.cast_into()?)
}

/// # Errors
/// Where values of the array are masked: what lies below a mask is no value.
pub(crate) fn refuse_masked(array: &Bound<'_, PyAny>) -> PyResult<()> {
    if array.is_exact_instance_of::<PyUntypedArray>() || !array.hasattr("mask")? {
        return Ok(());
    }
    if array.py().import("numpy.ma")?.call_method1("is_masked", (array,))?.is_truthy()? {
        return Err(PyTypeError::new_err("masked arrays are not read: fill what is masked with array.filled(value)"));
    }
    Ok(())
}

/// Whether `data` is of a class of a module that is imported already: else it cannot be.
fn is_a(data: &Bound<'_, PyAny>, module: &str, class: &str) -> PyResult<bool> {
    let modules = data.py().import("sys")?.getattr("modules")?;
    let Ok(module) = modules.get_item(module) else { return Ok(false) };
    match module.getattr(class) {
        Ok(class) => data.is_instance(&class),
        // It is being imported.
        Err(_) => Ok(false),
    }
}

/// Whether a text that is no path of a file begins as JSON does.
fn is_json(path: &Path) -> bool {
    let text = path.to_string_lossy();
    text.trim_start().starts_with(['{', '[']) && !path.exists()
}

/// Per column of the schema whether to read it: those that the model takes or derives something from, and those that
/// `columns` asks for.
fn read_columns(schema: &Schema, inputs: &[String], columns: Columns) -> Vec<bool> {
    let mut is_read = vec![columns == Columns::All; schema.columns().len()];
    let mut read = |name: &str| {
        let position = schema.position(name)?;
        is_read[position] = true;
        Some(position)
    };
    for input in inputs {
        let Some(position) = read(input) else { continue };
        for operand in schema.columns()[position].derive.iter().flat_map(ids_core::schema::Derivation::operands) {
            read(operand);
        }
    }
    if let (Columns::Label, Some(labels)) = (columns, schema.labels()) {
        read(&labels.column);
    }
    is_read
}

/// # Errors
/// Where a column called `name` tells that `source` is of another data set.
fn refuse_foreign(name: &str, schema: &Schema, source: &str) -> PyResult<()> {
    match schema.foreign(name) {
        None => Ok(()),
        Some(why) => Err(mismatch(name, format!("{source}: the column `{name}` tells of another data set: {why}"))),
    }
}

/// Labels are wanted, and the column that has them is not there.
fn no_labels(schema: &Schema, source: &str) -> PyErr {
    let column = schema.labels().map(|labels| labels.column.as_str()).unwrap_or_default();
    mismatch(column, format!("{source} has no column `{column}`, where the labels are: add it, or pass `labels`"))
}

/// The exception of the first row without score, if there is one.
pub(crate) fn refuse(outputs: &Outputs) -> PyResult<()> {
    match outputs.faults.first() {
        None => Ok(()),
        Some((row, reason)) => Err(Reason::exception(reason, *row, outputs.faults.len(), outputs.n_rows)),
    }
}

/// A value of a type that the column does not take.
fn wrong_type(column: &str, found: &str, is_number: bool, source: &str, schema: &Schema) -> PyErr {
    let expected = if is_number { "a number" } else { "text" };
    let hint = match (is_number, found) {
        (true, "object") => "; convert it with pandas.to_numeric",
        (true, "bool" | "boolean") => "; convert it to 0 and 1 if that is how the model was trained",
        _ => "",
    };
    let name = schema.name();
    mismatch(
        column,
        format!("column `{column}` of {source} holds {found}; schema `{name}` takes {expected} there{hint}"),
    )
}
