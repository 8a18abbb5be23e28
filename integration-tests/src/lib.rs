//! Parts that only tests and the demo need. Read [`devnet`] first: it is the chain that everything else is tested
//! against. [`cluster`] runs a whole Sealbus as processes; [`demo`] shows one sealing sectors. [`scripted`] runs many
//! workers whose sectors need no proofs, to be killed by the thousand; [`sim`] simulates whole worlds. What stands in for
//! each workflow's stages in both is in [`workflows`].

pub mod cluster;
pub mod demo;
pub mod devnet;
pub mod scripted;
pub mod sim;
pub mod workflows;
