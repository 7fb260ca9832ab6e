//! The ways of scoring between which the machine decides: by what they cost here, measured when a forest is compiled.
//!
//! All ways give the same doubles, so that a measurement which something else disturbed costs time, and nothing else.

use std::fmt;
use std::time::{Duration, Instant};

use super::isa::Isa;
use super::{Engine, crown, repeats};
use crate::forest::{Forest, Node, Scores, Test};

/// Which of the ways an [`Engine`] takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)] // public for the tests and benches that compare all ways
pub struct Plan {
    /// Whether a forest that has ranks is scored by them.
    pub by_ranks: bool,
    /// Whether equal rows are looked for.
    pub finds_repeats: bool,
    /// The instructions of the kernels.
    pub isa: Isa,
    /// Up to so many rows are walked one by one, several trees side by side, and more rows side by side.
    pub most_one_by_one: usize,
    /// So many rows are worth the work on a whole crown.
    pub fewest_crowned: usize,
}

/// Rows that are timed: of more, tile after tile, two ways differ about as they do of these.
const ROWS: usize = crown::STEP;
/// Values of all of them, at most. Wider rows are scored the usual way.
const MOST_VALUES: usize = 1 << 18;
/// Sizes from which on a crown may pay.
const CROWNED: [usize; 3] = [64, 128, ROWS];

/// How often each way is timed, in turns. The shortest time counts.
const TURNS: usize = 8;
/// Turns that there are also where no time is left.
const FEWEST_TURNS: usize = 2;
/// How long it may take.
const ENOUGH: Duration = Duration::from_millis(100);
/// How long [`CROWNED`]'s smallest number of rows may take. A forest that takes longer is scored the usual way.
const SLOW: f64 = 0.01;

/// Which part of the usual way's time another one takes that is clearly faster.
const CLEARLY: f64 = 0.95;
/// Nodes, at most, whose thresholds make the rows.
const MOST_NODES: usize = 1 << 14;

impl Plan {
    /// What is best for most forests.
    pub fn usual(isa: Isa) -> Self {
        // Sixteen rows side by side take as long as 10 to 30 one by one, whether all are there or not.
        Self { by_ranks: true, finds_repeats: true, isa, most_one_by_one: 12, fewest_crowned: CROWNED[0] }
    }

    /// What is best for the forest of `engine`, here.
    pub(super) fn measured(engine: &Engine) -> Self {
        if ROWS * engine.forest.n_features > MOST_VALUES {
            return engine.plan;
        }
        let mut stopwatch = Stopwatch {
            engine,
            rows: typical_rows(&engine.forest, ROWS),
            scores: Scores::default(),
            end: Instant::now() + ENOUGH,
        };
        let mut plan = Self { finds_repeats: false, ..engine.plan };
        // Too long to try all ways, or too short for the clock.
        let seconds = stopwatch.seconds(&[(plan, CROWNED[0])])[0];
        if seconds > SLOW || seconds == 0.0 {
            return engine.plan;
        }

        let isas = Isa::all();
        let runs: Vec<_> = isas.iter().map(|&isa| (Self { isa, ..plan }, ROWS)).collect();
        let times = stopwatch.seconds(&runs);
        plan.isa = clearly_fastest(plan.isa, &isas.into_iter().zip(times).collect::<Vec<_>>());

        let side_by_side = Self { most_one_by_one: 0, fewest_crowned: usize::MAX, ..plan };
        let crowned = Self { fewest_crowned: 0, ..side_by_side };
        if plan.by_ranks {
            let runs: Vec<_> = CROWNED.iter().flat_map(|&size| [(side_by_side, size), (crowned, size)]).collect();
            plan.fewest_crowned = first_that_pays(stopwatch.seconds(&runs).as_chunks().0);
        }

        let lanes = engine.lanes();
        let sizes = (1..=CROWNED[0] / lanes).map(|groups| groups * lanes);
        let most = Self { most_one_by_one: usize::MAX, ..plan };
        let runs: Vec<_> = [(most, CROWNED[0])].into_iter().chain(sizes.map(|size| (side_by_side, size))).collect();
        let times = stopwatch.seconds(&runs);
        plan.most_one_by_one = most_one_by_one(times[0] / CROWNED[0] as f64, &times[1..], lanes);

        let looking = Self { finds_repeats: engine.plan.finds_repeats, ..plan };
        let times = stopwatch.seconds(&[(plan, ROWS), (looking, ROWS)]);
        // Of real flows a fifth repeats: a search that costs a tenth, and the copies that follow, take longer than scoring it.
        if pays(times[0], times[1]) { looking } else { plan }
    }
}

