//! The scheduler, with those who wait for their turn.
//!
//! Nothing here runs by itself: whoever asks, gives back or gives up has everybody served who can be, and those who wait look
//! at the time when a start may come due.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sealbus_planner::schedule::{Grant, NotServed, Scheduler, Seat, Setup, SetupError, Ticket, Urgency};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::processor::error::PoolError;
use crate::stage::Stage;

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Turns {
    inner: Mutex<Inner>,
    /// When somebody who waits may be served although nothing happens.
    wakeup: watch::Sender<Option<Duration>>,
    began: Instant,
}

#[derive(Debug)]
struct Inner {
    scheduler: Scheduler,
    waiting: BTreeMap<Ticket, oneshot::Sender<Served>>,
}

/// What a place in the queue depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// How old the sector is: less for an older one, such as the token of its lease.
    pub seniority: u64,
    /// After which time the work will be worthless, if it ever will: it goes before others when that is short.
    pub expires_in: Option<Duration>,
}

/// What somebody waited for.
#[derive(Debug)]
enum Served {
    Seat(Held),
    Room,
}

/// A seat. Dropping it gives it back, once.
#[derive(Debug)]
pub(super) struct Held {
    turns: Arc<Turns>,
    pub(super) seat: Seat,
}

/// Somebody who waits. Dropping it gives the place in the queue up.
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
        match self.wait(stage, |scheduler| scheduler.request(stage, urgency)).await? {
            Served::Seat(held) => Ok(held),
            // Not granted to one who asks for a seat.
            Served::Room => Err(PoolError::NoProcessor(stage)),
        }
    }

    /// Waits until a seat could be had.
    pub(super) async fn room(self: &Arc<Self>, stage: Stage, turn: Turn) -> Result<(), PoolError> {
        let urgency = self.urgency(turn);
        self.wait(stage, |scheduler| scheduler.request_room(stage, urgency)).await.map(drop)
    }

    /// How many seats of a stage are free.
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

    /// Gives everybody a turn who can have one now.
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
        // Each goes to the next one, which needs the lock.
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
    /// The youngest, for whom nothing expires.
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
        // What was kept for it can be used by others.
        if waited {
            self.turns.serve();
        }
    }
}
