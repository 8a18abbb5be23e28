//! Phases run in child processes ("processors"), so that a crash in proofs code costs one attempt of one sector.
//!
//! [`protocol`] is what goes over the pipes, [`child`] the process that serves a stage, [`pool`] the worker's side:
//! configured groups of processors, handed out in the order that [`crate::schedule`] says.

pub mod child;
pub mod config;
pub mod error;
mod lines;
pub mod pool;
pub mod protocol;
mod running;
mod spawner;

pub use config::{GroupConfig, MemoryPolicy, Placement, PoolConfig, own_environment};
pub use error::{PoolError, ProcessError, ProcessFailure};
pub use pool::{ProcessorGuard, ProcessorPool, ProcessorStatus, Progress, Work, WorkOf};
