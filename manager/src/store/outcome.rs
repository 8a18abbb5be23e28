//! What inputs did to sectors, stored together.

use sealbus_schema::{
    SectorId, Token, WorkerName,
    message::{Fact, Intent},
};

use super::{Happening, MessageKind, Sector, StoreError, Tx, Verdict};

/// What one input, or several in a row, did to one sector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The sector as it stands now.
    pub sector: Sector,
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
        /// Which: the sequence of its record.
        lease_sequence: u64,
        /// Why.
        reason: String,
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
    pub const fn unchanged(sector: Sector) -> Outcome {
        Outcome { sector, history: Vec::new(), outbox: Vec::new(), messages: Vec::new() }
    }

    /// What happened next, on top.
    pub fn then(mut self, next: impl FnOnce(Sector) -> Outcome) -> Outcome {
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
    pub async fn store_outcomes(&mut self, outcomes: &[Outcome]) -> Result<(), StoreError> {
        // Whatever happens leaves a line.
        let outcomes: Vec<&Outcome> = outcomes.iter().filter(|outcome| !outcome.history.is_empty()).collect();
        self.save_sectors(&outcomes.iter().map(|outcome| &outcome.sector).collect::<Vec<_>>()).await?;
        self.add_histories(&lines(&outcomes, |o| &o.history, |id, (entry, verdict)| (id, entry, *verdict))).await?;
        self.add_to_outbox(&lines(&outcomes, |o| &o.outbox, |id, outgoing| (id, outgoing))).await?;
        self.want_messages(&lines(&outcomes, |o| &o.messages, |id, message| (id, *message))).await
    }
}

/// One kind of line of all outcomes, each with its sector.
fn lines<'a, T: 'a, L>(
    outcomes: &[&'a Outcome],
    of: impl Fn(&'a Outcome) -> &'a Vec<T>,
    with: impl Fn(SectorId, &'a T) -> L,
) -> Vec<L> {
    outcomes.iter().flat_map(|outcome| of(outcome).iter().map(|line| with(outcome.sector.id, line))).collect()
}
