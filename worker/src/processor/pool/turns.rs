//! The scheduler, together with the requests that wait for a turn.
//!
//! There is no task here. Every call that requests, returns or gives up a seat serves all that can be served. A waiting
//! call also wakes at the time when the next start becomes due.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sealbus_planner::schedule::{Grant, NotServed, Scheduler, Seat, Setup, SetupError, Ticket, Urgency};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::processor::error::PoolError;
use crate::stage::Stage;

/// The scheduler and the waiting requests.
#[derive(Debug)]
pub(super) struct Turns {
    inner: Mutex<Inner>,
    /// When a waiting request may be served although no call is made.
    wakeup: watch::Sender<Option<Duration>>,
    began: Instant,
}

#[derive(Debug)]
struct Inner {
    scheduler: Scheduler,
    waiting: BTreeMap<Ticket, oneshot::Sender<Served>>,
}

/// What the position in the queue depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The sector's age: lower is older. The token of its lease can serve.
    pub seniority: u64,
    /// How long until the work becomes worthless, if it ever does. When that is short, it goes before others.
    pub expires_in: Option<Duration>,
}

/// What a waiting request received.
#[derive(Debug)]
enum Served {
    Seat(Held),
    Room,
}

/// A held seat. Dropping it returns the seat.
#[derive(Debug)]
pub(super) struct Held {
    turns: Arc<Turns>,
    pub(super) seat: Seat,
}

/// A waiting request. Dropping it gives up its place in the queue.
struct Asked {
    turns: Arc<Turns>,
    ticket: Ticket,
    turn: oneshot::Receiver<Served>,
}

impl Turns {
    pub(super) fn new(setup: &Setup) -> Result<Self, SetupError> {
        let inner = Inner { scheduler: Scheduler::new(setup)?, waiting: BTreeMap::new() };
        Ok(Self { inner: Mutex::new(inner), wakeup: watch::Sender::new(None), began: Instant::now() })
    }

    /// Waits for a seat.
    pub(super) async fn seat(self: &Arc<Self>, stage: Stage, turn: Turn) -> Result<Held, PoolError> {
        let urgency = self.urgency(turn);
        self.held(stage, |scheduler| scheduler.request(stage, urgency)).await
    }

    /// Waits for a seat before all others.
    pub(super) async fn reserved(self: &Arc<Self>, stage: Stage) -> Result<Held, PoolError> {
        self.held(stage, |scheduler| scheduler.reserve(stage)).await
    }

    async fn held(
        self: &Arc<Self>,
        stage: Stage,
        ask: impl FnOnce(&mut Scheduler) -> Result<Ticket, NotServed>,
    ) -> Result<Held, PoolError> {
        match self.wait(stage, ask).await? {
            Served::Seat(held) => Ok(held),
            // Room is never granted to a request for a seat.
            Served::Room => Err(PoolError::NoProcessor(stage)),
        }
    }

    /// Waits until a seat could be had, and takes none.
    pub(super) async fn room(self: &Arc<Self>, stage: Stage, turn: Turn) -> Result<(), PoolError> {
        let urgency = self.urgency(turn);
        self.wait(stage, |scheduler| scheduler.request_room(stage, urgency)).await.map(drop)
    }

    /// The number of free seats of a stage.
    pub(super) fn free(&self, stage: Stage) -> usize {
        self.lock().scheduler.free_seats(stage)
    }

    async fn wait(
        self: &Arc<Self>,
        stage: Stage,
        ask: impl FnOnce(&mut Scheduler) -> Result<Ticket, NotServed>,
    ) -> Result<Served, PoolError> {
        let (sender, turn) = oneshot::channel();
        let ticket = {
            let mut inner = self.lock();
            let ticket = ask(&mut inner.scheduler).map_err(|NotServed(stage)| PoolError::NoProcessor(stage))?;
            inner.waiting.insert(ticket, sender);
            ticket
        };
        let mut asked = Asked { turns: Arc::clone(self), ticket, turn };
        let mut wakeups = self.wakeup.subscribe();
        self.serve();
        loop {
            let wakeup = *wakeups.borrow_and_update();
            tokio::select! {
                biased;
                turn = &mut asked.turn => return turn.map_err(|_| PoolError::NoProcessor(stage)),
                () = self.until(wakeup) => self.serve(),
                _ = wakeups.changed() => {}
            }
        }
    }

    /// Grants a turn to every request that can have one now.
    fn serve(self: &Arc<Self>) {
        let mut unwanted = Vec::new();
        {
            let mut inner = self.lock();
            let now = self.now();
            for Grant { ticket, seat } in inner.scheduler.poll(now) {
                let turn = seat.map_or(Served::Room, |seat| Served::Seat(Held { turns: Arc::clone(self), seat }));
                match inner.waiting.remove(&ticket) {
                    Some(sender) => unwanted.extend(sender.send(turn).err()),
                    None => unwanted.push(turn),
                }
            }
            let next = inner.scheduler.next_wakeup(now);
            self.wakeup.send_if_modified(|wakeup| std::mem::replace(wakeup, next) != next);
        }
        // Only now, without the lock: dropping a seat returns it, which takes the lock.
        drop(unwanted);
    }

    fn urgency(&self, Turn { seniority, expires_in }: Turn) -> Urgency {
        Urgency { seniority, expires: expires_in.map(|left| self.now().saturating_add(left)) }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    async fn until(&self, wakeup: Option<Duration>) {
        match wakeup.and_then(|wakeup| self.began.checked_add(wakeup)) {
            Some(wakeup) => tokio::time::sleep_until(wakeup).await,
            None => std::future::pending().await,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Turn {
    /// The lowest seniority, and no expiry.
    fn default() -> Self {
        Self { seniority: Urgency::NONE.seniority, expires_in: None }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let now = self.turns.now();
        if let Err(error) = self.turns.lock().scheduler.release(self.seat.grant, now) {
            tracing::error!(%error, "a seat was given back twice");
        }
        self.turns.serve();
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let waited = {
            let mut inner = self.turns.lock();
            inner.waiting.remove(&self.ticket).is_some() && inner.scheduler.cancel(self.ticket)
        };
        // What was reserved for this request can now serve others.
        if waited {
            self.turns.serve();
        }
    }
}
