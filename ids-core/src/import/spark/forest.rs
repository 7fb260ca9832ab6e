//! Saved forests and trees (ml/tree/treeModels.scala, Node.scala, Split.scala).

use std::collections::BTreeMap;

use super::metadata::Metadata;
use super::{ForestColumns, SavedForest};
use crate::error::{Error, Result};
use crate::forest::{Boosting, DotProduct, Forest, ForestBuilder, NodeSpec, SplitRule, Task};
use crate::table::{Lists, Table};

/// The saved models that are forests, or the one tree of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    RandomForestClassification,
    DecisionTreeClassification,
    RandomForestRegression,
    DecisionTreeRegression,
    BoostedClassification,
    BoostedRegression,
}

impl Kind {
    fn of(class: &str) -> Option<Self> {
        match class.strip_prefix("org.apache.spark.ml.")? {
            "classification.RandomForestClassificationModel" => Some(Self::RandomForestClassification),
            "classification.DecisionTreeClassificationModel" => Some(Self::DecisionTreeClassification),
            "classification.GBTClassificationModel" => Some(Self::BoostedClassification),
            "regression.RandomForestRegressionModel" => Some(Self::RandomForestRegression),
            "regression.DecisionTreeRegressionModel" => Some(Self::DecisionTreeRegression),
            "regression.GBTRegressionModel" => Some(Self::BoostedRegression),
            _ => None,
        }
    }

    fn is_tree(self) -> bool {
        matches!(self, Self::DecisionTreeClassification | Self::DecisionTreeRegression)
    }

    fn is_classification(self) -> bool {
        matches!(
            self,
            Self::RandomForestClassification | Self::DecisionTreeClassification | Self::BoostedClassification
        )
    }
}

/// Whether the stage of `metadata` is a forest or a tree.
pub(super) fn is_forest(metadata: &Metadata) -> bool {
    Kind::of(&metadata.class).is_some()
}

/// Reads the forest of `metadata`.
pub(super) fn read(metadata: &Metadata) -> Result<SavedForest> {
    let kind = Kind::of(&metadata.class).ok_or_else(|| metadata.unsupported(""))?;
    let optional = |key, is_there: bool| if is_there { metadata.optional_text(key) } else { Ok(None) };
    let columns = ForestColumns {
        features: metadata.text("featuresCol")?,
        raw_prediction: optional("rawPredictionCol", kind.is_classification())?,
        probability: optional("probabilityCol", kind.is_classification())?,
        prediction: metadata.optional_text("predictionCol")?,
        leaf: metadata.optional_text("leafCol")?,
        label: metadata.optional_text("labelCol")?,
    };
    let forest = forest(metadata, kind, task(metadata, kind, &columns)?)?;
    Ok(SavedForest { uid: metadata.uid.clone(), forest, columns })
}

fn task(metadata: &Metadata, kind: Kind, columns: &ForestColumns) -> Result<Task> {
    let thresholds = if kind.is_classification() { metadata.doubles("thresholds")? } else { None };
    match kind {
        Kind::RandomForestClassification | Kind::DecisionTreeClassification => {
            // Which vector decides depends on which one has a column (ProbabilisticClassifier.transform).
            let (raw, probability) = (columns.raw_prediction.is_some(), columns.probability.is_some());
            Ok(Task::Classification {
                n_classes: metadata.count("numClasses")?,
                // With neither, a tree gives the class stored at its leaf and asks no thresholds.
                thresholds: thresholds.filter(|_| raw || probability || !kind.is_tree()),
                by_probability: !raw && probability,
            })
        }
        Kind::RandomForestRegression | Kind::DecisionTreeRegression => Ok(Task::Regression),
        Kind::BoostedClassification | Kind::BoostedRegression => {
            if thresholds.is_some() {
                return Err(metadata.unsupported(
                    "its thresholds compare probabilities that depend on the machine's exponential function",
                ));
            }
            if kind == Kind::BoostedClassification && columns.raw_prediction.is_none() && columns.probability.is_some()
            {
                return Err(metadata.unsupported(
                    "without a raw prediction it predicts by probabilities that depend on the machine's exponential \
                     function",
                ));
            }
            let boosting = Boosting { weights: weights(metadata)?, sum: DotProduct::of_spark(metadata.version()?) };
            Ok(match kind {
                Kind::BoostedClassification => Task::BoostedClassification(boosting),
                _ => Task::BoostedRegression(boosting),
            })
        }
    }
}

