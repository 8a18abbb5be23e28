//! A simulated manager: its fold and its outbox. Each is a series of steps, and a crash may happen between any two.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc};

use sealbus_manager::{
    fold,
    life::{self, intent_of},
    outbox::{Refused, Treatment, refused, treat},
    store::{CallId, Job, Outcome, Outgoing, Verdict},
};
use sealbus_nats::{
    log::{Entry, Record},
    publish::PublishError,
};
use sealbus_schema::{
    ErrorReport, Invariant, SectorId, Token,
    lease::Ownership,
    message::{Intent, LeaseRecord},
};

use super::{
    bug::Bug,
    bus::{Answer, Publish},
    manager_chain::{Apply, Driving},
    restore::KEPT,
    stranger::stranger,
    world::{Client, Event, Reply, Request, World},
};

/// How often the intents of waiting sectors are offered again.
const REOFFER: u64 = 120_000;
/// How often the driver ticks if nothing wakes it.
const TICK: u64 = 30_000;

/// A manager.
#[derive(Default)]
pub struct Manager {
    pub up: bool,
    pub incarnation: u64,
    /// Until when it is stopped, as if by SIGSTOP.
    pub stopped_until: u64,
    /// Until when its network is cut.
    pub cut_until: u64,
    /// The epoch under which it believes that it holds the fold.
    pub epoch: i64,
    /// The stream that it took over.
    pub stream: u64,
    pub last: u64,
    folding: Option<u64>,
    fold_due: bool,
    outbox: Outbox,
    pub driving: Option<Driving>,
    pub tick_due: bool,
    /// The active sectors that need no look, and the number of reorganisations when that was found.
    pub settled: (u64, BTreeSet<SectorId>),
}

#[derive(Default)]
struct Outbox {
    /// The request that is being published, with its row; `None` for an intent that is offered again.
    sending: Option<(u64, Option<i64>)>,
    /// The lease record that it expects, if that is not the lease that it names.
    behind: Option<u64>,
    /// Sectors whose rows wait for the fold.
    waiting: BTreeSet<SectorId>,
    /// The row after which to continue.
    after: i64,
    reoffer: Vec<Intent>,
    due: bool,
}

/// A manager's next step.
#[derive(Clone, Debug)]
pub enum Task {
    Fold,
    FoldPoll,
    FoldCommit(Rc<Vec<Entry>>),
    LookAtStream,
    Outbox,
    Remove(i64),
    Reoffer,
    Tick,
    Poll,
    Step,
    Apply(Rc<RefCell<Option<Apply>>>),
    Push(CallId),
}

impl World {
    /// Starts a manager's process. It takes over, unless its database was folded from another log.
    pub fn start_manager(&mut self, m: usize) {
        if self.managers[m].up {
            return;
        }
        if self.db.stream != self.bus.stream {
            return self.start_manager_later(m);
        }
        self.db.epoch += 1;
        let (epoch, stream, last) = (self.db.epoch, self.db.stream, self.db.last_sequence);
        let Manager { incarnation, cut_until, .. } = self.managers[m];
        let incarnation = incarnation + 1;
        self.managers[m] = Manager { up: true, incarnation, cut_until, epoch, stream, last, ..Manager::default() };
        self.trace(|| format!("m{m} takes over with epoch {epoch}"));
        self.begin_to_catch_up();
        for task in [Task::FoldPoll, Task::Reoffer, Task::Poll] {
            self.manager_in(m, 1, task);
        }
        self.wake_outbox(m);
    }

    /// Kill -9.
    pub fn kill_manager(&mut self, m: usize) {
        let manager = &mut self.managers[m];
        manager.up = false;
        manager.incarnation += 1;
        manager.stopped_until = 0;
        self.trace(|| format!("m{m} ends"));
    }

    /// Schedules a manager's step after a delay.
    pub fn manager_in(&mut self, m: usize, delay: u64, task: Task) {
        let incarnation = self.managers[m].incarnation;
        self.schedule(delay, Event::Manager { manager: m, incarnation, task });
    }

