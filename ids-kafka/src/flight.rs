//! Batches on their way, and how far each partition is done: which offsets may be committed.
//!
//! Batches enter in the order in which they were consumed. What a batch says beside its verdicts (alerts, dead
//! letters) is sent at once; its verdicts wait until all that is acknowledged and the verdicts of every batch
//! before it are sent. So a verdict in its topic means that the record is done, and so are all before it in its
//! partition: see [`resume`](crate::resume). An offset may be committed when the verdicts of its batch and of all
//! before it are acknowledged.
//!
//! Pure: no Kafka here.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::ops::Range;
use std::sync::Arc;

use ids_core::Origin;
use rdkafka::message::OwnedHeaders;
use serde::Serialize;

use crate::error::Result;
use crate::outbox::Ticket;

/// Next offset by partition.
pub(crate) type Offsets = BTreeMap<i32, i64>;

/// How far a batch goes.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    pub(crate) next: Offsets,
    /// Timestamp of the last record by partition, in milliseconds since 1970-01-01 UTC.
    pub(crate) last_ms: BTreeMap<i32, i64>,
    /// Timestamps of all records that have one.
    pub(crate) timestamps_ms: Vec<i64>,
}

impl Reach {
    /// Adds a record.
    pub(crate) fn add(&mut self, partition: i32, offset: i64, timestamp_ms: Option<i64>) {
        self.next.insert(partition, offset + 1);
        if let Some(timestamp_ms) = timestamp_ms {
            self.last_ms.insert(partition, timestamp_ms);
            self.timestamps_ms.push(timestamp_ms);
        }
    }

    /// Adds the batch that follows.
    pub(crate) fn extend(&mut self, other: Self) {
        self.next.extend(other.next);
        self.last_ms.extend(other.last_ms);
        self.timestamps_ms.extend(other.timestamps_ms);
    }
}

/// Verdicts that wait to be sent.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    messages: Vec<Waiting>,
    /// Key and value of each, one after the other.
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Waiting {
    partition: i32,
    key: Range<usize>,
    value: Range<usize>,
    headers: Option<OwnedHeaders>,
}

/// A verdict, as it is sent.
#[derive(Debug)]
pub(crate) struct VerdictMessage<'a> {
    pub(crate) partition: i32,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) headers: Option<OwnedHeaders>,
}

impl Verdicts {
    /// Adds a verdict of the record at `origin`, whose JSON is that of `value`.
    pub(crate) fn push(
        &mut self,
        origin: Origin<'_>,
        headers: Option<OwnedHeaders>,
        value: &impl Serialize,
    ) -> serde_json::Result<()> {
        let start = self.bytes.len();
        // Writing to memory does not fail.
        let _ = write!(self.bytes, "{origin}");
        let key = start..self.bytes.len();
        serde_json::to_writer(&mut self.bytes, value)?;
        let value = key.end..self.bytes.len();
        self.messages.push(Waiting { partition: origin.partition, key, value, headers });
        Ok(())
    }

    /// Gives all of them to `send`, in order.
    pub(crate) fn send(self, mut send: impl FnMut(VerdictMessage<'_>) -> Result<()>) -> Result<()> {
        let Self { messages, bytes } = self;
        messages.into_iter().try_for_each(|Waiting { partition, key, value, headers }| {
            send(VerdictMessage { partition, key: &bytes[key], value: &bytes[value], headers })
        })
    }
}

#[derive(Debug)]
struct Batch {
    /// Of what is said beside the verdicts.
    first: Arc<Ticket>,
    /// `None` once they are sent.
    waiting: Option<Verdicts>,
    /// Of the verdicts.
    verdicts: Arc<Ticket>,
    n_records: usize,
    reach: Reach,
}

/// The batches on their way.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    batches: VecDeque<Batch>,
    /// Done, by partition that is owned.
    done: Offsets,
    /// Of these, committed.
    committed: Offsets,
}

impl Flight {
    /// Takes a batch whose other messages are sent and counted by `first`.
    pub(crate) fn push(&mut self, first: Arc<Ticket>, verdicts: Verdicts, reach: Reach) {
        let n_records = verdicts.messages.len();
        let batch = Batch { first, waiting: Some(verdicts), verdicts: Ticket::open(), n_records, reach };
        self.batches.push_back(batch);
    }

    /// How many records are on their way.
    pub(crate) fn n_records(&self) -> usize {
        self.batches.iter().map(|batch| batch.n_records).sum()
    }

