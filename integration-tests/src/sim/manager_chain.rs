//! A simulated manager's driver: asks the simulated chain what production decides to ask, and stores what it decides.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use sealbus_manager::{
    chain::exit::ExitCode,
    drive::decide::{self, Ask, Followed, Now, Refusal, Seen, Wanted, Watched},
    store::{Job, Message, MessageKind, MessageState, Signed, Tries},
};
use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, Invariant, SectorId, codec,
    workflows::{
        self, Input,
        seal::manager::{Answer, PreCommitted, State},
    },
};

use super::{
    bug::Bug,
    chain::{self, CONFIDENCE, Does, SimMessage},
    db::{Over, Row},
    manager::Task,
    rng::bytes,
    world::World,
};

/// After how many epochs a message that is not seen is pushed again.
const REPUSH: i64 = 10;

/// One round over everything.
pub struct Driving {
    now: Now,
    sectors: VecDeque<Job>,
    /// Read when the sectors are done.
    messages: Option<VecDeque<Message>>,
}

/// What a round stores next, in one transaction.
#[derive(Debug)]
pub enum Apply {
    Input { sector: SectorId, input: Input },
    Landed { kind: MessageKind, sector: SectorId, input: Input },
    GiveUp { key: String, sector: SectorId, input: Option<Input> },
    Signed { message: Message, then: Box<Job>, nonce: u64, signed: Signed },
    Pushed { key: String, epoch: i64 },
    End { key: String, over: Over },
    Again { key: String, over: Over, tries: Tries },
    Withdraw { key: String },
    Fill { sector: SectorId, nonce: u64 },
    Refused { key: String, since: Option<i64> },
    Lost { sector: SectorId },
    Nothing,
}

impl World {
    /// A round begins, unless one goes on.
    pub fn tick(&mut self, m: usize) {
        if self.managers[m].driving.is_some() || self.faulty(self.faults.node) {
            return;
        }
        self.chain.grow(self.now, if self.now < self.faults.end { self.faults.mempool } else { 0 }, &mut self.rng);
        let head = self.chain.head();
        let now =
            Now { head, lagged: head - CONFIDENCE, rules: self.chain.rules, epoch_millis: self.chain.epoch_millis };
        let sectors = self.db.sectors.values().filter(|sector| !sector.state.is_terminal()).cloned().collect();
        self.managers[m].driving = Some(Driving { now, sectors, messages: None });
        self.drive_next(m);
    }

    /// The next sector or message of a round.
    pub fn drive_next(&mut self, m: usize) {
        let Some(driving) = &mut self.managers[m].driving else { return };
        let now = driving.now;
        if let Some(sector) = driving.sectors.pop_front() {
            let apply = match decide::ask(&sector) {
                Some(_) if self.faulty(self.faults.node) => return self.managers[m].driving = None,
                Some(ask) => self.look(&now, &sector, ask),
                None => Apply::Nothing,
            };
            return self.apply_in(m, apply);
        }
        let open = || {
            let open = self.db.messages.values().filter(|row| row.over.is_none());
            let mut open: Vec<_> = open.map(|row| (row.nonce, row.message.clone())).collect();
            open.sort_by(|(a, x), (b, y)| (a, &x.key).cmp(&(b, &y.key)));
            open.into_iter().map(|(_, message)| message).collect::<VecDeque<_>>()
        };
        let message = driving.messages.get_or_insert_with(open).pop_front();
        match message {
            Some(_) if self.faulty(self.faults.node) => self.managers[m].driving = None,
            Some(message) => self.drive_message(m, &now, message),
            None => self.managers[m].driving = None,
        }
    }

    fn apply_in(&mut self, m: usize, apply: Apply) {
        match apply {
            Apply::Nothing => self.manager_in(m, 0, Task::Step),
            apply => {
                let delay = self.rng.range(1, 200);
                self.manager_in(m, delay, Task::Apply(Rc::new(RefCell::new(Some(apply)))));
            }
        }
    }

