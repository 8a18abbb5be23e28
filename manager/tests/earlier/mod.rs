//! Lives that stop in every state, and messages in every state. `sqlite.sql` and `postgres.sql` are dumps of databases in which they were stored by the
//! schema of migration 11, when each sector had one row for its number, its job and its sealing. `messages.sqlite.sql` and
//! `messages.postgres.sql` are dumps with the schema of migration 14, when one row was a want, its call and the last envelope.

use sealbus_manager::{
    life,
    store::{Happening, Job, Outcome},
};
use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, ProofBytes, Randomness, SealProof, SectorId, SectorNumber, Token, Workflow,
    lease::Ownership,
    machine::manager::{AttemptPolicy, Released},
    message::{CommonEvent, EventBody},
    parts::Seed,
    workflows::{
        Input, State,
        seal::{
            self,
            manager::{Answer, State as Seal},
        },
    },
};
use serde_json::json;

use crate::lives::inputs;

/// What the databases of before held.
pub const SQLITE: &str = include_str!("sqlite.sql");
pub const POSTGRES: &str = include_str!("postgres.sql");
pub const MESSAGES_SQLITE: &str = include_str!("messages.sqlite.sql");
pub const MESSAGES_POSTGRES: &str = include_str!("messages.postgres.sql");

/// When everything in the dumps happened.
pub const AT: &str = "2026-11-27T00:00:00Z";
/// The policy under which it did.
pub const POLICY: AttemptPolicy = AttemptPolicy { max_attempts: 3, max_issues: 5 };

/// The inputs of each sector's life so far. The first sector has number 1.
pub fn lives() -> Vec<Vec<Input>> {
    let all = inputs();
    let first = |count: usize| all[..count].to_vec();
    let then = |count: usize, more: Vec<Input>| [first(count), more].concat();
    let report = |class| ErrorReport::new(class, ErrorCode::PROOF_INVALID, "it's a test");
    let released = Input::Released(Released { attempt: 1, issues: 1, signed: false });
    let signed = Input::Released(Released { attempt: 1, issues: 1, signed: true });
    let abandoned = Input::Abandoned { cause: report(ErrorClass::Abort), lose_deposit: true };
    let aborted = Input::Event(EventBody::Common(CommonEvent::Aborted { error: report(ErrorClass::Abort) }));

    let mut lives: Vec<Vec<Input>> = (0..=all.len()).map(first).collect();
    // Blocked in each state.
    lives.extend((0..all.len()).map(|count| then(count, vec![Input::Refused(report(ErrorClass::Perm))])));
    lives.extend([
        // Another attempt, and what is sealed again before and after its PreCommit has landed.
        then(3, vec![released.clone()]),
        then(4, vec![signed.clone()]),
        then(8, vec![signed.clone()]),
        then(4, vec![signed.clone(), Input::Claimed]),
        then(8, vec![signed.clone(), Input::Claimed]),
        // Whose proof is here needs no worker any more.
        then(9, vec![signed.clone()]),
        // The attempt, or the sector, is given up.
        then(3, vec![aborted]),
        then(4, vec![abandoned.clone()]),
        then(4, vec![abandoned, signed]),
    ]);
    lives
}

/// The sector of a life.
pub fn sector(life: usize) -> SectorId {
    SectorId { miner: "f01000".parse().expect("a miner"), number: SectorNumber(life as u64 + 1) }
}

/// A job whose sector has just got its number.
pub fn begun(id: SectorId) -> Job {
    Job {
        id,
        proof: SealProof::StackedDrg2KiBV1_1,
        attempt: 1,
        issues: 1,
        resubmits: 0,
        signed: false,
        created_at: AT.to_owned(),
        changed_at: AT.to_owned(),
        ownership: Ownership::Free { last_lease: 0 },
        leased_at: None,
        state: State::start(Workflow::Seal),
        blocked: None,
    }
}

/// What an input does to a job.
pub fn step(mut job: Job, input: &Input) -> Outcome {
    let token = Token(100 + job.id.number.0);
    match input {
        Input::Claimed => {
            job.ownership = Ownership::claimed("w1".parse().expect("a worker"), token);
            job.leased_at = Some(AT.to_owned());
        }
        Input::Released(_) => job.ownership = Ownership::Free { last_lease: token.0 + 1 },
        _ => {}
    }
    let happening = Happening { at: AT.to_owned(), ..Happening::of_manager("test", json!({})) };
    life::decide(job, input.clone(), happening, POLICY)
}

/// What leads a job on towards its end. `None` where it has ended.
pub fn next(job: &Job) -> Option<Input> {
    if job.blocked.is_some() {
        return Some(Input::Resubmitted { from: None });
    }
    let on_the_way = |name: &str| Seal::ON_THE_WAY.iter().position(|state| *state == name);
    let then = |name: &str| on_the_way(name).and_then(|place| inputs().into_iter().nth(place));
    match job.state.seal()? {
        Seal::Proving(_) | Seal::Aborted { .. } => None,
        Seal::Aborting { .. } | Seal::Abandoning { .. } => {
            Some(Input::Released(Released { attempt: job.attempt, issues: job.issues, signed: job.signed }))
        }
        Seal::Requeued(_) => then("queued"),
        Seal::Rebuilding(_) => then("sealing"),
        // Each seed has the next number.
        Seal::AwaitingSeed(stored) => {
            let draw = stored.precommitted.seeds_drawn + 1;
            Some(Input::from(Answer::SeedDrawn(Seed { draw, randomness: Randomness([4; 32]), epoch: 40 })))
        }
        Seal::Committing(seeded) => {
            let proof = ProofBytes(vec![7; 192]);
            Some(Input::Event(EventBody::Seal(seal::Event::C2Done { seed_draw: seeded.seed.draw, proof })))
        }
        state => then(state.name()),
    }
}
