//! What tests need to prove sectors on a devnet: where and when, and the messages.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use fil_actor_miner_state::v19::{
    DeadlineInfo, DeclareFaultsParams, DeclareFaultsRecoveredParams, FaultDeclaration, PoStPartition,
    RecoveryDeclaration, SubmitWindowedPoStParams,
};
use fvm_ipld_bitfield::BitField;
use fvm_shared::address::Address;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::econ::TokenAmount;
use fvm_shared::randomness::Randomness;
use fvm_shared::receipt::Receipt;
use fvm_shared::sector::{PoStProof, RegisteredPoStProof};
use sealbus_integration_tests::devnet::Config;
use sealbus_integration_tests::devnet::execution::{DeadlineEnd, Posted};
use sealbus_integration_tests::devnet::randomness::draw;

use super::chain::{Chain, MINER, encode};

pub const SUBMIT: u64 = 5;
pub const FAULTS: u64 = 10;
pub const RECOVERED: u64 = 11;
pub const WINDOW_PROOF: RegisteredPoStProof = RegisteredPoStProof::StackedDRGWindow2KiBV1P1;

/// A chain on which sectors must be proven, with the times of real networks.
pub fn proving() -> Chain {
    Chain::with(Config { proving: true, ..Config::default() })
}

pub fn bits(numbers: &[u64]) -> BitField {
    BitField::try_from_bits(numbers.iter().copied()).expect("bits")
}

impl Chain {
    /// The deadline of a sector as it is next, or now while it is open.
    pub fn deadline_of(&self, sector: u64) -> DeadlineInfo {
        self.deadline(self.place(sector).0)
    }

    pub fn deadline(&self, index: u64) -> DeadlineInfo {
        let state = self.miner().state;
        self.node(|node| {
            let policy = &node.policy;
            let start = state.current_proving_period_start(policy, node.epoch());
            fil_actor_miner_state::v19::new_deadline_info(policy, start, index, node.epoch()).next_not_elapsed()
        })
    }

    /// Advances to an epoch, most of the way in null rounds.
    pub fn skip_to(&self, epoch: ChainEpoch) {
        let empty = u64::try_from(epoch - self.height() - 3).unwrap_or(0);
        self.node(|node| node.add_null_rounds(empty));
        self.advance(u64::try_from(epoch - self.height()).expect("ahead"));
    }

    /// Advances until a message can be included in the sector's deadline.
    pub fn until_open(&self, sector: u64) -> DeadlineInfo {
        let info = self.deadline_of(sector);
        if self.height() < info.open {
            self.skip_to(info.open);
        }
        info
    }

    /// Advances past the end of the sector's next deadline, whose effects are then visible.
    pub fn past_deadline(&self, sector: u64) -> DeadlineInfo {
        let info = self.deadline_of(sector);
        self.skip_to(info.close);
        info
    }

    /// A right window PoSt of a sector's partition in the open deadline, committed to the challenge's tipset.
    pub fn post(&self, sector: u64, skipped: &[u64]) -> SubmitWindowedPoStParams {
        let (deadline, partition) = self.place(sector);
        let committed = self.deadline(deadline).challenge;
        SubmitWindowedPoStParams {
            deadline,
            partitions: vec![PoStPartition { index: partition, skipped: bits(skipped) }],
            proofs: vec![PoStProof { post_proof: WINDOW_PROOF, proof_bytes: b"right".to_vec() }],
            chain_commit_epoch: committed,
            chain_commit_rand: Randomness(self.commit_randomness(committed).to_vec()),
        }
    }

    pub fn commit_randomness(&self, epoch: ChainEpoch) -> [u8; 32] {
        self.node(|node| {
            let digest = node.chain.ticket_digest(epoch, node.chain.head());
            draw(&digest.expect("a ticket"), 9, epoch, &[])
        })
    }

    pub fn submit(&self, params: &SubmitWindowedPoStParams) -> Receipt {
        self.send(SUBMIT, encode(params), TokenAmount::default())
    }

    /// Proves the partition of a sector in its next deadline.
    pub fn prove_window(&self, sector: u64, skipped: &[u64]) {
        self.until_open(sector);
        let receipt = self.submit(&self.post(sector, skipped));
        assert_eq!(receipt.exit_code.value(), 0, "{:?}", self.last_error());
    }

    /// Brings sectors to the point where their first window PoSt is accepted and their deadline has closed.
    pub fn proven(&self, numbers: &[u64]) {
        self.unproven(numbers);
        let mut waiting: Vec<u64> = numbers.to_vec();
        while !waiting.is_empty() {
            waiting.sort_by_key(|number| std::cmp::Reverse(self.deadline_of(*number).open));
            let first = waiting.pop().expect("one waits");
            self.prove_window(first, &[]);
            let place = self.place(first);
            waiting.retain(|number| self.place(*number) != place);
            if waiting.iter().all(|number| self.place(*number).0 != place.0) {
                self.past_deadline(first);
            }
        }
    }

    pub fn declare(&self, method: u64, sector: u64, place: (u64, u64)) -> Receipt {
        let (deadline, partition, sectors) = (place.0, place.1, bits(&[sector]));
        let params = match method {
            FAULTS => encode(&DeclareFaultsParams { faults: vec![FaultDeclaration { deadline, partition, sectors }] }),
            _ => encode(&DeclareFaultsRecoveredParams {
                recoveries: vec![RecoveryDeclaration { deadline, partition, sectors }],
            }),
        };
        self.send(method, params, TokenAmount::default())
    }

    /// Gives the miner funds that are not locked.
    pub fn fund(&self, amount: TokenAmount) {
        let mut message = self.message(self.owner(), 0, Default::default(), amount);
        message.to = Address::new_id(MINER);
        self.push(message).expect("the mempool takes it");
        self.advance(2);
    }

    pub fn is_faulty(&self, sector: u64) -> bool {
        let (deadline, partition) = self.place(sector);
        self.partition(deadline, partition).faults.get(sector)
    }

    pub fn is_active(&self, sector: u64) -> bool {
        let (deadline, partition) = self.place(sector);
        self.partition(deadline, partition).is_active(sector)
    }

    pub fn is_recovering(&self, sector: u64) -> bool {
        let (deadline, partition) = self.place(sector);
        self.partition(deadline, partition).recoveries.get(sector)
    }

    pub fn ends(&self) -> Vec<DeadlineEnd> {
        self.node(|node| node.stats.miners.get(&MINER).map(|stats| stats.deadline_ends.clone()).unwrap_or_default())
    }

    pub fn posts(&self) -> Vec<Posted> {
        self.node(|node| node.stats.miners[&MINER].posts.iter().map(|(_, posted)| posted.clone()).collect())
    }

    /// The error of the last message to the miner that failed.
    pub fn last_error(&self) -> String {
        self.node(|node| node.stats.miners[&MINER].failed.last().map(|failed| failed.error.clone()).unwrap_or_default())
    }
}