    /// Carries out a manager's step.
    pub fn manager_task(&mut self, m: usize, incarnation: u64, task: Task) {
        if self.managers[m].incarnation != incarnation || !self.managers[m].up {
            return;
        }
        if self.faulty(self.faults.crash) {
            self.kill_manager(m);
            let back = self.rng.range(500, 120_000);
            return self.schedule(back, Event::StartManager(m));
        }
        match task {
            Task::Fold => {
                self.managers[m].fold_due = false;
                self.read_log(m);
            }
            Task::FoldPoll => {
                self.read_log(m);
                self.manager_in(m, 30_000, Task::FoldPoll);
            }
            Task::FoldCommit(entries) => self.fold(m, &entries),
            Task::LookAtStream => self.look_at_stream(m),
            Task::Outbox => {
                self.managers[m].outbox.due = false;
                if !self.is_catching_up() {
                    self.drain(m);
                }
            }
            Task::Remove(row) => {
                self.db.outbox.remove(&row);
                self.drain_on(m);
            }
            Task::Reoffer if self.is_catching_up() => self.manager_in(m, REOFFER, Task::Reoffer),
            Task::Reoffer => {
                self.purge_old();
                let offered = self.db.sectors.values().filter(|sector| sector.blocked.is_none());
                self.managers[m].outbox.reoffer = offered.filter_map(intent_of).collect();
                self.drain(m);
                self.manager_in(m, REOFFER, Task::Reoffer);
            }
            Task::Tick => {
                self.managers[m].tick_due = false;
                self.tick(m);
            }
            Task::Poll => {
                self.tick(m);
                self.manager_in(m, TICK, Task::Poll);
            }
            Task::Step => self.drive_next(m),
            Task::Apply(apply) => {
                if let Some(apply) = apply.borrow_mut().take() {
                    self.drive_apply(m, apply);
                }
            }
            Task::Push(call) => self.drive_push(m, call),
        }
    }

    /// Whether a manager may write. If another manager has taken over, it ends.
    pub fn begin(&mut self, m: usize) -> bool {
        let ours = self.managers[m].epoch == self.db.epoch;
        if !ours {
            self.trace(|| format!("m{m} was overtaken"));
            self.kill_manager(m);
        }
        ours
    }

    /// Wakes the fold, because the log has new records.
    pub fn wake_fold(&mut self, m: usize) {
        if self.managers[m].up && !std::mem::replace(&mut self.managers[m].fold_due, true) {
            let delay = self.latency();
            self.manager_in(m, delay, Task::Fold);
        }
    }

    fn read_log(&mut self, m: usize) {
        if self.managers[m].folding.is_none() {
            let after = self.managers[m].last;
            self.managers[m].folding = Some(self.request(Client::Fold(m), Request::Log { after }));
        }
    }

    /// Handles an answer of the bus to the fold.
    pub fn fold_reply(&mut self, m: usize, tag: u64, reply: Reply) {
        if self.managers[m].folding != Some(tag) {
            return;
        }
        match reply {
            // When the log was opened again, check first whether it is another stream.
            Reply::Log { stream, .. } if stream != self.managers[m].stream => self.look_at_stream(m),
            Reply::Log { entries, .. } if entries.is_empty() => {
                self.managers[m].folding = None;
                if self.is_catching_up() && self.begin(m) {
                    self.end_catching_up(m, true);
                }
            }
            Reply::Log { entries, .. } => {
                let delay = self.rng.range(1, 30);
                self.manager_in(m, delay, Task::FoldCommit(Rc::new(entries)));
            }
            Reply::Timeout => {
                self.managers[m].folding = None;
                self.read_log(m);
            }
            _ => self.managers[m].folding = None,
        }
    }

