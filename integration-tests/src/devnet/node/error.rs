//! Why a node could not do what it was asked to.

use fvm_shared::clock::ChainEpoch;
use thiserror::Error;

use crate::devnet::chain::ChainError;
use crate::devnet::config::{ConfigError, NETWORK_VERSION_MAX};
use crate::devnet::genesis::GenesisError;
use crate::devnet::mempool::MempoolError;
use crate::devnet::message::EncodeError;
use crate::devnet::view::ViewError;
use crate::devnet::world::WorldError;

/// Why a node could not be created or could not continue.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The configuration is not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Genesis failed.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// The state store failed.
    #[error(transparent)]
    World(#[from] WorldError),
    /// The chain is inconsistent.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The state could not be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The mempool failed.
    #[error(transparent)]
    Mempool(#[from] MempoolError),
    /// A block could not be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Why the network cannot be upgraded.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum UpgradeError {
    /// There is no later version.
    #[error("the network has version {NETWORK_VERSION_MAX} already, the newest of a devnet")]
    AlreadyNewest,
    /// The epoch has passed.
    #[error("epoch {wanted} has passed, the clock is at {now}")]
    Past {
        /// The requested epoch.
        wanted: ChainEpoch,
        /// The clock's.
        now: ChainEpoch,
    },
}

/// Why a push failed.
#[derive(Debug, Error)]
pub enum PushError {
    /// The mempool refused the message.
    #[error(transparent)]
    Mempool(#[from] MempoolError),
    /// The node's state could not be read.
    #[error(transparent)]
    View(#[from] ViewError),
}
