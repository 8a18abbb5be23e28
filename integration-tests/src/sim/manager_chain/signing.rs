//! Signs messages, many in one call where the policy says so.

use sealbus_manager::{
    chain::exit::ExitCode,
    drive::{
        batch::{self, Candidate},
        decide::{self, Refusal},
    },
    store::{CallId, Job, Message, MessageKind},
    workflows::{Call, Now, Wanted},
};
use sealbus_schema::{Invariant, codec, workflows::Input};

use super::{Apply, Prepared, Todo, report};
use crate::sim::{
    bug::Bug,
    chain::{Carries, Part, SimMessage},
    manager::Task,
    world::World,
};

impl World {
    /// Finds out whether a message may be signed now. What does not wait for others is signed at once.
    pub(super) fn prepare(&mut self, m: usize, now: &Now, message: Message) {
        let job = message.sector.and_then(|sector| self.db.sectors.get(&sector).cloned());
        let Some(job) = job else { return self.apply_in(m, Apply::Nothing) };
        let call = match self.may_sign(now, &message, &job) {
            Ok(call) => call,
            Err(apply) => return self.apply_in(m, *apply),
        };
        let prepared = Prepared { message, job, call };
        if self.batches.sectors_max == 1 {
            return self.sign_group(m, now, vec![prepared]);
        }
        if let Some(driving) = &mut self.managers[m].driving {
            driving.prepared.push(prepared);
        }
        self.drive_next(m);
    }

    /// What a message that may be signed asks of the miner actor; or else what is to be stored.
    fn may_sign(&mut self, now: &Now, message: &Message, job: &Job) -> Result<Call, Box<Apply>> {
        let wanted = self.consult(now, job, |known| decide::wanted(message, job, now, known));
        if matches!(wanted, Wanted::Sign(_) | Wanted::WaitFor(_) | Wanted::GiveUp { .. })
            && self.db.has_earlier(message)
        {
            return Err(Box::new(Apply::Nothing));
        }
        if matches!(wanted, Wanted::Sign(Call::ProveCommit { .. }) | Wanted::WaitFor(_)) {
            self.check_proof(job);
        }
        let message = message.clone();
        Err(Box::new(match wanted {
            Wanted::Sign(call) => {
                return self.earlier_may_land(now, &message).map_or(Ok(call), |apply| Err(Box::new(apply)));
            }
            Wanted::Wait | Wanted::WaitFor(_) => Apply::Nothing,
            Wanted::Over(_) => Apply::GiveUp { message, input: None },
            Wanted::GiveUp { input, .. } => Apply::GiveUp { message, input: Some(input) },
            Wanted::Apply(input) => Apply::Input { sector: job.id, input },
        }))
    }

    /// What is to be done first because a reorganisation has freed the nonce of an earlier call for the same. `None` if none
    /// has.
    fn earlier_may_land(&mut self, now: &Now, message: &Message) -> Option<Apply> {
        let nonce = self.db.spent(message).into_iter().find(|nonce| self.chain.nonce(now.lagged) <= *nonce)?;
        self.push_between(nonce, nonce + 1);
        let missing = self.chain.missing();
        let sector = message.sector.filter(|_| missing <= nonce && !self.db.has_nonce(missing));
        Some(sector.map_or(Apply::Nothing, |sector| Apply::Fill { sector, nonce: missing }))
    }

    /// Forms groups of what may be signed. What waits for others remembers since when.
    pub(super) fn form_groups(&mut self, m: usize, now: &Now) {
        let Some(driving) = &mut self.managers[m].driving else { return };
        let prepared = std::mem::take(&mut driving.prepared);
        let mut next = Vec::new();
        for kind in [MessageKind::PreCommit, MessageKind::ProveCommit] {
            let mut members: Vec<_> =
                prepared.iter().filter(|one| one.message.kind == kind).map(|one| Some(one.clone())).collect();
            let candidates: Vec<_> = members.iter().flatten().map(|one| candidate(now, one)).collect();
            let formed = batch::form(&candidates, &self.batches.policy(), now.head);
            let waiting = formed.waiting.iter().filter_map(|index| members[*index].as_ref());
            let fresh = waiting.filter(|one| one.message.ready.epoch.is_none());
            let keys: Vec<_> = fresh.map(|one| one.message.key.clone()).collect();
            if !keys.is_empty() {
                next.push(Todo::Store(Apply::Ready { keys }));
            }
            for group in formed.groups {
                next.push(Todo::Sign(group.into_iter().filter_map(|index| members[index].take()).collect()));
            }
        }
        self.do_next(m, next.into_iter());
    }

