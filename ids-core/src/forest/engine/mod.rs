//! The fast scorer: tree by tree over tiles of rows, many rows side by side.
//!
//! ```text
//!   features        ranks             crown                  walk                votes
//!   doubles   -->   a byte a   -->    the first six    -->   the levels    -->   a row's leaves,
//!   by row          column            levels, by bits        below               in tree order
//! ```
//!
//! Taking all rows of a tile through one tree keeps that tree in the cache. The votes of a row are added in tree order,
//! class by class, so the sums are those of the [`reference`](super::reference) to the bit. A forest that has no ranks
//! is walked by its [`doubles`]. Of rows that [repeat](repeats) one is scored. Where it depends on the machine which way is the
//! fastest, a [`plan`] is made by measurement.

mod crown;
mod doubles;
mod isa;
mod plan;
mod ranks;
mod repeats;
#[cfg(target_arch = "x86_64")]
mod search;
mod votes;
mod walk;

use crown::Crown;
use doubles::Doubles;
pub use isa::Isa;
pub use plan::Plan;
use ranks::Ranks;
use repeats::Repeats;
use votes::Votes;
use walk::Walk;

use super::{Forest, Scores, Task};

/// A forest compiled for speed.
#[derive(Debug, Clone)]
pub struct Engine {
    forest: Forest,
    finder: Finder,
    votes: Votes,
    plan: Plan,
}

/// How the leaves of a row are found.
#[derive(Debug, Clone)]
enum Finder {
    Ranked(Box<Ranked>),
    Doubles(Doubles),
}

#[derive(Debug, Clone)]
struct Ranked {
    ranks: Ranks,
    walk: Walk,
    crown: Crown,
    /// Whether there is nothing to walk below the crown.
    crown_is_all: bool,
    tile_rows: usize,
}

/// What is done with a tile, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)] // public for the benches that time each alone
pub enum Stage {
    Repeats,
    Ranks,
    Crown,
    Walk,
    Votes,
}

/// A forest of so many bytes is fetched from afar for each tile, which should have many rows then.
const SMALL_FOREST: usize = 512 << 10;
/// Bytes that the ranks of a tile may take.
const MOST_CELLS: usize = 512 << 10;
const MOST_TILE_ROWS: usize = 4_096;
/// Leaves of a tile, of all rows and trees, as far as a tile may have fewer rows.
const MOST_LEAVES: usize = 2 << 20;

/// Room to work in, kept from call to call so that none allocates once it is large enough.
#[derive(Debug, Clone, Default)]
pub(super) struct Work {
    repeats: Repeats,
    tile: Tile,
    leaves: Leaves,
    /// Of a row, what its trees say: `[n_trees]` value vectors, and numbers of a regression.
    vectors: Vec<u32>,
    numbers: Vec<f64>,
}

/// Rows whose votes are summed together: what leads from tree to tree is done once for them.
const TOGETHER: usize = 2;
/// Rows that are decided one after the other, once their votes are summed: these are still in the first-level cache.
const DECIDED: usize = 64;

/// Leaves of the rows of a tile, `[tree, row]`.
#[derive(Debug, Clone, Default)]
struct Leaves {
    vectors: Vec<u32>,
    /// The ends of the crown at which rows come out.
    ends: Vec<u8>,
    /// Rows, the first ones, whose leaves follow from their ends.
    n_by_end: usize,
    /// From a tree to the next: no power of two, or the leaves of a row would share a few sets of the cache.
    stride: usize,
}

impl Engine {
    /// Compiles `forest`, and times a few rows to find out how its rows are scored the fastest here.
    pub fn new(forest: &Forest) -> Self {
        let mut engine = Self::with(forest, Plan::usual(Isa::best()));
        engine.plan = Plan::measured(&engine);
        engine
    }

    /// Compiles `forest` to be scored by `plan`.
    #[doc(hidden)]
    pub fn with(forest: &Forest, mut plan: Plan) -> Self {
        let finder = match Ranked::of(forest) {
            Some(ranked) if plan.by_ranks => Finder::Ranked(Box::new(ranked)),
            _ => Finder::Doubles(Doubles::of(forest)),
        };
        plan.by_ranks = matches!(finder, Finder::Ranked(_));
        Self { forest: forest.clone(), finder, votes: Votes::of(forest), plan }
    }

    /// Which ways it takes.
    #[doc(hidden)]
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// The forest that was compiled.
    pub fn forest(&self) -> &Forest {
        &self.forest
    }

    /// Scores rows of `features`, `[n_rows, n_features]` row-major.
    ///
    /// # Panics
    /// Where the length of `features` is no multiple of `n_features`.
    pub fn score(&self, features: &[f64], scores: &mut Scores) {
        self.score_by(self.plan, features, scores);
    }

