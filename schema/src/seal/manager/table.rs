//! The manager's table: one row a pair of state and input.

use super::{Active, AttemptPolicy, Effect, Input, PreCommitted, Proven, Sealed, Seeded, State, Stored};
use crate::{
    Transition,
    error::{ErrorClass, ErrorCode, ErrorReport},
    message::EventBody,
};

type Answer = Transition<State, Effect>;

pub(super) fn apply(state: &State, input: Input, policy: AttemptPolicy) -> Answer {
    match (state, input) {
        (_, Input::Claimed) => on_claim(state),
        (_, Input::Released { attempt }) => on_release(state, attempt, policy),
        (_, Input::Event(event)) => on_event(state, event),
        (state, Input::Refused(cause)) if !state.is_terminal() => block(state, cause),
        (State::Blocked { .. }, _) => Transition::Ignore("a person looks at the sector"),
        (state, input) => on_chain(state.clone(), input),
    }
}

fn on_claim(state: &State) -> Answer {
    match state {
        State::Queued => Transition::to(State::Packing),
        _ => Transition::Illegal("a claim of a sector that was not offered"),
    }
}

/// A release of an unfinished sector is the only thing that leads to another intent.
fn on_release(state: &State, attempt: u32, policy: AttemptPolicy) -> Answer {
    match state {
        State::Proving(_) | State::Aborted { .. } => Transition::Ignore("the end of the lease of an ended sector"),
        State::Cleaning(active) => Transition::to(State::Proving(active.clone())),
        State::Aborting { cause } if attempt >= policy.max_attempts => {
            Transition::to(State::Aborted { cause: cause.clone() })
        }
        State::Queued
        | State::Packing
        | State::DrawingTicket { .. }
        | State::Sealing { .. }
        | State::Aborting { .. } => Transition::with(State::Queued, [Effect::PublishIntent]),
        State::Blocked { at, .. } => match on_release(at, attempt, policy) {
            // Whatever blocked the attempt went with it.
            released @ Transition::Advance { .. } => released,
            ignored => ignored,
        },
        State::PreCommitting(_)
        | State::Persisting(_)
        | State::CheckingFiles(_)
        | State::AwaitingSeed { .. }
        | State::Committing(_)
        | State::VerifyingProof(_)
        | State::ProveCommitting(_) => block(
            state,
            ErrorReport::new(
                ErrorClass::Perm,
                ErrorCode::LEASE_LOST_AFTER_PRECOMMIT,
                "the lease was taken away while the sector's PreCommit was sent or on chain",
            ),
        ),
    }
}

/// What the owner reports.
fn on_event(state: &State, event: EventBody) -> Answer {
    match (state.clone(), event) {
        (_, EventBody::Failed { error }) if matches!(error.class, ErrorClass::Temp | ErrorClass::Abort) => {
            Transition::Ignore("the worker deals with it")
        }
        (state, EventBody::Failed { error }) if !state.is_terminal() => block(&state, error),
        (State::Aborting { cause }, EventBody::Aborted { .. }) => {
            Transition::with(State::Aborting { cause }, [Effect::CloseLease])
        }
        (State::Packing | State::DrawingTicket { .. } | State::Sealing { .. }, EventBody::Aborted { error: cause }) => {
            Transition::with(State::Aborting { cause }, [Effect::CloseLease])
        }
        (State::Blocked { at, cause }, EventBody::Aborted { error }) => match *at {
            State::Packing | State::DrawingTicket { .. } | State::Sealing { .. } | State::Aborting { .. } => {
                Transition::with(State::Aborting { cause: error }, [Effect::CloseLease])
            }
            at => Transition::to(State::Blocked { at: Box::new(at), cause }),
        },
        (state, EventBody::Aborted { error }) if !state.is_terminal() => block(&state, error),
        // A report of progress means that the worker goes on: what blocked it is resolved.
        (State::Blocked { at, .. }, event) => match on_event(&at, event) {
            Transition::Ignore(_) => Transition::to(*at),
            other => other,
        },
        (State::Packing, EventBody::TicketWanted { draw }) => Transition::to(State::DrawingTicket { draw }),
        (State::Sealing { ticket }, EventBody::TicketWanted { draw }) if draw > ticket.draw => {
            Transition::to(State::DrawingTicket { draw })
        }
        (State::Sealing { ticket }, EventBody::Pc2Done { comm_r, comm_d }) => {
            Transition::with(State::PreCommitting(Sealed { ticket, comm_r, comm_d }), [Effect::SendPreCommit])
        }
        (State::Persisting(precommitted), EventBody::Persisted { stored: files }) => {
            Transition::to(State::CheckingFiles(Stored { precommitted, files }))
        }
        (State::Committing(seeded), EventBody::C2Done { seed_draw, proof }) if seed_draw == seeded.seed.draw => {
            Transition::to(State::VerifyingProof(Proven { seeded, proof }))
        }
        (State::Committing(_) | State::AwaitingSeed { .. }, EventBody::C2Done { .. }) => {
            Transition::Ignore("a proof for a seed that was withdrawn")
        }
        (State::Cleaning(active), EventBody::Finished {}) => {
            Transition::with(State::Proving(active), [Effect::CloseLease])
        }
        (
            _,
            EventBody::PhaseStarted { .. }
            | EventBody::PiecesAdded { .. }
            | EventBody::TreeDBuilt { .. }
            | EventBody::Pc1Done {}
            | EventBody::C1Done { .. },
        ) => Transition::Ignore("information for the history"),
        (_, EventBody::Unknown) => Transition::Ignore("an event of a newer version"),
        _ => Transition::Illegal("a report that the sector's state does not allow"),
    }
}

