use sealbus_schema::{
    Commitment, ProofBytes, SealProof,
    lease::Ownership,
    parts::StoredSector,
    workflows::{self, seal::manager::Seeded},
};

use super::*;
use crate::{
    chain::expiry::Rules,
    store::{Message, MessageState, Place, Ready, Tries, WantId},
    workflows::{Answer as Told, Call, Wanted, next, wanted},
};

/// The epochs in these tests: the ticket expires at 5000, the PreCommit is at 2000 and must be proven by 90_000.
pub(crate) fn now(head: i64) -> Now {
    Now { head, lagged: head - 5, confidence: 5, rules: Rules::new(10).expect("a delay"), epoch_millis: 1 }
}

pub(crate) fn sealed() -> Sealed {
    let ticket = Ticket {
        draw: 1,
        randomness: Randomness([1; 32]),
        epoch: 1220,
        expires_epoch: 5000,
        head_epoch: 2120,
        epoch_millis: 1,
    };
    Sealed { ticket, comm_r: Commitment([1; 32]), comm_d: Commitment([2; 32]) }
}

pub(crate) fn proven() -> Proven {
    let precommit = PreCommitInfo { epoch: 2000, prove_by_epoch: 90_000, head_epoch: 2001, epoch_millis: 1 };
    let precommitted = PreCommitted { sealed: sealed(), precommit, seeds_drawn: 1 };
    let stored = Stored { precommitted, files: StoredSector { store: "main".into(), files: vec![], identity: None } };
    let seed = Seed { draw: 1, randomness: Randomness([3; 32]), epoch: 2010 };
    Proven { seeded: Seeded { stored, seed }, proof: ProofBytes(vec![0; 192]) }
}

pub(crate) fn sector(state: State) -> Job {
    Job {
        id: "f01000/1".parse().expect("a sector"),
        proof: SealProof::StackedDrg2KiBV1_1,
        attempt: 1,
        issues: 1,
        resubmits: 0,
        signed: true,
        created_at: String::new(),
        changed_at: String::new(),
        ownership: Ownership::Free { last_lease: 0 },
        leased_at: None,
        state: state.into(),
        blocked: None,
    }
}

pub(crate) fn cause() -> ErrorReport {
    ErrorReport::new(ErrorClass::Abort, ErrorCode::ABANDONED, "a test")
}

fn precommit_at(at: At, found: Option<Found>) -> (Question, Told) {
    (precommit(at, &sealed()), Told::Found(found))
}

fn ours(epoch: i64) -> Option<Found> {
    Some(Found { is_ours: true, epoch })
}

/// What happens to a sector at a head, with answers to all its questions.
fn next_at(head: i64, job: &Job, answers: impl IntoIterator<Item = (Question, Told)>) -> Next {
    next(job, &now(head), &known(answers)).expect("nothing more is asked")
}

/// What to do about a sector's message at a head, with answers to all questions.
fn wanted_at(head: i64, kind: MessageKind, job: &Job, answers: impl IntoIterator<Item = (Question, Told)>) -> Wanted {
    let (key, state) = (kind.key(job.id, 1, 1), MessageState::Wanted);
    let message = Message {
        key,
        want: Some(WantId(1)),
        is_of_last_job: true,
        attempt: 1,
        kind,
        miner: job.id.miner,
        sector: Some(job.id),
        errand: None,
        place: Place::default(),
        ready: Ready::default(),
        state,
        tries: Tries::default(),
    };
    wanted(&message, job, &now(head), &known(answers)).expect("nothing more is asked")
}

fn known(answers: impl IntoIterator<Item = (Question, Told)>) -> Known {
    let mut known = Known::default();
    answers.into_iter().for_each(|(question, answer)| known.learn(question, answer));
    known
}

fn expired(next: &Next) -> Option<ErrorCode> {
    match next {
        Next::Apply(Input::Answer(workflows::Answer::Seal(Answer::Expired(error)))) => Some(error.code.clone()),
        _ => None,
    }
}

