//! The manager's table of sealing: transitions by the worker's progress, and by answers of the chain and the stores.

use super::{Active, Answer, PreCommitted, Proven, Rebuild, Seal, Sealed, Seeded, State, Stored, landed, tell};
use crate::{
    Transition,
    error::{ErrorClass, ErrorCode, ErrorReport},
    machine::manager::{self as machine, Effect, Purpose},
    parts::{PreCommitInfo, Ticket},
    workflows::seal::{Event, Fact},
};

type Step = machine::Step<Seal>;

/// Transitions by the owner's progress.
pub(super) fn reported(state: State, event: Event) -> Step {
    match (state, event) {
        // A rebuild must use the ticket of the PreCommit, so none is drawn.
        (State::Rebuilding(mut rebuild), Event::TicketWanted { draw }) => {
            rebuild.sealed_mut().ticket.draw = draw;
            // The ticket's age no longer matters, because the PreCommit is sent or on chain.
            let ticket = Ticket { expires_epoch: i64::MAX, ..rebuild.sealed().ticket };
            machine::with(State::Rebuilding(rebuild), [tell(Fact::Ticket { ticket })])
        }
        (State::Rebuilding(rebuild), Event::Pc2Done { comm_r, comm_d }) => {
            let ticket = rebuild.sealed().ticket;
            rebuilt(rebuild, &Sealed { ticket, comm_r, comm_d })
        }
        (State::Packing, Event::TicketWanted { draw }) => machine::to(State::DrawingTicket { draw }),
        // The ticket became too old before PC1 started, and the worker asks for another one.
        (State::Sealing { ticket }, Event::TicketWanted { draw }) if draw > ticket.draw => {
            machine::to(State::DrawingTicket { draw })
        }
        (State::Sealing { ticket }, Event::Pc2Done { comm_r, comm_d }) => {
            machine::with(State::PreCommitting(Sealed { ticket, comm_r, comm_d }), [Effect::Want(Purpose::PreCommit)])
        }
        (State::Persisting(precommitted), Event::Persisted { stored: files }) => {
            machine::to(State::CheckingFiles(Stored { precommitted, files }))
        }
        (State::Committing(seeded), Event::C2Done { seed_draw, proof }) if seed_draw == seeded.seed.draw => {
            machine::to(State::VerifyingProof(Proven { seeded, proof }))
        }
        // A reorganisation or a person's order has moved the sector back while the worker was proving.
        (
            State::Committing(_)
            | State::AwaitingSeed(_)
            | State::CheckingFiles(_)
            | State::Persisting(_)
            | State::Rebuilding(_),
            Event::C2Done { .. },
        ) => Transition::Ignore("a proof for a seed that was withdrawn"),
        (State::Rebuilding(_), Event::Persisted { .. }) => Transition::Ignore("files of before the order to go back"),
        (_, Event::PiecesAdded { .. } | Event::TreeDBuilt { .. } | Event::Pc1Done {} | Event::C1Done { .. }) => {
            Transition::Ignore("information for the history")
        }
        _ => Transition::Illegal("a report that the job's state does not allow"),
    }
}

