//! Carries out the core's actions. Work, publishing and reading facts run concurrently; the journal is written between
//! them.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use sealbus_nats::{
    Patience,
    publish::{Backoff, PublishError, Secret, Stored},
};
use sealbus_schema::{
    Invariant, Violation,
    machine::worker::{RetryPolicy, State},
    message::Event,
    workflows::Step,
};

use super::{
    Context,
    core::{Core, Do, End, Happened, News, Place, Watch, leave},
    expiry::{self, Arrivals},
    facts, insist, resume,
    wakeups::Bell,
    work,
};
use crate::{
    journal::Journal,
    processor::{ProcessorGuard, Turn},
    slot::Slot,
    workflows,
};
use work::{Done, Job};

/// The longest pause between two tries to publish an event while the log does not say who owns the sector.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// One sector in one slot.
pub struct Life<'a> {
    context: Arc<Context>,
    slot: &'a Slot,
    core: Core,
    work_dir: PathBuf,
    bell: Arc<Bell>,
    /// Remembers whether an unreadable log was already reported.
    reading: Arc<Mutex<Patience>>,
    running: Running,
}

/// The running futures. Each is dropped when it is no longer needed. Dropping the work of a running phase kills its
/// processor.
#[derive(Default)]
struct Running {
    working: Option<BoxFuture<'static, Done>>,
    publishing: Option<BoxFuture<'static, Result<Happened, Fenced>>>,
    watching: Option<BoxFuture<'static, News>>,
    acquired: Option<ProcessorGuard>,
}

/// The server refused an event.
#[derive(Clone, Copy, Debug)]
struct Fenced;

impl<'a> Life<'a> {
    /// A sector's life that continues from its journal.
    pub fn new(context: Arc<Context>, slot: &'a Slot, journal: Journal, arrivals: Arrivals) -> Life<'a> {
        let bell = context.wakeups.bell(slot.index(), journal.intent.sector);
        let work_dir = slot.work_dir(journal.intent.sector, journal.token);
        let policy = RetryPolicy { max_retries: context.config.max_retries };
        let place = Place { host: context.config.host.clone(), slot: slot.name() };
        let core = Core::new(journal, arrivals, policy, place);
        let reading = Arc::new(Mutex::new(Patience::new(MAX_PAUSE, MAX_PAUSE)));
        Life { context, slot, core, work_dir, bell, reading, running: Running::default() }
    }

    /// Continues until the end, and returns the journal. Dropping the future kills the running phase.
    pub async fn run(mut self) -> (End, Journal) {
        let mut todo = self.core.start();
        loop {
            for action in todo {
                if let Some(end) = self.carry_out(action).await {
                    return (end, self.core.into_journal());
                }
            }
            self.check_waiting();
            let happened = self.running.next().await;
            todo = self.core.handle(happened, expiry::now_millis());
        }
    }

    async fn carry_out(&mut self, action: Do) -> Option<End> {
        match action {
            Do::Persist(journal) => self.persist(*journal).await,
            Do::DropWork => (self.running.working, self.running.acquired) = (None, None),
            Do::Work(state) => {
                let turn = self.turn(&state);
                self.running.working = Some(self.job().begin(&state, turn));
            }
            Do::Run(state) => self.run_phase(*state),
            Do::Publish(event) => self.running.publishing = Some(self.report(*event)),
            Do::Watch(watch) => self.running.watching = Some(self.watch(watch)),
            Do::Count(violation) => self.context.board.count(violation),
            Do::End(end) => return Some(end),
        }
        None
    }

    /// A step that was given a processor has begun to use it, or has given it back.
    fn check_waiting(&mut self) {
        if let Some(violation) = give_back(&mut self.running.acquired, self.core.journal()) {
            self.context.board.count(violation);
        }
    }

    fn run_phase(&mut self, state: State) {
        let guard = self.running.acquired.take();
        self.running.working = guard.map(|guard| self.job().run(guard, state));
    }

    async fn persist(&mut self, journal: Journal) {
        let (written, path) = (journal.clone(), self.slot.journal());
        insist(&self.context, self.slot, "write the journal", move || written.store(&path)).await;
        let Journal { intent, token, state, resubmitted, .. } = &journal;
        self.context.board.hold(self.slot.index(), intent.sector, *token, state);
        self.context.board.resubmitted(self.slot.index(), *resubmitted);
    }

    /// The place in the queue for a processor: older leases, and work that expires soon, go first.
    fn turn(&self, state: &State) -> Turn {
        let left =
            |step: &Step| expiry::time_left(&workflows::expiry(step)?, self.core.arrivals(), expiry::now_millis());
        Turn { seniority: self.core.journal().token.0, expires_in: state.step().and_then(left) }
    }

    fn job(&self) -> Job {
        let Journal { intent, token, stores, .. } = self.core.journal().clone();
        let (context, work_dir) = (Arc::clone(&self.context), self.work_dir.clone());
        Job { context, slot: self.slot.clone(), work_dir, intent, token, stores }
    }

    /// Publishes an event, however long the bus is away.
    fn report(&self, event: Event) -> BoxFuture<'static, Result<Happened, Fenced>> {
        let (context, slot, journal) = (Arc::clone(&self.context), self.slot.index(), self.core.journal().clone());
        async move {
            let sector = journal.intent.sector;
            let secret = Some(journal.secret).filter(|secret| *secret != Secret::default());
            let mut stream: Option<String> = None;
            let mut backoff = Backoff::new(Duration::from_secs(1), MAX_PAUSE);
            let mut said = None;
            loop {
                let right = leave::right(&journal, &context.config.name, stream.as_deref());
                match context.bus.report_under(sector, &right, &event, secret).await {
                    Ok(Stored { sequence, .. }) => {
                        return Ok(Happened::Reported { number: event.number, sequence });
                    }
                    Err(PublishError::Fenced { .. }) if stream.is_some() => return Err(Fenced),
                    // The lease is over in this stream. Check whether the token belongs to this stream.
                    Err(PublishError::Fenced { .. }) => match resume::stream_identity(&context).await {
                        None => tokio::time::sleep(backoff.next_pause()).await,
                        found => stream = found,
                    },
                    Err(PublishError::Open { .. }) => {
                        stream = resume::stream_identity(&context).await;
                        let right = leave::right(&journal, &context.config.name, stream.as_deref());
                        if let Ok(standing) = context.bus.standing(sector, &right).await {
                            resume::show_doubt(&context, slot, &journal, &standing, right.foreign.is_some());
                        }
                        tokio::time::sleep(backoff.next_pause()).await;
                    }
                    Err(error) => {
                        let (kind, number, words) = (event.body.kind(), event.number, error.to_string());
                        if said.as_ref() != Some(&words) {
                            tracing::error!(kind, number, %error, "the bus refuses an event; trying again");
                            said = Some(words);
                        }
                        tokio::time::sleep(context.config.recover_interval).await;
                    }
                }
            }
        }
        .boxed()
    }