    /// Sends the verdicts whose time has come and moves on over the batches that are done, of which it tells `done`.
    pub(crate) fn advance(
        &mut self,
        mut send: impl FnMut(VerdictMessage<'_>, &Arc<Ticket>) -> Result<()>,
        mut done: impl FnMut(&Reach),
    ) -> Result<()> {
        for batch in &mut self.batches {
            if batch.waiting.is_some() && !batch.first.is_done() {
                break;
            }
            let Some(verdicts) = batch.waiting.take() else { continue };
            let (reach, ticket) = (&batch.reach, &batch.verdicts);
            verdicts.send(|verdict| match reach.next.contains_key(&verdict.partition) {
                true => send(verdict, ticket),
                // Of a partition that was taken away meanwhile: the new owner's to send.
                false => Ok(()),
            })?;
            ticket.seal();
        }
        let is_done = |batch: &Batch| batch.waiting.is_none() && batch.verdicts.is_done();
        while self.batches.front().is_some_and(is_done) {
            if let Some(batch) = self.batches.pop_front() {
                done(&batch.reach);
                self.done.extend(batch.reach.next);
            }
        }
        Ok(())
    }

    /// What is done and not committed.
    pub(crate) fn to_commit(&self) -> Offsets {
        let is_new = |(partition, next): &(&i32, &i64)| self.committed.get(partition) != Some(next);
        self.done.iter().filter(is_new).map(|(&partition, &next)| (partition, next)).collect()
    }

    /// Notes what Kafka confirmed.
    pub(crate) fn confirm(&mut self, offsets: Offsets) {
        self.committed.extend(offsets);
    }

    /// Forgets partitions that now belong to another member: it alone commits for them.
    pub(crate) fn revoke(&mut self, partitions: impl IntoIterator<Item = i32>) {
        for partition in partitions {
            self.done.remove(&partition);
            self.committed.remove(&partition);
            for batch in &mut self.batches {
                batch.reach.next.remove(&partition);
                batch.reach.last_ms.remove(&partition);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets<const N: usize>(pairs: [(i32, i64); N]) -> Offsets {
        pairs.into_iter().collect()
    }

    fn origin(partition: i32, offset: i64) -> Origin<'static> {
        Origin { topic: "demo", partition, offset, timestamp_ms: None }
    }

    /// A flight whose verdicts are acknowledged as soon as they are sent, unless they are held.
    #[derive(Default)]
    struct Harness {
        flight: Flight,
        first: Vec<Arc<Ticket>>,
        sent: Vec<(i32, String)>,
    }

    impl Harness {
        /// Pushes a batch of one record for each partition, each with the offset before `next`.
        fn push(&mut self, next: Offsets) -> usize {
            let mut verdicts = Verdicts::default();
            for (&partition, &offset) in &next {
                let origin = origin(partition, offset - 1);
                verdicts.push(origin, None, &origin.offset).expect("writes");
            }
            let first = Ticket::open();
            self.first.push(Arc::clone(&first));
            self.flight.push(first, verdicts, Reach { next, ..Reach::default() });
            self.first.len() - 1
        }

        fn advance(&mut self) {
            let sent = &mut self.sent;
            let send = |verdict: VerdictMessage<'_>, _: &Arc<Ticket>| {
                assert!(verdict.key.ends_with(verdict.value), "key and value are of one record");
                sent.push((verdict.partition, String::from_utf8_lossy(verdict.key).into_owned()));
                Ok(())
            };
            self.flight.advance(send, |_| ()).expect("nothing fails");
        }
    }

    #[test]
    fn verdicts_wait_for_alerts_and_dead_letters_and_for_the_batches_before() {
        let mut harness = Harness::default();
        let (a, b) = (harness.push(offsets([(0, 10)])), harness.push(offsets([(0, 20)])));
        harness.first[b].seal();
        harness.advance();
        assert!(harness.sent.is_empty(), "{:?}", harness.sent);
        harness.first[a].seal();
        harness.advance();
        assert_eq!(harness.sent, [(0, "demo/0/9".to_owned()), (0, "demo/0/19".to_owned())]);
        assert_eq!((harness.flight.n_records(), harness.flight.to_commit()), (0, offsets([(0, 20)])));
    }

    #[test]
    fn nothing_is_committed_over_a_batch_that_is_not_acknowledged() {
        let mut flight = Flight::default();
        let mut held = Vec::new();
        for next in [offsets([(0, 10), (1, 5)]), offsets([(0, 20)])] {
            let first = Ticket::open();
            first.seal();
            let mut verdicts = Verdicts::default();
            verdicts.push(origin(0, 0), None, &()).expect("writes");
            flight.push(first, verdicts, Reach { next, ..Reach::default() });
        }
        let hold = |_: VerdictMessage<'_>, ticket: &Arc<Ticket>| {
            ticket.expect();
            held.push(Arc::clone(ticket));
            Ok(())
        };
        flight.advance(hold, |_| ()).expect("nothing fails");
        let none = |_: VerdictMessage<'_>, _: &Arc<Ticket>| -> Result<()> { panic!("sent already") };
        // The second is acknowledged, the first is not.
        held.pop().expect("sent").acknowledge();
        flight.advance(none, |_| ()).expect("nothing fails");
        assert_eq!(flight.to_commit(), offsets([]));
        held.pop().expect("sent").acknowledge();
        flight.advance(none, |_| ()).expect("nothing fails");
        assert_eq!(flight.to_commit(), offsets([(0, 20), (1, 5)]));
    }

    #[test]
    fn what_is_not_confirmed_is_committed_again() {
        let mut harness = Harness::default();
        let finish = |harness: &mut Harness, next| {
            let batch = harness.push(next);
            harness.first[batch].seal();
            harness.advance();
        };
        finish(&mut harness, offsets([(0, 10), (1, 1)]));
        assert_eq!(harness.flight.to_commit(), offsets([(0, 10), (1, 1)]));
        finish(&mut harness, offsets([(0, 20)]));
        assert_eq!(harness.flight.to_commit(), offsets([(0, 20), (1, 1)]));
        harness.flight.confirm(offsets([(0, 20), (1, 1)]));
        assert_eq!(harness.flight.to_commit(), offsets([]));
        finish(&mut harness, offsets([(1, 2)]));
        assert_eq!(harness.flight.to_commit(), offsets([(1, 2)]));
    }

    #[test]
    fn a_partition_that_was_taken_away_is_neither_spoken_for_nor_committed() {
        let mut harness = Harness::default();
        let (done, open) = (harness.push(offsets([(0, 10), (1, 10)])), harness.push(offsets([(0, 20), (1, 20)])));
        harness.first[done].seal();
        harness.advance();
        harness.flight.revoke([0]);
        harness.first[open].seal();
        harness.advance();
        assert_eq!(harness.sent.last(), Some(&(1, "demo/1/19".to_owned())));
        assert_eq!(harness.sent.len(), 3, "{:?}", harness.sent);
        assert_eq!(harness.flight.to_commit(), offsets([(1, 20)]));
    }
}
