//! A simulated manager's driver: answers the questions of workflows from the simulated chain, and stores what follows.

use std::{
    cell::RefCell,
    collections::{BTreeSet, VecDeque},
    rc::Rc,
};

use sealbus_manager::{
    drive::decide::{self, Seen},
    store::{CallId, Job, Message, MessageKind, MessageState, Tries},
    workflows::{self, Answer, At, Call, Known, Next, Now, Question},
};
use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, Invariant, SectorId,
    workflows::{Answer as Answered, Input, seal::manager::Answer as SealAnswer},
};

use super::{
    bug::Bug,
    chain::{self, CONFIDENCE, SimMessage},
    db::rows::{Call as Sent, CallState},
    manager::Task,
    rng::bytes,
    world::World,
};

mod following;
mod signing;

/// A running tick.
pub struct Driving {
    now: Now,
    sectors: VecDeque<Job>,
    /// What is to be done about messages, once all sectors are processed.
    messages: Option<VecDeque<Todo>>,
    /// What may be signed now, once all wants have been looked at.
    prepared: Vec<Prepared>,
}

/// A step of a tick that concerns messages.
#[derive(Debug)]
enum Todo {
    /// Find out whether a message may be signed.
    Prepare(Message),
    /// Form groups of what may be signed.
    Form,
    /// Sign one call for a group.
    Sign(Vec<Prepared>),
    /// Look after a call. These are the messages that it carries and that have not ended, or a filler.
    Follow(Vec<Message>),
    /// Decide what follows for one message of a call that was pushed at this epoch.
    Resolve(Message, i64, Seen),
    /// Store what was decided.
    Store(Apply),
}

/// A message that may be signed now, alone or with others.
#[derive(Clone, Debug)]
struct Prepared {
    message: Message,
    /// Its sector's job, as it was read.
    job: Job,
    call: Call,
}

/// What a tick stores next, in one transaction.
#[derive(Debug)]
pub enum Apply {
    Input { sector: SectorId, input: Input },
    Landed { kind: MessageKind, sector: SectorId, input: Input },
    Reverted { kind: MessageKind, then: Box<Job>, input: Input },
    GiveUp { message: Message, input: Option<Input> },
    Signed { group: Vec<(Message, Job)>, sent: SimMessage, bytes: Vec<u8> },
    Pushed { call: CallId, epoch: i64 },
    Executed { message: Message },
    Ended { message: Message, end: CallState },
    Again { message: Message, end: CallState, tries: Tries },
    Withdraw { group: Vec<Message>, call: CallId },
    Fill { sector: SectorId, nonce: u64 },
    Ready { keys: Vec<String> },
    Refused { message: Message, since: Option<i64> },
    Lost { sector: SectorId },
    Nothing,
}

