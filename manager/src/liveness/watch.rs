//! Decides which workers are gone and which sectors to take back. Without IO; time is an argument.
//!
//! The clocks of two hosts are never compared: a heartbeat's age is the difference of two of the server's timestamps,
//! and the manager measures itself how long a worker has been away, from when it first noticed.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use sealbus_nats::heartbeats::Seen;
use sealbus_schema::{SectorId, Token, WorkerName, lease::Ownership, workflows::State};

use crate::store::Job;

/// The limits of the policy.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A worker without a heartbeat for this long is away.
    pub dead_after: Duration,
    /// How long a worker may be away with hours of work on its disks.
    pub grace: Duration,
    /// How long a worker may be away with nothing worth waiting for.
    pub short_grace: Duration,
    /// How long a present worker's heartbeats may omit a sector that it owns.
    pub orphan_after: Duration,
    /// The least time between two revocations of one sector.
    pub reissue_interval: Duration,
}

/// One look at the workers.
#[derive(Clone, Copy, Debug)]
pub struct Round<'a> {
    /// The time since some fixed instant of this process.
    pub at: Duration,
    /// How often we have connected to the bus so far.
    pub connections: u64,
    /// Each worker's last heartbeat.
    pub workers: &'a [Sign],
}

/// The parts of a worker's last heartbeat that matter here.
#[derive(Clone, Debug)]
pub struct Sign {
    /// The worker.
    pub worker: WorkerName,
    /// Its age, by the server's clock.
    pub age: Duration,
    /// The leases that it names.
    pub held: HashSet<(SectorId, Token)>,
    /// Whether one of its slots may hold an unknown sector.
    pub unreadable: bool,
}

/// A lease to take back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The sector.
    pub sector: SectorId,
    /// The lease's token.
    pub token: Token,
    /// The reason, for people.
    pub reason: String,
}

/// The observations so far.
#[derive(Debug, Default)]
pub struct Watch {
    /// Since when the heartbeats have been visible, and the number of the connection.
    sight: Option<(Duration, u64)>,
    /// Since when each absent worker has been away.
    away: BTreeMap<WorkerName, Duration>,
    /// Since when each lease has been missing from its owner's heartbeats.
    orphans: BTreeMap<(SectorId, Token), Duration>,
    /// When each sector was last taken back.
    revoked: BTreeMap<SectorId, Duration>,
}

/// The sectors that their owners' heartbeats do not name, by miner and number. Only these can be taken back.
pub fn suspects(workers: &[Sign], leases: Vec<(SectorId, WorkerName, Token)>, limits: &Limits) -> Vec<SectorId> {
    let signs = by_name(workers);
    let is_named = |sector: SectorId, worker: &WorkerName, token: Token| {
        signs.get(worker).is_some_and(|sign| sign.age < limits.dead_after && sign.held.contains(&(sector, token)))
    };
    let suspects = leases.into_iter().filter(|(sector, worker, token)| !is_named(*sector, worker, *token));
    let mut suspects: Vec<SectorId> = suspects.map(|(sector, ..)| sector).collect();
    suspects.sort_unstable();
    suspects
}

fn by_name(workers: &[Sign]) -> HashMap<&WorkerName, &Sign> {
    workers.iter().map(|sign| (&sign.worker, sign)).collect()
}

impl From<&Seen> for Sign {
    fn from(seen: &Seen) -> Sign {
        let beat = &seen.heartbeat;
        let held = beat.slots.iter().filter_map(|slot| slot.holding.as_ref()).map(|h| (h.sector, h.token));
        Sign {
            worker: beat.worker.clone(),
            age: (seen.now - seen.at).try_into().unwrap_or_default(),
            held: held.collect(),
            unreadable: beat.slots.iter().any(|slot| slot.unreadable),
        }
    }
}

impl Watch {
    /// The heartbeats could not be read, so a silent worker may only be out of sight.
    pub fn lose_sight(&mut self) {
        self.sight = None;
        self.away.clear();
        self.orphans.clear();
    }

