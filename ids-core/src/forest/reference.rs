//! The obvious scorer: the specification that every fast one must equal to the bit.

use super::{Forest, Node, Scores, Task};

/// Scores rows of `features`, `[n_rows, n_features]` row-major, one row and one tree at a time.
///
/// # Panics
/// Where the length of `features` is no multiple of `n_features`.
pub fn score(forest: &Forest, features: &[f64], scores: &mut Scores) {
    let (n_features, n_classes) = (forest.n_features, forest.n_classes());
    assert_eq!(features.len() % n_features, 0, "rows of {n_features} features");
    scores.reset(features.len() / n_features, n_classes);
    for (row, x) in features.chunks_exact(n_features).enumerate() {
        let leaves = forest.roots.iter().map(|&root| forest.values(leaf(forest, root, x)));
        if let Task::Classification { .. } = forest.task {
            let raw = &mut scores.raw[row * n_classes..][..n_classes];
            raw.fill(0.0);
            for votes in leaves {
                for (sum, vote) in raw.iter_mut().zip(votes) {
                    *sum += vote;
                }
            }
            forest.decide(scores, row);
        } else {
            let numbers: Vec<f64> = leaves.map(|values| values[0]).collect();
            forest.combine(&numbers, scores, row);
        }
    }
}

/// For the row `x`, `[n_features]`: in each tree, how many leaves lie left of the one where it arrives
/// (Spark's `leafCol`).
///
/// # Panics
/// Where `x` is shorter than `n_features`.
pub fn leaf_positions(forest: &Forest, x: &[f64]) -> Vec<usize> {
    let mut positions = Vec::with_capacity(forest.n_trees());
    for &root in &forest.roots {
        // Whole subtrees that the row passes on its right are counted, leaf by leaf.
        let (mut node, mut position) = (root, 0);
        while let Node::Split { feature, test, left, right } = forest.nodes[node as usize] {
            if forest.holds(test, x[feature as usize]) {
                node = left;
            } else {
                position += n_leaves(forest, left);
                node = right;
            }
        }
        positions.push(position);
    }
    positions
}

/// Number of leaves at and below `node`.
fn n_leaves(forest: &Forest, node: u32) -> usize {
    let (mut pending, mut n) = (vec![node], 0);
    while let Some(node) = pending.pop() {
        match forest.nodes[node as usize] {
            Node::Leaf { .. } => n += 1,
            Node::Split { left, right, .. } => pending.extend([left, right]),
        }
    }
    n
}

/// The value vector at which the row `x` arrives.
fn leaf(forest: &Forest, root: u32, x: &[f64]) -> u32 {
    let mut position = root;
    loop {
        match forest.nodes[position as usize] {
            Node::Leaf { values } => return values,
            Node::Split { feature, test, left, right } => {
                position = if forest.holds(test, x[feature as usize]) { left } else { right };
            }
        }
    }
}
