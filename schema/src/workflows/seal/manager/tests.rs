use proptest::prelude::*;

use super::*;
use crate::{
    ErrorClass, ErrorCode, Phase, Randomness, Transition,
    bytes::{Commitment, ProofBytes},
    machine::manager::{self as machine, Purpose, Standing},
    message::CommonEvent,
    parts::StoredSector,
};

type Sector = Standing<State>;
type Input = machine::Input<Seal>;

const ATTEMPT: Effect<Seal> = Effect::Offer { another_attempt: true };
const AGAIN: Effect<Seal> = Effect::Offer { another_attempt: false };
const POLICY: AttemptPolicy = AttemptPolicy { max_attempts: 3, max_issues: 5 };

fn ticket(draw: u32) -> Ticket {
    let randomness = Randomness([3; 32]);
    Ticket { draw, randomness, epoch: -880, expires_epoch: 2900, head_epoch: 20, epoch_millis: 30_000 }
}

fn seed(draw: u32) -> Seed {
    Seed { draw, randomness: Randomness([draw as u8; 32]), epoch: 40 }
}

fn precommit(epoch: i64) -> PreCommitInfo {
    PreCommitInfo { epoch, prove_by_epoch: epoch + 86_410, head_epoch: epoch + 1, epoch_millis: 30_000 }
}

fn error(class: ErrorClass) -> ErrorReport {
    ErrorReport::new(class, ErrorCode::PROOFS_FAILED, "it failed")
}

fn pc2_done() -> Input {
    Input::Event(Event::Pc2Done { comm_r: Commitment([1; 32]), comm_d: Commitment([2; 32]) })
}

fn c2_done(seed_draw: u32) -> Input {
    Input::Event(Event::C2Done { seed_draw, proof: ProofBytes(vec![1]) })
}

fn persisted() -> Input {
    Input::Event(Event::Persisted { stored: StoredSector { store: "main".into(), files: vec![], identity: None } })
}

fn started() -> Input {
    Input::Common(CommonEvent::PhaseStarted { phase: Phase::Pc1, attempt: 1, processor: "pc1-0".into() })
}

fn released(attempt: u32) -> Input {
    Input::Released(Released { attempt, issues: attempt, signed: true })
}

/// The next input on the happy path.
fn answer_to(state: &State) -> Option<Input> {
    Some(match state {
        State::Queued => Input::Claimed,
        State::Packing => Input::Event(Event::TicketWanted { draw: 1 }),
        State::DrawingTicket { draw } => Input::Answer(Answer::TicketDrawn(ticket(*draw))),
        State::Sealing { .. } => pc2_done(),
        State::PreCommitting(_) => Input::Answer(Answer::PreCommitLanded(precommit(30))),
        State::Persisting(_) => persisted(),
        State::CheckingFiles(_) => Input::Answer(Answer::FilesChecked),
        State::AwaitingSeed(stored) => Input::Answer(Answer::SeedDrawn(seed(stored.precommitted.seeds_drawn + 1))),
        State::Committing(seeded) => c2_done(seeded.seed.draw),
        State::VerifyingProof(_) => Input::Answer(Answer::ProofVerified),
        State::ProveCommitting(_) => Input::Answer(Answer::ProveLanded { activation_epoch: 50 }),
        State::Cleaning(_) => Input::Common(CommonEvent::Finished {}),
        State::Aborting { .. } | State::Abandoning { .. } => released(1),
        State::Requeued(_) => Input::Claimed,
        State::Rebuilding(rebuild) => {
            let Sealed { comm_r, comm_d, .. } = *rebuild.sealed();
            Input::Event(Event::Pc2Done { comm_r, comm_d })
        }
        State::Proving(_) | State::Aborted { .. } => return None,
    })
}

fn apply(sector: &Sector, input: Input) -> Transition<Sector, Effect<Seal>> {
    machine::apply::<Seal>(sector, input, POLICY)
}

fn advance(sector: &Sector, input: Input) -> (Sector, Vec<Effect<Seal>>) {
    match apply(sector, input.clone()) {
        Transition::Advance { next, effects } => (next, effects),
        other => panic!("{sector:?} with {input:?}: {other:?}"),
    }
}

fn name_of(sector: &Sector) -> &'static str {
    sector.at.name()
}

