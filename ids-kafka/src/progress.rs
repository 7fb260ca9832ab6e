//! How far each partition is done: which offsets may be committed.
//!
//! Batches enter in the order in which they were consumed, each with the offsets that follow it. An
//! offset may be committed when its batch and all before it are acknowledged. Pure: no Kafka here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::outbox::Ticket;

/// Next offset by partition.
pub(crate) type Offsets = BTreeMap<i32, i64>;

#[derive(Debug, Default)]
pub(crate) struct Progress {
    in_flight: VecDeque<(Arc<Ticket>, Offsets)>,
    /// Done, and not committed yet.
    to_commit: Offsets,
    /// Partitions taken away since the last call of [`Progress::take_revoked`].
    revoked: BTreeSet<i32>,
}

impl Progress {
    /// Notes a batch that was sent, and the offsets that follow it.
    pub(crate) fn push(&mut self, ticket: Arc<Ticket>, next: Offsets) {
        self.in_flight.push_back((ticket, next));
    }

    /// Moves on over the batches that are acknowledged; how many are not.
    pub(crate) fn settle(&mut self) -> usize {
        let n_done = self.in_flight.iter().take_while(|(ticket, _)| ticket.is_done()).count();
        for (_, next) in self.in_flight.drain(..n_done) {
            self.to_commit.extend(next);
        }
        self.in_flight.len()
    }

    /// What may be committed now; it is then taken as committed.
    pub(crate) fn take_commit(&mut self) -> Offsets {
        std::mem::take(&mut self.to_commit)
    }

    /// Gives back what could not be committed, unless more has been done since.
    pub(crate) fn restore(&mut self, offsets: Offsets) {
        for (partition, next) in offsets {
            self.to_commit.entry(partition).or_insert(next);
        }
    }

    /// Forgets partitions that now belong to another member: it alone commits for them.
    pub(crate) fn revoke(&mut self, partitions: impl IntoIterator<Item = i32>) {
        for partition in partitions {
            self.revoked.insert(partition);
            self.to_commit.remove(&partition);
            for (_, next) in &mut self.in_flight {
                next.remove(&partition);
            }
        }
    }

    /// The partitions taken away since the last call.
    pub(crate) fn take_revoked(&mut self) -> BTreeSet<i32> {
        std::mem::take(&mut self.revoked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets<const N: usize>(pairs: [(i32, i64); N]) -> Offsets {
        pairs.into_iter().collect()
    }

    #[test]
    fn nothing_is_committed_over_a_batch_that_is_not_acknowledged() {
        let mut progress = Progress::default();
        let tickets = [Ticket::open(), Ticket::open(), Ticket::open()];
        progress.push(Arc::clone(&tickets[0]), offsets([(0, 10), (1, 5)]));
        progress.push(Arc::clone(&tickets[1]), offsets([(0, 20)]));
        progress.push(Arc::clone(&tickets[2]), offsets([(0, 30), (2, 7)]));
        tickets[1].seal();
        tickets[2].seal();
        assert_eq!(progress.settle(), 3);
        assert_eq!(progress.take_commit(), offsets([]));
        tickets[0].seal();
        assert_eq!(progress.settle(), 0);
        assert_eq!(progress.take_commit(), offsets([(0, 30), (1, 5), (2, 7)]));
        assert_eq!(progress.take_commit(), offsets([]));
    }

    #[test]
    fn a_commit_that_failed_is_made_again_but_never_goes_back() {
        let mut progress = Progress::default();
        for (ticket, next) in [(Ticket::open(), 10), (Ticket::open(), 20)] {
            ticket.seal();
            progress.push(ticket, offsets([(0, next), (next as i32, 1)]));
            progress.settle();
            if next == 10 {
                let failed = progress.take_commit();
                assert_eq!(failed, offsets([(0, 10), (10, 1)]));
                progress.restore(failed);
            }
        }
        progress.restore(offsets([(0, 10)]));
        assert_eq!(progress.take_commit(), offsets([(0, 20), (10, 1), (20, 1)]));
    }

    #[test]
    fn a_partition_that_was_taken_away_is_no_longer_committed() {
        let mut progress = Progress::default();
        let (done, open) = (Ticket::open(), Ticket::open());
        done.seal();
        progress.push(done, offsets([(0, 10), (1, 10)]));
        progress.push(Arc::clone(&open), offsets([(0, 20), (1, 20)]));
        progress.settle();
        progress.revoke([0]);
        open.seal();
        progress.settle();
        assert_eq!(progress.take_commit(), offsets([(1, 20)]));
        assert_eq!(progress.take_revoked(), BTreeSet::from([0]));
        assert_eq!(progress.take_revoked(), BTreeSet::new());
    }
}
