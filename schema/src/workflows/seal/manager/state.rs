//! The states of sealing. Each has the results so far, so that impossible combinations cannot be stored.

use crate::{
    bytes::{Commitment, ProofBytes},
    error::ErrorReport,
    machine::manager::{Life, StateTraits},
    parts::{PreCommitInfo, Seed, StoredSector, Ticket},
    workflow::IntentKind,
};

/// The state of sealing a sector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// An intent is in the queue, or about to be.
    Queued,
    /// A worker owns the sector and stages its data.
    Packing,
    /// The worker has a free PC1 processor: a ticket must be drawn.
    DrawingTicket {
        /// The number of the request for a ticket within the lease.
        draw: u32,
    },
    /// The worker runs PC1 and PC2.
    Sealing {
        /// The ticket that the replica is bound to.
        ticket: Ticket,
    },
    /// The PreCommit is being sent, and has not landed yet.
    PreCommitting(Sealed),
    /// The PreCommit has landed; the worker copies the files.
    Persisting(PreCommitted),
    /// The files must be read and challenged.
    CheckingFiles(Stored),
    /// The chain has not reached the seed's epoch plus confidence.
    AwaitingSeed(Stored),
    /// The worker runs C1 and C2.
    Committing(Seeded),
    /// The proof must be verified before money is spent on it.
    VerifyingProof(Proven),
    /// The ProveCommit is being sent, and has not landed yet.
    ProveCommitting(Proven),
    /// Active on chain; the worker cleans its slot.
    Cleaning(Active),
    /// Active on chain; the slot is clean and the lease closed.
    Proving(Active),
    /// The worker was lost after the PreCommit was signed. An intent to seal the sector again, with the same ticket, is
    /// in the queue, or about to be.
    Requeued(Rebuild),
    /// A worker seals the sector again, and must produce the same CommR.
    Rebuilding(Rebuild),
    /// The attempt is over: the worker cleans its slot, or the lease is being closed. Another attempt may follow.
    Aborting {
        /// The cause.
        cause: ErrorReport,
    },
    /// A person gave the sector up. Its worker, which may be away, still has to clean the slot.
    Abandoning {
        /// The cause.
        cause: ErrorReport,
    },
    /// Given up. The number is not used again.
    Aborted {
        /// The cause.
        cause: ErrorReport,
    },
}

/// A sealed sector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The ticket that it is bound to.
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
    /// The PreCommit on chain.
    pub precommit: PreCommitInfo,
    /// How many seeds were drawn for it. Each is told to the worker under the next number.
    pub seeds_drawn: u32,
}

/// A sector that is sealed again. Its CommR is already known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebuild {
    /// Its PreCommit is signed, and has not landed yet.
    Sent(Sealed),
    /// Its PreCommit is on chain.
    Landed(PreCommitted),
}

/// A pre-committed sector whose files are in the permanent store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The sector and its PreCommit.
    pub precommitted: PreCommitted,
    /// Its files in the permanent store.
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
    /// The sector up to its seed.
    pub seeded: Seeded,
    /// The proof.
    pub proof: ProofBytes,
}

/// A sector that is active on chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active {
    /// The sector up to its proof.
    pub proven: Proven,
    /// The epoch of its activation.
    pub activation_epoch: i64,
}

impl State {
    /// The names of all states, in the order of a sector's life.
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

