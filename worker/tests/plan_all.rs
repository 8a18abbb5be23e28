//! Plans for machines that hwloc describes, the commands, and how the worker uses a plan and `cpus = "auto"`.

#[allow(dead_code, reason = "the planner's own tests use all of it")]
#[path = "../planner/tests/plan/machines.rs"]
mod machines;

#[path = "plan/auto.rs"]
mod auto;
#[path = "plan/cli.rs"]
mod cli;
#[path = "plan/configuration.rs"]
mod configuration;
#[path = "plan/field.rs"]
mod field;
