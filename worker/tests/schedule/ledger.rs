//! Keeps books about a scheduler from outside, by what it was asked and what it granted, and holds it to its word.

use std::collections::BTreeMap;
use std::time::Duration;

use sealbus_worker::schedule::{GrantId, Group, OVERTAKEN_MAX, Seat, Setup, Ticket, Urgency};
use sealbus_worker::stage::Stage;

#[derive(Debug)]
pub struct Ledger {
    setup: Setup,
    /// Of each processor its group.
    group_of: Vec<usize>,
    in_flight: Vec<usize>,
    running: BTreeMap<Stage, usize>,
    taken: BTreeMap<String, usize>,
    last_start: BTreeMap<Stage, Duration>,
    held: BTreeMap<GrantId, usize>,
    waiting: BTreeMap<Ticket, Waits>,
    pub most_overtaken: u32,
}

#[derive(Debug)]
struct Waits {
    stage: Stage,
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
        let waits = Waits { stage, urgency, overtaken: 0 };
        assert!(self.waiting.insert(ticket, waits).is_none(), "{ticket:?} was given twice");
    }

    pub fn gave_up(&mut self, ticket: Ticket) {
        assert!(self.waiting.remove(&ticket).is_some(), "{ticket:?} did not wait");
    }

    /// There is room, and nobody takes it.
    pub fn shown_room(&mut self, ticket: Ticket) {
        assert!(self.waiting.remove(&ticket).is_some(), "{ticket:?} did not wait");
    }

    pub fn granted(&mut self, ticket: Ticket, seat: Seat, now: Duration) {
        let Waits { stage, urgency, .. } =
            self.waiting.remove(&ticket).unwrap_or_else(|| panic!("{ticket:?} did not wait"));
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

    /// Nothing is left idle that somebody could use, unless it is kept for one that was overtaken too often.
    pub fn check_nothing_idle(&self, now: Duration) {
        if self.waiting.values().any(|waits| waits.overtaken >= OVERTAKEN_MAX) {
            return;
        }
        for (ticket, Waits { stage, .. }) in &self.waiting {
            let could = self.is_open(*stage, now)
                && self.groups_with_seat(*stage).any(|group| {
                    group
                        .locks
                        .iter()
                        .all(|lock| self.taken.get(lock).copied().unwrap_or(0) < self.setup.rules.locks[lock])
                });
            assert!(!could, "{ticket:?} waits for {stage}, which could be served");
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

    fn is_open(&self, stage: Stage, now: Duration) -> bool {
        let rules = &self.setup.rules;
        let has_room = rules.concurrent.get(&stage).is_none_or(|limit| self.running(stage) < *limit);
        let apart = rules.staggered.get(&stage).copied().unwrap_or_default();
        has_room && self.last_start.get(&stage).is_none_or(|last| now >= *last + apart)
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

    /// Of its own stage everybody who is older is overtaken; of another one who is first there, if the last unit of a lock
    /// is gone that it could have used.
    fn count_overtaken(&mut self, younger: (u64, Ticket), group: &Group, now: Duration) {
        let is_gone = |lock: &String| self.taken(lock) == self.setup.rules.locks[lock];
        let shares = |other: &Group| other.locks.iter().any(|lock| group.locks.contains(lock) && is_gone(lock));
        let others = Stage::ALL.into_iter().filter(|stage| *stage != group.stage && self.is_open(*stage, now));
        let others = others.filter(|stage| self.groups_with_seat(*stage).any(shares));
        let mut passed: Vec<Ticket> = others.filter_map(|stage| self.first_of(stage, now)).collect();
        passed.extend(self.waiting.iter().filter(|(_, waits)| waits.stage == group.stage).map(|(ticket, _)| *ticket));
        for ticket in passed {
            let waits = self.waiting.get_mut(&ticket).expect("waits");
            if (waits.urgency.seniority, ticket) < younger {
                waits.overtaken += 1;
                assert!(waits.overtaken <= OVERTAKEN_MAX, "{ticket:?} for {} starves", waits.stage);
                self.most_overtaken = self.most_overtaken.max(waits.overtaken);
            }
        }
    }

    /// Who is next in a stage: the overtaken, then the urgent, then the old.
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
        let of_stage = self.waiting.iter().filter(|(_, waits)| waits.stage == stage);
        of_stage.map(|(ticket, waits)| rank(*ticket, waits)).min().map(|(_, _, (_, ticket))| ticket)
    }
}
