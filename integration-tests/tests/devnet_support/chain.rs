//! A devnet used as a library, with everything that tests need to send messages to a miner.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::sync::{Arc, Mutex};

use cid::Cid;
use fil_actor_miner_state::v19::{
    CompactCommD, Partition, PieceActivationManifest, PreCommitSectorBatchParams2, ProveCommitSectors3Params,
    SectorActivationManifest, SectorOnChainInfo, SectorPreCommitInfo, SectorPreCommitOnChainInfo,
    WithdrawBalanceParams, deadline_available_for_compaction,
};
use fvm_ipld_encoding::RawBytes;
use fvm_shared::address::Address;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::commcid::replica_commitment_v1_to_cid;
use fvm_shared::econ::TokenAmount;
use fvm_shared::message::Message;
use fvm_shared::receipt::Receipt;
use fvm_shared::sector::{PoStProof, RegisteredAggregateProof, RegisteredSealProof};
use sealbus_integration_tests::devnet::proofs::{PostInfo, ProofError, ProofVerifier, SealInfo};
use sealbus_integration_tests::devnet::search::{Lookup, search};
use sealbus_integration_tests::devnet::view::MinerView;
use sealbus_integration_tests::devnet::{Config, Devnet, Node};

pub const MINER: u64 = 1000;
pub const PRE_COMMIT: u64 = 28;
pub const PROVE_COMMIT: u64 = 34;
pub const PROOF: RegisteredSealProof = RegisteredSealProof::StackedDRG2KiBV1P1;

/// A verifier that accepts only the proof `right` and records its calls.
#[derive(Default)]
pub struct ScriptedVerifier {
    pub asked: Mutex<Vec<SealInfo>>,
    /// The proofs of spacetime that it was asked about.
    pub posts: Mutex<Vec<PostInfo>>,
}

impl ProofVerifier for ScriptedVerifier {
    fn verify_seal(&self, info: &SealInfo, proof: &[u8]) -> Result<bool, ProofError> {
        self.asked.lock().expect("no panic before").push(info.clone());
        Ok(proof == b"right")
    }

    fn verify_aggregate(&self, infos: &[SealInfo], aggregate: &[u8]) -> Result<bool, ProofError> {
        self.asked.lock().expect("no panic before").extend_from_slice(infos);
        Ok(aggregate == b"right")
    }

    fn verify_window_post(&self, info: &PostInfo, proofs: &[PoStProof]) -> Result<bool, ProofError> {
        self.posts.lock().expect("no panic before").push(info.clone());
        Ok(matches!(proofs, [proof] if proof.proof_bytes == b"right"))
    }

    fn verify_winning_post(&self, info: &PostInfo, proofs: &[PoStProof]) -> Result<bool, ProofError> {
        self.verify_window_post(info, proofs)
    }
}

/// A devnet and its verifier.
pub struct Chain {
    pub devnet: Devnet,
    pub verifier: Arc<ScriptedVerifier>,
}

impl Chain {
    /// A chain of some age, with a scripted verifier.
    pub fn new() -> Self {
        Self::with(Config::default())
    }

    pub fn with(config: Config) -> Self {
        let verifier = Arc::new(ScriptedVerifier::default());
        let devnet = Devnet::new(config, verifier.clone()).expect("a devnet");
        let chain = Self { devnet, verifier };
        chain.advance(20);
        chain
    }

    pub fn node<T>(&self, act: impl FnOnce(&mut Node) -> T) -> T {
        self.devnet.with_node(act)
    }

    pub fn advance(&self, epochs: u64) {
        self.node(|node| {
            for _ in 0..epochs {
                node.advance_epoch().expect("an epoch passes");
            }
        });
    }

    pub fn height(&self) -> ChainEpoch {
        self.node(|node| node.chain.head().height())
    }

    pub fn worker(&self) -> Address {
        self.node(|node| node.miners[0].worker_key)
    }

    pub fn owner(&self) -> Address {
        self.node(|node| node.miners[0].owner_key)
    }

