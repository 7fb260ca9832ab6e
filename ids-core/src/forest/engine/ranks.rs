//! Ranks in the place of doubles: a byte says all of a value that a forest asks for.
//!
//! Spark takes the splits of a feature from one table of candidates (`RandomForest.findSplits`), so a forest has fewer
//! than `maxBins` distinct thresholds of a feature, however many its trees are. A value is replaced, once, by its rank
//! among them:
//!
//! ```text
//! rank(x) = how many of t_0 < t_1 < ... are not at least x, that is !(x <= t)
//! ```
//!
//! They are the first ones, so `x <= t_i` where `rank(x) <= i` and only there. NaN, which is at most nothing, has the
//! largest rank and goes right everywhere, as it does in Spark. A category set is a column too, of rank 0 for the values
//! that go left and 1 for the others, so that a split on it is one like every other.

use std::ops::Range;

use super::isa::{self, Isa};
#[cfg(target_arch = "x86_64")]
use super::search::Heap;
use crate::forest::{Forest, Node, Test};

/// Rows that are ranked together, so many that what a feature needs is loaded once for all, and so few that they stay in the
/// first-level cache.
pub(super) const RANKED_ROWS: usize = 64;

/// Up to so many thresholds are counted, and more are searched: but for AVX-512, a step of a search cannot be done for several
/// rows at once.
const MOST_COUNTED: usize = 64;

/// Rows whose counts are under way at a time: so many that what leads from a threshold to the next is done seldom, so few that
/// the counts stay in registers.
const COUNTED_ROWS: usize = 32;

/// Thresholds that are counted together for one row.
const THRESHOLDS_TOGETHER: usize = 8;

/// Widths of a row's columns in bytes, constants so that where a column is needs no multiplication and no check.
pub(super) const FEW: usize = 64;
pub(super) const SOME: usize = 256;
pub(super) const MANY: usize = 2048;

/// Bytes in the tables of all category sets, at most: they should stay in a cache.
const MOST_TABLE: usize = 1 << 20;

/// Which columns a forest asks for, and how they follow from a row's features.
///
/// Columns are those of features with thresholds, then those of category sets, then one that is always 1.
#[derive(Debug, Clone)]
pub(super) struct Ranks {
    n_features: usize,
    /// Of all features, each padded by at least one NaN, which is at least nothing, to a multiple of [`THRESHOLDS_TOGETHER`].
    thresholds: Vec<f64>,
    numeric: Vec<Numeric>,
    categorical: Vec<Categorical>,
    n_columns: usize,
}

/// A feature that is compared with thresholds.
#[derive(Debug, Clone)]
struct Numeric {
    feature: usize,
    /// Its distinct thresholds, ascending.
    thresholds: Range<usize>,
    /// The same, where they are enough to be searched with AVX-512.
    #[cfg(target_arch = "x86_64")]
    heap: Option<Heap>,
}

/// A feature that is looked up in category sets.
#[derive(Debug, Clone)]
pub(super) struct Categorical {
    feature: usize,
    first_column: usize,
    /// The sets' positions, in the order of their columns.
    sets: Vec<u32>,
    n_categories: u32,
    /// `[n_categories + 1, n_sets]`, row-major: 0 where the category goes left and 1 where it goes right. The last row is
    /// that of an unknown value.
    answers: Vec<u8>,
}

impl Ranks {
    /// The columns of `forest`; `None` where a feature has more than 255 thresholds, or one that is NaN, or there are too
    /// many category sets.
    pub(super) fn of(forest: &Forest) -> Option<Self> {
        let (mut thresholds, mut sets) = (vec![Vec::new(); forest.n_features], vec![Vec::new(); forest.n_features]);
        for node in &forest.nodes {
            match *node {
                Node::Split { feature, test: Test::AtMost(threshold), .. } => {
                    thresholds[feature as usize].push(threshold);
                }
                Node::Split { feature, test: Test::OneOf(set), .. } => sets[feature as usize].push(set),
                Node::Leaf { .. } => {}
            }
        }
        let mut ranks = Self {
            n_features: forest.n_features,
            thresholds: Vec::new(),
            numeric: Vec::new(),
            categorical: Vec::new(),
            n_columns: 0,
        };
        for (feature, mut thresholds) in thresholds.into_iter().enumerate().filter(|(_, own)| !own.is_empty()) {
            thresholds.sort_unstable_by(f64::total_cmp);
            // 0.0 and -0.0 are one.
            thresholds.dedup_by(|a, b| a == b);
            if thresholds.len() > usize::from(u8::MAX) || thresholds.iter().any(|threshold| threshold.is_nan()) {
                return None;
            }
            let start = ranks.thresholds.len();
            ranks.numeric.push(Numeric {
                feature,
                thresholds: start..start + thresholds.len(),
                #[cfg(target_arch = "x86_64")]
                heap: Heap::of(&thresholds),
            });
            ranks.thresholds.append(&mut thresholds);
            let padded = (ranks.thresholds.len() + 1).next_multiple_of(THRESHOLDS_TOGETHER);
            ranks.thresholds.resize(padded, f64::NAN);
        }
        ranks.n_columns = ranks.numeric.len();
        let mut n_table = 0;
        for (feature, mut sets) in sets.into_iter().enumerate().filter(|(_, own)| !own.is_empty()) {
            sets.sort_unstable();
            sets.dedup();
            if ranks.n_columns + sets.len() >= MANY {
                return None;
            }
            let categorical = Categorical::new(forest, feature, sets, ranks.n_columns)?;
            ranks.n_columns += categorical.sets.len();
            n_table += categorical.answers.len();
            if n_table > MOST_TABLE {
                return None;
            }
            ranks.categorical.push(categorical);
        }
        ranks.n_columns += 1;
        (ranks.n_columns <= MANY).then_some(ranks)
    }

