//! What the bus says of the workers at this moment. Everything works without it, and says so.

use std::time::Duration;

use sealbus_nats::heartbeats::Seen;
use sealbus_schema::{WorkerName, lease::Ownership, message::SlotStatus};
use serde_json::{Value, json};

use crate::{config::Config, drive::chain_of, store::Sector};

/// How long NATS may take to answer before a command goes on without it.
const LIMIT: Duration = Duration::from_secs(4);
/// For how long the bus remembers a sign of life.
const REMEMBERED_MINUTES: u64 = 3;

/// The workers' last signs of life, or why they cannot be read.
pub struct Fleet {
    seen: Result<Vec<Seen>, String>,
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
            bus.workers().await.map_err(|error| chain_of(&error))
        };
        let seen = tokio::time::timeout(LIMIT, read).await;
        let slow = || Err(format!("NATS at {} did not answer within {} s", nats.url, LIMIT.as_secs()));
        let away_secs = i64::try_from(config.liveness.dead_after_secs).unwrap_or(i64::MAX);
        Fleet { seen: seen.unwrap_or_else(|_| slow()), away_secs }
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
            (Ok(_), None) => Presence::Away(None),
            (Ok(_), Some(seen)) => match age_secs(seen) {
                age if age < self.away_secs => Presence::Here(age),
                age => Presence::Away(Some(age)),
            },
        }
    }

    /// The slot in which a sector's owner says that it holds it under the present lease.
    pub fn slot_of(&self, sector: &Sector) -> Option<(&Seen, &SlotStatus)> {
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
            Presence::Away(None) => format!("not seen for more than {REMEMBERED_MINUTES} minutes"),
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

/// A length of time for people: its largest unit that says enough.
pub fn lasting(secs: i64) -> String {
    match secs {
        ..120 => format!("{secs} s"),
        120..7200 => format!("{} min", secs / 60),
        7200..172_800 => format!("{} h", secs / 3600),
        _ => format!("{} days", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_reads_well() {
        for (secs, text) in [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (2_592_000, "30 days")] {
            assert_eq!(lasting(secs), text);
        }
    }
}
