//! The fast scorer: tree by tree over tiles of rows, several rows side by side.
//!
//! Walking all rows of a tile through one tree keeps that tree in the cache; walking several rows
//! at once hides the latency of each one's loads; and nothing branches on the data but the end of a
//! tree. The votes of a row are added in tree order, class by class, so the sums are those of the
//! [`reference`](super::reference) to the bit.

use super::{CategorySet, Forest, Node, Scores, Task, Test};

/// A forest compiled for speed.
#[derive(Debug, Clone)]
pub struct Engine {
    forest: Forest,
    /// All trees, siblings side by side.
    slots: Vec<Slot>,
    /// Per slot: the value vector of a leaf.
    leaves: Vec<u32>,
    trees: Vec<CompiledTree>,
    /// Features whose category sets became columns.
    answers: Vec<Answers>,
    /// Columns of a row: its features, then the answers.
    n_columns: usize,
    /// Whether some split is on a category set that is no column.
    has_sets: bool,
    tile_rows: usize,
    /// Value vectors, each padded with zeros to `padded_width`.
    values: Vec<f64>,
    padded_width: usize,
}

#[derive(Debug, Clone, Copy)]
struct CompiledTree {
    root: u32,
    depth: usize,
}

/// A node in 16 bytes. A row goes from here to `left`, or to `left + 1` where the test fails.
///
/// A leaf leads to itself: no value is `<= NaN`, so it goes to `left + 1`, its own position.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// The threshold; for a split on a category set that is no column, the position of the set.
    operand: f64,
    left: u32,
    /// The column, and [`ON_CATEGORIES`] for a split on a category set that is no column.
    column: u32,
}

const ON_CATEGORIES: u32 = 1 << 31;

/// What each value of a feature answers to all category sets on that feature: 0.0 where it goes left
/// and 1.0 where it goes right. A split on a set is then one on a column, like every other.
#[derive(Debug, Clone)]
struct Answers {
    feature: usize,
    /// Position of the first answer among a row's columns.
    first_column: usize,
    /// The sets' positions, in the order of their columns.
    sets: Vec<u32>,
    n_categories: u32,
    /// `[n_categories + 1, n_sets]`, row-major; the last row is that of an unknown value.
    table: Vec<f64>,
}

/// Doubles in the tables of all answers, at most: they should stay in a cache.
const MOST_TABLE: usize = 1 << 18;

/// Where one way of walking gives way to another.
#[derive(Debug, Clone, Copy)]
#[doc(hidden)] // public for the tests that compare all ways
pub struct Limits {
    /// Category sets that may become columns: beyond that, filling them in costs more than asking.
    pub answers: usize,
    /// Nodes that fit the second-level cache, at 16 bytes each.
    pub small_forest: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { answers: 256, small_forest: 32_768 }
    }
}

/// Rows walked side by side: enough independent loads in flight to hide their latency, few enough
/// positions to stay in registers.
const LANES: usize = 8;

/// So few rows are walked one by one, several trees side by side.
const FEW_ROWS: usize = 4;

/// Rows per tile of a forest that fits the second-level cache: so few that they stay in the first.
const SMALL_TILE: usize = 64;
/// Rows per tile of a larger forest: so many that it pays to fetch each tree again for every tile.
const LARGE_TILE: usize = 512;

impl Answers {
    /// Columns for the category sets of `forest`, from `first_column` on; none where they are too many.
    fn compile(forest: &Forest, mut first_column: usize, limits: Limits) -> Vec<Self> {
        let mut pairs: Vec<_> = forest
            .nodes
            .iter()
            .filter_map(|node| match *node {
                Node::Split { feature, test: Test::OneOf(set), .. } => Some((feature as usize, set)),
                _ => None,
            })
            .collect();
        pairs.sort_unstable();
        pairs.dedup();
        let most_categories = pairs.iter().map(|&(_, set)| forest.sets[set as usize].n_categories).max().unwrap_or(0);
        if pairs.len() > limits.answers || pairs.len() * (most_categories as usize + 1) > MOST_TABLE {
            return Vec::new();
        }
        let answers = pairs.chunk_by(|(a, _), (b, _)| a == b).map(|pairs| {
            let sets: Vec<u32> = pairs.iter().map(|&(_, set)| set).collect();
            let of = |set: &u32| &forest.sets[*set as usize];
            // Beyond the categories of the largest set a value is unknown to all of them.
            let n_categories = sets.iter().map(|set| of(set).n_categories).max().unwrap_or(0);
            let values = (0..n_categories).map(f64::from).chain([f64::NAN]);
            let table =
                values.flat_map(|x| sets.iter().map(move |set| f64::from(u8::from(!of(set).holds(x))))).collect();
            let own_column = first_column;
            first_column += sets.len();
            Self { feature: pairs[0].0, first_column: own_column, sets, n_categories, table }
        });
        answers.collect()
    }

