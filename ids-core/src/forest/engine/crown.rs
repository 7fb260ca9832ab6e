//! The first levels of all trees at once, for hundreds of rows, by bits.
//!
//! Each question that these levels ask is answered for 512 rows: a bit for each, 1 where the row goes right. A level of a
//! tree is then a choice between its nodes' answers by the answers of the levels above, which is an `and` and two `xor`
//! for all rows together:
//!
//! ```text
//!              a                 level 0: a
//!          b       c             level 1: a ? c : b
//!        d   e   f   g           level 2: a ? (level 1 ? g : f) : (level 1 ? e : d)
//! ```
//!
//! The bits of a row, level by level, are the number of the node where it comes out: a leaf, or where the
//! [walk](super::walk) goes on. Below a leaf, all nodes are that leaf.

use super::ranks::{Categorical, Ranks};
use super::walk::{Slot, Walk};

/// Rows whose answers are together.
pub(super) const ROWS: usize = 512;
const WORDS: usize = ROWS / 64;
/// Words of a vector register, as far as they are common.
const REGISTER: usize = 4;

/// Rows that come out at a time.
pub(super) const STEP: usize = 64 * REGISTER;

/// Levels, at most: the node where a row comes out is a byte, and each level doubles the work.
const MOST_LEVELS: usize = 6;
/// Levels that a byte has room for.
const LEVELS_OF_A_BYTE: usize = u8::BITS as usize;
/// Nodes below the last level.
pub(super) const ENDS: usize = 1 << MOST_LEVELS;

type Bits = [u64; WORDS];

/// The first levels of a forest.
#[derive(Debug, Clone)]
pub(super) struct Crown {
    /// What is asked, in the order of the columns.
    questions: Vec<Question>,
    trees: Vec<Tree>,
    /// Questions by node, level by level, of all trees.
    asks: Vec<u32>,
    /// Per tree and end: a slot of the walk, or a value vector where nothing is left to walk. `[n_trees, ENDS]`.
    ends: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    column: usize,
    rank: u8,
}

#[derive(Debug, Clone, Copy)]
struct Tree {
    first_ask: usize,
    levels: usize,
}

/// What is needed for the rows that are scored.
#[derive(Debug, Clone, Default)]
pub(super) struct Answers {
    /// Per question.
    bits: Vec<Bits>,
    codes: Codes,
}

/// Which rows have which code of a categorical feature.
#[derive(Debug, Clone, Default)]
struct Codes {
    /// Rows of each code: none, but while a feature is asked for.
    rows: Vec<Bits>,
    /// Codes that have any, and whether one has. To look at its rows instead would wait for the bit that was set last.
    present: Vec<usize>,
    is_present: Vec<bool>,
}

impl Crown {
    pub(super) fn of(walk: &Walk, n_trees: usize) -> Self {
        // The question at each node, by tree; a node that is or lies below a leaf asks nothing.
        let (mut nodes, mut ends, mut trees) = (Vec::new(), Vec::new(), Vec::new());
        for tree in 0..n_trees {
            let levels = walk.depth(tree).min(MOST_LEVELS);
            trees.push(Tree { first_ask: nodes.len(), levels });
            let mut level = vec![0];
            for _ in 0..levels {
                let mut next = Vec::with_capacity(2 * level.len());
                for slot in level {
                    match walk.slot(tree, slot) {
                        Slot::Split { column, rank, left } => {
                            nodes.push(Some(Question { column, rank }));
                            next.extend([left, left + 1]);
                        }
                        Slot::Leaf(_) => {
                            nodes.push(None);
                            next.extend([slot, slot]);
                        }
                    }
                }
                level = next;
            }
            let is_all = levels == walk.depth(tree);
            ends.extend(level.iter().map(|&slot| match walk.slot(tree, slot) {
                Slot::Leaf(vector) if is_all => vector,
                _ => slot as u32,
            }));
            ends.resize(ends.len().next_multiple_of(ENDS), 0);
        }
        let mut questions: Vec<_> = nodes.iter().flatten().copied().collect();
        questions.sort_unstable();
        questions.dedup();
        // What a node answers that asks nothing does not matter.
        let asks = nodes.iter().map(|node| match node {
            Some(question) => questions.binary_search(question).map_or(0, |position| position as u32),
            None => 0,
        });
        Self { asks: asks.collect(), questions, trees, ends }
    }

