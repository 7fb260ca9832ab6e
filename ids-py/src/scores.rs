//! `Scores`: all outputs of a batch, and what became of each row; as NumPy arrays or through Arrow.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, FixedSizeListArray, Float64Array, RecordBatch, RecordBatchIterator, RecordBatchOptions, StringArray,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, Schema as ArrowSchema};
use ids_core::decode::Skipped;
use numpy::{PyArray1, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyTuple};
use pyo3_arrow::PyRecordBatchReader;

use crate::errors::IdsError;
use crate::fault::Fault;
use crate::model::labels_array;
use crate::outputs::Outputs;

/// What a batch was given: an entry for each row of the input, in its order.
#[pyclass(module = "ids_py", frozen)]
pub(crate) struct Scores {
    outputs: Outputs,
    labels: Py<PyTuple>,
    /// The arrays, made once.
    raw_prediction: Py<PyAny>,
    probability: Py<PyAny>,
    prediction: Py<PyAny>,
}

impl Scores {
    pub(crate) fn new(py: Python<'_>, outputs: Outputs, labels: Py<PyTuple>) -> PyResult<Self> {
        let n_classes = outputs.n_classes;
        Ok(Self {
            raw_prediction: matrix(py, outputs.raw.clone(), n_classes)?.unbind(),
            probability: matrix(py, outputs.probability.clone(), n_classes)?.unbind(),
            prediction: PyArray1::from_slice(py, &outputs.prediction).into_any().unbind(),
            outputs,
            labels,
        })
    }

    /// Whether each row has a score.
    fn is_scored(&self) -> Vec<bool> {
        let mut is_scored = vec![true; self.outputs.n_rows];
        for &(row, _) in &self.outputs.faults {
            is_scored[row] = false;
        }
        is_scored
    }

    /// A text for each row that has no score.
    fn said<'a>(
        &'a self,
        text: impl Fn(&'a crate::fault::Reason) -> Option<String>,
        otherwise: Option<&str>,
    ) -> ArrayRef {
        let mut texts = vec![otherwise.map(str::to_owned); self.outputs.n_rows];
        for (row, reason) in &self.outputs.faults {
            texts[*row] = text(reason);
        }
        Arc::new(StringArray::from(texts))
    }

    fn to_batch(&self, py: Python<'_>) -> PyResult<RecordBatch> {
        let outputs = &self.outputs;
        let nulls = (!outputs.faults.is_empty()).then(|| NullBuffer::from(self.is_scored()));
        let failed = |error: arrow_schema::ArrowError| IdsError::new_err(error.to_string());
        let item = Arc::new(Field::new("item", DataType::Float64, false));
        let lists = |values: &[f64]| -> PyResult<ArrayRef> {
            let values = Arc::new(Float64Array::from(values.to_vec()));
            let list = FixedSizeListArray::try_new_with_length(
                Arc::clone(&item),
                outputs.n_classes as i32,
                values,
                nulls.clone(),
                outputs.n_rows,
            );
            Ok(Arc::new(list.map_err(failed)?))
        };
        let names: Vec<String> = self.labels.bind(py).extract()?;
        let labels = outputs.prediction.iter().map(|&class| (!class.is_nan()).then(|| names[class as usize].as_str()));
        let columns: [(&str, ArrayRef); 8] = [
            ("outcome", self.said(|reason| Some(reason.outcome().into()), Some("scored"))),
            ("prediction", Arc::new(Float64Array::new(outputs.prediction.clone().into(), nulls.clone()))),
            ("label", Arc::new(StringArray::from_iter(labels))),
            ("probability", lists(&outputs.probability)?),
            ("raw_prediction", lists(&outputs.raw)?),
            ("stage", self.said(|reason| reason.stage().map(str::to_owned), None)),
            ("column", self.said(|reason| reason.column().map(str::to_owned), None)),
            ("detail", self.said(|reason| Some(reason.detail()), None)),
        ];
        let fields: Vec<_> = columns
            .iter()
            .map(|(name, array)| Field::new(*name, array.data_type().clone(), *name != "outcome"))
            .collect();
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(outputs.n_rows));
        RecordBatch::try_new_with_options(Arc::new(ArrowSchema::new(fields)), arrays, &options).map_err(failed)
    }
}

#[pymethods]
impl Scores {
    /// Class names, in the order of the columns of `probability`.
    #[getter]
    fn labels(&self, py: Python<'_>) -> Py<PyTuple> {
        self.labels.clone_ref(py)
    }

    /// Summed votes, float64 [n_rows, n_classes].
    #[getter]
    fn raw_prediction(&self, py: Python<'_>) -> Py<PyAny> {
        self.raw_prediction.clone_ref(py)
    }

    /// Probabilities, float64 [n_rows, n_classes].
    #[getter]
    fn probability(&self, py: Python<'_>) -> Py<PyAny> {
        self.probability.clone_ref(py)
    }

    /// Positions of the predicted classes, float64 [n_rows].
    #[getter]
    fn prediction(&self, py: Python<'_>) -> Py<PyAny> {
        self.prediction.clone_ref(py)
    }

    /// Names of the predicted classes, [n_rows].
    #[getter]
    fn label<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        labels_array(self.labels.bind(py), &self.outputs)
    }

    /// Whether each row has a score, bool [n_rows].
    #[getter]
    fn scored<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<bool>> {
        PyArray1::from_vec(py, self.is_scored())
    }

    /// The rows without score, in order, and why.
    #[getter]
    fn faults(&self) -> Vec<Fault> {
        self.outputs.faults.iter().map(|(row, reason)| Fault::new(*row as u64, reason)).collect()
    }

    /// Rows of a file that are no rows here: `repeated_headers`, `empty_rows`.
    #[getter]
    fn skipped(&self) -> BTreeMap<&'static str, u64> {
        skipped(self.outputs.skipped)
    }

    fn __len__(&self) -> usize {
        self.outputs.n_rows
    }

    /// The Arrow PyCapsule interface: one record batch.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyCapsule>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        stream(py, self.to_batch(py)?, requested_schema)
    }

    fn __repr__(&self) -> String {
        let (n_rows, n_faults) = (self.outputs.n_rows, self.outputs.faults.len());
        format!("Scores({n_rows} rows: {} scored, {n_faults} without a score)", n_rows - n_faults)
    }
}

/// What was skipped of a file, as a dict.
pub(crate) fn skipped(of: Skipped) -> BTreeMap<&'static str, u64> {
    BTreeMap::from([("repeated_headers", of.repeated_headers), ("empty_rows", of.empty_rows)])
}

/// A batch as an Arrow stream.
pub(crate) fn stream<'py>(
    py: Python<'py>,
    batch: RecordBatch,
    requested_schema: Option<Bound<'py, PyCapsule>>,
) -> PyResult<Bound<'py, PyAny>> {
    let schema = batch.schema();
    let reader = RecordBatchIterator::new([Ok(batch)], schema);
    let reader = Bound::new(py, PyRecordBatchReader::new(Box::new(reader)))?;
    reader.call_method1("__arrow_c_stream__", (requested_schema,))
}

/// Values as a matrix of `n_columns`.
pub(crate) fn matrix(py: Python<'_>, values: Vec<f64>, n_columns: usize) -> PyResult<Bound<'_, PyAny>> {
    let n_rows = values.len() / n_columns;
    Ok(PyArray1::from_vec(py, values).reshape([n_rows, n_columns])?.into_any())
}
