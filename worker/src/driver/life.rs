//! Drives one sector through the machine: work, publishing and facts side by side, the journal between them.

use std::{path::PathBuf, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use sealbus_nats::publish::PublishError;
use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, Transition,
    message::{Event, Fact},
    seal::worker::{Input, Need, RetryPolicy, State, Step},
};
use tokio::sync::Notify;

use super::{
    Context, expiry,
    facts::{self, News},
    insist, work,
};
use crate::{journal::Journal, processor::ProcessorGuard, slot::Slot};
use work::{Done, Job};

/// How a sector's life in a slot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Finished or aborted, and the log knows it.
    Over,
    /// The lease has moved: the server refused an event, or the last lease record is another one.
    Fenced,
}

/// One sector in one slot.
pub struct Life<'a> {
    context: Arc<Context>,
    slot: &'a Slot,
    journal: Journal,
    work_dir: PathBuf,
    bell: Arc<Notify>,
}

/// What an input did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Applied {
    Advanced,
    Unchanged,
}

/// What happened next.
enum Next {
    Work(Box<Done>),
    Reported(Result<u64, Fenced>),
    News(News),
}

/// The server refused an event.
#[derive(Clone, Copy, Debug)]
struct Fenced;

impl<'a> Life<'a> {
    /// A life that goes on where its journal says.
    pub fn new(context: Arc<Context>, slot: &'a Slot, journal: Journal) -> Life<'a> {
        let bell = context.wakeups.bell(slot.index(), journal.intent.sector);
        let work_dir = slot.work_dir(journal.intent.sector, journal.token);
        Life { context, slot, journal, work_dir, bell }
    }

    /// Goes on until the end, and gives the journal back. Dropping the future kills the phase that runs.
    pub async fn run(mut self) -> (End, Journal) {
        // Each is dropped when its reason is gone: dropping the work of a running phase kills its processor.
        let mut working = Some(self.work());
        let mut reporting: Option<BoxFuture<'static, Result<u64, Fenced>>> = None;
        let mut watching = self.watch(true);
        loop {
            if matches!(self.journal.state, State::Over { .. }) && self.journal.pending.is_empty() {
                return (End::Over, self.journal);
            }
            if reporting.is_none() {
                reporting = self.journal.pending.first().map(|event| self.report(event.clone()));
            }
            let next = tokio::select! {
                done = or_never(&mut working) => Next::Work(Box::new(done)),
                outcome = or_never(&mut reporting) => Next::Reported(outcome),
                news = &mut watching => Next::News(news),
            };
            match next {
                Next::Work(done) => {
                    let before = self.journal.state.clone();
                    working = Some(self.on_work(*done).await);
                    if self.journal.state != before {
                        watching = self.watch(true);
                    }
                }
                Next::Reported(Ok(number)) => {
                    reporting = None;
                    self.journal.acknowledge(number);
                    self.persist().await;
                }
                Next::Reported(Err(Fenced)) => return (End::Fenced, self.journal),
                // An end that is only to be told may have been told already, and the lease closed for it.
                Next::News(News { lease_moved: true, .. }) if self.journal.state.step().is_some() => {
                    return (End::Fenced, self.journal);
                }
                Next::News(news) => {
                    let mut advanced = false;
                    for fact in news.facts {
                        advanced |= self.on_fact(fact, &mut working).await == Applied::Advanced;
                    }
                    watching = self.watch(advanced);
                }
            }
        }
    }

    /// What the state needs.
    fn work(&self) -> BoxFuture<'static, Done> {
        let job = Job { context: Arc::clone(&self.context), slot: self.slot.clone(), work_dir: self.work_dir.clone() };
        job.begin(&self.journal.state)
    }