/// Transitions by answers of the chain, the stores and the proofs library.
pub(super) fn answered(state: State, answer: Answer) -> Step {
    match (state, answer) {
        (State::DrawingTicket { draw }, Answer::TicketDrawn(ticket)) if ticket.draw == draw => {
            machine::with(State::Sealing { ticket }, [tell(Fact::Ticket { ticket })])
        }
        (State::PreCommitting(sealed), Answer::PreCommitLanded(precommit)) => machine::with(
            State::Persisting(PreCommitted { sealed, precommit, seeds_drawn: 0 }),
            [tell(landed(precommit))],
        ),
        (State::Requeued(Rebuild::Sent(sealed)), Answer::PreCommitLanded(precommit)) => {
            machine::to(State::Requeued(Rebuild::Landed(PreCommitted { sealed, precommit, seeds_drawn: 0 })))
        }
        (State::Rebuilding(Rebuild::Sent(sealed)), Answer::PreCommitLanded(precommit)) => {
            machine::to(State::Rebuilding(Rebuild::Landed(PreCommitted { sealed, precommit, seeds_drawn: 0 })))
        }
        (State::CheckingFiles(stored), Answer::FilesChecked) => {
            machine::with(State::AwaitingSeed(stored), [tell(Fact::PersistChecked {})])
        }
        (State::AwaitingSeed(mut stored), Answer::SeedDrawn(seed))
            if seed.draw == stored.precommitted.seeds_drawn + 1 =>
        {
            stored.precommitted.seeds_drawn = seed.draw;
            machine::with(State::Committing(Seeded { stored, seed }), [tell(Fact::Seed { seed })])
        }
        (State::VerifyingProof(proven), Answer::ProofVerified) => {
            machine::with(State::ProveCommitting(proven), [Effect::Want(Purpose::ProveCommit)])
        }
        // A restored manager may not know that it had verified the proof and sent it.
        (State::VerifyingProof(proven) | State::ProveCommitting(proven), Answer::ProveLanded { activation_epoch }) => {
            machine::with(
                State::Cleaning(Active { proven, activation_epoch }),
                [tell(Fact::ProveLanded { activation_epoch })],
            )
        }
        // The proof is here. If it is still the right one, its message lands again without a worker.
        (State::Proving(active), Answer::ProveReverted) => machine::to(State::ProveCommitting(active.proven)),
        // The fork includes it at another epoch.
        (State::Proving(active), Answer::ProveLanded { activation_epoch }) => {
            machine::to(State::Proving(Active { activation_epoch, ..active }))
        }
        (state, Answer::PreCommitMoved(precommit)) => on_moved(state, precommit),
        // No PreCommit with this ticket can land any more, so sealing again to the same CommR is pointless.
        (
            State::Sealing { .. } | State::PreCommitting(_) | State::Rebuilding(Rebuild::Sent(_)),
            Answer::Expired(cause),
        ) => machine::with(State::Aborting { cause: cause.clone() }, [Effect::TellAbandon(cause)]),
        (
            // The PreCommit has landed, so its deposit is at stake: a person decides.
            state @ (State::Persisting(_)
            | State::CheckingFiles(_)
            | State::AwaitingSeed(_)
            | State::Committing(_)
            | State::VerifyingProof(_)
            | State::ProveCommitting(_)
            | State::Requeued(_)
            | State::Rebuilding(_)),
            Answer::Expired(cause),
        ) => machine::blocked(state, cause),
        _ => Transition::Ignore("an answer that came too late"),
    }
}

/// The PreCommit has moved to another epoch. Its seed changes with it, so a proof for the old seed is worthless.
fn on_moved(state: State, precommit: PreCommitInfo) -> Step {
    let moved = |known: PreCommitted| PreCommitted { precommit, ..known };
    let stored = |stored: Stored| Stored { precommitted: moved(stored.precommitted), ..stored };
    match state {
        State::Persisting(known) => machine::to(State::Persisting(moved(known))),
        State::Requeued(Rebuild::Landed(known)) => machine::to(State::Requeued(Rebuild::Landed(moved(known)))),
        State::Rebuilding(Rebuild::Landed(known)) => machine::to(State::Rebuilding(Rebuild::Landed(moved(known)))),
        State::CheckingFiles(known) => machine::to(State::CheckingFiles(stored(known))),
        State::AwaitingSeed(known) => machine::to(State::AwaitingSeed(stored(known))),
        State::Committing(seeded)
        | State::VerifyingProof(Proven { seeded, .. })
        | State::ProveCommitting(Proven { seeded, .. }) => machine::to(State::AwaitingSeed(stored(seeded.stored))),
        _ => Transition::Ignore("a PreCommit that no longer matters"),
    }
}

/// The result of a rebuild. It counts only if it is the replica that the PreCommit names.
fn rebuilt(rebuild: Rebuild, again: &Sealed) -> Step {
    let known = rebuild.sealed();
    if known.comm_r != again.comm_r || known.comm_d != again.comm_d {
        let message = format!(
            "sealed again, the sector came to CommR {} and CommD {}; its PreCommit has {} and {}",
            again.comm_r, again.comm_d, known.comm_r, known.comm_d
        );
        let cause = ErrorReport::new(ErrorClass::Perm, ErrorCode::COMM_R_MISMATCH, message);
        return machine::blocked(State::Rebuilding(rebuild), cause);
    }
    match rebuild {
        Rebuild::Sent(sealed) => machine::with(State::PreCommitting(sealed), [Effect::Want(Purpose::PreCommit)]),
        Rebuild::Landed(precommitted) => {
            let told = tell(landed(precommitted.precommit));
            machine::with(State::Persisting(precommitted), [told])
        }
    }
}
