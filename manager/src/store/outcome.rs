//! The outcomes of inputs, and how they are stored together.

use sealbus_schema::{
    Token, Violation, WorkerName,
    message::{Fact, Intent, LeaseRecord},
};

use super::{Happening, Job, MessageKind, StoreError, Tx, Verdict};

/// The outcome of one input, or of several in a row, for one sector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The sector's new state.
    pub sector: Job,
    /// The new lines of its history, oldest first.
    pub history: Vec<(Happening, Verdict)>,
    /// The records to publish, in this order.
    pub outbox: Vec<Outgoing>,
    /// The messages to the chain that are now wanted.
    pub messages: Vec<WantedMessage>,
    /// The invariants that were seen broken.
    pub broken: Vec<Violation>,
}

/// A record to publish on the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// Offers a sector without an owner.
    Intent(Intent),
    /// Tells the owner something.
    Fact {
        /// The owner.
        worker: WorkerName,
        /// Its token.
        token: Token,
        /// The fact.
        fact: Fact,
    },
    /// Ends a lease.
    Release {
        /// The lease: [`Ownership::lease`](sealbus_schema::lease::Ownership::lease).
        lease_sequence: u64,
        /// The reason, for people who read the log.
        reason: String,
    },
    /// Names the sector's owner in the log again.
    Reinstate {
        /// The last lease record before this one.
        after: u64,
        /// The record.
        record: LeaseRecord,
    },
    /// Deletes an ended sector's records from the log, except for its last lease record.
    Purge {
        /// The sequence of that record.
        lease_sequence: u64,
    },
}

/// A message to the chain that is wanted for a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedMessage {
    /// Its kind.
    pub kind: MessageKind,
    /// The attempt that wants it.
    pub attempt: u32,
}

impl Outcome {
    /// An outcome without any change.
    pub const fn unchanged(sector: Job) -> Outcome {
        Outcome { sector, history: Vec::new(), outbox: Vec::new(), messages: Vec::new(), broken: Vec::new() }
    }

    /// Adds the outcome of the next step.
    pub fn then(mut self, next: impl FnOnce(Job) -> Outcome) -> Outcome {
        let next = next(self.sector);
        self.sector = next.sector;
        self.history.extend(next.history);
        self.outbox.extend(next.outbox);
        self.messages.extend(next.messages);
        self.broken.extend(next.broken);
        self
    }
}

impl Tx {
    /// Stores the outcomes for sectors that were read in this transaction, at most one for each sector.
    pub async fn store_outcomes(&mut self, outcomes: Vec<Outcome>) -> Result<(), StoreError> {
        let (mut sectors, mut history, mut outbox, mut messages) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut broken = Vec::new();
        for mut outcome in outcomes {
            broken.append(&mut outcome.broken);
            // Every change leaves a line of history, so an outcome without one changes nothing.
            if outcome.history.is_empty() {
                continue;
            }
            let id = outcome.sector.id;
            history.extend(outcome.history.into_iter().map(|(entry, verdict)| (id, entry, verdict)));
            outbox.extend(outcome.outbox.into_iter().map(|outgoing| (id, outgoing)));
            messages.extend(outcome.messages.into_iter().map(|message| (id, message)));
            sectors.push(outcome.sector);
        }
        self.save_sectors(sectors).await?;
        self.add_histories(&history).await?;
        self.add_to_outbox(&outbox).await?;
        self.want_messages(&messages).await?;
        self.count_broken(&broken).await
    }
}