    /// The answers of the value `x`.
    fn of(&self, x: f64) -> &[f64] {
        let category = x as u32;
        let is_known = f64::from(category) == x && category < self.n_categories;
        let row = if is_known { category } else { self.n_categories };
        &self.table[row as usize * self.sets.len()..][..self.sets.len()]
    }
}

impl Engine {
    /// Compiles `forest`.
    pub fn new(forest: &Forest) -> Self {
        Self::with_limits(forest, Limits::default())
    }

    #[doc(hidden)]
    pub fn with_limits(forest: &Forest, limits: Limits) -> Self {
        let width = forest.task.leaf_width();
        // Votes are summed four at a time.
        let padded_width = if width == 1 { 1 } else { width.next_multiple_of(4) };
        let mut values = Vec::new();
        for vector in forest.values.chunks_exact(width) {
            values.extend_from_slice(vector);
            values.resize(values.len().next_multiple_of(padded_width), 0.0);
        }
        let answers = Answers::compile(forest, forest.n_features, limits);
        let mut engine = Self {
            forest: forest.clone(),
            slots: Vec::with_capacity(forest.n_nodes()),
            leaves: Vec::with_capacity(forest.n_nodes()),
            trees: Vec::with_capacity(forest.n_trees()),
            n_columns: forest.n_features + answers.iter().map(|answers| answers.sets.len()).sum::<usize>(),
            answers,
            has_sets: false,
            tile_rows: if forest.n_nodes() <= limits.small_forest { SMALL_TILE } else { LARGE_TILE },
            values,
            padded_width,
        };
        for tree in 0..forest.n_trees() {
            engine.compile(tree);
        }
        engine.has_sets = engine.slots.iter().any(|slot| slot.column & ON_CATEGORIES != 0);
        engine
    }

    /// The forest that was compiled.
    pub fn forest(&self) -> &Forest {
        &self.forest
    }

    /// Lays a tree out level by level, so that the first levels share few cache lines.
    fn compile(&mut self, tree: usize) {
        let root = self.slots.len();
        self.trees.push(CompiledTree { root: root as u32, depth: self.forest.depth_of(tree) });
        // The nodes of the forest in the order of their slots.
        let mut queue = vec![self.forest.roots[tree]];
        let mut next = 0;
        while let Some(&position) = queue.get(next) {
            let own = (root + next) as u32;
            let (slot, leaf) = match self.forest.nodes[position as usize] {
                Node::Leaf { values } => (Slot { operand: f64::NAN, left: own.wrapping_sub(1), column: 0 }, values),
                Node::Split { feature, test, left, right } => {
                    let left_slot = (root + queue.len()) as u32;
                    queue.extend([left, right]);
                    let (operand, column) = match test {
                        Test::AtMost(threshold) => (threshold, feature),
                        Test::OneOf(set) => match self.column_of(feature, set) {
                            Some(column) => (0.5, column),
                            None => (f64::from(set), feature | ON_CATEGORIES),
                        },
                    };
                    (Slot { operand, left: left_slot, column }, 0)
                }
            };
            self.slots.push(slot);
            self.leaves.push(leaf);
            next += 1;
        }
    }

    /// The column with the answers to a category set, if it became one.
    fn column_of(&self, feature: u32, set: u32) -> Option<u32> {
        let answers = self.answers.iter().find(|answers| answers.feature == feature as usize)?;
        let position = answers.sets.binary_search(&set).ok()?;
        Some((answers.first_column + position) as u32)
    }

