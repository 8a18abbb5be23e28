//! The node's answers, with exactly the fields that the manager uses.
//!
//! Unknown fields are ignored, and fields that only some nodes have are optional. Epochs count from genesis; amounts
//! are in attoFIL.

use std::str::FromStr;

use cid::Cid;
use fvm_shared::address::Address;
use fvm_shared::bigint::BigInt;
use fvm_shared::econ::TokenAmount;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::exit::ExitCode;
use super::json::{self, CidLink};
use super::sector_set::SectorSet;

/// Index into a deadline's partitions or a period's deadlines, or a sector's number, as the actor counts them.
pub type Index = u64;

/// An epoch: the height of a tipset.
pub type Epoch = i64;

/// The identity of a tipset: the CIDs of its blocks, in order. The empty key means the node's head.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TipSetKey(
    /// CIDs of the blocks.
    pub Vec<Cid>,
);

impl TipSetKey {
    /// The key of the node's own head. Two calls with it may see different chains.
    pub fn head() -> Self {
        Self::default()
    }
}

impl Serialize for TipSetKey {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.0.iter().map(json::cid_value))
    }
}

impl<'de> Deserialize<'de> for TipSetKey {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let links: Vec<CidLink> = json::nullable::deserialize(d)?;
        Ok(Self(links.into_iter().map(|link| link.0).collect()))
    }
}

impl std::fmt::Display for TipSetKey {
    /// The CIDs joined by commas, as stored and logged.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, cid) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{cid}")?;
        }
        Ok(())
    }
}

impl FromStr for TipSetKey {
    type Err = cid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(',').filter(|part| !part.is_empty()).map(Cid::from_str).collect::<Result<_, _>>().map(Self)
    }
}

/// A tipset.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TipSet {
    /// Its identity.
    #[serde(rename = "Cids")]
    pub key: TipSetKey,
    /// Its blocks; at least one.
    #[serde(deserialize_with = "json::nullable::deserialize")]
    pub blocks: Vec<BlockHeader>,
    /// Its epoch.
    pub height: Epoch,
}

impl TipSet {
    /// The base fee in attoFIL that the tipset's parents determine, which messages pay if they are included now.
    pub fn base_fee(&self) -> Option<&TokenAmount> {
        self.blocks.first().map(|block| &block.parent_base_fee)
    }
}

/// A block's header.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BlockHeader {
    /// The miner actor that made it.
    #[serde(deserialize_with = "json::address::deserialize")]
    pub miner: Address,
    /// Its parent tipset.
    #[serde(default)]
    pub parents: TipSetKey,
    /// Its timestamp, in seconds since 1970.
    pub timestamp: u64,
    /// The base fee of messages in this block, in attoFIL per unit of gas.
    #[serde(deserialize_with = "json::tokens::deserialize")]
    pub parent_base_fee: TokenAmount,
}

/// The constants of the network that a node is on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkParams {
    /// `mainnet`, `calibrationnet`, …
    pub network_name: String,
    /// The length of an epoch in seconds; 0 on networks with epochs shorter than a second.
    pub block_delay_secs: u64,
    /// The epochs between a PreCommit and its seed: 150, or 10 on development networks.
    pub pre_commit_challenge_delay: Epoch,
    /// The start of epoch 0, in seconds since 1970. Not every node reports it.
    #[serde(default)]
    pub genesis_timestamp: Option<u64>,
}

/// The actor behind an address.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ActorState {
    /// The next nonce that the chain accepts.
    pub nonce: u64,
    /// Its balance, in attoFIL.
    #[serde(deserialize_with = "json::tokens::deserialize")]
    pub balance: TokenAmount,
}

