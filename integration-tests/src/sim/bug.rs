//! Mistakes that can be planted, to see that they are found.

/// A mistake in the order of things, or a check left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bug {
    /// The worker takes an intent out of the queue before its claim is in the journal.
    AcceptBeforeJournal,
    /// The worker publishes an event before the journal has it.
    EventBeforeJournal,
    /// The worker's events carry no expectation.
    SkipFence,
    /// A revoke publishes the next intent itself, instead of leaving that to the fold.
    IntentBesideFold,
    /// The fold checks neither its epoch nor its offset.
    ForgetOffset,
    /// Whatever claim of ours stands in the log counts as won, whether it was used or not.
    ReuseToken,
    /// The fold takes an event whoever wrote it, and a worker does not fence its own.
    FoldWithoutOwner,
    /// After a crash a message that was signed is signed anew.
    SignAgain,
    /// The worker does not take a seed that replaces another.
    WithdrawnSeed,
    /// The worker's slots do not look at each other.
    TwoSlotsOneSector,
    /// A restarted slot goes on without asking for its lease.
    ResumeWithoutAsking,
    /// The worker keeps its processor while it waits.
    KeepProcessor,
    /// The outbox forgets a row that it did not hear back about.
    ForgetRow,
    /// Any claim makes an owner.
    GrantAnyClaim,
    /// Nothing follows a claim that makes no owner.
    NoWordAfterClaim,
    /// What the server calls a copy counts as stored, whatever it is a copy of.
    TakeAnyCopy,
    /// The log that takes the place of a lost one begins at 1 again.
    SequencesBeginAgain,
    /// After the loss of the queue the last order is not told again.
    ForgetOrder,
    /// After the loss of the queue nothing is said of sectors that have come to their end.
    ForgetEnded,
    /// A worker that reads that it goes on in another stream does not look what it has reported there.
    ForgetOwnReports,
    /// A worker that has claimed does not look whether the stream still is the one that it was before.
    ClaimInAnyStream,
}

impl Bug {
    /// Every mistake.
    pub const ALL: [Bug; 21] = [
        Bug::AcceptBeforeJournal,
        Bug::EventBeforeJournal,
        Bug::SkipFence,
        Bug::IntentBesideFold,
        Bug::ForgetOffset,
        Bug::ReuseToken,
        Bug::FoldWithoutOwner,
        Bug::SignAgain,
        Bug::WithdrawnSeed,
        Bug::TwoSlotsOneSector,
        Bug::ResumeWithoutAsking,
        Bug::KeepProcessor,
        Bug::ForgetRow,
        Bug::GrantAnyClaim,
        Bug::NoWordAfterClaim,
        Bug::TakeAnyCopy,
        Bug::SequencesBeginAgain,
        Bug::ForgetOrder,
        Bug::ForgetEnded,
        Bug::ForgetOwnReports,
        Bug::ClaimInAnyStream,
    ];
}
