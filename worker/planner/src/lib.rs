//! Describes machines, plans what to run on them, and decides the order of work. Pure: no files, no clock, no
//! processes, no hwloc.
//!
//! Read in this order:
//!
//! 1. [`machine`]: a machine as plain data. The worker reads it through hwloc; tests make machines up.
//! 2. [`pipeline`]: sealing in numbers. The steps that a sector goes through, and the resources for them.
//! 3. [`schedule`]: the order of work. The worker's processors follow it. [`pipeline::simulate`] runs the same code, so
//!    that its estimate describes what the worker does.
//! 4. [`machine_plan`]: which processors a machine should have, where, and the resulting throughput.
//! 5. [`calc`]: the same arithmetic for given processors, without a machine.

pub mod calc;
pub mod machine;
pub mod machine_plan;
pub mod pipeline;
pub mod schedule;
pub mod sector;
pub mod units;
