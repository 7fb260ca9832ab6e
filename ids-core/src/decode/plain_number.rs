//! Decimal numbers as nearly all are written, eight digits at a time; what is otherwise is left to the standard library.

/// Powers of ten, which doubles hold exactly up to 1e22.
const POWERS_OF_TEN: [u64; MOST_DIGITS + 1] = {
    let mut powers = [1; MOST_DIGITS + 1];
    let mut i = 1;
    while i <= MOST_DIGITS {
        powers[i] = 10 * powers[i - 1];
        i += 1;
    }
    powers
};

/// Every whole number of so many decimal digits is a double.
const MOST_DIGITS: usize = 15;

/// The number at the start of `bytes` and its length, if it is one of the plain ones that nearly all are: few digits,
/// with or without a point, no exponent, and some bytes behind it.
#[inline]
pub(super) fn plain_number(bytes: &[u8]) -> Option<(f64, usize)> {
    let start = usize::from(bytes.first() == Some(&b'-'));
    let (mut mantissa, n_whole) = digits(bytes.get(start..)?)?;
    if n_whole == 0 || (n_whole > 1 && bytes[start] == b'0') {
        return None;
    }
    let mut end = start + n_whole;
    let mut divisor = 1;
    if bytes[end] == b'.' {
        let (fraction, n_fraction) = digits(&bytes[end + 1..])?;
        if n_fraction == 0 || n_whole + n_fraction > MOST_DIGITS {
            return None;
        }
        divisor = POWERS_OF_TEN[n_fraction];
        mantissa = mantissa * divisor + fraction;
        end += 1 + n_fraction;
    }
    if matches!(bytes[end], b'e' | b'E') {
        return None;
    }
    // Both operands are exact, so the one division rounds correctly (Clinger, PLDI 1990).
    let value = mantissa as i64 as f64 / divisor as i64 as f64;
    Some((if start == 1 { -value } else { value }, end))
}

/// The number that the digits at the start of `bytes` are, and how many they are; `None` for more than
/// [`MOST_DIGITS`], and where hardly a byte follows them.
#[inline]
fn digits(bytes: &[u8]) -> Option<(u64, usize)> {
    let (first, rest) = bytes.split_first_chunk()?;
    let (high, n) = leading_digits(*first);
    if n < 8 {
        return Some((high, n));
    }
    let (low, n) = leading_digits(*rest.first_chunk()?);
    (n < 8).then(|| (high * POWERS_OF_TEN[n] + low, 8 + n))
}

/// The same of eight bytes, all at once: lengths of numbers cannot be foretold, and a branch for each digit would be wrong
/// for most numbers. (Eight digits by three multiplications: Lemire, "Number Parsing at a Gigabyte per Second", 2021.)
#[inline]
fn leading_digits(bytes: [u8; 8]) -> (u64, usize) {
    const ZEROS: u64 = u64::from_ne_bytes([b'0'; 8]);
    const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);
    // The high bit of a byte above 9 after this, as far as the first such byte.
    const ABOVE_NINE: u64 = u64::from_ne_bytes([0x76; 8]);
    let digits = u64::from_le_bytes(bytes) ^ ZEROS;
    let others = (digits.wrapping_add(ABOVE_NINE) | digits) & HIGH_BITS;
    let n = others.trailing_zeros() as usize / 8;
    if n == 0 {
        return (0, 0);
    }
    // Zeros before the digits make them eight.
    let digits = digits << (64 - 8 * n);
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let even = (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(100 + (1_000_000 << 32));
    let odd = (pairs >> 16 & 0x0000_00ff_0000_00ff).wrapping_mul(1 + (10_000 << 32));
    (even.wrapping_add(odd) >> 32, n)
}
