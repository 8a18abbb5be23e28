//! What the two sides of the toy tell each other.

use serde::{Deserialize, Serialize};

use crate::{bytes::Commitment, identity::KnownStore, message::FactKind, parts::Ticket};

/// What a worker reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The data is staged: draw a ticket now.
    ToyStaged {},
    /// Tree D stands.
    ToyBuilt {
        /// The data's commitment.
        comm_d: Commitment,
    },
}

/// What the manager answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fact {
    /// The ticket.
    ToyTicket {
        /// The ticket.
        ticket: Ticket,
    },
}

impl Event {
    /// Every kind.
    pub const KINDS: &'static [&'static str] = &["toy_staged", "toy_built"];

    /// What the history keeps in the place of a large event. None is large.
    pub const fn brief(&self) -> Option<serde_json::Value> {
        None
    }

    /// The event's name.
    pub const fn kind(&self) -> &'static str {
        match self {
            Event::ToyStaged {} => "toy_staged",
            Event::ToyBuilt { .. } => "toy_built",
        }
    }
}

impl Fact {
    /// The ticket.
    pub const TOY_TICKET: FactKind = FactKind("toy_ticket");

    /// Every kind.
    pub const KINDS: &'static [FactKind] = &[Fact::TOY_TICKET];

    /// The fact's kind.
    pub const fn kind(&self) -> FactKind {
        match self {
            Fact::ToyTicket { .. } => Fact::TOY_TICKET,
        }
    }

    /// Adds which permanent stores are known. The toy writes into none.
    pub const fn note_stores(&mut self, _known: &[KnownStore]) {}

    /// Whether an order to resubmit leaves it in force.
    pub const fn outlives_resubmit(&self) -> bool {
        false
    }
}