    /// Scores rows by a plan that may differ in all but whether there are ranks.
    fn score_by(&self, plan: Plan, features: &[f64], scores: &mut Scores) {
        let n_features = self.forest.n_features;
        assert_eq!(features.len() % n_features, 0, "rows of {n_features} features");
        let n_rows = features.len() / n_features;
        scores.reset(n_rows, self.forest.n_classes());
        plan.isa.run(Scoring { engine: self, plan, features, scores, only: None });
    }

    /// Does one stage again, of rows that [`Engine::score`] has just scored: what was there before it and comes of it is
    /// in `scores`. Rows beyond those of a tile would find what another tile left.
    #[doc(hidden)]
    pub fn score_again(&self, features: &[f64], scores: &mut Scores, stage: Stage) {
        assert_eq!(features.len(), scores.n_rows() * self.forest.n_features, "other rows than those that were scored");
        let n_rows = scores.n_rows();
        assert!(n_rows > self.plan.most_one_by_one && n_rows <= self.tile_rows(), "no tile, or more rows than one has");
        assert!(self.stages().contains(&stage), "{stage:?} is no stage of it");
        self.plan.isa.run(Scoring { engine: self, plan: self.plan, features, scores, only: Some(stage) });
    }

    /// What it does with a tile.
    #[doc(hidden)]
    pub fn stages(&self) -> Vec<Stage> {
        let is_crowned = self.plan.fewest_crowned <= crown::ROWS;
        let find: &[_] = match &self.finder {
            Finder::Ranked(ranked) if ranked.crown_is_all && is_crowned => &[Stage::Ranks, Stage::Crown],
            Finder::Ranked(_) if is_crowned => &[Stage::Ranks, Stage::Crown, Stage::Walk],
            Finder::Ranked(_) => &[Stage::Ranks, Stage::Walk],
            Finder::Doubles(_) => &[Stage::Walk],
        };
        let first = self.plan.finds_repeats.then_some(Stage::Repeats);
        first.into_iter().chain(find.iter().copied()).chain([Stage::Votes]).collect()
    }

    /// So many rows are walked side by side.
    fn lanes(&self) -> usize {
        match &self.finder {
            Finder::Ranked(_) => walk::LANES,
            Finder::Doubles(_) => doubles::LANES,
        }
    }

    /// So many rows are scored together.
    #[doc(hidden)]
    pub fn tile_rows(&self) -> usize {
        let tile_rows = match &self.finder {
            Finder::Ranked(ranked) => ranked.tile_rows,
            Finder::Doubles(_) => doubles::TILE_ROWS,
        };
        let fitting = (MOST_LEAVES / self.forest.n_trees().max(1)).max(1).next_multiple_of(crown::ROWS);
        tile_rows.min(fitting)
    }

    /// Scores rows one by one.
    #[inline(always)]
    fn score_rows(&self, features: &[f64], work: &mut Work, scores: &mut Scores) {
        let Work { tile: Tile { cells, .. }, vectors, numbers, .. } = work;
        vectors.resize(self.forest.n_trees(), 0);
        for (row, features) in features.chunks_exact(self.forest.n_features).enumerate() {
            match &self.finder {
                Finder::Ranked(ranked) => {
                    cells.resize(ranked.ranks.width(), 0);
                    ranked.ranks.fill_row(features, cells);
                    ranked.walk.row(cells, vectors);
                }
                Finder::Doubles(doubles) => doubles.row(features, vectors),
            }
            self.finish(vectors.iter().map(|&vector| [vector]), numbers, scores, row);
            self.votes.decide(&self.forest, scores, row..row + 1);
        }
    }

    /// Scores rows, of those that repeat one.
    #[inline(always)]
    fn score_distinct(&self, plan: Plan, features: &[f64], work: &mut Work, scores: &mut Scores, only: Option<Stage>) {
        let (n_features, n_classes) = (self.forest.n_features, self.forest.n_classes());
        let mut repeats = std::mem::take(&mut work.repeats);
        for (window, rows) in features.chunks(repeats::WINDOW * n_features).enumerate() {
            let start = window * repeats::WINDOW;
            if is_due(Stage::Repeats, only) {
                repeats.find(rows, n_features);
            }
            let Some(distinct) = repeats.distinct() else {
                self.score_tiles(plan, rows, work, scores, start, only);
                continue;
            };
            self.score_tiles(plan, distinct, work, scores, start, only);
            if is_due(Stage::Votes, only) {
                repeats.spread(&mut scores.raw[start * n_classes..], n_classes);
                repeats.spread(&mut scores.probability[start * n_classes..], n_classes);
                repeats.spread(&mut scores.prediction[start..], 1);
            }
        }
        work.repeats = repeats;
    }