/// The instructions that take the shortest time, if that is clearly shorter than that of the usual ones.
fn clearly_fastest(usual: Isa, times: &[(Isa, f64)]) -> Isa {
    let Some(&(_, usually)) = times.iter().find(|(isa, _)| *isa == usual) else { return usual };
    let fastest = times.iter().min_by(|(_, one), (_, other)| one.total_cmp(other));
    fastest.filter(|(_, seconds)| *seconds < CLEARLY * usually).map_or(usual, |(isa, _)| *isa)
}

/// From how many rows on a crown is used, by the times without and with it of [`CROWNED`] rows: where it is not clearly slower.
fn first_that_pays(times: &[[f64; 2]]) -> usize {
    let first = CROWNED.iter().zip(times).find(|(_, [without, with])| pays(*without, *with));
    first.map_or(usize::MAX, |(size, _)| *size)
}

/// Whether what may win more elsewhere is not clearly slower here.
fn pays(without: f64, with: f64) -> bool {
    CLEARLY * with <= without
}

/// Up to how many rows go one by one, fewer than are crowned: by the time of one row, and of one, two, ... times `lanes` rows
/// side by side, which take the same if there are fewer.
fn most_one_by_one(one: f64, side_by_side: &[f64], lanes: usize) -> usize {
    let most = side_by_side.len() * lanes;
    (1..most).take_while(|n_rows| *n_rows as f64 * one < side_by_side[(n_rows - 1) / lanes]).last().unwrap_or(1)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, up to {} rows one by one, ", self.isa, self.most_one_by_one)?;
        match self.fewest_crowned {
            _ if !self.by_ranks => write!(f, "by doubles")?,
            usize::MAX => write!(f, "no crown")?,
            fewest => write!(f, "a crown from {fewest} rows on")?,
        }
        f.write_str(if self.finds_repeats { ", equal rows once" } else { ", every row" })
    }
}

struct Stopwatch<'a> {
    engine: &'a Engine,
    rows: Vec<f64>,
    scores: Scores,
    /// When there were turns enough.
    end: Instant,
}

impl Stopwatch<'_> {
    /// How long each run takes: so many rows by a plan.
    fn seconds(&mut self, runs: &[(Plan, usize)]) -> Vec<f64> {
        let mut times = vec![f64::INFINITY; runs.len()];
        for turn in 0..TURNS {
            if turn >= FEWEST_TURNS && Instant::now() > self.end {
                break;
            }
            for (time, &(plan, n_rows)) in times.iter_mut().zip(runs) {
                let rows = &self.rows[..n_rows * self.engine.forest.n_features];
                let start = Instant::now();
                self.engine.score_by(plan, rows, &mut self.scores);
                *time = time.min(start.elapsed().as_secs_f64());
            }
        }
        times
    }
}

