//! The life of a sector without any problem.

use sealbus_schema::{
    Commitment, ProofBytes, Randomness,
    message::{CommonEvent, EventBody},
    parts::{PreCommitInfo, Seed, StoredSector, Ticket},
    workflows::{
        Input,
        seal::{self, manager::Answer},
    },
};

/// All inputs of the happy path.
pub fn inputs() -> Vec<Input> {
    let ticket = Ticket {
        draw: 1,
        randomness: Randomness([3; 32]),
        epoch: -880,
        expires_epoch: 2900,
        head_epoch: 20,
        epoch_millis: 30_000,
    };
    let precommit = PreCommitInfo { epoch: 30, prove_by_epoch: 86_440, head_epoch: 31, epoch_millis: 30_000 };
    vec![
        Input::Claimed,
        Input::Event(EventBody::Seal(seal::Event::TicketWanted { draw: 1 })),
        Input::from(Answer::TicketDrawn(ticket)),
        Input::Event(EventBody::Seal(seal::Event::Pc2Done {
            comm_r: Commitment([1; 32]),
            comm_d: Commitment([2; 32]),
        })),
        Input::from(Answer::PreCommitLanded(precommit)),
        Input::Event(EventBody::Seal(seal::Event::Persisted {
            stored: StoredSector { store: "main".into(), files: vec![], identity: None },
        })),
        Input::from(Answer::FilesChecked),
        Input::from(Answer::SeedDrawn(Seed { draw: 1, randomness: Randomness([4; 32]), epoch: 40 })),
        Input::Event(EventBody::Seal(seal::Event::C2Done { seed_draw: 1, proof: ProofBytes(vec![7; 192]) })),
        Input::from(Answer::ProofVerified),
        Input::from(Answer::ProveLanded { activation_epoch: 50 }),
        Input::Event(EventBody::Common(CommonEvent::Finished {})),
    ]
}
