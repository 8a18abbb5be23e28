//! Parameters of the methods that concern a miner's money and addresses, and of creating a miner.

use fvm_ipld_encoding::tuple::{Deserialize_tuple, Serialize_tuple, serde_tuple};
use fvm_ipld_encoding::{BytesDe, strict_bytes};
use fvm_shared::address::Address;
use fvm_shared::econ::TokenAmount;
use fvm_shared::sector::RegisteredPoStProof;
use serde::{Deserialize, Serialize};

use crate::chain::types::Epoch;

/// Method of the miner actor: `ChangeWorkerAddress`, which also sets the control addresses.
pub const METHOD_CHANGE_WORKER_ADDRESS: u64 = 3;
/// Method of the miner actor: `ChangePeerID`.
pub const METHOD_CHANGE_PEER_ID: u64 = 4;
/// Method of the miner actor: `WithdrawBalance`.
pub const METHOD_WITHDRAW_BALANCE: u64 = 16;
/// Method of the miner actor: `ChangeMultiaddrs`.
pub const METHOD_CHANGE_MULTIADDRS: u64 = 18;
/// Method of the miner actor: `ConfirmChangeWorkerAddress`, without parameters.
pub const METHOD_CONFIRM_CHANGE_WORKER_ADDRESS: u64 = 21;
/// Method of the miner actor: `RepayDebt`, without parameters.
pub const METHOD_REPAY_DEBT: u64 = 22;
/// Method of the miner actor: `ChangeOwnerAddress`. Its parameter is the address itself, without a tuple around it.
pub const METHOD_CHANGE_OWNER_ADDRESS: u64 = 23;
/// Method of the miner actor: `ChangeBeneficiary`.
pub const METHOD_CHANGE_BENEFICIARY: u64 = 30;
/// Method of the power actor: `CreateMiner`.
pub const METHOD_CREATE_MINER: u64 = 2;

/// The ID of the power actor, which creates miners.
pub const POWER_ACTOR: Address = Address::new_id(4);
/// The most control addresses of a miner (`MAX_CONTROL_ADDRESSES`).
pub const CONTROL_ADDRESSES_MAX: usize = 10;
/// The most bytes of a peer id (`MAX_PEER_ID_LENGTH`).
pub const PEER_ID_BYTES_MAX: usize = 128;
/// The most bytes of all multiaddresses of a miner (`MAX_MULTIADDR_DATA`).
pub const MULTIADDRS_BYTES_MAX: usize = 1024;
/// After how many epochs a change of the worker can be confirmed (`WORKER_KEY_CHANGE_DELAY`).
pub const WORKER_CHANGE_DELAY: Epoch = 900;

/// Parameters of `ChangeWorkerAddress`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct ChangeWorkerAddressParams {
    /// The worker; the present one if only the control addresses change.
    pub new_worker: Address,
    /// All control addresses.
    pub new_control_addresses: Vec<Address>,
}

/// Parameters of `ChangePeerID`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct ChangePeerIdParams {
    /// The peer id: a multihash.
    #[serde(with = "strict_bytes")]
    pub new_id: Vec<u8>,
}

/// Parameters of `ChangeMultiaddrs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct ChangeMultiaddrsParams {
    /// All multiaddresses, in their binary form.
    pub new_multi_addrs: Vec<BytesDe>,
}

/// Parameters of `WithdrawBalance`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct WithdrawBalanceParams {
    /// The amount. If less is available, that is withdrawn.
    pub amount_requested: TokenAmount,
}

/// The return value of `WithdrawBalance`: the amount, without a tuple around it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WithdrawBalanceReturn {
    /// What was withdrawn.
    pub amount_withdrawn: TokenAmount,
}

/// Parameters of `ChangeBeneficiary`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct ChangeBeneficiaryParams {
    /// The beneficiary.
    pub new_beneficiary: Address,
    /// How much it may withdraw in all; 0 if it is the owner.
    pub new_quota: TokenAmount,
    /// Until which epoch; 0 if it is the owner.
    pub new_expiration: Epoch,
}

/// Parameters of the power actor's `CreateMiner`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct CreateMinerParams {
    /// The owner.
    pub owner: Address,
    /// The worker: an account with a BLS key.
    pub worker: Address,
    /// What its window PoSts prove, and so its sectors' size.
    pub window_post_proof_type: RegisteredPoStProof,
    /// The peer id, or empty.
    #[serde(with = "strict_bytes")]
    pub peer: Vec<u8>,
    /// The multiaddresses.
    pub multiaddrs: Vec<BytesDe>,
}