/// A miner actor's addresses and sizes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MinerInfo {
    /// The owner, which may withdraw funds.
    #[serde(deserialize_with = "json::address::deserialize")]
    pub owner: Address,
    /// The worker, which signs blocks and messages.
    #[serde(deserialize_with = "json::address::deserialize")]
    pub worker: Address,
    /// The next worker, while a change is pending.
    #[serde(default, deserialize_with = "json::address_opt::deserialize")]
    pub new_worker: Option<Address>,
    /// The epoch from which that change can be confirmed; −1 if there is none.
    #[serde(default = "no_epoch")]
    pub worker_change_epoch: Epoch,
    /// The control addresses, which may also send messages for the miner.
    #[serde(default, deserialize_with = "json::addresses::deserialize")]
    pub control_addresses: Vec<Address>,
    /// The `RegisteredPoStProof` of its window PoSts: 10 (2 KiB) to 14 (64 GiB).
    #[serde(rename = "WindowPoStProofType")]
    pub window_post_proof: i64,
    /// The size of a sector, in bytes.
    #[serde(rename = "SectorSize")]
    pub sector_bytes: u64,
    /// The number of sectors in a full partition.
    #[serde(rename = "WindowPoStPartitionSectors")]
    pub partition_sectors: u64,
    /// The epoch at which a consensus fault ends; −1 if there is none. Until then PreCommits are refused.
    #[serde(default = "no_epoch")]
    pub consensus_fault_elapsed: Epoch,
    /// The next owner, until that address confirms the change.
    #[serde(default, deserialize_with = "json::address_opt::deserialize")]
    pub pending_owner_address: Option<Address>,
    /// Who gets what is withdrawn. `None` from a node that does not tell; then it is the owner.
    #[serde(default, deserialize_with = "json::address_opt::deserialize")]
    pub beneficiary: Option<Address>,
    /// How much the beneficiary may withdraw, if it is not the owner.
    #[serde(default)]
    pub beneficiary_term: Option<BeneficiaryTerm>,
    /// Another beneficiary, until all concerned have approved it.
    #[serde(default)]
    pub pending_beneficiary_term: Option<PendingBeneficiary>,
    /// The peer id as text (`12D3Koo…`).
    #[serde(default)]
    pub peer_id: Option<String>,
    /// The multiaddresses in their binary form.
    #[serde(default, deserialize_with = "json::byte_strings::deserialize")]
    pub multiaddrs: Vec<Vec<u8>>,
}

/// How much a beneficiary may withdraw.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BeneficiaryTerm {
    /// In all, in attoFIL.
    #[serde(deserialize_with = "json::tokens::deserialize")]
    pub quota: TokenAmount,
    /// What it has withdrawn, in attoFIL.
    #[serde(deserialize_with = "json::tokens::deserialize")]
    pub used_quota: TokenAmount,
    /// Until which epoch.
    pub expiration: Epoch,
}

/// A proposed beneficiary.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PendingBeneficiary {
    /// The beneficiary.
    #[serde(deserialize_with = "json::address::deserialize")]
    pub new_beneficiary: Address,
    /// How much it may withdraw, in attoFIL.
    #[serde(deserialize_with = "json::tokens::deserialize")]
    pub new_quota: TokenAmount,
    /// Until which epoch.
    pub new_expiration: Epoch,
    /// Whether the present beneficiary has approved it.
    #[serde(default)]
    pub approved_by_beneficiary: bool,
    /// Whether the proposed one has approved it.
    #[serde(default)]
    pub approved_by_nominee: bool,
}

/// A partition of a deadline.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Partition {
    /// All its sectors, also those that have ended.
    pub all_sectors: SectorSet,
    /// Those that are faulty.
    pub faulty_sectors: SectorSet,
    /// Those that are faulty and declared as recovered.
    pub recovering_sectors: SectorSet,
    /// Those that have not ended.
    pub live_sectors: SectorSet,
    /// Those that have power: live, proven once, and not faulty.
    pub active_sectors: SectorSet,
}

/// What a deadline has got since it opened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeadlineState {
    /// The partitions whose proofs it has.
    pub post_submissions: SectorSet,
}

/// A miner actor's funds, which are a part of its state, in attoFIL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MinerFunds {
    /// The actor's balance, with everything below.
    pub balance: TokenAmount,
    /// The deposits of sectors that are not proven yet.
    pub pre_commit_deposits: TokenAmount,
    /// The pledges of proven sectors.
    pub initial_pledge: TokenAmount,
    /// Rewards and deposits that vest.
    pub locked_funds: TokenAmount,
    /// When they are unlocked; `None` if there are none.
    pub vesting: Option<Vesting>,
    /// Fees and penalties that could not be paid.
    pub fee_debt: TokenAmount,
    /// The deadlines with terminated sectors whose fees are not settled. Until they are, nothing can be withdrawn.
    pub early_terminations: SectorSet,
}

/// The schedule by which locked funds are unlocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vesting {
    /// The epoch of the first unlocking.
    pub epoch: Epoch,
    /// What is unlocked then, in attoFIL.
    pub amount: TokenAmount,
    /// An object on chain with the later ones: a list of epochs and amounts in CBOR.
    pub tail: Cid,
}

