//! Rows of any source, scored tile by tile on several threads: rows are split over threads, never trees, so the
//! doubles do not depend on how many there are.

use std::ops::Range;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

use ids_core::decode::Skipped;
use ids_core::{FlowRecords, Model, RecordError, Score, Scores};

use crate::fault::Reason;
use crate::watch::{NAP, Watch};

/// Rows per tile: so few that they stay in the second-level cache between decoding and scoring.
pub(crate) const TILE: usize = 256;
/// A thread is worth its start for so many rows.
const LEAST_ROWS: usize = 4 * TILE;

/// Rows that can be decoded from any position on.
pub(crate) trait Source: Sync {
    /// What one thread decodes with.
    type Decoder: Send;

    fn n_rows(&self) -> usize;

    fn decoder(&self) -> Self::Decoder;

    /// Some rows from the start of `range` on, one at least.
    fn tile<'a>(&'a self, decoder: &'a mut Self::Decoder, range: Range<usize>) -> Tile<'a>;
}

/// Decoded rows.
pub(crate) struct Tile<'a> {
    /// Rows of the source that it covers.
    pub(crate) n_rows: usize,
    /// The flows among them lie at `range`.
    pub(crate) records: &'a FlowRecords,
    pub(crate) range: Range<usize>,
    /// The others: position in the tile, in order, and what is wrong.
    pub(crate) bad: Vec<(usize, RecordError)>,
}

/// Which outputs to keep beside the prediction.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    pub(crate) raw: bool,
    pub(crate) probability: bool,
    /// The flows' own labels, if they have any.
    pub(crate) labels: bool,
}

/// A row has no label.
pub(crate) const NO_LABEL: i32 = -1;
/// A row's label is none of the model's classes.
pub(crate) const UNKNOWN_LABEL: i32 = -2;

/// Scores by row of the input; NaN where a row has none. Outputs that are not wanted are empty.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    pub(crate) n_rows: usize,
    pub(crate) n_classes: usize,
    /// `[n_rows, n_classes]`, row-major.
    pub(crate) raw: Vec<f64>,
    /// `[n_rows, n_classes]`, row-major.
    pub(crate) probability: Vec<f64>,
    /// `[n_rows]`.
    pub(crate) prediction: Vec<f64>,
    /// `[n_rows]`: positions of classes, or [`NO_LABEL`], [`UNKNOWN_LABEL`].
    pub(crate) labels: Vec<i32>,
    /// The rows without score, in order.
    pub(crate) faults: Vec<(usize, Reason)>,
    /// Rows of a file that are no rows of the input.
    pub(crate) skipped: Skipped,
}

/// The outputs of some rows that follow each other.
struct Part<'a> {
    first: usize,
    n_classes: usize,
    raw: &'a mut [f64],
    probability: &'a mut [f64],
    prediction: &'a mut [f64],
    labels: &'a mut [i32],
}

impl Outputs {
    pub(crate) fn new(model: &Model) -> Self {
        Self { n_classes: model.classes().len(), ..Self::default() }
    }

    /// Scores all rows of `source` after those that are there, or some of them if `watch` says to end.
    pub(crate) fn score<S: Source>(
        &mut self,
        model: &Model,
        source: &S,
        wanted: Wanted,
        n_threads: usize,
        watch: &Watch,
    ) {
        let work = |part: Part<'_>, first: usize| score_part(model, source, part, first, watch);
        self.split(source.n_rows(), wanted, n_threads, watch, &work);
    }

