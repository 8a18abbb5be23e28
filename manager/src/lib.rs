//! The manager of Sealbus: it decides which sectors should exist, talks to the chain, and records what happened.
//!
//! Read in this order: [`config`] for the configuration, [`store`] for the database, [`life`] for how one input changes
//! one sector, [`commands`] for a person's orders, [`fold`] for the log's part in a sector's life, and [`drive`] for
//! the chain's part. [`serve`] starts all of them. Each is a reconciler that takes no input and can be stopped at any
//! instruction.
//!
//! [`out`] is the only way to write to stdout and stderr.
//!
//! Deliberately absent: any call to a worker. Everything that a worker needs to know is in its sector's log.

#[macro_use]
pub mod out;

pub mod aggregates;
pub mod archive;
pub mod backup;
pub mod care;
pub mod chain;
pub mod child;
pub mod cli;
pub mod commands;
pub mod config;
pub mod drive;
pub mod errands;
pub mod files;
pub mod fold;
pub mod intents;
pub mod life;
pub mod liveness;
pub mod metrics;
pub mod mining;
pub mod money;
pub mod nodes;
pub mod orders;
pub mod outbox;
pub mod preflight;
pub mod proofs;
pub mod proving;
pub mod serve;
pub mod service;
pub mod slots;
pub mod store;
pub mod store_access;
pub mod stores;
pub mod waits;
pub mod wake;
pub mod weights;
pub mod why;
pub mod workflows;