fn happy_path() -> (Vec<Sector>, Vec<Effect<Seal>>) {
    let (mut states, mut all) = (vec![Standing::at(State::Queued)], Vec::new());
    while let Some(input) = answer_to(&states[states.len() - 1].at) {
        let (next, effects) = advance(&states[states.len() - 1], input);
        all.extend(effects);
        states.push(next);
    }
    (states, all)
}

fn at(name: &str) -> Sector {
    happy_path().0.into_iter().find(|sector| name_of(sector) == name).expect("a state of the happy path")
}

fn any_input() -> impl Strategy<Value = Input> {
    let classes = vec![ErrorClass::Temp, ErrorClass::Perm, ErrorClass::Crit, ErrorClass::Abort];
    prop_oneof![
        Just(Input::Claimed),
        (1..4u32, 1..7u32, any::<bool>())
            .prop_map(|(attempt, issues, signed)| { Input::Released(Released { attempt, issues, signed }) }),
        prop::option::of(prop::sample::select(Phase::SEALING.to_vec())).prop_map(|from| Input::Resubmitted { from }),
        any::<bool>().prop_map(|lose_deposit| Input::Abandoned { cause: error(ErrorClass::Abort), lose_deposit }),
        (1..4u32).prop_map(|draw| Input::Event(Event::TicketWanted { draw })),
        Just(started()),
        Just(pc2_done()),
        Just(persisted()),
        (1..4u32).prop_map(c2_done),
        Just(Input::Common(CommonEvent::Finished {})),
        Just(Input::Newer),
        prop::sample::select(classes).prop_map(|c| Input::Common(CommonEvent::Failed { error: error(c) })),
        Just(Input::Common(CommonEvent::Aborted { error: error(ErrorClass::Abort) })),
        (1..4u32).prop_map(|draw| Input::Answer(Answer::TicketDrawn(ticket(draw)))),
        Just(Input::Answer(Answer::Expired(error(ErrorClass::Abort)))),
        (30..33i64).prop_map(|epoch| Input::Answer(Answer::PreCommitLanded(precommit(epoch)))),
        (30..33i64).prop_map(|epoch| Input::Answer(Answer::PreCommitMoved(precommit(epoch)))),
        Just(Input::Answer(Answer::FilesChecked)),
        (1..4u32).prop_map(|draw| Input::Answer(Answer::SeedDrawn(seed(draw)))),
        Just(Input::Answer(Answer::ProofVerified)),
        Just(Input::Answer(Answer::ProveLanded { activation_epoch: 50 })),
        Just(Input::Refused(error(ErrorClass::Perm))),
    ]
}

#[test]
fn a_sector_goes_from_queued_to_proving_with_one_message_of_each_kind() {
    let (states, effects) = happy_path();
    let names: Vec<_> = states.iter().map(name_of).collect();
    assert_eq!(names, State::ON_THE_WAY, "every state of the happy path, in order");
    let expected = [
        tell(Fact::Ticket { ticket: ticket(1) }),
        Effect::Want(Purpose::PreCommit),
        tell(landed(precommit(30))),
        tell(Fact::PersistChecked {}),
        tell(Fact::Seed { seed: seed(1) }),
        Effect::Want(Purpose::ProveCommit),
        tell(Fact::ProveLanded { activation_epoch: 50 }),
        Effect::CloseLease,
    ];
    assert_eq!(effects, expected);
}

#[test]
fn what_was_told_leads_a_manager_that_does_not_know_it_to_the_same_state() {
    // A seed comes 10 epochs after its PreCommit.
    let delay = seed(1).epoch - precommit(30).epoch;
    let mut facts = 0;
    for pair in happy_path().0.windows(2) {
        let input = answer_to(&pair[0].at).expect("a state of the happy path");
        for effect in advance(&pair[0], input).1 {
            let Effect::Tell(fact) = effect else { continue };
            assert_eq!(Seal::recalled(&pair[0].at, &fact, delay).as_ref(), Some(&pair[1].at), "{fact:?}");
            assert_eq!(Seal::recalled(&pair[1].at, &fact, delay), None, "it is known then");
            facts += 1;
        }
    }
    assert_eq!(facts, 5, "every fact of sealing");
    let proved = tell(Fact::ProveLanded { activation_epoch: 50 });
    let Effect::Tell(proved) = proved else { panic!("a fact") };
    let cleaning = Seal::recalled(&at("verifying_proof").at, &proved, delay);
    assert_eq!(cleaning.map(|state| state.name()), Some("cleaning"), "that the proof was verified is told to nobody");
}