    /// Bytes from the columns of a row to those of the next.
    pub(super) fn width(&self) -> usize {
        [FEW, SOME, MANY].into_iter().find(|width| self.n_columns <= *width).unwrap_or(MANY)
    }

    /// The column that is always 1.
    pub(super) fn always(&self) -> usize {
        self.n_columns - 1
    }

    /// Features that are compared with thresholds: the first columns.
    pub(super) fn n_numeric(&self) -> usize {
        self.numeric.len()
    }

    /// Features that are looked up in category sets.
    pub(super) fn categorical(&self) -> &[Categorical] {
        &self.categorical
    }

    /// The column that a split asks for, and the rank up to which a row goes left.
    pub(super) fn question(&self, feature: u32, test: Test) -> Option<(usize, u8)> {
        match test {
            Test::AtMost(threshold) => {
                let column = self.numeric.binary_search_by_key(&(feature as usize), |own| own.feature).ok()?;
                let thresholds = &self.thresholds[self.numeric[column].thresholds.clone()];
                // All below it are not at least it.
                let rank = thresholds.partition_point(|own| *own < threshold);
                Some((column, u8::try_from(rank).ok()?))
            }
            Test::OneOf(set) => {
                let position = self.categorical.binary_search_by_key(&(feature as usize), |own| own.feature).ok()?;
                let own = &self.categorical[position];
                Some((own.first_column + own.sets.binary_search(&set).ok()?, 0))
            }
        }
    }

    /// The columns of one row, `[width]`, from its features, `[n_features]`.
    #[inline(always)]
    pub(super) fn fill_row(&self, row: &[f64], cells: &mut [u8]) {
        for (numeric, cell) in self.numeric.iter().zip(cells.iter_mut()) {
            *cell = self.rank(numeric, row[numeric.feature]);
        }
        for categorical in &self.categorical {
            let answers = categorical.answers_to(categorical.code(row[categorical.feature]));
            cells[categorical.first_column..][..answers.len()].copy_from_slice(answers);
        }
        cells[self.n_columns - 1] = 1;
    }

    /// How many of a feature's thresholds are not at least `x`.
    #[inline(always)]
    #[allow(clippy::neg_cmp_op_on_partial_ord)] // NaN is at most nothing
    fn rank(&self, numeric: &Numeric, x: f64) -> u8 {
        let Range { start, end } = numeric.thresholds;
        let n_thresholds = end - start;
        if n_thresholds > MOST_COUNTED {
            return self.thresholds[start..end].partition_point(|threshold| !(x <= *threshold)) as u8;
        }
        let mut counts = [0_u64; THRESHOLDS_TOGETHER];
        for eight in self.thresholds[start..]
            .as_chunks::<THRESHOLDS_TOGETHER>()
            .0
            .iter()
            .take(n_thresholds.div_ceil(THRESHOLDS_TOGETHER))
        {
            for (count, threshold) in counts.iter_mut().zip(eight) {
                *count += u64::from(x <= *threshold);
            }
        }
        (n_thresholds - counts.iter().sum::<u64>() as usize) as u8
    }

    /// Asks for the rows that are ranked next, the first ones of `rows`, so that they are in the cache by then.
    #[inline(always)]
    pub(super) fn prefetch(&self, rows: &[f64]) {
        // Of wide rows a forest asks for little, and they would drive out what is needed now.
        if self.n_features <= isa::WIDE_ROW {
            isa::prefetch(&rows[..rows.len().min(RANKED_ROWS * self.n_features)]);
        }
    }

