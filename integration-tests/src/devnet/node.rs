//! The node: takes one epoch from mempool to receipts, and holds everything that RPC reads.

use std::sync::Arc;

use cid::Cid;
use fil_actors_shared::v19::runtime::Policy;
use fvm_shared::ActorID;
use fvm_shared::address::Address;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::econ::TokenAmount;
use fvm_shared::message::Message;
use tokio::sync::watch;
use tracing::{debug, info};

use super::base_fee;
use super::blocks::{Blocks, Waiting, messages_cid};
use super::chain::{Chain, ChainError, Execution};
use super::config::{Config, ConfigError, NETWORK_VERSION_MAX, check_epoch_millis};
use super::economics::Economics;
use super::execution::{Applied, BASE_FEE_MIN_ATTO, BLOCK_GAS_LIMIT, Context, apply, close_windows, pass_null_rounds};
use super::faults::{Fault, Faults, Incident, Reverted, Spike};
use super::genesis::{self, Genesis, GenesisMiner};
use super::mempool::Mempool;
use super::message::{SignedMessage, cbor_cid};
use super::proofs::ProofVerifier;
use super::randomness::ticket_vrf_proof;
use super::stats::Stats;
use super::tipset::{BlockHeader, OwnBlock, Tipset};
use super::view::{View, ViewError};
use super::wallet::Wallet;
use super::world::{FIRST_MINER, Kind, Store, World};

mod blocks;
mod error;

pub use error::{NodeError, PushError, UpgradeError};

/// Who makes the blocks that nobody submits, if the miners here make blocks themselves.
const OTHERS: ActorID = 999;

/// A whole node. It is not shared: whoever holds it sees and changes a consistent chain.
pub struct Node {
    /// Its configuration.
    pub config: Config,
    /// Network constants.
    pub policy: Policy,
    /// Network averages.
    pub economics: Economics,
    /// The tipsets and receipts.
    pub chain: Chain,
    /// The waiting messages.
    pub mempool: Mempool,
    /// The keys.
    pub wallet: Wallet,
    /// Counts for tests.
    pub stats: Stats,
    /// The injected faults.
    pub faults: Faults,
    /// The miners created by genesis.
    pub miners: Vec<GenesisMiner>,
    /// The store of the state.
    pub store: Store,
    verifier: Arc<dyn ProofVerifier>,
    blocks: Blocks,
    epoch: ChainEpoch,
    null_rounds: u64,
    fork: u64,
    epoch_millis: watch::Sender<u64>,
    announced: watch::Sender<Announced>,
}

/// What subscribers are told.
#[derive(Debug, Clone, Copy)]
pub struct Announced {
    /// The head.
    pub head: Cid,
    /// Whether they are told nothing.
    pub is_muted: bool,
    /// How often all subscriptions were ended.
    pub closings: u64,
}

impl Node {
    /// A node at genesis.
    pub fn new(config: Config, verifier: Arc<dyn ProofVerifier>) -> Result<Self, NodeError> {
        config.validate()?;
        let policy = config.policy();
        let store = Store::new();
        let Genesis { chain, wallet, miners } = genesis::create(&config, &policy, &store)?;
        let (epoch_millis, _) = watch::channel(config.epoch_millis);
        let (announced, _) = watch::channel(Announced { head: chain.head().cid, is_muted: false, closings: 0 });
        Ok(Self {
            config,
            policy,
            economics: Economics::default(),
            chain,
            mempool: Mempool::default(),
            wallet,
            stats: Stats::default(),
            faults: Faults::default(),
            miners,
            store,
            verifier,
            blocks: Blocks::default(),
            epoch: 0,
            null_rounds: 0,
            fork: 0,
            epoch_millis,
            announced,
        })
    }

    /// The epoch of the clock. In null rounds it is above the head's.
    pub fn epoch(&self) -> ChainEpoch {
        self.epoch
    }