impl World {
    /// Begins a tick, unless one is running.
    pub fn tick(&mut self, m: usize) {
        if self.managers[m].driving.is_some() || self.is_catching_up() || self.faulty(self.faults.node) {
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
        self.managers[m].driving = Some(Driving { now, sectors, messages: None, prepared: Vec::new() });
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
        if driving.messages.is_none() {
            let mut open = self.db.open_messages();
            let is_wanted = |message: &&Message| message.state == MessageState::Wanted;
            let wanted = open.iter().find(is_wanted).and_then(|message| message.sector);
            if self.is_settling(m, &now, wanted) {
                open.retain(|message| !is_wanted(&message));
            }
            if let Some(driving) = &mut self.managers[m].driving {
                driving.messages = Some(todo(open));
            }
        }
        let driving = self.managers[m].driving.as_mut();
        let messages = driving.and_then(|driving| driving.messages.as_mut()).and_then(VecDeque::pop_front);
        match messages {
            Some(Todo::Prepare(_) | Todo::Follow(_)) if self.faulty(self.faults.node) => {
                self.managers[m].driving = None
            }
            Some(Todo::Prepare(message)) => self.prepare(m, &now, message),
            Some(Todo::Form) => self.form_groups(m, &now),
            Some(Todo::Sign(group)) => self.sign_group(m, &now, group),
            Some(Todo::Follow(group)) => self.step_call(m, &now, group),
            Some(Todo::Resolve(message, pushed, seen)) => self.resolve_message(m, &now, message, pushed, seen),
            Some(Todo::Store(apply)) => self.apply_in(m, apply),
            None => self.managers[m].driving = None,
        }
    }

    /// Does these things next, and goes on with the first.
    fn do_next(&mut self, m: usize, next: impl DoubleEndedIterator<Item = Todo>) {
        if let Some(messages) = self.managers[m].driving.as_mut().and_then(|driving| driving.messages.as_mut()) {
            next.rev().for_each(|todo| messages.push_front(todo));
        }
        self.drive_next(m);
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
            Next::GiveUp(_) if self.loses_manager() && self.chain.has_ours(sector) => {
                self.break_invariant(Invariant::NothingLost, || format!("{sector} is given up for its own PreCommit"));
                Apply::Nothing
            }
            Next::GiveUp(cause) => Apply::Input { sector, input: Input::Abandoned { cause, lose_deposit: false } },
            Next::PushPreCommitAgain if self.is_lost(now, sector) => Apply::Lost { sector },
            Next::PushPreCommitAgain => self.push_landed(now, sector),
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
    fn push_landed(&mut self, now: &Now, id: SectorId) -> Apply {
        let nonces: Vec<_> = self.db.landed(MessageKind::PreCommit, id).iter().map(|call| call.nonce).collect();
        for nonce in nonces {
            self.push_between(self.chain.nonce(now.lagged), nonce + 1);
            let missing = self.chain.missing();
            if missing < nonce && !self.db.has_nonce(missing) {
                return Apply::Fill { sector: id, nonce: missing };
            }
        }
        Apply::Nothing
    }

    /// Whether a sector's PreCommit had landed, is no longer on chain, and something else has used its nonce. If none had
    /// landed, it was that of a withdrawn call, which is not pushed again.
    fn is_lost(&self, now: &Now, id: SectorId) -> bool {
        let landed = self.db.landed(MessageKind::PreCommit, id);
        !self.db.is_open(MessageKind::PreCommit, id)
            && landed.iter().all(|call| call.nonce < self.chain.nonce(now.lagged))
            && self.chain.active(id, now.lagged).is_none()
    }

    /// Pushes ended messages again that leave a gap before a nonce.
    fn push_between(&mut self, from: u64, to: u64) {
        let executed = |call: &&Sent| {
            matches!(call.state, CallState::Landed | CallState::Failed) && (from..to).contains(&call.nonce)
        };
        let sent: Vec<_> = self.db.calls.values().filter(executed).filter_map(Sent::sent).collect();
        for sent in sent {
            // If the pool refuses it now, the next tick pushes it.
            let _ = self.chain.push(sent);
        }
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
            Apply::GiveUp { message, input } => {
                self.db.mark_failed(&message, CallState::Failed);
                if let (Some(sector), Some(input)) = (message.sector, input) {
                    self.apply(m, sector, input);
                }
            }
            Apply::Signed { group, sent, bytes } => return self.store_signed(m, &group, &sent, bytes),
            Apply::Pushed { call, epoch } => self.db.mark_pushed(call, epoch),
            Apply::Executed { message } => self.db.mark_executed(&message),
            Apply::Ended { message, end } => self.db.mark_failed(&message, end),
            Apply::Again { message, end, tries } => {
                self.trace(|| format!("m{m} wants another message after {}", message.key));
                self.db.mark_failed(&message, end);
                self.db.want_once_more(&message, tries);
            }
            Apply::Withdraw { group, call } => self.withdraw(m, &group, call),
            Apply::Fill { sector, nonce } => {
                self.trace(|| format!("m{m} fills nonce {nonce}"));
                self.db.fill(sector, nonce);
            }
            Apply::Lost { sector } => {
                self.trace(|| format!("m{m} wants another PreCommit of {sector}"));
                self.db.want_precommit_again(sector);
            }
            Apply::Ready { keys } => {
                let head = self.managers[m].driving.as_ref().map_or(0, |driving| driving.now.head);
                self.db.note_ready(&keys, head);
            }
            Apply::Refused { message, since } => self.db.note_refusal(&message, since),
            Apply::Nothing => {}
        }
        self.manager_in(m, 0, Task::Step);
    }
}

/// What to do about open messages: those without a call first, and then calls by nonce.
fn todo(open: Vec<Message>) -> VecDeque<Todo> {
    let (wanted, followed): (Vec<_>, Vec<_>) =
        open.into_iter().partition(|message| message.state == MessageState::Wanted);
    let mut calls: Vec<Vec<Message>> = Vec::new();
    for message in followed {
        match calls.last_mut() {
            Some(call) if call[0].state.call() == message.state.call() => call.push(message),
            _ => calls.push(vec![message]),
        }
    }
    let wanted = wanted.into_iter().map(Todo::Prepare);
    wanted.chain([Todo::Form]).chain(calls.into_iter().map(Todo::Follow)).collect()
}

fn report(code: ErrorCode) -> ErrorReport {
    ErrorReport::new(ErrorClass::Perm, code, "as the rules say")
}
