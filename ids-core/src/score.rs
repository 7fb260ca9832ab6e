//! Records in, scores out: the pipeline and the forest of a model run over a batch.

use std::sync::Arc;

use crate::forest::Scores;
use crate::model::Model;
use crate::pipeline::{RowFault, Scratch};
use crate::record::FlowRecords;

/// Scores batches with one model; keeps its memory from batch to batch.
#[derive(Debug, Clone)]
pub struct Scorer {
    model: Arc<Model>,
    scratch: Scratch,
    /// `[n_scored, n_features]`, row-major.
    features: Vec<f64>,
    scores: Scores,
    /// Per record: its row in `scores`, or why it has none.
    outcomes: Vec<std::result::Result<usize, RowFault>>,
}

/// What became of a batch: one outcome per record, in order.
#[derive(Debug, Clone, Copy)]
pub struct Scored<'a> {
    scores: &'a Scores,
    outcomes: &'a [std::result::Result<usize, RowFault>],
}

/// The score of one flow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score<'a> {
    /// Position of the predicted class.
    pub class: usize,
    /// Summed votes, `[n_classes]`: Spark's `rawPrediction`.
    pub raw: &'a [f64],
    /// Probabilities, `[n_classes]`: Spark's `probability`.
    pub probabilities: &'a [f64],
}

impl Scorer {
    /// A scorer of `model`.
    pub fn new(model: Arc<Model>) -> Self {
        let scratch = model.pipeline().scratch();
        Self { model, scratch, features: Vec::new(), scores: Scores::default(), outcomes: Vec::new() }
    }

    /// The model that scores.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The feature vectors, `[n, n_features]` row-major, of the records of a batch that have one: what
    /// the forest is given.
    pub fn features(&mut self, records: &FlowRecords) -> &[f64] {
        self.features.clear();
        self.outcomes.clear();
        let mut n_scored = 0;
        for record in records.iter() {
            let outcome = self.model.pipeline().features(record, &mut self.scratch, &mut self.features);
            self.outcomes.push(outcome.map(|()| n_scored));
            n_scored += usize::from(self.outcomes.last().is_some_and(std::result::Result::is_ok));
        }
        &self.features
    }

    /// Scores every record of a batch of the model's own schema.
    pub fn score(&mut self, records: &FlowRecords) -> Scored<'_> {
        self.features(records);
        self.model.engine().score(&self.features, &mut self.scores);
        Scored { scores: &self.scores, outcomes: &self.outcomes }
    }
}

impl<'a> Scored<'a> {
    /// How many records the batch had.
    pub fn len(&self) -> usize {
        self.outcomes.len()
    }

    /// Whether it had none.
    pub fn is_empty(&self) -> bool {
        self.outcomes.is_empty()
    }

    /// The score of the record at `index`, or why it has none.
    ///
    /// # Errors
    /// [`RowFault`] names the stage that refused or dropped the row.
    pub fn get(&self, index: usize) -> std::result::Result<Score<'a>, RowFault> {
        let row = self.outcomes[index].as_ref().map_err(Clone::clone)?;
        Ok(Score {
            class: self.scores.prediction(*row),
            raw: self.scores.raw(*row),
            probabilities: self.scores.probability(*row),
        })
    }

    /// The outcome of every record, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = std::result::Result<Score<'a>, RowFault>> {
        let scored = *self;
        (0..self.len()).map(move |index| scored.get(index))
    }
}
