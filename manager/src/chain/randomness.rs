//! The chain's randomness: how it is drawn, from which epoch, and how long it is valid.
//!
//! The node draws for us; [`draw`] is the same function, to check the node and to save calls. The function follows
//! FIP-0003 and `chain/rand` of Lotus; the numbers are from `policy_constants` of the actors (v18 and v19).

use fvm_shared::address::Address;
use multihash_codetable::{Code, MultihashDigest};

use super::types::Epoch;

/// How many epochs on top of a tipset make it final (`ChainFinality`): no reorganisation reaches it.
pub const FINALITY: Epoch = 900;
/// How many epochs a ticket is behind the head (`SealRandomnessLookback`). It equals the chain's finality, so no
/// reorganisation reaches the ticket.
pub const TICKET_LOOKBACK: Epoch = FINALITY;

/// The age in epochs beyond which a ticket is too old for a PreCommit: a day plus finality
/// (`max_pre_commit_randomness_lookback`).
pub const TICKET_AGE_MAX: Epoch = 2880 + 900;

/// The chain's domain separation tags: what randomness is drawn for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i64)]
pub enum Domain {
    /// A block's ticket.
    TicketProduction = 1,
    /// The election of a block's miner.
    ElectionProofProduction = 2,
    /// The challenge of a winning PoSt.
    WinningPoStChallengeSeed = 3,
    /// The challenge of a window PoSt.
    WindowedPoStChallengeSeed = 4,
    /// The ticket of a sector.
    SealRandomness = 5,
    /// The seed of a sector's challenges.
    InteractiveSealChallengeSeed = 6,
    /// The proof that a window PoSt was made on this chain.
    PoStChainCommit = 9,
}

/// A miner's entropy: the CBOR byte string of its ID address (not of another form of its address).
pub fn miner_entropy(miner_id: u64) -> Vec<u8> {
    let address = Address::new_id(miner_id).to_bytes();
    // An ID address has 2 to 11 bytes, so its length fits into the byte string's one-byte header.
    let mut entropy = vec![0x40 | address.len() as u8];
    entropy.extend_from_slice(&address);
    entropy
}

/// Draws randomness from a digest: BLAKE2b-256 of the ticket's VRF proof, or of the beacon entry's data.
pub fn draw(digest: &[u8; 32], domain: Domain, epoch: Epoch, entropy: &[u8]) -> [u8; 32] {
    let mut input = Vec::with_capacity(8 + 32 + 8 + entropy.len());
    input.extend_from_slice(&(domain as i64).to_be_bytes());
    input.extend_from_slice(digest);
    input.extend_from_slice(&epoch.to_be_bytes());
    input.extend_from_slice(entropy);
    blake2b256(&input)
}

/// Randomness as the proofs want it: they work with field elements of 254 bits.
pub const fn masked(mut randomness: [u8; 32]) -> [u8; 32] {
    randomness[31] &= 0x3f;
    randomness
}

/// The chain's hash: BLAKE2b with a digest of 32 bytes.
pub fn blake2b256(bytes: &[u8]) -> [u8; 32] {
    let hash = Code::Blake2b256.digest(bytes);
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.digest());
    digest
}

/// The epoch of the ticket for a sealing that starts at `head`. It is negative on a young chain, which is legal.
pub fn ticket_epoch(head: Epoch) -> Epoch {
    head - TICKET_LOOKBACK
}

/// The last epoch at which a PreCommit with this ticket can be *included*.
pub fn ticket_expires_epoch(ticket_epoch: Epoch) -> Epoch {
    ticket_epoch.saturating_add(TICKET_AGE_MAX)
}

/// Whether the ticket is still valid for a PreCommit that is included up to `margin` epochs after `head`.
pub fn ticket_usable(ticket_epoch: Epoch, head: Epoch, margin: Epoch) -> bool {
    ticket_epoch <= head && head.saturating_add(margin) <= ticket_expires_epoch(ticket_epoch)
}

/// The epoch of the seed. The delay comes from the network's parameters.
pub fn seed_epoch(pre_commit_epoch: Epoch, pre_commit_challenge_delay: Epoch) -> Epoch {
    pre_commit_epoch.saturating_add(pre_commit_challenge_delay)
}

/// The prover id in proofs: the payload of the miner's ID address (LEB128), padded with zeros.
pub fn prover_id(miner_id: u64) -> [u8; 32] {
    let payload = Address::new_id(miner_id).payload_bytes();
    let mut prover = [0; 32];
    prover[..payload.len()].copy_from_slice(&payload);
    prover
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    #[test]
    fn the_entropy_of_a_miner_is_its_address_as_a_byte_string() {
        assert_eq!(hex::encode(miner_entropy(1000)), "4300e807");
        assert_eq!(miner_entropy(u64::MAX).len(), 12);
        for id in [0, 127, 128, 1000, u64::MAX] {
            let encoded = fvm_ipld_encoding::to_vec(&Address::new_id(id)).unwrap();
            assert_eq!(miner_entropy(id), encoded);
        }
    }

    #[test]
    fn the_draw_agrees_with_the_chain() {
        let digest = STANDARD.decode("GOobxkrhS1hiFA1EYUKZM3xsyVfy5Xy3bQ0gLPnecYs=").unwrap();
        let entropy = STANDARD.decode("RACZyzQ=").unwrap();
        let drawn = draw(&digest.try_into().unwrap(), Domain::SealRandomness, 2_797_727, &entropy);
        assert_eq!(STANDARD.encode(drawn), "3MCqcLHKZ+pil4MqTS9wjsd+yPvTuTrq8PkGjEo3tYQ=");
    }

    #[test]
    fn a_ticket_is_usable_to_its_last_epoch_and_not_beyond() {
        let ticket = ticket_epoch(1000);
        assert_eq!((ticket, ticket_expires_epoch(ticket)), (100, 3880));
        assert!(ticket_usable(ticket, 3880, 0) && ticket_usable(ticket, 3870, 10));
        assert!(!ticket_usable(ticket, 3881, 0) && !ticket_usable(ticket, 3871, 10));
        assert!(!ticket_usable(ticket, 99, 0), "a head behind the ticket is another chain");
        assert_eq!(ticket_epoch(50), -850);
    }

    #[test]
    fn the_prover_is_the_payload_without_protocol_byte() {
        assert_eq!(hex::encode(prover_id(1000)), format!("e807{}", "00".repeat(30)));
        assert_eq!(prover_id(u64::MAX)[..10], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    }

    #[test]
    fn the_seed_follows_the_networks_delay() {
        assert_eq!((seed_epoch(100, 150), seed_epoch(100, 10)), (250, 110));
    }
}
