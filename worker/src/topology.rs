//! What this machine, or one that is described, consists of, as far as placing processors goes.
//!
//! Everybody else works with a [`Machine`], which is plain data. [`load`] makes one. [`hwloc`] looks at this machine or reads a
//! description of another one. Its [`object`]s become the [`Machine`]. For this machine [`system`] adds what hwloc does not
//! tell.

mod describe;
mod devices;
mod synthetic;
mod trial;
mod xml;

pub mod hwloc;
pub mod load;
pub mod object;
pub mod read;
pub mod system;

pub use load::{Opened, Source, TopologyError, load, open};
pub use sealbus_planner::machine::{Cache, Core, CpuSet, Disk, Gpu, HugePages, Machine, Node, Sight, cpu_set, sight};
