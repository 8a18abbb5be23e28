//! The manager's side of a sector's life.
//!
//! The log of the sector brings what its worker did, the chain driver what the chain did; both are [`Input`]s. A
//! [`State`] carries what the sector's life has yielded so far, so that impossible combinations cannot be stored.
//! Ownership is folded apart, by [`crate::lease`]: an event reaches this machine only when it is the owner's.

mod orders;
mod release;
mod table;

#[cfg(test)]
mod tests;

use crate::{
    bytes::{Commitment, ProofBytes},
    error::ErrorReport,
    message::{EventBody, PreCommitInfo, Seed, StoredSector, Ticket},
    phase::Phase,
    transition::Transition,
};

/// Where a sector stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// An intent is, or is about to be, in the queue.
    Queued,
    /// A worker owns it and stages its data.
    Packing,
    /// The worker has a free PC1 processor: a ticket must be drawn.
    DrawingTicket {
        /// Which ticket of the lease.
        draw: u32,
    },
    /// The worker runs PC1 and PC2.
    Sealing {
        /// What the replica is bound to.
        ticket: Ticket,
    },
    /// The PreCommit is on its way.
    PreCommitting(Sealed),
    /// The PreCommit has landed; the worker copies the files.
    Persisting(PreCommitted),
    /// The files must be read and challenged.
    CheckingFiles(Stored),
    /// The chain has not reached the seed's epoch with confidence.
    AwaitingSeed(Stored),
    /// The worker runs C1 and C2.
    Committing(Seeded),
    /// The proof must be verified before money is spent on it.
    VerifyingProof(Proven),
    /// The ProveCommit is on its way.
    ProveCommitting(Proven),
    /// Active on chain; the worker cleans its slot.
    Cleaning(Active),
    /// Active on chain, and nobody works on it any more.
    Proving(Active),
    /// Its worker is gone, and its PreCommit sent or on chain: an intent to seal it again, with the same ticket, is, or is
    /// about to be, in the queue.
    Requeued(Rebuild),
    /// A worker seals it again, and must come to the same CommR.
    Rebuilding(Rebuild),
    /// The attempt is over; the worker cleans its slot, or the lease is being closed. Another attempt may follow.
    Aborting {
        /// Why.
        cause: ErrorReport,
    },
    /// A person gave the sector up; its worker, which may be away, still has to clean its slot.
    Abandoning {
        /// Why.
        cause: ErrorReport,
    },
    /// Given up. The number is not used again.
    Aborted {
        /// Why.
        cause: ErrorReport,
    },
    /// A person must look.
    Blocked {
        /// Where the sector stands.
        at: Box<State>,
        /// Why.
        cause: ErrorReport,
    },
}

/// A sealed sector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// What it is bound to.
    pub ticket: Ticket,
    /// The replica's commitment.
    pub comm_r: Commitment,
    /// The data's commitment.
    pub comm_d: Commitment,
}

/// A sealed sector whose PreCommit is on chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreCommitted {
    /// The sector.
    pub sealed: Sealed,
    /// The PreCommit as the chain has it.
    pub precommit: PreCommitInfo,
    /// How many seeds were drawn for it; each is told to the worker under the next number.
    pub seeds_drawn: u32,
}

/// A sector that is sealed again. What it must come to is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebuild {
    /// Its PreCommit is on its way.
    Sent(Sealed),
    /// Its PreCommit is on chain.
    Landed(PreCommitted),
}

/// A pre-committed sector whose files are in the permanent store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The sector and its PreCommit.
    pub precommitted: PreCommitted,
    /// Where its files lie.
    pub files: StoredSector,
}

/// A stored sector with its seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeded {
    /// The sector, its PreCommit and its files.
    pub stored: Stored,
    /// The seed.
    pub seed: Seed,
}

/// A sector with its proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// All that the proof is about.
    pub seeded: Seeded,
    /// The proof.
    pub proof: ProofBytes,
}

/// A sector that is active on chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active {
    /// All that was proven.
    pub proven: Proven,
    /// Since when it is active.
    pub activation_epoch: i64,
}

