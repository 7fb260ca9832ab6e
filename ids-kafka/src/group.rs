//! A member of the consumer group: where partitions are taken up, how they are handed over, what is committed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::config::{Delivery, DetectorConfig, Resume, Topics, set_defaults};
use crate::error::{Error, Result};
use crate::flight::{Flight, Offsets, Reach, VerdictMessage, Verdicts};
use crate::metrics::DetectorMetrics;
use crate::outbox::{Outbox, Outgoing, Ticket, lock};
use crate::resume::TailReader;
use crate::transaction::{Outcome, Transaction};

/// Longest time to wait for acknowledgements before partitions are handed over.
const REVOKE_WAIT: Duration = Duration::from_secs(5);
const REQUEST_WAIT: Duration = Duration::from_secs(10);

/// Properties of the consumer that the promise of the loop rests on.
const OWNED: [(&str, &str); 2] = [("enable.auto.commit", "false"), ("enable.auto.offset.store", "false")];

const DEFAULTS: [(&str, &str); 11] = [
    // What lag is counted from.
    ("statistics.interval.ms", "2000"),
    ("auto.offset.reset", "earliest"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("session.timeout.ms", "10000"),
    ("heartbeat.interval.ms", "3000"),
    ("fetch.wait.max.ms", "50"),
    // A full local queue otherwise pauses fetching for a whole second.
    ("fetch.queue.backoff.ms", "20"),
    // Both bound the memory of a consumer that has fallen behind, at no cost in rows a second: what waits to be polled,
    // and what a fetch may bring, still compressed, from each broker. With 16 and 4 MiB, three brokers brought it to
    // 135 MiB instead of 92. A batch that is larger comes alone.
    ("queued.max.messages.kbytes", "8192"),
    ("fetch.message.max.bytes", "1048576"),
    ("fetch.max.bytes", "1048576"),
    ("check.crcs", "true"),
];

pub(crate) type GroupConsumer = BaseConsumer<Group>;

/// What the consumer's callbacks and the loop share. Callbacks run inside of `poll`, on the loop's thread.
pub(crate) struct Group {
    topics: Topics,
    outbox: Arc<Outbox>,
    promise: Promise,
    /// Held by whoever commits.
    committing: Mutex<()>,
    /// Partitions that are ours.
    assigned: Mutex<BTreeSet<i32>>,
    /// Where partitions were taken up, until their first record comes.
    starts: Mutex<Offsets>,
    /// Partitions of which what has been consumed and not spoken of is no longer ours to speak of.
    revoked: Mutex<BTreeSet<i32>>,
    metrics: Arc<DetectorMetrics>,
    /// Of a callback, for the loop.
    failure: Mutex<Option<Error>>,
    /// Once something has failed nothing more is sent or committed: what came after it would hide it.
    is_broken: AtomicBool,
}

/// How what is promised of each record is kept.
enum Promise {
    AtLeastOnce {
        flight: Mutex<Flight>,
        /// `None`: partitions are taken up at committed offsets.
        tails: Option<Mutex<TailReader>>,
    },
    ExactlyOnce(Mutex<Transaction>),
}

impl ClientContext for Group {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(reason, %error, "consumer");
    }

    fn stats(&self, statistics: Statistics) {
        let partitions = statistics.topics.get(&self.topics.flows).into_iter().flat_map(|topic| &topic.partitions);
        let owned = partitions.filter(|(_, partition)| partition.fetch_state == "active" && partition.hi_offset >= 0);
        self.metrics.note_ends(owned.map(|(&number, partition)| {
            // What follows the last record that was given then is no record: marks of transactions.
            let is_at_end = partition.next_offset >= partition.hi_offset && partition.fetchq_cnt == 0;
            (number, (!is_at_end).then_some(partition.hi_offset), partition.committed_offset)
        }));
    }
}

