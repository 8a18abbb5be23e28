//! What a miner does to win an epoch, with the keys of the devnet's wallet.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use cid::Cid;
use fvm_shared::address::Address;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::sector::{PoStProof, RegisteredPoStProof};
use sealbus_integration_tests::devnet::blocks::{BaseInfo, Messages, Template, wins};
use sealbus_integration_tests::devnet::randomness::{blake2b256, draw, miner_entropy};
use sealbus_integration_tests::devnet::tipset::{BlockHeader, ElectionProof};

use super::chain::Chain;

/// The domain separation tags of the chain.
const TICKET: i64 = 1;
const ELECTION: i64 = 2;
pub const WINNING_POST: i64 = 3;

impl Chain {
    pub fn base_info(&self, miner: u64, epoch: ChainEpoch) -> Option<BaseInfo> {
        self.node(|node| node.base_info(&Address::new_id(miner), epoch, None)).expect("an answer")
    }

    /// Randomness of an epoch for a miner, from the last beacon entry of its base info.
    pub fn drawn(&self, info: &BaseInfo, tag: i64, miner: u64, epoch: ChainEpoch, more: &[u8]) -> [u8; 32] {
        draw(&blake2b256(&info.beacon_entry().1), tag, epoch, &[&miner_entropy(miner), more].concat())
    }

    fn vrf(&self, info: &BaseInfo, randomness: [u8; 32]) -> Vec<u8> {
        self.node(|node| node.wallet.sign(&info.worker_key, &randomness)).expect("the worker's key").bytes().to_vec()
    }

    /// The template of a block on top of the head, if the miner wins the epoch. Its winning PoSt is a scripted one.
    pub fn template(&self, miner: u64, epoch: ChainEpoch) -> Option<Template> {
        let info = self.base_info(miner, epoch).filter(|info| info.is_eligible)?;
        let vrf_proof = self.vrf(&info, self.drawn(&info, ELECTION, miner, epoch, &[]));
        let win_count = wins(&vrf_proof, &info.power, &info.network_power);
        let head = self.node(|node| node.chain.head().clone());
        let ticket = self.drawn(&info, TICKET, miner, epoch - 1, &head.header.ticket_vrf_proof);
        let messages = self.node(|node| {
            let world = node.latest().expect("state").world;
            node.mempool.select(&world, node.base_fee_after(&head, epoch))
        });
        let (later, delay) = ((epoch - head.height()) as u64, self.node(|node| node.config.block_delay_secs));
        let post_proof = RegisteredPoStProof::StackedDRGWinning2KiBV1;
        (win_count > 0).then(|| Template {
            miner: Address::new_id(miner),
            parent: head.cid,
            ticket_vrf_proof: self.vrf(&info, ticket),
            election: ElectionProof { win_count, vrf_proof },
            beacon_entries: info.beacon_entries.clone(),
            messages: messages.iter().map(|(_, signed)| (**signed).clone()).collect(),
            epoch,
            timestamp: head.header.timestamp + delay * later,
            winning_post: vec![PoStProof { post_proof, proof_bytes: b"right".to_vec() }],
        })
    }

    /// The template of the miner's block for the next epoch that it wins, which comes next.
    pub fn next_win(&self, miner: u64) -> Template {
        for _ in 0..100 {
            if let Some(template) = self.template(miner, self.height() + 1) {
                return template;
            }
            self.advance(1);
        }
        panic!("{miner} wins nothing");
    }

    pub fn create_block(&self, template: Template) -> (BlockHeader, Messages) {
        self.node(|node| node.create_block(template)).expect("a block")
    }

    pub fn submit_block(&self, header: BlockHeader, messages: &Messages) -> Result<(), String> {
        let cids: Vec<Cid> = messages.iter().map(|(cid, _)| *cid).collect();
        self.node(|node| node.submit_block(header, &cids)).map_err(|error| error.to_string())
    }

    /// Signs a changed header again.
    pub fn signed(&self, mut header: BlockHeader, key: &Address) -> BlockHeader {
        let bytes = header.signing_bytes().expect("encodes");
        header.signature = Some(self.node(|node| node.wallet.sign(key, &bytes)).expect("a key"));
        header
    }
}