/// What happened to a sector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A lease record gave the sector to a worker.
    Claimed,
    /// A lease record took it from whoever had it.
    Released(Released),
    /// The owner reported.
    Event(EventBody),
    /// The ticket is drawn.
    TicketDrawn(Ticket),
    /// The ticket or the PreCommit can no longer be used.
    Expired(ErrorReport),
    /// The PreCommit is on chain, with confidence.
    PreCommitLanded(PreCommitInfo),
    /// The chain has the PreCommit at another epoch than before, or did not keep it there.
    PreCommitMoved(PreCommitInfo),
    /// The files in the permanent store prove.
    FilesChecked,
    /// The seed is drawn, with confidence.
    SeedDrawn(Seed),
    /// The proof verifies.
    ProofVerified,
    /// The sector is active on chain, with confidence.
    ProveLanded {
        /// Since when.
        activation_epoch: i64,
    },
    /// Something on the manager's side needs a person: the chain refused, files don't prove, a proof is invalid.
    Refused(ErrorReport),
    /// A person has looked at a blocked sector: it goes on, from a phase or from where it stands.
    Resubmitted {
        /// The phase; never one that is still ahead.
        from: Option<Phase>,
    },
    /// A person gives the sector up.
    Abandoned {
        /// Who and why.
        cause: ErrorReport,
        /// Also when that costs the PreCommit's deposit.
        lose_deposit: bool,
    },
}

/// What the machine must know of a sector whose lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// The attempt that ends with it, from 1: each has a ticket of its own.
    pub attempt: u32,
    /// How often the sector was offered since a person last looked at it.
    pub issues: u32,
    /// Whether the attempt's PreCommit is signed, so that it may be anywhere.
    pub precommit_signed: bool,
}

/// What the driver must do after the state is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are what the fact of the same name carries")]
pub enum Effect {
    /// Begin another attempt and put its intent into the queue.
    OfferAttempt,
    /// Put another intent for the same attempt into the queue.
    OfferRebuild,
    /// Answer the worker.
    TellTicket(Ticket),
    /// Answer the worker.
    TellPreCommitLanded(PreCommitInfo),
    /// Answer the worker.
    TellPersistChecked,
    /// Answer the worker.
    TellSeed(Seed),
    /// Answer the worker.
    TellProveLanded { activation_epoch: i64 },
    /// Tell the worker to drop the attempt.
    TellAbandon(ErrorReport),
    /// Tell the worker to go on.
    TellResubmit { from: Option<Phase> },
    /// Persist the intent of a PreCommit message; another one only where the last has failed for good.
    SendPreCommit,
    /// Persist the intent of a ProveCommit message; another one only where the last has failed for good.
    SendProveCommit,
    /// Append a lease record that names nobody.
    CloseLease,
}

/// What the machine must know about policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptPolicy {
    /// How many attempts a sector gets before it is given up.
    pub max_attempts: u32,
    /// How often a sector is offered, for whatever reason, before a person must look.
    pub max_issues: u32,
}

