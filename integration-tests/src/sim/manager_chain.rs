//! A simulated manager's driver: answers the questions of workflows from the simulated chain, and stores what follows.

use std::{
    cell::RefCell,
    collections::{BTreeSet, VecDeque},
    rc::Rc,
};

use sealbus_manager::{
    chain::exit::ExitCode,
    drive::decide::{self, Followed, Refusal, Seen},
    store::{CallId, Job, Message, MessageKind, MessageState, Signed, Tries},
    workflows::{self, Answer, At, Call, Known, Next, Now, Question, Wanted},
};
use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, Invariant, SectorId, codec,
    workflows::{Answer as Answered, Input, seal::manager::Answer as SealAnswer},
};

use super::{
    bug::Bug,
    chain::{self, CONFIDENCE, SimMessage},
    db::{Over, Row},
    manager::Task,
    rng::bytes,
    world::World,
};

/// A message that was not seen on chain for this many epochs is pushed again.
const REPUSH: i64 = 10;

/// A running tick.
pub struct Driving {
    now: Now,
    sectors: VecDeque<Job>,
    /// The open messages, read once all sectors are processed.
    messages: Option<VecDeque<Message>>,
}

/// What a tick stores next, in one transaction.
#[derive(Debug)]
pub enum Apply {
    Input { sector: SectorId, input: Input },
    Landed { kind: MessageKind, sector: SectorId, input: Input },
    Reverted { kind: MessageKind, then: Box<Job>, input: Input },
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
    /// Begins a tick, unless one is running.
    pub fn tick(&mut self, m: usize) {
        if self.managers[m].driving.is_some() || self.faulty(self.faults.node) {
            return;
        }
        self.chain.grow(self.now, if self.now < self.faults.end { self.faults.mempool } else { 0 }, &mut self.rng);
        let head = self.chain.head();
        let (lagged, confidence) = (head - CONFIDENCE, CONFIDENCE);
        let (rules, epoch_millis) = (self.chain.rules, self.chain.epoch_millis);
        let now = Now { head, lagged, confidence, rules, epoch_millis };
        let (forks, settled) = &mut self.managers[m].settled;
        if *forks != self.chain.forks {
            (*forks, *settled) = (self.chain.forks, BTreeSet::new());
        }
        let needs_look = |job: &&Job| match job.state.is_terminal() {
            true => self.options.bug != Some(Bug::ForgetActive) && job.is_done() && !settled.contains(&job.id),
            false => true,
        };
        let sectors = self.db.sectors.values().filter(needs_look).cloned().collect();
        self.managers[m].driving = Some(Driving { now, sectors, messages: None });
        self.drive_next(m);
    }

