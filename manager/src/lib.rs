//! The manager of Sealbus: it decides what should exist, speaks to the chain, and records what happened.
//!
//! Read in this order: [`config`] for what it is told, [`store`] for what it remembers, [`life`] for how one input
//! changes one sector and [`commands`] for what a person orders, [`fold`] for the log's side of a life and [`drive`] for the chain's side. [`serve`] starts all
//! of them; each is a reconciler that takes no input and can be stopped at any instruction.
//!
//! [`out`] is the only way to stdout and stderr.
//!
//! Deliberately absent: any call to a worker. What a worker needs to know is in the log of its sector.

#[macro_use]
pub mod out;

pub mod chain;
pub mod cli;
pub mod commands;
pub mod config;
pub mod drive;
pub mod files;
pub mod fold;
pub mod intents;
pub mod life;
pub mod liveness;
pub mod orders;
pub mod outbox;
pub mod preflight;
pub mod proofs;
pub mod serve;
pub mod slots;
pub mod store;
pub mod store_access;
pub mod stores;
pub mod waits;
pub mod wake;
pub mod why;
mod workflows;
