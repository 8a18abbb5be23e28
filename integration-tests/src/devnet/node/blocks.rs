//! The node's part in block production.

use std::sync::Arc;

use cid::Cid;
use fvm_shared::address::Address;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::econ::TokenAmount;
use tracing::info;

use super::Node;
use crate::devnet::blocks::{
    self, BLOCKS_PER_EPOCH, BlockError, BlockStats, Fate, Messages, Template, Waiting, base_info,
};
use crate::devnet::chain::ChainError;
use crate::devnet::faults::Incident;
use crate::devnet::message::cbor_cid;
use crate::devnet::proofs::ProofVerifier;
use crate::devnet::randomness::beacon_data;
use crate::devnet::stats::ConsensusFault;
use crate::devnet::tipset::{BeaconEntry, BlockHeader, Tipset};

/// The maximum number of beacon entries in a block: those of the last epochs.
const BEACON_ENTRIES_MAX: ChainEpoch = 20;

impl Node {
    /// The verifier for proofs.
    pub fn verifier(&self) -> &dyn ProofVerifier {
        self.verifier.as_ref()
    }

    /// The weight of the chain that ends in a tipset. Each fork is heavier than those before it.
    pub fn weight(&self, tipset: &Tipset) -> u64 {
        tipset.header.parent_weight + 1 + self.fork
    }

    /// The beacon entries of a block of `epoch` whose parent has this height.
    pub fn beacon_entries(&self, parent: ChainEpoch, epoch: ChainEpoch) -> Vec<BeaconEntry> {
        let first = (parent + 1).max(epoch - BEACON_ENTRIES_MAX + 1);
        (first..=epoch).map(|epoch| (epoch, beacon_data(self.config.seed, epoch))).collect()
    }

    /// Makes and signs a block, and keeps its messages for when it is submitted.
    pub fn create_block(&mut self, template: Template) -> Result<(BlockHeader, Messages), BlockError> {
        let (header, messages) = blocks::create(self, template)?;
        for (cid, signed) in &messages {
            self.chain.remember(*cid, signed.clone());
        }
        Ok((header, messages))
    }

    /// Accepts a signed block with these messages. A second one of a miner for an epoch is a consensus fault, which is
    /// punished at the end of the next tipset.
    pub fn submit_block(&mut self, header: BlockHeader, messages: &[Cid]) -> Result<(), BlockError> {
        let parent = header.parents.first().copied().unwrap_or_default();
        let parent = self.chain.tipset(&parent).map_err(BlockError::Parents)?.clone();
        let messages = self.known(messages)?;
        blocks::check(self, &header, &parent, &messages)?;
        let (miner, epoch, cid) = (header.miner, header.height, cbor_cid(&header)?);
        let first = self.blocks.first(miner, epoch, cid);
        let is_again = self.stats.has_block(miner, &cid);
        if is_again {
            return Ok(());
        }
        let fate = match first == cid {
            false => Fate::Second,
            true if epoch == self.epoch + 1 && parent.cid == self.chain.head().cid => Fate::Waiting,
            true => Fate::Late,
        };
        info!(miner, epoch, %cid, ?fate, "block submitted");
        let stats = BlockStats { epoch, cid: cid.to_string(), wins: header.election.win_count, fate };
        self.stats.record_block(miner, stats);
        match fate {
            Fate::Second => self.punish(&header, [first, cid])?,
            Fate::Waiting => self.blocks.wait(Waiting { cid, header, messages }),
            _ => {}
        }
        Ok(())
    }

    /// Notes two blocks of one miner for one epoch. Somebody reports them, unless the miner is being punished already.
    fn punish(&mut self, header: &BlockHeader, blocks: [Cid; 2]) -> Result<(), BlockError> {
        let (miner, epoch) = (header.miner, header.height);
        let is_punished = {
            let info = self.latest()?.miner(&Address::new_id(miner))?.info;
            epoch < info.consensus_fault_elapsed
        };
        let blocks = blocks.map(|cid| cid.to_string());
        self.stats.record_consensus_fault(miner, ConsensusFault { epoch, blocks });
        if !is_punished {
            self.faults.add_incident(miner, Incident::ConsensusFault);
        }
        Ok(())
    }

    fn known(&self, cids: &[Cid]) -> Result<Messages, BlockError> {
        let find = |cid: &Cid| {
            let found = self.chain.message(cid).cloned();
            found.map(|signed| (*cid, signed)).ok_or_else(|| {
                BlockError::Invalid(format!("failed to load bls messages: failed to get msg: (cid:{cid}) not found"))
            })
        };
        cids.iter().map(find).collect()
    }

    /// The submitted block of the present epoch with the smallest ticket.
    pub(super) fn take_block(&mut self, parent: &Arc<Tipset>) -> Option<Waiting> {
        let base_fee = self.base_fee_after(parent, self.epoch);
        let mut taken = None;
        for block in self.blocks.take(self.epoch) {
            let header = &block.header;
            let fits = header.height == self.epoch && header.parents == [parent.cid] && header.base_fee == base_fee;
            let fate = match (fits, &taken) {
                (false, _) => Fate::Late,
                (true, None) => Fate::Included,
                (true, Some(_)) => Fate::Outbid,
            };
            self.stats.decide_block(header.miner, &block.cid, fate);
            if fate == Fate::Included {
                taken = Some(block);
            }
        }
        taken
    }

    /// The reward of a block.
    pub(super) fn block_reward(&self, header: &BlockHeader) -> TokenAmount {
        let reward = TokenAmount::from_atto(self.economics.reward.estimate());
        (reward * header.election.win_count).div_floor(BLOCKS_PER_EPOCH)
    }

    /// What a miner needs to win an epoch on top of a tipset.
    pub fn base_info(
        &self,
        miner: &Address,
        epoch: ChainEpoch,
        key: Option<&Cid>,
    ) -> Result<Option<blocks::BaseInfo>, BlockError> {
        let base = self.tipset(key).map_err(|error: ChainError| {
            BlockError::Invalid(format!("failed to load tipset for mining base: {error}"))
        })?;
        base_info(self, miner, epoch, &base)
    }
}