    /// Folds a batch in one transaction: the outcomes of the records, and the offset.
    fn fold(&mut self, m: usize, entries: &[Entry]) {
        let bug = self.options.bug;
        let last = self.managers[m].last;
        self.managers[m].folding = None;
        if bug != Some(Bug::ForgetOffset) && (!self.begin(m) || self.db.last_sequence != last) {
            return;
        }
        for entry in entries.iter().filter(|entry| entry.sequence > last) {
            let until = self.db.restored.filter(|restored| !restored.log_is_read).and_then(|restored| restored.until);
            if until.is_some_and(|until| entry.sequence <= until) {
                self.recall_entry(m, entry);
                continue;
            }
            let (Record::Lease { sector, .. } | Record::Event { sector, .. }) = &entry.record else { continue };
            let Some(sector) = self.db.sectors.get(sector).cloned() else { continue };
            let entry = planted(bug, &sector, entry);
            let before = sector.ownership.clone();
            let mut outcome = fold::decide(sector, &entry, self.policy);
            mistaken(bug, &entry, &mut outcome);
            self.check_fold(&entry, &outcome);
            self.check_owner(&entry, &before, &outcome.sector.ownership);
            self.store(m, outcome);
        }
        // A batch that was requested twice brings nothing new.
        let end = entries.last().map_or(last, |entry| entry.sequence).max(last);
        self.db.last_sequence = end;
        self.managers[m].last = end;
        self.end_catching_up(m, false);
        self.read_log(m);
    }

    /// Folds a record of before the loss of the manager's host.
    fn recall_entry(&mut self, m: usize, entry: &Entry) {
        let before = |sector: &Job| sector.ownership.clone();
        let id = match &entry.record {
            Record::Lease { sector, .. } | Record::Event { sector, .. } | Record::Fact { sector, .. } => *sector,
            Record::Unreadable { .. } => return,
        };
        let before = self.db.sectors.get(&id).map_or(Ownership::Free { last_lease: 0 }, before);
        let Some(outcome) = self.recall(entry) else { return };
        if !matches!(entry.record, Record::Fact { .. }) {
            self.check_fold(entry, &outcome);
            self.check_owner(entry, &before, &outcome.sector.ownership);
        }
        self.store(m, outcome);
    }

    /// Deletes the records of sectors that ended long ago.
    fn purge_old(&mut self) {
        let now = self.now;
        let old: Vec<_> = self.db.ended.iter().filter(|(_, at)| now >= **at + KEPT).map(|(id, _)| *id).collect();
        for id in old {
            self.db.ended.remove(&id);
            if let Some(sector) = self.db.sectors.get(&id).filter(|sector| sector.state.is_terminal()) {
                let lease_sequence = sector.ownership.last_lease();
                self.db.add_to_outbox(id, Outgoing::Purge { lease_sequence });
            }
        }
    }

    /// Stores an outcome, and wakes the tasks that wait for a change.
    pub fn store(&mut self, m: usize, outcome: Outcome) {
        let id = outcome.sector.id;
        if self.options.trace && self.db.sectors.get(&id).is_some_and(|before| before.state != outcome.sector.state) {
            let (name, blocked) = (outcome.sector.state.name(), outcome.sector.blocked.is_some());
            let what = outcome.history.last().map(|(happening, _)| happening.kind.clone()).unwrap_or_default();
            self.trace(|| format!("m{m}: {id} is {name}{} ({what})", if blocked { ", blocked" } else { "" }));
        }
        self.check_outcome(&outcome);
        // Whoever has a key may write without a fence. That is counted in production, and the stranger does it on purpose.
        let by_stranger = outcome.history.last().is_some_and(|(happening, _)| happening.actor == stranger().as_str());
        let fenced = |invariant| invariant != Invariant::WritersAreFenced || !by_stranger;
        for violation in outcome.broken.iter().filter(|violation| fenced(violation.invariant)) {
            self.break_invariant(violation.invariant, || violation.seen.clone());
        }
        let wakes = !outcome.outbox.is_empty();
        if outcome.sector.state.is_terminal() {
            self.db.ended.entry(id).or_insert(self.now);
        }
        if outcome.sector.state.is_terminal() && self.options.bug == Some(Bug::PurgeAtOnce) {
            let lease_sequence = outcome.sector.ownership.last_lease();
            self.db.add_to_outbox(id, Outgoing::Purge { lease_sequence });
        }
        self.db.store(outcome);
        for m in 0..self.managers.len() {
            if wakes {
                self.wake_outbox(m);
            }
            if self.managers[m].up && !std::mem::replace(&mut self.managers[m].tick_due, true) {
                let delay = self.rng.range(5, 500);
                self.manager_in(m, delay, Task::Tick);
            }
        }
    }

