//! polars DataFrames: read through Arrow, after what cannot be sent is given another form.

use ids_core::Schema;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The columns of a DataFrame that are to be read, by position in the schema. polars sends columns of its type Null
/// with a buffer that Arrow does not know: they get a type of the column's kind, in which they are null too.
pub(super) fn prepared<'py>(
    frame: &Bound<'py, PyAny>,
    schema: &Schema,
    is_read: &[bool],
) -> PyResult<Bound<'py, PyAny>> {
    let py = frame.py();
    let polars = py.import("polars")?;
    let null = polars.getattr("Null")?;
    let (mut names, nulls) = (Vec::new(), PyDict::new(py));
    for item in frame.getattr("schema")?.call_method0("items")?.try_iter()? {
        let (name, data_type): (String, Bound<'_, PyAny>) = item?.extract()?;
        super::refuse_foreign(&name, schema, "the DataFrame")?;
        let Some(position) = schema.position(&name).filter(|&position| is_read[position]) else { continue };
        if data_type.eq(&null)? {
            let is_number = schema.columns()[position].kind.is_number();
            nulls.set_item(&name, polars.getattr(if is_number { "Float64" } else { "String" })?)?;
        }
        names.push(name);
    }
    if names.is_empty() {
        // A table without columns would have no rows.
        return Ok(frame.clone());
    }
    let chosen = frame.call_method1("select", (names,))?;
    if nulls.is_empty() { Ok(chosen) } else { chosen.call_method1("cast", (nulls,)) }
}
