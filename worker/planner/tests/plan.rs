//! Plans for made-up machines, checks of configured processors, the simulated pipeline, and the calculator.

#[path = "support/cases.rs"]
mod cases;
#[path = "plan/machines.rs"]
mod machines;

#[path = "plan/calc.rs"]
mod calc;
#[path = "plan/check.rs"]
mod check;
#[path = "plan/golden.rs"]
mod golden;
#[path = "plan/multicore.rs"]
mod multicore;
#[path = "plan/pipeline.rs"]
mod pipeline;
#[path = "plan/properties.rs"]
mod properties;