    /// Scores rows tile by tile; their scores go to `to` and the rows after it.
    #[inline(always)]
    fn score_tiles(
        &self,
        plan: Plan,
        features: &[f64],
        work: &mut Work,
        scores: &mut Scores,
        to: usize,
        only: Option<Stage>,
    ) {
        let Work { tile, leaves, numbers, .. } = work;
        let n_features = self.forest.n_features;
        let tile_rows = self.tile_rows().min((features.len() / n_features).next_multiple_of(crown::STEP));
        leaves.resize(self.forest.n_trees(), tile_rows);
        for (i, rows) in features.chunks(tile_rows * n_features).enumerate() {
            match &self.finder {
                Finder::Ranked(ranked) => ranked.find(plan, rows, n_features, tile, leaves, only),
                Finder::Doubles(doubles) if is_due(Stage::Walk, only) => doubles.find(rows, leaves),
                Finder::Doubles(_) => {}
            }
            if !is_due(Stage::Votes, only) {
                continue;
            }
            let (start, n_rows) = (to + i * tile_rows, rows.len() / n_features);
            for first in (0..n_rows).step_by(DECIDED) {
                let end = n_rows.min(first + DECIDED);
                let in_pairs = end - end % TOGETHER;
                for row in (first..in_pairs).step_by(TOGETHER) {
                    self.finish_some::<TOGETHER>(leaves, row, numbers, scores, start + row);
                }
                for row in in_pairs..end {
                    self.finish_some::<1>(leaves, row, numbers, scores, start + row);
                }
                self.votes.decide(&self.forest, scores, start + first..start + end);
            }
        }
    }

    /// Combines what was found of `R` rows, from `row` of the tile on.
    #[inline(always)]
    fn finish_some<const R: usize>(
        &self,
        leaves: &Leaves,
        row: usize,
        numbers: &mut Vec<f64>,
        scores: &mut Scores,
        to: usize,
    ) {
        match &self.finder {
            Finder::Ranked(ranked) if row + R <= leaves.n_by_end => {
                self.finish(ranked.crown.leaves(leaves.ends_of_rows::<R>(row)), numbers, scores, to);
            }
            _ => self.finish(leaves.of_rows::<R>(row), numbers, scores, to),
        }
    }

    /// Combines what the leaves of `R` rows say, from `row` on, in tree order: votes are summed, numbers become predictions.
    #[inline(always)]
    fn finish<const R: usize>(
        &self,
        leaves: impl Iterator<Item = [u32; R]> + Clone,
        numbers: &mut Vec<f64>,
        scores: &mut Scores,
        row: usize,
    ) {
        if let Task::Classification { .. } = self.forest.task {
            self.votes.sum(leaves, self.forest.n_classes(), scores, row);
        } else {
            for i in 0..R {
                numbers.clear();
                numbers.extend(leaves.clone().map(|leaves| self.votes.number(leaves[i])));
                self.forest.combine(numbers, scores, row + i);
            }
        }
    }
}

/// A call of [`Engine::score`].
struct Scoring<'a> {
    engine: &'a Engine,
    plan: Plan,
    features: &'a [f64],
    scores: &'a mut Scores,
    /// Nothing but that stage.
    only: Option<Stage>,
}

/// Whether a stage is to be done, where nothing or all else is.
#[inline(always)]
fn is_due(stage: Stage, only: Option<Stage>) -> bool {
    only.is_none_or(|only| only == stage)
}

impl isa::Kernel for Scoring<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { engine, plan, features, scores, only } = self;
        let mut work = std::mem::take(&mut scores.work);
        if scores.n_rows() <= plan.most_one_by_one {
            engine.score_rows(features, &mut work, scores);
        } else if plan.finds_repeats {
            engine.score_distinct(plan, features, &mut work, scores, only);
        } else {
            engine.score_tiles(plan, features, &mut work, scores, 0, only);
        }
        scores.work = work;
    }
}

/// The columns of the rows of a tile, and the answers to what its trees ask first.
#[derive(Debug, Clone, Default)]
struct Tile {
    /// Numeric columns of [`crown::ROWS`] rows, one after the other.
    columns: Vec<u8>,
    /// All columns, row after row.
    cells: Vec<u8>,
    answers: crown::Answers,
}

/// From a column to the next in a [`Tile`]: no power of two.
const STRIDE: usize = crown::ROWS + 64;

impl Ranked {
    fn of(forest: &Forest) -> Option<Self> {
        let ranks = Ranks::of(forest)?;
        let walk = Walk::of(forest, &ranks)?;
        let crown = Crown::of(&walk, forest.n_trees());
        let tile_rows = if walk.n_bytes() <= SMALL_FOREST {
            crown::ROWS
        } else {
            (MOST_CELLS / ranks.width()).clamp(crown::ROWS, MOST_TILE_ROWS) / crown::ROWS * crown::ROWS
        };
        let crown_is_all = (0..forest.n_trees()).all(|tree| crown.levels(tree) == walk.depth(tree));
        Some(Self { ranks, walk, crown, crown_is_all, tile_rows })
    }

