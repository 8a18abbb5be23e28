//! Records the scheduler's requests and grants from outside, and checks that it keeps its promises.

use std::collections::BTreeMap;
use std::time::Duration;

use sealbus_planner::schedule::{GrantId, Group, OVERTAKEN_MAX, Seat, Setup, Ticket, Urgency};
use sealbus_schema::Phase as Stage;

#[derive(Debug)]
pub struct Ledger {
    setup: Setup,
    /// The group of each processor.
    group_of: Vec<usize>,
    in_flight: Vec<usize>,
    running: BTreeMap<Stage, usize>,
    taken: BTreeMap<String, usize>,
    last_start: BTreeMap<Stage, Duration>,
    held: BTreeMap<GrantId, usize>,
    waiting: BTreeMap<Stage, BTreeMap<Ticket, Waits>>,
    pub most_overtaken: u32,
}

#[derive(Debug)]
struct Waits {
    urgency: Urgency,
    overtaken: u32,
}

impl Ledger {
    pub fn new(setup: &Setup) -> Ledger {
        let group_of: Vec<usize> = setup
            .groups
            .iter()
            .enumerate()
            .flat_map(|(index, group)| std::iter::repeat_n(index, group.count))
            .collect();
        Ledger {
            setup: setup.clone(),
            in_flight: vec![0; group_of.len()],
            group_of,
            running: BTreeMap::new(),
            taken: BTreeMap::new(),
            last_start: BTreeMap::new(),
            held: BTreeMap::new(),
            waiting: BTreeMap::new(),
            most_overtaken: 0,
        }
    }

    pub fn asked(&mut self, ticket: Ticket, stage: Stage, urgency: Urgency) {
        let waits = Waits { urgency, overtaken: 0 };
        assert!(self.waiting.entry(stage).or_default().insert(ticket, waits).is_none(), "{ticket:?} was given twice");
    }

    pub fn gave_up(&mut self, ticket: Ticket) {
        self.no_longer_waits(ticket);
    }

    /// Records that a request for room was granted. It takes nothing.
    pub fn shown_room(&mut self, ticket: Ticket) {
        self.no_longer_waits(ticket);
    }

    pub fn granted(&mut self, ticket: Ticket, seat: Seat, now: Duration) {
        let (stage, Waits { urgency, .. }) = self.no_longer_waits(ticket);
        let group = self.setup.groups[self.group_of[seat.processor]].clone();
        assert_eq!(group.stage, stage, "a processor of another stage");
        let rules = &self.setup.rules;
        self.in_flight[seat.processor] += 1;
        assert!(self.in_flight[seat.processor] <= group.concurrent, "a processor has more requests than seats");
        let running = self.running.entry(stage).or_default();
        *running += 1;
        assert!(rules.concurrent.get(&stage).is_none_or(|limit| *running <= *limit), "more of {stage} than allowed");
        for lock in &group.locks {
            let taken = self.taken.entry(lock.clone()).or_default();
            *taken += 1;
            assert!(*taken <= rules.locks[lock], "more of {lock} than it has");
        }
        let last = self.last_start.insert(stage, now);
        if let (Some(last), Some(apart)) = (last, rules.staggered.get(&stage)) {
            assert!(now >= last + *apart, "{stage} started {:?} after the last one", now - last);
        }
        assert!(self.held.insert(seat.grant, seat.processor).is_none(), "{:?} was given twice", seat.grant);
        self.count_overtaken((urgency.seniority, ticket), &group, now);
    }

    pub fn released(&mut self, grant: GrantId) {
        let processor = self.held.remove(&grant).unwrap_or_else(|| panic!("{grant:?} was not held"));
        let group = &self.setup.groups[self.group_of[processor]];
        let back = |count: &mut usize| *count = count.checked_sub(1).expect("no more put back than taken");
        back(&mut self.in_flight[processor]);
        back(self.running.get_mut(&group.stage).expect("ran"));
        group.locks.iter().for_each(|lock| back(self.taken.get_mut(lock).expect("taken")));
    }

    /// Nothing stays idle that a request could use, unless it is kept for an overdue request, or for a stage that waits
    /// only for its next start.
    pub fn check_nothing_idle(&self, now: Duration) {
        let is_overdue = |waits: &Waits| waits.overtaken >= OVERTAKEN_MAX;
        if self.waiting.values().flat_map(BTreeMap::values).any(is_overdue) {
            return;
        }
        let starts_later: Vec<Stage> =
            Stage::SEALING.into_iter().filter(|stage| self.starts_later(*stage, now)).collect();
        let is_awaited = |lock: &String| {
            starts_later.iter().any(|other| self.groups_with_seat(*other).any(|group| group.locks.contains(lock)))
        };
        let is_free = |lock: &String| self.taken(lock) < self.setup.rules.locks[lock];
        let waiting = self.waiting.iter().filter(|(_, waiting)| !waiting.is_empty());
        for stage in waiting.map(|(stage, _)| *stage).filter(|stage| self.is_open(*stage, now)) {
            let idle = |group: &Group| group.locks.iter().all(is_free) && !group.locks.iter().any(is_awaited);
            assert!(!self.groups_with_seat(stage).any(idle), "somebody waits for {stage}, which could be served");
        }
    }

