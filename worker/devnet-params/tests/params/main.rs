//! Tests of parameters without proving, which take seconds. Tests that prove are in `params_proofs`.

#![allow(clippy::unwrap_used)]

mod circuit;
mod command;
mod devnet;
mod generator;
