//! What a producer counts while it runs, and how it is; read by anyone at any time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::health::Health;
use crate::metrics::Counter;

/// The counts of one replay.
#[derive(Debug, Default)]
pub struct ReplayMetrics {
    /// Records handed to librdkafka.
    pub records: Counter,
    /// Bytes of their keys and values.
    pub bytes: Counter,
    /// Records that Kafka acknowledged.
    pub acknowledged: Counter,
    /// Records made malformed on purpose.
    pub malformed: Counter,
    /// Seconds that were a burst.
    pub bursts: Counter,
    /// Records that Kafka refused for good.
    pub delivery_errors: Counter,
    /// How long a full queue held the loop up, in microseconds.
    pub blocked_us: Counter,
    behind_us: AtomicU64,
    pub(crate) health: Health,
}

impl ReplayMetrics {
    /// Records on their way: sent, neither acknowledged nor refused.
    pub fn in_flight(&self) -> u64 {
        let settled = self.acknowledged.get() + self.delivery_errors.get();
        self.records.get().saturating_sub(settled)
    }

    /// How late the last record was sent: a producer that cannot keep its rate falls behind.
    pub fn behind(&self) -> Duration {
        Duration::from_micros(self.behind_us.load(Ordering::Relaxed))
    }

    pub(crate) fn set_behind(&self, behind: Duration) {
        self.behind_us.store(behind.as_micros() as u64, Ordering::Relaxed);
    }

    /// # Errors
    /// Where the loop has not come round for a minute: it hangs.
    pub fn is_live(&self) -> Result<(), String> {
        self.health.is_live()
    }

    /// # Errors
    /// Where nothing was acknowledged yet, or it is ending.
    pub fn is_ready(&self) -> Result<(), String> {
        self.is_live()?;
        if self.health.is_ending() {
            return Err("it is ending".into());
        }
        if self.acknowledged.get() == 0 { Err("Kafka has acknowledged nothing yet".into()) } else { Ok(()) }
    }
}
