//! What this machine, or one that is described, consists of, as far as placing processors goes.
//!
//! [`model`] is what everybody else works with: plain data, no hwloc.

pub mod cpu_set;
pub mod model;

pub use cpu_set::CpuSet;
pub use model::{Cache, Core, Disk, Gpu, HugePages, Machine, Node};
