//! The fast scorer equals the obvious one by bits, on forests and rows drawn to be difficult.

use ids_core::forest::{Boosting, DotProduct, Isa, Ways, reference};
use ids_core::{Engine, Forest, ForestBuilder, NodeSpec, Scores, SplitRule, Task};
use proptest::prelude::*;

/// Values on which comparisons and sums go wrong first.
const HARD: [f64; 12] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.1,
    5e-324,
    -5e-324,
    f64::MAX,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
    1.000_000_000_000_000_2,
];

#[derive(Debug, Clone)]
struct Case {
    forest: Forest,
    features: Vec<f64>,
    ways: Ways,
}

/// Draws numbers from proptest's stream, so that it can shrink them.
struct Draws<'a>(std::slice::Iter<'a, u32>);

impl Draws<'_> {
    fn below(&mut self, n: usize) -> usize {
        self.0.next().map_or(0, |&draw| draw as usize % n)
    }

    fn threshold(&mut self) -> f64 {
        let value = HARD[self.below(HARD.len())];
        if value.is_nan() { 0.3 } else { value }
    }

    fn tree(&mut self, n_features: usize, leaf_width: usize) -> Vec<NodeSpec> {
        // Splits grow at the end of the list, so children always follow their parents.
        let n_splits = self.below(24);
        let mut nodes: Vec<Option<NodeSpec>> = vec![None];
        for _ in 0..n_splits {
            let open: Vec<_> = (0..nodes.len()).filter(|&i| nodes[i].is_none()).collect();
            let at = open[self.below(open.len())];
            let n_categories = 1 + self.below(70) as u32;
            let rule = if self.below(3) == 0 {
                let categories = (0..n_categories).filter(|_| self.below(2) == 0).collect();
                SplitRule::OneOf { categories, n_categories, unknown_left: self.below(2) == 0 }
            } else {
                SplitRule::AtMost(self.threshold())
            };
            let (left, right) = (nodes.len(), nodes.len() + 1);
            nodes[at] = Some(NodeSpec::Split { feature: self.below(n_features), rule, left, right });
            nodes.extend([None, None]);
        }
        let mut leaf = || {
            // Sums of such fractions change in the last bit when their order does.
            let votes = (0..leaf_width).map(|_| [0.0, 0.1, 0.2, 0.3, 0.7, 1.0][self.below(6)]).collect();
            NodeSpec::Leaf { values: votes }
        };
        nodes.into_iter().map(|node| node.unwrap_or_else(&mut leaf)).collect()
    }
}

