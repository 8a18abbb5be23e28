//! Takes the next intent into a free slot.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use sealbus_nats::{
    Patience,
    intents::{Offer, PullError},
    lease::ClaimOutcome,
    publish::Backoff,
    topology,
};
use sealbus_schema::{ErrorClass, ErrorCode, ErrorReport, IntentKind, message::Intent};
use tokio::sync::{Mutex, watch};

use super::{
    Context, SlotLost,
    core::claim::{self as core, ClaimStep},
    insist_unless_lost, readiness,
    resume::stream_identity,
    shares::Shares,
};
use crate::{causes::in_words, journal::Journal, slot::Slot};

/// How long a free slot waits for an intent before it checks its disk again.
const PULL_ROUND: Duration = Duration::from_secs(300);
/// The same while a queue is missing, so that it is found soon after it is created.
const PULL_ROUND_WITH_GAPS: Duration = Duration::from_secs(30);
/// The pauses between tries that fail.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After how many pulls without any queue a slot is shown as blocked.
const MISSES_TOLD: u32 = 3;
/// How often the removal of a taken intent is tried. It comes back otherwise, and is then known.
const ACCEPT_TRIES: u32 = 3;

/// What the free slots of a worker share: one of them waits for an intent at a time; the miners get their shares of the worker,
/// not of each slot; and whether there is a queue is the same for all.
#[derive(Debug)]
pub struct Pulls {
    /// Held by the slot whose turn it is.
    turn: Mutex<Turn>,
    /// How often in a row no queue was there at all.
    misses: watch::Sender<u32>,
}

#[derive(Debug)]
struct Turn {
    patience: Patience,
    shares: Shares,
}

impl Default for Pulls {
    fn default() -> Pulls {
        // Otherwise all workers of a new fleet would take their first sector from the same miner.
        let shares = Shares::starting_at(rand::random());
        let turn = Turn { patience: Patience::new(FIRST_PAUSE, LONGEST_PAUSE), shares };
        Pulls { turn: Mutex::new(turn), misses: watch::Sender::new(0) }
    }
}

impl Pulls {
    /// Whether no queue was there for so long that all free slots are shown as blocked.
    fn are_unserved(&self) -> bool {
        *self.misses.borrow() >= MISSES_TOLD
    }

    /// Returns when that is no longer what the caller found.
    async fn unserved_differs_from(&self, found: bool) {
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = self.misses.subscribe().wait_for(|misses| (*misses >= MISSES_TOLD) != found).await;
    }

    fn missed(&self) {
        self.misses.send_modify(|misses| *misses += 1);
    }

    fn served(&self) {
        self.misses.send_if_modified(|misses| std::mem::take(misses) != 0);
    }
}

