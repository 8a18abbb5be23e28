//! The state tree: actors by ID, stored under one CID.

use std::collections::BTreeMap;

use cid::Cid;
use cid::multihash::Multihash;
use fvm_ipld_blockstore::MemoryBlockstore;
use fvm_ipld_encoding::CborStore;
use fvm_ipld_encoding::tuple::*;
use fvm_shared::ActorID;
use fvm_shared::address::{Address, Protocol};
use fvm_shared::econ::TokenAmount;
use multihash_codetable::Code;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The actor that receives burnt funds.
pub const BURNT_FUNDS: ActorID = 99;
/// The actor that receives premiums and pays block rewards.
pub const REWARD: ActorID = 2;
/// The actor that creates miners.
pub const POWER: ActorID = 4;
/// The first ID for accounts that genesis creates.
pub const FIRST_ACCOUNT: ActorID = 100;
/// The ID of the first miner.
pub const FIRST_MINER: ActorID = 1000;

/// The store of all state.
pub type Store = MemoryBlockstore;

/// Why the state store failed. It is in memory, so none of this is expected.
#[derive(Debug, Error)]
pub enum WorldError {
    /// A root or a part of the tree is missing.
    #[error("state {0} not found")]
    NotFound(Cid),
    /// The store or an encoding failed.
    #[error("state store: {operation}")]
    Store {
        /// The operation, as a verb.
        operation: &'static str,
        /// The error.
        source: anyhow::Error,
    },
}

/// The kinds of actors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// An account with a key address.
    Account,
    /// A storage miner.
    Miner,
    /// A singleton, which only holds funds here.
    System,
}

impl Kind {
    /// The code CID that a node reports: the actor's name, inlined.
    pub fn code(self) -> Cid {
        let name = match self {
            Self::Account => "fil/19/account",
            Self::Miner => "fil/19/storageminer",
            Self::System => "fil/19/system",
        };
        // An inlined name may have 64 bytes, so the default is never used.
        let hash = Multihash::wrap(0, name.as_bytes()).unwrap_or_default();
        Cid::new_v1(0x55, hash)
    }
}

/// One actor.
#[derive(Debug, Clone, Serialize_tuple, Deserialize_tuple)]
pub struct Actor {
    /// The kind of actor.
    pub kind: Kind,
    /// The root of the actor's own state.
    pub head: Cid,
    /// The nonce for its next message.
    pub nonce: u64,
    /// The actor's funds.
    pub balance: TokenAmount,
    /// The address that does not depend on the order of creation: an account's key address, or the actor address of a
    /// miner that a message created.
    pub robust: Option<Address>,
}

impl Actor {
    /// The key address, if it is an account.
    pub fn key(&self) -> Option<Address> {
        self.robust.filter(|_| self.kind == Kind::Account)
    }
}

#[derive(Serialize_tuple, Deserialize_tuple)]
struct Tree {
    next_id: ActorID,
    actors: Vec<(ActorID, Actor)>,
}

/// All actors at one point in time.
#[derive(Debug, Clone, Default)]
pub struct World {
    actors: BTreeMap<ActorID, Actor>,
    ids: BTreeMap<Vec<u8>, ActorID>,
    next_id: ActorID,
}

impl World {
    /// An empty tree, in which the next new account gets the ID `next_id`.
    pub fn new(next_id: ActorID) -> Self {
        Self { next_id, ..Self::default() }
    }

    /// Loads the tree under a root.
    pub fn load(store: &Store, root: &Cid) -> Result<Self, WorldError> {
        let tree: Option<Tree> = store.get_cbor(root).map_err(failed("read the actors"))?;
        let tree = tree.ok_or(WorldError::NotFound(*root))?;
        let mut world = Self::new(tree.next_id);
        for (id, actor) in tree.actors {
            world.set(id, actor);
        }
        Ok(world)
    }

    /// Stores the tree and returns its root.
    pub fn flush(&self, store: &Store) -> Result<Cid, WorldError> {
        let actors = self.actors.iter().map(|(id, a)| (*id, a.clone()));
        let tree = Tree { next_id: self.next_id, actors: actors.collect() };
        put(store, &tree)
    }

    /// The actor with this ID.
    pub fn get(&self, id: ActorID) -> Option<&Actor> {
        self.actors.get(&id)
    }

    /// The actor with this ID, for changes. Its robust address must stay the same.
    pub fn get_mut(&mut self, id: ActorID) -> Option<&mut Actor> {
        self.actors.get_mut(&id)
    }

    /// Adds or replaces an actor.
    pub fn set(&mut self, id: ActorID, actor: Actor) {
        if let Some(robust) = &actor.robust {
            self.ids.insert(robust.to_bytes(), id);
        }
        self.actors.insert(id, actor);
    }

    /// The ID of an address, if it is on chain.
    pub fn resolve(&self, address: &Address) -> Option<ActorID> {
        match address.protocol() {
            Protocol::ID => address.id().ok().filter(|id| self.actors.contains_key(id)),
            _ => self.ids.get(&address.to_bytes()).copied(),
        }
    }

    /// The key address of an account, given its ID or key address.
    pub fn account_key(&self, address: &Address) -> Option<Address> {
        match address.protocol() {
            Protocol::BLS | Protocol::Secp256k1 => Some(*address),
            _ => self.resolve(address).and_then(|id| self.get(id)?.key()),
        }
    }

    /// Creates an account for a key address that receives its first funds. Other addresses cannot get accounts this
    /// way.
    pub fn create_account(&mut self, store: &Store, key: &Address) -> Result<Option<ActorID>, WorldError> {
        if !matches!(key.protocol(), Protocol::BLS | Protocol::Secp256k1) {
            return Ok(None);
        }
        let head = put(store, &(*key,))?;
        Ok(Some(self.add(account(*key, head, TokenAmount::default()))))
    }

    /// The ID that the next new actor gets.
    pub fn next_id(&self) -> ActorID {
        self.next_id
    }

    /// Adds a new actor and returns its ID.
    pub fn add(&mut self, actor: Actor) -> ActorID {
        let id = self.next_id;
        self.next_id += 1;
        self.set(id, actor);
        id
    }

    /// The funds of all actors together. No message changes it.
    pub fn total(&self) -> TokenAmount {
        self.actors.values().map(|actor| &actor.balance).sum()
    }

    /// IDs of all miners, ascending.
    pub fn miners(&self) -> Vec<ActorID> {
        let miners = self.actors.iter().filter(|(_, a)| a.kind == Kind::Miner);
        miners.map(|(id, _)| *id).collect()
    }
}

/// An account actor.
pub fn account(key: Address, head: Cid, balance: TokenAmount) -> Actor {
    Actor { kind: Kind::Account, head, nonce: 0, balance, robust: Some(key) }
}

/// Stores an object and returns its CID.
pub fn put<T: Serialize>(store: &Store, object: &T) -> Result<Cid, WorldError> {
    store.put_cbor(object, Code::Blake2b256).map_err(failed("write an object"))
}

/// Wraps a store error with its operation.
pub fn failed(operation: &'static str) -> impl FnOnce(anyhow::Error) -> WorldError {
    move |source| WorldError::Store { operation, source }
}
