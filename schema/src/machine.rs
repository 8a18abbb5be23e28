//! The machines that carry any job, and what a workflow must say to be carried by them.
//!
//! [`manager`] and [`worker`] know what is alike in all jobs: claims and releases, failures, blocking, what a person
//! orders, giving up. What is a workflow's own they ask of its implementation of [`manager::Machine`] and
//! [`worker::Machine`].

pub mod manager;
pub mod worker;
