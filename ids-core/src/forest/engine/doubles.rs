//! The walk over doubles, for forests that have no ranks: sixteen bytes a node, eight rows or trees side by side.

use super::Leaves;
use crate::forest::{CategorySet, Forest, Node, Test};

/// A forest by its thresholds.
#[derive(Debug, Clone)]
pub(super) struct Doubles {
    n_features: usize,
    /// All trees, siblings side by side.
    slots: Vec<Slot>,
    /// Per slot: the value vector of a leaf.
    vectors: Vec<u32>,
    trees: Vec<Tree>,
    sets: Vec<CategorySet>,
}

#[derive(Debug, Clone, Copy)]
struct Tree {
    root: u32,
    depth: usize,
}

/// A row goes from here to `left`, or to `left + 1` where the test fails.
///
/// A leaf leads to itself: no value is `<= NaN`, so it goes to `left + 1`, its own position.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// The threshold, or the position of the category set.
    operand: f64,
    left: u32,
    /// The feature, and [`ON_CATEGORIES`] for a split on a category set.
    feature: u32,
}

const ON_CATEGORIES: u32 = 1 << 31;

/// Rows or trees walked side by side.
pub(super) const LANES: usize = 8;

/// Rows of a tile: so many that it pays to fetch each tree again for every tile, so few that they stay in a cache.
pub(super) const TILE_ROWS: usize = 256;

impl Doubles {
    pub(super) fn of(forest: &Forest) -> Self {
        let mut doubles = Self {
            n_features: forest.n_features,
            slots: Vec::with_capacity(forest.n_nodes()),
            vectors: Vec::with_capacity(forest.n_nodes()),
            trees: Vec::with_capacity(forest.n_trees()),
            sets: forest.sets.clone(),
        };
        for tree in 0..forest.n_trees() {
            doubles.push(forest, tree);
        }
        doubles
    }

    /// Lays a tree out level by level, so that the first levels share few cache lines.
    fn push(&mut self, forest: &Forest, tree: usize) {
        let root = self.slots.len();
        self.trees.push(Tree { root: root as u32, depth: forest.depth_of(tree) });
        // The nodes of the forest in the order of their slots.
        let mut queue = vec![forest.roots[tree]];
        let mut next = 0;
        while let Some(&position) = queue.get(next) {
            let own = (root + next) as u32;
            let (slot, vector) = match forest.nodes[position as usize] {
                Node::Leaf { values } => (Slot { operand: f64::NAN, left: own.wrapping_sub(1), feature: 0 }, values),
                Node::Split { feature, test, left, right } => {
                    let left_slot = (root + queue.len()) as u32;
                    queue.extend([left, right]);
                    let (operand, feature) = match test {
                        Test::AtMost(threshold) => (threshold, feature),
                        Test::OneOf(set) => (f64::from(set), feature | ON_CATEGORIES),
                    };
                    (Slot { operand, left: left_slot, feature }, 0)
                }
            };
            self.slots.push(slot);
            self.vectors.push(vector);
            next += 1;
        }
    }

    /// Finds the leaf of each row of a tile in every tree.
    #[inline(always)]
    pub(super) fn find(&self, rows: &[f64], leaves: &mut Leaves) {
        for (t, tree) in self.trees.iter().enumerate() {
            let leaves = leaves.of_tree(t).0.chunks_mut(LANES);
            for (rows, leaves) in rows.chunks(LANES * self.n_features).zip(leaves) {
                // Lanes without a row walk the last again.
                let last = rows.len() - self.n_features;
                let rows: [_; LANES] = std::array::from_fn(|lane| &rows[(lane * self.n_features).min(last)..]);
                let mut at = [tree.root; LANES];
                for _ in 0..tree.depth {
                    let before = at;
                    for (at, row) in at.iter_mut().zip(rows) {
                        *at = self.step(*at, row);
                    }
                    if at == before {
                        break;
                    }
                }
                for (leaf, at) in leaves.iter_mut().zip(at) {
                    *leaf = self.vectors[at as usize];
                }
            }
        }
    }

    /// Finds the leaf of one row in every tree, several trees side by side.
    #[inline(always)]
    pub(super) fn row(&self, row: &[f64], leaves: &mut [u32]) {
        for (trees, leaves) in self.trees.chunks(LANES).zip(leaves.chunks_mut(LANES)) {
            // A lane without a tree walks the first again.
            let mut at = [trees[0].root; LANES];
            for (at, tree) in at.iter_mut().zip(trees) {
                *at = tree.root;
            }
            for _ in 0..trees.iter().map(|tree| tree.depth).max().unwrap_or(0) {
                for at in &mut at {
                    *at = self.step(*at, row);
                }
            }
            for (leaf, at) in leaves.iter_mut().zip(at) {
                *leaf = self.vectors[at as usize];
            }
        }
    }

    #[inline(always)]
    fn step(&self, at: u32, row: &[f64]) -> u32 {
        let slot = self.slots[at as usize];
        let goes_left = if slot.feature & ON_CATEGORIES != 0 {
            self.sets[slot.operand as usize].holds(row[(slot.feature & !ON_CATEGORIES) as usize])
        } else {
            row[slot.feature as usize] <= slot.operand
        };
        slot.left.wrapping_add(u32::from(!goes_left))
    }
}
