//! Who of those who wait is given which processor, and when. Pure: no IO, no clock; time is an argument.
//!
//! A machine has *processors* in groups; each has so many *seats* for requests. A request waits with a *ticket* until it is
//! *granted* a seat together with everything that it needs: room under its stage's limits and one unit of each of its
//! group's locks, all at once or nothing. So nobody holds one thing while waiting for another, and there is no deadlock.
//! What was granted is never taken back.
//!
//! **Order within a stage.** By seniority, and among equals by the time of asking; what will be worthless within
//! [`Setup::urgent_within`] goes before, the earliest expiry first. Seniority is the sector's, not the request's, so that
//! what was begun gets finished. A request whose locks are not all free lets younger ones pass that can be served.
//!
//! **Order between stages** that compete for a lock. What will be worthless soon goes first here as well; then the stage
//! for which the most wait, and of equals the older request. The longest queue is before the stage that can hardly keep
//! pace: its starts are kept apart, or it has few seats, so that what it misses today it cannot make up for tomorrow. By
//! age alone it would wait while it could start, and later the lock would idle because it may not start yet and
//! nobody else wants it. Where no stage is short of anything but the lock, queues stay equal, and none runs dry.
//!
//! **Looking ahead.** Nothing idles that somebody could use, with two exceptions for stages whose starts are kept apart: a
//! lock is left idle for a start that is due soon, or left to others for a better seat that will be free soon. Both depend
//! on how long work took lately; no limit, and nothing of what follows, does. What will be worthless soon is not put off.
//!
//! **Nobody starves.** A request waits for older ones, of which there are no more than slots. By younger ones it is overtaken
//! at most [`OVERTAKEN_MAX`] times: in its stage, or, while it is the first of its stage, by those of other stages that
//! took the last unit of a lock which it could have used. Then it goes first, and every lock that it could use is left for
//! it until it has all of them.
//!
//! **Choice.** Of the processors that could serve, one whose locks the fewest other groups need, then the one with the
//! most free seats, then the first.
//!
//! [`setup`] is what a machine allows.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sealbus_schema::Phase as Stage;

mod ahead;
mod count;
pub mod setup;
mod waiting;

use count::Count;
pub use setup::{Group, Rules, Setup, SetupError, URGENT_WITHIN};
use waiting::{Age, Queue, Rank, Waiting, Wish};

/// How often a request may be overtaken by younger ones before it goes first.
pub const OVERTAKEN_MAX: u32 = 16;

/// The order of work on one machine. All times are since one moment of the caller's choice, and never go back.
#[derive(Clone, Debug)]
pub struct Scheduler {
    stages: BTreeMap<Stage, StageState>,
    groups: Vec<GroupState>,
    locks: Vec<(String, Count)>,
    held: BTreeMap<GrantId, Held>,
    urgent_within: Duration,
    last_ticket: u64,
    last_grant: u64,
}

/// A place in the queue. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// The name of a granted seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantId(u64);

/// How much depends on being served soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Urgency {
    /// How old its sector is: less for an older one.
    pub seniority: u64,
    /// When the work will be worthless, if it ever will.
    pub expires: Option<Duration>,
}

/// Somebody's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Whose.
    pub ticket: Ticket,
    /// The seat; none for one that only wanted to know that there is room.
    pub seat: Option<Seat>,
}

/// A seat that is taken until it is [released](Scheduler::release).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Its name.
    pub grant: GrantId,
    /// The processor: processes are counted from 0 over all groups, in the order of the setup.
    pub processor: usize,
}

/// No group serves the stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no processor serves {0}")]
pub struct NotServed(pub Stage);

/// A grant that is not held: it never was, or was released before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not held: it was released before")]
pub struct NotHeld(pub GrantId);

#[derive(Clone, Debug)]
struct StageState {
    running: Count,
    staggered: Duration,
    /// No start before.
    next_start: Duration,
    /// How long its work took lately, if it is known.
    takes: Option<Duration>,
    waiting: Queue,
    /// Positions in the list of groups.
    groups: Vec<usize>,
}

#[derive(Clone, Debug)]
struct GroupState {
    stage: Stage,
    /// The number of its first processor.
    first: usize,
    seats: Vec<Count>,
    /// The processors with a free seat: how many they have, and their positions. The one with the most is first.
    open: BTreeSet<(Reverse<usize>, usize)>,
    /// Positions in the list of locks.
    locks: Vec<usize>,
    /// How many groups of other stages need one of its locks.
    contention: usize,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    group: usize,
    nth: usize,
    since: Duration,
}

