//! What the node tells: exactly the fields that the manager uses.
//!
//! Fields that a node adds are ignored, and fields that only some nodes have are optional. Epochs count from genesis; amounts are attoFIL.

use std::str::FromStr;

use cid::Cid;
use fvm_shared::address::Address;
use fvm_shared::econ::TokenAmount;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::exit::ExitCode;
use super::json::{self, CidLink};

/// Index into a deadline's partitions or a period's deadlines, or a sector's number, as the actor counts them.
pub type Index = u64;

/// An epoch: the height of a tipset.
pub type Epoch = i64;

/// The identity of a tipset: the CIDs of its blocks, in order. The empty key stands for the node's head.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TipSetKey(
    /// CIDs of the blocks.
    pub Vec<Cid>,
);

impl TipSetKey {
    /// The key that asks for the node's own head. Two calls with it may see two chains.
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
    /// CIDs joined by commas: the form that is stored and logged.
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

/// A tipset, as far as the manager looks into it.
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
    /// The base fee in attoFIL that the tipset's parents leave: what messages pay when they are included now.
    pub fn base_fee(&self) -> Option<&TokenAmount> {
        self.blocks.first().map(|block| &block.parent_base_fee)
    }
}

/// A block's header, as far as the manager looks into it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BlockHeader {
    /// The miner actor that made it.
    #[serde(deserialize_with = "json::address::deserialize")]
    pub miner: Address,
    /// The tipset that it builds on.
    #[serde(default)]
    pub parents: TipSetKey,
    /// Its time, in seconds since 1970.
    pub timestamp: u64,
    /// What a unit of gas costs at least in messages that this block includes, in attoFIL.
    #[serde(deserialize_with = "json::tokens::deserialize")]
    pub parent_base_fee: TokenAmount,
}

/// The constants of the network that a node is on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkParams {
    /// `mainnet`, `calibrationnet`, …
    pub network_name: String,
    /// Length of an epoch in seconds; 0 on networks that count shorter epochs.
    pub block_delay_secs: u64,
    /// Epochs between a PreCommit and its seed: 150, or 10 on development networks.
    pub pre_commit_challenge_delay: Epoch,
    /// When epoch 0 began, in seconds since 1970. Not every node tells it.
    #[serde(default)]
    pub genesis_timestamp: Option<u64>,
}

/// The actor behind an address.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ActorState {
    /// The next nonce that the chain will take.
    pub nonce: u64,
    /// Its funds.
    #[serde(deserialize_with = "json::tokens::deserialize")]
    pub balance: TokenAmount,
}

/// A miner actor's addresses and sizes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MinerInfo {
    /// Who may withdraw.
    #[serde(deserialize_with = "json::address::deserialize")]
    pub owner: Address,
    /// Who signs blocks and messages.
    #[serde(deserialize_with = "json::address::deserialize")]
    pub worker: Address,
    /// The worker to come, while a change is pending.
    #[serde(default, deserialize_with = "json::address_opt::deserialize")]
    pub new_worker: Option<Address>,
    /// Further addresses that may send messages for the miner.
    #[serde(default, deserialize_with = "json::addresses::deserialize")]
    pub control_addresses: Vec<Address>,
    /// `RegisteredPoStProof` of its window PoSts: 10 (2 KiB) to 14 (64 GiB).
    #[serde(rename = "WindowPoStProofType")]
    pub window_post_proof: i64,
    /// Bytes of a sector.
    #[serde(rename = "SectorSize")]
    pub sector_bytes: u64,
    /// Sectors in a full partition.
    #[serde(rename = "WindowPoStPartitionSectors")]
    pub partition_sectors: u64,
    /// The epoch at which a consensus fault is over; −1 if there is none. Until then PreCommits are refused.
    #[serde(default = "no_epoch")]
    pub consensus_fault_elapsed: Epoch,
}

