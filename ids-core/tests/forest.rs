//! The fast scorer equals the obvious one by bits, on forests and rows drawn to be difficult.

use ids_core::forest::{Boosting, DotProduct, Isa, Plan, reference};
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
    plan: Plan,
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
            let vote = |draw| if draw == 60 { f64::MAX } else { [0.0, 0.1, 0.2, 0.3, 0.7, 1.0][draw % 6] };
            NodeSpec::Leaf { values: (0..leaf_width).map(|_| vote(self.below(61))).collect() }
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
            if draws.below(2) > 0 {
                thresholds[draws.below(n_classes)] = 0.0;
            }
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
            let mut always = vec![0.0; leaf_width];
            always[draws.below(leaf_width)] = 0.1;
            builder.push_tree(vec![NodeSpec::Leaf { values: always }]).expect("a valid tree");
            let features = values.iter().copied().cycle().take(n_rows * n_features).collect();
            let forest = builder.build().expect("a valid forest");
            let plan = Plan {
                by_ranks: draws.below(4) > 0,
                finds_repeats: draws.below(2) > 0,
                isa: Isa::best(),
                most_one_by_one: [0, 1, 12, 40, usize::MAX][draws.below(5)],
                fewest_crowned: [0, 64, 300, usize::MAX][draws.below(4)],
            };
            Case { forest, features, plan }
        },
    )
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever the scores were used for before.
    #[test]
    fn the_engine_equals_the_reference_by_bits(before in case(), case in case()) {
        let mut expected = Scores::default();
        reference::score(&case.forest, &case.features, &mut expected);
        for isa in Isa::all() {
            let mut found = Scores::default();
            Engine::with(&before.forest, Plan { isa, ..before.plan }).score(&before.features, &mut found);
            Engine::with(&case.forest, Plan { isa, ..case.plan }).score(&case.features, &mut found);
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

/// A forest of complete trees, each feature with so many thresholds, and so many category sets of 70 categories, and rows.
fn complete(
    n_features: usize,
    (n_thresholds, n_sets): (usize, usize),
    (n_trees, depth): (usize, u32),
    n_classes: usize,
    n_rows: usize,
) -> (Forest, Vec<f64>) {
    // Numerical Recipes' generator: any would do.
    let mut state = 7_u32;
    let mut below = move |n: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % n
    };
    let n_splits = (1 << depth) - 1;
    let mut builder = ForestBuilder::classification(n_features, n_classes).expect("sizes");
    for tree in 0..n_trees {
        let mut split = |i: usize| {
            let number = tree * n_splits + i;
            let feature = number % n_features;
            let rule = if n_sets > 0 && number.is_multiple_of(2) {
                // Its number in bits, so that no two sets are alike.
                let set = number / 2 % n_sets;
                let categories =
                    (0..70).filter(|category| *category == 69 || set >> (category % 16) & 1 == 1).collect();
                SplitRule::OneOf { categories, n_categories: 70, unknown_left: set.is_multiple_of(3) }
            } else {
                SplitRule::AtMost((number / n_features % n_thresholds) as f64)
            };
            NodeSpec::Split { feature, rule, left: 2 * i + 1, right: 2 * i + 2 }
        };
        let mut nodes: Vec<_> = (0..n_splits).map(&mut split).collect();
        let mut vote = || [0.0, 0.1, 0.2, 0.3, 0.7, 1.0][below(6)];
        // A leaf has a vote, or a row might have no probabilities.
        let mut leaf = || NodeSpec::Leaf { values: [0.3].into_iter().chain((1..n_classes).map(|_| vote())).collect() };
        nodes.extend((0..=n_splits).map(|_| leaf()));
        builder.push_tree(nodes).expect("a valid tree");
    }
    let mut value = || match below(8) {
        0 => HARD[below(HARD.len())],
        1 => below(n_thresholds + 2) as f64 - 0.5,
        _ => below(n_thresholds.max(72) + 1) as f64,
    };
    let features = (0..n_rows * n_features).map(|_| value()).collect();
    (builder.build().expect("a valid forest"), features)
}

/// Every width of a row's columns, ranks that are counted and searched, the most thresholds and one more, trees of one leaf,
/// tiles of several crowns, more classes than registers, any number of rows; and one `Scores` for all.
#[test]
fn forests_of_every_layout_are_scored_alike() {
    let shapes = [
        (5, (20, 0), (70, 3), 3, 700),
        (100, (30, 0), (9, 8), 10, 700),
        (4, (30, 150), (20, 7), 10, 700),
        (4, (30, 1_200), (20, 9), 2, 700),
        (3, (200, 10), (9, 9), 16, 700),
        (1, (255, 0), (3, 9), 4, 600),
        (1, (256, 0), (3, 9), 4, 600),
        (30, (61, 0), (40, 12), 10, 1_100),
        (2, (5, 3), (12, 0), 20, 80),
        (2, (5, 3), (12, 4), 20, 80),
    ];
    let (mut expected, mut found) = (Scores::default(), Scores::default());
    for (n_features, splits, trees, n_classes, n_rows) in shapes {
        let (forest, features) = complete(n_features, splits, trees, n_classes, n_rows);
        reference::score(&forest, &features, &mut expected);
        for isa in Isa::all() {
            let engine = Engine::with(&forest, Plan::usual(isa));
            for batch in [n_rows, 1, 5, 12, 13, 63, 64, 65, 300, 513] {
                for (i, rows) in features.chunks(batch * n_features).enumerate() {
                    engine.score(rows, &mut found);
                    for row in 0..found.n_rows() {
                        let (a, b) = (expected.raw(i * batch + row), found.raw(row));
                        let what = format!("{n_features} features, {splits:?}, {trees:?}, {batch} at a time, {isa:?}");
                        assert_eq!(bits(a), bits(b), "row {row} of {i}: {what}");
                        let (a, b) = (expected.prediction(i * batch + row), found.prediction(row));
                        assert_eq!(a.to_bits(), b.to_bits(), "row {row} of {i}: {what}");
                    }
                }
            }
        }
    }
}

/// Rows that repeat, all of a few or hardly any, within a window and from one to the next.
#[test]
fn rows_that_repeat_are_scored_as_others() {
    let (mut expected, mut found) = (Scores::default(), Scores::default());
    // In registers, and in memory.
    for n_classes in [10, 20] {
        let (forest, features) = complete(5, (20, 6), (12, 8), n_classes, 9_500);
        for n_distinct in [1, 3, 700, 9_200] {
            // Each row some rows later again, in another order.
            let drawn = (0..9_500).flat_map(|row| &features[row * 7 % n_distinct * 5..][..5]);
            let rows: Vec<f64> = drawn.copied().collect();
            for finds_repeats in [true, false] {
                let engine = Engine::with(&forest, Plan { finds_repeats, ..Plan::usual(Isa::best()) });
                for n_rows in [9_500, 1, 4_096, 13, 4_097, 8_193] {
                    reference::score(&forest, &rows[..n_rows * 5], &mut expected);
                    engine.score(&rows[..n_rows * 5], &mut found);
                    let what = format!("{n_rows} rows, {n_distinct} distinct, {n_classes} classes, {finds_repeats}");
                    for row in 0..n_rows {
                        assert_eq!(bits(expected.raw(row)), bits(found.raw(row)), "row {row} of {what}");
                    }
                    assert!(expected == found, "{what}");
                }
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

/// Sums that overflow have no probabilities: then the first class is predicted, and none of the places behind the last class.
#[test]
fn without_probabilities_the_first_class_is_predicted() {
    for n_classes in [1, 3, 10] {
        let task = Task::Classification { n_classes, thresholds: None, by_probability: true };
        let mut builder = ForestBuilder::new(1, task).expect("sizes");
        for _ in 0..2 {
            builder.push_tree(vec![NodeSpec::Leaf { values: vec![f64::MAX; n_classes] }]).expect("a valid tree");
        }
        let mut scores = Scores::default();
        Engine::new(&builder.build().expect("a valid forest")).score(&[0.0], &mut scores);
        assert!(scores.probability(0)[0].is_nan());
        assert_eq!(scores.class(0), 0);
    }
}
