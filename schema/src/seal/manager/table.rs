//! The manager's table: one row a pair of state and input.

use super::{
    Active, AttemptPolicy, Effect, Input, PreCommitted, Proven, Rebuild, Sealed, Seeded, State, Stored, orders, release,
};
use crate::{
    Transition,
    error::{ErrorClass, ErrorReport},
    message::{EventBody, Ticket},
};

type Answer = Transition<State, Effect>;

pub(super) fn apply(state: &State, input: Input, policy: AttemptPolicy) -> Answer {
    match (state, input) {
        (_, Input::Claimed) => on_claim(state),
        (_, Input::Released(released)) => release::on_release(state, released, policy),
        (_, Input::Resubmitted { from }) => orders::resubmit(state, from),
        (_, Input::Abandoned { cause, lose_deposit }) => orders::abandon(state, cause, lose_deposit),
        (_, Input::Event(event)) => on_event(state, event),
        (state, Input::Refused(cause)) if !state.is_terminal() => block(state, cause),
        (State::Blocked { .. }, _) => Transition::Ignore("a person looks at the sector"),
        (state, input) => on_chain(state.clone(), input),
    }
}

fn on_claim(state: &State) -> Answer {
    match state {
        State::Queued => Transition::to(State::Packing),
        State::Requeued(rebuild) => Transition::to(State::Rebuilding(rebuild.clone())),
        _ => Transition::Illegal("a claim of a sector that was not offered"),
    }
}

/// What the owner reports.
fn on_event(state: &State, event: EventBody) -> Answer {
    match (state.clone(), event) {
        (_, EventBody::Failed { error }) if matches!(error.class, ErrorClass::Temp | ErrorClass::Abort) => {
            Transition::Ignore("the worker deals with it")
        }
        (state, EventBody::Failed { error }) if !state.is_terminal() => block(&state, error),
        (state, EventBody::Aborted { error }) if !state.is_terminal() => on_abort(state, error),
        // The worker has not yet read that it is to stop.
        (State::Aborting { .. } | State::Abandoning { .. } | State::Aborted { .. }, _) => {
            Transition::Ignore("the attempt is over")
        }
        // A report of progress means that the worker goes on: what blocked it is resolved.
        (State::Blocked { at, .. }, event) => match on_event(&at, event) {
            Transition::Ignore(_) => Transition::to(*at),
            other => other,
        },
        (State::Rebuilding(mut rebuild), EventBody::TicketWanted { draw }) => {
            rebuild.sealed_mut().ticket.draw = draw;
            // Its age no longer matters: the PreCommit is sent or on chain.
            let ticket = Ticket { expires_epoch: i64::MAX, ..rebuild.sealed().ticket };
            Transition::with(State::Rebuilding(rebuild), [Effect::TellTicket(ticket)])
        }
        (State::Rebuilding(rebuild), EventBody::Pc2Done { comm_r, comm_d }) => {
            let ticket = rebuild.sealed().ticket;
            release::rebuilt(&rebuild, &Sealed { ticket, comm_r, comm_d })
        }
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
        (
            State::Committing(_)
            | State::AwaitingSeed(_)
            | State::CheckingFiles(_)
            | State::Persisting(_)
            | State::Rebuilding(_),
            EventBody::C2Done { .. },
        ) => Transition::Ignore("a proof for a seed that was withdrawn"),
        (State::Rebuilding(_), EventBody::Persisted { .. }) => {
            Transition::Ignore("files of before the order to go back")
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

/// The worker dropped the attempt and has nothing of it any more.
fn on_abort(state: State, cause: ErrorReport) -> Answer {
    let at = match state {
        State::Blocked { at, .. } => *at,
        at => at,
    };
    let next = match at {
        State::Packing | State::DrawingTicket { .. } | State::Sealing { .. } => State::Aborting { cause },
        // A PreCommit may be on chain: the sector is sealed again.
        at => at,
    };
    Transition::with(next, [Effect::CloseLease])
}

/// What the chain and the store brought.
fn on_chain(state: State, input: Input) -> Answer {
    match (state, input) {
        (State::DrawingTicket { draw }, Input::TicketDrawn(ticket)) if ticket.draw == draw => {
            Transition::with(State::Sealing { ticket }, [Effect::TellTicket(ticket)])
        }
        (State::PreCommitting(sealed), Input::PreCommitLanded(precommit)) => Transition::with(
            State::Persisting(PreCommitted { sealed, precommit, seeds_drawn: 0 }),
            [Effect::TellPreCommitLanded(precommit)],
        ),
        (State::Requeued(Rebuild::Sent(sealed)), Input::PreCommitLanded(precommit)) => {
            Transition::to(State::Requeued(Rebuild::Landed(PreCommitted { sealed, precommit, seeds_drawn: 0 })))
        }
        (State::Rebuilding(Rebuild::Sent(sealed)), Input::PreCommitLanded(precommit)) => {
            Transition::to(State::Rebuilding(Rebuild::Landed(PreCommitted { sealed, precommit, seeds_drawn: 0 })))
        }
        (State::CheckingFiles(stored), Input::FilesChecked) => {
            Transition::with(State::AwaitingSeed(stored), [Effect::TellPersistChecked])
        }
        (State::AwaitingSeed(mut stored), Input::SeedDrawn(seed))
            if seed.draw == stored.precommitted.seeds_drawn + 1 =>
        {
            stored.precommitted.seeds_drawn = seed.draw;
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
        // No PreCommit with its ticket can land any more: sealing it again to the same CommR is worth nothing.
        (
            State::Sealing { .. } | State::PreCommitting(_) | State::Rebuilding(Rebuild::Sent(_)),
            Input::Expired(cause),
        ) => Transition::with(State::Aborting { cause: cause.clone() }, [Effect::TellAbandon(cause)]),
        (
            state @ (State::Persisting(_)
            | State::CheckingFiles(_)
            | State::AwaitingSeed(_)
            | State::Committing(_)
            | State::VerifyingProof(_)
            | State::ProveCommitting(_)
            | State::Requeued(_)
            | State::Rebuilding(_)),
            Input::Expired(cause),
        ) => block(&state, cause),
        _ => Transition::Ignore("an answer that came too late"),
    }
}

/// The PreCommit stands at another epoch: its seed is another, and what was proven for the old one is worthless.
fn on_moved(state: State, precommit: crate::message::PreCommitInfo) -> Answer {
    let moved = |known: PreCommitted| PreCommitted { precommit, ..known };
    let stored = |stored: Stored| Stored { precommitted: moved(stored.precommitted), ..stored };
    match state {
        State::Persisting(known) => Transition::to(State::Persisting(moved(known))),
        State::Requeued(Rebuild::Landed(known)) => Transition::to(State::Requeued(Rebuild::Landed(moved(known)))),
        State::Rebuilding(Rebuild::Landed(known)) => Transition::to(State::Rebuilding(Rebuild::Landed(moved(known)))),
        State::CheckingFiles(known) => Transition::to(State::CheckingFiles(stored(known))),
        State::AwaitingSeed(known) => Transition::to(State::AwaitingSeed(stored(known))),
        State::Committing(seeded)
        | State::VerifyingProof(Proven { seeded, .. })
        | State::ProveCommitting(Proven { seeded, .. }) => Transition::to(State::AwaitingSeed(stored(seeded.stored))),
        _ => Transition::Ignore("a PreCommit that no longer matters"),
    }
}

pub(super) fn block(state: &State, cause: ErrorReport) -> Answer {
    let at = match state {
        State::Blocked { at, .. } => at.clone(),
        other => Box::new(other.clone()),
    };
    Transition::to(State::Blocked { at, cause })
}
