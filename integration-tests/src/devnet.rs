//! A stand-in for a Filecoin node, built on the real miner state machine.
//!
//! The chain's rules come from published crates (`fil_actor_miner_state` v19 for state and money, `filecoin-proofs-api`
//! for proofs). This module adds what surrounds them: method bodies, a mempool, tipsets, randomness, and the JSON-RPC
//! of a Lotus node with its quirks. A tipset has one block, the state is in memory, and the clock can be slowed,
//! stepped and sped up.
//!
//! Reading order: [`config`], [`node`] (one epoch from mempool to receipts), [`execution`] (the effects of a message),
//! [`mempool`], [`chain`], then [`rpc`].
//!
//! Invariants:
//! - A message's effects are all or nothing: a failed one only raises a nonce and pays for gas.
//! - All state hangs from one CID ([`world::World::flush`]). Each tipset keeps the root before and after its own
//!   messages, so that reading the past and returning to it need no copies.
//! - Time and randomness come from the configuration (seed, genesis time): the same calls give the same chain.
//! - Only the clock works in the background. Whoever holds the [`node::Node`] sees a consistent chain.

pub mod address;
pub mod base_fee;
pub mod blocks;
pub mod chain;
pub mod config;
pub mod economics;
pub mod execution;
pub mod faults;
pub mod files;
pub mod genesis;
pub mod mempool;
pub mod message;
pub mod messager;
pub mod node;
pub mod proofs;
pub mod randomness;
pub mod rpc;
pub mod search;
pub mod server;
pub mod stats;
pub mod tipset;
pub mod view;
pub mod wallet;
pub mod world;

pub use config::Config;
pub use node::Node;
pub use proofs::{ProofVerifier, ProofsApi, SealInfo};
pub use server::{Devnet, Server};
