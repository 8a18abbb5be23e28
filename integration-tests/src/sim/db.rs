//! The simulated database: what the manager's store keeps, with its transactions as single steps.

use std::collections::BTreeMap;

use sealbus_manager::store::{Message, MessageKind, MessageState, Outcome, Outgoing, Sector, Signed};
use sealbus_schema::{SealProof, SectorId, codec, lease::Ownership, seal::manager::State};

use super::chain::SimMessage;

/// The tables.
#[derive(Debug, Default)]
pub struct Db {
    /// Every sector.
    pub sectors: BTreeMap<SectorId, Sector>,
    /// What must be published.
    pub outbox: BTreeMap<i64, (SectorId, Outgoing)>,
    /// Every message, by its key.
    pub messages: BTreeMap<String, Row>,
    /// How far the log is folded.
    pub last_sequence: u64,
    /// Who holds the fold.
    pub epoch: i64,
    rows: i64,
}

/// A message to the chain.
#[derive(Clone, Debug)]
pub struct Row {
    /// As the driver sees it.
    pub message: Message,
    /// Its nonce, once signed.
    pub nonce: Option<u64>,
    /// How it ended.
    pub over: Option<Over>,
}

/// How a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// With its effect.
    Landed,
    /// Without.
    Failed,
}

impl Db {
    /// Gives out a number.
    pub fn insert_sector(&mut self, id: SectorId) -> Sector {
        let sector = Sector {
            id,
            proof: SealProof::StackedDrg2KiBV1_1,
            attempt: 1,
            issues: 1,
            resubmits: 0,
            precommit_signed: false,
            created_at: String::new(),
            changed_at: String::new(),
            ownership: Ownership::Free { last_lease: 0 },
            leased_at: None,
            state: State::Queued,
        };
        self.sectors.insert(id, sector.clone());
        sector
    }

    /// Stores what an input, or several, did to a sector.
    pub fn store(&mut self, outcome: Outcome) {
        if outcome.history.is_empty() {
            return;
        }
        let id = outcome.sector.id;
        for outgoing in outcome.outbox {
            self.add_to_outbox(id, outgoing);
        }
        for wanted in outcome.messages {
            self.want(id, wanted.kind, wanted.attempt);
        }
        self.sectors.insert(id, outcome.sector);
    }

    /// Adds a row to the outbox.
    pub fn add_to_outbox(&mut self, id: SectorId, outgoing: Outgoing) {
        self.rows += 1;
        self.outbox.insert(self.rows, (id, outgoing));
    }

    /// Records that a message is wanted: another one only where all before have failed.
    fn want(&mut self, sector: SectorId, kind: MessageKind, attempt: u32) {
        let of_purpose = self
            .messages
            .values()
            .filter(|row| (row.message.sector, row.message.kind, row.message.attempt) == (sector, kind, attempt));
        if of_purpose.clone().any(|row| row.over != Some(Over::Failed)) {
            return;
        }
        let key = kind.key(sector, attempt, of_purpose.count() as u32 + 1);
        let message = Message { key: key.clone(), attempt, kind, sector, state: MessageState::Wanted };
        self.messages.insert(key, Row { message, nonce: None, over: None });
    }

    /// The nonce after the highest that was signed.
    pub fn next_nonce(&self) -> u64 {
        self.messages.values().filter_map(|row| row.nonce).max().map_or(0, |nonce| nonce + 1)
    }

    /// Fixes a message's bytes.
    pub fn save_signed(&mut self, key: &str, nonce: u64, signed: Signed) {
        if let Some(row) = self.messages.get_mut(key) {
            row.nonce = Some(nonce);
            row.message.state = MessageState::Signed(signed);
            self.note_precommit(key, true);
        }
    }

    /// A node took a message.
    pub fn mark_pushed(&mut self, key: &str, epoch: i64) {
        let Some(row) = self.messages.get_mut(key).filter(|row| row.over.is_none()) else { return };
        if let MessageState::Signed(signed) | MessageState::Pushed { signed, .. } = row.message.state.clone() {
            row.message.state = MessageState::Pushed { signed, epoch };
        }
    }

    /// What a sector's messages of a kind are for is on chain.
    pub fn mark_landed(&mut self, kind: MessageKind, sector: SectorId) {
        for row in self.messages.values_mut() {
            if row.message.kind == kind && row.message.sector == sector && row.over.is_none() {
                let wanted = row.message.state == MessageState::Wanted;
                row.over = Some(if wanted { Over::Failed } else { Over::Landed });
            }
        }
    }

    /// A message is over without its effect.
    pub fn mark_failed(&mut self, key: &str) {
        if let Some(row) = self.messages.get_mut(key) {
            row.over = Some(Over::Failed);
            self.note_precommit(key, false);
        }
    }

    fn note_precommit(&mut self, key: &str, signed: bool) {
        let Some(Row { message, .. }) = self.messages.get(key) else { return };
        if message.kind == MessageKind::PreCommit
            && let Some(sector) = self.sectors.get_mut(&message.sector)
            && sector.attempt == message.attempt
        {
            sector.precommit_signed = signed;
        }
    }
}

impl Row {
    /// What was signed.
    pub fn sent(&self) -> Option<SimMessage> {
        match &self.message.state {
            MessageState::Wanted => None,
            MessageState::Signed(signed) | MessageState::Pushed { signed, .. } => codec::decode(&signed.bytes).ok(),
        }
    }
}
