//! Forests: validated trees and two ways to score them that agree to the bit.
//!
//! A [`Forest`] exists only through its [`ForestBuilder`], so whoever holds one need not check it
//! again. [`reference`](mod@reference) scores it in the obvious way and is the specification;
//! [`Engine`] does so fast. What a tree looked like on somebody's disk is the business of
//! [`import`](crate::import).

mod builder;
mod engine;
pub mod reference;

use serde::{Deserialize, Serialize};

pub use builder::{ForestBuilder, NodeSpec, SplitRule};
pub use engine::{Engine, Limits};

use crate::error::Error;

/// A classification forest: trees in the order in which their votes are added.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "builder::Definition", into = "builder::Definition")]
pub struct Forest {
    n_features: usize,
    n_classes: usize,
    /// Position in `nodes` of each tree's root. A tree's nodes lie together, parents first.
    roots: Vec<u32>,
    nodes: Vec<Node>,
    /// The distinct vote vectors of the leaves, `[n, n_classes]`, row-major.
    votes: Vec<f64>,
    /// The distinct category sets of the splits.
    sets: Vec<CategorySet>,
    /// A row's class is the one whose probability is largest relative to its threshold.
    thresholds: Option<Vec<f64>>,
}

/// A node; positions of children are positions in [`Forest`]'s `nodes`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Node {
    /// `votes`: which of the distinct vote vectors.
    Leaf { votes: u32 },
    /// A row goes left where the test holds.
    Split { feature: u32, test: Test, left: u32, right: u32 },
}

/// The question a split asks of its feature's value `x`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Test {
    /// `x <= threshold`; false for NaN.
    AtMost(f64),
    /// Whether the category set at this position holds `x`.
    OneOf(u32),
}

/// The categories that go left at a split.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct CategorySet {
    n_categories: u32,
    /// Bit `c` is set where category `c` goes left.
    bits: Vec<u64>,
    /// Where a value goes that is none of the categories.
    unknown_left: bool,
}

impl CategorySet {
    /// Whether `x` goes left. `-0.0` is category 0; fractions, NaN and what lies outside
    /// `0..n_categories` are unknown.
    fn holds(&self, x: f64) -> bool {
        // `as` saturates and takes NaN to 0, so the comparison decides.
        let category = x as u32;
        if f64::from(category) == x && category < self.n_categories {
            self.bits[category as usize / 64] >> (category % 64) & 1 == 1
        } else {
            self.unknown_left
        }
    }
}

/// Scores of a batch: one row of each per row of features.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    n_classes: usize,
    /// Summed votes, `[n_rows, n_classes]`, row-major.
    raw: Vec<f64>,
    /// Votes over their sum, `[n_rows, n_classes]`, row-major.
    probability: Vec<f64>,
    /// Position of the predicted class, `[n_rows]`.
    prediction: Vec<usize>,
}

impl Scores {
    /// How many rows were scored.
    pub fn n_rows(&self) -> usize {
        self.prediction.len()
    }

    /// Summed votes of `row`, `[n_classes]`: Spark's `rawPrediction`.
    pub fn raw(&self, row: usize) -> &[f64] {
        &self.raw[row * self.n_classes..][..self.n_classes]
    }

    /// Probabilities of `row`, `[n_classes]`: Spark's `probability`.
    pub fn probability(&self, row: usize) -> &[f64] {
        &self.probability[row * self.n_classes..][..self.n_classes]
    }

    /// Position of the class predicted for `row`: Spark's `prediction`.
    pub fn prediction(&self, row: usize) -> usize {
        self.prediction[row]
    }

    /// Makes room for `n_rows` rows, all zero.
    fn reset(&mut self, n_rows: usize, n_classes: usize) {
        self.n_classes = n_classes;
        for values in [&mut self.raw, &mut self.probability] {
            values.clear();
            values.resize(n_rows * n_classes, 0.0);
        }
        self.prediction.clear();
        self.prediction.resize(n_rows, 0);
    }
}

impl Forest {
    /// Length of a feature vector.
    pub fn n_features(&self) -> usize {
        self.n_features
    }

    /// Number of classes.
    pub fn n_classes(&self) -> usize {
        self.n_classes
    }

    /// Number of trees.
    pub fn n_trees(&self) -> usize {
        self.roots.len()
    }

    /// Number of nodes of all trees.
    pub fn n_nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Longest path from a root to a leaf, in splits.
    pub fn depth(&self) -> usize {
        (0..self.n_trees()).map(|tree| self.depth_of(tree)).max().unwrap_or(0)
    }

    /// The class thresholds, if the forest has any.
    pub fn thresholds(&self) -> Option<&[f64]> {
        self.thresholds.as_deref()
    }

    /// Positions of the nodes of `tree`.
    fn nodes_of(&self, tree: usize) -> std::ops::Range<usize> {
        let end = self.roots.get(tree + 1).map_or(self.nodes.len(), |&next| next as usize);
        self.roots[tree] as usize..end
    }

    fn depth_of(&self, tree: usize) -> usize {
        let range = self.nodes_of(tree);
        let mut depth = vec![0; range.len()];
        for position in range.clone() {
            if let Node::Split { left, right, .. } = self.nodes[position] {
                for child in [left, right] {
                    depth[child as usize - range.start] = depth[position - range.start] + 1;
                }
            }
        }
        depth.into_iter().max().unwrap_or(0)
    }

    fn votes(&self, leaf: u32) -> &[f64] {
        &self.votes[leaf as usize * self.n_classes..][..self.n_classes]
    }

    /// Completes a row: probabilities and class from its summed votes.
    ///
    /// As Spark does (`ProbabilisticClassificationModel`): the sum runs from left to right;
    /// without thresholds the first largest vote wins; with them, the first largest
    /// `probability / threshold`, where NaN (0 / 0) never wins.
    fn decide(&self, raw: &[f64], probability: &mut [f64]) -> usize {
        let sum = raw.iter().fold(0.0, |sum, vote| sum + vote);
        for (p, vote) in probability.iter_mut().zip(raw) {
            *p = vote / sum;
        }
        let first_largest = |values: &mut dyn Iterator<Item = f64>| {
            let start = (0, f64::NEG_INFINITY);
            values.enumerate().fold(start, |best, (i, value)| if value > best.1 { (i, value) } else { best }).0
        };
        match &self.thresholds {
            None => first_largest(&mut raw.iter().copied()),
            Some(thresholds) => first_largest(&mut probability.iter().zip(thresholds).map(|(p, t)| p / t)),
        }
    }
}

fn fault(at: Option<(usize, usize)>, detail: impl Into<String>) -> Error {
    Error::Forest { at, detail: detail.into() }
}