    /// The numeric columns of up to [`RANKED_ROWS`] rows: row `r` of column `c` goes to `ranks[c * stride + r]`. Rows beyond
    /// are filled with anything.
    #[inline(always)]
    pub(super) fn fill_columns(&self, rows: &[f64], stride: usize, ranks: &mut [u8], isa: Isa) {
        #[cfg(not(target_arch = "x86_64"))]
        let _ = isa;
        let mut xs = [0.0; RANKED_ROWS];
        for (numeric, ranks) in self.numeric.iter().zip(ranks.chunks_mut(stride)) {
            for (x, row) in xs.iter_mut().zip(rows.chunks_exact(self.n_features)) {
                *x = row[numeric.feature];
            }
            let thresholds = &self.thresholds[numeric.thresholds.clone()];
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)]
            if let Some(heap) = numeric.heap.as_ref().filter(|_| isa.has_avx512()) {
                // SAFETY: an `Isa` of AVX-512 comes from `Isa::all`, which has asked the processor.
                let found = unsafe { heap.ranks(&xs) };
                ranks[..RANKED_ROWS].copy_from_slice(&found);
                continue;
            }
            if thresholds.len() > MOST_COUNTED {
                for (cell, x) in ranks.iter_mut().zip(xs) {
                    *cell = self.rank(numeric, x);
                }
                continue;
            }
            let (xs, (ranks, _)) = (xs.as_chunks::<COUNTED_ROWS>().0, ranks.as_chunks_mut::<COUNTED_ROWS>());
            for (xs, ranks) in xs.iter().zip(ranks) {
                // As wide as the doubles, so that one vector instruction does it for several rows.
                let mut counts = [0_u64; COUNTED_ROWS];
                // A loop whose end is found and not counted is not itself turned into one over vectors of thresholds,
                // which takes three times as many instructions.
                let mut rest = self.thresholds[numeric.thresholds.start..].iter();
                while let Some(threshold) = rest.next().filter(|threshold| !threshold.is_nan()) {
                    for (count, x) in counts.iter_mut().zip(xs) {
                        *count += u64::from(x <= threshold);
                    }
                }
                *ranks = counts.map(|count| (thresholds.len() - count as usize) as u8);
            }
        }
    }

    /// The columns of up to [`RANKED_ROWS`] rows, `[n_rows, width]`, from the numeric ones.
    #[inline(always)]
    pub(super) fn fill_rows(&self, rows: &[f64], stride: usize, ranks: &[u8], cells: &mut [u8]) {
        let rows = rows.chunks_exact(self.n_features).zip(cells.chunks_exact_mut(self.width()));
        for (r, (row, cells)) in rows.enumerate() {
            for (ranks, cell) in ranks.chunks(stride).zip(&mut cells[..self.numeric.len()]) {
                *cell = ranks[r];
            }
            for categorical in &self.categorical {
                let answers = categorical.answers_to(categorical.code(row[categorical.feature]));
                cells[categorical.first_column..][..answers.len()].copy_from_slice(answers);
            }
            cells[self.n_columns - 1] = 1;
        }
    }
}

impl Categorical {
    fn new(forest: &Forest, feature: usize, sets: Vec<u32>, first_column: usize) -> Option<Self> {
        let of = |set: &u32| &forest.sets[*set as usize];
        // Beyond the categories of the largest set a value is unknown to all of them.
        let n_categories = sets.iter().map(|set| of(set).n_categories).max().unwrap_or(0);
        if u16::try_from(n_categories).is_err() || sets.len() * (n_categories as usize + 1) > MOST_TABLE {
            return None;
        }
        let values = (0..n_categories).map(f64::from).chain([f64::NAN]);
        let answers = values.flat_map(|x| sets.iter().map(move |set| u8::from(!of(set).holds(x)))).collect();
        Some(Self { feature, first_column, sets, n_categories, answers })
    }

    /// The column of its first set.
    pub(super) fn first_column(&self) -> usize {
        self.first_column
    }

    /// How many sets it has.
    pub(super) fn n_sets(&self) -> usize {
        self.sets.len()
    }

    /// How many codes there are: its categories, and one for all else.
    pub(super) fn n_codes(&self) -> usize {
        self.n_categories as usize + 1
    }

    /// The category that `x` is, or the number of categories.
    #[inline(always)]
    fn code(&self, x: f64) -> usize {
        // `as` saturates and takes NaN to 0, so the comparison decides.
        let category = x as u32;
        let is_known = f64::from(category) == x && category < self.n_categories;
        (if is_known { category } else { self.n_categories }) as usize
    }

    /// The code of a row.
    #[inline(always)]
    pub(super) fn code_of(&self, row: &[f64]) -> usize {
        self.code(row[self.feature])
    }

    /// Where a code goes by each set: 0 left, 1 right.
    #[inline(always)]
    pub(super) fn answers_to(&self, code: usize) -> &[u8] {
        &self.answers[code * self.sets.len()..][..self.sets.len()]
    }
}