/// The weight of each tree. The columns of their table have other names in other versions: they are taken
/// by position (tree, metadata, weight).
fn weights(metadata: &Metadata) -> Result<Vec<f64>> {
    let table = metadata.table("treesMetadata")?;
    let column =
        |position| table.path_of(position).ok_or_else(|| metadata.damaged("treesMetadata has fewer than 3 columns"));
    let trees = table.ints(&column(0)?)?;
    let by_tree: BTreeMap<i64, f64> = trees.into_iter().zip(table.doubles(&column(2)?)?).collect();
    if !by_tree.keys().copied().eq(0..by_tree.len() as i64) {
        return Err(metadata.damaged("treesMetadata does not number its trees from 0 without gaps"));
    }
    Ok(by_tree.into_values().collect())
}

/// The columns of the nodes, one entry per node, in the order of the files.
struct Nodes {
    id: Vec<i64>,
    prediction: Vec<f64>,
    impurity_stats: Lists<f64>,
    left_child: Vec<i64>,
    right_child: Vec<i64>,
    feature: Vec<i64>,
    categories_or_threshold: Lists<f64>,
    n_categories: Vec<i64>,
}

impl Nodes {
    /// Reads the columns whose paths start with `prefix`.
    fn read(table: &Table, prefix: &str) -> Result<Self> {
        let path = |name: &str| format!("{prefix}{name}");
        Ok(Self {
            id: table.ints(&path("id"))?,
            prediction: table.doubles(&path("prediction"))?,
            impurity_stats: table.double_lists(&path("impurityStats"))?,
            left_child: table.ints(&path("leftChild"))?,
            right_child: table.ints(&path("rightChild"))?,
            feature: table.ints(&path("split.featureIndex"))?,
            categories_or_threshold: table.double_lists(&path("split.leftCategoriesOrThreshold"))?,
            n_categories: table.ints(&path("split.numCategories"))?,
        })
    }
}

fn forest(metadata: &Metadata, kind: Kind, task: Task) -> Result<Forest> {
    let (nodes, tree_of) = {
        let table = metadata.data()?;
        if kind.is_tree() {
            (Nodes::read(&table, "")?, vec![0; table.n_rows()])
        } else {
            (Nodes::read(&table, "nodeData.")?, table.ints("treeID")?)
        }
    };
    // Rows come in any order: by tree, then by node.
    let mut trees: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (row, tree) in tree_of.into_iter().enumerate() {
        trees.entry(tree).or_default().push(row);
    }
    let n_trees = if kind.is_tree() { 1 } else { metadata.count("numTrees")? };
    if !trees.keys().copied().eq(0..n_trees as i64) {
        let detail = format!("its data holds {} trees, its metadata speaks of {n_trees}", trees.len());
        return Err(metadata.damaged(detail));
    }
    let in_directory = |error: Error| metadata.damaged(error.to_string());
    let mut builder = ForestBuilder::new(metadata.count("numFeatures")?, task).map_err(in_directory)?;
    for (tree, mut rows) in trees {
        rows.sort_by_key(|&row| nodes.id[row]);
        if !rows.iter().map(|&row| nodes.id[row]).eq(0..rows.len() as i64) {
            return Err(metadata.damaged(format!("the nodes of tree {tree} are not numbered from 0 without gaps")));
        }
        let specs: std::result::Result<Vec<_>, String> = rows.iter().map(|&row| nodes.spec(row, kind)).collect();
        let specs = specs.map_err(|detail| metadata.damaged(format!("tree {tree}: {detail}")))?;
        builder.push_tree(specs).map_err(in_directory)?;
    }
    builder.build().map_err(in_directory)
}

impl Nodes {
    fn spec(&self, row: usize, kind: Kind) -> std::result::Result<NodeSpec, String> {
        let id = self.id[row];
        if self.left_child[row] == -1 {
            let stats = self.impurity_stats.get(row);
            return Ok(NodeSpec::Leaf {
                values: match kind {
                    Kind::RandomForestClassification => normalised(stats),
                    // A tree's raw prediction is its class weights as they are.
                    Kind::DecisionTreeClassification => stats.to_vec(),
                    _ => vec![self.prediction[row]],
                },
            });
        }
        let position =
            |value: i64, noun: &str| usize::try_from(value).map_err(|_| format!("node {id} has the {noun} {value}"));
        let values = self.categories_or_threshold.get(row);
        let rule = match (self.n_categories[row], values) {
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
