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
pub use engine::{Engine, Isa, Plan, Stage as EngineStage};

use crate::error::Error;

/// A forest: trees in the order in which their leaves are put together.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "builder::Definition", into = "builder::Definition")]
pub struct Forest {
    n_features: usize,
    task: Task,
    /// Position in `nodes` of each tree's root. A tree's nodes lie together, parents first.
    roots: Vec<u32>,
    nodes: Vec<Node>,
    /// The distinct value vectors of the leaves, `[n, width of a leaf]`, row-major.
    values: Vec<f64>,
    /// The distinct category sets of the splits.
    sets: Vec<CategorySet>,
}

/// What a forest predicts: what its leaves hold, and how they are put together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Task {
    /// A leaf holds votes for each class; the votes of all trees are summed.
    Classification {
        /// Number of classes.
        n_classes: usize,
        /// A row's class is the one whose probability is largest relative to its threshold, `[n_classes]`.
        thresholds: Option<Vec<f64>>,
        /// Whether the largest probability decides, where there are no thresholds, and not the largest sum
        /// of votes: dividing can make two sums equal.
        by_probability: bool,
    },
    /// A leaf holds a number; the prediction is the mean over the trees.
    Regression,
    /// A leaf holds a number; their weighted sum, the margin, is the prediction.
    BoostedRegression(Boosting),
    /// As for regression; a margin above 0 is class 1 of two.
    BoostedClassification(Boosting),
}

/// How boosted trees are put together.
///
/// Spark computes their weighted sum through a BLAS, whose order of additions depends on the versions of
/// Spark and Java and on the processor: it is not bit-identical with itself. Each order is a mode of its
/// own here, in which the margin is Spark's to the bit. Probabilities are computed with this machine's
/// exponential function, which may differ from Java's in the last bit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boosting {
    /// One per tree.
    pub weights: Vec<f64>,
    /// The order of additions.
    pub sum: DotProduct,
}

/// The orders in which Spark's `BLAS.ddot` adds (`dev.ludovic.netlib` and f2j, both without native code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DotProduct {
    /// From left to right: Spark up to 3.1.
    Sequential,
    /// Four sums side by side with fused multiply-add: Spark 3.2 to 3.5 on Java 11 or later.
    FourFused,
    /// Eight sums side by side with fused multiply-add: Spark from 4.0 on, on a processor with AVX-512.
    Vector512,
    /// Four of them: Spark from 4.0 on, with AVX2.
    Vector256,
    /// Two of them: Spark from 4.0 on, with SSE or NEON.
    Vector128,
}

impl DotProduct {
    /// The order in which the Spark of that version (3.5: `(3, 5)`) adds on Java 11 or later and a processor
    /// with AVX-512.
    pub fn of_spark(version: (u32, u32)) -> Self {
        match version {
            version if version < (3, 2) => Self::Sequential,
            version if version < (4, 0) => Self::FourFused,
            _ => Self::Vector512,
        }
    }

    /// The sum of the products of `x` and `y`, `[n]` each.
    pub fn of(self, x: &[f64], y: &[f64]) -> f64 {
        let n = x.len().min(y.len());
        let plain = |sum, i: usize| sum + x[i] * y[i];
        let fused = |sum, i: usize| x[i].mul_add(y[i], sum);
        let mut lanes = [0.0; 8];
        let n_lanes = match self {
            Self::Sequential => return (0..n).fold(0.0, plain),
            Self::FourFused | Self::Vector256 => 4,
            Self::Vector512 => 8,
            Self::Vector128 => 2,
        };
        let whole = n - n % n_lanes;
        for start in (0..whole).step_by(n_lanes) {
            for (lane, sum) in lanes[..n_lanes].iter_mut().enumerate() {
                *sum = fused(*sum, start + lane);
            }
        }
        let sum = lanes[1..n_lanes].iter().fold(lanes[0], |sum, lane| sum + lane);
        match self {
            Self::FourFused => (whole..n).fold(sum, fused),
            _ => (whole..n).fold(sum, plain),
        }
    }
}

impl Task {
    /// How many numbers a leaf holds.
    fn leaf_width(&self) -> usize {
        match self {
            Self::Classification { n_classes, .. } => *n_classes,
            Self::Regression | Self::BoostedRegression(_) | Self::BoostedClassification(_) => 1,
        }
    }

    /// Number of classes; 0 for a regression.
    pub fn n_classes(&self) -> usize {
        match self {
            Self::Classification { n_classes, .. } => *n_classes,
            Self::BoostedClassification(_) => 2,
            Self::Regression | Self::BoostedRegression(_) => 0,
        }
    }
}

/// A node; positions of children are positions in [`Forest`]'s `nodes`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Node {
    /// `values`: which of the distinct value vectors.
    Leaf { values: u32 },
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

/// The most classes whose votes the engine keeps in registers. These are written as a whole, also for the last row, behind which
/// there is as much room.
const ROOM: usize = 16;

/// Scores of a batch: one row of each per row of features.
#[derive(Debug, Clone, Default)]
pub struct Scores {
    n_classes: usize,
    /// Summed votes or margins, `[n_rows, n_classes]`, row-major.
    raw: Vec<f64>,
    /// Probabilities, `[n_rows, n_classes]`, row-major.
    probability: Vec<f64>,
    /// Position of the predicted class, or the predicted number, `[n_rows]`.
    prediction: Vec<f64>,
    work: engine::Work,
}

impl PartialEq for Scores {
    fn eq(&self, other: &Self) -> bool {
        self.n_classes == other.n_classes
            && self.prediction == other.prediction
            && (0..self.n_rows())
                .all(|row| self.raw(row) == other.raw(row) && self.probability(row) == other.probability(row))
    }
}

