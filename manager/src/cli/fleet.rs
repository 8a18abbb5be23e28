//! The workers as the bus shows them now. Commands also work without the bus, and say so.

use std::time::Duration;

use sealbus_nats::{heartbeats::Seen, topology};
use sealbus_schema::{SectorId, WorkerName, lease::Ownership, message::SlotStatus};
use serde_json::{Value, json};

use crate::{config::Config, drive::chain_of, store::Job};

/// How long NATS may take to answer before a command continues without it.
const LIMIT: Duration = Duration::from_secs(4);
/// How long the bus keeps a heartbeat.
pub const REMEMBERED_SECS: i64 = topology::HEARTBEAT_MAX_AGE.as_secs() as i64;

/// The workers' last heartbeats, or why they cannot be read.
pub struct Fleet {
    seen: Result<Vec<Seen>, String>,
    /// How many seconds the bus has been keeping heartbeats, by its own clock: not longer than the stream exists.
    remembers_secs: i64,
    /// After how many seconds without a heartbeat a worker counts as away.
    away_secs: i64,
}

/// Whether a worker is present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It was last seen this many seconds ago.
    Here(i64),
    /// It has not been seen for this many seconds; `None`: for longer than the bus keeps heartbeats.
    Away(Option<i64>),
    /// Unknown, because NATS does not answer.
    Unknown,
}

impl Fleet {
    /// Reads the heartbeats.
    pub async fn look(config: &Config) -> Fleet {
        let nats = &config.nats;
        let read = async {
            let bus = nats.connect("manager").await.map_err(|error| chain_of(&error))?;
            let (seen, memory) = bus.workers_and_memory().await.map_err(|error| chain_of(&error))?;
            Ok((seen, memory.whole_seconds()))
        };
        let seen = tokio::time::timeout(LIMIT, read).await;
        let slow = || Err(format!("NATS at {} did not answer within {} s", nats.url, LIMIT.as_secs()));
        let away_secs = i64::try_from(config.liveness.dead_after_secs).unwrap_or(i64::MAX);
        let (seen, remembers_secs) = match seen.unwrap_or_else(|_| slow()) {
            Ok((seen, remembers_secs)) => (Ok(seen), remembers_secs),
            Err(why) => (Err(why), 0),
        };
        Fleet { seen, remembers_secs, away_secs }
    }

    /// Says on stderr that the heartbeats could not be read, if so.
    pub fn warn(&self) {
        if let Err(why) = &self.seen {
            errln!("note: the workers cannot be seen: {why}");
        }
    }

    /// All workers with a heartbeat, by name.
    pub fn all(&self) -> &[Seen] {
        self.seen.as_deref().unwrap_or_default()
    }

    /// Whether the bus answered.
    pub fn is_known(&self) -> bool {
        self.seen.is_ok()
    }

    /// One worker.
    pub fn worker(&self, name: &WorkerName) -> Option<&Seen> {
        let seen = self.all();
        seen.binary_search_by(|seen| seen.heartbeat.worker.cmp(name)).ok().map(|at| &seen[at])
    }

    /// The sectors in blocked or unreadable slots.
    pub fn in_blocked_slots(&self) -> impl Iterator<Item = SectorId> {
        let slots = self.all().iter().flat_map(|seen| &seen.heartbeat.slots);
        let blocked = slots.filter(|slot| slot.blocked.is_some() || slot.unreadable);
        blocked.filter_map(|slot| slot.holding.as_ref().map(|held| held.sector))
    }

    /// Whether a worker is present.
    pub fn presence(&self, name: &WorkerName) -> Presence {
        match (&self.seen, self.worker(name)) {
            (Err(_), _) => Presence::Unknown,
            // The stream may be younger than the time for which it keeps heartbeats.
            (Ok(_), None) if self.remembers_secs < REMEMBERED_SECS => Presence::Away(Some(self.remembers_secs.max(0))),
            (Ok(_), None) => Presence::Away(None),
            (Ok(_), Some(seen)) => match age_secs(seen) {
                age if age < self.away_secs => Presence::Here(age),
                age => Presence::Away(Some(age)),
            },
        }
    }

