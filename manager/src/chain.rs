//! The Filecoin chain, as the manager sees it: a typed client of a full node and the messages that it sends.
//!
//! Read in this order:
//!
//! 1. [`error`]: the ways in which a call can fail, and which of them leave the outcome of a push unknown.
//! 2. [`rpc`]: one JSON-RPC call. Tests and simulations implement [`Transport`] instead. [`nodes`]: several nodes as one.
//! 3. [`node`]: a typed function for each method of the node. [`types`] has the answers, and [`json`] handles the
//!    peculiarities of their JSON.
//! 4. [`params`], [`batch`] and [`exit`]: what the miner actor takes and returns. [`network`]: what differs between
//!    network versions.
//! 5. [`message`] and [`fees`]: building, checking and persisting messages. [`cost`]: what a message of many sectors
//!    costs.
//! 6. [`wait`]: what a message can wait for.
//! 7. [`randomness`], [`election`], [`expiry`] and [`commitment`]: the pure rules for tickets and seeds, won epochs,
//!    expirations, and CIDs.
//! 8. [`replay`]: what a message cost and moved.
//! 9. [`messager`]: Venus' messager, which may send the messages instead.
//!
//! [`memo`] remembers the node's answers, and [`nodes`] which node is asked. Nothing else here keeps state between calls,
//! and nothing reads a clock or retries: callers decide when to ask again, by the node's epochs.

pub mod batch;
pub mod commitment;
pub mod cost;
pub mod election;
pub mod error;
pub mod exit;
pub mod expiry;
pub mod fees;
pub mod json;
pub mod local_keys;
pub mod memo;
pub mod message;
pub mod messager;
pub mod network;
pub mod node;
pub mod nodes;
pub mod params;
pub mod randomness;
pub mod replay;
pub mod rpc;
pub mod sector_set;
pub mod types;
pub mod wait;

pub use error::{Error, PushRefusal};
pub use memo::Memo;
pub use messager::Messager;
pub use node::NodeClient;
pub use nodes::Nodes;
pub use rpc::{Api, Endpoint, HeadChanges, RpcClient, Transport};
pub use wait::WaitReason;