/// What the chain and the store brought.
fn on_chain(state: State, input: Input) -> Answer {
    match (state, input) {
        (State::DrawingTicket { draw }, Input::TicketDrawn(ticket)) if ticket.draw == draw => {
            Transition::with(State::Sealing { ticket }, [Effect::TellTicket(ticket)])
        }
        (State::PreCommitting(sealed), Input::PreCommitLanded(precommit)) => Transition::with(
            State::Persisting(PreCommitted { sealed, precommit }),
            [Effect::TellPreCommitLanded(precommit)],
        ),
        (State::CheckingFiles(stored), Input::FilesChecked) => {
            Transition::with(State::AwaitingSeed { stored, next_draw: 1 }, [Effect::TellPersistChecked])
        }
        (State::AwaitingSeed { stored, next_draw }, Input::SeedDrawn(seed)) if seed.draw == next_draw => {
            Transition::with(State::Committing(Seeded { stored, seed }), [Effect::TellSeed(seed)])
        }
        (State::VerifyingProof(proven), Input::ProofVerified) => {
            Transition::with(State::ProveCommitting(proven), [Effect::SendProveCommit])
        }
        (State::ProveCommitting(proven), Input::ProveLanded { activation_epoch }) => Transition::with(
            State::Cleaning(Active { proven, activation_epoch }),
            [Effect::TellProveLanded { activation_epoch }],
        ),
        (state, Input::PreCommitMoved(precommit)) => on_moved(state, precommit),
        (State::Sealing { .. } | State::PreCommitting(_), Input::Expired(cause)) => {
            Transition::with(State::Aborting { cause: cause.clone() }, [Effect::TellAbandon(cause)])
        }
        (
            state @ (State::Persisting(_)
            | State::CheckingFiles(_)
            | State::AwaitingSeed { .. }
            | State::Committing(_)
            | State::VerifyingProof(_)
            | State::ProveCommitting(_)),
            Input::Expired(cause),
        ) => block(&state, cause),
        _ => Transition::Ignore("an answer that came too late"),
    }
}

/// The PreCommit stands at another epoch: its seed is another, and what was proven for the old one is worthless.
fn on_moved(state: State, precommit: crate::message::PreCommitInfo) -> Answer {
    let moved = |stored: Stored| Stored { precommitted: PreCommitted { precommit, ..stored.precommitted }, ..stored };
    match state {
        State::Persisting(precommitted) => {
            Transition::to(State::Persisting(PreCommitted { precommit, ..precommitted }))
        }
        State::CheckingFiles(stored) => Transition::to(State::CheckingFiles(moved(stored))),
        State::AwaitingSeed { stored, next_draw } => {
            Transition::to(State::AwaitingSeed { stored: moved(stored), next_draw })
        }
        State::Committing(seeded) | State::VerifyingProof(Proven { seeded, .. }) => {
            Transition::to(State::AwaitingSeed { stored: moved(seeded.stored), next_draw: seeded.seed.draw + 1 })
        }
        _ => Transition::Ignore("a PreCommit that no longer matters, or whose proof is on its way"),
    }
}

fn block(state: &State, cause: ErrorReport) -> Answer {
    let at = match state {
        State::Blocked { at, .. } => at.clone(),
        other => Box::new(other.clone()),
    };
    Transition::to(State::Blocked { at, cause })
}
