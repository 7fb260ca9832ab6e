//! What the model says of a flow, and where the flow came from: one JSON object per flow.

use std::fmt;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::model::Model;
use crate::score::Score;

/// Where a record was read: enough to find it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Origin<'a> {
    /// Topic, or path of a file.
    pub topic: &'a str,
    /// Partition; 0 for a file.
    pub partition: i32,
    /// Offset in the partition, or row of the file.
    pub offset: i64,
    /// When the record was made, in milliseconds since 1970-01-01 UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_ms: Option<i64>,
}

impl<'a> Origin<'a> {
    /// Row `row` of the file `path`.
    pub fn of_file(path: &'a str, row: u64) -> Self {
        Self { topic: path, partition: 0, offset: row as i64, timestamp_ms: None }
    }
}

/// `topic/partition/offset`: the key of everything that is said of the record.
impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

/// The verdict on one flow, as `docs/verdict.schema.json` describes it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Verdict<'a> {
    /// Where the flow was read.
    pub origin: Origin<'a>,
    /// Name of the predicted class.
    pub class: &'a str,
    /// Position of the predicted class: Spark's `prediction`.
    pub prediction: usize,
    /// Whether the class is an attack.
    pub attack: bool,
    /// Probability of the predicted class.
    pub probability: f64,
    /// Probability of every class.
    pub probabilities: Probabilities<'a>,
    /// Version of the model (see [`Model::version`]).
    pub model: &'a str,
}

/// Probabilities by class name, in the model's order.
#[derive(Debug, Clone, Copy)]
pub struct Probabilities<'a> {
    classes: &'a [String],
    values: &'a [f64],
}

impl Serialize for Probabilities<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.values.len()))?;
        for (class, value) in self.classes.iter().zip(self.values) {
            map.serialize_entry(class, value)?;
        }
        map.end()
    }
}

impl<'a> Verdict<'a> {
    /// The verdict of `model` on the flow read at `origin`.
    pub fn new(model: &'a Model, origin: Origin<'a>, score: Score<'a>) -> Self {
        let class = score.class();
        Self {
            origin,
            class: &model.classes()[class],
            prediction: class,
            attack: class != model.benign(),
            probability: score.probabilities[class],
            probabilities: Probabilities { classes: model.classes(), values: score.probabilities },
            model: model.version(),
        }
    }
}
