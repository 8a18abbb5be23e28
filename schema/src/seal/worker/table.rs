//! The worker's table: one row a pair of state and input.

use super::{
    Input, RetryPolicy, State,
    step::{Data, Outcome, Replica, Step},
};
use crate::{
    Transition,
    error::{ErrorClass, ErrorReport},
    message::{EventBody, Fact},
    phase::Phase,
};

/// How many earlier tries an error carries, how much of each, and how many causes of its own besides them: together not
/// more than may travel.
const MAX_TRIES: usize = 8;
const MAX_TRY_CHARS: usize = 200;
const MAX_OWN_CAUSES: usize = 8;

type Answer = Transition<State, EventBody>;

pub(super) fn apply(state: &State, input: Input, policy: RetryPolicy) -> Answer {
    match (state, input) {
        (State::Over { .. }, _) => Transition::Ignore("the sector's life in this slot is over"),
        (state, Input::Fact(Fact::Resubmit { from, .. })) => on_resubmit(state, from),
        // The manager's answers reach a blocked or waiting slot as well as a working one.
        (
            State::Going { step, .. } | State::BackingOff { step, .. } | State::Blocked { step, .. },
            Input::Fact(fact),
        ) => on_fact(step.clone(), fact),
        (State::BackingOff { step, attempt, tries, .. }, Input::RetryDue) => {
            Transition::to(State::Going { step: step.clone(), attempt: *attempt, tries: tries.clone() })
        }
        (State::Going { .. }, Input::RetryDue) => Transition::Ignore("a retry that is under way already"),
        (State::BackingOff { .. }, _) => Transition::Ignore("an answer from a try that has failed"),
        (State::Blocked { .. }, _) => Transition::Ignore("the slot waits for a person"),
        (State::Going { step, attempt, tries }, Input::Failed { error }) => {
            on_failure(step.clone(), *attempt, tries.clone(), error, policy)
        }
        (State::Going { step, attempt, .. }, Input::PhaseStarted { processor }) => match step.phase() {
            Some(phase) => {
                Transition::with(state.clone(), [EventBody::PhaseStarted { phase, attempt: *attempt, processor }])
            }
            None => Transition::Illegal("a processor was given to a step without a phase"),
        },
        (State::Going { step, .. }, input) => on_progress(step.clone(), input),
    }
}

/// The happy path, in order of the sector's life.
fn on_progress(step: Step, input: Input) -> Answer {
    match (step, input) {
        (Step::AddingPieces { draws }, Input::PiecesAdded { pieces }) => {
            reported(Step::BuildingTreeD { pieces: pieces.clone(), draws }, EventBody::PiecesAdded { pieces })
        }
        (Step::BuildingTreeD { pieces, draws }, Input::TreeDBuilt { comm_d }) => reported(
            Step::AwaitingPc1Room { data: Data { pieces, comm_d }, next_draw: draws + 1 },
            EventBody::TreeDBuilt { comm_d },
        ),
        (Step::AwaitingPc1Room { data, next_draw: draw }, Input::Pc1RoomSeen) => {
            reported(Step::AwaitingTicket { data, draw }, EventBody::TicketWanted { draw })
        }
        (Step::Pc1 { data, ticket }, Input::TicketExpired) => {
            Transition::to(go(Step::AwaitingPc1Room { data, next_draw: ticket.draw + 1 }))
        }
        (Step::Pc1 { data, ticket }, Input::Pc1Done) => reported(Step::Pc2 { data, ticket }, EventBody::Pc1Done {}),
        (Step::Pc2 { data, .. }, Input::Pc2Done { comm_d, .. }) if comm_d != data.comm_d => {
            Transition::Illegal("PC2 sealed other data than tree D was built over")
        }
        (Step::Pc2 { data, ticket }, Input::Pc2Done { comm_r, comm_d }) => {
            let replica = Replica { data, ticket, comm_r };
            reported(Step::AwaitingPreCommit { replica }, EventBody::Pc2Done { comm_r, comm_d })
        }
        (Step::Transferring { replica, precommit }, Input::Persisted { stored }) => {
            reported(Step::AwaitingPersistCheck { replica, precommit }, EventBody::Persisted { stored })
        }
        (Step::C1 { replica, precommit, seed }, Input::C1Done) => {
            reported(Step::C2 { replica, precommit, seed }, EventBody::C1Done { seed_draw: seed.draw })
        }
        (Step::C2 { replica, precommit, seed }, Input::C2Done { proof }) => {
            let event = EventBody::C2Done { seed_draw: seed.draw, proof };
            reported(Step::AwaitingProveCommit { replica, precommit, seed }, event)
        }
        (Step::Cleaning { outcome }, Input::Cleaned) => {
            let event = match &outcome {
                Outcome::Finished => EventBody::Finished {},
                Outcome::Aborted { error } => EventBody::Aborted { error: error.clone() },
            };
            Transition::with(State::Over { outcome }, [event])
        }
        _ => Transition::Illegal("an answer that this step did not ask for"),
    }
}

