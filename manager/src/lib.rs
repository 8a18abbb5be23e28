//! The manager of Sealbus: what it knows of the chain, and how it speaks to it.

pub mod chain;
