//! `Schema`: the table of a data set's columns, as Python sees it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors;
use crate::model::Model;

/// The columns of a data set: names, kinds, units. See docs/schema-file.md for files of your own.
#[pyclass(module = "ids_py", frozen)]
pub(crate) struct Schema(pub(crate) Arc<ids_core::Schema>);

#[pymethods]
impl Schema {
    /// The built-in schema of that name, or the one in the TOML file of that path.
    #[new]
    fn new(name_or_path: PathBuf) -> PyResult<Self> {
        load(&name_or_path).map(Self)
    }

    /// The schema of a TOML text.
    #[staticmethod]
    fn from_toml(text: &str) -> PyResult<Self> {
        ids_core::Schema::from_toml(text).map(|schema| Self(Arc::new(schema))).map_err(errors::core)
    }

    /// Its name.
    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    /// Per column: name, aliases, kind, unit.
    #[getter]
    fn columns<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let columns = self.0.columns().iter().map(|column| {
            let entry = PyDict::new(py);
            entry.set_item("name", &column.name)?;
            entry.set_item("aliases", &column.aliases)?;
            entry.set_item("kind", format!("{:?}", column.kind).to_lowercase())?;
            entry.set_item("unit", &column.unit)?;
            Ok(entry)
        });
        columns.collect()
    }

    /// Name of the column with the class of a flow; None for a data set without labels.
    #[getter]
    fn label(&self) -> Option<&str> {
        self.0.labels().map(|labels| labels.column.as_str())
    }

    fn __repr__(&self) -> String {
        format!("Schema('{}', {} columns)", self.0.name(), self.0.columns().len())
    }
}

/// A schema as callers name it, and the columns that a record must have.
pub(crate) fn named(schema: Option<&Bound<'_, PyAny>>) -> PyResult<(Arc<ids_core::Schema>, Vec<String>)> {
    let Some(schema) = schema else { return Ok((Arc::new(ids_core::Schema::unsw_nb15()), Vec::new())) };
    if let Ok(schema) = schema.cast::<Schema>() {
        return Ok((Arc::clone(&schema.get().0), Vec::new()));
    }
    if let Ok(model) = schema.cast::<Model>() {
        let model = model.get().inner();
        return Ok((Arc::clone(model.schema()), model.inputs().to_vec()));
    }
    let name: PathBuf = schema.extract().map_err(|_| {
        let found = schema.get_type();
        pyo3::exceptions::PyTypeError::new_err(format!(
            "a schema is a name, the path of a TOML file, a Schema or a Model, not {found}"
        ))
    })?;
    Ok((load(&name)?, Vec::new()))
}

/// The built-in schema of that name, or the one in the TOML file of that path.
fn load(name_or_path: &Path) -> PyResult<Arc<ids_core::Schema>> {
    ids_core::Schema::named(&name_or_path.to_string_lossy()).map(Arc::new).map_err(|error| match error {
        ids_core::Error::Io { path, reason } if reason.kind() == ErrorKind::NotFound => {
            let built_in = ids_core::Schema::built_in();
            let names: Vec<_> = built_in.iter().map(ids_core::Schema::name).collect();
            let text = format!("no such file, nor one of the built-in schemas ({})", names.join(", "));
            errors::os(reason.raw_os_error().unwrap_or_default(), &text, path)
        }
        error => errors::core(error),
    })
}
