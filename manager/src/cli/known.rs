//! Checks the names in filters. A filter that cannot match anything is a typing error; it is refused, with the known
//! names.

use std::collections::BTreeSet;

use anyhow::bail;
use sealbus_schema::{ErrorCode, MinerId, WorkerName};

use super::{fleet::Fleet, person::Usage, sectors::select::blocked_by};
use crate::{
    config::Config,
    store::{SectorFilter, Store},
};

/// How similar two names must be (at most 1) for one to be suggested for the other.
const ALIKE: f64 = 0.8;
/// How many names an error lists.
const MAX_LISTED: usize = 60;

/// Refuses a miner that is neither configured nor has sectors or pledges.
pub async fn insist_on_miner(miner: MinerId, config: &Config, store: &Store) -> anyhow::Result<()> {
    if config.miner(miner).is_some() {
        return Ok(());
    }
    let mut known = store.known_miners().await?;
    if known.contains(&miner.to_string()) {
        return Ok(());
    }
    known.extend(config.miners.iter().map(|miner| miner.id.to_string()));
    refuse("--miner", &miner.to_string(), "no such miner is configured or has sectors", known)
}

/// Refuses a miner that is not configured.
pub fn insist_on_configured(miner: MinerId, config: &Config) -> anyhow::Result<()> {
    if config.miner(miner).is_some() {
        return Ok(());
    }
    let known = config.miners.iter().map(|miner| miner.id.to_string()).collect();
    refuse("miner", &miner.to_string(), "it has no [[miner]] table in the configuration", known)
}

/// Refuses an unknown error code, unless something is blocked with it: a newer worker or a third-party processor may
/// use other codes.
pub async fn insist_on_code(code: &str, store: &Store, fleet: &Fleet) -> anyhow::Result<()> {
    let wanted = ErrorCode::from_text(code);
    let known = || ErrorCode::ALL.iter().map(|(code, _)| code);
    if known().any(|known| *known == wanted) {
        return Ok(());
    }
    let blocked = store.sectors(&SectorFilter { blocked: true, ..SectorFilter::default() }).await?;
    let of_slots = fleet.all().iter().flat_map(|seen| &seen.heartbeat.slots).filter_map(|slot| slot.blocked.as_ref());
    if blocked.iter().filter_map(blocked_by).chain(of_slots).any(|cause| cause.code == wanted) {
        return Ok(());
    }
    refuse("--code", code, "there is no such code", known().map(ToString::to_string).collect())
}

/// Refuses names of workers that were never seen.
pub async fn insist_on_workers(workers: &[WorkerName], store: &Store, fleet: &Fleet) -> anyhow::Result<()> {
    let known = known_workers(store, fleet).await?;
    let unknown: Vec<&str> = workers.iter().map(WorkerName::as_str).filter(|name| !known.contains(*name)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let nearest: Vec<String> = unknown.iter().filter_map(|name| nearest(name, &known)).collect();
    let hint = if nearest.is_empty() { String::new() } else { format!(" (is {} meant?)", nearest.join(", ")) };
    bail!("no worker {} was ever seen{hint}; known are: {}", unknown.join(", "), listed(&known))
}

/// Refuses a slot that no worker has and that holds no known sector, provided that the heartbeats can be read.
pub async fn insist_on_slot(
    slot: &str,
    worker: Option<&WorkerName>,
    store: &Store,
    fleet: &Fleet,
) -> anyhow::Result<()> {
    let of_worker = |name: &WorkerName| worker.is_none_or(|worker| worker == name);
    let seen = fleet.all().iter().filter(|seen| of_worker(&seen.heartbeat.worker));
    let mut known: BTreeSet<String> =
        seen.flat_map(|seen| &seen.heartbeat.slots).map(|slot| slot.path.clone()).collect();
    let blocked = store.sectors(&SectorFilter { blocked: true, ..SectorFilter::default() }).await?;
    known.extend(blocked.iter().filter_map(blocked_by).map(|cause| cause.slot.clone()).filter(|slot| !slot.is_empty()));
    if known.contains(slot) || !fleet.is_known() {
        return Ok(());
    }
    refuse("--slot", slot, "no present worker has such a slot", known)
}

/// Refuses a target that neither the audit nor the database knows.
pub async fn insist_on_target(target: &str, config: &Config, store: &Store) -> anyhow::Result<()> {
    if let Ok(sector) = target.parse() {
        return match store.sector(sector).await? {
            Some(_) => Ok(()),
            None => bail!(Usage(format!("--target {target}: there is no such sector"))),
        };
    }
    let mut known = store.known_workers().await?;
    known.extend(store.known_miners().await?);
    known.extend(config.miners.iter().map(|miner| miner.id.to_string()));
    let worker = target.split(' ').next().unwrap_or_default();
    if known.contains(target) || known.contains(worker) {
        return Ok(());
    }
    refuse("--target", target, "no order was about it, and there is no such sector, worker or miner", known)
}

/// Every worker that is present or that the database knows.
pub async fn known_workers(store: &Store, fleet: &Fleet) -> anyhow::Result<BTreeSet<String>> {
    let mut known = store.known_workers().await?;
    known.extend(fleet.all().iter().map(|seen| seen.heartbeat.worker.to_string()));
    Ok(known)
}

fn refuse(field: &str, value: &str, why: &str, known: BTreeSet<String>) -> anyhow::Result<()> {
    let hint = nearest(value, &known).map(|name| format!(" Is {name} meant?")).unwrap_or_default();
    bail!(Usage(format!("{field} {value}: {why}.{hint} There are: {}", listed(&known))))
}

/// The most similar known name, if it is similar enough.
pub fn nearest(name: &str, known: &BTreeSet<String>) -> Option<String> {
    let likeness = |other: &String| strsim::jaro_winkler(&name.to_lowercase(), &other.to_lowercase());
    let alike = known.iter().map(|other| (likeness(other), other)).filter(|(likeness, _)| *likeness >= ALIKE);
    alike.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, other)| other.clone())
}

/// The names in one line.
pub fn listed(known: &BTreeSet<String>) -> String {
    let mut names: Vec<&str> = known.iter().map(String::as_str).take(MAX_LISTED).collect();
    let more = format!("and {} more", known.len().saturating_sub(MAX_LISTED));
    if known.len() > MAX_LISTED {
        names.push(&more);
    }
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_name_that_was_meant_and_another_word_finds_none() {
        let known: BTreeSet<String> = ErrorCode::ALL.iter().map(|(code, _)| code.to_string()).collect();
        assert_eq!(nearest("DISK_FUL", &known).as_deref(), Some("DISK_FULL"));
        assert_eq!(nearest("ticket_expire", &known).as_deref(), Some("TICKET_EXPIRED"));
        assert_eq!(nearest("zzz", &known), None);
        assert_eq!(listed(&BTreeSet::new()), "none");
        let many: BTreeSet<String> = (0..100).map(|number| format!("w{number:03}")).collect();
        assert!(listed(&many).ends_with("w059, and 40 more"), "{}", listed(&many));
    }
}
