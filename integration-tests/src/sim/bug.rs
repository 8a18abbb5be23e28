//! Bugs that can be planted, to see that the checks find them.

/// A wrong order of actions, or a missing check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bug {
    /// The worker removes an intent from the queue before its claim is in the journal.
    AcceptBeforeJournal,
    /// The worker publishes an event before the journal has it.
    EventBeforeJournal,
    /// The worker's events carry no fence.
    SkipFence,
    /// A revoke publishes the next intent itself, instead of leaving that to the fold.
    IntentBesideFold,
    /// The fold checks neither its epoch nor its offset.
    ForgetOffset,
    /// A claim of ours that is in the log counts as won, even if its token was already used.
    ReuseToken,
    /// The fold accepts events from any writer, and the worker's events carry no fence.
    FoldWithoutOwner,
    /// After a crash, a signed message is signed again.
    SignAgain,
    /// The manager stores another want for a purpose that has one.
    WantAgain,
    /// The worker ignores a seed that replaces another one.
    WithdrawnSeed,
    /// The worker's slots do not check what the others hold.
    TwoSlotsOneSector,
    /// A restarted slot continues without asking for its lease.
    ResumeWithoutAsking,
    /// A slot keeps its processor while it waits.
    KeepProcessor,
    /// The outbox removes a row without an answer.
    ForgetRow,
    /// Any claim makes an owner.
    GrantAnyClaim,
    /// The manager does not respond to a claim that makes no owner.
    NoWordAfterClaim,
    /// A publish that the server calls a duplicate counts as stored, whatever it duplicates.
    TakeAnyCopy,
    /// The stream that replaces a lost one counts from 1 again.
    SequencesBeginAgain,
    /// After the loss of the queue, the manager does not repeat the last order.
    ForgetOrder,
    /// After the loss of the queue, the manager publishes nothing for sectors that have ended.
    ForgetEnded,
    /// A worker that continues in a new stream does not check which of its reports are there.
    ForgetOwnReports,
    /// A worker does not check after its claim that the stream is still the same.
    ClaimInAnyStream,
    /// The manager does not look at active sectors after a reorganisation.
    ForgetActive,
    /// The manager ignores that a PreCommit has moved, and with it the seed.
    KeepSeed,
    /// When one of a call's sectors has landed, the manager counts all of them as landed.
    LandTogether,
    /// When the manager withdraws a call for the sake of one sector, it forgets the others.
    ForgetOthers,
    /// A restored manager does not take the facts in the log for its own decisions.
    ForgetFacts,
    /// A restored manager does not learn of sectors from the log and the queue.
    ForgetNumbers,
    /// A restored manager judges the claims in the log by what it knows alone.
    ForgetGrants,
    /// A restored manager signs while messages may land that it does not know.
    SignAtOnce,
    /// A restored manager takes for unsigned what was not signed at the backup.
    ForgetSigned,
    /// The records of a sector are deleted at its end.
    PurgeAtOnce,
    /// The policy for absent owners takes sectors from a site whose line is cut.
    TakeFromCutSite,
}

impl Bug {
    /// Every bug.
    pub const ALL: [Bug; 33] = [
        Bug::AcceptBeforeJournal,
        Bug::EventBeforeJournal,
        Bug::SkipFence,
        Bug::IntentBesideFold,
        Bug::ForgetOffset,
        Bug::ReuseToken,
        Bug::FoldWithoutOwner,
        Bug::SignAgain,
        Bug::WantAgain,
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
        Bug::ForgetActive,
        Bug::KeepSeed,
        Bug::LandTogether,
        Bug::ForgetOthers,
        Bug::ForgetFacts,
        Bug::ForgetNumbers,
        Bug::ForgetGrants,
        Bug::SignAtOnce,
        Bug::ForgetSigned,
        Bug::PurgeAtOnce,
        Bug::TakeFromCutSite,
    ];
}