    /// What the chain and the store say about a sector.
    fn look(&mut self, now: &Now, sector: &Job, ask: Ask<'_>) -> Apply {
        let id = sector.id;
        let input = |input| Apply::Input { sector: id, input };
        let landed = |kind, found: Option<Input>| match found {
            Some(input) => Apply::Landed { kind, sector: id, input },
            None => Apply::Nothing,
        };
        let in_time = sector.state.seal().and_then(State::precommitted).is_some_and(|known| !now.has_run_out(known));
        if in_time && self.is_lost(now, id) {
            return Apply::Lost { sector: id };
        }
        match ask {
            Ask::Ticket { draw } => input(now.ticket(draw, bytes(&[5, now.ticket_epoch() as u64]))),
            Ask::PreCommit(sealed) => {
                let found = self.chain.find_precommit(id, &sealed.comm_r.0, now.lagged);
                landed(MessageKind::PreCommit, now.precommit_found(sector, sealed, found))
            }
            Ask::Active(proven) => {
                let comm_r = &proven.seeded.stored.precommitted.sealed.comm_r.0;
                let found = self.chain.find_active(id, comm_r, now.lagged);
                let precommit = self.chain.find_precommit(id, comm_r, now.lagged);
                if found.is_none() && precommit.is_none() {
                    self.push_landed(now, id);
                }
                landed(MessageKind::ProveCommit, now.sector_found(proven, found, precommit))
            }
            Ask::Watch(known) => self.watch_precommit(now, id, known).map_or(Apply::Nothing, input),
            Ask::Seed(stored) if now.lagged < now.seed_epoch(stored) => Apply::Nothing,
            Ask::Seed(stored) => match self.stands(now, id, &stored.precommitted) {
                Ok(()) => input(now.seed(stored, chain::beacon(now.seed_epoch(stored)))),
                Err(other) => other.map_or(Apply::Nothing, input),
            },
            Ask::Files(stored) => match self.stands(now, id, &stored.precommitted) {
                Ok(()) if self.checks.store.get(&id) == Some(&stored.precommitted.sealed.comm_r.0) => {
                    input(Input::from(Answer::FilesChecked))
                }
                Ok(()) => input(refused(ErrorCode::FILES_UNPROVABLE)),
                Err(other) => other.map_or(Apply::Nothing, input),
            },
            Ask::Proof(proven) => match self.stands(now, id, &proven.seeded.stored.precommitted) {
                Ok(()) => {
                    let comm_r = &proven.seeded.stored.precommitted.sealed.comm_r.0;
                    let right = chain::proof(id, comm_r, &proven.seeded.seed.randomness.0) == proven.proof.0;
                    input(if right { Input::from(Answer::ProofVerified) } else { refused(ErrorCode::PROOF_INVALID) })
                }
                Err(other) => other.map_or(Apply::Nothing, input),
            },
        }
    }

    fn watch_precommit(&mut self, now: &Now, id: SectorId, known: &PreCommitted) -> Option<Input> {
        self.stands(now, id, known).err().flatten()
    }

    fn stands(&mut self, now: &Now, id: SectorId, known: &PreCommitted) -> Result<(), Option<Input>> {
        match now.watch(known, self.chain.find_precommit(id, &known.sealed.comm_r.0, now.lagged)) {
            Watched::Same => Ok(()),
            Watched::Changed(input) => Err(Some(input)),
            Watched::Missing => {
                self.push_landed(now, id);
                Err(None)
            }
        }
    }

    /// Pushes a sector's PreCommit again that had landed and is not on chain any more, behind whatever is missing before it.
    fn push_landed(&mut self, now: &Now, id: SectorId) {
        let landed = |row: &&Row| {
            row.over == Some(Over::Landed) && row.message.sector == id && row.message.kind == MessageKind::PreCommit
        };
        let nonces: Vec<_> = self.db.messages.values().filter(landed).filter_map(|row| row.nonce).collect();
        for nonce in nonces {
            self.push_between(self.chain.nonce(now.lagged), nonce + 1);
        }
    }

    /// Whether a sector's PreCommit had landed, is not on chain, and its nonce is used by something else.
    fn is_lost(&self, now: &Now, id: SectorId) -> bool {
        let landed = |row: &&Row| {
            row.over == Some(Over::Landed) && row.message.sector == id && row.message.kind == MessageKind::PreCommit
        };
        let mut landed = self.db.messages.values().filter(landed).filter_map(|row| row.nonce).peekable();
        landed.peek().is_some()
            && landed.all(|nonce| nonce < self.chain.nonce(now.lagged))
            && self.chain.precommit(id, now.lagged).is_none()
    }

    /// Pushes again whatever is over and leaves a gap before a nonce.
    fn push_between(&mut self, from: u64, to: u64) {
        let executed = |row: &&Row| {
            matches!(row.over, Some(Over::Landed | Over::Failed))
                && row.nonce.is_some_and(|nonce| (from..to).contains(&nonce))
        };
        let sent: Vec<_> = self.db.messages.values().filter(executed).filter_map(Row::sent).collect();
        for sent in sent {
            // What the pool does not take now is pushed at the next look.
            let _ = self.chain.push(sent);
        }
    }

