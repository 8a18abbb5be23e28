//! What the manager answers into the sector's log.

use serde::{Deserialize, Serialize};

use crate::{bytes::Randomness, error::ErrorReport, id::Token, identity::KnownStore, phase::Phase};

/// An answer of the manager. The last one of a kind is the one that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fact {
    /// The ticket that was asked for.
    Ticket {
        /// The lease it is meant for.
        token: Token,
        /// The ticket.
        ticket: Ticket,
    },
    /// The PreCommit is on chain.
    PrecommitLanded {
        /// The lease it is meant for.
        token: Token,
        /// After which order to resubmit it was told; see [`Fact::counts_for`].
        #[serde(default)]
        serial: u32,
        /// The PreCommit as the chain has it.
        precommit: PreCommitInfo,
        /// The permanent stores that the manager knows, so that no file goes to another directory in their place.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        stores: Vec<KnownStore>,
    },
    /// The files in the permanent store were read and prove.
    PersistChecked {
        /// The lease it is meant for.
        token: Token,
        /// After which order to resubmit it was told; see [`Fact::counts_for`].
        #[serde(default)]
        serial: u32,
    },
    /// The seed for C1. A later one replaces it: the PreCommit has moved.
    Seed {
        /// The lease it is meant for.
        token: Token,
        /// After which order to resubmit it was told; see [`Fact::counts_for`].
        #[serde(default)]
        serial: u32,
        /// The seed.
        seed: Seed,
    },
    /// The ProveCommit is on chain and the sector active.
    ProveLanded {
        /// The lease it is meant for.
        token: Token,
        /// After which order to resubmit it was told; see [`Fact::counts_for`].
        #[serde(default)]
        serial: u32,
        /// The sector's activation epoch.
        activation_epoch: i64,
    },
    /// This attempt is worthless: drop it and clean the slot.
    Abandon {
        /// The lease it is meant for.
        token: Token,
        /// Why.
        error: ErrorReport,
    },
    /// A person has looked: go on.
    Resubmit {
        /// The lease it is meant for.
        token: Token,
        /// Which order of its kind, rising over the sector's life. One that was carried out is not carried out again.
        serial: u32,
        /// From which phase; from where it stands if none. A sector never goes forward by it.
        #[serde(default)]
        from: Option<Phase>,
    },
    /// A fact of a newer version.
    #[serde(other)]
    Unknown,
}

/// The kinds of facts, each the last token of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each is the fact of the same name")]
pub enum FactKind {
    Ticket,
    PrecommitLanded,
    PersistChecked,
    Seed,
    ProveLanded,
    Abandon,
    Resubmit,
}

/// The randomness that binds a replica to a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// Which ticket of the lease this is, as asked for.
    pub draw: u32,
    /// The randomness.
    pub randomness: Randomness,
    /// The epoch it was drawn from (`SealRandEpoch`).
    pub epoch: i64,
    /// The last epoch at which the chain accepts a PreCommit with it.
    pub expires_epoch: i64,
    /// The chain's head when it was drawn.
    pub head_epoch: i64,
    /// The length of an epoch in milliseconds, so that a worker can tell epochs by its own clock.
    pub epoch_millis: u64,
}

/// A PreCommit as the chain has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreCommitInfo {
    /// The epoch in which it was included.
    pub epoch: i64,
    /// The last epoch at which the chain accepts its proof.
    pub prove_by_epoch: i64,
    /// The chain's head when this was written.
    pub head_epoch: i64,
    /// The length of an epoch in milliseconds.
    pub epoch_millis: u64,
}

/// The interactive randomness of a PoRep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    /// Which seed of the lease this is, from 1; a later one replaces an earlier one.
    pub draw: u32,
    /// The randomness.
    pub randomness: Randomness,
    /// The epoch it was drawn from: PreCommit epoch plus challenge delay.
    pub epoch: i64,
}

impl FactKind {
    /// Every kind.
    pub const ALL: [FactKind; 7] = [
        FactKind::Ticket,
        FactKind::PrecommitLanded,
        FactKind::PersistChecked,
        FactKind::Seed,
        FactKind::ProveLanded,
        FactKind::Abandon,
        FactKind::Resubmit,
    ];

    /// The kind's name in subjects and headers.
    pub const fn name(self) -> &'static str {
        match self {
            FactKind::Ticket => "ticket",
            FactKind::PrecommitLanded => "precommit_landed",
            FactKind::PersistChecked => "persist_checked",
            FactKind::Seed => "seed",
            FactKind::ProveLanded => "prove_landed",
            FactKind::Abandon => "abandon",
            FactKind::Resubmit => "resubmit",
        }
    }
}

impl Fact {
    /// The fact's kind; none if it is of a newer version.
    pub const fn kind(&self) -> Option<FactKind> {
        Some(match self {
            Fact::Ticket { .. } => FactKind::Ticket,
            Fact::PrecommitLanded { .. } => FactKind::PrecommitLanded,
            Fact::PersistChecked { .. } => FactKind::PersistChecked,
            Fact::Seed { .. } => FactKind::Seed,
            Fact::ProveLanded { .. } => FactKind::ProveLanded,
            Fact::Abandon { .. } => FactKind::Abandon,
            Fact::Resubmit { .. } => FactKind::Resubmit,
            Fact::Unknown => return None,
        })
    }

    /// The lease that the fact is meant for.
    pub const fn token(&self) -> Option<Token> {
        match self {
            Fact::Ticket { token, .. }
            | Fact::PrecommitLanded { token, .. }
            | Fact::PersistChecked { token, .. }
            | Fact::Seed { token, .. }
            | Fact::ProveLanded { token, .. }
            | Fact::Abandon { token, .. }
            | Fact::Resubmit { token, .. } => Some(*token),
            Fact::Unknown => None,
        }
    }

    /// Whether the fact is meant for a lease, and was not withdrawn by an order to go back that the lease's owner has
    /// carried out: `resubmitted` is the serial of the last one.
    pub fn counts_for(&self, token: Token, resubmitted: u32) -> bool {
        let fresh = match self {
            Fact::PrecommitLanded { serial, .. }
            | Fact::PersistChecked { serial, .. }
            | Fact::Seed { serial, .. }
            | Fact::ProveLanded { serial, .. } => *serial >= resubmitted,
            Fact::Resubmit { serial, .. } => *serial > resubmitted,
            // A ticket carries the number of the request that it answers, and that number rises.
            Fact::Ticket { .. } | Fact::Abandon { .. } => true,
            Fact::Unknown => false,
        };
        fresh && self.token() == Some(token)
    }
}
