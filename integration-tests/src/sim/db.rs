//! The simulated database: the data of the manager's store, with each transaction as one step.

use std::collections::BTreeMap;

use sealbus_manager::store::{
    CallId, Job, Message, MessageKind, MessageState, Outcome, Outgoing, Place, Ready, Signed, Tries, WantId, filler_key,
};
use sealbus_schema::{SealProof, SectorId, Workflow, codec, lease::Ownership, workflows::State};

use super::chain::{Does, SimMessage};

/// The tables.
#[derive(Debug, Default)]
pub struct Db {
    /// Every sector.
    pub sectors: BTreeMap<SectorId, Job>,
    /// The records to publish.
    pub outbox: BTreeMap<i64, (SectorId, Outgoing)>,
    /// Every want with its call, and every filler, by its name.
    pub messages: BTreeMap<String, Row>,
    /// The stream that is folded.
    pub stream: u64,
    /// The last sequence that is folded.
    pub last_sequence: u64,
    /// The epoch of the manager that holds the fold.
    pub epoch: i64,
    /// Whether another want is stored for a purpose that has one: a planted mistake.
    pub wants_again: bool,
    rows: i64,
}

/// A want with its call, or a filler.
#[derive(Clone, Debug)]
pub struct Row {
    /// As the driver sees it.
    pub message: Message,
    /// The nonce of its call, once there is one.
    pub nonce: Option<u64>,
    /// How it ended.
    pub over: Option<Over>,
}

/// How a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// With its effect.
    Landed,
    /// Without its effect.
    Failed,
    /// Another message has used its nonce.
    Replaced,
}

/// The only sender.
const SENDER: &str = "t3";

impl Db {
    /// Gives out a number and begins a job of its sector.
    pub fn insert_sector(&mut self, id: SectorId, workflow: Workflow) -> Job {
        let sector = Job {
            id,
            proof: SealProof::StackedDrg2KiBV1_1,
            attempt: 1,
            issues: 1,
            resubmits: 0,
            signed: false,
            created_at: String::new(),
            changed_at: String::new(),
            ownership: Ownership::Free { last_lease: 0 },
            leased_at: None,
            state: State::start(workflow),
            blocked: None,
        };
        self.sectors.insert(id, sector.clone());
        sector
    }

    /// Stores an outcome.
    pub fn store(&mut self, outcome: Outcome) {
        if outcome.history.is_empty() {
            return;
        }
        let id = outcome.sector.id;
        for outgoing in outcome.outbox {
            self.add_to_outbox(id, outgoing);
        }
        for wanted in outcome.messages {
            let _ = self.want(id, wanted.kind, wanted.attempt);
        }
        self.sectors.insert(id, outcome.sector);
    }

    /// Begins the fold of a new stream, as production's `Tx::restart_fold` does.
    pub fn restart_fold(&mut self, stream: u64, before: u64, outcomes: Vec<Outcome>) {
        self.outbox.clear();
        for sector in self.sectors.values_mut() {
            match &mut sector.ownership {
                ownership if sector.state.is_terminal() => *ownership = Ownership::Free { last_lease: 0 },
                Ownership::Free { last_lease } | Ownership::Held { last_lease, .. } => *last_lease = 0,
            }
        }
        (self.stream, self.last_sequence) = (stream, before);
        self.epoch += 1;
        for mut outcome in outcomes {
            if matches!(outcome.sector.ownership, Ownership::Free { .. }) {
                let reason = "the queue was lost".to_owned();
                outcome.outbox.push(Outgoing::Release { lease_sequence: 0, reason });
            }
            self.store(outcome);
        }
    }

    /// The number of the outbox's next row.
    pub fn next_row(&self) -> u64 {
        self.rows as u64 + 1
    }

    /// Adds a row to the outbox.
    pub fn add_to_outbox(&mut self, id: SectorId, outgoing: Outgoing) {
        self.rows += 1;
        self.outbox.insert(self.rows, (id, outgoing));
    }

    /// Records that a message is wanted. If there is one already, another is wanted only if all earlier ones have failed
    /// or are withdrawn.
    fn want(&mut self, sector: SectorId, kind: MessageKind, attempt: u32) -> Option<&mut Row> {
        let of_purpose = self
            .messages
            .values()
            .filter(|row| (row.message.sector, row.message.kind, row.message.attempt) == (Some(sector), kind, attempt));
        let in_vain = |row: &Row| {
            matches!(row.over, Some(Over::Failed | Over::Replaced))
                || matches!(row.message.state, MessageState::Withdrawn(_)) && row.over.is_none()
        };
        if !self.wants_again && !of_purpose.clone().all(in_vain) {
            return None;
        }
        let key = kind.key(sector, attempt, of_purpose.count() as u32 + 1);
        let (want, state) = (Some(WantId(self.messages.len() as i64)), MessageState::Wanted);
        let message = message(key.clone(), kind, sector, state);
        let message = Message { want, attempt, ..message };
        Some(self.messages.entry(key).or_insert(Row { message, nonce: None, over: None }))
    }

    /// Records that a message has ended without its effect, and that another one of the same purpose is wanted.
    pub fn want_another(&mut self, key: &str, over: Over, tries: Tries) {
        self.end(key, over);
        let Some(Row { message, .. }) = self.messages.get(key).cloned() else { return };
        if let Some(sector) = message.sector
            && let Some(row) = self.want(sector, message.kind, message.attempt)
        {
            row.message.tries = tries;
        }
    }

