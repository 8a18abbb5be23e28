//! What must hold at every instruction, by name.
//!
//! One catalogue for the model of the lease protocol, the simulation and the counters of a running system: whoever finds
//! one broken says which, by the same name everywhere.

use std::fmt;

/// Something that must never be otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// Under one token the fold accepts the events of one worker, and of nobody after the lease has moved on.
    OneOwnerAToken,
    /// The log holds no event that was written under another token than that of the last lease record before it.
    WritersAreFenced,
    /// A token counts only in the stream in which it is a sequence, or where the manager has named it with that stream.
    OneStreamAToken,
    /// A token gives the right to one sector to one worker, once; the numbers of its events never begin again.
    TokensAreNotReused,
    /// A claim takes effect only if it follows from what the manager offers at that moment: one that does not changes no
    /// owner, and the owner goes on with its work.
    ClaimsNeedAGrant,
    /// An intent in the queue names a lease record behind which, as the fold has seen, nobody owns the sector (or none at all).
    IntentsComeFromTheFold,
    /// An intent leaves the queue only when a claim for it is in the claimer's journal, or when it cannot claim any more.
    JournalBeforeAccept,
    /// Whatever a worker says of a sector, its journal says already.
    JournalBeforeEvent,
    /// A slot holds at most one sector.
    OneSectorASlot,
    /// At most one slot of a worker holds a sector under one token.
    OneSlotALease,
    /// A worker does not begin a phase for a sector whose lease it knew, or had to find out, to be somebody else's.
    LeaseAskedBeforeWork,
    /// A record of the log takes effect in the database at most once.
    EventsFoldOnce,
    /// What is pushed for one purpose with one nonce is the same call each time, and it is in the database already.
    SameBytesForOnePurpose,
    /// For one sector at most one PreCommit and at most one ProveCommit take effect on a chain, and a message is executed
    /// for one purpose at most once.
    OneEffectAPurpose,
    /// No worker goes on from a fact when a later one has withdrawn it and been read.
    NoWithdrawnFact,
    /// A proof that is sent was made for the seed that the sector has now.
    ProofForTheSeed,
    /// A slot or a sector that waits for a person says why.
    BlockedWithCause,
    /// Each pair of a state and an input that arises is one that the machines declare.
    NothingIllegal,
    /// A waiting slot holds no processor.
    WaitingHoldsNoProcessor,
    /// What a slot has sealed is not sealed again under the same right, and what it held when the queue was lost goes on there,
    /// unless a person orders otherwise.
    NothingSealedAgain,
    /// Once faults have stopped, each sector comes to an end, or to a person, in bounded time.
    NothingLost,
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
        Invariant::SameBytesForOnePurpose,
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
            Invariant::SameBytesForOnePurpose => "same_bytes_for_one_purpose",
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
