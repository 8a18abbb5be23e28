//! Computes the proof for one task of damocles' `c2`: it reads the task on stdin and prints the output on stdout. It
//! plays a proving service of a third party, behind a processor that is not ours.

use filecoin_proofs_api::SectorId;
use filecoin_proofs_api::seal::{SealCommitPhase1Output, seal_commit_phase2};
use serde::Deserialize;

/// The fields of the task.
#[derive(Deserialize)]
struct Task {
    c1out: SealCommitPhase1Output,
    prover_id: [u8; 32],
    sector_id: u64,
}

fn main() -> anyhow::Result<()> {
    let Task { c1out, prover_id, sector_id } = serde_json::from_reader(std::io::stdin().lock())?;
    let output = seal_commit_phase2(c1out, prover_id, SectorId::from(sector_id))?;
    Ok(serde_json::to_writer(std::io::stdout().lock(), &output)?)
}
