//! The proof: what Spark wrote with `model.transform(df).write.parquet(...)` against what the same saved
//! model gives here, bit by bit.
//!
//! Every column that the pipeline computes and Spark's output has is compared: indices, imputed numbers,
//! vectors with their form (dense or sparse), votes, probabilities, predictions, names of predicted classes.

use std::path::Path;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use crate::decode::ParquetReader;
use crate::error::{Error, Result};
use crate::forest::{Forest, Scores, Task, reference};
use crate::import::spark::{ForestColumns, SparkModel};
use crate::pipeline::{Cell, Output, Pipeline, RowFault};
use crate::rows::{DataType, Fields, Row, Rows, Slot};
use crate::score::Predictor;

/// What is compared with what.
#[derive(Debug, Clone, Copy)]
pub struct Comparison<'a> {
    /// What Spark wrote: a Parquet file or a directory of parts.
    pub expected: &'a Path,
    /// The rows that Spark was given; without them, those columns of `expected` that the pipeline reads.
    pub input: Option<&'a Path>,
    /// A column of both that tells which rows belong together; without it they are in the same order.
    pub key: Option<&'a str>,
    /// Whether a row that is refused here may be absent from `expected`. Where Spark ran on all of `input` it
    /// may not: had the row failed there, nothing would have been written.
    pub allow_refused: bool,
    /// How many differences to describe.
    pub n_differences: usize,
}

impl<'a> Comparison<'a> {
    /// With what Spark wrote at `expected`, which has the columns it was given too.
    pub fn with(expected: &'a Path) -> Self {
        Self { expected, input: None, key: None, allow_refused: false, n_differences: 10 }
    }
}

/// The outcome of a comparison.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Rows of the input.
    pub rows: u64,
    /// Of these, scored (or transformed, where there is no forest).
    pub scored: u64,
    /// Of these, dropped by a stage that skips invalid rows.
    pub dropped: u64,
    /// Of these, refused: Spark should fail on such a row.
    pub refused: u64,
    /// Rows that differ: in a double, a text, or in whether Spark has them.
    pub differing_rows: u64,
    /// Doubles compared.
    pub doubles: u64,
    /// Of these, with other bits. Two NaN count as equal: Java does not say which of them it gives.
    pub differing_doubles: u64,
    /// Of the doubles, probabilities of boosted trees within [`PROBABILITY_BOUND`] of Spark's that have other bits.
    pub doubles_within_bound: u64,
    /// Per column compared.
    pub columns: Vec<Column>,
    /// Columns that are computed but that Spark's output lacks.
    pub not_compared: Vec<String>,
    /// The first differences.
    pub differences: Vec<Difference>,
    /// Rows that a stage drops, the first 10,000.
    pub dropped_rows: Vec<Unscored>,
    /// Rows that a stage refuses, the first 10,000.
    pub refused_rows: Vec<Unscored>,
}

impl Report {
    /// Whether nothing differs.
    pub fn is_equal(&self) -> bool {
        self.differing_rows == 0
    }
}

/// What was compared in a column.
#[derive(Debug, Clone, Serialize)]
pub struct Column {
    /// Its name in Spark's output.
    pub name: String,
    /// Doubles compared.
    pub doubles: u64,
    /// Values that differ: doubles, texts, forms of vectors.
    pub differing: u64,
}

/// A value that differs.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// Row of the input, from 0.
    pub row: u64,
    /// Its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The column.
    pub column: String,
    /// Position in a vector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<usize>,
    /// What Spark has.
    pub expected: String,
    /// What is found here.
    pub found: String,
}

/// A row without a score.
#[derive(Debug, Clone, Serialize)]
pub struct Unscored {
    /// Row of the input, from 0.
    pub row: u64,
    /// Its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Why it has none.
    pub reason: String,
}

const MOST_UNSCORED: usize = 10_000;

/// How far the probability of boosted trees may be from Spark's: its exponential function and Java's may
/// differ in the last bit.
pub const PROBABILITY_BOUND: f64 = 1e-15;

