//! Processors that misbehave in every known way. Each fault costs one attempt, with the right class and code, and other
//! requests go on.

#[path = "misbehaviour/bench.rs"]
mod bench;

#[path = "misbehaviour/alone.rs"]
mod alone;
#[path = "misbehaviour/example.rs"]
mod example;
#[path = "misbehaviour/start.rs"]
mod start;
#[path = "misbehaviour/together.rs"]
mod together;
#[path = "misbehaviour/values.rs"]
mod values;