    async fn on_work(&mut self, done: Done) -> BoxFuture<'static, Done> {
        let input = match done {
            Done::Input(input) => input,
            Done::Acquired(guard) => match self.refuse_to_start() {
                None => return self.start_phase(*guard).await,
                Some(input) => input,
            },
        };
        self.apply_own(input).await;
        self.work()
    }

    /// Begins the phase on a processor.
    async fn start_phase(&mut self, guard: ProcessorGuard) -> BoxFuture<'static, Done> {
        let processor = guard.id().to_owned();
        tracing::info!(phase = self.phase(), attempt = self.journal.state.attempt(), processor, "phase started");
        self.apply_own(Input::PhaseStarted { processor }).await;
        let job = Job { context: Arc::clone(&self.context), slot: self.slot.clone(), work_dir: self.work_dir.clone() };
        job.run(guard, self.journal.state.clone(), self.journal.intent.clone(), self.journal.token)
    }

    /// Why the phase must not begin now, by the chain's time.
    fn refuse_to_start(&self) -> Option<Input> {
        let received = &self.journal.received;
        match self.journal.state.step()? {
            Step::Pc1 { ticket, .. }
                if expiry::ticket_expired(ticket, received.ticket_unix_millis, expiry::unix_millis()) =>
            {
                tracing::warn!(
                    draw = ticket.draw,
                    expires_epoch = ticket.expires_epoch,
                    "ticket expired; asking for another"
                );
                Some(Input::TicketExpired)
            }
            Step::C1 { precommit, .. } | Step::C2 { precommit, .. }
                if expiry::precommit_expired(precommit, received.precommit_unix_millis, expiry::unix_millis()) =>
            {
                let message = format!("the chain takes no proof after epoch {}", precommit.prove_by_epoch);
                // The sector's deposit is at stake: a person decides, not a code's usual class.
                Some(Input::Failed { error: self.error(ErrorClass::Perm, ErrorCode::PRECOMMIT_EXPIRED, message) })
            }
            _ => None,
        }
    }

    async fn on_fact(&mut self, fact: Fact, working: &mut Option<BoxFuture<'static, Done>>) -> Applied {
        let kind = fact.kind().map(|kind| kind.name());
        if !fact.counts_for(self.journal.token, self.journal.resubmitted) {
            tracing::debug!(kind, "a fact that an order read with it withdraws");
            return Applied::Unchanged;
        }
        let (mut received, mut resubmitted) = (self.journal.received, self.journal.resubmitted);
        match &fact {
            Fact::Ticket { .. } => received.ticket_unix_millis = expiry::unix_millis(),
            Fact::PrecommitLanded { .. } => received.precommit_unix_millis = expiry::unix_millis(),
            Fact::Resubmit { serial, .. } => resubmitted = *serial,
            _ => {}
        }
        match self.journal.state.apply(Input::Fact(fact), self.policy()) {
            Transition::Advance { next, effects } => {
                // First of all what runs ends, for it may run for nothing.
                *working = None;
                tracing::info!(kind, "fact taken");
                self.journal.received = received;
                self.journal.resubmitted = resubmitted;
                self.advance(next, effects).await;
                *working = Some(self.work());
                Applied::Advanced
            }
            Transition::Ignore(why) => {
                tracing::debug!(kind, why, "fact ignored");
                Applied::Unchanged
            }
            Transition::Illegal(why) => {
                tracing::error!(kind, why, "a fact that breaks the protocol; ignored");
                Applied::Unchanged
            }
        }
    }

    /// Applies an input of our own making. One that the machine refuses is an error of its own, for a person.
    async fn apply_own(&mut self, input: Input) {
        if let Input::Failed { error } = &input {
            log_failure(error, self.phase(), self.journal.state.attempt());
        }
        let refused = match self.journal.state.apply(input, self.policy()) {
            Transition::Advance { next, effects } => return self.advance(next, effects).await,
            Transition::Ignore(why) | Transition::Illegal(why) => why,
        };
        let error = self.error(ErrorClass::Perm, ErrorCode::PROTOCOL_VIOLATED, refused.to_owned());
        log_failure(&error, self.phase(), self.journal.state.attempt());
        if let Transition::Advance { next, effects } = self.journal.state.apply(Input::Failed { error }, self.policy())
        {
            self.advance(next, effects).await;
        }
    }

    /// The new state is on the disk before anything follows from it.
    async fn advance(&mut self, next: State, events: Vec<sealbus_schema::message::EventBody>) {
        if next != self.journal.state {
            let step = next.step().map(Step::name);
            tracing::info!(step, attempt = next.attempt(), need = ?next.need(), "advanced");
        }
        self.journal.advance(next, events);
        self.persist().await;
    }

    async fn persist(&self) {
        let (journal, path) = (self.journal.clone(), self.slot.journal());
        insist(&self.context, self.slot, "write the journal", move || journal.store(&path)).await;
        let Journal { intent, token, state, .. } = &self.journal;
        self.context.board.hold(self.slot.index(), intent.sector, *token, state);
    }

    /// Publishes an event, however long the bus is away.
    fn report(&self, event: Event) -> BoxFuture<'static, Result<u64, Fenced>> {
        let (context, sector) = (Arc::clone(&self.context), self.journal.intent.sector);
        async move {
            loop {
                match context.bus.report(sector, &context.config.name, &event).await {
                    Ok(_) => return Ok(event.number),
                    Err(PublishError::Fenced { .. }) => return Err(Fenced),
                    Err(error) => {
                        let (kind, number) = (event.body.kind(), event.number);
                        tracing::error!(kind, number, %error, "the bus refuses an event; trying again");
                        tokio::time::sleep(context.config.recover_interval).await;
                    }
                }
            }
        }
        .boxed()
    }

    fn watch(&self, at_once: bool) -> BoxFuture<'static, News> {
        let kinds = facts::kinds(&self.journal.state);
        let context = Arc::clone(&self.context);
        let Journal { intent, token, resubmitted, .. } = &self.journal;
        facts::next(context, intent.sector, *token, *resubmitted, kinds, Arc::clone(&self.bell), at_once).boxed()
    }

    fn policy(&self) -> RetryPolicy {
        RetryPolicy { max_retries: self.context.config.max_retries }
    }

    fn phase(&self) -> Option<&'static str> {
        match self.journal.state.need() {
            Need::Run(phase) => Some(phase.name()),
            _ => None,
        }
    }

    fn error(&self, class: ErrorClass, code: ErrorCode, message: String) -> ErrorReport {
        let host = self.context.config.host.clone();
        ErrorReport { host, slot: self.slot.name(), ..ErrorReport::new(class, code, message) }
    }
}

fn log_failure(error: &ErrorReport, phase: Option<&'static str>, attempt: u32) {
    let (code, class, message) = (&error.code, error.class.name(), error.message());
    match error.class {
        ErrorClass::Temp | ErrorClass::Abort => tracing::warn!(phase, attempt, %code, class, "failed: {message}"),
        _ => tracing::error!(phase, attempt, %code, class, "failed: {message}"),
    }
}

/// The future's output, if there is a future. It is taken away when it is done.
async fn or_never<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(running) => {
            let output = running.await;
            *future = None;
            output
        }
        None => std::future::pending().await,
    }
}