/// The outcome of a message that was executed on trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// Its receipt.
    pub receipt: Receipt,
    /// The node's words about a failure; empty after a success.
    pub said: String,
}

/// A miner's open or next deadline. All numbers come from the node; none is a constant of ours.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProvingDeadline {
    /// The epoch this was computed for.
    pub current_epoch: Epoch,
    /// The first epoch of the proving period; may be in the future.
    pub period_start: Epoch,
    /// The deadline's number in its period.
    pub index: Index,
    /// The first epoch at which a proof can be included.
    pub open: Epoch,
    /// The first epoch at which a proof can no longer be included.
    pub close: Epoch,
    /// The epoch of the challenge's randomness.
    pub challenge: Epoch,
    /// The first epoch at which faults and recoveries of this deadline can no longer be declared.
    pub fault_cutoff: Epoch,
    /// The number of deadlines in a period.
    #[serde(rename = "WPoStPeriodDeadlines")]
    pub period_deadlines: u64,
    /// The epochs in a period.
    #[serde(rename = "WPoStProvingPeriod")]
    pub proving_period: Epoch,
    /// The epochs in a deadline.
    #[serde(rename = "WPoStChallengeWindow")]
    pub challenge_window: Epoch,
    /// The epochs from the challenge to the opening.
    #[serde(rename = "WPoStChallengeLookback")]
    pub challenge_lookback: Epoch,
    /// The epochs from the fault cutoff to the opening.
    #[serde(rename = "FaultDeclarationCutoff")]
    pub fault_declaration_cutoff: Epoch,
}

/// A sector on chain, between PreCommit and ProveCommit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SectorPreCommitOnChainInfo {
    /// What was pre-committed.
    pub info: PreCommittedSector,
    /// The deposit, which is burnt if the sector is not proven in time, in attoFIL.
    #[serde(deserialize_with = "json::tokens::deserialize")]
    pub pre_commit_deposit: TokenAmount,
    /// The epoch of the tipset that included the message. A reorganisation may move it, and the seed with it.
    pub pre_commit_epoch: Epoch,
}

/// The content of a PreCommit for one sector.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PreCommittedSector {
    /// Its `RegisteredSealProof`.
    pub seal_proof: i64,
    /// The sector.
    pub sector_number: Index,
    /// CommR.
    #[serde(rename = "SealedCID", with = "json::cid_link")]
    pub sealed_cid: Cid,
    /// The ticket's epoch.
    pub seal_rand_epoch: Epoch,
    /// When the sector ends.
    pub expiration: Epoch,
    /// CommD; `None` for zeros.
    #[serde(default, deserialize_with = "json::cid_link_opt::deserialize")]
    pub unsealed_cid: Option<Cid>,
}

/// A proven sector on chain.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SectorOnChainInfo {
    /// The sector.
    pub sector_number: Index,
    /// Its `RegisteredSealProof`.
    pub seal_proof: i64,
    /// CommR of the present replica.
    #[serde(rename = "SealedCID", with = "json::cid_link")]
    pub sealed_cid: Cid,
    /// The epoch of its activation.
    pub activation: Epoch,
    /// The epoch of its expiration.
    pub expiration: Epoch,
    /// Its pledge, in attoFIL.
    #[serde(deserialize_with = "json::tokens::deserialize")]
    pub initial_pledge: TokenAmount,
    /// The epoch since which it has its present power.
    #[serde(default)]
    pub power_base_epoch: Epoch,
    /// CommR before the replica update; `None` if there was no update.
    #[serde(default, rename = "SectorKeyCID", deserialize_with = "json::cid_link_opt::deserialize")]
    pub sector_key_cid: Option<Cid>,
    /// `SectorOnChainInfoFlags`: 1 simple power, 2 full quality.
    #[serde(default)]
    pub flags: u32,
    /// Bytes of data times epochs.
    #[serde(default, deserialize_with = "json::big::deserialize")]
    pub deal_weight: BigInt,
    /// Bytes of verified data times epochs.
    #[serde(default, deserialize_with = "json::big::deserialize")]
    pub verified_deal_weight: BigInt,
    /// What it costs a day, in attoFIL. 0 for sectors that are older than this fee (FIP-0100).
    #[serde(default, deserialize_with = "json::tokens_or_null::deserialize")]
    pub daily_fee: TokenAmount,
}