#[test]
fn a_seed_that_was_told_says_where_the_precommit_is() {
    let moved = Seed { draw: 2, epoch: seed(1).epoch + 3, ..seed(1) };
    let delay = seed(1).epoch - precommit(30).epoch;
    for name in ["awaiting_seed", "committing", "verifying_proof", "prove_committing"] {
        let next = Seal::recalled(&at(name).at, &Fact::Seed { seed: moved }, delay).expect("a new seed");
        let State::Committing(seeded) = &next else { panic!("{next:?}") };
        let PreCommitted { precommit: known, seeds_drawn, .. } = &seeded.stored.precommitted;
        assert_eq!((known.epoch, *seeds_drawn, seeded.seed), (33, 2, moved), "{name}");
        assert_eq!(known.prove_by_epoch - known.epoch, precommit(30).prove_by_epoch - 30, "{name}");
    }
}

#[test]
fn an_order_to_drop_an_attempt_says_whether_another_follows() {
    let expired = ErrorReport::new(ErrorClass::Abort, ErrorCode::TICKET_EXPIRED, "too old");
    let name = |state: Option<State>| state.map(|state| state.name());
    assert_eq!(name(Seal::dropped(&at("pre_committing").at, expired)), Some("aborting"));
    assert_eq!(name(Seal::dropped(&at("sealing").at, error(ErrorClass::Abort))), Some("abandoning"));
    assert_eq!(name(Seal::dropped(&at("proving").at, error(ErrorClass::Abort))), None);
}

#[test]
fn a_release_before_the_precommit_is_signed_begins_another_attempt() {
    for state in happy_path().0 {
        let unsigned = Input::Released(Released { attempt: 1, issues: 1, signed: false });
        let offered = match apply(&state, unsigned) {
            Transition::Advance { next, effects } => next.at == State::Queued && effects == [ATTEMPT],
            _ => false,
        };
        let before = ["queued", "packing", "drawing_ticket", "sealing", "pre_committing"].contains(&name_of(&state));
        assert_eq!(offered, before, "{}", name_of(&state));
    }
}

#[test]
fn a_release_after_the_precommit_is_signed_has_the_sector_sealed_again_to_the_same_commr() {
    for name in ["pre_committing", "persisting", "checking_files", "awaiting_seed", "committing"] {
        let (next, effects) = advance(&at(name), released(1));
        assert!(matches!(next.at, State::Requeued(_)), "{name}");
        assert_eq!(effects, [AGAIN]);
        assert_eq!(next.at.sealed(), at(name).at.sealed(), "nothing known is forgotten");
        let (rebuilding, _) = advance(&next, Input::Claimed);
        let (rebuilding, effects) = advance(&rebuilding, Input::Event(Event::TicketWanted { draw: 1 }));
        assert!(
            matches!(effects[..], [Effect::Tell(Fact::Ticket { ticket: t })] if t.randomness == ticket(1).randomness),
            "{name}"
        );
        let (again, _) = advance(&rebuilding, pc2_done());
        assert_eq!(name_of(&again), if name == "pre_committing" { name } else { "persisting" });
        let other = Event::Pc2Done { comm_r: Commitment([9; 32]), comm_d: Commitment([2; 32]) };
        let (blocked, _) = advance(&rebuilding, Input::Event(other));
        assert!(blocked.blocked.is_some_and(|cause| cause.code == ErrorCode::COMM_R_MISMATCH));
    }
}

#[test]
fn a_precommit_that_lands_while_its_sector_is_sealed_again_is_told_after_pc2() {
    let (requeued, _) = advance(&at("pre_committing"), released(1));
    for state in [requeued.clone(), advance(&requeued, Input::Claimed).0] {
        let (landed, effects) = advance(&state, Input::Answer(Answer::PreCommitLanded(precommit(30))));
        assert!(effects.is_empty() && landed.at.precommitted().is_some(), "{}", name_of(&state));
    }
}

