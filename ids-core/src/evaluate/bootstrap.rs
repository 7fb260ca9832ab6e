//! Intervals by the bootstrap: what the figures would have been on other rows of the same kind.
//!
//! Rows are drawn anew with replacement, as many as there are, and every figure is computed again; an interval runs
//! from the 2.5 to the 97.5 percentile of the replicates (Efron & Tibshirani, *An Introduction to the Bootstrap*,
//! 1993, chapter 13). A figure that depends only on how often each of some cells was counted needs no rows: how often
//! they come when rows are drawn is multinomial over the counts.
//!
//! Rows are taken to be independent. Flows of one attack are not, so that the true intervals are wider.

use ndarray::Array2;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rand_distr::{Binomial, Distribution};
use serde::Serialize;

use super::confusion::{ConfusionMatrix, Quality};
use super::interval::{Interval, LEVEL};

/// How replicates are drawn. The same counts, replicates and seed give the same intervals on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bootstrap {
    /// How often rows are drawn anew.
    pub replicates: u32,
    /// Seed of the draws.
    pub seed: u64,
}

/// 95 % intervals of the figures of a [`Quality`]. A share that is 0 or 1 on all rows is so on all replicates: its
/// interval is Wilson's instead.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Intervals {
    /// Of the accuracy.
    pub accuracy: Interval,
    /// Of macro-F1.
    pub macro_f1: Interval,
    /// Of the false-alarm rate.
    pub false_alarm_rate: Interval,
    /// Of the attack recall.
    pub attack_recall: Interval,
    /// Of each class, in the model's order.
    pub classes: Vec<ClassIntervals>,
}

/// The intervals of one class; `None` where it does not occur.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassIntervals {
    /// Its name.
    pub class: String,
    /// Of the precision.
    pub precision: Option<Interval>,
    /// Of the recall.
    pub recall: Option<Interval>,
    /// Of F1.
    pub f1: Option<Interval>,
}

impl Bootstrap {
    /// Calls `of` with the counts of each replicate of `counts`.
    pub(super) fn replicate(self, counts: &[u64], mut of: impl FnMut(&[u64])) {
        let mut generator = Xoshiro256PlusPlus::seed_from_u64(self.seed);
        let mut drawn = vec![0; counts.len()];
        for _ in 0..self.replicates {
            draw(counts, &mut generator, &mut drawn);
            of(&drawn);
        }
    }

    /// The intervals of the figures of `matrix`.
    pub fn intervals(self, matrix: &ConfusionMatrix) -> Intervals {
        let shape = matrix.counts().dim();
        let counts: Vec<_> = matrix.counts().iter().copied().collect();
        let mut replicates = Vec::with_capacity(self.replicates as usize);
        self.replicate(&counts, |counts| {
            let counts = Array2::from_shape_vec(shape, counts.to_vec()).expect("as many as there were");
            replicates.push(matrix.with_counts(counts).quality());
        });
        let of = |figure: &dyn Fn(&Quality) -> f64| percentiles(replicates.iter().map(figure).collect());
        let quality = matrix.quality();
        // A share is given by its part and its whole; a replicate without the whole says nothing of it.
        let of_share = |share: &dyn Fn(&Quality) -> (u64, u64)| match share(&quality) {
            (_, 0) => None,
            (part, whole) if part == 0 || part == whole => Some(Interval::of_share(part, whole)),
            _ => of(&|quality| match share(quality) {
                (_, 0) => f64::NAN,
                (part, whole) => part as f64 / whole as f64,
            }),
        };
        let class = |class: usize| {
            let hits = move |quality: &Quality| quality.confusion[class][class];
            let support = move |quality: &Quality| quality.classes[class].support;
            let predicted = move |quality: &Quality| quality.confusion.iter().map(|row| row[class]).sum::<u64>();
            ClassIntervals {
                class: quality.classes[class].class.clone(),
                precision: of_share(&|quality| (hits(quality), predicted(quality))),
                recall: of_share(&|quality| (hits(quality), support(quality))),
                f1: of(&|quality| match support(quality) + predicted(quality) {
                    0 => f64::NAN,
                    _ => quality.classes[class].f1,
                }),
            }
        };
        let benign = matrix.benign();
        let quiet = |quality: &Quality| quality.confusion[benign][benign];
        let n_benign = |quality: &Quality| quality.classes[benign].support;
        let n_quiet = |quality: &Quality| quality.confusion.iter().map(|row| row[benign]).sum::<u64>();
        let right = |quality: &Quality| (0..quality.classes.len()).map(|class| quality.confusion[class][class]).sum();
        let unknown = Interval { low: 0.0, high: 1.0 };
        Intervals {
            accuracy: of_share(&|quality| (right(quality), quality.rows)).unwrap_or(unknown),
            macro_f1: of(&|quality| quality.macro_f1).unwrap_or(unknown),
            false_alarm_rate: of_share(&|quality| (n_benign(quality) - quiet(quality), n_benign(quality)))
                .unwrap_or(unknown),
            attack_recall: of_share(&|quality| {
                let attacks = quality.rows - n_benign(quality);
                (attacks - (n_quiet(quality) - quiet(quality)), attacks)
            })
            .unwrap_or(unknown),
            classes: (0..quality.classes.len()).map(class).collect(),
        }
    }
}

