//! Takes the next intent into a free slot.

use std::{sync::Arc, time::Duration};

use sealbus_nats::{
    intents::{Offer, PullError},
    lease::ClaimOutcome,
    publish::Backoff,
    topology,
};
use sealbus_schema::{ErrorReport, Plan};

use super::{Context, board::Verdict, insist, resume::stream_identity};
use crate::{
    journal::Journal,
    slot::Slot,
    stage::{StageCode, StageError},
};

/// How long a free slot waits for an intent before it looks at its disk again.
const PULL_ROUND: Duration = Duration::from_secs(300);
/// The same while some queue is missing, so that it is found soon after it was made.
const PULL_ROUND_WITH_GAPS: Duration = Duration::from_secs(30);
/// How often the removal of a taken intent is tried. It comes back otherwise, and is then known.
const ACCEPT_TRIES: u32 = 3;

/// Waits until the slot has room, until an intent comes, and until its sector is ours and in the journal.
pub async fn next(context: &Arc<Context>, slot: &Slot) -> Journal {
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    loop {
        room(context, slot).await;
        let offer = match pull(context, &mut backoff).await {
            Some(offer) => offer,
            None => continue,
        };
        // The wait may have been long, and a disk that broke meanwhile must not cost a sector.
        if look_at(context, slot).await.is_err() {
            if let Err(error) = offer.decline().await {
                tracing::warn!(sector = %offer.intent.sector, %error, "cannot give the intent back; it comes back by itself");
            }
            continue;
        }
        if let Some(journal) = claim(context, slot, &offer, &mut backoff).await {
            return journal;
        }
    }
}

/// Waits until the slot can be written to and its disk has room for a sector.
async fn room(context: &Context, slot: &Slot) {
    let mut full = None;
    while let Err(mut report) = look_at(context, slot).await {
        report.host = context.config.host.clone();
        report.slot = slot.name();
        // The number of free bytes changes all the time; that there are too few is said once.
        if full.replace(report.code.clone()).as_ref() != Some(&report.code) {
            tracing::error!(slot = slot.name(), code = %report.code, "slot blocked: {}", report.message());
        }
        context.board.block(slot.index(), report);
        tokio::time::sleep(context.config.recover_interval).await;
    }
    context.board.unblock(slot.index());
    if full.is_some() {
        tracing::info!(slot = slot.name(), "slot has room again");
    }
}

/// Whether the slot can take a sector.
async fn look_at(context: &Context, slot: &Slot) -> Result<(), ErrorReport> {
    let anchor = slot.anchor();
    let probed = tokio::task::spawn_blocking(move || anchor.probe()).await;
    let probed = probed.unwrap_or_else(|error| Err(StageError::new(StageCode::IoFailed, error.to_string())));
    probed.map_err(|error| ErrorReport::from_error(error.class(), error.code.error_code(), &error))?;
    context.ledger.reserve(slot, context.config.sector_size.seal_proof()).map_err(|error| error.report())
}

/// Waits for an intent for a while.
async fn pull(context: &Context, backoff: &mut Backoff) -> Option<Offer> {
    let mut queues = context.config.queues();
    let mut round = PULL_ROUND;
    while !queues.is_empty() {
        let error = match tokio::time::timeout(round, context.bus.next_intent(&queues)).await {
            Err(_) => return None,
            Ok(Ok(offer)) => return Some(offer),
            Ok(Err(error)) => error,
        };
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        tracing::warn!(%error, cause, "no intent; trying again");
        let PullError::NoQueue { name } = error else { break };
        // The miners that have a queue are served meanwhile.
        queues.retain(|queue| topology::queue_name(queue.miner, queue.proof, queue.plan) != name);
        round = PULL_ROUND_WITH_GAPS;
    }
    tokio::time::sleep(backoff.next_pause()).await;
    None
}

/// Claims the sector of an intent. None if it is, or may be, somebody else's.
async fn claim(context: &Arc<Context>, slot: &Slot, offer: &Offer, backoff: &mut Backoff) -> Option<Journal> {
    let intent = &offer.intent;
    let sector = intent.sector;
    if intent.plan == Plan::Unknown || intent.proof != context.config.sector_size.seal_proof() {
        tracing::error!(
            %sector, plan = %intent.plan, proof = %intent.proof,
            "an intent in the wrong queue; left there"
        );
        tokio::time::sleep(backoff.next_pause()).await;
        return None;
    }
    match context.board.begin_claim(slot.index(), intent) {
        Verdict::Claim => {}
        Verdict::Held => {
            accept(offer).await;
            return None;
        }
        Verdict::Leave => {
            tokio::time::sleep(backoff.next_pause()).await;
            return None;
        }
    }
    // Before the claim, so that nothing but the journal comes between the claim and the work.
    let stream = stream_identity(context).await;
    let token = match context.bus.claim(intent, &context.config.name, &context.config.host).await {
        Ok(ClaimOutcome::Won(token)) if !context.board.has_finished(sector, token) => token,
        Ok(ClaimOutcome::Won(_) | ClaimOutcome::Lost) => {
            tracing::debug!(%sector, "a stale intent");
            context.board.end_claim(slot.index());
            accept(offer).await;
            return None;
        }
        Err(error) => {
            tracing::error!(%sector, %error, "cannot claim; the intent stays in the queue");
            context.board.end_claim(slot.index());
            tokio::time::sleep(backoff.next_pause()).await;
            return None;
        }
    };
    let journal = Journal::new(stream, intent.clone(), token);
    let (written, path) = (journal.clone(), slot.journal());
    insist(context, slot, "write the journal", move || written.store(&path)).await;
    context.board.hold(slot.index(), sector, token, &journal.state);
    context.ledger.hold(slot, slot.work_dir(sector, token));
    tracing::info!(
        worker = %context.config.name, slot = slot.name(), %sector, %token, attempt = intent.attempt,
        "sector claimed"
    );
    accept(offer).await;
    Some(journal)
}

/// Takes an intent out of the queue.
async fn accept(offer: &Offer) {
    for _ in 0..ACCEPT_TRIES {
        match offer.accept().await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(sector = %offer.intent.sector, %error, "cannot take the intent out of the queue")
            }
        }
    }
}