    /// Levels of `tree` that are done.
    pub(super) fn levels(&self, tree: usize) -> usize {
        self.trees[tree].levels
    }

    /// Where each end of `tree` leads: to a slot of the walk, or to a value vector where nothing is left to walk.
    pub(super) fn ends(&self, tree: usize) -> &[u32; ENDS] {
        &self.ends.as_chunks().0[tree]
    }

    /// The value vectors of the trees at whose `ends` a row comes out, where nothing is left to walk.
    #[inline(always)]
    pub(super) fn leaves<const R: usize>(
        &self,
        ends: impl Iterator<Item = [u8; R]> + Clone,
    ) -> impl Iterator<Item = [u32; R]> + Clone {
        let all = self.ends.as_chunks::<ENDS>().0;
        all.iter().zip(ends).map(|(all, ends)| ends.map(|end| all[usize::from(end) % ENDS]))
    }

    /// Answers all questions for up to [`ROWS`] rows: their features `rows`, and their numeric columns, row `r` of column
    /// `c` at `ranks[c * stride + r]`.
    #[inline(always)]
    pub(super) fn ask(
        &self,
        ranks: &Ranks,
        rows: &[f64],
        n_features: usize,
        columns: &[u8],
        stride: usize,
        answers: &mut Answers,
    ) {
        answers.bits.resize(self.questions.len(), [0; WORDS]);
        let n_numeric = self.questions.partition_point(|question| question.column < ranks.n_numeric());
        let (numeric, on_sets) = answers.bits.split_at_mut(n_numeric);
        for (question, bits) in self.questions.iter().zip(numeric) {
            let n_rows = (rows.len() / n_features).next_multiple_of(64);
            let (bytes, _) = columns[question.column * stride..][..n_rows].as_chunks::<64>();
            for (word, bytes) in bits.iter_mut().zip(bytes) {
                *word = above(bytes, question.rank);
            }
        }
        let mut questions = &self.questions[n_numeric..];
        let mut rest = on_sets;
        for categorical in ranks.categorical() {
            let end = categorical.first_column() + categorical.n_sets();
            let (own, others) = questions.split_at(questions.partition_point(|question| question.column < end));
            let (bits, other_bits) = rest.split_at_mut(own.len());
            (questions, rest) = (others, other_bits);
            if !own.is_empty() {
                ask_sets(categorical, own, rows, n_features, bits, &mut answers.codes);
            }
        }
    }

    /// At which end of `tree` the rows come out, by the answers to all questions: a byte a row, for a multiple of
    /// [`STEP`] rows.
    #[inline(always)]
    pub(super) fn come_out(&self, tree: usize, answers: &Answers, outs: &mut [u8]) {
        let Tree { first_ask, levels } = self.trees[tree];
        let asks = &self.asks[first_ask..][..(1 << levels) - 1];
        for (part, outs) in outs.as_chunks_mut::<STEP>().0.iter_mut().enumerate() {
            let answer = |ask: u32| answers.bits[ask as usize].as_chunks::<REGISTER>().0[part];
            // The last level first, as the number of an end has it from the lowest bit on.
            let mut taken = [[0; REGISTER]; LEVELS_OF_A_BYTE];
            let place = |level: usize| levels - 1 - level;
            if levels > 0 {
                taken[place(0)] = answer(asks[0]);
            }
            for level in 1..levels {
                let mut choice = [[0; REGISTER]; ENDS / 4];
                let nodes = &asks[(1 << level) - 1..][..1 << level];
                for (choice, pair) in choice.iter_mut().zip(nodes.as_chunks::<2>().0) {
                    *choice = choose(taken[place(level - 1)], answer(pair[0]), answer(pair[1]));
                }
                for higher in (0..level - 1).rev() {
                    for i in 0..1 << higher {
                        choice[i] = choose(taken[place(higher)], choice[2 * i], choice[2 * i + 1]);
                    }
                }
                taken[place(level)] = choice[0];
            }
            *outs = numbers(taken);
        }
    }
}

