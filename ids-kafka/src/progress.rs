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
        while self.in_flight.front().is_some_and(|(ticket, _)| ticket.is_done()) {
            let (_, next) = self.in_flight.pop_front().unwrap_or_else(|| unreachable!("there is a front"));
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
