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
    /// Done, by partition that is owned.
    done: Offsets,
    /// Of these, committed.
    committed: Offsets,
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
            self.done.extend(next);
        }
        self.in_flight.len()
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
            self.revoked.insert(partition);
            self.done.remove(&partition);
            self.committed.remove(&partition);
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
        assert_eq!(progress.to_commit(), offsets([]));
        tickets[0].seal();
        assert_eq!(progress.settle(), 0);
        assert_eq!(progress.to_commit(), offsets([(0, 30), (1, 5), (2, 7)]));
    }

    #[test]
    fn what_is_not_confirmed_is_committed_again() {
        let mut progress = Progress::default();
        let finish = |progress: &mut Progress, next| {
            let ticket = Ticket::open();
            ticket.seal();
            progress.push(ticket, next);
            progress.settle();
        };
        finish(&mut progress, offsets([(0, 10), (1, 1)]));
        assert_eq!(progress.to_commit(), offsets([(0, 10), (1, 1)]));
        finish(&mut progress, offsets([(0, 20)]));
        assert_eq!(progress.to_commit(), offsets([(0, 20), (1, 1)]));
        progress.confirm(offsets([(0, 20), (1, 1)]));
        assert_eq!(progress.to_commit(), offsets([]));
        finish(&mut progress, offsets([(1, 2)]));
        assert_eq!(progress.to_commit(), offsets([(1, 2)]));
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
        assert_eq!(progress.to_commit(), offsets([(1, 20)]));
        assert_eq!(progress.take_revoked(), BTreeSet::from([0]));
        assert_eq!(progress.take_revoked(), BTreeSet::new());
    }
}
