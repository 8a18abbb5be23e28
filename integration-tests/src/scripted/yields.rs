//! The results of a scripted phase, as a pure function of its request. So anybody can tell whether an answer is the
//! right one for this sector, ticket and seed.

use fvm_shared::piece::{PaddedPieceSize, zero_piece_commitment};
use sealbus_schema::{Commitment, MinerId, Randomness, SectorId, SectorNumber};

/// The size of each file that a phase writes: two pages, so that a full disk may take only the first half.
pub const FILE_BYTES: usize = 8192;
/// The size of a proof for one partition.
const PROOF_BYTES: usize = 192;
/// The size of a vanilla proof, as of a sector of 32 GiB.
const VANILLA_BYTES: usize = 24_000;
const SECTOR_BYTES: u64 = 2048;

/// CommD of the sectors, which contain zeros.
pub fn comm_d() -> Commitment {
    Commitment(zero_piece_commitment(PaddedPieceSize(SECTOR_BYTES)))
}

/// CommR of a sector sealed with a ticket.
pub fn comm_r(sector: SectorId, ticket: &Randomness) -> Commitment {
    let mut bytes = digest(&[b"comm_r", sector.to_string().as_bytes(), &ticket.0]);
    // Clears the top bits, so that the value is a field element: below the modulus.
    bytes[31] &= 0x3f;
    Commitment(bytes)
}

/// The proof of a sector's replica for a seed.
pub fn proof(sector: SectorId, comm_r: &Commitment, ticket: &Randomness, seed: &Randomness) -> Vec<u8> {
    let key = digest(&[b"proof", sector.to_string().as_bytes(), &ticket.0, &seed.0, &comm_r.0]);
    expand(&key, PROOF_BYTES)
}

/// The aggregate of proofs in this order, as large as that of real proofs of one partition.
pub fn aggregate<'a>(proofs: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let proofs: Vec<&[u8]> = std::iter::once(&b"aggregate"[..]).chain(proofs).collect();
    let halvings = (proofs.len() - 1).next_power_of_two().ilog2() as usize;
    expand(&digest(&proofs), 2260 + 2976 * halvings)
}

/// The vanilla proof of a sector for a proof of spacetime, `window` or `winning`.
pub fn vanilla(kind: &str, sector: SectorId, comm_r: &Commitment, randomness: &Randomness) -> Vec<u8> {
    let key = digest(&[b"vanilla", kind.as_bytes(), sector.to_string().as_bytes(), &comm_r.0, &randomness.0]);
    expand(&key, VANILLA_BYTES)
}

/// The proof of spacetime, `window` or `winning`, of a miner's sectors in ascending order, for the randomness that the
/// proof is made with. It has the size of one partition's.
pub fn post(kind: &str, miner: MinerId, randomness: &Randomness, sectors: &[(SectorNumber, Commitment)]) -> Vec<u8> {
    let sectors: Vec<u8> =
        sectors.iter().flat_map(|(number, comm_r)| [&number.0.to_le_bytes()[..], &comm_r.0].concat()).collect();
    let key = digest(&[b"post", kind.as_bytes(), &miner.0.to_le_bytes(), &randomness.0, &sectors]);
    expand(&key, PROOF_BYTES)
}

/// The content of a file that a phase writes, derived from its request.
pub fn file(phase: &str, about: &[u8]) -> Vec<u8> {
    expand(&digest(&[b"file", phase.as_bytes(), about]), FILE_BYTES)
}

/// BLAKE2b-256.
pub fn blake2b(bytes: &[u8]) -> Commitment {
    Commitment(digest(&[bytes]))
}

fn expand(key: &[u8; 32], length: usize) -> Vec<u8> {
    let blocks = (0_u64..).flat_map(|counter| digest(&[key, &counter.to_le_bytes()]));
    blocks.take(length).collect()
}

fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut state = blake2b_simd::Params::new().hash_length(32).to_state();
    for part in parts {
        // Lengths are included, so that different lists of parts never give the same bytes. A single part is hashed as
        // it is.
        if parts.len() > 1 {
            state.update(&(part.len() as u64).to_le_bytes());
        }
        state.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(state.finalize().as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_phase_yields_depends_on_all_that_it_was_asked() {
        let sectors: [SectorId; 2] = ["f01000/1", "f01000/2"].map(|text| text.parse().expect("a sector"));
        let (a, b) = (Randomness([1; 32]), Randomness([2; 32]));
        let (r, s) = (Commitment([3; 32]), Commitment([4; 32]));
        let one = proof(sectors[0], &r, &a, &b);
        assert_eq!(one.len(), 192);
        assert_eq!(one, proof(sectors[0], &r, &a, &b));
        for other in [
            proof(sectors[1], &r, &a, &b),
            proof(sectors[0], &s, &a, &b),
            proof(sectors[0], &r, &b, &b),
            proof(sectors[0], &r, &a, &a),
        ] {
            assert_ne!(one, other);
        }
        assert_ne!(comm_r(sectors[0], &a), comm_r(sectors[0], &b));
        let proofs: [&[u8]; 4] = [&one, b"b", b"c", b"d"];
        assert_eq!(aggregate(proofs).len(), 8_212);
        assert_ne!(aggregate(proofs), aggregate([proofs[1], proofs[0], proofs[2], proofs[3]]));
        assert_ne!(file("pc1", b"x"), file("pc2", b"x"));
        let posts = [
            post("window", MinerId(1), &a, &[(SectorNumber(1), r)]),
            post("winning", MinerId(1), &a, &[(SectorNumber(1), r)]),
            post("window", MinerId(2), &a, &[(SectorNumber(1), r)]),
            post("window", MinerId(1), &b, &[(SectorNumber(1), r)]),
            post("window", MinerId(1), &a, &[(SectorNumber(2), r)]),
            post("window", MinerId(1), &a, &[(SectorNumber(1), s)]),
            post("window", MinerId(1), &a, &[(SectorNumber(1), r), (SectorNumber(2), r)]),
        ];
        let vanillas =
            [("window", 0, r, a), ("winning", 0, r, a), ("window", 1, r, a), ("window", 0, s, a), ("window", 0, r, b)]
                .map(|(kind, sector, comm_r, randomness)| vanilla(kind, sectors[sector], &comm_r, &randomness));
        assert_eq!(vanillas.iter().collect::<std::collections::HashSet<_>>().len(), vanillas.len());
        assert_eq!(posts.iter().collect::<std::collections::HashSet<_>>().len(), posts.len());
    }
}