#[test]
fn a_ticket_that_expired_while_the_message_waited_leads_to_another_one_once_nothing_can_land() {
    let none = |head, state: State| next_at(head, &sector(state), [precommit_at(At::Confident, None)]);
    let waiting = State::PreCommitting(sealed());
    let wait = |until| Next::Wait { until: Some(until) };
    assert_eq!(none(5005, waiting.clone()), wait(5006), "it may have been included in the last epoch");
    let Next::Apply(Input::Answer(workflows::Answer::Seal(Answer::Expired(error)))) = none(5006, waiting.clone())
    else {
        panic!("expired")
    };
    assert_eq!((error.class, error.code), (ErrorClass::Abort, ErrorCode::TICKET_EXPIRED));
    let rebuilding = State::Rebuilding(Rebuild::Sent(sealed()));
    assert_eq!(expired(&none(5006, rebuilding)), Some(ErrorCode::TICKET_EXPIRED));
    assert_eq!(none(5006, State::Requeued(Rebuild::Sent(sealed()))), wait(5007), "a worker must be told");
    let landed = next_at(9000, &sector(waiting.clone()), [precommit_at(At::Confident, ours(4999))]);
    let Next::Landed { kind: MessageKind::PreCommit, epoch: 4999, input } = landed else { panic!("landed") };
    assert!(matches!(input, Input::Answer(workflows::Answer::Seal(Answer::PreCommitLanded(_)))));
    let absent = || [precommit_at(At::Confident, None), precommit_at(At::Head, None)];
    let wanted = |head| wanted_at(head, MessageKind::PreCommit, &sector(waiting.clone()), absent());
    assert!(matches!(wanted(4996), Wanted::Sign(_)));
    assert!(matches!(wanted(4997), Wanted::GiveUp { .. }), "it could not land in time");
}

#[test]
fn a_precommit_that_moved_behind_a_proof_on_its_way_is_heard_of() {
    let proving = sector(State::ProveCommitting(proven()));
    let found = |head, active, precommit| {
        let comm_r = sealed().comm_r;
        let active = (Question::ActiveSector { comm_r }, Told::Found(active));
        next_at(head, &proving, [active, precommit_at(At::Confident, precommit)])
    };
    assert_eq!(found(2100, None, ours(2000)), Next::Wait { until: Some(2101) });
    let Next::Apply(Input::Answer(workflows::Answer::Seal(Answer::PreCommitMoved(to)))) = found(2100, None, ours(2003))
    else {
        panic!("moved")
    };
    assert_eq!(to.epoch, 2003);
    assert_eq!(found(2100, None, None), Next::PushPreCommitAgain);
    let (kind, input) = (MessageKind::ProveCommit, Input::from(Answer::ProveLanded { activation_epoch: 2050 }));
    assert_eq!(found(2100, ours(2050), None), Next::Landed { kind, epoch: 2050, input });
    assert_eq!(found(90_005, None, None), Next::PushPreCommitAgain, "it may have been included in the last epoch");
    assert_eq!(expired(&found(90_006, None, ours(2000))), Some(ErrorCode::PRECOMMIT_EXPIRED));
}

#[test]
fn an_active_sector_is_watched_until_it_is_final_and_followed_again_if_a_reorganisation_takes_it_away() {
    let active = sector(State::Proving(Active { proven: proven(), activation_epoch: 2050 }));
    let found = |head, active_at, precommit, is_allocated| {
        let active_at = (Question::ActiveSector { comm_r: sealed().comm_r }, Told::Found(active_at));
        let allocated = (Question::NumberAllocated { at: At::Confident }, Told::Yes(is_allocated));
        next_at(head, &active, [active_at, precommit_at(At::Confident, precommit), allocated])
    };
    assert_eq!(found(2100, ours(2050), None, true), Next::Wait { until: Some(2955) });
    assert_eq!(found(2954, ours(2050), None, true), Next::Wait { until: Some(2955) });
    assert_eq!(found(2955, ours(2050), None, true), Next::Wait { until: None }, "it is final");
    let moved = Input::from(Answer::ProveLanded { activation_epoch: 2052 });
    assert_eq!(found(2100, ours(2052), None, true), Next::Apply(moved));
    let reverted = || Next::Reverted { kind: MessageKind::ProveCommit, input: Input::from(Answer::ProveReverted) };
    assert_eq!(found(2100, None, ours(2000), true), reverted(), "the fork has its PreCommit only");
    assert_eq!(found(2100, None, None, false), reverted(), "the fork has nothing of it");
    assert_eq!(found(2100, None, None, true), Next::Wait { until: None }, "somebody terminated it");
}