    /// Makes the next `count` epochs null rounds.
    pub fn add_null_rounds(&mut self, count: u64) {
        self.null_rounds = self.null_rounds.saturating_add(count);
    }

    /// Upgrades the network: this epoch is the last one of the present version.
    pub fn upgrade(&mut self, last: ChainEpoch) -> Result<(), UpgradeError> {
        if self.config.network_version_at(self.epoch) == NETWORK_VERSION_MAX {
            return Err(UpgradeError::AlreadyNewest);
        }
        if last < self.epoch {
            return Err(UpgradeError::Past { wanted: last, now: self.epoch });
        }
        self.config.upgrade_epoch = Some(last);
        Ok(())
    }

    /// Sets the length of an epoch in real milliseconds; 0 stops the clock.
    pub fn set_epoch_millis(&self, millis: u64) -> Result<(), ConfigError> {
        check_epoch_millis(millis)?;
        self.epoch_millis.send_replace(millis);
        Ok(())
    }

    /// A receiver for the length of an epoch.
    pub fn watch_epoch_millis(&self) -> watch::Receiver<u64> {
        self.epoch_millis.subscribe()
    }

    /// A receiver for what subscribers are told.
    pub fn watch_announced(&self) -> watch::Receiver<Announced> {
        self.announced.subscribe()
    }

    /// Advances the clock by one epoch.
    pub fn advance_epoch(&mut self) -> Result<(), NodeError> {
        self.epoch += 1;
        if self.null_rounds > 0 {
            self.null_rounds -= 1;
            return Ok(());
        }
        self.produce_tipset(!self.faults.inclusion_stalled())
    }

    /// Replaces the last `depth` epochs by a heavier fork that is as high, with other tickets.
    pub fn reorganise(&mut self, depth: u64, messages: Reverted) -> Result<(), NodeError> {
        let head = self.chain.head().height();
        let depth = i64::try_from(depth).unwrap_or(head).min(head);
        let reverted = self.chain.rewind(head - depth)?;
        let ancestor = self.chain.head().height();
        info!(depth, ancestor, messages = reverted.len(), "reorganisation");
        self.fork += 1;
        self.stats.forget_after(ancestor);
        if messages != Reverted::Lost {
            let world = self.latest()?.world;
            self.mempool.restore(&world, reverted)?;
        }
        for epoch in ancestor + 1..=std::mem::replace(&mut self.epoch, ancestor) {
            self.epoch = epoch;
            self.produce_tipset(messages == Reverted::Again)?;
        }
        Ok(())
    }

    /// The tipset with this key, or the head.
    pub fn tipset(&self, key: Option<&Cid>) -> Result<Arc<Tipset>, ChainError> {
        match key {
            Some(cid) => self.chain.tipset(cid).cloned(),
            None => Ok(self.chain.head().clone()),
        }
    }

