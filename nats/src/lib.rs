//! Sealbus on NATS JetStream: which streams there are, what may be written to them, and how a sector is claimed.
//!
//! Read in this order: [`topology`] for the streams and consumers, [`subject`] for what a subject means, [`publish`]
//! for the outcomes of a publish, [`lease`] for the claim and its fence. [`intents`], [`events`], [`facts`], [`log`],
//! [`heartbeats`] and [`post`] are one flow each. [`connect`] makes the connection, with the [`identity`] that its file holds at
//! that moment. [`secret`], [`patience`], [`stderr`] and [`metrics`] do not concern NATS; they are here because both
//! programs need them.
//!
//! Deliberately absent: key-value buckets (any writer of one key can wipe the bucket with a roll-up header), a consumer
//! per worker (one shared consumer per queue scales), and any expiry of ownership by a clock.

pub mod clock;
pub mod connect;
pub mod events;
pub mod facts;
pub mod heartbeats;
pub mod identity;
pub mod intents;
pub mod lease;
pub mod log;
pub mod metrics;
pub mod orders;
pub mod patience;
pub mod post;
pub mod publish;
pub mod secret;
pub mod stderr;
pub mod subject;
pub mod topology;

pub use connect::{Bus, ConnectError, Connection, NotThere};
pub use patience::Patience;
