//! Plans of described machines, what is checked of somebody's own, the simulated pipeline, and the calculator.

#[path = "plan/machines.rs"]
mod machines;

#[path = "plan/auto.rs"]
mod auto;
#[path = "plan/calc.rs"]
mod calc;
#[path = "plan/check.rs"]
mod check;
#[path = "plan/cli.rs"]
mod cli;
#[path = "plan/configuration.rs"]
mod configuration;
#[path = "plan/field.rs"]
mod field;
#[path = "plan/golden.rs"]
mod golden;
#[path = "plan/multicore.rs"]
mod multicore;
#[path = "plan/pipeline.rs"]
mod pipeline;
#[path = "plan/properties.rs"]
mod properties;
