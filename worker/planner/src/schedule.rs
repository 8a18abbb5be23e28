//! Decides which waiting request gets which processor, and when. Pure: no IO, no clock; time is an argument.
//!
//! A machine has *processors* in groups, and each processor has *seats* for requests. A request waits with a *ticket*
//! until it is *granted* a seat. With the seat it gets everything else that it needs at once: room under its stage's
//! limits, and one unit of each of its group's locks. So no request holds one thing while it waits for another, and
//! there is no deadlock. A grant is never taken back.
//!
//! **Order within a stage.** By seniority, then by the time of asking. Work that becomes worthless within
//! [`Setup::urgent_within`] goes first, the earliest expiry foremost. Seniority belongs to the sector, not to the
//! request, so that sectors get finished in the order in which they began. If a request's locks are not all free,
//! younger requests that can be served may pass it.
//!
//! **Order between stages** that compete for a lock. Urgent work goes first here too. Then comes the stage with the
//! longest queue, and among equals the older request. The longest queue goes to the stage that can hardly keep pace:
//! its starts are kept apart, or it has few seats. What it misses now it cannot make up for later. By age alone it
//! would wait although it could start; later the lock would be idle, because that stage may not start yet and nobody
//! else wants the lock. If the stages lack nothing but the lock, their queues stay about equal, and none runs dry.
//!
//! **Looking ahead.** Nothing stays idle that a request could use, with two exceptions for stages whose starts are kept
//! apart. A lock may be left idle for a start that is due soon. Or it may be left to other stages, if a better seat is
//! about to become free. Both decisions use how long recent work took; no limit and none of the guarantees below depend
//! on that. Urgent work is never put off.
//!
//! **No starvation.** A request waits for older ones, and there are no more of these than slots. Younger ones can
//! overtake it at most [`OVERTAKEN_MAX`] times. Overtaken means: by a younger request of its own stage, or, while it is
//! the first of its stage, by a request of another stage that took the last unit of a lock which it could have used.
//! After that it goes first, and every lock that it could use is kept for it until it has them all.
//!
//! **Choice of a processor.** Among those that could serve: the one whose locks are needed by the fewest groups of
//! other stages, then the one with the most free seats, then the first.
//!
//! [`setup`] describes what a machine allows.

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

/// How often younger requests may overtake a request before it goes first.
pub const OVERTAKEN_MAX: u32 = 16;

/// The order of work on one machine. All times count from one moment that the caller chooses, and must never decrease.
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

/// A place in the queue. Later tickets compare as greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// Identifies a granted seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantId(u64);

/// How urgent a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Urgency {
    /// The age of its sector: lower is older.
    pub seniority: u64,
    /// When the work becomes worthless, if it ever does.
    pub expires: Option<Duration>,
}

/// A request that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The request's ticket.
    pub ticket: Ticket,
    /// The seat; `None` for a request that only asked for room.
    pub seat: Option<Seat>,
}

/// A seat, taken until it is [released](Scheduler::release).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Its identifier.
    pub grant: GrantId,
    /// The processor. Processes are numbered from 0 across all groups, in the order of the setup.
    pub processor: usize,
}

/// No group serves this stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no processor serves {0}")]
pub struct NotServed(pub Stage);

/// The grant is not held: it never existed, or was released before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not held: it was released before")]
pub struct NotHeld(pub GrantId);

#[derive(Clone, Debug)]
struct StageState {
    running: Count,
    staggered: Duration,
    /// The earliest time of the next start.
    next_start: Duration,
    /// How long recent work took; `None` if unknown.
    takes: Option<Duration>,
    waiting: Queue,
    /// Indexes into the list of groups.
    groups: Vec<usize>,
}

#[derive(Clone, Debug)]
struct GroupState {
    stage: Stage,
    /// The number of its first processor.
    first: usize,
    seats: Vec<Count>,
    /// The processors with free seats, as (number of free seats, index). The one with the most comes first.
    open: BTreeSet<(Reverse<usize>, usize)>,
    /// Indexes into the list of locks.
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
    /// Creates a scheduler for a machine on which nothing runs yet.
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

    /// Requests a seat.
    ///
    /// # Errors
    /// [`NotServed`].
    pub fn request(&mut self, stage: Stage, urgency: Urgency) -> Result<Ticket, NotServed> {
        self.enqueue(stage, urgency, Wish::Seat)
    }

    /// Requests a seat before all others, for work that comes soon and must not wait. Nothing that runs is stopped; but
    /// whatever the seat needs is kept for it from now on, so nothing else that needs the same begins.
    ///
    /// # Errors
    /// [`NotServed`].
    pub fn reserve(&mut self, stage: Stage) -> Result<Ticket, NotServed> {
        self.enqueue_as(stage, Urgency { seniority: 0, expires: None }, Wish::Seat, OVERTAKEN_MAX)
    }

    /// Requests to be told when a seat could be had. It waits in the same order as requests for seats.
    ///
    /// # Errors
    /// [`NotServed`].
    pub fn request_room(&mut self, stage: Stage, urgency: Urgency) -> Result<Ticket, NotServed> {
        self.enqueue(stage, urgency, Wish::Room)
    }

