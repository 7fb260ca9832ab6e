//! The best split of a node by one feature, found by linfa-trees.
//!
//! linfa-trees is asked for no more than the threshold of a single split, of the node's rows counted per bin: that is
//! what it does exactly. Its trees as a whole are not used, for four reasons. Below the root it looks for a split only
//! after those rows that are the last of their value in the whole table, so that columns of few values are hardly split
//! there; it cannot draw features per node; its own prediction sends a value equal to a threshold to the other side
//! than its training did; and its sums of `f32` run in the order of a randomly seeded hash map, so that with three
//! classes or more two runs differ. With two classes they do not: a sum of two is the same in either order. So each
//! class is told from the rest in turn, and of the thresholds found the one is taken that lowers the impurity over all
//! classes most, computed here in doubles. For two classes that is CART, as far as `f32` goes: it does not see what
//! lowers the impurity by less than some 1e-7. For more classes, what is not looked at are thresholds that are best for
//! no single class.

use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_trees::DecisionTree;
use ndarray_linfa::{Array1, Array2};

/// A node's rows by the bins of one feature.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    n_classes: usize,
    /// Summed weights, `[n_bins, n_classes]`, row-major.
    weights: Vec<f64>,
    /// Rows, each as often as it is in the bag, `[n_bins]`.
    rows: Vec<u64>,
}

/// Which rows go left, and what is gained.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Split {
    /// Bins with rows in the node that go left.
    pub(super) left: Vec<u16>,
    /// By how much Gini's impurity times the weight falls from the node to its children.
    pub(super) gain: f64,
}

impl Histogram {
    /// Forgets all rows and makes room.
    pub(super) fn reset(&mut self, n_bins: usize, n_classes: usize) {
        self.n_classes = n_classes;
        self.weights.clear();
        self.weights.resize(n_bins * n_classes, 0.0);
        self.rows.clear();
        self.rows.resize(n_bins, 0);
    }

    /// Counts a row that is `n` times in the bag and weighs `weight` in all.
    #[inline]
    pub(super) fn count(&mut self, bin: u16, class: u32, n: u32, weight: f64) {
        self.weights[usize::from(bin) * self.n_classes + class as usize] += weight;
        self.rows[usize::from(bin)] += u64::from(n);
    }

    fn of_bin(&self, bin: u16) -> &[f64] {
        &self.weights[usize::from(bin) * self.n_classes..][..self.n_classes]
    }

    /// The best split that leaves `min_rows` on each side; `None` where none lowers the impurity. Bins keep their order
    /// where they have one; else they are ordered by their share of the class that is told from the rest: of all ways
    /// to part them in two, the best is then a cut (Breiman et al., *Classification and Regression Trees*, 1984, 4.5).
    pub(super) fn best_split(&self, is_ordered: bool, min_rows: u64) -> Option<Split> {
        let mut order: Vec<u16> = (0..).zip(&self.rows).filter(|(_, rows)| **rows > 0).map(|(bin, _)| bin).collect();
        let mut totals = vec![0.0; self.n_classes];
        for &bin in &order {
            add(&mut totals, self.of_bin(bin));
        }
        let present: Vec<_> = (0..self.n_classes).filter(|&class| totals[class] > 0.0).collect();
        let told: &[usize] = match &present[..] {
            [] | [_] => return None,
            [first, _] => &[*first],
            all => all,
        };
        let mut best: Option<Split> = None;
        for &class in told {
            if !is_ordered {
                let share = |bin: u16| self.of_bin(bin)[class] / self.of_bin(bin).iter().sum::<f64>();
                order.sort_by(|&a, &b| share(a).total_cmp(&share(b)).then(a.cmp(&b)));
            }
            let Some(n_left) = self.cut(&order, class, min_rows) else { continue };
            let gain = self.gain(&order[..n_left], &totals);
            // Less is rounding.
            let is_gain = gain > 1e-12 * totals.iter().sum::<f64>();
            if is_gain && best.as_ref().is_none_or(|best| gain > best.gain) {
                best = Some(Split { left: order[..n_left].to_vec(), gain });
            }
        }
        best
    }

