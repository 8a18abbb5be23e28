//! Creating a miner.

use fvm_ipld_encoding::BytesDe;
use fvm_shared::{address::Protocol, econ::TokenAmount, sector::RegisteredPoStProof};
use sealbus_schema::SectorSize;
use serde_json::json;

use super::{
    Draft, Refusal, Role, encoded,
    fil::shown,
    keys::Account,
    peer::{Multiaddr, PeerId},
};
use crate::chain::params::{CreateMinerParams, METHOD_CREATE_MINER, POWER_ACTOR};

/// The kind of a creation.
pub const CREATE: &str = "create_miner";

/// What a new miner is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMiner {
    /// The owner, which pays for it.
    pub owner: Account,
    /// The worker.
    pub worker: Account,
    /// Its sectors' size.
    pub sector_size: SectorSize,
    /// Its peer id.
    pub peer: Option<PeerId>,
    /// Its multiaddresses.
    pub multiaddrs: Vec<Multiaddr>,
}

/// Creates a miner. `deposit` is what the node asks for it, without a margin; it changes with each epoch, so a tenth more
/// is sent. It is locked and vests to the miner.
pub fn create(new: &NewMiner, deposit: &TokenAmount) -> Result<Draft, Refusal> {
    if new.worker.key.protocol() != Protocol::BLS {
        return Err(Refusal::NotBls { field: "--worker", address: new.worker.key });
    }
    let value = (deposit.clone() * 11u64).div_ceil(10u64);
    let params = CreateMinerParams {
        owner: new.owner.id,
        worker: new.worker.id,
        window_post_proof_type: window_post_proof(new.sector_size),
        peer: new.peer.as_ref().map(|peer| peer.bytes().to_vec()).unwrap_or_default(),
        multiaddrs: new.multiaddrs.iter().map(|address| BytesDe(address.bytes().to_vec())).collect(),
    };
    let (owner, worker, size) = (new.owner.id, new.worker.id, new.sector_size);
    Ok(Draft {
        miner: None,
        kind: CREATE,
        role: Role::Owner,
        sender: owner,
        receiver: POWER_ACTOR,
        method: METHOD_CREATE_MINER,
        params: encoded(&params)?,
        what: format!("create a miner with sectors of {size}, owner {owner}, worker {worker}"),
        follows: format!(
            "{} FIL become the miner's, and vest over 180 days. Once the message lands, `messages list --errands --all` shows the miner's id \
             for [[miner]] in the configuration",
            shown(&value)
        ),
        detail: json!({
            "owner": owner.to_string(), "worker": worker.to_string(), "sector_size": size.to_string(),
            "deposit_atto": value.atto().to_string(),
        }),
        value,
    })
}

/// The proof of window PoSts of a sector size.
fn window_post_proof(size: SectorSize) -> RegisteredPoStProof {
    // `RegisteredPoStProof`: the five sizes from 2 KiB on, since network version 19.
    const FIRST: i64 = 10;
    const SMALLEST_PROOF: i64 = 5;
    (FIRST + size.seal_proof().number() - SMALLEST_PROOF).into()
}

#[cfg(test)]
mod tests {
    use fvm_shared::address::Address;

    use super::*;

    fn account(number: u64) -> Account {
        Account { id: Address::new_id(number), key: Address::new_bls(&[number as u8; 48]).expect("an address") }
    }

    fn new_miner(sector_size: SectorSize) -> NewMiner {
        NewMiner { owner: account(100), worker: account(101), sector_size, peer: None, multiaddrs: vec![] }
    }

    #[test]
    fn a_miner_is_created_with_a_tenth_more_than_its_deposit() {
        let draft = create(&new_miner(SectorSize::GiB32), &TokenAmount::from_atto(101)).expect("a draft");
        assert_eq!((draft.receiver, draft.method, draft.value), (Address::new_id(4), 2, TokenAmount::from_atto(112)));
        let params: CreateMinerParams = fvm_ipld_encoding::from_slice(&draft.params).expect("parameters");
        assert_eq!((params.owner, params.worker), (Address::new_id(100), Address::new_id(101)));
        assert_eq!(params.window_post_proof_type, RegisteredPoStProof::StackedDRGWindow32GiBV1P1);
    }

    #[test]
    fn each_size_has_its_proof_and_another_kind_of_worker_is_refused() {
        let proofs = [
            (SectorSize::KiB2, RegisteredPoStProof::StackedDRGWindow2KiBV1P1),
            (SectorSize::MiB8, RegisteredPoStProof::StackedDRGWindow8MiBV1P1),
            (SectorSize::MiB512, RegisteredPoStProof::StackedDRGWindow512MiBV1P1),
            (SectorSize::GiB64, RegisteredPoStProof::StackedDRGWindow64GiBV1P1),
        ];
        for (size, proof) in proofs {
            assert_eq!(window_post_proof(size), proof);
        }
        let mut new = new_miner(SectorSize::KiB2);
        new.worker.key = Address::new_secp256k1(&[4; 65]).expect("an address");
        assert!(matches!(create(&new, &TokenAmount::default()), Err(Refusal::NotBls { .. })));
    }
}
