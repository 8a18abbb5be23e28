//! CommR and CommD as CIDs, and back.
//!
//! The codes are those of the multicodec table: `fil-commitment-sealed` over `poseidon-bls12_381-a2-fc1`, and
//! `fil-commitment-unsealed` over `sha2-256-trunc254-padded`.

use cid::Cid;
use cid::multihash::Multihash;

/// Bytes of a commitment.
pub const COMMITMENT_BYTES: usize = 32;

/// Multicodec `fil-commitment-unsealed`.
const CODEC_UNSEALED: u64 = 0xf101;
/// Multicodec `fil-commitment-sealed`.
const CODEC_SEALED: u64 = 0xf102;
/// Multihash `sha2-256-trunc254-padded`.
const HASH_SHA256_TRUNC254: u64 = 0x1012;
/// Multihash `poseidon-bls12_381-a2-fc1`.
const HASH_POSEIDON: u64 = 0xb401;

/// Why a CID or commitment was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The CID's codec or hash is another one.
    #[error("{cid} is not the CID of a {expected} commitment (codec {codec:#x}, hash {hash:#x})")]
    WrongKind {
        /// The CID.
        cid: Box<Cid>,
        /// `sealed` or `unsealed`.
        expected: &'static str,
        /// Its codec.
        codec: u64,
        /// The code of its multihash.
        hash: u64,
    },
    /// The digest has another length than 32 bytes.
    #[error("{cid} has a digest of {bytes} bytes instead of {COMMITMENT_BYTES}")]
    WrongLength {
        /// The CID.
        cid: Box<Cid>,
        /// The length of its digest.
        bytes: usize,
    },
    /// The commitment is no element of the field: its two highest bits (of the last byte) must be zero.
    #[error("the commitment {} is not in the field", hex::encode(commitment))]
    NotInField {
        /// The commitment.
        commitment: [u8; COMMITMENT_BYTES],
    },
}

/// The CID of a CommR.
pub fn sealed_cid(comm_r: &[u8; COMMITMENT_BYTES]) -> Result<Cid, Error> {
    to_cid(CODEC_SEALED, HASH_POSEIDON, comm_r)
}

/// The CID of a CommD or of a piece.
pub fn unsealed_cid(comm_d: &[u8; COMMITMENT_BYTES]) -> Result<Cid, Error> {
    to_cid(CODEC_UNSEALED, HASH_SHA256_TRUNC254, comm_d)
}

/// The CommR of a CID.
pub fn comm_r(cid: &Cid) -> Result<[u8; COMMITMENT_BYTES], Error> {
    from_cid(CODEC_SEALED, HASH_POSEIDON, "sealed", cid)
}

/// The CommD of a CID.
pub fn comm_d(cid: &Cid) -> Result<[u8; COMMITMENT_BYTES], Error> {
    from_cid(CODEC_UNSEALED, HASH_SHA256_TRUNC254, "unsealed", cid)
}

fn to_cid(codec: u64, hash: u64, commitment: &[u8; COMMITMENT_BYTES]) -> Result<Cid, Error> {
    if commitment[COMMITMENT_BYTES - 1] & 0xc0 != 0 {
        return Err(Error::NotInField { commitment: *commitment });
    }
    // Wrapping fails only for digests above the capacity of 64 bytes.
    let digest = Multihash::wrap(hash, commitment).map_err(|_| Error::NotInField { commitment: *commitment })?;
    Ok(Cid::new_v1(codec, digest))
}

fn from_cid(codec: u64, hash: u64, expected: &'static str, cid: &Cid) -> Result<[u8; COMMITMENT_BYTES], Error> {
    if cid.codec() != codec || cid.hash().code() != hash {
        return Err(Error::WrongKind { cid: Box::new(*cid), expected, codec: cid.codec(), hash: cid.hash().code() });
    }
    let digest = cid.hash().digest();
    digest.try_into().map_err(|_| Error::WrongLength { cid: Box::new(*cid), bytes: digest.len() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn commitments_survive_the_way_there_and_back() {
        for byte in [0u8, 1, 0x3f] {
            let commitment = [byte; 32];
            assert_eq!(comm_r(&sealed_cid(&commitment).unwrap()).unwrap(), commitment);
            assert_eq!(comm_d(&unsealed_cid(&commitment).unwrap()).unwrap(), commitment);
        }
    }

    #[test]
    fn the_texts_have_the_prefixes_that_explorers_show() {
        assert!(sealed_cid(&[1; 32]).unwrap().to_string().starts_with("bagboea4b5abc"));
        assert!(unsealed_cid(&[1; 32]).unwrap().to_string().starts_with("baga6ea4seaq"));
    }

    #[test]
    fn the_zero_piece_of_2_kib_has_its_well_known_cid() {
        // CommP of 2 KiB of zeros, `zerocomm` of go-state-types: level 6 of the table.
        let digest = hex::decode("fc7e928296e516faade986b28f92d44a4f24b935485223376a799027bc18f833").unwrap();
        let cid = unsealed_cid(&digest.try_into().unwrap()).unwrap();
        assert_eq!(cid.to_string(), "baga6ea4seaqpy7usqklokfx2vxuynmupslkeutzexe2uqurdg5vhtebhxqmpqmy");
    }

    #[test]
    fn a_commitment_of_the_other_kind_is_refused() {
        assert!(matches!(comm_r(&unsealed_cid(&[1; 32]).unwrap()), Err(Error::WrongKind { .. })));
        assert!(matches!(comm_d(&sealed_cid(&[1; 32]).unwrap()), Err(Error::WrongKind { .. })));
        assert!(matches!(sealed_cid(&[0xff; 32]), Err(Error::NotInField { .. })));
        let short = Cid::new_v1(CODEC_SEALED, Multihash::wrap(HASH_POSEIDON, &[0; 16]).unwrap());
        assert!(matches!(comm_r(&short), Err(Error::WrongLength { bytes: 16, .. })));
    }
}
