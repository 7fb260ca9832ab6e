//! What a training is told: how many trees, how deep, on how much.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// How a forest is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Number of trees, 1 to 10,000.
    pub trees: usize,
    /// Longest path from a root to a leaf, in splits, 1 to 30 as in Spark.
    pub depth: usize,
    /// A split leaves at least as many rows of the bag on each side.
    pub min_rows_per_leaf: u64,
    /// How many features, drawn anew, each node looks at.
    pub features_per_node: FeaturesPerNode,
    /// Bins that the values of a number are put in, 2 to 65,535; a split lies between two bins. Where a column has no
    /// more distinct values, each has its own.
    pub bins: usize,
    /// A row of a class weighs (mean rows per class / rows of the class) ^ balance: 0 leaves rows as they are, 1
    /// makes all classes equally heavy.
    pub balance: f64,
    /// Where the random numbers start.
    pub seed: u64,
    /// Threads; `None` for as many as there are processors. Changes nothing but the time.
    pub threads: Option<usize>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            trees: 50,
            depth: 12,
            min_rows_per_leaf: 1,
            features_per_node: FeaturesPerNode::Third,
            bins: 256,
            balance: 0.5,
            seed: 0,
            threads: None,
        }
    }
}

/// How many features a node looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeaturesPerNode {
    /// Their square root, rounded up.
    Sqrt,
    /// A third of them, rounded up.
    Third,
    /// All of them.
    All,
    /// So many, or all where there are fewer.
    Number(usize),
}

impl FeaturesPerNode {
    /// How many of `n_features`.
    pub(super) fn of(self, n_features: usize) -> usize {
        match self {
            Self::Sqrt => (n_features as f64).sqrt().ceil() as usize,
            Self::Third => n_features.div_ceil(3),
            Self::All => n_features,
            Self::Number(n) => n.min(n_features),
        }
    }
}

impl FromStr for FeaturesPerNode {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "sqrt" => Ok(Self::Sqrt),
            "third" => Ok(Self::Third),
            "all" => Ok(Self::All),
            number => match number.parse() {
                Ok(n) if n > 0 => Ok(Self::Number(n)),
                _ => Err(format!("`{text}` is none of sqrt, third, all, and no number of features from 1 on")),
            },
        }
    }
}

impl fmt::Display for FeaturesPerNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqrt => f.write_str("sqrt"),
            Self::Third => f.write_str("third"),
            Self::All => f.write_str("all"),
            Self::Number(n) => write!(f, "{n}"),
        }
    }
}

impl Settings {
    /// # Errors
    /// [`Error::Training`] names the setting that is out of range.
    pub(super) fn check(&self) -> Result<()> {
        for (name, value, from, to) in [
            ("trees", self.trees, 1, 10_000),
            ("depth", self.depth, 1, 30),
            ("bins", self.bins, 2, usize::from(u16::MAX)),
        ] {
            if !(from..=to).contains(&value) {
                return Err(Error::training(format!("{name} is {value}, not {from} to {to}")));
            }
        }
        if self.min_rows_per_leaf == 0 {
            return Err(Error::training("min-rows-per-leaf is 0, not 1 or more"));
        }
        if self.features_per_node == FeaturesPerNode::Number(0) {
            return Err(Error::training("features-per-node is 0, not 1 or more"));
        }
        if !(0.0..=2.0).contains(&self.balance) {
            return Err(Error::training(format!("balance is {}, not 0 to 2", self.balance)));
        }
        Ok(())
    }

    /// The settings that decide what the model is, by name.
    pub(super) fn named(&self) -> Vec<(String, String)> {
        let Self { trees, depth, min_rows_per_leaf, features_per_node, bins, balance, seed, threads: _ } = self;
        [
            ("trees", trees.to_string()),
            ("depth", depth.to_string()),
            ("min-rows-per-leaf", min_rows_per_leaf.to_string()),
            ("features-per-node", features_per_node.to_string()),
            ("bins", bins.to_string()),
            ("balance", balance.to_string()),
            ("seed", seed.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}
