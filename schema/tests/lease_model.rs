//! The lease protocol as a model, explored exhaustively: two workers of one slot each, one manager, two sectors, with
//! crashes, zombies, revokes on stale views, lost acknowledgements, claims without an offer, and stale, duplicated and
//! late messages.
//!
//! Ownership is folded by production's own code ([`sealbus_schema::lease`]). The rest models the protocol of
//! `nats/src/lease.rs`, `worker/src/driver` and `manager/src/fold.rs`, where each action is a step that others can
//! interleave with. The search is our own, because liveness here means "from every reachable state, the end can be
//! reached without further faults". That is a property of the whole graph, which checkers of single paths cannot
//! express.

#![allow(clippy::disallowed_macros, reason = "for whoever reads the output")]

#[path = "lease_model/action.rs"]
mod action;
#[path = "lease_model/search.rs"]
mod search;
#[path = "lease_model/world.rs"]
mod world;

use sealbus_schema::Invariant;
use search::Finding;
use world::{Planted, Rules, World};

/// Two sectors compete for two slots with one fault, or there is one sector with several faults, so that the search
/// stays small.
const RULES: Rules = Rules {
    sectors: 2,
    crashes: 0,
    revokes: 1,
    forgeries: 0,
    orphans_are_revoked: true,
    reoffered: false,
    planted: None,
};

fn finding(rules: Rules) -> Option<Finding> {
    let explored = search::explore(World::new(rules), &rules);
    println!("{} states, {} steps", explored.states(), explored.steps());
    explored.finding()
}

fn caught(rules: Rules, invariant: Invariant) {
    let finding = finding(rules).unwrap_or_else(|| panic!("{:?} goes unnoticed", rules.planted));
    println!("{finding}");
    assert_eq!(finding.invariant, invariant, "{finding}");
}

#[test]
fn no_interleaving_breaks_the_protocol_and_each_leaves_a_way_to_the_end() {
    for (sectors, crashes, revokes) in [(2, 0, 1), (2, 1, 0), (1, 1, 2)] {
        if let Some(finding) = finding(Rules { sectors, crashes, revokes, ..RULES }) {
            panic!("{finding}");
        }
    }
}

#[test]
fn claims_that_follow_from_no_offer_take_no_sector_from_its_owner_and_stop_none() {
    for (sectors, crashes, revokes, forgeries) in [(1, 1, 0, 1), (1, 0, 1, 1), (1, 0, 0, 2)] {
        if let Some(finding) = finding(Rules { sectors, crashes, revokes, forgeries, ..RULES }) {
            panic!("{finding}");
        }
    }
}

#[test]
fn a_fold_that_takes_any_claim_is_noticed() {
    let planted = Some(Planted::FoldGrantsAnyClaim);
    caught(Rules { sectors: 1, revokes: 0, forgeries: 1, planted, ..RULES }, Invariant::ClaimsNeedAGrant);
}

#[test]
fn a_sector_is_lost_where_nothing_follows_a_claim_without_a_grant() {
    let planted = Some(Planted::NoRemedy);
    caught(Rules { sectors: 1, revokes: 0, forgeries: 1, planted, ..RULES }, Invariant::NothingLost);
}

#[test]
fn offering_queued_sectors_again_breaks_nothing() {
    if let Some(finding) = finding(Rules { sectors: 1, crashes: 1, revokes: 1, reoffered: true, ..RULES }) {
        panic!("{finding}");
    }
}

#[test]
fn an_intent_subject_without_the_lease_loses_sectors() {
    caught(Rules { planted: Some(Planted::IntentSubjectWithoutLease), ..RULES }, Invariant::NothingLost);
}

#[test]
fn a_lease_that_its_owner_does_not_know_of_is_lost_unless_it_is_taken_back() {
    caught(Rules { crashes: 1, revokes: 0, orphans_are_revoked: false, ..RULES }, Invariant::NothingLost);
}

#[test]
fn an_event_without_its_fence_is_noticed() {
    caught(Rules { planted: Some(Planted::EventsWithoutFence), ..RULES }, Invariant::WritersAreFenced);
}

#[test]
fn a_fold_that_does_not_ask_for_the_owner_is_noticed() {
    caught(Rules { planted: Some(Planted::FoldWithoutOwner), ..RULES }, Invariant::OneOwnerAToken);
}

#[test]
fn an_intent_accepted_before_the_journal_is_noticed() {
    caught(Rules { planted: Some(Planted::AcceptBeforeJournal), ..RULES }, Invariant::JournalBeforeAccept);
}

#[test]
fn an_intent_published_outside_the_fold_is_noticed() {
    caught(Rules { planted: Some(Planted::IntentBesideTheFold), ..RULES }, Invariant::IntentsComeFromTheFold);
}

#[test]
fn a_worker_that_resumes_without_asking_is_noticed() {
    caught(Rules { crashes: 1, planted: Some(Planted::ResumeWithoutAsking), ..RULES }, Invariant::LeaseAskedBeforeWork);
}
