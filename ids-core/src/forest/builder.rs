//! The only way to a [`Forest`]: everything a scorer relies on is checked here, once.

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::{CategorySet, Forest, Node, Task, Test, fault};
use crate::error::{Error, Result};

/// Builds a [`Forest`] tree by tree.
///
/// ```
/// use ids_core::{Engine, ForestBuilder, NodeSpec, Scores, SplitRule};
///
/// let mut builder = ForestBuilder::classification(1, 2)?;
/// builder.push_tree(vec![
///     NodeSpec::Split { feature: 0, rule: SplitRule::AtMost(0.5), left: 1, right: 2 },
///     NodeSpec::Leaf { values: vec![0.9, 0.1] },
///     NodeSpec::Leaf { values: vec![0.2, 0.8] },
/// ])?;
/// let forest = builder.build()?;
/// let mut scores = Scores::default();
/// Engine::new(&forest).score(&[0.3, 0.7], &mut scores);
/// assert_eq!((scores.class(0), scores.class(1)), (0, 1));
/// # Ok::<(), ids_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ForestBuilder {
    forest: Forest,
    value_positions: FxHashMap<Vec<u64>, u32>,
    set_positions: FxHashMap<CategorySet, u32>,
    n_set_words: usize,
    /// Whether some tree votes on every row.
    always_votes: bool,
}

const MOST_FEATURES: usize = 1 << 20;
const MOST_CLASSES: usize = 4_096;
/// Far beyond any feature's: Spark's `maxBins` bounds it.
const MOST_CATEGORIES: u32 = 1 << 16;
/// Numbers at all distinct leaves together, and words of all distinct category sets: half a gigabyte.
const MOST_NUMBERS: usize = 1 << 26;

/// A node as it is handed to the builder: children are positions in the same tree.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeSpec {
    /// What a row arriving here adds.
    Leaf {
        /// For a classification: votes, `[n_classes]`, finite and not negative. Else a number, `[1]`, finite.
        values: Vec<f64>,
    },
    /// A row goes to `left` where the rule holds for its value of `feature`, else to `right`.
    Split {
        /// Position in the feature vector.
        feature: usize,
        /// The question.
        rule: SplitRule,
        /// Position of the child, greater than the node's own.
        left: usize,
        /// Position of the child, greater than the node's own.
        right: usize,
    },
}

/// The question that a split asks of its feature's value `x`.
#[derive(Debug, Clone, PartialEq)]
pub enum SplitRule {
    /// `x <= threshold` (IEEE 754): false for NaN.
    AtMost(f64),
    /// Whether `x` is one of `categories`.
    OneOf {
        /// The categories that go left, each below `n_categories`.
        categories: Vec<u32>,
        /// How many categories the feature has.
        n_categories: u32,
        /// Whether a value goes left that is none of `0..n_categories`.
        unknown_left: bool,
    },
}

impl ForestBuilder {
    /// A builder of forests over vectors of `n_features` that vote for `n_classes` classes.
    ///
    /// # Errors
    /// As [`ForestBuilder::new`].
    pub fn classification(n_features: usize, n_classes: usize) -> Result<Self> {
        Self::new(n_features, Task::Classification { n_classes, thresholds: None, by_probability: false })
    }

    /// A builder of forests over vectors of `n_features` for any task.
    ///
    /// # Errors
    /// Where the number of features or classes is 0 or beyond what any data set has (a damaged file must not
    /// ask for gigabytes), or thresholds are not one per class and not negative, at most one of them 0
    /// (Spark's rule).
    pub fn new(n_features: usize, task: Task) -> Result<Self> {
        let width = task.leaf_width();
        for (n, most, noun) in [(n_features, MOST_FEATURES, "features"), (width, MOST_CLASSES, "classes")] {
            if n == 0 || n > most {
                return Err(fault(None, format!("{n} {noun}")));
            }
        }
        if let Task::Classification { n_classes, thresholds: Some(thresholds), .. } = &task {
            check_thresholds(thresholds, *n_classes)?;
        }
        let forest =
            Forest { n_features, task, roots: Vec::new(), nodes: Vec::new(), values: Vec::new(), sets: Vec::new() };
        Ok(Self {
            forest,
            value_positions: FxHashMap::default(),
            set_positions: FxHashMap::default(),
            n_set_words: 0,
            always_votes: false,
        })
    }

