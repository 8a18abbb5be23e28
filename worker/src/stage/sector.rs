//! Converts the schema's types to those of the proofs library.

use filecoin_proofs_api::{RegisteredSealProof, UnpaddedBytesAmount};
pub use sealbus_planner::sector::layers;
use sealbus_schema::parts::PieceInfo;
use sealbus_schema::{Commitment, MinerId, SealProof, SectorNumber};

use super::{StageCode, StageError};

/// The library's proof type.
#[must_use]
pub fn registered(proof: SealProof) -> RegisteredSealProof {
    match proof {
        SealProof::StackedDrg2KiBV1_1 => RegisteredSealProof::StackedDrg2KiBV1_1,
        SealProof::StackedDrg8MiBV1_1 => RegisteredSealProof::StackedDrg8MiBV1_1,
        SealProof::StackedDrg512MiBV1_1 => RegisteredSealProof::StackedDrg512MiBV1_1,
        SealProof::StackedDrg32GiBV1_1 => RegisteredSealProof::StackedDrg32GiBV1_1,
        SealProof::StackedDrg64GiBV1_1 => RegisteredSealProof::StackedDrg64GiBV1_1,
    }
}

/// The bytes in the file of tree D: a binary tree of 32-byte nodes, leaves included.
#[must_use]
pub fn tree_d_bytes(proof: SealProof) -> u64 {
    2 * proof.sector_size().bytes() - 32
}

/// The prover id of a miner: the payload of its id address (unsigned LEB128), padded with zeros, as the miner actor
/// passes it to the verifier.
#[must_use]
pub fn prover_id(miner: MinerId) -> [u8; 32] {
    let mut prover = [0; 32];
    let mut rest = miner.0;
    for byte in &mut prover {
        *byte = (rest & 0x7f) as u8;
        rest >>= 7;
        if rest == 0 {
            break;
        }
        *byte |= 0x80;
    }
    prover
}

/// The sector number as the library's type.
#[must_use]
pub fn api_number(number: SectorNumber) -> filecoin_proofs_api::SectorId {
    filecoin_proofs_api::SectorId::from(number.0)
}

/// `pieces` as the library's type.
///
/// # Errors
/// [`StageCode::RequestInvalid`] if a size is not a power of two of at least 128 bytes.
pub fn api_pieces(pieces: &[PieceInfo]) -> Result<Vec<filecoin_proofs_api::PieceInfo>, StageError> {
    pieces
        .iter()
        .map(|piece| {
            if !piece.padded_bytes.is_power_of_two() || piece.padded_bytes < 128 {
                let message = format!("padded piece size {} is not a power of two of at least 128", piece.padded_bytes);
                return Err(StageError::new(StageCode::RequestInvalid, message));
            }
            let size = UnpaddedBytesAmount(piece.padded_bytes / 128 * 127);
            filecoin_proofs_api::PieceInfo::new(piece.commitment.0, size).map_err(|error| {
                StageError::new(StageCode::RequestInvalid, format!("piece {}: {error:#}", piece.commitment))
            })
        })
        .collect()
}

/// CommD of a sector that contains these pieces in this order.
///
/// # Errors
/// [`StageCode::RequestInvalid`] if there are no pieces, or if they do not fit.
pub fn comm_d(proof: SealProof, pieces: &[PieceInfo]) -> Result<Commitment, StageError> {
    if pieces.is_empty() {
        return Err(StageError::new(StageCode::RequestInvalid, "a sector needs at least one piece"));
    }
    filecoin_proofs_api::seal::compute_comm_d(registered(proof), &api_pieces(pieces)?)
        .map(Commitment)
        .map_err(|error| StageError::new(StageCode::RequestInvalid, format!("pieces do not make a sector: {error:#}")))
}

#[cfg(test)]
mod tests {
    use sealbus_schema::SectorSize;

    use super::*;

    #[test]
    fn the_prover_id_is_the_payload_of_the_id_address() {
        assert_eq!(prover_id(MinerId(1000))[..3], [0xe8, 0x07, 0]);
        assert_eq!(prover_id(MinerId(0)), [0; 32]);
        assert_eq!(prover_id(MinerId(u64::MAX))[9], 1);
    }

    #[test]
    fn names_sizes_and_layers_agree_with_the_library() {
        for proof in SectorSize::ALL.map(SectorSize::seal_proof) {
            assert_eq!(u64::from(registered(proof).sector_size()), proof.sector_size().bytes());
            let name = serde_json::to_value(registered(proof)).expect("name");
            assert_eq!(serde_json::to_value(proof).expect("name"), name);
            let known = filecoin_proofs::constants::LAYERS.read().expect("layers");
            assert_eq!(known.get(&proof.sector_size().bytes()), Some(&layers(proof)));
        }
    }

    #[test]
    fn pieces_of_a_wrong_size_are_refused() {
        for padded_bytes in [0, 1, 64, 129, 3 << 10] {
            let pieces = [PieceInfo { commitment: Commitment([1; 32]), padded_bytes }];
            assert_eq!(api_pieces(&pieces).expect_err("refused").code, StageCode::RequestInvalid);
        }
        assert_eq!(comm_d(SealProof::StackedDrg2KiBV1_1, &[]).expect_err("refused").code, StageCode::RequestInvalid);
    }
}
