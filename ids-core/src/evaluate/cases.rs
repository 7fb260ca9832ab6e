//! What a model says of the rows of a file, kept until it is known which rows are asked for.
//!
//! A [`Gathering`] is shown the batches of a file once, in order: a split needs all rows before the side of any is known.

use std::sync::Arc;

use serde::Serialize;

use super::confusion::ConfusionMatrix;
use crate::alert::Alerting;
use crate::decode::Batch;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::score::{Score, Scorer};
use crate::split::{Holdout, Side, SideCounts, Splitter};

/// What became of the rows of a file.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RowCounts {
    /// All rows.
    pub read: u64,
    /// Rows that are no flows.
    pub rejected: u64,
    /// How the flows were split; only those on the test side count below.
    pub split: Option<SplitRows>,
    /// Flows on the test side that were spared for another test.
    pub spared: u64,
    /// Flows that the model refuses or drops.
    pub unscored: u64,
    /// Flows without a label.
    pub unlabelled: u64,
    /// Flows whose label is no class of the model.
    pub unknown: u64,
    /// The first fault of a rejected or refused row.
    pub first_fault: Option<String>,
}

/// A split and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitRows {
    /// How rows were parted.
    #[serde(flatten)]
    pub holdout: Holdout,
    /// Rows on each side.
    #[serde(flatten)]
    pub counts: SideCounts,
}

/// A class that occurs and that the model was not taught: its rows are in no other figure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnknownClass {
    /// Its name.
    pub class: String,
    /// Rows of it.
    pub rows: u64,
    /// Of these, called an attack, of whatever class.
    pub called_attack: u64,
}

/// What a model says of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Said {
    /// Position of the predicted class.
    pub class: u32,
    /// Whether an alert is raised, by the model's own thresholds.
    pub raised: bool,
    /// Probability of the predicted class.
    pub probability: f64,
    /// Probability that the row is an attack, of whatever class.
    pub attack: f64,
    /// Sum over the classes of (probability - (1 if it is that class, else 0))² (Brier, Monthly Weather Review 1950).
    pub brier: f64,
}

/// A labelled row and what was said of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Case {
    /// Position of its class among the first model's.
    pub actual: u32,
    /// What the first model says.
    pub said: Said,
    /// What the second says, if there is one, and the position of the class among its own.
    pub other: Option<(u32, Said)>,
}

/// The labelled rows of a file that were asked for.
#[derive(Debug, Clone)]
pub struct Cases {
    /// The model.
    pub model: Arc<Model>,
    /// The model that it is compared with.
    pub other: Option<Arc<Model>>,
    /// What became of all rows.
    pub rows: RowCounts,
    /// The rows.
    pub cases: Vec<Case>,
    /// The classes that the model, or the other, was not taught, the most frequent first.
    pub unknown: Vec<UnknownClass>,
    /// Why a model may have learnt some of the rows, in words.
    pub cautions: Vec<String>,
}

/// What is known of a flow so far.
#[derive(Debug, Clone, Copy)]
enum Entry {
    Unscored,
    Unlabelled,
    /// With the position of its class among those not known.
    Unknown(u32, bool),
    Case(Case),
}

/// Gathers cases.
#[derive(Debug)]
pub struct Gathering {
    judge: Judge,
    other: Option<Judge>,
    splitter: Option<(Holdout, Splitter)>,
    /// Tells the rows to spare.
    spared: Option<Splitter>,
    entries: Vec<Entry>,
    /// Names of the classes that are not known.
    unknown: Vec<String>,
    rows: RowCounts,
    cautions: Vec<String>,
}

/// A model at work: what scores, and what is made of a score. Apart, for a score borrows from the scorer.
#[derive(Debug)]
struct Judge {
    scorer: Scorer,
    voice: Voice,
}

#[derive(Debug)]
struct Voice {
    model: Arc<Model>,
    alerting: Alerting,
}

impl Judge {
    fn new(model: &Arc<Model>) -> Result<Self> {
        let alerting = model.alerting(None)?;
        Ok(Self { scorer: model.scorer(), voice: Voice { model: Arc::clone(model), alerting } })
    }
}

