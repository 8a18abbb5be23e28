//! Remembers each worker's slots, from its heartbeats.
//!
//! A worker whose disk is missing at its start can learn of the slot only from here. The known slots are sent with the
//! worker's orders, which it reads before it takes anything into a slot.

use std::collections::{BTreeMap, BTreeSet};

use sealbus_nats::{Bus, heartbeats::Seen};
use sealbus_schema::{message::KnownSlot, message::SlotStatus};

use crate::store::{Store, StoreError};

/// The most slots of a worker that are remembered, and the longest paths and ids, in bytes. Anything beyond is ignored:
/// no real machine exceeds these.
const MAX_SLOTS: usize = 256;
const MAX_PATH_BYTES: usize = 1024;
const MAX_ID_BYTES: usize = 64;

/// Updates the remembered slots from the heartbeats, for the manager that took over with this epoch.
pub async fn remember(bus: &Bus, store: &Store, epoch: i64) -> Result<(), StoreError> {
    let seen = match bus.workers().await {
        Ok(seen) => seen,
        Err(error) => {
            tracing::debug!(%error, "the heartbeats cannot be read; slots are remembered later");
            return Ok(());
        }
    };
    let known = store.known_slots().await?;
    for Seen { heartbeat, .. } in &seen {
        let known = known.get(heartbeat.worker.as_str()).map_or(&[][..], Vec::as_slice);
        let Changes { learnt, gone } = changes(&heartbeat.slots, known);
        if learnt.is_empty() && gone.is_empty() {
            continue;
        }
        let mut tx = store.begin_as(epoch).await?;
        tx.know_slots(&heartbeat.worker, &learnt).await?;
        tx.forget_slots(&heartbeat.worker, &gone).await?;
        tx.commit().await?;
        tracing::info!(worker = %heartbeat.worker, learnt = learnt.len(), gone = gone.len(), "the worker's slots are remembered");
    }
    warn_of_copies(&seen);
    Ok(())
}

/// The changes by a heartbeat.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    learnt: Vec<KnownSlot>,
    /// Slots that are no longer in the worker's configuration.
    gone: BTreeSet<String>,
}

fn changes(slots: &[SlotStatus], known: &[KnownSlot]) -> Changes {
    let fits = |slot: &KnownSlot| slot.path.len() <= MAX_PATH_BYTES && slot.id.len() <= MAX_ID_BYTES;
    let told = slots
        .iter()
        .take(MAX_SLOTS)
        .filter_map(|slot| Some(KnownSlot { path: slot.path.clone(), id: slot.identity.clone()? }).filter(fits));
    let learnt = told.filter(|slot| !known.contains(slot)).collect();
    let there: BTreeSet<&str> = slots.iter().map(|slot| slot.path.as_str()).collect();
    let gone = known.iter().filter(|slot| !there.contains(slot.path.as_str())).map(|slot| slot.path.clone()).collect();
    Changes { learnt, gone }
}

/// Reports ids that occur twice: a slot's directory was copied to another machine.
fn warn_of_copies(seen: &[Seen]) {
    let mut owners = BTreeMap::new();
    for Seen { heartbeat, .. } in seen {
        for id in heartbeat.slots.iter().filter_map(|slot| slot.identity.as_deref()) {
            if let Some(other) = owners.insert(id, &heartbeat.worker).filter(|other| **other != heartbeat.worker) {
                tracing::error!(worker = %heartbeat.worker, %other, id, "two workers have a slot of one id: one is a copy");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(path: &str, identity: Option<&str>) -> SlotStatus {
        SlotStatus {
            path: path.to_owned(),
            holding: None,
            blocked: None,
            unreadable: identity.is_none(),
            identity: identity.map(str::to_owned),
            released: 0,
            checking: false,
        }
    }

    #[test]
    fn a_slot_is_remembered_when_it_is_told_and_while_it_is_configured() {
        let known = |path: &str, id: &str| KnownSlot { path: path.to_owned(), id: id.to_owned() };
        let first = changes(&[slot("/a", Some("x")), slot("/b", None)], &[]);
        assert_eq!(first, Changes { learnt: vec![known("/a", "x")], gone: BTreeSet::new() });
        let away = changes(&[slot("/a", None), slot("/b", None)], &first.learnt);
        assert_eq!(away, Changes::default(), "a disk that is away is not forgotten");
        let replaced = changes(&[slot("/a", Some("y"))], &first.learnt);
        assert_eq!(replaced.learnt, [known("/a", "y")]);
        let removed = changes(&[slot("/b", Some("z"))], &first.learnt);
        assert_eq!(removed.gone, BTreeSet::from(["/a".to_owned()]));
        let endless = changes(&[slot(&"x".repeat(2000), Some("x"))], &[]);
        assert_eq!(endless, Changes::default());
    }
}
