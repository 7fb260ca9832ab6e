//! Figures with the interval in which the true one is likely to be.

use serde::{Deserialize, Serialize};

/// The confidence of all intervals.
pub const LEVEL: f64 = 0.95;

/// The standard normal deviate that [`LEVEL`] of the distribution lies within, on both sides.
const Z: f64 = 1.959_963_984_540_054;

/// From where to where.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// A figure and its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// As measured.
    pub value: f64,
    /// Where the true one is likely to be.
    #[serde(flatten)]
    pub interval: Interval,
}

impl Interval {
    /// The interval of Wilson (JASA 1927) for the share `part` of `whole`; from 0 to 1 where `whole` is 0. Unlike what
    /// resampling gives, it has a width where all or none are of the part.
    pub fn of_share(part: u64, whole: u64) -> Self {
        if whole == 0 {
            return Self { low: 0.0, high: 1.0 };
        }
        let (n, share) = (whole as f64, part as f64 / whole as f64);
        let centre = share + Z * Z / (2.0 * n);
        let reach = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        // At the ends rounding would leave a hair.
        let low = if part == 0 { 0.0 } else { (centre - reach) / scale };
        let high = if part == whole { 1.0 } else { (centre + reach) / scale };
        Self { low, high }
    }

    /// Both ends times `factor`.
    pub fn times(self, factor: f64) -> Self {
        Self { low: factor * self.low, high: factor * self.high }
    }
}

impl Estimate {
    /// The share `part` of `whole`, 0 where `whole` is 0, with Wilson's interval.
    pub fn of_share(part: u64, whole: u64) -> Self {
        let value = if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        Self { value, interval: Interval::of_share(part, whole) }
    }

    /// All three numbers times `factor`.
    pub fn times(self, factor: f64) -> Self {
        Self { value: factor * self.value, interval: self.interval.times(factor) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the formula in Python.
    #[test]
    fn wilson_as_others_compute_it() {
        for (part, whole, low, high) in [
            (0, 10, 0.0, 0.277_532_799_862_889_2),
            (10, 10, 0.722_467_200_137_110_8, 1.0),
            (7, 50, 0.069_508_334, 0.261_861_937),
        ] {
            let found = Interval::of_share(part, whole);
            assert!((found.low - low).abs() < 1e-6 && (found.high - high).abs() < 1e-6, "{part} of {whole}: {found:?}");
        }
        assert_eq!(Interval::of_share(0, 0), Interval { low: 0.0, high: 1.0 });
    }
}
