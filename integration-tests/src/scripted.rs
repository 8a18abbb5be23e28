//! A Sealbus with scripted sectors. All processes are the real ones except the processors, which answer at once and
//! write files of a few kilobytes. What would otherwise call the proofs library checks for the scripted answers
//! instead.
//!
//! [`yields`] defines the results of each phase as a function of its request. The [`processor`] produces these results;
//! the manager's [`verifier`] and the chain accept nothing else. A [`control`] directory tells a processor where to
//! wait or fail. A [`world`] consists of one or three NATS servers, the devnet, a manager and many workers. A
//! [`ledger`] counts what the chain, the log and the store say about each sector.

pub mod book;
pub mod control;
pub mod latencies;
pub mod ledger;
pub mod processor;
pub mod proving;
pub mod slow_reads;
pub mod soak;
pub mod table;
pub mod verifier;
pub mod world;
pub mod yields;