/// Scores the rows of `comparison` with `model` and compares. `progress` is told after each batch how many
/// rows of how many are done.
///
/// # Errors
/// Where a file cannot be read, lacks the columns that the pipeline needs, has a key twice; where Spark's output
/// has none of the columns to compare, or there is no row to compare.
pub fn verify(model: &SparkModel, comparison: Comparison<'_>, mut progress: impl FnMut(u64, u64)) -> Result<Report> {
    let mut input = ParquetReader::open(comparison.input.unwrap_or(comparison.expected))?;
    let mut verifier = Verifier::new(model, &input, comparison)?;
    let wanted = verifier.wanted.clone();
    let n_rows = input.n_rows();
    let mut rows = Rows::new(input.fields().clone());
    loop {
        rows.clear();
        if !input.read(&mut rows, |name| wanted.contains(&name.to_ascii_lowercase()))? {
            break;
        }
        verifier.compare(&rows)?;
        progress(verifier.report.rows, n_rows);
    }
    let report = verifier.finish();
    if report.scored == 0 && report.differing_rows == 0 {
        let Report { rows, dropped, refused, .. } = report;
        let detail =
            format!("there is nothing to compare: {rows} rows, of which {dropped} are dropped and {refused} refused");
        return Err(Error::spark(comparison.expected, detail));
    }
    Ok(report)
}

/// Where the row of Spark's output is that belongs to a row of the input.
enum Alignment {
    /// In the same place of the same file.
    Same,
    /// The next one, each time that a row is scored.
    Order { next: usize },
    /// By key. Rows that were found are taken out.
    Key { positions: FxHashMap<String, usize> },
}

struct Verifier<'a> {
    input_path: &'a Path,
    pipeline: Arc<Pipeline>,
    /// Where there is a forest.
    predictor: Option<Arc<Predictor>>,
    /// The pipeline's outputs that Spark's output has: with their position in the report, and its slot.
    outputs: Vec<(usize, Output, Slot)>,
    /// The forest's, in the order raw prediction, probability, prediction, leaf.
    forest_outputs: [Option<(usize, Slot)>; 4],
    /// The name of the predicted class, with all names.
    label_output: Option<(usize, Slot, Vec<String>)>,
    /// Names, in lower case, of the columns that are read of either file.
    wanted: FxHashSet<String>,
    alignment: Alignment,
    /// All of Spark's output, where the input is apart from it.
    expected: Option<Rows>,
    key: Option<&'a str>,
    allow_refused: bool,
    n_differences: usize,
    scores: Scores,
    report: Report,
}

impl<'a> Verifier<'a> {
    fn new(model: &SparkModel, input: &ParquetReader, comparison: Comparison<'a>) -> Result<Self> {
        let predictor = match &model.forest {
            Some(_) => Some(Arc::new(Predictor::new(model, input.fields())?)),
            None => None,
        };
        let pipeline = match &predictor {
            Some(predictor) => predictor.pipeline().clone(),
            None => Pipeline::new(model.stages.clone(), input.fields())?,
        };
        let forest_columns = model.forest.as_ref().map(|forest| &forest.columns);
        let predicted_label = model.predicted_label.as_ref();
        let mut wanted: FxHashSet<String> = pipeline.inputs().iter().map(|name| name.to_ascii_lowercase()).collect();
        let outputs = pipeline.outputs().iter().map(Output::name);
        let of_forest = forest_columns.into_iter().flat_map(ForestColumns::outputs);
        let named = predicted_label.map(|label| label.column.as_str()).into_iter().chain(comparison.key);
        wanted.extend(outputs.chain(of_forest).chain(named).map(str::to_ascii_lowercase));
        let (expected, fields) = match comparison.input {
            None => (None, input.fields().clone()),
            Some(_) => {
                let mut reader = ParquetReader::open(comparison.expected)?;
                let mut rows = Rows::new(reader.fields().clone());
                while reader.read(&mut rows, |name| wanted.contains(&name.to_ascii_lowercase()))? {}
                let fields = reader.fields().clone();
                (Some(rows), fields)
            }
        };
        let mut report = Report::default();
        let mut find = |name: &str| {
            let Some(position) = fields.position(name) else {
                report.not_compared.push(name.into());
                return None;
            };
            report.columns.push(Column { name: name.into(), doubles: 0, differing: 0 });
            Some((report.columns.len() - 1, fields.slot(position)))
        };
        let mut outputs = Vec::new();
        for output in pipeline.outputs() {
            if let Some((column, slot)) = find(output.name()) {
                outputs.push((column, output.clone(), slot));
            }
        }
        let forest_outputs = match forest_columns {
            Some(columns) => [&columns.raw_prediction, &columns.probability, &columns.prediction, &columns.leaf]
                .map(|name| name.as_deref().and_then(&mut find)),
            None => [None; 4],
        };
        // Without labels of its own it takes them from attributes of the data, which are not at hand.
        let label_output = predicted_label.and_then(|label| {
            let labels = Some(label.labels.clone()).filter(|labels| !labels.is_empty())?;
            find(&label.column).map(|(column, slot)| (column, slot, labels))
        });
        if let Some(label) = predicted_label.filter(|label| label.labels.is_empty()) {
            report.not_compared.push(label.column.clone());
        }
        let has_forest_outputs = forest_outputs.iter().any(Option::is_some);
        if !has_forest_outputs && (predictor.is_some() || outputs.is_empty()) {
            let wanted = report.not_compared.join(", ");
            return Err(Error::spark(comparison.expected, format!("it has none of the columns to compare: {wanted}")));
        }
        let alignment = match (&expected, comparison.key) {
            (None, _) => Alignment::Same,
            (Some(_), None) => Alignment::Order { next: 0 },
            (Some(rows), Some(key)) => by_key(rows, key, input.fields(), comparison.expected)?,
        };
        Ok(Self {
            input_path: comparison.input.unwrap_or(comparison.expected),
            pipeline: Arc::new(pipeline),
            predictor,
            outputs,
            forest_outputs,
            label_output,
            wanted,
            alignment,
            expected,
            key: comparison.key,
            allow_refused: comparison.allow_refused,
            n_differences: comparison.n_differences,
            scores: Scores::default(),
            report,
        })
    }

