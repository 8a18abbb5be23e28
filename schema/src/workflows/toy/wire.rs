//! The messages between the two sides of the toy workflow.

use serde::{Deserialize, Serialize};

use crate::{
    message::{FactKind, WorkflowEvent, WorkflowFact},
    parts::Ticket,
};

/// A worker's reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The data is staged: draw a ticket now.
    ToyStaged {},
    /// The staged data is measured.
    ToyMeasured {
        /// Its length in bytes.
        bytes: u64,
    },
}

/// The manager's answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fact {
    /// The ticket.
    ToyTicket {
        /// The ticket.
        ticket: Ticket,
    },
}

impl WorkflowEvent for Event {
    const KINDS: &'static [&'static str] = &["toy_staged", "toy_measured"];

    fn kind(&self) -> &'static str {
        match self {
            Event::ToyStaged {} => "toy_staged",
            Event::ToyMeasured { .. } => "toy_measured",
        }
    }
}

impl Fact {
    /// The ticket.
    pub const TOY_TICKET: FactKind = FactKind("toy_ticket");
}

impl WorkflowFact for Fact {
    const KINDS: &'static [FactKind] = &[Fact::TOY_TICKET];

    fn kind(&self) -> FactKind {
        match self {
            Fact::ToyTicket { .. } => Fact::TOY_TICKET,
        }
    }
}
