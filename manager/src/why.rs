//! Why a sector makes no progress, and what to do. Pure: the command line and all others call [`why`].

use sealbus_schema::SectorId;

use crate::{
    store::Job,
    waits::{Subject, Wait, advice, is_mended_by_a_person},
    workflows::{self, Need},
};

/// Why a sector makes no progress.
#[derive(Clone, Debug, PartialEq)]
pub struct Why<'a> {
    /// What it waits for if everything goes well.
    pub waits_for: &'static str,
    /// What holds it up, the most specific first.
    pub held_by: Vec<&'a Wait>,
}

/// Finds out why a sector makes no progress.
pub fn why<'a>(sector: &Job, waits: &'a [Wait]) -> Why<'a> {
    let mut held_by: Vec<&Wait> = waits.iter().filter(|wait| holds(&wait.subject, sector)).collect();
    held_by.sort_by_key(|wait| match wait.subject {
        Subject::Message { .. } | Subject::Outbox { .. } => 0,
        Subject::Sector(_) => 1,
        Subject::Miner(_) => 2,
        Subject::Store(_) => 3,
        Subject::Node | Subject::OneNode(_) | Subject::Bus(_) => 4,
        Subject::Proof(_) | Subject::Ahead(_) | Subject::NextProofs(_) | Subject::Blocks(_) => 4,
    });
    Why { waits_for: waits_for(sector), held_by }
}

impl Why<'_> {
    /// The code of what holds it up.
    pub fn word(&self) -> Option<&str> {
        self.held_by.first().map(|wait| wait.cause.code.as_str())
    }

    /// What a person can do, if the sector is held up.
    pub fn advice(&self) -> Option<&'static str> {
        self.held_by.first().map(|wait| advice(&wait.cause.code))
    }

    /// Whether a person must act, because waiting alone does not help.
    pub fn needs_a_person(&self) -> bool {
        self.held_by.iter().any(|wait| is_mended_by_a_person(&wait.cause))
    }
}

/// The sectors that a wait holds up, of those given. They must be sorted by miner and number.
pub fn held_up<'a>(wait: &Wait, sectors: &'a [Job]) -> impl Iterator<Item = &'a Job> {
    let candidates = match wait.subject.sector() {
        Some(id) => find(sectors, id).map(std::slice::from_ref).unwrap_or_default(),
        None => sectors,
    };
    candidates.iter().filter(move |sector| holds(&wait.subject, sector))
}

/// One of these sectors, which must be sorted by miner and number.
pub fn find(sectors: &[Job], id: SectorId) -> Option<&Job> {
    sectors.binary_search_by_key(&id, |sector| sector.id).ok().map(|at| &sectors[at])
}

fn holds(subject: &Subject, sector: &Job) -> bool {
    let is = |id: &SectorId| *id == sector.id;
    let needs = workflows::needs(sector);
    match subject {
        Subject::Sector(id) | Subject::Message { sector: Some(id), .. } | Subject::Outbox { sector: id, .. } => is(id),
        Subject::Message { sector: None, .. } => false,
        Subject::Miner(miner) => sector.id.miner == *miner && needs == Some(Need::Begin),
        Subject::Store(store) => needs == Some(Need::Files { store }),
        Subject::Node => needs.is_some(),
        Subject::OneNode(_) | Subject::Bus(_) => false,
        Subject::Proof(_) | Subject::Ahead(_) | Subject::NextProofs(_) | Subject::Blocks(_) => false,
    }
}

fn waits_for(sector: &Job) -> &'static str {
    match sector.blocked {
        Some(_) => "a person",
        None => sector.state.traits().waits_for,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sealbus_schema::{ErrorCode, SealProof, lease::Ownership, workflows::seal::manager::State};

    use super::*;
    use crate::waits::Cause;

    fn sector(state: State) -> Job {
        Job {
            id: "f01000/1".parse().expect("sector"),
            proof: SealProof::StackedDrg2KiBV1_1,
            attempt: 1,
            issues: 1,
            resubmits: 0,
            signed: false,
            created_at: String::new(),
            changed_at: String::new(),
            ownership: Ownership::Free { last_lease: 0 },
            leased_at: None,
            state: state.into(),
            blocked: None,
        }
    }

    fn wait(subject: Subject, cause: Cause) -> Wait {
        let at = String::new();
        Wait { subject, cause, since: at.clone(), tried_at: at, retry: Duration::from_secs(1), tries: 1 }
    }

    #[test]
    fn what_is_told_first_is_what_holds_up_this_sector_alone() {
        let id = "f01000/1".parse().expect("sector");
        let waits = [
            wait(Subject::Node, Cause::passing(ErrorCode::NODE_BEHIND, "")),
            wait(Subject::Sector(id), Cause::to_mend(ErrorCode::STORE_CONFLICT, "")),
            wait(Subject::Sector("f01000/2".parse().expect("sector")), Cause::to_mend(ErrorCode::FUNDS_MISSING, "")),
            wait(Subject::Miner(id.miner), Cause::to_mend(ErrorCode::PARAMS_MISSING, "")),
        ];
        let drawing = sector(State::DrawingTicket { draw: 1 });
        let why_drawing = why(&drawing, &waits);
        assert_eq!(why_drawing.held_by.len(), 3, "the other sector's wait is not its own");
        assert_eq!((why_drawing.word(), why_drawing.needs_a_person()), (Some("STORE_CONFLICT"), true));
        let packing = sector(State::Packing);
        assert_eq!(why(&packing, &waits[..1]), Why { waits_for: waits_for(&packing), held_by: vec![] });
        assert_eq!(held_up(&waits[0], &[drawing, packing]).count(), 1, "only the one that asks the chain");
    }
}