impl Scheduler {
    /// A machine that works on nothing yet.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(setup: &Setup) -> Result<Self, SetupError> {
        setup.check()?;
        let rules = &setup.rules;
        let names: Vec<&String> = rules.locks.keys().collect();
        let shares = |one: &Group, other: &Group| {
            one.stage != other.stage && one.locks.iter().any(|lock| other.locks.contains(lock))
        };
        let mut stages: BTreeMap<Stage, StageState> = BTreeMap::new();
        let mut groups = Vec::new();
        let mut first = 0;
        for (index, group) in setup.groups.iter().enumerate() {
            let stage = group.stage;
            let of_stage = stages.entry(stage).or_insert_with(|| StageState {
                running: Count::of(rules.concurrent.get(&stage).copied().unwrap_or(usize::MAX)),
                staggered: rules.staggered.get(&stage).copied().unwrap_or_default(),
                next_start: Duration::ZERO,
                takes: None,
                waiting: Queue::default(),
                groups: Vec::new(),
            });
            of_stage.groups.push(index);
            groups.push(GroupState {
                stage,
                first,
                seats: vec![Count::of(group.concurrent); group.count],
                open: (0..group.count).map(|nth| (Reverse(group.concurrent), nth)).collect(),
                locks: group.locks.iter().filter_map(|lock| names.iter().position(|name| *name == lock)).collect(),
                contention: setup.groups.iter().filter(|other| shares(group, other)).count(),
            });
            first += group.count;
        }
        Ok(Self {
            stages,
            groups,
            locks: rules.locks.iter().map(|(name, units)| (name.clone(), Count::of(*units))).collect(),
            held: BTreeMap::new(),
            urgent_within: setup.urgent_within,
            last_ticket: 0,
            last_grant: 0,
        })
    }

    /// Asks for a seat.
    ///
    /// # Errors
    /// [`NotServed`].
    pub fn request(&mut self, stage: Stage, urgency: Urgency) -> Result<Ticket, NotServed> {
        self.enqueue(stage, urgency, Wish::Seat)
    }

    /// Asks to be told when a seat could be had, in the same order as those who want one.
    ///
    /// # Errors
    /// [`NotServed`].
    pub fn request_room(&mut self, stage: Stage, urgency: Urgency) -> Result<Ticket, NotServed> {
        self.enqueue(stage, urgency, Wish::Room)
    }

    /// Gives a place in the queue up. False if it has none, because it was granted or given up before.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        self.stages.values_mut().any(|stage| stage.waiting.cancel(ticket))
    }

    /// Frees a seat and everything that was taken with it, and learns how long it was taken.
    ///
    /// # Errors
    /// [`NotHeld`]; nothing has changed then.
    pub fn release(&mut self, grant: GrantId, now: Duration) -> Result<(), NotHeld> {
        let Held { group, nth, since } = self.held.remove(&grant).ok_or(NotHeld(grant))?;
        let group = &mut self.groups[group];
        let mut balanced = group.change(nth, Count::put_back);
        for lock in &group.locks {
            balanced &= self.locks[*lock].1.put_back();
        }
        balanced &= self.stages.get_mut(&group.stage).is_some_and(|stage| {
            stage.learn(now.saturating_sub(since));
            stage.running.put_back()
        });
        debug_assert!(balanced, "whatever is released was taken");
        Ok(())
    }

    /// Grants everything that can be granted now. To be called after each request, release and cancellation, and when
    /// [`next_wakeup`](Self::next_wakeup) has come.
    pub fn poll(&mut self, now: Duration) -> Vec<Grant> {
        let mut granted = Vec::new();
        while let Some(grant) = self.grant_next(now) {
            granted.push(grant);
        }
        granted
    }

    /// When to [`poll`](Self::poll) although nothing has happened, if ever: when a stage with somebody waiting may start again.
    #[must_use]
    pub fn next_wakeup(&self, now: Duration) -> Option<Duration> {
        let waits = |stage: &&StageState| !stage.waiting.is_empty() && stage.next_start > now;
        self.stages.values().filter(waits).map(|stage| stage.next_start).min()
    }

    /// How many requests of a stage are worked on.
    #[must_use]
    pub fn running(&self, stage: Stage) -> usize {
        self.stages.get(&stage).map_or(0, |stage| stage.running.taken())
    }

    /// How many seats of a stage are free, whatever its limits and locks say.
    #[must_use]
    pub fn free_seats(&self, stage: Stage) -> usize {
        let of_stage = self.groups.iter().filter(|group| group.stage == stage);
        of_stage.flat_map(|group| &group.open).map(|(Reverse(free), _)| free).sum()
    }

    /// How many wait for a stage.
    #[must_use]
    pub fn waiting(&self, stage: Stage) -> usize {
        self.stages.get(&stage).map_or(0, |stage| stage.waiting.len())
    }

    /// How many units of a lock are taken.
    #[must_use]
    pub fn lock_taken(&self, name: &str) -> usize {
        self.locks.iter().find(|(other, _)| other == name).map_or(0, |(_, count)| count.taken())
    }

    fn enqueue(&mut self, stage: Stage, urgency: Urgency, wish: Wish) -> Result<Ticket, NotServed> {
        let of_stage = self.stages.get_mut(&stage).ok_or(NotServed(stage))?;
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        of_stage.waiting.push(Waiting { ticket, urgency, wish, overtaken: 0 });
        Ok(ticket)
    }

    /// The first in order whose turn it can be. Requests of one stage need the same, so only the first of each counts.
    fn grant_next(&mut self, now: Duration) -> Option<Grant> {
        let has_seat = |of_stage: &StageState| of_stage.groups.iter().any(|group| self.groups[*group].has_seat());
        let open = self.stages.iter().filter(|(_, of_stage)| of_stage.is_open(now) && has_seat(of_stage));
        let first = |(stage, of_stage): (&Stage, &StageState)| {
            of_stage.waiting.first(now, self.urgent_within).map(|(rank, age)| (rank, *stage, age))
        };
        let mut heads: Vec<(Rank, Stage, Age)> = open.filter_map(first).collect();
        heads.sort_unstable();
        let mut kept = vec![0; self.locks.len()];
        for (rank, stage, age) in heads {
            let of_stage = self.stages.get(&stage)?;
            if let Some(place) = self.place_for(of_stage, rank, &kept, now) {
                return self.grant(stage, age, place, now);
            }
            if matches!(rank, Rank::Overdue(_)) {
                let with_seat = of_stage.groups.iter().filter(|group| self.groups[**group].has_seat());
                with_seat.flat_map(|group| &self.groups[*group].locks).for_each(|lock| kept[*lock] += 1);
            }
        }
        None
    }

    /// The best processor that could serve the stage now, if so many units of the locks are kept for others.
    fn place_for(&self, stage: &StageState, rank: Rank, kept: &[usize], now: Duration) -> Option<Held> {
        let mut best: Option<((usize, Reverse<usize>), Held)> = None;
        for &index in &stage.groups {
            let group = &self.groups[index];
            if !self.is_free(group, kept) || rank.can_wait() && self.is_put_off(stage, group, kept, now) {
                continue;
            }
            let Some(&(free, nth)) = group.open.first() else { continue };
            let key = (group.contention, free);
            if best.is_none_or(|(other, _)| key < other) {
                best = Some((key, Held { group: index, nth, since: now }));
            }
        }
        best.map(|(_, held)| held)
    }

    /// Whether one could be served by the group now, if so many units of the locks are kept for others.
    fn is_free(&self, group: &GroupState, kept: &[usize]) -> bool {
        group.has_seat() && group.locks.iter().all(|lock| self.locks[*lock].1.free() > kept[*lock])
    }

    fn grant(&mut self, stage: Stage, age: Age, place: Held, now: Duration) -> Option<Grant> {
        let of_stage = self.stages.get_mut(&stage)?;
        let Waiting { ticket, wish, .. } = of_stage.waiting.remove(age)?;
        if wish == Wish::Room {
            return Some(Grant { ticket, seat: None });
        }
        let group = &mut self.groups[place.group];
        let mut taken = of_stage.running.take() && group.change(place.nth, Count::take);
        for lock in &group.locks {
            taken &= self.locks[*lock].1.take();
        }
        debug_assert!(taken, "whatever is granted was free");
        of_stage.next_start = now.saturating_add(of_stage.staggered);
        let processor = group.first + place.nth;
        self.last_grant += 1;
        let grant = GrantId(self.last_grant);
        self.held.insert(grant, place);
        self.count_overtaken(age, stage, place.group, now);
        Some(Grant { ticket, seat: Some(Seat { grant, processor }) })
    }

    /// Who is older and could have used what a younger one was given: of its own stage everybody, of another one who is
    /// first there, if the last unit of a lock is gone.
    fn count_overtaken(&mut self, younger: Age, stage: Stage, group: usize, now: Duration) {
        let (groups, urgent_within) = (&self.groups, self.urgent_within);
        let is_gone = |lock: &&usize| self.locks[**lock].1.free() == 0;
        let gone: Vec<usize> = groups[group].locks.iter().filter(is_gone).copied().collect();
        let wanted_by = |index: &usize| {
            let candidate = &groups[*index];
            candidate.has_seat() && candidate.locks.iter().any(|lock| gone.contains(lock))
        };
        for (&other, of_other) in &mut self.stages {
            if other == stage {
                of_other.waiting.overtake_older(younger);
            } else if !gone.is_empty() && of_other.is_open(now) && of_other.groups.iter().any(wanted_by) {
                let first = of_other.waiting.first(now, urgent_within).map(|(_, age)| age);
                first.filter(|age| *age < younger).into_iter().for_each(|age| of_other.waiting.overtake(age));
            }
        }
    }
}

impl StageState {
    /// Whether its limits let one start now.
    fn is_open(&self, now: Duration) -> bool {
        self.running.free() > 0 && self.next_start <= now
    }
}

impl GroupState {
    fn has_seat(&self) -> bool {
        !self.open.is_empty()
    }

    /// Takes a seat of a processor, or puts one back. False if there is none.
    fn change(&mut self, nth: usize, change: impl FnOnce(&mut Count) -> bool) -> bool {
        let seats = &mut self.seats[nth];
        self.open.remove(&(Reverse(seats.free()), nth));
        let is_changed = change(seats);
        if seats.free() > 0 {
            self.open.insert((Reverse(seats.free()), nth));
        }
        is_changed
    }
}

impl Urgency {
    /// Younger than all that say how old they are, and never worthless.
    pub const NONE: Urgency = Urgency { seniority: u64::MAX, expires: None };

    /// Worthless at a time.
    #[must_use]
    pub const fn by(expires: Duration) -> Self {
        Self { expires: Some(expires), ..Self::NONE }
    }
}
