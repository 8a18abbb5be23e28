//! Reading tasks: each sector is read by a processor of its own, and its vanilla proof published.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use sealbus_nats::post::PostOffer;
use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, ProofBytes, SectorId, SectorNumber,
    post::{PostReport, PostSubject, ReadTask, SectorRead, SectorToRead, Vanilla},
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout, timeout_at},
};

use super::{Fit, brief, has_died, own, phases, report, seat, while_telling};
use crate::{causes::in_words, driver::Context, processor::WorkOf, stage::post_read};

/// How long the search for what this machine has read before may take.
const SEARCH_LIMIT: Duration = Duration::from_secs(5);
/// How often a sector is tried whose reader died.
const TRIES: u32 = 2;

/// Reads the sectors of a task, and reports on them. `waits` is given back when none of them waits for a reader any more.
pub(super) async fn serve(context: &Context, offer: &PostOffer, task: &ReadTask, waits: OwnedSemaphorePermit) -> Fit {
    let PostSubject { miner, job, .. } = &task.of;
    let began = Instant::now();
    let ends = began + Duration::from_millis(task.limit_ms);
    tracing::info!(%miner, %job, piece = task.piece, sectors = task.sectors.len(), delivered = offer.delivered, "reading");
    while_telling(offer, async {
        let read = read(context, task, waits, ends).await;
        let failed: Vec<&SectorRead> = read.iter().filter(|sector| sector.error.is_some()).collect();
        for SectorRead { number, ms, error } in &failed {
            let error = error.as_ref().map(ErrorReport::message).unwrap_or_default();
            tracing::warn!(%miner, %job, sector = %number, ms, error, "a sector cannot be read for a proof");
        }
        let (ms, failed) = (began.elapsed().as_millis() as u64, failed.len());
        tracing::info!(%miner, %job, piece = task.piece, sectors = read.len(), failed, ms, "read");
        let fit = fit(&read);
        report(context, offer, &task.of, &PostReport::Read { piece: task.piece, sectors: read }).await;
        fit
    })
    .await
}

/// What became of each sector that was tried before the time was over, in the order of the task.
async fn read(context: &Context, task: &ReadTask, waits: OwnedSemaphorePermit, ends: Instant) -> Vec<SectorRead> {
    let waits = Arc::new(waits);
    let known = if task.is_trial { Vec::new() } else { read_before(context, task).await };
    let mut reading = Vec::with_capacity(task.sectors.len());
    for sector in &task.sectors {
        let waits = Arc::clone(&waits);
        let is_known = known.contains(&sector.number);
        reading.push(async move {
            match is_known {
                true => Some(SectorRead { number: sector.number, ms: 0, error: None }),
                false => read_sector(context, task, sector, waits, ends).await,
            }
        });
    }
    drop(waits);
    // All at once: how many run is up to the processors.
    join_all(reading).await.into_iter().flatten().collect()
}

/// The sectors whose vanilla proofs this machine has already put on the bus for the same purpose.
async fn read_before(context: &Context, task: &ReadTask) -> Vec<SectorNumber> {
    let own = |sector: &SectorToRead| (sector.number, context.config.name.clone());
    let sectors: Vec<_> = task.sectors.iter().map(own).collect();
    let search = context.bus.vanillas(task.of.miner, &task.of.job, &sectors);
    // Without an answer all are read again, which is right too.
    let Ok(Ok(found)) = timeout(SEARCH_LIMIT, search).await else { return Vec::new() };
    let is_known = |sector: &&SectorToRead| {
        found.get(&sector.number).is_some_and(|vanilla| vanilla.is_for(&task.of, sector.comm_r))
    };
    task.sectors.iter().filter(is_known).map(|sector| sector.number).collect()
}