/// Rows that go many ways: of each feature a row has the threshold of one of its splits, or a category, or, where there is
/// no split, a number that no other row has.
fn typical_rows(forest: &Forest, n_rows: usize) -> Vec<f64> {
    let mut values = vec![Vec::new(); forest.n_features];
    for node in forest.nodes.iter().step_by(forest.nodes.len() / MOST_NODES + 1) {
        match *node {
            Node::Split { feature, test: Test::AtMost(threshold), .. } => values[feature as usize].push(threshold),
            Node::Split { feature, test: Test::OneOf(set), .. } => {
                let n_categories = forest.sets[set as usize].n_categories as usize;
                let own = &mut values[feature as usize];
                own.push((own.len() % n_categories.max(1)) as f64);
            }
            Node::Leaf { .. } => {}
        }
    }
    // Numbers without a pattern, the same each time.
    let draws = (0_u32..).map(|i| repeats::hash(&[f64::from(i)]) as usize);
    let features = values.iter().cycle().take(n_rows * forest.n_features);
    let value = |(own, draw): (&Vec<f64>, usize)| own.get(draw % own.len().max(1)).copied().unwrap_or(draw as f64);
    features.zip(draws).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forest::{ForestBuilder, NodeSpec, SplitRule, Task};

    #[test]
    fn the_usual_instructions_give_way_to_what_is_clearly_faster() {
        let all = Isa::all();
        let usual = all[all.len() - 1];
        for other in &all[..all.len() - 1] {
            assert_eq!(clearly_fastest(usual, &[(*other, 0.96), (usual, 1.0)]), usual);
            assert_eq!(clearly_fastest(usual, &[(*other, 0.90), (usual, 1.0)]), *other);
        }
        assert_eq!(clearly_fastest(usual, &[(usual, 1.0)]), usual);
    }

    #[test]
    fn a_crown_is_used_from_where_it_is_not_slower() {
        assert_eq!(first_that_pays(&[[1.0, 1.04], [1.0, 9.0], [1.0, 9.0]]), CROWNED[0]);
        assert_eq!(first_that_pays(&[[1.0, 1.1], [1.0, 1.0], [1.0, 9.0]]), CROWNED[1]);
        assert_eq!(first_that_pays(&[[1.0, 1.1]; 3]), usize::MAX);
    }

    #[test]
    fn what_costs_little_pays() {
        assert!(pays(1.0, 1.04) && !pays(1.0, 1.1));
    }

    #[test]
    fn rows_go_one_by_one_until_side_by_side_takes_no_longer() {
        // Sixteen take as long as 10 of them, or 18, 32 as long as 26.
        assert_eq!(most_one_by_one(1.0, &[10.0, 19.0, 28.0, 36.0], 16), 9);
        assert_eq!(most_one_by_one(1.0, &[18.0, 26.0, 34.0, 42.0], 16), 25);
        assert_eq!(most_one_by_one(1.0, &[17.0, 34.0, 51.0, 68.0], 16), 63);
        assert_eq!(most_one_by_one(1.0, &[0.5, 1.0, 1.5, 2.0], 16), 1);
    }

    fn splits(rules: Vec<(usize, SplitRule)>, n_values: usize) -> Vec<NodeSpec> {
        let n = rules.len();
        let split = |(i, (feature, rule))| NodeSpec::Split { feature, rule, left: 2 * i + 1, right: 2 * i + 2 };
        let leaves = (0..=n).map(|_| NodeSpec::Leaf { values: vec![0.5; n_values] });
        rules.into_iter().enumerate().map(split).chain(leaves).collect()
    }

    fn set(n_categories: u32) -> SplitRule {
        SplitRule::OneOf { categories: Vec::new(), n_categories, unknown_left: true }
    }

    #[test]
    fn rows_have_what_the_splits_ask_for() {
        let mut builder = ForestBuilder::classification(3, 2).expect("sizes");
        let rules = vec![(0, SplitRule::AtMost(1.5)), (0, SplitRule::AtMost(-7.0)), (2, set(2)), (2, set(2))];
        builder.push_tree(splits(rules, 2)).expect("a valid tree");
        let rows = typical_rows(&builder.build().expect("a valid forest"), 64);
        let of = |feature: usize| rows.chunks_exact(3).map(move |row| row[feature]);
        for (feature, values) in [(0, [1.5, -7.0]), (2, [0.0, 1.0])] {
            assert!(of(feature).all(|x| values.contains(&x)));
            assert!(values.iter().all(|value| of(feature).any(|x| x == *value)));
        }
        assert_eq!(of(1).map(f64::to_bits).collect::<std::collections::HashSet<_>>().len(), 64);
    }

    /// One leaf, no classes, one class, sets without categories, more thresholds than a byte counts, and very wide rows.
    #[test]
    fn odd_forests_have_plans() {
        let thresholds = (0..300).map(|i| (0, SplitRule::AtMost(f64::from(i)))).collect();
        let cases = [
            (1, Task::Regression, vec![]),
            (2, Task::Classification { n_classes: 1, thresholds: None, by_probability: false }, vec![(1, set(0))]),
            (1, Task::Regression, thresholds),
            (MOST_VALUES, Task::Regression, vec![(7, SplitRule::AtMost(0.0))]),
        ];
        for (n_features, task, rules) in cases {
            let mut builder = ForestBuilder::new(n_features, task).expect("sizes");
            builder.push_tree(splits(rules, 1)).expect("a valid tree");
            let forest = builder.build().expect("a valid forest");
            let plan = Engine::new(&forest).plan();
            assert!((1..=CROWNED[0]).contains(&plan.most_one_by_one), "{plan}");
            assert_eq!(plan.to_string().contains("by doubles"), forest.n_nodes() > 300, "{plan}");
        }
    }
}
