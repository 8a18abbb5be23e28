//! Parameters, without proving: some seconds. What proves is in `params_proofs`.

#![allow(clippy::unwrap_used)]

mod check;
mod circuit;
mod devnet;
mod fetch;
mod generator;