fn case() -> impl Strategy<Value = Case> {
    let draws = prop::collection::vec(any::<u32>(), 20_000);
    let rows = prop_oneof![Just(0usize), 1usize..20, Just(256), Just(259), 500usize..530];
    let values = prop_oneof![
        4 => prop::sample::select(HARD.to_vec()),
        4 => (0u32..80).prop_map(f64::from),
        1 => (0u32..80).prop_map(|x| f64::from(x) + 0.5),
        1 => any::<f64>(),
    ];
    (draws, 1usize..6, 1usize..20, 1usize..12, rows, prop::collection::vec(values, 6 * 64), 0usize..6).prop_map(
        |(draws, n_features, n_classes, n_trees, n_rows, values, task)| {
            let mut draws = Draws(draws.iter());
            let mut thresholds: Vec<_> = (0..n_classes).map(|class| 0.5 + class as f64 * 0.1).collect();
            thresholds[draws.below(n_classes)] = 0.0;
            let classification =
                |thresholds, by_probability| Task::Classification { n_classes, thresholds, by_probability };
            let orders = [DotProduct::Sequential, DotProduct::FourFused, DotProduct::Vector512, DotProduct::Vector128];
            let boosting = Boosting { weights: vec![0.3; n_trees + 1], sum: orders[draws.below(orders.len())] };
            let (task, leaf_width) = match task {
                0 => (classification(None, false), n_classes),
                1 => (classification(None, true), n_classes),
                2 => (classification(Some(thresholds), false), n_classes),
                3 => (Task::Regression, 1),
                4 => (Task::BoostedRegression(boosting), 1),
                _ => (Task::BoostedClassification(boosting), 1),
            };
            let mut builder = ForestBuilder::new(n_features, task).expect("sizes");
            for _ in 0..n_trees {
                builder.push_tree(draws.tree(n_features, leaf_width)).expect("a valid tree");
            }
            // One tree that always votes, so that every row has probabilities.
            builder.push_tree(vec![NodeSpec::Leaf { values: vec![0.1; leaf_width] }]).expect("a valid tree");
            let features = values.iter().copied().cycle().take(n_rows * n_features).collect();
            let forest = builder.build().expect("a valid forest");
            let ways = [Ways::All, Ways::Doubles][usize::from(draws.below(4) == 0)];
            Case { forest, features, ways }
        },
    )
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_engine_equals_the_reference_by_bits(case in case()) {
        let (mut expected, mut found) = (Scores::default(), Scores::default());
        reference::score(&case.forest, &case.features, &mut expected);
        for isa in Isa::all() {
            Engine::with(&case.forest, case.ways, isa).score(&case.features, &mut found);
            prop_assert_eq!(expected.n_rows(), found.n_rows());
            for row in 0..expected.n_rows() {
                prop_assert_eq!(bits(expected.raw(row)), bits(found.raw(row)), "raw of row {}, {:?}", row, isa);
                let (expected_p, found_p) = (bits(expected.probability(row)), bits(found.probability(row)));
                prop_assert_eq!(expected_p, found_p, "probability of row {}, {:?}", row, isa);
                let (expected_c, found_c) = (expected.prediction(row).to_bits(), found.prediction(row).to_bits());
                prop_assert_eq!(expected_c, found_c, "prediction of row {}, {:?}", row, isa);
            }
        }
    }
}

/// A canary: these leaves make the sums of any other order differ, so the test above can fail.
#[test]
fn votes_are_added_in_tree_order() {
    let trees = [0.1, 0.2, 0.3];
    let score = |votes: &mut dyn Iterator<Item = &f64>| {
        let mut builder = ForestBuilder::classification(1, 1).expect("sizes");
        for &vote in votes {
            builder.push_tree(vec![NodeSpec::Leaf { values: vec![vote] }]).expect("a valid tree");
        }
        let mut scores = Scores::default();
        Engine::new(&builder.build().expect("a valid forest")).score(&[0.0], &mut scores);
        scores.raw(0)[0].to_bits()
    };
    assert_eq!(score(&mut trees.iter()), ((0.0 + 0.1) + 0.2 + 0.3f64).to_bits());
    assert_ne!(score(&mut trees.iter()), score(&mut trees.iter().rev()));
}

/// What a split on categories does with what is none of them, as Spark does it.
#[test]
fn unknown_categories_follow_the_rule() {
    for unknown_left in [true, false] {
        let mut builder = ForestBuilder::classification(1, 2).expect("sizes");
        let rule = SplitRule::OneOf { categories: vec![0, 65], n_categories: 70, unknown_left };
        let tree = vec![
            NodeSpec::Split { feature: 0, rule, left: 1, right: 2 },
            NodeSpec::Leaf { values: vec![1.0, 0.0] },
            NodeSpec::Leaf { values: vec![0.0, 1.0] },
        ];
        builder.push_tree(tree).expect("a valid tree");
        let engine = Engine::new(&builder.build().expect("a valid forest"));
        let unknown = usize::from(!unknown_left);
        let cases = [
            (0.0, 0),
            (-0.0, 0),
            (65.0, 0),
            (1.0, 1),
            (69.0, 1),
            (70.0, unknown),
            (-1.0, unknown),
            (0.5, unknown),
            (f64::NAN, unknown),
            (f64::INFINITY, unknown),
            (4_294_967_296.0, unknown),
        ];
        let mut scores = Scores::default();
        for (x, expected) in cases {
            engine.score(&[x], &mut scores);
            assert_eq!(scores.class(0), expected, "{x} with unknown_left {unknown_left}");
        }
    }
}
