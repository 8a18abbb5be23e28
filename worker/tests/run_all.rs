//! The worker as a process: a real nats-server, real kills, and a scripted manager that speaks over the bus.

#[path = "run/support.rs"]
mod support;

#[path = "run/faults.rs"]
mod faults;
#[path = "run/kill.rs"]
mod kill;
#[path = "run/life.rs"]
mod life;
#[path = "run/refusals.rs"]
mod refusals;