    /// The names of the states in which nothing has gone wrong, in order.
    pub const ON_THE_WAY: &'static [&'static str] = Self::NAMES.split_at(13).0;

    /// The state's general properties.
    pub const fn traits(&self) -> StateTraits {
        // Name, what it waits for, whether it needs a worker, whether hours of work would be lost with that worker.
        let (name, waits_for, needs_owner, precious) = match self {
            State::Queued => ("queued", "a free slot of a worker", false, false),
            State::Packing => {
                ("packing", "its worker, which stages the data and then waits for a place in PC1", true, false)
            }
            State::DrawingTicket { .. } => ("drawing_ticket", "its ticket", true, true),
            State::Sealing { .. } => ("sealing", "PC1 and PC2 on its worker", true, true),
            State::PreCommitting(_) => {
                ("pre_committing", "its PreCommit, until the chain has it with confidence", true, true)
            }
            State::Persisting(_) => {
                ("persisting", "its worker, which copies the files to the permanent store", true, true)
            }
            State::CheckingFiles(_) => {
                ("checking_files", "the manager, which reads its files in the permanent store", true, true)
            }
            State::AwaitingSeed(_) => ("awaiting_seed", "the epoch of its seed", true, true),
            State::Committing(_) => ("committing", "C1 and C2 on its worker", true, true),
            State::VerifyingProof(_) => ("verifying_proof", "the manager, which verifies its proof", false, false),
            State::ProveCommitting(_) => {
                ("prove_committing", "its ProveCommit, until the chain has it with confidence", false, false)
            }
            State::Cleaning(_) => ("cleaning", "its worker, which cleans the slot", true, false),
            State::Proving(_) => ("proving", "nothing", false, false),
            State::Requeued(_) => ("requeued", "a free slot of a worker, to be sealed again", false, false),
            State::Rebuilding(_) => ("rebuilding", "a worker, which seals it again", true, true),
            State::Aborting { .. } => ("aborting", "its worker, which drops what it has", true, false),
            State::Abandoning { .. } => ("abandoning", "its worker, which drops what it has", true, false),
            State::Aborted { .. } => ("aborted", "nothing", false, false),
        };
        let life = match self {
            State::Proving(_) => Life::Done,
            State::Aborted { .. } => Life::GivenUp,
            State::Aborting { .. } | State::Abandoning { .. } => Life::Leaving,
            _ => Life::Going,
        };
        let offered = match self {
            State::Queued => Some(IntentKind::Seal),
            State::Requeued(_) => Some(IntentKind::Rebuild),
            _ => None,
        };
        StateTraits { name, waits_for, life, offered, needs_owner, precious }
    }

    /// The state's name, as in the database and in tables for people.
    pub const fn name(&self) -> &'static str {
        self.traits().name
    }

    /// The sealed sector, from PC2 on.
    pub fn sealed(&self) -> Option<&Sealed> {
        match self {
            State::PreCommitting(sealed) => Some(sealed),
            State::Requeued(rebuild) | State::Rebuilding(rebuild) => Some(rebuild.sealed()),
            _ => self.precommitted().map(|p| &p.sealed),
        }
    }

    /// The sector with its PreCommit, from the landing on.
    pub fn precommitted(&self) -> Option<&PreCommitted> {
        match self {
            State::Persisting(precommitted)
            | State::Requeued(Rebuild::Landed(precommitted))
            | State::Rebuilding(Rebuild::Landed(precommitted)) => Some(precommitted),
            _ => self.stored().map(|s| &s.precommitted),
        }
    }

    /// The sector with its files, from their arrival in the permanent store on.
    pub fn stored(&self) -> Option<&Stored> {
        match self {
            State::CheckingFiles(stored) | State::AwaitingSeed(stored) => Some(stored),
            _ => self.seeded().map(|s| &s.stored),
        }
    }

    /// The sector with its seed, from the draw on.
    pub fn seeded(&self) -> Option<&Seeded> {
        match self {
            State::Committing(seeded) => Some(seeded),
            _ => self.proven().map(|p| &p.seeded),
        }
    }

    /// The sector with its proof, from C2 on.
    pub fn proven(&self) -> Option<&Proven> {
        match self {
            State::VerifyingProof(proven) | State::ProveCommitting(proven) => Some(proven),
            State::Cleaning(active) | State::Proving(active) => Some(&active.proven),
            _ => None,
        }
    }
}

impl Rebuild {
    /// The result of the first sealing.
    pub fn sealed(&self) -> &Sealed {
        match self {
            Rebuild::Sent(sealed) | Rebuild::Landed(PreCommitted { sealed, .. }) => sealed,
        }
    }

    pub(super) fn sealed_mut(&mut self) -> &mut Sealed {
        match self {
            Rebuild::Sent(sealed) | Rebuild::Landed(PreCommitted { sealed, .. }) => sealed,
        }
    }
}
