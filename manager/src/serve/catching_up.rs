//! Lets a restored database catch up with the log, before anything is sent.

use sealbus_nats::{Bus, lease::ReadError};
use sealbus_schema::{ErrorCode, SealProof, SectorId};
use serde_json::json;

use super::{FOLD_PAUSE, ServeError};
use crate::{
    config::{Config, Database},
    drive::{self, chain_of},
    fold::{self, Fold, FoldError, Recall},
    service,
    store::{AuditEntry, Store, StoreError, beside},
    waits::{Cause, Subject, Waits},
    wake::Wake,
};

/// What waits while a restored manager reads the log.
fn subject() -> Subject {
    Subject::Bus("restoration".to_owned())
}

/// Reads in the queue, the log and the standing orders what was decided after the backup. Does nothing in a database that was
/// not restored, or that has read this already. It can be killed at any moment and begun again.
pub(super) async fn catch_up(
    bus: &Bus,
    store: &Store,
    config: &Config,
    (epoch, seed_delay): (i64, i64),
    waits: &Waits,
) -> Result<(), ServeError> {
    while let Some(restored) = store.restored().await?.filter(|restored| !restored.log_is_read) {
        // It may take longer than a service manager waits for a start.
        service::ready(&restored.words());
        tracing::warn!("{}", restored.words());
        waits.waits(&subject(), Cause::passing(ErrorCode::RESTORED, restored.words()), FOLD_PAUSE);
        let until = match restored.log_until {
            Some(until) => Ok(until),
            None => look_in_queue(bus, store, config, epoch).await,
        };
        let read = match until {
            Ok(until) => read_log(bus, store, config, (epoch, seed_delay), until).await,
            Err(error) => Err(error),
        };
        match read {
            Ok(()) => tracing::info!("the restored database knows what the log says"),
            Err(Failed::Bus(text)) => {
                waits.waits(&subject(), Cause::passing(ErrorCode::BUS_UNAVAILABLE, text), FOLD_PAUSE);
                tokio::time::sleep(FOLD_PAUSE).await;
            }
            Err(Failed::Serve(error)) => return Err(error),
        }
    }
    if store.restored().await?.is_none() {
        waits.goes_on(&subject());
    }
    Ok(())
}

/// Marks a database beside which somebody has put a file that says that it was restored: `manager.db.restored`.
pub(super) async fn take_marker(store: &Store, database: &Database) -> Result<(), StoreError> {
    let Database::Sqlite { path } = database else { return Ok(()) };
    let marker = beside(path, ".restored");
    if !marker.exists() || store.fold_state().await?.is_none() {
        return Ok(());
    }
    let mut tx = store.begin().await?;
    tx.mark_restored(None).await?;
    tx.commit().await?;
    if let Err(error) = std::fs::remove_file(&marker) {
        tracing::warn!(%error, marker = %marker.display(), "cannot be removed, so each start counts as a restoration");
    }
    Ok(())
}

/// Why it has not caught up yet.
enum Failed {
    /// The bus did not answer; it is tried again.
    Bus(String),
    Serve(ServeError),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Failed {
        Failed::Serve(error.into())
    }
}

impl From<ReadError> for Failed {
    fn from(error: ReadError) -> Failed {
        Failed::Bus(chain_of(&error))
    }
}

impl From<FoldError> for Failed {
    fn from(error: FoldError) -> Failed {
        match error {
            FoldError::Log(error) => Failed::Bus(chain_of(&error)),
            FoldError::Topology(error) => Failed::Bus(chain_of(&error)),
            error => Failed::Serve(error.into()),
        }
    }
}

/// Finds sectors in the queue that the database does not know, and notes where the log ends then. An intent that is not in the
/// queue any more was accepted, so its claim is in the log before that.
async fn look_in_queue(bus: &Bus, store: &Store, config: &Config, epoch: i64) -> Result<u64, Failed> {
    let proof_of = proof_of(config);
    let is_new = async |sector| proof_of(sector).is_some() && !store.knows(sector).await.unwrap_or(true);
    let intents = bus.queued_intents(is_new).await?;
    let until = bus.sectors_last_sequence().await.map_err(FoldError::from)?;
    let mut tx = store.begin_as(epoch).await?;
    for intent in intents {
        // A sector that was claimed before is found in the log, with all that happened to it.
        let is_first = intent.lease_sequence == 0 && proof_of(intent.sector) == Some(intent.proof);
        if is_first && tx.sector(intent.sector).await?.is_none() {
            fold::find_sector(&mut tx, &intent, "queue").await?;
        }
    }
    tx.catch_up_until(until).await?;
    tx.commit().await?;
    Ok(until)
}

async fn read_log(
    bus: &Bus,
    store: &Store,
    config: &Config,
    (epoch, seed_delay): (i64, i64),
    until: u64,
) -> Result<(), Failed> {
    let changed = Wake::default();
    let fold = Fold { bus, store, epoch, policy: drive::attempt_policy(config), changed: &changed };
    fold.recall(&Recall { until, seed_delay, proof_of: &proof_of(config) }).await?;
    let orders = bus.all_orders().await?;
    let mut tx = store.begin_as(epoch).await?;
    for (worker, found) in orders {
        if let Some(found) = found
            && tx.adopt_orders(&worker, &found).await?
        {
            tracing::warn!(%worker, revision = found.revision, drain = found.drain, "its orders are newer than the backup");
            let why = "given after the backup that was restored";
            let detail = json!({ "found": found });
            tx.add_audit(&AuditEntry::new("manager", "workers adopt-orders", worker.to_string(), why, detail)).await?;
        }
    }
    tx.note_log_read(until).await?;
    tx.commit().await?;
    Ok(())
}

/// The seal proof of a number that the manager may have given out.
fn proof_of(config: &Config) -> impl Fn(SectorId) -> Option<SealProof> + Sync + '_ {
    |sector| {
        let miner = config.miner(sector.miner).filter(|miner| miner.numbers.contains(sector.number.0))?;
        Some(miner.sector_size.seal_proof())
    }
}
