//! Submitted blocks: those that wait for their epoch, and what each miner has signed.

use std::collections::BTreeMap;

use cid::Cid;
use fvm_shared::ActorID;
use fvm_shared::clock::ChainEpoch;

use super::{Messages, ticket_order};
use crate::devnet::tipset::BlockHeader;

/// A block that waits for its epoch.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// Its CID.
    pub cid: Cid,
    /// Its header.
    pub header: BlockHeader,
    /// Its messages.
    pub messages: Messages,
}

/// The submitted blocks.
#[derive(Debug, Default)]
pub struct Blocks {
    waiting: Vec<Waiting>,
    /// The first block that each miner has signed for an epoch.
    signed: BTreeMap<(ActorID, ChainEpoch), Cid>,
}

impl Blocks {
    /// The first block of the miner for this epoch. If there was none, this is it.
    pub fn first(&mut self, miner: ActorID, epoch: ChainEpoch, cid: Cid) -> Cid {
        *self.signed.entry((miner, epoch)).or_insert(cid)
    }

    /// Lets a block wait for its epoch.
    pub fn wait(&mut self, block: Waiting) {
        self.waiting.push(block);
    }

    /// The blocks that wait for an epoch or an earlier one, those with small tickets first. They wait no more.
    pub fn take(&mut self, epoch: ChainEpoch) -> Vec<Waiting> {
        let (mut due, waiting) =
            std::mem::take(&mut self.waiting).into_iter().partition::<Vec<_>, _>(|block| block.header.height <= epoch);
        self.waiting = waiting;
        due.sort_by_key(|block| ticket_order(&block.header));
        due
    }
}