/// The deadline that is open, or opens next, for a miner. All numbers are the node's, none is a constant of ours.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProvingDeadline {
    /// The epoch this was computed for.
    pub current_epoch: Epoch,
    /// First epoch of the proving period; may lie ahead.
    pub period_start: Epoch,
    /// Number of the deadline in its period.
    pub index: Index,
    /// First epoch at which a proof can be included.
    pub open: Epoch,
    /// First epoch at which it cannot any more.
    pub close: Epoch,
    /// The epoch of the challenge's randomness.
    pub challenge: Epoch,
    /// First epoch at which faults and recoveries of this deadline cannot be declared any more.
    pub fault_cutoff: Epoch,
    /// Deadlines in a period.
    #[serde(rename = "WPoStPeriodDeadlines")]
    pub period_deadlines: u64,
    /// Epochs of a period.
    #[serde(rename = "WPoStProvingPeriod")]
    pub proving_period: Epoch,
    /// Epochs of a deadline.
    #[serde(rename = "WPoStChallengeWindow")]
    pub challenge_window: Epoch,
    /// Epochs from challenge to opening.
    #[serde(rename = "WPoStChallengeLookback")]
    pub challenge_lookback: Epoch,
    /// Epochs from cutoff to opening.
    #[serde(rename = "FaultDeclarationCutoff")]
    pub fault_declaration_cutoff: Epoch,
}

/// A sector between PreCommit and ProveCommit, as the chain has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SectorPreCommitOnChainInfo {
    /// What was pre-committed.
    pub info: PreCommittedSector,
    /// What is burnt if the sector is not proven in time.
    #[serde(deserialize_with = "json::tokens::deserialize")]
    pub pre_commit_deposit: TokenAmount,
    /// The epoch of the tipset that included the message. A reorg may move it, and the seed with it.
    pub pre_commit_epoch: Epoch,
}

/// What a PreCommit said of a sector.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PreCommittedSector {
    /// `RegisteredSealProof`.
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
    /// CommD; none for that of zeros.
    #[serde(default, deserialize_with = "json::cid_link_opt::deserialize")]
    pub unsealed_cid: Option<Cid>,
}

/// A proven sector, as the chain has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SectorOnChainInfo {
    /// The sector.
    pub sector_number: Index,
    /// `RegisteredSealProof`.
    pub seal_proof: i64,
    /// CommR, of the replica as it is now.
    #[serde(rename = "SealedCID", with = "json::cid_link")]
    pub sealed_cid: Cid,
    /// When it was proven.
    pub activation: Epoch,
    /// When it ends.
    pub expiration: Epoch,
    /// What is locked for it.
    #[serde(deserialize_with = "json::tokens::deserialize")]
    pub initial_pledge: TokenAmount,
    /// Since when its power counts as it is.
    #[serde(default)]
    pub power_base_epoch: Epoch,
    /// CommR before the replica update; none if there was none.
    #[serde(default, rename = "SectorKeyCID", deserialize_with = "json::cid_link_opt::deserialize")]
    pub sector_key_cid: Option<Cid>,
    /// `SectorOnChainInfoFlags`: 1 simple power, 2 full quality.
    #[serde(default)]
    pub flags: u32,
}

/// Where the actor put a sector.
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
    /// The message that landed; another than the one searched where it was replaced, with the same sender and nonce.
    #[serde(with = "json::cid_link")]
    pub message: Cid,
    /// What its execution gave.
    pub receipt: Receipt,
    /// The tipset that *executed* it: the child of the one that included it.
    #[serde(rename = "TipSet")]
    pub tipset: TipSetKey,
    /// The epoch of that tipset. Trust it only if it is not above the height that was searched from.
    pub height: Epoch,
}

/// What a message's execution gave.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Receipt {
    /// Of the whole message; 0 does not say that each sector of a batch succeeded.
    #[serde(deserialize_with = "exit_code")]
    pub exit_code: ExitCode,
    /// The actor's return value in CBOR.
    #[serde(default, rename = "Return", deserialize_with = "json::bytes::deserialize")]
    pub return_bytes: Vec<u8>,
    /// Gas that was used.
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
