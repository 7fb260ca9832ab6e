//! What a detector counts while it runs; read by anyone at any time.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::outbox::lock;

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counts of one detector.
#[derive(Debug, Default)]
pub struct DetectorMetrics {
    /// Records consumed.
    pub records: Counter,
    /// Verdicts sent.
    pub verdicts: Counter,
    /// Alerts sent.
    pub alerts: Counter,
    /// Dead letters sent.
    pub dead_letters: Counter,
    /// Batches scored.
    pub batches: Counter,
    /// Commits of offsets that Kafka confirmed.
    pub commits: Counter,
    /// Commits that failed; the next one covers them.
    pub commit_failures: Counter,
    /// Offsets passed over because their records were gone (or were none: transactions leave such gaps).
    pub offset_gaps: Counter,
    /// Rebalances seen.
    pub rebalances: Counter,
    /// Errors of the consumer that librdkafka tries to mend by itself.
    pub consumer_errors: Counter,
    last_consumer_error: Mutex<Option<String>>,
    assigned: AtomicU64,
    verdicts_by_class: Mutex<BTreeMap<String, u64>>,
    dead_letters_by_kind: Mutex<BTreeMap<String, u64>>,
}

impl DetectorMetrics {
    /// Partitions that the detector owns.
    pub fn assigned_partitions(&self) -> u64 {
        self.assigned.load(Ordering::Acquire)
    }

    pub(crate) fn set_assigned_partitions(&self, n: usize) {
        self.assigned.store(n as u64, Ordering::Release);
    }

    pub(crate) fn note_consumer_error(&self, error: &str) {
        self.consumer_errors.add(1);
        *lock(&self.last_consumer_error) = Some(error.to_owned());
    }

    /// The last error of the consumer, if there was one.
    pub fn last_consumer_error(&self) -> Option<String> {
        lock(&self.last_consumer_error).clone()
    }

    /// Verdicts sent, by class.
    pub fn verdicts_by_class(&self) -> BTreeMap<String, u64> {
        lock(&self.verdicts_by_class).clone()
    }

    /// Dead letters sent, by kind of fault.
    pub fn dead_letters_by_kind(&self) -> BTreeMap<String, u64> {
        lock(&self.dead_letters_by_kind).clone()
    }

    /// Adds the counts of a batch, gathered without a lock per record.
    pub(crate) fn add_batch(&self, batch: &BatchCounts<'_>) {
        self.batches.add(1);
        self.alerts.add(batch.alerts);
        self.verdicts.add(batch.verdicts.values().sum());
        self.dead_letters.add(batch.dead_letters.values().sum());
        for (counts, total) in
            [(&batch.verdicts, &self.verdicts_by_class), (&batch.dead_letters, &self.dead_letters_by_kind)]
        {
            let mut total = lock(total);
            for (name, n) in counts {
                match total.get_mut(*name) {
                    Some(count) => *count += n,
                    None => {
                        total.insert((*name).to_owned(), *n);
                    }
                }
            }
        }
    }
}

/// The counts of one batch.
#[derive(Debug, Default)]
pub(crate) struct BatchCounts<'a> {
    pub(crate) verdicts: BTreeMap<&'a str, u64>,
    pub(crate) dead_letters: BTreeMap<&'a str, u64>,
    pub(crate) alerts: u64,
}
