//! The ways of scoring between which a forest's shape does not choose: by what they cost here, measured when it is compiled.
//!
//! All ways give the same doubles, so that a measurement which something else disturbed costs time, and nothing else. Another
//! way than the [usual](Plan::usual) one is taken where it wins clearly.

use std::fmt;
use std::time::Instant;

use super::isa::Isa;
use super::{Engine, crown, repeats, walk};
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

/// Rows that are timed: of more, two ways differ as they do of these.
const ROWS: usize = crown::STEP;
/// How often each way is timed, in turns. The shortest time counts.
const TURNS: usize = 8;
/// Which part of the usual way's time another may take to be taken.
const CLEARLY: f64 = 0.95;
/// Splits whose thresholds make the rows.
const MOST_SPLITS: usize = 1 << 14;

impl Plan {
    /// What is best for most forests.
    pub fn usual(isa: Isa) -> Self {
        // Sixteen rows side by side take as long as 10 to 20 one by one, whether all are there or not.
        Self { by_ranks: true, finds_repeats: true, isa, most_one_by_one: 12, fewest_crowned: 64 }
    }

    /// What is best for the forest of `engine`, here.
    pub(super) fn measured(engine: &Engine) -> Self {
        let mut stopwatch = Stopwatch { engine, rows: typical_rows(&engine.forest, ROWS), scores: Scores::default() };
        let mut plan = Self { finds_repeats: false, ..engine.plan };

        let isas = Isa::all();
        let runs: Vec<_> = isas.iter().map(|&isa| (Self { isa, ..plan }, ROWS)).collect();
        let times = stopwatch.seconds(&runs);
        let usual = isas.iter().zip(&times).find(|(isa, _)| **isa == plan.isa).map_or(0.0, |(_, seconds)| *seconds);
        let fastest = isas.iter().zip(&times).min_by(|a, b| a.1.total_cmp(b.1));
        plan.isa = fastest.filter(|(_, seconds)| **seconds < CLEARLY * usual).map_or(plan.isa, |(isa, _)| *isa);

        let side_by_side = Self { most_one_by_one: 0, fewest_crowned: usize::MAX, ..plan };
        let crowned = Self { fewest_crowned: 0, ..side_by_side };
        if engine.has_crown() {
            let sizes = [64, 128, 256];
            let runs: Vec<_> = sizes.iter().flat_map(|&size| [(side_by_side, size), (crowned, size)]).collect();
            let times = stopwatch.seconds(&runs);
            let pays = |(_, [without, with]): &(&usize, &[f64; 2])| CLEARLY * with < *without;
            plan.fewest_crowned =
                sizes.iter().zip(times.as_chunks().0).find(pays).map_or(usize::MAX, |(size, _)| *size);
        }

        // Rows by the sixteen: what is not there is walked for nothing.
        let most = 4 * walk::LANES;
        let mut runs = vec![(Self { most_one_by_one: most, ..plan }, most)];
        runs.extend((walk::LANES..=most).step_by(walk::LANES).map(|n_rows| (side_by_side, n_rows)));
        let times = stopwatch.seconds(&runs);
        let one = times[0] / most as f64;
        let enough = (2..=most).find(|n_rows| times[n_rows.div_ceil(walk::LANES)] <= one * *n_rows as f64);
        plan.most_one_by_one = enough.map_or(most, |n_rows| n_rows - 1);

        // Equal rows are looked for in vain here. Where that costs much, few flows in a hundred would have to repeat.
        let looking = Self { finds_repeats: engine.plan.finds_repeats, ..plan };
        let times = stopwatch.seconds(&[(plan, ROWS), (looking, ROWS)]);
        if CLEARLY * times[1] < times[0] { looking } else { plan }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, up to {} rows one by one, ", self.isa, self.most_one_by_one)?;
        match self.fewest_crowned {
            usize::MAX => write!(f, "no crown, ")?,
            fewest => write!(f, "a crown from {fewest} rows on, ")?,
        }
        f.write_str(if self.finds_repeats { "equal rows once" } else { "every row" })
    }
}

struct Stopwatch<'a> {
    engine: &'a Engine,
    rows: Vec<f64>,
    scores: Scores,
}

impl Stopwatch<'_> {
    /// How long each run takes: so many rows by a plan.
    fn seconds(&mut self, runs: &[(Plan, usize)]) -> Vec<f64> {
        let mut times = vec![f64::INFINITY; runs.len()];
        for _ in 0..TURNS {
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
    for node in forest.nodes.iter().step_by(forest.nodes.len() / MOST_SPLITS + 1) {
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
    let draws = (0_u32..).map(|i| repeats::hash(&[f64::from(i)]) as usize);
    let features = values.iter().cycle().take(n_rows * forest.n_features);
    let value = |(own, draw): (&Vec<f64>, usize)| own.get(draw % own.len().max(1)).copied().unwrap_or(draw as f64);
    features.zip(draws).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forest::{ForestBuilder, NodeSpec, SplitRule};

    #[test]
    fn rows_have_what_the_splits_ask_for() {
        let mut builder = ForestBuilder::classification(3, 2).expect("sizes");
        let rule = SplitRule::OneOf { categories: vec![1], n_categories: 3, unknown_left: false };
        let leaf = || NodeSpec::Leaf { values: vec![0.5, 0.5] };
        let tree = vec![
            NodeSpec::Split { feature: 0, rule: SplitRule::AtMost(1.5), left: 1, right: 2 },
            NodeSpec::Split { feature: 0, rule: SplitRule::AtMost(-7.0), left: 3, right: 4 },
            NodeSpec::Split { feature: 2, rule, left: 5, right: 6 },
            leaf(),
            leaf(),
            leaf(),
            leaf(),
        ];
        builder.push_tree(tree).expect("a valid tree");
        let rows = typical_rows(&builder.build().expect("a valid forest"), 64);
        let of = |feature: usize| rows.chunks_exact(3).map(move |row| row[feature]);
        assert!(of(0).all(|x| x == 1.5 || x == -7.0) && of(0).any(|x| x == 1.5) && of(0).any(|x| x == -7.0));
        assert!(of(2).all(|x| x == 0.0));
        assert_eq!(of(1).map(f64::to_bits).collect::<std::collections::HashSet<_>>().len(), 64);
    }
}
