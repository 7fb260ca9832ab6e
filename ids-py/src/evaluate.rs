//! Predictions against labels: counted here, computed by ids-core, made a Python object in `ids_py/evaluation.py`.

use ids_core::ConfusionMatrix;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::errors::{self, IdsError, SchemaMismatch};
use crate::input::Columns;
use crate::model::Model;
use crate::outputs::{NO_LABEL, UNKNOWN_LABEL, Wanted};

/// The plain figures as JSON and as text; rows without score, the first of their
/// faults, rows without label and rows with a label that is no class.
type Report = (String, String, usize, Option<String>, usize, usize);

/// Compares predictions with labels: those of the flows, or `labels`, a class name for each row.
#[pyfunction]
#[pyo3(signature = (model, data, labels=None, n_threads=None))]
pub(crate) fn evaluate_json(
    model: &Bound<'_, Model>,
    data: &Bound<'_, PyAny>,
    labels: Option<&Bound<'_, PyAny>>,
    n_threads: Option<i64>,
) -> PyResult<Report> {
    let model = model.get();
    let core = model.inner();
    let wanted = Wanted { labels: labels.is_none(), ..Wanted::default() };
    let columns = if labels.is_none() { Columns::Label } else { Columns::Inputs };
    let mut outputs = model.outputs(data, columns, wanted, errors::threads(n_threads)?)?;
    if let Some(labels) = labels {
        outputs.labels = positions(core, labels)?;
        let (found, expected) = (outputs.labels.len(), outputs.n_rows);
        if found != expected {
            return Err(PyValueError::new_err(format!("{found} labels for {expected} rows")));
        }
    }
    let mut matrix = ConfusionMatrix::new(core.labels(), core.benign());
    let (mut n_unlabelled, mut n_unknown) = (0, 0);
    for (&label, &prediction) in outputs.labels.iter().zip(&outputs.prediction) {
        match label {
            _ if prediction.is_nan() => {}
            NO_LABEL => n_unlabelled += 1,
            UNKNOWN_LABEL => n_unknown += 1,
            class => {
                matrix.count(&core.labels()[class as usize], prediction as usize);
            }
        }
    }
    let quality = matrix.quality();
    if quality.rows == 0 {
        let column = core.schema().labels().map(|labels| format!(" (column `{}`)", labels.column)).unwrap_or_default();
        let message = format!(
            "there is no labelled row that the model can score: {} rows have no score, {n_unlabelled} no label{column}, \
             {n_unknown} a label that is none of its classes",
            outputs.faults.len()
        );
        return Err(SchemaMismatch::new_err(message));
    }
    let json = serde_json::to_string(&quality).map_err(|error| IdsError::new_err(error.to_string()))?;
    let first = outputs.faults.first().map(|(row, reason)| format!("row {row}: {}", reason.detail()));
    Ok((json, quality.to_string(), outputs.faults.len(), first, n_unlabelled, n_unknown))
}

/// Positions of the classes that `labels` name, spelt as the schema knows.
fn positions(model: &ids_core::Model, labels: &Bound<'_, PyAny>) -> PyResult<Vec<i32>> {
    let position = |label: PyResult<Bound<'_, PyAny>>| {
        let label = label?;
        let Ok(text) = label.cast::<PyString>() else {
            // None, NaN and the like: missing.
            let is_missing = label.is_none() || label.ne(&label).unwrap_or(true);
            return if is_missing {
                Ok(NO_LABEL)
            } else {
                Err(PyTypeError::new_err(format!("labels are class names, not {}", label.get_type())))
            };
        };
        let text = text.extract::<String>()?;
        let class = match model.schema().labels() {
            Some(labels) => labels.class(&text),
            None => Some(text.as_str()),
        };
        Ok(class.map_or(NO_LABEL, |class| {
            model.labels().iter().position(|known| known == class).map_or(UNKNOWN_LABEL, |known| known as i32)
        }))
    };
    labels.try_iter()?.map(position).collect()
}