    /// The state as of a tipset, or of the head.
    pub fn view(&self, key: Option<&Cid>) -> Result<View<'_>, ViewError> {
        View::new(&self.store, self.tipset(key)?)
    }

    /// The state after the head's messages, from which nonces are counted.
    pub fn latest(&self) -> Result<View<'_>, ViewError> {
        View::after(&self.store, &self.chain, self.chain.head().clone())
    }

    /// Accepts a signed message into the mempool.
    pub fn push(&mut self, signed: SignedMessage) -> Result<Cid, PushError> {
        let world = self.latest()?.world;
        let (_, cid) = self.mempool.check(&world, &signed)?;
        if self.faults.take_drop() {
            debug!(%cid, "message dropped");
            return Ok(cid);
        }
        let kept = Arc::new(signed.clone());
        let cid = self.mempool.push(&world, signed)?;
        debug!(%cid, nonce = kept.message.sequence, method = kept.message.method_num, "message pushed");
        self.chain.remember(cid, kept);
        Ok(cid)
    }

    /// The nonce for an account's next message.
    pub fn next_nonce(&self, address: &Address) -> Result<u64, ViewError> {
        let view = self.latest()?;
        let (id, actor) = view.actor(address)?;
        Ok(self.mempool.next_nonce(id, actor.nonce))
    }

    /// The effects that a message would have after the sender's waiting ones, at the head's epoch. Nothing is stored.
    pub fn dry_run(&self, message: &Message, key: Option<&Cid>) -> Result<Applied, ViewError> {
        let tipset = self.tipset(key)?;
        let mut view = View::after(&self.store, &self.chain, tipset.clone())?;
        let context = self.context(&tipset);
        let (sender, actor) = view.actor(&message.from)?;
        for pending in self.mempool.executable(sender, actor.nonce) {
            apply(&context, &mut view.world, &pending.message)?;
        }
        apply_free(&context, view, message)
    }

    /// The effects that a message would have as the first one of a tipset. Nothing is stored.
    pub fn call(&self, message: &Message, key: Option<&Cid>) -> Result<Applied, ViewError> {
        let view = self.view(key)?;
        let tipset = view.tipset.clone();
        apply_free(&self.context(&tipset), view, message)
    }

    /// Switches a fault on or off.
    pub fn inject(&mut self, fault: Fault) {
        info!(?fault, "fault");
        match &fault {
            Fault::ClearMempool {} => self.mempool.clear(),
            Fault::MuteChannels { on } | Fault::Away { on } => {
                self.announced.send_modify(|announced| announced.is_muted = *on)
            }
            Fault::CloseChannels {} => self.announced.send_modify(|announced| announced.closings += 1),
            Fault::BaseFeeSpike { times, epochs } => {
                let first = self.epoch + 1;
                let atto = self.chain.head().header.base_fee.saturating_mul(*times).max(BASE_FEE_MIN_ATTO);
                self.faults.begin_spike(Spike { epochs: first..first + ChainEpoch::from(*epochs), atto });
            }
            Fault::Clear {} => self.announced.send_modify(|announced| announced.is_muted = false),
            _ => {}
        }
        self.faults.apply(fault);
    }

    /// Everything that the messages of a tipset can see besides the state.
    pub fn context<'a>(&'a self, tipset: &'a Arc<Tipset>) -> Context<'a> {
        Context {
            store: &self.store,
            chain: &self.chain,
            tipset,
            epoch: tipset.height(),
            seed: self.config.seed,
            policy: &self.policy,
            economics: &self.economics,
            network_version: self.config.network_version_at(tipset.height()),
            proving: self.config.proving,
            verifier: self.verifier.as_ref(),
        }
    }

    /// Creates the block of the current epoch on top of the head and executes its messages.
    fn produce_tipset(&mut self, with_messages: bool) -> Result<(), NodeError> {
        let parent = self.chain.head().clone();
        let parent_execution = self.chain.execution(&parent.cid)?.clone();
        let mut world = World::load(&self.store, &parent_execution.state_root)?;
        let mut incidents = self.faults.take_incidents();
        let tipset = match self.take_block(&parent) {
            Some(Waiting { cid, header, messages }) => {
                incidents.push((header.miner, Incident::Reward(self.block_reward(&header))));
                Tipset { cid, header, messages }
            }
            None => self.own_tipset(&parent, &world, with_messages)?,
        };
        let tipset = Arc::new(tipset);
        let mut ends = pass_null_rounds(&self.context(&tipset), &mut world, parent.height())?;
        let applied = self.execute(&tipset, &mut world)?;
        ends.extend(close_windows(&self.context(&tipset), &mut world, self.epoch..=self.epoch, &incidents)?);
        let state_root = world.flush(&self.store)?;
        self.record(&tipset, &world, &applied);
        self.stats.record_deadlines(ends);
        let receipts = applied.into_iter().map(|applied| applied.receipt).collect();
        let tipset = Arc::unwrap_or_clone(tipset);
        self.chain.extend(tipset, Execution { state_root, receipts });
        self.announced.send_modify(|announced| announced.head = self.chain.head().cid);
        self.mempool.prune(&world);
        Ok(())
    }

    /// The tipset of the current epoch on top of the head, if no miner has made its block.
    fn own_tipset(&self, parent: &Tipset, world: &World, with_messages: bool) -> Result<Tipset, NodeError> {
        let execution = self.chain.execution(&parent.cid)?;
        let base_fee = self.base_fee_after(parent, self.epoch);
        let messages = if with_messages { self.mempool.select(world, base_fee) } else { Vec::new() };
        let own = OwnBlock {
            // A miner that mines must be able to tell its own blocks from those of others.
            miner: if self.config.elections { OTHERS } else { FIRST_MINER },
            ticket_vrf_proof: ticket_vrf_proof(self.config.seed, self.fork, self.epoch),
        };
        let (election, winning_post, signature) = own.proofs();
        let header = BlockHeader {
            miner: own.miner,
            ticket_vrf_proof: own.ticket_vrf_proof,
            election,
            beacon_entries: self.beacon_entries(parent.height(), self.epoch),
            winning_post,
            parents: vec![parent.cid],
            parent_weight: self.weight(parent),
            height: self.epoch,
            parent_state_root: execution.state_root,
            parent_receipts: cbor_cid(&execution.receipts)?,
            messages: messages_cid(&messages)?,
            bls_aggregate: signature.clone(),
            timestamp: self.config.genesis_timestamp + self.epoch as u64 * self.config.block_delay_secs,
            signature: Some(signature),
            base_fee,
        };
        Ok(Tipset { cid: cbor_cid(&header)?, header, messages })
    }

    /// The base fee of a block of `epoch` on top of `parent`.
    pub fn base_fee_after(&self, parent: &Tipset, epoch: ChainEpoch) -> u64 {
        let last = parent.header.base_fee;
        match (self.faults.base_fee_atto(), self.faults.spike_atto(epoch), self.config.base_fee_follows) {
            (Some(fixed), ..) => fixed,
            (None, Some(height), false) => height,
            (None, Some(height), true) => base_fee::risen(last).min(height).max(last),
            (None, None, false) => BASE_FEE_MIN_ATTO,
            (None, None, true) => {
                let messages = parent.messages.iter().map(|(_, signed)| &signed.message);
                base_fee::next(last, messages)
            }
        }
    }

    fn execute(&self, tipset: &Arc<Tipset>, world: &mut World) -> Result<Vec<Applied>, NodeError> {
        let context = self.context(tipset);
        let mut all = Vec::with_capacity(tipset.messages.len());
        for (_, signed) in &tipset.messages {
            all.push(apply(&context, world, &signed.message)?);
        }
        Ok(all)
    }

    fn record(&mut self, tipset: &Tipset, world: &World, applied: &[Applied]) {
        for ((cid, signed), applied) in tipset.messages.iter().zip(applied) {
            let message = &signed.message;
            let receiver = world.resolve(&message.to);
            let is_miner = |id: &u64| world.get(*id).is_some_and(|actor| actor.kind == Kind::Miner);
            let miner = receiver.filter(is_miner);
            let exit_code = applied.receipt.exit_code.value();
            let error = applied.error.as_deref().unwrap_or_default();
            info!(epoch = tipset.height(), %cid, method = message.method_num, exit_code, error, "message executed");
            self.stats.record(cid, tipset.height(), miner, message, applied);
        }
    }
}

/// Applies a message that costs no gas and has the sender's next nonce.
fn apply_free(context: &Context<'_>, mut view: View<'_>, message: &Message) -> Result<Applied, ViewError> {
    let free = Message {
        sequence: view.actor(&message.from)?.1.nonce,
        gas_limit: BLOCK_GAS_LIMIT,
        gas_fee_cap: TokenAmount::default(),
        gas_premium: TokenAmount::default(),
        ..message.clone()
    };
    Ok(apply(context, &mut view.world, &free)?)
}
