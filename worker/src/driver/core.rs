//! The order in which things happen to a slot's sector, without doing any of them.
//!
//! What happens is told to [`Core::handle`], which answers with what must be done, in this order and each before the
//! next. The driver and the simulation carry out the same lists; so what is simulated is what runs.
//!
//! [`claim`] is the same for a slot that takes an intent, [`leave`] for one that is done with a sector.

pub mod claim;
pub mod leave;

use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, Transition,
    machine::worker::{Input, Need, RetryPolicy, State},
    message::{CommonFact, Event, EventBody, Fact, FactBody, FactKind},
};

use super::expiry::{self, Arrivals};
use crate::{journal::Journal, workflows};

/// What happened to a slot's sector.
#[derive(Debug)]
pub enum Happened {
    /// A processor is ours, for the phase of the present state.
    Acquired {
        /// Its name.
        processor: String,
    },
    /// What was worked on came to something.
    Worked(Input),
    /// The log has the event with this number.
    Reported {
        /// The event's.
        number: u64,
        /// The log's.
        sequence: u64,
    },
    /// The server refused an event: the lease has moved.
    Refused,
    /// The sector's log was read.
    News(News),
}

/// What was read of a sector's log.
#[derive(Debug, Default)]
pub struct News {
    /// The last fact of each kind that was asked for, if it is meant for our lease.
    pub facts: Vec<Fact>,
    /// Whether the lease is over.
    pub lease_moved: bool,
    /// That the sector goes on in another stream, if that is new.
    pub reinstated: Option<Reinstated>,
}

/// The manager has said, in another stream than the token is of, that a sector still is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reinstated {
    /// In which.
    pub stream: String,
    /// The first sequence that is there.
    pub first_sequence: u64,
    /// The number of the last event that it knows of.
    pub known: u64,
}

/// What must be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Do {
    /// Write the journal. What follows is done when it is on the disk.
    Persist(Box<Journal>),
    /// End what runs, and give its processor back.
    DropWork,
    /// Do what the state needs, up to the processor if it needs one; instead of whatever was done before.
    Work(Box<State>),
    /// Run the state's phase on the processor that was acquired.
    Run(Box<State>),
    /// Publish an event until the log has it or refuses it.
    Publish(Box<Event>),
    /// Read the log, now or when there may be something; instead of whatever was watched for before.
    Watch(Watch),
    /// Nothing more is to be done here.
    End(End),
}

/// What is read of the sector's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The kinds of facts, the most urgent first.
    pub kinds: &'static [FactKind],
    /// The serial of the last order that was carried out: what was told before it does not count.
    pub resubmitted: u32,
    /// Whether to read before anything rings.
    pub at_once: bool,
}

/// How a sector's life in a slot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Finished or aborted, and the log knows it.
    Over,
    /// The lease has moved: the server refused an event, or the last lease record is another one.
    Fenced,
}

/// Where a slot is, for people.
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
}

impl Core {
    /// A life that goes on where its journal says. `arrivals` is what is known of facts that came to an earlier process.
    pub fn new(journal: Journal, arrivals: Arrivals, policy: RetryPolicy, place: Place) -> Core {
        Core { journal, arrivals, policy, place, publishing: None }
    }

    /// When facts came.
    pub fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }

    /// What the disk has when everything that was asked for is done.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Gives the journal back.
    pub fn into_journal(self) -> Journal {
        self.journal
    }

    /// What must be done first.
    pub fn start(&mut self) -> Vec<Do> {
        let first = vec![self.work(), self.watch(true)];
        self.followed(first)
    }

    /// What must be done because of what happened, at a time of [`expiry::now_millis`].
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
            // An end that is only to be told may have been told already, and the lease closed for it.
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

    /// Whatever happened: one event at a time is on its way, and the end comes when the log knows all.
    fn followed(&mut self, mut todo: Vec<Do>) -> Vec<Do> {
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

    /// The log was lost, and the sector still is ours in the one that took its place.
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
                // First of all what runs ends, for it may run for nothing.
                let mut todo = vec![Do::DropWork, self.advance(next, effects)];
                todo.push(self.work());
                todo
            }
            Transition::Ignore(why) => {
                tracing::debug!(kind, why, "fact ignored");
                // What it says of the stores counts all the same, for the work that is to be done.
                if stores_told { vec![self.persist(), Do::DropWork, self.work()] } else { Vec::new() }
            }
            Transition::Illegal(why) => {
                tracing::error!(kind, why, "a fact that breaks the protocol; ignored");
                Vec::new()
            }
        }
    }

    /// Applies an input of our own making. One that the machine refuses is an error of its own, for a person.
    fn apply_own(&mut self, input: Input) -> Vec<Do> {
        if let Input::Failed { error } = &input {
            log_failure(error, self.phase(), self.journal.state.attempt());
        }
        let refused = match self.journal.state.apply(input, self.policy) {
            Transition::Advance { next, effects } => return vec![self.advance(next, effects)],
            Transition::Ignore(why) | Transition::Illegal(why) => why,
        };
        let error = self.named(ErrorReport::new(ErrorClass::Perm, ErrorCode::PROTOCOL_VIOLATED, refused));
        log_failure(&error, self.phase(), self.journal.state.attempt());
        match self.journal.state.apply(Input::Failed { error }, self.policy) {
            Transition::Advance { next, effects } => vec![self.advance(next, effects)],
            Transition::Ignore(_) | Transition::Illegal(_) => Vec::new(),
        }
    }

    /// The new state is on the disk before anything follows from it.
    fn advance(&mut self, next: State, events: Vec<EventBody>) -> Do {
        if next != self.journal.state {
            let step = next.step().map(|step| step.name());
            tracing::info!(step, attempt = next.attempt(), need = ?next.need(), "advanced");
        }
        self.journal.advance(next, events);
        self.persist()
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

    /// What the phase comes to instead of beginning now, by the chain's time.
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

    /// Adds where it happened.
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