    /// Records that a landed PreCommit has vanished for good, and that another one is wanted.
    pub fn want_precommit_again(&mut self, sector: SectorId) {
        let Some(attempt) = self.sectors.get(&sector).map(|sector| sector.attempt) else { return };
        for row in self.messages.values_mut() {
            let of_sector = (row.message.kind, row.message.sector) == (MessageKind::PreCommit, Some(sector));
            if of_sector && row.over == Some(Over::Landed) {
                row.over = Some(Over::Replaced);
            }
        }
        let _ = self.want(sector, MessageKind::PreCommit, attempt);
    }

    /// Whether an earlier message of the same purpose may still land.
    pub fn has_earlier(&self, message: &Message) -> bool {
        self.messages.values().any(|row| {
            (row.message.kind, row.message.sector) == (message.kind, message.sector)
                && row.message.key != message.key
                && row.over.is_none()
                && row.nonce.is_some()
        })
    }

    /// Records that a signed message is no longer wanted.
    pub fn withdraw(&mut self, key: &str) {
        let Some(row) = self.messages.get_mut(key).filter(|row| row.over.is_none()) else { return };
        if let MessageState::Signed(signed) | MessageState::Pushed { signed, .. } = row.message.state.clone() {
            row.message.state = MessageState::Withdrawn(signed);
            let (sector, nonce) = (row.message.sector, row.nonce.unwrap_or_default());
            if let Some(sector) = sector {
                self.fill(sector, nonce);
            }
        }
    }

    /// Records that a filler is wanted for a nonce.
    pub fn fill(&mut self, sector: SectorId, nonce: u64) {
        let key = filler_key(SENDER, nonce);
        if let Some(row) = self.messages.get_mut(&key) {
            if row.over == Some(Over::Replaced) {
                row.over = None;
            }
            return;
        }
        let filler = SimMessage { nonce, sector, does: Does::Nothing };
        let Ok(bytes) = codec::encode(&filler) else { return };
        let (call, cid) = (CallId(self.messages.len() as i64), format!("{nonce}"));
        let state = MessageState::Signed(Signed { call, cid, bytes, epoch: None });
        let message = message(key.clone(), MessageKind::Filler, sector, state);
        self.messages.insert(key, Row { message, nonce: Some(nonce), over: None });
    }

    /// Whether a message that has not ended, or one that is being pushed again, has this nonce.
    pub fn has_nonce(&self, nonce: u64) -> bool {
        self.messages.values().any(|row| row.nonce == Some(nonce) && !matches!(row.over, Some(Over::Replaced)))
    }

    /// The nonce after the highest signed one.
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

    /// Records that a node accepted a message.
    pub fn mark_pushed(&mut self, key: &str, epoch: i64) {
        let Some(row) = self.messages.get_mut(key).filter(|row| row.over.is_none()) else { return };
        if let MessageState::Signed(signed) | MessageState::Pushed { signed, .. } = row.message.state.clone() {
            row.message.state = MessageState::Pushed { signed, epoch };
        }
    }

    /// Records that the effect of a sector's messages of this kind is on chain.
    pub fn mark_landed(&mut self, kind: MessageKind, sector: SectorId) {
        for row in self.messages.values_mut() {
            let withdrawn = matches!(row.message.state, MessageState::Withdrawn(_));
            if row.message.kind == kind && row.message.sector == Some(sector) && row.over.is_none() && !withdrawn {
                let wanted = row.message.state == MessageState::Wanted;
                row.over = Some(if wanted { Over::Failed } else { Over::Landed });
            }
        }
    }

    /// Records that a message that had landed is no longer on chain.
    pub fn mark_reverted(&mut self, kind: MessageKind, sector: SectorId) {
        for row in self.messages.values_mut() {
            if row.message.kind == kind && row.message.sector == Some(sector) && row.over == Some(Over::Landed) {
                row.over = None;
            }
        }
    }

    /// Records that a message has ended without its effect.
    pub fn mark_failed(&mut self, key: &str) {
        self.end(key, Over::Failed);
    }

    /// Records a message's end.
    pub fn end(&mut self, key: &str, over: Over) {
        if let Some(row) = self.messages.get_mut(key) {
            row.over = Some(over);
            if over != Over::Landed {
                self.note_precommit(key, false);
            }
        }
    }

    /// Records since when the node refuses to estimate a message.
    pub fn note_refusal(&mut self, key: &str, since: Option<i64>) {
        if let Some(row) = self.messages.get_mut(key) {
            row.message.tries.refused_epoch = since;
        }
    }

    fn note_precommit(&mut self, key: &str, signed: bool) {
        let Some(Row { message, .. }) = self.messages.get(key) else { return };
        if message.kind == MessageKind::PreCommit
            && let Some(sector) = message.sector.and_then(|sector| self.sectors.get_mut(&sector))
            && sector.attempt == message.attempt
        {
            sector.signed = signed;
        }
    }
}

/// A message of a sector's first attempt, alone in its call.
fn message(key: String, kind: MessageKind, sector: SectorId, state: MessageState) -> Message {
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

impl Row {
    /// The signed message.
    pub fn sent(&self) -> Option<SimMessage> {
        self.message.state.signed().and_then(|signed| codec::decode(&signed.bytes).ok())
    }
}