    pub fn deposit(&self) -> TokenAmount {
        self.node(|node| node.economics.pre_commit_deposit(node.config.sector_size))
    }

    /// A message with the sender's next nonce and plenty of gas.
    pub fn message(&self, from: Address, method: u64, params: RawBytes, value: TokenAmount) -> Message {
        Message {
            version: 0,
            from,
            to: Address::new_id(MINER),
            sequence: self.node(|node| node.next_nonce(&from)).expect("a nonce"),
            value,
            method_num: method,
            params,
            gas_limit: 1_000_000_000,
            gas_fee_cap: TokenAmount::from_atto(1_000_000),
            gas_premium: TokenAmount::from_atto(1_000),
        }
    }

    pub fn push(&self, message: Message) -> Result<Cid, String> {
        self.node(|node| {
            let signed = node.wallet.sign_message(&message.from, message.clone());
            node.push(signed.expect("the wallet has the key")).map_err(|error| error.to_string())
        })
    }

    pub fn search(&self, cid: &Cid) -> Option<Lookup> {
        self.node(|node| search(&node.chain, node.chain.head(), cid, -1, false).expect("a search"))
    }

    /// Sends a message from the worker key, has it executed, and returns its receipt.
    pub fn send(&self, method: u64, params: RawBytes, value: TokenAmount) -> Receipt {
        self.send_from(self.worker(), method, params, value)
    }

    pub fn send_from(&self, from: Address, method: u64, params: RawBytes, value: TokenAmount) -> Receipt {
        let message = self.message(from, method, params, value);
        let cid = self.push(message).expect("the mempool takes it");
        self.advance(2);
        self.search(&cid).expect("it was executed").receipt
    }

    /// A pre-commit that is valid at present.
    pub fn sector(&self, number: u64) -> SectorPreCommitInfo {
        let now = self.height();
        SectorPreCommitInfo {
            seal_proof: PROOF,
            sector_number: number,
            sealed_cid: replica_commitment_v1_to_cid(&[7; 32]).expect("a commitment"),
            seal_rand_epoch: now - 900,
            deal_ids: vec![],
            expiration: now + 700_000,
            unsealed_cid: CompactCommD::empty(),
        }
    }

    /// Pre-commits with the deposit that the chain requires.
    pub fn pre_commit(&self, sectors: Vec<SectorPreCommitInfo>) -> Receipt {
        let value = &self.deposit() * sectors.len() as u64;
        self.send(PRE_COMMIT, pre_commit_params(sectors), value)
    }

    /// Pre-commits sectors and advances until they can be proven.
    pub fn pre_committed(&self, numbers: &[u64]) {
        let sectors = numbers.iter().map(|number| self.sector(*number)).collect();
        assert_eq!(self.pre_commit(sectors).exit_code.value(), 0);
        self.advance(12);
    }

    pub fn prove(&self, params: &ProveCommitSectors3Params) -> Receipt {
        self.send(PROVE_COMMIT, encode(params), TokenAmount::from_nano(10_000))
    }

    /// Brings sectors to the point where they are proven and active.
    pub fn active(&self, numbers: &[u64]) {
        self.unproven(numbers);
        let is_active = |number: &u64| {
            let (deadline, partition) = self.place(*number);
            self.partition(deadline, partition).is_active(*number)
        };
        for _ in 0..100 {
            if numbers.iter().all(is_active) {
                return;
            }
            self.advance(60);
        }
        panic!("the sectors {numbers:?} do not become active");
    }

    /// Brings sectors to the point before their first window PoSt.
    pub fn unproven(&self, numbers: &[u64]) {
        self.pre_committed(numbers);
        let proofs: Vec<_> = numbers.iter().map(|number| (*number, &b"right"[..])).collect();
        assert_eq!(self.prove(&prove_params(&proofs, true)).exit_code.value(), 0);
    }

    /// The deadline and partition of a sector.
    pub fn place(&self, number: u64) -> (u64, u64) {
        let miner = self.miner();
        self.node(|node| miner.state.find_sector(&node.store, number).expect("in a partition"))
    }

