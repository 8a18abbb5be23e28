//! Decides the order of a slot's actions, without carrying them out.
//!
//! [`Core::handle`] gets what has happened, and returns a list of actions. Each is completed before the next one begins.
//! The driver and the simulation carry out the same lists, so the simulation tests what production runs.
//!
//! [`claim`] does the same for a slot that takes an intent, and [`leave`] for a slot whose sector has ended.

pub mod claim;
pub mod leave;
#[cfg(test)]
mod tests;

use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, Invariant, Transition, Violation,
    machine::worker::{Input, Need, RetryPolicy, State},
    message::{CommonFact, Event, EventBody, Fact, FactBody, FactKind},
};

use super::expiry::{self, Arrivals};
use crate::{journal::Journal, workflows};

/// What happened to a slot's sector.
#[derive(Debug)]
pub enum Happened {
    /// A processor was acquired for the present state's phase.
    Acquired {
        /// Its name.
        processor: String,
    },
    /// The work has a result.
    Worked(Input),
    /// The log has the event with this number.
    Reported {
        /// The event's number.
        number: u64,
        /// Its sequence in the log.
        sequence: u64,
    },
    /// The server refused an event: the lease has moved.
    Refused,
    /// The sector's log was read.
    News(News),
}

/// What was read from a sector's log.
#[derive(Debug, Default)]
pub struct News {
    /// The last fact of each requested kind, if it is meant for our lease.
    pub facts: Vec<Fact>,
    /// Whether the lease is over.
    pub lease_moved: bool,
    /// Says that the sector continues in a new stream, if the journal does not know yet.
    pub reinstated: Option<Reinstated>,
}

/// The manager has said, in a stream that is not the token's own, that a sector is still ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reinstated {
    /// The identity of that stream.
    pub stream: String,
    /// The first sequence in it.
    pub first_sequence: u64,
    /// The number of the last event that the manager knows.
    pub known: u64,
}

/// An action.
#[derive(Clone, Debug, PartialEq)]
pub enum Do {
    /// Write the journal. Later actions are carried out once it is on disk.
    Persist(Box<Journal>),
    /// Stop the running work and release its processor.
    DropWork,
    /// Begin what the state needs, up to the acquisition of a processor if it needs one. This replaces earlier work.
    Work(Box<State>),
    /// Run the state's phase on the acquired processor.
    Run(Box<State>),
    /// Publish an event until the log has it or refuses it.
    Publish(Box<Event>),
    /// Read the log, now or when woken. This replaces an earlier watch.
    Watch(Watch),
    /// Count a broken invariant.
    Count(Violation),
    /// Stop: the sector's life in this slot has ended.
    End(End),
}

/// What to read from the sector's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The kinds of facts, the most urgent first.
    pub kinds: &'static [FactKind],
    /// The serial of the last order to resubmit that was carried out. Facts from before it do not count.
    pub resubmitted: u32,
    /// Whether to read without waiting for a wake-up.
    pub at_once: bool,
}

/// How a sector's life in a slot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Finished or aborted, and the log knows it.
    Over,
    /// The lease has moved: the server refused an event, or the log has another last lease record.
    Fenced,
}

/// The place of a slot, for people.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The machine's host name.
    pub host: String,
    /// The slot's directory.
    pub slot: String,
}

/// One sector in one slot.
#[derive(Clone, Debug)]
pub struct Core {
    journal: Journal,
    arrivals: Arrivals,
    policy: RetryPolicy,
    place: Place,
    /// The number of the event that is being published.
    publishing: Option<u64>,
    /// What must not happen and has happened, and is not counted yet.
    broken: Vec<Violation>,
}

impl Core {
    /// A sector's life that continues from its journal. `arrivals` says when an earlier process received facts, as far as
    /// known.
    pub fn new(journal: Journal, arrivals: Arrivals, policy: RetryPolicy, place: Place) -> Core {
        Core { journal, arrivals, policy, place, publishing: None, broken: Vec::new() }
    }