    /// Scores a batch of the input and compares it with Spark's output.
    fn compare(&mut self, rows: &Rows) -> Result<()> {
        let expected = self.expected.take();
        let against = expected.as_ref().unwrap_or(rows);
        let key_slot = match self.key {
            Some(key) => rows.fields().position(key).map(|position| rows.fields().slot(position)),
            None => None,
        };
        let mut scratch = self.pipeline.scratch();
        let (pipeline, predictor) = (self.pipeline.clone(), self.predictor.clone());
        let (mut features, mut scored) = (Vec::new(), Vec::new());
        for (index, row) in rows.iter().enumerate() {
            let key = match key_slot {
                Some(slot) => key_of(row, slot).map_err(|detail| Error::spark(self.input_path, detail))?,
                None => None,
            };
            let mut place = Place { row: self.report.rows, key, differs: false };
            self.report.rows += 1;
            let outcome = pipeline.transform(row, &mut scratch).and_then(|made| {
                // A row without a feature vector is refused too.
                predictor.as_ref().map_or(Ok(()), |predictor| predictor.features_of(&made).map(|_| ()))?;
                Ok(made)
            });
            let partner = self.partner(index, place.key.as_deref(), outcome.is_ok(), against.len());
            match (outcome, partner) {
                (Ok(made), Some(partner)) => {
                    self.report.scored += 1;
                    for (column, output, slot) in self.outputs.clone() {
                        self.compare_cell(&mut place, column, made.get(&output), against.get(partner), slot);
                    }
                    if let Some(Ok(vector)) = predictor.as_ref().map(|predictor| predictor.features_of(&made)) {
                        features.extend_from_slice(vector);
                        scored.push((place, partner));
                        continue;
                    }
                }
                (Ok(_), None) => {
                    self.report.scored += 1;
                    self.differ(&mut place, None, None, "no such row".into(), "a score".into());
                }
                (Err(fault), partner) => {
                    let unscored = Unscored { row: place.row, key: place.key.clone(), reason: fault.to_string() };
                    let is_refused = matches!(fault, RowFault::Refused { .. });
                    let (count, list) = if is_refused {
                        (&mut self.report.refused, &mut self.report.refused_rows)
                    } else {
                        (&mut self.report.dropped, &mut self.report.dropped_rows)
                    };
                    *count += 1;
                    if list.len() < MOST_UNSCORED {
                        list.push(unscored);
                    }
                    if partner.is_some() {
                        self.differ(&mut place, None, None, "a row".into(), fault.to_string());
                    } else if is_refused && !self.allow_refused {
                        self.differ(&mut place, None, None, "no such row, and no failure".into(), fault.to_string());
                    }
                }
            }
            self.report.differing_rows += u64::from(place.differs);
        }
        self.compare_scores(&features, scored, against);
        self.expected = expected;
        Ok(())
    }