    /// Scores rows of `features`, `[n_rows, n_features]` row-major.
    ///
    /// # Panics
    /// Where the length of `features` is no multiple of `n_features`.
    pub fn score(&self, features: &[f64], scores: &mut Scores) {
        let (n_features, n_classes) = (self.forest.n_features, self.forest.n_classes());
        assert_eq!(features.len() % n_features, 0, "rows of {n_features} features");
        scores.reset(features.len() / n_features, n_classes);
        // Lanes that no row needs are not worth a tile.
        let n_rows = features.len() / n_features;
        let tile_rows = if n_rows <= FEW_ROWS { n_rows } else { self.tile_rows };
        // Leaves of the tile's rows, `[row, tree]`, and its columns, `[row, column]`.
        let mut leaves = vec![0; tile_rows * self.trees.len()];
        let mut columns = vec![0.0; tile_rows * self.n_columns];
        let mut numbers = Vec::new();
        for (tile, rows) in features.chunks((tile_rows * n_features).max(1)).enumerate() {
            let n_rows = rows.len() / n_features;
            for (row, columns) in rows.chunks_exact(n_features).zip(columns.chunks_exact_mut(self.n_columns)) {
                columns[..n_features].copy_from_slice(row);
                for answers in &self.answers {
                    let answer = answers.of(row[answers.feature]);
                    columns[answers.first_column..][..answer.len()].copy_from_slice(answer);
                }
            }
            if n_rows <= FEW_ROWS {
                for (row, leaves) in columns.chunks_exact(self.n_columns).zip(leaves.chunks_exact_mut(self.trees.len()))
                {
                    if self.has_sets {
                        self.walk_row::<true>(row, leaves);
                    } else {
                        self.walk_row::<false>(row, leaves);
                    }
                }
            } else if self.has_sets {
                self.walk::<true>(&columns, n_rows, &mut leaves);
            } else {
                self.walk::<false>(&columns, n_rows, &mut leaves);
            }
            for (row, leaves) in leaves.chunks_exact(self.trees.len()).take(n_rows).enumerate() {
                let row = tile * tile_rows + row;
                if let Task::Classification { .. } = self.forest.task {
                    let raw = &mut scores.raw[row * n_classes..][..n_classes];
                    match self.padded_width {
                        4 => self.sum_votes::<4>(leaves, raw),
                        8 => self.sum_votes::<8>(leaves, raw),
                        12 => self.sum_votes::<12>(leaves, raw),
                        16 => self.sum_votes::<16>(leaves, raw),
                        _ => self.sum_votes_of_any_width(leaves, raw),
                    }
                    self.forest.decide(scores, row);
                } else {
                    numbers.clear();
                    numbers.extend(leaves.iter().map(|&leaf| self.values[leaf as usize]));
                    self.forest.combine(&numbers, scores, row);
                }
            }
        }
    }

    /// Finds the leaf of each of the first `n_rows` rows of a tile in every tree. Rows beyond them,
    /// up to a whole number of lanes, are walked too: they hold what an earlier tile left.
    fn walk<const HAS_SETS: bool>(&self, columns: &[f64], n_rows: usize, leaves: &mut [u32]) {
        let n_trees = self.trees.len();
        for (t, tree) in self.trees.iter().enumerate() {
            let blocks = columns.chunks_exact(LANES * self.n_columns).take(n_rows.div_ceil(LANES));
            for (block, leaves) in blocks.zip(leaves.chunks_exact_mut(LANES * n_trees)) {
                let mut at = [tree.root; LANES];
                for _ in 0..tree.depth {
                    let before = at;
                    for lane in 0..LANES {
                        at[lane] = self.step::<HAS_SETS>(at[lane], &block[lane * self.n_columns..]);
                    }
                    if HAS_SETS && at == before {
                        break;
                    }
                }
                for lane in 0..LANES {
                    leaves[lane * n_trees + t] = self.leaves[at[lane] as usize];
                }
            }
        }
    }

    /// Finds the leaf of one row in every tree, several trees side by side.
    fn walk_row<const HAS_SETS: bool>(&self, row: &[f64], leaves: &mut [u32]) {
        for (trees, leaves) in self.trees.chunks(LANES).zip(leaves.chunks_mut(LANES)) {
            // A lane without a tree walks the first again.
            let mut at = [trees[0].root; LANES];
            for (at, tree) in at.iter_mut().zip(trees) {
                *at = tree.root;
            }
            let depth = trees.iter().map(|tree| tree.depth).max().unwrap_or(0);
            for _ in 0..depth {
                for at in &mut at {
                    *at = self.step::<HAS_SETS>(*at, row);
                }
            }
            for (leaf, at) in leaves.iter_mut().zip(at) {
                *leaf = self.leaves[at as usize];
            }
        }
    }

    #[inline(always)]
    fn step<const HAS_SETS: bool>(&self, at: u32, row: &[f64]) -> u32 {
        let slot = self.slots[at as usize];
        let goes_left = if HAS_SETS && slot.column & ON_CATEGORIES != 0 {
            let set: &CategorySet = &self.forest.sets[slot.operand as usize];
            set.holds(row[(slot.column & !ON_CATEGORIES) as usize])
        } else {
            row[slot.column as usize] <= slot.operand
        };
        slot.left.wrapping_add(u32::from(!goes_left))
    }

    /// Adds a row's votes in tree order; `N` classes, so that the sums stay in registers.
    fn sum_votes<const N: usize>(&self, leaves: &[u32], raw: &mut [f64]) {
        let (vectors, _) = self.values.as_chunks::<N>();
        let mut sums = [0.0; N];
        for &leaf in leaves {
            for (sum, vote) in sums.iter_mut().zip(&vectors[leaf as usize]) {
                *sum += vote;
            }
        }
        raw.copy_from_slice(&sums[..raw.len()]);
    }

    fn sum_votes_of_any_width(&self, leaves: &[u32], raw: &mut [f64]) {
        for &leaf in leaves {
            let vector = &self.values[leaf as usize * self.padded_width..];
            for (sum, vote) in raw.iter_mut().zip(vector) {
                *sum += vote;
            }
        }
    }
}