#[test]
fn a_sector_is_looked_at_again_when_the_chain_can_have_something_new_for_it() {
    let (proven, comm_r) = (proven(), sealed().comm_r);
    let stored = proven.seeded.stored.clone();
    let stands = || precommit_at(At::Confident, ours(2000));
    let until = |head, state: State, answers: Vec<(Question, Told)>| match next_at(head, &sector(state), answers) {
        Next::Wait { until } => until,
        other => panic!("{other:?}"),
    };
    let nothing = vec![precommit_at(At::Confident, None)];
    assert_eq!(until(2200, State::PreCommitting(sealed()), nothing), Some(2201), "each epoch");
    let inactive = vec![(Question::ActiveSector { comm_r }, Told::Found(None)), stands()];
    assert_eq!(until(2200, State::ProveCommitting(proven.clone()), inactive), Some(2201), "each epoch");
    let watched = State::Committing(proven.seeded.clone());
    assert_eq!(until(2200, watched.clone(), vec![stands()]), Some(90_001), "it stands until it has run out");
    let missing = next_at(2200, &sector(watched), [precommit_at(At::Confident, None)]);
    assert_eq!(missing, Next::PushPreCommitAgain);
    let seedless = |head| until(head, State::AwaitingSeed(stored.clone()), vec![]);
    assert_eq!(seedless(2001), Some(2015), "its seed is confident");
    let null_rounds = Now { lagged: 2009, ..now(2200) };
    let waits = next(&sector(State::AwaitingSeed(stored.clone())), &null_rounds, &Known::default());
    assert_eq!(waits, Ok(Next::Wait { until: Some(2201) }), "its epoch had no block");
    let (drawing, checking) = (State::DrawingTicket { draw: 1 }, State::CheckingFiles(stored));
    for state in [drawing, checking, State::VerifyingProof(proven)] {
        assert!(next(&sector(state), &now(2200), &Known::default()).is_err(), "asked at each tick");
    }
    assert_eq!(until(2200, State::Packing, vec![]), None);
    let blocked = Job { blocked: Some(cause()), ..sector(State::PreCommitting(sealed())) };
    assert_eq!(next_at(2200, &blocked, []), Next::Wait { until: None });
}

#[test]
fn no_precommit_is_signed_for_a_number_that_another_tool_used_meanwhile() {
    let unsigned = Job { signed: false, ..sector(State::PreCommitting(sealed())) };
    let wanted = |allocated, found| {
        let allocated = (Question::NumberAllocated { at: At::Confident }, Told::Yes(allocated));
        wanted_at(2200, MessageKind::PreCommit, &unsigned, [allocated, precommit_at(At::Confident, found)])
    };
    let sign = Call::PreCommit { comm_r: sealed().comm_r, ticket_epoch: 1220 };
    assert_eq!(wanted(false, None), Wanted::Sign(sign.clone()));
    assert_eq!(wanted(true, ours(2100)), Wanted::Sign(sign), "its own, which landed unseen");
    let theirs = Some(Found { is_ours: false, epoch: 2100 });
    for found in [None, theirs] {
        let Wanted::Apply(Input::Refused(error)) = wanted(true, found) else { panic!("it must be refused") };
        assert_eq!((error.class, error.code), (ErrorClass::Perm, ErrorCode::NUMBER_TAKEN));
    }
}

#[test]
fn a_precommit_that_was_lost_is_signed_anew_only_while_it_is_not_back() {
    let watching = sector(State::Committing(proven().seeded));
    let wanted = |confident, head| {
        let answers = [precommit_at(At::Confident, confident), precommit_at(At::Head, head)];
        wanted_at(2200, MessageKind::PreCommit, &watching, answers)
    };
    assert!(matches!(wanted(None, None), Wanted::Sign(Call::PreCommit { .. })));
    assert_eq!(wanted(None, ours(2199)), Wanted::Wait, "it may be confident soon");
    assert_eq!(wanted(ours(2150), ours(2150)), Wanted::Over("the PreCommit is on chain again"));
}