#[test]
fn a_sector_whose_proof_is_here_needs_no_worker() {
    for name in ["verifying_proof", "prove_committing"] {
        assert_eq!(advance(&at(name), released(1)).0, at(name));
        assert!(!at(name).at.traits().needs_owner);
    }
    let (cleaning, _) = advance(&at("prove_committing"), Input::Answer(Answer::ProveLanded { activation_epoch: 50 }));
    assert!(cleaning.at.traits().needs_owner, "so a sector without one is released at once");
    assert_eq!(name_of(&advance(&cleaning, released(1)).0), "proving");
}

#[test]
fn a_sector_that_is_offered_too_often_waits_for_a_person() {
    let often = Input::Released(Released { attempt: 1, issues: POLICY.max_issues, signed: true });
    for (name, offer) in [("packing", ATTEMPT), ("committing", AGAIN)] {
        let (blocked, effects) = advance(&at(name), often.clone());
        assert!(effects.is_empty(), "{name}");
        assert!(blocked.blocked.as_ref().is_some_and(|cause| cause.code == ErrorCode::REISSUED_TOO_OFTEN));
        let (_, effects) = advance(&blocked, Input::Resubmitted { from: None });
        assert_eq!(effects, [offer]);
    }
}

#[test]
fn a_blocked_sector_that_is_resubmitted_goes_on_from_where_a_person_says() {
    let block = |name: &str| advance(&at(name), Input::Refused(error(ErrorClass::Perm))).0;
    for (name, from, next, effect) in [
        ("sealing", None, "sealing", None),
        ("sealing", Some(Phase::TreeD), "packing", None),
        ("pre_committing", None, "pre_committing", Some(Effect::Want(Purpose::PreCommit))),
        ("prove_committing", None, "prove_committing", Some(Effect::Want(Purpose::ProveCommit))),
        ("prove_committing", Some(Phase::C1), "committing", Some(tell(Fact::Seed { seed: seed(1) }))),
        ("checking_files", Some(Phase::Transfer), "persisting", Some(tell(landed(precommit(30))))),
        ("committing", Some(Phase::Pc1), "rebuilding", None),
    ] {
        let (state, effects) = advance(&block(name), Input::Resubmitted { from });
        assert_eq!(name_of(&state), next, "{name} from {from:?}");
        let expected: Vec<Effect<Seal>> = [Effect::TellResubmit { from }].into_iter().chain(effect).collect();
        assert_eq!(effects, expected, "{name} from {from:?}");
    }
    for (name, from) in [("packing", Phase::C1), ("sealing", Phase::Transfer), ("queued", Phase::Pc1)] {
        assert!(matches!(apply(&block(name), Input::Resubmitted { from: Some(from) }), Transition::Illegal(_)));
    }
    assert!(matches!(apply(&at("sealing"), Input::Resubmitted { from: None }), Transition::Illegal(_)));
}

#[test]
fn a_sector_with_a_deposit_is_abandoned_only_when_a_person_says_so() {
    let abandon = |lose_deposit| Input::Abandoned { cause: error(ErrorClass::Abort), lose_deposit };
    for name in ["queued", "packing", "sealing"] {
        let (next, effects) = advance(&at(name), abandon(false));
        assert!(
            matches!(next.at, State::Abandoning { .. }) && matches!(effects[..], [Effect::TellAbandon(_)]),
            "{name}"
        );
        assert!(matches!(advance(&next, released(1)).0.at, State::Aborted { .. }), "and is not offered again");
    }
    for name in ["pre_committing", "persisting", "committing", "prove_committing"] {
        assert!(matches!(apply(&at(name), abandon(false)), Transition::Illegal(_)), "{name}");
        assert_eq!(name_of(&advance(&at(name), abandon(true)).0), "abandoning", "{name}");
    }
    for name in ["cleaning", "proving"] {
        assert!(matches!(apply(&at(name), abandon(true)), Transition::Illegal(_)), "{name}");
    }
}

#[test]
fn an_aborted_attempt_is_followed_by_another_until_the_limit() {
    let (aborting, effects) =
        advance(&at("sealing"), Input::Common(CommonEvent::Aborted { error: error(ErrorClass::Abort) }));
    assert_eq!(effects, [Effect::CloseLease]);
    let (next, effects) = advance(&aborting, released(1));
    assert_eq!((next.at, effects), (State::Queued, vec![ATTEMPT]));
    let (next, effects) = advance(&aborting, released(POLICY.max_attempts));
    assert!(matches!(next.at, State::Aborted { .. }) && effects.is_empty());
}

