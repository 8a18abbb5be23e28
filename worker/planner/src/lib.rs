//! What a machine is, what it should run, and whose turn it is. Pure: no file, no clock, no process, no hwloc.
//!
//! Read in this order:
//!
//! 1. [`machine`]: a machine as plain data. The worker reads it through hwloc; a test makes one up.
//! 2. [`pipeline`]: sealing as numbers. What a sector goes through, and what there is of each thing that it needs.
//! 3. [`schedule`]: the order of work. The worker's processors follow it, and [`pipeline::simulate`] runs the same code, so
//!    that an estimate describes what the worker does.
//! 4. [`machine_plan`]: which processors a machine should have, where, and what that comes to.
//! 5. [`calc`]: the same arithmetic for given processors, without a machine.

pub mod calc;
pub mod machine;
pub mod machine_plan;
pub mod pipeline;
pub mod schedule;
pub mod sector;
pub mod units;
