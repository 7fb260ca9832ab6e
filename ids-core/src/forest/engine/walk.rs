//! The walk over ranks: from a node to the next by four bytes, for sixteen rows or ten trees side by side.
//!
//! Loads of several walks are in flight at once, which hides the latency of each, and nothing branches on the data. A node
//! of four bytes instead of sixteen is what makes a large forest fit a cache that is faster.

use std::ops::Range;

use super::ranks::{self, Ranks};
use crate::forest::{Forest, Node};

/// Walks side by side: enough loads in flight to hide their latency, few enough positions to stay in registers.
pub(super) const LANES: usize = 16;

/// Trees that one row walks side by side: fewer, since what does not fill them walks for nothing.
const TREES: usize = 10;

/// Bits for the column where few are needed. The rank takes eight more, and the pair of children the rest.
const NARROW: u32 = 8;
/// Bits for the column where there are many category sets.
const WIDE: u32 = 11;

/// A forest by ranks, all trees.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    /// Per node, from the lowest bit on: the column that it asks for, the rank up to which a row goes left, and the pair
    /// of its children, whose left one lies at twice that number in its tree. A leaf leads to itself.
    slots: Vec<u32>,
    /// Per node: the value vector of a leaf.
    vectors: Vec<u32>,
    trees: Vec<Tree>,
    groups: Vec<Group>,
    column_bits: u32,
    /// Bytes of a row's columns.
    width: usize,
}

#[derive(Debug, Clone)]
struct Tree {
    slots: Range<usize>,
    depth: usize,
}

/// Trees that one row walks side by side.
#[derive(Debug, Clone)]
struct Group {
    /// The first slot of each. A lane without a tree walks the first again.
    starts: [u32; TREES],
    /// That of the deepest.
    depth: usize,
}

/// What is at a slot.
pub(super) enum Slot {
    /// Goes left, to slot `left`, where the rank in `column` is at most `rank`, else to the slot after it.
    Split { column: usize, rank: u8, left: usize },
    /// Has that value vector.
    Leaf(u32),
}

impl Walk {
    /// `None` where the forest has too many columns, or a tree too many nodes.
    pub(super) fn of(forest: &Forest, ranks: &Ranks) -> Option<Self> {
        let width = ranks.width();
        let column_bits = if width <= 1 << NARROW { NARROW } else { WIDE };
        let mut walk =
            Self { slots: Vec::new(), vectors: Vec::new(), trees: Vec::new(), groups: Vec::new(), column_bits, width };
        for tree in 0..forest.n_trees() {
            let start = walk.slots.len();
            // The forest's nodes by slot, level by level, so that the first levels share few cache lines. Beside the
            // root there is none.
            let mut nodes = vec![Some(forest.roots[tree]), None];
            let mut slot = 0;
            while let Some(node) = nodes.get(slot) {
                let (column, rank, pair, vector) = match node.map(|node| forest.nodes[node as usize]) {
                    Some(Node::Split { feature, test, left, right }) => {
                        let (column, rank) = ranks.question(feature, test)?;
                        nodes.extend([Some(left), Some(right)]);
                        (column, rank, nodes.len() / 2 - 1, 0)
                    }
                    // A leaf on the left: no rank is above 255. One on the right: 1 is above 0.
                    Some(Node::Leaf { values }) if slot % 2 == 0 => (0, u8::MAX, slot / 2, values),
                    Some(Node::Leaf { values }) => (ranks.always(), 0, slot / 2, values),
                    None => (ranks.always(), 0, slot / 2, 0),
                };
                if pair >= 1 << (24 - column_bits) {
                    return None;
                }
                walk.slots.push(column as u32 | u32::from(rank) << column_bits | (pair as u32) << (column_bits + 8));
                walk.vectors.push(vector);
                slot += 1;
            }
            walk.trees.push(Tree { slots: start..walk.slots.len(), depth: forest.depth_of(tree) });
        }
        for trees in walk.trees.chunks(TREES) {
            let start_of = |lane: usize| trees.get(lane).unwrap_or(&trees[0]).slots.start as u32;
            let depth = trees.iter().map(|tree| tree.depth).max().unwrap_or(0);
            walk.groups.push(Group { starts: std::array::from_fn(start_of), depth });
        }
        Some(walk)
    }

