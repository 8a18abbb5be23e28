//! The life of a sector under plan `seal`, as two machines that talk through the sector's log.
//!
//! [`worker`] is the side that computes, [`manager`] the side that knows the chain. Each is one total function from a
//! state and an input to a [`Transition`](crate::Transition); drivers carry out the effects.

pub mod manager;
pub mod worker;
