//! The shared language of Sealbus: identifiers, messages, error classes and the state machines of a sector's life.
//!
//! This crate is pure. It has no async runtime, no socket, no clock and no randomness. Whatever depends on those enters
//! as an argument, and whatever must happen outside is returned as an effect. The manager, the worker and the tests run
//! exactly this code.
//!
//! Read in this order: [`id`] and [`proof`] for identifiers and sizes, [`phase`] and [`error`] for computations and
//! failures, [`message`] for the messages on the bus, [`lease`] for who owns a sector, [`post`] for proofs of spacetime. Then [`workflow`] for the list
//! of workflows, [`machine`] for what they share, and the folders of [`workflows`] for the rest. [`text`] is separate:
//! it sanitises text from elsewhere before people see it.

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
pub mod post;
pub mod proof;
pub mod text;
pub mod transition;
pub mod workflow;
pub mod workflows;

pub use bytes::{Commitment, ProofBytes, Randomness};
pub use error::{ErrorClass, ErrorCode, ErrorReport};
pub use id::{MinerId, SectorId, SectorNumber, Token, WorkerName};
pub use invariant::{Invariant, Violation};
pub use phase::Phase;
pub use proof::{SealProof, SectorSize};
pub use transition::Transition;
pub use workflow::{IntentKind, Workflow};

/// The version of the programs. `make release` sets one that names the commit.
pub const VERSION: &str = match option_env!("SEALBUS_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};
