//! Delivery exactly once: everything said of some batches, and the offsets after them, in one transaction.
//!
//! The offsets carry the member's generation, so a member that has lost its partitions without noticing cannot
//! commit (KIP-447); a process that starts with the same transactional id fences the one before it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use crate::error::{Error, Result};
use crate::flight::Reach;
use crate::outbox::{Outbox, Ticket};

/// A transaction ends after so long, or after so many records.
const LONGEST: Duration = Duration::from_millis(100);
const MOST_RECORDS: usize = 5_000;
/// Longest time to wait for acknowledgements and for the coordinator.
const WAIT: Duration = Duration::from_secs(30);

/// What became of a transaction.
#[derive(Debug)]
pub(crate) enum Outcome {
    Committed(Reach),
    /// Nothing of it counts: its records are to be consumed again.
    Aborted,
}

/// The transaction that is open, if there is one.
pub(crate) struct Transaction {
    outbox: Arc<Outbox>,
    open: Option<Open>,
}

struct Open {
    ticket: Arc<Ticket>,
    reach: Reach,
    since: Instant,
    n_records: usize,
}

impl Transaction {
    pub(crate) fn new(outbox: &Arc<Outbox>) -> Self {
        Self { outbox: Arc::clone(outbox), open: None }
    }

    /// The ticket of the open transaction; begins one where none is.
    pub(crate) fn ticket(&mut self) -> Result<Arc<Ticket>> {
        if let Some(open) = &self.open {
            return Ok(Arc::clone(&open.ticket));
        }
        self.outbox.begin_transaction()?;
        let ticket = Ticket::open();
        self.open =
            Some(Open { ticket: Arc::clone(&ticket), reach: Reach::default(), since: Instant::now(), n_records: 0 });
        Ok(ticket)
    }

    /// Notes a batch whose messages are sent.
    pub(crate) fn add(&mut self, reach: Reach, n_records: usize) {
        if let Some(open) = &mut self.open {
            open.reach.extend(reach);
            open.n_records += n_records;
        }
    }

    /// Whether one is open.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Records of the open one.
    pub(crate) fn n_records(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.n_records)
    }

    /// Whether it is time to end it.
    pub(crate) fn is_due(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.since.elapsed() >= LONGEST || open.n_records >= MOST_RECORDS)
    }

    /// Ends the open transaction: commits it, or aborts it where it cannot be committed.
    ///
    /// # Errors
    /// Where the producer is fenced or otherwise at its end.
    pub(crate) fn end<C: ConsumerContext>(&mut self, consumer: &impl Consumer<C>, flows: &str) -> Result<Outcome> {
        let Some(open) = self.open.take() else { return Ok(Outcome::Committed(Reach::default())) };
        open.ticket.seal();
        let deadline = Instant::now() + WAIT;
        while !open.ticket.is_done() && !self.outbox.has_failed() && Instant::now() < deadline {
            self.outbox.resend()?;
            std::thread::sleep(Duration::from_micros(200));
        }
        if !open.ticket.is_done() {
            tracing::warn!(n_records = open.n_records, "messages of a transaction were not acknowledged");
            return self.abort_open();
        }
        let mut list = TopicPartitionList::new();
        for (partition, next) in &open.reach.next {
            let added = list.add_partition_offset(flows, *partition, Offset::Offset(*next));
            added.map_err(Error::kafka("setting the offset of a partition"))?;
        }
        let Some(group) = consumer.group_metadata() else { return self.abort_open() };
        match self.outbox.commit_transaction(&list, &group, WAIT) {
            Ok(()) => Ok(Outcome::Committed(open.reach)),
            Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => {
                tracing::warn!(%error, "a transaction could not be committed");
                self.abort_open()
            }
            // Whether it was committed is not known: a new producer with the same id settles it.
            Err(error) => Err(Error::kafka("committing a transaction")(error)),
        }
    }

    /// Aborts the open transaction.
    pub(crate) fn abort(&mut self) -> Result<Outcome> {
        match self.open.take() {
            Some(_) => self.abort_open(),
            None => Ok(Outcome::Committed(Reach::default())),
        }
    }

    fn abort_open(&self) -> Result<Outcome> {
        self.outbox.abort_transaction(WAIT).map_err(Error::kafka("aborting a transaction"))?;
        Ok(Outcome::Aborted)
    }
}
