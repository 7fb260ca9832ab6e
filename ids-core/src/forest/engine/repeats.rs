//! Rows that repeat: equal rows have equal scores, and are scored once.
//!
//! Flows repeat: a scan or a flood is one flow many times. Rows are equal where all their features are, to the bit; then
//! every kernel and the [`reference`](crate::forest::reference) give them the same doubles.

use super::isa;

/// Rows among which equal ones are looked for.
pub(super) const WINDOW: usize = 4_096;

/// Places that are looked at for a row. Who chooses rows so that their hashes collide makes rows be scored again, no more.
const MOST_PROBES: usize = 8;

/// So many rows before its turn a row is fetched.
const AHEAD: usize = 16;

/// What comes of the rows of a window. Its buffers are kept from window to window.
#[derive(Debug, Clone, Default)]
pub(super) struct Repeats {
    /// Per row, which of the distinct rows it equals.
    which: Vec<u32>,
    /// Per distinct row, the row where it came first.
    firsts: Vec<u32>,
    /// A hash table of the distinct rows: 32 bits of the hash, and the number of the row from 1; 0 is a free place.
    places: Vec<u64>,
    /// The distinct rows, if they are few enough to be worth their copies.
    features: Vec<f64>,
}

impl Repeats {
    /// Looks for equal rows among `rows`, `[n_rows, n_features]`.
    #[inline(always)]
    pub(super) fn find(&mut self, rows: &[f64], n_features: usize) {
        let Self { which, firsts, places, features } = self;
        let n_rows = rows.len() / n_features;
        let mask = (2 * n_rows).next_power_of_two() - 1;
        for buffer in [&mut *which, firsts] {
            buffer.clear();
        }
        places.clear();
        places.resize(mask + 1, 0);
        features.clear();
        for (r, row) in (0..).zip(rows.chunks_exact(n_features)) {
            let ahead = (r as usize + AHEAD) * n_features;
            if n_features <= isa::WIDE_ROW {
                isa::prefetch(rows.get(ahead..ahead + n_features).unwrap_or_default());
            }
            let hash = hash(row);
            let mut found = None;
            for probe in 0..MOST_PROBES {
                let place = &mut places[(hash as usize).wrapping_add(probe) & mask];
                if *place == 0 {
                    *place = hash >> 32 << 32 | (firsts.len() as u64 + 1);
                    break;
                }
                let number = *place as u32 - 1;
                if *place >> 32 == hash >> 32 && equal(row, row_at(rows, n_features, firsts[number as usize])) {
                    found = Some(number);
                    break;
                }
            }
            which.push(found.unwrap_or(firsts.len() as u32));
            if found.is_none() {
                firsts.push(r);
            }
        }
        // Copying costs too.
        if firsts.len() < n_rows - n_rows / 16 {
            firsts.iter().for_each(|&first| features.extend_from_slice(row_at(rows, n_features, first)));
        }
    }

    /// The distinct rows, in the order in which they came; `None` where hardly a row repeats.
    pub(super) fn distinct(&self) -> Option<&[f64]> {
        (!self.features.is_empty()).then_some(&self.features)
    }

    /// Gives each row what its distinct row has: `values`, `[n_rows, width]`, of which the first ones are those of the
    /// distinct rows.
    #[inline(always)]
    pub(super) fn spread(&self, values: &mut [f64], width: usize) {
        // From the last row on, since no row comes before its distinct one.
        for (r, &distinct) in self.which.iter().enumerate().rev() {
            let start = distinct as usize * width;
            values.copy_within(start..start + width, r * width);
        }
    }
}

#[inline(always)]
fn row_at(rows: &[f64], n_features: usize, r: u32) -> &[f64] {
    &rows[r as usize * n_features..][..n_features]
}

#[inline(always)]
fn equal(one: &[f64], other: &[f64]) -> bool {
    // All of them, since a loop that can end early is not done by vectors.
    one.iter().zip(other).fold(0, |differing, (a, b)| differing | (a.to_bits() ^ b.to_bits())) == 0
}

/// Multiplications whose halves are folded, as wyhash does: numbers differ in their high bits, which must reach the low ones.
#[inline(always)]
pub(super) fn hash(row: &[f64]) -> u64 {
    // Bits of pi (as Blowfish takes them): numbers that nobody chose.
    let mut lanes = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344];
    let (fours, rest) = row.as_chunks::<4>();
    for four in fours {
        let [a, b, c, d] = four.map(f64::to_bits);
        lanes = [folded(lanes[0] ^ a, b ^ 0xa409_3822_299f_31d0), folded(lanes[1] ^ c, d ^ 0x082e_fa98_ec4e_6c89)];
    }
    for x in rest {
        lanes[0] = folded(lanes[0] ^ x.to_bits(), 0x4528_21e6_38d0_1377);
    }
    folded(lanes[0], lanes[1] | 1)
}

#[inline(always)]
fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_rows_are_found_and_get_the_same() {
        let mut repeats = Repeats::default();
        repeats.find(&[1.0, 2.0, 0.0, f64::NAN, 1.0, 2.0, -0.0, f64::NAN, 0.0, f64::NAN], 2);
        assert_eq!((&repeats.which[..], &repeats.firsts[..]), (&[0, 1, 0, 2, 1][..], &[0, 1, 3][..]));
        assert_eq!(repeats.distinct().map(<[f64]>::len), Some(6));
        let mut values = [10.0, 11.0, 20.0, 21.0, 30.0, 31.0, 0.0, 0.0, 0.0, 0.0];
        repeats.spread(&mut values, 2);
        assert_eq!(values, [10.0, 11.0, 20.0, 21.0, 10.0, 11.0, 30.0, 31.0, 20.0, 21.0]);
        repeats.find(&[1.0, 2.0, 3.0], 1);
        assert_eq!(repeats.distinct(), None);
    }

    /// All of a window, with rows that differ in one bit of one feature.
    #[test]
    fn hashes_of_rows_that_hardly_differ_do_not_collide() {
        let mut hashes = std::collections::HashSet::new();
        let row = [0.25_f64; 42];
        for feature in 0..42 {
            for bit in 0..64 {
                let mut other = row;
                other[feature] = f64::from_bits(other[feature].to_bits() ^ 1 << bit);
                hashes.insert(hash(&other) as u32 as usize % (2 * WINDOW));
            }
        }
        // 2,688 balls in 8,192 bins: 2,292 bins are hit in the mean, with a standard deviation of 16.
        assert!(hashes.len() > 2_200, "{}", hashes.len());
    }
}