/// The manager's answers.
fn on_fact(step: Step, fact: Fact) -> Answer {
    match (step, fact) {
        (Step::Cleaning { .. }, _) => Transition::Ignore("the slot is being cleaned already"),
        (_, Fact::Abandon { error, .. }) => Transition::to(go(Step::Cleaning { outcome: Outcome::Aborted { error } })),
        (Step::AwaitingTicket { data, draw }, Fact::Ticket { ticket, .. }) if ticket.draw == draw => {
            Transition::to(go(Step::Pc1 { data, ticket }))
        }
        (_, Fact::Ticket { .. }) => Transition::Ignore("a ticket that is not asked for now"),
        (Step::AwaitingPreCommit { replica }, Fact::PrecommitLanded { precommit, .. }) => {
            Transition::to(go(Step::Transferring { replica, precommit }))
        }
        (_, Fact::PrecommitLanded { .. }) => Transition::Ignore("the PreCommit's landing is known or not awaited"),
        (Step::AwaitingPersistCheck { replica, precommit }, Fact::PersistChecked { .. }) => {
            Transition::to(go(Step::AwaitingSeed { replica, precommit }))
        }
        (_, Fact::PersistChecked { .. }) => Transition::Ignore("the check is known or not awaited"),
        (Step::AwaitingSeed { replica, precommit }, Fact::Seed { seed, .. }) => {
            Transition::to(go(Step::C1 { replica, precommit, seed }))
        }
        // The PreCommit has moved in a reorganisation: what was made for the old seed is worthless.
        (
            Step::C1 { replica, precommit, seed: used }
            | Step::C2 { replica, precommit, seed: used }
            | Step::AwaitingProveCommit { replica, precommit, seed: used },
            Fact::Seed { seed, .. },
        ) if seed.draw > used.draw => Transition::to(go(Step::C1 { replica, precommit, seed })),
        (_, Fact::Seed { .. }) => Transition::Ignore("a seed that is in use, withdrawn or not awaited"),
        (Step::AwaitingProveCommit { .. }, Fact::ProveLanded { .. }) => {
            Transition::to(go(Step::Cleaning { outcome: Outcome::Finished }))
        }
        (_, Fact::ProveLanded { .. }) => Transition::Ignore("the ProveCommit's landing is not awaited"),
        (_, Fact::Resubmit { .. } | Fact::Unknown) => Transition::Ignore("a fact of a newer version"),
    }
}

/// A person has looked.
fn on_resubmit(state: &State, from: Option<Phase>) -> Answer {
    match (state, from) {
        (State::Over { .. }, _) => Transition::Ignore("the sector's life in this slot is over"),
        (State::Going { step: Step::Cleaning { .. }, .. }, _) => {
            Transition::Ignore("the slot is being cleaned already")
        }
        (State::Going { .. }, None) => Transition::Ignore("it goes on already"),
        (State::BackingOff { step, .. } | State::Blocked { step, .. }, None) => Transition::to(go(step.clone())),
        (State::Going { step, .. } | State::BackingOff { step, .. } | State::Blocked { step, .. }, Some(phase)) => {
            Transition::to(go(step.clone().back_to(phase)))
        }
    }
}

fn on_failure(step: Step, attempt: u32, mut tries: Vec<String>, error: ErrorReport, policy: RetryPolicy) -> Answer {
    let mut error = ErrorReport { phase: step.phase(), attempt, ..error }.bounded();
    if error.class == ErrorClass::Temp && error.code.is_waited_for() {
        // It is told once, and what is waited for costs no try: nobody has done anything wrong.
        let event = EventBody::Failed { error: error.clone() };
        return Transition::with(State::BackingOff { step, attempt, error, tries }, [event]);
    }
    let this_try = one_line(attempt, &error);
    let exhausted = error.class == ErrorClass::Temp && attempt > policy.max_retries;
    if exhausted {
        error.class = ErrorClass::Perm;
        error.causes.insert(0, format!("still failing after {attempt} tries"));
    }
    if error.class != ErrorClass::Temp && !tries.is_empty() {
        // A person sees how it came to this: the same cause each time, or another.
        error.causes.truncate(MAX_OWN_CAUSES);
        error.causes.append(&mut tries);
    }
    remember(&mut tries, this_try);
    let event = EventBody::Failed { error: error.clone() };
    let next = match error.class {
        ErrorClass::Temp => State::BackingOff { step, attempt: attempt + 1, error, tries },
        // Cleaning itself cannot be dropped.
        ErrorClass::Abort if !matches!(step, Step::Cleaning { .. }) => {
            go(Step::Cleaning { outcome: Outcome::Aborted { error } })
        }
        ErrorClass::Abort | ErrorClass::Perm | ErrorClass::Crit | ErrorClass::Unknown => {
            State::Blocked { step, attempt, error }
        }
    };
    Transition::with(next, [event])
}

/// A failed try in a line: its code and first cause.
fn one_line(attempt: u32, error: &ErrorReport) -> String {
    let cause: String = error.causes.first().into_iter().flat_map(|cause| cause.chars()).take(MAX_TRY_CHARS).collect();
    format!("try {attempt} failed with {}: {cause}", error.code)
}

/// Keeps the first try and the last ones.
fn remember(tries: &mut Vec<String>, this_try: String) {
    if tries.len() == MAX_TRIES {
        tries.remove(1);
    }
    tries.push(this_try);
}

fn go(step: Step) -> State {
    State::Going { step, attempt: 1, tries: Vec::new() }
}

fn reported(step: Step, event: EventBody) -> Answer {
    Transition::with(go(step), [event])
}
