//! A saved `RandomForestClassificationModel` (ml/tree/treeModels.scala, Node.scala, Split.scala).

use std::collections::BTreeMap;
use std::path::Path;

use super::files::{Metadata, Table};
use crate::error::{Error, Result};
use crate::forest::{Forest, ForestBuilder, NodeSpec, SplitRule};

/// The columns of `nodeData`, one entry per node, in the order of the files.
struct Nodes {
    id: Vec<i64>,
    impurity_stats: Vec<Vec<f64>>,
    left_child: Vec<i64>,
    right_child: Vec<i64>,
    feature: Vec<i64>,
    categories_or_threshold: Vec<Vec<f64>>,
    n_categories: Vec<i64>,
}

/// Reads the forest saved in `directory`.
pub(super) fn read(directory: &Path, metadata: &Metadata) -> Result<Forest> {
    if metadata.text("rawPredictionCol")?.is_empty() {
        // Spark then decides by probability, which can differ where two votes divide to one value.
        return Err(metadata.unsupported("its rawPredictionCol is empty"));
    }
    let table = Table::read(directory)?;
    let nodes = Nodes {
        id: table.ints("nodeData.id")?,
        impurity_stats: table.double_lists("nodeData.impurityStats")?,
        left_child: table.ints("nodeData.leftChild")?,
        right_child: table.ints("nodeData.rightChild")?,
        feature: table.ints("nodeData.split.featureIndex")?,
        categories_or_threshold: table.double_lists("nodeData.split.leftCategoriesOrThreshold")?,
        n_categories: table.ints("nodeData.split.numCategories")?,
    };
    // Rows come in any order: by tree, then by node.
    let mut trees: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (row, tree) in table.ints("treeID")?.into_iter().enumerate() {
        trees.entry(tree).or_default().push(row);
    }
    let n_trees = metadata.count("numTrees")?;
    if !trees.keys().copied().eq(0..n_trees as i64) {
        let detail = format!("its data holds {} trees, its metadata speaks of {n_trees}", trees.len());
        return Err(Error::spark(directory, detail));
    }
    let n_classes = metadata.count("numClasses")?;
    let in_directory = |error: Error| Error::spark(directory, error.to_string());
    let mut builder = ForestBuilder::new(metadata.count("numFeatures")?, n_classes).map_err(in_directory)?;
    for (tree, mut rows) in trees {
        rows.sort_by_key(|&row| nodes.id[row]);
        if !rows.iter().map(|&row| nodes.id[row]).eq(0..rows.len() as i64) {
            let detail = format!("the nodes of tree {tree} are not numbered from 0 without gaps");
            return Err(Error::spark(directory, detail));
        }
        let specs = rows.iter().map(|&row| nodes.spec(row));
        let specs: std::result::Result<Vec<_>, String> = specs.collect();
        let specs = specs.map_err(|detail| Error::spark(directory, format!("tree {tree}: {detail}")))?;
        builder.push_tree(specs).map_err(in_directory)?;
    }
    if let Some(thresholds) = metadata.doubles("thresholds")? {
        builder.thresholds(thresholds).map_err(in_directory)?;
    }
    builder.build().map_err(in_directory)
}

impl Nodes {
    fn spec(&self, row: usize) -> std::result::Result<NodeSpec, String> {
        let id = self.id[row];
        if self.left_child[row] == -1 {
            return Ok(NodeSpec::Leaf { votes: normalised(&self.impurity_stats[row]) });
        }
        let position =
            |value: i64, noun: &str| usize::try_from(value).map_err(|_| format!("node {id} has the {noun} {value}"));
        let values = &self.categories_or_threshold[row];
        let rule = match (self.n_categories[row], values.as_slice()) {
            (-1, [threshold]) => SplitRule::AtMost(*threshold),
            (-1, _) => return Err(format!("node {id} has {} thresholds", values.len())),
            (n_categories, left) => {
                let n_categories =
                    u32::try_from(n_categories).map_err(|_| format!("node {id} has {n_categories} categories"))?;
                let category = |&value: &f64| {
                    let category = value as u32;
                    if f64::from(category) == value {
                        Ok(category)
                    } else {
                        Err(format!("node {id} has the category {value}"))
                    }
                };
                let categories = left.iter().map(category).collect::<std::result::Result<Vec<_>, _>>()?;
                // Spark keeps the smaller of the two sets; what is in neither follows the larger
                // (CategoricalSplit.isLeft).
                let keeps_left = categories.len() <= n_categories as usize / 2;
                SplitRule::OneOf { categories, n_categories, unknown_left: !keeps_left }
            }
        };
        Ok(NodeSpec::Split {
            feature: position(self.feature[row], "feature")?,
            rule,
            left: position(self.left_child[row], "left child")?,
            right: position(self.right_child[row], "right child")?,
        })
    }
}

/// What a leaf adds to the votes: its class weights over their sum, from left to right; nothing
/// where they are all 0 (RandomForestClassificationModel.predictRaw).
fn normalised(weights: &[f64]) -> Vec<f64> {
    let total = weights.iter().fold(0.0, |total, weight| total + weight);
    if total == 0.0 {
        return vec![0.0; weights.len()];
    }
    weights.iter().map(|weight| weight / total).collect()
}