/// Waits until the orders allow new sectors, the slot is ready, an intent has come, and its sector is claimed and in the
/// journal.
pub async fn next(context: &Arc<Context>, slot: &Slot) -> Result<Journal, SlotLost> {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        context.orders.open().await;
        let unserved = unserved(context, slot).await;
        let was_unserved = unserved.is_some();
        readiness::ready(context, slot, unserved).await?;
        // A pull that is dropped is withdrawn, and what it was given meanwhile goes to somebody else.
        let offer = tokio::select! {
            offer = pull_in_turn(context) => offer,
            () = context.orders.draining() => None,
            () = readiness::fails(context, slot) => None,
            // Whoever has the turn finds it out for all slots: the others are shown the same at once, and not when their turn comes.
            () = context.pulls.unserved_differs_from(was_unserved) => None,
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

/// Waits for an intent for a while, when no other slot of this worker does. A server keeps at most `max_waiting` open pulls
/// a queue: one pull a worker instead of one a free slot lets ten times as many machines wait.
async fn pull_in_turn(context: &Context) -> Option<Offer> {
    // Not for as long as another slot waits: what this one is shown as may have changed.
    let mut turn = tokio::time::timeout(PULL_ROUND_WITH_GAPS, context.pulls.turn.lock()).await.ok()?;
    pull(context, &mut turn).await
}

/// What a slot is blocked for that no queue has served for some pulls: a manager that has just started makes the queues
/// within seconds. `None` as soon as there is one.
async fn unserved(context: &Context, slot: &Slot) -> Option<ErrorReport> {
    if !context.pulls.are_unserved() {
        return None;
    }
    for queue in context.config.queues() {
        if context.bus.find_queue(queue).await.is_ok() {
            context.pulls.served();
            return None;
        }
    }
    let miners: Vec<String> = context.config.miners.iter().map(ToString::to_string).collect();
    let problem = format!(
        "no manager serves {} sectors of {}, or the worker's account in NATS has no right to their queues",
        context.config.sector_size,
        miners.join(", ")
    );
    let report = ErrorReport::new(ErrorClass::Crit, ErrorCode::CONFIGURATION_WRONG, problem);
    Some(context.named(slot, report))
}

/// Waits for an intent for a while. Counts how often in a row no queue was there at all.
async fn pull(context: &Context, turn: &mut Turn) -> Option<Offer> {
    let Turn { patience, shares } = turn;
    let (mut queues, weights) = (context.config.queues(), context.orders.weights());
    let mut round = PULL_ROUND;
    let mut pause = Duration::ZERO;
    while !queues.is_empty() {
        let asked = shares.order(&queues, &weights);
        let outcome = tokio::time::timeout(round, context.bus.next_intent(&asked)).await;
        let Ok(Err(error)) = outcome else {
            context.pulls.served();
            if queues.len() == context.config.queues().len() {
                patience.mended("intents can be taken");
            }
            let offer = outcome.ok().and_then(Result::ok)?;
            // It comes from the first queue that had one. If it was waited for, all others were empty.
            let before = if offer.waited { &asked[..] } else { asked.split(|queue| *queue == offer.queue).next()? };
            shares.taken(offer.queue, |queue| before.contains(queue), &queues, &weights);
            return Some(offer);
        };
        pause = patience.failed("no intent", &in_words(&error));
        let PullError::NoQueue { name, .. } = error else { break };
        // Meanwhile, pull from the queues that exist.
        queues.retain(|queue| topology::queue_name(queue.miner, queue.proof, queue.kind) != name);
        round = PULL_ROUND_WITH_GAPS;
    }
    if queues.is_empty() {
        context.pulls.missed();
    }
    tokio::time::sleep(pause).await;
    None
}

/// Claims the sector of an intent. `None` if another worker owns it, or may own it.
async fn claim(
    context: &Arc<Context>,
    slot: &Slot,
    offer: &Offer,
    backoff: &mut Backoff,
) -> Result<Option<Journal>, SlotLost> {
    let intent = &offer.intent;
    let sector = intent.sector;
    if intent.kind == IntentKind::Unknown || intent.proof != context.config.sector_size.seal_proof() {
        tracing::error!(
            %sector, kind = %intent.kind, proof = %intent.proof,
            "an intent in the wrong queue; left there"
        );
        tokio::time::sleep(backoff.next_pause()).await;
        return Ok(None);
    }
    let mut steps = VecDeque::from(core::offered(context.board.begin_claim(slot.index(), intent)));
    let mut won = None;
    while let Some(step) = steps.pop_front() {
        match step {
            ClaimStep::Claim => {
                let stream = stream_identity(context).await;
                let outcome = match &stream {
                    Some(stream) => claim_in(context, intent, stream).await,
                    None => None,
                };
                let finished = |token| context.board.has_finished(sector, token);
                steps.extend(core::claimed(outcome, finished, stream, intent));
            }
            ClaimStep::Persist(mut journal) => {
                journal.secret = rand::random();
                let (written, path) = (journal.clone(), slot.journal());
                let stored = insist_unless_lost(context, slot, "write the journal", move || written.store(&path)).await;
                if let Err(lost) = stored {
                    // Whichever of our slots gets the intent next finds this claim.
                    context.board.end_claim(slot.index());
                    put_back(offer).await;
                    return Err(lost);
                }
                won = Some(*journal);
            }
            ClaimStep::Hold => hold(context, slot, won.as_ref()),
            ClaimStep::Release => {
                tracing::debug!(%sector, "not claimed");
                context.board.end_claim(slot.index());
            }
            ClaimStep::Accept => accept(offer).await,
            ClaimStep::Pause => tokio::time::sleep(backoff.next_pause()).await,
        }
    }
    Ok(won)
}

/// Claims in the stream with this identity. `None` if the claim failed, or if the stream is another one after the claim.
/// A claim waits through outages. If the queue was lost in one, it is unknown which stream the token belongs to.
async fn claim_in(context: &Context, intent: &Intent, stream: &str) -> Option<ClaimOutcome> {
    let sector = intent.sector;
    let outcome = match context.bus.claim(intent, &context.config.name, &context.config.host).await {
        Ok(outcome) => outcome,
        Err(error) => {
            tracing::error!(%sector, %error, "cannot claim; the intent stays in the queue");
            return None;
        }
    };
    if stream_identity(context).await.as_deref() != Some(stream) {
        tracing::warn!(%sector, "cannot tell of which stream the claim is; the intent stays in the queue");
        return None;
    }
    Some(outcome)
}

/// Shows that the slot holds the sector of this journal.
fn hold(context: &Context, slot: &Slot, won: Option<&Journal>) {
    let Some(Journal { intent, token, state, .. }) = won else { return };
    context.board.hold(slot.index(), intent.sector, *token, state);
    context.ledger.hold(slot, slot.work_dir(intent.sector, *token));
    tracing::info!(
        worker = %context.config.name, slot = slot.name(), sector = %intent.sector, %token, attempt = intent.attempt,
        "sector claimed"
    );
}

/// Returns an intent to the queue.
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