/// The place of a sector in the miner's deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SectorLocation {
    /// Index of the deadline.
    pub deadline: Index,
    /// Index of the partition in it.
    pub partition: Index,
}

/// Where a message landed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MessageLookup {
    /// The message that landed. If the searched one was replaced, this is the other one, with the same sender and
    /// nonce.
    #[serde(with = "json::cid_link")]
    pub message: Cid,
    /// Its receipt.
    pub receipt: Receipt,
    /// The tipset that *executed* it: the child of the one that included it.
    #[serde(rename = "TipSet")]
    pub tipset: TipSetKey,
    /// The epoch of that tipset. It counts only if it is not above the height where the search started.
    pub height: Epoch,
}

/// The receipt of a message's execution.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Receipt {
    /// The exit code of the whole message. 0 does not mean that each sector of a batch succeeded.
    #[serde(deserialize_with = "exit_code")]
    pub exit_code: ExitCode,
    /// The actor's return value in CBOR.
    #[serde(default, rename = "Return", deserialize_with = "json::bytes::deserialize")]
    pub return_bytes: Vec<u8>,
    /// The gas used.
    pub gas_used: i64,
}

fn no_epoch() -> Epoch {
    -1
}

fn exit_code<'de, D: Deserializer<'de>>(d: D) -> Result<ExitCode, D::Error> {
    u32::deserialize(d).map(ExitCode::from)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use serde_json::json;

    const CID: &str = "bafy2bzacebbpdegvr3i4cosewthysg5xkxpqfn2wfcz6mv2hmoktwbdxkax4s";

    #[test]
    fn a_miner_without_control_addresses_reads_from_the_nodes_nulls() {
        let info: MinerInfo = serde_json::from_value(json!({
            "Owner": "t01000", "Worker": "t01001", "NewWorker": "<empty>", "ControlAddresses": null, "WorkerChangeEpoch": -1,
            "PeerId": null, "Multiaddrs": null, "WindowPoStProofType": 10, "SectorSize": 2048, "WindowPoStPartitionSectors": 2,
            "ConsensusFaultElapsed": -1, "PendingOwnerAddress": null, "Beneficiary": "t01000", "Unknown": {"x": []}
        }))
        .unwrap();
        assert_eq!((info.worker, info.new_worker, info.sector_bytes), (Address::new_id(1001), None, 2048));
    }

    #[test]
    fn a_sector_of_committed_capacity_reads_with_its_nulls() {
        let info: SectorPreCommitOnChainInfo = serde_json::from_value(json!({
            "Info": {"SealProof": 5, "SectorNumber": 7, "SealedCID": {"/": CID}, "SealRandEpoch": -850, "DealIDs": null,
                     "Expiration": 700000, "UnsealedCid": null},
            "PreCommitDeposit": "123", "PreCommitEpoch": 42
        }))
        .unwrap();
        assert_eq!((info.info.seal_rand_epoch, info.info.unsealed_cid, info.pre_commit_epoch), (-850, None, 42));
    }

    #[test]
    fn a_lookup_reads_its_receipt() {
        let lookup: MessageLookup = serde_json::from_value(json!({
            "Message": {"/": CID}, "Receipt": {"ExitCode": 16, "Return": null, "GasUsed": 5, "EventsRoot": null}, "ReturnDec": null,
            "TipSet": [{"/": CID}], "Height": 9
        }))
        .unwrap();
        assert_eq!((lookup.receipt.exit_code, lookup.receipt.return_bytes.len()), (ExitCode::IllegalArgument, 0));
    }

    #[test]
    fn tipset_keys_survive_json_and_text() {
        let key: TipSetKey = serde_json::from_value(json!([{"/": CID}, {"/": CID}])).unwrap();
        assert_eq!(serde_json::to_value(&key).unwrap(), json!([{"/": CID}, {"/": CID}]));
        assert_eq!(key.to_string().parse::<TipSetKey>().unwrap(), key);
        assert_eq!("".parse::<TipSetKey>().unwrap(), TipSetKey::head());
        assert_eq!(serde_json::to_value(TipSetKey::head()).unwrap(), json!([]));
        assert_eq!(serde_json::from_value::<TipSetKey>(json!(null)).unwrap(), TipSetKey::head());
    }
}
