//! Parameters: checks and downloads, some seconds.

#![allow(clippy::unwrap_used)]

mod check;
mod command;
mod fetch;