    /// Finds the leaf of each row in every tree.
    #[inline(always)]
    fn find(
        &self,
        plan: Plan,
        all_rows: &[f64],
        n_features: usize,
        tile: &mut Tile,
        leaves: &mut Leaves,
        only: Option<Stage>,
    ) {
        let (n_rows, n_trees, width) = (all_rows.len() / n_features, leaves.n_trees(), self.ranks.width());
        let padded_rows = n_rows.next_multiple_of(ranks::RANKED_ROWS);
        tile.columns.resize(self.ranks.n_numeric() * STRIDE, 0);
        tile.cells.resize(padded_rows * width, 0);
        let mut n_crowned = 0;
        for (block, rows) in all_rows.chunks(crown::ROWS * n_features).enumerate() {
            let start = block * crown::ROWS;
            let is_crowned = rows.len() / n_features >= plan.fewest_crowned;
            let ranked_rows = if is_due(Stage::Ranks, only) { rows } else { &[] };
            for (i, rows) in ranked_rows.chunks(ranks::RANKED_ROWS * n_features).enumerate() {
                let next = start + (i + 1) * ranks::RANKED_ROWS;
                self.ranks.prefetch(all_rows.get(next * n_features..).unwrap_or_default());
                let from = (i * ranks::RANKED_ROWS).min(tile.columns.len());
                let columns = &mut tile.columns[from..];
                self.ranks.fill_columns(rows, STRIDE, columns, plan.isa);
                if !is_crowned || !self.crown_is_all {
                    let cells = &mut tile.cells[(start + i * ranks::RANKED_ROWS) * width..];
                    self.ranks.fill_rows(rows, STRIDE, columns, cells);
                }
            }
            if is_crowned {
                n_crowned += rows.len() / n_features;
            }
            if is_crowned && is_due(Stage::Crown, only) {
                self.crown.ask(&self.ranks, rows, n_features, &tile.columns, STRIDE, &mut tile.answers);
                let n_rows = (rows.len() / n_features).next_multiple_of(crown::STEP);
                for tree in 0..n_trees {
                    self.crown.come_out(tree, &tile.answers, &mut leaves.ends_of_tree(tree)[start..][..n_rows]);
                }
            }
        }
        leaves.n_by_end = if self.crown_is_all { n_crowned } else { 0 };
        if leaves.n_by_end == n_rows || !is_due(Stage::Walk, only) {
            return;
        }
        for tree in 0..n_trees {
            let (depth, levels) = (self.walk.depth(tree), self.crown.levels(tree));
            let (own, ends) = leaves.of_tree(tree);
            let own = &mut own[..n_rows.next_multiple_of(walk::LANES)];
            let (crowned, others) = own.split_at_mut(n_crowned.next_multiple_of(walk::LANES));
            if !self.crown_is_all {
                let starts = self.crown.ends(tree);
                for (at, end) in crowned.iter_mut().zip(ends) {
                    *at = starts[usize::from(*end) % crown::ENDS];
                }
                if levels < depth {
                    self.walk.rows(tree, &tile.cells, crowned, depth - levels);
                }
            }
            others.fill(0);
            let cells = tile.cells.get(crowned.len() * width..).unwrap_or_default();
            self.walk.rows(tree, cells, others, depth);
        }
    }
}

impl Leaves {
    fn resize(&mut self, n_trees: usize, tile_rows: usize) {
        self.stride = tile_rows + 16;
        self.vectors.resize(n_trees * self.stride, 0);
        self.ends.resize(n_trees * self.stride, 0);
        self.n_by_end = 0;
    }

    fn n_trees(&self) -> usize {
        self.vectors.len() / self.stride
    }

    fn of_tree(&mut self, tree: usize) -> (&mut [u32], &[u8]) {
        let own = tree * self.stride..(tree + 1) * self.stride;
        (&mut self.vectors[own.clone()], &self.ends[own])
    }

    fn ends_of_tree(&mut self, tree: usize) -> &mut [u8] {
        &mut self.ends[tree * self.stride..][..self.stride]
    }

    /// Of `R` rows from `row` on, tree by tree.
    #[inline(always)]
    fn ends_of_rows<const R: usize>(&self, row: usize) -> impl Iterator<Item = [u8; R]> + Clone {
        self.ends.chunks_exact(self.stride).map(move |own| std::array::from_fn(|i| own[row + i]))
    }

    /// Of `R` rows from `row` on, tree by tree.
    #[inline(always)]
    fn of_rows<const R: usize>(&self, row: usize) -> impl Iterator<Item = [u32; R]> + Clone {
        self.vectors.chunks_exact(self.stride).map(move |own| std::array::from_fn(|i| own[row + i]))
    }
}
