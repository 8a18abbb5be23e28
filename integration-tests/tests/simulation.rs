//! The invariants hold in simulated worlds, and each planted bug is found. `make sim` runs many more worlds.

#![allow(clippy::disallowed_macros, reason = "for whoever reads the output")]

use sealbus_integration_tests::sim::{
    batches::Counts,
    bug::Bug,
    restore::Restorations,
    run::{Loss, Options, many, one, one_with_loss},
};
use sealbus_schema::Invariant;

/// The number of worlds here. `make sim` runs the rest.
const WORLDS: u64 = 1_000;
/// In how many worlds at most a planted bug must be found.
const UNTIL_FOUND: u64 = 20_000;

/// Seeds that once failed, and why.
const REGRESSIONS: &[(u64, &str)] = &[
    (
        84,
        "a reorganisation beyond confidence lost a landed PreCommit, which nobody pushed again: its nonce was missing",
    ),
    (1729, "the same with a ProveCommit of a sector that had come to its end"),
    (
        12715,
        "a report on a sector that was abandoned before the fold saw its claim counted as a breach of the protocol",
    ),
    (
        306,
        "a reorganisation beyond confidence took a landed PreCommit back, and another tool its nonce: it was waited for for ever",
    ),
    (62, "an owner reported into the log that took a lost one's place before it knew that it goes on there"),
    (89, "an order to resubmit was lost unread with the queue"),
    (119, "a token of the lost log was the sequence of a record in the next one"),
    (1587, "a journal did not say of which stream its token is, because nobody had answered"),
    (1728, "a slot waited for a sector that had come to its end just before the queue was lost"),
    (17033, "a stream was recovered in which an owner had been named, and had reported, before"),
    (39122, "an order that an earlier owner had carried out was told the next one after the loss of the queue"),
    (
        12142,
        "a message of another tool, before a landed PreCommit, vanished with it: the PreCommit waited for that nonce for ever",
    ),
    (
        174,
        "a restored manager took a PreCommit for unsigned whose first call had failed; the dead one had signed a second",
    ),
    (8520, "a person gave up a sector of a restored database that did not know yet how far the sector was"),
    (46, "a late copy of an event was the last one of its owner, who did its work again"),
    (
        11746,
        "a withdrawn message of many sectors landed all the same, its manager died before it noticed, and a reorganisation took \
         it back: nobody sent the proofs of the others again",
    ),
    (23831, "a PreCommit was pushed again and waited for ever behind a message before it that was lost as well"),
];

#[test]
fn whatever_goes_wrong_every_invariant_holds() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let summary = many(0..WORLDS, threads, Options::default());
    if let Some(failed) = summary.failed {
        panic!("seed {} of {} worlds: {:?}", failed.seed, summary.worlds, failed.broken);
    }
    assert!(summary.ends.0 as u64 > WORLDS, "most sectors prove in the end: {summary:?}");
    let Counts { messages, failed, withdrawn, forks, .. } = summary.batches;
    let happened = [messages, failed, withdrawn, forks];
    assert!(happened.iter().all(|count| *count > 0), "messages carry many sectors in some worlds: {summary:?}");
    let Restorations { times, decisions, sectors, cuts, .. } = summary.restorations;
    let happened = [times, decisions, sectors, cuts];
    assert!(happened.iter().all(|count| *count > 0), "managers are restored and sites cut in some worlds: {summary:?}");
}

#[test]
fn a_seed_always_leads_to_the_same_world() {
    let options = Options { trace: true, ..Options::default() };
    for seed in 0..20 {
        let (first, second) = (one(seed, options), one(seed, options));
        assert_eq!(first.events, second.events, "seed {seed}");
        assert_eq!(first.trace, second.trace, "seed {seed}");
    }
}

#[test]
fn what_was_broken_once_stays_repaired() {
    for (seed, what) in REGRESSIONS {
        for (plain, single) in [(true, true), (false, true), (false, false)] {
            let report = one(*seed, Options { plain, single, ..Options::default() });
            assert!(report.broken.is_none(), "seed {seed} ({what}): {:?}", report.broken);
        }
    }
}

