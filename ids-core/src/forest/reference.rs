//! The obvious scorer: the specification that every fast one must equal to the bit.

use super::{Forest, Node, Scores, Test};

/// Scores rows of `features`, `[n_rows, n_features]` row-major, one row and one tree at a time.
///
/// # Panics
/// Where the length of `features` is no multiple of `n_features`.
pub fn score(forest: &Forest, features: &[f64], scores: &mut Scores) {
    let (n_features, n_classes) = (forest.n_features, forest.n_classes);
    assert_eq!(features.len() % n_features, 0, "rows of {n_features} features");
    scores.reset(features.len() / n_features, n_classes);
    for (row, x) in features.chunks_exact(n_features).enumerate() {
        let raw = &mut scores.raw[row * n_classes..][..n_classes];
        for &root in &forest.roots {
            let votes = forest.votes(leaf(forest, root, x));
            for (sum, vote) in raw.iter_mut().zip(votes) {
                *sum += vote;
            }
        }
        let probability = &mut scores.probability[row * n_classes..][..n_classes];
        scores.prediction[row] = forest.decide(raw, probability);
    }
}

/// The vote vector at which the row `x` arrives.
fn leaf(forest: &Forest, root: u32, x: &[f64]) -> u32 {
    let mut position = root;
    loop {
        match forest.nodes[position as usize] {
            Node::Leaf { votes } => return votes,
            Node::Split { feature, test, left, right } => {
                let value = x[feature as usize];
                let goes_left = match test {
                    Test::AtMost(threshold) => value <= threshold,
                    Test::OneOf(set) => forest.sets[set as usize].holds(value),
                };
                position = if goes_left { left } else { right };
            }
        }
    }
}
