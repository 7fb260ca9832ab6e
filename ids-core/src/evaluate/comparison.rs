//! Two models on the same rows: how they differ, and whether that may be chance.
//!
//! Rows are drawn anew for both at once (paired bootstrap, Efron & Tibshirani 1993): what makes a row hard makes it hard
//! for both, so that a difference is known better than either figure. Whether one names the class right more often is
//! McNemar's question (Psychometrika 1947), and only rows that one has right and the other wrong tell it.

use std::collections::BTreeMap;

use ndarray::Array2;
use serde::Serialize;
use statrs::distribution::{Binomial, ChiSquared, ContinuousCDF, DiscreteCDF};

use super::bootstrap::{Bootstrap, percentiles};
use super::cases::Cases;
use super::confusion::{ConfusionMatrix, Quality};
use super::interval::{Estimate, Interval};
use crate::alert::AlertPolicy;

/// Rows that differ, up to which McNemar's test is exact.
const MOST_EXACT: u64 = 1_000;

type Figure = fn(&Judged) -> f64;

/// The figures that are compared; the last two where a model has thresholds for alerts.
const FIGURES: [(&str, Figure); 6] = [
    ("macro_f1", |judged| judged.quality.macro_f1),
    ("attack_recall", |judged| judged.quality.attack_recall),
    ("false_alarm_rate", |judged| judged.quality.false_alarm_rate),
    ("accuracy", |judged| judged.quality.accuracy),
    ("attacks_alerted", |judged| judged.raised_of(true)),
    ("benign_alerted", |judged| judged.raised_of(false)),
];
const N_ALERT_FIGURES: usize = 2;

/// What is compared of a model.
struct Judged {
    quality: Quality,
    /// Rows of attacks, and of benign flows: all, and those that raise an alert.
    attacks: [u64; 2],
    benign: [u64; 2],
}

impl Judged {
    /// Share of the attacks, or of the benign rows, that raise an alert; 0 where there are none.
    fn raised_of(&self, attacks: bool) -> f64 {
        let [all, raised] = if attacks { self.attacks } else { self.benign };
        if all == 0 { 0.0 } else { raised as f64 / all as f64 }
    }
}

/// What both say of a row: its class, the predicted one, and whether an alert is raised.
type Cell = [(u32, u32, bool); 2];

/// The model beside another, on the rows whose class both know.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Version of the other model.
    pub versus: String,
    /// The other model's figures.
    pub quality: Quality,
    /// The model's figures less the other's.
    pub differences: Vec<Difference>,
    /// Which of the two names the class right more often.
    pub mcnemar: McNemar,
}

/// A figure of both, and the difference with its interval.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Which figure.
    pub figure: &'static str,
    /// The model's.
    pub model: f64,
    /// The other's.
    pub versus: f64,
    /// The model's less the other's.
    pub difference: Estimate,
}

/// McNemar's test.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct McNemar {
    /// Rows that the model has right and the other wrong.
    pub only_model: u64,
    /// Rows that the other has right and the model wrong.
    pub only_versus: u64,
    /// `exact`: two-sided binomial; or `chi_squared`: (|b - c| - 1)² / (b + c) with 1 degree of freedom, as McNemar
    /// approximates it, with the correction of Edwards (Psychometrika 1948).
    pub method: &'static str,
    /// Probability of so large a difference or a larger one, if both are right equally often.
    pub p_value: f64,
}

impl Comparison {
    /// `None` where there is no other model.
    pub(super) fn of(cases: &Cases, bootstrap: Bootstrap) -> Option<Self> {
        let other = cases.other.as_ref()?;
        let models = [&cases.model, other];
        // How often each combination of what both say comes.
        let mut cells = BTreeMap::<Cell, u64>::new();
        for case in &cases.cases {
            let (of_other, said) = case.other?;
            let cell = [(case.actual, case.said.class, case.said.raised), (of_other, said.class, said.raised)];
            *cells.entry(cell).or_default() += 1;
        }
        let (cells, counts): (Vec<_>, Vec<_>) = cells.into_iter().unzip();
        let empty = models.map(|model| ConfusionMatrix::new(model.labels(), model.benign()));
        let judged = |counts: &[u64], which: usize| {
            let mut matrix = empty[which].with_counts(Array2::zeros(empty[which].counts().dim()));
            let (mut attacks, mut benign) = ([0, 0], [0, 0]);
            for (cell, &rows) in cells.iter().zip(counts) {
                let (actual, predicted, raised) = cell[which];
                matrix.add(actual as usize, predicted as usize, rows);
                let kind = if actual as usize == models[which].benign() { &mut benign } else { &mut attacks };
                kind[0] += rows;
                kind[1] += if raised { rows } else { 0 };
            }
            Judged { quality: matrix.quality(), attacks, benign }
        };
        let have_thresholds = models.iter().any(|model| *model.alerts() != AlertPolicy::default());
        let figures = &FIGURES[..if have_thresholds { FIGURES.len() } else { FIGURES.len() - N_ALERT_FIGURES }];
        let mut replicates = vec![Vec::new(); figures.len()];
        bootstrap.replicate(&counts, |drawn| {
            let (model, versus) = (judged(drawn, 0), judged(drawn, 1));
            for (values, (_, figure)) in replicates.iter_mut().zip(figures) {
                values.push(figure(&model) - figure(&versus));
            }
        });
        let (model, versus) = (judged(&counts, 0), judged(&counts, 1));
        let differences = figures.iter().zip(replicates).map(|(&(name, figure), values)| {
            let (model, versus) = (figure(&model), figure(&versus));
            let interval = percentiles(values).unwrap_or(Interval { low: -1.0, high: 1.0 });
            Difference { figure: name, model, versus, difference: Estimate { value: model - versus, interval } }
        });
        let mut only = [0, 0];
        for (&[(actual, predicted, _), (of_other, by_other, _)], &rows) in cells.iter().zip(&counts) {
            match (predicted == actual, by_other == of_other) {
                (true, false) => only[0] += rows,
                (false, true) => only[1] += rows,
                _ => {}
            }
        }
        Some(Self {
            versus: other.version().to_owned(),
            differences: differences.collect(),
            mcnemar: McNemar::of(only[0], only[1]),
            quality: versus.quality,
        })
    }
}

impl McNemar {
    fn of(only_model: u64, only_versus: u64) -> Self {
        let n = only_model + only_versus;
        let (method, p_value) = if n == 0 {
            ("exact", 1.0)
        } else if n <= MOST_EXACT {
            let binomial = Binomial::new(0.5, n).expect("a half is a probability");
            ("exact", (2.0 * binomial.cdf(only_model.min(only_versus))).min(1.0))
        } else {
            let gap = only_model.abs_diff(only_versus).saturating_sub(1) as f64;
            ("chi_squared", ChiSquared::new(1.0).expect("a degree of freedom").sf(gap * gap / n as f64))
        };
        Self { only_model, only_versus, method, p_value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against `scipy.stats.binomtest(k, n).pvalue` and `scipy.stats.chi2.sf(x, 1)`.
    #[test]
    fn mcnemar_as_others_compute_it() {
        for (b, c, method, expected) in [
            (0, 0, "exact", 1.0),
            (5, 5, "exact", 1.0),
            (1, 9, "exact", 0.021_484_375),
            (9, 1, "exact", 0.021_484_375),
            (600, 500, "chi_squared", 0.002_836_133),
        ] {
            let found = McNemar::of(b, c);
            assert_eq!(found.method, method);
            assert!((found.p_value - expected).abs() < 1e-6, "{b} {c}: {found:?}");
        }
    }
}
