//! What making blocks asks: the base, base info, VRF proofs, messages, and the block itself.

use std::pin::pin;

use cid::Cid;
use futures::StreamExt;
use fvm_shared::address::Address;
use fvm_shared::bigint::BigInt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::NodeClient;
use crate::chain::error::Error;
use crate::chain::json;
use crate::chain::randomness::blake2b256;
use crate::chain::rpc::Transport;
use crate::chain::types::{Epoch, Index, TipSetKey};

/// `SigTypeBLS`.
const BLS: u8 = 2;

/// A tipset that a block may be made on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Base {
    /// Its identity.
    #[serde(rename = "Cids")]
    pub key: TipSetKey,
    /// Its blocks, in the order of the key; at least one.
    #[serde(deserialize_with = "json::nullable::deserialize")]
    pub blocks: Vec<BaseBlock>,
    /// Its epoch.
    pub height: Epoch,
}

/// A block of a [`Base`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BaseBlock {
    /// The miner that made it.
    #[serde(deserialize_with = "json::address::deserialize")]
    pub miner: Address,
    /// Its ticket.
    #[serde(default, deserialize_with = "json::nullable::deserialize")]
    pub ticket: Vrf,
    /// Its parent tipset.
    #[serde(default)]
    pub parents: TipSetKey,
    /// Its timestamp, in seconds since 1970.
    pub timestamp: u64,
}

/// A VRF proof: a BLS signature of 96 bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Vrf {
    /// The bytes.
    #[serde(default, rename = "VRFProof", deserialize_with = "json::bytes::deserialize")]
    pub proof: Vec<u8>,
}

/// What a miner is told about an epoch that it may win.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BaseInfo {
    /// Its quality-adjusted power in bytes, some 900 epochs ago.
    #[serde(deserialize_with = "json::big::deserialize")]
    pub miner_power: BigInt,
    /// That of the network.
    #[serde(deserialize_with = "json::big::deserialize")]
    pub network_power: BigInt,
    /// The sectors that the winning PoSt proves: one.
    #[serde(deserialize_with = "json::nullable::deserialize")]
    pub sectors: Vec<ChallengedSector>,
    /// The key address of the worker.
    #[serde(deserialize_with = "json::address::deserialize")]
    pub worker_key: Address,
    /// The beacon's last entry before those.
    pub prev_beacon_entry: BeaconEntry,
    /// The beacon's entries since the base. They go into the block as they are.
    #[serde(deserialize_with = "json::nullable::deserialize")]
    pub beacon_entries: Vec<BeaconEntry>,
    /// Whether its blocks are accepted now.
    pub eligible_for_mining: bool,
}

/// A sector that a winning PoSt proves.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ChallengedSector {
    /// Its `RegisteredSealProof`.
    pub seal_proof: i64,
    /// The sector.
    pub sector_number: Index,
    /// CommR of the present replica.
    #[serde(rename = "SealedCID", with = "json::cid_link")]
    pub sealed_cid: Cid,
}

/// An entry of the random beacon (drand).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BeaconEntry {
    /// The beacon's round.
    pub round: u64,
    /// Its signature, in base64.
    #[serde(default, deserialize_with = "json::nullable::deserialize")]
    pub data: String,
}

