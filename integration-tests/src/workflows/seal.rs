//! The stand-ins for sealing's stages.

use sealbus_schema::{
    Commitment, Phase, ProofBytes, Randomness, SectorId,
    parts::PieceInfo,
    workflows::seal::{
        Fact,
        worker::{Seal, Step},
    },
};
use sealbus_worker::{
    processor::protocol::Failure,
    stage::{add_pieces, c1, c2, pc1, pc2, transfer, tree_d},
};
use serde_json::{Value, json};

use super::{Script, SimulatedStore, StandIns};
use crate::sim::{
    chain,
    rng::{bytes, words},
};

mod script;

impl StandIns for Seal {
    fn script(stage: Phase, task: &Value, real_replicas: bool) -> Option<Result<Script, Failure>> {
        script::of(stage, task, real_replicas)
    }

    fn simulate(stage: Phase, task: &[u8], sector: SectorId, store: &mut SimulatedStore) -> Option<Value> {
        let comm_d = Commitment(bytes(&[1, sector.number.0]));
        Some(match stage {
            Phase::AddPieces => {
                json!(add_pieces::Response { pieces: vec![PieceInfo { commitment: comm_d, padded_bytes: 2048 }] })
            }
            Phase::TreeD => json!(tree_d::Response { comm_d }),
            Phase::Pc1 => json!(pc1::Response { comm_d }),
            Phase::Pc2 => {
                let pc2::Request { ticket, .. } = serde_json::from_slice(task).ok()?;
                json!(pc2::Response { comm_r: comm_r(sector, &ticket), comm_d })
            }
            Phase::Transfer => {
                let transfer::Request { comm_r, .. } = serde_json::from_slice(task).ok()?;
                store.insert(sector, comm_r.0);
                json!(transfer::Response { files: Vec::new() })
            }
            Phase::C1 => json!(c1::Response { bytes: 0 }),
            Phase::C2 => {
                let c2::Request { ticket, seed, .. } = serde_json::from_slice(task).ok()?;
                let proof = chain::proof(sector, &comm_r(sector, &ticket).0, &seed.0);
                json!(c2::Response { proof: ProofBytes(proof) })
            }
            Phase::Own(_) => return None,
        })
    }

    fn draw_used(step: &Step) -> Option<u32> {
        match step {
            Step::C1 { seed, .. } | Step::C2 { seed, .. } => Some(seed.draw),
            _ => None,
        }
    }

    fn draw_told(fact: &Fact) -> Option<u32> {
        match fact {
            Fact::Seed { seed } => Some(seed.draw),
            _ => None,
        }
    }
}

/// CommR of a simulated sector that was sealed with this ticket.
fn comm_r(sector: SectorId, ticket: &Randomness) -> Commitment {
    let mut parts = vec![2, sector.number.0];
    parts.extend(words(&ticket.0));
    Commitment(bytes(&parts))
}
