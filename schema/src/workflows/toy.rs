//! The toy workflow, the smallest one that has everything: two phases on a worker, one of them its own, and between them
//! a question to the chain.
//!
//! It stages a sector's data, draws a ticket, and measures the staged data. The result is not used.
//! `docs/adding-a-workflow.md` walks through it, and tests run it from the intent to the end. It exists only with the
//! feature `toy-workflow`.

pub mod manager;
pub mod wire;
pub mod worker;

pub use wire::{Event, Fact};
