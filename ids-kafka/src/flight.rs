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
use std::sync::Arc;

use rdkafka::message::OwnedHeaders;

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
    /// Their values, one after the other.
    values: Vec<u8>,
}

#[derive(Debug)]
struct Waiting {
    partition: i32,
    key: String,
    start: usize,
    headers: OwnedHeaders,
}

/// A verdict, as it is sent.
#[derive(Debug)]
pub(crate) struct VerdictMessage<'a> {
    pub(crate) partition: i32,
    pub(crate) key: &'a str,
    pub(crate) value: &'a [u8],
    pub(crate) headers: &'a OwnedHeaders,
}

impl Verdicts {
    /// Adds a verdict of the record at `partition` and `key`, whose JSON `write` appends.
    pub(crate) fn push<E>(
        &mut self,
        partition: i32,
        key: String,
        headers: OwnedHeaders,
        write: impl FnOnce(&mut Vec<u8>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let start = self.values.len();
        write(&mut self.values)?;
        self.messages.push(Waiting { partition, key, start, headers });
        Ok(())
    }

    /// All of them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = VerdictMessage<'_>> {
        let ends = self.messages.iter().skip(1).map(|next| next.start).chain([self.values.len()]);
        self.messages.iter().zip(ends).map(|(message, end)| VerdictMessage {
            partition: message.partition,
            key: &message.key,
            value: &self.values[message.start..end],
            headers: &message.headers,
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
        let batch = Batch { first, waiting: Some(verdicts), verdicts: Ticket::open(), reach };
        self.batches.push_back(batch);
    }

    /// How many batches are on their way.
    pub(crate) fn len(&self) -> usize {
        self.batches.len()
    }

    /// Sends the verdicts whose time has come and moves on over the batches that are done, of which it tells `done`.
    pub(crate) fn advance(
        &mut self,
        mut send: impl FnMut(VerdictMessage<'_>, &Arc<Ticket>) -> Result<()>,
        mut done: impl FnMut(&Reach),
    ) -> Result<()> {
        for batch in &mut self.batches {
            let Some(verdicts) = &batch.waiting else { continue };
            if !batch.first.is_done() {
                break;
            }
            // A verdict of a partition that was taken away meanwhile is the new owner's to send.
            for verdict in verdicts.iter().filter(|verdict| batch.reach.next.contains_key(&verdict.partition)) {
                send(verdict, &batch.verdicts)?;
            }
            batch.waiting = None;
            batch.verdicts.seal();
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
            for (partition, offset) in &next {
                let key = format!("{partition}/{}", offset - 1);
                let text = key.clone();
                let write = |values: &mut Vec<u8>| {
                    values.extend_from_slice(text.as_bytes());
                    Ok::<(), ()>(())
                };
                verdicts.push(*partition, key, OwnedHeaders::new(), write).expect("writes");
            }
            let first = Ticket::open();
            self.first.push(Arc::clone(&first));
            self.flight.push(first, verdicts, Reach { next, ..Reach::default() });
            self.first.len() - 1
        }

        fn advance(&mut self) {
            let sent = &mut self.sent;
            let send = |verdict: VerdictMessage<'_>, _: &Arc<Ticket>| {
                assert_eq!(verdict.key.as_bytes(), verdict.value);
                sent.push((verdict.partition, verdict.key.to_owned()));
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
        assert_eq!(harness.sent, [(0, "0/9".to_owned()), (0, "0/19".to_owned())]);
        assert_eq!((harness.flight.len(), harness.flight.to_commit()), (0, offsets([(0, 20)])));
    }

    #[test]
    fn nothing_is_committed_over_a_batch_that_is_not_acknowledged() {
        let mut flight = Flight::default();
        let mut held = Vec::new();
        for next in [offsets([(0, 10), (1, 5)]), offsets([(0, 20)])] {
            let first = Ticket::open();
            first.seal();
            let mut verdicts = Verdicts::default();
            verdicts.push(0, "k".into(), OwnedHeaders::new(), |_| Ok::<(), ()>(())).expect("writes");
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
        assert_eq!(harness.sent.last(), Some(&(1, "1/19".to_owned())));
        assert_eq!(harness.sent.len(), 3, "{:?}", harness.sent);
        assert_eq!(harness.flight.to_commit(), offsets([(1, 20)]));
    }
}
