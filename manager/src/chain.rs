//! The Filecoin chain, as the manager sees it: a typed client of a full node and the messages that it sends.
//!
//! Read in this order:
//!
//! 1. [`error`] says in how many ways a call can fail, and which of them leave the outcome of a push unknown.
//! 2. [`rpc`] carries one JSON-RPC call; [`Transport`] is the seam at which tests and simulations put a double.
//! 3. [`node`] gives each method of the node a typed function; [`types`] holds the answers and [`json`] the oddities of their JSON.
//! 4. [`params`], [`batch`] and [`exit`] are what the miner actor takes and returns; [`network`] is what differs between network versions.
//! 5. [`message`] and [`fees`] build, check and persist the messages themselves.
//! 6. [`wait`] says what a message can wait for.
//! 7. [`randomness`], [`expiry`] and [`commitment`] are the pure rules of sealing: which ticket, until when, under which name.
//!
//! [`memo`] spares the node what it has said already. Nothing else here keeps state between calls, and nothing reads a clock or retries: callers decide, with epochs from the node, when to ask again.

pub mod batch;
pub mod commitment;
pub mod error;
pub mod exit;
pub mod expiry;
pub mod fees;
pub mod json;
pub mod memo;
pub mod message;
pub mod network;
pub mod node;
pub mod params;
pub mod randomness;
pub mod rpc;
pub mod sector_set;
pub mod types;
pub mod wait;

pub use error::{Error, PushRefusal};
pub use memo::Memo;
pub use node::NodeClient;
pub use rpc::{Endpoint, RpcClient, Transport};
pub use wait::WaitReason;