    pub fn taken(&self, lock: &str) -> usize {
        self.taken.get(lock).copied().unwrap_or(0)
    }

    pub fn running(&self, stage: Stage) -> usize {
        self.running.get(&stage).copied().unwrap_or(0)
    }

    pub fn is_balanced(&self) -> bool {
        let none = |count: &usize| *count == 0;
        self.held.is_empty()
            && self.in_flight.iter().all(none)
            && self.running.values().all(none)
            && self.taken.values().all(none)
    }

    fn no_longer_waits(&mut self, ticket: Ticket) -> (Stage, Waits) {
        let found = self.waiting.iter_mut().find_map(|(stage, of_stage)| Some((*stage, of_stage.remove(&ticket)?)));
        found.unwrap_or_else(|| panic!("{ticket:?} did not wait"))
    }

    fn is_open(&self, stage: Stage, now: Duration) -> bool {
        self.has_room(stage) && self.may_start(stage, now)
    }

    fn starts_later(&self, stage: Stage, now: Duration) -> bool {
        let has_waiting = self.waiting.get(&stage).is_some_and(|waiting| !waiting.is_empty());
        has_waiting && self.has_room(stage) && !self.may_start(stage, now)
    }

    fn has_room(&self, stage: Stage) -> bool {
        self.setup.rules.concurrent.get(&stage).is_none_or(|limit| self.running(stage) < *limit)
    }

    fn may_start(&self, stage: Stage, now: Duration) -> bool {
        let apart = self.setup.rules.staggered.get(&stage).copied().unwrap_or_default();
        self.last_start.get(&stage).is_none_or(|last| now >= *last + apart)
    }

    fn groups_with_seat(&self, stage: Stage) -> impl Iterator<Item = &Group> {
        let with_seat = move |index: &usize| {
            let processors = self.group_of.iter().enumerate().filter(move |(_, group)| *group == index);
            processors
                .into_iter()
                .any(|(processor, _)| self.in_flight[processor] < self.setup.groups[*index].concurrent)
        };
        let groups = (0..self.setup.groups.len()).filter(move |index| self.setup.groups[*index].stage == stage);
        groups.filter(with_seat).map(|index| &self.setup.groups[index])
    }

    /// In its own stage every older request is overtaken. In another stage it is the first one, if the last unit of a
    /// lock that it could have used is gone.
    fn count_overtaken(&mut self, younger: (u64, Ticket), group: &Group, now: Duration) {
        let is_gone = |lock: &String| self.taken(lock) == self.setup.rules.locks[lock];
        let shares = |other: &Group| other.locks.iter().any(|lock| group.locks.contains(lock) && is_gone(lock));
        let others = Stage::SEALING.into_iter().filter(|stage| *stage != group.stage && self.is_open(*stage, now));
        let others = others.filter(|stage| self.groups_with_seat(*stage).any(shares));
        let firsts: Vec<(Stage, Ticket)> =
            others.filter_map(|stage| Some((stage, self.first_of(stage, now)?))).collect();
        let is_older = |ticket: Ticket, waits: &Waits| (waits.urgency.seniority, ticket) < younger;
        let mut most = self.most_overtaken;
        let mut is_overtaken = |stage: Stage, ticket: Ticket, waits: &mut Waits| {
            waits.overtaken += 1;
            assert!(waits.overtaken <= OVERTAKEN_MAX, "{ticket:?} for {stage} starves");
            most = most.max(waits.overtaken);
        };
        let own = self.waiting.entry(group.stage).or_default().iter_mut();
        own.filter(|(ticket, waits)| is_older(**ticket, waits))
            .for_each(|(ticket, waits)| is_overtaken(group.stage, *ticket, waits));
        for (stage, ticket) in firsts {
            let waits = self.waiting.get_mut(&stage).and_then(|waiting| waiting.get_mut(&ticket)).expect("waits");
            if is_older(ticket, waits) {
                is_overtaken(stage, ticket, waits);
            }
        }
        self.most_overtaken = most;
    }

    /// The next request of a stage: first the overdue, then the urgent, then the oldest.
    fn first_of(&self, stage: Stage, now: Duration) -> Option<Ticket> {
        let soon = now + self.setup.urgent_within;
        let rank = |ticket: Ticket, Waits { urgency, overtaken, .. }: &Waits| {
            let age = (urgency.seniority, ticket);
            match urgency.expires {
                _ if *overtaken >= OVERTAKEN_MAX => (0, Duration::ZERO, age),
                Some(expires) if expires <= soon => (1, expires, age),
                _ => (2, Duration::ZERO, age),
            }
        };
        let of_stage = self.waiting.get(&stage)?.iter();
        of_stage.map(|(ticket, waits)| rank(*ticket, waits)).min().map(|(_, _, (_, ticket))| ticket)
    }
}