    /// The row of Spark's output that belongs to the row `index` of the batch.
    fn partner(&mut self, index: usize, key: Option<&str>, is_scored: bool, n_expected: usize) -> Option<usize> {
        match &mut self.alignment {
            Alignment::Same => Some(index),
            Alignment::Order { next } => {
                let partner = Some(*next).filter(|&next| is_scored && next < n_expected);
                *next += usize::from(is_scored);
                partner
            }
            Alignment::Key { positions } => positions.remove(key?),
        }
    }

    /// Scores the feature vectors of a batch and compares the forest's columns.
    fn compare_scores(&mut self, features: &[f64], scored: Vec<(Place, usize)>, expected: &Rows) {
        let Some(predictor) = self.predictor.clone() else { return };
        let forest = predictor.engine().forest();
        let mut scores = std::mem::take(&mut self.scores);
        predictor.engine().score(features, &mut scores);
        for (row, (mut place, partner)) in scored.into_iter().enumerate() {
            let expected = expected.get(partner);
            let [raw, probability, prediction, leaf] = self.forest_outputs;
            for (output, entries) in [(raw, scores.raw(row)), (probability, scores.probability(row))] {
                if let Some((column, slot)) = output {
                    self.compare_cell(&mut place, column, Cell::Vector { entries, stored: None }, expected, slot);
                }
            }
            if let Some((column, slot)) = prediction {
                self.compare_cell(&mut place, column, Cell::Number(scores.prediction(row)), expected, slot);
            }
            if let Some((column, slot, labels)) = self.label_output.take() {
                let label = labels.get(scores.prediction(row) as usize);
                let cell = label.map_or(Cell::Missing, |label| Cell::Text(label));
                self.compare_cell(&mut place, column, cell, expected, slot);
                self.label_output = Some((column, slot, labels));
            }
            if let Some((column, slot)) = leaf {
                let x = &features[row * forest.n_features()..][..forest.n_features()];
                let leaves: Vec<f64> =
                    reference::leaf_positions(forest, x).into_iter().map(|leaf| leaf as f64).collect();
                let cell = match (leaves.as_slice(), slot) {
                    // Of a single tree it is a number.
                    (&[leaf], Slot::Number(_)) => Cell::Number(leaf),
                    (leaves, _) => Cell::Vector { entries: leaves, stored: None },
                };
                self.compare_cell(&mut place, column, cell, expected, slot);
            }
            self.report.differing_rows += u64::from(place.differs);
        }
        self.scores = scores;
    }

    fn compare_cell(&mut self, place: &mut Place, column: usize, found: Cell<'_>, expected: Row<'_>, slot: Slot) {
        let expected = match slot {
            Slot::Number(slot) => expected.number(slot).map_or(Cell::Missing, Cell::Number),
            Slot::Text(slot) => expected.text(slot).map_or(Cell::Missing, Cell::Text),
            Slot::Vector(slot) => expected
                .vector(slot)
                .map_or(Cell::Missing, |vector| Cell::Vector { entries: vector.values(), stored: vector.stored() }),
        };
        match (found, expected) {
            (Cell::Number(found), Cell::Number(expected)) => self.compare_doubles(place, column, None, found, expected),
            (Cell::Vector { entries: found, stored: ours }, Cell::Vector { entries: expected, stored: theirs })
                if found.len() == expected.len() =>
            {
                if ours != theirs {
                    let form = |stored: Option<&[bool]>| match stored {
                        None => "a dense vector".to_owned(),
                        Some(stored) => {
                            let stored = stored.iter().enumerate().filter(|(_, stored)| **stored).map(|(i, _)| i);
                            format!("a sparse vector of the entries {:?}", stored.collect::<Vec<_>>())
                        }
                    };
                    self.differ(place, Some(column), None, form(theirs), form(ours));
                }
                for (entry, (&found, &expected)) in found.iter().zip(expected).enumerate() {
                    self.compare_doubles(place, column, Some(entry), found, expected);
                }
            }
            (found, expected) if found == expected => {}
            (found, expected) => self.differ(place, Some(column), None, shown(expected), shown(found)),
        }
    }

