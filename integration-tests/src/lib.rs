//! Parts that only tests and the demo need. Read [`devnet`] first: everything else is tested against this chain.
//! [`cluster`] runs a whole Sealbus as processes, and [`demo`] shows how it seals sectors. [`scripted`] runs many
//! workers on sectors without proofs, which can be killed by the thousand.

pub mod cluster;
pub mod command_line;
pub mod demo;
pub mod devnet;
pub mod scripted;
pub mod sim;
pub mod workflows;
