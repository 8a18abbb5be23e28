//! Sealing a new sector, up to its activation on chain; or sealing it again to the same CommR when its worker is gone.
//!
//! [`worker`] is the side that computes, [`manager`] the side that knows the chain, [`wire`] what they tell each other.

pub mod manager;
pub mod wire;
pub mod worker;

pub use wire::{Event, Fact};
