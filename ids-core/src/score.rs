//! Rows in, scores out: the pipeline and the forest of a model run over a batch.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::forest::{Engine, Scores};
use crate::import::spark::SparkModel;
use crate::pipeline::{Features, Pipeline, RowFault, Scratch, Stage, Transformed};
use crate::rows::{Fields, Rows};

/// Stages and forest, bound to the fields of a source: all that scoring a row takes.
#[derive(Debug, Clone)]
pub struct Predictor {
    fields: Arc<Fields>,
    pipeline: Pipeline,
    features: Features,
    engine: Engine,
}

impl Predictor {
    /// Binds what Spark saved to `fields`.
    ///
    /// # Errors
    /// [`Error::Model`] where it has no forest, else as [`Pipeline::new`].
    pub fn new(saved: &SparkModel, fields: &Arc<Fields>) -> Result<Self> {
        let Some(forest) = &saved.forest else {
            return Err(Error::Model { detail: "what Spark saved there has no forest".into() });
        };
        Self::bind(saved.stages.clone(), &forest.columns.features, Engine::new(&forest.forest), fields)
    }

    pub(crate) fn bind(stages: Vec<Stage>, features: &str, engine: Engine, fields: &Arc<Fields>) -> Result<Self> {
        let (pipeline, features) = Pipeline::with_features(stages, features, fields)?;
        // Spark never looks at entries beyond those that the forest was fitted to.
        let (found, expected) = (features.len(), engine.forest().n_features());
        if found < expected {
            let detail = format!("the pipeline makes vectors of {found}, the forest takes {expected}");
            return Err(Error::Model { detail });
        }
        Ok(Self { fields: Arc::clone(fields), pipeline, features, engine })
    }

    /// The fields of the rows that it scores.
    pub fn fields(&self) -> &Arc<Fields> {
        &self.fields
    }

    /// The stages.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// Name of the column with the feature vector.
    pub fn features_column(&self) -> &str {
        self.features.name()
    }

    /// The forest, compiled for speed.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Names of the fields that a row must have.
    pub fn inputs(&self) -> &[String] {
        self.pipeline.inputs()
    }

    /// The feature vector, `[n_features]`, among what the stages made of a row.
    pub(crate) fn features_of<'m>(&self, made: &'m Transformed<'_>) -> std::result::Result<&'m [f64], RowFault> {
        Ok(&made.features(&self.features)?[..self.engine.forest().n_features()])
    }
}

/// Scores batches with one predictor; keeps its memory from batch to batch.
#[derive(Debug, Clone)]
pub struct Scorer {
    predictor: Arc<Predictor>,
    scratch: Scratch,
    /// `[n_scored, n_features]`, row-major.
    features: Vec<f64>,
    scores: Scores,
    /// Per row: its row in `scores`, or why it has none.
    outcomes: Vec<std::result::Result<usize, RowFault>>,
}

/// What became of a batch: one outcome per row, in order.
#[derive(Debug, Clone, Copy)]
pub struct Scored<'a> {
    scores: &'a Scores,
    outcomes: &'a [std::result::Result<usize, RowFault>],
}

/// The score of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score<'a> {
    /// Position of the predicted class, or the predicted number: Spark's `prediction`.
    pub prediction: f64,
    /// Summed votes or margins, `[n_classes]`: Spark's `rawPrediction`. Empty for a regression.
    pub raw: &'a [f64],
    /// Probabilities, `[n_classes]`: Spark's `probability`. Empty for a regression.
    pub probabilities: &'a [f64],
}

impl Score<'_> {
    /// Position of the predicted class; 0 for a regression.
    pub fn class(&self) -> usize {
        if self.raw.is_empty() { 0 } else { self.prediction as usize }
    }
}

impl Scorer {
    /// A scorer of `predictor`.
    pub fn new(predictor: Arc<Predictor>) -> Self {
        let scratch = predictor.pipeline.scratch();
        Self { predictor, scratch, features: Vec::new(), scores: Scores::default(), outcomes: Vec::new() }
    }

    /// The stages and forest that score.
    pub fn predictor(&self) -> &Arc<Predictor> {
        &self.predictor
    }

    /// The feature vectors, `[n, n_features]` row-major, of the rows of a batch that have one: what the
    /// forest is given.
    ///
    /// # Panics
    /// As [`Scorer::score`].
    pub fn features(&mut self, rows: impl AsRef<Rows>) -> &[f64] {
        let rows = rows.as_ref();
        self.features_of(rows, 0..rows.len())
    }

    fn features_of(&mut self, rows: &Rows, range: Range<usize>) -> &[f64] {
        let predictor = &*self.predictor;
        let (found, expected) = (rows.fields(), predictor.fields());
        assert!(
            found.is_like(expected),
            "rows of {} given to a scorer of {}: their columns differ",
            found.source(),
            expected.source()
        );
        self.features.clear();
        self.outcomes.clear();
        let mut n_scored = 0;
        for row in range.map(|index| rows.get(index)) {
            let outcome = predictor.pipeline.transform(row, &mut self.scratch).and_then(|made| {
                self.features.extend_from_slice(predictor.features_of(&made)?);
                Ok(n_scored)
            });
            n_scored += usize::from(outcome.is_ok());
            self.outcomes.push(outcome);
        }
        &self.features
    }

    /// Scores every row of a batch.
    ///
    /// # Panics
    /// Where the rows are not of the fields that the predictor is bound to: its columns would be read as others.
    pub fn score(&mut self, rows: impl AsRef<Rows>) -> Scored<'_> {
        let rows = rows.as_ref();
        self.score_range(rows, 0..rows.len())
    }

    /// Scores the rows of a batch at `range`: several threads may share a batch.
    ///
    /// # Panics
    /// As [`Scorer::score`], and where the range ends beyond the batch.
    pub fn score_range(&mut self, rows: &Rows, range: Range<usize>) -> Scored<'_> {
        self.features_of(rows, range);
        self.predictor.engine.score(&self.features, &mut self.scores);
        Scored { scores: &self.scores, outcomes: &self.outcomes }
    }
}

impl<'a> Scored<'a> {
    /// How many rows the batch had.
    pub fn len(&self) -> usize {
        self.outcomes.len()
    }

    /// Whether it had none.
    pub fn is_empty(&self) -> bool {
        self.outcomes.is_empty()
    }

    /// The score of the row at `index`, or why it has none.
    ///
    /// # Errors
    /// [`RowFault`] names the stage that refused or dropped the row.
    pub fn get(&self, index: usize) -> std::result::Result<Score<'a>, RowFault> {
        let row = self.outcomes[index].as_ref().map_err(Clone::clone)?;
        Ok(Score {
            prediction: self.scores.prediction(*row),
            raw: self.scores.raw(*row),
            probabilities: self.scores.probability(*row),
        })
    }

    /// The outcome of every row, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = std::result::Result<Score<'a>, RowFault>> {
        let scored = *self;
        (0..self.len()).map(move |index| scored.get(index))
    }
}