impl Scores {
    /// How many rows were scored.
    pub fn n_rows(&self) -> usize {
        self.prediction.len()
    }

    /// Summed votes of `row`, or its margin for each class, `[n_classes]`: Spark's `rawPrediction`. Empty for
    /// a regression.
    pub fn raw(&self, row: usize) -> &[f64] {
        &self.raw[row * self.n_classes..][..self.n_classes]
    }

    /// Probabilities of `row`, `[n_classes]`: Spark's `probability`. Empty for a regression.
    pub fn probability(&self, row: usize) -> &[f64] {
        &self.probability[row * self.n_classes..][..self.n_classes]
    }

    /// What is predicted for `row`: the position of a class, or a number. Spark's `prediction`.
    pub fn prediction(&self, row: usize) -> f64 {
        self.prediction[row]
    }

    /// Position of the class predicted for `row`; 0 for a regression.
    pub fn class(&self, row: usize) -> usize {
        if self.n_classes == 0 { 0 } else { self.prediction[row] as usize }
    }

    /// Makes room for `n_rows` rows, with anything in them, and [`ROOM`] after the last one.
    fn reset(&mut self, n_rows: usize, n_classes: usize) {
        self.n_classes = n_classes;
        self.raw.resize(n_rows * n_classes + ROOM, 0.0);
        self.probability.resize(n_rows * n_classes + ROOM, 0.0);
        self.prediction.resize(n_rows, 0.0);
        if cfg!(debug_assertions) {
            // What is not written is seen.
            for values in [&mut self.raw, &mut self.probability, &mut self.prediction] {
                values.fill(f64::NAN);
            }
        }
    }
}

impl Forest {
    /// Length of a feature vector.
    pub fn n_features(&self) -> usize {
        self.n_features
    }

    /// What it predicts.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Number of classes; 0 for a regression.
    pub fn n_classes(&self) -> usize {
        self.task.n_classes()
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
        match &self.task {
            Task::Classification { thresholds, .. } => thresholds.as_deref(),
            _ => None,
        }
    }

    /// Replaces the order in which boosted trees are summed; other forests stay as they are.
    pub fn set_dot_product(&mut self, sum: DotProduct) {
        if let Task::BoostedClassification(boosting) | Task::BoostedRegression(boosting) = &mut self.task {
            boosting.sum = sum;
        }
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

    /// Whether a row with the value `x` goes left at a split.
    fn holds(&self, test: Test, x: f64) -> bool {
        match test {
            Test::AtMost(threshold) => x <= threshold,
            Test::OneOf(set) => self.sets[set as usize].holds(x),
        }
    }

    fn values(&self, leaf: u32) -> &[f64] {
        let width = self.task.leaf_width();
        &self.values[leaf as usize * width..][..width]
    }

    /// Completes the scores of `row` from its summed votes: probabilities and class.
    ///
    /// As Spark does (`ProbabilisticClassificationModel`): the sum runs from left to right;
    /// without thresholds the first largest vote wins; with them, the first largest
    /// `probability / threshold`, where NaN (0 / 0) never wins.
    #[inline(always)]
    fn decide(&self, scores: &mut Scores, row: usize) {
        let Task::Classification { n_classes, thresholds, by_probability } = &self.task else { return };
        let raw = &scores.raw[row * n_classes..][..*n_classes];
        let probability = &mut scores.probability[row * n_classes..][..*n_classes];
        let sum = raw.iter().fold(0.0, |sum, vote| sum + vote);
        for (p, vote) in probability.iter_mut().zip(raw) {
            *p = vote / sum;
        }
        let class = match thresholds {
            None if *by_probability => first_largest(probability.iter().copied()),
            None => first_largest(raw.iter().copied()),
            Some(thresholds) => first_largest(probability.iter().zip(thresholds).map(|(p, t)| p / t)),
        };
        scores.prediction[row] = class as f64;
    }

    /// Scores `row` from the numbers at its leaves, `[n_trees]`.
    fn combine(&self, numbers: &[f64], scores: &mut Scores, row: usize) {
        match &self.task {
            Task::Classification { .. } => {}
            Task::Regression => {
                // From the first on, as Scala 2.13 (Spark 4) does; 2.12 starts at 0.0, which tells only where all
                // are -0.0: no mean that Spark fits is.
                let sum = numbers.iter().copied().reduce(|sum, number| sum + number).unwrap_or(0.0);
                scores.prediction[row] = sum / numbers.len() as f64;
            }
            Task::BoostedRegression(boosting) => {
                scores.prediction[row] = boosting.sum.of(numbers, &boosting.weights);
            }
            Task::BoostedClassification(boosting) => {
                // GBTClassificationModel: raw2probability is LogLoss.computeProbability of the margin.
                let margin = boosting.sum.of(numbers, &boosting.weights);
                let raw = [-margin, margin];
                let first = 1.0 / (1.0 + (-2.0 * raw[0]).exp());
                scores.raw[2 * row..][..2].copy_from_slice(&raw);
                scores.probability[2 * row..][..2].copy_from_slice(&[first, 1.0 - first]);
                scores.prediction[row] = first_largest(raw.into_iter()) as f64;
            }
        }
    }
}

/// Position of the first of the largest values; 0 where there is none but NaN.
#[inline(always)]
fn first_largest(values: impl Iterator<Item = f64>) -> usize {
    let start = (0, f64::NEG_INFINITY);
    values.enumerate().fold(start, |best, (i, value)| if value > best.1 { (i, value) } else { best }).0
}

fn fault(at: Option<(usize, usize)>, detail: impl Into<String>) -> Error {
    Error::Forest { at, detail: detail.into() }
}
