//! The smallest workflow that has everything: two phases on a worker, one of them its own, and between them a question to
//! the chain.
//!
//! It stages a sector's data, draws a ticket, and measures what was staged. Nothing comes of it. `docs/adding-a-workflow.md`
//! walks through it, and tests run it from the intent to the end. It is there with the feature `toy-workflow` only.

pub mod manager;
pub mod wire;
pub mod worker;

pub use wire::{Event, Fact};
