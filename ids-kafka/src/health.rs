//! Whether a loop still comes round, for `/livez`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A loop that has not come round for so long hangs.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// How a loop is.
#[derive(Debug)]
pub(crate) struct Health {
    origin: Instant,
    /// Milliseconds after the origin at which the loop last came round.
    beat_ms: AtomicU64,
    is_ending: AtomicBool,
}

impl Default for Health {
    fn default() -> Self {
        Self { origin: Instant::now(), beat_ms: AtomicU64::default(), is_ending: AtomicBool::default() }
    }
}

impl Health {
    /// The loop has come round.
    pub(crate) fn beat(&self) {
        self.beat_ms.store(self.origin.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// The loop is over: what is left is to be settled.
    pub(crate) fn end(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Relaxed)
    }

    /// # Errors
    /// Where the loop has not come round for a minute: it hangs.
    pub(crate) fn is_live(&self) -> Result<(), String> {
        let silent = self.origin.elapsed().saturating_sub(Duration::from_millis(self.beat_ms.load(Ordering::Relaxed)));
        if silent < LONGEST_SILENCE {
            Ok(())
        } else {
            Err(format!("the loop stands still since {} s", silent.as_secs()))
        }
    }
}