/// What a block is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Template<'a> {
    /// The miner.
    pub miner: Address,
    /// The base.
    pub parents: &'a TipSetKey,
    /// The ticket's VRF proof.
    pub ticket: &'a [u8],
    /// How often it has won, and the VRF proof of that.
    pub election: (i64, &'a [u8]),
    /// See [`BaseInfo::beacon_entries`].
    pub beacon_entries: &'a [BeaconEntry],
    /// The messages, as [`NodeClient::select_messages`] returned them.
    pub messages: Value,
    /// The epoch.
    pub epoch: Epoch,
    /// The block's time, in seconds since 1970.
    pub timestamp: u64,
    /// The number of the proof's type (`RegisteredPoStProof`), and the proof.
    pub winning_post: (i64, &'a [u8]),
}

/// A block that the node has made and signed, as it is submitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Block(pub Value);

impl Base {
    /// The smallest ticket of its blocks.
    pub fn min_ticket(&self) -> &[u8] {
        let tickets = self.blocks.iter().map(|block| block.ticket.proof.as_slice());
        tickets.min_by_key(|ticket| blake2b256(ticket)).unwrap_or_default()
    }

    /// The earliest time of its blocks, in seconds since 1970.
    pub fn timestamp(&self) -> u64 {
        self.blocks.iter().map(|block| block.timestamp).min().unwrap_or_default()
    }

    /// Whether it has a block of a miner.
    pub fn has_block_of(&self, miner: &Address) -> bool {
        self.blocks.iter().any(|block| block.miner == *miner)
    }

    /// The CID of a miner's block in it.
    pub fn block_of(&self, miner: &Address) -> Option<&Cid> {
        let at = self.blocks.iter().position(|block| block.miner == *miner)?;
        self.key.0.get(at)
    }

    /// The blocks that another tipset of the same epoch has as well. `None` if there are none.
    pub fn common_with(&self, other: &Base) -> Option<Base> {
        let both = self.key.0.iter().zip(&self.blocks).filter(|(cid, _)| other.key.0.contains(cid));
        let (cids, blocks): (Vec<Cid>, Vec<BaseBlock>) = both.map(|(cid, block)| (*cid, block.clone())).unzip();
        (!cids.is_empty()).then_some(Base { key: TipSetKey(cids), blocks, height: self.height })
    }
}

impl BaseInfo {
    /// The beacon entry that the epoch's randomness is drawn from.
    pub fn beacon(&self) -> Result<Vec<u8>, Error> {
        let entry = self.beacon_entries.last().unwrap_or(&self.prev_beacon_entry);
        let decoded = json::bytes::deserialize(Value::String(entry.data.clone()));
        decoded.map_err(|error| Error::bad_answer("MinerGetBaseInfo", format!("BeaconEntries: {error}")))
    }
}

impl<T: Transport> NodeClient<T> {
    /// The heaviest tipset that the node knows, as a base.
    pub async fn base(&self) -> Result<Base, Error> {
        checked("ChainHead", self.call("ChainHead", json!([])).await?)
    }

    /// The tipset at `height` on the chain of `from`, or the last one before it if that epoch is empty.
    pub async fn base_by_height(&self, height: Epoch, from: &TipSetKey) -> Result<Base, Error> {
        const METHOD: &str = "ChainGetTipSetByHeight";
        checked(METHOD, self.call(METHOD, json!([height, from])).await?)
    }

    /// What a miner is told about `epoch` on top of a base. `None` if it has no sectors that could be proven.
    pub async fn miner_base_info(
        &self,
        miner: &Address,
        epoch: Epoch,
        base: &TipSetKey,
    ) -> Result<Option<BaseInfo>, Error> {
        let miner = self.text(miner).await?;
        self.call("MinerGetBaseInfo", json!([miner, epoch, base])).await
    }

    /// Lets the node's wallet sign bytes with a BLS key: a VRF proof.
    pub async fn wallet_vrf(&self, key: &Address, input: &[u8; 32]) -> Result<Vec<u8>, Error> {
        const METHOD: &str = "WalletSign";
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Signed {
            r#type: u8,
            #[serde(deserialize_with = "json::bytes::deserialize")]
            data: Vec<u8>,
        }
        let key = self.text(key).await?;
        let signed: Signed = self.call(METHOD, json!([key, json::base64_text(input)])).await?;
        if signed.r#type != BLS {
            return Err(Error::bad_answer(METHOD, format!("{key} is no BLS key, and a miner's worker must be one")));
        }
        Ok(signed.data)
    }

    /// The messages that fill a block best, as the node's JSON. `ticket_quality` tells how likely the block comes first.
    pub async fn select_messages(&self, base: &TipSetKey, ticket_quality: f64) -> Result<Value, Error> {
        self.call("MpoolSelect", json!([base, ticket_quality])).await
    }

    /// Lets the node make a block and sign it with the worker's key in its wallet. It does not submit it.
    ///
    /// Must not be called twice for one miner and epoch: two signed blocks are a fault that is punished.
    pub async fn create_block(&self, template: Template<'_>) -> Result<Block, Error> {
        const METHOD: &str = "MinerCreateBlock";
        let miner = self.text(&template.miner).await?;
        let answer = self.transport.call(METHOD, json!([template.to_json(&miner)])).await?;
        let header = &answer["Header"];
        if header["Height"] != template.epoch || header["Parents"] != json!(template.parents) {
            return Err(Error::bad_answer(METHOD, "Header: of another epoch or base"));
        }
        Ok(Block(answer))
    }

    /// Submits a block to all nodes, and by them to the network. It is a success if one of them takes it.
    pub async fn submit_block(&self, block: &Block) -> Result<(), Error> {
        let mut answers = pin!(self.transport.everywhere("SyncSubmitBlock", json!([block.0])));
        let mut failure = None;
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(_) => return Ok(()),
                // A node that may have it says more than one that refuses it: it may lack the block's messages only.
                Err(error) if failure.is_none() || error.outcome_unknown() => failure = Some(error),
                Err(_) => {}
            }
        }
        Err(failure.unwrap_or_else(|| Error::bad_answer("SyncSubmitBlock", "no answer")))
    }
}

impl Template<'_> {
    fn to_json(&self, miner: &str) -> Value {
        let (wins, election) = self.election;
        let (post_proof, proof) = self.winning_post;
        json!({
            "Miner": miner,
            "Parents": self.parents,
            "Ticket": { "VRFProof": json::base64_text(self.ticket) },
            "Eproof": { "WinCount": wins, "VRFProof": json::base64_text(election) },
            "BeaconValues": self.beacon_entries,
            "Messages": self.messages,
            "Epoch": self.epoch,
            "Timestamp": self.timestamp,
            "WinningPoStProof": [{ "PoStProof": post_proof, "ProofBytes": json::base64_text(proof) }],
        })
    }
}

fn checked(method: &'static str, base: Base) -> Result<Base, Error> {
    if base.blocks.is_empty() || base.key.0.len() != base.blocks.len() {
        return Err(Error::bad_answer(method, "Blocks: a tipset without its blocks"));
    }
    Ok(base)
}
