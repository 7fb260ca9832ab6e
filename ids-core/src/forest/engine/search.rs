//! Ranks by a search in registers: what a level of the search compares with is looked up for eight rows by one permutation.
//!
//! The thresholds of a feature lie as a complete search tree in the order of a heap: node `h` is followed by `2h`, where a value is at
//! most the threshold, or `2h + 1`. The low bits of `h` say which lane of its level a node is.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::ranks::RANKED_ROWS;

/// Fewer thresholds are counted in less time.
const FEWEST_LEVELS: u32 = 3;

/// The thresholds of a feature, 4 to 255.
#[derive(Debug, Clone)]
pub(super) struct Heap {
    /// Node 1 is the root, and level `l` starts at `2^l`. `[2^n_levels]`.
    nodes: Vec<f64>,
    n_levels: u32,
    n_thresholds: u64,
}

impl Heap {
    /// Of distinct thresholds, ascending; `None` where they are too few.
    pub(super) fn of(thresholds: &[f64]) -> Option<Self> {
        let n_levels = usize::BITS - thresholds.len().leading_zeros();
        if n_levels < FEWEST_LEVELS {
            return None;
        }
        // A value that is at most nothing comes to a rank beyond the last one, and is brought back to it.
        let mut nodes = vec![f64::INFINITY; 1 << n_levels];
        for level in 0..n_levels {
            for i in 0..1 << level {
                let position = ((2 * i + 1) << (n_levels - 1 - level)) - 1;
                nodes[(1 << level) + i] = thresholds.get(position).copied().unwrap_or(f64::INFINITY);
            }
        }
        Some(Self { nodes, n_levels, n_thresholds: thresholds.len() as u64 })
    }

    /// The ranks of values.
    #[target_feature(enable = "avx512f")]
    pub(super) fn ranks(&self, xs: &[f64; RANKED_ROWS]) -> [u8; RANKED_ROWS] {
        match self.n_levels {
            FEWEST_LEVELS => self.search::<FEWEST_LEVELS>(xs),
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
        assert_eq!(self.nodes.len(), 1 << LEVELS);
        let (tables, _) = self.nodes.as_chunks::<8>();
        // Levels that are not there are not asked for.
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
                    // SAFETY: a node of this level is below 2^(level + 1), and there are 2^LEVELS, as was asserted.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forest::engine::isa::Isa;

    /// Every number of thresholds, all of whose gaps and ends are asked for.
    #[test]
    fn ranks_are_numbers_of_thresholds_that_are_not_at_least() {
        if !Isa::all().into_iter().any(Isa::has_avx512) {
            return eprintln!("SKIPPED: no AVX-512");
        }
        for n in 0..=255_usize {
            for ends in [false, true] {
                let mut thresholds: Vec<_> = (0..n).map(|i| i as f64 - 100.0).collect();
                if let ([first, .., last], true) = (&mut thresholds[..], ends) {
                    (*first, *last) = (f64::NEG_INFINITY, f64::INFINITY);
                }
                let Some(heap) = Heap::of(&thresholds) else {
                    assert!(n < 4);
                    continue;
                };
                let steps = (0..520).map(|i| f64::from(i) / 2.0 - 102.0);
                let xs: Vec<_> =
                    steps.chain([f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MAX]).collect();
                for xs in xs.chunks(RANKED_ROWS) {
                    let padded = std::array::from_fn(|i| xs.get(i).copied().unwrap_or(0.0));
                    // SAFETY: asked for above.
                    let found = unsafe { heap.ranks(&padded) };
                    for (x, found) in padded.into_iter().zip(found) {
                        let expected = n - thresholds.iter().filter(|threshold| x <= **threshold).count();
                        assert_eq!(usize::from(found), expected, "{x} among {n}");
                    }
                }
            }
        }
    }
}
