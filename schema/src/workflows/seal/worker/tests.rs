use proptest::prelude::*;

use super::{super::Fact as SealFact, step::*, *};
use crate::{
    ErrorClass, ErrorCode, ErrorReport, IntentKind, Randomness, Token, Transition,
    machine::worker::{Input, Outcome, RetryPolicy, State},
    message::{CommonFact, EventBody, Fact},
    parts::{PreCommitInfo, Seed, Ticket},
    phase::Phase,
    workflows::Step as AnyStep,
};

const POLICY: RetryPolicy = RetryPolicy { max_retries: 2 };
const TOKEN: Token = Token(9);

fn ticket(draw: u32) -> Fact {
    let ticket = Ticket {
        draw,
        randomness: Randomness([3; 32]),
        epoch: -880,
        expires_epoch: 2900,
        head_epoch: 20,
        epoch_millis: 30_000,
    };
    Fact::new(TOKEN, 0, SealFact::Ticket { ticket })
}

fn seed(draw: u32) -> Fact {
    Fact::new(TOKEN, 0, SealFact::Seed { seed: Seed { draw, randomness: Randomness([draw as u8; 32]), epoch: 40 } })
}

fn precommit_landed() -> Fact {
    let precommit = PreCommitInfo { epoch: 30, prove_by_epoch: 86_000, head_epoch: 31, epoch_millis: 30_000 };
    Fact::new(TOKEN, 0, SealFact::PrecommitLanded { precommit, stores: Vec::new() })
}

fn error(class: ErrorClass) -> ErrorReport {
    ErrorReport::new(class, ErrorCode::PROOFS_FAILED, "it failed")
}

fn abandon() -> Input {
    Input::Fact(Fact::new(TOKEN, 0, CommonFact::Abandon { error: error(ErrorClass::Abort) }))
}

fn resubmit(serial: u32, from: Option<Phase>) -> Input {
    Input::Fact(Fact::new(TOKEN, serial, CommonFact::Resubmit { from }))
}