    /// Processes the next sector or message of a tick.
    pub fn drive_next(&mut self, m: usize) {
        let Some(driving) = &mut self.managers[m].driving else { return };
        let now = driving.now;
        if let Some(sector) = driving.sectors.pop_front() {
            let apply = match workflows::needs(&sector).is_some() || sector.is_done() {
                true if self.faulty(self.faults.node) => return self.managers[m].driving = None,
                true => {
                    let apply = self.look(&now, &sector);
                    if sector.state.is_terminal() && matches!(apply, Apply::Nothing) {
                        self.managers[m].settled.1.insert(sector.id);
                    }
                    apply
                }
                false => Apply::Nothing,
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

    /// What follows for a sector from the chain and the stores.
    fn look(&mut self, now: &Now, job: &Job) -> Apply {
        let sector = job.id;
        match self.consult(now, job, |known| workflows::next(job, now, known)) {
            Next::Wait { .. } => Apply::Nothing,
            Next::Apply(input)
                if self.options.bug == Some(Bug::KeepSeed)
                    && matches!(&input, Input::Answer(Answered::Seal(SealAnswer::PreCommitMoved(_)))) =>
            {
                Apply::Nothing
            }
            Next::Apply(input) => Apply::Input { sector, input },
            Next::Landed { kind, input, .. } => Apply::Landed { kind, sector, input },
            Next::Reverted { kind, input } => Apply::Reverted { kind, then: Box::new(job.clone()), input },
            Next::GiveUp(cause) => Apply::Input { sector, input: Input::Abandoned { cause, lose_deposit: false } },
            Next::PushPreCommitAgain if self.is_lost(now, sector) => Apply::Lost { sector },
            Next::PushPreCommitAgain => {
                self.push_landed(now, sector);
                Apply::Nothing
            }
        }
    }

    /// Calls a workflow until it knows enough, and returns what it says.
    fn consult<R>(&self, now: &Now, job: &Job, decide: impl Fn(&Known) -> Result<R, Question>) -> R {
        let mut known = Known::default();
        loop {
            match decide(&known) {
                Ok(said) => return said,
                Err(question) => {
                    let answer = self.answer(now, job.id, &question);
                    known.learn(question, answer);
                }
            }
        }
    }

    fn answer(&self, now: &Now, id: SectorId, question: &Question) -> Answer {
        let height = |at: &At| if *at == At::Head { now.head } else { now.lagged };
        let verdict = |is_right: bool, code| Answer::Verdict(is_right.then_some(()).ok_or_else(|| report(code)));
        match question {
            Question::NumberAllocated { at } => Answer::Yes(self.chain.precommit(id, height(at)).is_some()),
            Question::MayBegin | Question::MayRead { .. } => Answer::Yes(true),
            Question::TicketRandomness { epoch, .. } => Answer::Randomness(bytes(&[5, *epoch as u64])),
            Question::BeaconRandomness { epoch, .. } => Answer::Randomness(chain::beacon(*epoch)),
            Question::PreCommit { at, comm_r } => Answer::Found(self.chain.find_precommit(id, &comm_r.0, height(at))),
            Question::ActiveSector { comm_r } => Answer::Found(self.chain.find_active(id, &comm_r.0, now.lagged)),
            Question::FilesProve { comm_r, .. } => {
                verdict(self.checks.store.get(&id) == Some(&comm_r.0), ErrorCode::FILES_UNPROVABLE)
            }
            Question::Verifies(porep) => {
                let right = chain::proof(id, &porep.comm_r.0, &porep.seed.0);
                verdict(right == porep.proof.0, ErrorCode::PROOF_INVALID)
            }
        }
    }

    /// Pushes a sector's PreCommit again after it had landed and vanished from the chain, together with any missing
    /// message before it.
    fn push_landed(&mut self, now: &Now, id: SectorId) {
        let landed = |row: &&Row| {
            row.over == Some(Over::Landed)
                && row.message.sector == Some(id)
                && row.message.kind == MessageKind::PreCommit
        };
        let nonces: Vec<_> = self.db.messages.values().filter(landed).filter_map(|row| row.nonce).collect();
        for nonce in nonces {
            self.push_between(self.chain.nonce(now.lagged), nonce + 1);
        }
    }

    /// Whether a sector's PreCommit had landed, is no longer on chain, and something else has used its nonce.
    fn is_lost(&self, now: &Now, id: SectorId) -> bool {
        let landed = |row: &&Row| {
            row.over == Some(Over::Landed)
                && row.message.sector == Some(id)
                && row.message.kind == MessageKind::PreCommit
        };
        let mut landed = self.db.messages.values().filter(landed).filter_map(|row| row.nonce).peekable();
        landed.peek().is_some()
            && landed.all(|nonce| nonce < self.chain.nonce(now.lagged))
            && self.chain.precommit(id, now.lagged).is_none()
    }

    /// Pushes ended messages again that leave a gap before a nonce.
    fn push_between(&mut self, from: u64, to: u64) {
        let executed = |row: &&Row| {
            matches!(row.over, Some(Over::Landed | Over::Failed))
                && row.nonce.is_some_and(|nonce| (from..to).contains(&nonce))
        };
        let sent: Vec<_> = self.db.messages.values().filter(executed).filter_map(Row::sent).collect();
        for sent in sent {
            // If the pool refuses it now, the next tick pushes it.
            let _ = self.chain.push(sent);
        }
    }

    fn drive_message(&mut self, m: usize, now: &Now, message: Message) {
        let Some(id) = message.sector else { return };
        let sector = self.db.sectors.get(&id).cloned();
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
                    Some((height, exit)) => Seen::Executed { height, exit, gas_limit: 1, shared_by: 1 },
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
                    return self.apply_in(m, Apply::Fill { sector: id, nonce: missing });
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
                        self.apply_in(m, Apply::GiveUp { key, sector: id, input });
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
            // Does not happen here: the simulation signs fillers at once.
            MessageState::Reserved { .. } => self.apply_in(m, Apply::Nothing),
        }
    }

    fn sign(&mut self, now: &Now, message: Message, sector: Job) -> Apply {
        let (key, id) = (message.key.clone(), sector.id);
        let wanted = self.consult(now, &sector, |known| decide::wanted(&message, &sector, now, known));
        if matches!(wanted, Wanted::Sign(_) | Wanted::WaitFor(_) | Wanted::GiveUp { .. })
            && self.db.has_earlier(&message)
        {
            return Apply::Nothing;
        }
        if matches!(wanted, Wanted::Sign(Call::ProveCommit { .. }) | Wanted::WaitFor(_)) {
            self.check_proof(&sector);
        }
        let call = match wanted {
            Wanted::Sign(call) => call,
            Wanted::Wait | Wanted::WaitFor(_) => return Apply::Nothing,
            Wanted::Over(_) => return Apply::GiveUp { key, sector: id, input: None },
            Wanted::GiveUp { input, .. } => return Apply::GiveUp { key, sector: id, input: Some(input) },
            Wanted::Apply(input) => return Apply::Input { sector: id, input },
        };
        let does = call.into();
        let nonce = self.chain.next_nonce().max(self.db.next_nonce());
        let unsigned = SimMessage { nonce, sector: id, does };
        let exit = self.chain.try_at(&unsigned, now.head + 1);
        if !exit.is_ok() {
            if exit == ExitCode::Forbidden {
                // `Forbidden` may be temporary, so try again at a later tick.
                return Apply::Nothing;
            }
            return match now.refused(&message.tries, exit) {
                Refusal::ForNow { since, .. } => Apply::Refused { key, since: Some(since) },
                Refusal::Final => {
                    let input = Some(Input::Refused(report(decide::refusal(message.kind))));
                    Apply::GiveUp { key, sector: id, input }
                }
            };
        }
        let Ok(bytes) = codec::encode(&unsigned) else { return Apply::Nothing };
        // The simulation knows a call by the number of its want.
        let call = CallId(message.want.map_or(0, |want| want.0));
        let signed = Signed { call, cid: format!("{nonce}"), bytes, epoch: Some(now.head) };
        Apply::Signed { message, then: Box::new(sector), nonce, signed }
    }

    /// Stores one transaction of a tick.
    pub fn drive_apply(&mut self, m: usize, apply: Apply) {
        if !self.begin(m) {
            return;
        }
        match apply {
            Apply::Input { sector, input } => self.apply(m, sector, input),
            Apply::Landed { kind, sector, input } => {
                self.db.mark_landed(kind, sector);
                self.apply(m, sector, input);
            }
            Apply::Reverted { kind, then, input } => {
                if decide::stands_as(&then, self.db.sectors.get(&then.id)) {
                    self.db.mark_reverted(kind, then.id);
                    self.managers[m].settled.1.remove(&then.id);
                    self.apply(m, then.id, input);
                }
            }
            Apply::GiveUp { key, sector, input } => {
                self.db.mark_failed(&key);
                if let Some(input) = input {
                    self.apply(m, sector, input);
                }
            }
            Apply::Signed { message, then, nonce, signed } => {
                let fresh = self.options.bug == Some(Bug::SignAgain) || message.state == MessageState::Wanted;
                if fresh && decide::stands_as(&then, self.db.sectors.get(&then.id)) {
                    self.trace(|| format!("m{m} signs {} with nonce {nonce}", message.key));
                    self.check_signed(&message);
                    self.checks.signed.entry(message.key.clone()).or_insert_with(|| signed.bytes.clone());
                    self.db.save_signed(&message.key, nonce, signed);
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

    /// Pushes a message's bytes. The node may accept them without an answer.
    pub fn drive_push(&mut self, m: usize, key: &str) {
        let Some(row) = self.db.messages.get(key) else { return };
        let (MessageState::Signed(signed) | MessageState::Pushed { signed, .. }) = row.message.state.clone() else {
            return self.manager_in(m, 0, Task::Step);
        };
        if row.message.kind != MessageKind::Filler && self.checks.signed.get(key) != Some(&signed.bytes) {
            let what = format!("{key} has another call than the one that was signed first");
            self.break_invariant(Invariant::OneCallAWant, || what);
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
}

fn report(code: ErrorCode) -> ErrorReport {
    ErrorReport::new(ErrorClass::Perm, code, "as the rules say")
}