    /// Wakes the outbox, because it has rows to publish.
    pub fn wake_outbox(&mut self, m: usize) {
        if self.managers[m].up && !std::mem::replace(&mut self.managers[m].outbox.due, true) {
            let delay = self.rng.range(1, 50);
            self.manager_in(m, delay, Task::Outbox);
        }
    }

    fn drain(&mut self, m: usize) {
        if self.managers[m].outbox.sending.is_none() {
            self.managers[m].outbox.after = 0;
            self.managers[m].outbox.waiting.clear();
            self.drain_on(m);
        }
    }

    fn drain_on(&mut self, m: usize) {
        let after = self.managers[m].outbox.after;
        let waiting = &self.managers[m].outbox.waiting;
        let stays = |sector: &SectorId, out: &Outgoing| named_lease(out).is_some() && waiting.contains(sector);
        let row = self.db.outbox.range(after + 1..).find(|(_, (sector, out))| !stays(sector, out));
        let row = row.map(|(row, (sector, out))| (*row, *sector, out.clone()));
        self.managers[m].outbox.behind = None;
        let (row, request) = match row {
            Some((row, sector, outgoing)) => {
                let request = self.request_of(m, row, sector, outgoing, None);
                (Some(row), request)
            }
            None => match self.managers[m].outbox.reoffer.pop() {
                Some(intent) => (None, Request::Offer { intent, stream: self.managers[m].stream }),
                None => return,
            },
        };
        let tag = self.request(Client::Outbox(m), request);
        let outbox = &mut self.managers[m].outbox;
        outbox.sending = Some((tag, row));
        outbox.after = row.unwrap_or(after);
    }

    fn request_of(&self, m: usize, row: i64, sector: SectorId, outgoing: Outgoing, behind: Option<u64>) -> Request {
        let stream = self.managers[m].stream;
        let (id, fence, record) = match outgoing {
            Outgoing::Intent(intent) => match self.claimed_before(&intent) {
                None => return Request::Offer { intent, stream },
                Some(found) => {
                    let record = LeaseRecord::Release { reason: "claimed before it was wanted".to_owned() };
                    ((4, sector, found, 0, 0), found, Record::Lease { sector, owner: None, record })
                }
            },
            Outgoing::Purge { .. } => return Request::Purge(sector),
            Outgoing::Fact { worker, token, fact } => {
                let fence = behind.unwrap_or(token.0);
                ((3, sector, token.0, row as u64, 0), fence, Record::Fact { sector, worker, fact })
            }
            Outgoing::Release { lease_sequence, reason } => {
                let record = LeaseRecord::Release { reason };
                let fence = behind.unwrap_or(lease_sequence);
                ((4, sector, fence, 0, 0), fence, Record::Lease { sector, owner: None, record })
            }
            Outgoing::Reinstate { after, record } => {
                ((6, sector, after, 0, 0), after, Record::Lease { sector, owner: None, record })
            }
        };
        Request::Publish(Box::new(Publish { id, fence: Some(fence), record, origin: Some(stream) }))
    }

    /// A record that somebody wrote into a sector's log before it was wanted: production's `outbox::free_log`.
    fn claimed_before(&self, intent: &Intent) -> Option<u64> {
        let found = self.bus.last_lease(intent.sector).filter(|_| intent.lease_sequence == 0)?.sequence;
        let sector = self.db.sectors.get(&intent.sector)?;
        let is_passed_over = sector.ownership == Ownership::Free { last_lease: 0 } && self.db.last_sequence >= found;
        is_passed_over.then_some(found)
    }

