//! Follows calls: from signed to landed, or withdrawn. What concerns a call is done once, and what follows is decided for each
//! message that it carries.

use sealbus_manager::{
    drive::decide::{self, Followed, Seen},
    store::{CallId, Message, MessageKind, MessageState},
    workflows::Now,
};
use sealbus_schema::{codec, workflows::Input};

use super::{Apply, Todo};
use crate::sim::{bug::Bug, chain::SimMessage, db::rows::CallState, manager::Task, world::World};

/// A message that was not seen on chain for this many epochs is pushed again.
const REPUSH: i64 = 10;

impl World {
    /// Takes the next step of a call. `group` is what it carries and what has not ended, or a filler.
    pub(super) fn step_call(&mut self, m: usize, now: &Now, group: Vec<Message>) {
        let Some((state, call)) = group.first().and_then(|lead| Some((lead.state.clone(), lead.state.call()?))) else {
            return self.apply_in(m, Apply::Nothing);
        };
        match state {
            MessageState::Signed(_) if self.options.bug == Some(Bug::SignAgain) => {
                self.do_next(m, group.into_iter().map(Todo::Prepare));
            }
            MessageState::Signed(_) | MessageState::Pushed { .. } if group.iter().any(|one| self.is_unwanted(one)) => {
                self.apply_in(m, Apply::Withdraw { group, call });
            }
            MessageState::Signed(_) => self.manager_in(m, 5, Task::Push(call)),
            MessageState::Pushed { signed, epoch } => match codec::decode(&signed.bytes) {
                Ok(sent) => self.follow(m, now, (group, call), &sent, epoch),
                Err(_) => self.apply_in(m, Apply::Nothing),
            },
            MessageState::Withdrawn(signed) => match codec::decode(&signed.bytes) {
                Ok(sent) => self.see_withdrawn(m, now, group, &sent),
                Err(_) => self.apply_in(m, Apply::Nothing),
            },
            // Signing is done elsewhere, the simulation signs fillers at once, and it has no messager.
            MessageState::Wanted | MessageState::Reserved { .. } | MessageState::Delegated(_) => {
                self.apply_in(m, Apply::Nothing)
            }
        }
    }

    fn is_unwanted(&self, message: &Message) -> bool {
        let sector = message.sector.and_then(|sector| self.db.sectors.get(&sector));
        message.kind != MessageKind::Filler && sector.is_some_and(|sector| decide::unwanted(message, sector))
    }

    /// Searches for a pushed call in the confident part of the chain.
    fn follow(&mut self, m: usize, now: &Now, (group, call): (Vec<Message>, CallId), sent: &SimMessage, pushed: i64) {
        let found = self.chain.search(sent, now.lagged).cloned();
        let seen = |message: &Message| {
            found.as_ref().map(|found| {
                let (exit, shared_by) = found.exit_of(message.place.position);
                Seen::Executed { height: found.height, exit, gas_limit: 1, shared_by }
            })
        };
        if let Some(found) = &found
            && found.exit_of(0).1 > 1
        {
            self.counts.failed += 1;
        }
        let nonce_used = self.chain.nonce(now.lagged) > sent.nonce;
        if found.is_none() {
            self.push_between(self.chain.nonce(now.lagged), sent.nonce);
        }
        if found.is_some() || nonce_used {
            let resolve = |message: Message| {
                let seen = seen(&message).unwrap_or(Seen::Absent { nonce_used });
                Todo::Resolve(message, pushed, seen)
            };
            return self.do_next(m, group.into_iter().map(resolve));
        }
        let (waited, missing) = (now.head - pushed >= REPUSH, self.chain.missing());
        if let Some(sector) = group.first().and_then(|lead| lead.sector)
            && waited
            && missing < sent.nonce
            && !self.db.has_nonce(missing)
        {
            return self.apply_in(m, Apply::Fill { sector, nonce: missing });
        }
        match waited {
            true => self.manager_in(m, 5, Task::Push(call)),
            false => self.apply_in(m, Apply::Nothing),
        }
    }

    /// Decides what follows for one message of a call.
    pub(super) fn resolve_message(&mut self, m: usize, now: &Now, message: Message, pushed: i64, seen: Seen) {
        let sector = message.sector.and_then(|sector| self.db.sectors.get(&sector));
        let apply = match now.followed(&message, sector, pushed, REPUSH, seen, "a message") {
            // The same bytes are pushed once for all that a call carries.
            Followed::Wait | Followed::Push => Apply::Nothing,
            Followed::Landed { .. } => Apply::Executed { message },
            Followed::Replaced { .. } => Apply::Ended { message, end: CallState::Replaced },
            Followed::Again { exit, tries, .. } => {
                let end = if exit.is_some() { CallState::Failed } else { CallState::Replaced };
                Apply::Again { message, end, tries }
            }
            Followed::GiveUp { error, .. } => Apply::GiveUp { message, input: Some(Input::Refused(error)) },
        };
        self.apply_in(m, apply);
    }

    /// Checks whether the nonce of a withdrawn call is used, and by what. Its filler is followed separately.
    fn see_withdrawn(&mut self, m: usize, now: &Now, group: Vec<Message>, sent: &SimMessage) {
        if self.chain.nonce(now.lagged) <= sent.nonce {
            return self.apply_in(m, Apply::Nothing);
        }
        let found = self.chain.search(sent, now.lagged).cloned();
        let end = |message: Message| {
            let exit = found.as_ref().map(|found| found.exit_of(message.place.position).0);
            Todo::Store(match exit {
                Some(exit) if exit.is_ok() => Apply::Executed { message },
                Some(_) => Apply::Ended { message, end: CallState::Failed },
                None => Apply::Ended { message, end: CallState::Replaced },
            })
        };
        self.do_next(m, group.into_iter().map(end));
    }

    /// Withdraws a call that carries what is no longer wanted, and fills its nonce. What else it carries is wanted anew.
    pub(super) fn withdraw(&mut self, m: usize, group: &[Message], call: CallId) {
        self.counts.withdrawn += u64::from(group.len() > 1);
        for message in group {
            self.trace(|| format!("m{m} withdraws {}", message.key));
        }
        self.db.withdraw(call);
        for message in group {
            if !self.is_unwanted(message) && self.options.bug != Some(Bug::ForgetOthers) {
                self.db.want_once_more(message, message.tries);
            }
        }
    }
}