    pub fn partition(&self, deadline: u64, partition: u64) -> Partition {
        let miner = self.miner();
        self.node(|node| {
            let deadlines = miner.state.load_deadlines(&node.store).expect("deadlines");
            let deadline = deadlines.load_deadline(&node.store, deadline).expect("the deadline");
            deadline.load_partition(&node.store, partition).expect("the partition")
        })
    }

    /// Advances until the deadline may be changed for a while.
    pub fn until_mutable(&self, deadline: u64) {
        let miner = self.miner();
        self.node(|node| {
            let policy = node.policy.clone();
            let start = |now| miner.state.current_proving_period_start(&policy, now);
            let mutable = |now| deadline_available_for_compaction(&policy, start(now), deadline, now);
            while !(mutable(node.epoch() + 2) && mutable(node.epoch() + 12)) {
                node.advance_epoch().expect("an epoch passes");
            }
        });
    }

    /// Lets the owner withdraw all that is not locked.
    pub fn withdraw_all(&self) {
        let params = WithdrawBalanceParams { amount_requested: TokenAmount::from_whole(1_000_000) };
        let receipt = self.send_from(self.owner(), 16, encode(&params), TokenAmount::default());
        assert_eq!(receipt.exit_code.value(), 0);
    }

    /// The funds of an actor.
    pub fn balance(&self, address: Address) -> TokenAmount {
        self.node(|node| node.latest().expect("state").actor(&address).expect("an actor").1.balance.clone())
    }

    /// The funds of all actors together.
    pub fn total(&self) -> TokenAmount {
        self.node(|node| node.latest().expect("state").world.total())
    }

    pub fn miner(&self) -> MinerView {
        self.node(|node| {
            let view = node.view(None).expect("a view");
            view.miner(&Address::new_id(MINER)).expect("the miner")
        })
    }

    pub fn on_chain_pre_commit(&self, number: u64) -> Option<SectorPreCommitOnChainInfo> {
        let miner = self.miner();
        self.node(|node| miner.state.get_precommitted_sector(&node.store, number).expect("reads"))
    }

    pub fn on_chain_sector(&self, number: u64) -> Option<SectorOnChainInfo> {
        let miner = self.miner();
        self.node(|node| miner.state.get_sector(&node.store, number).expect("reads"))
    }
}

pub fn encode<T: serde::Serialize>(value: &T) -> RawBytes {
    RawBytes::serialize(value).expect("encodes")
}

pub fn pre_commit_params(sectors: Vec<SectorPreCommitInfo>) -> RawBytes {
    encode(&PreCommitSectorBatchParams2 { sectors })
}

/// ProveCommit parameters for CC sectors with an aggregate of their proofs.
pub fn aggregate_params(numbers: &[u64], aggregate: &[u8]) -> ProveCommitSectors3Params {
    let single: Vec<_> = numbers.iter().map(|number| (*number, &[][..])).collect();
    ProveCommitSectors3Params {
        sector_proofs: vec![],
        aggregate_proof: RawBytes::new(aggregate.to_vec()),
        aggregate_proof_type: Some(RegisteredAggregateProof::SnarkPackV2),
        ..prove_params(&single, false)
    }
}

/// ProveCommit parameters for CC sectors, each with its proof.
pub fn prove_params(proofs: &[(u64, &[u8])], require_success: bool) -> ProveCommitSectors3Params {
    let manifest =
        |number| SectorActivationManifest { sector_number: number, pieces: Vec::<PieceActivationManifest>::new() };
    ProveCommitSectors3Params {
        sector_activations: proofs.iter().map(|(number, _)| manifest(*number)).collect(),
        sector_proofs: proofs.iter().map(|(_, proof)| RawBytes::new(proof.to_vec())).collect(),
        aggregate_proof: RawBytes::default(),
        aggregate_proof_type: None,
        require_activation_success: require_success,
        require_notification_success: require_success,
    }
}
