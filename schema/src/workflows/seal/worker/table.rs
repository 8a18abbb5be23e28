//! The worker's table of sealing: transitions by results of work, and by the manager's answers.

use super::{
    Progress,
    step::{Data, Replica, Step},
};
use crate::{
    Transition,
    machine::worker::{Next, UNASKED},
    workflows::seal::{Event, Fact},
};

type Answer = Transition<Next<Step>, Event>;

/// Transitions by results of work, in the order of the sector's life.
pub(super) fn progressed(step: Step, progress: Progress) -> Answer {
    match (step, progress) {
        (Step::AddingPieces { draws }, Progress::PiecesAdded { pieces }) => {
            reported(Step::BuildingTreeD { pieces: pieces.clone(), draws }, Event::PiecesAdded { pieces })
        }
        (Step::BuildingTreeD { pieces, draws }, Progress::TreeDBuilt { comm_d }) => reported(
            Step::AwaitingPc1Room { data: Data { pieces, comm_d }, next_draw: draws + 1 },
            Event::TreeDBuilt { comm_d },
        ),
        (Step::AwaitingPc1Room { data, next_draw: draw }, Progress::Pc1RoomSeen) => {
            reported(Step::AwaitingTicket { data, draw }, Event::TicketWanted { draw })
        }
        (Step::Pc1 { data, ticket }, Progress::TicketExpired) => {
            to(Step::AwaitingPc1Room { data, next_draw: ticket.draw + 1 })
        }
        (Step::Pc1 { data, ticket }, Progress::Pc1Done) => reported(Step::Pc2 { data, ticket }, Event::Pc1Done {}),
        (Step::Pc2 { data, .. }, Progress::Pc2Done { comm_d, .. }) if comm_d != data.comm_d => {
            Transition::Illegal("PC2 sealed other data than tree D was built over")
        }
        (Step::Pc2 { data, ticket }, Progress::Pc2Done { comm_r, comm_d }) => {
            let replica = Replica { data, ticket, comm_r };
            reported(Step::AwaitingPreCommit { replica }, Event::Pc2Done { comm_r, comm_d })
        }
        (Step::Transferring { replica, precommit }, Progress::Persisted { stored }) => {
            reported(Step::AwaitingPersistCheck { replica, precommit }, Event::Persisted { stored })
        }
        (Step::C1 { replica, precommit, seed }, Progress::C1Done) => {
            reported(Step::C2 { replica, precommit, seed }, Event::C1Done { seed_draw: seed.draw })
        }
        (Step::C2 { replica, precommit, seed }, Progress::C2Done { proof }) => {
            let event = Event::C2Done { seed_draw: seed.draw, proof };
            reported(Step::AwaitingProveCommit { replica, precommit, seed }, event)
        }
        _ => Transition::Illegal(UNASKED),
    }
}

/// Transitions by the manager's answers.
pub(super) fn told(step: Step, fact: Fact) -> Answer {
    match (step, fact) {
        (Step::AwaitingTicket { data, draw }, Fact::Ticket { ticket }) if ticket.draw == draw => {
            to(Step::Pc1 { data, ticket })
        }
        (_, Fact::Ticket { .. }) => Transition::Ignore("a ticket that is not asked for now"),
        (Step::AwaitingPreCommit { replica }, Fact::PrecommitLanded { precommit, .. }) => {
            to(Step::Transferring { replica, precommit })
        }
        (_, Fact::PrecommitLanded { .. }) => Transition::Ignore("the PreCommit's landing is known or not awaited"),
        (Step::AwaitingPersistCheck { replica, precommit }, Fact::PersistChecked {}) => {
            to(Step::AwaitingSeed { replica, precommit })
        }
        (_, Fact::PersistChecked {}) => Transition::Ignore("the check is known or not awaited"),
        (Step::AwaitingSeed { replica, precommit }, Fact::Seed { seed }) => to(Step::C1 { replica, precommit, seed }),
        // A reorganisation has moved the PreCommit, so everything made for the old seed is worthless.
        (
            Step::C1 { replica, precommit, seed: used }
            | Step::C2 { replica, precommit, seed: used }
            | Step::AwaitingProveCommit { replica, precommit, seed: used },
            Fact::Seed { seed },
        ) if seed.draw > used.draw => to(Step::C1 { replica, precommit, seed }),
        (_, Fact::Seed { .. }) => Transition::Ignore("a seed that is in use, withdrawn or not awaited"),
        (Step::AwaitingProveCommit { .. }, Fact::ProveLanded { .. }) => Transition::to(Next::Finished),
        (_, Fact::ProveLanded { .. }) => Transition::Ignore("the ProveCommit's landing is not awaited"),
    }
}

const fn to(step: Step) -> Answer {
    Transition::Advance { next: Next::To(step), effects: Vec::new() }
}

fn reported(step: Step, event: Event) -> Answer {
    Transition::with(Next::To(step), [event])
}