    fn compare_doubles(&mut self, place: &mut Place, column: usize, entry: Option<usize>, found: f64, expected: f64) {
        self.report.doubles += 1;
        self.report.columns[column].doubles += 1;
        if found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan()) {
            return;
        }
        let is_bounded =
            self.is_boosted() && self.forest_outputs[1].is_some_and(|(probability, _)| probability == column);
        if is_bounded && (found - expected).abs() <= PROBABILITY_BOUND {
            self.report.doubles_within_bound += 1;
            return;
        }
        self.report.differing_doubles += 1;
        self.differ(place, Some(column), entry, shown(Cell::Number(expected)), shown(Cell::Number(found)));
    }

    fn is_boosted(&self) -> bool {
        let forest: Option<&Forest> = self.predictor.as_ref().map(|predictor| predictor.engine().forest());
        forest.is_some_and(|forest| matches!(forest.task(), Task::BoostedClassification(_)))
    }

    fn differ(
        &mut self,
        place: &mut Place,
        column: Option<usize>,
        entry: Option<usize>,
        expected: String,
        found: String,
    ) {
        place.differs = true;
        let name = match column {
            Some(column) => {
                self.report.columns[column].differing += 1;
                self.report.columns[column].name.clone()
            }
            None => "the row".into(),
        };
        if self.report.differences.len() < self.n_differences {
            let (row, key) = (place.row, place.key.clone());
            self.report.differences.push(Difference { row, key, column: name, entry, expected, found });
        }
    }

    /// Counts the rows of Spark's output that no row of the input belongs to.
    fn finish(mut self) -> Report {
        let n_expected = self.expected.as_ref().map_or(0, Rows::len);
        let surplus: Vec<Option<String>> = match &mut self.alignment {
            Alignment::Same => Vec::new(),
            Alignment::Order { next } => (*next..n_expected).map(|_| None).collect(),
            Alignment::Key { positions } => positions.drain().map(|(key, _)| Some(key)).collect(),
        };
        for key in surplus {
            let mut place = Place { row: self.report.rows, key, differs: false };
            self.differ(&mut place, None, None, "a row".into(), "no such row in the input".into());
            self.report.differing_rows += 1;
        }
        self.report
    }
}

/// A row that is being compared.
struct Place {
    row: u64,
    key: Option<String>,
    differs: bool,
}

fn shown(cell: Cell<'_>) -> String {
    match cell {
        Cell::Missing => "null".into(),
        Cell::Number(x) => format!("{x:?} (bits {:016x})", x.to_bits()),
        Cell::Text(text) => format!("{text:?}"),
        Cell::Vector { entries, .. } => format!("a vector of {} entries", entries.len()),
    }
}

/// The key of a row, as text, if it has one; or what is wrong with it.
fn key_of(row: Row<'_>, slot: Slot) -> std::result::Result<Option<String>, String> {
    /// From here on two integers may be one double.
    const BEYOND_EXACT: f64 = 9_007_199_254_740_992.0;
    match slot {
        Slot::Number(slot) => match row.number(slot) {
            Some(key) if key.abs() >= BEYOND_EXACT => {
                Err("a key is 2^53 or beyond, where integers are not told apart: make it a text with `cast`".into())
            }
            key => Ok(key.map(|key| key.to_string())),
        },
        Slot::Text(slot) => Ok(row.text(slot).map(str::to_owned)),
        Slot::Vector(_) => Ok(None),
    }
}

/// The rows of Spark's output by their key.
fn by_key(rows: &Rows, key: &str, input: &Fields, expected: &Path) -> Result<Alignment> {
    let slot_in = |fields: &Fields| {
        let position = fields
            .position(key)
            .ok_or_else(|| Error::MissingColumns { source_name: fields.source().into(), columns: vec![key.into()] })?;
        match fields.get(position).data_type {
            DataType::Integer | DataType::Text => Ok(fields.slot(position)),
            other => Err(Error::spark(
                expected,
                format!("the key `{key}` is of type {other:?}; integers and texts can be keys"),
            )),
        }
    };
    slot_in(input)?;
    let slot = slot_in(rows.fields())?;
    let mut positions = FxHashMap::default();
    for (position, row) in rows.iter().enumerate() {
        let key_of_row = key_of(row, slot).map_err(|detail| Error::spark(expected, detail))?;
        let Some(key_of_row) = key_of_row else {
            return Err(Error::spark(expected, format!("row {position} has no key `{key}`")));
        };
        if let Some(earlier) = positions.insert(key_of_row.clone(), position) {
            let detail = format!("rows {earlier} and {position} have the same key, {key} = {key_of_row}");
            return Err(Error::spark(expected, detail));
        }
    }
    Ok(Alignment::Key { positions })
}
