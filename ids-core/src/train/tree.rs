//! A tree grown on a bag of rows, node by node.

use std::sync::atomic::{AtomicBool, Ordering};

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, seq};

use super::Settings;
use super::bins::Binned;
use super::split::{Histogram, Split};
use crate::forest::NodeSpec;

/// What all trees of a forest grow on.
pub(super) struct Grower<'a> {
    columns: &'a [Binned],
    /// The class of each row.
    labels: &'a [u32],
    /// What a row of each class weighs.
    class_weights: Vec<f64>,
    depth: usize,
    min_rows: u64,
    features_per_node: usize,
}

/// A tree on its way.
struct Growing<'g> {
    grower: &'g Grower<'g>,
    /// How often each row is in the bag.
    bag: Vec<u32>,
    random: Xoshiro256PlusPlus,
    nodes: Vec<NodeSpec>,
    histogram: Histogram,
    is_over: &'g AtomicBool,
}

impl<'a> Grower<'a> {
    pub(super) fn new(columns: &'a [Binned], labels: &'a [u32], n_classes: usize, settings: &Settings) -> Self {
        let mut counts = vec![0u64; n_classes];
        for &label in labels {
            counts[label as usize] += 1;
        }
        let mean = labels.len() as f64 / n_classes as f64;
        Self {
            columns,
            labels,
            class_weights: counts.iter().map(|&count| (mean / count as f64).powf(settings.balance)).collect(),
            depth: settings.depth,
            min_rows: settings.min_rows_per_leaf,
            features_per_node: settings.features_per_node.of(columns.len()),
        }
    }

    /// The nodes of a tree, parents first; of no use where `is_over` is set meanwhile.
    pub(super) fn grow(&self, mut random: Xoshiro256PlusPlus, is_over: &AtomicBool) -> Vec<NodeSpec> {
        let mut bag = vec![0; self.labels.len()];
        for _ in 0..bag.len() {
            bag[random.random_range(0..self.labels.len())] += 1;
        }
        let mut rows: Vec<u32> = (0..).zip(&bag).filter(|(_, times)| **times > 0).map(|(row, _)| row).collect();
        let mut growing =
            Growing { grower: self, bag, random, nodes: Vec::new(), histogram: Histogram::default(), is_over };
        growing.grow(&mut rows, 0);
        growing.nodes
    }
}

impl Growing<'_> {
    /// Grows the node that `rows` arrive at, and all below it. No deeper than the settings allow, which is 30.
    fn grow(&mut self, rows: &mut [u32], depth: usize) {
        let position = self.nodes.len();
        self.nodes.push(self.leaf(rows));
        if depth == self.grower.depth || self.is_over.load(Ordering::Relaxed) {
            return;
        }
        let Some((feature, split)) = self.best_split(rows) else { return };
        let column = &self.grower.columns[feature];
        let mut goes_left = vec![false; column.n_bins];
        for &bin in &split.left {
            goes_left[usize::from(bin)] = true;
        }
        let n_left = part(rows, |row| goes_left[usize::from(column.bins[row as usize])]);
        let (to_left, to_right) = rows.split_at_mut(n_left);
        let left = self.nodes.len();
        self.grow(to_left, depth + 1);
        let right = self.nodes.len();
        self.grow(to_right, depth + 1);
        self.nodes[position] = NodeSpec::Split { feature, rule: column.rule(&split.left), left, right };
    }

    /// A leaf whose votes are the shares of the classes among `rows`, by weight, as in Spark.
    fn leaf(&self, rows: &[u32]) -> NodeSpec {
        let mut values = vec![0.0; self.grower.class_weights.len()];
        for &row in rows {
            let class = self.grower.labels[row as usize] as usize;
            values[class] += f64::from(self.bag[row as usize]) * self.grower.class_weights[class];
        }
        let sum: f64 = values.iter().sum();
        for value in &mut values {
            *value /= sum;
        }
        NodeSpec::Leaf { values }
    }

    /// The best split by one of the features that this node draws; the first of equally good ones.
    fn best_split(&mut self, rows: &[u32]) -> Option<(usize, Split)> {
        let Grower { columns, labels, class_weights, min_rows, features_per_node, .. } = self.grower;
        let mut best: Option<(usize, Split)> = None;
        for feature in seq::index::sample(&mut self.random, columns.len(), *features_per_node) {
            let column = &columns[feature];
            self.histogram.reset(column.n_bins, class_weights.len());
            for &row in rows {
                let row = row as usize;
                let (class, times) = (labels[row], self.bag[row]);
                let weight = f64::from(times) * class_weights[class as usize];
                self.histogram.count(column.bins[row], class, times, weight);
            }
            if let Some(split) = self.histogram.best_split(column.is_ordered(), *min_rows)
                && best.as_ref().is_none_or(|(_, best)| split.gain > best.gain)
            {
                best = Some((feature, split));
            }
        }
        best
    }
}

/// Brings the rows that go left to the front, and says how many they are. Both sides keep their order.
fn part(rows: &mut [u32], goes_left: impl Fn(u32) -> bool) -> usize {
    let (left, right): (Vec<u32>, Vec<u32>) = rows.iter().partition(|row| goes_left(**row));
    rows[..left.len()].copy_from_slice(&left);
    rows[left.len()..].copy_from_slice(&right);
    left.len()
}