/// A multinomial draw of as many as `counts` are in sum: cell by cell, each binomial among what is left.
fn draw(counts: &[u64], generator: &mut Xoshiro256PlusPlus, drawn: &mut [u64]) {
    let mut weight: u64 = counts.iter().sum();
    let mut left = weight;
    for (&count, drawn) in counts.iter().zip(drawn) {
        *drawn = match (count, left) {
            (0, _) | (_, 0) => 0,
            _ if count == weight => left,
            _ => {
                let share = count as f64 / weight as f64;
                Binomial::new(left, share).expect("a share is a probability").sample(generator)
            }
        };
        weight -= count;
        left -= *drawn;
    }
}

/// The interval of [`LEVEL`] of the values that are numbers, between neighbours in proportion; `None` without any.
pub(super) fn percentiles(mut values: Vec<f64>) -> Option<Interval> {
    values.retain(|value| !value.is_nan());
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    let at = |share: f64| {
        let place = share * last as f64;
        let below = place.floor() as usize;
        let (low, high) = (values[below], values[(below + 1).min(last)]);
        if low == high { low } else { low + (high - low) * place.fract() }
    };
    let tail = (1.0 - LEVEL) / 2.0;
    Some(Interval { low: at(tail), high: at(1.0 - tail) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOTSTRAP: Bootstrap = Bootstrap { replicates: 2_000, seed: 1 };

    #[test]
    fn a_draw_has_as_many_rows_and_the_right_moments() {
        let counts = [0, 900, 90, 0, 10];
        let mut sums = [0.0; 5];
        let mut squares = 0.0;
        BOOTSTRAP.replicate(&counts, |drawn| {
            assert_eq!(drawn.iter().sum::<u64>(), 1_000);
            for (sum, &drawn) in sums.iter_mut().zip(drawn) {
                *sum += drawn as f64;
            }
            squares += (drawn[2] as f64 - 90.0).powi(2);
        });
        let n = f64::from(BOOTSTRAP.replicates);
        assert_eq!((sums[0], sums[3]), (0.0, 0.0));
        assert!((sums[1] / n - 900.0).abs() < 1.0 && (sums[4] / n - 10.0).abs() < 0.3, "{sums:?}");
        // n p (1 - p)
        assert!((squares / n - 81.9).abs() < 8.0, "{}", squares / n);
    }

    /// Where theory tells the interval of a share, the bootstrap finds it.
    #[test]
    fn intervals_of_shares_are_those_of_theory() {
        let classes = ["benign", "dos"].map(str::to_owned);
        let mut matrix = ConfusionMatrix::new(&classes, 0);
        for (actual, predicted, rows) in [(0, 0, 9_700), (0, 1, 300), (1, 1, 1_000)] {
            matrix.add(actual, predicted, rows);
        }
        let intervals = BOOTSTRAP.intervals(&matrix);
        let wilson = Interval::of_share(300, 10_000);
        let found = intervals.false_alarm_rate;
        assert!(
            (found.low - wilson.low).abs() < 4e-4 && (found.high - wilson.high).abs() < 4e-4,
            "{found:?} {wilson:?}"
        );
        // All attacks were caught, and still the next may not be.
        assert_eq!(intervals.attack_recall, Interval::of_share(1_000, 1_000));
        assert_eq!(BOOTSTRAP.intervals(&matrix), intervals, "the seed decides");
        assert_ne!(Bootstrap { seed: 2, ..BOOTSTRAP }.intervals(&matrix), intervals);
    }

    #[test]
    fn what_does_not_occur_has_no_interval() {
        let classes = ["benign", "dos", "worm"].map(str::to_owned);
        let mut matrix = ConfusionMatrix::new(&classes, 0);
        matrix.add(0, 0, 5);
        matrix.add(1, 0, 5);
        let intervals = BOOTSTRAP.intervals(&matrix);
        let [benign, dos, worm] = &intervals.classes[..] else { panic!("three classes") };
        assert!(benign.f1.is_some_and(|f1| f1.low < f1.high));
        assert_eq!((dos.precision, dos.recall), (None, Some(Interval::of_share(0, 5))));
        assert_eq!((worm.precision, worm.recall, worm.f1), (None, None, None));
    }

    #[test]
    fn percentiles_lie_between_neighbours() {
        let found = percentiles((0..=1_000).map(f64::from).collect()).expect("values");
        assert!((found.low - 25.0).abs() < 1e-9 && (found.high - 975.0).abs() < 1e-9, "{found:?}");
        assert_eq!(percentiles(vec![f64::NAN]), None);
        assert_eq!(percentiles(vec![3.0]), Some(Interval { low: 3.0, high: 3.0 }));
    }
}