/// The return value of `CreateMiner`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct CreateMinerReturn {
    /// The miner's ID address.
    pub id_address: Address,
    /// Its address that survives reorganisations.
    pub robust_address: Address,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use fil_actor_miner_state::v19 as actor;
    use fvm_ipld_encoding::{from_slice, to_vec};

    fn addresses() -> Vec<Address> {
        vec![Address::new_id(1001), Address::new_secp256k1(&[4; 65]).unwrap(), Address::new_actor(b"x")]
    }

    #[test]
    fn addresses_and_amounts_encode_as_the_actor_does() {
        for address in addresses() {
            assert_eq!(
                to_vec(&ChangeWorkerAddressParams { new_worker: address, new_control_addresses: addresses() }).unwrap(),
                to_vec(&actor::ChangeWorkerAddressParams { new_worker: address, new_control_addresses: addresses() })
                    .unwrap()
            );
            assert_eq!(
                to_vec(&address).unwrap(),
                to_vec(&actor::ChangeOwnerAddressParams { new_owner: address }).unwrap()
            );
            for atto in [0, 1, 1_000_000_000_000_000_000] {
                let amount = TokenAmount::from_atto(atto);
                assert_eq!(
                    to_vec(&ChangeBeneficiaryParams {
                        new_beneficiary: address,
                        new_quota: amount.clone(),
                        new_expiration: atto
                    })
                    .unwrap(),
                    to_vec(&actor::ChangeBeneficiaryParams::new(address, amount.clone(), atto)).unwrap()
                );
                assert_eq!(
                    to_vec(&WithdrawBalanceParams { amount_requested: amount.clone() }).unwrap(),
                    to_vec(&actor::WithdrawBalanceParams { amount_requested: amount.clone() }).unwrap()
                );
                let returned = to_vec(&actor::WithdrawBalanceReturn { amount_withdrawn: amount.clone() }).unwrap();
                assert_eq!(from_slice::<WithdrawBalanceReturn>(&returned).unwrap().amount_withdrawn, amount);
            }
        }
    }

    #[test]
    fn peers_encode_as_the_actor_does() {
        let (peer, address) = (vec![0, 36, 8, 1], BytesDe(vec![4, 127, 0, 0, 1, 6, 4, 210]));
        assert_eq!(
            to_vec(&ChangePeerIdParams { new_id: peer.clone() }).unwrap(),
            to_vec(&actor::ChangePeerIDParams { new_id: peer.clone() }).unwrap()
        );
        assert_eq!(
            to_vec(&ChangeMultiaddrsParams { new_multi_addrs: vec![address.clone(); 2] }).unwrap(),
            to_vec(&actor::ChangeMultiaddrsParams { new_multi_addrs: vec![address; 2] }).unwrap()
        );
    }

    #[test]
    fn a_new_miner_has_the_golden_bytes_and_those_of_the_constructor_that_gets_them() {
        let params = CreateMinerParams {
            owner: Address::new_id(100),
            worker: Address::new_id(101),
            window_post_proof_type: RegisteredPoStProof::StackedDRGWindow32GiBV1P1,
            peer: vec![1, 2, 3],
            multiaddrs: vec![BytesDe(vec![4, 127, 0, 0, 1])],
        };
        let bytes = to_vec(&params).unwrap();
        // Addresses f0100 and f0101, proof type 13, 3 bytes, a list of one with 5 bytes.
        assert_eq!(hex::encode(&bytes), "85420064420065".to_owned() + "0d43010203" + "8145047f000001");
        assert_eq!(from_slice::<CreateMinerParams>(&bytes).unwrap(), params);
        let constructor = actor::MinerConstructorParams {
            owner: params.owner,
            worker: params.worker,
            control_addresses: vec![],
            window_post_proof_type: params.window_post_proof_type,
            peer_id: params.peer,
            multi_addresses: params.multiaddrs,
        };
        // The same fields, with the control addresses between the worker and the proof type.
        let theirs = hex::encode(to_vec(&constructor).unwrap());
        assert_eq!(theirs, hex::encode(&bytes).replacen("85", "86", 1).replacen("0d43", "800d43", 1));
    }

    #[test]
    fn the_method_numbers_are_the_actors() {
        let theirs = [
            actor::Method::ChangeWorkerAddress,
            actor::Method::ChangePeerID,
            actor::Method::WithdrawBalance,
            actor::Method::ChangeMultiaddrs,
            actor::Method::ConfirmChangeWorkerAddress,
            actor::Method::RepayDebt,
            actor::Method::ChangeOwnerAddress,
            actor::Method::ChangeBeneficiary,
        ];
        let ours = [
            METHOD_CHANGE_WORKER_ADDRESS,
            METHOD_CHANGE_PEER_ID,
            METHOD_WITHDRAW_BALANCE,
            METHOD_CHANGE_MULTIADDRS,
            METHOD_CONFIRM_CHANGE_WORKER_ADDRESS,
            METHOD_REPAY_DEBT,
            METHOD_CHANGE_OWNER_ADDRESS,
            METHOD_CHANGE_BENEFICIARY,
        ];
        assert_eq!(theirs.map(|method| method as u64), ours);
    }
}