fn newer() -> Fact {
    serde_json::from_str(r#"{"kind":"teleport","token":9}"#).expect("a fact of a newer version")
}

fn stored() -> StoredSector {
    StoredSector { store: "main".into(), files: Vec::new(), identity: None }
}

/// Every kind of input, with numbers of draws that may or may not be expected.
fn any_input() -> impl Strategy<Value = Input> {
    let comm = Commitment([1; 32]);
    let failures = vec![ErrorClass::Temp, ErrorClass::Perm, ErrorClass::Crit, ErrorClass::Abort];
    prop_oneof![
        Just(Input::PhaseStarted { processor: "p-0".into() }),
        Just(Input::from(Progress::PiecesAdded { pieces: vec![] })),
        Just(Input::from(Progress::TreeDBuilt { comm_d: comm })),
        Just(Input::from(Progress::Pc1RoomSeen)),
        Just(Input::from(Progress::TicketExpired)),
        Just(Input::from(Progress::Pc1Done)),
        Just(Input::from(Progress::Pc2Done { comm_r: comm, comm_d: comm })),
        Just(Input::from(Progress::Persisted { stored: stored() })),
        Just(Input::from(Progress::C1Done)),
        Just(Input::from(Progress::C2Done { proof: ProofBytes(vec![1]) })),
        Just(Input::RetryDue),
        Just(Input::Cleaned),
        prop::sample::select(failures).prop_map(|class| Input::Failed { error: error(class) }),
        (1..4u32).prop_map(|draw| Input::Fact(ticket(draw))),
        Just(Input::Fact(precommit_landed())),
        Just(Input::Fact(Fact::new(TOKEN, 0, SealFact::PersistChecked {}))),
        (1..4u32).prop_map(|draw| Input::Fact(seed(draw))),
        Just(Input::Fact(Fact::new(TOKEN, 0, SealFact::ProveLanded { activation_epoch: 50 }))),
        Just(abandon()),
        Just(Input::Fact(newer())),
        prop::option::of(prop::sample::select(Phase::SEALING.to_vec())).prop_map(|from| resubmit(1, from)),
    ]
}

/// The next input on the happy path.
fn answer_to(state: &State) -> Option<Input> {
    let comm = Commitment([1; 32]);
    let step = match state {
        State::Going { step, .. } => step,
        State::BackingOff { .. } => return Some(Input::RetryDue),
        State::Blocked { .. } | State::Over { .. } => return None,
    };
    let step = match step {
        AnyStep::Seal(step) => step,
        _ => return Some(Input::Cleaned),
    };
    Some(match step {
        Step::AddingPieces { .. } => Input::from(Progress::PiecesAdded { pieces: vec![] }),
        Step::BuildingTreeD { .. } => Input::from(Progress::TreeDBuilt { comm_d: comm }),
        Step::AwaitingPc1Room { .. } => Input::from(Progress::Pc1RoomSeen),
        Step::AwaitingTicket { draw, .. } => Input::Fact(ticket(*draw)),
        Step::Pc1 { .. } => Input::from(Progress::Pc1Done),
        Step::Pc2 { .. } => Input::from(Progress::Pc2Done { comm_r: comm, comm_d: comm }),
        Step::AwaitingPreCommit { .. } => Input::Fact(precommit_landed()),
        Step::Transferring { .. } => Input::from(Progress::Persisted { stored: stored() }),
        Step::AwaitingPersistCheck { .. } => Input::Fact(Fact::new(TOKEN, 0, SealFact::PersistChecked {})),
        Step::AwaitingSeed { .. } => Input::Fact(seed(1)),
        Step::C1 { .. } => Input::from(Progress::C1Done),
        Step::C2 { .. } => Input::from(Progress::C2Done { proof: ProofBytes(vec![1]) }),
        Step::AwaitingProveCommit { .. } => {
            Input::Fact(Fact::new(TOKEN, 0, SealFact::ProveLanded { activation_epoch: 50 }))
        }
    })
}

fn advance(state: &State, input: Input) -> (State, Vec<EventBody>) {
    match state.apply(input.clone(), POLICY) {
        Transition::Advance { next, effects } => (next, effects),
        other => panic!("{state:?} with {input:?}: {other:?}"),
    }
}

/// Every state of the happy path, and the names of the events that it reports.
fn happy_path() -> (Vec<State>, Vec<&'static str>) {
    let (mut states, mut reports) = (vec![State::claimed(IntentKind::Seal).expect("known")], Vec::new());
    while let Some(input) = answer_to(&states[states.len() - 1]) {
        let (next, effects) = advance(&states[states.len() - 1], input);
        reports.extend(effects.iter().map(EventBody::kind));
        states.push(next);
    }
    (states, reports)
}

fn at(name: &str) -> State {
    let found = happy_path().0.into_iter().find(|s| s.step().is_some_and(|step| step.name() == name));
    found.expect("a step of the happy path")
}

#[test]
fn a_sector_goes_from_claim_to_finished_and_reports_each_step_once() {
    let (states, reports) = happy_path();
    assert_eq!(states.last(), Some(&State::Over { outcome: Outcome::Finished }));
    let expected = [
        "pieces_added",
        "tree_d_built",
        "ticket_wanted",
        "pc1_done",
        "pc2_done",
        "persisted",
        "c1_done",
        "c2_done",
        "finished",
    ];
    assert_eq!(reports, expected);
}

#[test]
fn a_state_that_waits_needs_no_processor() {
    let mut waiting = 0;
    for state in happy_path().0 {
        let name = state.step().map_or("over", AnyStep::name);
        if name.starts_with("awaiting") {
            waiting += 1;
            assert!(matches!(state.need(), Need::Fact | Need::Room(Phase::Pc1)), "{name}");
        } else {
            assert!(matches!(state.need(), Need::Run(_) | Need::Clean | Need::Nothing), "{name}");
        }
    }
    assert_eq!(waiting, 6);
}

#[test]
fn a_ticket_that_was_not_asked_for_changes_nothing() {
    let state = at("awaiting_ticket");
    assert!(matches!(state.apply(Input::Fact(ticket(7)), POLICY), Transition::Ignore(_)));
}

#[test]
fn an_expired_ticket_is_asked_for_again_with_the_next_number() {
    let (state, _) = advance(&at("pc1"), Input::from(Progress::TicketExpired));
    let (state, events) = advance(&state, Input::from(Progress::Pc1RoomSeen));
    assert_eq!(events, [EventBody::from(Event::TicketWanted { draw: 2 })]);
    assert!(matches!(state.step(), Some(AnyStep::Seal(Step::AwaitingTicket { draw: 2, .. }))));
    assert!(matches!(state.apply(Input::Fact(ticket(1)), POLICY), Transition::Ignore(_)), "the expired one");
}

#[test]
fn a_seed_that_moves_sends_c2_and_a_waiting_proof_back_to_c1() {
    for name in ["c1", "c2", "awaiting_prove_commit"] {
        let state = at(name);
        assert!(matches!(state.apply(Input::Fact(seed(1)), POLICY), Transition::Ignore(_)), "in use, {name}");
        let (next, _) = advance(&state, Input::Fact(seed(2)));
        assert!(matches!(next.step(), Some(AnyStep::Seal(Step::C1 { seed, .. })) if seed.draw == 2), "{name}");
    }
}

#[test]
fn a_temp_error_is_retried_and_then_blocks_as_perm() {
    let mut state = at("pc2");
    for attempt in 1..=POLICY.max_retries {
        let (next, events) = advance(&state, Input::Failed { error: error(ErrorClass::Temp) });
        assert_eq!(events[0].error().map(|e| (e.class, e.attempt)), Some((ErrorClass::Temp, attempt)));
        assert_eq!(next.need(), Need::Retry);
        state = advance(&next, Input::RetryDue).0;
        assert_eq!(state.attempt(), attempt + 1);
    }
    let (state, events) = advance(&state, Input::Failed { error: error(ErrorClass::Temp) });
    assert_eq!(events[0].error().map(|e| e.class), Some(ErrorClass::Perm));
    assert_eq!(state.need(), Need::Person);
}

#[test]
fn a_store_that_is_away_is_told_once_and_costs_no_try() {
    let away = || ErrorReport::new(ErrorClass::Temp, ErrorCode::STORE_UNAVAILABLE, "not mounted");
    for name in ["transfer", "cleaning"] {
        let mut state = at(name);
        for _ in 0..10 * POLICY.max_retries {
            let (next, events) = advance(&state, Input::Failed { error: away() });
            assert_eq!((events.len(), next.need()), (1, Need::Retry), "{name}");
            state = advance(&next, Input::RetryDue).0;
            assert_eq!(state.attempt(), 1, "{name}");
        }
        assert_eq!(state.need(), at(name).need(), "{name}");
    }
}

#[test]
fn what_blocks_after_several_tries_carries_how_each_of_them_failed() {
    let mut state = at("pc2");
    let failed = |n: u32| ErrorReport::new(ErrorClass::Temp, ErrorCode::PROCESSOR_DIED, format!("cause {n}"));
    for attempt in 1..=POLICY.max_retries {
        let (next, _) = advance(&state, Input::Failed { error: failed(attempt) });
        state = advance(&next, Input::RetryDue).0;
    }
    let (blocked, events) = advance(&state, Input::Failed { error: failed(3) });
    let causes = &events[0].error().expect("error").causes;
    assert_eq!(
        *causes,
        [
            "still failing after 3 tries",
            "cause 3",
            "try 1 failed with PROCESSOR_DIED: cause 1",
            "try 2 failed with PROCESSOR_DIED: cause 2"
        ]
    );
    // A person's resubmit starts over, without the old history.
    let (again, _) = advance(&blocked, resubmit(1, None));
    let (_, events) = advance(&again, Input::Failed { error: error(ErrorClass::Perm) });
    assert_eq!(events[0].error().expect("error").causes, ["it failed"]);
}

#[test]
fn the_history_of_ever_so_many_tries_fits_a_report() {
    let policy = RetryPolicy { max_retries: 100 };
    let mut state = at("pc2");
    let mut last = None;
    for _ in 0..=policy.max_retries {
        let mut error = ErrorReport::new(ErrorClass::Temp, ErrorCode::IO_TIMED_OUT, "ü".repeat(5_000));
        error.causes.extend((0..100).map(|n| n.to_string()));
        let Transition::Advance { next, effects } = state.apply(Input::Failed { error }, policy) else { panic!() };
        last = effects[0].error().cloned();
        if next.need() == Need::Retry {
            state = advance(&next, Input::RetryDue).0;
        }
    }
    let last = last.expect("error");
    assert_eq!(last.clone().bounded(), last, "nothing more is cut off");
    let tries: Vec<_> = last.causes.iter().filter(|cause| cause.starts_with("try ")).collect();
    assert!(tries[0].starts_with("try 1 ") && tries[7].starts_with("try 100 "), "the first and the last ones");
}

#[test]
fn success_resets_the_count_of_tries() {
    let (state, _) = advance(&at("pc1"), Input::Failed { error: error(ErrorClass::Temp) });
    let (state, _) = advance(&state, Input::RetryDue);
    assert_eq!(advance(&state, Input::from(Progress::Pc1Done)).0.attempt(), 1);
}

#[test]
fn perm_and_crit_block_abort_cleans_and_a_blocked_slot_can_be_abandoned() {
    let state = at("c2");
    for class in [ErrorClass::Perm, ErrorClass::Crit, ErrorClass::Unknown] {
        let (blocked, _) = advance(&state, Input::Failed { error: error(class) });
        assert_eq!(blocked.need(), Need::Person);
        assert!(matches!(blocked.apply(Input::RetryDue, POLICY), Transition::Ignore(_)));
        assert_eq!(advance(&blocked, abandon()).0.need(), Need::Clean);
    }
    let (cleaning, _) = advance(&state, Input::Failed { error: error(ErrorClass::Abort) });
    let (over, events) = advance(&cleaning, Input::Cleaned);
    assert_eq!(events[0].kind(), "aborted");
    assert!(matches!(over, State::Over { outcome: Outcome::Aborted { .. } }));
}

#[test]
fn a_blocked_slot_that_is_resubmitted_begins_the_step_again_with_a_new_count_of_tries() {
    let (blocked, _) = advance(&at("c2"), Input::Failed { error: error(ErrorClass::Perm) });
    let (state, events) = advance(&blocked, resubmit(1, None));
    assert_eq!((state.attempt(), state.step().map(AnyStep::name)), (1, Some("c2")));
    assert!(events.is_empty());
    assert!(matches!(state.apply(resubmit(1, None), POLICY), Transition::Ignore(_)), "it goes on already");
}

#[test]
fn an_order_to_go_back_keeps_what_the_way_needs_and_never_goes_forward() {
    for (name, from, expected) in [
        ("pc2", Phase::Pc1, "pc1"),
        ("pc2", Phase::AddPieces, "add_pieces"),
        ("pc1", Phase::TreeD, "tree_d"),
        ("awaiting_precommit", Phase::Pc2, "pc2"),
        ("awaiting_persist_check", Phase::Transfer, "transfer"),
        ("awaiting_prove_commit", Phase::C1, "c1"),
        ("awaiting_prove_commit", Phase::C2, "c2"),
        // C1 has removed the staged data.
        ("awaiting_prove_commit", Phase::Pc1, "add_pieces"),
        ("c2", Phase::Pc2, "add_pieces"),
        // PC2 is still ahead.
        ("pc1", Phase::Pc2, "pc1"),
        ("tree_d", Phase::Pc1, "tree_d"),
        ("transfer", Phase::C1, "transfer"),
        ("c1", Phase::C2, "c1"),
    ] {
        let (state, events) = advance(&at(name), resubmit(1, Some(from)));
        assert_eq!(state.step().map(AnyStep::name), Some(expected), "{name} from {from}");
        assert!(events.is_empty());
    }
}

#[test]
fn tickets_keep_rising_when_a_sector_begins_again() {
    let (mut state, _) = advance(&at("c1"), resubmit(1, Some(Phase::AddPieces)));
    for _ in 0..3 {
        state = advance(&state, answer_to(&state).expect("goes on")).0;
    }
    assert!(matches!(state.step(), Some(AnyStep::Seal(Step::AwaitingTicket { draw: 2, .. }))), "{state:?}");
}

#[test]
fn a_fact_of_before_an_order_that_was_carried_out_does_not_count() {
    let checked = |serial| Fact::new(TOKEN, serial, SealFact::PersistChecked {});
    assert!(checked(1).counts_for(TOKEN, 1) && !checked(0).counts_for(TOKEN, 1));
    assert!(!checked(1).counts_for(Token(8), 0), "another lease");
    let order = Fact::new(TOKEN, 1, CommonFact::Resubmit { from: None });
    assert!(order.counts_for(TOKEN, 0) && !order.counts_for(TOKEN, 1), "carried out once");
}

#[test]
fn pc2_over_other_data_is_illegal() {
    let other = Input::from(Progress::Pc2Done { comm_r: Commitment([1; 32]), comm_d: Commitment([8; 32]) });
    assert!(matches!(at("pc2").apply(other, POLICY), Transition::Illegal(_)));
}

#[test]
fn a_state_that_an_earlier_version_has_written_is_read() {
    for (name, text) in [
        ("add_pieces", r#"{"condition":"going","step":{"step":"adding_pieces"},"attempt":1}"#),
        (
            "awaiting_ticket",
            r#"{"condition":"going","step":{"step":"awaiting_ticket","data":{"pieces":[],"comm_d":"00"},"draw":2},"attempt":1}"#,
        ),
        (
            "cleaning",
            r#"{"condition":"going","step":{"step":"cleaning","outcome":{"outcome":"finished"}},"attempt":1}"#,
        ),
    ] {
        let text = text.replace("\"00\"", &format!("\"{}\"", "00".repeat(32)));
        let state: State = serde_json::from_str(&text).expect(name);
        assert_eq!(state.step().map(AnyStep::name), Some(name));
        let again: serde_json::Value =
            serde_json::from_str(&serde_json::to_string(&state).expect("json")).expect("json");
        assert_eq!(
            again["step"]["step"],
            serde_json::from_str::<serde_json::Value>(&text).expect("json")["step"]["step"]
        );
    }
    let over: State = serde_json::from_str(r#"{"condition":"over","outcome":{"outcome":"finished"}}"#).expect("reads");
    assert_eq!(over.need(), Need::Nothing);
}

/// A step accepts only its own result; every other phase's result is illegal there.
#[test]
fn every_step_takes_exactly_its_own_answer() {
    let (states, _) = happy_path();
    let answers: Vec<Input> = states.iter().filter_map(answer_to).collect();
    for state in states.iter().filter(|s| matches!(s, State::Going { .. })) {
        let own = answer_to(state);
        for answer in &answers {
            let got = state.apply(answer.clone(), POLICY);
            match (answer, Some(answer) == own.as_ref()) {
                (_, true) => assert!(matches!(got, Transition::Advance { .. }), "{state:?} {answer:?}"),
                (Input::Fact(_), false) => assert!(matches!(got, Transition::Ignore(_)), "{state:?} {answer:?}"),
                (_, false) => assert!(matches!(got, Transition::Illegal(_)), "{state:?} {answer:?}"),
            }
        }
    }
}

proptest! {
    #[test]
    fn any_inputs_leave_a_state_that_survives_the_journal_and_can_still_end(
        inputs in prop::collection::vec(any_input(), 0..80),
    ) {
        let mut state = State::claimed(IntentKind::Seal).expect("known");
        for input in inputs {
            if let Transition::Advance { next, effects } = state.apply(input, POLICY) {
                if let State::Blocked { error, .. } = &next {
                    prop_assert!(!error.causes.is_empty(), "blocked without a cause");
                }
                prop_assert!(effects.len() <= 1);
                state = next;
            }
            let bytes = crate::codec::encode(&state).expect("packs");
            prop_assert_eq!(&crate::codec::decode::<State>(&bytes).expect("unpacks"), &state);
        }
        // Once faults stop, the sector ends in bounded steps, or a person is asked.
        for _ in 0..20 {
            match answer_to(&state) {
                Some(input) => state = advance(&state, input).0,
                None => break,
            }
        }
        prop_assert!(matches!(state, State::Over { .. } | State::Blocked { .. }), "{:?}", state);
    }
}
