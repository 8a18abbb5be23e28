//! What a request says about its sector: proof type, identity, pieces.

use filecoin_proofs_api::{RegisteredSealProof, SectorId, UnpaddedBytesAmount};
use serde::{Deserialize, Serialize};

use super::{Bytes32, StageCode, StageError};

/// A seal proof type that the built-in stages serve. Serialised by the proofs API's variant name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SealProof {
    /// 2 KiB sectors, of devnets.
    #[serde(rename = "StackedDrg2KiBV1_1")]
    Size2KiB,
    /// 8 MiB sectors, of devnets.
    #[serde(rename = "StackedDrg8MiBV1_1")]
    Size8MiB,
    /// 512 MiB sectors, of devnets.
    #[serde(rename = "StackedDrg512MiBV1_1")]
    Size512MiB,
    /// 32 GiB sectors.
    #[serde(rename = "StackedDrg32GiBV1_1")]
    Size32GiB,
    /// 64 GiB sectors.
    #[serde(rename = "StackedDrg64GiBV1_1")]
    Size64GiB,
}

impl SealProof {
    /// All proof types, by rising sector size.
    pub const ALL: [Self; 5] = [Self::Size2KiB, Self::Size8MiB, Self::Size512MiB, Self::Size32GiB, Self::Size64GiB];

    /// The proofs API's type.
    #[must_use]
    pub fn registered(self) -> RegisteredSealProof {
        match self {
            Self::Size2KiB => RegisteredSealProof::StackedDrg2KiBV1_1,
            Self::Size8MiB => RegisteredSealProof::StackedDrg8MiBV1_1,
            Self::Size512MiB => RegisteredSealProof::StackedDrg512MiBV1_1,
            Self::Size32GiB => RegisteredSealProof::StackedDrg32GiBV1_1,
            Self::Size64GiB => RegisteredSealProof::StackedDrg64GiBV1_1,
        }
    }

    /// The sector's size in bytes, as sealed.
    #[must_use]
    pub fn sector_size(self) -> u64 {
        match self {
            Self::Size2KiB => 2 << 10,
            Self::Size8MiB => 8 << 20,
            Self::Size512MiB => 512 << 20,
            Self::Size32GiB => 32 << 30,
            Self::Size64GiB => 64 << 30,
        }
    }

    /// How many layers of labels PC1 makes.
    #[must_use]
    pub fn layers(self) -> usize {
        match self {
            Self::Size2KiB | Self::Size8MiB | Self::Size512MiB => 2,
            Self::Size32GiB | Self::Size64GiB => 11,
        }
    }

    /// Bytes of the file of tree D: a binary tree of 32-byte nodes, with its leaves.
    #[must_use]
    pub fn tree_d_size(self) -> u64 {
        2 * self.sector_size() - 32
    }
}

/// The identity of a sector: actor of the miner and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SectorRef {
    /// The miner's actor id, 1000 of `f01000`.
    pub miner: u64,
    /// The sector's number.
    pub number: u64,
}

impl SectorRef {
    /// The prover id of the miner: the payload of its id address (unsigned LEB128), filled up with zeros, as the miner actor hands it to the verifier.
    #[must_use]
    pub fn prover_id(self) -> [u8; 32] {
        let mut prover = [0; 32];
        let mut rest = self.miner;
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

    /// The number as the proofs API's type.
    #[must_use]
    pub fn sector_id(self) -> SectorId {
        SectorId::from(self.number)
    }

    /// The name in the permanent store, `s-t0<miner>-<number>`.
    #[must_use]
    pub fn store_name(self) -> String {
        format!("s-t0{}-{}", self.miner, self.number)
    }
}

/// A piece as it lies in the sector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceInfo {
    /// The piece's commitment (CommP).
    pub commitment: Bytes32,
    /// Padded size in bytes: a power of two, at least 128.
    pub padded_size: u64,
}

/// The proofs API's form of `pieces`.
///
/// # Errors
/// [`StageCode::RequestInvalid`] if a size is not a power of two of at least 128 bytes.
pub fn api_pieces(pieces: &[PieceInfo]) -> Result<Vec<filecoin_proofs_api::PieceInfo>, StageError> {
    pieces
        .iter()
        .map(|piece| {
            if !piece.padded_size.is_power_of_two() || piece.padded_size < 128 {
                let message = format!("padded piece size {} is no power of two of at least 128", piece.padded_size);
                return Err(StageError::new(StageCode::RequestInvalid, message));
            }
            filecoin_proofs_api::PieceInfo::new(piece.commitment.0, UnpaddedBytesAmount(piece.padded_size / 128 * 127))
                .map_err(|error| StageError::new(StageCode::RequestInvalid, format!("piece {}: {error:#}", piece.commitment)))
        })
        .collect()
}

/// CommD of a sector of these pieces, in this order.
///
/// # Errors
/// [`StageCode::RequestInvalid`] if there are none, or if they do not fit.
pub fn comm_d(proof: SealProof, pieces: &[PieceInfo]) -> Result<Bytes32, StageError> {
    if pieces.is_empty() {
        return Err(StageError::new(StageCode::RequestInvalid, "a sector needs at least one piece"));
    }
    filecoin_proofs_api::seal::compute_comm_d(proof.registered(), &api_pieces(pieces)?)
        .map(Bytes32)
        .map_err(|error| StageError::new(StageCode::RequestInvalid, format!("pieces do not make a sector: {error:#}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prover_id_is_the_payload_of_the_id_address() {
        let prover = SectorRef { miner: 1000, number: 1 }.prover_id();
        assert_eq!(prover[..3], [0xe8, 0x07, 0]);
        assert_eq!(SectorRef { miner: 0, number: 1 }.prover_id(), [0; 32]);
        assert_eq!(SectorRef { miner: u64::MAX, number: 1 }.prover_id()[9], 1);
    }

    #[test]
    fn names_sizes_and_layers_agree_with_the_library() {
        for proof in SealProof::ALL {
            let registered = proof.registered();
            assert_eq!(u64::from(registered.sector_size()), proof.sector_size());
            assert_eq!(serde_json::to_value(proof).expect("name"), serde_json::to_value(registered).expect("name"));
            let layers = filecoin_proofs::constants::LAYERS.read().expect("layers");
            assert_eq!(layers.get(&proof.sector_size()), Some(&proof.layers()));
        }
    }

    #[test]
    fn pieces_of_a_wrong_size_are_refused() {
        for padded_size in [0, 1, 64, 129, 3 << 10] {
            let pieces = [PieceInfo { commitment: Bytes32([0; 32]), padded_size }];
            assert_eq!(api_pieces(&pieces).expect_err("refused").code, StageCode::RequestInvalid);
        }
        assert_eq!(comm_d(SealProof::Size2KiB, &[]).expect_err("refused").code, StageCode::RequestInvalid);
    }
}
