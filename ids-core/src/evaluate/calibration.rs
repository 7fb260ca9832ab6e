//! Whether a probability of 0.8 is right in 80 of 100 cases.
//!
//! Cases are binned by probability, in bins of equal width; per bin the mean probability is compared with the share
//! that holds. The expected calibration error is the mean of the differences' amounts, weighted by rows (Guo et al.,
//! ICML 2017, who take 15 bins).

use serde::Serialize;

use super::cases::Cases;
use super::interval::Interval;

/// How far probabilities can be believed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// Probability of the predicted class, against whether the class is right.
    pub predicted: Reliability,
    /// Probability that the row is an attack (1 - that of the benign class), against whether it is one.
    pub attack: Reliability,
    /// Mean over the rows of the sum over the classes of (probability - 1 or 0)², from 0, the best, to 2 (Brier, Monthly
    /// Weather Review 1950).
    pub brier: f64,
    /// Mean of (P(attack) - 1 or 0)², from 0 to 1.
    pub attack_brier: f64,
}

/// A reliability curve.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reliability {
    /// Expected calibration error.
    pub ece: f64,
    /// The bins, from 0 to 1; those without rows too.
    pub bins: Vec<Bin>,
}

/// The rows whose probability is from `low`, itself apart, to `high`; the first bin has 0 too.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bin {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// How many.
    pub rows: u64,
    /// Their mean probability; 0 without rows.
    pub mean: f64,
    /// Share of them for which it holds; 0 without rows.
    pub observed: f64,
    /// Wilson's interval of that share.
    pub interval: Interval,
}

impl Calibration {
    pub(super) fn of(cases: &Cases, n_bins: usize) -> Self {
        let (mut predicted, mut attack) = (Curve::new(n_bins), Curve::new(n_bins));
        let (mut brier, mut attack_brier) = (0.0, 0.0);
        for case in &cases.cases {
            let is_attack = cases.is_attack(case);
            predicted.add(case.said.probability, case.said.class == case.actual);
            attack.add(case.said.attack, is_attack);
            brier += case.said.brier;
            attack_brier += (case.said.attack - f64::from(u8::from(is_attack))).powi(2);
        }
        let n = cases.cases.len().max(1) as f64;
        Self {
            predicted: predicted.reliability(),
            attack: attack.reliability(),
            brier: brier / n,
            attack_brier: attack_brier / n,
        }
    }
}

/// Sums per bin: rows, rows for which it holds, probabilities.
struct Curve(Vec<(u64, u64, f64)>);

impl Curve {
    fn new(n_bins: usize) -> Self {
        Self(vec![(0, 0, 0.0); n_bins])
    }

    fn add(&mut self, probability: f64, holds: bool) {
        let bin = (probability * self.0.len() as f64).ceil() as usize;
        let (rows, hits, sum) = &mut self.0[bin.saturating_sub(1)];
        *rows += 1;
        *hits += u64::from(holds);
        *sum += probability;
    }

    fn reliability(&self) -> Reliability {
        let n: u64 = self.0.iter().map(|(rows, ..)| rows).sum();
        let n_bins = self.0.len() as f64;
        let bin = |(position, &(rows, hits, sum)): (usize, &(u64, u64, f64))| {
            let per_row = |sum: f64| if rows == 0 { 0.0 } else { sum / rows as f64 };
            Bin {
                low: position as f64 / n_bins,
                high: (position + 1) as f64 / n_bins,
                rows,
                mean: per_row(sum),
                observed: per_row(hits as f64),
                interval: Interval::of_share(hits, rows),
            }
        };
        let bins: Vec<_> = self.0.iter().enumerate().map(bin).collect();
        let gap = |bin: &Bin| bin.rows as f64 / n.max(1) as f64 * (bin.mean - bin.observed).abs();
        Reliability { ece: bins.iter().map(gap).sum(), bins }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_the_weighted_gap() {
        let mut curve = Curve::new(10);
        for (probability, holds) in [(0.0, false), (0.1, false), (0.95, true), (0.95, false), (1.0, true), (1.0, true)]
        {
            curve.add(probability, holds);
        }
        let Reliability { ece, bins } = curve.reliability();
        assert_eq!((bins[0].rows, bins[1].rows, bins[9].rows), (2, 0, 4));
        assert_eq!((bins[9].mean, bins[9].observed), (0.975, 0.75));
        assert!((ece - (2.0 / 6.0 * 0.05 + 4.0 / 6.0 * 0.225)).abs() < 1e-12, "{ece}");
        assert_eq!(Curve::new(3).reliability().ece, 0.0);
    }
}