    /// Splits on the longest path of `tree`.
    pub(super) fn depth(&self, tree: usize) -> usize {
        self.trees[tree].depth
    }

    /// What is at `slot` of `tree`.
    pub(super) fn slot(&self, tree: usize, slot: usize) -> Slot {
        let position = self.trees[tree].slots.start + slot;
        let bits = self.slots[position];
        let (column, rank) = (bits & ((1 << self.column_bits) - 1), (bits >> self.column_bits) as u8);
        let left = (bits >> (self.column_bits + 8)) as usize * 2;
        if left == slot & !1 {
            return Slot::Leaf(self.vectors[position]);
        }
        Slot::Split { column: column as usize, rank, left }
    }

    /// Bytes of all nodes.
    pub(super) fn n_bytes(&self) -> usize {
        size_of_val(self.slots.as_slice())
    }

    /// Walks rows of `cells`, `[n_rows, width]`, through `tree`: from the slots in `from`, `depth` levels above the
    /// deepest leaves, to the value vectors of the leaves. A whole number of [`LANES`] of rows.
    #[inline(always)]
    pub(super) fn rows(&self, tree: usize, cells: &[u8], from: &mut [u32], depth: usize) {
        match self.width {
            ranks::FEW => self.rows_of::<NARROW, { ranks::FEW }>(tree, cells, from, depth),
            ranks::SOME => self.rows_of::<NARROW, { ranks::SOME }>(tree, cells, from, depth),
            _ => self.rows_of::<WIDE, { ranks::MANY }>(tree, cells, from, depth),
        }
    }

    #[inline(always)]
    fn rows_of<const BITS: u32, const WIDTH: usize>(&self, tree: usize, cells: &[u8], from: &mut [u32], depth: usize) {
        let tree = &self.trees[tree];
        let (slots, vectors) = (&self.slots[tree.slots.clone()], &self.vectors[tree.slots.clone()]);
        let (rows, _) = cells.as_chunks::<WIDTH>().0.as_chunks::<LANES>();
        for (from, rows) in from.as_chunks_mut::<LANES>().0.iter_mut().zip(rows) {
            let mut at = *from;
            for level in 0..depth {
                let before = at;
                for lane in 0..LANES {
                    at[lane] = step::<BITS, WIDTH>(slots[at[lane] as usize], &rows[lane]);
                }
                // All are at leaves. To ask costs as much as a step or two, so it is asked now and then.
                if level % 4 == 3 && at == before {
                    break;
                }
            }
            for (from, at) in from.iter_mut().zip(at) {
                *from = vectors[at as usize];
            }
        }
    }

    /// Finds the leaf of one row, `[width]`, in every tree, several trees side by side: `[n_trees]` value vectors.
    #[inline(always)]
    pub(super) fn row(&self, cells: &[u8], vectors: &mut [u32]) {
        match self.width {
            ranks::FEW => self.row_of::<NARROW, { ranks::FEW }>(cells, vectors),
            ranks::SOME => self.row_of::<NARROW, { ranks::SOME }>(cells, vectors),
            _ => self.row_of::<WIDE, { ranks::MANY }>(cells, vectors),
        }
    }

    #[inline(always)]
    fn row_of<const BITS: u32, const WIDTH: usize>(&self, cells: &[u8], vectors: &mut [u32]) {
        let [cells] = cells.as_chunks::<WIDTH>().0 else { return };
        for (Group { starts, depth }, vectors) in self.groups.iter().zip(vectors.chunks_mut(TREES)) {
            let mut at = *starts;
            for _ in 0..*depth {
                for lane in 0..TREES {
                    at[lane] = starts[lane] + step::<BITS, WIDTH>(self.slots[at[lane] as usize], cells);
                }
            }
            for (vector, at) in vectors.iter_mut().zip(at) {
                *vector = self.vectors[at as usize];
            }
        }
    }
}

/// The slot after `slot`, for a row of `cells`.
#[inline(always)]
fn step<const BITS: u32, const WIDTH: usize>(slot: u32, cells: &[u8; WIDTH]) -> u32 {
    let rank = cells[slot as usize % (1 << BITS) % WIDTH];
    (slot >> (BITS + 8)) * 2 + u32::from(rank > (slot >> BITS) as u8)
}
