//! A Sealbus whose sectors are scripts: every process is the real one but the processors, which answer at once and write
//! files of a few kilobytes, and whoever would need the proofs library, which knows what a script must have answered.
//!
//! [`yields`] says what each phase yields, as a function of what it was asked. The [`processor`] makes it, the manager's
//! [`verifier`] and the chain demand exactly it, and a [`control`] directory tells a processor where to wait or to fail.
//! A [`world`] is NATS of one or three nodes, the devnet, a manager and many workers; a [`ledger`] counts what the chain,
//! the log and the store say of each sector.

pub mod control;
pub mod ledger;
pub mod processor;
pub mod soak;
pub mod table;
pub mod verifier;
pub mod world;
pub mod yields;