    fn drive_message(&mut self, m: usize, now: &Now, message: Message) {
        let sector = self.db.sectors.get(&message.sector).cloned();
        match &message.state {
            MessageState::Wanted => {
                let apply = sector.map_or(Apply::Nothing, |sector| self.sign(now, message, sector));
                self.apply_in(m, apply);
            }
            MessageState::Signed(_) if self.options.bug == Some(Bug::SignAgain) => {
                let apply = sector.map_or(Apply::Nothing, |sector| self.sign(now, message, sector));
                self.apply_in(m, apply);
            }
            MessageState::Signed(_) | MessageState::Pushed { .. }
                if message.kind != MessageKind::Filler
                    && sector.as_ref().is_some_and(|sector| decide::unwanted(&message, sector)) =>
            {
                self.apply_in(m, Apply::Withdraw { key: message.key });
            }
            MessageState::Signed(_) => self.manager_in(m, 5, Task::Push(message.key)),
            MessageState::Pushed { signed, epoch } => {
                let Ok(sent) = codec::decode::<SimMessage>(&signed.bytes) else { return };
                let seen = match self.chain.search(&sent, now.lagged) {
                    Some((height, exit)) => Seen::Executed { height, exit, gas_limit: 1 },
                    None => {
                        self.push_between(self.chain.nonce(now.lagged), sent.nonce);
                        Seen::Absent { nonce_used: self.chain.nonce(now.lagged) > sent.nonce }
                    }
                };
                let missing = self.chain.missing();
                if seen == (Seen::Absent { nonce_used: false })
                    && now.head - epoch >= REPUSH
                    && missing < sent.nonce
                    && !self.db.has_nonce(missing)
                {
                    return self.apply_in(m, Apply::Fill { sector: message.sector, nonce: missing });
                }
                let key = message.key.clone();
                match now.followed(&message, sector.as_ref(), *epoch, REPUSH, seen, "a message") {
                    Followed::Wait => self.apply_in(m, Apply::Nothing),
                    Followed::Push => self.manager_in(m, 5, Task::Push(key)),
                    Followed::Landed { .. } => self.apply_in(m, Apply::End { key, over: Over::Landed }),
                    Followed::Replaced { .. } => self.apply_in(m, Apply::End { key, over: Over::Replaced }),
                    Followed::Again { exit, tries, .. } => {
                        let over = if exit.is_some() { Over::Failed } else { Over::Replaced };
                        self.apply_in(m, Apply::Again { key, over, tries });
                    }
                    Followed::GiveUp { error, .. } => {
                        let input = Some(Input::Refused(error));
                        self.apply_in(m, Apply::GiveUp { key, sector: message.sector, input });
                    }
                }
            }
            MessageState::Withdrawn(signed) => {
                let Ok(sent) = codec::decode::<SimMessage>(&signed.bytes) else { return };
                let key = message.key;
                let apply = match self.chain.search(&sent, now.lagged) {
                    _ if self.chain.nonce(now.lagged) <= sent.nonce => Apply::Nothing,
                    Some((_, exit)) if exit.is_ok() => Apply::End { key, over: Over::Landed },
                    Some(_) => Apply::End { key, over: Over::Failed },
                    None => Apply::End { key, over: Over::Replaced },
                };
                self.apply_in(m, apply);
            }
            // Fillers are signed at once here.
            MessageState::Reserved { .. } => self.apply_in(m, Apply::Nothing),
        }
    }

    fn sign(&mut self, now: &Now, message: Message, sector: Job) -> Apply {
        let (key, id) = (message.key.clone(), sector.id);
        let wanted = now.wanted(&message, &sector);
        if matches!(wanted, Wanted::Sign | Wanted::GiveUp(_)) && self.db.has_earlier(&message) {
            return Apply::Nothing;
        }
        match wanted {
            Wanted::Sign => {}
            Wanted::Wait => return Apply::Nothing,
            Wanted::Over => return Apply::GiveUp { key, sector: id, input: None },
            Wanted::GiveUp(error) => {
                return Apply::GiveUp { key, sector: id, input: Some(Input::from(Answer::Expired(error))) };
            }
        }
        let Some(state) = sector.state.seal().filter(|_| sector.blocked.is_none()) else { return Apply::Nothing };
        let does = match (state, message.kind) {
            (state, MessageKind::PreCommit) => match state.sealed() {
                Some(sealed) => Does::PreCommit { comm_r: sealed.comm_r.0, ticket_epoch: sealed.ticket.epoch },
                None => return Apply::Nothing,
            },
            (State::ProveCommitting(proven), MessageKind::ProveCommit) => {
                self.check_proof(&sector);
                let known = &proven.seeded.stored.precommitted;
                let stands = self.chain.find_precommit(id, &known.sealed.comm_r.0, now.head);
                if stands.is_none_or(|found| found.epoch != known.precommit.epoch) {
                    return Apply::Nothing;
                }
                Does::ProveCommit { proof: proven.proof.0.clone() }
            }
            _ => return Apply::Nothing,
        };
        let nonce = self.chain.next_nonce().max(self.db.next_nonce());
        let unsigned = SimMessage { nonce, sector: id, does };
        let exit = self.chain.try_at(&unsigned, now.head + 1);
        if !exit.is_ok() {
            if exit == ExitCode::Forbidden {
                // Not now.
                return Apply::Nothing;
            }
            return match now.refused(&message.tries, exit) {
                Refusal::ForNow { since, .. } => Apply::Refused { key, since: Some(since) },
                Refusal::Final => {
                    Apply::GiveUp { key, sector: id, input: Some(refused(decide::refusal(message.kind))) }
                }
            };
        }
        let Ok(bytes) = codec::encode(&unsigned) else { return Apply::Nothing };
        let signed = Signed { cid: format!("{nonce}"), bytes, epoch: Some(now.head) };
        Apply::Signed { message, then: Box::new(sector), nonce, signed }
    }

