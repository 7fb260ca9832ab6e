//! What a detector counts while it runs; read by anyone at any time.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ids_core::Model;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::exposition::Lag;
use crate::outbox::lock;

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The count now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counts of one detector.
#[derive(Debug)]
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
    /// Messages that Kafka refused for good.
    pub delivery_errors: Counter,
    /// Models taken over while running.
    pub model_reloads: Counter,
    /// Models refused while running.
    pub model_refusals: Counter,
    /// Seconds to score a batch.
    pub batch_seconds: Histogram,
    /// Records of a batch.
    pub batch_records: Histogram,
    /// Seconds from a record's timestamp to its verdict's acknowledgement.
    pub end_to_end_seconds: Histogram,
    last_consumer_error: Mutex<Option<String>>,
    assigned: AtomicU64,
    in_flight: AtomicU64,
    done: Mutex<BTreeMap<i32, Done>>,
    lags: Mutex<BTreeMap<i32, Lag>>,
    model: Mutex<Option<ModelInfo>>,
    verdicts_by_class: Mutex<BTreeMap<String, u64>>,
    dead_letters_by_kind: Mutex<BTreeMap<String, u64>>,
    labelled: Mutex<BTreeMap<(String, String), u64>>,
}

/// The model that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// The version that verdicts carry.
    pub version: String,
    /// SHA-256 of what Spark saved.
    pub sha256: String,
    /// Version of the Spark that saved it; `None` where it was trained without Spark.
    pub spark_version: Option<String>,
}

/// How far a partition is done.
#[derive(Debug, Clone, Copy)]
struct Done {
    next: i64,
    /// Timestamp of the last record that is done (of the first that came, where none is), in milliseconds since
    /// 1970-01-01 UTC.
    timestamp_ms: i64,
    /// The offset after the last record that came.
    given: i64,
}

impl Default for DetectorMetrics {
    fn default() -> Self {
        Self {
            records: Counter::default(),
            verdicts: Counter::default(),
            alerts: Counter::default(),
            dead_letters: Counter::default(),
            batches: Counter::default(),
            commits: Counter::default(),
            commit_failures: Counter::default(),
            offset_gaps: Counter::default(),
            rebalances: Counter::default(),
            consumer_errors: Counter::default(),
            delivery_errors: Counter::default(),
            model_reloads: Counter::default(),
            model_refusals: Counter::default(),
            // From 50 microseconds to half a second.
            batch_seconds: Histogram::new(exponential_buckets(5e-5, 2.0, 14)),
            batch_records: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            // From a millisecond to half a minute.
            end_to_end_seconds: Histogram::new(exponential_buckets(1e-3, 2.0, 16)),
            last_consumer_error: Mutex::default(),
            assigned: AtomicU64::default(),
            in_flight: AtomicU64::default(),
            done: Mutex::default(),
            lags: Mutex::default(),
            model: Mutex::default(),
            verdicts_by_class: Mutex::default(),
            dead_letters_by_kind: Mutex::default(),
            labelled: Mutex::default(),
        }
    }
}

impl DetectorMetrics {
    /// Records of which not all that is said is acknowledged.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn set_in_flight(&self, n: usize) {
        self.in_flight.store(n as u64, Ordering::Relaxed);
    }

    /// The model that serves.
    pub fn model(&self) -> Option<ModelInfo> {
        lock(&self.model).clone()
    }

    pub(crate) fn set_model(&self, model: &Model) {
        let provenance = model.provenance();
        *lock(&self.model) = Some(ModelInfo {
            version: model.version().into(),
            sha256: provenance.sha256.clone(),
            spark_version: provenance.spark_version.clone(),
        });
    }

    /// How far each owned partition is behind, by librdkafka's last statistics.
    pub fn lags(&self) -> BTreeMap<i32, Lag> {
        lock(&self.lags).clone()
    }

    /// Notes the first record of `partition` since it was taken up: those before it are done.
    pub(crate) fn note_first(&self, partition: i32, offset: i64, timestamp_ms: i64) {
        lock(&self.done).entry(partition).or_insert(Done { next: offset, timestamp_ms, given: offset + 1 });
    }

    /// Notes the offsets after the last records that came.
    pub(crate) fn note_given(&self, next: &BTreeMap<i32, i64>) {
        let mut done = lock(&self.done);
        for (partition, next) in next {
            if let Some(done) = done.get_mut(partition) {
                done.given = *next;
            }
        }
    }

    /// Notes that the records of `partition` before `next` are done, of which the last has that timestamp.
    pub(crate) fn note_done(&self, partition: i32, next: i64, timestamp_ms: i64) {
        let mut done = lock(&self.done);
        let done = done.entry(partition).or_insert(Done { next, timestamp_ms, given: next });
        (done.next, done.timestamp_ms) = (next, timestamp_ms);
    }

    /// Notes where the partitions that are owned end, `None` where all their records were given, and what is committed: lag
    /// is counted from what is done, else from what is committed.
    pub(crate) fn note_ends(&self, ends: impl IntoIterator<Item = (i32, Option<i64>, i64)>) {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        let done = lock(&self.done);
        let lag = |(partition, end, committed): (i32, Option<i64>, i64)| {
            let done = done.get(&partition);
            let end = end.or(done.map(|done| done.given)).unwrap_or(committed);
            let records = (end - done.map_or(committed.max(0), |done| done.next.max(committed))).max(0);
            let age_ms = done.filter(|_| records > 0).map_or(0, |done| (now_ms - done.timestamp_ms).max(0));
            (partition, Lag { records, behind: Duration::from_millis(age_ms as u64) })
        };
        *lock(&self.lags) = ends.into_iter().map(lag).collect();
    }

    /// Forgets partitions that were taken away.
    pub(crate) fn forget(&self, partitions: &[i32]) {
        let (mut done, mut lags) = (lock(&self.done), lock(&self.lags));
        for partition in partitions {
            done.remove(partition);
            lags.remove(partition);
        }
    }

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

    /// Records that carried their class and were scored, by that class and the predicted one. A class that the model
    /// does not know is [`OTHER_CLASS`].
    pub fn labelled(&self) -> BTreeMap<(String, String), u64> {
        lock(&self.labelled).clone()
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
        if !batch.labelled.is_empty() {
            let mut total = lock(&self.labelled);
            for (&(actual, predicted), n) in &batch.labelled {
                *total.entry((actual.to_owned(), predicted.to_owned())).or_default() += n;
            }
        }
    }
}

/// What a class is counted as that the model does not know: whoever sends records chooses it, and a metric for each would
/// have no end. In brackets, as no data set calls a class.
pub const OTHER_CLASS: &str = "(other)";

/// The counts of one batch.
#[derive(Debug, Default)]
pub(crate) struct BatchCounts<'a> {
    pub(crate) verdicts: BTreeMap<&'a str, u64>,
    pub(crate) dead_letters: BTreeMap<&'a str, u64>,
    /// By actual and predicted class.
    pub(crate) labelled: BTreeMap<(&'a str, &'a str), u64>,
    pub(crate) alerts: u64,
}