    /// Appends a tree; the first node is its root.
    ///
    /// # Errors
    /// [`Error::Forest`] names tree and node where a child is out of range, not behind its parent or
    /// shared, a feature or category is out of range, a threshold is NaN, or a leaf's values are not as
    /// [`NodeSpec::Leaf`] says.
    pub fn push_tree(&mut self, nodes: Vec<NodeSpec>) -> Result<()> {
        let tree = self.forest.roots.len();
        let mut numbered = Vec::with_capacity(nodes.len());
        for (id, spec) in nodes.into_iter().enumerate() {
            let wrong = |detail: String| fault(Some((tree, id)), detail);
            numbered.push(match spec {
                NodeSpec::Leaf { values } => NumberedNode::Leaf(self.add_values(&values).map_err(wrong)?),
                NodeSpec::Split { feature, rule, left, right } => {
                    NumberedNode::Split { feature, test: self.add_test(rule).map_err(wrong)?, left, right }
                }
            });
        }
        self.push_numbered(numbered)
    }

    /// As [`ForestBuilder::push_tree`], of nodes whose leaves and sets have been added.
    fn push_numbered(&mut self, nodes: Vec<NumberedNode>) -> Result<()> {
        let tree = self.forest.roots.len();
        if nodes.is_empty() {
            return Err(fault(None, format!("tree {tree} has no nodes")));
        }
        let base = self.forest.nodes.len();
        if u32::try_from(base + nodes.len()).is_err() {
            return Err(fault(None, "more than 2^32 nodes"));
        }
        let mut has_parent = vec![false; nodes.len()];
        has_parent[0] = true;
        let mut votes_everywhere = true;
        for (id, node) in nodes.into_iter().enumerate() {
            let wrong = |detail: String| fault(Some((tree, id)), detail);
            let node = match node {
                NumberedNode::Leaf(values) => {
                    votes_everywhere &= self.forest.values(values).iter().any(|&vote| vote > 0.0);
                    Node::Leaf { values }
                }
                NumberedNode::Split { feature, test, left, right } => {
                    if feature >= self.forest.n_features {
                        return Err(wrong(format!("feature {feature} of {}", self.forest.n_features)));
                    }
                    for child in [left, right] {
                        match has_parent.get_mut(child) {
                            None => return Err(wrong(format!("child {child} of {} nodes", has_parent.len()))),
                            Some(_) if child <= id => {
                                return Err(wrong(format!("child {child} does not come after its parent")));
                            }
                            Some(true) => return Err(wrong(format!("child {child} has two parents"))),
                            Some(adopted) => *adopted = true,
                        }
                    }
                    // Checked above: features and nodes fit 32 bits.
                    let child = |position: usize| (base + position) as u32;
                    Node::Split { feature: feature as u32, test, left: child(left), right: child(right) }
                }
            };
            self.forest.nodes.push(node);
        }
        if let Some(orphan) = has_parent.iter().position(|adopted| !adopted) {
            return Err(fault(Some((tree, orphan)), "no node leads here"));
        }
        self.forest.roots.push(base as u32);
        self.always_votes |= votes_everywhere;
        Ok(())
    }

