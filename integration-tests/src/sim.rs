//! Whole worlds, simulated: a bus, clocks, disks, a chain, workers and managers, and everything that goes wrong with
//! them, from one seed.
//!
//! What decides is production code: the worker's core, board and machine, the manager's fold, machine, outbox and chain
//! decisions. What is simulated is what they stand on, and their shells: carrying out one action after another, with a
//! crash possible between any two.
//!
//! A world has no thread, no clock and no randomness but its own, so a seed always leads to the same end. Read
//! [`world`] first, then [`network`], [`bus`], [`chain`] and [`db`], then the shells [`worker`] and [`manager`]; [`faults`]
//! is what goes wrong, [`loss`] the loss of the whole queue, [`stranger`] who keeps no protocol, [`person`] who looks after
//! it all, [`checks`] what must hold all the while.

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
pub(crate) mod rng;
pub mod run;
mod slot;
mod stranger;
mod work;
mod worker;
mod world;
