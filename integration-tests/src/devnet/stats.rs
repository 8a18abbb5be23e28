//! Counts what happened to each sector on chain, for tests that must see exactly one PreCommit and one ProveCommit.

use std::collections::BTreeMap;

use cid::Cid;
use fil_actor_miner_state::v19::{PreCommitSectorBatchParams2, ProveCommitSectors3Params, ProveCommitSectors3Return};
use fvm_shared::clock::ChainEpoch;
use fvm_shared::message::Message;
use fvm_shared::{ActorID, MethodNum};
use serde::Serialize;

use super::blocks::{BlockStats, Fate};
use super::execution::{Applied, DeadlineEnd, METHOD_PRE_COMMIT, METHOD_PROVE_COMMIT, Posted};

/// The successful messages of a sector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SectorStats {
    /// The number of PreCommits that took effect.
    pub pre_commits: u64,
    /// The number of ProveCommits that took effect, alone or in a batch.
    pub prove_commits: u64,
}

/// A message that was executed and failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedMessage {
    /// The message's CID.
    pub cid: String,
    /// The epoch that included it.
    pub epoch: ChainEpoch,
    /// The method number.
    pub method: u64,
    /// The sectors in its parameters, if these could be decoded.
    pub sectors: Vec<u64>,
    /// The exit code.
    pub exit_code: u32,
    /// The error message.
    pub error: String,
}

/// Two blocks of a miner for one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConsensusFault {
    /// The epoch.
    pub epoch: ChainEpoch,
    /// The CIDs.
    pub blocks: [String; 2],
}

/// What happened to a miner.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MinerStats {
    /// The counts by sector number.
    pub sectors: BTreeMap<u64, SectorStats>,
    /// The number of successful messages by method number.
    pub succeeded: BTreeMap<MethodNum, u64>,
    /// Failed messages to the miner, oldest first.
    pub failed: Vec<FailedMessage>,
    /// The accepted window PoSts with their epochs, oldest first.
    pub posts: Vec<(ChainEpoch, Posted)>,
    /// The submitted blocks, oldest first.
    pub blocks: Vec<BlockStats>,
    /// The epochs for which the miner has signed two blocks.
    pub consensus_faults: Vec<ConsensusFault>,
    /// The ends of deadlines at which the miner lost something, oldest first.
    pub deadline_ends: Vec<DeadlineEnd>,
}

/// Everything that happened since genesis.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// The counts by miner ID.
    pub miners: BTreeMap<ActorID, MinerStats>,
    /// The number of executed messages of any kind.
    pub messages: u64,
    /// How many calls have been held by a fault.
    pub held_calls: u64,
    #[serde(skip)]
    counted: Vec<Counted>,
}

/// What one executed message was counted as.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Counted {
    epoch: ChainEpoch,
    miner: Option<ActorID>,
    method: u64,
    /// Whether it succeeded.
    succeeded: bool,
    /// The sectors that it took effect for.
    sectors: Vec<u64>,
}

impl Stats {
    /// Counts an executed message. `miner` is its receiver, if that is a miner.
    pub fn record(
        &mut self,
        cid: &Cid,
        epoch: ChainEpoch,
        miner: Option<ActorID>,
        message: &Message,
        applied: &Applied,
    ) {
        self.messages += 1;
        let method = message.method_num;
        let Some(miner) = miner else {
            self.counted.push(Counted { epoch, miner, method, succeeded: false, sectors: Vec::new() });
            return;
        };
        let entry = self.miners.entry(miner).or_default();
        let sectors = named_sectors(message);
        if !applied.receipt.exit_code.is_success() {
            entry.failed.push(FailedMessage {
                cid: cid.to_string(),
                epoch,
                method,
                sectors,
                exit_code: applied.receipt.exit_code.value(),
                error: applied.error.clone().unwrap_or_default(),
            });
            self.counted.push(Counted { epoch, miner: Some(miner), method, succeeded: false, sectors: Vec::new() });
            return;
        }
        let sectors = match method {
            METHOD_PROVE_COMMIT => {
                let returned = applied.receipt.return_data.deserialize::<ProveCommitSectors3Return>();
                let codes = returned.map(|value| value.activation_results.codes()).unwrap_or_default();
                let active = sectors.into_iter().zip(codes).filter(|(_, code)| code.is_success());
                active.map(|(sector, _)| sector).collect()
            }
            _ => sectors,
        };
        for sector in &sectors {
            if let Some(count) = entry.count_of(*sector, method) {
                *count += 1;
            }
        }
        *entry.succeeded.entry(method).or_default() += 1;
        entry.posts.extend(applied.posted.clone().map(|posted| (epoch, posted)));
        self.counted.push(Counted { epoch, miner: Some(miner), method, succeeded: true, sectors });
    }