    /// The forest.
    ///
    /// # Errors
    /// Where it has no tree; where boosted trees do not have one weight each; where every tree of a
    /// classification has a leaf without votes, so that a row could end with none at all and have no
    /// probabilities (Spark fails on such a row).
    pub fn build(self) -> Result<Forest> {
        let n_trees = self.forest.roots.len();
        if n_trees == 0 {
            return Err(fault(None, "it has no trees"));
        }
        match &self.forest.task {
            Task::Classification { .. } if !self.always_votes => {
                Err(fault(None, "every tree has a leaf without votes: a row may have no probabilities"))
            }
            Task::BoostedClassification(boosting) | Task::BoostedRegression(boosting)
                if boosting.weights.len() != n_trees =>
            {
                Err(fault(None, format!("{} weights for {n_trees} trees", boosting.weights.len())))
            }
            _ => Ok(self.forest),
        }
    }

    fn add_values(&mut self, values: &[f64]) -> std::result::Result<u32, String> {
        let width = self.forest.task.leaf_width();
        let is_classification = matches!(self.forest.task, Task::Classification { .. });
        let noun = if is_classification { "votes" } else { "numbers" };
        if values.len() != width {
            return Err(format!("a leaf with {} {noun}, not {width}", values.len()));
        }
        if let Some(value) = values.iter().find(|value| !value.is_finite() || (is_classification && **value < 0.0)) {
            return Err(format!("a leaf with the value {value}"));
        }
        let next = (self.forest.values.len() / width) as u32;
        let bits = values.iter().map(|value| value.to_bits()).collect();
        let position = *self.value_positions.entry(bits).or_insert(next);
        if position == next {
            if self.forest.values.len() + width > MOST_NUMBERS {
                return Err(format!("more than {MOST_NUMBERS} {noun} at its leaves"));
            }
            self.forest.values.extend_from_slice(values);
        }
        Ok(position)
    }

    fn add_test(&mut self, rule: SplitRule) -> std::result::Result<Test, String> {
        match rule {
            SplitRule::AtMost(threshold) if threshold.is_nan() => Err("a threshold of NaN".into()),
            SplitRule::AtMost(threshold) => Ok(Test::AtMost(threshold)),
            SplitRule::OneOf { categories, n_categories, unknown_left } => {
                if n_categories > MOST_CATEGORIES {
                    return Err(format!("{n_categories} categories"));
                }
                let mut bits = vec![0u64; (n_categories as usize).div_ceil(64)];
                for category in categories {
                    if category >= n_categories {
                        return Err(format!("category {category} of {n_categories}"));
                    }
                    bits[category as usize / 64] |= 1 << (category % 64);
                }
                let set = CategorySet { n_categories, bits, unknown_left };
                let next = self.forest.sets.len() as u32;
                let position = *self.set_positions.entry(set.clone()).or_insert(next);
                if position == next {
                    self.n_set_words += set.bits.len();
                    if self.n_set_words > MOST_NUMBERS / 8 {
                        return Err("more sets of categories than any data has".into());
                    }
                    self.forest.sets.push(set);
                }
                Ok(Test::OneOf(position))
            }
        }
    }
}

/// A [`NodeSpec`] whose leaf values or categories the forest has.
enum NumberedNode {
    Leaf(u32),
    Split { feature: usize, test: Test, left: usize, right: usize },
}

fn check_thresholds(thresholds: &[f64], n_classes: usize) -> Result<()> {
    if thresholds.len() != n_classes {
        return Err(fault(None, format!("{} thresholds for {n_classes} classes", thresholds.len())));
    }
    if !thresholds.iter().all(|&threshold| threshold >= 0.0) {
        return Err(fault(None, format!("thresholds {thresholds:?} are not all 0 or more")));
    }
    if thresholds.iter().filter(|&&threshold| threshold == 0.0).count() > 1 {
        return Err(fault(None, format!("more than one of the thresholds {thresholds:?} is 0")));
    }
    Ok(())
}

