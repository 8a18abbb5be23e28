//! Genesis: accounts with funds, miners, and the first tipset.

use cid::Cid;
use fil_actor_miner_state::v19::{MinerInfo, State};
use fil_actors_shared::v19::runtime::Policy;
use fvm_shared::ActorID;
use fvm_shared::address::Address;
use fvm_shared::econ::TokenAmount;
use thiserror::Error;

use super::chain::{Chain, Execution};
use super::config::Config;
use super::execution::{BASE_FEE_MIN_ATTO, proving_period_start};
use super::message::{EncodeError, cbor_cid};
use super::randomness::{beacon_data, ticket_vrf_proof};
use super::tipset::{BlockHeader, OwnBlock, Tipset};
use super::wallet::{Wallet, WalletError};
use super::world::{
    Actor, BURNT_FUNDS, FIRST_ACCOUNT, FIRST_MINER, Kind, POWER, REWARD, Store, World, WorldError, account, failed, put,
};

/// The FIL with which each owner and worker starts.
const ACCOUNT_FIL: i64 = 1_000_000;

/// The FIL that can still become block rewards.
const REWARD_FIL: i64 = 1_000_000_000;

/// Why genesis failed.
#[derive(Debug, Error)]
pub enum GenesisError {
    /// A key could not be created.
    #[error("genesis: keys")]
    Wallet(#[from] WalletError),
    /// The state tree failed.
    #[error("genesis: state")]
    World(#[from] WorldError),
    /// The first block could not be encoded.
    #[error("genesis: block")]
    Encode(#[from] EncodeError),
    /// The miner actor returned an error.
    #[error("genesis: miner {miner}: {reason}")]
    Miner {
        /// The miner.
        miner: ActorID,
        /// The actor's error message.
        reason: String,
    },
}

/// A miner created by genesis.
#[derive(Debug, Clone)]
pub struct GenesisMiner {
    /// The actor ID.
    pub id: ActorID,
    /// The owner's ID.
    pub owner: ActorID,
    /// The owner's key address (secp256k1).
    pub owner_key: Address,
    /// The worker's ID.
    pub worker: ActorID,
    /// The worker's key address (BLS).
    pub worker_key: Address,
}

/// The result of genesis.
pub struct Genesis {
    /// The chain with its first tipset.
    pub chain: Chain,
    /// The keys of all accounts.
    pub wallet: Wallet,
    /// The miners.
    pub miners: Vec<GenesisMiner>,
}

/// Creates genesis.
pub fn create(config: &Config, policy: &Policy, store: &Store) -> Result<Genesis, GenesisError> {
    let mut wallet = Wallet::default();
    let mut world = World::new(FIRST_MINER + config.miners);
    let nothing = put(store, &())?;
    for (id, fil) in [(REWARD, REWARD_FIL), (POWER, 0), (BURNT_FUNDS, 0)] {
        world.set(id, system(nothing, TokenAmount::from_whole(fil)));
    }
    let mut miners = Vec::new();
    for index in 0..config.miners {
        let id = FIRST_MINER + index;
        let (owner, worker) = (FIRST_ACCOUNT + 2 * index, FIRST_ACCOUNT + 2 * index + 1);
        let miner = GenesisMiner {
            id,
            owner,
            owner_key: wallet.derive_secp(config.seed, &format!("owner of {id}"))?,
            worker,
            worker_key: wallet.derive_bls(config.seed, &format!("worker of {id}"))?,
        };
        for (account_id, key) in [(owner, miner.owner_key), (worker, miner.worker_key)] {
            let head = put(store, &(key,))?;
            world.set(account_id, account(key, head, TokenAmount::from_whole(ACCOUNT_FIL)));
        }
        let head = miner_state(config, policy, store, &miner)?;
        world.set(id, miner_actor(head));
        miners.push(miner);
    }
    let state_root = world.flush(store)?;
    let tipset = first_tipset(config, state_root)?;
    let execution = Execution { state_root, receipts: Vec::new() };
    Ok(Genesis { chain: Chain::new(tipset, execution), wallet, miners })
}

fn system(head: Cid, balance: TokenAmount) -> Actor {
    Actor { kind: Kind::System, head, nonce: 0, balance, robust: None }
}

/// A miner starts without funds, so every deposit must come with its message.
fn miner_actor(head: Cid) -> Actor {
    Actor { kind: Kind::Miner, head, nonce: 0, balance: TokenAmount::default(), robust: None }
}

fn miner_state(config: &Config, policy: &Policy, store: &Store, miner: &GenesisMiner) -> Result<Cid, GenesisError> {
    let refused = |error: &dyn std::fmt::Display| GenesisError::Miner { miner: miner.id, reason: error.to_string() };
    let info = MinerInfo::new(miner.owner, miner.worker, vec![], vec![], vec![], config.window_post_proof())
        .map_err(|error| refused(&error))?;
    let info = put(store, &info)?;
    let start = proving_period_start(policy.wpost_proving_period, miner.id, 0);
    let index = ((-start) / policy.wpost_challenge_window) as u64;
    let state = State::new(policy, store, info, start, index).map_err(|error| refused(&error))?;
    store_state(store, &state)
}

fn store_state(store: &Store, state: &State) -> Result<Cid, GenesisError> {
    use fvm_ipld_encoding::CborStore;
    let stored = store.put_cbor(state, multihash_codetable::Code::Blake2b256);
    Ok(stored.map_err(failed("write a miner"))?)
}

fn first_tipset(config: &Config, state_root: Cid) -> Result<Tipset, GenesisError> {
    let empty = cbor_cid(&Vec::<u64>::new())?;
    let own = OwnBlock { miner: FIRST_MINER, ticket_vrf_proof: ticket_vrf_proof(config.seed, 0, 0) };
    let (election, winning_post, signature) = own.proofs();
    let header = BlockHeader {
        miner: own.miner,
        ticket_vrf_proof: own.ticket_vrf_proof,
        election,
        beacon_entries: vec![(0, beacon_data(config.seed, 0))],
        winning_post,
        parents: Vec::new(),
        parent_weight: 0,
        height: 0,
        parent_state_root: state_root,
        parent_receipts: empty,
        messages: empty,
        bls_aggregate: signature.clone(),
        timestamp: config.genesis_timestamp,
        signature: Some(signature),
        base_fee: BASE_FEE_MIN_ATTO,
    };
    Ok(Tipset { cid: cbor_cid(&header)?, header, messages: Vec::new() })
}