    /// One transaction of a round.
    pub fn drive_apply(&mut self, m: usize, apply: Apply) {
        if !self.begin(m) {
            return;
        }
        match apply {
            Apply::Input { sector, input } => self.apply(m, sector, input),
            Apply::Landed { kind, sector, input } => {
                if let Input::Answer(workflows::Answer::Seal(Answer::PreCommitLanded(_) | Answer::ProveLanded { .. })) =
                    input
                {
                    self.db.mark_landed(kind, sector);
                }
                self.apply(m, sector, input);
            }
            Apply::GiveUp { key, sector, input } => {
                self.db.mark_failed(&key);
                if let Some(input) = input {
                    self.apply(m, sector, input);
                }
            }
            Apply::Signed { message, then, nonce, signed } => {
                let fresh = self.options.bug == Some(Bug::SignAgain) || message.state == MessageState::Wanted;
                if fresh && decide::still_wanted(&then, self.db.sectors.get(&message.sector)) {
                    let id = message.sector;
                    self.trace(|| format!("m{m} signs {} with nonce {nonce}", message.key));
                    self.checks.signed.entry(message.key.clone()).or_insert_with(|| signed.bytes.clone());
                    self.db.save_signed(&message.key, nonce, signed);
                    debug_assert_eq!(then.id, id);
                    return self.manager_in(m, 5, Task::Push(message.key));
                }
            }
            Apply::Pushed { key, epoch } => self.db.mark_pushed(&key, epoch),
            Apply::End { key, over } => self.db.end(&key, over),
            Apply::Again { key, over, tries } => {
                self.trace(|| format!("m{m} wants another message after {key}"));
                self.db.want_another(&key, over, tries);
            }
            Apply::Withdraw { key } => {
                self.trace(|| format!("m{m} withdraws {key}"));
                self.db.withdraw(&key);
            }
            Apply::Fill { sector, nonce } => {
                self.trace(|| format!("m{m} fills nonce {nonce}"));
                self.db.fill(sector, nonce);
            }
            Apply::Lost { sector } => {
                self.trace(|| format!("m{m} wants another PreCommit of {sector}"));
                self.db.want_precommit_again(sector);
            }
            Apply::Refused { key, since } => self.db.note_refusal(&key, since),
            Apply::Nothing => {}
        }
        self.manager_in(m, 0, Task::Step);
    }

    /// Pushes a message's bytes. The node may take them and not say so.
    pub fn drive_push(&mut self, m: usize, key: &str) {
        let Some(row) = self.db.messages.get(key) else { return };
        let (MessageState::Signed(signed) | MessageState::Pushed { signed, .. }) = row.message.state.clone() else {
            return self.manager_in(m, 0, Task::Step);
        };
        if row.message.kind != MessageKind::Filler && self.checks.signed.get(key) != Some(&signed.bytes) {
            let what = format!("{key} has other bytes than those that were signed first");
            self.break_invariant(Invariant::SameBytesForOnePurpose, || what);
        }
        if self.faulty(self.faults.node) {
            return self.managers[m].driving = None;
        }
        if let Ok(message) = codec::decode::<SimMessage>(&signed.bytes)
            && !self.chain.push(message)
        {
            return self.apply_in(m, Apply::Nothing);
        }
        if self.faulty(self.faults.node) {
            return self.managers[m].driving = None;
        }
        let Some(epoch) = self.managers[m].driving.as_ref().map(|driving| driving.now.head) else { return };
        self.apply_in(m, Apply::Pushed { key: key.to_owned(), epoch });
    }

    fn check_proof(&mut self, sector: &Job) {
        let Some(State::ProveCommitting(proven)) = sector.state.seal() else { return };
        let comm_r = &proven.seeded.stored.precommitted.sealed.comm_r.0;
        if chain::proof(sector.id, comm_r, &proven.seeded.seed.randomness.0) != proven.proof.0 {
            let what = format!("{} is to be proven with a proof for another seed", sector.id);
            self.break_invariant(Invariant::ProofForTheSeed, || what);
        }
    }
}

fn refused(code: ErrorCode) -> Input {
    Input::Refused(ErrorReport::new(ErrorClass::Perm, code, "as the rules say"))
}
