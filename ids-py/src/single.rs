//! One row at a time, quickly: a vector of features or a dictionary, with memory and names kept from call to call.

use std::sync::{Arc, Mutex};

use ids_core::{FlowRecords, Score, Scorer, Scores};
use numpy::{PyArray1, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::SchemaMismatch;
use crate::fault::Reason;
use crate::input::{self, Columns, DictReader};
use crate::outputs::score_of;

/// What scoring one row takes, kept between calls.
pub(crate) struct RowScorer {
    reader: DictReader,
    records: FlowRecords,
    scorer: Scorer,
    scores: Scores,
}

/// The row scorer of a model, for whoever comes; a second caller at the same time makes one of its own.
pub(crate) struct RowScorers(Mutex<Option<Box<RowScorer>>>);

impl RowScorers {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Gives the score of `data` to `take`, if `data` is one row; `None` if it is something else.
    ///
    /// # Errors
    /// Where the row has no score.
    pub(crate) fn score<T>(
        &self,
        model: &Arc<ids_core::Model>,
        data: &Bound<'_, PyAny>,
        take: impl FnOnce(Score<'_>) -> T,
    ) -> PyResult<Option<Result<T, Reason>>> {
        if let Ok(dict) = data.cast::<PyDict>() {
            let mut row = self.take(model)?;
            let RowScorer { reader, records, scorer, .. } = &mut *row;
            records.clear();
            let outcome = match reader.read(0, dict, records) {
                Err(error) => Err(Reason::Undecodable(error)),
                Ok(()) => scorer.score(&*records).get(0).map(take).map_err(Reason::Unscored),
            };
            self.give_back(row);
            return Ok(Some(outcome));
        }
        let Ok(vector) = data.cast::<PyArray1<f64>>() else { return Ok(None) };
        input::refuse_masked(data)?;
        let vector = input::aligned(vector)?;
        let vector =
            vector.try_readonly().map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))?;
        let (found, expected) = (vector.as_array().len(), model.forest().n_features());
        if found != expected {
            let message = format!("the array has {found} features per row, the model takes {expected}");
            return Err(SchemaMismatch::new_err(message));
        }
        let mut row = self.take(model)?;
        let engine = model.predictor().engine();
        match vector.as_slice() {
            Ok(features) => engine.score(features, &mut row.scores),
            Err(_) => engine.score(&vector.as_array().to_vec(), &mut row.scores),
        }
        let taken = take(score_of(&row.scores, 0));
        self.give_back(row);
        Ok(Some(Ok(taken)))
    }

    fn take(&self, model: &Arc<ids_core::Model>) -> PyResult<Box<RowScorer>> {
        // Taken out, not locked: reading a value may run code that scores with the same model.
        let kept = self.0.lock().ok().and_then(|mut kept| kept.take());
        if let Some(row) = kept {
            return Ok(row);
        }
        Ok(Box::new(RowScorer {
            reader: DictReader::new(model.schema(), model.inputs(), Columns::Inputs)?,
            records: FlowRecords::new(Arc::clone(model.schema())),
            scorer: model.scorer(),
            scores: Scores::default(),
        }))
    }

    fn give_back(&self, row: Box<RowScorer>) {
        if let Ok(mut kept) = self.0.lock() {
            *kept = Some(row);
        }
    }
}
