//! Tests of parameter checks and downloads, which take seconds.

#![allow(clippy::unwrap_used)]

mod check;
mod command;
mod fetch;
