//! Phases run in child processes ("processors"), so that a crash in proofs code costs one attempt of one sector.
//!
//! [`protocol`] is what goes over the pipes, [`child`] the process that serves a stage. On the worker's side [`running`] is
//! one such process, and [`pool`] has the configured groups of them, handed out in the order that [`crate::schedule`]
//! says. What a group starts is in [`command`].

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
