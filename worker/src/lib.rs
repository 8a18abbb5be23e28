//! The sealing worker of one machine.
//!
//! Read [`stage`] first: what each phase of sealing does with the files of a slot. Then [`processor`]: how those phases
//! run in child processes.

pub mod processor;
pub mod stage;
