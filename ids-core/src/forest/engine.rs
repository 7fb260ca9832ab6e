//! The fast scorer: tree by tree over tiles of rows, several rows side by side.
//!
//! Walking all rows of a tile through one tree keeps that tree in the cache; walking several rows
//! at once hides the latency of each one's loads. The votes of a row are added in tree order, class
//! by class, so the sums are those of the [`reference`](super::reference) to the bit.

use super::{CategorySet, Forest, Node, Scores, Test};

/// A forest compiled for speed.
#[derive(Debug, Clone)]
pub struct Engine {
    forest: Forest,
    /// All trees, siblings side by side.
    slots: Vec<Slot>,
    /// Per slot: the vote vector of a leaf.
    leaves: Vec<u32>,
    trees: Vec<CompiledTree>,
    /// Vote vectors, each padded with zeros to `padded_classes`.
    votes: Vec<f64>,
    padded_classes: usize,
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
    /// The threshold; for a split on categories, the position of the set.
    operand: f64,
    left: u32,
    /// The feature, and [`ON_CATEGORIES`] for a split on categories.
    feature: u32,
}

const ON_CATEGORIES: u32 = 1 << 31;

/// Rows walked side by side: enough independent loads in flight to hide their latency, few enough
/// positions to stay in registers.
const LANES: usize = 8;

/// Rows per tile: their features and leaf numbers stay in the second-level cache together with a tree.
const TILE: usize = 256;

impl Engine {
    /// Compiles `forest`.
    pub fn new(forest: &Forest) -> Self {
        let n_classes = forest.n_classes;
        let padded_classes = n_classes.next_multiple_of(4);
        let mut votes = Vec::new();
        for vector in forest.votes.chunks_exact(n_classes) {
            votes.extend_from_slice(vector);
            votes.resize(votes.len().next_multiple_of(padded_classes), 0.0);
        }
        let mut engine = Self {
            forest: forest.clone(),
            slots: Vec::with_capacity(forest.n_nodes()),
            leaves: Vec::with_capacity(forest.n_nodes()),
            trees: Vec::with_capacity(forest.n_trees()),
            votes,
            padded_classes,
        };
        for tree in 0..forest.n_trees() {
            engine.compile(tree);
        }
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
                Node::Leaf { votes } => (Slot { operand: f64::NAN, left: own.wrapping_sub(1), feature: 0 }, votes),
                Node::Split { feature, test, left, right } => {
                    let left_slot = (root + queue.len()) as u32;
                    queue.extend([left, right]);
                    let (operand, kind) = match test {
                        Test::AtMost(threshold) => (threshold, 0),
                        Test::OneOf(set) => (f64::from(set), ON_CATEGORIES),
                    };
                    (Slot { operand, left: left_slot, feature: feature | kind }, 0)
                }
            };
            self.slots.push(slot);
            self.leaves.push(leaf);
            next += 1;
        }
    }

    /// Scores rows of `features`, `[n_rows, n_features]` row-major.
    ///
    /// # Panics
    /// Where the length of `features` is no multiple of `n_features`.
    pub fn score(&self, features: &[f64], scores: &mut Scores) {
        let (n_features, n_classes) = (self.forest.n_features, self.forest.n_classes);
        assert_eq!(features.len() % n_features, 0, "rows of {n_features} features");
        scores.reset(features.len() / n_features, n_classes);
        // Leaves of the tile's rows, `[row, tree]`.
        let mut leaves = vec![0; TILE.min(scores.n_rows()) * self.trees.len()];
        for first in (0..scores.n_rows()).step_by(TILE) {
            let n_rows = TILE.min(scores.n_rows() - first);
            let tile = &features[first * n_features..][..n_rows * n_features];
            self.walk(tile, n_rows, &mut leaves);
            for (row, leaves) in leaves.chunks_exact(self.trees.len()).take(n_rows).enumerate() {
                let at = (first + row) * n_classes;
                let raw = &mut scores.raw[at..][..n_classes];
                match self.padded_classes {
                    4 => self.sum_votes::<4>(leaves, raw),
                    8 => self.sum_votes::<8>(leaves, raw),
                    12 => self.sum_votes::<12>(leaves, raw),
                    16 => self.sum_votes::<16>(leaves, raw),
                    _ => self.sum_votes_of_any_width(leaves, raw),
                }
                let probability = &mut scores.probability[at..][..n_classes];
                scores.prediction[first + row] = self.forest.decide(raw, probability);
            }
        }
    }

    /// Finds the leaf of every row of a tile in every tree.
    fn walk(&self, tile: &[f64], n_rows: usize, leaves: &mut [u32]) {
        let n_features = self.forest.n_features;
        let n_trees = self.trees.len();
        for (t, tree) in self.trees.iter().enumerate() {
            let mut row = 0;
            while row + LANES <= n_rows {
                let rows: [&[f64]; LANES] =
                    std::array::from_fn(|lane| &tile[(row + lane) * n_features..][..n_features]);
                let mut at = [tree.root; LANES];
                for _ in 0..tree.depth {
                    let before = at;
                    for lane in 0..LANES {
                        at[lane] = self.step(at[lane], rows[lane]);
                    }
                    if at == before {
                        break;
                    }
                }
                for lane in 0..LANES {
                    leaves[(row + lane) * n_trees + t] = self.leaves[at[lane] as usize];
                }
                row += LANES;
            }
            for row in row..n_rows {
                let x = &tile[row * n_features..][..n_features];
                let at = (0..tree.depth).fold(tree.root, |at, _| self.step(at, x));
                leaves[row * n_trees + t] = self.leaves[at as usize];
            }
        }
    }

    #[inline(always)]
    fn step(&self, at: u32, x: &[f64]) -> u32 {
        let slot = self.slots[at as usize];
        let goes_left = if slot.feature & ON_CATEGORIES == 0 {
            x[slot.feature as usize] <= slot.operand
        } else {
            let set: &CategorySet = &self.forest.sets[slot.operand as usize];
            set.holds(x[(slot.feature & !ON_CATEGORIES) as usize])
        };
        slot.left.wrapping_add(u32::from(!goes_left))
    }

    /// Adds a row's votes in tree order; `N` classes, so that the sums stay in registers.
    fn sum_votes<const N: usize>(&self, leaves: &[u32], raw: &mut [f64]) {
        let (vectors, _) = self.votes.as_chunks::<N>();
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
            let vector = &self.votes[leaf as usize * self.padded_classes..];
            for (sum, vote) in raw.iter_mut().zip(vector) {
                *sum += vote;
            }
        }
    }
}
