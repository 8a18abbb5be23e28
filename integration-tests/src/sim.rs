//! Simulates whole worlds from one seed: a bus, clocks, disks, a chain, workers and managers, and their faults.
//!
//! All decisions are made by production code: the worker's core, board and machine, and the manager's fold, machine,
//! outbox and chain decisions. Simulated are the parts below it and the shells around it. The shells carry out one action
//! after another, and a crash may happen between any two.
//!
//! A world has its own clock and randomness and no threads, so a seed always leads to the same end. Read [`world`] first,
//! then [`network`], [`bus`], [`chain`] and [`db`], then the shells [`worker`] and [`manager`]. [`faults`] draws what
//! goes wrong, [`batches`] which messages share a call, [`loss`] is the loss of the queue, [`restore`] that of the manager's host, [`stranger`] does not follow the protocol, [`person`] is the operator,
//! and [`checks`] checks the invariants.

pub mod batches;
pub mod bug;
mod bus;
pub(crate) mod chain;
mod checks;
mod db;
mod faults;
mod loss;
mod manager;
mod manager_chain;
mod network;
mod person;
pub mod restore;
pub(crate) mod rng;
pub mod run;
mod slot;
mod stranger;
mod work;
mod worker;
mod world;
