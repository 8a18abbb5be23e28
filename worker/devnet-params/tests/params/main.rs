//! Parameters, without proving: some seconds. What proves is in `params_proofs`.

#![allow(clippy::unwrap_used)]

mod circuit;
mod command;
mod devnet;
mod generator;
