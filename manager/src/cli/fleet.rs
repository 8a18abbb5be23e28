//! What the bus says of the workers at this moment. Everything works without it, and says so.

use std::time::Duration;

use sealbus_nats::{heartbeats::Seen, topology};
use sealbus_schema::{WorkerName, lease::Ownership, message::SlotStatus};
use serde_json::{Value, json};

use crate::{config::Config, drive::chain_of, store::Job};

/// How long NATS may take to answer before a command goes on without it.
const LIMIT: Duration = Duration::from_secs(4);
/// For how long the bus remembers a sign of life.
pub const REMEMBERED_SECS: i64 = topology::HEARTBEAT_MAX_AGE.as_secs() as i64;

/// The workers' last signs of life, or why they cannot be read.
pub struct Fleet {
    seen: Result<Vec<Seen>, String>,
    /// For how many seconds the bus has remembered signs of life, by its own clock: not longer than it is up.
    remembers_secs: i64,
    /// After how many seconds without a sign of life a worker counts as away.
    away_secs: i64,
}

/// Whether a worker is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It was seen so many seconds ago.
    Here(i64),
    /// It has not been seen for so many seconds, or for longer than the bus remembers.
    Away(Option<i64>),
    /// Nobody can tell.
    Unknown,
}

impl Fleet {
    /// Reads the signs of life.
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

    /// Says on stderr that the workers could not be asked, if they could not.
    pub fn warn(&self) {
        if let Err(why) = &self.seen {
            errln!("note: the workers cannot be seen: {why}");
        }
    }

    /// All workers that gave a sign of life, by name.
    pub fn all(&self) -> &[Seen] {
        self.seen.as_deref().unwrap_or_default()
    }

    /// Whether the bus answered.
    pub fn is_known(&self) -> bool {
        self.seen.is_ok()
    }

    /// One worker.
    pub fn worker(&self, name: &WorkerName) -> Option<&Seen> {
        self.all().iter().find(|seen| seen.heartbeat.worker == *name)
    }

    /// Whether a worker is there.
    pub fn presence(&self, name: &WorkerName) -> Presence {
        match (&self.seen, self.worker(name)) {
            (Err(_), _) => Presence::Unknown,
            // The streams may be younger than what they can remember.
            (Ok(_), None) if self.remembers_secs < REMEMBERED_SECS => Presence::Away(Some(self.remembers_secs.max(0))),
            (Ok(_), None) => Presence::Away(None),
            (Ok(_), Some(seen)) => match age_secs(seen) {
                age if age < self.away_secs => Presence::Here(age),
                age => Presence::Away(Some(age)),
            },
        }
    }

    /// Whether a worker's slot says of a sector that it waits for a person, while a person has resubmitted it since.
    pub fn is_before_the_order(sector: &Job, slot: &SlotStatus) -> bool {
        let Ownership::Held { token, .. } = &sector.ownership else { return false };
        let held = slot.holding.as_ref().filter(|held| held.sector == sector.id && held.token == *token);
        let followed = held.and_then(|held| held.resubmitted);
        sector.blocked.is_none() && followed.is_some_and(|serial| serial < sector.resubmits)
    }

    /// The slot in which a sector's owner says that it holds it under the present lease.
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
    /// In words, after the worker's name.
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

/// The age of a sign of life, by the server's clock alone.
pub fn age_secs(seen: &Seen) -> i64 {
    (seen.now - seen.at).whole_seconds().max(0)
}

/// A length of time for people: its largest unit that says enough. A length is never negative: who has a point in time
/// says first whether it lies ahead.
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

/// So many things of a name, which has a plain plural.
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
