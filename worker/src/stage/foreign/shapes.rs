//! The messages of an executable made for damocles, stage by stage. `docs/processors.md` describes them.
//!
//! Commitments, tickets and proofs are arrays of numbers, and proof types are names, because the proofs library's own
//! types serialise so.

use std::path::PathBuf;

use filecoin_proofs_api::seal::SealCommitPhase1Output;
use filecoin_proofs_api::{PieceInfo, RegisteredSealProof};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, Serialize)]
pub(super) struct AddPiecesTask {
    pub(super) seal_proof_type: RegisteredSealProof,
    pub(super) pieces: Vec<Piece>,
    pub(super) staged_filepath: PathBuf,
}

#[derive(Debug, Serialize)]
pub(super) struct Piece {
    pub(super) piece_file: PieceFile,
    /// The number of data bytes.
    pub(super) payload_size: u64,
    /// The number of bytes including zero padding, before bit padding (2 bits in 256).
    pub(super) piece_size: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PieceFile {
    /// Zeros.
    Pledge,
}

#[derive(Debug, Serialize)]
pub(super) struct TreeDTask {
    pub(super) registered_proof: RegisteredSealProof,
    pub(super) staged_file: PathBuf,
    pub(super) cache_dir: PathBuf,
}

#[derive(Debug, Serialize)]
pub(super) struct Pc1Task {
    pub(super) registered_proof: RegisteredSealProof,
    pub(super) cache_path: PathBuf,
    pub(super) in_path: PathBuf,
    pub(super) out_path: PathBuf,
    pub(super) prover_id: [u8; 32],
    pub(super) sector_id: u64,
    pub(super) ticket: [u8; 32],
    pub(super) piece_infos: Vec<PieceInfo>,
}

/// The part of PC1's output that we read. The whole output is kept for PC2.
#[derive(Debug, Deserialize)]
pub(super) struct Pc1Output {
    pub(super) comm_d: [u8; 32],
}

#[derive(Debug, Serialize)]
pub(super) struct Pc2Task {
    /// The library's `SealPreCommitPhase1Output`, in whatever version.
    pub(super) pc1out: Value,
    pub(super) cache_dir: PathBuf,
    pub(super) sealed_file: PathBuf,
}

#[derive(Debug, Serialize)]
pub(super) struct C2Task {
    pub(super) c1out: SealCommitPhase1Output,
    pub(super) prover_id: [u8; 32],
    pub(super) sector_id: u64,
    pub(super) miner_id: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct C2Output {
    pub(super) proof: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use filecoin_proofs_api::UnpaddedBytesAmount;
    use serde_json::json;

    use super::*;

    #[test]
    fn tasks_look_as_the_document_says() {
        let pieces = vec![Piece { piece_file: PieceFile::Pledge, payload_size: 2032, piece_size: 2032 }];
        let proof = RegisteredSealProof::StackedDrg2KiBV1_1;
        let task = AddPiecesTask { seal_proof_type: proof, pieces, staged_filepath: "/slot/unsealed".into() };
        let expected = json!({
            "seal_proof_type": "StackedDrg2KiBV1_1",
            "pieces": [{ "piece_file": "pledge", "payload_size": 2032, "piece_size": 2032 }],
            "staged_filepath": "/slot/unsealed",
        });
        assert_eq!(serde_json::to_value(&task).expect("json"), expected);
        let task = Pc1Task {
            registered_proof: proof,
            cache_path: "/slot/cache".into(),
            in_path: "/slot/unsealed".into(),
            out_path: "/slot/sealed".into(),
            prover_id: [1; 32],
            sector_id: 7,
            ticket: [2; 32],
            piece_infos: vec![PieceInfo { commitment: [3; 32], size: UnpaddedBytesAmount(2032) }],
        };
        let expected = json!({
            "registered_proof": "StackedDrg2KiBV1_1",
            "cache_path": "/slot/cache",
            "in_path": "/slot/unsealed",
            "out_path": "/slot/sealed",
            "prover_id": ([1; 32]),
            "sector_id": 7,
            "ticket": ([2; 32]),
            "piece_infos": [{ "commitment": ([3; 32]), "size": 2032 }],
        });
        assert_eq!(serde_json::to_value(&task).expect("json"), expected);
    }
}