    /// Handles an answer of the bus to the outbox, or a timeout.
    pub fn outbox_reply(&mut self, m: usize, tag: u64, reply: Reply) {
        let Some((asked, row)) = self.managers[m].outbox.sending else { return };
        if asked != tag || !self.managers[m].up {
            return;
        }
        self.managers[m].outbox.sending = None;
        let subject = String::new();
        let outcome = match reply {
            Reply::Published(Answer::Fenced) => Err(PublishError::Fenced { subject }),
            Reply::Timeout => Err(PublishError::Unknown { subject, source: "no answer".into() }),
            _ => Ok(()),
        };
        if let (Err(PublishError::Fenced { .. }), Some(row)) = (&outcome, row)
            && self.was_fenced(m, row)
        {
            return;
        }
        let treatment = match treat(&outcome) {
            Treatment::Stop if self.options.bug == Some(Bug::ForgetRow) => Treatment::Remove,
            treatment => treatment,
        };
        match (treatment, row) {
            (Treatment::Remove, Some(row)) => {
                let delay = self.rng.range(1, 20);
                self.manager_in(m, delay, Task::Remove(row));
            }
            (Treatment::Remove, None) | (Treatment::Keep | Treatment::Wait, _) => self.drain_on(m),
            (Treatment::Stop, _) => {
                self.managers[m].outbox.reoffer.clear();
                self.managers[m].outbox.due = true;
                self.manager_in(m, 1_000, Task::Outbox);
            }
        }
    }

    /// Handles a row that the fence refused. Returns whether nothing else is to be done: it is published again behind
    /// another record, or waits.
    fn was_fenced(&mut self, m: usize, row: i64) -> bool {
        let Some((sector, outgoing)) = self.db.outbox.get(&row).cloned() else { return false };
        let Some(lease) = named_lease(&outgoing) else { return false };
        let tried = self.managers[m].outbox.behind.unwrap_or(lease);
        let ownership = self.db.sectors.get(&sector).map(|sector| &sector.ownership);
        match refused(lease, tried, ownership) {
            Refused::Over => return false,
            Refused::Behind(fence) => {
                let request = self.request_of(m, row, sector, outgoing, Some(fence));
                let tag = self.request(Client::Outbox(m), request);
                let outbox = &mut self.managers[m].outbox;
                (outbox.sending, outbox.behind) = (Some((tag, Some(row))), Some(fence));
            }
            Refused::NotFolded => {
                self.managers[m].outbox.waiting.insert(sector);
                self.managers[m].outbox.due = true;
                self.manager_in(m, 1_000, Task::Outbox);
                self.drain_on(m);
            }
        }
        true
    }

    /// Checks that ownership changes only by a granted claim or by a record of the manager.
    fn check_owner(&mut self, entry: &Entry, before: &Ownership, after: &Ownership) {
        let claims = matches!(&entry.record, Record::Lease { owner: Some(_), .. });
        if claims && after.lease() == entry.sequence && matches!(after, Ownership::Held { .. }) {
            self.checks.granted.insert((self.db.stream, entry.sequence));
        }
        if claims && matches!(before, Ownership::Held { .. }) && before.lease() != after.lease() {
            let what = format!("{before:?} became {after:?} by {:?}", entry.record);
            self.break_invariant(Invariant::ClaimsNeedAGrant, || what);
        }
    }

