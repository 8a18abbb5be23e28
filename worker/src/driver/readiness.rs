//! Whether a free slot may take a sector: its disk works and has room, the permanent store takes files, and the parameters
//! are there. Looked at before a sector is asked for, while it is waited for, and once more when one has come: a sector
//! takes hours, and what it will need at their end can be known before.

use std::{pin::pin, time::Duration};

use sealbus_schema::{ErrorClass, ErrorCode, ErrorReport};

use super::{Context, SlotLost};
use crate::{
    slot::{Slot, probe::probe},
    stage::{StageCode, StageError},
};

/// How long a disk may take over a small file before it is called silent.
const PROBE_LIMIT: Duration = Duration::from_secs(30);

/// Why a slot may not.
enum Unready {
    /// It will be looked at again.
    Blocked(Box<ErrorReport>),
    /// Its directory is not the one that was opened.
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
        // Numbers in the message change all the time; what is wrong is said once.
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

/// Whether it still may, now that there is a sector.
pub async fn is_ready(context: &Context, slot: &Slot) -> bool {
    look(context, slot).await.is_ok()
}

/// Returns when the slot may not any more.
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

/// A disk that does not answer is shown, and waited for.
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