    /// When facts arrived.
    pub fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }

    /// The journal as it is on disk once all actions are completed.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Returns the journal.
    pub fn into_journal(self) -> Journal {
        self.journal
    }

    /// The first actions.
    pub fn start(&mut self) -> Vec<Do> {
        let first = vec![self.work(), self.watch(true)];
        self.followed(first)
    }

    /// The actions that follow from what happened. The time is that of [`expiry::now_millis`].
    pub fn handle(&mut self, happened: Happened, now_millis: i64) -> Vec<Do> {
        let todo = match happened {
            Happened::Acquired { processor } => self.on_processor(processor, now_millis),
            Happened::Worked(input) => self.on_work(input),
            Happened::Reported { number, sequence } => {
                self.publishing = None;
                self.journal.acknowledge(number, sequence);
                vec![self.persist()]
            }
            Happened::Refused => return vec![Do::End(End::Fenced)],
            // If only the end remained to be reported, the manager may have read that report and closed the lease. So a
            // moved lease counts only while there is a step.
            Happened::News(News { lease_moved: true, .. }) if self.journal.state.step().is_some() => {
                return vec![Do::End(End::Fenced)];
            }
            Happened::News(mut news) => {
                let mut todo = self.on_reinstated(news.reinstated.take());
                todo.extend(self.on_news(news, now_millis));
                todo
            }
        };
        self.followed(todo)
    }

    /// Adds the actions that follow in any case: publish the next event, one at a time, and end when the log has all of
    /// them. Broken invariants are counted before that.
    fn followed(&mut self, mut todo: Vec<Do>) -> Vec<Do> {
        todo.extend(self.broken.drain(..).map(Do::Count));
        let next = self.journal.pending.first();
        if matches!(self.journal.state, State::Over { .. }) && next.is_none() {
            todo.push(Do::End(End::Over));
        } else if let (None, Some(event)) = (self.publishing, next) {
            self.publishing = Some(event.number);
            todo.push(Do::Publish(Box::new(event.clone())));
        }
        todo
    }

    fn on_processor(&mut self, processor: String, now: i64) -> Vec<Do> {
        if let Some(input) = self.refuse_to_start(now) {
            let mut todo = vec![Do::DropWork];
            todo.extend(self.on_work(input));
            return todo;
        }
        tracing::info!(phase = self.phase(), attempt = self.journal.state.attempt(), processor, "phase started");
        let mut todo = self.apply_own(Input::PhaseStarted { processor });
        todo.push(Do::Run(Box::new(self.journal.state.clone())));
        todo
    }

    fn on_work(&mut self, input: Input) -> Vec<Do> {
        let before = self.journal.state.clone();
        let mut todo = self.apply_own(input);
        todo.push(self.work());
        if self.journal.state != before {
            todo.push(self.watch(true));
        }
        todo
    }

    fn on_news(&mut self, news: News, now: i64) -> Vec<Do> {
        let mut todo = Vec::new();
        for fact in news.facts {
            todo.extend(self.on_fact(fact, now));
        }
        todo.push(self.watch(!todo.is_empty()));
        todo
    }

    /// Handles the loss of the log, if the sector is still ours in the new one.
    fn on_reinstated(&mut self, reinstated: Option<Reinstated>) -> Vec<Do> {
        let Some(reinstated) = reinstated else { return Vec::new() };
        let (before, known) = (self.journal.state.clone(), reinstated.known);
        self.journal.go_on_in(reinstated);
        tracing::info!(known, next_event = self.journal.next_event, "the sector goes on in another stream");
        let mut todo = vec![self.persist()];
        if self.journal.state != before {
            todo.extend([Do::DropWork, Do::Work(Box::new(self.journal.state.clone()))]);
        }
        todo
    }

    fn on_fact(&mut self, fact: Fact, now: i64) -> Vec<Do> {
        let told = fact.kind();
        let kind = told.map(FactKind::name);
        if !fact.counts_for(self.journal.token, self.journal.resubmitted) {
            tracing::debug!(kind, "a fact that an order read with it withdraws");
            return Vec::new();
        }
        let stores = fact.body.known_stores();
        let stores_told = !stores.is_empty() && *stores != self.journal.stores;
        if stores_told {
            self.journal.stores = stores.to_vec();
        }
        let resubmitted = match &fact.body {
            FactBody::Common(CommonFact::Resubmit { .. }) => fact.serial,
            _ => self.journal.resubmitted,
        };
        match self.journal.state.apply(Input::Fact(fact), self.policy) {
            Transition::Advance { next, effects } => {
                tracing::info!(kind, "fact taken");
                if let Some(told) = told {
                    self.arrivals.came(told, now);
                }
                self.journal.resubmitted = resubmitted;
                // Stop the running work first, because it may be useless now.
                let mut todo = vec![Do::DropWork, self.advance(next, effects)];
                todo.push(self.work());
                todo
            }
            Transition::Ignore(why) => {
                tracing::debug!(kind, why, "fact ignored");
                // The fact changes no state, but the stores that it names matter for the work.
                if stores_told { vec![self.persist(), Do::DropWork, self.work()] } else { Vec::new() }
            }
            Transition::Illegal(why) => {
                self.violated(format!("the fact {} is ignored: {why}", kind.unwrap_or("of a newer version")));
                Vec::new()
            }
        }
    }

    /// Applies an input that we created. If the machine refuses it, that is an error for a person.
    fn apply_own(&mut self, input: Input) -> Vec<Do> {
        if let Input::Failed { error } = &input {
            log_failure(error, self.phase(), self.journal.state.attempt());
        }
        let refused = match self.journal.state.apply(input, self.policy) {
            Transition::Advance { next, effects } => return vec![self.advance(next, effects)],
            Transition::Ignore(why) | Transition::Illegal(why) => why,
        };
        self.violated(refused.to_owned());
        let error = self.named(ErrorReport::new(ErrorClass::Perm, ErrorCode::PROTOCOL_VIOLATED, refused));
        log_failure(&error, self.phase(), self.journal.state.attempt());
        match self.journal.state.apply(Input::Failed { error }, self.policy) {
            Transition::Advance { next, effects } => vec![self.advance(next, effects)],
            Transition::Ignore(_) | Transition::Illegal(_) => Vec::new(),
        }
    }

    /// Moves to a new state. The state must be on disk before anything follows from it.
    fn advance(&mut self, next: State, events: Vec<EventBody>) -> Do {
        if next != self.journal.state {
            let step = next.step().map(|step| step.name());
            tracing::info!(step, attempt = next.attempt(), need = ?next.need(), "advanced");
            if let State::Blocked { error, .. } = &next
                && error.causes.is_empty()
            {
                let seen = format!("{} is blocked with {} and no word of why", self.journal.intent.sector, error.code);
                self.broken.push(Violation::new(Invariant::BlockedWithCause, seen));
            }
        }
        self.journal.advance(next, events);
        self.persist()
    }

    /// Notes that the table refuses an input.
    fn violated(&mut self, why: String) {
        let Journal { intent, state, .. } = &self.journal;
        let step = state.step().map_or("over", |step| step.name());
        let seen = format!("{} in step {step}: {why}", intent.sector);
        self.broken.push(Violation::new(Invariant::NothingIllegal, seen));
    }

    fn work(&self) -> Do {
        Do::Work(Box::new(self.journal.state.clone()))
    }

    fn persist(&self) -> Do {
        Do::Persist(Box::new(self.journal.clone()))
    }

    fn watch(&self, at_once: bool) -> Do {
        let kinds = self.journal.state.facts();
        Do::Watch(Watch { kinds, resubmitted: self.journal.resubmitted, at_once })
    }

    /// The phase's outcome if it must not begin now, because of the chain's time.
    fn refuse_to_start(&self, now: i64) -> Option<Input> {
        let step = self.journal.state.step()?;
        let epoch = expiry::epoch(&workflows::expiry(step)?, &self.arrivals, now);
        Some(match workflows::refuse_to_start(step, epoch)? {
            Input::Failed { error } => Input::Failed { error: self.named(error) },
            input => input,
        })
    }

    fn phase(&self) -> Option<&'static str> {
        match self.journal.state.need() {
            Need::Run(phase) => Some(phase.name()),
            _ => None,
        }
    }

    /// Adds the host and the slot to an error.
    fn named(&self, error: ErrorReport) -> ErrorReport {
        let Place { host, slot } = self.place.clone();
        ErrorReport { host, slot, ..error }
    }
}

fn log_failure(error: &ErrorReport, phase: Option<&'static str>, attempt: u32) {
    let (code, class, message) = (&error.code, error.class.name(), error.message());
    match error.class {
        ErrorClass::Temp | ErrorClass::Abort => tracing::warn!(phase, attempt, %code, class, "failed: {message}"),
        _ => tracing::error!(phase, attempt, %code, class, "failed: {message}"),
    }
}