    /// Notes the ends of miners' deadlines.
    pub fn record_deadlines(&mut self, ends: Vec<(ActorID, DeadlineEnd)>) {
        for (miner, end) in ends {
            self.miners.entry(miner).or_default().deadline_ends.push(end);
        }
    }

    /// Notes a submitted block.
    pub fn record_block(&mut self, miner: ActorID, block: BlockStats) {
        self.miners.entry(miner).or_default().blocks.push(block);
    }

    /// Whether a block was submitted.
    pub fn has_block(&self, miner: ActorID, cid: &Cid) -> bool {
        let cid = cid.to_string();
        self.miners.get(&miner).is_some_and(|stats| stats.blocks.iter().any(|block| block.cid == cid))
    }

    /// Notes what has become of a block.
    pub fn decide_block(&mut self, miner: ActorID, cid: &Cid, fate: Fate) {
        let cid = cid.to_string();
        let blocks = self.miners.entry(miner).or_default().blocks.iter_mut();
        blocks.filter(|block| block.cid == cid).for_each(|block| block.fate = fate);
    }

    /// Notes two blocks of a miner for one epoch.
    pub fn record_consensus_fault(&mut self, miner: ActorID, fault: ConsensusFault) {
        self.miners.entry(miner).or_default().consensus_faults.push(fault);
    }

    /// Takes back what was counted after an epoch, because a reorganisation reverted it.
    pub fn forget_after(&mut self, last: ChainEpoch) {
        while let Some(counted) = self.counted.pop_if(|counted| counted.epoch > last) {
            self.messages -= 1;
            let Some(entry) = counted.miner.and_then(|miner| self.miners.get_mut(&miner)) else { continue };
            if let Some(count) = entry.succeeded.get_mut(&counted.method).filter(|_| counted.succeeded) {
                *count -= 1;
            }
            for sector in counted.sectors {
                if let Some(count) = entry.count_of(sector, counted.method) {
                    *count -= 1;
                }
            }
        }
        for entry in self.miners.values_mut() {
            entry.failed.retain(|failed| failed.epoch <= last);
            entry.posts.retain(|(epoch, _)| *epoch <= last);
            entry.deadline_ends.retain(|end| end.epoch <= last);
            for block in entry.blocks.iter_mut().filter(|block| block.epoch > last && block.fate == Fate::Included) {
                block.fate = Fate::Late;
            }
        }
    }
}

impl MinerStats {
    fn count_of(&mut self, sector: u64, method: u64) -> Option<&mut u64> {
        let stats = self.sectors.entry(sector).or_default();
        match method {
            METHOD_PRE_COMMIT => Some(&mut stats.pre_commits),
            METHOD_PROVE_COMMIT => Some(&mut stats.prove_commits),
            _ => None,
        }
    }
}

fn named_sectors(message: &Message) -> Vec<u64> {
    match message.method_num {
        METHOD_PRE_COMMIT => {
            let params = message.params.deserialize::<PreCommitSectorBatchParams2>();
            params.map(|p| p.sectors.iter().map(|s| s.sector_number).collect()).unwrap_or_default()
        }
        METHOD_PROVE_COMMIT => {
            let params = message.params.deserialize::<ProveCommitSectors3Params>();
            params.map(|p| p.sector_activations.iter().map(|s| s.sector_number).collect()).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}
