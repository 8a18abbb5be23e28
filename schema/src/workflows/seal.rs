//! Sealing: from a new sector to its activation on chain. If the worker is lost, the sector is sealed again to the same
//! CommR.
//!
//! [`worker`] is the side that computes, [`manager`] is the side that knows the chain, and [`wire`] has their messages.

pub mod manager;
pub mod wire;
pub mod worker;

pub use wire::{Event, Fact};
