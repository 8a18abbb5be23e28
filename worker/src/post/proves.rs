//! Proving tasks: the vanilla proofs are collected from the bus, and a processor makes the SNARK of them.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use sealbus_nats::{Patience, post::PostOffer};
use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, SectorNumber, WorkerName,
    post::{PostReport, PostSubject, ProveTask, Vanilla},
};
use tempfile::NamedTempFile;
use tokio::time::{Instant, timeout, timeout_at};

use super::{FIRST_PAUSE, Fit, Post, brief, has_died, names, own, phases, report, while_telling};
use crate::{
    causes::in_words,
    config::Config,
    driver::Context,
    stage::post_prove::{Request, Response, Sector},
};

/// For how long a task that this machine has failed at is left to others, each of the first two times that it comes.
pub(super) const LEFT_TO_OTHERS: Duration = Duration::from_secs(5);
/// The longest pause before the vanilla proofs are asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// How often a proof is tried whose prover died.
const TRIES: u32 = 2;
/// How the names of the files with vanilla proofs begin. A worker that is killed leaves one behind.
const FILE_PREFIX: &str = "vanillas-";
/// How long the search for such files may take.
const CLEAN_LIMIT: Duration = Duration::from_secs(5);

/// Why there is no proof.
struct NotProved {
    error: ErrorReport,
    culprits: Vec<SectorNumber>,
}

/// Proves a task, and reports on it.
pub(super) async fn serve(post: &Post, offer: &PostOffer, task: &ProveTask) -> Fit {
    let context = &post.context;
    let PostSubject { miner, job, .. } = &task.of;
    let attempt = task.attempt;
    let ends = Instant::now() + Duration::from_millis(task.limit_ms);
    tracing::info!(%miner, %job, attempt, sectors = task.sectors.len(), delivered = offer.delivered, "proving");
    while_telling(offer, async {
        let (said, fit) = match prove(post, task, ends).await {
            Ok(said) => (said, Fit::Well),
            Err(NotProved { error, culprits }) => {
                tracing::warn!(%miner, %job, attempt, error = error.message(), ?culprits, "no proof");
                let codes = [ErrorCode::PARAMS_MISSING, ErrorCode::PROCESSOR_START_FAILED, ErrorCode::IO_FAILED];
                let fit = if codes.contains(&error.code) { Fit::Unwell(error.message()) } else { Fit::Well };
                (PostReport::NotProved { attempt, error, culprits }, fit)
            }
        };
        if let PostReport::Proved { collect_ms, prove_ms, .. } = &said {
            tracing::info!(%miner, %job, attempt, collect_ms, prove_ms, "proved");
        }
        let is_over = Instant::now() >= ends || matches!(said, PostReport::Proved { .. });
        if report(context, offer, &task.of, &said).await && is_over {
            post.settle(&task.of);
        }
        fit
    })
    .await
}

async fn prove(post: &Post, task: &ProveTask, ends: Instant) -> Result<PostReport, NotProved> {
    let Post { context, kept, .. } = post;
    let [_, phase] = phases(task.of.post);
    let late = |what: &str| {
        let message = format!("{what} took longer than {} ms", task.limit_ms);
        failed(own(context, phase, ErrorClass::Temp, ErrorCode::PROCESSOR_TIMED_OUT, message))
    };
    let began = Instant::now();
    let collected = timeout_at(ends, collect(context, task)).await;
    // The file is removed when this is dropped.
    let (file, sectors) = collected.map_err(|_| late("collecting the vanilla proofs"))??;
    let collect_ms = began.elapsed().as_millis() as u64;
    let PostSubject { miner, post: kind, proof, randomness, .. } = task.of;
    let request = Request { vanillas: file.path().to_owned(), miner, proof, post: kind, randomness, sectors };
    let mut tries = 1;
    loop {
        let mut guard = post.prover(ends).await.ok_or_else(|| late("waiting for a free prover"))?;
        let began = Instant::now();
        match timeout_at(ends, guard.run(&request)).await {
            Ok(Ok(Response::Proved { proof })) => {
                let prove_ms = began.elapsed().as_millis() as u64;
                kept.put(guard);
                return Ok(PostReport::Proved { attempt: task.attempt, proof, collect_ms, prove_ms });
            }
            Ok(Ok(Response::Unfit { culprits, problem })) => {
                kept.put(guard);
                let error = own(context, phase, ErrorClass::Perm, ErrorCode::INPUT_MISMATCH, problem);
                return Err(NotProved { error, culprits });
            }
            Ok(Err(error)) if has_died(&error) && tries < TRIES => tries += 1,
            Ok(Err(error)) => return Err(failed(brief(context, phase, &error))),
            Err(_) => {
                tokio::spawn(guard.gone());
                return Err(late("the SNARK"));
            }
        }
    }
}