/// The number of each row, from its bits: bit `r % 64` of word `r / 64` of `bits[i]` is bit `i` of the number of row `r`.
#[inline(always)]
fn numbers(mut bits: [[u64; REGISTER]; LEVELS_OF_A_BYTE]) -> [u8; STEP] {
    // A matrix of 8 by 8 bytes is transposed, and then eight of 8 by 8 bits, by halves, quarters and eighths (Warren,
    // Hacker's Delight, 7-3), in every word of a register at once.
    let bytes = [(4, 32, 0x0000_0000_ffff_ffff), (2, 16, 0x0000_ffff_0000_ffff), (1, 8, 0x00ff_00ff_00ff_00ff)];
    for (distance, shift, low) in bytes {
        for i in (0..8).filter(|i| i & distance == 0) {
            let (one, other) = (bits[i], bits[i + distance]);
            bits[i] = std::array::from_fn(|word| one[word] & low | (other[word] & low) << shift);
            bits[i + distance] = std::array::from_fn(|word| one[word] >> shift & low | other[word] & !low);
        }
    }
    let mut numbers = [0; STEP];
    for (i, mut eights) in bits.into_iter().enumerate() {
        for (shift, mask) in [(7, 0x00aa_00aa_00aa_00aa), (14, 0x0000_cccc_0000_cccc), (28, 0x0000_0000_f0f0_f0f0)] {
            eights = eights.map(|eight| {
                let swapped = (eight ^ eight >> shift) & mask;
                eight ^ swapped ^ swapped << shift
            });
        }
        for (word, eight) in eights.into_iter().enumerate() {
            numbers.as_chunks_mut::<8>().0[8 * word + i] = eight.to_le_bytes();
        }
    }
    numbers
}

/// Answers questions on category sets: for each set, the rows of all codes that go right.
#[inline(always)]
fn ask_sets(
    categorical: &Categorical,
    questions: &[Question],
    rows: &[f64],
    n_features: usize,
    bits: &mut [Bits],
    codes: &mut Codes,
) {
    let n_codes = codes.rows.len().max(categorical.n_codes());
    codes.rows.resize(n_codes, [0; WORDS]);
    codes.is_present.resize(n_codes, false);
    for (r, row) in rows.chunks_exact(n_features).enumerate() {
        let code = categorical.code_of(row);
        if !std::mem::replace(&mut codes.is_present[code], true) {
            codes.present.push(code);
        }
        codes.rows[code][r / 64] |= 1 << (r % 64);
    }
    bits.fill([0; WORDS]);
    for code in codes.present.drain(..) {
        let answers = categorical.answers_to(code);
        for (question, bits) in questions.iter().zip(bits.iter_mut()) {
            let goes_right = 0_u64.wrapping_sub(u64::from(answers[question.column - categorical.first_column()]));
            for (word, rows) in bits.iter_mut().zip(&codes.rows[code]) {
                *word |= rows & goes_right;
            }
        }
        codes.rows[code] = [0; WORDS];
        codes.is_present[code] = false;
    }
}

/// Bit by bit `one` where `which` is 1, else `zero`.
#[inline(always)]
fn choose(which: [u64; REGISTER], zero: [u64; REGISTER], one: [u64; REGISTER]) -> [u64; REGISTER] {
    std::array::from_fn(|i| zero[i] ^ (which[i] & (zero[i] ^ one[i])))
}

/// Bit `i` is set where `bytes[i] > rank`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[allow(unsafe_code)]
fn above(bytes: &[u8; 64], rank: u8) -> u64 {
    // No compiler finds `movemask` by itself.
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8, _mm_setzero_si128, _mm_subs_epu8,
    };
    let mut at_most = 0;
    for (i, sixteen) in bytes.as_chunks::<16>().0.iter().enumerate() {
        let [low, high] = [0, 8].map(|start| i64::from_le_bytes(std::array::from_fn(|i| sixteen[start + i])));
        // SAFETY: they are of SSE2, which every x86-64 has.
        let mask = unsafe {
            let excess = _mm_subs_epu8(_mm_set_epi64x(high, low), _mm_set1_epi8(rank as i8));
            _mm_movemask_epi8(_mm_cmpeq_epi8(excess, _mm_setzero_si128()))
        };
        at_most |= u64::from(mask as u32) << (16 * i);
    }
    !at_most
}

/// Bit `i` is set where `bytes[i] > rank`.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn above(bytes: &[u8; 64], rank: u8) -> u64 {
    let (eights, _) = bytes.as_chunks::<8>();
    let mut word = 0;
    for (i, eight) in eights.iter().enumerate() {
        let flags = u64::from_le_bytes(eight.map(|byte| u8::from(byte > rank)));
        // Moves bit 8 * i to bit 56 + i.
        word |= (flags.wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * i);
    }
    word
}
