//! The state as of a tipset, which a node's state methods read.

use std::sync::Arc;

use fil_actor_miner_state::v19::{MinerInfo, State};
use fvm_ipld_encoding::CborStore;
use fvm_shared::ActorID;
use fvm_shared::address::Address;
use thiserror::Error;

use super::address::to_text;
use super::chain::{Chain, ChainError};
use super::tipset::Tipset;
use super::world::{Actor, Kind, Store, World, WorldError, failed};

/// Why the state could not be read.
#[derive(Debug, Error)]
pub enum ViewError {
    /// The chain has no such tipset.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The state store failed.
    #[error(transparent)]
    World(#[from] WorldError),
    /// There is no such actor.
    #[error("failed to load actor {0}: actor not found")]
    ActorNotFound(String),
    /// The actor is not a miner.
    #[error("failed to load miner actor state: actor code is not miner: {0}")]
    NotAMiner(&'static str),
    /// There is no actor at a miner's address.
    #[error("failed to load miner actor: actor not found")]
    NoMiner,
}

/// The state before a tipset's own messages, which Lotus' state methods use.
pub struct View<'a> {
    /// The store of the state.
    pub store: &'a Store,
    /// The tipset.
    pub tipset: Arc<Tipset>,
    /// The actors.
    pub world: World,
}

/// A miner in a view.
pub struct MinerView {
    /// The actor ID.
    pub id: ActorID,
    /// The actor.
    pub actor: Actor,
    /// The miner's state.
    pub state: State,
    /// The miner's static information.
    pub info: MinerInfo,
}

impl<'a> View<'a> {
    /// The state that a tipset builds on.
    pub fn new(store: &'a Store, tipset: Arc<Tipset>) -> Result<Self, ViewError> {
        let world = World::load(store, &tipset.header.parent_state_root)?;
        Ok(Self { store, tipset, world })
    }

    /// The state after a tipset's messages.
    pub fn after(store: &'a Store, chain: &Chain, tipset: Arc<Tipset>) -> Result<Self, ViewError> {
        let world = World::load(store, &chain.execution(&tipset.cid)?.state_root)?;
        Ok(Self { store, tipset, world })
    }

    /// The actor at an address.
    pub fn actor(&self, address: &Address) -> Result<(ActorID, &Actor), ViewError> {
        let not_found = || ViewError::ActorNotFound(to_text(address));
        let id = self.world.resolve(address).ok_or_else(not_found)?;
        Ok((id, self.world.get(id).ok_or_else(not_found)?))
    }

    /// The miner at an address.
    pub fn miner(&self, address: &Address) -> Result<MinerView, ViewError> {
        let (id, actor) = self.actor(address).map_err(|error| match error {
            ViewError::ActorNotFound(_) => ViewError::NoMiner,
            error => error,
        })?;
        if actor.kind != Kind::Miner {
            return Err(ViewError::NotAMiner("account"));
        }
        let state: Option<State> = self.store.get_cbor(&actor.head).map_err(failed("read a miner"))?;
        let state = state.ok_or(WorldError::NotFound(actor.head))?;
        let info = state.get_info(self.store).map_err(failed("read a miner's info"))?;
        Ok(MinerView { id, actor: actor.clone(), state, info })
    }
}
