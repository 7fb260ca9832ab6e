//! Columns in bins: what a node looks at are counts per bin, however many values there are.

use super::flows::{Categories, MISSING};
use crate::error::{Error, Result};
use crate::forest::SplitRule;

/// A feature of all rows, each value replaced by its bin.
#[derive(Debug)]
pub(super) struct Binned {
    /// Per row.
    pub(super) bins: Vec<u16>,
    pub(super) n_bins: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Bin `b` holds the values of at most `edges[b]` and above those of the bins before.
    Number { edges: Vec<f64> },
    /// The bin is the index of the category; the last is that of a missing one.
    Category,
}

impl Binned {
    /// At most `most_bins` bins of about equally many rows each, or one for each distinct value; a missing value (NaN)
    /// is `surrogate`.
    pub(super) fn of_numbers(mut values: Vec<f64>, surrogate: f64, most_bins: usize) -> Self {
        for value in &mut values {
            if value.is_nan() {
                *value = surrogate;
            }
        }
        let mut sorted = values.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let edges = edges(&sorted, most_bins);
        drop(sorted);
        // The settings allow no more bins than 16 bits count.
        let bins = values.into_iter().map(|x| edges.partition_point(|&edge| edge < x) as u16).collect();
        Self { bins, n_bins: edges.len() + 1, kind: Kind::Number { edges } }
    }

    /// A bin for each category, and the last for a missing one; and the labels of the StringIndexer that makes these
    /// indices.
    pub(super) fn of_categories(column: &Categories) -> Result<(Self, Vec<String>)> {
        let (labels, ranks) = column.by_frequency();
        let Some(missing) = u16::try_from(labels.len()).ok().filter(|&n| n < u16::MAX) else {
            return Err(Error::training(format!(
                "column `{}` has {} distinct values: it names flows and is no category; make it an `identifier` in the schema",
                column.name,
                labels.len()
            )));
        };
        let bin = |&code: &u32| if code == MISSING { missing } else { ranks[code as usize] as u16 };
        let bins = column.codes.iter().map(bin).collect();
        Ok((Self { bins, n_bins: labels.len() + 1, kind: Kind::Category }, labels))
    }

    /// Whether bins have an order of their own.
    pub(super) fn is_ordered(&self) -> bool {
        matches!(self.kind, Kind::Number { .. })
    }

    /// The question that sends the rows of the bins `left` to the left. For a number these are the first ones, empty
    /// ones among them left out.
    pub(super) fn rule(&self, left: &[u16]) -> SplitRule {
        match &self.kind {
            Kind::Number { edges } => {
                let last = left.iter().copied().max().map_or(0, usize::from);
                SplitRule::AtMost(edges[last])
            }
            Kind::Category => SplitRule::OneOf {
                categories: left.iter().copied().map(u32::from).collect(),
                n_categories: self.n_bins as u32,
                unknown_left: false,
            },
        }
    }
}

/// The median of what is finite, the lower one of two; `None` where nothing is.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let middle = finite.len().checked_sub(1)? / 2;
    Some(*finite.select_nth_unstable_by(middle, f64::total_cmp).1)
}

/// Where the bins of the values end, the last apart: half-way between two values. As Spark does
/// (RandomForest.scala, `findSplitsForContinuousFeature`): an edge after each value at which the count is nearest to
/// the next multiple of rows per bin.
fn edges(sorted: &[f64], most_bins: usize) -> Vec<f64> {
    let runs: Vec<(f64, usize)> = sorted.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect();
    let each_has_its_own = runs.len() <= most_bins;
    let stride = sorted.len() as f64 / most_bins as f64;
    let (mut edges, mut seen, mut target) = (Vec::new(), 0, stride);
    for pair in runs.windows(2) {
        let ((value, n), (next, n_next)) = (pair[0], pair[1]);
        seen += n;
        let (before, after) = ((seen as f64 - target).abs(), ((seen + n_next) as f64 - target).abs());
        if each_has_its_own || (before < after && edges.len() + 1 < most_bins) {
            edges.push(between(value, next));
            target += stride;
        }
    }
    edges
}

/// A number in `[low, high)`, half-way where doubles allow.
fn between(low: f64, high: f64) -> f64 {
    let middle = low / 2.0 + high / 2.0;
    if low <= middle && middle < high { middle } else { low }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_lie_between_the_values_that_they_part() {
        assert_eq!(edges(&[1.0, 1.0, 2.0, 4.0], 8), [1.5, 3.0]);
        assert_eq!(edges(&[7.0, 7.0], 8), [0.0; 0]);
        let next = 1.0f64.next_up();
        let extremes = [f64::NEG_INFINITY, f64::MIN, 1.0, next, f64::MAX, f64::INFINITY];
        let found = edges(&extremes, 8);
        for (pair, edge) in extremes.windows(2).zip(&found) {
            assert!(pair[0] <= *edge && *edge < pair[1], "{pair:?} {edge}");
        }
    }

    #[test]
    fn bins_hold_about_equally_many_rows() {
        let values: Vec<f64> = (0..1_000).map(|i| f64::from(i * i)).collect();
        let binned = Binned::of_numbers(values, 0.0, 10);
        assert_eq!(binned.n_bins, 10);
        let mut counts = [0; 10];
        for &bin in &binned.bins {
            counts[usize::from(bin)] += 1;
        }
        assert!(counts.iter().all(|count| (99..=101).contains(count)), "{counts:?}");
        // Most values are one: it has a bin, and the others still have some.
        let skewed: Vec<f64> = (0..1_000).map(|i| f64::from((i - 900).max(0))).collect();
        assert!(Binned::of_numbers(skewed, 0.0, 10).n_bins > 1);
    }

    /// A row goes where its bin goes: routing by values and by bins must never differ.
    #[test]
    fn rules_part_values_as_bins_are_parted() {
        let values = vec![-0.0, 0.0, 0.5, f64::INFINITY, f64::NEG_INFINITY, 3.0, f64::NAN, 1e300];
        let binned = Binned::of_numbers(values.clone(), 2.0, 4);
        for last in 0..binned.n_bins as u16 - 1 {
            let SplitRule::AtMost(edge) = binned.rule(&[last]) else { panic!("a threshold") };
            for (value, &bin) in values.iter().zip(&binned.bins) {
                let value = if value.is_nan() { 2.0 } else { *value };
                assert_eq!(value <= edge, bin <= last, "{value} {edge}");
            }
        }
    }

    #[test]
    fn the_median_is_of_what_is_finite() {
        assert_eq!(median(&[f64::NAN, 3.0, f64::INFINITY, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(1.0));
        assert_eq!(median(&[f64::NAN, f64::INFINITY]), None);
    }
}
