//! What the leaves of a row say, summed in tree order, class by class: Spark's order, and so its doubles.

use std::ops::Range;
use std::sync::Arc;

use crate::forest::{Forest, ROOM, Scores, Task};

/// The leaves' value vectors.
#[derive(Debug, Clone)]
pub(super) struct Votes {
    /// From `start` on, where a cache line starts: each padded with zeros to `padded_width`. Shared, since a copy would start
    /// elsewhere.
    values: Arc<Vec<f64>>,
    start: usize,
    padded_width: usize,
    /// The class thresholds, with ones behind them, for as many classes as have their sums in registers.
    thresholds: Option<[f64; ROOM]>,
}

/// Bytes of a cache line, and of the widest register.
const LINE: usize = 64;

impl Votes {
    pub(super) fn of(forest: &Forest) -> Self {
        let width = forest.task.leaf_width();
        // They are summed four at a time.
        let padded_width = if width == 1 { 1 } else { width.next_multiple_of(4) };
        let n_vectors = forest.values.len() / width;
        let mut values: Vec<f64> = Vec::with_capacity(n_vectors * padded_width + LINE / size_of::<f64>());
        // A register that is loaded from two lines takes two loads: of twelve values every other vector is.
        let start = values.as_ptr().align_offset(LINE).min(LINE / size_of::<f64>());
        values.resize(start, 0.0);
        for (vector, own) in forest.values.chunks_exact(width).enumerate() {
            values.extend_from_slice(own);
            values.resize(start + (vector + 1) * padded_width, 0.0);
        }
        let thresholds =
            forest.thresholds().map(|own| std::array::from_fn(|class| own.get(class).copied().unwrap_or(1.0)));
        Self { values: Arc::new(values), start, padded_width, thresholds }
    }

    /// The number at `leaf`, where a leaf has no more.
    #[inline(always)]
    pub(super) fn number(&self, leaf: u32) -> f64 {
        self.values[self.start + leaf as usize]
    }

    /// Sums what the leaves of `R` rows say, from `row` on, in tree order. Rows after them are not summed yet.
    #[inline(always)]
    pub(super) fn sum<const R: usize>(
        &self,
        leaves: impl Iterator<Item = [u32; R]>,
        n_classes: usize,
        scores: &mut Scores,
        row: usize,
    ) {
        let raw = &mut scores.raw[row * n_classes..];
        match self.padded_width {
            4 => self.sum_in_registers::<R, 4>(leaves, n_classes, raw),
            8 => self.sum_in_registers::<R, 8>(leaves, n_classes, raw),
            12 => self.sum_in_registers::<R, 12>(leaves, n_classes, raw),
            16 => self.sum_in_registers::<R, 16>(leaves, n_classes, raw),
            width => {
                let raw = &mut raw[..R * n_classes];
                raw.fill(0.0);
                for leaves in leaves {
                    for (raw, leaf) in raw.chunks_exact_mut(n_classes).zip(leaves) {
                        for (sum, vote) in raw.iter_mut().zip(&self.values[self.start + leaf as usize * width..]) {
                            *sum += vote;
                        }
                    }
                }
            }
        }
    }

    /// Sums of at most `N` classes.
    #[inline(always)]
    fn sum_in_registers<const R: usize, const N: usize>(
        &self,
        leaves: impl Iterator<Item = [u32; R]>,
        n_classes: usize,
        raw: &mut [f64],
    ) {
        const { assert!(N <= ROOM) };
        let (vectors, _) = self.values[self.start..].as_chunks::<N>();
        let mut sums = [[0.0; N]; R];
        for leaves in leaves {
            for (sums, leaf) in sums.iter_mut().zip(leaves) {
                for (sum, vote) in sums.iter_mut().zip(&vectors[leaf as usize]) {
                    *sum += vote;
                }
            }
        }
        for (i, sums) in sums.iter().enumerate() {
            put(sums, &mut raw[i * n_classes..]);
        }
    }

    /// Completes the scores of `rows`, as [`Forest::decide`] does. Rows after them are not completed yet.
    ///
    /// Apart from the sums of votes: within a row each step waits for the one before, so rows should follow on each other.
    #[inline(always)]
    pub(super) fn decide(&self, forest: &Forest, scores: &mut Scores, rows: Range<usize>) {
        match self.padded_width {
            4 => self.decide_in_registers::<4>(forest, scores, rows),
            8 => self.decide_in_registers::<8>(forest, scores, rows),
            12 => self.decide_in_registers::<12>(forest, scores, rows),
            16 => self.decide_in_registers::<16>(forest, scores, rows),
            _ => rows.for_each(|row| forest.decide(scores, row)),
        }
    }

    #[inline(always)]
    fn decide_in_registers<const N: usize>(&self, forest: &Forest, scores: &mut Scores, rows: Range<usize>) {
        let Task::Classification { n_classes: n, by_probability, .. } = forest.task else { return };
        for row in rows {
            let raw = &scores.raw[row * n..];
            let raw: &[f64; N] = raw.first_chunk().expect("room after the last row");
            let votes: [f64; N] = std::array::from_fn(|class| if class < n { raw[class] } else { 0.0 });
            // The zeros after the last class change no sum.
            let sum = votes.iter().fold(0.0, |sum, vote| sum + vote);
            let probabilities = votes.map(|vote| vote / sum);
            put(&probabilities, &mut scores.probability[row * n..]);
            let class = match &self.thresholds {
                None if by_probability => first_largest(&probabilities, n),
                None => first_largest(&votes, n),
                Some(thresholds) => first_largest::<N>(&std::array::from_fn(|i| probabilities[i] / thresholds[i]), n),
            };
            scores.prediction[row] = class as f64;
        }
    }
}

/// Writes all of a register, of which the places after the last class belong to the next row, or to none.
#[inline(always)]
fn put<const N: usize>(values: &[f64; N], to: &mut [f64]) {
    to[..N].copy_from_slice(values);
}

/// Position of the first of the largest of the first `n` values; 0 where there is none but NaN.
#[inline(always)]
fn first_largest<const N: usize>(values: &[f64; N], n: usize) -> usize {
    let larger = |largest: f64, value: f64| if value > largest { value } else { largest };
    let mut largest = [f64::NEG_INFINITY; 4];
    for (i, &value) in values.iter().enumerate() {
        largest[i % 4] = larger(largest[i % 4], if i < n { value } else { f64::NEG_INFINITY });
    }
    let largest = larger(larger(largest[0], largest[1]), larger(largest[2], largest[3]));
    let equal = values.iter().enumerate().fold(0_u32, |equal, (i, value)| equal | u32::from(*value == largest) << i);
    if largest > f64::NEG_INFINITY { equal.trailing_zeros() as usize } else { 0 }
}
