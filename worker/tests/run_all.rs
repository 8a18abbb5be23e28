//! The worker as a process: a real nats-server, real kills, and a manager that the tests play over the bus.

#![allow(clippy::disallowed_macros, reason = "for whoever reads the output")]

#[path = "run/sealed.rs"]
mod sealed;
#[path = "run/support.rs"]
mod support;

#[path = "run/disks.rs"]
mod disks;
#[path = "run/faults.rs"]
mod faults;
#[path = "run/identity.rs"]
mod identity;
#[path = "run/kill.rs"]
mod kill;
#[path = "run/life.rs"]
mod life;
#[path = "run/orders.rs"]
mod orders;
#[path = "run/processors.rs"]
mod processors;
#[path = "run/proofs.rs"]
mod proofs;
#[path = "run/recovery.rs"]
mod recovery;
#[path = "run/refusals.rs"]
mod refusals;
#[path = "run/winning.rs"]
mod winning;