    fn check_fold(&mut self, entry: &Entry, outcome: &Outcome) {
        let sequence = entry.sequence;
        if !self.checks.folded.insert((self.db.stream, sequence)) {
            self.break_invariant(Invariant::EventsFoldOnce, || format!("record {sequence} takes effect again"));
        }
        let Record::Event { event, .. } = &entry.record else { return };
        // An event that the fold rejected, or ignored as a duplicate, does not count.
        let counts = outcome.history.iter().any(|(_, verdict)| *verdict != Verdict::Fenced);
        let Some(Record::Event { worker, event: written, .. }) =
            self.bus.entry(sequence).map(|entry| entry.record.clone())
        else {
            return;
        };
        let Some(right) = self.right_in(&outcome.sector.ownership).filter(|_| counts) else { return };
        let owner = self.checks.accepted.entry(right).or_insert_with(|| worker.clone());
        if *owner != worker || written.token != event.token {
            let what = format!("an event of {worker} under {} counts for {} of {owner}", written.token, event.token);
            self.break_invariant(Invariant::OneOwnerAToken, || what);
        }
        // An old token may equal a token of the new stream. The stream that the writer meant shows the difference.
        let origin = self.bus.origin(sequence);
        if origin.is_some_and(|origin| origin != right.0) {
            let what = format!("an event of {worker} under a token of stream {origin:?} counts for {right:?}");
            self.break_invariant(Invariant::OneStreamAToken, || what);
        }
        if !self.checks.counted.insert((outcome.sector.id, right, written.number)) {
            let what = format!("event {} of {worker} under {right:?} counts again", written.number);
            self.break_invariant(Invariant::EventsFoldOnce, || what);
        }
        if outcome.history.iter().any(|(_, verdict)| *verdict == Verdict::Illegal) {
            let what = format!("{:?}", outcome.history);
            self.break_invariant(Invariant::NothingIllegal, || what);
        }
    }

    fn check_outcome(&mut self, outcome: &Outcome) {
        let unexplained = |cause: &ErrorReport| cause.causes.is_empty();
        let sector = &outcome.sector;
        let given_up = sector.state.cause().filter(|_| sector.state.is_terminal());
        if sector.blocked.as_ref().or(given_up).is_some_and(unexplained) {
            self.break_invariant(Invariant::BlockedWithCause, || "a sector".to_owned());
        }
    }

    /// Applies an input from a person or the chain, in one transaction.
    pub fn apply(&mut self, m: usize, id: SectorId, input: sealbus_schema::workflows::Input) {
        let Some(sector) = self.db.sectors.get(&id).cloned() else { return };
        let (kind, detail) = sealbus_manager::drive::decide::told(&input);
        let happening = sealbus_manager::store::Happening::of_manager(kind, detail);
        let outcome = life::decide(sector, input, happening, self.policy);
        self.store(m, outcome);
    }
}

/// The lease that a record names, if its fence may move.
fn named_lease(outgoing: &Outgoing) -> Option<u64> {
    match outgoing {
        Outgoing::Fact { token, .. } => Some(token.0),
        Outgoing::Release { lease_sequence, .. } => Some(*lease_sequence),
        Outgoing::Intent(_) | Outgoing::Reinstate { .. } | Outgoing::Purge { .. } => None,
    }
}

/// Changes the outcome of a claim without an offer, as a fold with this bug would.
fn mistaken(bug: Option<Bug>, entry: &Entry, outcome: &mut Outcome) {
    let Record::Lease { owner: Some(owner), .. } = &entry.record else { return };
    let granted = outcome.history.iter().all(|(_, verdict)| *verdict != Verdict::Illegal);
    match bug {
        Some(Bug::GrantAnyClaim) if !granted => {
            outcome.sector.ownership = Ownership::claimed(owner.clone(), Token(entry.sequence));
            outcome.outbox.clear();
        }
        Some(Bug::NoWordAfterClaim) if !granted => outcome.outbox.clear(),
        _ => {}
    }
}

/// The record as a fold with this bug reads it.
fn planted(bug: Option<Bug>, sector: &Job, entry: &Entry) -> Entry {
    let mut entry = entry.clone();
    let Record::Event { worker, event, .. } = &mut entry.record else { return entry };
    if let (Some(Bug::FoldWithoutOwner), Ownership::Held { worker: owner, token, .. }) = (bug, &sector.ownership) {
        *worker = owner.clone();
        event.token = *token;
    }
    entry
}
