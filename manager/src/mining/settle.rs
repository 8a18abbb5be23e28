//! Finds out what became of blocks: whether the chain has them, and what an earlier manager has left undone.

use sealbus_schema::MinerId;

use super::{
    Mining,
    block::{BlockState, WonBlock},
};
use crate::{
    chain::{Transport, node::mining::Base, types::Epoch},
    drive::address,
    proving::{Error, tasks::Tasks},
};

impl<T: Transport, B: Tasks> Mining<'_, T, B> {
    /// Looks after all blocks of a miner whose epoch is before `current`. Nobody works at those any more.
    pub(super) async fn settle(&self, miner: MinerId, head: &Base, current: Epoch) -> Result<(), Error> {
        for block in self.store.open_blocks(miner).await? {
            if block.id.epoch < current {
                self.settle_one(block, head).await?;
            }
        }
        Ok(())
    }

    async fn settle_one(&self, mut block: WonBlock, head: &Base) -> Result<(), Error> {
        match block.state {
            BlockState::Making => {
                let cause = "the manager was stopped, or had no node or no bus, until the epoch had passed";
                self.lose(block, cause.to_owned()).await.map(drop)
            }
            BlockState::Claimed => {
                let cause = "the manager was stopped while the node made the block; no other one is made for the epoch";
                self.lose(block, cause.to_owned()).await.map(drop)
            }
            BlockState::Created => {
                block.state = BlockState::Submitted;
                block.problem = Some("the manager was stopped before it knew that the block was submitted".to_owned());
                self.save_block(&block).await
            }
            BlockState::Submitted if head.height >= block.id.epoch + self.config.chain.confidence_epochs => {
                self.look_for(block, head).await
            }
            _ => Ok(()),
        }
    }

    /// Looks for a submitted block on the chain.
    async fn look_for(&self, mut block: WonBlock, head: &Base) -> Result<(), Error> {
        let (miner, epoch) = (block.id.miner, block.id.epoch);
        let there = self.node.base_by_height(epoch, &head.key).await?;
        let found = there.block_of(&address(miner)).filter(|_| there.height == epoch).copied();
        block.block = None;
        match found {
            Some(cid) => {
                (block.state, block.cid, block.problem) = (BlockState::Included, Some(cid.to_string()), None);
                tracing::info!(%miner, epoch, %cid, "the chain has our block");
            }
            None => {
                block.state = BlockState::Orphaned;
                let cause = block.problem.take().unwrap_or_else(|| "the others had gone on without it".to_owned());
                tracing::error!(%miner, epoch, cause, "the chain does not have our block");
                block.problem = Some(cause);
            }
        }
        self.save_block(&block).await
    }
}
