//! Lotus' JSON encodings: big numbers as decimal strings, bytes as base64 or null, empty lists as null.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cid::{Cid, multibase};
use fil_actor_miner_state::v19::{MinerInfo, PendingBeneficiaryChange, SectorOnChainInfo, SectorPreCommitOnChainInfo};
use fvm_ipld_bitfield::BitField;
use fvm_ipld_bitfield::json::BitFieldJsonRef;
use fvm_shared::address::Address;
use fvm_shared::bigint::BigInt;
use fvm_shared::crypto::signature::Signature;
use fvm_shared::econ::TokenAmount;
use fvm_shared::message::Message;
use fvm_shared::receipt::Receipt;
use fvm_shared::sector::PoStProof;
use serde_json::{Value, json};

use crate::devnet::address::{id_to_text, to_text};
use crate::devnet::message::{EncodeError, SignedMessage, message_cid};
use crate::devnet::search::Lookup;
use crate::devnet::tipset::{BeaconEntry, BlockHeader, Tipset};

/// A CID: `{"/": "baf…"}`.
pub fn cid(cid: &Cid) -> Value {
    json!({"/": cid.to_string()})
}

/// A CID or null.
pub fn optional_cid(value: Option<&Cid>) -> Value {
    value.map_or(Value::Null, cid)
}

/// Base64, or null if there are no bytes.
pub fn bytes(bytes: &[u8]) -> Value {
    if bytes.is_empty() { Value::Null } else { STANDARD.encode(bytes).into() }
}

/// AttoFIL as a decimal string.
pub fn amount(amount: &TokenAmount) -> Value {
    big(amount.atto())
}

/// A big number as a decimal string.
pub fn big(number: &BigInt) -> Value {
    number.to_string().into()
}

/// An address with the network's prefix.
pub fn address(address: &Address) -> Value {
    to_text(address).into()
}

/// A list, or null if it is empty, as Go encodes nil slices.
pub fn list(values: Vec<Value>) -> Value {
    if values.is_empty() { Value::Null } else { Value::Array(values) }
}

/// A bitfield as run lengths, zeros first.
pub fn bitfield(bits: &BitField) -> Value {
    // Encoding run lengths, which are plain numbers, cannot fail.
    serde_json::to_value(BitFieldJsonRef(bits)).unwrap_or_else(|_| json!([0]))
}

/// A message with its CID.
pub fn message(message: &Message) -> Result<Value, EncodeError> {
    Ok(json!({
        "Version": message.version,
        "To": address(&message.to),
        "From": address(&message.from),
        "Nonce": message.sequence,
        "Value": amount(&message.value),
        "GasLimit": message.gas_limit,
        "GasFeeCap": amount(&message.gas_fee_cap),
        "GasPremium": amount(&message.gas_premium),
        "Method": message.method_num,
        "Params": bytes(message.params.bytes()),
        "CID": cid(&message_cid(message)?),
    }))
}

/// A signature.
pub fn signature(signature: &Signature) -> Value {
    json!({"Type": signature.signature_type() as u8, "Data": STANDARD.encode(signature.bytes())})
}

/// A signed message with its CID.
pub fn signed_message(signed: &SignedMessage) -> Result<Value, EncodeError> {
    Ok(json!({
        "Message": message(&signed.message)?,
        "Signature": signature(&signed.signature),
        "CID": cid(&signed.cid()?),
    }))
}

/// A receipt.
pub fn receipt(receipt: &Receipt) -> Value {
    json!({
        "ExitCode": receipt.exit_code.value(),
        "Return": bytes(receipt.return_data.bytes()),
        "GasUsed": receipt.gas_used,
        "EventsRoot": optional_cid(receipt.events_root.as_ref()),
    })
}

/// The place where a message was executed.
pub fn lookup(lookup: &Lookup) -> Value {
    json!({
        "Message": cid(&lookup.message),
        "Receipt": receipt(&lookup.receipt),
        "ReturnDec": null,
        "TipSet": [cid(&lookup.tipset.cid)],
        "Height": lookup.tipset.height(),
    })
}

/// A tipset with its block.
pub fn tipset(tipset: &Tipset) -> Value {
    json!({"Cids": [cid(&tipset.cid)], "Blocks": [block(&tipset.header)], "Height": tipset.header.height})
}

/// A block's header.
pub fn block(header: &BlockHeader) -> Value {
    let parents = header.parents.iter().map(cid).collect::<Vec<_>>();
    let posts = header.winning_post.iter().map(post_proof).collect();
    json!({
        "Miner": id_to_text(header.miner),
        "Ticket": {"VRFProof": bytes(&header.ticket_vrf_proof)},
        "ElectionProof": {"WinCount": header.election.win_count, "VRFProof": bytes(&header.election.vrf_proof)},
        "BeaconEntries": beacon_entries(&header.beacon_entries),
        "WinPoStProof": list(posts),
        "Parents": parents,
        "ParentWeight": header.parent_weight.to_string(),
        "Height": header.height,
        "ParentStateRoot": cid(&header.parent_state_root),
        "ParentMessageReceipts": cid(&header.parent_receipts),
        "Messages": cid(&header.messages),
        "BLSAggregate": signature(&header.bls_aggregate),
        "Timestamp": header.timestamp,
        "BlockSig": header.signature.as_ref().map(signature),
        "ForkSignaling": 0,
        "ParentBaseFee": header.base_fee.to_string(),
    })
}