    /// Signs one call for a group. Each sector is tried alone first, and what the chain refuses is left out.
    pub(super) fn sign_group(&mut self, m: usize, now: &Now, group: Vec<Prepared>) {
        let (mut parts, mut refused) = (Vec::new(), Vec::new());
        let is_alone = group.len() == 1;
        for one in group {
            match self.try_now(now, std::slice::from_ref(&one)) {
                exit if is_alone || exit.is_ok() => parts.push(one),
                exit => refused.push(Todo::Store(self.not_taken(now, &one, exit))),
            }
        }
        // The other half is signed at the next tick.
        while self.is_too_much(parts.len()) {
            parts.truncate(parts.len() / 2);
        }
        let signed = match (self.try_now(now, &parts), &parts[..]) {
            (_, []) => Apply::Nothing,
            (exit, [only]) if !exit.is_ok() => self.not_taken(now, only, exit),
            // Each was taken alone, so all are taken together.
            (exit, _) if !exit.is_ok() => Apply::Nothing,
            _ => self.compose(parts),
        };
        match (&signed, is_alone) {
            (_, true) => self.apply_in(m, signed),
            (_, false) => self.do_next(m, [Todo::Store(signed)].into_iter().chain(refused)),
        }
    }

    /// The exit code of these in one message, if it were executed now.
    fn try_now(&self, now: &Now, parts: &[Prepared]) -> ExitCode {
        self.chain.try_at(&message_of(parts, 0), now.head + 1).exit
    }

    fn compose(&self, parts: Vec<Prepared>) -> Apply {
        let sent = message_of(&parts, self.chain.next_nonce().max(self.db.next_nonce()));
        let Ok(bytes) = codec::encode(&sent) else { return Apply::Nothing };
        Apply::Signed { group: parts.into_iter().map(|one| (one.message, one.job)).collect(), sent, bytes }
    }

    /// What follows if the chain refuses a message that is alone.
    fn not_taken(&self, now: &Now, one: &Prepared, exit: ExitCode) -> Apply {
        let message = one.message.clone();
        if exit == ExitCode::Forbidden {
            // `Forbidden` may be temporary, so try again at a later tick.
            return Apply::Nothing;
        }
        match now.refused(&message.tries, exit) {
            Refusal::ForNow { since, .. } => Apply::Refused { message, since: Some(since) },
            Refusal::Final => {
                let input = Some(Input::Refused(report(decide::refusal(message.kind))));
                Apply::GiveUp { message, input }
            }
        }
    }

    /// Stores a signed call, if all that it carries still want it.
    pub(super) fn store_signed(&mut self, m: usize, group: &[(Message, Job)], sent: &SimMessage, bytes: Vec<u8>) {
        let is_fresh = |message| self.options.bug == Some(Bug::SignAgain) || self.db.is_wanted(message);
        let stands = |then: &Job| decide::stands_as(then, self.db.sectors.get(&then.id));
        let head = self.managers[m].driving.as_ref().map_or(0, |driving| driving.now.head);
        if !group.iter().all(|(message, then)| is_fresh(message) && stands(then)) {
            return self.manager_in(m, 0, Task::Step);
        }
        for (message, _) in group {
            self.trace(|| format!("m{m} signs {} with nonce {}", message.key, sent.nonce));
            self.check_signed(message);
            self.check_pool(sent);
            self.checks.signed.entry(message.key.clone()).or_insert_with(|| bytes.clone());
        }
        let messages: Vec<_> = group.iter().map(|(message, _)| message).collect();
        match self.db.save_signed(&messages, sent.nonce, bytes, head) {
            Some(call) => self.manager_in(m, 5, Task::Push(call)),
            None => self.manager_in(m, 0, Task::Step),
        }
        self.note_batch(&group.iter().map(|(_, job)| job.id).collect::<Vec<_>>());
    }

    /// Pushes a call's bytes. The node may accept them without an answer.
    pub fn drive_push(&mut self, m: usize, id: CallId) {
        let Some(call) = self.db.calls.get(&id.0).filter(|call| call.is_followed()) else {
            return self.manager_in(m, 0, Task::Step);
        };
        let is_another = |key: &&String| self.checks.signed.get(*key) != Some(&call.signed.bytes);
        let another = call.wants.iter().find(is_another).cloned();
        let sent = call.sent();
        if let Some(key) = another {
            let what = format!("{key} has another call than the one that was signed first");
            self.break_invariant(Invariant::OneCallAWant, || what);
        }
        if self.faulty(self.faults.node) {
            return self.managers[m].driving = None;
        }
        if let Some(sent) = sent
            && !self.chain.push(sent)
        {
            return self.apply_in(m, Apply::Nothing);
        }
        if self.faulty(self.faults.node) {
            return self.managers[m].driving = None;
        }
        let Some(epoch) = self.managers[m].driving.as_ref().map(|driving| driving.now.head) else { return };
        self.apply_in(m, Apply::Pushed { call: id, epoch });
    }
}

fn message_of(parts: &[Prepared], nonce: u64) -> SimMessage {
    let part = |one: &Prepared| Part { sector: one.job.id, does: one.call.clone().into() };
    SimMessage { nonce, carries: Carries::Parts(parts.iter().map(part).collect()) }
}

fn candidate(now: &Now, one: &Prepared) -> Candidate {
    Candidate {
        epochs_left: one.job.last_epoch().map(|last| last - now.head),
        ready_epoch: one.message.ready.epoch.unwrap_or(now.head),
        is_hurried: one.message.ready.is_hurried,
        batch_max: one.message.tries.batch_max,
    }
}
