//! `Flows`: the flows of a file and what is wrong with its other rows.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow_schema::{Field, Schema as ArrowSchema};
use ids_core::decode::Skipped;
use ids_core::rows::Slot;
use ids_core::{FlowRecords, Schema as CoreSchema};
use numpy::PyArray1;
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyList};

use crate::errors::{self, IdsError};
use crate::fault::{Fault, Reason};
use crate::input;
use crate::schema::{self, Schema};
use crate::scores::{self, stream};
use crate::watch::Watch;

/// The flows of a file. A table for whatever takes Arrow, and input for a model.
#[pyclass(module = "ids_py", frozen)]
pub(crate) struct Flows {
    records: FlowRecords,
    rows: Vec<u64>,
    bad: Vec<Reason>,
    /// Positions in the schema of the columns that the file has.
    given: Vec<usize>,
    skipped: Skipped,
}

impl Flows {
    pub(crate) fn schema(&self) -> &Arc<CoreSchema> {
        self.records.schema()
    }

    pub(crate) fn records(&self) -> &FlowRecords {
        &self.records
    }

    /// Whether the file has the column at `position` of the schema.
    pub(crate) fn has(&self, position: usize) -> bool {
        self.given.contains(&position)
    }

    /// # Errors
    /// Where the file lacks some of the columns `inputs`: missing in every row is not the same.
    pub(crate) fn check(&self, inputs: &[String]) -> PyResult<()> {
        let schema = self.schema();
        let is_given = |input: &&String| {
            let position = schema.position(input);
            position.is_some_and(|position| self.given.contains(&position) || schema.columns()[position].optional)
        };
        let columns: Vec<_> = inputs.iter().filter(|input| !is_given(input)).cloned().collect();
        if columns.is_empty() {
            return Ok(());
        }
        Err(errors::core(ids_core::Error::MissingColumns { source_name: "the file of the flows".into(), columns }))
    }

    fn column(&self, position: usize) -> ArrayRef {
        match self.schema().slot(position) {
            Slot::Number(slot) => {
                Arc::new(Float64Array::from_iter(self.records.iter().map(|flow| flow.row().number(slot))))
            }
            Slot::Text(slot) => Arc::new(StringArray::from_iter(self.records.iter().map(|flow| flow.row().text(slot)))),
            Slot::Vector(_) => Arc::new(arrow_array::NullArray::new(self.records.len())),
        }
    }

    fn names(&self) -> Vec<&str> {
        self.given.iter().map(|&position| self.schema().columns()[position].name.as_str()).collect()
    }
}

#[pymethods]
impl Flows {
    /// Names of the columns that the file has.
    #[getter]
    fn columns(&self) -> Vec<&str> {
        self.names()
    }

    /// The schema of the flows.
    #[getter(schema)]
    fn py_schema(&self) -> Schema {
        Schema(Arc::clone(self.schema()))
    }

    /// Per flow: its row in the file, counted from 0, int64 [n].
    #[getter]
    fn rows<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        PyArray1::from_iter(py, self.rows.iter().map(|&row| row as i64))
    }

    /// The rows of the file that are no flows, in order, and why.
    #[getter]
    fn rejected(&self) -> Vec<Fault> {
        let of = |reason: &Reason| match reason {
            Reason::Undecodable(error) => Fault::new(error.record.saturating_sub(1), reason),
            Reason::Unscored(_) => Fault::new(0, reason),
        };
        self.bad.iter().map(of).collect()
    }

    /// Rows of the file that are neither: `repeated_headers`, `empty_rows`.
    #[getter]
    fn skipped(&self) -> BTreeMap<&'static str, u64> {
        scores::skipped(self.skipped)
    }

    fn __len__(&self) -> usize {
        self.records.len()
    }

    /// A column: float64 [n] with NaN where a number is missing, or str [n] with None.
    fn __getitem__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let schema = self.schema();
        let known = schema.position(name).filter(|position| self.given.contains(position));
        let Some(position) = known else {
            let names = self.names().join(", ");
            return Err(PyKeyError::new_err(format!("no column `{name}`; there are {names}")));
        };
        let rows = self.records.iter().map(|flow| flow.row());
        match schema.slot(position) {
            Slot::Number(slot) => {
                Ok(PyArray1::from_iter(py, rows.map(|row| row.number(slot).unwrap_or(f64::NAN))).into_any())
            }
            Slot::Text(slot) => {
                let texts = PyList::new(py, rows.map(|row| row.text(slot)))?;
                py.import("numpy")?.call_method1("array", (texts, "object"))
            }
            Slot::Vector(_) => Ok(py.None().into_bound(py)),
        }
    }

    /// A pandas DataFrame of the flows.
    fn to_pandas<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let columns = pyo3::types::PyDict::new(py);
        for name in self.names() {
            columns.set_item(name, self.__getitem__(py, name)?)?;
        }
        py.import("pandas")?.call_method1("DataFrame", (columns,))
    }

    /// The Arrow PyCapsule interface: one record batch.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyCapsule>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let arrays: Vec<_> = self.given.iter().map(|&position| self.column(position)).collect();
        let named = self.names().into_iter().zip(&arrays);
        let fields: Vec<_> = named.map(|(name, array)| Field::new(name, array.data_type().clone(), true)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.records.len()));
        let batch = RecordBatch::try_new_with_options(Arc::new(ArrowSchema::new(fields)), arrays, &options)
            .map_err(|error| IdsError::new_err(error.to_string()))?;
        stream(py, batch, requested_schema)
    }

    fn __repr__(&self) -> String {
        let (n_flows, n_bad, n_columns) = (self.records.len(), self.bad.len(), self.given.len());
        format!("Flows({n_flows} flows of {n_columns} columns, {n_bad} rows rejected)")
    }
}

/// Reads the flows of a file, CSV or JSON lines, with the parser of the detector. Rows that are no flows are in
/// `rejected`.
///
/// `schema` is a name, the path of a TOML file, a Schema or a Model; a Model's flows must have the columns that it
/// takes. Raises OSError where the file cannot be read, SchemaMismatch where its header cannot be used.
///
/// >>> from ids_py import read_flows
/// >>> flows = read_flows("testdata/synthetic-unsw-nb15.csv")
/// >>> flows
/// Flows(9000 flows of 45 columns, 0 rows rejected)
/// >>> flows["proto"][:2]
/// array(['udp', 'tcp'], dtype=object)
#[pyfunction]
#[pyo3(signature = (path, schema=None))]
pub(crate) fn read_flows(py: Python<'_>, path: PathBuf, schema: Option<&Bound<'_, PyAny>>) -> PyResult<Flows> {
    let (schema, inputs) = schema::named(schema)?;
    let watch = Watch::new();
    let collected = py.detach(|| input::collect(&path, &schema, &inputs, &watch));
    watch.finish()?;
    let collected = collected.map_err(errors::core)?;
    let bad = collected.bad.into_iter().map(Reason::Undecodable).collect();
    Ok(Flows {
        records: collected.records,
        rows: collected.rows,
        bad,
        given: collected.given,
        skipped: collected.skipped,
    })
}