    fn watch(&self, watch: Watch) -> BoxFuture<'static, News> {
        let (context, journal) = (Arc::clone(&self.context), self.core.journal().clone());
        let (bell, reading) = (Arc::clone(&self.bell), Arc::clone(&self.reading));
        facts::next(context, self.slot.index(), journal, watch, bell, reading).boxed()
    }
}

/// Gives back a processor that a step has and does not use.
fn give_back(acquired: &mut Option<ProcessorGuard>, journal: &Journal) -> Option<Violation> {
    let guard = acquired.take()?;
    let step = journal.state.step().map_or("over", |step| step.name());
    let seen = format!("{} waits in step {step} and has {}", journal.intent.sector, guard.id());
    Some(Violation::new(Invariant::WaitingHoldsNoProcessor, seen))
}

impl Running {
    /// Waits for what happens next.
    async fn next(&mut self) -> Happened {
        let done = tokio::select! {
            done = or_never(&mut self.working) => done,
            outcome = or_never(&mut self.publishing) => {
                return outcome.unwrap_or(Happened::Refused);
            }
            news = or_never(&mut self.watching) => return Happened::News(news),
        };
        match done {
            Done::Input(input) => Happened::Worked(input),
            Done::Acquired(guard) => {
                let processor = guard.id().to_owned();
                self.acquired = Some(*guard);
                Happened::Acquired { processor }
            }
        }
    }
}

/// The future's output. Never returns if there is no future. Removes the future when it is done.
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

#[cfg(test)]
mod tests {
    use sealbus_schema::{IntentKind, Phase, SealProof, Token, message::Intent};

    use super::*;
    use crate::{
        processor::{GroupConfig, PoolConfig, ProcessorPool},
        stage::Stage,
    };

    #[tokio::test]
    async fn a_processor_that_a_step_does_not_use_is_given_back_and_told() {
        let directory = tempfile::tempdir().expect("directory");
        let groups = vec![GroupConfig::built_in(Stage::C2, 1)];
        let pool = ProcessorPool::new(PoolConfig { groups, tmp_roots: vec![directory.path().into()] }).expect("pool");
        let kind = IntentKind::Seal;
        let sector = "f01000/1".parse().expect("sector");
        let intent = Intent { sector, kind, proof: SealProof::StackedDrg2KiBV1_1, lease_sequence: 0, attempt: 1 };
        let journal = Journal::new(None, intent, Token(5), State::claimed(kind).expect("a known kind"));
        let turn = Turn { seniority: 5, expires_in: None };
        let mut acquired = Some(pool.acquire_as(Phase::C2, turn).await.expect("a processor"));
        let violation = give_back(&mut acquired, &journal).expect("a violation");
        assert_eq!(violation.invariant, Invariant::WaitingHoldsNoProcessor);
        assert_eq!(violation.seen, "f01000/1 waits in step add_pieces and has c2-0");
        assert_eq!(pool.free(Stage::C2), 1);
        assert_eq!(give_back(&mut acquired, &journal), None);
    }
}