    /// Whether a slot still reports that its sector waits for a person, although a person has resubmitted it since.
    pub fn is_before_the_order(sector: &Job, slot: &SlotStatus) -> bool {
        let Ownership::Held { token, .. } = &sector.ownership else { return false };
        let held = slot.holding.as_ref().filter(|held| held.sector == sector.id && held.token == *token);
        let followed = held.and_then(|held| held.resubmitted);
        sector.blocked.is_none() && followed.is_some_and(|serial| serial < sector.resubmits)
    }

    /// The slot in which the sector's owner reports holding it under the present lease.
    pub fn slot_of(&self, sector: &Job) -> Option<(&Seen, &SlotStatus)> {
        let Ownership::Held { worker, token, .. } = &sector.ownership else { return None };
        let seen = self.worker(worker)?;
        let holds = |slot: &&SlotStatus| {
            slot.holding.as_ref().is_some_and(|held| held.sector == sector.id && held.token == *token)
        };
        seen.heartbeat.slots.iter().find(holds).map(|slot| (seen, slot))
    }
}

impl Presence {
    /// Words to print after the worker's name.
    pub fn words(&self) -> String {
        match self {
            Presence::Here(secs) => format!("last seen {} ago", lasting(*secs)),
            Presence::Away(Some(secs)) => format!("not seen for {}", lasting(*secs)),
            Presence::Away(None) => format!("not seen for more than {}", lasting(REMEMBERED_SECS)),
            Presence::Unknown => "not known whether it is there, because NATS does not answer".to_owned(),
        }
    }

    /// For scripts.
    pub fn json(&self) -> Value {
        match self {
            Presence::Here(secs) => json!({ "presence": "here", "seen_secs_ago": secs }),
            Presence::Away(secs) => json!({ "presence": "away", "seen_secs_ago": secs }),
            Presence::Unknown => json!({ "presence": "unknown", "seen_secs_ago": null }),
        }
    }
}

/// The age of a heartbeat, by the server's clock alone.
pub fn age_secs(seen: &Seen) -> i64 {
    (seen.now - seen.at).whole_seconds().max(0)
}

/// A duration for people, in the largest unit that is precise enough. `secs` must not be negative: for a point in time,
/// the caller says whether it is ahead.
pub fn lasting(secs: i64) -> String {
    const DAY: i64 = 86_400;
    match secs.max(0) {
        secs @ ..120 => format!("{secs} s"),
        secs @ 120..7200 => format!("{} min", secs / 60),
        secs @ 7200..172_800 => format!("{} h", secs / 3600),
        secs if secs < 2 * 365 * DAY => format!("{} days", secs / DAY),
        secs if secs < 1000 * 365 * DAY => format!("{} years", secs / (365 * DAY)),
        _ => "more than 1000 years".to_owned(),
    }
}

/// A count with a noun whose plural ends with `s`.
pub fn counted(count: u64, name: &str) -> String {
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_reads_well() {
        for (secs, text) in [
            (i64::MIN, "0 s"),
            (-1, "0 s"),
            (0, "0 s"),
            (1, "1 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7199, "119 min"),
            (7200, "2 h"),
            (172_799, "47 h"),
            (172_800, "2 days"),
            (2_592_000, "30 days"),
            (730 * 86_400, "2 years"),
            (i64::MAX, "more than 1000 years"),
        ] {
            assert_eq!(lasting(secs), text);
        }
    }

    #[test]
    fn one_is_not_many() {
        let said = [0, 1, 2, u64::MAX].map(|count| counted(count, "sector"));
        assert_eq!(said, ["0 sectors", "1 sector", "2 sectors", "18446744073709551615 sectors"]);
    }
}