impl State {
    /// The state's name, as in the database and in tables for people.
    pub const fn name(&self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Packing => "packing",
            State::DrawingTicket { .. } => "drawing_ticket",
            State::Sealing { .. } => "sealing",
            State::PreCommitting(_) => "pre_committing",
            State::Persisting(_) => "persisting",
            State::CheckingFiles(_) => "checking_files",
            State::AwaitingSeed(_) => "awaiting_seed",
            State::Committing(_) => "committing",
            State::VerifyingProof(_) => "verifying_proof",
            State::ProveCommitting(_) => "prove_committing",
            State::Cleaning(_) => "cleaning",
            State::Proving(_) => "proving",
            State::Requeued(_) => "requeued",
            State::Rebuilding(_) => "rebuilding",
            State::Aborting { .. } => "aborting",
            State::Abandoning { .. } => "abandoning",
            State::Aborted { .. } => "aborted",
            State::Blocked { at, .. } => at.name(),
        }
    }

    /// Every name of a state, in the order of a sector's life.
    pub const NAMES: [&'static str; 18] = [
        "queued",
        "packing",
        "drawing_ticket",
        "sealing",
        "pre_committing",
        "persisting",
        "checking_files",
        "awaiting_seed",
        "committing",
        "verifying_proof",
        "prove_committing",
        "cleaning",
        "proving",
        "requeued",
        "rebuilding",
        "aborting",
        "abandoning",
        "aborted",
    ];

    /// The names of the states of a life in which nothing goes wrong, in order.
    pub const ON_THE_WAY: &'static [&'static str] = Self::NAMES.split_at(13).0;

    /// Whether nothing can happen to the sector any more.
    pub const fn is_terminal(&self) -> bool {
        matches!(self, State::Proving(_) | State::Aborted { .. })
    }

    /// Whether the state cannot go on without a worker. One that nobody owns is as good as released.
    pub fn needs_owner(&self) -> bool {
        match self {
            State::Queued
            | State::Requeued(_)
            | State::VerifyingProof(_)
            | State::ProveCommitting(_)
            | State::Proving(_)
            | State::Aborted { .. } => false,
            State::Packing
            | State::DrawingTicket { .. }
            | State::Sealing { .. }
            | State::PreCommitting(_)
            | State::Persisting(_)
            | State::CheckingFiles(_)
            | State::AwaitingSeed(_)
            | State::Committing(_)
            | State::Cleaning(_)
            | State::Rebuilding(_)
            | State::Aborting { .. }
            | State::Abandoning { .. } => true,
            State::Blocked { at, .. } => at.needs_owner(),
        }
    }

    /// What the sector's sealing yielded, from PC2 on.
    pub fn sealed(&self) -> Option<&Sealed> {
        match self {
            State::PreCommitting(sealed) => Some(sealed),
            State::Requeued(rebuild) | State::Rebuilding(rebuild) => Some(rebuild.sealed()),
            State::Blocked { at, .. } => at.sealed(),
            _ => self.precommitted().map(|p| &p.sealed),
        }
    }

    /// The sector's PreCommit, from its landing on.
    pub fn precommitted(&self) -> Option<&PreCommitted> {
        match self {
            State::Persisting(precommitted)
            | State::Requeued(Rebuild::Landed(precommitted))
            | State::Rebuilding(Rebuild::Landed(precommitted)) => Some(precommitted),
            State::Blocked { at, .. } => at.precommitted(),
            _ => self.stored().map(|s| &s.precommitted),
        }
    }

    /// The sector's files, from their arrival in the permanent store on.
    pub fn stored(&self) -> Option<&Stored> {
        match self {
            State::CheckingFiles(stored) | State::AwaitingSeed(stored) => Some(stored),
            State::Blocked { at, .. } => at.stored(),
            _ => self.seeded().map(|s| &s.stored),
        }
    }

    /// The sector with its seed, from the draw on.
    pub fn seeded(&self) -> Option<&Seeded> {
        match self {
            State::Committing(seeded) => Some(seeded),
            State::Blocked { at, .. } => at.seeded(),
            _ => self.proven().map(|p| &p.seeded),
        }
    }

    /// The sector with its proof, from C2 on.
    pub fn proven(&self) -> Option<&Proven> {
        match self {
            State::VerifyingProof(proven) | State::ProveCommitting(proven) => Some(proven),
            State::Cleaning(active) | State::Proving(active) => Some(&active.proven),
            State::Blocked { at, .. } => at.proven(),
            _ => None,
        }
    }

    /// The machine: what an input does to this state.
    pub fn apply(&self, input: Input, policy: AttemptPolicy) -> Transition<State, Effect> {
        table::apply(self, input, policy)
    }
}

impl Rebuild {
    /// What the sector's sealing yielded the first time.
    pub fn sealed(&self) -> &Sealed {
        match self {
            Rebuild::Sent(sealed) | Rebuild::Landed(PreCommitted { sealed, .. }) => sealed,
        }
    }

    fn sealed_mut(&mut self) -> &mut Sealed {
        match self {
            Rebuild::Sent(sealed) | Rebuild::Landed(PreCommitted { sealed, .. }) => sealed,
        }
    }
}