#[test]
fn an_expired_ticket_abandons_the_attempt_and_an_expired_precommit_asks_a_person() {
    let (next, effects) = advance(&at("pre_committing"), Input::Answer(Answer::Expired(error(ErrorClass::Abort))));
    assert!(matches!(next.at, State::Aborting { .. }) && matches!(effects[..], [Effect::TellAbandon(_)]));
    let State::PreCommitting(sealed) = at("pre_committing").at else { panic!("a sealed sector") };
    let rebuilding = Standing::at(State::Rebuilding(Rebuild::Sent(sealed)));
    let (next, effects) = advance(&rebuilding, Input::Answer(Answer::Expired(error(ErrorClass::Abort))));
    assert!(
        matches!(next.at, State::Aborting { .. }) && matches!(effects[..], [Effect::TellAbandon(_)]),
        "no CommR to keep"
    );
    let (next, _) = advance(&at("committing"), Input::Answer(Answer::Expired(error(ErrorClass::Abort))));
    assert!(next.blocked.is_some());
}

#[test]
fn a_precommit_that_moves_draws_the_next_seed_and_ignores_the_old_proof() {
    // Also while the proof for the old seed is being made.
    for name in ["committing", "verifying_proof", "prove_committing"] {
        let (waiting, _) = advance(&at(name), Input::Answer(Answer::PreCommitMoved(precommit(33))));
        assert!(
            matches!(&waiting.at, State::AwaitingSeed(stored) if stored.precommitted.precommit.epoch == 33),
            "{name}"
        );
    }
    let (waiting, _) = advance(&at("committing"), Input::Answer(Answer::PreCommitMoved(precommit(33))));
    assert!(matches!(apply(&waiting, c2_done(1)), Transition::Ignore(_)));
    let (committing, _) = advance(&waiting, Input::Answer(Answer::SeedDrawn(seed(2))));
    assert!(matches!(apply(&committing, c2_done(1)), Transition::Ignore(_)));
    assert!(matches!(apply(&committing, c2_done(2)), Transition::Advance { .. }));
}

#[test]
fn a_blocked_sector_goes_on_when_its_worker_does() {
    let (blocked, _) = advance(&at("sealing"), Input::Common(CommonEvent::Failed { error: error(ErrorClass::Crit) }));
    assert!(blocked.blocked.is_some());
    assert_eq!(name_of(&blocked), "sealing");
    assert_eq!(advance(&blocked, started()).0, at("sealing"));
    assert_eq!(name_of(&advance(&blocked, pc2_done()).0), "pre_committing");
}

#[test]
fn a_claim_of_a_sector_that_was_not_offered_is_illegal() {
    assert!(matches!(apply(&at("sealing"), Input::Claimed), Transition::Illegal(_)));
}

proptest! {
    #[test]
    fn any_inputs_keep_the_named_invariants(inputs in prop::collection::vec(any_input(), 0..80)) {
        let mut state = Standing::at(State::Queued);
        let mut ended = false;
        for input in inputs {
            let claimed = input == Input::Claimed;
            let may_offer = matches!(input, Input::Released(_) | Input::Resubmitted { .. });
            if let Transition::Advance { next, effects } = apply(&state, input) {
                prop_assert!(!ended, "left a terminal state");
                if let Some(cause) = &next.blocked {
                    prop_assert!(!cause.causes.is_empty(), "blocked without a cause");
                }
                prop_assert_eq!(effects.contains(&ATTEMPT), may_offer && next.blocked.is_none() && next.at == State::Queued);
                let requeued = next.blocked.is_none() && matches!(next.at, State::Requeued(_));
                prop_assert_eq!(effects.contains(&AGAIN), may_offer && requeued);
                prop_assert!(!claimed || matches!(next.at, State::Packing | State::Rebuilding(_)));
                if effects.contains(&Effect::Want(Purpose::PreCommit)) {
                    prop_assert!(matches!(next.at, State::PreCommitting(_)));
                }
                if effects.contains(&Effect::Want(Purpose::ProveCommit)) {
                    prop_assert!(matches!(next.at, State::ProveCommitting(_)));
                }
                state = next;
                ended = state.at.traits().is_terminal();
            }
            prop_assert!(State::NAMES.contains(&name_of(&state)));
        }
    }
}
