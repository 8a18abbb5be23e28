//! What this machine, or one that is described, consists of, as far as placing processors goes.
//!
//! [`model`] is what everybody else works with: plain data, no hwloc. [`load`] makes it: [`hwloc`] looks at the machine
//! or reads a description of one, its [`object`]s are described as a [`Machine`], and for this machine [`system`] adds
//! what hwloc does not tell. [`draw`] shows a machine to a person.

mod describe;
mod devices;
pub mod draw;
mod synthetic;
mod trial;
mod xml;

pub mod cpu_set;
pub mod hwloc;
pub mod load;
pub mod model;
pub mod object;
pub mod read;
mod restrict;
pub mod sight;
pub mod system;

pub use cpu_set::CpuSet;
pub use load::{Opened, Source, TopologyError, load, open};
pub use model::{Cache, Core, Disk, Gpu, HugePages, Machine, Node};
pub use sight::Sight;