    /// Evaluates one look, and returns the leases to take back now.
    pub fn round(&mut self, round: &Round<'_>, sectors: &[Job], limits: &Limits) -> Vec<Revocation> {
        if self.sight.is_some_and(|(_, connections)| connections != round.connections) {
            self.lose_sight();
        }
        let (since, _) = *self.sight.get_or_insert((round.at, round.connections));
        self.revoked.retain(|_, at| round.at.saturating_sub(*at) < limits.reissue_interval);
        let signs = by_name(round.workers);
        let mut revocations = Vec::new();
        let (mut away, mut orphans) = (BTreeMap::new(), BTreeMap::new());
        for sector in sectors {
            let Ownership::Held { worker, token, .. } = &sector.ownership else { continue };
            let present = signs.get(worker).filter(|sign| sign.age < limits.dead_after);
            let reason = match present {
                None => {
                    let first = *self.away.get(worker).unwrap_or(&round.at);
                    away.insert(worker.clone(), first);
                    let gone = round.at.saturating_sub(first);
                    // The first look may be right after the start of the manager or the bus.
                    let seen_long_enough = round.at.saturating_sub(since) >= limits.dead_after;
                    (seen_long_enough && gone >= grace(&sector.state, limits))
                        .then(|| format!("{worker} is gone: no sign of life for {} s and more", gone.as_secs()))
                }
                Some(sign) if sign.held.contains(&(sector.id, *token)) => None,
                Some(sign) => {
                    let first = *self.orphans.get(&(sector.id, *token)).unwrap_or(&round.at);
                    orphans.insert((sector.id, *token), first);
                    // A missing disk may come back with the sector, like a machine.
                    let (limit, why) = match sign.unreadable {
                        true => {
                            (grace(&sector.state, limits).max(limits.orphan_after), "cannot read a slot of its own")
                        }
                        false => (limits.orphan_after, "does not know of it"),
                    };
                    (round.at.saturating_sub(first) >= limit).then(|| format!("{worker} is there and {why}"))
                }
            };
            // A person decides about a blocked sector, and whether its files are worth waiting for.
            let blocked = sector.blocked.is_some();
            if let Some(reason) = reason.filter(|_| !blocked && !self.revoked.contains_key(&sector.id)) {
                self.revoked.insert(sector.id, round.at);
                revocations.push(Revocation { sector: sector.id, token: *token, reason });
            }
        }
        (self.away, self.orphans) = (away, orphans);
        revocations
    }
}

/// How long a worker may be away with a job in this state.
fn grace(state: &State, limits: &Limits) -> Duration {
    match state.traits().precious {
        true => limits.grace,
        false => limits.short_grace,
    }
}

#[cfg(test)]
mod tests {
    use sealbus_schema::{
        ErrorClass, ErrorCode, ErrorReport, Randomness, SealProof, parts::Ticket, workflows::seal::manager as seal,
    };

    use super::*;

    const LIMITS: Limits = Limits {
        dead_after: Duration::from_secs(60),
        grace: Duration::from_secs(3600),
        short_grace: Duration::from_secs(120),
        orphan_after: Duration::from_secs(120),
        reissue_interval: Duration::from_secs(600),
    };

    fn name(text: &str) -> WorkerName {
        text.parse().expect("worker name")
    }

    fn sector(state: seal::State) -> Job {
        Job {
            id: "f01000/1".parse().expect("sector"),
            proof: SealProof::StackedDrg2KiBV1_1,
            attempt: 1,
            issues: 1,
            resubmits: 0,
            signed: false,
            created_at: String::new(),
            changed_at: String::new(),
            ownership: Ownership::claimed(name("w1"), Token(7)),
            leased_at: None,
            state: state.into(),
            blocked: None,
        }
    }

    fn packing() -> Job {
        sector(seal::State::Packing)
    }

    fn sealing() -> seal::State {
        let randomness = Randomness([3; 32]);
        let ticket = Ticket { draw: 1, randomness, epoch: 1, expires_epoch: 2, head_epoch: 1, epoch_millis: 30_000 };
        seal::State::Sealing { ticket }
    }

    fn blocked() -> Job {
        let cause = ErrorReport::new(ErrorClass::Crit, ErrorCode::IO_FAILED, "a test");
        Job { blocked: Some(cause), ..sector(seal::State::Packing) }
    }

    fn sign(age_secs: u64, names_it: bool, unreadable: bool) -> Sign {
        let held = names_it.then(|| ("f01000/1".parse().expect("sector"), Token(7))).into_iter().collect();
        Sign { worker: name("w1"), age: Duration::from_secs(age_secs), held, unreadable }
    }

