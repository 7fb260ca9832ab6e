//! One program for all processors: the kernels are compiled several times, and the best form that this processor runs is
//! chosen when a forest is compiled.
//!
//! There is one source, but for the [search](super::search): a function that is always inlined is compiled for the instructions of the function that it is
//! inlined into. All forms do the same arithmetic in the same order, so they give the same bits: Rust contracts nothing into
//! fused operations.

use std::fmt;

/// What is compiled once for each [`Isa`].
pub(super) trait Kernel {
    /// Must be `#[inline(always)]`, and so must what it calls: else it is compiled for the baseline.
    fn run(self);
}

/// The instructions that kernels may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)] // public for the tests that compare all forms
pub struct Isa(Level);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    /// What every processor of the target has.
    Baseline,
    /// x86-64-v3: vectors of four doubles.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// x86-64-v4: vectors of eight doubles.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Level::Baseline => "any processor's instructions",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "AVX-512",
        })
    }
}

impl Isa {
    /// Those that this processor has, the best one last.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self(Level::Baseline)];
        #[cfg(target_arch = "x86_64")]
        {
            let has_avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("popcnt");
            // The compiler takes the first to have the next two.
            let has_avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if has_avx2 {
                all.push(Self(Level::Avx2));
                if has_avx512 {
                    all.push(Self(Level::Avx512));
                }
            }
        }
        all
    }

    /// The best of this processor.
    pub fn best() -> Self {
        Self::all().pop().unwrap_or(Self(Level::Baseline))
    }

    /// Whether kernels may use AVX-512, which the processor has then.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn has_avx512(self) -> bool {
        self.0 == Level::Avx512
    }

    /// Runs `kernel` with these instructions.
    #[allow(unsafe_code)]
    pub(super) fn run(self, kernel: impl Kernel) {
        match self.0 {
            Level::Baseline => kernel.run(),
            // SAFETY: an `Isa` that is not the baseline comes from `all`, which has asked the processor.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { with_avx2(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { with_avx512(kernel) },
        }
    }
}

/// Features of a row, up to which rows are fetched ahead: tens of them stay in a second-level cache.
pub(super) const WIDE_ROW: usize = 128;

/// Asks for `values`, so that they are in the cache when their turn comes.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) fn prefetch(values: &[f64]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks(8) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which reads nothing, and the address is one of `values`.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
fn with_avx2(kernel: impl Kernel) {
    kernel.run();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,avx512f,avx512bw,avx512dq,avx512vl")]
fn with_avx512(kernel: impl Kernel) {
    kernel.run();
}