    /// How many of the bins in `order` go left, so that `class` is told from the rest.
    fn cut(&self, order: &[u16], class: usize, min_rows: u64) -> Option<usize> {
        let all: u64 = order.iter().map(|&bin| self.rows[usize::from(bin)]).sum();
        let mut below = 0;
        let allowed = order.iter().enumerate().filter(|&(_, &bin)| {
            below += self.rows[usize::from(bin)];
            below >= min_rows && all - below >= min_rows
        });
        let mut allowed = allowed.map(|(position, _)| position);
        let first = allowed.next()?;
        let last = allowed.last().unwrap_or(first);
        // Weights are whole numbers with a sum that `f32` holds exactly, since linfa adds and subtracts them.
        const EXACT: f64 = (1 << 23) as f64;
        let total: f64 = order.iter().flat_map(|&bin| self.of_bin(bin)).sum();
        let (mut positions, mut is_class, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for (position, &bin) in order.iter().enumerate() {
            let (of_class, of_all) = (self.of_bin(bin)[class], self.of_bin(bin).iter().sum::<f64>());
            for (is_it, weight) in [(true, of_class), (false, of_all - of_class)] {
                if weight > 0.0 {
                    // What must not be parted has one value.
                    positions.push(position.clamp(first, last + 1) as f64);
                    is_class.push(is_it);
                    weights.push((weight * EXACT / total).round().max(1.0) as f32);
                }
            }
        }
        let records = Array2::from_shape_vec((positions.len(), 1), positions).expect("a column");
        let flows = DatasetBase::new(records, Array1::from(is_class)).with_weights(Array1::from(weights));
        let tree = DecisionTree::params().max_depth(Some(1)).min_weight_split(0.0).min_impurity_decrease(f64::EPSILON);
        let tree = tree.fit(&flows).expect("the parameters are valid");
        // Pruning makes a leaf of a root whose children agree, but the root keeps its split.
        let (_, threshold, decrease) = tree.root_node().split();
        (decrease > 0.0).then(|| threshold.floor() as usize + 1)
    }

    /// By how much Gini's impurity times the weight falls: that of `n` rows with shares `p` is `n (1 - sum p^2)`.
    fn gain(&self, left: &[u16], totals: &[f64]) -> f64 {
        let mut of_left = vec![0.0; self.n_classes];
        for &bin in left {
            add(&mut of_left, self.of_bin(bin));
        }
        let of_right: Vec<f64> = totals.iter().zip(&of_left).map(|(total, left)| (total - left).max(0.0)).collect();
        let purity = |weights: &[f64]| {
            let sum: f64 = weights.iter().sum();
            if sum > 0.0 { weights.iter().map(|weight| weight * weight).sum::<f64>() / sum } else { 0.0 }
        };
        purity(&of_left) + purity(&of_right) - purity(totals)
    }
}

fn add(sums: &mut [f64], weights: &[f64]) {
    for (sum, weight) in sums.iter_mut().zip(weights) {
        *sum += weight;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn histogram(bins: &[&[u32]]) -> Histogram {
        let mut histogram = Histogram::default();
        histogram.reset(bins.len(), bins[0].len());
        for (bin, counts) in (0..).zip(bins) {
            for (class, &n) in (0..).zip(*counts) {
                histogram.count(bin, class, n, f64::from(n));
            }
        }
        histogram
    }

    #[test]
    fn numbers_are_cut_and_categories_are_sorted_first() {
        let counts: &[&[u32]] = &[&[9, 0], &[0, 9], &[9, 0], &[0, 9]];
        let split = |is_ordered, min_rows| histogram(counts).best_split(is_ordered, min_rows);
        assert_eq!(split(false, 1), Some(Split { left: vec![1, 3], gain: 18.0 }));
        assert_eq!(split(true, 1).expect("a split").left.len() % 2, 1);
        assert_eq!(split(true, 19), None, "too few rows on a side");
        assert_eq!(split(true, 18), None, "halves gain nothing");
        assert_eq!(histogram(&[&[5, 0], &[7, 0]]).best_split(true, 1), None, "one class");
        assert_eq!(histogram(&[&[5, 5]]).best_split(true, 1), None, "one bin");
    }

    #[test]
    fn a_rare_class_is_told_from_many() {
        let split = histogram(&[&[100_000, 0], &[100_000, 0], &[3, 1]]).best_split(true, 1);
        assert_eq!(split.map(|split| split.left), Some(vec![0, 1]));
    }

    /// The best cut of all, by looking at each.
    fn best_gain(histogram: &Histogram, min_rows: u64) -> f64 {
        let order: Vec<u16> = (0..histogram.rows.len() as u16).collect();
        let rows = |bins: &[u16]| bins.iter().map(|&bin| histogram.rows[usize::from(bin)]).sum::<u64>();
        let mut totals = vec![0.0; histogram.n_classes];
        for &bin in &order {
            add(&mut totals, histogram.of_bin(bin));
        }
        let cuts = (1..order.len()).filter(|&cut| rows(&order[..cut]) >= min_rows && rows(&order[cut..]) >= min_rows);
        cuts.map(|cut| histogram.gain(&order[..cut], &totals)).fold(0.0, f64::max)
    }

    proptest! {
        /// Of two classes the cut is the best there is, up to the resolution of linfa's `f32`.
        #[test]
        fn two_classes_are_cut_as_well_as_can_be(
            counts in prop::collection::vec(prop::array::uniform2(0u32..40), 1..20),
            min_rows in 1u64..60,
        ) {
            let bins: Vec<&[u32]> = counts.iter().map(|counts| &counts[..]).collect();
            let histogram = histogram(&bins);
            let found = histogram.best_split(true, min_rows).map_or(0.0, |split| split.gain);
            let best = best_gain(&histogram, min_rows);
            let total: f64 = histogram.weights.iter().sum();
            prop_assert!((best - found).abs() <= 1e-5 * total.max(1.0), "{found} of {best}");
        }

        /// Of more it is never better than the best, never past the limit, and the same each time.
        #[test]
        fn more_classes_are_cut_the_same_way_each_time(
            counts in prop::collection::vec(prop::array::uniform4(0u32..9), 1..12),
            min_rows in 1u64..20,
            is_ordered: bool,
        ) {
            let bins: Vec<&[u32]> = counts.iter().map(|counts| &counts[..]).collect();
            let histogram = histogram(&bins);
            let split = histogram.best_split(is_ordered, min_rows);
            prop_assert_eq!(&histogram.best_split(is_ordered, min_rows), &split);
            if let Some(split) = split {
                let left: u64 = split.left.iter().map(|&bin| histogram.rows[usize::from(bin)]).sum();
                let all: u64 = histogram.rows.iter().sum();
                prop_assert!(left >= min_rows && all - left >= min_rows);
                prop_assert!(!is_ordered || split.gain <= best_gain(&histogram, min_rows) + 1e-9);
            }
        }
    }
}
