//! Chain randomness: the real draw function, with made-up tickets and beacon entries.

use fil_actors_shared::v19::runtime::DomainSeparationTag;
use fvm_ipld_encoding::to_vec;
use fvm_shared::ActorID;
use fvm_shared::address::Address;
use fvm_shared::clock::ChainEpoch;

/// BLAKE2b with a 32-byte digest, the chain's hash.
pub fn blake2b256(data: &[u8]) -> [u8; 32] {
    let digest = blake2b_simd::Params::new().hash_length(32).hash(data);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_bytes());
    out
}

/// `blake2b256(be(tag) ‖ digest ‖ be(epoch) ‖ entropy)`, for any tag number.
pub fn draw(digest: &[u8; 32], tag: i64, epoch: ChainEpoch, entropy: &[u8]) -> [u8; 32] {
    let mut data = Vec::with_capacity(48 + entropy.len());
    data.extend_from_slice(&tag.to_be_bytes());
    data.extend_from_slice(digest);
    data.extend_from_slice(&epoch.to_be_bytes());
    data.extend_from_slice(entropy);
    blake2b256(&data)
}

/// Like [`draw`], for a known tag.
pub fn draw_tagged(digest: &[u8; 32], tag: DomainSeparationTag, epoch: ChainEpoch, entropy: &[u8]) -> [u8; 32] {
    draw(digest, tag as i64, epoch, entropy)
}

/// The entropy "miner address": the CBOR byte string of the ID address' bytes.
pub fn miner_entropy(miner: ActorID) -> Vec<u8> {
    // Encoding a byte string of at most 11 bytes cannot fail.
    to_vec(&Address::new_id(miner)).unwrap_or_default()
}

/// The VRF proof of the ticket at `epoch`. It depends on the fork, so a reorganisation changes tickets.
pub fn ticket_vrf_proof(seed: u64, fork: u64, epoch: ChainEpoch) -> Vec<u8> {
    let mut data = b"sealbus-devnet ticket".to_vec();
    data.extend_from_slice(&seed.to_be_bytes());
    data.extend_from_slice(&fork.to_be_bytes());
    data.extend_from_slice(&epoch.to_be_bytes());
    blake2b256(&data).to_vec()
}

/// The data of the beacon entry at `epoch`. It is the same on every fork.
pub fn beacon_data(seed: u64, epoch: ChainEpoch) -> Vec<u8> {
    let mut data = b"sealbus-devnet beacon".to_vec();
    data.extend_from_slice(&seed.to_be_bytes());
    data.extend_from_slice(&epoch.to_be_bytes());
    blake2b256(&data).to_vec()
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn digest(text: &str) -> [u8; 32] {
        let bytes = STANDARD.decode(text).expect("base64");
        bytes.try_into().expect("32 bytes")
    }

    #[test]
    fn draw_agrees_with_the_published_vector() {
        let base = digest("GOobxkrhS1hiFA1EYUKZM3xsyVfy5Xy3bQ0gLPnecYs=");
        let entropy = STANDARD.decode("RACZyzQ=").expect("base64");
        let wanted = digest("3MCqcLHKZ+pil4MqTS9wjsd+yPvTuTrq8PkGjEo3tYQ=");
        assert_eq!(draw(&base, 5, 2_797_727, &entropy), wanted);
        let tag = DomainSeparationTag::SealRandomness;
        assert_eq!(draw_tagged(&base, tag, 2_797_727, &entropy), wanted);
    }

    #[test]
    fn miner_entropy_is_the_cbor_of_the_id_form() {
        assert_eq!(hex::encode(miner_entropy(1000)), "4300e807");
    }

    #[test]
    fn forks_change_tickets_and_not_the_beacon() {
        assert_ne!(ticket_vrf_proof(1, 0, 7), ticket_vrf_proof(1, 1, 7));
        assert_ne!(ticket_vrf_proof(1, 0, 7), ticket_vrf_proof(2, 0, 7));
        assert_eq!(beacon_data(1, 7), beacon_data(1, 7));
        assert_ne!(beacon_data(1, 7), beacon_data(1, 8));
    }
}
