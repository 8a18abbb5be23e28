//! What inputs did to sectors, stored together.

use sealbus_schema::{
    Token, WorkerName,
    message::{Fact, Intent, LeaseRecord},
};

use super::{Happening, Job, MessageKind, StoreError, Tx, Verdict};

/// What one input, or several in a row, did to one sector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The sector as it stands now.
    pub sector: Job,
    /// The new lines of its history, oldest first.
    pub history: Vec<(Happening, Verdict)>,
    /// What must be published, in this order.
    pub outbox: Vec<Outgoing>,
    /// The messages to the chain that are wanted now.
    pub messages: Vec<WantedMessage>,
}

/// Something that must be published on the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// A sector that nobody owns is offered.
    Intent(Intent),
    /// The owner is told something.
    Fact {
        /// Whom.
        worker: WorkerName,
        /// Under which lease.
        token: Token,
        /// What.
        fact: Fact,
    },
    /// A lease is ended.
    Release {
        /// Which: [`Ownership::lease`](sealbus_schema::lease::Ownership::lease).
        lease_sequence: u64,
        /// Why.
        reason: String,
    },
    /// The log says again whose the sector is.
    Reinstate {
        /// The lease record that comes before this one.
        after: u64,
        /// What it says.
        record: LeaseRecord,
    },
    /// What the log says of an ended sector goes, but for its last lease record.
    Purge {
        /// The sequence of that record.
        lease_sequence: u64,
    },
}

/// A message to the chain that is wanted for a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedMessage {
    /// What it is for.
    pub kind: MessageKind,
    /// By which attempt it is wanted.
    pub attempt: u32,
}

impl Outcome {
    /// Nothing happened.
    pub const fn unchanged(sector: Job) -> Outcome {
        Outcome { sector, history: Vec::new(), outbox: Vec::new(), messages: Vec::new() }
    }

    /// What happened next, on top.
    pub fn then(mut self, next: impl FnOnce(Job) -> Outcome) -> Outcome {
        let next = next(self.sector);
        self.sector = next.sector;
        self.history.extend(next.history);
        self.outbox.extend(next.outbox);
        self.messages.extend(next.messages);
        self
    }
}

impl Tx {
    /// Stores what inputs did to sectors that were read in this transaction; at most one outcome a sector.
    pub async fn store_outcomes(&mut self, outcomes: Vec<Outcome>) -> Result<(), StoreError> {
        let (mut sectors, mut history, mut outbox, mut messages) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        // Whatever happens leaves a line.
        for outcome in outcomes.into_iter().filter(|outcome| !outcome.history.is_empty()) {
            let id = outcome.sector.id;
            history.extend(outcome.history.into_iter().map(|(entry, verdict)| (id, entry, verdict)));
            outbox.extend(outcome.outbox.into_iter().map(|outgoing| (id, outgoing)));
            messages.extend(outcome.messages.into_iter().map(|message| (id, message)));
            sectors.push(outcome.sector);
        }
        self.save_sectors(sectors).await?;
        self.add_histories(&history).await?;
        self.add_to_outbox(&outbox).await?;
        self.want_messages(&messages).await
    }
}
