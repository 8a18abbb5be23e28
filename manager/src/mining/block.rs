//! An epoch that a miner has won, as it is stored.

use sealbus_schema::{MinerId, SectorNumber, WorkerName};
use serde::{Deserialize, Serialize};

use crate::chain::types::{Epoch, TipSetKey};

/// Which miner and epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId {
    /// The miner.
    pub miner: MinerId,
    /// The epoch.
    pub epoch: Epoch,
}

/// What has become of a won epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockState {
    /// The winning PoSt is made. Nothing is signed.
    Making,
    /// The node is asked for the block. From now on it may have signed one.
    Claimed,
    /// There is a signed block.
    Created,
    /// It was submitted, or may have been.
    Submitted,
    /// It is on the confident part of the chain.
    Included,
    /// It is not.
    Orphaned,
    /// No block was submitted.
    Lost,
}

/// How long the steps took, in milliseconds. `None`: it did not come to that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Steps {
    /// The node told of the epoch.
    pub base_info_ms: Option<u64>,
    /// The VRF proof was made, and the wins counted.
    pub election_ms: Option<u64>,
    /// The sector was read.
    pub read_ms: Option<u64>,
    /// The SNARK was made.
    pub prove_ms: Option<u64>,
    /// It was verified.
    pub verify_ms: Option<u64>,
    /// The base was looked at again, and messages were selected.
    pub messages_ms: Option<u64>,
    /// The node made and signed the block.
    pub create_ms: Option<u64>,
    /// The node took the block.
    pub submit_ms: Option<u64>,
    /// Who read.
    pub reader: Option<WorkerName>,
    /// Who proved.
    pub prover: Option<WorkerName>,
}

/// An epoch that a miner has won.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WonBlock {
    /// Which one.
    pub id: BlockId,
    /// What has become of it.
    pub state: BlockState,
    /// How often it was won.
    pub wins: i64,
    /// The sector that the winning PoSt proves.
    pub sector: Option<SectorNumber>,
    /// The epoch of the base.
    pub base_epoch: Epoch,
    /// The base that the block was claimed for.
    pub parents: Option<TipSetKey>,
    /// The signed block, as JSON.
    pub block: Option<String>,
    /// Its CID, once it is on chain.
    pub cid: Option<String>,
    /// How long the steps took.
    pub steps: Steps,
    /// The time from the beginning of the work to the block's time.
    pub budget_ms: Option<i64>,
    /// How much of it was left when the block was made. Negative: it was late.
    pub margin_ms: Option<i64>,
    /// Why it was lost, or what else was not as it should be.
    pub problem: Option<String>,
    /// When it was won.
    pub won_at: String,
}

/// Whether a block may be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It may, now and never again.
    Granted,
    /// One was claimed before.
    Taken,
    /// The miner has claimed a block with the same parents, for this epoch.
    SameParents(Epoch),
}

/// A winning PoSt that was made without having won.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearsal {
    /// The miner.
    pub miner: MinerId,
    /// The epoch.
    pub epoch: Epoch,
    /// The sector.
    pub sector: SectorNumber,
    /// How long the steps took.
    pub steps: Steps,
    /// The time that there was.
    pub budget_ms: i64,
    /// Why it failed.
    pub problem: Option<String>,
    /// When it ended.
    pub at: String,
}

impl BlockState {
    const ALL: [BlockState; 7] = [
        BlockState::Making,
        BlockState::Claimed,
        BlockState::Created,
        BlockState::Submitted,
        BlockState::Included,
        BlockState::Orphaned,
        BlockState::Lost,
    ];

    /// The name as stored.
    pub const fn name(self) -> &'static str {
        match self {
            BlockState::Making => "making",
            BlockState::Claimed => "claimed",
            BlockState::Created => "created",
            BlockState::Submitted => "submitted",
            BlockState::Included => "included",
            BlockState::Orphaned => "orphaned",
            BlockState::Lost => "lost",
        }
    }

    /// The state with this name.
    pub fn of_name(name: &str) -> Option<BlockState> {
        BlockState::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether other miners may have the block.
    pub const fn may_be_out(self) -> bool {
        matches!(self, BlockState::Created | BlockState::Submitted | BlockState::Included | BlockState::Orphaned)
    }
}

impl Steps {
    /// The time from the beginning to the submission, without the wait for the block's time.
    pub fn total_ms(&self) -> u64 {
        [
            self.base_info_ms,
            self.election_ms,
            self.read_ms,
            self.prove_ms,
            self.verify_ms,
            self.messages_ms,
            self.create_ms,
            self.submit_ms,
        ]
        .into_iter()
        .flatten()
        .sum()
    }
}