impl Voice {
    /// Position of the class, if the model knows it.
    fn position(&self, class: &str) -> Option<u32> {
        self.model.labels().iter().position(|known| known == class).map(|position| position as u32)
    }

    /// What the model says of a row of the class at `actual`.
    fn said(&self, score: &Score<'_>, actual: u32) -> Said {
        let class = score.class();
        let target = |position| if position == actual as usize { 1.0 } else { 0.0 };
        let distances = score.probabilities.iter().enumerate().map(|(position, p)| (p - target(position)).powi(2));
        Said {
            class: class as u32,
            raised: self.alerting.reaches(class, score.probabilities[class]),
            probability: score.probabilities[class],
            // Rounding can leave the sum of the others a hair outside.
            attack: (1.0 - score.probabilities[self.model.benign()]).clamp(0.0, 1.0),
            brier: distances.sum(),
        }
    }
}

impl Gathering {
    /// Of what `model` says, and `other` beside it, of all rows or of those that `holdout` tests.
    ///
    /// # Errors
    /// [`Error::Model`] where the two take flows of different schemas; else as [`Holdout::bind`].
    pub fn new(model: &Arc<Model>, other: Option<&Arc<Model>>, holdout: Option<&Holdout>) -> Result<Self> {
        if let Some(other) = other
            && !other.schema().fields().is_like(model.schema().fields())
        {
            let (one, two) = (model.schema().name(), other.schema().name());
            let detail = format!("one takes flows of schema `{one}`, the other of `{two}`: they cannot be compared");
            return Err(Error::Model { detail });
        }
        let splitter = holdout.map(|holdout| Ok((holdout.clone(), holdout.bind(model.schema())?))).transpose()?;
        let mut cautions = Vec::new();
        for model in [Some(model), other].into_iter().flatten() {
            cautions.extend(caution(model, holdout)?.filter(|caution| !cautions.contains(caution)));
        }
        Ok(Self {
            judge: Judge::new(model)?,
            other: other.map(Judge::new).transpose()?,
            splitter,
            entries: Vec::new(),
            unknown: Vec::new(),
            rows: RowCounts::default(),
            spared: None,
            cautions,
        })
    }

    /// Leaves out the rows that the same split would test with a smaller share: they stay for a test of what is
    /// chosen on the others.
    ///
    /// # Errors
    /// [`Error::Split`] where there is no split, or its share is not larger.
    pub fn sparing(mut self, test_share: f64) -> Result<Self> {
        let Some((holdout, _)) = &self.splitter else {
            return Err(Error::Split { detail: "without a split there are no rows to spare".into() });
        };
        if test_share >= holdout.test_share {
            let detail =
                format!("of a test share of {} no rows are left where {test_share} is spared", holdout.test_share);
            return Err(Error::Split { detail });
        }
        let spared = Holdout { test_share, ..holdout.clone() };
        self.spared = Some(spared.bind(self.judge.voice.model.schema())?);
        Ok(self)
    }

    /// Shows the next rows.
    ///
    /// # Errors
    /// As [`Splitter::add`].
    ///
    /// # Panics
    /// Where the rows are of another schema.
    pub fn add(&mut self, batch: Batch<'_>) -> Result<()> {
        let Self { judge, other, splitter, spared, entries, unknown, rows, cautions: _ } = self;
        rows.read += (batch.bad.len() + batch.records.len()) as u64;
        rows.rejected += batch.bad.len() as u64;
        if rows.first_fault.is_none() {
            rows.first_fault = batch.bad.first().map(ToString::to_string);
        }
        let scored = judge.scorer.score(batch.records);
        let by_other = other.as_mut().map(|other| (other.scorer.score(batch.records), &other.voice));
        for (index, record) in batch.records.iter().enumerate() {
            for splitter in splitter.iter_mut().map(|(_, splitter)| splitter).chain(spared.iter_mut()) {
                splitter.add(batch.rows[index], record)?;
            }
            let score = scored.get(index);
            let of_other = by_other.as_ref().map(|(scored, voice)| scored.get(index).map(|score| (score, *voice)));
            let (score, of_other) = match (score, of_other.transpose()) {
                (Ok(score), Ok(of_other)) => (score, of_other),
                (Err(fault), _) | (_, Err(fault)) => {
                    rows.first_fault.get_or_insert_with(|| format!("record {}: {fault}", batch.rows[index]));
                    entries.push(Entry::Unscored);
                    continue;
                }
            };
            let Some(label) = record.label() else {
                entries.push(Entry::Unlabelled);
                continue;
            };
            let actual = judge.voice.position(label);
            let other = of_other.map(|(score, voice)| (voice.position(label), score, voice));
            entries.push(match (actual, other) {
                (Some(actual), None) => {
                    Entry::Case(Case { actual, said: judge.voice.said(&score, actual), other: None })
                }
                (Some(actual), Some((Some(of_other), other_score, voice))) => Entry::Case(Case {
                    actual,
                    said: judge.voice.said(&score, actual),
                    other: Some((of_other, voice.said(&other_score, of_other))),
                }),
                _ => {
                    let position = unknown.iter().position(|known| known == label).unwrap_or_else(|| {
                        unknown.push(label.to_owned());
                        unknown.len() - 1
                    });
                    Entry::Unknown(position as u32, score.class() != judge.voice.model.benign())
                }
            });
        }
        Ok(())
    }