fn post_proof(proof: &PoStProof) -> Value {
    json!({"PoStProof": i64::from(proof.post_proof), "ProofBytes": bytes(&proof.proof_bytes)})
}

/// A beacon entry.
pub fn beacon_entry((round, data): &BeaconEntry) -> Value {
    json!({"Round": round, "Data": bytes(data)})
}

/// Beacon entries, or null.
pub fn beacon_entries(entries: &[BeaconEntry]) -> Value {
    list(entries.iter().map(beacon_entry).collect())
}

/// A libp2p peer ID in base58, or null.
fn peer_id(bytes: &[u8]) -> Value {
    if bytes.is_empty() {
        return Value::Null;
    }
    // The multibase prefix is one letter.
    multibase::encode(multibase::Base::Base58Btc, bytes)[1..].into()
}

fn pending_beneficiary(pending: &PendingBeneficiaryChange) -> Value {
    json!({
        "NewBeneficiary": address(&pending.new_beneficiary),
        "NewQuota": amount(&pending.new_quota),
        "NewExpiration": pending.new_expiration,
        "ApprovedByBeneficiary": pending.approved_by_beneficiary,
        "ApprovedByNominee": pending.approved_by_nominee,
    })
}

/// A miner's static information.
pub fn miner_info(info: &MinerInfo) -> Value {
    let controls = info.control_addresses.iter().map(address).collect();
    let multiaddrs = info.multi_address.iter().map(|entry| bytes(&entry.0)).collect();
    json!({
        "Owner": address(&info.owner),
        "Worker": address(&info.worker),
        "NewWorker": info.pending_worker_key.as_ref().map_or("<empty>".into(), |key| address(&key.new_worker)),
        "ControlAddresses": list(controls),
        "WorkerChangeEpoch": info.pending_worker_key.as_ref().map_or(-1, |key| key.effective_at),
        "PeerId": peer_id(&info.peer_id),
        "Multiaddrs": list(multiaddrs),
        "WindowPoStProofType": i64::from(info.window_post_proof_type),
        "SectorSize": info.sector_size as u64,
        "WindowPoStPartitionSectors": info.window_post_partition_sectors,
        "ConsensusFaultElapsed": info.consensus_fault_elapsed,
        "PendingOwnerAddress": info.pending_owner_address.as_ref().map(address),
        "Beneficiary": address(&info.beneficiary),
        "BeneficiaryTerm": {
            "Quota": amount(&info.beneficiary_term.quota),
            "UsedQuota": amount(&info.beneficiary_term.used_quota),
            "Expiration": info.beneficiary_term.expiration,
        },
        "PendingBeneficiaryTerm": info.pending_beneficiary_term.as_ref().map(pending_beneficiary),
    })
}

/// A sector.
pub fn sector(sector: &SectorOnChainInfo) -> Value {
    let optional = |value: &Option<TokenAmount>| value.as_ref().map(amount);
    json!({
        "SectorNumber": sector.sector_number,
        "SealProof": i64::from(sector.seal_proof),
        "SealedCID": cid(&sector.sealed_cid),
        "Activation": sector.activation,
        "Expiration": sector.expiration,
        "DealWeight": big(&sector.deal_weight),
        "VerifiedDealWeight": big(&sector.verified_deal_weight),
        "InitialPledge": amount(&sector.initial_pledge),
        "ExpectedDayReward": optional(&sector.expected_day_reward),
        "ExpectedStoragePledge": optional(&sector.expected_storage_pledge),
        "PowerBaseEpoch": sector.power_base_epoch,
        "ReplacedDayReward": optional(&sector.replaced_day_reward),
        "SectorKeyCID": optional_cid(sector.sector_key_cid.as_ref()),
        "Flags": sector.flags.bits(),
        "DailyFee": amount(&sector.daily_fee),
    })
}

/// A pre-committed sector.
pub fn pre_commit(pre_commit: &SectorPreCommitOnChainInfo) -> Value {
    let info = &pre_commit.info;
    json!({
        "Info": {
            "SealProof": i64::from(info.seal_proof),
            "SectorNumber": info.sector_number,
            "SealedCID": cid(&info.sealed_cid),
            "SealRandEpoch": info.seal_rand_epoch,
            "DealIDs": list(info.deal_ids.iter().map(|id| json!(id)).collect()),
            "Expiration": info.expiration,
            "UnsealedCid": optional_cid(info.unsealed_cid.0.as_ref()),
        },
        "PreCommitDeposit": amount(&pre_commit.pre_commit_deposit),
        "PreCommitEpoch": pre_commit.pre_commit_epoch,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitfields_are_run_lengths_that_start_with_zeros() {
        let of = |bits: &[u64]| bitfield(&BitField::try_from_bits(bits.iter().copied()).expect("bits"));
        assert_eq!(of(&[]), json!([0]));
        assert_eq!(of(&[0]), json!([0, 1]));
        assert_eq!(of(&[1]), json!([1, 1]));
        assert_eq!(of(&[1, 2, 5]), json!([1, 2, 2, 1]));
    }

    #[test]
    fn no_bytes_and_no_items_are_null() {
        assert_eq!(bytes(&[]), Value::Null);
        assert_eq!(bytes(&[1]), json!("AQ=="));
        assert_eq!(list(vec![]), Value::Null);
    }
}