impl ConsumerContext for Group {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let is_cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let outcome = match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                // Assigned in any case, or the group waits; a failure ends the loop before a record is spoken of.
                if let Err(error) = self.take_up(consumer, partitions) {
                    self.fail(error);
                }
                lock(&self.assigned).extend(numbers(partitions));
                if is_cooperative { consumer.incremental_assign(partitions) } else { consumer.assign(partitions) }
            }
            _ => {
                self.hand_over(consumer, partitions);
                lock(&self.assigned).retain(|partition| !numbers(partitions).contains(partition));
                if is_cooperative { consumer.incremental_unassign(partitions) } else { consumer.unassign() }
            }
        };
        // From here on nothing may be asked of librdkafka's group: where the consumer is being closed, the group
        // may have ended with the last partition, and then answers nobody.
        if let Err(error) = outcome {
            self.fail(Error::kafka("taking or leaving partitions")(error));
        }
        self.metrics.rebalances.add(1);
        if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            tracing::info!(partitions = ?numbers(partitions), "partitions assigned");
        }
        self.metrics.set_assigned_partitions(lock(&self.assigned).len());
    }
}

impl Group {
    /// Joins the group that `config` names.
    pub(crate) fn consumer(
        config: &DetectorConfig,
        topics: &Topics,
        outbox: &Arc<Outbox>,
        metrics: &Arc<DetectorMetrics>,
    ) -> Result<GroupConsumer> {
        let mut client = config.connection.client(&OWNED)?;
        client.set("group.id", &config.group_id);
        if let Some(id) = &config.group_instance_id {
            client.set("group.instance.id", id);
        }
        set_defaults(&mut client, &DEFAULTS);
        let tails = || TailReader::new(&config.connection, &topics.flows, &topics.verdicts).map(Mutex::new);
        let promise = match config.delivery {
            Delivery::AtLeastOnce => Promise::AtLeastOnce {
                flight: Mutex::default(),
                tails: (config.resume == Resume::Output).then(tails).transpose()?,
            },
            Delivery::ExactlyOnce => Promise::ExactlyOnce(Mutex::new(Transaction::new(outbox))),
        };
        let group = Self {
            topics: topics.clone(),
            outbox: Arc::clone(outbox),
            promise,
            committing: Mutex::default(),
            assigned: Mutex::default(),
            starts: Mutex::default(),
            revoked: Mutex::default(),
            metrics: Arc::clone(metrics),
            failure: Mutex::default(),
            is_broken: AtomicBool::default(),
        };
        client.create_with_context(group).map_err(Error::kafka("creating a consumer"))
    }

    /// Sets the offsets at which `partitions` are taken up: see [`resume`](crate::resume).
    fn take_up(&self, consumer: &GroupConsumer, partitions: &mut TopicPartitionList) -> Result<()> {
        // In transactions the offsets that are committed are the only ones that say what is done.
        let Promise::AtLeastOnce { tails, .. } = &self.promise else { return Ok(()) };
        let numbers = numbers(partitions);
        if numbers.is_empty() {
            return Ok(());
        }
        let committed = consumer.committed_offsets(partitions.clone(), REQUEST_WAIT);
        let committed = committed.map_err(Error::kafka("reading committed offsets"))?;
        let known = committed.elements().into_iter().filter_map(|element| match element.offset() {
            Offset::Offset(offset) => Some((element.partition(), offset)),
            _ => None,
        });
        let mut starts: Offsets = known.collect();
        if let Some(tails) = tails {
            for (partition, next) in lock(tails).next_offsets(&numbers)? {
                let committed = starts.get(&partition).copied();
                let start = committed.map_or(next, |committed| committed.max(next));
                tracing::info!(partition, start, ?committed, "taken up after its last verdict");
                let set = partitions.set_partition_offset(&self.topics.flows, partition, Offset::Offset(start));
                set.map_err(Error::kafka("setting the offset of a partition"))?;
                starts.insert(partition, start);
            }
        }
        lock(&self.starts).extend(starts);
        Ok(())
    }

    /// Where `partition` was taken up, the first time that it is asked for.
    pub(crate) fn take_start(&self, partition: i32) -> Option<i64> {
        lock(&self.starts).remove(&partition)
    }