#[test]
fn a_number_that_another_tool_took_after_a_reorganisation_is_reported() {
    let comm_r = sealed().comm_r;
    let theirs = precommit_at(At::Confident, Some(Found { is_ours: false, epoch: 2100 }));
    let inactive = (Question::ActiveSector { comm_r }, Told::Found(None));
    let proven = proven();
    let (stored, precommitted) = (proven.seeded.stored.clone(), proven.seeded.stored.precommitted.clone());
    for state in [
        State::Persisting(precommitted.clone()),
        State::Rebuilding(Rebuild::Landed(precommitted)),
        State::AwaitingSeed(stored),
        State::Committing(proven.seeded.clone()),
        State::VerifyingProof(proven.clone()),
        State::ProveCommitting(proven),
    ] {
        let next = next_at(2200, &sector(state.clone()), [theirs.clone(), inactive.clone()]);
        let Next::Apply(Input::Refused(error)) = next else { panic!("{state:?}: {next:?}") };
        assert_eq!((error.class, error.code), (ErrorClass::Perm, ErrorCode::NUMBER_TAKEN));
    }
}

#[test]
fn a_proof_is_sent_only_while_its_precommit_stands_where_its_seed_is_from() {
    let proving = sector(State::ProveCommitting(proven()));
    let wanted = |found| wanted_at(2200, MessageKind::ProveCommit, &proving, [precommit_at(At::Head, found)]);
    assert_eq!(wanted(ours(2000)), Wanted::Sign(Call::ProveCommit { porep: Box::new(porep(&proven())) }));
    for found in [None, ours(2003)] {
        let Wanted::WaitFor(reason) = wanted(found) else { panic!("it must wait") };
        assert_eq!(reason.name(), "PreCommitMoved");
    }
}

#[test]
fn a_check_that_fails_blocks_the_sector_and_one_that_passes_lets_it_go_on() {
    let proven = proven();
    let stored = proven.seeded.stored.clone();
    let (comm_r, files) = (sealed().comm_r, stored.files.clone());
    let checked = |verdict| {
        let may_read = (Question::MayRead { store: "main".to_owned() }, Told::Yes(true));
        let proved = (Question::FilesProve { comm_r, files: files.clone() }, Told::Verdict(verdict));
        let answers = [may_read, precommit_at(At::Confident, ours(2000)), proved];
        next_at(2200, &sector(State::CheckingFiles(stored.clone())), answers)
    };
    assert_eq!(checked(Ok(())), Next::Apply(Input::from(Answer::FilesChecked)));
    assert_eq!(checked(Err(cause())), Next::Apply(Input::Refused(cause())));
    let porep = Porep {
        comm_r,
        comm_d: sealed().comm_d,
        ticket: sealed().ticket.randomness,
        seed: proven.seeded.seed.randomness,
        proof: proven.proof.clone(),
    };
    let verified = |verdict| {
        let verified = (Question::Verifies(Box::new(porep.clone())), Told::Verdict(verdict));
        let answers = [precommit_at(At::Confident, ours(2000)), verified];
        next_at(2200, &sector(State::VerifyingProof(proven.clone())), answers)
    };
    assert_eq!(verified(Ok(())), Next::Apply(Input::from(Answer::ProofVerified)));
    assert_eq!(verified(Err(cause())), Next::Apply(Input::Refused(cause())));
}

#[test]
fn a_ticket_is_drawn_only_for_a_number_that_is_free_and_a_miner_that_is_ready() {
    let drawing = sector(State::DrawingTicket { draw: 1 });
    let allocated = |yes| (Question::NumberAllocated { at: At::Head }, Told::Yes(yes));
    let Next::GiveUp(error) = next_at(2200, &drawing, [allocated(true)]) else { panic!("given up") };
    assert_eq!((error.class, error.code), (ErrorClass::Abort, ErrorCode::NUMBER_TAKEN));
    let asked = next(&drawing, &now(2200), &known([allocated(false)]));
    assert_eq!(asked, Err(Question::MayBegin), "before a ticket begins to age");
    let randomness = Question::TicketRandomness { domain: Domain::SealRandomness, epoch: 1300 };
    let answers = [allocated(false), (Question::MayBegin, Told::Yes(true)), (randomness, Told::Randomness([9; 32]))];
    let drawn = next_at(2200, &drawing, answers);
    let Next::Apply(Input::Answer(workflows::Answer::Seal(Answer::TicketDrawn(ticket)))) = drawn else {
        panic!("drawn")
    };
    assert_eq!((ticket.draw, ticket.epoch, ticket.randomness), (1, 1300, Randomness([9; 32])));
}
