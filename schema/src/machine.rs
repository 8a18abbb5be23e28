//! The state machines for jobs of any workflow, and what a workflow must provide.
//!
//! [`manager`] and [`worker`] handle what all jobs share: claims and releases, failures, blocking, a person's orders,
//! giving up. For the rest they call the workflow's implementations of [`manager::Machine`] and [`worker::Machine`].

pub mod manager;
pub mod worker;