/// Puts the vanilla proofs into a file, in the order of the task. The file may be read by this user only, and is gone
/// when its handle is dropped.
async fn collect(context: &Context, task: &ProveTask) -> Result<(NamedTempFile, Vec<Sector>), NotProved> {
    let mut wanted: Vec<(SectorNumber, WorkerName)> = Vec::with_capacity(task.sectors.len());
    for (number, _, reader) in &task.sectors {
        wanted.extend(names(&task.readers, *reader).map(|reader| (*number, reader.clone())));
    }
    let mut patience = Patience::new(FIRST_PAUSE, ASK_AGAIN);
    // Until the task's time is over.
    let mut found = loop {
        match context.bus.vanillas(task.of.miner, &task.of.job, &wanted).await {
            Ok(found) => break found,
            Err(error) => tokio::time::sleep(patience.failed("no vanilla proofs", &in_words(&error))).await,
        }
    };
    let (mut sectors, mut bytes, mut missing, mut unfit) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for &(number, comm_r, _) in &task.sectors {
        match found.remove(&number) {
            None => missing.push(number),
            Some(vanilla) if !vanilla.is_for(&task.of, comm_r) => unfit.push(number),
            Some(Vanilla { bytes: vanilla, .. }) => {
                sectors.push(Sector { number, comm_r, bytes: vanilla.0.len() });
                bytes.push(vanilla.0);
            }
        }
    }
    if !missing.is_empty() || !unfit.is_empty() {
        let (code, problem) = match unfit.len() {
            0 => (ErrorCode::INPUT_MISSING, format!("{} vanilla proofs are not on the bus", missing.len())),
            count => {
                let problem = format!("{count} vanilla proofs are for something else, {} are missing", missing.len());
                (ErrorCode::INPUT_MISMATCH, problem)
            }
        };
        let error = own(context, phases(task.of.post)[1], ErrorClass::Perm, code, problem);
        return Err(NotProved { error, culprits: [missing, unfit].concat() });
    }
    let dirs = context.config.tmp_dirs();
    let written = tokio::task::spawn_blocking(move || write(&dirs, &bytes)).await;
    match written.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(file) => Ok((file, sectors)),
        Err(error) => {
            let message = format!("cannot write the vanilla proofs into a file: {error}");
            Err(failed(own(context, phases(task.of.post)[1], ErrorClass::Crit, ErrorCode::IO_FAILED, message)))
        }
    }
}

/// Writes the file into the first directory that takes it.
pub(super) fn write(dirs: &[PathBuf], vanillas: &[Vec<u8>]) -> io::Result<NamedTempFile> {
    let mut refused = io::Error::from(io::ErrorKind::NotFound);
    for dir in dirs {
        match write_in(dir, vanillas) {
            Ok(file) => return Ok(file),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn write_in(dir: &Path, vanillas: &[Vec<u8>]) -> io::Result<NamedTempFile> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let mut file = tempfile::Builder::new().prefix(FILE_PREFIX).tempfile_in(dir)?;
    vanillas.iter().try_for_each(|vanilla| file.write_all(vanilla))?;
    file.flush()?;
    Ok(file)
}

/// Removes the files that a worker left behind that was killed.
pub(super) async fn clean(config: &Config) {
    let dirs = config.tmp_dirs();
    let cleaning = tokio::task::spawn_blocking(move || {
        let entries = dirs.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten();
        let left = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(FILE_PREFIX.as_bytes()));
        left.filter(|entry| fs::remove_file(entry.path()).is_ok()).count()
    });
    // A disk that hangs holds nobody up.
    if let Ok(Ok(removed @ 1..)) = timeout(CLEAN_LIMIT, cleaning).await {
        tracing::info!(removed, "removed files with vanilla proofs that were left behind");
    }
}

const fn failed(error: ErrorReport) -> NotProved {
    NotProved { error, culprits: Vec::new() }
}