    /// The cases, once all rows were shown.
    ///
    /// # Errors
    /// As [`Splitter::sides`].
    pub fn finish(self) -> Result<Cases> {
        let Self { judge, other, splitter, spared, entries, unknown, mut rows, cautions } = self;
        let sides = match splitter {
            None => None,
            Some((holdout, splitter)) => {
                let sides = splitter.sides()?;
                rows.split = Some(SplitRows { holdout, counts: SideCounts::of(&sides) });
                Some(sides)
            }
        };
        let spared = spared.map(Splitter::sides).transpose()?;
        let is_spared = |row: usize| spared.as_ref().is_some_and(|sides| sides[row] == Side::Test);
        let mut cases = Vec::new();
        let unknown = unknown.into_iter().map(|class| UnknownClass { class, rows: 0, called_attack: 0 });
        let mut unknown: Vec<_> = unknown.collect();
        for (row, entry) in entries.into_iter().enumerate() {
            if sides.as_ref().is_some_and(|sides| sides[row] != Side::Test) {
                continue;
            }
            if is_spared(row) {
                rows.spared += 1;
                continue;
            }
            match entry {
                Entry::Unscored => rows.unscored += 1,
                Entry::Unlabelled => rows.unlabelled += 1,
                Entry::Case(case) => cases.push(case),
                Entry::Unknown(class, called_attack) => {
                    rows.unknown += 1;
                    let class = &mut unknown[class as usize];
                    class.rows += 1;
                    class.called_attack += u64::from(called_attack);
                }
            }
        }
        unknown.retain(|class| class.rows > 0);
        unknown.sort_by_key(|class| std::cmp::Reverse(class.rows));
        let other = other.map(|other| other.voice.model);
        Ok(Cases { model: judge.voice.model, other, rows, cases, unknown, cautions })
    }
}

/// What to be wary of where rows are tested that `model` does not say it held out. Which file it learnt from is not known:
/// without any split, this is taken for another. Of a model that Spark trained nothing is known.
fn caution(model: &Model, tested: Option<&Holdout>) -> Result<Option<String>> {
    let Some(training) = &model.provenance().training else { return Ok(None) };
    let kept = match (&training.holdout, tested) {
        (None, None) => return Ok(None),
        (Some(held_out), Some(tested)) if held_out.covers(tested, model.schema())? => return Ok(None),
        (Some(held_out), _) => format!("held out rows by `{held_out}`"),
        (None, _) => "does not say that it held out any rows".to_owned(),
    };
    let version = model.version();
    let why = "if this is the file that it was trained on, it has learnt some of these rows";
    Ok(Some(format!("model {version} {kept}: {why}")))
}

impl Cases {
    /// Predictions against labels.
    pub fn confusion(&self) -> ConfusionMatrix {
        let mut matrix = ConfusionMatrix::new(self.model.labels(), self.model.benign());
        for case in &self.cases {
            matrix.add(case.actual as usize, case.said.class as usize, 1);
        }
        matrix
    }

    /// Whether the row is an attack.
    pub fn is_attack(&self, case: &Case) -> bool {
        case.actual as usize != self.model.benign()
    }
}