    /// Gives up a place in the queue. Returns `false` if the request was granted or cancelled before.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        self.stages.values_mut().any(|stage| stage.waiting.cancel(ticket))
    }

    /// Frees a seat with everything that was taken for it. The time for which it was taken is remembered for looking
    /// ahead.
    ///
    /// # Errors
    /// [`NotHeld`]. Nothing has changed then.
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

    /// Grants everything that can be granted now. Call this after each request, release and cancellation, and at the
    /// time that [`next_wakeup`](Self::next_wakeup) gives.
    pub fn poll(&mut self, now: Duration) -> Vec<Grant> {
        let mut granted = Vec::new();
        while let Some(grant) = self.grant_next(now) {
            granted.push(grant);
        }
        granted
    }

    /// When to [`poll`](Self::poll) even if nothing happens: the next time at which a stage with waiting requests may
    /// start. `None` if there is no such time.
    #[must_use]
    pub fn next_wakeup(&self, now: Duration) -> Option<Duration> {
        let waits = |stage: &&StageState| !stage.waiting.is_empty() && stage.next_start > now;
        self.stages.values().filter(waits).map(|stage| stage.next_start).min()
    }

    /// How many requests of a stage are being worked on.
    #[must_use]
    pub fn running(&self, stage: Stage) -> usize {
        self.stages.get(&stage).map_or(0, |stage| stage.running.taken())
    }

    /// How many seats of a stage are free, ignoring limits and locks.
    #[must_use]
    pub fn free_seats(&self, stage: Stage) -> usize {
        let of_stage = self.groups.iter().filter(|group| group.stage == stage);
        of_stage.flat_map(|group| &group.open).map(|(Reverse(free), _)| free).sum()
    }

    /// How many requests wait for a stage.
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
        self.enqueue_as(stage, urgency, wish, 0)
    }

    fn enqueue_as(&mut self, stage: Stage, urgency: Urgency, wish: Wish, overtaken: u32) -> Result<Ticket, NotServed> {
        let of_stage = self.stages.get_mut(&stage).ok_or(NotServed(stage))?;
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        of_stage.waiting.push(Waiting { ticket, urgency, wish, overtaken });
        Ok(ticket)
    }

    /// Grants the first request in order that can be served. Requests of one stage need the same things, so only the
    /// first of each stage is considered.
    fn grant_next(&mut self, now: Duration) -> Option<Grant> {
        let has_seat = |of_stage: &StageState| of_stage.groups.iter().any(|group| self.groups[*group].has_seat());
        let open = self.stages.iter().filter(|(_, of_stage)| of_stage.is_open(now) && has_seat(of_stage));
        let first = |(stage, of_stage): (&Stage, &StageState)| {
            of_stage.waiting.first(now, self.urgent_within).map(|(rank, age)| (rank, *stage, age))
        };
        let mut heads: Vec<(Rank, Stage, Age)> = open.filter_map(first).collect();
        heads.sort_unstable();
        // Units of locks that are kept for overdue requests. Others may not take them.
        let mut kept = vec![0; self.locks.len()];
        for (rank, stage, age) in heads {
            let of_stage = self.stages.get(&stage)?;
            if let Some(place) = self.place_for(of_stage, rank, &kept, now) {
                return self.grant(stage, age, place, now);
            }
            // An overdue request that cannot be served yet keeps a unit of every lock that it could use. So nobody
            // passes it again by taking the last one.
            if matches!(rank, Rank::Overdue(_)) {
                let with_seat = of_stage.groups.iter().filter(|group| self.groups[**group].has_seat());
                with_seat.flat_map(|group| &self.groups[*group].locks).for_each(|lock| kept[*lock] += 1);
            }
        }
        None
    }

    /// The best processor that could serve the stage now, if `kept` units of each lock are reserved for others.
    fn place_for(&self, stage: &StageState, rank: Rank, kept: &[usize], now: Duration) -> Option<Held> {
        let mut best: Option<((usize, Reverse<usize>), Held)> = None;
        for &index in &stage.groups {
            let group = &self.groups[index];
            if !self.is_free(group, kept) || rank.can_wait() && self.is_put_off(stage, group, kept, now) {
                continue;
            }
            let Some(&(free, nth)) = group.open.first() else { continue };
            // Tuples compare in order: first the groups whose locks others need least, then the processor with the most
            // free seats.
            let key = (group.contention, free);
            if best.is_none_or(|(other, _)| key < other) {
                best = Some((key, Held { group: index, nth, since: now }));
            }
        }
        best.map(|(_, held)| held)
    }

    /// Whether the group could serve a request now, if `kept` units of each lock are reserved for others.
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
        // Only a seat counts as a start; a request for room has returned above.
        of_stage.next_start = now.saturating_add(of_stage.staggered);
        let processor = group.first + place.nth;
        self.last_grant += 1;
        let grant = GrantId(self.last_grant);
        self.held.insert(grant, place);
        self.count_overtaken(age, stage, place.group, now);
        Some(Grant { ticket, seat: Some(Seat { grant, processor }) })
    }

    /// Counts the overtaking of older requests that could have used what was granted. In the same stage these are all
    /// older ones. In another stage it is the first one, if the last unit of a lock that it could use is gone.
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
    /// Whether the stage's limits allow a start now.
    fn is_open(&self, now: Duration) -> bool {
        self.running.free() > 0 && self.next_start <= now
    }
}

impl GroupState {
    fn has_seat(&self) -> bool {
        !self.open.is_empty()
    }

    /// Changes a processor's count of free seats. Returns `false` if that is impossible.
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
    /// Lowest seniority, no expiry.
    pub const NONE: Urgency = Urgency { seniority: u64::MAX, expires: None };

    /// Lowest seniority, worthless after this time.
    #[must_use]
    pub const fn by(expires: Duration) -> Self {
        Self { expires: Some(expires), ..Self::NONE }
    }
}
