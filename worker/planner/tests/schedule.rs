//! The order of work on simulated machines: single rules by example, limits and fairness in random schedules, and
//! throughput compared with the plan's prediction.

#![allow(clippy::disallowed_macros, reason = "for whoever reads the output")]

#[path = "support/cases.rs"]
mod cases;

#[path = "schedule/estimate.rs"]
mod estimate;
#[path = "schedule/ledger.rs"]
mod ledger;
#[path = "schedule/machine.rs"]
mod machine;
#[path = "schedule/rules.rs"]
mod rules;
#[path = "schedule/simulation.rs"]
mod simulation;
#[path = "schedule/worlds.rs"]
mod worlds;
