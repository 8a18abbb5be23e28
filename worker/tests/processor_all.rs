//! The processors from outside: real child processes, real proofs of 2 KiB sectors, real kills.

#[path = "processor/support.rs"]
mod support;

#[path = "processor/damocles.rs"]
mod damocles;
#[path = "processor/kill.rs"]
mod kill;
#[path = "processor/pool.rs"]
mod pool;
#[path = "processor/pool_with_stages.rs"]
mod pool_with_stages;
#[path = "processor/stages.rs"]
mod stages;
#[path = "processor/transfer.rs"]
mod transfer;
#[path = "processor/turns.rs"]
mod turns;