    /// Looks every ten seconds, and says after how many seconds the sector is taken back first.
    fn taken_back_after(
        sector: Job,
        connections: impl Fn(u64) -> u64,
        signs: impl Fn(u64) -> Vec<Sign>,
        until_secs: u64,
    ) -> Option<u64> {
        let (mut watch, sectors) = (Watch::default(), [sector]);
        (0..=until_secs).step_by(10).find(|secs| {
            let (at, workers) = (Duration::from_secs(*secs), signs(*secs));
            let round = Round { at, connections: connections(*secs), workers: &workers };
            !watch.round(&round, &sectors, &LIMITS).is_empty()
        })
    }

    const STEADY: fn(u64) -> u64 = |_| 1;

    #[test]
    fn a_worker_that_is_gone_loses_its_sectors_after_the_grace_of_their_states() {
        assert_eq!(taken_back_after(packing(), STEADY, |_| vec![], 10_000), Some(120));
        assert_eq!(taken_back_after(sector(sealing()), STEADY, |_| vec![], 10_000), Some(3600));
        let last_words_at_zero = |secs| vec![sign(secs, true, false)];
        assert_eq!(taken_back_after(packing(), STEADY, last_words_at_zero, 10_000), Some(180));
    }

    #[test]
    fn a_worker_that_is_there_keeps_what_it_names_for_ever() {
        assert_eq!(taken_back_after(packing(), STEADY, |_| vec![sign(5, true, false)], 100_000), None);
    }

    #[test]
    fn an_absence_that_ends_in_time_counts_for_nothing() {
        let every_two_minutes = |secs: u64| if secs % 120 < 110 { vec![] } else { vec![sign(1, true, false)] };
        assert_eq!(taken_back_after(packing(), STEADY, every_two_minutes, 10_000), None);
    }

    #[test]
    fn a_time_in_which_the_manager_saw_nothing_itself_counts_for_nothing() {
        let flapping = |secs: u64| secs / 100;
        assert_eq!(taken_back_after(packing(), flapping, |_| vec![], 10_000), None);
        let back_after_an_hour = |secs: u64| u64::from(secs >= 3600);
        let silent = taken_back_after(sector(sealing()), back_after_an_hour, |_| vec![], 10_000);
        assert_eq!(silent, Some(7200), "the grace begins when the bus is back");
    }

    #[test]
    fn a_sector_that_its_owner_does_not_name_is_an_orphan_unless_a_slot_cannot_be_read() {
        assert_eq!(taken_back_after(sector(sealing()), STEADY, |_| vec![sign(5, false, false)], 10_000), Some(120));
        let away = |secs: u64, until: u64| vec![sign(5, secs >= until, secs < until)];
        assert_eq!(taken_back_after(sector(sealing()), STEADY, |secs| away(secs, 3000), 10_000), None, "back in time");
    }

    #[test]
    fn a_sector_that_may_lie_in_a_slot_that_cannot_be_read_has_the_grace_of_a_worker_that_is_gone() {
        let unreadable = |_| vec![sign(5, false, true)];
        assert_eq!(taken_back_after(sector(sealing()), STEADY, unreadable, 10_000), Some(3600));
        assert_eq!(taken_back_after(packing(), STEADY, unreadable, 10_000), Some(120));
    }

    #[test]
    fn a_blocked_sector_waits_for_a_person() {
        assert_eq!(taken_back_after(blocked(), STEADY, |_| vec![], 100_000), None);
    }

    #[test]
    fn who_is_there_and_names_its_lease_is_no_suspect() {
        let id: SectorId = "f01000/1".parse().expect("sector");
        let suspects = |sign: Sign, token| !suspects(&[sign], vec![(id, name("w1"), Token(token))], &LIMITS).is_empty();
        assert!(!suspects(sign(5, true, false), 7));
        assert!(suspects(sign(5, true, false), 8), "another lease");
        assert!(suspects(sign(60, true, false), 7), "silent");
        assert!(suspects(sign(5, false, false), 7) && suspects(Sign { worker: name("w2"), ..sign(5, true, false) }, 7));
    }

    #[test]
    fn one_sector_is_taken_back_once_an_interval() {
        let (mut watch, sectors) = (Watch::default(), [packing()]);
        let times: Vec<u64> = (0..2000)
            .step_by(10)
            .filter(|secs| {
                let round = Round { at: Duration::from_secs(*secs), connections: 1, workers: &[] };
                !watch.round(&round, &sectors, &LIMITS).is_empty()
            })
            .collect();
        assert_eq!(times, [120, 720, 1320, 1920]);
    }
}