/// Reads a sector and publishes its vanilla proof, unless it is read on trial. `None` if no processor became free in time.
async fn read_sector(
    context: &Context,
    task: &ReadTask,
    sector: &SectorToRead,
    waits: Arc<OwnedSemaphorePermit>,
    ends: Instant,
) -> Option<SectorRead> {
    let [phase, _] = phases(task.of.post);
    let (mut tries, mut waits) = (1, Some(waits));
    let (began, outcome) = loop {
        let mut guard = seat(context, phase, ends).await?;
        drop(waits.take());
        guard.works_on(WorkOf { sector: SectorId { miner: task.of.miner, number: sector.number }, slot: None });
        // The time that a process takes to start is not the store's.
        if let Err(error) = guard.ready().await {
            break (Instant::now(), Err(brief(context, phase, &error)));
        }
        let began = Instant::now();
        let until = ends.min(began + Duration::from_millis(task.sector_limit_ms));
        match timeout_at(until, guard.run(&request(context, task, sector))).await {
            Ok(Ok(read)) => break (began, Ok(read.vanilla)),
            Ok(Err(error)) if has_died(&error) && tries < TRIES => tries += 1,
            Ok(Err(error)) => break (began, Err(brief(context, phase, &error))),
            Err(_) => {
                // The process is being killed. Only its own seat waits for that.
                tokio::spawn(guard.gone());
                break (began, Err(too_slow(context, task, sector, began)));
            }
        }
    };
    let error = match outcome {
        Ok(_) if task.is_trial => None,
        Ok(vanilla) => publish(context, task, sector, vanilla, ends).await.err(),
        Err(error) => Some(error),
    };
    Some(SectorRead { number: sector.number, ms: began.elapsed().as_millis() as u64, error })
}

fn request(context: &Context, task: &ReadTask, sector: &SectorToRead) -> post_read::Request {
    post_read::Request {
        store_dir: context.config.store.path.clone(),
        store_name: task.store.clone(),
        store_id: task.store_id.clone(),
        sector: SectorId { miner: task.of.miner, number: sector.number },
        proof: task.of.proof,
        comm_r: sector.comm_r,
        post: task.of.post,
        randomness: task.of.randomness,
    }
}

fn too_slow(context: &Context, task: &ReadTask, sector: &SectorToRead, began: Instant) -> ErrorReport {
    let name = SectorId { miner: task.of.miner, number: sector.number }.file_name();
    let message = format!(
        "reading sealed/{name} and cache/{name} in the store {} at {} took longer than {} ms; the reader was killed",
        task.store,
        context.config.store.path.display(),
        began.elapsed().as_millis()
    );
    own(context, phases(task.of.post)[0], ErrorClass::Temp, ErrorCode::IO_TIMED_OUT, message)
}

async fn publish(
    context: &Context,
    task: &ReadTask,
    sector: &SectorToRead,
    bytes: ProofBytes,
    ends: Instant,
) -> Result<(), ErrorReport> {
    let PostSubject { miner, job, post, randomness, .. } = &task.of;
    let vanilla = Vanilla { post: *post, randomness: *randomness, comm_r: sector.comm_r, bytes };
    let publishing = context.bus.publish_vanilla((*miner, job, sector.number), &context.config.name, &vanilla);
    let problem = match timeout_at(ends, publishing).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => in_words(&error),
        Err(_) => "the bus did not take it in time".to_owned(),
    };
    let message = format!("cannot publish the vanilla proof: {problem}");
    Err(own(context, phases(task.of.post)[0], ErrorClass::Temp, ErrorCode::BUS_UNAVAILABLE, message))
}

/// Other tasks would fail too if every sector failed because of the store, or because no reader can be started.
fn fit(read: &[SectorRead]) -> Fit {
    let of_this_machine = |sector: &SectorRead| {
        let error = sector.error.as_ref()?;
        let codes = [ErrorCode::STORE_UNAVAILABLE, ErrorCode::PROCESSOR_START_FAILED];
        codes.contains(&error.code).then(|| error.message())
    };
    match read.iter().map(of_this_machine).collect::<Option<Vec<String>>>() {
        Some(reasons) => reasons.into_iter().next().map_or(Fit::Well, Fit::Unwell),
        None => Fit::Well,
    }
}