/// A forest as the model file holds it (see `docs/model-file.md`): parallel arrays, because a map
/// per node would treble the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Definition {
    n_features: usize,
    task: Task,
    /// Nodes per tree.
    tree_sizes: Vec<u32>,
    /// Per node: the feature of a split, or -1 for a leaf.
    features: Vec<i64>,
    /// Per node: a leaf's value vector, or a split's left child counted from the root of its tree.
    lefts: Vec<u32>,
    /// Per split: right child counted from the root of its tree.
    rights: Vec<u32>,
    /// Per split: the category set, or -1 for a threshold.
    sets: Vec<i64>,
    /// Per split on a threshold.
    thresholds_at_most: Vec<f64>,
    /// The distinct value vectors: pairs of position (class) and value, values of 0 left out.
    values: Vec<Vec<(u32, f64)>>,
    /// The distinct category sets: number of categories, those that go left, whether unknown ones do.
    category_sets: Vec<(u32, Vec<u32>, bool)>,
}

impl From<Forest> for Definition {
    fn from(forest: Forest) -> Self {
        let sparse = |values: &[f64]| {
            // By bits: a -0.0 is kept.
            (0u32..).zip(values.iter().copied()).filter(|(_, value)| value.to_bits() != 0).collect::<Vec<_>>()
        };
        let members = |set: &CategorySet| {
            (0..set.n_categories).filter(|&c| set.bits[c as usize / 64] >> (c % 64) & 1 == 1).collect()
        };
        let mut definition = Self {
            n_features: forest.n_features,
            task: forest.task.clone(),
            tree_sizes: Vec::new(),
            features: Vec::new(),
            lefts: Vec::new(),
            rights: Vec::new(),
            sets: Vec::new(),
            thresholds_at_most: Vec::new(),
            values: forest.values.chunks_exact(forest.task.leaf_width()).map(sparse).collect(),
            category_sets: forest.sets.iter().map(|s| (s.n_categories, members(s), s.unknown_left)).collect(),
        };
        for tree in 0..forest.n_trees() {
            let range = forest.nodes_of(tree);
            definition.tree_sizes.push(range.len() as u32);
            let root = range.start as u32;
            for node in &forest.nodes[range] {
                match *node {
                    Node::Leaf { values } => {
                        definition.features.push(-1);
                        definition.lefts.push(values);
                    }
                    Node::Split { feature, test, left, right } => {
                        definition.features.push(feature.into());
                        definition.lefts.push(left - root);
                        definition.rights.push(right - root);
                        match test {
                            Test::AtMost(threshold) => {
                                definition.sets.push(-1);
                                definition.thresholds_at_most.push(threshold);
                            }
                            Test::OneOf(set) => definition.sets.push(set.into()),
                        }
                    }
                }
            }
        }
        definition
    }
}

impl TryFrom<Definition> for Forest {
    type Error = Error;