#[test]
fn each_planted_mistake_is_found_by_the_invariant_that_names_it() {
    // Side by side: some show in many worlds only.
    let problems: Vec<String> = std::thread::scope(|scope| {
        let searches = Bug::ALL.map(|bug| scope.spawn(move || problem(bug)));
        searches.into_iter().filter_map(|search| search.join().expect("ends")).collect()
    });
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Plants a mistake in one world after the other until it shows. What is wrong if that is not what must name it. Messages of
/// many sectors, restorations and cut sites are there only if the mistake concerns them.
fn problem(bug: Bug) -> Option<String> {
    let single = !matches!(
        bug,
        Bug::LandTogether
            | Bug::ForgetOthers
            | Bug::ForgetFacts
            | Bug::ForgetNumbers
            | Bug::ForgetGrants
            | Bug::SignAtOnce
            | Bug::ForgetSigned
            | Bug::PurgeAtOnce
            | Bug::TakeFromCutSite
    );
    let options = Options { bug: Some(bug), single, ..Options::default() };
    let found = (0..UNTIL_FOUND)
        .filter_map(|seed| match shows_after(bug) {
            Some(loss) => one_with_loss(seed, options, loss),
            None => Some(one(seed, options)),
        })
        .find_map(|report| report.broken.map(|(invariant, what)| (report.seed, invariant, what)));
    let Some((seed, invariant, what)) = found else {
        return Some(format!("{bug:?} goes unnoticed in {UNTIL_FOUND} worlds"));
    };
    println!("{bug:?}: {invariant} in world {seed}: {what}");
    if let Some(broken) = one(seed, Options { bug: None, ..options }).broken {
        return Some(format!("{bug:?} shows in world {seed}, which is broken without it: {broken:?}"));
    }
    (!expected(bug).contains(&invariant)).then(|| format!("{bug:?} is found by {invariant}: {what}"))
}

/// The loss without which a mistake cannot show. It spares the search the worlds without it.
fn shows_after(bug: Bug) -> Option<Loss> {
    match bug {
        Bug::SequencesBeginAgain
        | Bug::ForgetOrder
        | Bug::ForgetEnded
        | Bug::ForgetOwnReports
        | Bug::ClaimInAnyStream => Some(Loss::Queue),
        Bug::ForgetFacts | Bug::ForgetNumbers | Bug::ForgetGrants | Bug::SignAtOnce | Bug::ForgetSigned => {
            Some(Loss::Manager)
        }
        _ => None,
    }
}

/// The invariants that may name a mistake; which is first depends on the world.
fn expected(bug: Bug) -> &'static [Invariant] {
    match bug {
        Bug::AcceptBeforeJournal => &[Invariant::JournalBeforeAccept],
        Bug::EventBeforeJournal => &[Invariant::JournalBeforeEvent],
        Bug::SkipFence => &[Invariant::WritersAreFenced],
        Bug::IntentBesideFold => &[Invariant::IntentsComeFromTheFold],
        Bug::ForgetOffset => &[Invariant::EventsFoldOnce],
        Bug::ReuseToken => &[Invariant::TokensAreNotReused],
        Bug::FoldWithoutOwner => &[Invariant::OneOwnerAToken],
        Bug::SignAgain | Bug::WantAgain => &[Invariant::OneCallAWant],
        Bug::WithdrawnSeed => &[Invariant::NoWithdrawnFact, Invariant::NothingLost],
        Bug::TwoSlotsOneSector => &[Invariant::OneSlotALease, Invariant::TokensAreNotReused],
        Bug::ResumeWithoutAsking => &[Invariant::LeaseAskedBeforeWork],
        Bug::KeepProcessor => &[Invariant::WaitingHoldsNoProcessor],
        Bug::ForgetRow => &[Invariant::NothingLost],
        Bug::GrantAnyClaim => &[Invariant::ClaimsNeedAGrant],
        Bug::NoWordAfterClaim => &[Invariant::NothingLost],
        Bug::TakeAnyCopy => &[Invariant::NothingLost],
        Bug::SequencesBeginAgain => &[Invariant::NothingLost, Invariant::OneStreamAToken],
        Bug::ForgetOrder => &[Invariant::NothingLost],
        Bug::ForgetEnded => &[Invariant::NothingLost],
        Bug::ForgetOwnReports => &[Invariant::NothingSealedAgain, Invariant::NothingIllegal],
        Bug::ClaimInAnyStream => &[Invariant::WritersAreFenced],
        Bug::ForgetActive => &[Invariant::NothingLost],
        Bug::KeepSeed => &[Invariant::NothingLost],
        Bug::LandTogether | Bug::ForgetOthers => &[Invariant::NothingLost],
        Bug::ForgetFacts | Bug::PurgeAtOnce => &[Invariant::NothingLost, Invariant::NothingIllegal],
        Bug::ForgetNumbers | Bug::ForgetGrants => {
            &[Invariant::NothingLost, Invariant::NothingIllegal, Invariant::NothingSealedAgain]
        }
        Bug::SignAtOnce => &[Invariant::OneCallAWant, Invariant::NothingLost],
        Bug::ForgetSigned => &[Invariant::NothingLost],
        Bug::TakeFromCutSite => &[Invariant::NothingSealedAgain],
    }
}

/// The workflow that only tests have goes through the same worlds, without a line of its own in them.
#[cfg(feature = "toy-workflow")]
#[test]
fn another_workflow_goes_through_the_same_worlds_and_mistakes_in_them_are_found() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let toy = Options { workflow: Some(sealbus_schema::Workflow::Toy), ..Options::default() };
    let summary = many(0..WORLDS, threads, toy);
    if let Some(failed) = summary.failed {
        panic!("seed {} of {} worlds: {:?}", failed.seed, summary.worlds, failed.broken);
    }
    assert!(summary.ends.0 as u64 > WORLDS, "most jobs are done in the end: {summary:?}");
    for bug in [Bug::AcceptBeforeJournal, Bug::EventBeforeJournal, Bug::SkipFence, Bug::ReuseToken] {
        let broken = (0..UNTIL_FOUND).find_map(|seed| one(seed, Options { bug: Some(bug), ..toy }).broken);
        let found = broken.map(|(invariant, _)| invariant);
        assert!(found.is_some_and(|found| expected(bug).contains(&found)), "{bug:?} is found by {found:?}");
    }
}
