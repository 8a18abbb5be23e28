//! Checks whether a free slot may take a sector: its disk works and has room, the permanent store accepts files, and the
//! parameters are there. This is checked before a slot waits for an intent, while it waits, and again when an intent has
//! come. Sealing takes hours, and whatever would fail at their end should be known before.

use std::{pin::pin, time::Duration};

use sealbus_schema::{ErrorClass, ErrorCode, ErrorReport};

use super::{Context, SlotLost};
use crate::{
    slot::{Slot, probe::probe},
    stage::{StageCode, StageError},
};

/// A disk that takes longer than this to write a small file counts as silent.
const PROBE_LIMIT: Duration = Duration::from_secs(30);

/// Why a slot may not take a sector.
enum Unready {
    /// It is blocked for now, and will be checked again.
    Blocked(Box<ErrorReport>),
    /// Its directory is no longer the one that was opened.
    Lost,
}

/// Waits until the slot may take a sector; meanwhile it is shown as blocked. Afterwards too, if it is `unserved`: nobody offers
/// sectors that it could take.
pub async fn ready(context: &Context, slot: &Slot, unserved: Option<ErrorReport>) -> Result<(), SlotLost> {
    let mut said = None;
    loop {
        let report = match look(context, slot).await {
            Ok(()) => break,
            Err(Unready::Lost) => return Err(SlotLost),
            Err(Unready::Blocked(report)) => report,
        };
        // Log each error code once: the numbers in its message change all the time.
        if said.as_ref() != Some(&report.code) {
            tracing::error!(slot = slot.name(), code = %report.code, "slot blocked: {}", report.message());
            said = Some(report.code.clone());
        }
        context.board.block(slot.index(), *report);
        context.board.checked(slot.index());
        tokio::time::sleep(context.config.recover_interval).await;
    }
    match unserved {
        Some(report) => context.board.block(slot.index(), report),
        None => context.board.unblock(slot.index()),
    }
    context.board.checked(slot.index());
    if let Some(code) = said {
        tracing::info!(slot = slot.name(), %code, "slot usable again");
    }
    Ok(())
}

/// Whether the slot may still take a sector, now that there is one.
pub async fn is_ready(context: &Context, slot: &Slot) -> bool {
    look(context, slot).await.is_ok()
}

/// Returns when the slot may no longer take a sector.
pub async fn fails(context: &Context, slot: &Slot) {
    loop {
        tokio::time::sleep(context.config.recover_interval).await;
        if !is_ready(context, slot).await {
            return;
        }
    }
}

async fn look(context: &Context, slot: &Slot) -> Result<(), Unready> {
    let blocked = |report| Unready::Blocked(Box::new(context.named(slot, report)));
    match probe_patiently(context, slot).await {
        Ok(()) => {}
        Err(error) if error.code == StageCode::SlotUnusable => return Err(Unready::Lost),
        Err(error) => {
            return Err(blocked(ErrorReport::from_error(ErrorClass::Crit, error.code.error_code(), &error)));
        }
    }
    if let Some(problem) = context.store.problem().await {
        return Err(blocked(problem));
    }
    if let Some(problem) = context.params.problem().await {
        return Err(blocked(ErrorReport::new(ErrorClass::Crit, ErrorCode::PARAMS_MISSING, problem)));
    }
    let proof = context.config.sector_size.seal_proof();
    context.ledger.reserve(slot, proof).map_err(|error| blocked(error.report()))
}

/// Tests the disk. While it does not answer, shows that and waits.
async fn probe_patiently(context: &Context, slot: &Slot) -> Result<(), StageError> {
    let probed = slot.clone();
    let mut probing = pin!(slot.operate(move || probe(&probed)));
    if let Ok(outcome) = tokio::time::timeout(PROBE_LIMIT, &mut probing).await {
        return outcome;
    }
    let message = format!("slot {}: its disk does not answer within {} s", slot.name(), PROBE_LIMIT.as_secs());
    tracing::error!(slot = slot.name(), "slot blocked: {message}");
    let report = ErrorReport::new(ErrorClass::Crit, ErrorCode::IO_FAILED, message);
    context.board.block(slot.index(), context.named(slot, report));
    probing.await
}
