//! Takes the next intent into a free slot.

use std::{sync::Arc, time::Duration};

use sealbus_nats::{
    intents::{Offer, PullError},
    lease::{ClaimOutcome, ReadError},
    publish::Backoff,
    topology,
};
use sealbus_schema::{Plan, SectorId, Token};

use super::{Context, SlotLost, board::Verdict, insist_unless_lost, readiness, resume::stream_identity};
use crate::{journal::Journal, slot::Slot};

/// How long a free slot waits for an intent before it looks at its disk again.
const PULL_ROUND: Duration = Duration::from_secs(300);
/// The same while some queue is missing, so that it is found soon after it was made.
const PULL_ROUND_WITH_GAPS: Duration = Duration::from_secs(30);
/// How often the removal of a taken intent is tried. It comes back otherwise, and is then known.
const ACCEPT_TRIES: u32 = 3;

/// Waits until something may be taken, until the slot can take it, until an intent comes, and until its sector is ours
/// and in the journal.
pub async fn next(context: &Arc<Context>, slot: &Slot) -> Result<Journal, SlotLost> {
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    loop {
        context.orders.open().await;
        readiness::ready(context, slot).await?;
        // A pull that is dropped is withdrawn, and what it was given meanwhile goes to somebody else.
        let offer = tokio::select! {
            offer = pull(context, &mut backoff) => offer,
            () = context.orders.draining() => None,
            () = readiness::fails(context, slot) => None,
        };
        let Some(offer) = offer else { continue };
        if !readiness::is_ready(context, slot).await {
            put_back(&offer).await;
            continue;
        }
        if let Some(journal) = claim(context, slot, &offer, &mut backoff).await? {
            return Ok(journal);
        }
    }
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
async fn claim(
    context: &Arc<Context>,
    slot: &Slot,
    offer: &Offer,
    backoff: &mut Backoff,
) -> Result<Option<Journal>, SlotLost> {
    let intent = &offer.intent;
    let sector = intent.sector;
    if intent.plan == Plan::Unknown || intent.proof != context.config.sector_size.seal_proof() {
        tracing::error!(
            %sector, plan = %intent.plan, proof = %intent.proof,
            "an intent in the wrong queue; left there"
        );
        tokio::time::sleep(backoff.next_pause()).await;
        return Ok(None);
    }
    match context.board.begin_claim(slot.index(), intent) {
        Verdict::Claim => {}
        Verdict::Held => {
            accept(offer).await;
            return Ok(None);
        }
        Verdict::Leave => {
            tokio::time::sleep(backoff.next_pause()).await;
            return Ok(None);
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
            return Ok(None);
        }
        Err(error) => {
            tracing::error!(%sector, %error, "cannot claim; the intent stays in the queue");
            context.board.end_claim(slot.index());
            tokio::time::sleep(backoff.next_pause()).await;
            return Ok(None);
        }
    };
    match was_begun(context, sector, token).await {
        Ok(false) => {}
        Ok(true) => {
            tracing::info!(%sector, %token, "a late copy of an intent whose sector was begun under this lease already");
            context.board.end_claim(slot.index());
            accept(offer).await;
            return Ok(None);
        }
        Err(error) => {
            tracing::warn!(%sector, %token, %error, "cannot tell whether the sector was begun; the intent comes again");
            context.board.end_claim(slot.index());
            tokio::time::sleep(backoff.next_pause()).await;
            return Ok(None);
        }
    }
    let journal = Journal::new(stream, intent.clone(), token);
    let (written, path) = (journal.clone(), slot.journal());
    if let Err(lost) = insist_unless_lost(context, slot, "write the journal", move || written.store(&path)).await {
        // The claim is found again by whichever slot of ours gets the intent next.
        context.board.end_claim(slot.index());
        put_back(offer).await;
        return Err(lost);
    }
    context.board.hold(slot.index(), sector, token, &journal.state);
    context.ledger.hold(slot, slot.work_dir(sector, token));
    tracing::info!(
        worker = %context.config.name, slot = slot.name(), %sector, %token, attempt = intent.attempt,
        "sector claimed"
    );
    accept(offer).await;
    Ok(Some(journal))
}

/// Whether anything was reported under a lease. Then there was a journal for it, and what has become of that is for the
/// manager and a person to see: a second beginning would count its events from 1 again, and seal what may be finished.
async fn was_begun(context: &Context, sector: SectorId, token: Token) -> Result<bool, ReadError> {
    let last = context.bus.last_event(sector, &context.config.name).await?;
    Ok(last.is_some_and(|event| event.token == token))
}

/// Gives an intent back.
async fn put_back(offer: &Offer) {
    if let Err(error) = offer.put_back().await {
        tracing::warn!(sector = %offer.intent.sector, %error, "cannot give the intent back; it comes again by itself");
    }
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