    /// Hands partitions over cleanly: waits for what is on its way, commits it, lets go. What is not acknowledged in
    /// time is left to the next owner, who starts after the last verdict. Of partitions that were lost, because Kafka
    /// has not heard of this member for too long, nothing more is said.
    fn hand_over(&self, consumer: &GroupConsumer, partitions: &TopicPartitionList) {
        let is_lost = consumer.assignment_lost();
        tracing::info!(partitions = ?numbers(partitions), is_lost, "handing partitions over");
        let outcome = match &self.promise {
            // Others need not wait until the coordinator does it; if it fails, it does.
            Promise::ExactlyOnce(transaction) if self.is_broken() => lock(transaction).abort().map(drop).or(Ok(())),
            Promise::AtLeastOnce { flight, .. } => {
                let outcome =
                    if is_lost { Ok(()) } else { self.settle(consumer, Instant::now() + REVOKE_WAIT).map(drop) };
                lock(flight).revoke(numbers(partitions));
                outcome
            }
            Promise::ExactlyOnce(_) if is_lost => self.abort(consumer),
            Promise::ExactlyOnce(_) => self.end_transaction(consumer),
        };
        if let Err(error) = outcome {
            self.fail(error);
        }
        self.metrics.forget(&numbers(partitions));
        lock(&self.revoked).extend(numbers(partitions));
    }

    /// Has Kafka give nothing of any partition for now (`is_full`), or go on.
    pub(crate) fn pause(&self, consumer: &GroupConsumer, is_full: bool) -> Result<()> {
        let mut assignment = TopicPartitionList::new();
        for &partition in &*lock(&self.assigned) {
            assignment.add_partition(&self.topics.flows, partition);
        }
        let outcome = if is_full { consumer.pause(&assignment) } else { consumer.resume(&assignment) };
        outcome.map_err(Error::kafka("pausing or resuming partitions"))
    }

    /// The partitions taken away, or to be consumed again, since the last call.
    pub(crate) fn take_revoked(&self) -> BTreeSet<i32> {
        std::mem::take(&mut *lock(&self.revoked))
    }

    /// The ticket for what is said of a batch beside its verdicts.
    pub(crate) fn ticket(&self) -> Result<Arc<Ticket>> {
        match &self.promise {
            Promise::AtLeastOnce { .. } => Ok(Ticket::open()),
            Promise::ExactlyOnce(transaction) => lock(transaction).ticket(),
        }
    }

    /// Takes the verdicts of a batch of `n_records` whose other messages were sent with `ticket`.
    pub(crate) fn push(&self, ticket: Arc<Ticket>, verdicts: Verdicts, reach: Reach, n_records: usize) -> Result<()> {
        match &self.promise {
            Promise::AtLeastOnce { flight, .. } => {
                ticket.seal();
                lock(flight).push(ticket, verdicts, reach);
            }
            Promise::ExactlyOnce(transaction) => {
                verdicts.send(|verdict| self.send(verdict, &ticket))?;
                lock(transaction).add(reach, n_records);
            }
        }
        Ok(())
    }

    fn send(&self, verdict: VerdictMessage<'_>, ticket: &Arc<Ticket>) -> Result<()> {
        let outgoing = Outgoing {
            topic: &self.topics.verdicts,
            partition: verdict.partition,
            key: Some(verdict.key),
            value: Some(verdict.value),
            headers: verdict.headers,
        };
        self.outbox.send(outgoing, ticket)
    }

    /// Does what is due: sends verdicts whose time has come, ends a transaction. How many records are on their way.
    ///
    /// # Errors
    /// Where a message has failed for good, or a callback before.
    pub(crate) fn advance(&self, consumer: &GroupConsumer) -> Result<usize> {
        self.check()?;
        self.advance_all(consumer).inspect_err(|_| self.break_off())
    }

    fn advance_all(&self, consumer: &GroupConsumer) -> Result<usize> {
        match &self.promise {
            Promise::AtLeastOnce { flight, .. } => {
                self.outbox.resend()?;
                self.outbox.check()?;
                let mut flight = lock(flight);
                flight.advance(|verdict, ticket| self.send(verdict, ticket), |reach| self.note_done(reach))?;
                Ok(flight.n_records())
            }
            Promise::ExactlyOnce(transaction) => {
                if lock(transaction).is_due() {
                    self.end_transaction(consumer)?;
                }
                Ok(lock(transaction).n_records())
            }
        }
    }

    /// # Errors
    /// Where a callback has failed.
    pub(crate) fn check(&self) -> Result<()> {
        lock(&self.failure).take().map_or(Ok(()), Err)
    }

    /// Has nothing more sent or committed: what is not done is left to the next run.
    pub(crate) fn break_off(&self) {
        self.is_broken.store(true, Ordering::Release);
    }

    fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Acquire)
    }

    /// Waits until everything is acknowledged, or until `deadline`, and commits; how many records are not.
    pub(crate) fn settle(&self, consumer: &GroupConsumer, deadline: Instant) -> Result<usize> {
        if self.is_broken() {
            return self.check().map(|()| 0);
        }
        if matches!(self.promise, Promise::ExactlyOnce(_)) {
            return self.end_transaction(consumer).map(|()| 0);
        }
        loop {
            let n_open = self.advance(consumer)?;
            if n_open == 0 || Instant::now() >= deadline {
                // A failure is counted; the next owner starts after the last verdict.
                self.commit(consumer);
                return Ok(n_open);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Commits what is done, and waits for Kafka to confirm it: what it does not is committed again the next time. (A
    /// transaction commits by itself.)
    pub(crate) fn commit(&self, consumer: &GroupConsumer) {
        let Promise::AtLeastOnce { flight, .. } = &self.promise else { return };
        // One at a time: what is known to be done before partitions are handed over is not committed after.
        let _alone = lock(&self.committing);
        let offsets = lock(flight).to_commit();
        if offsets.is_empty() || self.is_broken() {
            return;
        }
        let mut list = TopicPartitionList::new();
        for (&partition, &next) in &offsets {
            // An offset that was consumed is one that can be set.
            let _ = list.add_partition_offset(&self.topics.flows, partition, Offset::Offset(next));
        }
        match consumer.commit(&list, CommitMode::Sync) {
            Ok(()) => {
                self.metrics.commits.add(1);
                lock(flight).confirm(offsets);
            }
            Err(error) => {
                tracing::warn!(%error, ?offsets, "offsets could not be committed");
                self.metrics.commit_failures.add(1);
            }
        }
    }

    fn end_transaction(&self, consumer: &GroupConsumer) -> Result<()> {
        let Promise::ExactlyOnce(transaction) = &self.promise else { return Ok(()) };
        let mut transaction = lock(transaction);
        if !transaction.is_open() {
            return Ok(());
        }
        match transaction.end(consumer, &self.topics.flows)? {
            Outcome::Committed(reach) => {
                self.note_done(&reach);
                self.metrics.commits.add(1);
                Ok(())
            }
            Outcome::Aborted => self.rewind(consumer),
        }
    }

    fn abort(&self, consumer: &GroupConsumer) -> Result<()> {
        let Promise::ExactlyOnce(transaction) = &self.promise else { return Ok(()) };
        match lock(transaction).abort()? {
            Outcome::Committed(_) => Ok(()),
            Outcome::Aborted => self.rewind(consumer),
        }
    }

    /// Goes back to what is committed, after an aborted transaction.
    fn rewind(&self, consumer: &GroupConsumer) -> Result<()> {
        self.metrics.commit_failures.add(1);
        self.outbox.forgive()?;
        let failed = |error| Error::kafka("going back to the committed offsets")(error);
        let committed = consumer.committed(REQUEST_WAIT).map_err(failed)?;
        tracing::warn!(offsets = ?committed, "a transaction was aborted; consuming again from the committed offsets");
        for element in committed.elements() {
            let offset = match element.offset() {
                Offset::Offset(offset) => Offset::Offset(offset),
                _ => Offset::Beginning,
            };
            consumer.seek(element.topic(), element.partition(), offset, REQUEST_WAIT).map_err(failed)?;
        }
        lock(&self.revoked).extend(numbers(&committed));
        Ok(())
    }

    /// Notes a batch that is done.
    fn note_done(&self, reach: &Reach) {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        for timestamp_ms in &reach.timestamps_ms {
            self.metrics.end_to_end_seconds.observe(now_ms.saturating_sub(*timestamp_ms).max(0) as f64 / 1000.0);
        }
        for (partition, next) in &reach.next {
            let last_ms = reach.last_ms.get(partition).copied().unwrap_or(now_ms);
            self.metrics.note_done(*partition, *next, last_ms);
        }
    }

    /// Notes an error that librdkafka tries to mend by itself.
    pub(crate) fn note_consumer_error(&self, error: &str) {
        tracing::warn!(error, "consumer");
        self.metrics.note_consumer_error(error);
    }

    fn fail(&self, error: Error) {
        self.break_off();
        lock(&self.failure).get_or_insert(error);
    }
}

fn numbers(partitions: &TopicPartitionList) -> Vec<i32> {
    partitions.elements().iter().map(TopicPartitionListElem::partition).collect()
}
