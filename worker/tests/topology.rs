//! Machines as hwloc and the system describe them: this one, synthetic ones, XML files, made-up trees of system files.

#[path = "topology/described.rs"]
mod described;
