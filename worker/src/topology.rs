//! The topology of this machine or of a described one, as far as it matters for placing processors.
//!
//! The rest of the program uses a [`Machine`], which is plain data and comes from [`load`]. [`hwloc`] inspects this
//! machine or reads a description of another one. `describe` turns its [`object`]s into the [`Machine`]. For this
//! machine, [`system`] adds what hwloc does not tell.

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
