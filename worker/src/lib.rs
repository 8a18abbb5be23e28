//! The worker: one process a machine, which seals sectors in slots and proves them.

pub mod params;
