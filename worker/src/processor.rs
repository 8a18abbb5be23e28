//! Runs phases in child processes ("processors"), so that a crash in proofs code costs one attempt of one sector.
//!
//! [`protocol`] defines the lines on the pipes, and [`child`] the process that serves a stage. On the worker's side,
//! [`running`] is one such process. [`pool`] holds the configured groups and hands their processors out in the order
//! that [`sealbus_planner::schedule`] decides. [`command`] says which program a group starts.

pub mod child;
pub mod command;
pub mod config;
pub mod error;
pub mod exec_child;
mod lines;
pub mod orphans;
pub mod pool;
pub mod protocol;
pub mod running;
pub mod spawner;

pub use command::Protocol;
pub use config::{GroupConfig, MemoryPolicy, Parameters, Placement, PoolConfig, own_environment};
pub use error::{PoolError, ProcessError, ProcessFailure};
pub use pool::{ProcessorGuard, ProcessorPool, ProcessorStatus, Turn, Work, WorkOf};
