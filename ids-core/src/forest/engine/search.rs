//! Ranks by a search in registers: what a level of the search compares with is looked up for eight rows by one permutation.
//!
//! The thresholds of a feature lie as a complete search tree in the order of a heap: node `h` is followed by `2h`, where a value is at
//! most the threshold, or `2h + 1`. The low bits of `h` say which lane of its level a node is.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::ranks::RANKED_ROWS;

/// The thresholds of a feature, up to 255.
#[derive(Debug, Clone)]
pub(super) struct Heap {
    /// Node 1 is the root; the first level that has more than eight nodes starts at a multiple of eight.
    nodes: Vec<f64>,
    n_levels: u32,
    n_thresholds: u64,
}

impl Heap {
    /// Of distinct thresholds, ascending.
    pub(super) fn of(thresholds: &[f64]) -> Self {
        // Values that are at most nothing come to a rank beyond the last one, and are brought back to it.
        let n_levels = usize::BITS - thresholds.len().leading_zeros();
        let mut nodes = vec![f64::INFINITY; (1 << n_levels).max(8)];
        for level in 0..n_levels {
            for i in 0..1 << level {
                let position = ((2 * i + 1) << (n_levels - 1 - level)) - 1;
                nodes[(1 << level) + i] = thresholds.get(position).copied().unwrap_or(f64::INFINITY);
            }
        }
        Self { nodes, n_levels, n_thresholds: thresholds.len() as u64 }
    }

    /// The ranks of values.
    #[target_feature(enable = "avx512f")]
    pub(super) fn ranks(&self, xs: &[f64; RANKED_ROWS]) -> [u8; RANKED_ROWS] {
        match self.n_levels {
            0 | 1 => self.search::<1>(xs),
            2 => self.search::<2>(xs),
            3 => self.search::<3>(xs),
            4 => self.search::<4>(xs),
            5 => self.search::<5>(xs),
            6 => self.search::<6>(xs),
            7 => self.search::<7>(xs),
            _ => self.search::<8>(xs),
        }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn search<const LEVELS: u32>(&self, xs: &[f64; RANKED_ROWS]) -> [u8; RANKED_ROWS] {
        debug_assert!(LEVELS == self.n_levels && self.nodes.len() == (1 << LEVELS).max(8));
        let (tables, _) = self.nodes.as_chunks::<8>();
        let table = |i: usize| load(&tables[i.min(tables.len() - 1)]);
        let level_3 = table(1);
        let level_4 = [table(2), table(3)];
        let level_5 = [table(4), table(5), table(6), table(7)];
        let level_0_to_2 = table(0);
        let one = _mm512_set1_epi64(1);
        let (start, most) = (_mm512_set1_epi64(1 << LEVELS), _mm512_set1_epi64(self.n_thresholds as i64));
        let mut ranks = [0; RANKED_ROWS];
        for (xs, ranks) in xs.as_chunks::<8>().0.iter().zip(ranks.as_chunks_mut::<8>().0) {
            let xs = load(xs);
            let mut node = one;
            for level in 0..LEVELS {
                let thresholds = match level {
                    0..=2 => _mm512_permutexvar_pd(node, level_0_to_2),
                    3 => _mm512_permutexvar_pd(node, level_3),
                    4 => _mm512_permutex2var_pd(level_4[0], node, level_4[1]),
                    5 => {
                        let is_second_half = _mm512_test_epi64_mask(node, _mm512_set1_epi64(16));
                        let first = _mm512_permutex2var_pd(level_5[0], node, level_5[1]);
                        let second = _mm512_permutex2var_pd(level_5[2], node, level_5[3]);
                        _mm512_mask_blend_pd(is_second_half, first, second)
                    }
                    // SAFETY: a node of this level is below 2^(level + 1), and there are 2^LEVELS.
                    _ => unsafe { _mm512_i64gather_pd::<8>(node, self.nodes.as_ptr()) },
                };
                // Not at most, which NaN is not either.
                let goes_right = _mm512_cmp_pd_mask::<_CMP_NLE_UQ>(xs, thresholds);
                let left = _mm512_add_epi64(node, node);
                node = _mm512_mask_or_epi64(left, goes_right, left, one);
            }
            let found = _mm512_min_epu64(_mm512_sub_epi64(node, start), most);
            *ranks = _mm_cvtsi128_si64(_mm512_cvtepi64_epi8(found)).to_le_bytes();
        }
        ranks
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(eight: &[f64; 8]) -> __m512d {
    // SAFETY: there are eight, and no alignment is asked for.
    unsafe { _mm512_loadu_pd(eight.as_ptr()) }
}