    fn try_from(definition: Definition) -> Result<Self> {
        let short = || fault(None, "its arrays do not fit together");
        let width = definition.task.leaf_width();
        let mut builder = ForestBuilder::new(definition.n_features, definition.task)?;
        let mut features = definition.features.into_iter();
        let mut lefts = definition.lefts.into_iter();
        let mut rights = definition.rights.into_iter();
        let mut sets = definition.sets.into_iter();
        let mut thresholds = definition.thresholds_at_most.into_iter();
        // Each once, however many nodes share it.
        let mut leaves = Vec::with_capacity(definition.values.len());
        let mut dense = vec![0.0; width];
        for sparse in definition.values {
            dense.fill(0.0);
            for (position, value) in sparse {
                *dense.get_mut(position as usize).ok_or_else(short)? = value;
            }
            leaves.push(builder.add_values(&dense).map_err(|detail| fault(None, detail))?);
        }
        let mut tests = Vec::with_capacity(definition.category_sets.len());
        for (n_categories, categories, unknown_left) in definition.category_sets {
            let rule = SplitRule::OneOf { categories, n_categories, unknown_left };
            tests.push(builder.add_test(rule).map_err(|detail| fault(None, detail))?);
        }
        for size in definition.tree_sizes {
            let mut nodes = Vec::new();
            for _ in 0..size {
                let (feature, left) = features.next().zip(lefts.next()).ok_or_else(short)?;
                let Ok(feature) = usize::try_from(feature) else {
                    nodes.push(NumberedNode::Leaf(*leaves.get(left as usize).ok_or_else(short)?));
                    continue;
                };
                let (right, set) = rights.next().zip(sets.next()).ok_or_else(short)?;
                let test = match usize::try_from(set) {
                    Err(_) => {
                        let threshold = thresholds.next().ok_or_else(short)?;
                        builder.add_test(SplitRule::AtMost(threshold)).map_err(|detail| fault(None, detail))?
                    }
                    Ok(set) => *tests.get(set).ok_or_else(short)?,
                };
                nodes.push(NumberedNode::Split { feature, test, left: left as usize, right: right as usize });
            }
            builder.push_numbered(nodes)?;
        }
        if features.next().is_some() || rights.next().is_some() || thresholds.next().is_some() {
            return Err(short());
        }
        builder.build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(values: &[f64]) -> NodeSpec {
        NodeSpec::Leaf { values: values.to_vec() }
    }

    fn split(feature: usize, left: usize, right: usize) -> NodeSpec {
        NodeSpec::Split { feature, rule: SplitRule::AtMost(0.5), left, right }
    }

    fn one_of(categories: Vec<u32>, n_categories: u32) -> NodeSpec {
        let rule = SplitRule::OneOf { categories, n_categories, unknown_left: false };
        NodeSpec::Split { feature: 0, rule, left: 1, right: 2 }
    }

    #[test]
    fn refuses_what_a_scorer_would_trip_over() {
        let good = || leaf(&[1.0, 0.0]);
        let nan = NodeSpec::Split { feature: 0, rule: SplitRule::AtMost(f64::NAN), left: 1, right: 2 };
        let cases = [
            (vec![], "tree 0 has no nodes"),
            (vec![split(2, 1, 2), good(), good()], "node 0: feature 2 of 2"),
            (vec![split(0, 1, 3), good(), good()], "node 0: child 3 of 3 nodes"),
            (vec![split(0, 0, 1), good()], "child 0 does not come after its parent"),
            (vec![split(0, 1, 1), good()], "child 1 has two parents"),
            (vec![split(0, 1, 2), good(), good(), good()], "node 3: no node leads here"),
            (vec![leaf(&[1.0])], "a leaf with 1 votes, not 2"),
            (vec![leaf(&[1.0, -1.0])], "a leaf with the value -1"),
            (vec![leaf(&[1.0, f64::INFINITY])], "a leaf with the value inf"),
            (vec![nan, good(), good()], "a threshold of NaN"),
            (vec![one_of(vec![3], 3), good(), good()], "category 3 of 3"),
            (vec![one_of(vec![3], u32::MAX), good(), good()], "4294967295 categories"),
        ];
        for (nodes, expected) in cases {
            let mut builder = ForestBuilder::classification(2, 2).expect("a builder");
            let message = builder.push_tree(nodes).expect_err(expected).to_string();
            assert!(message.contains(expected), "{message}");
        }
        let mut builder = ForestBuilder::classification(2, 2).expect("a builder");
        assert!(builder.clone().build().is_err(), "no trees");
        builder.push_tree(vec![leaf(&[0.0, 0.0])]).expect("a tree may have an empty leaf");
        assert!(builder.clone().build().is_err(), "no votes");
        builder.push_tree(vec![good()]).expect("a good tree");
        for thresholds in [vec![0.5], vec![0.0, 0.0], vec![-1.0, 1.0], vec![f64::NAN, 1.0]] {
            let task = Task::Classification { n_classes: 2, thresholds: Some(thresholds), by_probability: false };
            assert!(ForestBuilder::new(2, task.clone()).is_err(), "{task:?}");
        }
        builder.build().expect("a good forest");
    }
}
