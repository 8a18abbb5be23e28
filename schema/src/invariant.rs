//! The invariants, by name. They must hold at every instruction.
//!
//! The model of the lease protocol, the simulation and a running system share this catalogue, so a violation has the same
//! name everywhere.
//!
//! A running system counts a violation wherever it sees one without reading anything more. It sees these:
//!
//! | invariant | seen by | where |
//! |---|---|---|
//! | [`NothingIllegal`](Invariant::NothingIllegal) | manager | an input that the workflow's table calls illegal |
//! | | worker | a result or a fact that the table refuses |
//! | [`EventsFoldOnce`](Invariant::EventsFoldOnce) | manager | a lease record at or before the last one that the sector has |
//! | [`WritersAreFenced`](Invariant::WritersAreFenced) | manager | an event under a token that is neither the owner's nor the last lease record |
//! | [`TokensAreNotReused`](Invariant::TokensAreNotReused) | manager | an owner's event whose number leaves a gap, though no queue was lost |
//! | [`IntentsComeFromTheFold`](Invariant::IntentsComeFromTheFold) | manager | a sector that is to be offered while a worker owns it |
//! | [`BlockedWithCause`](Invariant::BlockedWithCause) | both | a sector or a slot that is blocked with an empty error |
//! | [`OneSectorASlot`](Invariant::OneSectorASlot) | worker | a slot that takes a sector while it holds another one |
//! | [`OneSlotALease`](Invariant::OneSlotALease) | worker | a slot that takes a sector that another slot holds under the same token |
//! | [`WaitingHoldsNoProcessor`](Invariant::WaitingHoldsNoProcessor) | worker | a processor that a step has and does not use |
//!
//! What the rules refuse is no violation: an event of a worker that is no longer the owner, a claim without an offer, a fact
//! that a later order withdraws. Only the model and the simulation check the other invariants. They see what no process can:
//! another process's journal, the true order of two actions, every stream and every chain at once, or that nothing more
//! will happen. `OneCallAWant` is upheld by the database itself.

use std::fmt;

/// The most bytes in the description of a violation.
const MAX_SEEN_BYTES: usize = 240;

/// An invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// Under one token the fold accepts events of only one worker, and of none after the lease has moved on.
    OneOwnerAToken,
    /// Every event in the log was written under the token of the last lease record before it.
    WritersAreFenced,
    /// A token counts only in the stream whose sequence it is, or where the manager has named it together with that
    /// stream.
    OneStreamAToken,
    /// A token gives one worker the right to one sector, once. The numbers of its events rise by one and never start again.
    TokensAreNotReused,
    /// A claim takes effect only if the manager offers the sector at that moment. Any other claim changes no owner, and
    /// the owner continues its work.
    ClaimsNeedAGrant,
    /// An intent in the queue names a lease record after which, as the fold has seen, nobody owns the sector; or it
    /// names no record, if the sector has none.
    IntentsComeFromTheFold,
    /// An intent leaves the queue only when a claim for it is in the claimer's journal, or when it can no longer be
    /// claimed.
    JournalBeforeAccept,
    /// Everything that a worker reports about a sector is already in its journal.
    JournalBeforeEvent,
    /// A slot holds at most one sector.
    OneSectorASlot,
    /// At most one slot of a worker holds a sector under one token.
    OneSlotALease,
    /// A worker does not start a phase for a sector if it knows, or had to check, that another worker has the lease.
    LeaseAskedBeforeWork,
    /// A record of the log takes effect in the database at most once.
    EventsFoldOnce,
    /// There is one want for a purpose, and one call that takes effect for a want, for ever. The call is in the database
    /// before it is pushed, and keeps its nonce: a higher fee makes another envelope of it.
    OneCallAWant,
    /// For each sector at most one PreCommit and one ProveCommit take effect on a chain, and at most one message is
    /// executed for each purpose.
    OneEffectAPurpose,
    /// No worker acts on a fact after it has read a later one that withdraws it.
    NoWithdrawnFact,
    /// Every proof that is sent was made for the sector's present seed.
    ProofForTheSeed,
    /// Every slot or sector that waits for a person has a cause.
    BlockedWithCause,
    /// Every pair of state and input that occurs is declared by the machines.
    NothingIllegal,
    /// A waiting slot holds no processor.
    WaitingHoldsNoProcessor,
    /// A slot does not seal a sector again under the same lease, and a sector that it held when the queue was lost
    /// continues there, unless a person orders otherwise.
    NothingSealedAgain,
    /// Once faults have stopped, each sector reaches its end, or a person, in bounded time.
    NothingLost,
}

/// A broken invariant, and what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The invariant.
    pub invariant: Invariant,
    /// What was seen, at most 240 bytes.
    pub seen: String,
}

impl Violation {
    /// A violation. The description is cut to its limit.
    pub fn new(invariant: Invariant, seen: impl Into<String>) -> Violation {
        let mut seen = seen.into();
        if seen.len() > MAX_SEEN_BYTES {
            seen.truncate(seen.floor_char_boundary(MAX_SEEN_BYTES - '…'.len_utf8()));
            seen.push('…');
        }
        Violation { invariant, seen }
    }
}

impl Invariant {
    /// Every invariant.
    pub const ALL: [Invariant; 21] = [
        Invariant::OneOwnerAToken,
        Invariant::WritersAreFenced,
        Invariant::OneStreamAToken,
        Invariant::TokensAreNotReused,
        Invariant::ClaimsNeedAGrant,
        Invariant::IntentsComeFromTheFold,
        Invariant::JournalBeforeAccept,
        Invariant::JournalBeforeEvent,
        Invariant::OneSectorASlot,
        Invariant::OneSlotALease,
        Invariant::LeaseAskedBeforeWork,
        Invariant::EventsFoldOnce,
        Invariant::OneCallAWant,
        Invariant::OneEffectAPurpose,
        Invariant::NoWithdrawnFact,
        Invariant::ProofForTheSeed,
        Invariant::BlockedWithCause,
        Invariant::NothingIllegal,
        Invariant::WaitingHoldsNoProcessor,
        Invariant::NothingSealedAgain,
        Invariant::NothingLost,
    ];

    /// The name, as in traces, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Invariant::OneOwnerAToken => "one_owner_a_token",
            Invariant::WritersAreFenced => "writers_are_fenced",
            Invariant::OneStreamAToken => "one_stream_a_token",
            Invariant::TokensAreNotReused => "tokens_are_not_reused",
            Invariant::ClaimsNeedAGrant => "claims_need_a_grant",
            Invariant::IntentsComeFromTheFold => "intents_come_from_the_fold",
            Invariant::JournalBeforeAccept => "journal_before_accept",
            Invariant::JournalBeforeEvent => "journal_before_event",
            Invariant::OneSectorASlot => "one_sector_a_slot",
            Invariant::OneSlotALease => "one_slot_a_lease",
            Invariant::LeaseAskedBeforeWork => "lease_asked_before_work",
            Invariant::EventsFoldOnce => "events_fold_once",
            Invariant::OneCallAWant => "one_call_a_want",
            Invariant::OneEffectAPurpose => "one_effect_a_purpose",
            Invariant::NoWithdrawnFact => "no_withdrawn_fact",
            Invariant::ProofForTheSeed => "proof_for_the_seed",
            Invariant::BlockedWithCause => "blocked_with_cause",
            Invariant::NothingIllegal => "nothing_illegal",
            Invariant::WaitingHoldsNoProcessor => "waiting_holds_no_processor",
            Invariant::NothingSealedAgain => "nothing_sealed_again",
            Invariant::NothingLost => "nothing_lost",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