    /// The same of assembled features, `[n_rows, n_features]` row-major.
    pub(crate) fn score_features(
        &mut self,
        model: &Model,
        features: &[f64],
        wanted: Wanted,
        n_threads: usize,
        watch: &Watch,
    ) {
        let (engine, n_features) = (model.predictor().engine(), model.forest().n_features());
        let work = |mut part: Part<'_>, first: usize| {
            let mut scores = Scores::default();
            // Tiles of the engine's own size are cut from these; the scores stay in the cache.
            const ROWS: usize = 8 * TILE;
            let n_rows = part.prediction.len();
            for start in (0..n_rows).step_by(ROWS) {
                if watch.is_over() {
                    break;
                }
                let rows = start..n_rows.min(start + ROWS);
                engine
                    .score(&features[(first + rows.start) * n_features..(first + rows.end) * n_features], &mut scores);
                for row in rows.clone() {
                    part.set(row, score_of(&scores, row - rows.start));
                }
            }
            Vec::new()
        };
        self.split(features.len() / n_features, wanted, n_threads, watch, &work);
    }

    /// Makes room for `n_rows` more and has `work` fill it, a part for each thread.
    fn split<W>(&mut self, n_rows: usize, wanted: Wanted, n_threads: usize, watch: &Watch, work: &W)
    where
        W: Fn(Part<'_>, usize) -> Vec<(usize, Reason)> + Sync,
    {
        let (before, n_classes) = (self.n_rows, self.n_classes);
        self.n_rows += n_rows;
        let grow = |values: &mut Vec<f64>, is_wanted: bool, width: usize| {
            if is_wanted {
                values.resize((before + n_rows) * width, f64::NAN);
            }
        };
        grow(&mut self.raw, wanted.raw, n_classes);
        grow(&mut self.probability, wanted.probability, n_classes);
        grow(&mut self.prediction, true, 1);
        if wanted.labels {
            self.labels.resize(before + n_rows, NO_LABEL);
        }
        let mut rest = Part {
            first: before,
            n_classes,
            raw: tail(&mut self.raw, before * n_classes),
            probability: tail(&mut self.probability, before * n_classes),
            prediction: tail(&mut self.prediction, before),
            labels: tail(&mut self.labels, before),
        };
        let n_threads = n_threads.min(n_rows.div_ceil(LEAST_ROWS)).max(1);
        if n_threads == 1 {
            self.faults.extend(work(rest, 0));
            return;
        }
        let rows_each = n_rows.div_ceil(n_threads).next_multiple_of(TILE);
        let mut faults = thread::scope(|scope| {
            let (done, parts) = mpsc::channel();
            let mut first = 0;
            while first < n_rows {
                let (part, others) = rest.split(rows_each.min(n_rows - first));
                let done = done.clone();
                scope.spawn(move || done.send((first, work(part, first))));
                rest = others;
                first += rows_each;
            }
            drop(done);
            let mut faults = Vec::new();
            loop {
                match parts.recv_timeout(NAP) {
                    Ok(part) => faults.push(part),
                    Err(RecvTimeoutError::Timeout) => drop(watch.look()),
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            faults
        });
        faults.sort_by_key(|&(first, _)| first);
        self.faults.extend(faults.into_iter().flat_map(|(_, faults)| faults));
    }
}

/// What lies behind `start`, if anything is kept at all.
fn tail<T>(values: &mut [T], start: usize) -> &mut [T] {
    let start = start.min(values.len());
    &mut values[start..]
}

impl<'a> Part<'a> {
    fn split(self, n_rows: usize) -> (Self, Self) {
        let cut = |values: &'a mut [f64], at: usize| {
            let at = at.min(values.len());
            values.split_at_mut(at)
        };
        let (raw, raw_after) = cut(self.raw, n_rows * self.n_classes);
        let (probability, probability_after) = cut(self.probability, n_rows * self.n_classes);
        let (prediction, prediction_after) = cut(self.prediction, n_rows);
        let at = n_rows.min(self.labels.len());
        let (labels, labels_after) = self.labels.split_at_mut(at);
        let (first, n_classes) = (self.first, self.n_classes);
        (
            Self { first, n_classes, raw, probability, prediction, labels },
            Self {
                first: first + n_rows,
                n_classes,
                raw: raw_after,
                probability: probability_after,
                prediction: prediction_after,
                labels: labels_after,
            },
        )
    }

    fn set(&mut self, row: usize, score: Score<'_>) {
        self.prediction[row] = score.prediction;
        let cells = row * self.n_classes..(row + 1) * self.n_classes;
        if let Some(raw) = self.raw.get_mut(cells.clone()) {
            raw.copy_from_slice(score.raw);
        }
        if let Some(probability) = self.probability.get_mut(cells) {
            probability.copy_from_slice(score.probabilities);
        }
    }
}

/// Scores the rows of `source` from `first` on into `part`; returns those without score.
fn score_part<S: Source>(
    model: &Model,
    source: &S,
    mut part: Part<'_>,
    first: usize,
    watch: &Watch,
) -> Vec<(usize, Reason)> {
    let mut decoder = source.decoder();
    let mut scorer = model.scorer();
    let mut faults = Vec::new();
    let n_rows = part.prediction.len();
    let mut done = 0;
    while done < n_rows && !watch.is_over() {
        let tile = source.tile(&mut decoder, first + done..first + n_rows);
        let scored = scorer.score_range(tile.records.as_ref(), tile.range.clone());
        let mut bad = tile.bad.into_iter().peekable();
        let mut next = 0;
        for row in 0..tile.n_rows {
            let position = part.first + done + row;
            if let Some((_, error)) = bad.next_if(|(bad, _)| *bad == row) {
                faults.push((position, Reason::Undecodable(error)));
                continue;
            }
            match scored.get(next) {
                Ok(score) => part.set(done + row, score),
                Err(fault) => faults.push((position, Reason::Unscored(fault))),
            }
            if let Some(label) = part.labels.get_mut(done + row) {
                *label = label_of(model, tile.records, tile.range.start + next);
            }
            next += 1;
        }
        done += tile.n_rows;
    }
    faults
}

fn label_of(model: &Model, records: &FlowRecords, row: usize) -> i32 {
    match records.get(row).label() {
        None => NO_LABEL,
        Some(label) => {
            model.labels().iter().position(|class| class == label).map_or(UNKNOWN_LABEL, |class| class as i32)
        }
    }
}

pub(crate) fn score_of(scores: &Scores, row: usize) -> Score<'_> {
    Score { prediction: scores.prediction(row), raw: scores.raw(row), probabilities: scores.probability(row) }
}
