//! The rows of wants and calls, and how the driver sees them.

use sealbus_manager::store::{CallId, Message, MessageKind, MessageState, Place, Ready, Signed, Tries, filler_key};
use sealbus_schema::{SectorId, codec};

use crate::sim::chain::SimMessage;

/// The only sender.
const SENDER: &str = "t3";

/// What is wanted for a sector.
#[derive(Clone, Debug)]
pub struct Want {
    /// As the driver sees it, apart from its call.
    pub message: Message,
    /// Its state.
    pub state: WantState,
    /// The call that carries it, or did last.
    pub call: Option<CallId>,
}

/// The state of a want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WantState {
    /// It has no call yet.
    Wanted,
    /// A call carries it.
    Called,
    /// Its call is withdrawn.
    Withdrawn,
    /// It had its effect.
    Landed,
    /// It ended without its effect.
    Failed,
}

/// A signed message, or a filler.
#[derive(Clone, Debug)]
pub struct Call {
    /// What it is for.
    pub kind: MessageKind,
    /// Its nonce.
    pub nonce: u64,
    /// The names of what it carries, in the order of its parts.
    pub wants: Vec<String>,
    /// What was signed.
    pub signed: Signed,
    /// Its state.
    pub state: CallState,
    /// The sector for whose sake it is a filler.
    pub sector: SectorId,
    /// Whether it was seen on chain.
    pub landed: bool,
}

/// The state of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallState {
    /// It is unknown whether a node has it.
    Signed,
    /// A node accepted it, at this epoch.
    Pushed(i64),
    /// It is no longer wanted.
    Withdrawn,
    /// It was executed with success.
    Landed,
    /// It was executed without success.
    Failed,
    /// Something else has used its nonce.
    Replaced,
}

impl Want {
    /// Whether it has not ended.
    pub fn is_open(&self) -> bool {
        matches!(self.state, WantState::Wanted | WantState::Called | WantState::Withdrawn)
    }

    /// Whether it is of this kind and sector.
    pub fn is_of(&self, sector: SectorId, kind: MessageKind) -> bool {
        (self.message.sector, self.message.kind) == (Some(sector), kind)
    }
}

impl Call {
    /// Whether it is pushed: it has not ended, and is not withdrawn.
    pub fn is_followed(&self) -> bool {
        matches!(self.state, CallState::Signed | CallState::Pushed(_))
    }

    /// Whether it has not ended.
    pub fn is_open(&self) -> bool {
        self.message_state().is_some()
    }

    /// Its state, as the driver sees it. `None` if it has ended.
    pub fn message_state(&self) -> Option<MessageState> {
        let signed = self.signed.clone();
        match self.state {
            CallState::Signed => Some(MessageState::Signed(signed)),
            CallState::Pushed(epoch) => Some(MessageState::Pushed { signed, epoch }),
            CallState::Withdrawn => Some(MessageState::Withdrawn(signed)),
            CallState::Landed | CallState::Failed | CallState::Replaced => None,
        }
    }

    /// A filler that has not ended, with its nonce.
    pub fn filler(&self) -> Option<(Option<u64>, Message)> {
        let key = filler_key(SENDER, self.nonce);
        Some((Some(self.nonce), message(key, MessageKind::Filler, self.sector, self.message_state()?)))
    }

    /// The signed message.
    pub fn sent(&self) -> Option<SimMessage> {
        codec::decode(&self.signed.bytes).ok()
    }
}

/// A message of a sector's first attempt, alone in its call.
pub fn message(key: String, kind: MessageKind, sector: SectorId, state: MessageState) -> Message {
    Message {
        key,
        want: None,
        errand: None,
        is_of_last_job: true,
        attempt: 1,
        kind,
        miner: sector.miner,
        sector: Some(sector),
        state,
        place: Place::default(),
        ready: Ready::default(),
        tries: Tries::default(),
    }
}
