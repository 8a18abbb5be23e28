//! The shared language of Sealbus: identifiers, messages, error classes and the machines of a sector's life.
//!
//! This crate is pure. It has no async runtime, no socket, no clock and no randomness; whatever depends on those
//! enters as an argument, and whatever must happen outside leaves as an effect. The manager, the worker and the tests
//! run exactly this code.
//!
//! Read in this order: [`id`] and [`proof`] for the nouns, [`phase`] and [`error`] for what can go on and go wrong,
//! [`message`] for what travels on the bus, [`lease`] for who owns a sector. Then [`workflow`] for the list of what can be
//! done with one, [`machine`] for what is alike in all of it, and a folder of [`workflows`] for what is not. [`text`]
//! stands apart: what both programs do to words from elsewhere before people see them.

pub mod bytes;
pub mod codec;
pub mod error;
pub mod id;
pub mod identity;
pub mod invariant;
pub mod lease;
pub mod machine;
pub mod message;
pub mod parts;
pub mod phase;
pub mod proof;
pub mod text;
pub mod transition;
pub mod workflow;
pub mod workflows;

pub use bytes::{Commitment, ProofBytes, Randomness};
pub use error::{ErrorClass, ErrorCode, ErrorReport};
pub use id::{MinerId, SectorId, SectorNumber, Token, WorkerName};
pub use invariant::Invariant;
pub use phase::Phase;
pub use proof::{SealProof, SectorSize};
pub use transition::Transition;
pub use workflow::{IntentKind, Workflow};
