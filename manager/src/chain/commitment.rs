//! CommR and CommD as CIDs, and back.
//!
//! The codes are those of the multicodec table: `fil-commitment-sealed` over `poseidon-bls12_381-a2-fc1`, and
//! `fil-commitment-unsealed` over `sha2-256-trunc254-padded`.

use cid::Cid;
use cid::multihash::Multihash;

/// Bytes of a commitment.
pub const COMMITMENT_BYTES: usize = 32;

/// The modulus of the scalar field of BLS12-381, big-endian.
const SCALAR_MODULUS: [u8; COMMITMENT_BYTES] = [
    0x73, 0xed, 0xa7, 0x53, 0x29, 0x9d, 0x7d, 0x48, 0x33, 0x39, 0xd8, 0x08, 0x09, 0xa1, 0xd8, 0x05, 0x53, 0xbd, 0xa4,
    0x02, 0xff, 0xfe, 0x5b, 0xfe, 0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x01,
];

/// Multicodec `fil-commitment-unsealed`.
const CODEC_UNSEALED: u64 = 0xf101;
/// Multicodec `fil-commitment-sealed`.
const CODEC_SEALED: u64 = 0xf102;
/// Multihash `sha2-256-trunc254-padded`.
const HASH_SHA256_TRUNC254: u64 = 0x1012;
/// Multihash `poseidon-bls12_381-a2-fc1`.
const HASH_POSEIDON: u64 = 0xb401;

/// Why a CID or commitment was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The CID has a wrong codec or hash.
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
    /// The digest is not 32 bytes long.
    #[error("{cid} has a digest of {bytes} bytes instead of {COMMITMENT_BYTES}")]
    WrongLength {
        /// The CID.
        cid: Box<Cid>,
        /// The length of its digest.
        bytes: usize,
    },
    /// The bytes are not a commitment: a CommR is below the field's modulus, and a CommD has its two highest bits
    /// clear.
    #[error("the commitment {} is not in the field", hex::encode(commitment))]
    NotInField {
        /// The commitment.
        commitment: [u8; COMMITMENT_BYTES],
    },
}

/// The CID of a CommR.
pub fn sealed_cid(comm_r: &[u8; COMMITMENT_BYTES]) -> Result<Cid, Error> {
    to_cid(CODEC_SEALED, HASH_POSEIDON, comm_r, is_field_element)
}

/// The CID of a CommD or of a piece.
pub fn unsealed_cid(comm_d: &[u8; COMMITMENT_BYTES]) -> Result<Cid, Error> {
    to_cid(CODEC_UNSEALED, HASH_SHA256_TRUNC254, comm_d, |bytes| bytes[COMMITMENT_BYTES - 1] & 0xc0 == 0)
}

/// The CommR of a CID.
pub fn comm_r(cid: &Cid) -> Result<[u8; COMMITMENT_BYTES], Error> {
    from_cid(CODEC_SEALED, HASH_POSEIDON, "sealed", cid)
}

/// The CommD of a CID.
pub fn comm_d(cid: &Cid) -> Result<[u8; COMMITMENT_BYTES], Error> {
    from_cid(CODEC_UNSEALED, HASH_SHA256_TRUNC254, "unsealed", cid)
}

/// Whether little-endian bytes are below the modulus of the scalar field of BLS12-381. A Poseidon hash may be any such
/// value, even above 2^254; only a truncated SHA-256 is always below that.
fn is_field_element(little_endian: &[u8; COMMITMENT_BYTES]) -> bool {
    little_endian.iter().rev().lt(SCALAR_MODULUS.iter())
}

fn to_cid(
    codec: u64,
    hash: u64,
    commitment: &[u8; COMMITMENT_BYTES],
    is_possible: impl FnOnce(&[u8; COMMITMENT_BYTES]) -> bool,
) -> Result<Cid, Error> {
    if !is_possible(commitment) {
        return Err(Error::NotInField { commitment: *commitment });
    }
    // This fails only for digests of more than 64 bytes.
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
        // CommP of 2 KiB of zeros: level 6 of the `zerocomm` table in go-state-types.
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

    #[test]
    fn a_comm_r_may_be_any_field_element_and_a_comm_d_is_truncated_to_254_bits() {
        // The CommR of a real sector: above 2^254, below the modulus.
        let real: [u8; 32] = hex::decode("7440774b2ca0fc20becf59f01ff15d1ac4fcf011486f2a310bbd9da55e45be73")
            .unwrap()
            .try_into()
            .unwrap();
        assert_eq!(comm_r(&sealed_cid(&real).unwrap()).unwrap(), real);
        assert!(matches!(unsealed_cid(&real), Err(Error::NotInField { .. })));
        let mut modulus = SCALAR_MODULUS;
        modulus.reverse();
        assert!(matches!(sealed_cid(&modulus), Err(Error::NotInField { .. })));
        modulus[0] -= 1;
        assert!(sealed_cid(&modulus).is_ok(), "the largest element");
        modulus[1] = 1;
        assert!(matches!(sealed_cid(&modulus), Err(Error::NotInField { .. })), "above it");
    }
}
